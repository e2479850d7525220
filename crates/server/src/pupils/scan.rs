//! What a scan means: a device by its serial number, asset tag, name or label, or a pupil by their number.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use wire::assignments::{Holder, SCAN_CHARS_MAX, Scan, ScanReply, ScannedDevice, ScannedVisitor};

use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::identity::name_key;
use crate::limits::JSON_BYTES_MAX;
use crate::people::auth::User;
use crate::pupils::hand_out::{StoredHandOutDevice, hand_out_devices_sql};
use crate::pupils::label_code;
use crate::pupils::store::{StoredAssignment, StoredPupil, assignments_sql, pupil_key, pupils_sql};
use crate::routes::read_json;
use crate::state::AppState;
use crate::text::clean;

const NOTHING: ScanReply = ScanReply {
    devices: Vec::new(),
    pupils: Vec::new(),
    visitors: Vec::new(),
};

/// `POST /api/v1/assignments/scan`
pub(crate) async fn post(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<ScanReply>, Failure> {
    let scan: Scan = read_json(body, JSON_BYTES_MAX).await?;
    let text = clean(&scan.text, SCAN_CHARS_MAX);
    look_up(&state, &user, &text).await.map(Json)
}

/// What this caller can mean by a text.
pub(super) async fn look_up(
    state: &AppState,
    user: &User,
    text: &str,
) -> Result<ScanReply, Failure> {
    let reply = exact(state, user, text).await?;
    if reply != NOTHING {
        return Ok(reply);
    }
    match other_layout(text) {
        Some(text) => exact(state, user, &text).await,
        None => Ok(reply),
    }
}

/// A scanner set to an American keyboard, on a computer with a Norwegian one.
fn other_layout(text: &str) -> Option<String> {
    let meant: String = text
        .chars()
        .map(|c| match c {
            '+' => '-',
            '-' => '/',
            '?' => '_',
            'ø' => ';',
            'Ø' => ':',
            c => c,
        })
        .collect();
    (meant != text).then_some(meant)
}

async fn exact(state: &AppState, user: &User, text: &str) -> Result<ScanReply, Failure> {
    let label = label_code::read(text);
    let is_label = label.is_some();
    let text = label.as_deref().unwrap_or(text);
    let mut reply = NOTHING;
    if let Some(key) = name_key(text) {
        let found: Vec<StoredHandOutDevice> = sqlx::query_as(hand_out_devices_sql!(
            "WHERE devices.serial_key = $1 OR devices.asset_tag_key = $1 \
             OR UPPER(devices.assigned_name) = $1 OR devices.id IN (SELECT runs.device FROM runs \
             WHERE UPPER(runs.host_name) = $1 AND runs.started_at_ms = (SELECT MAX(newer.started_at_ms) \
             FROM runs newer WHERE newer.device = runs.device)) ORDER BY devices.serial_key"
        ))
        .bind(&key)
        .fetch_all(state.db().read())
        .await
        .doing("look up a scanned device")?;
        for device in found {
            if is_label && device.serial_key != key {
                continue;
            }
            if user.covers(&device.site) {
                let scanned = scanned(state, user, device, &key, is_label).await?;
                reply.devices.push(scanned);
            } else if user.sees(&device) {
                reply.visitors.push(device.visitor()?);
            }
        }
    }
    if !is_label {
        let found: Option<StoredPupil> = sqlx::query_as(pupils_sql!(
            "WHERE pupils.external_key = $1 AND pupils.erased_at_ms = 0"
        ))
        .bind(pupil_key(text))
        .fetch_optional(state.db().read())
        .await
        .doing("look up a scanned pupil")?;
        if let Some(pupil) = found.filter(|pupil| user.covers(&pupil.site)) {
            let held = state.held_by(&pupil).await?;
            reply.pupils.push(pupil.row(held)?);
        }
    }
    Ok(reply)
}

impl StoredHandOutDevice {
    fn visitor(self) -> Result<ScannedVisitor, Failure> {
        Ok(ScannedVisitor {
            device: stored_text("device id", &self.id)?,
            serial: self.serial,
            site: self.site,
            site_name: self.site_name,
        })
    }
}

async fn scanned(
    state: &AppState,
    user: &User,
    device: StoredHandOutDevice,
    key: &str,
    is_label: bool,
) -> Result<ScannedDevice, Failure> {
    let open: Option<StoredAssignment> = sqlx::query_as(assignments_sql!(
        "WHERE assignments.device = $1 AND assignments.returned_at_ms = 0"
    ))
    .bind(&device.id)
    .fetch_optional(state.db().read())
    .await
    .doing("look up who has a device")?;
    let holder = match open.map(|open| open.row_for(user)).transpose()?.flatten() {
        Some(row) => Some(Holder {
            assignment: row.assignment,
            pupil: row.pupil,
            name: row.name,
            class: row.class,
            handed_out_at_ms: row.handed_out_at_ms,
        }),
        None => None,
    };
    let matched = match () {
        () if is_label => "label",
        () if device.serial_key == key => "serial",
        () if device.asset_tag_key == key => "asset-tag",
        () => "name",
    };
    Ok(ScannedDevice {
        device: stored_text("device id", &device.id)?,
        ready: device.is_ready(),
        model: format!("{} {}", device.vendor, device.product)
            .trim()
            .to_owned(),
        serial: device.serial,
        asset_tag: device.asset_tag,
        name: device.assigned_name,
        site: device.site,
        site_name: device.site_name,
        class: device.class,
        matched: matched.into(),
        holder,
    })
}

#[cfg(test)]
mod tests {
    use super::other_layout;

    #[test]
    fn what_an_american_scanner_types_on_a_norwegian_keyboard_is_understood() {
        assert_eq!(other_layout("BJO+8B+014").as_deref(), Some("BJO-8B-014"));
        assert_eq!(other_layout("PF3K2ABC"), None);
    }
}
