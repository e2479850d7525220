//! The fleet in memory: one row of every device, shared by the overview, the lists, the streams and the table files.
//!
//! Never the source of truth. Whoever changes something says so with [`AppState::changed`] after the commit; what is due
//! is read again before anyone is answered, so that nobody reads less than what was committed before they asked. All
//! rows are read anew now and then, in case another server on the same database changed something.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use wire::admin_api::{DeviceRow, DeviceState};
use wire::names::{DeviceId, RunId};

use crate::error::{Failure, chain};
use crate::limits::STALLED_AFTER;
use crate::people::auth::millis;
use crate::state::{AppState, Change, now_ms, stopped};

/// Changes are gathered for so long before pages hear of them: four updates a second is what an eye follows.
const GATHERED_FOR: Duration = Duration::from_millis(250);
/// That a device has gone silent is no event; so often it is looked for.
const LOOKED_AFTER: Duration = Duration::from_secs(5);
/// So often all rows are read anew, whatever was said to have changed.
const READ_ANEW_AFTER: Duration = Duration::from_secs(60);
/// More devices than this are read by reading all: the lists of ids would cost more than they save.
const READ_SINGLY_MAX: usize = 500;

/// All devices at one moment, in the order of site and serial number; machines in quarantine stand last.
///
/// Clocks stand still in here: `elapsed-seconds` of a run that goes on is 0 until [`as_of`] fills it in, so that equal
/// rows mean that nothing happened.
#[derive(Debug, Default)]
pub struct Fleet {
    rows: Vec<Arc<DeviceRow>>,
    places: HashMap<DeviceId, usize>,
    runs: HashMap<RunId, DeviceId>,
}

impl Fleet {
    pub(crate) fn of(mut rows: Vec<Arc<DeviceRow>>) -> Self {
        rows.sort_by(|a, b| order(a).cmp(&order(b)));
        let places = rows
            .iter()
            .enumerate()
            .map(|(place, row)| (row.device, place))
            .collect();
        let run = |row: &Arc<DeviceRow>| row.run.as_ref().map(|run| (run.run, row.device));
        let runs = rows.iter().filter_map(run).collect();
        Self { rows, places, runs }
    }

    /// Every device.
    #[must_use]
    pub fn rows(&self) -> &[Arc<DeviceRow>] {
        &self.rows
    }

    /// One device.
    #[must_use]
    pub fn row(&self, device: DeviceId) -> Option<&Arc<DeviceRow>> {
        self.places
            .get(&device)
            .and_then(|place| self.rows.get(*place))
    }

    /// The device whose latest run this is.
    #[must_use]
    pub fn device_of(&self, run: RunId) -> Option<DeviceId> {
        self.runs.get(&run).copied()
    }
}

fn order(row: &DeviceRow) -> (bool, &str, &str, DeviceId) {
    let is_stranger = row.state == DeviceState::Quarantined && row.site.is_empty();
    (is_stranger, &row.site, &row.serial, row.device)
}

/// The row with its clocks as they stand now.
#[must_use]
pub fn as_of(row: &DeviceRow, now_ms: i64) -> DeviceRow {
    let mut row = row.clone();
    if let Some(run) = &mut row.run
        && run.ended_at_ms.is_none()
    {
        run.elapsed_seconds = u64::try_from((now_ms - run.started_at_ms) / 1000).unwrap_or(0);
    }
    row
}

/// Clocks stopped, as rows are kept.
pub(crate) fn clockless(mut row: DeviceRow) -> DeviceRow {
    if let Some(run) = &mut row.run
        && run.ended_at_ms.is_none()
    {
        run.elapsed_seconds = 0;
    }
    row
}

/// What is to be read again.
#[derive(Debug, Default)]
struct Due {
    everything: bool,
    devices: HashSet<DeviceId>,
    runs: HashSet<RunId>,
}

impl Due {
    fn is_nothing(&self) -> bool {
        !self.everything && self.devices.is_empty() && self.runs.is_empty()
    }
}

/// The view: the fleet as last read, and what is due.
pub(crate) struct FleetView {
    due: Mutex<Due>,
    rang: Notify,
    /// Held while rows are read: two readers at once could put an older row over a newer one.
    turn: tokio::sync::Mutex<()>,
    current: RwLock<Arc<Fleet>>,
    news: watch::Sender<u64>,
}

impl Default for FleetView {
    fn default() -> Self {
        let due = Due {
            everything: true,
            ..Due::default()
        };
        Self {
            due: Mutex::new(due),
            rang: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            current: RwLock::default(),
            news: watch::Sender::new(0),
        }
    }
}

/// Marks that were taken out. Whoever gives up before the rows are read puts them back.
struct Taken<'a> {
    view: &'a FleetView,
    due: Due,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut due = self.view.lock();
        due.everything |= self.due.everything;
        due.devices.extend(self.due.devices.drain());
        due.runs.extend(self.due.runs.drain());
    }
}

