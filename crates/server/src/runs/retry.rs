//! Runs that ended and are not to stay so: gone on with where they failed, or begun anew.
//!
//! Neither touches the device: it hears of it when it checks in, which a machine that waits does every minute.

use axum::Json;
use axum::extract::{Extension, Path, State};
use sqlx::FromRow;
use wire::admin_api::{Deployment, RunRow};
use wire::names::{DeviceId, RunId};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, stored_text};
use crate::fleet::targeting::membership;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::parse;
use crate::runs::orders;
use crate::state::{AppState, Change};

/// The run that someone points at.
#[derive(FromRow)]
struct Earlier {
    device: String,
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
    state.run_for(&user, run).await?;
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
    sqlx::query("UPDATE runs SET state = 'running', stop = 0, ended_at_ms = 0 WHERE id = $1")
        .bind(run.to_string())
        .execute(&mut *db)
        .await
        .doing("have a run tried again")?;
    audit(&mut db, &user.name, "run-retried", &run.to_string(), "").await?;
    commit(db).await?;
    answer(&state, run, &earlier).await
}

/// `POST /api/v1/runs/{run}/rerun`: the device runs the same deployment once more, as a new run.
pub(crate) async fn rerun(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(run): Path<String>,
) -> Result<Json<RunRow>, Failure> {
    let run: RunId = parse(&run)?;
    state.run_for(&user, run).await?;
    let mut db = state.db().write().await?;
    let earlier = earlier(&mut db, run).await?;
    if let Some(running) = running(&mut db, &earlier.device).await? {
        return Err(
            Failure::conflict("not-ended", format!("run {running} has not ended"))
                .hint("wait for it, or stop it first"),
        );
    }
    let deployment: Deployment = stored("deployment", &earlier.document)?;
    if earlier.stopped != 0 {
        let message = format!("deployment {} is stopped", deployment.name);
        return Err(Failure::conflict("deployment-stopped", message)
            .hint("no device begins it any more; create it again, or deploy with another one"));
    }
    put_back(&mut db, &deployment, &earlier.device).await?;
    let device_id: DeviceId = stored_text("device id", &earlier.device)?;
    let Some(device) = state.stored_device_in(&mut db, device_id).await? else {
        return Err(Failure::not_found(format!("device {device_id}")));
    };
    let evidence: Vec<String> = stored("evidence", &earlier.identity)?;
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
        "SELECT runs.device, runs.state, runs.identity, deployments.document, deployments.stopped FROM runs \
         JOIN deployments ON deployments.name = runs.deployment WHERE runs.id = $1",
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
