//! Receipts of the factory.

use std::collections::{HashMap, HashSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use serde_json::json;
use sqlx::FromRow;
use wire::admin_api::ReceiptRow;
use wire::digest::Digest;
use wire::names::DeviceId;
use wire::receipt::{
    ImportReceipts, ImportedReceipt, Receipt, ReceiptImport, ReceiptImportResult, ReceiptResult,
};
use wire::webhooks::WebhookEvent;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, to_json};
use crate::fleet::identity::name_key;
use crate::limits::{
    DEVICE_ITEMS_MAX, DEVICE_TEXT_CHARS_MAX, JSON_BYTES_MAX, LIST_ROWS_MAX, RECEIPT_FILES_MAX,
    RECEIPTS_BYTES_MAX, TITLE_CHARS_MAX,
};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::reach::Placed;
use crate::people::roles::Role;
use crate::routes::page::PageQuery;
use crate::routes::read_json;
use crate::state::{AppState, Change, now_ms};
use crate::text::clean;
use crate::webhooks::outbox::emit_device;

/// A receipt as stored, with the device it tells of, if that is known.
#[derive(FromRow)]
struct StoredReceipt {
    document: String,
    received_at_ms: i64,
    id: Option<String>,
    site: Option<String>,
    seen_site: Option<String>,
    sent_by: String,
}

impl Placed for StoredReceipt {
    fn sites(&self) -> (&str, &str) {
        (
            self.site.as_deref().unwrap_or_default(),
            self.seen_site.as_deref().unwrap_or_default(),
        )
    }
}

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
        "SELECT receipts.document, receipts.received_at_ms, devices.id, devices.site, devices.seen_site, receipts.sent_by FROM receipts \
         LEFT JOIN devices ON devices.serial_key = receipts.serial_key AND receipts.serial_key <> '' \
         ORDER BY receipts.received_at_ms DESC, receipts.digest LIMIT $1",
    )
    .bind(LIST_ROWS_MAX)
    .fetch_all(state.db().read())
    .await
    .doing("read the receipts")?;
    told_rows(user, rows)
}

/// Those of one machine, newest first, as far as someone sees them.
pub(crate) async fn of_device(
    state: &AppState,
    user: &User,
    device: DeviceId,
) -> Result<Vec<ReceiptRow>, Failure> {
    let rows: Vec<StoredReceipt> = sqlx::query_as(
        "SELECT receipts.document, receipts.received_at_ms, devices.id, devices.site, devices.seen_site, receipts.sent_by FROM devices \
         JOIN receipts ON receipts.serial_key = devices.serial_key AND receipts.serial_key <> '' \
         WHERE devices.id = $1 ORDER BY receipts.received_at_ms DESC, receipts.digest LIMIT $2",
    )
    .bind(device.to_string())
    .bind(LIST_ROWS_MAX)
    .fetch_all(state.db().read())
    .await
    .doing("read the receipts of a device")?;
    told_rows(user, rows)
}

