//! Imports as they are kept: the file, how it is read, what became of it.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use wire::imports::{
    FieldChange, ImportColumn, ImportCounts, ImportDraft, ImportLine, ImportProfile, ImportRow,
    ImportSettings, ImportState, RowResult, UnknownModel,
};
use wire::reasons::{FileReason, RowReason, texts};

use super::changes::fleet;
use super::columns::{Columns, columns, title_key};
use super::plan::{Planned, Values, counts, digest, plan};
use super::profiles::{self, mapping};
use super::rows::{Row, rows};
use crate::db::Write;
use crate::error::{Doing as _, Failure, all_said, stored};
use crate::fleet::aliases::{KnownModels, known_models, model_key};
use crate::fleet::assets::bad_file;
use crate::limits::LIST_ROWS_MAX;
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::state::{AppState, blocking};
use crate::table::{self, Book, Sheet};

/// Sample values of a column.
const SAMPLES_MAX: usize = 3;
/// A sample, in characters.
const SAMPLE_CHARS_MAX: usize = 60;
/// Names of models that are asked about: a file with more has its columns mixed up.
const UNKNOWN_MODELS_MAX: usize = 20;
/// The profile that is none.
const NO_PROFILE: &str = "none";

/// A file, read the way its settings say.
pub(crate) struct Reading {
    pub(crate) form: String,
    pub(crate) sheets: Vec<String>,
    /// From 1.
    pub(crate) sheet: usize,
    pub(crate) profile: Option<String>,
    pub(crate) columns: Columns,
    pub(crate) samples: Vec<Vec<String>>,
    pub(crate) rows: Vec<Row>,
    pub(crate) problems: Vec<FileReason>,
}

/// Reads a file. Blocking: call it beside the async threads.
pub(crate) fn read(
    bytes: &[u8],
    settings: &ImportSettings,
    profiles: &[ImportProfile],
) -> Result<Reading, Failure> {
    let book = table::read(bytes).map_err(|error| {
        Failure::refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-asset-file",
            error.to_string(),
        )
        .hint(error.hint())
    })?;
    let profile = choose_profile(&book, settings, profiles)?;
    let mut told = match profile {
        Some(profile) => mapping(&profile.mapping)?,
        None => Default::default(),
    };
    told.extend(mapping(&settings.mapping)?);
    let fits = |sheet: &Sheet| columns(sheet, &told).is_some_and(|c| c.problems.is_empty());
    let number = match usize::try_from(settings.sheet).unwrap_or(usize::MAX) {
        0 => {
            let sheets = || book.sheets.iter().enumerate();
            let fitting = sheets().find(|(_, sheet)| !sheet.hidden && fits(sheet));
            let filled = || sheets().find(|(_, sheet)| !sheet.hidden && !sheet.lines.is_empty());
            fitting.or_else(filled).map_or(0, |(at, _)| at)
        }
        number if number <= book.sheets.len() => number - 1,
        number => {
            let message = format!(
                "there is no sheet {number}; the file has {}",
                book.sheets.len()
            );
            return Err(bad_file(&message));
        }
    };
    let sheet = &book.sheets[number];
    let columns = columns(sheet, &told).ok_or_else(|| bad_file("the sheet is empty"))?;
    let mut problems = columns.problems.clone();
    let rows = if problems.is_empty() {
        rows(sheet, &columns)
    } else {
        Vec::new()
    };
    if problems.is_empty() && rows.is_empty() {
        problems.push(FileReason::NoRows { line: columns.line });
    }
    Ok(Reading {
        form: book.form.clone(),
        sheets: book.sheets.iter().map(|sheet| sheet.name.clone()).collect(),
        sheet: number + 1,
        profile: profile.map(|profile| profile.name.clone()),
        samples: samples(sheet, &columns),
        columns,
        rows,
        problems,
    })
}

fn choose_profile<'a>(
    book: &Book,
    settings: &ImportSettings,
    profiles: &'a [ImportProfile],
) -> Result<Option<&'a ImportProfile>, Failure> {
    match settings.profile.as_str() {
        NO_PROFILE => Ok(None),
        "" => {
            let recognised = profiles
                .iter()
                .filter(|profile| book.sheets.iter().any(|sheet| knows(profile, sheet)));
            Ok(recognised.max_by_key(|profile| profile.titles.len()))
        }
        name => profiles
            .iter()
            .find(|profile| profile.name == name)
            .map(Some)
            .ok_or_else(|| Failure::not_found(format!("import profile {name}"))),
    }
}

