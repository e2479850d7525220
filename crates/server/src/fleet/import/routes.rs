//! `/api/v1/imports…`: upload, look, correct, accept, take back.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;
use wire::digest::Digest;
use wire::imports::{
    AcceptImport, IMPORT_ROWS_DEFAULT, IMPORT_ROWS_MAX, ImportCounts, ImportDraft, ImportRow,
    ImportSettings, ImportState, RowResult, UndoImport, UndoReport,
};
use wire::names::CollectionName;

use super::changes::{Basis, Changes, fleet};
use super::drafts::{self, Window};
use super::plan::{counts, digest, plan};
use super::profiles::mapping;
use super::stage::{PLANS_MAX, Stage, to_its_end};
use super::undo;
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, to_json};
use crate::fleet::assets::{bad_file, require_collection, tell};
use crate::fleet::version::fleet_version;
use crate::limits::{ASSET_FILE_BYTES_MAX, ASSET_TEXT_CHARS_MAX, JSON_BYTES_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_body, read_json};
use crate::state::{AppState, Change, blocking, now_ms};
use crate::text::clean;

/// Drafts that are kept; the oldest is discarded for a new one.
const DRAFTS_MAX: i64 = 50;

/// `GET /api/v1/imports`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<ImportRow>>, Failure> {
    drafts::list(&state, &user).await.map(Json)
}

/// What comes with a file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[derive(Default)]
pub(crate) struct Upload {
    file: String,
    collection: String,
    sheet: u32,
    profile: String,
}

/// `POST /api/v1/imports`
pub(crate) async fn upload(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(upload): Query<Upload>,
    body: Body,
) -> Result<Json<ImportDraft>, Failure> {
    let bytes = read_body(body, ASSET_FILE_BYTES_MAX).await?;
    let settings = ImportSettings {
        sheet: upload.sheet,
        profile: upload.profile,
        collection: upload.collection,
        ..ImportSettings::default()
    };
    let profiles = super::profiles::all(&state).await?;
    // Read before it is kept: what is no table never becomes a draft.
    let (bytes, digest) = {
        let settings = settings.clone();
        blocking(move || {
            drafts::read(&bytes, &settings, &profiles)?;
            let digest = Digest::of(&bytes).to_string();
            Ok((bytes, digest))
        })
        .await?
    };
    let file = match clean(&upload.file, ASSET_TEXT_CHARS_MAX) {
        name if name.is_empty() => "nameless".to_owned(),
        name => name,
    };
    let mut db = state.db().write().await?;
    check_collection(&mut db, &settings).await?;
    make_room(&mut db).await?;
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO imports (file_name, digest, file_bytes, content, settings, state, counts, report, uploaded_by, \
         uploaded_at_ms, accepted_by, accepted_at_ms, undone_by, undone_at_ms) \
         VALUES ($1, $2, $3, $4, $5, 'draft', '{}', '', $6, $7, '', 0, '', 0) RETURNING id",
    )
    .bind(&file)
    .bind(&digest)
    .bind(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
    .bind(bytes.to_vec())
    .bind(to_json("write settings", &settings)?)
    .bind(&user.name)
    .bind(now_ms())
    .fetch_one(&mut *db)
    .await
    .doing("store a draft")?;
    audit(
        &mut db,
        &user.name,
        "import-uploaded",
        &id.to_string(),
        &file,
    )
    .await?;
    commit(db).await?;
    look(&state, &user, id).await.map(Json)
}

/// Reads a draft anew and notes what it would do.
async fn look(state: &AppState, user: &User, id: i64) -> Result<ImportDraft, Failure> {
    let row = drafts::get(state, user, id).await?;
    let window = Window {
        result: None,
        offset: 0,
        limit: IMPORT_ROWS_DEFAULT,
    };
    let draft = drafts::show(state, user, row, window).await?;
    let mut db = state.db().write().await?;
    drafts::store_draft(&mut db, id, &draft.import.settings, &draft.import.counts).await?;
    commit(db).await?;
    Ok(draft)
}

async fn check_collection(db: &mut Write, settings: &ImportSettings) -> Result<(), Failure> {
    match collection(settings)? {
        Some(collection) => require_collection(db, &collection).await,
        None => Ok(()),
    }
}

