//! A deployment's life after it was made: stopped, resumed, its cap raised, started for a device, cancelled, retried.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use serde_json::json;
use wire::admin_api::{Deployment, DeviceRow, DeviceState, Purpose};
use wire::deployments::{
    Acted, CapRequest, DEVICES_MAX, DeploymentStatus, DeviceList, FailedRun, NAMED_MAX, StopRequest,
};
use wire::names::{DeploymentName, DeviceId, RunId};
use wire::webhooks::WebhookEvent;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::fleet::targeting::preview::{affected, number, wiping_steps};
use crate::fleet::targeting::{queue, sites};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_body, read_json};
use crate::runs::due::{self, due_deployments};
use crate::runs::orders::{anew, latest_sequence, reach_of};
use crate::state::{AppState, Change, now_ms};
use crate::web::device::Startable;
use crate::webhooks::outbox::emit;

/// `runs.stop` of a run that was stopped together with its deployment; a resume lifts these and no others.
const STOPPED_WITH_DEPLOYMENT: i64 = 2;

/// `POST /api/v1/deployments/{name}/stop`: at once, unless the body says that running ones may finish.
pub(crate) async fn stop(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Deployment>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let bytes = read_body(body, JSON_BYTES_MAX).await?;
    let request: Option<StopRequest> = match bytes.is_empty() {
        true => None,
        false => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::bad_request("bad-json", format!("the request can't be read: {error}"))
        })?,
    };
    let finish = request.unwrap_or_default().let_running_finish;
    let mut db = state.db().write().await?;
    let mut deployment = find(&mut db, &name).await?;
    if !deployment.stopped {
        let data = json!({ "deployment": name });
        emit(&mut db, WebhookEvent::DeploymentStopped, data).await?;
    }
    deployment.stopped = true;
    store(&mut db, &deployment).await?;
    let mut stopped = Vec::new();
    if !finish {
        stopped = runs_in(&mut db, &name, "running").await?;
        sqlx::query(
            "UPDATE runs SET stop = $1 WHERE deployment = $2 AND state = 'running' AND stop = 0",
        )
        .bind(STOPPED_WITH_DEPLOYMENT)
        .bind(name.as_str())
        .execute(&mut *db)
        .await
        .doing("stop the runs of a deployment")?;
    }
    sqlx::query("DELETE FROM waiting WHERE deployment = $1")
        .bind(name.as_str())
        .execute(&mut *db)
        .await
        .doing("send those home who wait")?;
    let detail = match finish {
        true => "running ones finish".to_owned(),
        false => format!("{} runs stopped at once", stopped.len()),
    };
    audit(
        &mut db,
        &user.name,
        "deployment-stopped",
        name.as_str(),
        &detail,
    )
    .await?;
    commit(db).await?;
    tell(&state, &stopped);
    Ok(Json(deployment))
}

/// `POST /api/v1/deployments/{name}/resume`: devices begin it again, and those stopped with it go on where they were.
pub(crate) async fn resume(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<Deployment>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let mut db = state.db().write().await?;
    let mut deployment = find(&mut db, &name).await?;
    deployment.stopped = false;
    store(&mut db, &deployment).await?;
    let mut again = runs_in(&mut db, &name, "running").await?;
    again.extend(runs_in(&mut db, &name, "aborted").await?);
    sqlx::query(
        "UPDATE runs SET stop = 0, state = 'running', ended_at_ms = 0 \
         WHERE deployment = $1 AND stop = $2 AND state IN ('running', 'aborted') AND started_at_ms = \
         (SELECT MAX(newer.started_at_ms) FROM runs newer WHERE newer.device = runs.device)",
    )
    .bind(name.as_str())
    .bind(STOPPED_WITH_DEPLOYMENT)
    .execute(&mut *db)
    .await
    .doing("let the runs of a deployment go on")?;
    audit(&mut db, &user.name, "deployment-resumed", name.as_str(), "").await?;
    commit(db).await?;
    tell(&state, &again);
    Ok(Json(deployment))
}

/// `POST /api/v1/deployments/{name}/cap`: raised (or lowered) by someone who typed it.
pub(crate) async fn cap(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<DeploymentStatus>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let request: CapRequest = read_json(body, JSON_BYTES_MAX).await?;
    if request.cap == 0 {
        let message = "a deployment that may touch no device does nothing";
        return Err(Failure::bad_request("no-cap", message).hint("stop it instead"));
    }
    let mut db = state.db().write().await?;
    let mut deployment = find(&mut db, &name).await?;
    if request.cap > deployment.cap {
        confirmed(&request.confirm, &format!("{name} {}", request.cap))?;
    }
    let detail = format!("from {} to {}", deployment.cap, request.cap);
    deployment.cap = request.cap;
    store(&mut db, &deployment).await?;
    audit(&mut db, &user.name, "cap-changed", name.as_str(), &detail).await?;
    commit(db).await?;
    state.deployment_status(&user, &name).await.map(Json)
}

