//! Warrants: which machines need one for a deployment, and what somebody has signed for them where no server is. See
//! `docs/formats/warrant.md`.
//!
//! The server decides nothing by them: it saves a machine an order that the machine would refuse, and says what is missing.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use wire::deployments::WarrantsStand;
use wire::device_api::{CheckInBody, ToldMark};
use wire::facts::Facts;
use wire::keys::{DevicePublicKey, KeyPurpose, PublicKey};
use wire::mark::MarkState;
use wire::names::{DeploymentName, RunId};
use wire::warrant::{
    SignedWarrant, Warrant, WarrantFile, WarrantPart, WarrantRequest, WarrantWanted, WarrantsTaken,
    signed_bytes,
};

use crate::catalog::keys;
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::fleet::asset_state::retired;
use crate::fleet::targeting::lifecycle::find;
use crate::limits::DEVICE_TEXT_CHARS_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_body};
use crate::runs::check_in::Claimant;
use crate::runs::due;
use crate::runs::rows::{StoredDevice, devices_sql};
use crate::state::{AppState, blocking, now_ms};
use crate::text::clean;

/// What a device told last of its disk, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Told {
    mark: ToldMark,
    wipe_keys: Vec<PublicKey>,
}

/// What is stored of it; empty if nothing was told.
pub(crate) fn told(body: &CheckInBody) -> Result<String, Failure> {
    let Some(mark) = body.mark else {
        return Ok(String::new());
    };
    let wipe_keys = body.wipe_keys.clone();
    to_json("write what a mark says", &Told { mark, wipe_keys })
}

/// What a disk is that an order would write over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Disk {
    device_key: DevicePublicKey,
    serial: String,
    run: Option<RunId>,
    /// The keys that the machine's boot image knows, if that is known.
    wipe_keys: Option<Vec<PublicKey>>,
}

impl Disk {
    /// The disk of the machine that asks, if it writes nothing over it without a warrant.
    fn of(claimant: &Claimant) -> Result<Option<Self>, Failure> {
        let body = &claimant.body;
        let run = match body.mark {
            Some(mark) if mark.state == MarkState::Deployed && !body.wipe_keys.is_empty() => {
                mark.run
            }
            _ => return Ok(None),
        };
        Ok(Some(Self {
            device_key: stored_text("device key", &claimant.key)?,
            serial: body.facts.serial.clone(),
            run,
            wipe_keys: Some(body.wipe_keys.clone()),
        }))
    }

    /// Whether this warrant is about it, and by a key that its machine knows.
    fn is_allowed_by(&self, signed: &SignedWarrant, deployment: &DeploymentName) -> bool {
        Warrant::parse(&signed.text).is_ok_and(|warrant| {
            warrant.deployment == *deployment
                && self.is_meant_by(&warrant)
                && self.knows(&signed.key)
        })
    }

    /// Whether it is this disk, as it is now.
    fn is_meant_by(&self, warrant: &Warrant) -> bool {
        warrant.device_key == self.device_key
            && clean(&warrant.serial, DEVICE_TEXT_CHARS_MAX) == self.serial
            && warrant.run == self.run
    }

    fn knows(&self, key: &PublicKey) -> bool {
        self.wipe_keys
            .as_ref()
            .is_none_or(|keys| keys.contains(key))
    }
}

/// The warrant that lets `deployment` begin on the machine that asks, if it needs one and somebody has signed it.
pub(crate) async fn fitting(
    db: &mut AnyConnection,
    device: &str,
    deployment: &DeploymentName,
    claimant: &Claimant,
) -> Result<Option<SignedWarrant>, Failure> {
    let Some(disk) = Disk::of(claimant)? else {
        return Ok(None);
    };
    let row: Option<(String, String, String)> = sqlx::query_as(
        "SELECT text, public_key, signature FROM warrants WHERE device = $1 AND deployment = $2",
    )
    .bind(device)
    .bind(deployment.as_str())
    .fetch_optional(&mut *db)
    .await
    .doing("look for a warrant")?;
    let Some(signed) = row.map(signed_of).transpose()? else {
        return Ok(None);
    };
    let is_good =
        disk.is_allowed_by(&signed, deployment) && keys::wipe_keys(db).await?.contains(&signed.key);
    Ok(is_good.then_some(signed))
}