fn told_rows(user: &User, rows: Vec<StoredReceipt>) -> Result<Vec<ReceiptRow>, Failure> {
    let sees = |row: &StoredReceipt| match user.role {
        Role::FactoryOperator => row.sent_by == user.name,
        _ => user.sees(row),
    };
    let seen = rows.into_iter().filter(sees);
    let row = |row: StoredReceipt| {
        Ok(ReceiptRow {
            receipt: stored("receipt", &row.document)?,
            received_at_ms: row.received_at_ms,
            device: told(user, row.id.and_then(|id| id.parse().ok())),
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
    let claim = Claim::of(read_json(body, JSON_BYTES_MAX).await?)?;
    let mut db = state.db().write().await?;
    let device: Option<String> =
        sqlx::query_scalar("SELECT id FROM devices WHERE serial_key = $1 AND serial_key <> ''")
            .bind(&claim.serial_key)
            .fetch_optional(&mut *db)
            .await
            .doing("look for the device of a receipt")?;
    let device: Option<DeviceId> = device.and_then(|id| id.parse().ok());
    store(&mut db, &user, &claim, device).await?;
    let received_at_ms: i64 =
        sqlx::query_scalar("SELECT received_at_ms FROM receipts WHERE digest = $1")
            .bind(&claim.digest)
            .fetch_one(&mut *db)
            .await
            .doing("read a receipt")?;
    let serial = &claim.receipt.serial;
    audit(&mut db, &user.name, "receipt-stored", serial, "").await?;
    commit(db).await?;
    if let Some(device) = device {
        state.changed(Change::Device(device));
    }
    Ok(Json(ReceiptRow {
        receipt: claim.receipt,
        received_at_ms,
        device: told(&user, device),
    }))
}

/// `POST /api/v1/receipts/import`: many receipts in one request, or what would become of them.
pub(crate) async fn import(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<ReceiptImport>, Failure> {
    let wanted: ImportReceipts = read_json(body, RECEIPTS_BYTES_MAX).await?;
    if wanted.files.len() > RECEIPT_FILES_MAX {
        let message = format!("these are more than {RECEIPT_FILES_MAX} files");
        return Err(Failure::bad_request("too-many-receipts", message)
            .hint("send them in several requests"));
    }
    let mut around = Around::read(&state).await?;
    let mut report = ReceiptImport {
        dry_run: wanted.dry_run,
        ..ReceiptImport::default()
    };
    let mut new = Vec::new();
    for file in wanted.files {
        let name = clean(&file.name, TITLE_CHARS_MAX);
        let (result, claim, why) = match serde_json::from_str::<Receipt>(&file.text) {
            Err(error) => (ReceiptImportResult::Refused, None, error.to_string()),
            Ok(receipt) => {
                let claim = Claim::of(receipt)?;
                let result = match around.known.insert(claim.digest.clone()) {
                    true => ReceiptImportResult::New,
                    false => ReceiptImportResult::Known,
                };
                (result, Some(claim), String::new())
            }
        };
        *match result {
            ReceiptImportResult::New => &mut report.new,
            ReceiptImportResult::Known => &mut report.known,
            ReceiptImportResult::Refused => &mut report.refused,
        } += 1;
        let device = claim.as_ref().and_then(|claim| around.device(claim));
        report.rows.push(ImportedReceipt {
            file: name,
            result,
            receipt: claim.as_ref().map(|claim| claim.receipt.clone()),
            device: told(&user, device),
            why,
        });
        if let Some(claim) = claim.filter(|_| result == ReceiptImportResult::New) {
            new.push((claim, device));
        }
    }
    if !wanted.dry_run && !new.is_empty() {
        store_all(&state, &user, &new).await?;
    }
    Ok(Json(report))
}

async fn store_all(
    state: &AppState,
    user: &User,
    new: &[(Claim, Option<DeviceId>)],
) -> Result<(), Failure> {
    let mut db = state.db().write().await?;
    for (claim, device) in new {
        store(&mut db, user, claim, *device).await?;
    }
    let detail = format!("{} new", new.len());
    audit(&mut db, &user.name, "receipts-imported", "", &detail).await?;
    commit(db).await?;
    for device in new.iter().filter_map(|(_, device)| *device) {
        state.changed(Change::Device(device));
    }
    Ok(())
}

/// An operator is told that a receipt arrived, not which machine of the county it belongs to.
fn told(user: &User, device: Option<DeviceId>) -> Option<DeviceId> {
    device.filter(|_| user.role != Role::FactoryOperator)
}

/// A receipt as it is stored.
pub(crate) struct Claim {
    receipt: Receipt,
    document: String,
    digest: String,
    serial_key: String,
}

impl Claim {
    pub(crate) fn of(mut receipt: Receipt) -> Result<Self, Failure> {
        tidy(&mut receipt);
        let document = to_json("write a receipt", &receipt)?;
        Ok(Self {
            digest: Digest::of(document.as_bytes()).to_string(),
            serial_key: name_key(&receipt.serial).unwrap_or_default(),
            document,
            receipt,
        })
    }
}

/// Stores a receipt, and tells of its device, unless it is known.
async fn store(
    db: &mut Write,
    user: &User,
    claim: &Claim,
    device: Option<DeviceId>,
) -> Result<(), Failure> {
    let stored = sqlx::query(
        "INSERT INTO receipts (digest, serial_key, document, received_at_ms, sent_by) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (digest) DO NOTHING",
    )
    .bind(&claim.digest)
    .bind(&claim.serial_key)
    .bind(&claim.document)
    .bind(now_ms())
    .bind(&user.name)
    .execute(&mut **db)
    .await
    .doing("store a receipt")?;
    let receipt = &claim.receipt;
    let is_news = stored.rows_affected() == 1 && receipt.result == ReceiptResult::Staged;
    if let Some(device) = device.filter(|_| is_news) {
        let prestage = json!({ "name": receipt.prestage, "version": receipt.prestage_version });
        let more = json!({ "prestage": prestage });
        emit_device(db, WebhookEvent::DeviceStaged, device, more).await?;
    }
    Ok(())
}

/// What many receipts are compared with.
struct Around {
    /// Digests of the receipts that are stored.
    known: HashSet<String>,
    /// Devices by the key of their serial number.
    devices: HashMap<String, String>,
}

impl Around {
    async fn read(state: &AppState) -> Result<Self, Failure> {
        let known: Vec<String> = sqlx::query_scalar("SELECT digest FROM receipts")
            .fetch_all(state.db().read())
            .await
            .doing("read the receipts")?;
        let devices: Vec<(String, String)> =
            sqlx::query_as("SELECT serial_key, id FROM devices WHERE serial_key <> ''")
                .fetch_all(state.db().read())
                .await
                .doing("read the devices")?;
        Ok(Self {
            known: known.into_iter().collect(),
            devices: devices.into_iter().collect(),
        })
    }

    fn device(&self, claim: &Claim) -> Option<DeviceId> {
        self.devices.get(&claim.serial_key)?.parse().ok()
    }
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
