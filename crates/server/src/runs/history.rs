//! Runs that ended, in memory: what reports and the medians beside the steps are made of.
//!
//! A run's figures are folded from its events once, when it is first seen to have ended, and written down. Never the
//! source of truth: what is missing is made again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sequence::view::{RunView, StepState};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use wire::admin_api::{Deployment, DeviceState};
use wire::event::ContentBytes;
use wire::names::{DeviceId, RunId};

use super::expected::{USUAL_RUNS_MIN, as_seconds, expected};
use super::live::{Live, load};
use super::rows::run_state;
use crate::db::{Db, commit};
use crate::error::{Doing as _, Failure, stored, stored_text};
use crate::fleet::view::Fleet;

/// A transaction may commit so long after it looked at the clock; ends that are no older are looked at again.
const OVERLAP_MS: i64 = 60_000;
/// Runs whose figures are written down in one transaction.
const WRITTEN_AT_ONCE: usize = 200;
/// Different steps that are told apart. Titles come from devices; what is beyond this is no step of a sequence.
const STEP_NAMES_MAX: usize = 20_000;
/// A median of fewer runs of a model says less than one of all models.
pub(crate) const MODEL_RUNS_MIN: u32 = 5;
/// A longer message says the same by its beginning.
const SHAPE_CHARS_MAX: usize = 200;

/// A step, however many runs had it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StepName {
    pub(crate) path: String,
    pub(crate) title: String,
    pub(crate) kind: String,
}

/// A run that ended.
#[derive(Debug)]
pub(crate) struct PastRun {
    pub(crate) run: RunId,
    pub(crate) device: DeviceId,
    pub(crate) deployment: Arc<str>,
    pub(crate) sequence: Arc<str>,
    pub(crate) state: DeviceState,
    pub(crate) ended_at_ms: i64,
    pub(crate) elapsed_seconds: u64,
    pub(crate) expected_seconds: u64,
    pub(crate) content: ContentBytes,
    pub(crate) failed_step: String,
    /// What it said when it failed, with what differs from machine to machine left out.
    pub(crate) message: String,
    /// The steps that were done: their places among the names, and how long they took in milliseconds.
    pub(crate) steps: Box<[(u32, u32)]>,
}

/// What is written down of a run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Figures {
    content: ContentBytes,
    failed_step: String,
    message: String,
    /// Path, title, kind, milliseconds.
    steps: Vec<(String, String, String, u32)>,
}

impl Figures {
    fn of(live: &Live) -> Self {
        let view: &RunView = &live.view;
        let done = |state| matches!(state, StepState::Done | StepState::Warning);
        let steps = view.steps.iter().filter(|step| done(step.state));
        let took = steps.filter_map(|step| {
            let (start, end) = live.timeline.steps.get(&step.path)?;
            let took = u32::try_from((*end)?.saturating_sub(*start)).unwrap_or(u32::MAX);
            let (title, kind) = (step.title.clone(), step.kind.clone());
            Some((step.path.to_string(), title, kind, took))
        });
        let failed_step = view.failed_step.as_ref();
        Self {
            content: view.content(),
            failed_step: failed_step.map_or_else(String::new, ToString::to_string),
            message: shape(view.errors.first().map_or("", String::as_str)),
            steps: took.collect(),
        }
    }
}

/// What a message says whatever machine says it: every word with a digit in it is a `…`.
pub(crate) fn shape(message: &str) -> String {
    let words = message.split_whitespace().map(|word| {
        if word.chars().any(|char| char.is_ascii_digit()) {
            "…"
        } else {
            word
        }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().take(SHAPE_CHARS_MAX).collect()
}

/// All runs that ended, at one moment.
#[derive(Debug, Default, Clone)]
pub(crate) struct Past {
    runs: HashMap<RunId, Arc<PastRun>>,
    names: Arc<Vec<StepName>>,
    newest_ms: i64,
}

impl Past {
    /// The runs, in no order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Arc<PastRun>> {
        self.runs.values()
    }

    /// What a step is called.
    pub(crate) fn name(&self, place: u32) -> Option<&StepName> {
        self.names.get(usize::try_from(place).ok()?)
    }
}

/// How long the steps of a sequence usually take.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Medians {
    /// The model that they are of; `None` if they are of all.
    pub(crate) model: Option<String>,
    /// By path: milliseconds, and of how many runs.
    pub(crate) steps: HashMap<String, (u64, u32)>,
}

type MedianKey = (String, String);

/// The runs that ended, kept.
#[derive(Default)]
pub(crate) struct History {
    /// Held while runs are read.
    turn: tokio::sync::Mutex<()>,
    current: RwLock<Arc<Past>>,
    /// By sequence and model, as long as no other run has ended.
    medians: Mutex<HashMap<MedianKey, Arc<Medians>>>,
    /// By sequence, as long as no other run has ended.
    usual: Mutex<HashMap<String, Option<u64>>>,
}

