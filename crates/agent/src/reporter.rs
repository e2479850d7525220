//! Tells the server what happened: every durable event after its cursor, repeated until acknowledged, and the latest
//! progress now and then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use wire::device_api::{EVENTS_MAX, EventBatch};
use wire::event::Event;
use wire::names::RunId;

use crate::connection::{Connection, is_session_gone};
use crate::host::wait;
use crate::log;

/// How often progress is told.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);
/// With nothing to tell the server is asked this often whether to stop, and learns that the machine lives.
const HEARTBEAT_PAUSE: Duration = Duration::from_secs(3);
/// Durable events come in bursts; a burst is sent as one.
const BURST_PAUSE: Duration = Duration::from_millis(200);
/// A run that begins here records its first event within milliseconds.
const FIRST_EVENT_WAIT: Duration = Duration::from_secs(60);
/// A batch this large is long enough on a slow line.
const BATCH_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
struct Spool {
    /// Every durable event of the run, oldest first. Those that are acknowledged stay: a server that was restored from a
    /// backup lacks some of them again.
    events: Vec<(u64, Box<RawValue>)>,
    /// The latest lossy event, unless it was sent.
    progress: Option<Box<RawValue>>,
    acknowledged: u64,
    /// The cursor is one of these events. The server may have those of an earlier take of the run, whose journal was in memory
    /// when the power failed; the first event, which is another then, tells it so.
    is_sure: bool,
    /// The server has no such run: it was restored from a backup that is older.
    is_unknown: bool,
}

/// What is sent at once.
struct Batch {
    events: Vec<Box<RawValue>>,
    /// Where the cursor is when the server has it.
    end: u64,
    /// Whether the server can tell by it which take it has.
    has_first: bool,
}

impl Spool {
    fn push(&mut self, event: &Event) {
        let Ok(json) = serde_json::value::to_raw_value(event) else {
            return;
        };
        if event.body.is_lossy() {
            self.progress = Some(json);
        } else {
            self.events.push((event.seq, json));
        }
    }

    fn newest(&self) -> u64 {
        self.events.last().map_or(0, |(seq, _)| *seq)
    }

    /// Durable events that are not acknowledged.
    fn left(&self) -> &[(u64, Box<RawValue>)] {
        let known = self
            .events
            .partition_point(|(seq, _)| *seq <= self.acknowledged);
        &self.events[known..]
    }

    fn has_something(&self) -> bool {
        !self.left().is_empty() || !self.is_sure
    }

    fn is_reported(&self) -> bool {
        let is_known = self.is_sure && !self.events.is_empty() && self.left().is_empty();
        is_known || self.is_unknown
    }

    /// What to send now. As long as it isn't sure what the server has, that is the first event alone; its answer tells. Only
    /// when all durable events fit, progress goes with them: it must not overtake any.
    fn batch(&mut self) -> Batch {
        let mut batch = Batch {
            events: Vec::new(),
            end: self.acknowledged,
            has_first: false,
        };
        if !self.is_sure {
            batch.has_first = true;
            batch.events = self
                .events
                .first()
                .map(|(_, json)| json.clone())
                .into_iter()
                .collect();
            return batch;
        }
        let mut bytes = 0;
        for (seq, json) in self.left() {
            bytes += json.get().len();
            let is_full = batch.events.len() + 1 >= EVENTS_MAX || bytes > BATCH_BYTES_MAX;
            if is_full && !batch.events.is_empty() {
                return batch;
            }
            batch.events.push(json.clone());
            batch.end = *seq;
        }
        batch.events.extend(self.progress.take());
        batch
    }

    /// The server has everything up to `seq`. If that isn't what was to be expected, it has forgotten something, or is at another
    /// take.
    fn acknowledge(&mut self, batch: &Batch, seq: u64) {
        self.is_unknown = false;
        self.is_sure = batch.has_first || seq == batch.end;
        if self.is_sure {
            self.acknowledged = seq.min(self.newest());
        }
    }
}

/// Reports one run.
pub(crate) struct Reporter {
    run: RunId,
    connection: Arc<Connection>,
    spool: Mutex<Spool>,
    is_stopped: AtomicBool,
    is_ended: AtomicBool,
}

impl Reporter {
    /// Starts reporting; `events` are those of earlier starts. They are sent again only if the server lacks them.
    pub(crate) fn start(run: RunId, events: &[Event], connection: Arc<Connection>) -> Arc<Self> {
        let mut spool = Spool::default();
        events.iter().for_each(|event| spool.push(event));
        let reporter = Arc::new(Self {
            run,
            spool: Mutex::new(spool),
            is_stopped: AtomicBool::new(connection.is_to_stop(run)),
            connection,
            is_ended: AtomicBool::new(false),
        });
        let worker = Arc::clone(&reporter);
        let work = Box::new(move || worker.work());
        if let Err(error) = reporter.connection.host().spawn("reporter", work) {
            log::note(&format!(
                "no thread to report with; the journal keeps everything: {error}"
            ));
        }
        reporter
    }

    /// Takes an event over.
    pub(crate) fn push(&self, event: &Event) {
        self.lock().push(event);
    }

    /// Whether an admin wants the run stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Whether the server has every durable event, or knows nothing of the run and can't be told.
    pub(crate) fn is_reported(&self) -> bool {
        self.lock().is_reported()
    }

    /// Waits until the server has everything, at most so long.
    pub(crate) fn wait_reported(&self, limit: Duration) -> bool {
        wait(&**self.connection.host(), limit, || self.is_reported());
        self.is_reported()
    }

