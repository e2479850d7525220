//! The table of pages: path, what its visitor must be allowed to do, where it stands in the navigation, who makes it.
//!
//! A page is one line in [`all`]. Its handler takes a [`super::visitor::Visitor`] and what else it needs, and answers
//! with `Result<Markup, Failure>`; failures are drawn as pages by [`super::dress`].

use axum::Router;
use axum::extract::Extension;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn;
use axum::routing::{MethodFilter, on};

use super::section::Section;
use crate::people::roles::{May, admit};
use crate::state::AppState;

/// One route of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRoute {
    /// The method.
    pub method: Method,
    /// The path, `{…}` for the parts that vary.
    pub path: &'static str,
    /// What it asks of its visitor.
    pub may: May,
    /// Where it stands in the navigation.
    pub section: Section,
}

/// Routes of pages and the list of them.
#[derive(Default)]
pub(crate) struct Pages {
    router: Router<AppState>,
    list: Vec<PageRoute>,
}

impl Pages {
    /// A page.
    pub(crate) fn get<T: 'static>(
        self,
        path: &'static str,
        may: May,
        section: Section,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        let route = PageRoute {
            method: Method::GET,
            path,
            may,
            section,
        };
        self.add(route, MethodFilter::GET, handler)
    }

    /// What only a browser asks for, such as signing out, or a page whose question must stand in no address. Everything
    /// else is sent to the admin API.
    pub(crate) fn post<T: 'static>(
        self,
        path: &'static str,
        may: May,
        section: Section,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        let route = PageRoute {
            method: Method::POST,
            path,
            may,
            section,
        };
        self.add(route, MethodFilter::POST, handler)
    }

    fn add<T: 'static>(
        mut self,
        route: PageRoute,
        filter: MethodFilter,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        let (may, path) = (route.may, route.path);
        let guard = from_fn(move |request, next| admit(may, request, next));
        let handler = on(filter, handler)
            .layer(Extension(route.section))
            .layer(guard);
        self.list.push(route);
        Self {
            router: self.router.route(path, handler),
            list: self.list,
        }
    }

    pub(super) fn into_router(self) -> Router<AppState> {
        self.router
    }
}

/// Every route of the pages.
#[must_use]
pub fn list() -> Vec<PageRoute> {
    super::pages_all().list
}
