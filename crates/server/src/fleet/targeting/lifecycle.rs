//! A deployment's life after it was made: stopped, resumed, its cap raised, started for a device, cancelled for one and that
//! taken back, retried. What writes over disks is typed whenever a machine may begin it that might not before.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use jiff::tz::TimeZone;
use serde_json::json;
use sqlx::AnyConnection;
use wire::admin_api::{Deployment, DeviceRow, DeviceState, Purpose};
use wire::deployments::{
    Acted, Affected, Awaited, CancelledDevice, CapRequest, DEVICES_MAX, DeploymentStatus,
    DeviceList, FailedRun, NAMED_MAX, ResumeRequest, Startable, StopRequest,
};
use wire::names::{DeploymentName, DeviceId, RunId};
use wire::reasons::{Evidence, MemberReason};
use wire::webhooks::WebhookEvent;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::fleet::targeting::approvals::{self, Asked};
use crate::fleet::targeting::preview::{affected, number, to_confirm, wiping_steps};
use crate::fleet::targeting::{membership, queue, sites};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::routes::{parse, read_json, read_json_if_any};
use crate::runs::due::{self, Standing, due_deployments};
use crate::runs::orders::{anew, latest_sequence, reach_of};
use crate::runs::retry::go_on;
use crate::runs::rows::StoredDevice;
use crate::state::{AppState, Change, now_ms};
use crate::vault;
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
    let request: StopRequest = read_json_if_any(body, JSON_BYTES_MAX).await?;
    let finish = request.let_running_finish;
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
        stopped = running_in(&mut db, &name).await?;
        sqlx::query(
            "UPDATE runs SET stop = $1 WHERE deployment = $2 AND state = 'running' AND stop = 0",
        )
        .bind(STOPPED_WITH_DEPLOYMENT)
        .bind(name.as_str())
        .execute(&mut *db)
        .await
        .doing("stop the runs of a deployment")?;
    }
    queue::send_home(&mut db, &name).await?;
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
    body: Body,
) -> Result<Json<Deployment>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let request: ResumeRequest = read_json_if_any(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    let mut deployment = find(&mut db, &name).await?;
    if deployment.stopped {
        vault::refuse_unset(&mut db, &deployment.sequence).await?;
        let resumed = Deployment {
            stopped: false,
            ..deployment.clone()
        };
        if let Some(words) = to_confirm(&mut db, &resumed).await? {
            confirmed(&request.confirm, &words)?;
        }
    }
    // The cap may have been lowered since those runs began, and some may go on of one that was resumed before.
    let go_on = number(stopped_with(&mut db, &name).await?.len());
    let cap = deployment.cap;
    let is_guarded = state.too_many_go_on(go_on)
        || deployment.stopped && state.needs_second(&mut db, &deployment, cap).await?;
    if is_guarded {
        let asked = Asked::resume(cap.max(go_on));
        approvals::ask(&mut db, &user, &name, &asked).await?;
        commit(db).await?;
        return Ok(Json(deployment));
    }
    let again = resumed(&mut db, &user, &mut deployment).await?;
    commit(db).await?;
    tell(&state, &again);
    Ok(Json(deployment))
}

/// Has a deployment go on; the runs that were stopped with it.
pub(super) async fn resumed(
    db: &mut Write,
    user: &User,
    deployment: &mut Deployment,
) -> Result<Vec<(RunId, DeviceId)>, Failure> {
    let name = deployment.name.clone();
    deployment.stopped = false;
    store(db, deployment).await?;
    let again = stopped_with(db, &name).await?;
    for (run, _) in &again {
        go_on(db, *run).await?;
    }
    approvals::overtake(db, user, &name, |asked| asked.what == Awaited::Resume).await?;
    audit(db, &user.name, "deployment-resumed", name.as_str(), "").await?;
    Ok(again)
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
    let is_guarded = request.cap > deployment.cap
        && state
            .needs_second(&mut db, &deployment, request.cap)
            .await?;
    if is_guarded && !deployment.stopped {
        let asked = Asked {
            what: Awaited::RaiseCap,
            cap: request.cap,
            site: String::new(),
            machines: request.cap,
        };
        approvals::ask(&mut db, &user, &name, &asked).await?;
    } else {
        raised(&mut db, &user, &mut deployment, request.cap).await?;
        // Whoever changes what awaits approval can't give it.
        if is_guarded && approvals::awaits(&mut db, &name, Awaited::Resume).await? {
            approvals::ask(&mut db, &user, &name, &Asked::resume(request.cap)).await?;
        }
    }
    commit(db).await?;
    state.deployment_status(&user, &name).await.map(Json)
}

