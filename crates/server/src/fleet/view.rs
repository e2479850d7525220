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
use crate::people::auth::{User, millis};
use crate::people::roles::May;
use crate::state::{AppState, Change, now_ms, stopped};

/// Changes are gathered for so long before pages hear of them: four updates a second is what an eye follows.
const GATHERED_FOR: Duration = Duration::from_millis(250);
/// That a device has gone silent is no event; so often it is looked for.
const LOOKED_AFTER: Duration = Duration::from_secs(5);
/// So often all rows are read anew, whatever was said to have changed.
const READ_ANEW_AFTER: Duration = Duration::from_secs(60);
/// So often runs that ended are looked for, so that nobody who opens a page waits for it.
const HISTORY_AFTER: Duration = Duration::from_secs(10);
/// More devices than this are read by reading all: the lists of ids would cost more than they save.
const READ_SINGLY_MAX: usize = 500;

/// The pupil who has a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) name: String,
    /// The pupil's site: a school admin knows no pupils of others.
    pub(crate) site: String,
}

/// Who has which device. Beside the rows and not in them, so that no row tells it to whoever happens to read rows.
pub(crate) type Holders = HashMap<DeviceId, Holder>;

/// All devices at one moment, in the order of site and serial number; machines in quarantine stand last.
///
/// Clocks stand still in here: `elapsed-seconds` of a run that goes on is 0 until [`as_of`] fills it in, so that equal
/// rows mean that nothing happened.
#[derive(Debug, Default)]
pub struct Fleet {
    at: u64,
    rows: Vec<Arc<DeviceRow>>,
    places: HashMap<DeviceId, usize>,
    runs: HashMap<RunId, DeviceId>,
    holders: Holders,
    /// The update that brought each row.
    since: HashMap<DeviceId, u64>,
}

impl Fleet {
    /// These devices, all of them new and nobody's.
    #[must_use]
    pub fn of(rows: Vec<Arc<DeviceRow>>) -> Self {
        Self::after(&Self::default(), rows, Holders::new())
    }

    /// The same, with who has which.
    #[cfg(test)]
    pub(crate) fn held_by(self, holders: Holders) -> Self {
        Self { holders, ..self }
    }

    /// These devices, after an update of the fleet `before`.
    fn after(before: &Self, mut rows: Vec<Arc<DeviceRow>>, holders: Holders) -> Self {
        rows.sort_by(|a, b| order(a).cmp(&order(b)));
        // Updates are counted from the time of the first one on: a page of a server that was started anew since then
        // knows a lower number than any row has.
        let at = match before.at {
            0 => u64::try_from(now_ms()).unwrap_or(1),
            at => at + 1,
        };
        let (mut places, mut runs) = (HashMap::new(), HashMap::new());
        let mut since = HashMap::with_capacity(rows.len());
        for (place, row) in rows.iter().enumerate() {
            places.insert(row.device, place);
            if let Some(run) = &row.run {
                runs.insert(run.run, row.device);
            }
            let is_same = before
                .row(row.device)
                .is_some_and(|old| Arc::ptr_eq(old, row));
            let earlier = is_same
                .then(|| before.since.get(&row.device).copied())
                .flatten();
            since.insert(row.device, earlier.unwrap_or(at));
        }
        Self {
            at,
            rows,
            places,
            runs,
            holders,
            since,
        }
    }

