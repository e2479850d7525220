//! Runs that ended and are not to stay so: gone on with where they failed, or begun anew.
//!
//! Neither touches the device: it hears of it when it checks in, which a machine that waits does every minute.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use sqlx::FromRow;
use wire::admin_api::{Deployment, RerunRequest, RunRow};
use wire::names::{DeviceId, RunId};
use wire::reasons::Evidence;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, all_said, stored, stored_text};
use crate::fleet::targeting::lifecycle::{confirmed, refuse_stopped, wipes};
use crate::fleet::targeting::membership;
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_json_if_any};
use crate::runs::{due, orders};
use crate::state::{AppState, Change, now_ms};
use crate::vault::release::allow_anew;

/// The run that someone points at.
#[derive(FromRow)]
struct Earlier {
    device: String,
    serial: String,
    state: String,
    identity: String,
    document: String,
    stopped: i64,
}

/// `POST /api/v1/runs/{run}/retry`: a run that failed or was stopped goes on at the step where it was.
pub(crate) async fn retry(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(run): Path<String>,
) -> Result<Json<RunRow>, Failure> {
    let run: RunId = parse(&run)?;
    state.own_run(&user, run).await?;
    let mut db = state.db().write().await?;
    let earlier = earlier(&mut db, run).await?;
    match earlier.state.as_str() {
        "failed" | "aborted" => {}
        "completed" => {
            return Err(
                Failure::conflict("completed", format!("run {run} is completed"))
                    .hint("`forestage run rerun` begins a new run at the first step"),
            );
        }
        _ => {
            return Err(
                Failure::conflict("not-ended", format!("run {run} has not ended"))
                    .hint("wait for it, or stop it first"),
            );
        }
    }
    // What an earlier run left has been worked on by the later one.
    if latest(&mut db, &earlier.device).await? != run.to_string() {
        return Err(Failure::conflict(
            "not-latest",
            format!("run {run} is not the latest of its device"),
        )
        .hint("retry the latest, or begin a new one with `forestage run rerun`"));
    }
    refuse_held_back(&mut db, &earlier).await?;
    go_on(&mut db, run).await?;
    audit(&mut db, &user.name, "run-retried", &run.to_string(), "").await?;
    commit(db).await?;
    answer(&state, run, &earlier).await
}

/// `POST /api/v1/runs/{run}/rerun`: the device runs the same deployment once more, as a new run.
pub(crate) async fn rerun(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(run): Path<String>,
    body: Body,
) -> Result<Json<RunRow>, Failure> {
    let run: RunId = parse(&run)?;
    state.own_run(&user, run).await?;
    let request: RerunRequest = read_json_if_any(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    let earlier = earlier(&mut db, run).await?;
    if let Some(running) = running(&mut db, &earlier.device).await? {
        return Err(
            Failure::conflict("not-ended", format!("run {running} has not ended"))
                .hint("wait for it, or stop it first"),
        );
    }
    let deployment = refuse_held_back(&mut db, &earlier).await?;
    state.refuse_alone(&mut db, &user, &deployment, 1).await?;
    if wipes(&mut db, &deployment).await? {
        confirmed(&request.confirm, &to_rerun(&earlier.serial))?;
    }
    put_back(&mut db, &deployment, &earlier.device).await?;
    let device_id: DeviceId = stored_text("device id", &earlier.device)?;
    let Some(device) = state.stored_device_in(&mut db, device_id).await? else {
        return Err(Failure::not_found(format!("device {device_id}")));
    };
    let evidence: Vec<Evidence> = all_said("evidence", &earlier.identity)?;
    let Some(anew) = orders::anew(&mut db, &device, &deployment, &evidence).await? else {
        return Err(Failure::not_found(format!(
            "sequence {}",
            deployment.sequence
        )));
    };
    let detail = format!("in place of run {run}");
    audit(&mut db, &user.name, "run-rerun", &anew.to_string(), &detail).await?;
    commit(db).await?;
    answer(&state, anew, &earlier).await
}

/// What a person types to have everything run again on a machine whose disk that writes over.
pub(crate) fn to_rerun(serial: &str) -> String {
    format!("rerun {serial}")
}

/// Has a run go on where it was. It counts as heard of now: its machine may be off, and has as long to ask as any other.
pub(crate) async fn go_on(db: &mut Write, run: RunId) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE runs SET state = 'running', stop = 0, ended_at_ms = 0, stall_told = 0, last_seen_at_ms = $1 \
         WHERE id = $2",
    )
    .bind(now_ms())
    .bind(run.to_string())
    .execute(&mut **db)
    .await
    .doing("have a run go on")?;
    allow_anew(db, run).await
}

/// The deployment of a run, unless it was stopped or cancelled for the device: whoever did that takes it back first.
async fn refuse_held_back(db: &mut Write, earlier: &Earlier) -> Result<Deployment, Failure> {
    let deployment = Deployment {
        stopped: earlier.stopped != 0,
        ..stored("deployment", &earlier.document)?
    };
    refuse_stopped(&deployment)?;
    let key = (earlier.device.clone(), deployment.name.to_string());
    if due::cancelled(db, Some(&earlier.device))
        .await?
        .contains(&key)
    {
        let name = &deployment.name;
        let message = format!("deployment {name} is cancelled for this device");
        return Err(
            Failure::conflict("deployment-cancelled", message).hint(format!(
                "let it begin there again first: `forestage deployment uncancel {name} SERIAL`"
            )),
        );
    }
    Ok(deployment)
}

/// What a deployment took out is in again: by its rule, or by hand where there is none.
async fn put_back(db: &mut Write, deployment: &Deployment, device: &str) -> Result<(), Failure> {
    membership::lift(db, &deployment.collection, device).await?;
    let collections = membership::of_device(db, device).await?;
    if collections.contains(&deployment.collection) {
        return Ok(());
    }
    membership::put_in(db, &deployment.collection, device).await
}

async fn earlier(db: &mut Write, run: RunId) -> Result<Earlier, Failure> {
    sqlx::query_as(
        "SELECT runs.device, devices.serial, runs.state, runs.identity, deployments.document, deployments.stopped \
         FROM runs JOIN deployments ON deployments.name = runs.deployment \
         JOIN devices ON devices.id = runs.device WHERE runs.id = $1",
    )
    .bind(run.to_string())
    .fetch_optional(&mut **db)
    .await
    .doing("read a run")?
    .ok_or_else(|| Failure::not_found(format!("run {run}")))
}

async fn latest(db: &mut Write, device: &str) -> Result<String, Failure> {
    sqlx::query_scalar(
        "SELECT id FROM runs WHERE device = $1 ORDER BY started_at_ms DESC, id DESC LIMIT 1",
    )
    .bind(device)
    .fetch_one(&mut **db)
    .await
    .doing("look for the latest run of a device")
}

async fn running(db: &mut Write, device: &str) -> Result<Option<String>, Failure> {
    sqlx::query_scalar("SELECT id FROM runs WHERE device = $1 AND state = 'running' LIMIT 1")
        .bind(device)
        .fetch_optional(&mut **db)
        .await
        .doing("look for a run that has not ended")
}

async fn answer(state: &AppState, run: RunId, earlier: &Earlier) -> Result<Json<RunRow>, Failure> {
    state.changed(Change::Run(run));
    state.changed(Change::Device(stored_text("device id", &earlier.device)?));
    let row = state.run_row(run).await?;
    row.map(Json)
        .ok_or_else(|| Failure::not_found(format!("run {run}")))
}
