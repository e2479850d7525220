//! What is to be told, written with what makes it true: if the one is lost, so is the other.

use serde_json::{Value, json};
use sqlx::FromRow;
use wire::names::{DeviceId, PupilId, RunId};
use wire::webhooks::WebhookEvent;

use crate::db::Write;
use crate::error::{Doing as _, Failure, stored};
use crate::state::now_ms;

/// Tells of something.
pub(crate) async fn emit(db: &mut Write, event: WebhookEvent, data: Value) -> Result<(), Failure> {
    let receivers = receivers(db, event).await?;
    put(db, event, data, None, &receivers).await?;
    Ok(())
}

/// Tells of a device. `more` is added to the data.
pub(crate) async fn emit_device(
    db: &mut Write,
    event: WebhookEvent,
    device: DeviceId,
    more: Value,
) -> Result<(), Failure> {
    let receivers = receivers(db, event).await?;
    if let Some(told) = told_of_device(db, &receivers, device).await? {
        put(db, event, merged(told, more), None, &receivers).await?;
    }
    Ok(())
}

/// Tells of a device that a pupil got or gave back: the pupil's number in the school's own system, never a name.
pub(crate) async fn emit_assignment(
    db: &mut Write,
    event: WebhookEvent,
    device: DeviceId,
    pupil: PupilId,
) -> Result<(), Failure> {
    let receivers = receivers(db, event).await?;
    let Some(told) = told_of_device(db, &receivers, device).await? else {
        return Ok(());
    };
    let number: Option<String> = sqlx::query_scalar("SELECT external_id FROM pupils WHERE id = $1")
        .bind(pupil.to_string())
        .fetch_optional(&mut **db)
        .await
        .doing("read the number of a pupil")?;
    let data = merged(told, json!({ "pupil": { "id": number } }));
    put(db, event, data, Some(pupil), &receivers).await?;
    Ok(())
}

/// Takes the pupil's number out of every message about them, told or still to be told, and out of what receivers answered.
pub(crate) async fn erase_pupil(db: &mut Write, pupil: &str) -> Result<(), Failure> {
    let messages: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, body FROM webhook_events WHERE pupil = $1")
            .bind(pupil)
            .fetch_all(&mut **db)
            .await
            .doing("read the messages about a pupil")?;
    for (id, body) in messages {
        let mut body: Value = stored("message", &body)?;
        if let Some(number) = body.pointer_mut("/data/pupil/id") {
            *number = Value::Null;
        }
        sqlx::query("UPDATE webhook_events SET body = $1 WHERE id = $2")
            .bind(body.to_string())
            .bind(id)
            .execute(&mut **db)
            .await
            .doing("take a pupil's number out of a message")?;
        sqlx::query("UPDATE webhook_attempts SET answer = '' WHERE event = $1")
            .bind(id)
            .execute(&mut **db)
            .await
            .doing("erase what was answered to a message")?;
    }
    Ok(())
}

/// What a message says of a device; nothing if there is nobody to tell, or no such device.
async fn told_of_device(
    db: &mut Write,
    receivers: &[i64],
    device: DeviceId,
) -> Result<Option<Value>, Failure> {
    if receivers.is_empty() {
        return Ok(None);
    }
    let found: Option<StoredDevice> =
        sqlx::query_as("SELECT id, serial, asset_tag, site, class FROM devices WHERE id = $1")
            .bind(device.to_string())
            .fetch_optional(&mut **db)
            .await
            .doing("read the device of a message")?;
    Ok(found.map(|found| json!({ "device": found.value() })))
}

/// Tells of a run and its device.
pub(crate) async fn emit_run(
    db: &mut Write,
    event: WebhookEvent,
    run: RunId,
    more: Value,
) -> Result<(), Failure> {
    let receivers = receivers(db, event).await?;
    if receivers.is_empty() {
        return Ok(());
    }
    let (device, deployment, sequence, host_name): (String, String, String, String) =
        sqlx::query_as("SELECT device, deployment, sequence, host_name FROM runs WHERE id = $1")
            .bind(run.to_string())
            .fetch_one(&mut **db)
            .await
            .doing("read the run of a message")?;
    let device: StoredDevice =
        sqlx::query_as("SELECT id, serial, asset_tag, site, class FROM devices WHERE id = $1")
            .bind(device)
            .fetch_one(&mut **db)
            .await
            .doing("read the device of a message")?;
    let host_name = Some(host_name).filter(|name| !matches!(name.as_str(), "" | "?"));
    let run = json!({ "id": run, "deployment": deployment, "sequence": sequence, "host-name": host_name });
    let data = merged(json!({ "device": device.value(), "run": run }), more);
    put(db, event, data, None, &receivers).await?;
    Ok(())
}

#[derive(FromRow)]
struct StoredDevice {
    id: String,
    serial: String,
    asset_tag: String,
    site: String,
    class: String,
}

impl StoredDevice {
    fn value(&self) -> Value {
        json!({
            "id": self.id, "serial": self.serial, "asset-tag": self.asset_tag, "site": self.site, "class": self.class,
        })
    }
}

fn merged(mut data: Value, more: Value) -> Value {
    if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
        data.extend(more);
    }
    data
}

/// The webhooks that want to hear of it; paused ones hear of it once they go on.
async fn receivers(db: &mut Write, event: WebhookEvent) -> Result<Vec<i64>, Failure> {
    let all: Vec<(i64, String)> = sqlx::query_as("SELECT id, events FROM webhooks ORDER BY id")
        .fetch_all(&mut **db)
        .await
        .doing("read the webhooks")?;
    let mut receivers = Vec::new();
    for (id, events) in all {
        // Names of a later release are passed over.
        let names: Vec<String> = stored("list of events", &events)?;
        if names.is_empty() || names.iter().any(|name| name == event.name()) {
            receivers.push(id);
        }
    }
    Ok(receivers)
}

/// Writes the message for these, and which pupil it is about; its number and id, if there is anyone to tell.
pub(super) async fn put(
    db: &mut Write,
    event: WebhookEvent,
    data: Value,
    pupil: Option<PupilId>,
    receivers: &[i64],
) -> Result<Option<(i64, String)>, Failure> {
    if receivers.is_empty() {
        return Ok(None);
    }
    let now = now_ms();
    let message = format!("msg_{}", uuid::Uuid::new_v4().simple());
    let timestamp = jiff::Timestamp::from_millisecond(now)
        .map(|time| format!("{time:.3}"))
        .unwrap_or_default();
    let body = json!({ "type": event.name(), "timestamp": timestamp, "data": data }).to_string();
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO webhook_events (message_id, kind, at_ms, body, pupil) VALUES ($1, $2, $3, $4, $5) RETURNING id",
    )
    .bind(&message)
    .bind(event.name())
    .bind(now)
    .bind(body)
    .bind(pupil.map(|pupil| pupil.to_string()).unwrap_or_default())
    .fetch_one(&mut **db)
    .await
    .doing("store a message")?;
    for receiver in receivers {
        sqlx::query(
            "INSERT INTO webhook_deliveries (webhook, event, state, attempts, due_at_ms) \
             VALUES ($1, $2, 'waiting', 0, $3)",
        )
        .bind(*receiver)
        .bind(id)
        .bind(now)
        .execute(&mut **db)
        .await
        .doing("store a delivery")?;
    }
    Ok(Some((id, message)))
}
