//! `forestage simulate`: a fleet that doesn't exist, speaking the real protocol to a real server.
//!
//! For training, demonstrations and load tests. No disk is touched and no content is fetched: steps take a plausible
//! time and do nothing. Everything else is as in a school: keys, challenges, signatures, orders, events, power cuts.

mod compare;
mod device;
mod fleet;
mod journal;
mod measure;
mod play;
mod random;
mod report;
mod scenario;
mod script;
mod speed;
mod state;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use wire::admin_api::{DeviceRow, DeviceState};
use wire::facts::{Facts, Firmware, NetworkInterface};

use self::device::{Device, End};
use self::fleet::{DEVICES_MAX, SERIAL_PREFIX, SITES_MAX};
use self::journal::Journal;
use self::play::{Pace, World};
use self::random::Random;
use self::scenario::{Scenario, Share};
use self::script::Trouble;
use self::speed::Speed;
use self::state::FleetState;
use crate::commands::deployment::parse_seconds;
use crate::failure::{Failure, Outcome, Trying};
use crate::open_files;
use crate::output::{Output, count, print};
use crate::settings::{Settings, read_text};

/// Threads that speak for the devices. More would only wait for the same two processors.
const WORKERS_MAX: u32 = 1024;
/// Files a process needs besides one connection for each device.
const OWN_FILES: u64 = 64;
/// How often it is written down how far each device is.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// A list of serial numbers.
const SERIALS_BYTES_MAX: u64 = 16 << 20;
/// After the last real one has come, the second claimants come.
const CLAIMANTS_WAIT: Duration = Duration::from_secs(5);

/// Simulate a fleet, for training and tests.
#[derive(Debug, Subcommand)]
pub(crate) enum Simulate {
    /// Make the asset file of a fleet that doesn't exist
    ///
    /// Prints a CSV that `forestage asset import` takes; with --folder, writes assets.csv, pupils.csv and the receipts of
    /// the factory into a folder. The serial numbers begin with SIM-. The same numbers give the same fleet.
    #[command(
        after_help = "Example:\n  forestage simulate assets --devices 2500 --sites 16 > assets.csv"
    )]
    Assets(Assets),
    /// Switch on a simulated fleet and play its first day
    ///
    /// Every device of the server whose serial number begins with SIM- checks in with a key of its own, gets its order and
    /// reports the steps of its sequence, in simulated time. Content is neither fetched nor written. At the end, every
    /// event that the server has acknowledged is compared with what it holds. Refuses a server that has other devices,
    /// too: their pages, lists and statistics would be mixed with invented ones.
    #[command(
        after_help = "Example:\n  forestage simulate run --within 10s --speed 60 --scenario first-school-day"
    )]
    Run(Run),
}

