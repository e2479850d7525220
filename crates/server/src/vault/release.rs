//! Secrets for a run: released once to the session that asks, sealed to a key that the device made for the run.
//!
//! Who has heard everything that went over the line gets nothing by it: the request is signed by the device's key, and the answer
//! opens with a key that never left the device's memory. See `docs/decisions/0034-secrets-are-released-once.md`.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use sequence::secret::Secret;
use sequence::select;
use sequence::steps::secrets_of;
use sequence::view::StepState;
use sqlx::{AnyConnection, FromRow};
use wire::assets::AssetState;
use wire::device_api::{SECRET_CONTEXT, SealedSecret, SecretRequest, SecretWanted};
use wire::names::{RunId, SecretName, StepPath};
use wire::order::Order;
use wire::secrets::ReleaseRow;
use wire::sequence::CompiledSequence;

use super::seal::RunKey;
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, stored_text};
use crate::limits::{SECRET_RELEASES_MAX, SECRET_REQUEST_BYTES_MAX};
use crate::people::audit::audit;
use crate::people::auth::{DeviceSession, millis};
use crate::routes::{parse, read_json};
use crate::runs::check_in::signed_by;
use crate::runs::orders::{STAGED_NAME, device_values};
use crate::runs::rows::StoredDevice;
use crate::state::{AppState, Change, now_ms};

/// A run whose device asks, as stored.
#[derive(FromRow)]
struct Asking {
    device: String,
    serial: String,
    site: String,
    asset_state: String,
    device_key: Option<String>,
    state: String,
    stop: i64,
    order_document: String,
}

/// A release that counts.
#[derive(FromRow)]
struct Released {
    id: i64,
    session: String,
    run_key: String,
    released_at_ms: i64,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// A new release.
    Release,
    /// The same again, by the release with this id.
    Repeat(i64),
    /// No: this session's release was taken by another key, or this key's time in other sessions is over.
    Taken,
    /// No: the run has had all it gets.
    TooOften,
}

/// Decides by the releases of this secret to this run that count.
fn judge(
    before: &[Released],
    session: &str,
    run_key: &str,
    now_ms: i64,
    open_for_ms: i64,
) -> Verdict {
    if let Some(same) = before.iter().find(|release| release.run_key == run_key) {
        let is_open = same.session == session || now_ms - same.released_at_ms < open_for_ms;
        return match is_open {
            true => Verdict::Repeat(same.id),
            false => Verdict::Taken,
        };
    }
    if before.iter().any(|release| release.session == session) {
        return Verdict::Taken;
    }
    match before.len() < SECRET_RELEASES_MAX {
        true => Verdict::Release,
        false => Verdict::TooOften,
    }
}

/// Reads what was signed.
pub(crate) fn read_wanted(text: &str) -> Result<(SecretWanted, RunKey), Failure> {
    let wanted: SecretWanted = serde_json::from_str(text).map_err(|error| {
        Failure::bad_request(
            "bad-json",
            format!("the request for a secret can't be read: {error}"),
        )
    })?;
    let key = RunKey::parse(&wanted.run_key).ok_or_else(|| {
        Failure::bad_request("bad-run-key", "the key of the run is no X25519 public key")
    })?;
    Ok((wanted, key))
}

