//! Webhooks: other systems are told what happens. What is to be told is written in the transaction that makes it true
//! ([`outbox`]); a task delivers it ([`sender`]), again and again if need be, each message under one id.

mod api;
pub(crate) mod outbox;
mod post;
pub(crate) mod sender;
pub(crate) mod sign;

use crate::people::roles::May;
use crate::routes::Routes;

/// Reads the address of a receiver.
pub(crate) fn read_address(text: &str) {
    let _ = post::parse_url(text);
}

/// The routes of this folder.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/webhooks", May::Administer, api::list)
        .post("/api/v1/webhooks", May::Administer, api::add)
        .put("/api/v1/webhooks/{id}", May::Administer, api::change)
        .delete("/api/v1/webhooks/{id}", May::Administer, api::remove)
        .post("/api/v1/webhooks/{id}/new-secret", May::Administer, api::new_secret)
        .post("/api/v1/webhooks/{id}/test", May::Administer, api::test)
        .post("/api/v1/webhooks/{id}/pause", May::Administer, api::pause)
        .post("/api/v1/webhooks/{id}/resume", May::Administer, api::resume)
        .get("/api/v1/webhooks/{id}/deliveries", May::Administer, api::deliveries)
        .post("/api/v1/webhooks/{id}/deliveries/{message}/resend", May::Administer, api::resend)
}
