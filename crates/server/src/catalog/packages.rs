//! Packages: published once their content is here, and current from then on.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use serde_json::Value;
use wire::admin_api::{PackageRow, PackageUses, StepUse};
use wire::drift::PrestageId;
use wire::names::PackageName;
use wire::package::Package;

use crate::db::commit;
use crate::error::{Doing as _, Failure, chain, stored, to_json};
use crate::limits::{JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_json};
use crate::state::{AppState, blocking, now_ms};
use crate::text::clean;

impl AppState {
    /// Every version of every package, newest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn packages(&self) -> Result<Vec<PackageRow>, Failure> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT packages.document, packages.published_at_ms, \
             CASE WHEN package_current.version = packages.version THEN 1 ELSE 0 END \
             FROM packages LEFT JOIN package_current ON package_current.name = packages.name \
             ORDER BY packages.name, packages.published_at_ms DESC",
        )
        .fetch_all(self.db().read())
        .await
        .doing("read the packages")?;
        let row = |(document, published_at_ms, current): (String, i64, i64)| {
            Ok(PackageRow {
                package: stored("package", &document)?,
                published_at_ms,
                current: current != 0,
            })
        };
        rows.into_iter().map(row).collect()
    }
}

/// `GET /api/v1/packages`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<PackageRow>>, Failure> {
    state.packages().await.map(Json)
}

/// `POST /api/v1/packages`
pub(crate) async fn publish(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<PackageRow>, Failure> {
    let mut package: Package = read_json(body, JSON_BYTES_MAX).await?;
    package.title = clean(&package.title, TITLE_CHARS_MAX);
    // Until it is stored that the package needs its content, nobody may collect it.
    let _not_meanwhile = state.collecting().read().await;
    check_content(&state, &package).await?;
    let document = to_json("write a package", &package)?;
    let (name, version) = (package.name.as_str(), package.version.as_str());
    let mut db = state.db().write().await?;
    let known: Option<(String, i64)> = sqlx::query_as(
        "SELECT document, published_at_ms FROM packages WHERE name = $1 AND version = $2",
    )
    .bind(name)
    .bind(version)
    .fetch_optional(&mut *db)
    .await
    .doing("look up a package")?;
    let published_at_ms = match known {
        Some((known, at)) if stored::<Package>("package", &known)? == package => at,
        Some(_) => {
            let message =
                format!("package {name} {version} is published already, with other content");
            return Err(Failure::conflict("version-taken", message)
                .hint("publish it under another version"));
        }
        None => {
            let now = now_ms();
            sqlx::query(
                "INSERT INTO packages (name, version, document, manifest, published_at_ms) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(name)
            .bind(version)
            .bind(document)
            .bind(package.manifest.to_string())
            .bind(now)
            .execute(&mut *db)
            .await
            .doing("store a package")?;
            now
        }
    };
    sqlx::query(
        "INSERT INTO package_current (name, version) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET version = excluded.version",
    )
    .bind(name)
    .bind(version)
    .execute(&mut *db)
    .await
    .doing("make a package current")?;
    audit(&mut db, &user.name, "package-published", name, version).await?;
    commit(db).await?;
    state.published().notify_one();
    Ok(Json(PackageRow {
        package,
        published_at_ms,
        current: true,
    }))
}

/// A package is published only with all of its content, and says the truth about it.
async fn check_content(state: &AppState, package: &Package) -> Result<(), Failure> {
    let library = state.library();
    let package = package.clone();
    blocking(move || {
        let failed = |source| Failure::Content {
            what: format!("read manifest {}", package.manifest),
            source,
        };
        let Some(bytes) = library.manifest_bytes(&package.manifest).map_err(failed)? else {
            let message = format!("manifest {} is not here", package.manifest);
            return Err(Failure::conflict("content-missing", message).hint("upload it first"));
        };
        let manifest = content::Manifest::decode(&bytes).map_err(|error| {
            Failure::bad_request("bad-content", format!("bad manifest: {}", chain(&error)))
        })?;
        let missing = library.missing(&manifest).len();
        if missing > 0 {
            let message = format!(
                "{missing} chunks of manifest {} are not here",
                package.manifest
            );
            return Err(Failure::conflict("content-missing", message).hint("upload them first"));
        }
        let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if bytes != package.manifest_bytes || manifest.content_bytes() != package.content_bytes {
            return Err(Failure::bad_request(
                "wrong-size",
                "the sizes don't fit the manifest",
            ));
        }
        Ok(())
    })
    .await
}

/// `GET /api/v1/packages/{name}/uses`
pub(crate) async fn get_uses(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<PackageUses>, Failure> {
    let name: PackageName = parse(&name)?;
    let known = state.packages().await?;
    if !known.iter().any(|row| row.package.name == name) {
        return Err(Failure::not_found(format!("package {name}")));
    }
    uses(&state, &user, &name).await.map(Json)
}

/// Where a package is used, as far as someone sees it.
pub(crate) async fn uses(
    state: &AppState,
    user: &User,
    name: &PackageName,
) -> Result<PackageUses, Failure> {
    let mut uses = PackageUses::default();
    for row in state.sequences().await? {
        let Some((_, compiled)) = state.sequence_version(&row.name, row.version).await? else {
            continue;
        };
        let steps = compiled.steps.into_iter();
        let naming = steps.filter(|step| names(&step.with, name.as_str()));
        uses.steps.extend(naming.map(|step| StepUse {
            sequence: row.name.clone(),
            step: step.path,
        }));
    }
    let mut prestages = state.prestages().await?;
    prestages.retain(|version| user.has_prestage(&version.prestage));
    // Newest first: the first of a name is its latest version.
    prestages.dedup_by(|later, first| later.prestage == first.prestage);
    prestages.retain(|version| version.plan.kept.iter().any(|item| item.name == *name));
    uses.prestages = prestages
        .into_iter()
        .map(|version| PrestageId {
            prestage: version.prestage,
            version: version.version,
        })
        .collect();
    uses.deployments = state.deployments().await?;
    uses.deployments.retain(|deployment| {
        let mut sequences = uses.steps.iter();
        sequences.any(|used| used.sequence == deployment.sequence)
    });
    Ok(uses)
}

/// Whether a value of a step is this name, or holds it.
fn names(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Array(values) => values.iter().any(|value| names(value, name)),
        Value::Object(values) => values.values().any(|value| names(value, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_names_a_package_at_any_depth_and_only_whole() {
        let with = json!({ "packages": ["vim", { "name": "java-17" }], "n": 1 });
        assert!(names(&with, "vim") && names(&with, "java-17"));
        assert!(!names(&with, "java") && !names(&with, "packages"));
    }
}