/// Gives a deployment another cap.
pub(super) async fn raised(
    db: &mut Write,
    user: &User,
    deployment: &mut Deployment,
    cap: u32,
) -> Result<(), Failure> {
    let detail = format!("from {} to {cap}", deployment.cap);
    deployment.cap = cap;
    store(db, deployment).await?;
    let is_raise = |asked: &Asked| asked.what == Awaited::RaiseCap;
    approvals::overtake(db, user, &deployment.name, is_raise).await?;
    audit(
        db,
        &user.name,
        "cap-changed",
        deployment.name.as_str(),
        &detail,
    )
    .await
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
    refuse_stopped(&deployment)?;
    vault::refuse_unset(&mut db, &deployment.sequence).await?;
    if deployment.purpose != Purpose::Available {
        let message = format!("deployment {name} is required: its machines begin by themselves");
        return Err(Failure::conflict("not-available", message)
            .hint("`forestage run rerun` has a machine run it once more"));
    }
    state
        .refuse_alone(&mut db, &user, &deployment, devices.len())
        .await?;
    if wipes(&mut db, &deployment).await? {
        confirmed(&confirm, &to_type(&name, devices.len()))?;
    }
    let zones = due::zones(&mut db).await?;
    let mut left: BTreeMap<MemberReason, Vec<String>> = BTreeMap::new();
    let mut begun = Vec::new();
    for id in devices {
        let device = state.own_device_in(&user, &mut db, id).await?;
        match start_one(&state, &mut db, &deployment, &device, &zones).await? {
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
        if matches!(device.state, DeviceState::Running | DeviceState::Stalled) {
            return Ok(Vec::new());
        }
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read what may be started")?;
        let id = device.device.to_string();
        let place = device.seen_site.as_deref().unwrap_or(&device.site);
        let zones = due::zones(&mut db).await?;
        let mut startable = Vec::new();
        for deployment in due::active(&mut db).await? {
            let is_there = device.collections.contains(&deployment.collection);
            if !is_there || deployment.purpose != Purpose::Available {
                continue;
            }
            if held_back(&mut db, &deployment, (&id, place), &zones)
                .await?
                .is_some()
            {
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

    /// The deployments that are cancelled for this device, with the words that take that back, if it wants any.
    pub(crate) async fn cancelled_for(
        &self,
        device: &DeviceRow,
    ) -> Result<Vec<Startable>, Failure> {
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read which deployments are cancelled")?;
        let mut cancelled = Vec::new();
        for (_, name) in due::cancelled(&mut db, Some(&device.device.to_string())).await? {
            let deployment = find(&mut db, &stored_text("deployment name", &name)?).await?;
            let wipes = wipes(&mut db, &deployment).await?;
            cancelled.push(Startable {
                confirm: wipes.then(|| to_type(&deployment.name, 1)),
                name: deployment.name,
            });
        }
        Ok(cancelled)
    }
}

/// Why nobody may start an available deployment for a device, if it is so: it is cancelled for it, or not the time.
async fn held_back(
    db: &mut AnyConnection,
    deployment: &Deployment,
    (device, place): (&str, &str),
    zones: &BTreeMap<String, TimeZone>,
) -> Result<Option<MemberReason>, Failure> {
    let cancelled = due::cancelled(db, Some(device)).await?;
    let utc = TimeZone::UTC;
    let standing = Standing {
        latest: None,
        is_cancelled: cancelled.contains(&(device.to_owned(), deployment.name.to_string())),
        zone: zones.get(place).unwrap_or(&utc),
        now: now_ms(),
    };
    let started = Deployment {
        purpose: Purpose::Required,
        ..deployment.clone()
    };
    let held = due::is_due(&started, &standing).err();
    Ok(held.map(|not| not.reason))
}

/// Refuses what would have machines go on that were stopped with their deployment.
pub(crate) fn refuse_stopped(deployment: &Deployment) -> Result<(), Failure> {
    let name = &deployment.name;
    if deployment.stopped {
        let message = format!("deployment {name} is stopped");
        return Err(
            Failure::conflict("deployment-stopped", message).hint(format!(
                "resume it first: `forestage deployment resume {name}`"
            )),
        );
    }
    Ok(())
}

/// Whether a deployment writes over disks.
pub(crate) async fn wipes(
    db: &mut AnyConnection,
    deployment: &Deployment,
) -> Result<bool, Failure> {
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
    device: &StoredDevice,
    zones: &BTreeMap<String, TimeZone>,
) -> Result<Result<RunId, MemberReason>, Failure> {
    let collections = membership::of_device(db, &device.id).await?;
    if !collections.contains(&deployment.collection) {
        let collection = deployment.collection.to_string();
        return Ok(Err(MemberReason::NotIn { collection }));
    }
    let at = (device.id.as_str(), device.place());
    if let Some(reason) = held_back(db, deployment, at, zones).await? {
        return Ok(Err(reason));
    }
    let runs: Vec<(String, String)> =
        sqlx::query_as("SELECT state, deployment FROM runs WHERE device = $1")
            .bind(&device.id)
            .fetch_all(&mut **db)
            .await
            .doing("read the runs of a device")?;
    if runs.iter().any(|(state, _)| state == "running") {
        return Ok(Err(MemberReason::AnotherRun));
    }
    let is_touched = runs.iter().any(|(_, of)| of == deployment.name.as_str());
    let reach = reach_of(state, db, deployment).await?;
    if !is_touched && reach.touched >= usize::try_from(deployment.cap).unwrap_or(usize::MAX) {
        let cap = deployment.cap;
        return Ok(Err(MemberReason::CapReached { cap }));
    }
    Ok(
        match anew(db, device, deployment, &[Evidence::Started]).await? {
            Some(run) => Ok(run),
            None => Err(MemberReason::SequenceGone),
        },
    )
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
        state.own_device_in(&user, &mut db, *id).await?;
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

/// `POST /api/v1/deployments/{name}/uncancel`: these devices may begin it again.
pub(crate) async fn uncancel(
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
    let mut left: BTreeMap<MemberReason, Vec<String>> = BTreeMap::new();
    let mut again = Vec::new();
    for id in devices {
        let device = state.own_device_in(&user, &mut db, id).await?;
        let taken_back =
            sqlx::query("DELETE FROM deployment_cancelled WHERE deployment = $1 AND device = $2")
                .bind(name.as_str())
                .bind(&device.id)
                .execute(&mut *db)
                .await
                .doing("let a deployment begin on a device again")?;
        if taken_back.rows_affected() == 0 {
            let alike = left.entry(MemberReason::NotCancelled).or_default();
            alike.push(device.serial);
            continue;
        }
        let detail = format!("device {id}");
        audit(
            &mut db,
            &user.name,
            "deployment-uncancelled",
            name.as_str(),
            &detail,
        )
        .await?;
        again.push(id);
    }
    commit(db).await?;
    for id in &again {
        state.changed(Change::Device(*id));
    }
    Ok(Json(acted(again.len(), left)))
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
    refuse_stopped(&deployment)?;
    let failed = number(failed_runs(&mut db, &name, &user.reach).await?.len());
    let site = match &user.reach {
        Reach::Site(site) => site.clone(),
        Reach::Everywhere | Reach::Nowhere => String::new(),
    };
    if state.too_many_go_on(failed) {
        let asked = Asked {
            what: Awaited::RetryFailed,
            cap: 0,
            site,
            machines: failed,
        };
        approvals::ask(&mut db, &user, &name, &asked).await?;
        commit(db).await?;
        let waiting = Affected {
            devices: failed,
            ..affected((MemberReason::AwaitsApproval, Vec::new()))
        };
        return Ok(Json(Acted {
            done: 0,
            left: vec![waiting],
        }));
    }
    let (again, left) = retried(&mut db, &user, &user.reach, &deployment).await?;
    let is_this = |asked: &Asked| asked.what == Awaited::RetryFailed && asked.site == site;
    approvals::overtake(&mut db, &user, &name, is_this).await?;
    commit(db).await?;
    tell(&state, &again);
    Ok(Json(acted(again.len(), left)))
}

/// A failed run, its device, and that one's serial number.
type Failed = (RunId, DeviceId, String);

/// The runs of a deployment within reach that failed and that no later run of their devices has followed.
pub(super) async fn failed_runs(
    db: &mut AnyConnection,
    name: &DeploymentName,
    reach: &Reach,
) -> Result<Vec<Failed>, Failure> {
    let failed: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT runs.id, runs.device, devices.serial, devices.site FROM runs \
         JOIN devices ON devices.id = runs.device WHERE runs.deployment = $1 AND runs.state = 'failed' \
         AND runs.started_at_ms = (SELECT MAX(newer.started_at_ms) FROM runs newer WHERE newer.device = runs.device) \
         ORDER BY runs.id",
    )
    .bind(name.as_str())
    .fetch_all(db)
    .await
    .doing("look for failed runs")?;
    let near = failed.into_iter().filter(|(.., site)| reach.covers(site));
    near.map(|(run, device, serial, _)| {
        Ok((
            stored_text("run id", &run)?,
            stored_text("device id", &device)?,
            serial,
        ))
    })
    .collect()
}

type LeftAlone = BTreeMap<MemberReason, Vec<String>>;

/// Has the failed runs of a deployment within reach go on; those that do, and the machines that are left alone.
pub(super) async fn retried(
    db: &mut Write,
    user: &User,
    reach: &Reach,
    deployment: &Deployment,
) -> Result<(Vec<(RunId, DeviceId)>, LeftAlone), Failure> {
    let name = &deployment.name;
    refuse_stopped(deployment)?;
    let cancelled = cancelled_devices(db, name).await?;
    let cancelled: BTreeSet<DeviceId> = cancelled.iter().map(|(one, _)| one.device).collect();
    let mut left = LeftAlone::new();
    let mut again = Vec::new();
    for (run, device, serial) in failed_runs(db, name, reach).await? {
        if cancelled.contains(&device) {
            let alike = left.entry(MemberReason::Cancelled).or_default();
            alike.push(serial);
            continue;
        }
        go_on(db, run).await?;
        let detail = format!("deployment {name}");
        audit(db, &user.name, "run-retried", &run.to_string(), &detail).await?;
        again.push((run, device));
    }
    Ok((again, left))
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
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read how a deployment stands")?;
        let deployment = find(&mut db, name).await?;
        let reach = reach_of(self, &mut db, &deployment).await?;
        let due = due_deployments(&mut db, None).await?;
        let waiting = queue::everyone(&mut db, now_ms()).await?;
        let cancelled = cancelled_devices(&mut db, name).await?;
        let wipes = wipes(&mut db, &deployment).await?;
        let resumed = Deployment {
            stopped: false,
            ..deployment.clone()
        };
        let confirm_resume = match deployment.stopped {
            true => to_confirm(&mut db, &resumed).await?,
            false => None,
        };
        let approval = approvals::of(&mut db, &deployment).await?;
        drop(db);
        let warrants = self.warrants_stand(name).await?;
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
            wipes,
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
            warrants,
            failed: ours
                .iter()
                .filter_map(|row| failed_run(row))
                .take(NAMED_MAX)
                .collect(),
            states,
            cancelled: cancelled
                .into_iter()
                .filter(|(_, site)| user.covers(site))
                .map(|(device, _)| device)
                .take(NAMED_MAX)
                .collect(),
            confirm_cap: is_asking.then(|| format!("{name} {}", reach.all)),
            confirm_resume,
            approval,
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
        error: run.errors.first().cloned().unwrap_or_default(),
    })
}

/// A deployment that must exist, as it is stored.
pub(crate) async fn find(
    db: &mut AnyConnection,
    name: &DeploymentName,
) -> Result<Deployment, Failure> {
    let found = look_up(db, name).await?;
    found.ok_or_else(|| Failure::not_found(format!("deployment {name}")))
}

/// A deployment as it is stored, if there is one of that name.
pub(crate) async fn look_up(
    db: &mut AnyConnection,
    name: &DeploymentName,
) -> Result<Option<Deployment>, Failure> {
    let found: Option<(String, i64)> =
        sqlx::query_as("SELECT document, stopped FROM deployments WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut *db)
            .await
            .doing("read a deployment")?;
    let Some((document, stopped)) = found else {
        return Ok(None);
    };
    Ok(Some(Deployment {
        stopped: stopped != 0,
        ..stored("deployment", &document)?
    }))
}

/// The devices that a deployment leaves alone, with their sites.
async fn cancelled_devices(
    db: &mut AnyConnection,
    name: &DeploymentName,
) -> Result<Vec<(CancelledDevice, String)>, Failure> {
    let rows: Vec<(String, String, String, i64, String)> = sqlx::query_as(
        "SELECT devices.id, devices.serial, deployment_cancelled.who, deployment_cancelled.at_ms, devices.site \
         FROM deployment_cancelled JOIN devices ON devices.id = deployment_cancelled.device \
         WHERE deployment_cancelled.deployment = $1 ORDER BY devices.serial",
    )
    .bind(name.as_str())
    .fetch_all(db)
    .await
    .doing("read which devices are left alone")?;
    rows.into_iter()
        .map(|(id, serial, who, at_ms, site)| {
            let device = CancelledDevice {
                device: stored_text("device id", &id)?,
                serial,
                who,
                at_ms,
            };
            Ok((device, site))
        })
        .collect()
}

/// The runs that were stopped with their deployment and go on when it is resumed: no later run has worked on their
/// devices, and it isn't cancelled for them.
pub(crate) async fn stopped_with(
    db: &mut AnyConnection,
    name: &DeploymentName,
) -> Result<Vec<(RunId, DeviceId)>, Failure> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT id, device FROM runs WHERE deployment = $1 AND stop = $2 AND state IN ('running', 'aborted') \
         AND started_at_ms = (SELECT MAX(newer.started_at_ms) FROM runs newer WHERE newer.device = runs.device) \
         AND device NOT IN (SELECT device FROM deployment_cancelled WHERE deployment = $1)",
    )
    .bind(name.as_str())
    .bind(STOPPED_WITH_DEPLOYMENT)
    .fetch_all(db)
    .await
    .doing("read the runs that were stopped with a deployment")?;
    ids_of(rows)
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

async fn running_in(
    db: &mut Write,
    name: &DeploymentName,
) -> Result<Vec<(RunId, DeviceId)>, Failure> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT id, device FROM runs WHERE deployment = $1 AND state = 'running'")
            .bind(name.as_str())
            .fetch_all(&mut **db)
            .await
            .doing("read the runs of a deployment")?;
    ids_of(rows)
}

fn ids_of(rows: Vec<(String, String)>) -> Result<Vec<(RunId, DeviceId)>, Failure> {
    rows.into_iter()
        .map(|(run, device)| {
            Ok((
                stored_text("run id", &run)?,
                stored_text("device id", &device)?,
            ))
        })
        .collect()
}

pub(super) fn tell(state: &AppState, runs: &[(RunId, DeviceId)]) {
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

fn acted(done: usize, left: BTreeMap<MemberReason, Vec<String>>) -> Acted {
    Acted {
        done: number(done),
        left: left.into_iter().map(affected).collect(),
    }
}
