//! Orders: what a recognised device is to run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use wire::admin_api::Deployment;
use wire::device_api::Staged;
use wire::names::{DeploymentName, DeviceId, RunId, SequenceName};
use wire::order::Order;
use wire::package::Package;
use wire::reasons::{Evidence, MachineReason};
use wire::sequence::CompiledSequence;
use wire::warrant::SignedWarrant;
use wire::webhooks::WebhookEvent;

use crate::db::Write;
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::fleet::asset_state::retired;
use crate::fleet::targeting::membership;
use crate::fleet::targeting::queue::{self, Limit};
use crate::fleet::targeting::sites::slots_of;
use crate::fleet::variables::{ScopeNames, layered, scoped_for};
use crate::limits::PERSON_RETRY_SECONDS;
use crate::people::audit::audit;
use crate::runs::check_in::Claimant;
use crate::runs::due::{self, Standing};
use crate::runs::expected;
use crate::runs::rows::StoredDevice;
use crate::runs::warrants;
use crate::state::{AppState, now_ms};
use crate::vault;
use crate::webhooks::outbox::{emit, emit_run};

/// The variable that says what was staged on the device.
pub(crate) const STAGED_NAME: &str = "staged";

/// What a device that has checked in is to do.
pub(crate) enum Errand {
    /// Run this.
    Run(Task),
    /// Nothing; why, for its screen and the overview.
    Nothing {
        said: MachineReason,
        /// When to ask again, for one that waits for its turn.
        retry_seconds: Option<u64>,
    },
}

impl Errand {
    const fn nothing(said: MachineReason) -> Self {
        Self::Nothing {
            said,
            retry_seconds: None,
        }
    }
}

/// A run, and what a device that knows it already must know besides.
pub(crate) struct Task {
    pub(crate) order: Box<Order>,
    /// The run isn't over: it never was, or an admin wants it tried again.
    pub(crate) go_on: bool,
    /// An admin wants it stopped.
    pub(crate) stop: bool,
    /// What allows it to write over a deployed disk. Handed out beside the order, which never changes.
    pub(crate) warrant: Option<SignedWarrant>,
}

impl Task {
    fn new(order: Order) -> Self {
        Self {
            order: Box::new(order),
            go_on: false,
            stop: false,
            warrant: None,
        }
    }
}

/// Finds the run to go on with, or makes one from the oldest deployment that is due; with the warrant for it, if it has one.
pub(crate) async fn order_for(
    state: &AppState,
    db: &mut Write,
    device: &StoredDevice,
    claimant: &Claimant,
    evidence: &[Evidence],
) -> Result<Errand, Failure> {
    let errand = find_errand(state, db, device, claimant, evidence).await?;
    let Errand::Run(task) = errand else {
        return Ok(errand);
    };
    let Some(deployment) = &task.order.deployment else {
        return Ok(Errand::Run(task));
    };
    let warrant = warrants::fitting(db, &device.id, deployment, claimant).await?;
    Ok(Errand::Run(Task { warrant, ..task }))
}

