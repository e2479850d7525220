//! The line to the server is cut, silent, slow or lossy, at many points of a deployment, for a second or for an hour: the machine
//! finishes, and the server has each event once, as it was made, in order.
//!
//! Machines are virtual, everything on them and the server are real. Each is staged without a network; then files of its sequence
//! are updated, so that its deployment has something to fetch.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use testkit::chance::Chance;
use testkit::line::{Fault, Line, Passed, Trouble, Way};
use testkit::vm::AgentLine;
use wire::admin_api::DeviceState;
use wire::event::Event;

use crate::audit::{self, Audit, Place};
use crate::console::{bytes, chapter, say};
use crate::fleet::Laptop;
use crate::load;
use crate::scenarios::shared::Shared;
use crate::world::{Places, World};

/// What is fetched over the line: a school's files after an update.
const UPDATE_BYTES: usize = 6 << 20;
/// What was there before it.
const STAGED_BYTES: usize = 64 << 10;
const VERSION_FILE: &str = "/usr/share/school/version";
/// A line of the kind that small schools have.
const SLOW: Fault = Fault::Slow {
    bytes_per_second: 128 << 10,
};
const FAULTS: [Fault; 4] = [Fault::Cut, Fault::Silent, SLOW, Fault::Lossy];

/// No two deployments say the same number of words: so many of a thousand bytes go by in each of them.
const LATEST_PER_MILLE: u64 = 950;

/// Options of `e2e wan`.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// How many points of a deployment
    #[arg(long, value_name = "N", default_value_t = 50)]
    points: u32,
    /// The longest time that the line is cut or silent; the shortest is a second
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=36_000))]
    longest: u32,
    /// One more point: in the middle of what is fetched the line is cut for so long
    #[arg(long, value_name = "SECONDS")]
    cut: Option<u32>,
    /// Another number gives other points
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<Utf8PathBuf>,
}

/// Where in the way of a deployment what happens to the line. Without one it stays as it is.
#[derive(Debug, Clone, Copy)]
struct Point {
    fault: Fault,
    way: Way,
    /// Of a thousand bytes that go this way when nothing happens.
    per_mille: u64,
    lasts: Duration,
}

/// What came of one machine.
struct Deployed {
    seconds: f64,
    passed: Passed,
    /// How often it had to be switched on.
    starts: u32,
    events: BTreeMap<Place, String>,
}

/// As many points as were asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    let longest = Duration::from_secs(options.longest.into());
    let mut points = points(options.points, longest, options.seed);
    points.extend(options.cut.map(|seconds| Point {
        fault: Fault::Cut,
        way: Way::Down,
        per_mille: 500,
        lasts: Duration::from_secs(seconds.into()),
    }));
    let figures = prove(&points, options.seed)?;
    load::write(options.json.as_deref(), &figures)
}

/// Few enough for every test run: a cut line and a lossy one.
pub(crate) fn short() -> Result<()> {
    let point = |fault, way| Point {
        fault,
        way,
        per_mille: 600,
        lasts: Duration::from_secs(30),
    };
    let points = [point(Fault::Cut, Way::Down), point(Fault::Lossy, Way::Up)];
    prove(&points, 1).map(drop)
}

/// Every fault in turn, anywhere on either way. Cuts last from a second to the longest time, a short one as likely as one that is
/// ten times as long.
fn points(count: u32, longest: Duration, seed: u64) -> Vec<Point> {
    let mut chance = Chance::new(seed);
    (0..count)
        .map(|number| {
            let fault = FAULTS[number as usize % FAULTS.len()];
            let lasts = match fault {
                Fault::Cut | Fault::Silent => longest
                    .as_secs_f64()
                    .powf(chance.below(1001) as f64 / 1000.0),
                Fault::Slow { .. } | Fault::Lossy => longest.as_secs_f64(),
            };
            Point {
                fault,
                way: *chance.pick(&[Way::Up, Way::Down]),
                per_mille: chance.below(LATEST_PER_MILLE),
                lasts: Duration::from_secs_f64(lasts),
            }
        })
        .collect()
}

