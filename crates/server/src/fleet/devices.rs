//! Devices: what the admin API tells of them.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use wire::admin_api::DeviceRow;
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

/// `POST /api/v1/devices/{id}/reset-key`: the next machine that is recognised as this device is bound to it.
pub(crate) async fn reset_key(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<DeviceRow>, Failure> {
    let id: DeviceId = parse(&id)?;
    state.device_for(&user, id).await?;
    let mut db = state.db().write().await?;
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