/// `POST /device/v1/runs/{run}/secrets`
pub(crate) async fn post(
    State(state): State<AppState>,
    Extension(session): Extension<DeviceSession>,
    Path(run): Path<String>,
    body: Body,
) -> Result<Json<SealedSecret>, Failure> {
    let run: RunId = parse(&run)?;
    let request: SecretRequest = read_json(body, SECRET_REQUEST_BYTES_MAX).await?;
    let (wanted, run_key) = read_wanted(&request.body)?;
    // Other devices' runs are told from unknown ones to nobody. A machine that tries a failed run again by itself may have a
    // session of a later check-in, which came with no run.
    let not_ours = || Failure::not_found(format!("run {run} of this session"));
    if wanted.run != run {
        return Err(not_ours());
    }
    let done = done_steps(&state, run).await?;
    let mut db = state.db().write().await?;
    let asking = asking(&mut db, run).await?;
    let asking = asking
        .filter(|asking| asking.device == session.device.to_string())
        .ok_or_else(not_ours)?;
    let signed = [SECRET_CONTEXT, request.body.as_bytes()].concat();
    signed_by(
        asking.device_key.as_deref().unwrap_or_default(),
        &signed,
        &request.signature,
    )?;
    refuse_ended(run, &asking)?;
    refuse_unneeded(
        &stored("order", &asking.order_document)?,
        &wanted.secret,
        &done,
    )?;
    let site = release(&state, &mut db, &session, &asking, &wanted).await?;
    let value = value(&state, &mut db, &wanted.secret, &site).await?;
    let sealed = run_key.seal(&value, &request.body)?;
    commit(db).await?;
    state.changed(Change::Run(run));
    Ok(Json(sealed))
}

/// The steps that the device has said are done. Not all of its events may be here yet.
async fn done_steps(state: &AppState, run: RunId) -> Result<Vec<StepPath>, Failure> {
    let entry = state.views().get(state.db(), run).await?;
    let live = entry.live();
    let is_done = |state| {
        matches!(
            state,
            StepState::Done | StepState::Warning | StepState::Skipped
        )
    };
    let done = live.view.steps.iter().filter(|step| is_done(step.state));
    Ok(done.map(|step| step.path.clone()).collect())
}

async fn asking(db: &mut Write, run: RunId) -> Result<Option<Asking>, Failure> {
    sqlx::query_as(
        "SELECT runs.device, devices.serial, devices.site, devices.asset_state, device_keys.device_key, runs.state, \
         runs.stop, runs.order_document FROM runs JOIN devices ON devices.id = runs.device \
         LEFT JOIN device_keys ON device_keys.device = runs.device WHERE runs.id = $1",
    )
    .bind(run.to_string())
    .fetch_optional(&mut **db)
    .await
    .doing("read the run that a secret is for")
}

/// A machine that tries a failed run again by itself may ask before the server has heard of it.
fn refuse_ended(run: RunId, asking: &Asking) -> Result<(), Failure> {
    let goes_on = matches!(asking.state.as_str(), "running" | "failed") && asking.stop == 0;
    if !goes_on {
        let message = format!("run {run} has ended or is to stop");
        return Err(Failure::conflict("run-ended", message)
            .hint("have the run tried again: `forestage run retry`"));
    }
    if asking.asset_state != AssetState::InUse.word() {
        let message = "this machine is out of use, and gets no secrets";
        return Err(Failure::conflict("out-of-use", message));
    }
    Ok(())
}

fn refuse_unneeded(order: &Order, secret: &SecretName, done: &[StepPath]) -> Result<(), Failure> {
    let mut uses = secrets_of(&order.sequence);
    let steps = uses.remove(secret).unwrap_or_default();
    if steps.iter().all(|step| done.contains(step)) {
        let message = match steps.is_empty() {
            true => format!("no step of this run needs the secret {secret}"),
            false => format!("all steps of this run that need the secret {secret} are done"),
        };
        return Err(Failure::refused(
            StatusCode::FORBIDDEN,
            "not-needed",
            message,
        ));
    }
    Ok(())
}