async fn find_errand(
    state: &AppState,
    db: &mut Write,
    device: &StoredDevice,
    claimant: &Claimant,
    evidence: &[Evidence],
) -> Result<Errand, Failure> {
    let unfinished: Option<(String, i64)> = sqlx::query_as(
        "SELECT order_document, stop FROM runs WHERE device = $1 AND state = 'running' \
         ORDER BY started_at_ms DESC, id LIMIT 1",
    )
    .bind(&device.id)
    .fetch_optional(&mut **db)
    .await
    .doing("look for an unfinished run")?;
    if let Some((document, stop)) = unfinished {
        let order: Order = stored("order", &document)?;
        match held_back(db, device, claimant, &order).await? {
            Some(waits) if stop == 0 => return Ok(waits),
            Some(_) => end_unbegun(db, order.run).await?,
            None => {
                return Ok(Errand::Run(Task {
                    go_on: true,
                    stop: stop != 0,
                    ..Task::new(order)
                }));
            }
        }
    }
    if let Some(said) = retired(device) {
        queue::leave(db, &device.id).await?;
        return Ok(Errand::nothing(said));
    }
    let collections = membership::of_device(db, &device.id).await?;
    let mut nothing = Errand::nothing(MachineReason::NothingRequired);
    let latest = due::latest_states(db, Some(&device.id)).await?;
    let cancelled = due::cancelled(db, Some(&device.id)).await?;
    let zones = due::zones(db).await?;
    let utc = TimeZone::UTC;
    let zone = zones.get(device.place()).unwrap_or(&utc);
    for deployment in due::active(db).await? {
        if !collections.contains(&deployment.collection) {
            continue;
        }
        let key = (device.id.clone(), deployment.name.to_string());
        let standing = Standing {
            latest: latest.get(&key).map(String::as_str),
            is_cancelled: cancelled.contains(&key),
            zone,
            now: now_ms(),
        };
        if let Err(not) = due::is_due(&deployment, &standing) {
            nothing = Errand::Nothing {
                said: *not.said,
                retry_seconds: not.retry_seconds,
            };
            continue;
        }
        match from_deployment(state, db, device, claimant, evidence, &deployment).await? {
            why @ Errand::Nothing { .. } => nothing = why,
            run @ Errand::Run(_) => return Ok(run),
        }
    }
    queue_left(db, &device.id, &nothing).await?;
    Ok(nothing)
}

/// What a run that was made already waits for, if its machine hasn't begun it and may not now.
async fn held_back(
    db: &mut Write,
    device: &StoredDevice,
    claimant: &Claimant,
    order: &Order,
) -> Result<Option<Errand>, Failure> {
    let Some(deployment) = &order.deployment else {
        return Ok(None);
    };
    if warrants::is_in_the_middle_of(claimant, order.run) {
        return Ok(None);
    }
    if warrants::is_lacking(db, &device.id, deployment, claimant).await? {
        return Ok(Some(waits_for_warrant(deployment)));
    }
    lacks_secret(db, device, deployment, order).await
}

/// A run was stopped before its machine could begin it. The machine has no order, and so never tells that it has ended.
async fn end_unbegun(db: &mut Write, run: RunId) -> Result<(), Failure> {
    sqlx::query("UPDATE runs SET state = 'aborted', ended_at_ms = $1 WHERE id = $2")
        .bind(now_ms())
        .bind(run.to_string())
        .execute(&mut **db)
        .await
        .doing("end a run that was stopped")?;
    emit_run(db, WebhookEvent::RunStopped, run, json!({})).await
}

/// It asks again by itself. Somebody has to go to where the key is meanwhile.
fn waits_for_warrant(deployment: &DeploymentName) -> Errand {
    let deployment = deployment.to_string();
    Errand::Nothing {
        said: MachineReason::NeedsWarrant { deployment },
        retry_seconds: Some(PERSON_RETRY_SECONDS),
    }
}

/// A machine that began would be wiped first and stop for good at the step that is refused its secret.
async fn lacks_secret(
    db: &mut Write,
    device: &StoredDevice,
    deployment: &DeploymentName,
    order: &Order,
) -> Result<Option<Errand>, Failure> {
    let lacking = vault::lacking(db, device, order).await?;
    Ok(lacking.map(|secret| Errand::Nothing {
        said: MachineReason::NeedsSecret {
            deployment: deployment.to_string(),
            secret: secret.to_string(),
        },
        retry_seconds: Some(PERSON_RETRY_SECONDS),
    }))
}

/// A machine that waits for no place stands in no queue.
async fn queue_left(db: &mut Write, device: &str, errand: &Errand) -> Result<(), Failure> {
    match errand {
        Errand::Nothing {
            retry_seconds: Some(_),
            ..
        } => Ok(()),
        _ => queue::leave(db, device).await,
    }
}

