//! The whole county at work, and a server that is killed again and again: whatever a machine made is there afterwards, once,
//! as it was made, in order, and nothing else is.
//!
//! That alone is judged. How long things took is told; being slow is no failure. SIGKILL ends a process, not a computer:
//! what the kernel had already taken survives it. With `--power` the server runs on a [`Computer`] whose power is cut instead.

mod computer;
mod journal;
mod outages;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use camino::Utf8PathBuf;
use serde_json::{Value, json};
use testkit::volatile_disk::Flushes;

use self::computer::Computer;
use self::journal::Journal;
use self::outages::Outage;
use crate::audit::{self, Audit};
use crate::load::fleet::{Fleet, Running};
use crate::load::{self, number, percentiles};
use crate::{console, guides};

/// Twenty events of each machine.
const SEQUENCE: &str = "e2e/sequences/storm.yaml";
/// How long that takes most machines, in seconds of theirs: time is slowed down so that it lasts as long as the storm.
const RUN_SECONDS: f64 = 200.0;
/// All machines are switched on within this time, or within a third of a short storm.
const SWITCHED_ON_WITHIN: Duration = Duration::from_secs(10);
/// From the start of the simulation until the first machine has something to tell.
const BEGINS_MAX: Duration = Duration::from_secs(60);
/// The server may take so long to get ready after the last kill.
const READY_MAX: Duration = Duration::from_secs(60);
/// What SQLite says of a file in which all is as it should be.
const WHOLE: &str = "ok";
/// The slowest machine takes about twice as long as the storm. Whoever isn't done after so many never will be.
const STORMS_MAX: u32 = 5;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What the machines made, in the folder that commands are typed in.
const JOURNAL: &str = "storm.jsonl";

/// Options of `e2e storm`.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// How long the server is killed again and again; 8 with --power
    #[arg(long, value_name = "MINUTES", default_value_t = 15, default_value_if("power", "true", "8"),
        value_parser = clap::value_parser!(u32).range(1..=600))]
    minutes: u32,
    /// How many machines; 100 with --power
    #[arg(long, value_name = "N", default_value_t = load::DEVICES, default_value_if("power", "true", "100"))]
    machines: u32,
    /// From one kill to the next; 40 with --power
    #[arg(long, value_name = "SECONDS", default_value_t = 10, default_value_if("power", "true", "40"),
        value_parser = clap::value_parser!(u32).range(1..=600))]
    every: u32,
    /// Keep the data in a private PostgreSQL, which is left alone
    #[arg(long)]
    postgres: bool,
    /// The server runs in a virtual machine, and instead of killing it, its power is cut: what its disk was not told to flush may
    /// be lost
    #[arg(long, conflicts_with = "postgres")]
    power: bool,
    /// The disk only says that it flushed. Then events must be lost; for the proof that this would be noticed
    #[arg(long, requires = "power", hide = true)]
    ignore_flushes: bool,
    /// Another number gives other moments at which machines are switched on, and other times that their steps take
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<Utf8PathBuf>,
}

/// What is done to whom.
struct Storm {
    machines: u32,
    every: Duration,
    kills: u32,
    server: Server,
    seed: u64,
}

/// Where the server runs that harm is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Here,
    HereOnPostgres,
    /// In a virtual machine with such a disk.
    Elsewhere(Flushes),
}

/// What is done to a server, and how it comes back.
trait Harm {
    /// What somebody does right before, and the server says that it is done.
    fn just_before(&mut self, _fleet: &Fleet) -> Result<()> {
        Ok(())
    }

    /// Ends it, whatever it is doing.
    fn strike(&mut self, fleet: &mut Fleet) -> Result<()>;

    /// Starts it again, and doesn't wait for it.
    fn start_again(&mut self, fleet: &mut Fleet) -> Result<()>;

    /// Whether it listens. Fails if it ended by itself.
    fn is_ready(&mut self, fleet: &mut Fleet) -> Result<bool>;

    /// It may take so long to get ready after the last time.
    fn ready_max(&self) -> Duration;

    /// When all machines are done. Afterwards, the database can be asked.
    fn look_around(&mut self, fleet: &mut Fleet) -> Result<Found>;
}

/// What a server says when all is over, and what is wrong with it apart from events.
struct Found {
    completed: usize,
    wrong: Vec<String>,
    figures: Value,
}

/// SIGKILL for a process of this computer.
struct Killed;

impl Harm for Killed {
    fn strike(&mut self, fleet: &mut Fleet) -> Result<()> {
        fleet.world().kill()
    }

    fn start_again(&mut self, fleet: &mut Fleet) -> Result<()> {
        fleet.world().start_again()
    }

    fn is_ready(&mut self, fleet: &mut Fleet) -> Result<bool> {
        fleet.world().is_ready()
    }

    fn ready_max(&self) -> Duration {
        READY_MAX
    }

    fn look_around(&mut self, fleet: &mut Fleet) -> Result<Found> {
        Ok(Found {
            completed: completed(fleet)?,
            wrong: Vec::new(),
            figures: Value::Null,
        })
    }
}

