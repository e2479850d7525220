//! Numbers events, makes them durable, and only then lets others hear them.

use std::cell::RefCell;
use std::io;

use wire::event::{Event, EventBody};
use wire::names::RunId;

use super::{Journal, World};

/// The one way events come into being.
pub(super) struct Recorder<'a> {
    run: RunId,
    boot: u32,
    world: &'a World<'a>,
    inner: RefCell<Inner<'a>>,
}

struct Inner<'a> {
    journal: &'a mut dyn Journal,
    seq: u64,
    /// The first failure to write; after it nothing is written, so that the journal has no gaps.
    failure: Option<io::Error>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        run: RunId,
        seq: u64,
        boot: u32,
        journal: &'a mut dyn Journal,
        world: &'a World<'a>,
    ) -> Self {
        Self {
            run,
            boot,
            world,
            inner: RefCell::new(Inner {
                journal,
                seq,
                failure: None,
            }),
        }
    }

    /// Records what happened; fails if it, or anything before it, is not durable.
    pub(super) fn record(&self, body: EventBody) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        if let Some(error) = &inner.failure {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        let event = self.event(inner.seq + 1, body);
        if let Err(error) = inner.journal.append(&event) {
            inner.failure = Some(io::Error::new(error.kind(), error.to_string()));
            return Err(error);
        }
        inner.seq = event.seq;
        drop(inner);
        self.world.observer.event(&event);
        Ok(())
    }

    /// Tells what may be lost.
    pub(super) fn tell(&self, body: EventBody) {
        let seq = self.inner.borrow().seq;
        self.world.observer.event(&self.event(seq, body));
    }

    /// Whether the journal can't be written any more.
    pub(super) fn is_broken(&self) -> bool {
        self.inner.borrow().failure.is_some()
    }

    /// Fails if the journal can't be written any more.
    pub(super) fn check(&self) -> io::Result<()> {
        match &self.inner.borrow().failure {
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Ok(()),
        }
    }

    fn event(&self, seq: u64, body: EventBody) -> Event {
        Event {
            run: self.run,
            seq,
            boot: self.boot,
            uptime_ms: self.world.clock.uptime_ms(),
            body,
        }
    }
}
