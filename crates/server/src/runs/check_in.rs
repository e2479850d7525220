//! Check-in: a device proves that it holds its key, is recognised by its names, and gets its order.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::json;
use wire::admin_api::KeyProtection;
use wire::assets::AssetState;
use wire::device_api::{CHECK_IN_CONTEXT, CheckIn, CheckInBody, CheckInReply, KeyPlace};
use wire::event::Environment;
use wire::facts::Facts;
use wire::names::DeviceId;
use wire::quarantine::QuarantineReason;
use wire::reasons::{AsideReason, Evidence, MachineReason};
use wire::webhooks::WebhookEvent;

use crate::connection::{Connection, client};
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored_text, to_json};
use crate::fleet::asset_state::stolen_asks;
use crate::fleet::identity::{Names, Verdict, recognise, swapped};
use crate::fleet::quarantine::names;
use crate::fleet::targeting::sites::{note_seen, seen_from};
use crate::limits::{
    CANDIDATES_MAX, CHECK_IN_BYTES_MAX, DEVICE_ITEMS_MAX, DEVICE_TEXT_CHARS_MAX,
    DEVICE_WHY_CHARS_MAX, QUARANTINE_RETRY_SECONDS, STRANGERS_MAX,
};
use crate::people::audit::audit;
use crate::routes::read_json;
use crate::runs::challenge::use_up;
use crate::runs::decided::{Decided, decided};
use crate::runs::device_key::{self, DeviceKey};
use crate::runs::orders::{Errand, order_for};
use crate::runs::{refusals, warrants};
use crate::state::{AppState, Change, now_ms};
use crate::text::clean;
use crate::webhooks::outbox::{emit, emit_device};

/// A machine that has proved to hold its key.
pub(crate) struct Claimant {
    /// The key, in small hexadecimal digits.
    pub(crate) key: String,
    pub(crate) body: CheckInBody,
    facts: String,
    protection: KeyProtection,
}

impl Claimant {
    /// What speaks for or against it, with what it says of its key.
    fn with_its_key(&self, evidence: &[Evidence]) -> Vec<Evidence> {
        let of_key = device_key::evidence(self.body.key.as_ref());
        evidence.iter().cloned().chain(of_key).collect()
    }
}

/// `POST /device/v1/check-in`
pub(crate) async fn check_in(
    State(state): State<AppState>,
    connection: Option<Extension<Connection>>,
    body: Body,
) -> Result<Json<CheckInReply>, Failure> {
    let check_in: CheckIn = read_json(body, CHECK_IN_BYTES_MAX).await?;
    let Some(expires_at_ms) = state.challenges().good_until(&check_in.challenge, now_ms()) else {
        return Err(bad_challenge());
    };
    let claimant = prove(&check_in);
    let mut db = state.db().write().await?;
    // Used up even if the signature is wrong; what fails later may be sent again as it is.
    if !use_up(&mut db, &check_in.challenge, expires_at_ms).await? {
        return Err(bad_challenge());
    }
    let claimant = match claimant {
        Ok(claimant) => claimant,
        Err(failure) => {
            commit(db).await?;
            return Err(failure);
        }
    };
    let machine = names_seen(&mut db, &claimant.body.facts).await?;
    let mut touched = stranger_of(&mut db, &claimant.key).await?;
    let (reply, changed) = match decided(&mut db, &claimant, &machine).await? {
        Decided::Is { device, evidence } => {
            greet(&state, &mut db, &claimant, device, &evidence).await?
        }
        Decided::Rejected { said } => {
            let why = Why {
                claims: None,
                said,
                evidence: &[],
            };
            put_aside(&mut db, &claimant, why).await?
        }
        Decided::Nothing => identify(&state, &mut db, &claimant, &machine).await?,
    };
    touched.extend(stranger_of(&mut db, &claimant.key).await?);
    commit(db).await?;
    state.metrics().checked_in(&reply);
    // A machine that comes into quarantine or leaves it is two rows of the fleet.
    for device in touched.into_iter().chain([changed]) {
        state.changed(Change::Device(device));
    }
    if let CheckInReply::Run { order, .. } = &reply {
        if let Some(Extension(connection)) = connection {
            connection.belongs_to(order.run);
        }
        let entry = state.views().get(state.db(), order.run).await?;
        entry.live().last_seen_at_ms = now_ms();
        state.changed(Change::Run(order.run));
    }
    Ok(Json(reply))
}