/// As long and as hard as was asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    let flushes = if options.ignore_flushes {
        Flushes::Forgotten
    } else {
        Flushes::Kept
    };
    let storm = Storm {
        machines: options.machines,
        every: Duration::from_secs(options.every.into()),
        kills: options.minutes * 60 / options.every,
        server: match (options.power, options.postgres) {
            (true, _) => Server::Elsewhere(flushes),
            (false, true) => Server::HereOnPostgres,
            (false, false) => Server::Here,
        },
        seed: options.seed,
    };
    ensure!(storm.kills > 0, "so short a storm kills nobody");
    let came_of_it = storm.break_out()?;
    load::write(options.json.as_deref(), &came_of_it.figures)?;
    if options.ignore_flushes {
        let lost = came_of_it.figures["events"]["lost"].as_u64().unwrap_or(0);
        ensure!(
            lost > 0,
            "a disk that forgot what was flushed cost no event: this storm would find nothing"
        );
        console::say(&format!(
            "it is found that {lost} events are lost on a disk that forgets what was flushed"
        ));
        return Ok(());
    }
    came_of_it.judge()
}

/// Short enough for every test run.
pub(crate) fn short() -> Result<()> {
    let storm = Storm {
        machines: 200,
        every: Duration::from_secs(3),
        kills: 4,
        server: Server::Here,
        seed: 1,
    };
    storm.break_out()?.judge()
}

/// What came of a storm.
struct Aftermath {
    audit: Audit,
    figures: Value,
    wrong: Vec<String>,
    /// Whether the simulation itself found all as it should be: what the API answers, and how each machine ended.
    is_simulation_content: bool,
}

impl Storm {
    fn lasts(&self) -> Duration {
        self.every * self.kills
    }

    fn break_out(&self) -> Result<Aftermath> {
        let (mut harm, mut fleet) = self.server()?;
        let mut running = self.switch_on(&fleet)?;
        let outages = self.rage(&mut *harm, &mut fleet, &mut running)?;
        let is_simulation_content = self.wait_for_the_last(&*harm, &mut running)?;
        drop(running);
        let mut found = harm.look_around(&mut fleet)?;
        if !fleet.is_on_postgres() {
            let said = fleet.ask_database("PRAGMA integrity_check")?;
            let said = said.trim();
            found.wrong.extend((said != WHOLE).then(|| said.to_owned()));
        }
        let path = fleet.work().join(JOURNAL);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let journal = Journal::parse(&text)?;
        let rows = fleet.ask_database(&audit::query(fleet.is_on_postgres()))?;
        let audit = Audit::of(&journal.events(), &audit::parse(&rows)?);
        let kept = journal.kept_ms().into_iter().map(outages::seconds);
        let figures = json!({
            "name": match self.server {
                Server::Here => "storm",
                Server::HereOnPostgres => "storm-postgres",
                Server::Elsewhere(_) => "storm-power",
            },
            "machines": self.machines,
            "seed": self.seed,
            "every-seconds": self.every.as_secs(),
            "events": audit.figures(),
            "runs": fleet.ask_database("SELECT count(*) FROM runs")?.trim().parse::<u32>()?,
            "completed": found.completed,
            "wrong": found.wrong,
            "disk": found.figures,
            "server": outages::figures(&outages, &journal.answers),
            "kept-seconds": percentiles(kept.collect()),
            // There is none if a machine isn't done, which is judged.
            "report": if is_simulation_content { fleet.report()? } else { Value::Null },
        });
        rows_for_people(&audit, &figures)
            .iter()
            .for_each(|row| console::say(row));
        Ok(Aftermath {
            audit,
            figures,
            wrong: found.wrong,
            is_simulation_content,
        })
    }

    fn server(&self) -> Result<(Box<dyn Harm>, Fleet)> {
        if let Server::Elsewhere(flushes) = self.server {
            let (computer, fleet) = Computer::with_fleet(self.machines, self.seed, flushes)?;
            return Ok((Box::new(computer), fleet));
        }
        let sequence = guides::root().join(SEQUENCE);
        let on_postgres = self.server == Server::HereOnPostgres;
        let fleet = Fleet::start("storm", &sequence, self.machines, load::SITES, on_postgres)?;
        Ok((Box::new(Killed), fleet))
    }

    fn switch_on(&self, fleet: &Fleet) -> Result<Running> {
        let within = SWITCHED_ON_WITHIN.min(self.lasts() / 3).as_secs().max(1);
        let speed = RUN_SECONDS / self.lasts().as_secs_f64();
        fleet.switch_on(&[
            "--within",
            &format!("{within}s"),
            "--speed",
            &format!("{:.3}", speed.max(0.01)),
            "--seed",
            &self.seed.to_string(),
            "--workers",
            load::WORKERS,
            "--journal",
            JOURNAL,
        ])
    }

