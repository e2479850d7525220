//! How long work says how far it is, and is told to stop.

use crate::error::ContentError;

/// Long work says how far it is, in bytes of content, and asks whether to stop.
pub trait Meter {
    /// `done` of `total` bytes are done; `total` is 0 if unknown.
    fn report(&self, done: u64, total: u64);
    /// Whether to stop now; the work then ends with [`ContentError::Cancelled`].
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A meter for nobody: reports go nowhere, and nothing is ever cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn report(&self, _done: u64, _total: u64) {}
}

/// A meter that adds up.
pub(crate) struct Tally<'a> {
    meter: &'a dyn Meter,
    done: u64,
    total: u64,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(meter: &'a dyn Meter, total: u64) -> Self {
        meter.report(0, total);
        Self {
            meter,
            done: 0,
            total,
        }
    }

    /// Adds to what is done and asks whether to stop.
    pub(crate) fn add(&mut self, bytes: u64) -> Result<(), ContentError> {
        self.done += bytes;
        self.meter.report(self.done, self.total);
        self.check()
    }

    /// Asks whether to stop.
    pub(crate) fn check(&self) -> Result<(), ContentError> {
        if self.meter.is_cancelled() {
            Err(ContentError::Cancelled)
        } else {
            Ok(())
        }
    }
}
