//! The table of routes. What isn't in here isn't served; each folder lists its own, with what a caller
//! must be allowed to do.

mod answers;
pub mod docs;
pub mod openapi;
pub(crate) mod page;
#[cfg(test)]
mod reference;
mod texts;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::limits::JSON_BYTES_MAX;
use crate::people::roles::{May, admit};
use crate::people::{auth, idempotency};
use crate::problem;
use crate::routes::docs::{Route, Texts};
use crate::state::AppState;
use crate::{
    catalog, compress, fleet, health, metrics, people, pupils, runs, vault, web, webhooks,
};

/// Routes and the list of them.
pub(crate) struct Routes {
    router: Router<AppState>,
    table: Vec<Route>,
}

/// Routes with everything around them, ready to serve.
pub(crate) struct App(Router);

impl App {
    pub(crate) fn into_router(self) -> Router {
        self.0
    }
}

/// Method and path of every route of both APIs, `{…}` for the parts that vary. The pages' routes are not in it.
#[must_use]
pub fn list() -> Vec<(Method, &'static str)> {
    let routes = all().table.into_iter();
    routes.map(|route| (route.method, route.path)).collect()
}

/// The whole table: every route of both APIs, with what its caller must be allowed to do and what is told of it.
#[must_use]
pub fn table() -> Vec<Route> {
    documented().0
}

/// The table with its texts, and the texts that belong to no route.
pub(crate) fn documented() -> (Vec<Route>, Vec<String>) {
    let mut texts = Texts::of_table(all().table);
    for folder in texts::ALL {
        texts = folder(texts);
    }
    texts.into_parts()
}

/// Everything the server answers.
pub(crate) fn app(state: AppState) -> App {
    let router = all()
        .router
        .with_state(state.clone())
        .merge(web::router(state.clone()));
    let router = router
        .fallback(|| async { Failure::not_found("such page or route") })
        .method_not_allowed_fallback(|| async {
            Failure::refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this route has other methods",
            )
        })
        // Each handler reads its body with its own limit, by `read_body` or piece by piece.
        .layer(axum::extract::DefaultBodyLimit::max(JSON_BYTES_MAX))
        .layer(axum::middleware::from_fn(problem::told))
        .layer(axum::middleware::from_fn(web::dress))
        .layer(axum::middleware::from_fn_with_state(
            state.clone(),
            fleet::view::mark_after_changes,
        ))
        .layer(axum::middleware::from_fn_with_state(
            state.clone(),
            idempotency::once,
        ))
        .layer(axum::middleware::from_fn_with_state(
            state.clone(),
            auth::require_user,
        ))
        .layer(axum::middleware::from_fn(problem::with_id))
        .layer(axum::middleware::map_response(harden))
        .layer(axum::middleware::from_fn(compress::answers))
        .layer(axum::middleware::from_fn_with_state(state, metrics::count));
    App(router)
}

fn all() -> Routes {
    let none = Routes {
        router: Router::new(),
        table: Vec::new(),
    };
    [
        people::routes,
        fleet::routes,
        pupils::routes,
        catalog::routes,
        runs::routes,
        vault::routes,
        webhooks::routes,
    ]
    .into_iter()
    .fold(none, |routes, more| more(routes))
    .get("/healthz", May::Anyone, health::healthz)
    .get("/api/v1/openapi.json", May::BeSomebody, openapi::get)
    .get("/readyz", May::Anyone, health::readyz)
    .get("/metrics", May::ReadMetrics, metrics::metrics)
}

impl Routes {
    pub(crate) fn get<T: 'static>(
        self,
        path: &'static str,
        may: May,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        self.add(Method::GET, MethodFilter::GET, path, may, handler)
    }

    pub(crate) fn post<T: 'static>(
        self,
        path: &'static str,
        may: May,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        self.add(Method::POST, MethodFilter::POST, path, may, handler)
    }

    pub(crate) fn put<T: 'static>(
        self,
        path: &'static str,
        may: May,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        self.add(Method::PUT, MethodFilter::PUT, path, may, handler)
    }

    pub(crate) fn delete<T: 'static>(
        self,
        path: &'static str,
        may: May,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        self.add(Method::DELETE, MethodFilter::DELETE, path, may, handler)
    }

    fn add<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        may: May,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        let guard = axum::middleware::from_fn(move |request, next| admit(may, request, next));
        self.table.push(Route::new::<T>(method, path, may));
        Self {
            router: self.router.route(path, on(filter, handler).layer(guard)),
            table: self.table,
        }
    }
}

/// Headers that every reply carries.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Reads a whole body, up to its limit.
pub(crate) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, Failure> {
    axum::body::to_bytes(body, bytes_max)
        .await
        .map_err(|error| {
            let too_long = std::error::Error::source(&error)
                .is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
            if too_long {
                let message = format!("the request is longer than {bytes_max} bytes");
                Failure::refused(StatusCode::PAYLOAD_TOO_LARGE, "too-long", message)
            } else {
                Failure::bad_request("cut-off", "the request ended early")
            }
        })
}

/// Reads a JSON body, up to its limit.
pub(crate) async fn read_json<T: DeserializeOwned>(
    body: Body,
    bytes_max: usize,
) -> Result<T, Failure> {
    let bytes = read_body(body, bytes_max).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::bad_request("bad-json", format!("the request can't be read: {error}"))
    })
}

/// Reads a JSON body that holds a secret: the error says where it can't be read, and quotes nothing.
pub(crate) async fn read_secret_json<T: DeserializeOwned>(
    body: Body,
    bytes_max: usize,
) -> Result<T, Failure> {
    let bytes = read_body(body, bytes_max).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::bad_request(
            "bad-json",
            format!("the request can't be read: what ends at line {line} column {column} isn't what belongs there"),
        )
    })
}

/// Reads a JSON body, up to its limit; nothing, or `null`, stands for what is meant if nothing is said.
pub(crate) async fn read_json_if_any<T: DeserializeOwned + Default>(
    body: Body,
    bytes_max: usize,
) -> Result<T, Failure> {
    let bytes = read_body(body, bytes_max).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    let read: Option<T> = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::bad_request("bad-json", format!("the request can't be read: {error}"))
    })?;
    Ok(read.unwrap_or_default())
}

/// Reads a name, an id, a digest from a path or a query.
pub(crate) fn parse<T>(text: &str) -> Result<T, Failure>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Failure::bad_request("bad-name", error.to_string()))
}