/// Refuses unless a person typed exactly these words.
pub(crate) fn confirmed(typed: &str, words: &str) -> Result<(), Failure> {
    if typed.trim() == words {
        return Ok(());
    }
    let message = match typed.trim() {
        "" => "this must be confirmed by typing what it does".to_owned(),
        _ => "the confirmation says something else than what would happen".to_owned(),
    };
    Err(Failure::conflict("not-confirmed", message).hint(format!("type exactly: {words}")))
}

/// `POST /api/v1/deployments/{name}/start`: an available deployment begins on these devices at their next check-in.
pub(crate) async fn start(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Acted>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let DeviceList { devices, confirm } = listed(body).await?;
    let mut db = state.db().write().await?;
    let deployment = find(&mut db, &name).await?;
    if wipes(&mut db, &deployment).await? {
        confirmed(&confirm, &to_type(&name, devices.len()))?;
    }
    if deployment.stopped {
        let message = format!("deployment {name} is stopped");
        return Err(Failure::conflict("deployment-stopped", message).hint("resume it first"));
    }
    let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut begun = Vec::new();
    for id in devices {
        let device = state.device_for_in(&user, &mut db, id).await?;
        match start_one(&state, &mut db, &deployment, &device.id, id).await? {
            Ok(run) => {
                audit(
                    &mut db,
                    &user.name,
                    "run-started",
                    &run.to_string(),
                    &device.serial,
                )
                .await?;
                begun.push((run, id));
            }
            Err(reason) => left.entry(reason).or_default().push(device.serial),
        }
    }
    commit(db).await?;
    tell(&state, &begun);
    Ok(Json(acted(begun.len(), left)))
}

impl AppState {
    /// The available deployments that may be started for this device now.
    pub(crate) async fn startable(&self, device: &DeviceRow) -> Result<Vec<Startable>, Failure> {
        let is_busy = matches!(device.state, DeviceState::Running | DeviceState::Stalled);
        let mut db = self.db().write().await?;
        let mut startable = Vec::new();
        for deployment in due::active(&mut db).await? {
            let is_there = device.collections.contains(&deployment.collection);
            if is_busy || !is_there || deployment.purpose != Purpose::Available {
                continue;
            }
            let wipes = wipes(&mut db, &deployment).await?;
            startable.push(Startable {
                confirm: wipes.then(|| to_type(&deployment.name, 1)),
                name: deployment.name,
            });
        }
        Ok(startable)
    }
}

/// Whether a deployment writes over disks.
async fn wipes(db: &mut Write, deployment: &Deployment) -> Result<bool, Failure> {
    let sequence = latest_sequence(db, &deployment.sequence).await?;
    Ok(sequence.is_some_and(|(_, sequence)| !wiping_steps(&sequence).is_empty()))
}

/// What a person types to start a deployment that writes over disks.
fn to_type(name: &DeploymentName, devices: usize) -> String {
    format!("{name} {devices}")
}

async fn start_one(
    state: &AppState,
    db: &mut Write,
    deployment: &Deployment,
    device: &str,
    id: DeviceId,
) -> Result<Result<RunId, String>, Failure> {
    let collections = crate::fleet::targeting::membership::of_device(db, device).await?;
    if !collections.contains(&deployment.collection) {
        return Ok(Err(format!(
            "it isn't in collection {}",
            deployment.collection
        )));
    }
    let runs: Vec<(String, String)> =
        sqlx::query_as("SELECT state, deployment FROM runs WHERE device = $1")
            .bind(device)
            .fetch_all(&mut **db)
            .await
            .doing("read the runs of a device")?;
    if runs.iter().any(|(state, _)| state == "running") {
        return Ok(Err("another run has not ended".into()));
    }
    let is_touched = runs.iter().any(|(_, of)| of == deployment.name.as_str());
    let reach = reach_of(state, db, deployment).await?;
    if !is_touched && reach.touched >= usize::try_from(deployment.cap).unwrap_or(usize::MAX) {
        return Ok(Err(format!(
            "the cap of {} devices is reached",
            deployment.cap
        )));
    }
    let Some(stored) = state.stored_device_in(db, id).await? else {
        return Ok(Err("there is no such device any more".into()));
    };
    let evidence = ["an administrator started it".to_owned()];
    Ok(match anew(db, &stored, deployment, &evidence).await? {
        Some(run) => Ok(run),
        None => Err("its sequence is gone".into()),
    })
}