/// Notes a release, or that one is repeated, before anything is given out. Says whose value it is.
async fn release(
    state: &AppState,
    db: &mut Write,
    session: &DeviceSession,
    asking: &Asking,
    wanted: &SecretWanted,
) -> Result<String, Failure> {
    let SecretWanted {
        run,
        secret,
        run_key,
    } = wanted;
    let before: Vec<Released> = sqlx::query_as(
        "SELECT id, session, run_key, released_at_ms FROM secret_releases \
         WHERE run = $1 AND secret = $2 AND counts = 1 ORDER BY id",
    )
    .bind(run.to_string())
    .bind(secret.as_str())
    .fetch_all(&mut **db)
    .await
    .doing("read the releases of a secret")?;
    let site = site_of(db, secret, &asking.site)
        .await?
        .ok_or_else(|| not_set(secret))?;
    let now = now_ms();
    match judge(
        &before,
        &session.digest,
        run_key,
        now,
        millis(state.secrets_open_for()),
    ) {
        Verdict::Repeat(id) => {
            sqlx::query("UPDATE secret_releases SET answers = answers + 1 WHERE id = $1")
                .bind(id)
                .execute(&mut **db)
                .await
                .doing("count an answer")?;
        }
        Verdict::Release => {
            sqlx::query(
                "INSERT INTO secret_releases (run, secret, session, run_key, site, answers, counts, released_at_ms) \
                 VALUES ($1, $2, $3, $4, $5, 1, 1, $6)",
            )
            .bind(run.to_string())
            .bind(secret.as_str())
            .bind(&session.digest)
            .bind(run_key)
            .bind(&site)
            .bind(now)
            .execute(&mut **db)
            .await
            .doing("note the release of a secret")?;
            let number = before.len() + 1;
            let detail = format!("to {}, run {run}, release {number}", asking.serial);
            audit(db, "device", "secret-released", secret.as_str(), &detail).await?;
        }
        Verdict::Taken => {
            tracing::warn!(run.id = %run, "run {run} asked once more for the secret {secret}");
            let message = format!("the secret {secret} was released to this session already");
            return Err(Failure::conflict("released", message)
                .hint("check in again, and ask with a new key"));
        }
        Verdict::TooOften => {
            let message = format!(
                "the secret {secret} was released to this run {SECRET_RELEASES_MAX} times already"
            );
            return Err(Failure::conflict("released-too-often", message)
                .hint("look why on the run's page, and retry the run: that allows it again"));
        }
    }
    Ok(site)
}

/// The site whose value counts for machines of `site`: its own, or the one for all; `None` if there is neither.
async fn site_of(
    db: &mut AnyConnection,
    secret: &SecretName,
    site: &str,
) -> Result<Option<String>, Failure> {
    sqlx::query_scalar(
        "SELECT site FROM secrets WHERE name = $1 AND (site = $2 OR site = '') ORDER BY site DESC LIMIT 1",
    )
    .bind(secret.as_str())
    .bind(site)
    .fetch_optional(db)
    .await
    .doing("look for a secret")
}

fn not_set(secret: &SecretName) -> Failure {
    Failure::not_found(format!("secret {secret} for machines of this site")).hint(format!(
        "an administrator sets it with `forestage secret set {secret}`, and retries the run"
    ))
}

