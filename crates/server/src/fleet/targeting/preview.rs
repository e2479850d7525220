//! What a deployment would do, before it is made: how many machines, which of them are held back and why, what is missing.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use jiff::tz::TimeZone;
use sqlx::AnyConnection;
use wire::admin_api::{Deployment, PrestageDefinition};
use wire::collections::MemberWhy;
use wire::deployments::{Affected, DeploymentPreview, ModelPreview, NAMED_MAX};
use wire::package::{Model, Package, PackageKind};
use wire::reasons::{MemberReason, MissingReason, WarningReason, texts};
use wire::sequence::CompiledSequence;

use crate::error::{Doing as _, Failure, stored};
use crate::fleet::deployments::reaches_more;
use crate::fleet::targeting::lifecycle::{look_up, stopped_with};
use crate::fleet::targeting::membership::Definitions;
use crate::fleet::targeting::rules;
use crate::limits::JSON_BYTES_MAX;
use crate::routes::read_json;
use crate::runs::due::{self, Standing};
use crate::runs::orders::{current_packages, latest_sequence, reach_of};
use crate::runs::rows::StoredDevice;
use crate::runs::warrants;
use crate::state::{AppState, now_ms};
use crate::vault::{self, Unset};

/// Runs that a median is taken of.
const MEDIAN_OF_MAX: i64 = 5000;

/// `POST /api/v1/deployments/preview`
pub(crate) async fn preview(
    State(state): State<AppState>,
    body: Body,
) -> Result<Json<DeploymentPreview>, Failure> {
    let deployment: Deployment = read_json(body, JSON_BYTES_MAX).await?;
    state.deployment_preview(&deployment).await.map(Json)
}

impl AppState {
    /// What a deployment would do now.
    pub(crate) async fn deployment_preview(
        &self,
        deployment: &Deployment,
    ) -> Result<DeploymentPreview, Failure> {
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read what a deployment would do")?;
        preview_of(self, &mut db, deployment).await
    }
}

/// Members of its collection, the machines that a deployment would begin on or go on with, and the others by reason.
struct Sorted {
    members: Vec<StoredDevice>,
    due: BTreeSet<String>,
    /// Those of them that have a run of it already.
    begun: BTreeSet<String>,
    held: BTreeMap<MemberReason, Vec<String>>,
}

/// The words that a person types before a deployment may do what it would do now, if it wants any.
pub(crate) async fn to_confirm(
    db: &mut AnyConnection,
    deployment: &Deployment,
) -> Result<Option<String>, Failure> {
    let sequence = sequence_of(db, deployment).await?;
    let due = sort(db, deployment).await?.due.len();
    let before = look_up(db, &deployment.name).await?;
    let wipes = !wiping_steps(&sequence).is_empty();
    Ok(words(deployment, before.as_ref(), wipes, due))
}

/// Whoever lets more machines be touched types how many that may become, whatever is done to them. Whoever lets disks be
/// written over types how many those are: where nobody is yet, as many as ever may come.
fn words(
    deployment: &Deployment,
    before: Option<&Deployment>,
    wipes: bool,
    due: usize,
) -> Option<String> {
    let (name, cap) = (&deployment.name, deployment.cap);
    if before.is_some_and(|before| cap > before.cap) {
        return Some(format!("{name} {cap}"));
    }
    let machines = if due == 0 { cap } else { number(due) };
    (wipes && !deployment.stopped).then(|| format!("{name} {machines}"))
}

async fn sequence_of(
    db: &mut AnyConnection,
    deployment: &Deployment,
) -> Result<CompiledSequence, Failure> {
    let latest = latest_sequence(db, &deployment.sequence).await?;
    latest.map(|(_, sequence)| sequence).ok_or_else(|| {
        let what = format!("sequence {}", deployment.sequence);
        Failure::not_found(what).hint("store it first")
    })
}

async fn preview_of(
    state: &AppState,
    db: &mut AnyConnection,
    deployment: &Deployment,
) -> Result<DeploymentPreview, Failure> {
    let sequence = sequence_of(db, deployment).await?;
    let sorted = sort(db, deployment).await?;
    let before = look_up(db, &deployment.name).await?;
    let reach = reach_of(state, db, deployment).await?;
    let wiping_steps = wiping_steps(&sequence);
    let packages = current_packages(db).await?;
    let prestages = prestages(db).await?;
    let models = models(&sorted.members, &sequence, &packages, &prestages);
    let wipes = !wiping_steps.is_empty();
    let may_reach_more = before
        .as_ref()
        .is_none_or(|before| reaches_more(before, deployment));
    let second_person = !deployment.stopped
        && may_reach_more
        && state.needs_second(db, deployment, deployment.cap).await?;
    let waiting = waiting(db, deployment, &sequence, &sorted).await?;
    let mut preview = DeploymentPreview {
        name: deployment.name.clone(),
        members: number(sorted.members.len()),
        due: number(sorted.due.len()),
        touched: number(reach.touched),
        wipes,
        wiping_steps,
        confirm: words(deployment, before.as_ref(), wipes, sorted.due.len()),
        second_person,
        median_seconds: median_seconds(db, deployment.sequence.as_str()).await?,
        warnings: Vec::new(),
        said: Vec::new(),
        held: sorted.held.into_iter().map(affected).collect(),
        models,
    };
    preview.said = warnings(deployment, &preview, reach.all);
    preview.said.extend(waiting);
    preview.warnings = texts(&preview.said);
    Ok(preview)
}