    /// Kills the server from the moment on at which the first machine has something to tell.
    fn rage(
        &self,
        harm: &mut dyn Harm,
        fleet: &mut Fleet,
        running: &mut Running,
    ) -> Result<Vec<Outage>> {
        let path = fleet.work().join(JOURNAL);
        let began = Instant::now();
        while !path.metadata().is_ok_and(|file| file.len() > 0) {
            running.still_runs()?;
            ensure!(began.elapsed() < BEGINS_MAX, "no machine says anything");
            std::thread::sleep(LOOK_EVERY);
        }
        let began = Instant::now();
        let mut outages = Vec::new();
        for number in 1..=self.kills {
            let due = self.every * number;
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            running
                .still_runs()
                .context("the machines were done before the storm was over")?;
            harm.just_before(fleet)?;
            let killed_at_ms = now_ms()?;
            harm.strike(fleet)?;
            let started_at_ms = now_ms()?;
            harm.start_again(fleet)?;
            // Not ready by then, it is killed while it starts.
            let patience = if number == self.kills {
                harm.ready_max()
            } else {
                (due + self.every).saturating_sub(began.elapsed())
            };
            outages.push(Outage {
                killed_at_ms,
                started_at_ms,
                ready_at_ms: ready_within(harm, fleet, patience)?,
            });
        }
        let is_ready = outages.last().is_none_or(|last| last.ready_at_ms.is_some());
        ensure!(is_ready, "after the last kill the server doesn't get ready");
        Ok(outages)
    }

    /// Whether the simulation is content with what it found. It isn't if some machine never gets done.
    fn wait_for_the_last(&self, harm: &dyn Harm, running: &mut Running) -> Result<bool> {
        let patience = self.lasts() * STORMS_MAX + harm.ready_max();
        let began = Instant::now();
        while began.elapsed() < patience {
            if let Some(status) = running.ended()? {
                return Ok(status.success());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let seconds = patience.as_secs();
        console::say(&format!(
            "{seconds} s after the storm some machine isn't done"
        ));
        Ok(false)
    }
}

impl Aftermath {
    fn judge(&self) -> Result<()> {
        let figures = &self.figures;
        ensure!(self.audit.is_whole(), "{}", self.audit.row());
        ensure!(self.wrong.is_empty(), "{}", self.wrong.join("; "));
        ensure!(
            figures["completed"] == figures["machines"] && figures["runs"] == figures["machines"],
            "of {} machines {} are completed, in {} runs",
            figures["machines"],
            figures["completed"],
            figures["runs"]
        );
        ensure!(
            self.is_simulation_content,
            "the simulation found something else: {:#}",
            figures["report"]
        );
        Ok(())
    }
}

/// When the server was ready; none if it wasn't within this time.
fn ready_within(harm: &mut dyn Harm, fleet: &mut Fleet, patience: Duration) -> Result<Option<i64>> {
    let began = Instant::now();
    while began.elapsed() < patience {
        if harm.is_ready(fleet)? {
            return now_ms().map(Some);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(None)
}

/// How many machines the server calls completed.
fn completed(fleet: &Fleet) -> Result<usize> {
    let output = fleet
        .forestage()
        .args(["--json", "device", "list"])
        .output()
        .context("cannot start forestage")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cannot list devices: {said}");
    let devices: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let completed = devices
        .iter()
        .filter(|device| device["state"] == "completed");
    Ok(completed.count())
}

fn now_ms() -> Result<i64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_millis())?)
}

/// For people.
fn rows_for_people(audit: &Audit, figures: &Value) -> Vec<String> {
    let server = &figures["server"];
    let kept = &figures["kept-seconds"];
    let disk = &figures["disk"];
    let mut rows = vec![
        format!(
            "storm: {} machines, the server {} {} times, every {} s; ready again after {:.2} s, at most {:.2} s",
            figures["machines"],
            if disk.is_null() {
                "was killed"
            } else {
                "lost its power"
            },
            server["kills"],
            figures["every-seconds"],
            number(&server["ready-after-seconds"]["p50"]),
            number(&server["ready-after-seconds"]["max"]),
        ),
        audit.row(),
        format!(
            "all at work (up to {}) were heard before the next kill {} times: after {:.1} s, at most {:.1} s; \
             otherwise at most {} were not",
            server["at-work-max"],
            server["all-heard"],
            number(&server["all-heard-after-seconds"]["p50"]),
            number(&server["all-heard-after-seconds"]["max"]),
            server["unheard-before-next-kill-max"],
        ),
        format!(
            "after the last kill, {} at work: all heard after {:.1} s",
            server["last"]["at-work"],
            number(&server["last"]["heard-after-seconds"]),
        ),
        format!(
            "an event was kept by its machine for {:.2} s, p95 {:.1} s, p99 {:.1} s, at most {:.1} s",
            number(&kept["p50"]),
            number(&kept["p95"]),
            number(&kept["p99"]),
            number(&kept["max"]),
        ),
    ];
    if !disk.is_null() {
        rows.push(format!(
            "its disk, {} times without power: {} of {} sectors that weren't flushed were lost, in {} of the cuts; {} packages were \
             published right before",
            disk["cuts"],
            disk["lost-sectors"],
            disk["unflushed-sectors"],
            disk["cuts-that-lost"],
            disk["published"],
        ));
    }
    rows.extend(load::latencies(&figures["report"]).map(|row| format!("  {row}")));
    rows
}
