//! Tells the server what happened: every durable event after its cursor, repeated until acknowledged, and the latest
//! progress now and then.

use std::collections::VecDeque;
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
    /// Durable events that are not acknowledged, oldest first, with their `seq`.
    events: VecDeque<(u64, Box<RawValue>)>,
    /// The latest lossy event, unless it was sent.
    progress: Option<Box<RawValue>>,
    /// The `seq` of the newest durable event.
    newest: u64,
    acknowledged: u64,
}

impl Spool {
    fn push(&mut self, event: &Event) {
        let Ok(json) = serde_json::value::to_raw_value(event) else {
            return;
        };
        if event.body.is_lossy() {
            self.progress = Some(json);
        } else {
            self.newest = self.newest.max(event.seq);
            if event.seq > self.acknowledged {
                self.events.push_back((event.seq, json));
            }
        }
    }

    /// What to send now. Only when all durable events fit, progress goes with them: it must not overtake any.
    fn batch(&mut self) -> Vec<Box<RawValue>> {
        let mut batch: Vec<Box<RawValue>> = Vec::new();
        let mut bytes = 0;
        for (_, json) in &self.events {
            bytes += json.get().len();
            if batch.len() + 1 >= EVENTS_MAX || (bytes > BATCH_BYTES_MAX && !batch.is_empty()) {
                return batch;
            }
            batch.push(json.clone());
        }
        batch.extend(self.progress.take());
        batch
    }

    fn acknowledge(&mut self, seq: u64) {
        self.acknowledged = self.acknowledged.max(seq);
        while self
            .events
            .front()
            .is_some_and(|(seq, _)| *seq <= self.acknowledged)
        {
            self.events.pop_front();
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
        let is_new = events.is_empty();
        let work = Box::new(move || worker.work(is_new));
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

    /// Whether the server has every durable event.
    pub(crate) fn is_reported(&self) -> bool {
        let spool = self.lock();
        spool.newest > 0 && spool.acknowledged >= spool.newest
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

    fn work(&self, is_new: bool) {
        let mut failures = 0_u32;
        // Where nothing was recorded before, the server's cursor is of an earlier take, whose journal was in memory when
        // the power failed. The first event tells it so; before that the cursor is not asked for.
        let mut knows_cursor = is_new;
        if is_new {
            self.wait(FIRST_EVENT_WAIT, |spool| !spool.events.is_empty());
        }
        while !self.is_ended.load(Ordering::Relaxed) {
            if !self.connection.is_online() {
                self.wait(PROGRESS_PAUSE, |_| false);
                continue;
            }
            match self.send(!knows_cursor) {
                Ok(()) => {
                    (failures, knows_cursor) = (0, true);
                    self.wait(BURST_PAUSE, |_| false);
                    // Progress alone waits its turn; a durable event goes at once.
                    self.wait(PROGRESS_PAUSE, |spool| !spool.events.is_empty());
                    self.wait(HEARTBEAT_PAUSE, |spool| {
                        !spool.events.is_empty() || spool.progress.is_some()
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

    /// Sends what there is. The first batch is empty: its answer says where the server is. Later an empty one is a sign
    /// of life, and its answer says whether to stop.
    fn send(&self, ask_cursor: bool) -> anyhow::Result<()> {
        let session = self.connection.require_session()?;
        let events = if ask_cursor {
            Vec::new()
        } else {
            self.lock().batch()
        };
        let batch = EventBatch {
            events,
            interface_bytes: self.connection.host().interface_bytes(),
        };
        match session.events(self.run, &batch) {
            Ok(ack) => {
                self.is_stopped.store(ack.stop, Ordering::Relaxed);
                self.lock().acknowledge(ack.acknowledged);
                Ok(())
            }
            Err(error) => {
                if is_session_gone(&error) {
                    self.connection.forget_session();
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

    #[test]
    fn events_are_kept_until_acknowledged_and_progress_never_overtakes() {
        let mut spool = Spool::default();
        for seq in 1..=EVENTS_MAX as u64 + 10 {
            spool.push(&event(seq, "x"));
        }
        spool.push(&progress(1));
        spool.push(&progress(2));
        let first = spool.batch();
        assert!(
            first.len() < EVENTS_MAX && first.iter().all(|json| !json.get().contains("progress"))
        );
        assert_eq!(
            spool.batch().len(),
            first.len(),
            "not acknowledged: sent again"
        );
        spool.acknowledge(EVENTS_MAX as u64 + 5);
        let second = spool.batch();
        assert_eq!(second.len(), 6, "five events and one progress");
        assert!(second[5].get().contains("\"current\":1"));
        assert_eq!(spool.batch().len(), 5, "progress goes once");
        spool.acknowledge(3);
        assert_eq!(
            spool.acknowledged,
            EVENTS_MAX as u64 + 5,
            "a cursor never goes back"
        );
        spool.push(&event(4, "known"));
        assert_eq!(spool.events.len(), 5, "what the server has is not spooled");
    }

    #[test]
    fn batches_are_limited_in_bytes_and_never_empty() {
        let mut spool = Spool::default();
        let long = "x".repeat(BATCH_BYTES_MAX);
        (1..=3).for_each(|seq| spool.push(&event(seq, &long)));
        assert_eq!(spool.batch().len(), 1);
    }
}