fn prove(points: &[Point], seed: u64) -> Result<Value> {
    chapter(0, "A line that fails");
    let server_port = crate::world::free_port()?;
    let line = Line::to(server_port)?;
    let world = World::start_behind(Places::new("wan")?, server_port, line.port())?;
    school_files(&world, 1, STAGED_BYTES)?;
    let shared = Shared::prepare(world, &["tiny-wan"])?;
    school_files(&shared.world, 2, UPDATE_BYTES)?;
    let deployed = std::thread::scope(|scope| {
        // While one is deployed, the next is staged.
        let (staged, next) = sync_channel(1);
        let shared = &shared;
        scope.spawn(move || {
            for number in 0..=points.len() {
                let laptop = stage(shared, number);
                let is_over = laptop.is_err();
                if staged.send(laptop).is_err() || is_over {
                    return;
                }
            }
        });
        let undisturbed = deploy(shared, &line, &next.recv()??, None, seed)?;
        told("undisturbed", &undisturbed);
        let mut deployed = vec![undisturbed];
        for (number, point) in points.iter().enumerate() {
            let trouble = trouble(point, &deployed[0].passed);
            let laptop = next.recv()??;
            let one = deploy(shared, &line, &laptop, Some(trouble), seed + number as u64)
                .with_context(|| format!("{}: line {trouble}", laptop.identity.serial))?;
            told(&trouble.to_string(), &one);
            deployed.push(one);
        }
        Ok::<_, anyhow::Error>(deployed)
    })?;
    judge(&shared.world, points, &deployed, seed)
}

/// The package whose second version is fetched at school.
fn school_files(world: &World, version: u8, size: usize) -> Result<()> {
    let folder = world.places.work.join(format!("school-files-{version}"));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("version"), version.to_string())?;
    std::fs::write(
        folder.join("films"),
        Chance::new(version.into()).bytes(size),
    )?;
    world.import_package(
        &format!("school-files-{version}.yaml"),
        &format!(
            "name: school-files\nversion: '{version}'\nkind: files\nsource:\n  tree: {folder}\n"
        ),
    )
}

fn stage(shared: &Shared, number: usize) -> Result<Laptop> {
    let laptop = shared.laptop(&format!("LINE-{number:04}"))?;
    shared.import(&laptop, "tiny-wan")?;
    shared.stage(&laptop)?;
    Ok(laptop)
}

fn trouble(point: &Point, undisturbed: &Passed) -> Trouble {
    let all = match point.way {
        Way::Up => undisturbed.up,
        Way::Down => undisturbed.down,
    };
    Trouble {
        fault: point.fault,
        way: point.way,
        after_bytes: all * point.per_mille / 1000,
        lasts: point.lasts,
    }
}

fn told(trouble: &str, deployed: &Deployed) {
    say(&format!(
        "{trouble}: {:.0} s, {} up, {} down, {} connections broken, switched on {}",
        deployed.seconds,
        bytes(deployed.passed.up),
        bytes(deployed.passed.down),
        deployed.passed.broken,
        if deployed.starts == 1 {
            "once"
        } else {
            "twice"
        },
    ));
}

/// From power-on until the server has everything. A machine that switched itself off before is switched on again, on a good line.
fn deploy(
    shared: &Shared,
    line: &Line,
    laptop: &Laptop,
    trouble: Option<Trouble>,
    seed: u64,
) -> Result<Deployed> {
    let serial = &laptop.identity.serial;
    line.begin(trouble, seed);
    let began = Instant::now();
    let network = shared.network(laptop, "school");
    let mut vm = shared.at_school(laptop, "school", network)?;
    let end = vm.wait_for("the end of the run", |line| {
        line.is_event("run-done", None) || line.is_event("run-failed", None)
    })?;
    ensure!(
        end.is_event("run-done", None),
        "{serial} failed: {}",
        end.value
    );
    vm.wait_for_power_off()?;
    let seconds = began.elapsed().as_secs_f64();
    let passed = line.passed();
    if trouble.is_some() && !passed.had_trouble {
        bail!("the line had no trouble: {passed:?}");
    }
    let mut lines: Vec<String> = texts(vm.lines());
    let mut starts = 1;
    if !lines.iter().any(|line| is_reported(line)) {
        line.begin(None, seed);
        starts = 2;
        let network = shared.network(laptop, "school-again");
        let mut vm = shared.at_school(laptop, "school-again", network)?;
        vm.wait_for_milestone("reported")?;
        lines.extend(texts(vm.lines()));
        vm.cut_power();
    }
    let events = events(&lines)?;
    is_right(shared, laptop)?;
    Ok(Deployed {
        seconds,
        passed,
        starts,
        events,
    })
}