async fn from_deployment(
    state: &AppState,
    db: &mut Write,
    device: &StoredDevice,
    claimant: &Claimant,
    evidence: &[Evidence],
    deployment: &Deployment,
) -> Result<Errand, Failure> {
    let before: Vec<(String, String)> = sqlx::query_as(
        "SELECT state, order_document FROM runs WHERE device = $1 AND deployment = $2 ORDER BY started_at_ms DESC, id",
    )
    .bind(&device.id)
    .bind(deployment.name.as_str())
    .fetch_all(&mut **db)
    .await
    .doing("look for earlier runs")?;
    let failed = before.iter().find(|(state, _)| state == "failed");
    let failed: Option<Order> = failed
        .map(|(_, document)| stored("order", document))
        .transpose()?;
    let is_lacking = warrants::is_lacking(db, &device.id, &deployment.name, claimant).await?;
    // Whoever is in the middle of a run has had its warrant, and goes on with that one.
    let is_begun = failed
        .as_ref()
        .is_some_and(|failed| warrants::is_in_the_middle_of(claimant, failed.run));
    if is_lacking && !is_begun {
        queue::leave(db, &device.id).await?;
        return Ok(waits_for_warrant(&deployment.name));
    }
    if before.is_empty()
        && let Some(said) = over_cap(state, db, device, deployment).await?
    {
        return Ok(Errand::nothing(said));
    }
    let site = device.place();
    let slots = usize::try_from(deployment.slots).unwrap_or(usize::MAX);
    let limits = [
        (Limit::Deployment(deployment.name.as_str()), slots),
        (Limit::Site(site), slots_of(db, site).await?),
    ];
    let names = (site, deployment.name.as_str());
    if let Some((said, retry_seconds)) =
        queue::ask(db, &device.id, names, &limits, now_ms()).await?
    {
        return Ok(Errand::Nothing {
            said,
            retry_seconds: Some(retry_seconds),
        });
    }
    let Some((version, order)) =
        make(db, device, claimant.body.staged.as_ref(), deployment).await?
    else {
        let deployment = deployment.name.to_string();
        return Ok(Errand::nothing(MachineReason::NoSequence { deployment }));
    };
    // A run that failed is tried again as it was, unless someone has mended what it runs.
    let failed = failed.filter(|failed| is_same_work(failed, &order));
    let goes_on = is_begun && failed.is_some();
    if !goes_on && let Some(waits) = lacks_secret(db, device, &deployment.name, &order).await? {
        queue::leave(db, &device.id).await?;
        return Ok(waits);
    }
    if let Some(failed) = failed {
        return Ok(Errand::Run(Task::new(failed)));
    }
    if is_lacking {
        queue::leave(db, &device.id).await?;
        return Ok(waits_for_warrant(&deployment.name));
    }
    store(db, device, deployment, version, &order, evidence).await?;
    Ok(Errand::Run(Task::new(order)))
}

/// Makes a run from `deployment` whatever became of earlier ones; `None` if its sequence is gone.
pub(crate) async fn anew(
    db: &mut Write,
    device: &StoredDevice,
    deployment: &Deployment,
    evidence: &[Evidence],
) -> Result<Option<RunId>, Failure> {
    let staged = match device.staged.as_str() {
        "" => None,
        document => Some(stored("list of what is staged", document)?),
    };
    let Some((version, order)) = make(db, device, staged.as_ref(), deployment).await? else {
        return Ok(None);
    };
    store(db, device, deployment, version, &order, evidence).await?;
    Ok(Some(order.run))
}

/// Whether a new order would ask for what the failed one did. What is staged is left out: it is told at one check-in
/// and may be missing at the next.
fn is_same_work(failed: &Order, order: &Order) -> bool {
    let settings = |order: &Order| {
        let mut variables = order.variables.clone();
        variables.remove(STAGED_NAME);
        variables
    };
    failed.sequence == order.sequence
        && failed.packages == order.packages
        && settings(failed) == settings(order)
}

