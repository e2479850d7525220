//! Prestages: what a model could need, decided in a plan, and the signed bundle built from it.

use std::collections::BTreeMap;
use std::fs::File;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use camino::Utf8PathBuf;
use content::{Bundle, ContentError, Unverified};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sqlx::AnyConnection;
use wire::admin_api::{PlanItem, PrestageDefinition, PrestagePlan, PrestageVersion};
use wire::bundle::{BundleRoot, BundleSignature};
use wire::digest::Digest;
use wire::drift::PrestageId;
use wire::keys::{KeyPurpose, SignatureState, SignedBy};
use wire::names::{PrestageName, SequenceName};
use wire::package::Package;
use wire::reasons::CarryReason;
use wire::sequence::CompiledSequence;

use crate::catalog::keys::{self, Signers};
use crate::catalog::stock::{BuiltRow, built, with_signers};
use crate::db::commit;
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::limits::{JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::ranges;
use crate::routes::{parse, read_body, read_json};
use crate::runs::orders::current_packages;
use crate::secret::{self, sync_parent};
use crate::state::{AppState, blocking, now_ms};
use crate::text::clean;

/// Extras or omissions of a prestage: more is a mistake.
const NAMES_MAX: usize = 1000;

impl AppState {
    /// Every version of every prestage, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn prestages(&self) -> Result<Vec<PrestageVersion>, Failure> {
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read the prestages")?;
        let rows: Vec<BuiltRow> = sqlx::query_as(
            "SELECT document, signer, signed FROM prestage_versions ORDER BY prestage, version DESC",
        )
        .fetch_all(&mut *db)
        .await
        .doing("read the prestages")?;
        with_signers(&mut db, rows).await
    }
}

/// Every prestage that is defined, built or not.
pub(crate) async fn defined(
    state: &AppState,
) -> Result<Vec<(PrestageName, PrestageDefinition)>, Failure> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT name, definition FROM prestages ORDER BY name")
            .fetch_all(state.db().read())
            .await
            .doing("read the prestages")?;
    rows.iter()
        .map(|(name, definition)| {
            let name = stored_text("name of a prestage", name)?;
            Ok((name, stored("prestage", definition)?))
        })
        .collect()
}

/// `GET /api/v1/prestages`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<PrestageVersion>>, Failure> {
    let mut versions = state.prestages().await?;
    versions.retain(|version| user.has_prestage(&version.prestage));
    Ok(Json(versions))
}

/// `GET /api/v1/prestages/{name}`
pub(crate) async fn get(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<PrestageDefinition>, Failure> {
    let name: PrestageName = parse(&name)?;
    let mut db = state.db().write().await?;
    definition(&mut db, &name).await.map(Json)
}

/// `PUT /api/v1/prestages/{name}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<PrestageDefinition>, Failure> {
    let name: PrestageName = parse(&name)?;
    let mut definition: PrestageDefinition = read_json(body, JSON_BYTES_MAX).await?;
    let model = &mut definition.model;
    for text in [
        &mut model.vendor,
        &mut model.product,
        &mut model.sku,
        &mut model.baseboard,
    ] {
        *text = clean(text, TITLE_CHARS_MAX);
    }
    if model.vendor.is_empty() || model.product.is_empty() {
        return Err(Failure::bad_request(
            "no-model",
            "a prestage is for one model: give its vendor and product",
        ));
    }
    if definition.extra.len() > NAMES_MAX || definition.omit.len() > NAMES_MAX {
        return Err(Failure::bad_request(
            "too-many-names",
            format!("at most {NAMES_MAX} extras or omissions"),
        ));
    }
    let mut db = state.db().write().await?;
    let Some(deploy) = compiled(&mut db, &definition.sequence).await? else {
        return Err(Failure::not_found(format!(
            "sequence {}",
            definition.sequence
        )));
    };
    stage_for(&mut db, &definition, &deploy).await?;
    sqlx::query(
        "INSERT INTO prestages (name, definition, updated_at_ms) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at_ms = excluded.updated_at_ms",
    )
    .bind(name.as_str())
    .bind(to_json("write a prestage", &definition)?)
    .bind(now_ms())
    .execute(&mut *db)
    .await
    .doing("store a prestage")?;
    audit(
        &mut db,
        &user.name,
        "prestage-defined",
        name.as_str(),
        &definition.model.to_string(),
    )
    .await?;
    commit(db).await?;
    Ok(Json(definition))
}

