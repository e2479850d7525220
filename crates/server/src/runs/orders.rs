//! Orders: what a recognised device is to run.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wire::admin_api::{Deployment, Purpose};
use wire::device_api::Staged;
use wire::names::{DeviceId, RunId, SequenceName};
use wire::order::Order;
use wire::package::Package;
use wire::sequence::CompiledSequence;
use wire::webhooks::WebhookEvent;

use crate::db::Write;
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::fleet::targeting::queue::{self, Limit};
use crate::fleet::targeting::sites::slots_of;
use crate::fleet::variables::{ScopeNames, layered, scoped_for};
use crate::people::audit::audit;
use crate::runs::rows::StoredDevice;
use crate::state::now_ms;
use crate::webhooks::outbox::emit;

/// The variable that says what was staged on the device.
pub(crate) const STAGED_NAME: &str = "staged";

/// What a device that has checked in is to do.
pub(crate) enum Errand {
    /// Run this.
    Run(Task),
    /// Nothing; why, for its screen and the overview.
    Nothing {
        message: String,
        /// When to ask again, for one that waits for its turn.
        retry_seconds: Option<u64>,
    },
}

impl Errand {
    const fn nothing(message: String) -> Self {
        Self::Nothing {
            message,
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
}

impl Task {
    fn new(order: Order) -> Self {
        Self {
            order: Box::new(order),
            go_on: false,
            stop: false,
        }
    }
}

/// Finds the run to go on with, or makes one from the oldest deployment that is due.
pub(crate) async fn order_for(
    db: &mut Write,
    device: &StoredDevice,
    staged: Option<&Staged>,
    evidence: &[String],
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
        return Ok(Errand::Run(Task {
            go_on: true,
            stop: stop != 0,
            ..Task::new(stored("order", &document)?)
        }));
    }
    let deployments: Vec<(String,)> = sqlx::query_as(
        "SELECT deployments.document FROM deployments \
         JOIN collection_members ON collection_members.collection = deployments.collection \
         WHERE collection_members.device = $1 AND deployments.stopped = 0 \
         ORDER BY deployments.created_at_ms, deployments.name",
    )
    .bind(&device.id)
    .fetch_all(&mut **db)
    .await
    .doing("look for deployments")?;
    let mut nothing = Errand::nothing(
        "nothing to do: it is in no collection with a required deployment".to_owned(),
    );
    for (document,) in &deployments {
        let deployment: Deployment = stored("deployment", document)?;
        if deployment.purpose != Purpose::Required {
            continue;
        }
        match from_deployment(db, device, staged, evidence, &deployment).await? {
            why @ Errand::Nothing { .. } => nothing = why,
            run @ Errand::Run(_) => return Ok(run),
        }
    }
    Ok(nothing)
}

async fn from_deployment(
    db: &mut Write,
    device: &StoredDevice,
    staged: Option<&Staged>,
    evidence: &[String],
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
    // The latest counts: an admin may have had it run once more.
    let latest = before.first().map(|(state, _)| state.as_str());
    if latest == Some("completed") {
        return Ok(Errand::nothing(format!(
            "nothing to do: deployment {} is done on this device",
            deployment.name
        )));
    }
    if latest == Some("aborted") {
        return Ok(Errand::nothing(format!(
            "deployment {} was stopped on this device",
            deployment.name
        )));
    }
    if before.is_empty() && is_at_cap(db, deployment).await? {
        let message = format!(
            "deployment {} has reached its cap of {} devices",
            deployment.name, deployment.cap
        );
        audit(
            db,
            "server",
            "cap-reached",
            deployment.name.as_str(),
            &format!("device {}", device.serial),
        )
        .await?;
        tell_of_cap(db, deployment).await?;
        return Ok(Errand::nothing(message));
    }
    let site = device.place();
    let slots = usize::try_from(deployment.slots).unwrap_or(usize::MAX);
    let limits = [
        (Limit::Deployment(deployment.name.as_str()), slots),
        (Limit::Site(site), slots_of(db, site).await?),
    ];
    let names = (site, deployment.name.as_str());
    if let Some((message, retry_seconds)) =
        queue::ask(db, &device.id, names, &limits, now_ms()).await?
    {
        return Ok(Errand::Nothing {
            message,
            retry_seconds: Some(retry_seconds),
        });
    }
    let Some((version, order)) = make(db, device, staged, deployment).await? else {
        return Ok(Errand::nothing(format!(
            "deployment {} has no sequence to run",
            deployment.name
        )));
    };
    // A run that failed is tried again as it was, unless someone has mended what it runs.
    if let Some((_, document)) = before.iter().find(|(state, _)| state == "failed") {
        let failed: Order = stored("order", document)?;
        if is_same_work(&failed, &order) {
            return Ok(Errand::Run(Task::new(failed)));
        }
    }
    store(db, device, deployment, version, &order, evidence).await?;
    Ok(Errand::Run(Task::new(order)))
}

/// Makes a run from `deployment` whatever became of earlier ones; `None` if its sequence is gone.
pub(crate) async fn anew(
    db: &mut Write,
    device: &StoredDevice,
    deployment: &Deployment,
    evidence: &[String],
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

/// Tells others that a cap is reached: once, until the deployment is changed.
async fn tell_of_cap(db: &mut Write, deployment: &Deployment) -> Result<(), Failure> {
    let told = sqlx::query("UPDATE deployments SET cap_told = 1 WHERE name = $1 AND cap_told = 0")
        .bind(deployment.name.as_str())
        .execute(&mut **db)
        .await
        .doing("note that a cap is reached")?;
    if told.rows_affected() == 0 {
        return Ok(());
    }
    let data = json!({ "deployment": deployment.name, "cap": deployment.cap });
    emit(db, WebhookEvent::DeploymentCapReached, data).await
}

async fn is_at_cap(db: &mut Write, deployment: &Deployment) -> Result<bool, Failure> {
    let touched: i64 =
        sqlx::query_scalar("SELECT COUNT(DISTINCT device) FROM runs WHERE deployment = $1")
            .bind(deployment.name.as_str())
            .fetch_one(&mut **db)
            .await
            .doing("count the devices of a deployment")?;
    Ok(touched >= i64::from(deployment.cap))
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
        expected_seconds: deployment.expected_seconds,
    };
    Ok(Some((version, order)))
}

/// A sequence at its latest version, with that.
pub(crate) async fn latest_sequence(
    db: &mut Write,
    name: &SequenceName,
) -> Result<Option<(i64, CompiledSequence)>, Failure> {
    let found: Option<(i64, String)> = sqlx::query_as(
        "SELECT version, compiled FROM sequences WHERE name = $1 ORDER BY version DESC LIMIT 1",
    )
    .bind(name.as_str())
    .fetch_optional(&mut **db)
    .await
    .doing("read a sequence")?;
    match found {
        Some((version, compiled)) => Ok(Some((version, stored("sequence", &compiled)?))),
        None => Ok(None),
    }
}

/// The deployment that each device runs, or would begin at its next check-in; by device id. Caps are left out: that one
/// is reached doesn't change what is due.
pub(crate) async fn due_deployments(
    db: &mut Write,
    device: Option<&str>,
) -> Result<BTreeMap<String, Deployment>, Failure> {
    let waiting: Vec<(String, String)> = sqlx::query_as(
        "SELECT collection_members.device, deployments.document FROM deployments \
         JOIN collection_members ON collection_members.collection = deployments.collection \
         WHERE deployments.stopped = 0 AND ($1 = '' OR collection_members.device = $1) AND COALESCE( \
         (SELECT runs.state FROM runs WHERE runs.device = collection_members.device \
         AND runs.deployment = deployments.name ORDER BY runs.started_at_ms DESC, runs.id LIMIT 1), '') \
         NOT IN ('completed', 'aborted') \
         ORDER BY deployments.created_at_ms, deployments.name",
    )
    .bind(device.unwrap_or_default())
    .fetch_all(&mut **db)
    .await
    .doing("look for deployments that are due")?;
    let running: Vec<(String, String)> = sqlx::query_as(
        "SELECT runs.device, deployments.document FROM runs JOIN deployments ON deployments.name = runs.deployment \
         WHERE runs.state = 'running' AND ($1 = '' OR runs.device = $1) ORDER BY runs.started_at_ms",
    )
    .bind(device.unwrap_or_default())
    .fetch_all(&mut **db)
    .await
    .doing("look for runs that go on")?;
    let mut due = BTreeMap::new();
    for (device, document) in waiting {
        let deployment: Deployment = stored("deployment", &document)?;
        if deployment.purpose == Purpose::Required {
            due.entry(device).or_insert(deployment);
        }
    }
    for (device, document) in running {
        due.insert(device, stored("deployment", &document)?);
    }
    Ok(due)
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
pub(crate) async fn current_packages(db: &mut Write) -> Result<Vec<Package>, Failure> {
    let documents: Vec<String> = sqlx::query_scalar(
        "SELECT packages.document FROM packages JOIN package_current \
         ON package_current.name = packages.name AND package_current.version = packages.version \
         ORDER BY packages.name",
    )
    .fetch_all(&mut **db)
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
    evidence: &[String],
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