impl FleetView {
    /// Something was committed. Costs a set insertion; reading waits for whoever asks, or for the next update.
    pub(crate) fn mark(&self, change: Change) {
        let is_new = match change {
            Change::Device(device) => self.lock().devices.insert(device),
            Change::Run(run) => self.lock().runs.insert(run),
        };
        if is_new {
            self.rang.notify_one();
        }
    }

    /// Anything may have changed.
    pub(crate) fn mark_everything(&self) {
        self.lock().everything = true;
        self.rang.notify_one();
    }

    /// Counts the updates; whoever watches it reads [`AppState::fleet`] when it rises.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Arc<Fleet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, fleet: Fleet) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fleet);
        self.news.send_modify(|count| *count += 1);
    }
}

impl AppState {
    /// Every device as it is now; what has changed since the last time is read first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn fleet(&self) -> Result<Arc<Fleet>, Failure> {
        let view = self.fleet_view();
        let _turn = view.turn.lock().await;
        let mut taken = Taken {
            view,
            due: std::mem::take(&mut *view.lock()),
        };
        let before = view.current();
        let now = now_ms();
        let silent = gone_silent(&before, now);
        if taken.due.is_nothing() && silent.is_empty() {
            return Ok(before);
        }
        let mut devices = taken.due.devices.clone();
        devices.extend(silent);
        for run in &taken.due.runs {
            match before.device_of(*run) {
                Some(device) => devices.insert(device),
                // A run that is new; its device is not known by it yet.
                None => match self.device_of_run(*run).await? {
                    Some(device) => devices.insert(device),
                    None => false,
                },
            };
        }
        let everything = taken.due.everything || devices.len() > READ_SINGLY_MAX;
        let after = if everything {
            let read = self.read_device_rows(None, &before).await?;
            Fleet::of(kept(read, &before))
        } else {
            let ids: Vec<_> = devices.iter().copied().collect();
            let read = kept(self.read_device_rows(Some(&ids), &before).await?, &before);
            let untouched = before
                .rows
                .iter()
                .filter(|row| !devices.contains(&row.device));
            Fleet::of(untouched.cloned().chain(read).collect())
        };
        taken.due = Due::default();
        drop(taken);
        let same = after.rows.len() == before.rows.len()
            && after
                .rows
                .iter()
                .zip(&before.rows)
                .all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            return Ok(before);
        }
        view.put(after);
        Ok(view.current())
    }
}

/// Rows that say the same as before stay the very same, so that whoever follows them need not compare.
fn kept(read: Vec<DeviceRow>, before: &Fleet) -> Vec<Arc<DeviceRow>> {
    let keep = |row: DeviceRow| {
        let row = clockless(row);
        match before.row(row.device) {
            Some(old) if **old == row => Arc::clone(old),
            _ => Arc::new(row),
        }
    };
    read.into_iter().map(keep).collect()
}

/// Devices that are shown as running and have said nothing for too long.
fn gone_silent(fleet: &Fleet, now_ms: i64) -> Vec<DeviceId> {
    let silent = |row: &&Arc<DeviceRow>| {
        row.run.as_ref().is_some_and(|run| {
            run.state == DeviceState::Running
                && now_ms - run.last_seen_at_ms > millis(STALLED_AFTER)
        })
    };
    let rows = fleet.rows.iter().filter(silent);
    rows.map(|row| row.device).collect()
}

/// Keeps the view up to date for those who watch it, until the server stops.
pub(crate) async fn keep(state: AppState) {
    let work = async {
        let mut anew_at = Instant::now() + READ_ANEW_AFTER;
        loop {
            if let Err(error) = state.fleet().await {
                tracing::warn!(error = %chain(&error), "cannot read the devices for the open pages, trying again");
            }
            let next = Instant::now() + LOOKED_AFTER;
            let rang = timeout_at(next, state.fleet_view().rang.notified()).await;
            if rang.is_ok() {
                tokio::time::sleep(GATHERED_FOR).await;
            }
            if Instant::now() >= anew_at {
                anew_at = Instant::now() + READ_ANEW_AFTER;
                state.fleet_view().mark_everything();
            }
        }
    };
    tokio::select! {
        () = stopped(state.stopping()) => {}
        () = work => {}
    }
}

/// After a person changed something, everything is read again: a site's name or a rule of a collection stands in many
/// rows. Content is the exception: it is uploaded in thousands of requests, and no row shows it.
pub(crate) async fn mark_after_changes(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let may_change = !matches!(*request.method(), Method::GET | Method::HEAD)
        && path.starts_with("/api/")
        && !path.starts_with("/api/v1/content");
    let response = next.run(request).await;
    if may_change && !response.status().is_client_error() {
        state.fleet_view().mark_everything();
    }
    response
}
