//! Runs as they are now: folded from their events and kept in memory, rebuilt from the database when asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sequence::view::RunView;
use serde::Deserialize;
use wire::event::{Event, EventBody};
use wire::names::{RunId, StepPath};

use crate::db::{Db, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::limits::VIEWS_MAX;

/// A host name has 63 characters at most, RFC 1123 says.
const HOST_NAME_CHARS_MAX: usize = 64;

/// What every event says, whatever its kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct EventHead {
    pub(crate) run: RunId,
    pub(crate) seq: u64,
    #[serde(default)]
    pub(crate) boot: u32,
    #[serde(default)]
    uptime_ms: u64,
    body: KindOnly,
}

#[derive(Debug, Clone, Deserialize)]
struct KindOnly {
    kind: String,
}

impl EventHead {
    /// Whether the event may be lost, and is not stored.
    pub(crate) fn is_lossy(&self) -> bool {
        self.body.kind == "progress"
    }

    /// Whether a run begins with this event.
    pub(crate) fn is_start(&self) -> bool {
        self.body.kind == "run-started"
    }
}

/// Reads an event. A body that this release can't read is an unknown event, never an error.
pub(crate) fn read_event(bytes: &[u8]) -> Option<(EventHead, Event)> {
    let head: EventHead = serde_json::from_slice(bytes).ok()?;
    let event = serde_json::from_slice(bytes).unwrap_or(Event {
        run: head.run,
        seq: head.seq,
        boot: head.boot,
        uptime_ms: head.uptime_ms,
        body: EventBody::Unknown,
    });
    Some((head, event))
}

/// A run as it is now.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// The run as seen by people.
    pub(crate) view: RunView,
    /// When each step began and ended.
    pub(crate) timeline: Timeline,
    /// The highest count of the machine's network interfaces in each of its starts.
    pub(crate) interface_bytes: BTreeMap<u32, u64>,
    /// The host name that a step means to set.
    pub(crate) planned_name: Option<String>,
    /// When the server last heard of the run.
    pub(crate) last_seen_at_ms: i64,
    /// When that was last written down.
    pub(crate) noted_at_ms: i64,
}

impl Live {
    /// Takes in an event.
    pub(crate) fn apply(&mut self, event: &Event, received_at_ms: i64) {
        self.view.apply(event);
        self.timeline.apply(event, received_at_ms);
        if matches!(event.body, EventBody::StepPlanned { .. })
            && let Some(name) = told_name(&event.body)
        {
            self.planned_name = Some(name);
        }
    }

    /// The host name, once a step has planned or set it.
    pub(crate) fn host_name(&self) -> Option<String> {
        let outputs = self.view.steps.iter().rev().map(|step| &step.output);
        outputs
            .filter_map(name_in)
            .next()
            .or_else(|| self.planned_name.clone())
    }
}

/// The host name that an event tells: a step means to set it, or has set it.
pub(crate) fn told_name(body: &EventBody) -> Option<String> {
    match body {
        EventBody::StepPlanned { plan, .. } => name_in(plan),
        EventBody::StepDone { output, .. } => name_in(output),
        _ => None,
    }
}

fn name_in(value: &serde_json::Value) -> Option<String> {
    let name = ["hostname", "host-name"]
        .iter()
        .find_map(|key| value.get(key))?;
    Some(crate::text::clean(name.as_str()?, HOST_NAME_CHARS_MAX)).filter(|name| !name.is_empty())
}

/// When each step began and ended, in milliseconds from the start of the run. The device's own clock counts within
/// one start; the server's time bridges from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    began_at_ms: Option<i64>,
    /// By start of the machine: its clock at the first event, and the offset that this was.
    boots: BTreeMap<u32, (u64, u64)>,
    last: u64,
    /// By step: the offset of its first attempt, and of its end.
    pub(crate) steps: BTreeMap<StepPath, (u64, Option<u64>)>,
}

impl Timeline {
    fn apply(&mut self, event: &Event, received_at_ms: i64) {
        let began_at_ms = *self.began_at_ms.get_or_insert(received_at_ms);
        let bridged = u64::try_from(received_at_ms - began_at_ms)
            .unwrap_or(0)
            .max(self.last);
        let (uptime_ms, offset) = *self
            .boots
            .entry(event.boot)
            .or_insert((event.uptime_ms, bridged));
        let now = offset + event.uptime_ms.saturating_sub(uptime_ms);
        self.last = self.last.max(now);
        match &event.body {
            EventBody::StepStarted { path, .. } => {
                self.steps.entry(path.clone()).or_insert((now, None)).1 = None;
            }
            EventBody::StepDone { path, .. } | EventBody::RunFailed { path, .. } => {
                if let Some((_, end)) = self.steps.get_mut(path) {
                    *end = Some(now);
                }
            }
            _ => {}
        }
    }
}

/// One run in memory.
#[derive(Default)]
pub(crate) struct Entry {
    /// Held while a batch of events is taken in: batches of one run never overlap.
    pub(crate) gate: tokio::sync::Mutex<()>,
    live: Mutex<Live>,
}