/// Tells the audit and others that a cap is reached: once, until the deployment is changed. Its machines ask every minute.
async fn tell_of_cap(
    db: &mut Write,
    device: &StoredDevice,
    deployment: &Deployment,
    reach: DeploymentReach,
) -> Result<(), Failure> {
    let told = sqlx::query("UPDATE deployments SET cap_told = 1 WHERE name = $1 AND cap_told = 0")
        .bind(deployment.name.as_str())
        .execute(&mut **db)
        .await
        .doing("note that a cap is reached")?;
    if told.rows_affected() == 0 {
        return Ok(());
    }
    let detail = format!(
        "device {}: {} of {} touched",
        device.serial, reach.touched, deployment.cap
    );
    let name = deployment.name.as_str();
    audit(db, "server", "cap-reached", name, &detail).await?;
    let data = json!({ "deployment": deployment.name, "cap": deployment.cap });
    emit(db, WebhookEvent::DeploymentCapReached, data).await
}

/// Why no further device begins, if the deployment would touch more than it may. That it has touched as many is known
/// exactly; how many it would touch is counted from members of some seconds ago.
async fn over_cap(
    state: &AppState,
    db: &mut Write,
    device: &StoredDevice,
    deployment: &Deployment,
) -> Result<Option<MachineReason>, Failure> {
    let reach = reach_of(state, db, deployment).await?;
    let cap = usize::try_from(deployment.cap).unwrap_or(usize::MAX);
    let name = deployment.name.to_string();
    let said = if reach.touched >= cap {
        MachineReason::CapReached {
            deployment: name,
            cap: deployment.cap,
        }
    } else if reach.all > cap {
        MachineReason::OverCap {
            deployment: name,
            reach: reach.all as u64,
            cap: deployment.cap,
        }
    } else {
        return Ok(None);
    };
    tell_of_cap(db, device, deployment, reach).await?;
    Ok(Some(said))
}

/// How many devices a deployment has touched, and would touch with all that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeploymentReach {
    pub(crate) touched: usize,
    pub(crate) all: usize,
}

/// Counts them.
pub(crate) async fn reach_of(
    state: &AppState,
    db: &mut sqlx::AnyConnection,
    deployment: &Deployment,
) -> Result<DeploymentReach, Failure> {
    let touched: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT device FROM runs WHERE deployment = $1")
            .bind(deployment.name.as_str())
            .fetch_all(&mut *db)
            .await
            .doing("count the devices of a deployment")?;
    let cancelled: Vec<String> =
        sqlx::query_scalar("SELECT device FROM deployment_cancelled WHERE deployment = $1")
            .bind(deployment.name.as_str())
            .fetch_all(&mut *db)
            .await
            .doing("read which devices are left alone")?;
    let members = state.members().members(db, &deployment.collection).await?;
    let touched: BTreeSet<&str> = touched.iter().map(String::as_str).collect();
    let cancelled: BTreeSet<&str> = cancelled.iter().map(String::as_str).collect();
    let further = members
        .iter()
        .filter(|id| !touched.contains(id.as_str()) && !cancelled.contains(id.as_str()))
        .count();
    Ok(DeploymentReach {
        touched: touched.len(),
        all: touched.len() + further,
    })
}

async fn make(
    db: &mut Write,
    device: &StoredDevice,
    staged: Option<&Staged>,
    deployment: &Deployment,
) -> Result<Option<(i64, Order)>, Failure> {
    let Some((version, sequence)) = latest_sequence(db, &deployment.sequence).await? else {
        return Ok(None);
    };
    let published = current_packages(db).await?;
    let names = ScopeNames::of(device, Some(&deployment.collection));
    let scoped = scoped_for(db, &names).await?;
    let known = device_values(device, staged)?;
    let variables: BTreeMap<String, Value> = layered(Some(&sequence), &names, &scoped, known)
        .into_iter()
        .map(|(name, value, _)| (name, value))
        .collect();
    let stage = sequence::derive::stage_sequence(&sequence);
    let selection =
        sequence::select::select(&sequence, &stage, &device.model(), &variables, &published);
    let device_id: DeviceId = stored_text("device id", &device.id)?;
    let there = expected::of_site(db, device.place()).await?;
    let (expected_seconds, _) = expected::expected(deployment.expected_seconds, there, None);
    let order = Order {
        format: 1,
        run: RunId::random(),
        device: device_id,
        deployment: Some(deployment.name.clone()),
        sequence,
        variables,
        packages: selection
            .kept
            .into_iter()
            .map(|(package, _)| package)
            .collect(),
        expected_seconds,
    };
    Ok(Some((version, order)))
}

