//! How a step asks the server: it waits for it as long as it isn't reached, and its time stands still meanwhile.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Result, bail};
use client::{Client, ClientError};
use sequence::ports::Progress;
use wire::event::{LogLevel, ProgressUnit};

use crate::connection::{Connection, is_session_gone};
use crate::host::wait;

/// How often a server that answers is asked for the same before the step is told; the step has attempts of its own.
const TRIES_MAX: u32 = 4;

/// How a step asks the server.
pub(crate) struct Asking<'a> {
    connection: &'a Connection,
    progress: &'a dyn Progress,
    /// What is needed from the server, for the screen and the log.
    what: &'a str,
    /// How often it was not reached since it last was.
    missed: u32,
    /// How often it answered that it can't.
    tries: u32,
    missed_since_ms: u64,
    /// Up to here the step's time has been accounted for.
    counted_ms: Cell<u64>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        progress: &'a dyn Progress,
        what: &'a str,
    ) -> Self {
        let now = connection.host().uptime_ms();
        Self {
            connection,
            progress,
            what,
            missed: 0,
            tries: 0,
            missed_since_ms: now,
            counted_ms: Cell::new(now),
        }
    }

    /// Asks until there is an answer.
    pub(crate) fn ask<T>(&mut self, call: impl Fn(&Client) -> Result<T, ClientError>) -> Result<T> {
        loop {
            let session = self.session()?;
            match call(&session) {
                Ok(answer) => {
                    self.reached();
                    return Ok(answer);
                }
                Err(error) => self.go_on_after(error)?,
            }
        }
    }

    /// A session; waits for network and server.
    fn session(&mut self) -> Result<Client> {
        loop {
            if self.progress.is_cancelled() {
                bail!(
                    "{} is needed from the server, and it was not reached in time",
                    self.what
                );
            }
            self.begin();
            if !self.connection.is_online() {
                self.missed("there is no network");
                continue;
            }
            match self.connection.require_session() {
                Ok(session) => return Ok(session),
                Err(error) => match error.downcast::<ClientError>() {
                    Ok(error) => self.go_on_after(error)?,
                    Err(refusal) => self.try_again(refusal)?,
                },
            }
        }
    }

    /// Whether another call makes sense, and when.
    fn go_on_after(&mut self, error: ClientError) -> Result<()> {
        if is_session_gone(&error) {
            self.connection.forget_session();
        }
        if error.is_unreached() {
            self.missed(&format!("{:#}", anyhow::Error::new(error)));
            return Ok(());
        }
        if !is_session_gone(&error) && !error.is_temporary() {
            return Err(error.into());
        }
        self.try_again(error.into())
    }

    /// After an answer that isn't what was asked for.
    fn try_again(&mut self, error: anyhow::Error) -> Result<()> {
        self.tries += 1;
        if self.tries >= TRIES_MAX {
            return Err(error);
        }
        let pause = self.connection.retry_pause(self.tries);
        wait(&**self.connection.host(), pause, || {
            self.progress.is_cancelled()
        });
        Ok(())
    }

    /// A call begins: if it comes to nothing, its time isn't the step's.
    pub(crate) fn begin(&self) {
        self.counted_ms.set(self.connection.host().uptime_ms());
    }

    /// Nobody was there: waits until it is time for another call, or there is a network again.
    pub(crate) fn missed(&mut self, why: &str) {
        if self.missed == 0 {
            self.missed_since_ms = self.counted_ms.get();
            let text = format!(
                "{} is needed from the server: waiting for it ({why})",
                self.what
            );
            self.progress.log(LogLevel::Warning, &text);
        }
        self.missed += 1;
        let waiting = "waiting for the server, which is not reached";
        self.progress.report(0, 0, ProgressUnit::Bytes, waiting);
        self.count();
        let had_network = self.connection.is_online();
        let (connection, progress) = (self.connection, self.progress);
        wait(
            &**connection.host(),
            connection.retry_pause(self.missed),
            || {
                self.count();
                progress.is_cancelled() || (!had_network && connection.is_online())
            },
        );
    }

    /// The server gave something.
    pub(crate) fn reached(&mut self) {
        if self.missed > 0 {
            let seconds = (self.connection.host().uptime_ms() - self.missed_since_ms) / 1000;
            let text = format!("the server is reached again, after {seconds} s");
            self.progress.log(LogLevel::Info, &text);
        }
        (self.missed, self.tries) = (0, 0);
        self.begin();
    }

    fn count(&self) {
        let now = self.connection.host().uptime_ms();
        let waited = Duration::from_millis(now.saturating_sub(self.counted_ms.replace(now)));
        self.progress.waited(waited);
    }
}
