//! Lists from the school's system: of pupils, and of who gets which device. All of a list or nothing.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use wire::assignments::{HandOut, ScanReply, Warning};
use wire::names::{DeviceId, PupilId};
use wire::pupils::{ListImportReport, ListImportRow, PupilEntry};
use wire::reasons::{ListReason, texts};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure};
use crate::limits::ASSET_FILE_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::pupils::hand_out::hand_out;
use crate::pupils::list_file::{Field, ListFile, ListLine, Purpose, parse};
use crate::pupils::register;
use crate::pupils::scan::look_up;
use crate::pupils::store::{StoredPupil, pupil_key, pupils_sql};
use crate::routes::read_body;
use crate::state::{AppState, Change, blocking, now_ms};

/// How an import is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Options {
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
    /// The site of rows that name none.
    #[serde(default)]
    site: String,
    /// The list is complete: pupils of its sites that it doesn't name have left.
    #[serde(default)]
    complete: bool,
}

/// `POST /api/v1/pupils/import`
pub(crate) async fn pupils(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(options): Query<Options>,
    body: Body,
) -> Result<Json<ListImportReport>, Failure> {
    let file = read(body, Purpose::Pupils).await?;
    let sites = Sites::read(&state, &user, &options).await?;
    let mut db = state.db().write().await?;
    let known: Vec<StoredPupil> = sqlx::query_as(pupils_sql!(
        "WHERE pupils.erased_at_ms = 0 ORDER BY pupils.id"
    ))
    .fetch_all(&mut *db)
    .await
    .doing("read the pupils")?;
    let known: BTreeMap<String, StoredPupil> = known
        .into_iter()
        .map(|pupil| (pupil_key(&pupil.external_id), pupil))
        .collect();
    let mut report = ListImportReport::of(&file, &options);
    let mut listed = BTreeSet::new();
    let mut named_sites = BTreeSet::new();
    for line in &file.rows {
        let row = match pupil_of(line, &sites, &known, &user) {
            Ok((entry, before)) => {
                listed.insert(pupil_key(&entry.external_id));
                named_sites.insert(entry.site.clone());
                let result = store(&mut db, &entry, before).await?;
                ListImportRow::good(line, entry.external_id, result, Vec::new())
            }
            Err(problems) => {
                ListImportRow::bad(line, line.text(Field::Number).to_owned(), problems)
            }
        };
        report.add(row);
    }
    if options.complete {
        let left = known.iter().filter(|(key, pupil)| {
            named_sites.contains(&pupil.site) && pupil.left_at_ms == 0 && !listed.contains(*key)
        });
        for (_, pupil) in left {
            sqlx::query("UPDATE pupils SET left_at_ms = $1 WHERE id = $2")
                .bind(now_ms())
                .bind(&pupil.id)
                .execute(&mut *db)
                .await
                .doing("note that a pupil has left")?;
            report.left += 1;
        }
    }
    if report.is_to_be_stored() {
        let detail = format!("{} rows, {} left", file.rows.len(), report.left);
        audit(&mut db, &user.name, "pupils-imported", "", &detail).await?;
        commit(db).await?;
        report.stored = true;
    }
    Ok(Json(report))
}

/// `POST /api/v1/assignments/import`
pub(crate) async fn assignments(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(options): Query<Options>,
    body: Body,
) -> Result<Json<ListImportReport>, Failure> {
    let file = read(body, Purpose::HandOut).await?;
    let mut asks = Vec::with_capacity(file.rows.len());
    for line in &file.rows {
        asks.push(pair_of(&state, &user, line).await?);
    }
    let mut report = ListImportReport::of(&file, &options);
    let mut changed: Vec<DeviceId> = Vec::new();
    let mut db = state.db().write().await?;
    for (line, ask) in file.rows.iter().zip(asks) {
        let subject = format!(
            "{} → {}",
            line.text(Field::Device),
            line.text(Field::Number)
        );
        let row = match ask {
            Err(problems) => ListImportRow::bad(line, subject, problems),
            // Everything is tried for real; without a commit it never was.
            Ok(ask) => match hand_out(&mut db, &user, &ask).await {
                Ok(reply) => {
                    changed.push(ask.device);
                    ListImportRow::good(line, subject, "new", reply.warnings)
                }
                Err(Failure::Refused { error, .. }) if error.code == "has-it-already" => {
                    ListImportRow::good(line, subject, "unchanged", Vec::new())
                }
                Err(Failure::Refused { error, .. }) => {
                    ListImportRow::bad(line, subject, vec![error.message.into()])
                }
                Err(failure) => return Err(failure),
            },
        };
        report.add(row);
    }
    if report.is_to_be_stored() {
        let detail = format!("{} rows", file.rows.len());
        audit(&mut db, &user.name, "assignments-imported", "", &detail).await?;
        commit(db).await?;
        report.stored = true;
        for device in changed {
            state.changed(Change::Device(device));
        }
    }
    Ok(Json(report))
}