fn bad_challenge() -> Failure {
    Failure::refused(
        StatusCode::FORBIDDEN,
        "bad-challenge",
        "the challenge is unknown, too old or answered already",
    )
    .hint("ask for a new one")
}

/// Checks a signature of a device's key, strictly.
pub(crate) fn signed_by(key: &str, signed: &[u8], signature: &str) -> Result<DeviceKey, Failure> {
    let bad = || {
        Failure::refused(
            StatusCode::FORBIDDEN,
            "bad-signature",
            "the signature doesn't fit the key",
        )
    };
    let key = DeviceKey::parse(key).ok_or_else(bad)?;
    match key.has_signed(signed, signature) {
        true => Ok(key),
        false => Err(bad()),
    }
}

/// Checks the signature, and reads what was signed.
fn prove(check_in: &CheckIn) -> Result<Claimant, Failure> {
    let signed = [
        CHECK_IN_CONTEXT,
        check_in.challenge.as_bytes(),
        check_in.body.as_bytes(),
    ]
    .concat();
    let key = signed_by(&check_in.device_key, &signed, &check_in.signature)?;
    let body = read_body(&check_in.body)?;
    let facts = to_json("write facts", &body.facts)?;
    Ok(Claimant {
        key: key.text(),
        protection: key.protection(body.key.as_ref()),
        body,
        facts,
    })
}

/// Reads what a device says of itself.
pub(crate) fn read_body(text: &str) -> Result<CheckInBody, Failure> {
    let mut body: CheckInBody = serde_json::from_str(text).map_err(|error| {
        Failure::bad_request("bad-json", format!("the check-in can't be read: {error}"))
    })?;
    tidy(&mut body.facts);
    body.agent = clean(&body.agent, DEVICE_TEXT_CHARS_MAX);
    if let Some(KeyPlace::Software { why: Some(why) }) = &mut body.key {
        *why = clean(why, DEVICE_WHY_CHARS_MAX);
    }
    if let Some(refused) = &mut body.refused {
        refused.text = clean(&refused.text, DEVICE_WHY_CHARS_MAX);
    }
    body.wipe_keys.truncate(DEVICE_ITEMS_MAX);
    Ok(body)
}

/// Firmware strings are anything: cut, and without what would spoil a screen.
fn tidy(facts: &mut Facts) {
    let texts = [
        &mut facts.vendor,
        &mut facts.product,
        &mut facts.sku,
        &mut facts.baseboard,
        &mut facts.serial,
        &mut facts.asset_tag,
    ];
    for text in texts {
        *text = clean(text, DEVICE_TEXT_CHARS_MAX);
    }
    facts.disks.truncate(DEVICE_ITEMS_MAX);
    for disk in &mut facts.disks {
        for text in [&mut disk.path, &mut disk.model, &mut disk.serial] {
            *text = clean(text, DEVICE_TEXT_CHARS_MAX);
        }
    }
    facts.network.truncate(DEVICE_ITEMS_MAX);
    for interface in &mut facts.network {
        for text in [&mut interface.name, &mut interface.mac] {
            *text = clean(text, DEVICE_TEXT_CHARS_MAX);
        }
    }
}

/// What a machine calls itself; a UUID that two other records or machines have is marked as shared.
async fn names_seen(db: &mut Write, facts: &Facts) -> Result<Names, Failure> {
    let mut names = names(facts);
    if let Some(uuid) = names.uuid {
        let holders: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM devices WHERE uuid = $1 OR uuid = $2 OR seen_uuid = $1",
        )
        .bind(uuid.to_string())
        .bind(swapped(uuid).to_string())
        .fetch_one(&mut **db)
        .await
        .doing("look for others with a UUID")?;
        names.uuid_is_shared = holders > 1;
    }
    Ok(names)
}

/// Whom the names say it is, without anybody's decision.
async fn identify(
    state: &AppState,
    db: &mut Write,
    claimant: &Claimant,
    machine: &Names,
) -> Result<(CheckInReply, DeviceId), Failure> {
    let candidates = candidates(db, machine).await?;
    match recognise(machine, &candidates) {
        Verdict::Recognised { device, evidence } => {
            recognised(state, db, claimant, device, evidence).await
        }
        Verdict::Unknown { why, evidence } => {
            let why = Why {
                claims: None,
                said: why,
                evidence: &evidence,
            };
            put_aside(db, claimant, why).await
        }
    }
}