/// Whether some line of the sheet has all the titles of a profile.
fn knows(profile: &ImportProfile, sheet: &Sheet) -> bool {
    let titles: BTreeSet<String> = profile.titles.iter().map(|t| title_key(t)).collect();
    sheet.lines.iter().take(60).any(|line| {
        let cells: BTreeSet<String> = line.cells.iter().map(|cell| title_key(cell)).collect();
        titles.is_subset(&cells)
    })
}

fn samples(sheet: &Sheet, columns: &Columns) -> Vec<Vec<String>> {
    let below: Vec<_> = sheet
        .lines
        .iter()
        .filter(|line| line.number > columns.line)
        .collect();
    (0..columns.columns.len())
        .map(|at| {
            let cells = below.iter().filter_map(|line| line.cells.get(at));
            let filled = cells.filter(|cell| !cell.is_empty());
            filled
                .take(SAMPLES_MAX)
                .map(|cell| crate::text::clean(cell, SAMPLE_CHARS_MAX))
                .collect()
        })
        .collect()
}

/// An import as it is stored, without its bytes.
#[derive(sqlx::FromRow)]
struct StoredImport {
    id: i64,
    file_name: String,
    digest: String,
    file_bytes: i64,
    settings: String,
    state: String,
    counts: String,
    uploaded_by: String,
    uploaded_at_ms: i64,
    accepted_by: String,
    accepted_at_ms: i64,
    undone_by: String,
    undone_at_ms: i64,
}

const COLUMNS: &str = "SELECT id, file_name, digest, file_bytes, settings, state, counts, uploaded_by, \
     uploaded_at_ms, accepted_by, accepted_at_ms, undone_by, undone_at_ms FROM imports";

impl StoredImport {
    fn row(self) -> Result<ImportRow, Failure> {
        let state = match self.state.as_str() {
            "accepted" => ImportState::Accepted,
            "discarded" => ImportState::Discarded,
            "undone" => ImportState::Undone,
            _ => ImportState::Draft,
        };
        let time = |ms: i64| (ms > 0).then_some(ms);
        let name = |name: String| (!name.is_empty()).then_some(name);
        Ok(ImportRow {
            import: self.id,
            file: self.file_name,
            digest: self.digest,
            file_bytes: u64::try_from(self.file_bytes).unwrap_or(0),
            state,
            counts: stored("counts of an import", &self.counts)?,
            settings: stored("settings of an import", &self.settings)?,
            uploaded_by: self.uploaded_by,
            uploaded_at_ms: self.uploaded_at_ms,
            accepted_by: name(self.accepted_by),
            accepted_at_ms: time(self.accepted_at_ms),
            undone_by: name(self.undone_by),
            undone_at_ms: time(self.undone_at_ms),
        })
    }
}

/// Who looks after one site sees what they uploaded themselves: a file holds machines of any site.
fn is_seen(user: &User, row: &ImportRow) -> bool {
    user.reach == Reach::Everywhere || row.uploaded_by == user.name
}

/// All imports that someone sees, newest first.
pub(crate) async fn list(state: &AppState, user: &User) -> Result<Vec<ImportRow>, Failure> {
    let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} ORDER BY id DESC LIMIT $1"));
    let rows: Vec<StoredImport> = sqlx::query_as(sql)
        .bind(LIST_ROWS_MAX)
        .fetch_all(state.db().read())
        .await
        .doing("read the imports")?;
    let rows: Vec<ImportRow> = rows
        .into_iter()
        .map(StoredImport::row)
        .collect::<Result<_, _>>()?;
    Ok(rows.into_iter().filter(|row| is_seen(user, row)).collect())
}

/// One import; one that isn't seen isn't there.
pub(crate) async fn get(state: &AppState, user: &User, id: i64) -> Result<ImportRow, Failure> {
    let mut connection = state.db().read().acquire().await.doing("read an import")?;
    get_in(&mut connection, user, id).await
}