    /// Ends the thread.
    pub(crate) fn end(&self) {
        self.is_ended.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, time: Duration, done: impl Fn(&Spool) -> bool) {
        wait(&**self.connection.host(), time, || {
            self.is_ended.load(Ordering::Relaxed) || done(&self.lock())
        });
    }

    fn work(&self) {
        let mut failures = 0_u32;
        self.wait(FIRST_EVENT_WAIT, |spool| !spool.events.is_empty());
        while !self.is_ended.load(Ordering::Relaxed) {
            if !self.connection.is_online() {
                self.wait(PROGRESS_PAUSE, |_| false);
                continue;
            }
            match self.send() {
                Ok(()) => {
                    failures = 0;
                    self.wait(BURST_PAUSE, |_| false);
                    // Progress alone waits its turn; a durable event goes at once.
                    self.wait(PROGRESS_PAUSE, Spool::has_something);
                    self.wait(HEARTBEAT_PAUSE, |spool| {
                        spool.has_something() || spool.progress.is_some()
                    });
                }
                Err(error) => {
                    if failures == 0 {
                        log::warn("the server is not reached; events are kept", &error);
                    }
                    failures += 1;
                    self.wait(self.connection.retry_pause(failures), |_| false);
                }
            }
        }
    }

    /// Sends what there is. Nothing is a sign of life, and the answer says whether to stop.
    fn send(&self) -> anyhow::Result<()> {
        let session = self.connection.require_session()?;
        let mut batch = self.lock().batch();
        let body = EventBatch {
            events: std::mem::take(&mut batch.events),
            interface_bytes: self.connection.host().interface_bytes(),
        };
        match session.events(self.run, &body) {
            Ok(ack) => {
                self.is_stopped.store(ack.stop, Ordering::Relaxed);
                self.lock().acknowledge(&batch, ack.acknowledged);
                Ok(())
            }
            Err(error) => {
                if is_session_gone(&error) {
                    self.connection.forget_session();
                }
                if error.code() == Some("not-found") {
                    self.lock().is_unknown = true;
                }
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::event::{EventBody, LogLevel, Progress, ProgressUnit};

    fn event(seq: u64, text: &str) -> Event {
        let body = EventBody::Log {
            path: None,
            level: LogLevel::Info,
            text: text.into(),
        };
        Event {
            run: RunId(uuid::Uuid::nil()),
            seq,
            boot: 1,
            uptime_ms: 1,
            body,
        }
    }

    fn progress(seq: u64) -> Event {
        let body = EventBody::Progress(Progress {
            path: "os".parse().unwrap(),
            current: 1,
            total: 2,
            unit: ProgressUnit::Items,
            message: String::new(),
        });
        Event {
            body,
            ..event(seq, "")
        }
    }

    fn sure(events: impl Iterator<Item = Event>) -> Spool {
        let mut spool = Spool::default();
        events.for_each(|event| spool.push(&event));
        let first = spool.batch();
        assert_eq!(first.events.len(), 1, "the first event asks for the cursor");
        spool.acknowledge(&first, 1);
        spool
    }

    #[test]
    fn events_are_kept_until_acknowledged_and_progress_never_overtakes() {
        let mut spool = sure((1..=EVENTS_MAX as u64 + 10).map(|seq| event(seq, "x")));
        spool.push(&progress(1));
        spool.push(&progress(2));
        let first = spool.batch();
        assert!(first.events.len() < EVENTS_MAX);
        let is_progress = |json: &str| json.contains("progress");
        assert!(!first.events.iter().any(|json| is_progress(json.get())));
        let again = spool.batch().events.len();
        assert_eq!(again, first.events.len(), "not acknowledged: sent again");
        spool.acknowledge(&first, first.end);
        let second = spool.batch();
        assert_eq!(second.end, EVENTS_MAX as u64 + 10);
        let last = second.events.last().unwrap().get();
        assert!(last.contains("\"current\":1"));
        let third = spool.batch();
        let without = second.events.len() - 1;
        assert_eq!(third.events.len(), without, "progress goes once");
        assert!(!spool.is_reported());
        spool.acknowledge(&third, third.end);
        assert!(spool.is_reported() && spool.batch().events.is_empty());
    }

    #[test]
    fn a_server_that_has_forgotten_is_told_again() {
        let mut spool = sure((1..=9).map(|seq| event(seq, "x")));
        let all = spool.batch();
        spool.acknowledge(&all, 9);
        assert!(spool.is_reported());
        let sign_of_life = spool.batch();
        assert!(sign_of_life.events.is_empty());
        spool.acknowledge(&sign_of_life, 4);
        assert!(!spool.is_reported() && spool.has_something());
        let first = spool.batch();
        assert!(
            first.has_first && first.events.len() == 1,
            "which take is it?"
        );
        spool.acknowledge(&first, 4);
        assert_eq!(spool.batch().events.len(), 5);
        let rest = spool.batch();
        spool.acknowledge(&rest, 9);
        assert!(spool.is_reported());
    }

    #[test]
    fn what_another_take_knows_is_not_what_this_one_wrote() {
        let mut spool = sure((1..=9).map(|seq| event(seq, "x")));
        let all = spool.batch();
        spool.acknowledge(&all, 40);
        assert!(!spool.is_reported(), "nobody can know more than there is");
        let first = spool.batch();
        spool.acknowledge(&first, 1);
        assert_eq!(spool.batch().events.len(), 8);
    }

    #[test]
    fn batches_are_limited_in_bytes_and_never_empty() {
        let long = "x".repeat(BATCH_BYTES_MAX);
        let mut spool = sure((1..=4).map(|seq| event(seq, &long)));
        assert_eq!(spool.batch().events.len(), 1);
    }
}
