//! Webhooks, and what the server tells of itself.

use wire::asset_computers::AssetComputerPage;
use wire::webhooks::{DeliveryRow, MadeWebhook, NewWebhook, WebhookChange, WebhookRow};

use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("GET", "/api/v1/asset-computers", "Read the table for asset systems.", "A stable contract: see `docs/formats/asset-computers.md`. With `Accept: text/csv` one CSV of all rows.")
        .query("after", "Only rows after this device id: `next` of the page before.")
        .query("limit", "Rows of a page, at most 5000.")
        .query("site", "Only the computers of this site.")
        .query("state", "Only the computers in this state.")
        .query("format", "`csv` for one CSV of all rows.")
        .answers::<AssetComputerPage>()
        .fails(400, "bad-limit", "A page can't have so many rows.")
        .of("GET", "/api/v1/webhooks", "List the webhooks.", "")
        .answers::<Vec<WebhookRow>>()
        .whole()
        .of("POST", "/api/v1/webhooks", "Add a webhook.", "Its secret is shown once. What it gets stands in `docs/formats/webhooks.md`.")
        .takes::<NewWebhook>(r#"{"url":"https://assets.example/forestage","title":"Asset system","events":["run.completed"]}"#)
        .answers::<MadeWebhook>()
        .fails(400, "bad-url", "The address can't be used, and why.")
        .fails(400, "bad-ca", "The certificates can't be used, and why.")
        .fails(409, "too-many", "There are 20 already.")
        .of("PUT", "/api/v1/webhooks/{id}", "Change a webhook.", "What is left out stays as it is, and so do its secret and its log. What waits goes to the new address.")
        .takes::<WebhookChange>(r#"{"events":["run.completed","run.failed"]}"#)
        .answers::<WebhookRow>()
        .fails(400, "bad-url", "It isn't `https://`, or `http://` to the server's own machine.")
        .fails(400, "bad-ca", "These are no certificates in PEM.")
        .fails(400, "too-long", "The address or the certificates are too long.")
        .of("POST", "/api/v1/webhooks/{id}/new-secret", "Give a webhook a new secret.", "It is shown once. For 24 hours messages are signed with the old one, too: `webhook-signature` then holds two signatures.")
        .answers::<MadeWebhook>()
        .of("DELETE", "/api/v1/webhooks/{id}", "Remove a webhook with its messages and its log.", "")
        .answers::<()>()
        .of("POST", "/api/v1/webhooks/{id}/test", "Send a test message at once.", "The answer says what came of it.")
        .answers::<DeliveryRow>()
        .of("POST", "/api/v1/webhooks/{id}/pause", "Let a webhook wait.", "What happens meanwhile is kept.")
        .answers::<WebhookRow>()
        .of("POST", "/api/v1/webhooks/{id}/resume", "Let a webhook go on.", "What waits is delivered now.")
        .answers::<WebhookRow>()
        .of("GET", "/api/v1/webhooks/{id}/deliveries", "Tell the newest messages and every attempt to deliver them.", "Newest first, 200 at most.")
        .answers::<Vec<DeliveryRow>>()
        .at_most(200)
        .of("POST", "/api/v1/webhooks/{id}/deliveries/{message}/resend", "Deliver a message once more.", "Under the same id.")
        .answers::<DeliveryRow>()
        .fails(409, "paused", "The webhook is paused.")
        .of("GET", "/readyz", "Say whether the server can do its work.", "503 if the database can't be written, the library isn't there or the disk is full.")
        .answers_bytes("text/plain")
        .of("GET", "/metrics", "Tell what the server counts of itself.", "In Prometheus' text format; no names of machines, people or sites.")
        .answers_bytes("text/plain")
}
