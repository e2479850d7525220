//! A server with a fleet that is ready to be switched on, and what the kernel counts of it.

use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use testkit::{drill, postgres};

use crate::guides::{self, World};

/// The kernel counts processor time in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;
/// Below the ports that the kernel gives to clients. While a server is down, one of thousands of devices that call its port
/// would sooner or later be given that very port, reach itself, and keep the server from coming back.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// What a simulation says at its end.
const REPORT: &str = "report.json";

/// A server, and devices that are switched off.
pub(crate) struct Fleet {
    world: World,
    /// The name of its database in the private PostgreSQL.
    database: Option<String>,
}

/// `forestage simulate run` in the background. It ends with this value.
pub(crate) struct Running(Child);

/// A process, as the kernel sees it.
pub(crate) struct Process(u32);

impl Fleet {
    /// On SQLite, or in a private PostgreSQL.
    pub(crate) fn start(
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
        let world = World::start_with(
            guides::root(),
            &guides::program()?,
            name,
            &format!("127.0.0.1:{}", free_port()?),
            &options,
        )?;
        let database = url.and_then(|url| Some(url.rsplit_once('/')?.1.to_owned()));
        Self { world, database }.prepared(sequence, devices, sites)
    }

    /// On the server of this world, wherever it is. It keeps its data in SQLite.
    pub(crate) fn on(world: World, sequence: &Utf8Path, devices: u32, sites: u32) -> Result<Self> {
        let fleet = Self {
            world,
            database: None,
        };
        fleet.prepared(sequence, devices, sites)
    }

    /// Does the drill up to the moment at which devices are switched on.
    fn prepared(self, sequence: &Utf8Path, devices: u32, sites: u32) -> Result<Self> {
        for words in drill::commands(sequence, devices, sites) {
            let output = self
                .forestage()
                .args(&words)
                .output()
                .context("cannot start forestage")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{words:?} failed: {said}");
        }
        Ok(self)
    }

    /// The program for people, signed in.
    pub(crate) fn forestage(&self) -> Command {
        self.world.command("forestage")
    }

    /// The folder that commands are typed in.
    pub(crate) fn work(&self) -> Utf8PathBuf {
        self.world.work()
    }

    pub(crate) fn url(&self) -> &str {
        self.world.url()
    }

    /// Fails if it is elsewhere.
    pub(crate) fn server(&self) -> Result<Process> {
        self.world.server_id().map(Process)
    }

    /// Its server, for whoever does it harm.
    pub(crate) fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// What the database itself answers, past the server: a line for each row, with `|` between the columns. A server elsewhere
    /// must have left its data where they were if it ran here.
    pub(crate) fn ask_database(&self, query: &str) -> Result<String> {
        if let Some(database) = &self.database {
            return postgres::cluster()?.psql("forestage", database, query);
        }
        let output = self
            .world
            .command("sqlite3")
            .args(["-readonly", "../data/forestage.db", query])
            .output()
            .context("this needs sqlite3: `apt-get install sqlite3`, or `cargo xtask setup`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "sqlite3: {said}");
        String::from_utf8(output.stdout).context("sqlite3 answered something that isn't UTF-8")
    }

    /// Whether it keeps its data in PostgreSQL.
    pub(crate) const fn is_on_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// Switches the devices on and leaves them to themselves. What comes of it will be in [`Self::report`].
    pub(crate) fn switch_on(&self, options: &[&str]) -> Result<Running> {
        let file = |name: &str| std::fs::File::create(self.world.work().join(name));
        let child = self
            .forestage()
            .args(["--json", "simulate", "run"])
            .args(options)
            .stdout(file(REPORT)?)
            .stderr(file("simulate.log")?)
            .spawn()
            .context("cannot start forestage")?;
        Ok(Running(child))
    }

    /// The report of the simulation that was switched on last, and is over.
    pub(crate) fn report(&self) -> Result<Value> {
        let path = self.work().join(REPORT);
        let text = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{path} is no report: see simulate.log beside it"))
    }
}

impl Running {
    /// Fails if it has ended, which is too early.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        let ended = self.0.try_wait()?;
        ensure!(
            ended.is_none(),
            "the simulation has ended: see simulate.log in its folder under target/guides"
        );
        Ok(())
    }

    /// How it ended; none if it hasn't.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.try_wait().context("cannot wait for the simulation")
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
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name before it may hold blanks; it ends with the last parenthesis.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS_PER_SECOND)
    }

    pub(crate) fn memory_mib(&self) -> Result<f64> {
        self.status_mib("VmRSS:")
    }

    pub(crate) fn peak_memory_mib(&self) -> Result<f64> {
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

/// Another one than a program beside us takes, if possible: each begins to look elsewhere.
pub(crate) fn free_port() -> Result<u16> {
    let first = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let first = PORTS.start + u16::try_from(first)?;
    (first..PORTS.end)
        .chain(PORTS.start..first)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no port of this machine is free")
}
