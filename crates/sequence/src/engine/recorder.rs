//! Numbers events, makes them durable, and only then lets others hear them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;

use wire::event::{Event, EventBody};
use wire::names::{RunId, StepPath};

use super::{Journal, World};

/// What fits a screen; the log has all.
const LAST_LINES_MAX: usize = 20;
const LAST_LINES_BYTES_MAX: usize = 4096;

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

    /// The last lines that the latest attempt of a step logged, oldest first, fit to be shown.
    pub(super) fn last_lines(&self, path: &StepPath) -> Vec<String> {
        let inner = self.inner.borrow();
        let mut lines = VecDeque::new();
        let mut bytes = 0;
        for event in inner.journal.events().iter().rev() {
            let text = match &event.body {
                EventBody::StepStarted { path: begun, .. } if begun == path => break,
                EventBody::Log {
                    path: Some(from),
                    text,
                    ..
                } if from == path => visible(text),
                _ => continue,
            };
            bytes += text.len();
            if lines.len() >= LAST_LINES_MAX || bytes > LAST_LINES_BYTES_MAX {
                break;
            }
            if !text.is_empty() {
                lines.push_front(text);
            }
        }
        lines.into()
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

/// A line as a terminal would leave it: without colours and control characters, and of a progress bar, which goes back
/// to the start of its line again and again, only the last state.
fn visible(line: &str) -> String {
    let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            // A control sequence ends with its first letter (ECMA-48, 5.4).
            while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
            rest.next();
        } else if character == '\t' {
            text.push(' ');
        } else if !character.is_control() {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_are_as_a_terminal_leaves_them() {
        for (line, expected) in [
            ("E: no space left", "E: no space left"),
            ("\u{1b}[1;31merror:\u{1b}[0m\tblåbær\u{7}", "error: blåbær"),
            ("10%\r 50%\r100%\r\n", "100%"),
            ("\u{1b}[", ""),
            ("\u{1b}", ""),
        ] {
            assert_eq!(super::visible(line), expected);
        }
    }
}