/// Whether the machine that asks needs a warrant for `deployment` that isn't there.
pub(crate) async fn is_lacking(
    db: &mut AnyConnection,
    device: &str,
    deployment: &DeploymentName,
    claimant: &Claimant,
) -> Result<bool, Failure> {
    Ok(Disk::of(claimant)?.is_some() && fitting(db, device, deployment, claimant).await?.is_none())
}

/// Whether the machine that asks has begun this run: it says so, or its mark was set by it.
pub(crate) fn is_in_the_middle_of(claimant: &Claimant, run: RunId) -> bool {
    let body = &claimant.body;
    body.run == Some(run) || body.mark.and_then(|mark| mark.run) == Some(run)
}

fn signed_of((text, key, signature): (String, String, String)) -> Result<SignedWarrant, Failure> {
    Ok(SignedWarrant {
        text,
        key: stored_text("public key", &key)?,
        signature: stored_text("signature", &signature)?,
    })
}

/// The machines of a deployment whose disk was deployed before: those that need a warrant, and how many have one.
struct Stand {
    wanted: Vec<Wanting>,
    ready: u32,
}

/// A machine that waits for one.
struct Wanting {
    device: String,
    disk: Disk,
    wanted: WarrantWanted,
}

/// What is known of the disks that a deployment would write over, and of what was signed for it.
struct Known {
    deployment: DeploymentName,
    keys: Vec<PublicKey>,
    signed: BTreeMap<String, SignedWarrant>,
    disks: BTreeMap<String, Disk>,
    underway: BTreeSet<String>,
}

impl Known {
    async fn read(db: &mut AnyConnection, deployment: &DeploymentName) -> Result<Self, Failure> {
        Ok(Self {
            deployment: deployment.clone(),
            keys: keys::wipe_keys(db).await?,
            signed: all_signed(db, deployment).await?,
            disks: deployed_disks(db).await?,
            underway: underway(db, deployment).await?,
        })
    }

    /// The disk of a device that needs a warrant before the deployment begins on it, and whether it has one.
    fn needs(&self, device: &str) -> Option<(&Disk, bool)> {
        let disk = self.disks.get(device)?;
        let is_marked_by = disk
            .run
            .is_some_and(|run| self.underway.contains(&run.to_string()));
        if is_marked_by {
            return None;
        }
        let has_one = self.signed.get(device).is_some_and(|signed| {
            self.keys.contains(&signed.key) && disk.is_allowed_by(signed, &self.deployment)
        });
        Some((disk, has_one))
    }
}

/// How many of these devices would wait for a warrant if the deployment were to begin on them now.
pub(crate) async fn would_wait(
    db: &mut AnyConnection,
    deployment: &DeploymentName,
    devices: impl Iterator<Item = &str>,
) -> Result<u32, Failure> {
    if keys::wipe_keys(db).await?.is_empty() {
        return Ok(0);
    }
    let known = Known::read(db, deployment).await?;
    let waits = |device: &&str| matches!(known.needs(device), Some((_, false)));
    Ok(u32::try_from(devices.filter(waits).count()).unwrap_or(u32::MAX))
}

impl Stand {
    async fn read(
        state: &AppState,
        db: &mut AnyConnection,
        name: &DeploymentName,
    ) -> Result<Self, Failure> {
        let deployment = find(db, name).await?;
        let members = state.members().members(db, &deployment.collection).await?;
        let latest = due::latest_states(db, None).await?;
        let cancelled = due::cancelled(db, None).await?;
        let known = Known::read(db, name).await?;
        let devices: Vec<StoredDevice> =
            sqlx::query_as(devices_sql!("ORDER BY devices.site, devices.serial"))
                .fetch_all(&mut *db)
                .await
                .doing("read the devices")?;
        let mut stand = Self {
            wanted: Vec::new(),
            ready: 0,
        };
        for device in devices {
            let key = (device.id.clone(), name.to_string());
            let is_begun = match latest.get(&key).map(String::as_str) {
                Some("completed" | "aborted") => continue,
                Some(_) => true,
                None => false,
            };
            if cancelled.contains(&key)
                || !(is_begun || members.contains(&device.id))
                || retired(&device).is_some()
            {
                continue;
            }
            match known.needs(&device.id) {
                None => {}
                Some((_, true)) => stand.ready += 1,
                Some((disk, false)) => stand.wanted.push(Wanting {
                    wanted: wanted(&device, disk),
                    disk: disk.clone(),
                    device: device.id,
                }),
            }
        }
        Ok(stand)
    }