async fn read(body: Body, purpose: Purpose) -> Result<ListFile, Failure> {
    let bytes = read_body(body, ASSET_FILE_BYTES_MAX).await?;
    blocking(move || {
        parse(&bytes, purpose).map_err(|error| {
            let example = match purpose {
                Purpose::Pupils => "pupil;name;site;class",
                Purpose::HandOut => "device;pupil",
            };
            Failure::refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-list",
                error.to_string(),
            )
            .hint(format!(
                "the first line holds the titles of the columns, such as: {example}"
            ))
        })
    })
    .await
}

/// The sites a caller may put pupils into, by code and by name.
struct Sites {
    codes: BTreeMap<String, String>,
    default: String,
}

impl Sites {
    async fn read(state: &AppState, user: &User, options: &Options) -> Result<Self, Failure> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT code, name FROM sites")
            .fetch_all(state.db().read())
            .await
            .doing("read the sites")?;
        let mut codes = BTreeMap::new();
        for (code, name) in rows {
            if !code.is_empty() && user.reach.covers(&code) {
                codes.entry(name.to_lowercase()).or_insert(code.clone());
                codes.insert(code.to_lowercase(), code);
            }
        }
        let default = match &user.reach {
            Reach::Site(own) => own.clone(),
            _ => options.site.clone(),
        };
        Ok(Self { codes, default })
    }

    fn find(&self, text: &str) -> Result<String, ListReason> {
        let text = if text.is_empty() { &self.default } else { text };
        if text.is_empty() {
            return Err(ListReason::NoSite);
        }
        let found = self.codes.get(&text.to_lowercase()).cloned();
        found.ok_or_else(|| ListReason::UnknownSite { site: text.into() })
    }
}

/// What a row says of a pupil, over what was known; columns the file doesn't have change nothing.
fn pupil_of<'a>(
    line: &ListLine,
    sites: &Sites,
    known: &'a BTreeMap<String, StoredPupil>,
    user: &User,
) -> Result<(PupilEntry, Option<&'a StoredPupil>), Vec<ListReason>> {
    let mut problems = line.problems.clone();
    let number = line.text(Field::Number);
    let before = known.get(&pupil_key(number));
    if before.is_some_and(|before| !user.reach.covers(&before.site)) {
        let number = number.to_owned();
        problems.push(ListReason::OtherPupil { number });
    }
    let site = match before {
        Some(before) if line.text(Field::Site).is_empty() && sites.default.is_empty() => {
            before.site.clone()
        }
        _ => sites
            .find(line.text(Field::Site))
            .unwrap_or_else(|problem| {
                problems.push(problem);
                String::new()
            }),
    };
    let class = match before {
        Some(before) if !line.has(Field::Class) => before.class.clone(),
        _ => line.text(Field::Class).to_owned(),
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let entry = PupilEntry {
        external_id: number.to_owned(),
        name: line.text(Field::Name).to_owned(),
        site,
        class,
        several: before.is_some_and(|before| before.several != 0),
    };
    Ok((entry, before))
}

async fn store(
    db: &mut Write,
    entry: &PupilEntry,
    before: Option<&StoredPupil>,
) -> Result<&'static str, Failure> {
    let Some(before) = before else {
        register::insert(db, PupilId::random(), entry).await?;
        return Ok("new");
    };
    // Also stored if nothing changed: they were named again.
    register::update(db, before.id()?, entry).await?;
    let is_same = before.external_id == entry.external_id
        && before.name == entry.name
        && before.site == entry.site
        && before.class == entry.class
        && before.left_at_ms == 0;
    Ok(if is_same { "unchanged" } else { "changed" })
}