/// A secret that the device could need for this order and that has no value for its site, if there is one.
pub(crate) async fn lacking(
    db: &mut AnyConnection,
    device: &StoredDevice,
    order: &Order,
) -> Result<Option<SecretName>, Failure> {
    for secret in select::secrets(&order.sequence, &device.model(), &order.variables) {
        if site_of(db, &secret, &device.site).await?.is_none() {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}

/// What a secret without a value holds back.
#[derive(Debug, Default)]
pub(crate) struct Unset {
    pub(crate) devices: u32,
    /// The codes of the sites that have no value.
    pub(crate) sites: BTreeSet<String>,
}

/// The secrets that these devices could need for a sequence and that have no value for their sites. Variables that only an
/// order would have aren't known yet: what hangs on them could be needed.
pub(crate) async fn would_lack(
    db: &mut AnyConnection,
    devices: impl Iterator<Item = &StoredDevice>,
    sequence: &CompiledSequence,
) -> Result<BTreeMap<SecretName, Unset>, Failure> {
    let mut unset: BTreeMap<SecretName, Unset> = BTreeMap::new();
    let uses: BTreeSet<StepPath> = secrets_of(sequence).into_values().flatten().collect();
    if uses.is_empty() {
        return Ok(unset);
    }
    let mut asking = sequence.clone();
    asking.steps.retain(|step| uses.contains(&step.path));
    let set: Vec<(String, String)> = sqlx::query_as("SELECT name, site FROM secrets")
        .fetch_all(db)
        .await
        .doing("look for secrets")?;
    let set: BTreeSet<(String, String)> = set.into_iter().collect();
    let is_set = |secret: &SecretName, site: &str| {
        [site, ""]
            .iter()
            .any(|site| set.contains(&(secret.to_string(), (*site).to_owned())))
    };
    for device in devices {
        let known = device_values(device, None)?;
        let known = known
            .into_iter()
            .filter(|(name, _)| *name != STAGED_NAME)
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        for secret in select::secrets(&asking, &device.model(), &known) {
            if !is_set(&secret, &device.site) {
                let unset = unset.entry(secret).or_default();
                unset.devices += 1;
                unset.sites.insert(device.site.clone());
            }
        }
    }
    Ok(unset)
}

async fn value(
    state: &AppState,
    db: &mut AnyConnection,
    secret: &SecretName,
    site: &str,
) -> Result<Secret, Failure> {
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT sealed FROM secrets WHERE name = $1 AND site = $2")
            .bind(secret.as_str())
            .bind(site)
            .fetch_one(db)
            .await
            .doing("read a secret")?;
    state.vault().unseal(secret, site, &sealed)
}

/// From now on the run may be given its secrets anew: an administrator wants it tried again.
pub(crate) async fn allow_anew(db: &mut Write, run: RunId) -> Result<(), Failure> {
    sqlx::query("UPDATE secret_releases SET counts = 0 WHERE run = $1 AND counts = 1")
        .bind(run.to_string())
        .execute(&mut **db)
        .await
        .doing("allow secrets to be released anew")?;
    Ok(())
}

impl AppState {
    /// The secrets that a run was given, the earliest first.
    pub(crate) async fn releases_of(&self, run: &str) -> Result<Vec<ReleaseRow>, Failure> {
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "SELECT secret, site, released_at_ms, answers FROM secret_releases WHERE run = $1 ORDER BY id",
        )
        .bind(run)
        .fetch_all(self.db().read())
        .await
        .doing("read which secrets a run was given")?;
        rows.into_iter()
            .map(|(secret, site, released_at_ms, answers)| {
                Ok(ReleaseRow {
                    secret: stored_text("name of a secret", &secret)?,
                    site,
                    released_at_ms,
                    answers: u64::try_from(answers).unwrap_or(0),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Released, Verdict, judge};

    const OPEN_FOR_MS: i64 = 600;

    fn release(id: i64, session: &str, run_key: &str, released_at_ms: i64) -> Released {
        Released {
            id,
            session: session.to_owned(),
            run_key: run_key.to_owned(),
            released_at_ms,
        }
    }

    #[test]
    fn one_release_for_a_session_and_three_for_a_run() {
        let before: Vec<Released> = [("s1", "k1", 0), ("s2", "k2", 1000), ("s3", "k3", 2000)]
            .into_iter()
            .zip(1..)
            .map(|((session, key, at), id)| release(id, session, key, at))
            .collect();
        let cases = [
            (0, "s1", "k1", 0, Verdict::Release),
            (1, "s1", "k1", 599, Verdict::Repeat(1)),
            // The same machine with a new session, whose answer was lost.
            (1, "s2", "k1", 599, Verdict::Repeat(1)),
            // As long as its session lives: a machine may need it at several steps, hours apart.
            (1, "s1", "k1", 600, Verdict::Repeat(1)),
            (3, "s1", "k1", 9000, Verdict::Repeat(1)),
            (1, "s2", "k1", 600, Verdict::Taken),
            (1, "s1", "k2", 1, Verdict::Taken),
            (1, "s2", "k2", 1, Verdict::Release),
            (2, "s3", "k3", 5000, Verdict::Release),
            (3, "s3", "k3", 2599, Verdict::Repeat(3)),
            (3, "s4", "k4", 9000, Verdict::TooOften),
            (3, "s1", "k4", 9000, Verdict::Taken),
        ];
        for (count, session, key, now, verdict) in cases {
            let judged = judge(&before[..count], session, key, now, OPEN_FOR_MS);
            assert_eq!(judged, verdict, "{count} {session} {key} {now}");
        }
    }
}