    /// The number of the update that this is.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// Whether this device's row has been the same since that update.
    #[must_use]
    pub fn is_unchanged_since(&self, device: DeviceId, at: u64) -> bool {
        self.since.get(&device).is_some_and(|since| *since <= at)
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

    /// The name of the pupil who has this device, for someone who may know it.
    #[must_use]
    pub fn pupil(&self, user: &User, device: DeviceId) -> Option<&str> {
        let holder = self.holders.get(&device)?;
        let may_know = user.may(May::ViewPupils) && user.covers(&holder.site);
        may_know.then_some(holder.name.as_str())
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
pub(crate) fn as_of(row: &DeviceRow, now_ms: i64) -> DeviceRow {
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
            let holders = self.read_holders(None).await?;
            let rows = kept(read, &before, &holders);
            Fleet::after(&before, rows, holders)
        } else {
            let ids: Vec<_> = devices.iter().copied().collect();
            let read = self.read_device_rows(Some(&ids), &before).await?;
            let mut holders = before.holders.clone();
            holders.retain(|device, _| !devices.contains(device));
            holders.extend(self.read_holders(Some(&ids)).await?);
            let read = kept(read, &before, &holders);
            let untouched = before
                .rows
                .iter()
                .filter(|row| !devices.contains(&row.device));
            let rows = untouched.cloned().chain(read).collect();
            Fleet::after(&before, rows, holders)
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

/// Rows that say the same as before stay the very same, so that whoever follows them need not compare. One that another
/// pupil has now is another row.
fn kept(read: Vec<DeviceRow>, before: &Fleet, holders: &Holders) -> Vec<Arc<DeviceRow>> {
    let keep = |row: DeviceRow| {
        let row = clockless(row);
        let is_same_pupil = holders.get(&row.device) == before.holders.get(&row.device);
        match before.row(row.device) {
            Some(old) if **old == row && is_same_pupil => Arc::clone(old),
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
    let history = async {
        loop {
            if let Err(error) = state.history().read(state.db()).await {
                tracing::warn!(error = %chain(&error), "cannot read the runs that ended, trying again");
            }
            tokio::time::sleep(HISTORY_AFTER).await;
        }
    };
    tokio::select! {
        () = stopped(state.stopping()) => {}
        () = work => {}
        () = history => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::boot_config::Trust;

    /// Something that happens to a fleet, as SQL with the number of the device it happens to.
    const HAPPENS: [&str; 11] = [
        "INSERT INTO devices (id, serial, serial_key, asset_tag, asset_tag_key, uuid, vendor, product, sku, baseboard, \
         site, class, message, waiting, facts, identity, staged, imported_at_ms, checked_in_at_ms, last_seen_at_ms) \
         VALUES ('$D', 'S$N', 'S$N', '', '', '', 'HP', 'ProBook', '', '', 'BJO', '1A', '', '', '', '[]', '', 1, 0, 0) \
         ON CONFLICT DO NOTHING",
        "UPDATE devices SET class = '2B', checked_in_at_ms = 5, last_seen_at_ms = $T WHERE id = '$D'",
        "UPDATE devices SET site = 'KON', message = 'moved' WHERE id = '$D'",
        "INSERT INTO collection_members (collection, device) SELECT 'autumn', id FROM devices WHERE id = '$D' \
         ON CONFLICT DO NOTHING",
        "DELETE FROM collection_members WHERE device = '$D'",
        "INSERT INTO runs (id, device, deployment, sequence, sequence_version, order_document, state, stop, take, \
         acknowledged, server_bytes, identity, started_at_ms, ended_at_ms, last_seen_at_ms) \
         SELECT '$R', id, 'd', 's', 1, '{}', 'running', 0, 1, 0, 0, '[]', $T, 0, $T FROM devices WHERE id = '$D' \
         ON CONFLICT DO NOTHING",
        "UPDATE runs SET state = 'completed', ended_at_ms = $T, server_bytes = 7 WHERE id = '$R'",
        "UPDATE runs SET state = 'running', ended_at_ms = 0, last_seen_at_ms = $T WHERE id = '$R'",
        "INSERT INTO strangers (id, device_key, facts, message, identity, last_seen_at_ms) \
         SELECT '$D', 'k$N', '{}', 'unknown', '[]', $T WHERE NOT EXISTS (SELECT 1 FROM devices WHERE id = '$D') \
         ON CONFLICT DO NOTHING",
        "INSERT INTO assignments (id, device, pupil, handed_out_at_ms, handed_out_by, note, returned_at_ms, returned_by, \
         condition_note, ended_by, undone) SELECT '$R-$T', id, 'p', $T, '', '', 0, '', '', '', 0 FROM devices \
         WHERE id = '$D' ON CONFLICT DO NOTHING",
        "UPDATE assignments SET returned_at_ms = $T WHERE device = '$D'",
    ];

    async fn state(folder: &camino::Utf8Path) -> AppState {
        let (_, stopping) = watch::channel(false);
        let trust = Trust {
            format: 1,
            server_urls: Vec::new(),
            ca_pem: String::new(),
            bundle_keys: Vec::new(),
            wipe_keys: Vec::new(),
        };
        let state = AppState::open(
            folder,
            None,
            trust,
            None,
            stopping,
            crate::serve::Patience::default(),
            0,
        )
        .await
        .unwrap();
        for sql in [
            "INSERT INTO sites (code, name) VALUES ('BJO', 'Bjørnsletta'), ('KON', 'Kongsbakken')",
            "INSERT INTO collections (name, title) VALUES ('autumn', '')",
            "INSERT INTO deployments (name, collection, document, stopped, created_at_ms) VALUES ('d', 'autumn', \
             '{\"name\":\"d\",\"collection\":\"autumn\",\"sequence\":\"s\",\"purpose\":\"required\",\
             \"expected-seconds\":900,\"cap\":10}', 0, 1)",
            "INSERT INTO pupils (id, external_id, external_key, name, site, class, several, created_at_ms, listed_at_ms, \
             left_at_ms, erased_at_ms) VALUES ('p', '1', '1', 'Kari', 'BJO', '1A', 1, 1, 1, 0, 0)",
        ] {
            sqlx::query(sql).execute(state.db().read()).await.unwrap();
        }
        state
    }

    async fn happen(state: &AppState, what: usize, number: u8, time: i64) {
        let device = uuid::Uuid::from_u128(u128::from(number) + 1);
        let run = uuid::Uuid::from_u128(u128::from(number) + 1000);
        let sql = HAPPENS[what]
            .replace("$D", &device.to_string())
            .replace("$R", &run.to_string())
            .replace("$N", &number.to_string())
            .replace("$T", &time.to_string());
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(state.db().read())
            .await
            .unwrap();
        // As handlers do: a run that changed is told as such, and whatever else as a change of the device.
        state.changed(match what {
            5..=7 => Change::Run(run.to_string().parse().unwrap()),
            _ => Change::Device(device.to_string().parse().unwrap()),
        });
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// After whatever changes, the view is what a fresh reading of the database gives.
        #[test]
        fn the_view_is_what_the_database_says(changes in proptest::collection::vec((0..HAPPENS.len(), 0_u8..6), 1..60)) {
            let folder = tempfile::tempdir().unwrap();
            let folder = camino::Utf8Path::from_path(folder.path()).unwrap();
            runtime().block_on(async {
                let state = state(folder).await;
                for (at, (what, number)) in changes.iter().enumerate() {
                    happen(&state, *what, *number, now_ms() + i64::try_from(at).unwrap()).await;
                    // Not every change is looked at by itself: some are read together.
                    if at % 3 == 0 {
                        state.fleet().await.unwrap();
                    }
                }
                let view = state.fleet().await.unwrap();
                let fresh = state.read_device_rows(None, &Fleet::default()).await.unwrap();
                let fresh: Vec<_> = fresh.into_iter().map(|row| Arc::new(clockless(row))).collect();
                assert_eq!(view.rows(), Fleet::of(fresh).rows());
                assert_eq!(view.holders, state.read_holders(None).await.unwrap());
                state.db().close().await;
            });
        }
    }

    #[test]
    fn what_did_not_change_stays_the_very_same() {
        let folder = tempfile::tempdir().unwrap();
        let folder = camino::Utf8Path::from_path(folder.path()).unwrap();
        runtime().block_on(async {
            let state = state(folder).await;
            happen(&state, 0, 1, 1).await;
            happen(&state, 0, 2, 1).await;
            let before = state.fleet().await.unwrap();
            happen(&state, 1, 2, 1).await;
            let after = state.fleet().await.unwrap();
            let same = |place: usize| Arc::ptr_eq(&before.rows()[place], &after.rows()[place]);
            assert_eq!((same(0), same(1)), (true, false));
            assert!(after.is_unchanged_since(after.rows()[0].device, before.at()));
            assert!(!after.is_unchanged_since(after.rows()[1].device, before.at()));
            state.fleet_view().mark_everything();
            let again = state.fleet().await.unwrap();
            assert!(Arc::ptr_eq(&after, &again), "reading all anew is no news");
            happen(&state, 9, 1, 1).await;
            let handed_out = state.fleet().await.unwrap();
            let same = |place: usize| Arc::ptr_eq(&after.rows()[place], &handed_out.rows()[place]);
            assert_eq!((same(0), same(1)), (false, true), "another pupil is news");
        });
    }

    /// A request that is given up while the rows are read leaves its marks behind.
    #[test]
    fn marks_outlive_whoever_took_them() {
        let view = FleetView::default();
        let device = "00000000-0000-0000-0000-000000000007".parse().unwrap();
        view.mark(Change::Device(device));
        let due = std::mem::take(&mut *view.lock());
        drop(Taken { view: &view, due });
        let due = view.lock();
        assert!(due.everything && due.devices.contains(&device));
    }
}
