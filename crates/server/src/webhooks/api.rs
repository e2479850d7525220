//! Webhooks for the admin API.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use serde_json::json;
use sqlx::FromRow;
use wire::reasons::{DeliveryReason, PauseReason};
use wire::webhooks::{
    AttemptRow, DELIVERIES_MAX, DeliveryRow, MadeWebhook, NewWebhook, OLD_SECRET_HOURS,
    WEBHOOK_CA_BYTES_MAX, WEBHOOK_URL_BYTES_MAX, WEBHOOKS_MAX, WebhookChange, WebhookEvent,
    WebhookRow,
};

use super::{outbox, post, sender};
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, said, stored, to_json};
use crate::limits::{JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_json};
use crate::secret;
use crate::state::{AppState, now_ms};
use crate::text::clean;

/// How long the task that delivers leaves a message of the test button alone: longer than one attempt takes.
const TEST_MS: i64 = 30_000;
const HOUR_MS: i64 = 3_600_000;

/// A webhook as stored.
#[derive(FromRow)]
struct Stored {
    id: i64,
    url: String,
    title: String,
    events: String,
    ca_pem: String,
    state: String,
    reason: String,
    created_by: String,
    created_at_ms: i64,
    old_until_ms: i64,
    waiting: i64,
    failed: i64,
}

impl Stored {
    fn row(self) -> Result<WebhookRow, Failure> {
        let names: Vec<String> = stored("list of events", &self.events)?;
        let paused = (!self.reason.is_empty()).then(|| said::<PauseReason>(&self.reason));
        Ok(WebhookRow {
            webhook: self.id,
            url: self.url,
            title: self.title,
            // Names of a later release are passed over.
            events: names.iter().filter_map(|name| name.parse().ok()).collect(),
            own_ca: !self.ca_pem.is_empty(),
            state: self.state,
            reason: paused.as_ref().map(ToString::to_string).unwrap_or_default(),
            said: paused,
            old_secret_until_ms: (self.old_until_ms > now_ms()).then_some(self.old_until_ms),
            waiting: u64::try_from(self.waiting).unwrap_or(0),
            failed: u64::try_from(self.failed).unwrap_or(0),
            created_by: self.created_by,
            created_at_ms: self.created_at_ms,
        })
    }
}

impl AppState {
    /// Every webhook, oldest first.
    pub(crate) async fn webhooks(&self) -> Result<Vec<WebhookRow>, Failure> {
        let rows: Vec<Stored> = sqlx::query_as(
            "SELECT webhooks.id, webhooks.url, webhooks.title, webhooks.events, webhooks.ca_pem, webhooks.state, \
             webhooks.reason, webhooks.created_by, webhooks.created_at_ms, webhooks.old_until_ms, \
             (SELECT COUNT(*) FROM webhook_deliveries w WHERE w.webhook = webhooks.id AND w.state = 'waiting') \
             AS waiting, \
             (SELECT COUNT(*) FROM webhook_deliveries f WHERE f.webhook = webhooks.id AND f.state = 'failed') \
             AS failed FROM webhooks ORDER BY webhooks.id",
        )
        .fetch_all(self.db().read())
        .await
        .doing("read the webhooks")?;
        rows.into_iter().map(Stored::row).collect()
    }

    pub(crate) async fn webhook(&self, id: i64) -> Result<WebhookRow, Failure> {
        let found = self
            .webhooks()
            .await?
            .into_iter()
            .find(|row| row.webhook == id);
        found.ok_or_else(|| Failure::not_found(format!("webhook {id}")))
    }
}

/// `GET /api/v1/webhooks`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<WebhookRow>>, Failure> {
    state.webhooks().await.map(Json)
}