fn collection(settings: &ImportSettings) -> Result<Option<CollectionName>, Failure> {
    let name = settings.collection.as_str();
    (!name.is_empty()).then(|| parse(name)).transpose()
}

async fn make_room(db: &mut Write) -> Result<(), Failure> {
    let oldest: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM imports WHERE state = 'draft' ORDER BY id DESC LIMIT 1000 OFFSET $1",
    )
    .bind(DRAFTS_MAX - 1)
    .fetch_all(&mut **db)
    .await
    .doing("count the drafts")?;
    for id in oldest {
        set_discarded(db, id).await?;
    }
    Ok(())
}

async fn set_discarded(db: &mut Write, id: i64) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE imports SET state = 'discarded', content = $1 WHERE id = $2 AND state = 'draft'",
    )
    .bind(Vec::<u8>::new())
    .bind(id)
    .execute(&mut **db)
    .await
    .doing("discard a draft")?;
    Ok(())
}

/// Which rows are asked for.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Rows {
    result: String,
    limit: Option<usize>,
    offset: usize,
}

impl Rows {
    fn window(&self) -> Result<Window, Failure> {
        let result = match self.result.as_str() {
            "" => None,
            word => {
                let result = RowResult::ALL.into_iter().find(|r| r.word() == word);
                let unknown = || {
                    Failure::bad_request("bad-result", format!("{word:?} is no result of a row"))
                };
                Some(result.ok_or_else(unknown)?)
            }
        };
        Ok(Window {
            result,
            offset: self.offset,
            limit: self
                .limit
                .unwrap_or(IMPORT_ROWS_DEFAULT)
                .min(IMPORT_ROWS_MAX),
        })
    }
}

/// `GET /api/v1/imports/{id}`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<i64>,
    Query(rows): Query<Rows>,
) -> Result<Json<ImportDraft>, Failure> {
    let window = rows.window()?;
    let row = drafts::get(&state, &user, id).await?;
    drafts::show(&state, &user, row, window).await.map(Json)
}

fn no_draft(row: &ImportRow) -> Failure {
    let message = format!("import {} is {}, no draft", row.import, row.state.word());
    Failure::conflict("no-draft", message).hint("upload the file again to get a new draft")
}

/// `POST /api/v1/imports/{id}/settings`
pub(crate) async fn settings(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<i64>,
    body: Body,
) -> Result<Json<ImportDraft>, Failure> {
    let settings: ImportSettings = read_json(body, JSON_BYTES_MAX).await?;
    mapping(&settings.mapping)?;
    let row = drafts::get(&state, &user, id).await?;
    if row.state != ImportState::Draft {
        return Err(no_draft(&row));
    }
    let trial = ImportRow {
        settings: settings.clone(),
        ..row
    };
    drafts::reading(&state, &trial).await?;
    let mut db = state.db().write().await?;
    check_collection(&mut db, &settings).await?;
    drafts::store_draft(&mut db, id, &settings, &trial.counts).await?;
    commit(db).await?;
    look(&state, &user, id).await.map(Json)
}

/// `POST /api/v1/imports/{id}/accept`
pub(crate) async fn accept(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<i64>,
    body: Body,
) -> Result<Json<ImportRow>, Failure> {
    let wish: AcceptImport = read_json(body, JSON_BYTES_MAX).await?;
    to_its_end(async move {
        for _ in 0..PLANS_MAX {
            if let Some(row) = accept_once(&state, &user, id, &wish).await? {
                return Ok(Json(row));
            }
        }
        Err(plan_changed())
    })
    .await
}

fn plan_changed() -> Failure {
    let message = "the fleet or the draft has changed since you looked at it";
    Failure::conflict("plan-changed", message).hint("look at the draft again")
}

/// A draft, planned.
struct Decided {
    row: ImportRow,
    collection: Option<CollectionName>,
    counts: ImportCounts,
    version: i64,
    changes: Changes,
}

