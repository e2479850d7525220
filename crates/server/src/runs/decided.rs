//! Carries out what people decided about a machine in quarantine, when it asks again; and remembers it for as long as
//! the machine calls itself the same.

use wire::names::DeviceId;
use wire::quarantine::Decision;
use wire::reasons::{AsideReason, Evidence};

use crate::db::Write;
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::fleet::identity::{Names, name_key};
use crate::fleet::quarantine::word;
use crate::fleet::version::fleet_changes;
use crate::people::audit::audit;
use crate::runs::check_in::Claimant;
use crate::state::now_ms;

/// What was decided about the machine that asks.
pub(crate) enum Decided {
    /// It is this device.
    Is {
        device: DeviceId,
        evidence: Vec<Evidence>,
    },
    /// It stays out.
    Rejected { said: AsideReason },
    /// Nothing: its names decide.
    Nothing,
}

/// Looks for a decision about the machine with this key, and acts on it.
pub(crate) async fn decided(
    db: &mut Write,
    claimant: &Claimant,
    machine: &Names,
) -> Result<Decided, Failure> {
    let pending: Option<(String, String, String)> = sqlx::query_as(
        "SELECT decision, device, decided_by FROM quarantine_decisions WHERE device_key = $1",
    )
    .bind(&claimant.key)
    .fetch_optional(&mut **db)
    .await
    .doing("look for a decision")?;
    let Some((decision, device, by)) = pending else {
        return remembered(db, claimant, machine).await;
    };
    let decision: Decision = stored("decision", &decision)?;
    let device: DeviceId = match &decision {
        Decision::Reject { reason } => {
            let said = match reason.as_str() {
                "" => AsideReason::KeptOut,
                reason => AsideReason::KeptOutBecause {
                    reason: reason.to_owned(),
                },
            };
            return Ok(Decided::Rejected { said });
        }
        Decision::NewAsset { site, class } => match new_asset(db, claimant, site, class).await? {
            Some(device) => device,
            None => return Ok(Decided::Nothing),
        },
        Decision::IsAsset { .. } | Decision::ReplaceKey { .. } => {
            stored_text("device id", &device)?
        }
    };
    let replaces = matches!(decision, Decision::ReplaceKey { .. });
    if !rebind(db, claimant, machine, device, &by, replaces).await? {
        // Another key came first, or the asset is gone: the decision is void, the names decide.
        forget(db, &claimant.key).await?;
        return Ok(Decided::Nothing);
    }
    forget(db, &claimant.key).await?;
    audit(
        db,
        "device",
        "decision-carried-out",
        &device.to_string(),
        word(&decision),
    )
    .await?;
    let decided = match decision {
        Decision::NewAsset { .. } => Evidence::DecidedNew { who: by },
        Decision::ReplaceKey { .. } => Evidence::DecidedKey { who: by },
        Decision::IsAsset { .. } | Decision::Reject { .. } => Evidence::Decided { who: by },
    };
    let evidence = vec![decided, Evidence::KeyBoundNow];
    Ok(Decided::Is { device, evidence })
}

async fn forget(db: &mut Write, key: &str) -> Result<(), Failure> {
    sqlx::query("DELETE FROM quarantine_decisions WHERE device_key = $1")
        .bind(key)
        .execute(&mut **db)
        .await
        .doing("forget a decision")?;
    Ok(())
}

/// A decision holds as long as the machine calls itself what it did then.
async fn remembered(
    db: &mut Write,
    claimant: &Claimant,
    machine: &Names,
) -> Result<Decided, Failure> {
    let bound: Option<(String, String)> = sqlx::query_as(
        "SELECT device, decided_by FROM device_keys WHERE device_key = $1 AND decided_names = $2 AND decided_names <> ''",
    )
    .bind(&claimant.key)
    .bind(machine.fingerprint())
    .fetch_optional(&mut **db)
    .await
    .doing("look up the device of a key")?;
    let Some((device, by)) = bound else {
        return Ok(Decided::Nothing);
    };
    Ok(Decided::Is {
        device: stored_text("device id", &device)?,
        evidence: vec![Evidence::DecidedBefore { who: by }, Evidence::KeyIsBound],
    })
}