/// `POST /api/v1/webhooks`
pub(crate) async fn add(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<MadeWebhook>, Failure> {
    let new: NewWebhook = read_json(body, JSON_BYTES_MAX).await?;
    let url = checked_url(&new.url)?;
    check_ca(&new.ca_pem)?;
    let names: Vec<&str> = new.events.iter().map(|event| event.name()).collect();
    let salt = secret::random_hex()?;
    let mut db = state.db().write().await?;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM webhooks")
        .fetch_one(&mut *db)
        .await
        .doing("count the webhooks")?;
    if usize::try_from(count).unwrap_or(0) >= WEBHOOKS_MAX {
        let message = format!("there are {WEBHOOKS_MAX} webhooks already");
        return Err(
            Failure::conflict("too-many", message).hint("remove one that isn't used any more")
        );
    }
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO webhooks (url, title, events, ca_pem, salt, state, reason, created_by, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, 'active', '', $6, $7) RETURNING id",
    )
    .bind(url.as_str())
    .bind(clean(&new.title, TITLE_CHARS_MAX))
    .bind(to_json("write a list of events", &names)?)
    .bind(new.ca_pem.trim())
    .bind(&salt)
    .bind(&user.name)
    .bind(now_ms())
    .fetch_one(&mut *db)
    .await
    .doing("store a webhook")?;
    let host = url.host_str().unwrap_or_default();
    audit(&mut db, &user.name, "webhook-added", &id.to_string(), host).await?;
    commit(db).await?;
    Ok(Json(MadeWebhook {
        webhook: state.webhook(id).await?,
        secret: state.webhook_key().secret(&salt).text(),
    }))
}

fn checked_url(text: &str) -> Result<url::Url, Failure> {
    if text.len() > WEBHOOK_URL_BYTES_MAX {
        return Err(Failure::bad_request("too-long", "the address is too long"));
    }
    post::parse_url(text.trim()).map_err(|error| Failure::bad_request("bad-url", error.to_string()))
}

fn check_ca(pem: &str) -> Result<(), Failure> {
    if pem.len() > WEBHOOK_CA_BYTES_MAX {
        let message = "the certificates are too long";
        return Err(Failure::bad_request("too-long", message));
    }
    post::trust(pem)
        .map(|_| ())
        .map_err(|error| Failure::bad_request("bad-ca", error.to_string()))
}

