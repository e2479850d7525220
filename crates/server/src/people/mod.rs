//! People: who is calling, what they may do, what they did.

pub(crate) mod audit;
pub mod auth;
pub(crate) mod reach;
pub mod roles;
pub(crate) mod throttle;

use crate::people::roles::May;
use crate::routes::Routes;

/// The routes of this folder.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .post("/api/v1/login", May::Anyone, auth::login)
        .get("/api/v1/trust", May::Anyone, auth::trust)
        .get("/api/v1/audit", May::Administer, audit::audit_rows)
}
