//! Task sequences: checked, compiled and kept, each accepted change as a new version.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sequence::document::compile;
use sequence::lint::{KnownModel, Surroundings};
use sequence::steps::secrets_of;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use wire::admin_api::{Finding, SequenceRefused, SequenceRow, Severity};
use wire::device_api::ApiError;
use wire::names::SequenceName;
use wire::package::Model;
use wire::receipt::Receipt;
use wire::sequence::CompiledSequence;

use crate::db::commit;
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::fleet::targeting::preview::wiping_steps;
use crate::limits::SEQUENCE_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::May;
use crate::problem;
use crate::routes::{parse, read_body};
use crate::runs::due;
use crate::runs::orders::{current_packages, latest_sequence};
use crate::runs::rows::{StoredDevice, devices_sql};
use crate::state::{AppState, now_ms};
use crate::vault;

type Stored = (String, i64, String, String, i64);

impl AppState {
    /// Every sequence at its latest version.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn sequences(&self) -> Result<Vec<SequenceRow>, Failure> {
        let rows: Vec<Stored> = sqlx::query_as(
            "SELECT name, version, compiled, findings, updated_at_ms FROM sequences WHERE version = \
             (SELECT MAX(newer.version) FROM sequences newer WHERE newer.name = sequences.name) ORDER BY name",
        )
        .fetch_all(self.db().read())
        .await
        .doing("read the sequences")?;
        rows.into_iter().map(row).collect()
    }
}

impl AppState {
    /// Every version of one sequence, newest first; none if there is no such sequence.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn sequence_versions(
        &self,
        name: &SequenceName,
    ) -> Result<Vec<SequenceRow>, Failure> {
        let rows: Vec<Stored> = sqlx::query_as(
            "SELECT name, version, compiled, findings, updated_at_ms FROM sequences WHERE name = $1 \
             ORDER BY version DESC",
        )
        .bind(name.as_str())
        .fetch_all(self.db().read())
        .await
        .doing("read the versions of a sequence")?;
        rows.into_iter().map(row).collect()
    }

    /// One version of a sequence as it was sent, and compiled; `None` if there is no such.
    pub(crate) async fn sequence_version(
        &self,
        name: &SequenceName,
        version: u32,
    ) -> Result<Option<(String, CompiledSequence)>, Failure> {
        let found: Option<(String, String)> = sqlx::query_as(
            "SELECT document, compiled FROM sequences WHERE name = $1 AND version = $2",
        )
        .bind(name.as_str())
        .bind(i64::from(version))
        .fetch_optional(self.db().read())
        .await
        .doing("read a version of a sequence")?;
        let read = |(text, compiled): (String, String)| Ok((text, stored("sequence", &compiled)?));
        found.map(read).transpose()
    }
}

/// `GET /api/v1/sequences/{name}/versions`: every version, newest first.
pub(crate) async fn version_list(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<Vec<SequenceRow>>, Failure> {
    let name: SequenceName = parse(&name)?;
    let rows = state.sequence_versions(&name).await?;
    if rows.is_empty() {
        return Err(Failure::not_found(format!("sequence {name}")));
    }
    Ok(Json(rows))
}

/// `GET /api/v1/sequences/{name}/versions/{version}`: the text of one version as it was sent.
pub(crate) async fn version_text(
    State(state): State<AppState>,
    Path((name, version)): Path<(String, u32)>,
) -> Result<Response, Failure> {
    let name: SequenceName = parse(&name)?;
    let found = state.sequence_version(&name, version).await?;
    let (text, _) =
        found.ok_or_else(|| Failure::not_found(format!("version {version} of sequence {name}")))?;
    Ok(yaml(text))
}

fn yaml(text: String) -> Response {
    let kind = HeaderValue::from_static("application/yaml");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// `GET /api/v1/sequences`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<SequenceRow>>, Failure> {
    state.sequences().await.map(Json)
}

fn row((name, version, compiled, findings, updated_at_ms): Stored) -> Result<SequenceRow, Failure> {
    let compiled: CompiledSequence = stored("sequence", &compiled)?;
    Ok(SequenceRow {
        name: stored_text("sequence name", &name)?,
        version: u32::try_from(version).unwrap_or(u32::MAX),
        steps: u32::try_from(compiled.steps.len()).unwrap_or(u32::MAX),
        updated_at_ms,
        findings: stored("findings", &findings)?,
    })
}

/// `GET /api/v1/sequences/{name}`: the text as it was sent.
pub(crate) async fn text(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let name: SequenceName = parse(&name)?;
    let text: Option<String> = sqlx::query_scalar(
        "SELECT document FROM sequences WHERE name = $1 ORDER BY version DESC LIMIT 1",
    )
    .bind(name.as_str())
    .fetch_optional(state.db().read())
    .await
    .doing("read a sequence")?;
    let text = text.ok_or_else(|| Failure::not_found(format!("sequence {name}")))?;
    Ok(yaml(text))
}

/// `POST /api/v1/sequences/lint`: what is wrong with a document, by what is published and which machines are known.
pub(crate) async fn lint(
    State(state): State<AppState>,
    body: Body,
) -> Result<Json<Vec<Finding>>, Failure> {
    let text = read_document(body).await?;
    let mut db = state
        .db()
        .read()
        .acquire()
        .await
        .doing("read what a sequence may name")?;
    findings(&mut db, &text).await.map(Json)
}

async fn read_document(body: Body) -> Result<String, Failure> {
    let bytes = read_body(body, SEQUENCE_BYTES_MAX).await?;
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Failure::bad_request("bad-text", "a sequence is text in UTF-8"))
}

