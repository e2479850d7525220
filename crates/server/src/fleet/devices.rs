//! Devices: what the admin API tells of them.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use wire::admin_api::{DeviceRow, DeviceState};
use wire::deployments::Startable;
use wire::find::{FOUND_MAX, FoundDevice};
use wire::names::DeviceId;

use crate::db::commit;
use crate::error::{Doing as _, Failure};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::page::PageQuery;
use crate::routes::parse;
use crate::state::{AppState, Change};

/// `GET /api/v1/devices`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(page): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Vec<DeviceRow>>), Failure> {
    let rows = state.device_rows_for(&user).await?;
    let key = |row: &DeviceRow| row.device.to_string();
    let (headers, rows) = page.cut("/api/v1/devices", rows, key)?;
    Ok((headers, Json(rows)))
}

/// What is looked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    text: String,
}

/// `GET /api/v1/find?text=TEXT`: devices whose serial number, name or asset tag holds the text; whole matches first.
pub(crate) async fn find(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<FoundDevice>>, Failure> {
    let rows = state.device_rows_for(&user).await?;
    Ok(Json(found(&rows, &wanted.text)))
}

fn found(rows: &[DeviceRow], text: &str) -> Vec<FoundDevice> {
    let text = text.trim().to_lowercase();
    if text.is_empty() {
        return Vec::new();
    }
    let rank = |row: &DeviceRow| {
        let name = row.name.as_deref().unwrap_or_default();
        let assigned = row.assigned_name.as_deref().unwrap_or_default();
        [row.serial.as_str(), name, assigned, row.asset_tag.as_str()]
            .iter()
            .filter_map(|own| match own.to_lowercase() {
                own if own == text => Some(0),
                own if own.starts_with(&text) => Some(1),
                own if own.contains(&text) => Some(2),
                _ => None,
            })
            .min()
    };
    let mut ranked: Vec<_> = rows
        .iter()
        .filter(|row| row.state != DeviceState::Quarantined)
        .filter_map(|row| Some((rank(row)?, row)))
        .collect();
    ranked.sort_by(|(a, left), (b, right)| (a, &left.serial).cmp(&(b, &right.serial)));
    let device = |(_, row): (i32, &DeviceRow)| FoundDevice {
        serial: row.serial.clone(),
        name: row.name.clone(),
        asset_tag: row.asset_tag.clone(),
        site_name: row.site_name.clone(),
    };
    ranked.into_iter().take(FOUND_MAX).map(device).collect()
}

/// `GET /api/v1/devices/{id}`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<DeviceRow>, Failure> {
    let id: DeviceId = parse(&id)?;
    let row = state.device_row_for(&user, id).await?;
    row.map(Json)
        .ok_or_else(|| Failure::not_found(format!("device {id}")))
}

/// `GET /api/v1/devices/{id}/startable`
pub(crate) async fn startable(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Startable>>, Failure> {
    let id: DeviceId = parse(&id)?;
    let row = state.device_row_for(&user, id).await?;
    let row = row.ok_or_else(|| Failure::not_found(format!("device {id}")))?;
    state.startable(&row).await.map(Json)
}

/// `POST /api/v1/devices/{id}/reset-key`: the next machine that is recognised as this device is bound to it.
pub(crate) async fn reset_key(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<DeviceRow>, Failure> {
    let id: DeviceId = parse(&id)?;
    let mut db = state.db().write().await?;
    state.own_device_in(&user, &mut db, id).await?;
    for sql in [
        "DELETE FROM device_keys WHERE device = $1",
        "DELETE FROM device_sessions WHERE device = $1",
        "UPDATE devices SET message = '' WHERE id = $1",
    ] {
        sqlx::query(sql)
            .bind(id.to_string())
            .execute(&mut *db)
            .await
            .doing("reset the key of a device")?;
    }
    audit(&mut db, &user.name, "key-reset", &id.to_string(), "").await?;
    commit(db).await?;
    state.changed(Change::Device(id));
    let row = state.device_row(id).await?;
    row.map(Json)
        .ok_or_else(|| Failure::not_found(format!("device {id}")))
}

#[cfg(test)]
mod tests {
    use super::found;
    use crate::web::sample;

    #[test]
    fn whole_matches_stand_first_and_letter_case_does_not_matter() {
        let rows = sample::devices();
        let serial = &rows[3].serial;
        let first = |text: &str| found(&rows, text).first().map(|row| row.serial.clone());
        assert_eq!(first(&serial.to_lowercase()).as_ref(), Some(serial));
        assert!(found(&rows, &serial[..2]).len() > 1);
        assert_eq!(first("no such device"), None);
        let mut renamed = rows.clone();
        renamed[3].assigned_name = Some("BJO-ny-1".into());
        assert_eq!(found(&renamed, "bjo-NY-1")[0].serial, *serial);
        assert_eq!(first("  "), None);
    }
}