async fn sort(db: &mut AnyConnection, deployment: &Deployment) -> Result<Sorted, Failure> {
    let definitions = Definitions::read(db, None).await?;
    if !definitions.knows(&deployment.collection) {
        let what = format!("collection {}", deployment.collection);
        return Err(Failure::not_found(what).hint("create it first"));
    }
    let subjects = rules::subjects(db, None).await?;
    let latest = due::latest_states(db, None).await?;
    let cancelled = due::cancelled(db, None).await?;
    let zones = due::zones(db).await?;
    let utc = TimeZone::UTC;
    let stopped = stopped_with(db, &deployment.name).await?;
    let mut sorted = Sorted {
        members: Vec::new(),
        due: stopped.iter().map(|(_, id)| id.to_string()).collect(),
        begun: BTreeSet::new(),
        held: BTreeMap::new(),
    };
    for subject in subjects {
        let verdict = definitions.judge(&deployment.collection, &subject);
        let device = subject.device;
        if !verdict.is_in {
            let excluded = matches!(
                verdict.why,
                MemberWhy::Excluded
                    | MemberWhy::OutOfUse
                    | MemberWhy::Limited
                    | MemberWhy::Undecided
            );
            if excluded {
                sorted
                    .held
                    .entry(verdict.reason)
                    .or_default()
                    .push(device.serial);
            }
            continue;
        }
        let key = (device.id.clone(), deployment.name.to_string());
        let standing = Standing {
            latest: latest.get(&key).map(String::as_str),
            is_cancelled: cancelled.contains(&key),
            zone: zones.get(device.place()).unwrap_or(&utc),
            now: now_ms(),
        };
        if standing.latest.is_some() {
            sorted.begun.insert(device.id.clone());
        }
        match due::is_due(&without_window(deployment), &standing) {
            Ok(()) => {
                sorted.due.insert(device.id.clone());
            }
            Err(_) if sorted.due.contains(&device.id) => {}
            Err(not) => {
                let held = sorted.held.entry(not.reason).or_default();
                held.push(device.serial.clone());
            }
        }
        sorted.members.push(device);
    }
    Ok(sorted)
}

/// That a window is closed now doesn't change whom a deployment reaches.
fn without_window(deployment: &Deployment) -> Deployment {
    Deployment {
        window: None,
        ..deployment.clone()
    }
}

pub(crate) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) fn affected((reason, mut serials): (MemberReason, Vec<String>)) -> Affected {
    let devices = number(serials.len());
    serials.truncate(NAMED_MAX);
    Affected {
        reason: reason.to_string(),
        said: Some(reason),
        devices,
        serials,
    }
}

/// The steps of a sequence that write over what a disk held.
pub(crate) fn wiping_steps(sequence: &CompiledSequence) -> Vec<String> {
    let wipes = |kind: &str| sequence::steps::step_type(kind).is_some_and(|kind| kind.wipes);
    sequence
        .steps
        .iter()
        .filter(|step| wipes(&step.kind))
        .map(|step| step.path.to_string())
        .collect()
}

/// The middle of the durations of a sequence's completed runs.
pub(crate) async fn median_seconds(
    db: &mut AnyConnection,
    sequence: &str,
) -> Result<Option<u64>, Failure> {
    let mut took: Vec<i64> = sqlx::query_scalar(
        "SELECT ended_at_ms - started_at_ms FROM runs WHERE sequence = $1 AND state = 'completed' \
         ORDER BY ended_at_ms DESC LIMIT $2",
    )
    .bind(sequence)
    .bind(MEDIAN_OF_MAX)
    .fetch_all(db)
    .await
    .doing("read how long runs took")?;
    took.sort_unstable();
    let middle = took.get(took.len() / 2);
    Ok(middle.and_then(|ms| u64::try_from(ms / 1000).ok()))
}

/// Every prestage: its name, the model it is for, whether it was ever built.
pub(crate) type Prestages = Vec<(String, Model, bool)>;

pub(crate) async fn prestages(db: &mut AnyConnection) -> Result<Prestages, Failure> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, definition FROM prestages ORDER BY name")
            .fetch_all(&mut *db)
            .await
            .doing("read the prestages")?;
    let built: Vec<String> = sqlx::query_scalar("SELECT DISTINCT prestage FROM prestage_versions")
        .fetch_all(db)
        .await
        .doing("read which prestages are built")?;
    let built: BTreeSet<String> = built.into_iter().collect();
    rows.into_iter()
        .map(|(name, definition)| {
            let definition: PrestageDefinition = stored("prestage", &definition)?;
            let is_built = built.contains(&name);
            Ok((name, definition.model, is_built))
        })
        .collect()
}