async fn findings(db: &mut AnyConnection, text: &str) -> Result<Vec<Finding>, Failure> {
    let packages = current_packages(db).await?;
    let models = known_models(db).await?;
    let secrets = vault::set_names(db).await?;
    let around = Surroundings {
        packages: &packages,
        models: &models,
        secrets: &secrets,
    };
    Ok(sequence::lint::lint(text, &around))
}

/// The models of all devices, each with the smallest disk that a receipt or a check-in told of.
async fn known_models(db: &mut AnyConnection) -> Result<Vec<KnownModel>, Failure> {
    let devices: Vec<StoredDevice> = sqlx::query_as(devices_sql!("ORDER BY devices.serial"))
        .fetch_all(&mut *db)
        .await
        .doing("read the devices")?;
    let receipts: Vec<(String, String)> =
        sqlx::query_as("SELECT serial_key, document FROM receipts")
            .fetch_all(&mut *db)
            .await
            .doing("read the receipts")?;
    let mut disks: BTreeMap<String, u64> = BTreeMap::new();
    for (serial, document) in &receipts {
        let receipt: Receipt = stored("receipt", document)?;
        if receipt.disk_bytes > 0 {
            disks.insert(serial.clone(), receipt.disk_bytes);
        }
    }
    let mut models: BTreeMap<Model, Option<u64>> = BTreeMap::new();
    for device in &devices {
        let smallest = models.entry(device.model()).or_default();
        let disk = disks.get(&device.serial_key).copied();
        *smallest = [*smallest, disk].into_iter().flatten().min();
    }
    Ok(models
        .into_iter()
        .map(|(model, smallest_disk_bytes)| KnownModel {
            model,
            smallest_disk_bytes,
        })
        .collect())
}

/// What a new version is a change of.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Changed {
    /// The version that was changed, 0 for none. Without it, whatever is the latest.
    after: Option<u32>,
}

impl Changed {
    /// Refuses what was made from another version than the latest.
    fn check(&self, name: &SequenceName, latest: i64) -> Result<(), Failure> {
        let Some(after) = self.after.filter(|after| i64::from(*after) != latest) else {
            return Ok(());
        };
        let failure = if after == 0 {
            Failure::conflict(
                "version-changed",
                format!("there is a sequence {name} already"),
            )
            .hint("choose another name, or change that sequence on its own page")
        } else {
            let message = format!(
                "version {latest} of {name} came after version {after}, which was changed here"
            );
            Failure::conflict("version-changed", message)
                .hint("keep this text, read the latest version, and make the change there")
        };
        Err(failure)
    }
}

