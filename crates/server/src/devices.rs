//! Devices and runs for the admin API, login, and what anyone may ask.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use wire::admin_api::{DeviceRow, Login, RunDetail, RunRow, Token};
use wire::boot_config::Trust;
use wire::names::{DeviceId, RunId};

use crate::auth::{User, audit};
use crate::db::commit;
use crate::error::{Doing as _, Failure};
use crate::limits::JSON_BYTES_MAX;
use crate::routes::{parse, read_json};
use crate::state::{AppState, Change};

/// `GET /healthz`: the server answers and the database does too.
pub(crate) async fn healthz(State(state): State<AppState>) -> Result<&'static str, Failure> {
    let _one: i64 = sqlx::query_scalar("SELECT 1")
        .fetch_one(state.db().read())
        .await
        .doing("ask the database")?;
    Ok("ok\n")
}

/// `GET /api/v1/trust`
pub(crate) async fn trust(State(state): State<AppState>) -> Json<Trust> {
    Json(state.trust().clone())
}

/// `POST /api/v1/login`
pub(crate) async fn login(
    State(state): State<AppState>,
    body: Body,
) -> Result<Json<Token>, Failure> {
    let login: Login = read_json(body, JSON_BYTES_MAX).await?;
    let token = state.api_token(&login).await.map_err(Failure::from)?;
    Ok(Json(Token { token }))
}

/// `GET /api/v1/devices`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<DeviceRow>>, Failure> {
    state.device_rows().await.map(Json)
}

/// `GET /api/v1/devices/{id}`
pub(crate) async fn get(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<DeviceRow>, Failure> {
    let id: DeviceId = parse(&id)?;
    let row = state.device_row(id).await?;
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

/// `GET /api/v1/runs`
pub(crate) async fn runs(State(state): State<AppState>) -> Result<Json<Vec<RunRow>>, Failure> {
    state.run_rows().await.map(Json)
}

/// `GET /api/v1/runs/{run}`
pub(crate) async fn run(
    State(state): State<AppState>,
    Path(run): Path<String>,
) -> Result<Json<RunDetail>, Failure> {
    let run: RunId = parse(&run)?;
    let detail = state.run_detail(run).await?;
    detail
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("run {run}")))
}

/// `POST /api/v1/runs/{run}/stop`: the device hears it within seconds, and stops at once.
pub(crate) async fn stop_run(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(run): Path<String>,
) -> Result<Json<RunRow>, Failure> {
    let run: RunId = parse(&run)?;
    let mut db = state.db().write().await?;
    let stopped = sqlx::query("UPDATE runs SET stop = 1 WHERE id = $1 AND state = 'running'")
        .bind(run.to_string())
        .execute(&mut *db)
        .await
        .doing("stop a run")?;
    if stopped.rows_affected() == 0 {
        return match state.run_row(run).await? {
            Some(_) => Err(Failure::conflict(
                "not-running",
                format!("run {run} has ended already"),
            )),
            None => Err(Failure::not_found(format!("run {run}"))),
        };
    }
    audit(&mut db, &user.name, "run-stopped", &run.to_string(), "").await?;
    commit(db).await?;
    state.changed(Change::Run(run));
    let row = state.run_row(run).await?;
    row.map(Json)
        .ok_or_else(|| Failure::not_found(format!("run {run}")))
}
