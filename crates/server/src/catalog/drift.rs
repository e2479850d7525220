//! Drift: what changed since a prestage was built, and what staged devices will fetch for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use content::{Bundle, Library, Unverified};
use sequence::size;
use serde::Deserialize;
use serde_json::Value;
use sqlx::AnyConnection;
use wire::admin_api::PrestageVersion;
use wire::drift::{
    Change, PackageDifference, PackageDrift, PrestageDiff, PrestageDrift, PrestageId,
    StepDifference, VersionDrift,
};
use wire::names::{PackageName, PrestageName};
use wire::package::Package;
use wire::sequence::{CompiledSequence, CompiledStep};

use crate::catalog::keys::all_verifying;
use crate::catalog::prestages::{Draft, draft};
use crate::catalog::stock::{
    Carried, Lack, Stock, built, bytes_of, carried, packages_of, versions,
};
use crate::error::{Doing as _, Failure};
use crate::people::auth::User;
use crate::routes::parse;
use crate::state::{AppState, blocking};

/// Differences listed of one step; a script that was rewritten is one difference, not a hundred.
const DETAILS_MAX: usize = 20;
/// A value in a difference, in characters: the beginning of a script is enough to know it by.
const VALUE_CHARS_MAX: usize = 60;

/// Which versions are compared.
#[derive(Debug, Deserialize)]
pub(crate) struct Pair {
    pub(crate) from: String,
    pub(crate) to: String,
}

/// A version with its packages.
struct Side {
    version: PrestageVersion,
    packages: Vec<Package>,
}

/// `GET /api/v1/prestage-diff?from=NAME@N&to=NAME@M`
pub(crate) async fn diff(
    State(state): State<AppState>,
    Query(pair): Query<Pair>,
) -> Result<Json<PrestageDiff>, Failure> {
    let (from, to): (PrestageId, PrestageId) = (parse(&pair.from)?, parse(&pair.to)?);
    let mut db = state
        .db()
        .read()
        .acquire()
        .await
        .doing("read the versions of a prestage")?;
    let sides = (side(&mut db, &from).await?, side(&mut db, &to).await?);
    drop(db);
    let (before, after) = sides;
    let steps = match (
        factory_sequence(&state, &from).await?,
        factory_sequence(&state, &to).await?,
    ) {
        (Some(from), Some(to)) => Some(step_differences(&from, &to)),
        _ => None,
    };
    let library = state.library();
    let diff = blocking(move || {
        let (packages, unchanged) =
            package_differences(&library, &before.packages, &after.packages)?;
        Ok(PrestageDiff {
            from,
            to,
            from_bytes: before.version.bundle_bytes,
            to_bytes: after.version.bundle_bytes,
            packages,
            unchanged,
            steps,
        })
    })
    .await?;
    Ok(Json(diff))
}

async fn side(db: &mut AnyConnection, id: &PrestageId) -> Result<Side, Failure> {
    let Some(version) = built(db, id).await? else {
        return Err(Failure::not_found(format!("prestage {id}"))
            .hint("`forestage prestage list` shows what was built"));
    };
    let packages = packages_of(db, &version).await?;
    Ok(Side { version, packages })
}