/// `PUT /api/v1/sequences/{name}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(changed): Query<Changed>,
    body: Body,
) -> Result<Response, Failure> {
    let name: SequenceName = parse(&name)?;
    let text = read_document(body).await?;
    let mut db = state.db().write().await?;
    let (mut compiled, findings) = match checked(&mut db, &text).await? {
        Ok(good) => good,
        Err(findings) => return Ok(refused(findings)),
    };
    // The name it is stored under is the one that deployments and prestages use.
    compiled.name = name.clone();
    refuse_to_begin_wiping(&mut db, &compiled).await?;
    refuse_further_secrets(&mut db, &user, &compiled).await?;
    let compiled = to_json("write a sequence", &compiled)?;
    let latest: Option<Stored> = sqlx::query_as(
        "SELECT name, version, compiled, findings, updated_at_ms FROM sequences WHERE name = $1 \
         ORDER BY version DESC LIMIT 1",
    )
    .bind(name.as_str())
    .fetch_optional(&mut *db)
    .await
    .doing("read a sequence")?;
    let version = latest.as_ref().map_or(0, |(_, version, ..)| *version);
    changed.check(&name, version)?;
    let findings = to_json("write findings", &findings)?;
    let stored_row = match latest {
        Some((_, version, known, _, at)) if known == compiled => {
            (name.to_string(), version, compiled, findings, at)
        }
        _ => {
            let version = version + 1;
            let now = now_ms();
            sqlx::query(
                "INSERT INTO sequences (name, version, document, compiled, findings, updated_at_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(name.as_str())
            .bind(version)
            .bind(&text)
            .bind(&compiled)
            .bind(&findings)
            .bind(now)
            .execute(&mut *db)
            .await
            .doing("store a sequence")?;
            audit(
                &mut db,
                &user.name,
                "sequence-changed",
                name.as_str(),
                &format!("version {version}"),
            )
            .await?;
            (name.to_string(), version, compiled, findings, now)
        }
    };
    commit(db).await?;
    Ok(Json(row(stored_row)?).into_response())
}

/// Refuses a version that begins to write over disks while a deployment runs the sequence: whoever made that has typed
/// nothing of the kind.
async fn refuse_to_begin_wiping(
    db: &mut AnyConnection,
    new: &CompiledSequence,
) -> Result<(), Failure> {
    let wipes = |sequence: &CompiledSequence| !wiping_steps(sequence).is_empty();
    let name = &new.name;
    let before = latest_sequence(db, name).await?;
    if !wipes(new) || before.is_none_or(|(_, before)| wipes(&before)) {
        return Ok(());
    }
    let mut running = due::active(db).await?.into_iter();
    let Some(one) = running.find(|deployment| deployment.sequence == *name) else {
        return Ok(());
    };
    let message = format!(
        "deployment {} runs {name}, which would begin to write over disks",
        one.name
    );
    let hint = format!(
        "stop the deployment first (`forestage deployment stop {}`); resuming it is confirmed by what it then does",
        one.name
    );
    Err(Failure::conflict("deployed", message).hint(hint))
}

/// Whoever writes a step that names a secret has it given to that step. A token that only publishes brings in no further one.
async fn refuse_further_secrets(
    db: &mut AnyConnection,
    user: &User,
    new: &CompiledSequence,
) -> Result<(), Failure> {
    if user.may(May::Administer) {
        return Ok(());
    }
    let before = latest_sequence(db, &new.name).await?;
    let known = before.map_or_else(BTreeMap::new, |(_, before)| secrets_of(&before));
    let mut wanted = secrets_of(new).into_keys();
    let Some(secret) = wanted.find(|secret| !known.contains_key(secret)) else {
        return Ok(());
    };
    let message = format!(
        "{} begins to use the secret {secret}, and this token may not administer",
        new.name
    );
    Err(
        Failure::refused(StatusCode::FORBIDDEN, "forbidden", message)
            .hint("have an administrator publish this version"),
    )
}

/// Compiles a document, with its warnings; or tells all findings, if one of them is an error.
pub(crate) async fn checked(
    db: &mut AnyConnection,
    text: &str,
) -> Result<Result<(CompiledSequence, Vec<Finding>), Vec<Finding>>, Failure> {
    let findings = findings(db, text).await?;
    let is_good = findings
        .iter()
        .all(|finding| finding.severity != Severity::Error);
    Ok(match compile(text) {
        Ok(compiled) if is_good => Ok((compiled.sequence, findings)),
        Err(errors) if findings.is_empty() => Err(errors),
        Ok(_) | Err(_) => Err(findings),
    })
}

/// Tells what is wrong with a document.
pub(crate) fn refused(findings: Vec<Finding>) -> Response {
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    let refused = SequenceRefused {
        code: "sequence-refused".into(),
        message: match findings
            .iter()
            .find(|finding| finding.severity == Severity::Error)
        {
            Some(first) => format!(
                "the sequence has {errors} errors; the first, line {}: {}",
                first.line, first.message
            ),
            None => "the sequence can't be compiled".into(),
        },
        hint: Some("`forestage sequence lint FILE` shows them all".into()),
        findings,
    };
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let error = ApiError {
        code: refused.code,
        message: refused.message,
        hint: refused.hint,
    };
    // A problem like any other, and the findings beside it.
    let mut problem: Value =
        serde_json::from_slice(&problem::body(status, &error)).unwrap_or_default();
    problem["findings"] = json!(refused.findings);
    let media_type = HeaderValue::from_static(problem::MEDIA_TYPE);
    (
        status,
        [(header::CONTENT_TYPE, media_type)],
        problem.to_string(),
    )
        .into_response()
}