fn texts(lines: &[(f64, String)]) -> Vec<String> {
    lines.iter().map(|(_, line)| line.clone()).collect()
}

fn is_reported(line: &str) -> bool {
    AgentLine::parse(line).is_some_and(|line| line.is_milestone("reported"))
}

/// What the machine made, as it wrote it onto its serial port.
fn events(lines: &[String]) -> Result<BTreeMap<Place, String>> {
    const MARK: &str = " event ";
    let mut events = BTreeMap::new();
    for line in lines {
        if AgentLine::parse(line).is_none_or(|line| line.kind != "event") {
            continue;
        }
        let start = line.find(MARK).context("an event has a mark")? + MARK.len();
        let text = line[start..].trim();
        let event: Event = serde_json::from_str(text)?;
        if !event.body.is_lossy() {
            let place = (event.run.to_string(), event.seq);
            let before = events.insert(place, text.to_owned());
            ensure!(before.is_none(), "event {} was made twice", event.seq);
        }
    }
    Ok(events)
}

/// The machine is what it was to become, and the server knows.
fn is_right(shared: &Shared, laptop: &Laptop) -> Result<()> {
    let serial = &laptop.identity.serial;
    let device = shared.world.device(serial)?;
    ensure!(
        device.state == DeviceState::Completed && device.collections.is_empty(),
        "{serial} is {}, in {:?}",
        device.state,
        device.collections
    );
    let version = crate::check::os_file(&laptop.disk, VERSION_FILE)?;
    ensure!(
        version == "2",
        "{serial} has version {version:?} of the files"
    );
    // Gigabytes of machines that are right are of no use to anybody.
    std::fs::remove_dir_all(laptop.folder())?;
    Ok(())
}

/// Each event of each machine is in the database, once, as it was made, in order, and no other.
fn judge(world: &World, points: &[Point], deployed: &[Deployed], seed: u64) -> Result<Value> {
    let mut made: BTreeMap<Place, &str> = BTreeMap::new();
    for one in deployed {
        made.extend(
            one.events
                .iter()
                .map(|(place, event)| (place.clone(), event.as_str())),
        );
    }
    let held = audit::parse(&ask(&world.places.work, &audit::query(false))?)?;
    let audit = Audit::of(&made, &held);
    say(&audit.row());
    let undisturbed = &deployed[0];
    let after: Vec<&Deployed> = deployed[1..].iter().collect();
    let each = |figure: &dyn Fn(&Deployed) -> f64| {
        load::percentiles(after.iter().map(|one| figure(one)).collect())
    };
    let down = undisturbed.passed.down as f64;
    let figures = json!({
        "name": "wan",
        "points": points.len(),
        "seed": seed,
        "longest-seconds": points.iter().map(|point| point.lasts.as_secs()).max(),
        "finished": after.len(),
        "switched-on-twice": after.iter().filter(|one| one.starts == 2).count(),
        "undisturbed-seconds": undisturbed.seconds,
        "undisturbed-bytes-down": undisturbed.passed.down,
        "seconds": each(&|one| one.seconds),
        "bytes-down-against-undisturbed": each(&|one| one.passed.down as f64 / down),
        "connections-broken": after.iter().map(|one| one.passed.broken).sum::<u64>(),
        "events": audit.figures(),
    });
    ensure!(audit.is_whole(), "{}", audit.row());
    say(&format!(
        "{} of {} machines finished; at most {:.2} times the bytes of an undisturbed one",
        after.len(),
        points.len(),
        load::number(&figures["bytes-down-against-undisturbed"]["max"]),
    ));
    Ok(figures)
}

fn ask(work: &Utf8Path, query: &str) -> Result<String> {
    let database = work.join("data/forestage.db");
    let output = std::process::Command::new("sqlite3")
        .args(["-readonly", database.as_str(), query])
        .output()
        .context("this needs sqlite3: `apt-get install sqlite3`, or `cargo xtask setup`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "sqlite3: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
