//! What must not go wrong: altered bundles, wrong disks, no network, strangers, failing scripts, power cuts.
//!
//! Each scenario is one machine (or two) with the real boot image, the real agent and a real server, but a tiny OS. The
//! kernel is loaded directly, because none of this is about firmware; `first_light` is.

mod cuts;
mod factory;
mod keyboard;
mod planted;
mod school;
pub(crate) mod shared;

use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::check;
use crate::console::{chapter, failure, results, say};
use shared::Shared;

use crate::world::{Places, World};

type Scenario = fn(&Shared) -> Result<()>;

/// All scenarios, the longest first so that two at a time end together.
const SCENARIOS: &[(&str, Scenario)] = &[
    (
        "a power cut in the middle of the deployment",
        school::power_cut,
    ),
    ("an unknown serial, then imported", school::unknown_serial),
    (
        "a second machine claims the serial, with a copy of the disk and another TPM",
        school::second_claimant,
    ),
    ("no DHCP, then a network", school::no_dhcp),
    ("a script that fails", school::failing_script),
    ("a secret, released once", school::secret),
    ("a run that is stopped, then goes on", school::stopped),
    ("a power cut in the middle of staging", factory::power_cut),
    (
        "no server, and somebody at the keyboard",
        keyboard::no_server,
    ),
    ("a bundle with an altered root", factory::altered_root),
    ("a bundle with an altered chunk", factory::altered_chunk),
    ("a disk that is too small", factory::small_disk),
    ("a disk that isn't ours", factory::foreign_disk),
    ("a bundle for another model", factory::other_model),
];

/// Takes as long as all others together; runs only if its name is asked for.
const CUTS: (&str, Scenario) = ("power cuts at any moment", cuts::at_any_moment);

/// How many machines run side by side: two cores, and starting is single-threaded.
const SIDE_BY_SIDE: usize = 2;

/// Runs all scenarios whose name contains `name`.
pub(crate) fn run(name: Option<&str>) -> Result<()> {
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .chain(name.map(|_| &CUTS))
        .filter(|(title, _)| name.is_none_or(|name| title.contains(name)))
        .collect();
    if chosen.is_empty() {
        bail!("no scenario's name contains {:?}", name.unwrap_or_default());
    }
    chapter(0, "A tiny world for what must not go wrong");
    let world = World::start(Places::new("scenarios")?)?;
    let secrets = planted::plant(&world)?;
    let shared = Shared::prepare(world, &["tiny", "tiny-failing", "tiny-slow", "tiny-secret"])?;
    check::no_way_in(&shared.world.places.work.join("boot-image"))?;
    let queue = Mutex::new(chosen.iter());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((title, scenario)) = next(&queue) {
                    let start = Instant::now();
                    let outcome = scenario(&shared);
                    report(title, start, &outcome);
                    outcomes
                        .lock()
                        .expect("no scenario panics while it reports")
                        .push(outcome.is_ok());
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("all threads have ended");
    let start = Instant::now();
    let scanned = planted::nothing_to_steal(&shared.world, &secrets);
    report("no planted secret in all that was made", start, &scanned);
    outcomes.push(scanned.is_ok());
    let passed = outcomes.iter().filter(|ok| **ok).count();
    results(passed, outcomes.len() - passed);
    if passed < outcomes.len() {
        bail!(
            "{} scenarios failed; their logs are in {}",
            outcomes.len() - passed,
            shared.world.places.work
        );
    }
    Ok(())
}

fn next<'a, T>(queue: &Mutex<impl Iterator<Item = &'a T>>) -> Option<&'a T> {
    queue.lock().expect("taking the next never panics").next()
}

fn report(title: &str, start: Instant, outcome: &Result<()>) {
    let seconds = start.elapsed().as_secs();
    match outcome {
        Ok(()) => say(&format!("\x1b[32mok\x1b[0m      {title} ({seconds} s)")),
        Err(error) => {
            say(&format!("\x1b[31mFAILED\x1b[0m  {title} ({seconds} s)"));
            failure(error);
        }
    }
}
