//! The machine as a deployment needs it, beside what its steps need: time, files, network, chance and power. There is one that
//! is real, [`Laptop`](crate::laptop::Laptop); others are for tests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use camino::Utf8PathBuf;
use client::{Client, ClientError};
use sequence::engine::Clock;
use sequence::ports::{BootTarget, Content, Machine};
use wire::event::Environment;
use wire::facts::Facts;
use wire::mark::StagingMark;
use wire::names::RunId;
use wire::package::Package;

use crate::connection::Connection;
use crate::files::Files;
use crate::secrets::Secrets;

/// Where the state of runs lies, once it is there.
pub trait State: Send + Sync {
    /// The folder of the staging partition; `None` as long as it is not mounted.
    fn folder(&self) -> Option<Utf8PathBuf>;

    /// What reads and writes in it.
    fn files(&self) -> &dyn Files;
}

/// A TPM 2.0.
pub trait Tpm {
    /// Sends one command and waits for the answer to it.
    ///
    /// # Errors
    /// It takes no commands.
    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>>;
}

/// What the device's key is made from, and where it is kept.
pub trait KeySource: State {
    /// Fills `bytes` with random ones.
    ///
    /// # Errors
    /// There are none.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// The machine's TPM 2.0; `None` if there is none.
    ///
    /// # Errors
    /// There is one, and it can't be opened.
    fn tpm(&self) -> io::Result<Option<Box<dyn Tpm>>>;
}

/// The machine a deployment runs on. Its clock tells the time since it was switched on, and is the only one that anything is
/// timed with.
pub trait Host: Clock + KeySource {
    /// Where we run.
    fn environment(&self) -> Environment;

    /// What the machine is.
    fn facts(&self) -> Facts;

    /// The mark of the machine's own disk; `None` if no disk carries one for this machine.
    ///
    /// # Errors
    /// It can't be told which disk that is, or whether there is one.
    fn mark(&self) -> Result<Option<StagingMark>>;

    /// Says which run was let in without a warrant, as far as one could be wanted. Until the next word, a disk that was deployed
    /// and only shows from now on is used by nobody, but after this very run has deployed it.
    fn let_in_without_warrant(&self, run: Option<RunId>);

    /// Mounts the staging partition of the machine's own disk and says where; `None` if there is none.
    ///
    /// # Errors
    /// There is one, and it can't be mounted.
    fn mount_staging(&self) -> Result<Option<Utf8PathBuf>>;

    /// Whether it makes sense to talk to a server.
    fn is_online(&self) -> bool;

    /// The address in the network, for the screen.
    fn address(&self) -> String;

    /// Why there is no network, in words.
    fn network_problem(&self) -> String;

    /// Bytes received and sent by all interfaces since power-on.
    fn interface_bytes(&self) -> u64;

    /// The line to a server.
    ///
    /// # Errors
    /// The address or the CA is of no use. Nothing is sent yet.
    fn client(&self, url: &str, ca_pem: &str, timeout: Duration) -> Result<Client, ClientError>;

    /// Does `work` beside the caller's, until it ends or the power goes.
    ///
    /// # Errors
    /// There is no thread left.
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;

    /// What steps work on, with the secrets that they may ask for.
    fn machine(&self, secrets: Secrets) -> Box<dyn Machine>;

    /// What steps work with: these packages, from wherever they are nearest.
    fn content(&self, packages: Vec<Package>, connection: &Arc<Connection>) -> Box<dyn Content>;

    /// Says what starts at the next power-on.
    ///
    /// # Errors
    /// It may still be what it was.
    fn set_default_boot(&self, target: BootTarget) -> Result<()>;

    /// The installed OS no longer starts this agent.
    ///
    /// # Errors
    /// It still does.
    fn disable_agent(&self) -> Result<()>;

    /// Restarts the machine, with everything on the disk first.
    fn restart(&self) -> !;

    /// Switches the machine off, with everything on the disk first.
    fn off(&self) -> !;

    /// Stays as it is, screen and all, until someone switches off.
    fn stay(&self) -> !;
}

/// Waits until `done` says so, at most so long.
pub(crate) fn wait(clock: &(impl Clock + ?Sized), limit: Duration, done: impl Fn() -> bool) {
    let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX / 2);
    clock.wait(milliseconds, &done);
}
