//! What a running step says, throttled and capped, and how it learns that it must stop.

use std::cell::Cell;
use std::time::Duration;

use wire::event::{EventBody, LogLevel, Progress as ProgressEvent, ProgressUnit};
use wire::names::StepPath;

use super::World;
use super::recorder::Recorder;
use crate::ports::Progress;

/// A log line is cut here: programs print progress bars of any length without a line feed.
pub const LOG_LINE_BYTES_MAX: usize = 2048;
/// More lines than a person reads; each costs a write to the disk that is waited for.
const LOG_LINES_MAX: u64 = 4000;
/// Four times a second is as often as a screen is worth changing.
const REPORT_INTERVAL_MS: u64 = 250;

/// The [`Progress`] of one attempt of one step.
pub(super) struct StepProgress<'a, 'r> {
    pub(super) recorder: &'a Recorder<'r>,
    pub(super) world: &'a World<'r>,
    pub(super) path: &'a StepPath,
    /// Uptime at which the attempt's time is up. Later, if the attempt had to wait for a server.
    pub(super) deadline_ms: Cell<u64>,
    /// Log lines of the whole run so far.
    pub(super) log_lines: &'a Cell<u64>,
    pub(super) reported_ms: Cell<Option<u64>>,
}

impl StepProgress<'_, '_> {
    /// Whether the attempt's time is up.
    pub(super) fn is_late(&self) -> bool {
        self.world.clock.uptime_ms() >= self.deadline_ms.get()
    }

    /// The time the attempt has left.
    pub(super) fn time_left(&self) -> Duration {
        Duration::from_millis(
            self.deadline_ms
                .get()
                .saturating_sub(self.world.clock.uptime_ms()),
        )
    }
}

impl Progress for StepProgress<'_, '_> {
    fn report(&self, current: u64, total: u64, unit: ProgressUnit, message: &str) {
        let now = self.world.clock.uptime_ms();
        let is_last = total > 0 && current >= total;
        let is_early = self
            .reported_ms
            .get()
            .is_some_and(|last| now < last.saturating_add(REPORT_INTERVAL_MS));
        if is_early && !is_last {
            return;
        }
        self.reported_ms.set(Some(now));
        let message = cut(message).to_owned();
        let progress = ProgressEvent {
            path: self.path.clone(),
            current,
            total,
            unit,
            message,
        };
        self.recorder.tell(EventBody::Progress(progress));
    }

    fn log(&self, level: LogLevel, text: &str) {
        let count = self.log_lines.get();
        if count >= LOG_LINES_MAX {
            return;
        }
        self.log_lines.set(count + 1);
        let (level, text) = if count + 1 == LOG_LINES_MAX {
            (
                LogLevel::Warning,
                "this run has logged too much; further lines are left out",
            )
        } else {
            (level, cut(text))
        };
        let body = EventBody::Log {
            path: Some(self.path.clone()),
            level,
            text: text.to_owned(),
        };
        if let Err(error) = self.recorder.record(body) {
            // The recorder remembers the failure, the step is told to stop, and the engine ends the run with it.
            tracing::error!(step.path = %self.path, %error, "cannot journal a log line of step {}", self.path);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.world.observer.is_stopped() || self.recorder.is_broken() || self.is_late()
    }

    fn waited(&self, time: Duration) {
        let waited_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.deadline_ms
            .set(self.deadline_ms.get().saturating_add(waited_ms));
    }
}

/// The text up to the limit, whole letters only.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOG_LINE_BYTES_MAX)]
}