/// `GET /api/v1/prestages/{name}/plan`
pub(crate) async fn plan(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<PrestagePlan>, Failure> {
    let name: PrestageName = parse(&name)?;
    let draft = draft(&state, &name).await?;
    Ok(Json(draft.plan))
}

/// `POST /api/v1/prestages/{name}/build`
pub(crate) async fn build(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<PrestageVersion>, Failure> {
    let name: PrestageName = parse(&name)?;
    let _one_at_a_time = state.builds().lock().await;
    let draft = draft(&state, &name).await?;
    let latest: Option<i64> =
        sqlx::query_scalar("SELECT MAX(version) FROM prestage_versions WHERE prestage = $1")
            .bind(name.as_str())
            .fetch_one(state.db().read())
            .await
            .doing("read the versions of a prestage")?;
    let version = u32::try_from(latest.unwrap_or(0) + 1).unwrap_or(u32::MAX);
    let built_at_ms = now_ms();
    let packages: Vec<Package> = draft.packages;
    let content_bytes = packages.iter().map(|package| package.content_bytes).sum();
    let root = BundleRoot {
        format: 1,
        prestage: name.clone(),
        version,
        built_at_ms,
        model: draft.plan.model.clone(),
        stage: draft.stage,
        packages,
        manifests: Vec::new(),
        packs: Vec::new(),
        frames: None,
        content_bytes,
    };
    let signer = keys::signer(&state).await?;
    let key = signer.public_key().to_string();
    let is_signed = signer.key().is_some();
    let writing = state.clone();
    let (bundle, bundle_bytes) =
        blocking(move || write_bundle(&writing, root, signer.key())).await?;
    let model = draft.plan.model.clone();
    let plan = draft.plan;
    let built = PrestageVersion {
        prestage: name,
        version,
        model,
        bundle,
        bundle_bytes,
        content_bytes,
        built_at_ms,
        plan,
        signed: SignedBy::default(),
    };
    let mut db = state.db().write().await?;
    sqlx::query("INSERT INTO prestage_versions (prestage, version, document, built_at_ms, signer, signed) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(built.prestage.as_str())
        .bind(i64::from(version))
        .bind(to_json("write a prestage", &built)?)
        .bind(built_at_ms)
        .bind(&key)
        .bind(i64::from(is_signed))
        .execute(&mut *db)
        .await
        .doing("store the version of a prestage")?;
    audit(
        &mut db,
        &user.name,
        "prestage-built",
        built.prestage.as_str(),
        &format!("version {version}"),
    )
    .await?;
    let signed = Signers::read(&mut db).await?.of(&key, is_signed);
    commit(db).await?;
    Ok(Json(PrestageVersion { signed, ..built }))
}

/// What would be built.
pub(crate) struct Draft {
    pub(crate) plan: PrestagePlan,
    /// The factory sequence.
    pub(crate) stage: CompiledSequence,
    /// What the bundle would carry.
    pub(crate) packages: Vec<Package>,
    /// What a run could ask for on this model, whatever the prestage adds or leaves out.
    pub(crate) wanted: Vec<Package>,
}

/// Decides what would be built today.
pub(crate) async fn draft(state: &AppState, name: &PrestageName) -> Result<Draft, Failure> {
    let mut db = state.db().read().acquire().await.doing("read a prestage")?;
    let definition = definition(&mut db, name).await?;
    let deploy = compiled(&mut db, &definition.sequence)
        .await?
        .ok_or_else(|| Failure::not_found(format!("sequence {}", definition.sequence)))?;
    let published = current_packages(&mut db).await?;
    let stage = stage_for(&mut db, &definition, &deploy).await?;
    // Nothing is known of the device yet, so whatever could run on the model is in.
    let mut selection = sequence::select::select(
        &deploy,
        &stage,
        &definition.model,
        &BTreeMap::new(),
        &published,
    );
    drop(db);
    if let Some(ambiguous) = &selection.ambiguous {
        return Err(
            Failure::bad_request("ambiguous-drivers", ambiguous.to_string())
                .hint(sequence::steps::apply_drivers::Ambiguous::HINT),
        );
    }
    let wanted = selection
        .kept
        .iter()
        .map(|(package, _)| package.clone())
        .collect();
    for name in &definition.extra {
        let Some(package) = published.iter().find(|package| &package.name == name) else {
            return Err(Failure::not_found(format!(
                "package {name}, which the prestage asks for"
            )));
        };
        if !selection
            .kept
            .iter()
            .any(|(kept, _)| kept.name == package.name)
        {
            selection
                .omitted
                .retain(|(omitted, _)| omitted.name != package.name);
            selection
                .kept
                .push((package.clone(), CarryReason::PrestageAsks));
        }
    }
    let (omitted, kept): (Vec<_>, Vec<_>) = selection
        .kept
        .into_iter()
        .partition(|(package, _)| definition.omit.contains(&package.name));
    let omitted = omitted
        .into_iter()
        .map(|(package, _)| (package, CarryReason::PrestageLeavesOut));
    selection.omitted.extend(omitted);
    let plan = PrestagePlan {
        prestage: name.clone(),
        model: definition.model,
        kept: kept.iter().map(item).collect(),
        omitted: selection.omitted.iter().map(item).collect(),
    };
    Ok(Draft {
        plan,
        stage,
        packages: kept.into_iter().map(|(package, _)| package).collect(),
        wanted,
    })
}

fn item((package, reason): &(Package, CarryReason)) -> PlanItem {
    PlanItem {
        name: package.name.clone(),
        version: package.version.clone(),
        kind: package.kind,
        content_bytes: package.content_bytes,
        reason: reason.to_string(),
        said: Some(reason.clone()),
    }
}

async fn definition(
    db: &mut AnyConnection,
    name: &PrestageName,
) -> Result<PrestageDefinition, Failure> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT definition FROM prestages WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&mut *db)
            .await
            .doing("read a prestage")?;
    stored(
        "prestage",
        &text.ok_or_else(|| Failure::not_found(format!("prestage {name}")))?,
    )
}

/// The factory sequence: the one the prestage names, otherwise what the deploy sequence comes to.
async fn stage_for(
    db: &mut AnyConnection,
    definition: &PrestageDefinition,
    deploy: &CompiledSequence,
) -> Result<CompiledSequence, Failure> {
    let Some(name) = &definition.stage else {
        return Ok(sequence::derive::stage_sequence(deploy));
    };
    let stage = compiled(db, name)
        .await?
        .ok_or_else(|| Failure::not_found(format!("sequence {name}")))?;
    sequence::derive::check_stage(&stage, deploy)
        .map_err(|mistake| Failure::bad_request("bad-stage", mistake.to_string()))?;
    Ok(stage)
}

async fn compiled(
    db: &mut AnyConnection,
    name: &SequenceName,
) -> Result<Option<CompiledSequence>, Failure> {
    let text: Option<String> = sqlx::query_scalar(
        "SELECT compiled FROM sequences WHERE name = $1 ORDER BY version DESC LIMIT 1",
    )
    .bind(name.as_str())
    .fetch_optional(&mut *db)
    .await
    .doing("read a sequence")?;
    text.map(|text| stored("sequence", &text)).transpose()
}

/// Nobody looks: the caller of a build waits for its end.
struct Silent;

impl content::Meter for Silent {
    fn report(&self, _done: u64, _total: u64) {}
}

/// Writes aside, syncs, renames: a bundle is there as a whole or not at all.
fn write_bundle(
    state: &AppState,
    root: BundleRoot,
    key: Option<&SigningKey>,
) -> Result<(Digest, u64), Failure> {
    let files = Files::of(state, &root.prestage, root.version);
    let (path, other) = match key {
        Some(_) => (files.signed, files.unsigned),
        None => (files.unsigned, files.signed),
    };
    let aside = state
        .bundles()
        .join(format!("{}@{}.new", root.prestage, root.version));
    let failed = |what| {
        let path = aside.clone();
        move |source| Failure::File { what, path, source }
    };
    let mut file = File::create(&aside).map_err(failed("create"))?;
    let library = state.library();
    let written =
        content::write_bundle(root, &library, key, &mut file, &Silent).map_err(|source| {
            Failure::Content {
                what: format!("write bundle {path}"),
                source,
            }
        });
    let written = written.and_then(|written| {
        file.sync_all().map_err(failed("sync"))?;
        std::fs::rename(&aside, &path).map_err(failed("rename"))?;
        // Of a build that was cut off and had the same version.
        secret::remove(&other)?;
        Ok(written)
    });
    if written.is_err()
        && let Err(error) = std::fs::remove_file(&aside)
    {
        tracing::warn!(%error, "cannot remove the unfinished bundle {aside}");
    }
    written
}

/// Where the bundle of a version lies: with a signature, and before it has one.
struct Files {
    signed: Utf8PathBuf,
    unsigned: Utf8PathBuf,
}

impl Files {
    fn of(state: &AppState, name: &PrestageName, version: u32) -> Self {
        let file = |ending| state.bundles().join(format!("{name}@{version}.{ending}"));
        Self {
            signed: file("bundle"),
            unsigned: file("unsigned"),
        }
    }

    /// The one that is there, if it is what the database knows as this version.
    fn open(&self, root: &Digest) -> Result<(Utf8PathBuf, Bundle<File, Unverified>), Failure> {
        let path = if self.unsigned.exists() {
            &self.unsigned
        } else {
            &self.signed
        };
        let failed = |source| Failure::File {
            what: "open",
            path: path.clone(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let bundle = Bundle::open(file, length).map_err(|source| Failure::Content {
            what: format!("open the bundle {path}"),
            source,
        })?;
        if Digest::of(bundle.root_bytes()) != *root {
            let message = "it isn't the bundle that was built as this version";
            return Err(failed(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                message,
            )));
        }
        Ok((path.clone(), bundle))
    }
}

/// A version that was built.
async fn one(
    state: &AppState,
    name: &PrestageName,
    version: u32,
) -> Result<PrestageVersion, Failure> {
    let mut db = state.db().read().acquire().await.doing("read a prestage")?;
    let id = PrestageId {
        prestage: name.clone(),
        version,
    };
    let built = built(&mut db, &id).await?;
    built.ok_or_else(|| Failure::not_found(format!("bundle {id}")))
}

/// `GET /api/v1/prestages/{name}/versions/{version}/root`: what is signed, byte by byte.
pub(crate) async fn root(
    State(state): State<AppState>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let name: PrestageName = parse(&name)?;
    let version: u32 = parse(&version)?;
    let built = one(&state, &name, version).await?;
    let files = Files::of(&state, &name, version);
    let root = blocking(move || Ok(files.open(&built.bundle)?.1.root_bytes().to_vec())).await?;
    let disposition = format!("attachment; filename=\"{name}@{version}.root\"");
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, root).into_response())
}