impl History {
    /// As last read.
    pub(crate) fn current(&self) -> Arc<Past> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, past: Past) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(past);
        let mut medians = self.medians.lock().unwrap_or_else(PoisonError::into_inner);
        medians.clear();
        let mut usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        usual.clear();
    }

    /// The middle of how long completed runs of this sequence took, once there are enough: as [`Self::medians`], without any
    /// question to the database.
    pub(crate) fn usual_seconds(&self, sequence: &str) -> Option<u64> {
        let mut kept = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(sequence) {
            return *known;
        }
        let made = usual_seconds(&self.current(), sequence);
        kept.insert(sequence.to_owned(), made);
        made
    }

    /// How long the steps of this sequence usually take on this model: from what was last read, without any question to the
    /// database.
    pub(crate) fn medians(&self, fleet: &Fleet, sequence: &str, model: &str) -> Arc<Medians> {
        let key = (sequence.to_owned(), model.to_owned());
        let mut kept = self.medians.lock().unwrap_or_else(PoisonError::into_inner);
        let made = kept
            .entry(key)
            .or_insert_with(|| Arc::new(medians(&self.current(), fleet, sequence, model)));
        Arc::clone(made)
    }
}

fn usual_seconds(past: &Past, sequence: &str) -> Option<u64> {
    let done = past
        .runs()
        .filter(|run| &*run.sequence == sequence && run.state == DeviceState::Completed);
    let mut took: Vec<_> = done.map(|run| run.elapsed_seconds).collect();
    took.sort_unstable();
    (took.len() >= USUAL_RUNS_MIN).then(|| nearest_rank(&took, 50))
}

fn medians(past: &Past, fleet: &Fleet, sequence: &str, model: &str) -> Medians {
    let all: Vec<_> = past
        .runs()
        .filter(|run| &*run.sequence == sequence)
        .collect();
    let of_model = |run: &&&Arc<PastRun>| {
        let row = fleet.row(run.device);
        row.is_some_and(|row| row.model.product == model)
    };
    let same: Vec<_> = all.iter().filter(of_model).copied().collect();
    let enough = same.len() >= usize::try_from(MODEL_RUNS_MIN).unwrap_or(usize::MAX);
    let (model, runs) = if enough && !model.is_empty() {
        (Some(model.to_owned()), same)
    } else {
        (None, all)
    };
    let mut took: HashMap<&str, Vec<u64>> = HashMap::new();
    for (place, ms) in runs.iter().flat_map(|run| run.steps.iter()) {
        if let Some(name) = past.name(*place) {
            took.entry(&name.path).or_default().push(u64::from(*ms));
        }
    }
    let steps = took.into_iter().map(|(path, mut took)| {
        took.sort_unstable();
        let runs = u32::try_from(took.len()).unwrap_or(u32::MAX);
        (path.to_owned(), (nearest_rank(&took, 50), runs))
    });
    Medians {
        model,
        steps: steps.collect(),
    }
}

/// The value that so many per cent of the sorted values don't exceed.
pub(crate) fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// A run that ended, as stored.
#[derive(FromRow)]
struct Ended {
    id: String,
    device: String,
    deployment: String,
    sequence: String,
    state: String,
    started_at_ms: i64,
    ended_at_ms: i64,
    expected_there: i64,
}

/// Keeps one text for all that say the same.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// Gives steps their places.
struct Names {
    names: Vec<StepName>,
    places: HashMap<StepName, u32>,
}

impl Names {
    fn of(names: &[StepName]) -> Self {
        let numbered = (0_u32..).zip(names);
        let places = numbered.map(|(place, name)| (name.clone(), place));
        Self {
            names: names.to_vec(),
            places: places.collect(),
        }
    }

    fn place(&mut self, name: StepName) -> Option<u32> {
        if let Some(place) = self.places.get(&name) {
            return Some(*place);
        }
        let place = u32::try_from(self.names.len()).ok()?;
        if self.names.len() >= STEP_NAMES_MAX {
            return None;
        }
        self.names.push(name.clone());
        self.places.insert(name, place);
        Some(place)
    }
}

impl History {
    /// Every run that has ended by now. What ended since the last time is read first.
    pub(crate) async fn read(&self, db: &Db) -> Result<Arc<Past>, Failure> {
        let _turn = self.turn.lock().await;
        let before = self.current();
        let going: Vec<String> = sqlx::query_scalar("SELECT id FROM runs WHERE state = 'running'")
            .fetch_all(db.read())
            .await
            .doing("look for runs that go on")?;
        let since = (before.newest_ms - OVERLAP_MS).max(0);
        let ended: Vec<Ended> = sqlx::query_as(
            "SELECT runs.id, runs.device, deployment, sequence, state, started_at_ms, ended_at_ms, \
             COALESCE(place.expected_seconds, 0) AS expected_there FROM runs \
             LEFT JOIN devices ON devices.id = runs.device \
             LEFT JOIN sites place ON place.code = COALESCE(NULLIF(devices.seen_site, ''), devices.site) \
             WHERE ended_at_ms > $1",
        )
        .bind(since)
        .fetch_all(db.read())
        .await
        .doing("read the runs that ended")?;
        let mut past = (*before).clone();
        let mut changed = false;
        for id in going {
            let run: RunId = stored_text("run id", &id)?;
            changed |= past.runs.remove(&run).is_some();
        }
        let mut new = Vec::new();
        for ended in ended {
            let run: RunId = stored_text("run id", &ended.id)?;
            let known = past.runs.get(&run);
            if known.is_none_or(|known| known.ended_at_ms != ended.ended_at_ms) {
                new.push((run, ended));
            }
        }
        if new.is_empty() && !changed {
            return Ok(before);
        }
        take_in(db, &mut past, new).await?;
        self.put(past);
        Ok(self.current())
    }
}