    fn wait(&self) -> u32 {
        u32::try_from(self.wanted.len()).unwrap_or(u32::MAX)
    }
}

fn wanted(device: &StoredDevice, disk: &Disk) -> WarrantWanted {
    WarrantWanted {
        device_key: disk.device_key.clone(),
        serial: disk.serial.clone(),
        run: disk.run,
        name: device.assigned_name.clone(),
        site: device.site_name.clone(),
        model: device.model().to_string(),
    }
}

/// The runs of a deployment that aren't over. The machine whose mark names one is at its end, and needs nothing to go on.
async fn underway(
    db: &mut AnyConnection,
    deployment: &DeploymentName,
) -> Result<BTreeSet<String>, Failure> {
    let runs: Vec<String> =
        sqlx::query_scalar("SELECT id FROM runs WHERE deployment = $1 AND state = 'running'")
            .bind(deployment.as_str())
            .fetch_all(db)
            .await
            .doing("read which runs are under way")?;
    Ok(runs.into_iter().collect())
}

async fn all_signed(
    db: &mut AnyConnection,
    deployment: &DeploymentName,
) -> Result<BTreeMap<String, SignedWarrant>, Failure> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT device, text, public_key, signature FROM warrants WHERE deployment = $1",
    )
    .bind(deployment.as_str())
    .fetch_all(db)
    .await
    .doing("read the warrants")?;
    rows.into_iter()
        .map(|(device, text, key, signature)| Ok((device, signed_of((text, key, signature))?)))
        .collect()
}

/// The disks of the machines that are known to be deployed, as far as the server knows: a machine tells what its mark says when
/// it checks in, and a run that has finished since has put its own name there. One that never told has an agent of an earlier
/// release, whose marks name no run. One that told of a boot image without wipe keys needs no warrant; but what a run that has
/// finished since has put there isn't known.
async fn deployed_disks(db: &mut AnyConnection) -> Result<BTreeMap<String, Disk>, Failure> {
    let finished: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT device, id, ended_at_ms FROM runs WHERE state = 'completed' ORDER BY ended_at_ms, id",
    )
    .fetch_all(&mut *db)
    .await
    .doing("read which runs have finished")?;
    let finished: BTreeMap<String, (String, i64)> = finished
        .into_iter()
        .map(|(device, run, at_ms)| (device, (run, at_ms)))
        .collect();
    let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(
        "SELECT devices.id, device_keys.device_key, devices.facts, devices.mark, devices.mark_at_ms \
         FROM devices JOIN device_keys ON device_keys.device = devices.id",
    )
    .fetch_all(db)
    .await
    .doing("read what machines told of their disks")?;
    let mut disks = BTreeMap::new();
    for (device, key, facts, mark, mark_at_ms) in rows {
        let told: Option<Told> = match mark.as_str() {
            "" => None,
            mark => Some(stored("mark of a disk", mark)?),
        };
        let finished = finished.get(&device);
        let (run, wipe_keys) = match (told, finished) {
            (Some(_), Some((run, at_ms))) if *at_ms > mark_at_ms => {
                (Some(stored_text("run", run)?), None)
            }
            (Some(told), _)
                if told.mark.state == MarkState::Deployed && !told.wipe_keys.is_empty() =>
            {
                (told.mark.run, Some(told.wipe_keys))
            }
            (None, Some(_)) => (None, None),
            (Some(_) | None, _) => continue,
        };
        let facts: Facts = stored("facts", &facts)?;
        let disk = Disk {
            device_key: stored_text("device key", &key)?,
            serial: facts.serial,
            run,
            wipe_keys,
        };
        disks.insert(device, disk);
    }
    Ok(disks)
}

impl AppState {
    /// How the warrants of a deployment stand; none if no wipe key is trusted.
    pub(crate) async fn warrants_stand(
        &self,
        name: &DeploymentName,
    ) -> Result<Option<WarrantsStand>, Failure> {
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read the warrants")?;
        if keys::wipe_keys(&mut db).await?.is_empty() {
            return Ok(None);
        }
        let stand = Stand::read(self, &mut db, name).await?;
        Ok(Some(WarrantsStand {
            ready: stand.ready,
            wait: stand.wait(),
        }))
    }
}

