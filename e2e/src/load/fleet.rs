//! A server with a fleet that is ready to be switched on, and what the kernel counts of it.

use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use testkit::{drill, postgres};

use crate::guides::{self, World};

/// The kernel counts processor time in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// A server, and devices that are switched off.
pub(super) struct Fleet {
    world: World,
}

/// `forestage simulate run` in the background. It ends with this value.
pub(super) struct Running(Child);

/// A process, as the kernel sees it.
pub(super) struct Process(u32);

impl Fleet {
    /// On SQLite, or in a private PostgreSQL.
    pub(super) fn start(
        name: &str,
        sequence: &Utf8Path,
        devices: u32,
        sites: u32,
        on_postgres: bool,
    ) -> Result<Self> {
        let url = on_postgres
            .then(|| postgres::cluster()?.database())
            .transpose()?;
        let options: Vec<&str> = url.iter().flat_map(|url| ["--database", url]).collect();
        let world = World::start_with(guides::root(), &guides::program()?, name, &options)?;
        let fleet = Self { world };
        for words in drill::commands(sequence, devices, sites) {
            let output = fleet
                .forestage()
                .args(&words)
                .output()
                .context("cannot start forestage")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{words:?} failed: {said}");
        }
        Ok(fleet)
    }

    /// The program for people, signed in.
    pub(super) fn forestage(&self) -> Command {
        self.world.command("forestage")
    }

    /// The folder that commands are typed in.
    pub(super) fn work(&self) -> Utf8PathBuf {
        self.world.work()
    }

    pub(super) fn url(&self) -> &str {
        self.world.url()
    }

    pub(super) fn server(&self) -> Process {
        Process(self.world.server_id())
    }

    /// Switches the devices on and leaves them to themselves.
    pub(super) fn switch_on(&self, options: &[&str]) -> Result<Running> {
        let log = std::fs::File::create(self.world.work().join("simulate.log"))?;
        let child = self
            .forestage()
            .args(["simulate", "run"])
            .args(options)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start forestage")?;
        Ok(Running(child))
    }
}

impl Running {
    /// Fails if it has ended, which is too early.
    pub(super) fn still_runs(&mut self) -> Result<()> {
        let ended = self.0.try_wait()?;
        ensure!(
            ended.is_none(),
            "the simulation has ended: see simulate.log in its folder under target/guides"
        );
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn read(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.0);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// User and system time so far.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name before it may hold blanks; it ends with the last parenthesis.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS_PER_SECOND)
    }

    pub(super) fn memory_mib(&self) -> Result<f64> {
        self.status_mib("VmRSS:")
    }

    pub(super) fn peak_memory_mib(&self) -> Result<f64> {
        self.status_mib("VmHWM:")
    }

    fn status_mib(&self, name: &str) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0)
            .with_context(|| format!("the kernel doesn't tell {name}"))
    }
}