/// Binds the key to the device. `false` if that can't be done as things are now.
async fn rebind(
    db: &mut Write,
    claimant: &Claimant,
    machine: &Names,
    device: DeviceId,
    by: &str,
    replaces: bool,
) -> Result<bool, Failure> {
    let exists: Option<String> = sqlx::query_scalar("SELECT id FROM devices WHERE id = $1")
        .bind(device.to_string())
        .fetch_optional(&mut **db)
        .await
        .doing("look up a device")?;
    let bound: Option<String> =
        sqlx::query_scalar("SELECT device_key FROM device_keys WHERE device = $1")
            .bind(device.to_string())
            .fetch_optional(&mut **db)
            .await
            .doing("look up the key of a device")?;
    if exists.is_none() || (bound.is_some_and(|key| key != claimant.key) && !replaces) {
        return Ok(false);
    }
    for sql in [
        "DELETE FROM device_sessions WHERE device = $1",
        "DELETE FROM device_keys WHERE device = $1",
        "UPDATE devices SET message = '' WHERE id = $1",
    ] {
        sqlx::query(sql)
            .bind(device.to_string())
            .execute(&mut **db)
            .await
            .doing("replace the key of a device")?;
    }
    // A disk that was moved brings a key that was another device's.
    sqlx::query("DELETE FROM device_keys WHERE device_key = $1")
        .bind(&claimant.key)
        .execute(&mut **db)
        .await
        .doing("take a key from a device")?;
    sqlx::query(
        "INSERT INTO device_keys (device, device_key, bound_at_ms, decided_names, decided_by) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(device.to_string())
    .bind(&claimant.key)
    .bind(now_ms())
    .bind(machine.fingerprint())
    .bind(by)
    .execute(&mut **db)
    .await
    .doing("bind a device key")?;
    Ok(true)
}

/// Makes an asset of what the machine says of itself. `None` if its serial number has been imported meanwhile.
async fn new_asset(
    db: &mut Write,
    claimant: &Claimant,
    site: &str,
    class: &str,
) -> Result<Option<DeviceId>, Failure> {
    let facts = &claimant.body.facts;
    // A machine without a serial number gets one that says so.
    let serial = match name_key(&facts.serial) {
        Some(_) => facts.serial.clone(),
        None => format!(
            "KEY-{}",
            claimant
                .key
                .get(..12)
                .unwrap_or(&claimant.key)
                .to_uppercase()
        ),
    };
    let serial_key = name_key(&serial).unwrap_or_else(|| serial.clone());
    sqlx::query("INSERT INTO sites (code, name) VALUES ($1, $1) ON CONFLICT (code) DO NOTHING")
        .bind(site)
        .execute(&mut **db)
        .await
        .doing("store a site")?;
    let id = DeviceId::random();
    let stored = sqlx::query(
        "INSERT INTO devices (id, serial, serial_key, asset_tag, asset_tag_key, uuid, vendor, product, sku, baseboard, \
         site, class, message, waiting, facts, identity, staged, imported_at_ms, checked_in_at_ms, last_seen_at_ms) \
         VALUES ($1, $2, $3, $4, $5, '', $6, $7, $8, $9, $10, $11, '', '', '{}', $12, '', $13, 0, 0) \
         ON CONFLICT (serial_key) DO NOTHING",
    )
    .bind(id.to_string())
    .bind(&serial)
    .bind(serial_key)
    .bind(name_key(&facts.asset_tag).map_or("", |_| facts.asset_tag.as_str()))
    .bind(name_key(&facts.asset_tag).unwrap_or_default())
    .bind(&facts.vendor)
    .bind(&facts.product)
    .bind(&facts.sku)
    .bind(&facts.baseboard)
    .bind(site)
    .bind(class)
    .bind(to_json("write evidence", &Vec::<String>::new())?)
    .bind(now_ms())
    .execute(&mut **db)
    .await
    .doing("store a new asset")?;
    fleet_changes(db).await?;
    Ok((stored.rows_affected() == 1).then_some(id))
}