/// A sequence at its latest version, with that.
pub(crate) async fn latest_sequence(
    db: &mut AnyConnection,
    name: &SequenceName,
) -> Result<Option<(i64, CompiledSequence)>, Failure> {
    let found: Option<(i64, String)> = sqlx::query_as(
        "SELECT version, compiled FROM sequences WHERE name = $1 ORDER BY version DESC LIMIT 1",
    )
    .bind(name.as_str())
    .fetch_optional(&mut *db)
    .await
    .doing("read a sequence")?;
    match found {
        Some((version, compiled)) => Ok(Some((version, stored("sequence", &compiled)?))),
        None => Ok(None),
    }
}

/// What the server knows of site, class and device, for templates and conditions.
pub(crate) fn device_values(
    device: &StoredDevice,
    staged: Option<&Staged>,
) -> Result<Vec<(&'static str, Value)>, Failure> {
    let staged = match staged {
        Some(staged) => serde_json::to_value(staged).map_err(|source| Failure::System {
            what: "write what is staged",
            source: source.into(),
        })?,
        None => Value::Null,
    };
    Ok(vec![
        (
            "site",
            json!({ "code": device.site, "name": device.site_name }),
        ),
        ("class", json!(device.class)),
        (
            "asset",
            json!({ "serial": device.serial, "tag": device.asset_tag }),
        ),
        ("serial", json!(device.serial)),
        ("asset_tag", json!(device.asset_tag)),
        (
            "assigned_name",
            match device.assigned_name.as_str() {
                "" => Value::Null,
                name => json!(name),
            },
        ),
        (STAGED_NAME, staged),
    ])
}

/// Every package at the version that new orders use.
pub(crate) async fn current_packages(db: &mut AnyConnection) -> Result<Vec<Package>, Failure> {
    let documents: Vec<String> = sqlx::query_scalar(
        "SELECT packages.document FROM packages JOIN package_current \
         ON package_current.name = packages.name AND package_current.version = packages.version \
         ORDER BY packages.name",
    )
    .fetch_all(&mut *db)
    .await
    .doing("read the current packages")?;
    documents
        .iter()
        .map(|document| stored("package", document))
        .collect()
}

async fn store(
    db: &mut Write,
    device: &StoredDevice,
    deployment: &Deployment,
    version: i64,
    order: &Order,
    evidence: &[Evidence],
) -> Result<(), Failure> {
    let now = now_ms();
    sqlx::query(
        "INSERT INTO runs (id, device, deployment, sequence, sequence_version, order_document, state, stop, take, \
         acknowledged, server_bytes, identity, started_at_ms, ended_at_ms, last_seen_at_ms, host_name) \
         VALUES ($1, $2, $3, $4, $5, $6, 'running', 0, 1, 0, 0, $7, $8, 0, $8, '')",
    )
    .bind(order.run.to_string())
    .bind(&device.id)
    .bind(deployment.name.as_str())
    .bind(deployment.sequence.as_str())
    .bind(version)
    .bind(to_json("write an order", order)?)
    .bind(to_json("write evidence", &evidence)?)
    .bind(now)
    .execute(&mut **db)
    .await
    .doing("store a run")?;
    let detail = format!("{} on {}", deployment.name, device.serial);
    audit(db, "server", "run-ordered", &order.run.to_string(), &detail).await
}
