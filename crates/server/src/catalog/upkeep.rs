//! Looking after the content library: what is in it and for whom, whether it is sound, and removing what nobody needs.
//!
//! Packages are never unpublished. Whatever a prestage, a deployment, an order or a staged device needs is a package, in
//! some version; so what no package names is needed by nobody.

use std::collections::HashSet;
use std::time::SystemTime;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use content::{ContentError, Library, NoMeter};
use wire::content::{CollectContent, Collected, ContentReport, ContentStats, PackageContent};
use wire::digest::Digest;
use wire::package::Package;

use crate::db::commit;
use crate::error::{Failure, chain};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::read_json;
use crate::state::{AppState, blocking};

/// `GET /api/v1/content/stats`
pub(crate) async fn stats(State(state): State<AppState>) -> Result<Json<ContentStats>, Failure> {
    let packages = published(&state).await?;
    let library = state.library();
    blocking(move || {
        let stats = library.stats();
        Ok(Json(ContentStats {
            packs: stats.packs,
            chunks: stats.chunks,
            content_bytes: stats.content_bytes,
            stored_bytes: stats.stored_bytes,
            manifests: manifests(&library)?.len() as u64,
            packages: contents(&library, &packages),
        }))
    })
    .await
}

/// `POST /api/v1/content/verify`
pub(crate) async fn verify(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<ContentReport>, Failure> {
    verified(&state, &user).await.map(Json)
}

/// Verifies everything, and notes that.
pub(crate) async fn verified(state: &AppState, user: &User) -> Result<ContentReport, Failure> {
    let packages = published(state).await?;
    let library = state.library();
    let report = blocking(move || {
        let found = library
            .verify(&NoMeter)
            .map_err(|source| failed("verify the content library", source))?;
        let mut packages = contents(&library, &packages);
        packages.retain(|package| !package.is_whole());
        Ok(ContentReport {
            chunks: found.chunks,
            bytes: found.bytes,
            damaged: found.damaged,
            packages,
        })
    })
    .await?;
    let detail = format!(
        "{} chunks right, {} damaged",
        report.chunks,
        report.damaged.len()
    );
    let mut db = state.db().write().await?;
    audit(&mut db, &user.name, "content-verified", "", &detail).await?;
    commit(db).await?;
    Ok(report)
}

/// `POST /api/v1/content/gc`
pub(crate) async fn gc(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<Collected>, Failure> {
    let CollectContent { dry_run } = read_json(body, JSON_BYTES_MAX).await?;
    collected(&state, &user, dry_run).await.map(Json)
}

/// Removes what no package names, or tells what that would be.
pub(crate) async fn collected(
    state: &AppState,
    user: &User,
    dry_run: bool,
) -> Result<Collected, Failure> {
    // Nothing is published from reading what is needed until the rest is gone.
    let _alone = state.collecting().write().await;
    let packages = published(state).await?;
    let needed: HashSet<Digest> = packages.iter().map(|package| package.manifest).collect();
    let settled_at = SystemTime::now() - state.content_settles_after();
    let library = state.library();
    let collected = blocking(move || {
        let plan = library.plan_gc(&needed, settled_at).map_err(|error| {
            let message = format!("nothing can be removed: {}", chain(&error));
            Failure::conflict("content-lost", message)
                .hint("import that package again, or repair the library")
        })?;
        if !dry_run {
            library.gc(&plan, &NoMeter).map_err(|source| match source {
                ContentError::LibraryInUse { .. } => {
                    let message = "another program reads the content library, such as a backup";
                    Failure::conflict("content-in-use", message).hint("try again when it is done")
                }
                source => failed("collect in the content library", source),
            })?;
        }
        Ok(Collected {
            dry_run,
            chunks: plan.chunks,
            packs_removed: plan.packs_removed() as u64,
            packs_rewritten: plan.packs_rewritten() as u64,
            freed_bytes: plan.freed_bytes,
            manifests: plan.manifests,
        })
    })
    .await?;
    if !dry_run {
        let detail = format!(
            "{} chunks, {} bytes",
            collected.chunks, collected.freed_bytes
        );
        let mut db = state.db().write().await?;
        audit(&mut db, &user.name, "content-collected", "", &detail).await?;
        commit(db).await?;
    }
    Ok(collected)
}

async fn published(state: &AppState) -> Result<Vec<Package>, Failure> {
    let rows = state.packages().await?;
    Ok(rows.into_iter().map(|row| row.package).collect())
}

fn manifests(library: &Library) -> Result<Vec<Digest>, Failure> {
    library
        .manifests()
        .map_err(|source| failed("list the manifests", source))
}

fn contents(library: &Library, packages: &[Package]) -> Vec<PackageContent> {
    packages
        .iter()
        .map(|package| content_of(library, package))
        .collect()
}

fn content_of(library: &Library, package: &Package) -> PackageContent {
    // A manifest that can't be read is as good as lost; why is in the log.
    let manifest = library
        .manifest(&package.manifest)
        .inspect_err(|error| tracing::warn!(error = %chain(error), "a package lost its manifest"))
        .ok();
    let chunks: HashSet<Digest> = (manifest.iter())
        .flat_map(|manifest| manifest.chunks())
        .map(|chunk| chunk.digest)
        .collect();
    let lost = manifest
        .as_ref()
        .map(|manifest| library.missing(manifest))
        .unwrap_or_default();
    PackageContent {
        name: package.name.clone(),
        version: package.version.clone(),
        manifest: package.manifest,
        chunks: chunks.len() as u64,
        content_bytes: package.content_bytes,
        lost: lost.iter().map(|chunk| chunk.digest).collect(),
        is_manifest_lost: manifest.is_none(),
    }
}

fn failed(what: &str, source: content::ContentError) -> Failure {
    Failure::Content {
        what: what.to_owned(),
        source,
    }
}
