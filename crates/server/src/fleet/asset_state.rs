//! What becomes of an asset: it is retired, reported stolen, taken back into use. One that is out of use is in no
//! collection and gets no order; a stolen one that asks is an alarm.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use serde_json::json;
use wire::assets::{AssetDetail, AssetReason, AssetState, REASON_CHARS_MAX};
use wire::names::{DeviceId, RunId};
use wire::reasons::MachineReason;
use wire::webhooks::WebhookEvent;

use crate::connection::client;
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::targeting::queue;
use crate::fleet::version::fleet_changes;
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_json};
use crate::runs::rows::StoredDevice;
use crate::state::{AppState, Change, now_ms};
use crate::text::clean;
use crate::webhooks::outbox::emit_device;

/// `POST /api/v1/devices/{id}/retire`
pub(crate) async fn retire(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<AssetDetail>, Failure> {
    become_so(&state, &user, &id, body, AssetState::Retired).await
}

/// `POST /api/v1/devices/{id}/report-stolen`
pub(crate) async fn report_stolen(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<AssetDetail>, Failure> {
    become_so(&state, &user, &id, body, AssetState::Stolen).await
}

/// `POST /api/v1/devices/{id}/restore`: back into use; it is in the collections again that it was in.
pub(crate) async fn restore(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<AssetDetail>, Failure> {
    become_so(&state, &user, &id, body, AssetState::InUse).await
}

async fn become_so(
    state: &AppState,
    user: &User,
    id: &str,
    body: Body,
    becomes: AssetState,
) -> Result<Json<AssetDetail>, Failure> {
    let id: DeviceId = parse(id)?;
    let wanted: AssetReason = read_json(body, JSON_BYTES_MAX).await?;
    let reason = clean(&wanted.reason, REASON_CHARS_MAX);
    let mut db = state.db().write().await?;
    let before = match becomes {
        // Whoever has it in the room, or had, may say so, whomever it belongs to.
        AssetState::Stolen => state.device_for_in(user, &mut db, id).await?,
        AssetState::Retired | AssetState::InUse => state.own_device_in(user, &mut db, id).await?,
    };
    if before.asset_state == becomes.word() {
        let message = format!("{} is {} already", before.serial, becomes.word());
        return Err(Failure::conflict("same-state", message).hint("nothing was changed"));
    }
    if becomes == AssetState::Stolen && reason.is_empty() {
        let message = "say where and when it was last seen, or what happened";
        return Err(Failure::bad_request("no-reason", message));
    }
    store(&mut db, &before.id, becomes, &reason, &user.name).await?;
    let stopped = match becomes {
        AssetState::InUse => Vec::new(),
        AssetState::Retired | AssetState::Stolen => stop(&mut db, &before.id).await?,
    };
    fleet_changes(&mut db).await?;
    let (action, event) = match becomes {
        AssetState::InUse => ("asset-restored", WebhookEvent::DeviceRestored),
        AssetState::Retired => ("asset-retired", WebhookEvent::DeviceRetired),
        AssetState::Stolen => ("asset-stolen", WebhookEvent::DeviceStolen),
    };
    let detail = format!(
        "from {} to {}: {reason}",
        before.asset_state,
        becomes.word()
    );
    let detail = detail.trim_end_matches([':', ' ']);
    audit(&mut db, &user.name, action, &before.id, detail).await?;
    emit_device(&mut db, event, id, json!({ "reason": reason })).await?;
    commit(db).await?;
    state.members().forget();
    state.changed(Change::Device(id));
    for run in stopped {
        state.changed(Change::Run(run));
    }
    state.asset_for(user, id).await.map(Json)
}

async fn store(
    db: &mut Write,
    id: &str,
    becomes: AssetState,
    reason: &str,
    by: &str,
) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE devices SET asset_state = $1, asset_state_reason = $2, asset_state_by = $3, asset_state_at_ms = $4, \
         waiting = '' WHERE id = $5",
    )
    .bind(becomes.word())
    .bind(reason)
    .bind(by)
    .bind(now_ms())
    .bind(id)
    .execute(&mut **db)
    .await
    .doing("store what became of an asset")?;
    Ok(())
}

/// A run that goes on is stopped, and its place is free for others.
async fn stop(db: &mut Write, id: &str) -> Result<Vec<RunId>, Failure> {
    let runs: Vec<String> =
        sqlx::query_scalar("SELECT id FROM runs WHERE device = $1 AND state = 'running'")
            .bind(id)
            .fetch_all(&mut **db)
            .await
            .doing("look for runs that go on")?;
    sqlx::query("UPDATE runs SET stop = 1 WHERE device = $1 AND state = 'running'")
        .bind(id)
        .execute(&mut **db)
        .await
        .doing("stop the runs of a device")?;
    queue::leave(db, id).await?;
    runs.iter().map(|run| stored_text("run id", run)).collect()
}

/// A machine that was reported stolen asks: what its screen says. Others are told once for each address that it asks from.
pub(crate) async fn stolen_asks(
    db: &mut Write,
    before: &StoredDevice,
    device: DeviceId,
) -> Result<String, Failure> {
    let address = client().map(|address| address.to_canonical().to_string());
    let address = address.unwrap_or_default();
    let is_news =
        before.checked_in_at_ms <= before.asset_state_at_ms || before.seen_address != address;
    if is_news {
        let detail = format!("from {address}");
        audit(db, "device", "stolen-seen", &before.id, &detail).await?;
        let seen_site: String = sqlx::query_scalar("SELECT seen_site FROM devices WHERE id = $1")
            .bind(&before.id)
            .fetch_one(&mut **db)
            .await
            .doing("read where a machine was seen")?;
        let more = json!({ "address": address, "seen-site": seen_site });
        emit_device(db, WebhookEvent::DeviceStolenSeen, device, more).await?;
    }
    let owner = match before.site_name.as_str() {
        "" => "its school".to_owned(),
        name => name.to_owned(),
    };
    Ok(format!(
        "this machine was reported stolen; it gets nothing from here. It belongs to {owner}: please return it"
    ))
}

/// What the screen of a retired machine says; `None` for one that is in use.
pub(crate) fn retired(device: &StoredDevice) -> Option<MachineReason> {
    let reason = device.out_of_use()?.reason;
    Some(match reason.is_empty() {
        true => MachineReason::OutOfUse,
        false => MachineReason::OutOfUseBecause { reason },
    })
}