/// `POST /api/v1/deployments/{name}/cancel`: these devices never begin it; one that runs it stops at once.
pub(crate) async fn cancel(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Acted>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let devices = listed(body).await?.devices;
    let mut db = state.db().write().await?;
    find(&mut db, &name).await?;
    let mut stopped = Vec::new();
    for id in &devices {
        state.device_for_in(&user, &mut db, *id).await?;
        sqlx::query(
            "INSERT INTO deployment_cancelled (deployment, device, who, at_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (deployment, device) DO NOTHING",
        )
        .bind(name.as_str())
        .bind(id.to_string())
        .bind(&user.name)
        .bind(now_ms())
        .execute(&mut *db)
        .await
        .doing("cancel a deployment for a device")?;
        let running: Option<String> = sqlx::query_scalar(
            "SELECT id FROM runs WHERE device = $1 AND deployment = $2 AND state = 'running'",
        )
        .bind(id.to_string())
        .bind(name.as_str())
        .fetch_optional(&mut *db)
        .await
        .doing("look for a run that has not ended")?;
        if let Some(run) = running {
            sqlx::query("UPDATE runs SET stop = 1 WHERE id = $1")
                .bind(&run)
                .execute(&mut *db)
                .await
                .doing("stop a run")?;
            stopped.push((stored_text("run id", &run)?, *id));
        }
        queue::leave(&mut db, &id.to_string()).await?;
        audit(
            &mut db,
            &user.name,
            "deployment-cancelled",
            name.as_str(),
            &format!("device {id}"),
        )
        .await?;
    }
    commit(db).await?;
    state.members().forget();
    tell(&state, &stopped);
    for id in &devices {
        state.changed(Change::Device(*id));
    }
    Ok(Json(acted(devices.len(), BTreeMap::new())))
}

/// `POST /api/v1/deployments/{name}/retry-failed`: every device whose latest run is of it and failed goes on where it
/// failed.
pub(crate) async fn retry_failed(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<Acted>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let mut db = state.db().write().await?;
    let deployment = find(&mut db, &name).await?;
    if deployment.stopped {
        let message = format!("deployment {name} is stopped");
        return Err(Failure::conflict("deployment-stopped", message).hint("resume it first"));
    }
    let failed: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT runs.id, runs.device, devices.serial, devices.site FROM runs \
         JOIN devices ON devices.id = runs.device WHERE runs.deployment = $1 AND runs.state = 'failed' \
         AND runs.started_at_ms = (SELECT MAX(newer.started_at_ms) FROM runs newer WHERE newer.device = runs.device) \
         ORDER BY runs.id",
    )
    .bind(name.as_str())
    .fetch_all(&mut *db)
    .await
    .doing("look for failed runs")?;
    let mut again = Vec::new();
    for (run, device, _, site) in failed {
        if !user.reach.covers(&site) {
            continue;
        }
        sqlx::query("UPDATE runs SET state = 'running', stop = 0, ended_at_ms = 0 WHERE id = $1")
            .bind(&run)
            .execute(&mut *db)
            .await
            .doing("have a run tried again")?;
        audit(
            &mut db,
            &user.name,
            "run-retried",
            &run,
            &format!("deployment {name}"),
        )
        .await?;
        again.push((
            stored_text("run id", &run)?,
            stored_text("device id", &device)?,
        ));
    }
    commit(db).await?;
    tell(&state, &again);
    Ok(Json(acted(again.len(), BTreeMap::new())))
}