/// What the machine with this key is called in quarantine, if it is there.
async fn stranger_of(db: &mut Write, key: &str) -> Result<Vec<DeviceId>, Failure> {
    let stranger: Option<String> =
        sqlx::query_scalar("SELECT id FROM strangers WHERE device_key = $1")
            .bind(key)
            .fetch_optional(&mut **db)
            .await
            .doing("look up a machine in quarantine")?;
    stranger
        .iter()
        .map(|id| stored_text("device id", id))
        .collect()
}

/// Why a machine is put into quarantine.
struct Why<'a> {
    claims: Option<DeviceId>,
    said: AsideReason,
    evidence: &'a [Evidence],
}

impl Why<'_> {
    const fn reason(&self) -> QuarantineReason {
        match self.said {
            AsideReason::TwoAssets => QuarantineReason::TwoRecords,
            AsideReason::MovedKey => QuarantineReason::MovedKey,
            AsideReason::SecondClaimant => QuarantineReason::SecondClaimant,
            AsideReason::NoNames
            | AsideReason::NoAsset { .. }
            | AsideReason::NoAssetByUuid
            | AsideReason::KeptOut
            | AsideReason::KeptOutBecause { .. }
            | AsideReason::Text { .. } => QuarantineReason::Unknown,
        }
    }
}

async fn put_aside(
    db: &mut Write,
    claimant: &Claimant,
    why: Why<'_>,
) -> Result<(CheckInReply, DeviceId), Failure> {
    let message = why.said.to_string();
    let device = quarantine(db, claimant, why).await?;
    let reply = CheckInReply::Quarantined {
        message,
        retry_seconds: QUARANTINE_RETRY_SECONDS,
    };
    Ok((reply, device))
}

/// Assets that share a serial number or a UUID with the machine. An asset tag alone never suffices.
async fn candidates(db: &mut Write, machine: &Names) -> Result<Vec<(DeviceId, Names)>, Failure> {
    let found: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT id, serial_key, uuid, asset_tag_key FROM devices \
         WHERE serial_key = $1 OR (uuid <> '' AND (uuid = $2 OR uuid = $4)) LIMIT $3",
    )
    .bind(machine.serial.clone().unwrap_or_default())
    .bind(
        machine
            .uuid
            .map(|uuid| uuid.to_string())
            .unwrap_or_default(),
    )
    .bind(CANDIDATES_MAX)
    .bind(
        machine
            .uuid
            .map(|uuid| swapped(uuid).to_string())
            .unwrap_or_default(),
    )
    .fetch_all(&mut **db)
    .await
    .doing("look for the asset of a machine")?;
    let text = |text: String| (!text.is_empty()).then_some(text);
    found
        .into_iter()
        .map(|(id, serial, uuid, asset_tag)| {
            let names = Names {
                serial: text(serial),
                uuid: uuid.parse().ok(),
                asset_tag: text(asset_tag),
                uuid_is_shared: false,
            };
            Ok((stored_text("device id", &id)?, names))
        })
        .collect()
}

async fn recognised(
    state: &AppState,
    db: &mut Write,
    claimant: &Claimant,
    device: DeviceId,
    mut evidence: Vec<Evidence>,
) -> Result<(CheckInReply, DeviceId), Failure> {
    let of_asset: Option<String> =
        sqlx::query_scalar("SELECT device_key FROM device_keys WHERE device = $1")
            .bind(device.to_string())
            .fetch_optional(&mut **db)
            .await
            .doing("look up the key of a device")?;
    let of_key: Option<String> =
        sqlx::query_scalar("SELECT device FROM device_keys WHERE device_key = $1")
            .bind(&claimant.key)
            .fetch_optional(&mut **db)
            .await
            .doing("look up the device of a key")?;
    match (of_asset, of_key) {
        (Some(bound), _) if bound == claimant.key => evidence.push(Evidence::KeyIsBound),
        (Some(bound), _) => return refuse(db, claimant, device, &bound, &evidence).await,
        (None, Some(other)) => {
            evidence.push(Evidence::KeyOfOther { device: other });
            let why = Why {
                claims: Some(device),
                said: AsideReason::MovedKey,
                evidence: &evidence,
            };
            return put_aside(db, claimant, why).await;
        }
        (None, None) => {
            bind(db, claimant, device).await?;
            evidence.push(Evidence::FirstContact);
        }
    }
    greet(state, db, claimant, device, &evidence).await
}