/// `GET /api/v1/deployments/{name}/warrants`: what is to be signed.
pub(crate) async fn request(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let name: DeploymentName = parse(&name)?;
    let mut db = state
        .db()
        .read()
        .acquire()
        .await
        .doing("read the warrants")?;
    let stand = Stand::read(&state, &mut db, &name).await?;
    let request = WarrantRequest {
        format: 1,
        deployment: name.clone(),
        machines: stand.wanted.into_iter().map(|one| one.wanted).collect(),
    };
    let disposition = format!("attachment; filename=\"{name}.request\"");
    Ok(([(header::CONTENT_DISPOSITION, disposition)], Json(request)).into_response())
}

/// `PUT /api/v1/deployments/{name}/warrants`: signed where the key is. All of it is checked before any of it is stored.
pub(crate) async fn bring(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<WarrantsTaken>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let bytes = read_body(body, WarrantFile::BYTES_MAX).await?;
    let file = WarrantFile::parse(&bytes)
        .map_err(|error| Failure::bad_request("bad-warrants", error.to_string()))?;
    if file.deployment != name {
        let message = format!("these are warrants for {}, not for {name}", file.deployment);
        return Err(unusable("other-deployment", message));
    }
    let key = keys::believed(&state, &file.key, KeyPurpose::Wipe).await?;
    let (public_key, for_name) = (file.key, name.clone());
    let warrants = blocking(move || checked(file, &key, &for_name)).await?;
    let mut db = state.db().write().await?;
    let stand = Stand::read(&state, &mut db, &name).await?;
    let (mut taken, mut left_out) = (0, 0);
    let mut needed_keys = BTreeSet::new();
    let by_key: BTreeMap<&DevicePublicKey, &Wanting> = stand
        .wanted
        .iter()
        .map(|one| (&one.disk.device_key, one))
        .collect();
    for (warrant, part) in warrants {
        let meant = by_key
            .get(&warrant.device_key)
            .filter(|one| one.disk.is_meant_by(&warrant));
        match meant {
            Some(one) if one.disk.knows(&public_key) => {
                store(&mut db, &one.device, &name, &public_key, &part).await?;
                taken += 1;
            }
            meant => {
                left_out += 1;
                let keys = meant.and_then(|one| one.disk.wipe_keys.as_ref());
                needed_keys.extend(keys.into_iter().flatten());
            }
        }
    }
    let wait = stand.wait().saturating_sub(taken);
    let detail = format!("{taken} taken, {left_out} left out, by the key {public_key}");
    audit(
        &mut db,
        &user.name,
        "warrants-added",
        name.as_str(),
        &detail,
    )
    .await?;
    commit(db).await?;
    Ok(Json(WarrantsTaken {
        taken,
        left_out,
        needed_keys: needed_keys.into_iter().collect(),
        wait,
    }))
}

fn unusable(code: &'static str, message: String) -> Failure {
    Failure::refused(StatusCode::UNPROCESSABLE_ENTITY, code, message)
        .hint("sign what `forestage warrant request` writes")
}

/// The warrants of a file, each with what it says, once every signature is known to be good.
fn checked(
    file: WarrantFile,
    key: &VerifyingKey,
    name: &DeploymentName,
) -> Result<Vec<(Warrant, WarrantPart)>, Failure> {
    let check = |part: WarrantPart| {
        let signature = Signature::from_bytes(part.signature.as_bytes());
        key.verify_strict(&signed_bytes(&part.text), &signature)
            .map_err(|_| unusable("bad-signature", "a signature is wrong".to_owned()))?;
        let warrant = Warrant::parse(&part.text)
            .map_err(|error| unusable("bad-warrants", error.to_string()))?;
        if warrant.deployment != *name {
            let message = format!(
                "{} has a warrant for {}",
                warrant.serial, warrant.deployment
            );
            return Err(unusable("other-deployment", message));
        }
        Ok((warrant, part))
    };
    file.warrants.into_iter().map(check).collect()
}

async fn store(
    db: &mut Write,
    device: &str,
    deployment: &DeploymentName,
    key: &PublicKey,
    part: &WarrantPart,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO warrants (device, deployment, text, public_key, signature, added_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (device, deployment) DO UPDATE SET \
         text = excluded.text, public_key = excluded.public_key, signature = excluded.signature, \
         added_at_ms = excluded.added_at_ms",
    )
    .bind(device)
    .bind(deployment.as_str())
    .bind(&part.text)
    .bind(key.to_string())
    .bind(part.signature.to_string())
    .bind(now_ms())
    .execute(&mut **db)
    .await
    .doing("store a warrant")
    .map(|_| ())
}