/// `PUT /api/v1/prestages/{name}/versions/{version}/signature`: made where the key is. Everything is checked before a byte of
/// it is written.
pub(crate) async fn sign(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path((name, version)): Path<(String, String)>,
    body: Body,
) -> Result<Json<PrestageVersion>, Failure> {
    let name: PrestageName = parse(&name)?;
    let version: u32 = parse(&version)?;
    let bytes = read_body(body, BundleSignature::BYTES_MAX).await?;
    let signature = BundleSignature::parse(&bytes)
        .map_err(|error| Failure::bad_request("bad-signature", error.to_string()))?;
    let _one_at_a_time = state.builds().lock().await;
    let built = one(&state, &name, version).await?;
    let key = keys::believed(&state, &signature.key, KeyPurpose::Bundle).await?;
    let files = Files::of(&state, &name, version);
    let id = format!("{name}@{version}");
    let signer = signature.key;
    blocking(move || put_signature(&files, &id, &built.bundle, &signature, &key)).await?;
    let mut db = state.db().write().await?;
    sqlx::query(
        "UPDATE prestage_versions SET signer = $1, signed = 1 WHERE prestage = $2 AND version = $3",
    )
    .bind(signer.to_string())
    .bind(name.as_str())
    .bind(i64::from(version))
    .execute(&mut *db)
    .await
    .doing("store a signature")?;
    audit(
        &mut db,
        &user.name,
        "prestage-signed",
        name.as_str(),
        &format!("version {version}, by the key {signer}"),
    )
    .await?;
    commit(db).await?;
    one(&state, &name, version).await.map(Json)
}

