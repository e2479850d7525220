//! Running an order: the engine with this machine's ports, and everyone who listens.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sequence::engine::{self, Journal, Observer, RunEnd, World};
use serde_json::json;
use wire::event::Event;
use wire::order::Order;

use crate::clock;
use crate::log;
use crate::reporter::Reporter;
use crate::view::Board;

/// How often progress goes to the serial log.
const PROGRESS_MS: u64 = 2000;

/// Hears every event: log, screen, reporter.
pub(crate) struct Listeners {
    board: Arc<Board>,
    reporter: Option<Arc<Reporter>>,
    progress_at_ms: AtomicU64,
}

impl Listeners {
    /// With a reporter on site, without one at the factory.
    pub(crate) fn new(board: Arc<Board>, reporter: Option<Arc<Reporter>>) -> Self {
        Self {
            board,
            reporter,
            progress_at_ms: AtomicU64::new(0),
        }
    }
}

impl Observer for Listeners {
    fn event(&self, event: &Event) {
        let now = clock::uptime_ms();
        let is_due = !event.body.is_lossy()
            || now >= self.progress_at_ms.load(Ordering::Relaxed) + PROGRESS_MS;
        if is_due {
            log::event(event);
        }
        if is_due && event.body.is_lossy() {
            self.progress_at_ms.store(now, Ordering::Relaxed);
        }
        self.board.event(event);
        if let Some(reporter) = &self.reporter {
            reporter.push(event);
        }
    }

    fn is_stopped(&self) -> bool {
        self.reporter
            .as_ref()
            .is_some_and(|reporter| reporter.is_stopped())
    }
}

/// Runs `order` and says how it ended. One that was stopped is gone on with if `go_on`.
pub(crate) fn run(
    order: &Order,
    journal: &mut dyn Journal,
    world: &World<'_>,
    go_on: bool,
) -> io::Result<RunEnd> {
    if go_on {
        engine::go_on(order, journal, world)?;
    }
    let end = engine::run(order, journal, world)?;
    log::milestone(
        "run-ended",
        json!({ "run": order.run, "end": in_words(&end) }),
    );
    Ok(end)
}

fn in_words(end: &RunEnd) -> String {
    match end {
        RunEnd::Done(_) => "done".to_owned(),
        RunEnd::Suspended(_) => "suspended".to_owned(),
        RunEnd::Failed => "failed".to_owned(),
        RunEnd::Aborted => "aborted".to_owned(),
    }
}
