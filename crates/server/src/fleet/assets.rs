//! The import of an asset file in one step: all of it or nothing. With a draft between: see `import`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use wire::admin_api::{AssetImportReport, AssetImportRow};
use wire::imports::{ImportCounts, ImportSettings, RowResult};
use wire::names::CollectionName;
use wire::reasons::texts;
use wire::webhooks::WebhookEvent;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure};
use crate::fleet::import::changes::{Basis, Changes};
use crate::fleet::import::columns::Field;
use crate::fleet::import::drafts::{Reading, read};
use crate::fleet::import::plan::{Planned, counts, plan};
use crate::fleet::import::routes::announce;
use crate::fleet::import::stage::{PLANS_MAX, Stage, to_its_end};
use crate::limits::ASSET_FILE_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_body};
use crate::state::{AppState, blocking};
use crate::webhooks::outbox::emit;

/// How an import is asked for.
#[derive(Debug, Clone, Deserialize)]
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
        return Err(bad_file(&problem.to_string()));
    }
    let reading = Arc::new(reading);
    let rows = {
        let (reading, options) = (Arc::clone(&reading), options.clone());
        to_its_end(async move {
            for _ in 0..PLANS_MAX {
                let once = import_once(&state, &user, &reading, collection.as_ref(), &options);
                if let Some(rows) = once.await? {
                    return Ok(rows);
                }
            }
            let message = "the fleet changes all the time; nothing was stored";
            Err(Failure::conflict("plan-changed", message).hint("try again"))
        })
        .await?
    };
    let counts = counts(&rows);
    Ok(Json(AssetImportReport {
        dry_run: options.dry_run,
        columns: reading
            .columns
            .columns
            .iter()
            .map(|column| (column.title.clone(), column.field.to_string()))
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

/// Plans the rows and, if all of them are good and it is more than a question, stores them. `None` if something changed in
/// between.
async fn import_once(
    state: &AppState,
    user: &User,
    reading: &Arc<Reading>,
    collection: Option<&CollectionName>,
    options: &Options,
) -> Result<Option<Vec<Planned>>, Failure> {
    let basis = Basis::read(state, collection).await?;
    let (version, reading, reach) = (basis.version, Arc::clone(reading), user.reach.clone());
    let joins = collection.is_some();
    let (rows, mut changes) = blocking(move || {
        let rows = plan(reading.rows.clone(), &basis.fleet, &reach);
        let changes = Changes::of(&rows, joins.then_some(&basis.members))?;
        Ok((rows, changes))
    })
    .await?;
    let counts = counts(&rows);
    if counts.refused() > 0 || options.dry_run {
        return Ok(Some(rows));
    }
    changes.rows.clear();
    let devices = changes.devices();
    let stage = Stage::lay_out(state.db(), version, changes).await?;
    let stored = store(state, user, &counts, collection, &stage).await;
    if matches!(stored, Ok(true)) {
        state.members().forget();
        announce(state, devices.iter());
    }
    stage.clear(state.db()).await;
    Ok(stored?.then_some(rows))
}

/// Stores all rows in one short transaction. `false` if the plan doesn't hold any more; then nothing is stored.
async fn store(
    state: &AppState,
    user: &User,
    counts: &ImportCounts,
    collection: Option<&CollectionName>,
    stage: &Stage,
) -> Result<bool, Failure> {
    let mut db = state.db().write().await?;
    if let Some(collection) = collection {
        require_collection(&mut db, collection).await?;
    }
    let subject = collection.map(ToString::to_string).unwrap_or_default();
    if !stage.take_over(&mut db, None, &subject).await? {
        return Ok(false);
    }
    let rows = counts.new + counts.changed + counts.unchanged + counts.skipped;
    let detail = format!("{rows} rows");
    audit(&mut db, &user.name, "assets-imported", &subject, &detail).await?;
    tell(&mut db, counts, collection).await?;
    commit(db).await?;
    Ok(true)
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
        problems: texts(&row.problems),
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
    connection: &mut sqlx::AnyConnection,
    collection: &CollectionName,
) -> Result<(), Failure> {
    let known: Option<String> = sqlx::query_scalar("SELECT name FROM collections WHERE name = $1")
        .bind(collection.as_str())
        .fetch_optional(connection)
        .await
        .doing("look up a collection")?;
    match known {
        Some(_) => Ok(()),
        None => Err(Failure::not_found(format!("collection {collection}")).hint("create it first")),
    }
}