/// `GET /api/v1/deployments/{name}/status`
pub(crate) async fn status(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<DeploymentStatus>, Failure> {
    state
        .deployment_status(&user, &parse(&name)?)
        .await
        .map(Json)
}

impl AppState {
    /// How a deployment stands; of failures those that `user` sees.
    ///
    /// # Errors
    /// If there is no such deployment, or the database fails.
    pub async fn deployment_status(
        &self,
        user: &User,
        name: &DeploymentName,
    ) -> Result<DeploymentStatus, Failure> {
        let rows = self.device_rows_for(user).await?;
        let mut db = self.db().write().await?;
        let deployment = find(&mut db, name).await?;
        let reach = reach_of(self, &mut db, &deployment).await?;
        let due = due_deployments(&mut db, None).await?;
        let waiting = queue::everyone(&mut db, now_ms()).await?;
        drop(db);
        let ours: Vec<&DeviceRow> = rows
            .iter()
            .filter(|row| row.run.as_ref().is_some_and(|run| run.deployment == *name))
            .collect();
        let mut states = BTreeMap::new();
        for row in &ours {
            *states.entry(sites::state_word(row)).or_insert(0) += 1;
        }
        let is_asking = !deployment.stopped
            && reach.all > usize::try_from(deployment.cap).unwrap_or(usize::MAX);
        let begun = |row: &DeviceRow| row.run.as_ref().is_some_and(|run| run.deployment == *name);
        let due = rows.iter().filter(|row| !begun(row)).filter(|row| {
            due.get(&row.device.to_string())
                .is_some_and(|due| due.name == *name)
        });
        Ok(DeploymentStatus {
            name: name.clone(),
            collection: deployment.collection.clone(),
            sequence: deployment.sequence.clone(),
            stopped: deployment.stopped,
            touched: number(reach.touched),
            reach: number(reach.all),
            cap: deployment.cap,
            asks_for_cap: is_asking,
            due: number(due.count()),
            waiting: number(
                waiting
                    .iter()
                    .filter(|waiting| waiting.2 == name.as_str())
                    .count(),
            ),
            failed: ours
                .iter()
                .filter_map(|row| failed_run(row))
                .take(NAMED_MAX)
                .collect(),
            states,
            confirm_cap: is_asking.then(|| format!("{name} {}", reach.all)),
        })
    }
}

fn failed_run(row: &DeviceRow) -> Option<FailedRun> {
    let run = row
        .run
        .as_ref()
        .filter(|run| run.state == DeviceState::Failed)?;
    Some(FailedRun {
        run: run.run,
        serial: row.serial.clone(),
        step: run.failed_step.as_ref().map(ToString::to_string),
        error: run
            .errors
            .first()
            .cloned()
            .unwrap_or_else(|| "it was stopped".into()),
    })
}

/// A deployment that must exist, as it is stored.
pub(crate) async fn find(db: &mut Write, name: &DeploymentName) -> Result<Deployment, Failure> {
    let found: Option<(String, i64)> =
        sqlx::query_as("SELECT document, stopped FROM deployments WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut **db)
            .await
            .doing("read a deployment")?;
    let (document, stopped) =
        found.ok_or_else(|| Failure::not_found(format!("deployment {name}")))?;
    Ok(Deployment {
        stopped: stopped != 0,
        ..stored("deployment", &document)?
    })
}

async fn store(db: &mut Write, deployment: &Deployment) -> Result<(), Failure> {
    sqlx::query("UPDATE deployments SET document = $1, stopped = $2, cap_told = 0 WHERE name = $3")
        .bind(to_json("write a deployment", deployment)?)
        .bind(i64::from(deployment.stopped))
        .bind(deployment.name.as_str())
        .execute(&mut **db)
        .await
        .doing("store a deployment")?;
    Ok(())
}

async fn runs_in(
    db: &mut Write,
    name: &DeploymentName,
    state: &str,
) -> Result<Vec<(RunId, DeviceId)>, Failure> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT id, device FROM runs WHERE deployment = $1 AND state = $2")
            .bind(name.as_str())
            .bind(state)
            .fetch_all(&mut **db)
            .await
            .doing("read the runs of a deployment")?;
    rows.into_iter()
        .map(|(run, device)| {
            Ok((
                stored_text("run id", &run)?,
                stored_text("device id", &device)?,
            ))
        })
        .collect()
}

fn tell(state: &AppState, runs: &[(RunId, DeviceId)]) {
    for (run, device) in runs {
        state.changed(Change::Run(*run));
        state.changed(Change::Device(*device));
    }
}

async fn listed(body: Body) -> Result<DeviceList, Failure> {
    let list: DeviceList = read_json(body, JSON_BYTES_MAX).await?;
    if list.devices.is_empty() || list.devices.len() > DEVICES_MAX {
        let message = format!("name 1 to {DEVICES_MAX} devices");
        return Err(Failure::bad_request("bad-devices", message));
    }
    Ok(list)
}

fn acted(done: usize, left: BTreeMap<String, Vec<String>>) -> Acted {
    Acted {
        done: number(done),
        left: left.into_iter().map(affected).collect(),
    }
}
