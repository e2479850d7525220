//! What rules of collections and templates for names see of a device. See `docs/formats/collection-rule.md`.

use std::collections::{BTreeMap, HashMap};

use sequence::expression::Condition;
use sequence::scope::{Scope, fact_values};
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, AssertSqlSafe};
use wire::admin_api::DeviceState;
use wire::collections::RULE_CHARS_MAX;
use wire::facts::Facts;
use wire::receipt::{Receipt, ReceiptResult};

use crate::db::only;
use crate::error::{Doing as _, Failure, stored};
use crate::runs::rows::{StoredDevice, devices_sql, run_state};
use crate::state::now_ms;

/// What a rule may use.
pub(crate) const NAMES: [&str; 14] = [
    "asset_tag",
    "class",
    "facts",
    "fields",
    "key_protection",
    "model",
    "name",
    "prestage",
    "prestage_version",
    "seen_site",
    "serial",
    "site",
    "state",
    "tags",
];

/// Reads a rule; `None` for an empty one.
pub(crate) fn parse(text: &str) -> Result<Option<Condition>, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if text.chars().count() > RULE_CHARS_MAX || text.contains('\n') {
        let message = format!("a rule is one line of at most {RULE_CHARS_MAX} characters");
        return Err(Failure::bad_request("bad-rule", message));
    }
    Condition::parse(text, &NAMES).map(Some).map_err(|error| {
        Failure::bad_request("bad-rule", format!("the rule is wrong at {error}")).hint(
            "compare with ==, join with and/or/not; such as: site.code == 'BJO' and class is startingwith('1')",
        )
    })
}

/// A device as rules see it.
pub(crate) struct Subject {
    pub(crate) device: StoredDevice,
    pub(crate) scope: Scope,
}

/// What isn't in the device's own row.
#[derive(Default)]
struct Beside {
    state: Option<DeviceState>,
    fields: BTreeMap<String, String>,
}

/// Every device, or the one with this id, as rules see it.
pub(crate) async fn subjects(
    db: &mut AnyConnection,
    device: Option<&str>,
) -> Result<Vec<Subject>, Failure> {
    let devices: Vec<StoredDevice> = match device {
        Some(id) => sqlx::query_as(devices_sql!("WHERE devices.id = $1"))
            .bind(id)
            .fetch_all(&mut *db)
            .await
            .doing("read a device")?,
        None => sqlx::query_as(devices_sql!("ORDER BY devices.site, devices.serial"))
            .fetch_all(&mut *db)
            .await
            .doing("read the devices")?,
    };
    let mut states = states(db, device, &devices).await?;
    let mut fields = fields(db, device).await?;
    devices
        .into_iter()
        .map(|device| {
            let beside = Beside {
                state: states.remove(&device.id),
                fields: fields.remove(&device.id).unwrap_or_default(),
            };
            let scope = scope(&device, beside)?;
            Ok(Subject { device, scope })
        })
        .collect()
}

fn scope(device: &StoredDevice, beside: Beside) -> Result<Scope, Failure> {
    let model = device.model();
    let staged = device.staged()?;
    // A device that was never seen has no facts: what needs them is undecided, not false.
    let facts: Map<String, Value> = if device.checked_in_at_ms > 0 {
        fact_values(&stored::<Facts>("facts", &device.facts)?).collect()
    } else {
        Map::new()
    };
    let tags: Vec<&str> = beside
        .fields
        .get("tags")
        .map(|tags| {
            tags.split([',', ' '])
                .map(str::trim)
                .filter(|tag| !tag.is_empty())
                .collect()
        })
        .unwrap_or_default();
    let values = [
        ("serial", json!(device.serial)),
        ("asset_tag", json!(device.asset_tag)),
        ("name", json!(device.assigned_name)),
        (
            "site",
            json!({ "code": device.site, "name": device.site_name }),
        ),
        ("seen_site", json!(device.seen_site)),
        ("key_protection", json!(device.key_protection)),
        // As an object, so that templates may say `class.name`; compared with a text it is its name.
        ("class", json!(device.class)),
        (
            "model",
            json!({
                "vendor": model.vendor,
                "product": model.product,
                "sku": model.sku,
                "baseboard": model.baseboard,
            }),
        ),
        (
            "state",
            json!(beside.state.unwrap_or(DeviceState::Imported)),
        ),
        ("tags", json!(tags)),
        ("fields", json!(beside.fields)),
        ("facts", Value::Object(facts)),
        (
            "prestage",
            json!(
                staged
                    .as_ref()
                    .map(|staged| staged.prestage.as_str())
                    .unwrap_or_default()
            ),
        ),
        (
            "prestage_version",
            json!(staged.as_ref().map_or(0, |staged| staged.version)),
        ),
    ];
    let mut scope = Scope::default();
    for (name, value) in &values {
        scope.set(name, value);
    }
    Ok(scope)
}

/// The state of each device, as the overview shows it.
async fn states(
    db: &mut AnyConnection,
    device: Option<&str>,
    devices: &[StoredDevice],
) -> Result<HashMap<String, DeviceState>, Failure> {
    let runs: Vec<(String, String, i64)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT device, state, last_seen_at_ms FROM runs WHERE {} ORDER BY started_at_ms, id",
        only("device", device)
    )))
    .bind(device.unwrap_or_default())
    .fetch_all(&mut *db)
    .await
    .doing("read the states of runs")?;
    let latest: HashMap<String, (String, i64)> = runs
        .into_iter()
        .map(|(device, state, seen)| (device, (state, seen)))
        .collect();
    let serial_key = match (device, devices) {
        (Some(_), [one]) => Some(one.serial_key.as_str()),
        _ => None,
    };
    let receipts: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT serial_key, document FROM receipts WHERE {} ORDER BY received_at_ms",
        only("serial_key", serial_key)
    )))
    .bind(serial_key.unwrap_or_default())
    .fetch_all(&mut *db)
    .await
    .doing("read the receipts")?;
    let mut staged: HashMap<String, bool> = HashMap::new();
    for (serial, document) in receipts {
        let receipt: Receipt = stored("receipt", &document)?;
        staged.insert(serial, receipt.result == ReceiptResult::Staged);
    }
    let now = now_ms();
    let state = |device: &StoredDevice| match latest.get(&device.id) {
        Some((state, seen)) => run_state(state, now - seen),
        None if device.checked_in_at_ms > 0 => DeviceState::CheckedIn,
        None if !device.staged.is_empty() || staged.get(&device.serial_key) == Some(&true) => {
            DeviceState::Staged
        }
        None => DeviceState::Imported,
    };
    Ok(devices
        .iter()
        .map(|device| (device.id.clone(), state(device)))
        .collect())
}

/// The free fields of assets, by device.
async fn fields(
    db: &mut AnyConnection,
    device: Option<&str>,
) -> Result<HashMap<String, BTreeMap<String, String>>, Failure> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT device, name, value FROM device_fields WHERE {}",
        only("device", device)
    )))
    .bind(device.unwrap_or_default())
    .fetch_all(db)
    .await
    .doing("read the fields of assets")?;
    let mut fields: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    for (device, name, value) in rows {
        fields.entry(device).or_default().insert(name, value);
    }
    Ok(fields)
}