/// Plans a draft and carries the plan out. `None` if something changed in between.
async fn accept_once(
    state: &AppState,
    user: &User,
    id: i64,
    wish: &AcceptImport,
) -> Result<Option<ImportRow>, Failure> {
    let mut decided = decide(state, user, id, wish).await?;
    let devices = decided.changes.devices();
    let changes = std::mem::take(&mut decided.changes);
    let stage = Stage::lay_out(state.db(), decided.version, changes).await?;
    let accepted = take_over(state, user, &decided, &stage).await;
    if matches!(accepted, Ok(true)) {
        state.members().forget();
        announce(state, devices.iter());
    }
    stage.clear(state.db()).await;
    match accepted? {
        true => drafts::get(state, user, id).await.map(Some),
        false => Ok(None),
    }
}

/// Decides every row and whether they may be stored; nothing is written.
async fn decide(
    state: &AppState,
    user: &User,
    id: i64,
    wish: &AcceptImport,
) -> Result<Decided, Failure> {
    let row = drafts::get(state, user, id).await?;
    if row.state != ImportState::Draft {
        return Err(no_draft(&row));
    }
    let reading = drafts::reading(state, &row).await?;
    if let Some(problem) = reading.problems.first() {
        return Err(bad_file(&problem.to_string()));
    }
    let collection = collection(&row.settings)?;
    let basis = Basis::read(state, collection.as_ref()).await?;
    let (wish, reach) = (wish.clone(), user.reach.clone());
    blocking(move || {
        let planned = plan(reading.rows, &basis.fleet, &reach);
        if !wish.seen.is_empty() && wish.seen != digest(&planned) {
            return Err(plan_changed());
        }
        let counts = counts(&planned);
        if counts.refused() > 0 && !wish.valid_rows_only {
            let message = format!(
                "{} invalid and {} duplicate rows stand in the way; nothing was stored",
                counts.invalid, counts.duplicate
            );
            return Err(Failure::conflict("rows-refused", message)
                .hint("correct the file, or accept the valid rows only"));
        }
        let members = collection.is_some().then_some(&basis.members);
        Ok(Decided {
            changes: Changes::of(&planned, members)?,
            row,
            collection,
            counts,
            version: basis.version,
        })
    })
    .await
}

/// Stores all of a plan in one short transaction. `false` if it doesn't hold any more; then nothing is stored.
async fn take_over(
    state: &AppState,
    user: &User,
    decided: &Decided,
    stage: &Stage,
) -> Result<bool, Failure> {
    let id = decided.row.import;
    let mut db = state.db().write().await?;
    let row = drafts::get_in(&mut db, user, id).await?;
    if row.state != ImportState::Draft {
        return Err(no_draft(&row));
    }
    check_collection(&mut db, &row.settings).await?;
    if row.settings != decided.row.settings
        || !stage
            .take_over(&mut db, Some(id), &row.settings.collection)
            .await?
    {
        return Ok(false);
    }
    let counts = &decided.counts;
    set_accepted(&mut db, user, id, counts).await?;
    let detail = format!(
        "{} new, {} changed, {} unchanged, {} left out",
        counts.new,
        counts.changed,
        counts.unchanged,
        counts.refused()
    );
    audit(
        &mut db,
        &user.name,
        "import-accepted",
        &id.to_string(),
        &detail,
    )
    .await?;
    tell(&mut db, counts, decided.collection.as_ref()).await?;
    commit(db).await?;
    Ok(true)
}

async fn set_accepted(
    db: &mut Write,
    user: &User,
    id: i64,
    counts: &ImportCounts,
) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE imports SET state = 'accepted', counts = $1, accepted_by = $2, accepted_at_ms = $3 WHERE id = $4",
    )
    .bind(to_json("write counts", counts)?)
    .bind(&user.name)
    .bind(now_ms())
    .bind(id)
    .execute(&mut **db)
    .await
    .doing("accept an import")?;
    Ok(())
}

pub(crate) fn announce<'a>(state: &AppState, devices: impl Iterator<Item = &'a String>) {
    for device in devices.filter_map(|device| device.parse().ok()) {
        state.changed(Change::Device(device));
    }
}

/// `POST /api/v1/imports/{id}/discard`
pub(crate) async fn discard(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<i64>,
) -> Result<Json<ImportRow>, Failure> {
    let mut db = state.db().write().await?;
    let row = drafts::get_in(&mut db, &user, id).await?;
    if row.state != ImportState::Draft {
        return Err(no_draft(&row));
    }
    set_discarded(&mut db, id).await?;
    audit(
        &mut db,
        &user.name,
        "import-discarded",
        &id.to_string(),
        &row.file,
    )
    .await?;
    commit(db).await?;
    drafts::get(&state, &user, id).await.map(Json)
}