/// The one device and the one pupil that a row names, or what is wrong.
async fn pair_of(
    state: &AppState,
    user: &User,
    line: &ListLine,
) -> Result<Result<HandOut, Vec<ListReason>>, Failure> {
    if !line.problems.is_empty() {
        return Ok(Err(line.problems.clone()));
    }
    let (device, number) = (line.text(Field::Device), line.text(Field::Number));
    let ScanReply {
        devices, visitors, ..
    } = look_up(state, user, device).await?;
    let pupils = look_up(state, user, number).await?.pupils;
    let mut problems = Vec::new();
    let device = device.to_owned();
    match (devices.len(), visitors.first()) {
        (0, None) => problems.push(ListReason::UnknownDevice { device }),
        (0, Some(visitor)) => problems.push(ListReason::VisitingDevice {
            device,
            site: visitor.site_name.clone(),
        }),
        (1, _) => {}
        (several, _) => problems.push(ListReason::SeveralDevices {
            device,
            devices: several as u64,
        }),
    }
    if pupils.is_empty() {
        let number = number.to_owned();
        problems.push(ListReason::UnknownPupil { number });
    }
    match (devices.first(), pupils.first()) {
        (Some(device), Some(pupil)) if problems.is_empty() => Ok(Ok(HandOut {
            assignment: None,
            device: device.device,
            pupil: pupil.pupil,
            note: line.text(Field::Note).to_owned(),
            swap: false,
            additional: false,
        })),
        _ => Ok(Err(problems)),
    }
}

trait Report {
    fn of(file: &ListFile, options: &Options) -> Self;
    fn add(&mut self, row: ListImportRow);
    fn is_to_be_stored(&self) -> bool;
}

impl Report for ListImportReport {
    fn of(file: &ListFile, options: &Options) -> Self {
        let columns = file.columns.iter().map(|(title, field)| {
            let field = field.map_or("ignored", Field::name);
            (title.clone(), field.to_owned())
        });
        Self {
            dry_run: options.dry_run,
            stored: false,
            columns: columns.collect(),
            rows: Vec::with_capacity(file.rows.len()),
            new: 0,
            changed: 0,
            unchanged: 0,
            invalid: 0,
            left: 0,
        }
    }

    fn add(&mut self, row: ListImportRow) {
        let count = match row.result.as_str() {
            "new" => &mut self.new,
            "changed" => &mut self.changed,
            "unchanged" => &mut self.unchanged,
            _ => &mut self.invalid,
        };
        *count = count.saturating_add(1);
        self.rows.push(row);
    }

    fn is_to_be_stored(&self) -> bool {
        self.invalid == 0 && !self.dry_run
    }
}

trait Row {
    fn good(line: &ListLine, subject: String, result: &str, warnings: Vec<Warning>) -> Self;
    fn bad(line: &ListLine, subject: String, problems: Vec<ListReason>) -> Self;
}

impl Row for ListImportRow {
    fn good(line: &ListLine, subject: String, result: &str, warnings: Vec<Warning>) -> Self {
        Self {
            said: warnings.iter().map(unusual).collect(),
            line: line.line,
            subject,
            result: result.to_owned(),
            problems: Vec::new(),
            warnings: warnings.into_iter().map(|warning| warning.text).collect(),
        }
    }

    fn bad(line: &ListLine, subject: String, problems: Vec<ListReason>) -> Self {
        Self {
            line: line.line,
            subject,
            result: "invalid".into(),
            problems: texts(&problems),
            warnings: Vec::new(),
            said: problems,
        }
    }
}

/// What is unusual about a hand-out, as a sentence of lists.
fn unusual(warning: &Warning) -> ListReason {
    match warning.code.as_str() {
        "not-ready" => ListReason::NotReady,
        "other-site" => ListReason::DeviceOfOtherSite,
        "other-class" => ListReason::DeviceOfOtherClass,
        "left" => ListReason::PupilLeft,
        _ => warning.text.clone().into(),
    }
}