/// A machine that is known now: what is there for it to do.
async fn greet(
    state: &AppState,
    db: &mut Write,
    claimant: &Claimant,
    device: DeviceId,
    evidence: &[Evidence],
) -> Result<(CheckInReply, DeviceId), Failure> {
    let missing = || Failure::not_found(format!("device {device}"));
    let before = state.stored_device_in(db, device).await?;
    let before = before.ok_or_else(missing)?;
    remember(db, claimant, device, evidence).await?;
    note_seen(db, device, client()).await?;
    if before.asset_state == AssetState::Stolen.word() {
        let message = stolen_asks(db, &before, device).await?;
        return Ok((CheckInReply::Refused { message }, device));
    }
    let stored = state.stored_device_in(db, device).await?;
    let stored = stored.ok_or_else(missing)?;
    let reply = match order_for(state, db, &stored, claimant, evidence).await? {
        Errand::Run(task) => {
            refusals::note(db, &before, &claimant.body, &task.order).await?;
            let session = state
                .device_session(db, device, Some(task.order.run))
                .await?;
            CheckInReply::Run {
                device,
                session,
                order: *task.order,
                go_on: task.go_on,
                stop: task.stop,
                warrant: task.warrant.map(Box::new),
            }
        }
        Errand::Nothing {
            said,
            retry_seconds,
        } => {
            let session = state.device_session(db, device, None).await?;
            sqlx::query("UPDATE devices SET waiting = $1 WHERE id = $2")
                .bind(to_json("write what a device waits for", &said)?)
                .bind(device.to_string())
                .execute(&mut **db)
                .await
                .doing("store what a device waits for")?;
            CheckInReply::Idle {
                device,
                session,
                message: said.to_string(),
                retry_seconds,
            }
        }
    };
    Ok((reply, device))
}

async fn bind(db: &mut Write, claimant: &Claimant, device: DeviceId) -> Result<(), Failure> {
    sqlx::query("INSERT INTO device_keys (device, device_key, bound_at_ms) VALUES ($1, $2, $3)")
        .bind(device.to_string())
        .bind(&claimant.key)
        .bind(now_ms())
        .execute(&mut **db)
        .await
        .doing("bind a device key")?;
    audit(
        db,
        "device",
        "key-bound",
        &device.to_string(),
        &format!("key {}…", &claimant.key[..8]),
    )
    .await
}

/// A second machine claims an asset that another key is bound to.
async fn refuse(
    db: &mut Write,
    claimant: &Claimant,
    device: DeviceId,
    bound: &str,
    evidence: &[Evidence],
) -> Result<(CheckInReply, DeviceId), Failure> {
    let facts = &claimant.body.facts;
    let macs: Vec<&str> = facts
        .network
        .iter()
        .map(|interface| interface.mac.as_str())
        .collect();
    let shown = MachineReason::SecondClaimant {
        model: format!("{} {}", facts.vendor, facts.product),
        key: claimant.key[..8].to_owned(),
        macs: macs.join(" "),
        bound: bound.get(..8).unwrap_or(bound).to_owned(),
    };
    sqlx::query("UPDATE devices SET message = $1 WHERE id = $2")
        .bind(to_json("write what is known of a device", &shown)?)
        .bind(device.to_string())
        .execute(&mut **db)
        .await
        .doing("note a second claimant")?;
    let detail = shown.to_string();
    audit(db, "device", "claim-refused", &device.to_string(), &detail).await?;
    let why = Why {
        claims: Some(device),
        said: AsideReason::SecondClaimant,
        evidence,
    };
    quarantine(db, claimant, why).await?;
    let message = format!(
        "another machine is already known as {}; ask the administrator",
        facts.serial
    );
    Ok((CheckInReply::Refused { message }, device))
}

fn seen_uuid(facts: &Facts) -> String {
    names(facts)
        .uuid
        .map(|uuid| uuid.to_string())
        .unwrap_or_default()
}