/// Decides what taking back an import does, and on which fleet that rests.
async fn plan_undo(
    state: &AppState,
    user: &User,
    id: i64,
    wish: &UndoImport,
) -> Result<(undo::Undo, i64), Failure> {
    let mut connection = state.db().read().acquire().await.doing("read an import")?;
    let version = fleet_version(&mut connection).await?;
    let rows = drafts::done_rows(&mut connection, id).await?;
    let fleet = fleet(&mut connection).await?;
    let in_use = undo::in_use(&mut connection).await?;
    drop(connection);
    let (reach, wish) = (user.reach.clone(), wish.clone());
    blocking(move || Ok((undo::plan(&rows, &fleet, &in_use, &reach, &wish)?, version))).await
}

/// What taking back an accepted import would do.
pub(crate) async fn undo_report(
    state: &AppState,
    user: &User,
    row: &ImportRow,
    wish: &UndoImport,
) -> Result<UndoReport, Failure> {
    let (undo, _) = plan_undo(state, user, row.import, wish).await?;
    Ok(undo.report)
}

/// `POST /api/v1/imports/{id}/undo`
pub(crate) async fn take_back(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<i64>,
    body: Body,
) -> Result<Json<UndoReport>, Failure> {
    let wish: UndoImport = read_json(body, JSON_BYTES_MAX).await?;
    to_its_end(async move {
        for _ in 0..PLANS_MAX {
            if let Some(report) = take_back_once(&state, &user, id, &wish).await? {
                return Ok(Json(report));
            }
        }
        let message = "the fleet changes all the time; nothing was taken back";
        Err(Failure::conflict("plan-changed", message).hint("try again"))
    })
    .await
}

fn require_accepted(row: &ImportRow) -> Result<(), Failure> {
    if row.state == ImportState::Accepted {
        return Ok(());
    }
    let message = format!(
        "import {} is {}, not accepted",
        row.import,
        row.state.word()
    );
    Err(Failure::conflict("not-accepted", message))
}

/// Plans an undo and carries the plan out. `None` if something changed in between.
async fn take_back_once(
    state: &AppState,
    user: &User,
    id: i64,
    wish: &UndoImport,
) -> Result<Option<UndoReport>, Failure> {
    require_accepted(&drafts::get(state, user, id).await?)?;
    let (undo, version) = plan_undo(state, user, id, wish).await?;
    if wish.dry_run {
        return Ok(Some(undo.report));
    }
    let devices = undo.changes.devices();
    let stage = Stage::lay_out(state.db(), version, undo.changes).await?;
    let undone = undo_all(state, user, id, &undo.report, &stage).await;
    if matches!(undone, Ok(true)) {
        state.members().forget();
        announce(state, devices.iter());
    }
    stage.clear(state.db()).await;
    Ok(undone?.then_some(undo.report))
}

/// Takes everything back in one short transaction. `false` if the plan doesn't hold any more; then nothing is changed.
async fn undo_all(
    state: &AppState,
    user: &User,
    id: i64,
    report: &UndoReport,
    stage: &Stage,
) -> Result<bool, Failure> {
    let mut db = state.db().write().await?;
    let row = drafts::get_in(&mut db, user, id).await?;
    require_accepted(&row)?;
    if !stage
        .take_over(&mut db, None, &row.settings.collection)
        .await?
    {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE imports SET state = 'undone', report = $1, undone_by = $2, undone_at_ms = $3 WHERE id = $4",
    )
    .bind(to_json("write a report", report)?)
    .bind(&user.name)
    .bind(now_ms())
    .bind(id)
    .execute(&mut *db)
    .await
    .doing("note that an import is undone")?;
    let detail = format!(
        "{} deleted, {} restored, {} kept",
        report.deleted,
        report.restored,
        report.kept.len()
    );
    audit(
        &mut db,
        &user.name,
        "import-undone",
        &id.to_string(),
        &detail,
    )
    .await?;
    commit(db).await?;
    Ok(true)
}
