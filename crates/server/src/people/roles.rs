//! What a caller may do.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::error::Failure;
use crate::people::auth::{DeviceSession, User};

/// What a route or a page asks of its caller. Each route names exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum May {
    /// Nothing: the route is public.
    Anyone,
    /// To be a device that has checked in.
    BeDevice,
    /// To see devices, runs, and what they run; never pupils.
    View,
    /// To see who has which device.
    ViewPupils,
    /// To hand devices out and take them back.
    Assign,
    /// To stop, retry and repeat runs.
    Operate,
    /// To import and correct assets, and to decide who a machine is.
    ChangeAssets,
    /// To send the factory's receipts.
    SendReceipts,
    /// To fetch bundles for media.
    FetchBundles,
    /// To change sites, classes, collections, deployments, variables.
    Deploy,
    /// To publish content, sequences and prestages.
    Publish,
    /// To change users, tokens, webhooks and settings, and to read the audit.
    Administer,
}

/// What a person is to Forestage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May do everything.
    Admin,
    /// Looks after the machines and pupils of one site.
    SchoolAdmin,
    /// Imports assets, decides who a machine is, hands machines out.
    AssetClerk,
    /// Fetches bundles and sends receipts.
    FactoryOperator,
    /// Looks on.
    Viewer,
}

impl Role {
    /// What someone with this role may do.
    #[must_use]
    pub const fn may(self) -> &'static [May] {
        use May::{
            Administer, Assign, ChangeAssets, Deploy, FetchBundles, Operate, Publish, SendReceipts,
            View, ViewPupils,
        };
        match self {
            Self::Admin => &[
                View,
                ViewPupils,
                Assign,
                Operate,
                ChangeAssets,
                SendReceipts,
                FetchBundles,
                Deploy,
                Publish,
                Administer,
            ],
            Self::SchoolAdmin => &[View, ViewPupils, Assign, Operate],
            Self::AssetClerk => &[View, ViewPupils, Assign, ChangeAssets, SendReceipts],
            Self::FactoryOperator => &[FetchBundles, SendReceipts],
            Self::Viewer => &[View],
        }
    }
}

/// Whose machines someone sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Those of all sites.
    Everywhere,
    /// Those of the site with this code. All others don't exist for them.
    Site(String),
}

impl Reach {
    /// Whether a machine of this site is seen.
    #[must_use]
    pub fn covers(&self, site: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Site(own) => own == site,
        }
    }
}

/// Lets a request pass if its caller may do what the route asks. Who is calling was found out by
/// [`super::auth::require_user`]; devices never get here with a [`User`], nor people without one.
pub(crate) async fn admit(may: May, request: Request, next: Next) -> Response {
    let allowed = match may {
        May::Anyone => true,
        May::BeDevice => request.extensions().get::<DeviceSession>().is_some(),
        may => match request.extensions().get::<User>() {
            Some(user) => user.role.may().contains(&may),
            None => false,
        },
    };
    if allowed {
        next.run(request).await
    } else {
        Failure::refused(
            StatusCode::FORBIDDEN,
            "forbidden",
            "your role doesn't allow this",
        )
        .hint("ask an administrator")
        .into_response()
    }
}