async fn remember(
    db: &mut Write,
    claimant: &Claimant,
    device: DeviceId,
    evidence: &[Evidence],
) -> Result<(), Failure> {
    let before: Option<i64> =
        sqlx::query_scalar("SELECT checked_in_at_ms FROM devices WHERE id = $1")
            .bind(device.to_string())
            .fetch_optional(&mut **db)
            .await
            .doing("look whether a device was seen before")?;
    // The agent in the installed system may be another release than the boot image's.
    let boot_image = match claimant.body.environment {
        Some(Environment::BootImage) => claimant.body.agent.as_str(),
        Some(Environment::Os) | None => "",
    };
    let staged = match &claimant.body.staged {
        Some(staged) => to_json("write what is staged", staged)?,
        None => String::new(),
    };
    sqlx::query(
        "UPDATE devices SET facts = $1, identity = $2, seen_uuid = $6, staged = CASE WHEN $3 = '' THEN staged ELSE $3 END, \
         boot_image = CASE WHEN $7 = '' THEN boot_image ELSE $7 END, \
         mark = CASE WHEN $8 = '' THEN mark ELSE $8 END, mark_at_ms = CASE WHEN $8 = '' THEN mark_at_ms ELSE $4 END, \
         waiting = '', checked_in_at_ms = $4, last_seen_at_ms = $4 WHERE id = $5",
    )
    .bind(&claimant.facts)
    .bind(to_json("write evidence", &claimant.with_its_key(evidence))?)
    .bind(staged)
    .bind(now_ms())
    .bind(device.to_string())
    .bind(seen_uuid(&claimant.body.facts))
    .bind(boot_image)
    .bind(warrants::told(&claimant.body)?)
    .execute(&mut **db)
    .await
    .doing("store a check-in")?;
    sqlx::query("UPDATE device_keys SET protection = $1 WHERE device_key = $2")
        .bind(claimant.protection.word())
        .bind(&claimant.key)
        .execute(&mut **db)
        .await
        .doing("note where a device keeps its key")?;
    sqlx::query("DELETE FROM strangers WHERE device_key = $1")
        .bind(&claimant.key)
        .execute(&mut **db)
        .await
        .doing("release a machine from quarantine")?;
    if before == Some(0) {
        emit_device(db, WebhookEvent::DeviceCheckedIn, device, json!({})).await?;
    }
    Ok(())
}

/// Keeps a machine that was not recognised, so that the admin sees it.
async fn quarantine(
    db: &mut Write,
    claimant: &Claimant,
    why: Why<'_>,
) -> Result<DeviceId, Failure> {
    let (message, reason) = (why.said.to_string(), why.reason().word());
    let claims = why
        .claims
        .map(|device| device.to_string())
        .unwrap_or_default();
    let known: Option<String> =
        sqlx::query_scalar("SELECT id FROM strangers WHERE device_key = $1")
            .bind(&claimant.key)
            .fetch_optional(&mut **db)
            .await
            .doing("look up a machine in quarantine")?;
    let said = to_json("write why a machine is in quarantine", &why.said)?;
    let evidence = to_json("write evidence", &claimant.with_its_key(why.evidence))?;
    let (address, site) = seen_from(db, client()).await?;
    if let Some(id) = known {
        sqlx::query(
            "UPDATE strangers SET facts = $1, message = $2, identity = $3, last_seen_at_ms = $4, reason = $6, \
             claims = $7, seen_address = $8, seen_site = $9 WHERE id = $5",
        )
            .bind(&claimant.facts)
            .bind(said)
            .bind(evidence)
            .bind(now_ms())
            .bind(&id)
            .bind(reason)
            .bind(&claims)
            .bind(&address)
            .bind(&site)
            .execute(&mut **db)
            .await
            .doing("note a machine in quarantine")?;
        return stored_text("device id", &id);
    }
    sqlx::query(
        "DELETE FROM strangers WHERE id IN \
         (SELECT id FROM strangers ORDER BY last_seen_at_ms DESC LIMIT 1000000 OFFSET $1)",
    )
    .bind(STRANGERS_MAX - 1)
    .execute(&mut **db)
    .await
    .doing("make room in quarantine")?;
    let id = DeviceId::random();
    sqlx::query(
        "INSERT INTO strangers (id, device_key, facts, message, identity, last_seen_at_ms, reason, claims, \
         first_seen_at_ms, seen_address, seen_site) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $6, $9, $10)",
    )
    .bind(id.to_string())
    .bind(&claimant.key)
    .bind(&claimant.facts)
    .bind(said)
    .bind(evidence)
    .bind(now_ms())
    .bind(reason)
    .bind(&claims)
    .bind(&address)
    .bind(&site)
    .execute(&mut **db)
    .await
    .doing("put a machine into quarantine")?;
    audit(db, "device", "quarantined", &id.to_string(), &message).await?;
    let facts = &claimant.body.facts;
    let machine = json!({
        "id": id, "serial": facts.serial, "vendor": facts.vendor, "product": facts.product,
    });
    let data =
        json!({ "device": machine, "message": message, "address": address, "seen-site": site });
    emit(db, WebhookEvent::DeviceQuarantined, data).await?;
    Ok(id)
}