fn package_differences(
    library: &Library,
    from: &[Package],
    to: &[Package],
) -> Result<(Vec<PackageDifference>, u32), Failure> {
    let stock = Stock::of(library, from)?;
    let (before, after) = (by_name(from), by_name(to));
    let names: BTreeSet<&PackageName> = before.keys().chain(after.keys()).copied().collect();
    let changed: Vec<_> = names
        .iter()
        .map(|name| (before.get(*name), after.get(*name)))
        .filter(|(before, after)| before != after)
        .collect();
    let lacks = changed
        .iter()
        .map(|(_, after)| match after {
            Some(package) => stock.lacks(library, package),
            None => Ok(Lack::default()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let bytes = bytes_of(&lacks.iter().collect::<Vec<_>>());
    let unchanged = u32::try_from(names.len() - changed.len()).unwrap_or(u32::MAX);
    let differences =
        changed
            .into_iter()
            .zip(bytes)
            .filter_map(|((before, after), fetch_bytes)| {
                let either = after.or(before)?;
                Some(PackageDifference {
                    name: either.name.clone(),
                    kind: either.kind,
                    from: before.map(|package| package.version.clone()),
                    to: after.map(|package| package.version.clone()),
                    from_bytes: before.map_or(0, |package| package.content_bytes),
                    to_bytes: after.map_or(0, |package| package.content_bytes),
                    fetch_bytes,
                })
            });
    Ok((differences.collect(), unchanged))
}

fn by_name(packages: &[Package]) -> BTreeMap<&PackageName, &Package> {
    packages
        .iter()
        .map(|package| (&package.name, package))
        .collect()
}

/// Which version is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    pub(crate) version: Option<u32>,
}

/// `GET /api/v1/prestages/{name}/drift?version=N`
pub(crate) async fn drift(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<PrestageDrift>, Failure> {
    let name: PrestageName = parse(&name)?;
    let today = draft(&state, &name).await?;
    let mut db = state
        .db()
        .read()
        .acquire()
        .await
        .doing("read the versions of a prestage")?;
    let fleet = Fleet::read(&mut db, &user, &name).await?;
    let mut chosen = versions(&mut db, &name).await?;
    let latest = chosen.first().map(|version| version.version);
    chosen.retain(|version| match wanted.version {
        Some(wanted) => version.version == wanted,
        None => fleet.devices.contains_key(&version.version) || Some(version.version) == latest,
    });
    if chosen.is_empty() {
        let what = match wanted.version {
            Some(version) => format!("prestage {name}@{version}"),
            None => format!("version of prestage {name}"),
        };
        return Err(
            Failure::not_found(what).hint("`forestage prestage build` builds the next version")
        );
    }
    let mut sides = Vec::with_capacity(chosen.len());
    for version in chosen {
        let packages = packages_of(&mut db, &version).await?;
        sides.push(Side { version, packages });
    }
    drop(db);
    let mut drifts = Vec::with_capacity(sides.len());
    for side in sides {
        drifts.push(version_drift(&state, side, &today, &fleet).await?);
    }
    Ok(Json(PrestageDrift {
        prestage: name,
        versions: drifts,
    }))
}

async fn version_drift(
    state: &AppState,
    side: Side,
    today: &Draft,
    fleet: &Fleet,
) -> Result<VersionDrift, Failure> {
    let Side { version, packages } = side;
    let id = PrestageId {
        prestage: version.prestage,
        version: version.version,
    };
    let steps = factory_sequence(state, &id)
        .await?
        .map(|staged| step_differences(&staged, &today.stage));
    let library = state.library();
    let (wanted, carried) = (today.wanted.clone(), today.packages.clone());
    let packages = blocking(move || package_drift(&library, &packages, &wanted, &carried)).await?;
    let (devices, deployed) = fleet.devices.get(&id.version).copied().unwrap_or_default();
    Ok(VersionDrift {
        version: id.version,
        built_at_ms: version.built_at_ms,
        devices,
        deployed,
        fetch_bytes: packages.iter().map(|package| package.fetch_bytes).sum(),
        packages,
        steps,
    })
}

/// How many devices carry each version of a prestage, and how many of them are deployed, as far as someone sees them.
struct Fleet {
    devices: BTreeMap<u32, (u32, u32)>,
}

impl Fleet {
    async fn read(
        db: &mut AnyConnection,
        user: &User,
        name: &PrestageName,
    ) -> Result<Self, Failure> {
        let sites: Vec<(String, String)> = sqlx::query_as("SELECT serial_key, site FROM devices")
            .fetch_all(&mut *db)
            .await
            .doing("read the sites of the devices")?;
        let sites: BTreeMap<String, String> = sites.into_iter().collect();
        // A machine that nobody imported is at no site.
        let is_seen = |serial: &str| match sites.get(serial) {
            Some(site) => user.covers(site),
            None => user.sees_all(),
        };
        let deployed: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT devices.serial_key FROM devices JOIN runs ON runs.device = devices.id \
             WHERE runs.state = 'completed'",
        )
        .fetch_all(&mut *db)
        .await
        .doing("read which devices are deployed")?;
        let deployed: BTreeSet<String> = deployed.into_iter().collect();
        let mut devices: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        for (serial, Carried { id, .. }) in carried(db).await? {
            if id.prestage == *name && is_seen(&serial) {
                let counts = devices.entry(id.version).or_default();
                counts.0 += 1;
                counts.1 += u32::from(deployed.contains(&serial));
            }
        }
        Ok(Self { devices })
    }
}

/// Every package that was staged, that a run could ask for now, or that a bundle would carry now. Only what a run asks
/// for is ever fetched.
fn package_drift(
    library: &Library,
    staged: &[Package],
    wanted: &[Package],
    carried: &[Package],
) -> Result<Vec<PackageDrift>, Failure> {
    let stock = Stock::of(library, staged)?;
    let (before, wanted, carried) = (by_name(staged), by_name(wanted), by_name(carried));
    let names: BTreeSet<&PackageName> = before
        .keys()
        .chain(wanted.keys())
        .chain(carried.keys())
        .copied()
        .collect();
    let lacks = names
        .iter()
        .map(|name| match wanted.get(*name) {
            Some(package) => stock.lacks(library, package),
            None => Ok(Lack::default()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let bytes = bytes_of(&lacks.iter().collect::<Vec<_>>());
    let rows = names.iter().zip(bytes).filter_map(|(name, fetch_bytes)| {
        let before = before.get(*name);
        let now = wanted.get(*name).or_else(|| carried.get(*name));
        Some(PackageDrift {
            name: (*name).clone(),
            kind: now.or(before)?.kind,
            staged: before.map(|package| package.version.clone()),
            now: now.map(|package| package.version.clone()),
            fetch_bytes,
        })
    });
    Ok(rows.collect())
}

/// The factory sequence in the bundle of a version; `None` if the bundle isn't there any more.
async fn factory_sequence(
    state: &AppState,
    id: &PrestageId,
) -> Result<Option<CompiledSequence>, Failure> {
    let path = state.bundles().join(format!("{id}.bundle"));
    let keys = all_verifying(state).await?;
    blocking(move || {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let what = "open";
                return Err(Failure::File { what, path, source });
            }
        };
        let length = file.metadata().map_err(|source| Failure::File {
            what: "look at",
            path: path.clone(),
            source,
        })?;
        let bundle = Bundle::<_, Unverified>::open(file, length.len())
            .and_then(|bundle| bundle.verify(&keys))
            .map_err(|source| Failure::Content {
                what: format!("read the bundle {path}"),
                source,
            })?;
        Ok(Some(bundle.root().stage.clone()))
    })
    .await
}

/// The steps that differ, by path: first those of `to` in its order, then those that are gone.
fn step_differences(from: &CompiledSequence, to: &CompiledSequence) -> Vec<StepDifference> {
    let place = |sequence: &CompiledSequence, step: &CompiledStep| {
        sequence
            .steps
            .iter()
            .position(|other| other.path == step.path)
    };
    let difference = |step: &CompiledStep, change, details| StepDifference {
        path: step.path.clone(),
        title: step.title.clone(),
        change,
        details,
    };
    let places: Vec<Option<usize>> = to.steps.iter().map(|step| place(from, step)).collect();
    let stay = in_order(&places);
    let mut differences = Vec::new();
    for (number, (step, before)) in to.steps.iter().zip(&places).enumerate() {
        let Some(before) = before else {
            differences.push(difference(step, Change::Added, Vec::new()));
            continue;
        };
        let mut details = details(&from.steps[*before], step);
        if !stay.contains(before) {
            details.push(match number.checked_sub(1) {
                Some(previous) => format!("moved behind `{}`", to.steps[previous].path),
                None => "moved to the beginning".to_owned(),
            });
        }
        if !details.is_empty() {
            differences.push(difference(step, Change::Changed, details));
        }
    }
    let gone = from.steps.iter().filter(|step| place(to, step).is_none());
    differences.extend(gone.map(|step| difference(step, Change::Removed, Vec::new())));
    differences
}

/// As many of the places as possible that rise from one to the next: those that need not have moved.
fn in_order(places: &[Option<usize>]) -> BTreeSet<usize> {
    let places: Vec<usize> = places.iter().flatten().copied().collect();
    // For each place, how many rise up to it, and which one comes before it.
    let mut best: Vec<(usize, Option<usize>)> = Vec::with_capacity(places.len());
    for (at, place) in places.iter().enumerate() {
        let before = (0..at)
            .filter(|before| places[*before] < *place)
            .max_by_key(|before| best[*before].0);
        best.push((before.map_or(1, |before| best[before].0 + 1), before));
    }
    let mut next = (0..best.len()).max_by_key(|at| best[*at].0);
    let mut rising = BTreeSet::new();
    while let Some(at) = next {
        rising.insert(places[at]);
        next = best[at].1;
    }
    rising
}

/// What differs between two steps of the same path, as `where: before → after`.
fn details(before: &CompiledStep, after: &CompiledStep) -> Vec<String> {
    let mut details = Vec::new();
    let value = |step: &CompiledStep| serde_json::to_value(step).unwrap_or_default();
    compare("", &value(before), &value(after), &mut details);
    if details.len() > DETAILS_MAX {
        let more = details.len() - DETAILS_MAX;
        details.truncate(DETAILS_MAX);
        details.push(format!("and {more} more"));
    }
    details
}

fn compare(at: &str, before: &Value, after: &Value, details: &mut Vec<String>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let inner = if at.is_empty() {
                    key.clone()
                } else {
                    format!("{at}.{key}")
                };
                let value = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                compare(&inner, &value(before), &value(after), details);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (number, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{at}[{number}]"), before, after, details);
            }
        }
        (before, after) => details.push(format!("{at}: {} → {}", short(before), short(after))),
    }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => return "nothing".to_owned(),
        // A compiled document holds sizes in bytes, which nobody reads.
        Value::String(text) if text.ends_with('B') => match size::parse(text) {
            Ok(bytes) => return size::in_words(bytes),
            Err(_) => value.to_string(),
        },
        value => value.to_string(),
    };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::step_differences;

    fn sequence(size: &str, more: &str) -> wire::sequence::CompiledSequence {
        let text = format!(
            "sequence: s\nsteps:\n  - id: disk\n    format-disk:\n      disk: {{ bus: nvme, removable: false }}\n      \
             volumes: [{{ role: esp, size: 1GiB }}, {{ role: os, size: rest }}, {{ role: staging, size: {size} }}]\n  \
             - {{ id: os, apply-image: {{ image: debian }} }}\n{more}"
        );
        let deploy = sequence::document::compile(&text).unwrap().sequence;
        sequence::derive::stage_sequence(&deploy)
    }

    fn check(
        from: &wire::sequence::CompiledSequence,
        to: &wire::sequence::CompiledSequence,
    ) -> String {
        let lines = step_differences(from, to).into_iter().map(|step| {
            let details = step.details.join("; ");
            format!("{} {} {details}", step.path, step.change)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn steps_are_compared_by_path() {
        let (small, large) = (sequence("8GiB", ""), sequence("12GiB", ""));
        let boot = "  - { id: boot, install-boot-image: { image: boot-image } }\n";
        assert_eq!(check(&small, &small), "");
        assert_eq!(
            check(&small, &large),
            "disk changed with.volumes[2].size: 8 GiB → 12 GiB"
        );
        assert_eq!(check(&small, &sequence("8GiB", boot)), "boot added ");
        assert_eq!(check(&sequence("8GiB", boot), &small), "boot removed ");
        let with_boot = sequence("8GiB", boot);
        let mut moved = with_boot.clone();
        let last = moved.steps.len() - 2;
        let step = moved.steps.remove(last);
        moved.steps.insert(0, step);
        assert_eq!(
            check(&with_boot, &moved),
            "boot changed moved to the beginning"
        );
        assert_eq!(
            check(&moved, &with_boot),
            "boot changed moved behind `content`"
        );
    }
}