async fn take_in(db: &Db, past: &mut Past, new: Vec<(RunId, Ended)>) -> Result<(), Failure> {
    let mut written = written(db, &new).await?;
    let said = said(db).await?;
    let mut names = Names::of(&past.names);
    let mut texts = Texts::default();
    for some in new.chunks(WRITTEN_AT_ONCE) {
        let mut made = Vec::new();
        for (run, ended) in some {
            let figures = match written.remove(&(ended.id.clone(), ended.ended_at_ms)) {
                Some(figures) => figures,
                None => {
                    let figures = Figures::of(&load(db, *run).await?);
                    made.push((&ended.id, ended.ended_at_ms, document(&figures)));
                    figures
                }
            };
            let steps = figures
                .steps
                .into_iter()
                .filter_map(|(path, title, kind, ms)| {
                    Some((names.place(StepName { path, title, kind })?, ms))
                });
            let elapsed = (ended.ended_at_ms - ended.started_at_ms).max(0) / 1000;
            let past_run = PastRun {
                run: *run,
                device: stored_text("device id", &ended.device)?,
                deployment: texts.get(&ended.deployment),
                sequence: texts.get(&ended.sequence),
                state: run_state(&ended.state, 0),
                ended_at_ms: ended.ended_at_ms,
                elapsed_seconds: u64::try_from(elapsed).unwrap_or(0),
                // Figures compare how long runs took with what somebody said, never with themselves.
                expected_seconds: expected(
                    said.get(&ended.deployment).copied().unwrap_or(0),
                    as_seconds(ended.expected_there),
                    None,
                )
                .0,
                content: figures.content,
                failed_step: figures.failed_step,
                message: figures.message,
                steps: steps.collect(),
            };
            past.newest_ms = past.newest_ms.max(past_run.ended_at_ms);
            past.runs.insert(*run, Arc::new(past_run));
        }
        write_down(db, made).await?;
    }
    past.names = Arc::new(names.names);
    Ok(())
}

fn document(figures: &Figures) -> String {
    serde_json::to_string(figures).unwrap_or_default()
}

/// The figures that are written down already, by run and end. What this release can't read is made again.
async fn written(
    db: &Db,
    wanted: &[(RunId, Ended)],
) -> Result<HashMap<(String, i64), Figures>, Failure> {
    let mut found: Vec<(String, i64, String)> = Vec::new();
    if wanted.len() > WRITTEN_AT_ONCE {
        found = sqlx::query_as("SELECT run, ended_at_ms, document FROM run_figures")
            .fetch_all(db.read())
            .await
            .doing("read the figures of runs")?;
    } else {
        for (_, ended) in wanted {
            let of_one: Vec<(String, i64, String)> =
                sqlx::query_as("SELECT run, ended_at_ms, document FROM run_figures WHERE run = $1")
                    .bind(&ended.id)
                    .fetch_all(db.read())
                    .await
                    .doing("read the figures of a run")?;
            found.extend(of_one);
        }
    }
    let read = found.into_iter().filter_map(|(run, ended, document)| {
        let figures = serde_json::from_str(&document).ok()?;
        Some(((run, ended), figures))
    });
    Ok(read.collect())
}

/// How long runs are expected to take as each deployment says.
async fn said(db: &Db) -> Result<HashMap<String, u64>, Failure> {
    let documents: Vec<(String, String)> = sqlx::query_as("SELECT name, document FROM deployments")
        .fetch_all(db.read())
        .await
        .doing("read the deployments")?;
    let mut said = HashMap::new();
    for (name, document) in documents {
        let deployment: Deployment = stored("deployment", &document)?;
        said.insert(name, deployment.expected_seconds);
    }
    Ok(said)
}

async fn write_down(db: &Db, made: Vec<(&String, i64, String)>) -> Result<(), Failure> {
    if made.is_empty() {
        return Ok(());
    }
    let mut write = db.write().await?;
    for (run, ended_at_ms, document) in made {
        sqlx::query(
            "INSERT INTO run_figures (run, ended_at_ms, document) VALUES ($1, $2, $3) ON CONFLICT (run) DO UPDATE SET \
             ended_at_ms = excluded.ended_at_ms, document = excluded.document",
        )
        .bind(run)
        .bind(ended_at_ms)
        .bind(document)
        .execute(&mut *write)
        .await
        .doing("write down the figures of a run")?;
    }
    commit(write).await
}

#[cfg(test)]
pub(crate) mod tests;