impl Entry {
    /// The run as it is now. Never held across an `await`.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All runs in memory.
#[derive(Default)]
pub(crate) struct Views {
    entries: Mutex<HashMap<RunId, Arc<Entry>>>,
}

impl Views {
    /// The run, rebuilt from the database if it isn't in memory.
    pub(crate) async fn get(&self, db: &Db, run: RunId) -> Result<Arc<Entry>, Failure> {
        if let Some(entry) = self.lock().get(&run) {
            return Ok(Arc::clone(entry));
        }
        let live = load(db, run).await?;
        let entry = Arc::new(Entry {
            live: Mutex::new(live),
            ..Entry::default()
        });
        let mut entries = self.lock();
        if entries.len() >= VIEWS_MAX {
            entries.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        // Two may have loaded it at once; the first one stays, so that there is only one gate.
        Ok(Arc::clone(entries.entry(run).or_insert(entry)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks up the host names of runs from releases that did not write them down.
pub(crate) async fn name_old_runs(db: &Db) -> Result<(), Failure> {
    let old: Vec<String> = sqlx::query_scalar("SELECT id FROM runs WHERE host_name = '?'")
        .fetch_all(db.read())
        .await
        .doing("look for runs without a host name")?;
    for id in old {
        let run: RunId = stored_text("run id", &id)?;
        let name = load(db, run).await?.host_name().unwrap_or_default();
        let mut write = db.write().await?;
        sqlx::query("UPDATE runs SET host_name = $1 WHERE id = $2")
            .bind(name)
            .bind(id)
            .execute(&mut *write)
            .await
            .doing("store a host name")?;
        commit(write).await?;
    }
    Ok(())
}

pub(crate) async fn load(db: &Db, run: RunId) -> Result<Live, Failure> {
    let id = run.to_string();
    let events: Vec<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT events.bytes, events.received_at_ms FROM events JOIN runs ON runs.id = events.run \
         WHERE events.run = $1 AND events.take = runs.take ORDER BY events.seq",
    )
    .bind(&id)
    .fetch_all(db.read())
    .await
    .doing("read the events of a run")?;
    let boots: Vec<(i64, i64)> =
        sqlx::query_as("SELECT boot, interface_bytes FROM run_boots WHERE run = $1")
            .bind(&id)
            .fetch_all(db.read())
            .await
            .doing("read the starts of a run")?;
    let seen: Option<i64> = sqlx::query_scalar("SELECT last_seen_at_ms FROM runs WHERE id = $1")
        .bind(&id)
        .fetch_optional(db.read())
        .await
        .doing("read a run")?;
    let mut live = Live {
        last_seen_at_ms: seen.unwrap_or(0),
        noted_at_ms: seen.unwrap_or(0),
        ..Live::default()
    };
    for (bytes, received_at_ms) in &events {
        if let Some((_, event)) = read_event(bytes) {
            live.apply(&event, *received_at_ms);
        }
    }
    for (boot, bytes) in boots {
        live.interface_bytes.insert(
            u32::try_from(boot).unwrap_or(0),
            u64::try_from(bytes).unwrap_or(0),
        );
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::{Live, read_event};
    use proptest::prelude::*;
    use serde_json::json;

    fn apply(
        live: &mut Live,
        seq: u64,
        boot: u32,
        uptime_ms: u64,
        at: i64,
        body: &serde_json::Value,
    ) {
        let run = uuid::Uuid::nil();
        let text =
            json!({"run": run, "seq": seq, "boot": boot, "uptime-ms": uptime_ms, "body": body})
                .to_string();
        let (_, event) = read_event(text.as_bytes()).unwrap();
        live.apply(&event, at);
    }

    #[test]
    fn a_restart_is_bridged_by_the_time_of_the_server() {
        let mut live = Live::default();
        let steps = json!([{"path": "a", "title": "A", "kind": "x"}]);
        apply(
            &mut live,
            1,
            1,
            5_000,
            100_000,
            &json!({"kind": "run-started", "sequence": "s", "steps": steps}),
        );
        apply(
            &mut live,
            2,
            1,
            7_000,
            102_500,
            &json!({"kind": "step-started", "path": "a", "attempt": 1}),
        );
        apply(
            &mut live,
            3,
            2,
            900,
            130_000,
            &json!({"kind": "run-resumed", "environment": "os"}),
        );
        apply(
            &mut live,
            4,
            2,
            1_900,
            131_000,
            &json!({"kind": "step-done", "path": "a", "outcome": "done"}),
        );
        let (start, end) = live.timeline.steps[&"a".parse().unwrap()];
        assert_eq!((start, end), (2_000, Some(31_000)));
    }

    #[test]
    fn a_known_kind_with_unknown_content_is_an_unknown_event() {
        let text = json!({"run": uuid::Uuid::nil(), "seq": 3, "boot": 1, "uptime-ms": 1,
            "body": {"kind": "step-done", "path": "a", "outcome": "half-done"}})
        .to_string();
        let (head, event) = read_event(text.as_bytes()).unwrap();
        assert_eq!((head.seq, event.body), (3, wire::event::EventBody::Unknown));
    }

    proptest! {
        #[test]
        fn garbage_is_no_event(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read_event(&bytes).is_none());
        }
    }
}
