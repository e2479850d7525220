//! The import of an asset file in one step: all of it or nothing. With a draft between: see `import`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use wire::admin_api::{AssetImportReport, AssetImportRow};
use wire::imports::{ImportCounts, ImportSettings, RowResult};
use wire::names::CollectionName;
use wire::webhooks::WebhookEvent;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure};
use crate::fleet::import::columns::Field;
use crate::fleet::import::drafts::{Reading, read};
use crate::fleet::import::plan::{Planned, counts, plan};
use crate::fleet::import::write::{apply, fleet};
use crate::limits::ASSET_FILE_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_body};
use crate::state::{AppState, Change, blocking};
use crate::webhooks::outbox::emit;

/// How an import is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Options {
    /// Also put every row into this collection.
    #[serde(default)]
    collection: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/assets/import`
pub(crate) async fn import(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(options): Query<Options>,
    body: Body,
) -> Result<Json<AssetImportReport>, Failure> {
    let collection: Option<CollectionName> =
        options.collection.as_deref().map(parse).transpose()?;
    let bytes = read_body(body, ASSET_FILE_BYTES_MAX).await?;
    let reading = blocking(move || read(&bytes, &ImportSettings::default(), &[])).await?;
    if let Some(problem) = reading.problems.first() {
        return Err(bad_file(problem));
    }
    let Reading { columns, rows, .. } = reading;
    let mut db = state.db().write().await?;
    if let Some(collection) = &collection {
        require_collection(&mut db, collection).await?;
    }
    let rows = plan(rows, &fleet(&mut db).await?, &user.reach);
    let counts = counts(&rows);
    if counts.refused() == 0 && !options.dry_run {
        let changed = apply(&mut db, None, &rows, collection.as_ref()).await?;
        let detail = format!("{} rows", rows.len());
        let subject = collection
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        audit(&mut db, &user.name, "assets-imported", &subject, &detail).await?;
        tell(&mut db, &counts, collection.as_ref()).await?;
        commit(db).await?;
        state.members().forget();
        for device in changed.iter().filter_map(|device| device.parse().ok()) {
            state.changed(Change::Device(device));
        }
    } else {
        drop(db);
    }
    Ok(Json(AssetImportReport {
        dry_run: options.dry_run,
        columns: columns
            .columns
            .into_iter()
            .map(|column| (column.title, column.field.to_string()))
            .collect(),
        new: counts.new,
        changed: counts.changed,
        unchanged: counts.unchanged,
        invalid: counts.refused(),
        rows: rows
            .iter()
            .filter(|row| row.result != RowResult::Skipped)
            .map(report_row)
            .collect(),
    }))
}

/// Why a file is no asset file.
pub(crate) fn bad_file(why: &str) -> Failure {
    Failure::refused(StatusCode::UNPROCESSABLE_ENTITY, "bad-asset-file", why).hint(
        "the first line holds the titles of the columns, such as: serial;asset tag;site;class",
    )
}

fn report_row(row: &Planned) -> AssetImportRow {
    // This report knows no word for duplicates.
    let result = if row.result.is_valid() {
        row.result
    } else {
        RowResult::Invalid
    };
    AssetImportRow {
        line: row.row.line,
        serial: row.row.text(&Field::Serial).to_owned(),
        result: result.word().to_owned(),
        problems: row.problems.clone(),
    }
}

/// Tells others that assets were imported.
pub(crate) async fn tell(
    db: &mut Write,
    counts: &ImportCounts,
    collection: Option<&CollectionName>,
) -> Result<(), Failure> {
    let data = json!({
        "new": counts.new, "changed": counts.changed, "unchanged": counts.unchanged, "collection": collection,
    });
    emit(db, WebhookEvent::ImportAccepted, data).await
}

/// A collection that is imported into is there before.
pub(crate) async fn require_collection(
    db: &mut Write,
    collection: &CollectionName,
) -> Result<(), Failure> {
    let known: Option<String> = sqlx::query_scalar("SELECT name FROM collections WHERE name = $1")
        .bind(collection.as_str())
        .fetch_optional(&mut **db)
        .await
        .doing("look up a collection")?;
    match known {
        Some(_) => Ok(()),
        None => Err(Failure::not_found(format!("collection {collection}")).hint("create it first")),
    }
}