/// `PUT /api/v1/webhooks/{id}`: what isn't said stays as it is, and so do secret and log. What waits goes to the new address.
pub(crate) async fn change(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<WebhookRow>, Failure> {
    let id: i64 = parse(&id)?;
    let change: WebhookChange = read_json(body, JSON_BYTES_MAX).await?;
    let mut said: Vec<(&'static str, &'static str, String)> = Vec::new();
    if let Some(url) = &change.url {
        let url = checked_url(url)?;
        said.push((
            "UPDATE webhooks SET url = $1 WHERE id = $2",
            "address",
            url.to_string(),
        ));
    }
    if let Some(title) = &change.title {
        said.push((
            "UPDATE webhooks SET title = $1 WHERE id = $2",
            "title",
            clean(title, TITLE_CHARS_MAX),
        ));
    }
    if let Some(events) = &change.events {
        let names: Vec<&str> = events.iter().map(|event| event.name()).collect();
        said.push((
            "UPDATE webhooks SET events = $1 WHERE id = $2",
            "events",
            to_json("write a list of events", &names)?,
        ));
    }
    if let Some(pem) = &change.ca_pem {
        check_ca(pem)?;
        said.push((
            "UPDATE webhooks SET ca_pem = $1 WHERE id = $2",
            "authorities",
            pem.trim().to_owned(),
        ));
    }
    let mut db = state.db().write().await?;
    require(&mut db, id).await?;
    for (sql, _, value) in &said {
        sqlx::query(*sql)
            .bind(value)
            .bind(id)
            .execute(&mut *db)
            .await
            .doing("change a webhook")?;
    }
    // An address can hold a password; the audit says what was changed, not to what.
    let what: Vec<&str> = said.iter().map(|(_, what, _)| *what).collect();
    let what = what.join(", ");
    audit(
        &mut db,
        &user.name,
        "webhook-changed",
        &id.to_string(),
        &what,
    )
    .await?;
    commit(db).await?;
    state.webhook(id).await.map(Json)
}

/// `POST /api/v1/webhooks/{id}/new-secret`: shown this once. For a day messages are signed with the old one, too.
pub(crate) async fn new_secret(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<MadeWebhook>, Failure> {
    let id: i64 = parse(&id)?;
    let salt = secret::random_hex()?;
    let mut db = state.db().write().await?;
    require(&mut db, id).await?;
    sqlx::query("UPDATE webhooks SET old_salt = salt, old_until_ms = $1, salt = $2 WHERE id = $3")
        .bind(now_ms() + i64::from(OLD_SECRET_HOURS) * HOUR_MS)
        .bind(&salt)
        .bind(id)
        .execute(&mut *db)
        .await
        .doing("give a webhook a new secret")?;
    audit(
        &mut db,
        &user.name,
        "webhook-secret-made",
        &id.to_string(),
        "",
    )
    .await?;
    commit(db).await?;
    Ok(Json(MadeWebhook {
        webhook: state.webhook(id).await?,
        secret: state.webhook_key().secret(&salt).text(),
    }))
}

async fn require(db: &mut Write, id: i64) -> Result<(), Failure> {
    let found: Option<i64> = sqlx::query_scalar("SELECT id FROM webhooks WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut **db)
        .await
        .doing("look for a webhook")?;
    found
        .map(|_| ())
        .ok_or_else(|| Failure::not_found(format!("webhook {id}")))
}

/// `DELETE /api/v1/webhooks/{id}`: with its messages and its log.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<()>, Failure> {
    let id: i64 = parse(&id)?;
    let mut db = state.db().write().await?;
    for sql in [
        "DELETE FROM webhook_attempts WHERE webhook = $1",
        "DELETE FROM webhook_deliveries WHERE webhook = $1",
    ] {
        sqlx::query(sql)
            .bind(id)
            .execute(&mut *db)
            .await
            .doing("remove the messages of a webhook")?;
    }
    let removed = sqlx::query("DELETE FROM webhooks WHERE id = $1")
        .bind(id)
        .execute(&mut *db)
        .await
        .doing("remove a webhook")?;
    if removed.rows_affected() == 0 {
        return Err(Failure::not_found(format!("webhook {id}")));
    }
    audit(&mut db, &user.name, "webhook-removed", &id.to_string(), "").await?;
    commit(db).await?;
    Ok(Json(()))
}

/// `POST /api/v1/webhooks/{id}/test`: sends a message at once, and answers with what came of it.
pub(crate) async fn test(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<DeliveryRow>, Failure> {
    let id: i64 = parse(&id)?;
    state.webhook(id).await?;
    let mut db = state.db().write().await?;
    let data = json!({ "text": "Forestage can reach you." });
    let put = outbox::put(&mut db, WebhookEvent::Test, data, None, &[id]).await?;
    let Some((event, message)) = put else {
        return Err(Failure::not_found(format!("webhook {id}")));
    };
    set_due(&mut db, id, event, now_ms() + TEST_MS).await?;
    audit(&mut db, &user.name, "webhook-tested", &id.to_string(), "").await?;
    commit(db).await?;
    if let Some(delivery) = sender::find(&state, id, event).await? {
        sender::attempt(&state, &delivery).await?;
    }
    one(&state, id, &message).await
}

/// `POST /api/v1/webhooks/{id}/pause`
pub(crate) async fn pause(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<WebhookRow>, Failure> {
    let id: i64 = parse(&id)?;
    let mut db = state.db().write().await?;
    let who = user.name.clone();
    sender::pause(&mut db, id, &user.name, &PauseReason::PausedBy { who }).await?;
    commit(db).await?;
    state.webhook(id).await.map(Json)
}

/// `POST /api/v1/webhooks/{id}/resume`: what waits is delivered now.
pub(crate) async fn resume(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<WebhookRow>, Failure> {
    let id: i64 = parse(&id)?;
    let mut db = state.db().write().await?;
    let resumed = sqlx::query("UPDATE webhooks SET state = 'active', reason = '' WHERE id = $1")
        .bind(id)
        .execute(&mut *db)
        .await
        .doing("resume a webhook")?;
    if resumed.rows_affected() == 0 {
        return Err(Failure::not_found(format!("webhook {id}")));
    }
    sqlx::query(
        "UPDATE webhook_deliveries SET due_at_ms = $1 WHERE webhook = $2 AND state = 'waiting'",
    )
    .bind(now_ms())
    .bind(id)
    .execute(&mut *db)
    .await
    .doing("have waiting messages delivered")?;
    audit(&mut db, &user.name, "webhook-resumed", &id.to_string(), "").await?;
    commit(db).await?;
    state.webhook(id).await.map(Json)
}

/// `GET /api/v1/webhooks/{id}/deliveries`: the newest first.
pub(crate) async fn deliveries(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Vec<DeliveryRow>>, Failure> {
    let id: i64 = parse(&id)?;
    state.webhook(id).await?;
    state.deliveries(id).await.map(Json)
}

/// `POST /api/v1/webhooks/{id}/deliveries/{message}/resend`: once more, under the same id.
pub(crate) async fn resend(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path((id, message)): Path<(String, String)>,
) -> Result<Json<DeliveryRow>, Failure> {
    let id: i64 = parse(&id)?;
    let webhook = state.webhook(id).await?;
    if webhook.state != "active" {
        return Err(
            Failure::conflict("paused", format!("webhook {id} is paused")).hint("resume it first"),
        );
    }
    let mut db = state.db().write().await?;
    let event: Option<i64> = sqlx::query_scalar(
        "SELECT webhook_deliveries.event FROM webhook_deliveries \
         JOIN webhook_events ON webhook_events.id = webhook_deliveries.event \
         WHERE webhook_deliveries.webhook = $1 AND webhook_events.message_id = $2",
    )
    .bind(id)
    .bind(&message)
    .fetch_optional(&mut *db)
    .await
    .doing("look for a message")?;
    let event = event.ok_or_else(|| Failure::not_found("such message of this webhook"))?;
    set_due(&mut db, id, event, now_ms()).await?;
    audit(
        &mut db,
        &user.name,
        "webhook-resent",
        &id.to_string(),
        &message,
    )
    .await?;
    commit(db).await?;
    one(&state, id, &message).await
}

async fn set_due(db: &mut Write, webhook: i64, event: i64, due_at_ms: i64) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE webhook_deliveries SET state = 'waiting', attempts = 0, due_at_ms = $1 \
         WHERE webhook = $2 AND event = $3",
    )
    .bind(due_at_ms)
    .bind(webhook)
    .bind(event)
    .execute(&mut **db)
    .await
    .doing("have a message delivered")?;
    Ok(())
}

async fn one(state: &AppState, webhook: i64, message: &str) -> Result<Json<DeliveryRow>, Failure> {
    let all = state.deliveries(webhook).await?;
    let found = all.into_iter().find(|row| row.message == message);
    // An old one that was sent again is not among the newest.
    found
        .map(Json)
        .ok_or_else(|| Failure::not_found("such message of this webhook"))
}

/// A delivery as stored.
#[derive(FromRow)]
struct StoredDelivery {
    event: i64,
    message_id: String,
    kind: String,
    at_ms: i64,
    state: String,
    due_at_ms: i64,
}

/// An attempt as stored.
#[derive(FromRow)]
struct StoredAttempt {
    event: i64,
    at_ms: i64,
    duration_ms: i64,
    status: i64,
    answer: String,
    error: String,
}

impl AppState {
    /// The deliveries of a webhook, newest first.
    pub(crate) async fn deliveries(&self, webhook: i64) -> Result<Vec<DeliveryRow>, Failure> {
        let limit = i64::try_from(DELIVERIES_MAX).unwrap_or(1);
        let rows: Vec<StoredDelivery> = sqlx::query_as(
            "SELECT webhook_deliveries.event, webhook_events.message_id, webhook_events.kind, webhook_events.at_ms, \
             webhook_deliveries.state, webhook_deliveries.due_at_ms FROM webhook_deliveries \
             JOIN webhook_events ON webhook_events.id = webhook_deliveries.event \
             WHERE webhook_deliveries.webhook = $1 ORDER BY webhook_deliveries.event DESC LIMIT $2",
        )
        .bind(webhook)
        .bind(limit)
        .fetch_all(self.db().read())
        .await
        .doing("read the deliveries of a webhook")?;
        let oldest = rows.last().map_or(0, |row| row.event);
        let attempts: Vec<StoredAttempt> = sqlx::query_as(
            "SELECT event, at_ms, duration_ms, status, answer, error FROM webhook_attempts \
             WHERE webhook = $1 AND event >= $2 ORDER BY id",
        )
        .bind(webhook)
        .bind(oldest)
        .fetch_all(self.db().read())
        .await
        .doing("read the attempts of a webhook")?;
        let mut of_event: BTreeMap<i64, Vec<AttemptRow>> = BTreeMap::new();
        for attempt in attempts {
            let why = (!attempt.error.is_empty()).then(|| said::<DeliveryReason>(&attempt.error));
            of_event.entry(attempt.event).or_default().push(AttemptRow {
                at_ms: attempt.at_ms,
                duration_ms: u64::try_from(attempt.duration_ms).unwrap_or(0),
                status: u16::try_from(attempt.status)
                    .ok()
                    .filter(|status| *status > 0),
                answer: attempt.answer,
                error: why.as_ref().map(ToString::to_string).unwrap_or_default(),
                said: why,
            });
        }
        let row = |row: StoredDelivery| DeliveryRow {
            message: row.message_id,
            event: row.kind,
            at_ms: row.at_ms,
            due_at_ms: (row.state == "waiting").then_some(row.due_at_ms),
            state: row.state,
            attempts: of_event.remove(&row.event).unwrap_or_default(),
        };
        Ok(rows.into_iter().map(row).collect())
    }
}