/// Whether a prestage's model says this one: what it leaves empty fits any.
pub(crate) fn fits(wanted: &Model, model: &Model) -> bool {
    let pairs = [
        (&wanted.vendor, &model.vendor),
        (&wanted.product, &model.product),
        (&wanted.sku, &model.sku),
        (&wanted.baseboard, &model.baseboard),
    ];
    let same = |a: &str, b: &str| a.trim().to_lowercase() == b.trim().to_lowercase();
    pairs
        .iter()
        .all(|(wanted, is)| wanted.is_empty() || is.is_empty() || same(wanted, is))
}

fn models(
    members: &[StoredDevice],
    sequence: &CompiledSequence,
    packages: &[Package],
    prestages: &Prestages,
) -> Vec<ModelPreview> {
    let mut counts: BTreeMap<Model, u32> = BTreeMap::new();
    for device in members {
        *counts.entry(device.model()).or_insert(0) += 1;
    }
    let wants_drivers = sequence
        .steps
        .iter()
        .any(|step| step.kind == "apply-drivers");
    counts
        .into_iter()
        .map(|(model, devices)| {
            let mut missing = Vec::new();
            let has_drivers = packages.iter().any(|package| {
                package.kind == PackageKind::Driver
                    && package.models.iter().any(|rule| rule.matches(&model))
            });
            if wants_drivers && !has_drivers {
                missing.push(MissingReason::NoDrivers);
            }
            let own: Vec<_> = prestages
                .iter()
                .filter(|(_, wanted, _)| fits(wanted, &model))
                .collect();
            if !own.is_empty() && !own.iter().any(|(_, _, is_built)| *is_built) {
                let prestage = own[0].0.clone();
                missing.push(MissingReason::NeverBuilt { prestage });
            }
            ModelPreview {
                model: model.to_string(),
                devices,
                has_prestage: !own.is_empty(),
                missing: texts(&missing),
                said: missing,
            }
        })
        .collect()
}

/// What machines would wait for that only a person can give.
async fn waiting(
    db: &mut AnyConnection,
    deployment: &Deployment,
    sequence: &CompiledSequence,
    sorted: &Sorted,
) -> Result<Vec<WarningReason>, Failure> {
    let due = |device: &&StoredDevice| sorted.due.contains(&device.id);
    let due: Vec<&StoredDevice> = sorted.members.iter().filter(due).collect();
    // Whoever has begun goes on with the order that it has.
    let beginning = due
        .iter()
        .copied()
        .filter(|device| !sorted.begun.contains(&device.id));
    let unset = vault::would_lack(db, beginning, sequence).await?;
    let secrets =
        unset.into_iter().map(
            |(secret, Unset { devices, sites })| WarningReason::NeedSecret {
                secret: secret.to_string(),
                devices,
                sites: sites.into_iter().collect::<Vec<_>>().join(", "),
            },
        );
    let due = due.iter().map(|device| device.id.as_str());
    let devices = warrants::would_wait(db, &deployment.name, due).await?;
    let warrants = (devices > 0).then_some(WarningReason::NeedWarrants { devices });
    Ok(warrants.into_iter().chain(secrets).collect())
}

fn warnings(
    deployment: &Deployment,
    preview: &DeploymentPreview,
    reach: usize,
) -> Vec<WarningReason> {
    let mut warnings = Vec::new();
    if preview.members == 0 {
        let collection = deployment.collection.to_string();
        warnings.push(WarningReason::NoMembers { collection });
    }
    let (reach, cap) = (reach as u64, deployment.cap);
    if reach > u64::from(cap) {
        warnings.push(WarningReason::OverCap { reach, cap });
    }
    if !deployment.leave_collection_on_success {
        warnings.push(WarningReason::StaysIn);
    }
    let expected = deployment.expected_seconds;
    if let Some(median) = preview.median_seconds
        && expected > 0
        && (median > expected * 2 || median * 2 < expected)
    {
        warnings.push(WarningReason::OtherDuration { median, expected });
    }
    for preview in &preview.models {
        let (model, devices) = (&preview.model, preview.devices);
        if !preview.has_prestage {
            let model = model.clone();
            warnings.push(WarningReason::NoPrestage { model, devices });
        }
        for missing in &preview.said {
            let model = model.clone();
            warnings.push(match missing.clone() {
                MissingReason::NoDrivers => WarningReason::NoDrivers { model, devices },
                MissingReason::NoPrestage => continue,
                MissingReason::NeverBuilt { prestage } => WarningReason::NeverBuilt {
                    model,
                    devices,
                    prestage,
                },
                MissingReason::Text { text } => WarningReason::Text { text },
            });
        }
    }
    warnings
}