fn put_signature(
    files: &Files,
    id: &str,
    root: &Digest,
    signature: &BundleSignature,
    key: &VerifyingKey,
) -> Result<(), Failure> {
    let (path, bundle) = files.open(root)?;
    let checked = bundle
        .with_signature(signature)
        .and_then(|bundle| bundle.verify(&[*key]));
    if let Err(source) = checked {
        let code = match &source {
            ContentError::OtherRoot => "other-bundle",
            ContentError::BadSignature => "bad-signature",
            _ => {
                let what = format!("verify the bundle {path}");
                return Err(Failure::Content { what, source });
            }
        };
        let refused = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Failure::refused(refused, code, source.to_string())
            .hint(format!("sign what `forestage prestage root {id}` writes")));
    }
    let failed = |what| {
        let path = path.clone();
        move |source| Failure::File { what, path, source }
    };
    let file = File::options()
        .write(true)
        .open(&path)
        .map_err(failed("open"))?;
    content::put_signature(&file, signature).map_err(|source| Failure::Content {
        what: format!("sign the bundle {path}"),
        source,
    })?;
    if path != files.signed {
        std::fs::rename(&path, &files.signed).map_err(failed("rename"))?;
    }
    sync_parent(&files.signed)
}

/// `GET /api/v1/prestages/{name}/versions/{version}/bundle`: the whole file, or the range asked for.
pub(crate) async fn bundle(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let name: PrestageName = parse(&name)?;
    let version: u32 = parse(&version)?;
    if !user.has_prestage(&name) {
        return Err(Failure::not_found(format!("bundle {name}@{version}")));
    }
    let built = one(&state, &name, version).await?;
    let id = format!("{name}@{version}");
    let sign = format!(
        "sign its root where the key is, then `forestage prestage add-signature {id} FILE`"
    );
    match built.signed.state {
        SignatureState::Good => {}
        SignatureState::Waiting => {
            return Err(
                Failure::conflict("unsigned", format!("{id} waits for its signature")).hint(sign),
            );
        }
        SignatureState::Retired => {
            let message = format!("the key that signed {id} is retired");
            return Err(Failure::conflict("retired-key", message)
                .hint(format!("build a new version, or {sign}")));
        }
    }
    let path = Files::of(&state, &name, version).signed;
    let failed = |what| {
        let path = path.clone();
        move |source| Failure::File { what, path, source }
    };
    let file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::not_found(format!("bundle {name}@{version}")));
        }
        Err(source) => return Err(failed("open")(source)),
    };
    ranges::answer(file, &headers)
        .await
        .map_err(|source| failed("read")(source))
}