/// The same within a transaction.
pub(crate) async fn get_in(
    connection: &mut sqlx::AnyConnection,
    user: &User,
    id: i64,
) -> Result<ImportRow, Failure> {
    let sql = sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE id = $1"));
    let row: Option<StoredImport> = sqlx::query_as(sql)
        .bind(id)
        .fetch_optional(connection)
        .await
        .doing("read an import")?;
    row.map(StoredImport::row)
        .transpose()?
        .filter(|row| is_seen(user, row))
        .ok_or_else(|| Failure::not_found(format!("import {id}")))
}

/// A draft's file, read the way its settings say.
pub(crate) async fn reading(state: &AppState, row: &ImportRow) -> Result<Reading, Failure> {
    let bytes: Vec<u8> = sqlx::query_scalar("SELECT content FROM imports WHERE id = $1")
        .bind(row.import)
        .fetch_one(state.db().read())
        .await
        .doing("read the file of an import")?;
    let profiles = profiles::all(state).await?;
    let settings = row.settings.clone();
    blocking(move || read(&bytes, &settings, &profiles)).await
}

/// Which rows are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) result: Option<RowResult>,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

impl Window {
    fn cut<T>(self, rows: Vec<T>, result: impl Fn(&T) -> RowResult) -> (u32, Vec<T>) {
        let matching: Vec<T> = rows
            .into_iter()
            .filter(|row| self.result.is_none_or(|wanted| wanted == result(row)))
            .collect();
        let total = u32::try_from(matching.len()).unwrap_or(u32::MAX);
        let rows = matching.into_iter().skip(self.offset).take(self.limit);
        (total, rows.collect())
    }
}

/// What a draft would do, or what an import did.
pub(crate) async fn show(
    state: &AppState,
    user: &User,
    row: ImportRow,
    window: Window,
) -> Result<ImportDraft, Failure> {
    match row.state {
        ImportState::Draft => {
            let reading = reading(state, &row).await?;
            let mut connection = state.db().read().acquire().await.doing("read the fleet")?;
            let fleet = fleet(&mut connection).await?;
            let same_as = same_as(&mut connection, &row).await?;
            let known = known_models(&mut connection).await?;
            drop(connection);
            let reach = user.reach.clone();
            blocking(move || {
                let mut reading = reading;
                let planned = plan(std::mem::take(&mut reading.rows), &fleet, &reach);
                Ok(ImportDraft {
                    unknown_models: unknown_models(&planned, &known),
                    ..draft(row, reading, &planned, same_as, window)
                })
            })
            .await
        }
        _ => done(state, row, window).await,
    }
}

fn draft(
    mut import: ImportRow,
    reading: Reading,
    planned: &[Planned],
    same_as: Vec<i64>,
    window: Window,
) -> ImportDraft {
    import.counts = counts(planned);
    let (rows_total, rows) = window.cut(planned.iter().collect(), |row: &&Planned| row.result);
    let columns = reading.columns.columns.into_iter().zip(reading.samples);
    ImportDraft {
        import,
        form: reading.form,
        sheets: reading.sheets,
        sheet: u32::try_from(reading.sheet).unwrap_or(1),
        title_line: reading.columns.line,
        profile: reading.profile,
        columns: columns
            .map(|(column, samples)| ImportColumn {
                title: column.title,
                field: column.field.to_string(),
                told: column.told,
                samples,
            })
            .collect(),
        problems: texts(&reading.problems),
        said: reading.problems,
        same_as,
        plan: digest(planned),
        unknown_models: Vec::new(),
        rows_total,
        rows: rows.into_iter().map(Planned::line).collect(),
        undone: None,
    }
}

/// The names of models that nothing else says, those of most rows first.
fn unknown_models(planned: &[Planned], known: &KnownModels) -> Vec<UnknownModel> {
    if known.is_empty() {
        return Vec::new();
    }
    let mut unknown: BTreeMap<String, UnknownModel> = BTreeMap::new();
    for row in planned.iter().filter(|row| row.result.is_valid()) {
        let product = &row.becomes.product;
        let key = model_key(product);
        if key.is_empty() || known.contains_key(&key) {
            continue;
        }
        let model = unknown.entry(key).or_insert_with(|| UnknownModel {
            product: product.clone(),
            rows: 0,
        });
        model.rows += 1;
    }
    let mut unknown: Vec<UnknownModel> = unknown.into_values().collect();
    unknown.sort_by_key(|model| std::cmp::Reverse(model.rows));
    unknown.truncate(UNKNOWN_MODELS_MAX);
    unknown
}

