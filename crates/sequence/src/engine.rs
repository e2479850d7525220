//! The engine: runs steps in order, writes a journal, and knows no step by name.

use wire::event::{Environment, Event, FinishAction};
use wire::order::Order;

use crate::ports::{Content, Machine};

mod history;
mod progress;
mod recorder;
mod runner;

pub use progress::LOG_LINE_BYTES_MAX;

/// Where events become durable.
pub trait Journal {
    /// Everything recorded so far, oldest first; empty for a new run.
    fn events(&self) -> &[Event];

    /// Appends an event. Returns only once it is on the disk (or, before there is a staging partition, in memory).
    ///
    /// # Errors
    /// The event is not durable; the engine then stops before any further effect.
    fn append(&mut self, event: &Event) -> std::io::Result<()>;
}

/// Hears every event, durable or lossy: screen, reporter, serial log.
pub trait Observer: Sync {
    /// Called after the event is durable (if it is one that must be).
    fn event(&self, event: &Event);

    /// Whether an admin wants this run stopped.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Time comes in here, so that tests decide it.
pub trait Clock: Sync {
    /// Milliseconds since the machine started.
    fn uptime_ms(&self) -> u64;

    /// Waits, but ends early once `until` says so.
    fn wait(&self, milliseconds: u64, until: &dyn Fn() -> bool);
}

/// How a run (or the part of it before a restart) ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// All steps are done; do this now.
    Done(FinishAction),
    /// Restart now; the run goes on in this environment.
    Suspended(Environment),
    /// A step failed; the last event says which and why.
    Failed,
    /// Someone stopped the run.
    Aborted,
}

/// Everything a run needs from outside.
pub struct World<'a> {
    /// The machine.
    pub machine: &'a dyn Machine,
    /// The content.
    pub content: &'a dyn Content,
    /// Who hears events.
    pub observer: &'a dyn Observer,
    /// The clock.
    pub clock: &'a dyn Clock,
}

/// Runs `order` from where `journal` says it is to its end, a restart or a failure.
///
/// A step that the journal calls done is not run again. One that was started and not done is handled by its
/// `ON_RESTART` rule: `Redo` applies the recorded plan, `Verify` plans again (and finds it already true), `Refuse`
/// fails. A run whose journal ends in `run-failed` is tried again from the failed step.
///
/// A run that was stopped stays stopped, until [`go_on`] says otherwise.
///
/// # Errors
/// Only if the journal can't be written: then nothing further was done.
pub fn run(order: &Order, journal: &mut dyn Journal, world: &World<'_>) -> std::io::Result<RunEnd> {
    runner::Runner::new(order, journal, world).run()
}

/// An admin wants a run that was stopped gone on with: records that, so that [`run`] takes it up at the step where it was
/// stopped. Any other run is left as it is.
///
/// # Errors
/// The journal can't be written.
pub fn go_on(order: &Order, journal: &mut dyn Journal, world: &World<'_>) -> std::io::Result<()> {
    runner::Runner::new(order, journal, world).go_on()
}