/// `simulate assets`
#[derive(Debug, Args)]
pub(crate) struct Assets {
    /// How many machines
    #[arg(long, value_name = "N", default_value = "40",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: u32,
    /// At how many schools
    #[arg(long, value_name = "N", default_value = "4",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SITES_MAX)))]
    sites: u32,
    /// The number of the first machine; further fleets begin where the last one ended
    #[arg(long, value_name = "N", default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    first: u32,
    /// Another number gives another fleet
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Write assets.csv, pupils.csv and receipts/*.json into this folder
    #[arg(long, value_name = "DIR")]
    folder: Option<Utf8PathBuf>,
}

/// `simulate run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// At most so many devices; all by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(DEVICES_MAX)))]
    devices: Option<u32>,
    /// Only the devices whose serial numbers are in this file, one a line
    #[arg(long, value_name = "FILE")]
    serials: Option<Utf8PathBuf>,
    /// The devices are switched on within this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_seconds)]
    within: u64,
    /// Seconds that pass for the devices in a real one
    #[arg(long, value_name = "N", default_value = "60")]
    speed: Speed,
    /// Another number gives other bad luck
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// What goes wrong: calm, first-school-day, bad-day, or a YAML file
    #[arg(long, value_name = "NAME|FILE", default_value = "calm")]
    scenario: String,
    /// This share of the devices fails, such as 2%
    #[arg(long, value_name = "SHARE")]
    fail: Option<Share>,
    /// This share falls silent in the middle of a step
    #[arg(long, value_name = "SHARE")]
    stall: Option<Share>,
    /// This share loses power once
    #[arg(long, value_name = "SHARE")]
    cut: Option<Share>,
    /// A device with nothing new to tell says that it lives, and how far it is, this often (in real time)
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_seconds)]
    heartbeat: u64,
    /// A device that waits asks again this often (in real time)
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_seconds)]
    ask_again: u64,
    /// When no device is at work any more, those that failed or wait stay for so long and take a retry
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    stay: Option<u64>,
    /// Threads that speak for the devices
    #[arg(long, value_name = "N", default_value = "64",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    workers: u32,
    /// Where the keys of the fleet are kept, and how far each device is
    #[arg(long, value_name = "DIR", default_value = "simulated-fleet")]
    state: Utf8PathBuf,
    /// Write down every event that a device makes and every answer that it gets, one JSON object a line
    #[arg(long, value_name = "FILE")]
    journal: Option<Utf8PathBuf>,
    /// The server has other devices, too, and is a test server nevertheless
    #[arg(long)]
    yes_this_is_a_test_server: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &Simulate, output: &Output) -> Outcome<()> {
    match command {
        Simulate::Assets(assets) => write_assets(assets, output),
        Simulate::Run(run) => run.run(output),
    }
}

fn write_assets(command: &Assets, output: &Output) -> Outcome<()> {
    let machines = fleet::machines(command.first, command.devices, command.sites, command.seed);
    let Some(folder) = &command.folder else {
        return print(&fleet::asset_file(&machines));
    };
    let receipts = folder.join("receipts");
    std::fs::create_dir_all(&receipts).trying(|| format!("cannot make the folder {receipts}"))?;
    write(
        &folder.join("assets.csv"),
        fleet::asset_file(&machines).as_bytes(),
    )?;
    write(
        &folder.join("pupils.csv"),
        fleet::pupil_file(&machines, command.seed).as_bytes(),
    )?;
    for machine in &machines {
        let receipt = fleet::receipt(machine, command.seed);
        let text = serde_json::to_vec_pretty(&receipt)
            .trying(|| "cannot write a receipt as JSON".into())?;
        write(&receipts.join(format!("{}.json", machine.serial)), &text)?;
    }
    #[derive(serde::Serialize)]
    struct Written<'a> {
        folder: &'a Utf8Path,
        devices: usize,
    }
    let written = Written {
        folder,
        devices: machines.len(),
    };
    output.answer(&written, |_| {
        format!(
            "{folder}: assets.csv, pupils.csv and receipts/ of {}\n",
            count(written.devices, "machine")
        )
    })
}

fn write(path: &Utf8Path, bytes: &[u8]) -> Outcome<()> {
    std::fs::write(path, bytes).trying(|| format!("cannot write {path}"))
}

impl Run {
    fn run(&self, output: &Output) -> Outcome<()> {
        let scenario = self.scenario()?;
        let settings = Settings::load()?;
        let admin = settings.connect()?;
        let rows = admin.devices().trying(|| "cannot list devices".into())?;
        let rows = self.chosen(rows)?;
        let mut state = FleetState::open(&self.state)?;
        state.store(&self.state)?;
        let journal = self.journal.as_deref().map(Journal::create).transpose()?;
        let world = World::new(&settings, self.seed, scenario, self.pace(), journal);
        let (devices, starts) = self.devices(&rows, &world.scenario, &state);
        allow_open_files(devices.len())?;
        output.say(&format!(
            "{} are switched on within {} s; a minute of theirs takes {} ms. Nothing is staged or installed.",
            count(devices.len(), "simulated device"),
            self.within,
            self.speed.real(60_000).as_millis()
        ));
        let started = Instant::now();
        let bar = output.count_bar("devices are done");
        let mut stored = Instant::now();
        let mut trouble = None;
        let workers = usize::try_from(self.workers).unwrap_or(1);
        play::play(&world, &devices, &starts, workers, |over| {
            bar.set(over as u64, devices.len() as u64);
            bar.message(&format!("{} answers", world.measure.count()));
            if stored.elapsed() > STORE_PAUSE {
                trouble = trouble
                    .take()
                    .or(remember(&mut state, &devices, &self.state).err());
                stored = Instant::now();
            }
        })
        .trying(|| format!("cannot start {} threads", self.workers))
        .map_err(|failure| failure.hint("give fewer: --workers 16"))?;
        let seconds = started.elapsed().as_secs_f64();
        bar.clear();
        trouble.map_or(Ok(()), Err)?;
        world.journal.as_ref().map_or(Ok(()), Journal::finish)?;
        remember(&mut state, &devices, &self.state)?;
        let bar = output.count_bar("devices are compared");
        let comparison = compare::compare(&admin, &devices, |index| {
            bar.set(index as u64, devices.len() as u64);
        })?;
        bar.clear();
        let report = report::Report::new(&world, &devices, seconds, comparison);
        output.answer(&report, |look| report.render(look))?;
        report.verdict()
    }

    fn pace(&self) -> Pace {
        Pace {
            speed: self.speed,
            heartbeat: Duration::from_secs(self.heartbeat.max(1)),
            ask_again: Duration::from_secs(self.ask_again.max(1)),
            stay: Duration::from_secs(self.stay.unwrap_or(0)),
        }
    }

    fn scenario(&self) -> Outcome<Scenario> {
        let mut scenario = Scenario::find(&self.scenario)?;
        for (share, given) in [
            (&mut scenario.fail, self.fail),
            (&mut scenario.stall, self.stall),
            (&mut scenario.cut, self.cut),
        ] {
            *share = given.unwrap_or(*share);
        }
        Ok(scenario)
    }

    /// The devices to simulate, in the order of their serial numbers.
    fn chosen(&self, rows: Vec<DeviceRow>) -> Outcome<Vec<DeviceRow>> {
        let (mut simulated, others): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .filter(|row| row.state != DeviceState::Quarantined)
            .partition(|row| row.serial.starts_with(SERIAL_PREFIX));
        if !others.is_empty() && !self.yes_this_is_a_test_server {
            return Err(Failure::refused(format!(
                "this server has {} that no simulation made",
                count(others.len(), "device")
            ))
            .hint("simulate on a server of its own; on a test server, add --yes-this-is-a-test-server"));
        }
        if let Some(file) = &self.serials {
            let text = read_text(file, SERIALS_BYTES_MAX)?;
            let wanted: BTreeSet<&str> = text.lines().map(str::trim).collect();
            simulated.retain(|row| wanted.contains(row.serial.as_str()));
        }
        simulated.sort_by(|one, other| one.serial.cmp(&other.serial));
        if let Some(devices) = self.devices {
            simulated.truncate(usize::try_from(devices).unwrap_or(usize::MAX));
        }
        if simulated.is_empty() {
            return Err(Failure::new("there is no simulated device to switch on").hint(
                "`forestage simulate assets > assets.csv`, then `forestage asset import assets.csv --collection NAME`",
            ));
        }
        Ok(simulated)
    }

    /// The devices, and when each is switched on; those that nobody knows come last.
    fn devices(
        &self,
        rows: &[DeviceRow],
        scenario: &Scenario,
        state: &FleetState,
    ) -> (Vec<Mutex<Device>>, Vec<Duration>) {
        let within_ms = self.within.saturating_mul(1000);
        let mut devices = Vec::new();
        let mut starts = Vec::new();
        for row in rows {
            let mut random = Random::new(self.seed, &row.serial);
            starts.push(Duration::from_millis(random.below(within_ms.max(1))));
            let trouble = Trouble::draw(scenario, &mut random);
            let remembered = state.devices.get(&row.serial).cloned();
            let device = Device::new(
                facts(row, &mut random),
                state.key(&row.serial),
                trouble.clone(),
                trouble.end(),
                random,
                remembered,
            );
            devices.push(Mutex::new(device));
        }
        for (name, facts, meant) in extras(rows, scenario, self.seed) {
            let late = if meant == End::Refused {
                CLAIMANTS_WAIT
            } else {
                Duration::ZERO
            };
            starts.push(Duration::from_millis(within_ms) + late);
            let random = Random::new(self.seed, &name);
            let device = Device::new(
                facts,
                state.key(&name),
                Trouble::default(),
                meant,
                random,
                None,
            );
            devices.push(Mutex::new(device));
        }
        (devices, starts)
    }
}

/// What a machine says of itself.
fn facts(row: &DeviceRow, random: &mut Random) -> Facts {
    let mac: Vec<String> = random.next().to_be_bytes()[..5]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Facts {
        vendor: row.model.vendor.clone(),
        product: row.model.product.clone(),
        sku: row.model.sku.clone(),
        baseboard: row.model.baseboard.clone(),
        serial: row.serial.clone(),
        asset_tag: row.asset_tag.clone(),
        memory_bytes: 16 << 30,
        // The second bit says that nobody sold this address.
        network: vec![NetworkInterface {
            name: "enp0s2".into(),
            mac: format!("02:{}", mac.join(":")),
        }],
        firmware: Firmware::Uefi,
        ..Facts::default()
    }
}

/// Machines that must not get an order: their key's name, what they say, and how they end.
fn extras(rows: &[DeviceRow], scenario: &Scenario, seed: u64) -> Vec<(String, Facts, End)> {
    const HOSTILE: [&str; 4] = [
        "SIM-<script>alert(1)</script>",
        "SIM-'; DROP TABLE devices; --",
        "SIM-\u{202e}kcab\u{0}\u{1b}[31m",
        "SIM-{{ 7 * 7 }}",
    ];
    let mut extras = Vec::new();
    for number in 1..=scenario.strangers {
        let serial = format!("SIM-X{number:04}");
        let facts = Facts {
            vendor: "Acme".into(),
            product: "Book 12".into(),
            serial: serial.clone(),
            ..Facts::default()
        };
        extras.push((serial, facts, End::Quarantined));
    }
    for (number, serial) in (1..=scenario.hostile).zip(HOSTILE.iter().cycle()) {
        let facts = Facts {
            vendor: "<b>Acme</b>".into(),
            product: "Book\u{7}\n14 <img src=x onerror=alert(1)>".repeat(20),
            serial: format!("{serial}{number}"),
            asset_tag: "\"><svg onload=alert(1)>".into(),
            ..Facts::default()
        };
        extras.push((format!("hostile {number}"), facts, End::Quarantined));
    }
    let mut random = Random::new(seed, "claimants");
    for number in 1..=scenario.claimants {
        if let Some(row) = random.pick(rows) {
            let facts = facts(row, &mut random.clone());
            extras.push((format!("claimant {number}"), facts, End::Refused));
        }
    }
    extras
}

fn remember(state: &mut FleetState, devices: &[Mutex<Device>], folder: &Utf8Path) -> Outcome<()> {
    for device in devices {
        // One that is speaking right now is noted the next time.
        let Ok(device) = device.try_lock() else {
            continue;
        };
        if let Some(remembered) = device.remember() {
            state.devices.insert(device.serial.clone(), remembered);
        }
    }
    state.store(folder)
}

/// Each device has a connection of its own, as in life.
fn allow_open_files(devices: usize) -> Outcome<()> {
    let needed = devices as u64 + OWN_FILES;
    open_files::allow(needed).map_err(|most| {
        Failure::new(format!(
            "a process may open {most} files here, and {} need {needed}",
            count(devices, "device")
        ))
        .hint("raise the limit (`ulimit -Hn`, as root), or simulate fewer: --devices")
    })
}

/// Devices whatever became of the thread that held them.
fn lock(device: &Mutex<Device>) -> std::sync::MutexGuard<'_, Device> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}