/// Imports of the same bytes that are in the fleet.
async fn same_as(
    connection: &mut sqlx::AnyConnection,
    row: &ImportRow,
) -> Result<Vec<i64>, Failure> {
    sqlx::query_scalar(
        "SELECT id FROM imports WHERE digest = $1 AND state = 'accepted' AND id <> $2 ORDER BY id",
    )
    .bind(&row.digest)
    .bind(row.import)
    .fetch_all(connection)
    .await
    .doing("look for the same file")
}

/// A row of an accepted import as it is stored.
#[derive(sqlx::FromRow)]
pub(crate) struct DoneRow {
    pub(crate) line: i64,
    pub(crate) device: String,
    pub(crate) serial: String,
    pub(crate) result: String,
    pub(crate) detail: String,
    pub(crate) was: String,
    pub(crate) became: String,
    pub(crate) joined: i64,
}

impl DoneRow {
    pub(crate) fn result(&self) -> RowResult {
        let word = |result: &RowResult| result.word() == self.result;
        RowResult::ALL
            .into_iter()
            .find(word)
            .unwrap_or(RowResult::Invalid)
    }

    pub(crate) fn values(text: &str) -> Result<Values, Failure> {
        if text.is_empty() {
            return Ok(Values::default());
        }
        stored("values of an import", text)
    }

    fn line(&self) -> Result<ImportLine, Failure> {
        let changes: Vec<FieldChange> =
            Self::values(&self.was)?.changes_to(&Self::values(&self.became)?);
        let said: Vec<RowReason> = all_said("problems of an import", &self.detail)?;
        Ok(ImportLine {
            line: u64::try_from(self.line).unwrap_or(0),
            serial: self.serial.clone(),
            result: self.result(),
            changes,
            problems: texts(&said),
            said,
            device: (!self.device.is_empty()).then(|| self.device.clone()),
        })
    }
}

/// All rows of an accepted import.
pub(crate) async fn done_rows(
    connection: &mut sqlx::AnyConnection,
    import: i64,
) -> Result<Vec<DoneRow>, Failure> {
    sqlx::query_as(
        "SELECT line, device, serial, result, detail, was, became, joined FROM import_rows \
         WHERE import_id = $1 ORDER BY line",
    )
    .bind(import)
    .fetch_all(connection)
    .await
    .doing("read the rows of an import")
}

async fn done(state: &AppState, row: ImportRow, window: Window) -> Result<ImportDraft, Failure> {
    let mut connection = state.db().read().acquire().await.doing("read an import")?;
    let rows = done_rows(&mut connection, row.import).await?;
    let report: String = sqlx::query_scalar("SELECT report FROM imports WHERE id = $1")
        .bind(row.import)
        .fetch_one(&mut *connection)
        .await
        .doing("read what an undo did")?;
    drop(connection);
    let undone = (!report.is_empty()).then(|| stored("report of an undo", &report));
    let (rows_total, rows) = window.cut(rows, DoneRow::result);
    Ok(ImportDraft {
        form: String::new(),
        sheets: Vec::new(),
        sheet: row.settings.sheet,
        title_line: 0,
        profile: None,
        columns: Vec::new(),
        problems: Vec::new(),
        said: Vec::new(),
        same_as: Vec::new(),
        plan: String::new(),
        unknown_models: Vec::new(),
        rows_total,
        rows: rows.iter().map(DoneRow::line).collect::<Result<_, _>>()?,
        undone: undone.transpose()?,
        import: row,
    })
}

/// Stores counts and settings of a draft.
pub(crate) async fn store_draft(
    db: &mut Write,
    id: i64,
    settings: &ImportSettings,
    counts: &ImportCounts,
) -> Result<(), Failure> {
    sqlx::query("UPDATE imports SET settings = $1, counts = $2 WHERE id = $3 AND state = 'draft'")
        .bind(crate::error::to_json("write settings", settings)?)
        .bind(crate::error::to_json("write counts", counts)?)
        .bind(id)
        .execute(&mut **db)
        .await
        .doing("store a draft")?;
    Ok(())
}
