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
use wire::sequence::CompiledSequence;

use crate::error::{Doing as _, Failure, stored};
use crate::fleet::targeting::membership::Definitions;
use crate::fleet::targeting::rules;
use crate::limits::JSON_BYTES_MAX;
use crate::routes::read_json;
use crate::runs::due::{self, Standing};
use crate::runs::orders::{current_packages, latest_sequence, reach_of};
use crate::runs::rows::StoredDevice;
use crate::state::{AppState, now_ms};

/// Runs that a median is taken of.
const MEDIAN_OF_MAX: i64 = 5000;

/// `POST /api/v1/deployments/preview`
pub(crate) async fn preview(
    State(state): State<AppState>,
    body: Body,
) -> Result<Json<DeploymentPreview>, Failure> {
    let deployment: Deployment = read_json(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    preview_of(&state, &mut db, &deployment).await.map(Json)
}

/// Members of its collection that a deployment would begin on, and the others by reason.
struct Sorted {
    members: Vec<StoredDevice>,
    due: usize,
    held: BTreeMap<String, Vec<String>>,
}

/// What a deployment would do now.
pub(crate) async fn preview_of(
    state: &AppState,
    db: &mut crate::db::Write,
    deployment: &Deployment,
) -> Result<DeploymentPreview, Failure> {
    let Some((_, sequence)) = latest_sequence(db, &deployment.sequence).await? else {
        let what = format!("sequence {}", deployment.sequence);
        return Err(Failure::not_found(what).hint("store it first"));
    };
    let sorted = sort(db, deployment).await?;
    let reach = reach_of(state, db, deployment).await?;
    let wiping_steps = wiping_steps(&sequence);
    let packages = current_packages(db).await?;
    let prestages = prestages(db).await?;
    let models = models(&sorted.members, &sequence, &packages, &prestages);
    let due = number(sorted.due);
    let wipes = !wiping_steps.is_empty();
    let mut preview = DeploymentPreview {
        name: deployment.name.clone(),
        members: number(sorted.members.len()),
        due,
        touched: number(reach.touched),
        wipes,
        wiping_steps,
        confirm: (wipes && due > 0).then(|| format!("{} {due}", deployment.name)),
        median_seconds: median_seconds(db, deployment.sequence.as_str()).await?,
        warnings: Vec::new(),
        held: sorted.held.into_iter().map(affected).collect(),
        models,
    };
    preview.warnings = warnings(deployment, &preview, reach.all);
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
    let mut sorted = Sorted {
        members: Vec::new(),
        due: 0,
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
        match due::is_due(&without_window(deployment), &standing) {
            Ok(()) => sorted.due += 1,
            Err(not) => {
                let held = sorted.held.entry(not.reason.to_owned()).or_default();
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

pub(crate) fn affected((reason, mut serials): (String, Vec<String>)) -> Affected {
    let devices = number(serials.len());
    serials.truncate(NAMED_MAX);
    Affected {
        reason,
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
                missing.push("no driver package matches it".to_owned());
            }
            let own: Vec<_> = prestages
                .iter()
                .filter(|(_, wanted, _)| fits(wanted, &model))
                .collect();
            if !own.is_empty() && !own.iter().any(|(_, _, is_built)| *is_built) {
                missing.push(format!("prestage {} was never built", own[0].0));
            }
            ModelPreview {
                model: model.to_string(),
                devices,
                has_prestage: !own.is_empty(),
                missing,
            }
        })
        .collect()
}

fn warnings(deployment: &Deployment, preview: &DeploymentPreview, reach: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if preview.members == 0 {
        warnings.push(format!(
            "collection {} has no members yet",
            deployment.collection
        ));
    }
    if reach > usize::try_from(deployment.cap).unwrap_or(usize::MAX) {
        warnings.push(format!(
            "it would touch {reach} devices and its cap is {}: no device begins until the cap is raised",
            deployment.cap
        ));
    }
    if !deployment.leave_collection_on_success {
        warnings.push(
            "devices stay in the collection when they are done: whatever is deployed to it next reaches them, too"
                .to_owned(),
        );
    }
    if let Some(median) = preview.median_seconds
        && deployment.expected_seconds > 0
        && (median > deployment.expected_seconds * 2 || median * 2 < deployment.expected_seconds)
    {
        let expected = deployment.expected_seconds;
        warnings.push(format!(
            "earlier runs took {median} s (median), and {expected} s are expected"
        ));
    }
    for model in &preview.models {
        if !model.has_prestage {
            warnings.push(format!(
                "no prestage is defined for {} ({} devices): they fetch everything over the network",
                model.model, model.devices
            ));
        }
        for missing in &model.missing {
            warnings.push(format!(
                "{} ({} devices): {missing}",
                model.model, model.devices
            ));
        }
    }
    warnings
}
