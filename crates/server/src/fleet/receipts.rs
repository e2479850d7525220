//! Receipts of the factory.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use serde_json::json;
use wire::admin_api::ReceiptRow;
use wire::digest::Digest;
use wire::names::DeviceId;
use wire::receipt::{Receipt, ReceiptResult};
use wire::webhooks::WebhookEvent;

use crate::db::commit;
use crate::error::{Doing as _, Failure, stored, to_json};
use crate::fleet::identity::name_key;
use crate::limits::{
    DEVICE_ITEMS_MAX, DEVICE_TEXT_CHARS_MAX, JSON_BYTES_MAX, LIST_ROWS_MAX, TITLE_CHARS_MAX,
};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::Role;
use crate::routes::page::PageQuery;
use crate::routes::read_json;
use crate::state::{AppState, Change, now_ms};
use crate::text::clean;
use crate::webhooks::outbox::emit_device;

/// Document, time of arrival, device and site if known, and who sent it.
type StoredReceipt = (String, i64, Option<String>, Option<String>, String);

/// `GET /api/v1/receipts`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(page): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Vec<ReceiptRow>>), Failure> {
    let rows = seen(&state, &user).await?;
    let (headers, rows) = page.cut("/api/v1/receipts", rows, receipt_key)?;
    Ok((headers, Json(rows)))
}

/// Those of the machines in reach, newest first; a factory operator sees the ones they sent.
pub(crate) async fn seen(state: &AppState, user: &User) -> Result<Vec<ReceiptRow>, Failure> {
    let rows: Vec<StoredReceipt> = sqlx::query_as(
        "SELECT receipts.document, receipts.received_at_ms, devices.id, devices.site, receipts.sent_by FROM receipts \
         LEFT JOIN devices ON devices.serial_key = receipts.serial_key AND receipts.serial_key <> '' \
         ORDER BY receipts.received_at_ms DESC, receipts.digest LIMIT $1",
    )
    .bind(LIST_ROWS_MAX)
    .fetch_all(state.db().read())
    .await
    .doing("read the receipts")?;
    let sees = |site: Option<&str>, sent_by: &str| match user.role {
        Role::FactoryOperator => sent_by == user.name,
        _ => user.sees(site.unwrap_or_default()),
    };
    let seen = rows
        .into_iter()
        .filter(|(_, _, _, site, sent_by)| sees(site.as_deref(), sent_by));
    let row = |(document, received_at_ms, device, _, _): (String, i64, Option<String>, _, _)| {
        // An operator is told that a receipt arrived, not which machine of the county it belongs to.
        let device = device
            .filter(|_| user.role != Role::FactoryOperator)
            .and_then(|id| id.parse().ok());
        Ok(ReceiptRow {
            receipt: stored("receipt", &document)?,
            received_at_ms,
            device,
        })
    };
    seen.map(row).collect()
}

/// By which a page of receipts is continued.
fn receipt_key(row: &ReceiptRow) -> String {
    let text = serde_json::to_vec(&row.receipt).unwrap_or_default();
    Digest::of(&text).to_string()
}

/// `POST /api/v1/receipts`; the same receipt again changes nothing.
pub(crate) async fn post(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<ReceiptRow>, Failure> {
    let mut receipt: Receipt = read_json(body, JSON_BYTES_MAX).await?;
    tidy(&mut receipt);
    let document = to_json("write a receipt", &receipt)?;
    let digest = Digest::of(document.as_bytes()).to_string();
    let serial_key = name_key(&receipt.serial).unwrap_or_default();
    let mut db = state.db().write().await?;
    let stored = sqlx::query(
        "INSERT INTO receipts (digest, serial_key, document, received_at_ms, sent_by) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (digest) DO NOTHING",
    )
    .bind(&digest)
    .bind(&serial_key)
    .bind(document)
    .bind(now_ms())
    .bind(&user.name)
    .execute(&mut *db)
    .await
    .doing("store a receipt")?;
    let received_at_ms: i64 =
        sqlx::query_scalar("SELECT received_at_ms FROM receipts WHERE digest = $1")
            .bind(&digest)
            .fetch_one(&mut *db)
            .await
            .doing("read a receipt")?;
    let device: Option<String> =
        sqlx::query_scalar("SELECT id FROM devices WHERE serial_key = $1 AND serial_key <> ''")
            .bind(&serial_key)
            .fetch_optional(&mut *db)
            .await
            .doing("look for the device of a receipt")?;
    if let Some(id) = device.as_deref().and_then(|id| id.parse().ok())
        && stored.rows_affected() == 1
        && receipt.result == ReceiptResult::Staged
    {
        let prestage = json!({ "name": receipt.prestage, "version": receipt.prestage_version });
        let more = json!({ "prestage": prestage });
        emit_device(&mut db, WebhookEvent::DeviceStaged, id, more).await?;
    }
    audit(&mut db, &user.name, "receipt-stored", &receipt.serial, "").await?;
    commit(db).await?;
    let device: Option<DeviceId> = device.and_then(|id| id.parse().ok());
    if let Some(device) = device {
        state.changed(Change::Device(device));
    }
    Ok(Json(ReceiptRow {
        receipt,
        received_at_ms,
        device: device.filter(|_| user.role != Role::FactoryOperator),
    }))
}

/// A receipt comes from a stick that was in strange hands.
fn tidy(receipt: &mut Receipt) {
    let texts = [
        &mut receipt.serial,
        &mut receipt.vendor,
        &mut receipt.product,
        &mut receipt.disk,
        &mut receipt.disk_serial,
        &mut receipt.agent,
    ];
    for text in texts {
        *text = clean(text, DEVICE_TEXT_CHARS_MAX);
    }
    receipt.macs.truncate(DEVICE_ITEMS_MAX);
    receipt.errors.truncate(DEVICE_ITEMS_MAX);
    for text in receipt
        .macs
        .iter_mut()
        .chain(&mut receipt.errors)
        .chain(&mut receipt.failed_step)
    {
        *text = clean(text, TITLE_CHARS_MAX * 5);
    }
}
