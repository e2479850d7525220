//! People: who is calling, what they may do, what they did.

pub(crate) mod audit;
pub mod auth;
pub(crate) mod idempotency;
#[cfg(test)]
mod matrix;
pub mod oidc;
pub(crate) mod reach;
pub mod roles;
pub(crate) mod throttle;
pub(crate) mod tokens;
pub(crate) mod users;

use crate::people::roles::May;
use crate::routes::Routes;

/// The routes of this folder.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .post("/api/v1/login", May::Anyone, auth::login)
        .get("/api/v1/audit", May::Administer, audit::audit_rows)
        .get("/api/v1/audit.csv", May::Administer, audit::csv)
        .get("/api/v1/audit/head", May::Administer, audit::audit_head)
        .get("/api/v1/audit/verify", May::Administer, audit::audit_verify)
        .get("/api/v1/me", May::BeSomebody, users::me)
        .post("/api/v1/me/password", May::BeSomebody, users::my_password)
        .put("/api/v1/me/language", May::BeSomebody, users::my_language)
        .get("/api/v1/users", May::Administer, users::list)
        .post("/api/v1/users", May::Administer, users::create)
        .put("/api/v1/users/{name}/role", May::Administer, users::set_role)
        .post("/api/v1/users/{name}/reset-password", May::Administer, users::reset_password)
        .delete("/api/v1/users/{name}", May::Administer, users::remove)
        .get("/api/v1/tokens", May::BeSomebody, tokens::list)
        .post("/api/v1/tokens", May::BeSomebody, tokens::create)
        .delete("/api/v1/tokens/{id}", May::BeSomebody, tokens::revoke)
}
