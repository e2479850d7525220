//! Somebody at the keyboard, who presses everything while a machine works and while it waits. Nothing comes of it.
//!
//! `FORESTAGE_KEY_PRESSES=10000` presses so many instead of 300 (`cargo xtask nightly` does); `FORESTAGE_KEY_SEED=7` others.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::chance::{Chance, variable};
use testkit::vm::{AgentLine, Network, Vm, pressed_keys};

use super::school::finishes;
use super::shared::Shared;
use crate::check;
use crate::console::say;

/// A machine that is at work is soon done; most keys are pressed while it waits.
const WHILE_WORKING: u64 = 20;
/// The agent draws its whole screen anew every fifteen seconds; an emulated machine takes its time.
const DRAWN_ANEW_MAX: Duration = Duration::from_secs(120);
/// A machine that waits tells how long it has: a few digits of a thousand times more pixels.
const CHANGED_PERCENT_MAX: usize = 2;
/// What is echoed is there this soon.
const ECHOED_MAX: Duration = Duration::from_secs(5);
/// Sixteen rows of 1024 dots: the first line of a console, above everything that the agent draws.
const FIRST_LINES_BYTES: usize = 16 * 1024 * 3;
/// A machine that was switched off while a key was pressed is off this soon.
const OFF_MAX: Duration = Duration::from_secs(30);

/// The network is there, the server is not: the screen says so, and later the run goes through. All keys are pressed at the factory,
/// in front of the waiting machine, and while it deploys.
pub(super) fn no_server(shared: &Shared) -> Result<()> {
    let presses = variable("FORESTAGE_KEY_PRESSES").unwrap_or(300);
    let seed = variable("FORESTAGE_KEY_SEED").unwrap_or(1);
    let mut chance = Chance::new(seed);
    let laptop = shared.laptop("NSRV-0001")?;
    shared.import(&laptop, "tiny")?;

    let stick = laptop.stick(&shared.stick)?;
    let mut vm = shared.at_factory(&laptop, "factory", &stick)?;
    vm.wait_for("the staging", |line| line.is_event("step-started", None))?;
    press(&mut vm, presses / WHILE_WORKING, &mut chance)?;
    vm.wait_for_milestone("stage-done")?;
    vm.wait_for_power_off()?;
    started_once(&vm)?;
    let bundle = check::open_bundle(&shared.bundle, &shared.world.trust()?)?;
    check::staged_disk(&laptop.disk, &bundle)?;

    let is_missed = |line: &AgentLine| line.is_milestone("unreachable");
    let mut vm = shared.at_school(&laptop, "no-server", Network::Walled)?;
    vm.wait_for("the server being missed", is_missed)?;
    laptop.picture(&vm, "no-server")?;
    shows_no_letters(&vm)?;
    let before = vm.screen()?;
    press(
        &mut vm,
        presses - 2 * (presses / WHILE_WORKING),
        &mut chance,
    )?;
    laptop.picture(&vm, "no-server-keys")?;
    vm.wait_for("the server being missed again", is_missed)?;
    still_shows(&vm, &before)?;
    started_once(&vm)?;
    vm.cut_power();

    let mut vm = shared.at_school(&laptop, "school", shared.network(&laptop, "school"))?;
    vm.wait_for("the deployment", |line| line.is_event("step-started", None))?;
    press(&mut vm, presses / WHILE_WORKING, &mut chance)?;
    finishes(shared, &laptop, &mut vm)?;
    started_once(&vm)?;
    let folder = laptop.folder().parent().expect("laptops have a folder");
    say(&format!(
        "{} keys went down, FORESTAGE_KEY_SEED={seed}; nothing came of it",
        pressed_keys(folder)?
    ));
    Ok(())
}

/// Presses so many, or as many as there is time for until the machine is off by itself.
fn press(vm: &mut Vm, times: u64, chance: &mut Chance) -> Result<()> {
    let Err(error) = vm.keyboard()?.press_anything(times, chance) else {
        return Ok(());
    };
    let start = Instant::now();
    while start.elapsed() < OFF_MAX {
        if vm.is_off()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(error)
}

/// The same picture as before, soon.
fn still_shows(vm: &Vm, before: &[u8]) -> Result<()> {
    let start = Instant::now();
    loop {
        let now = vm.screen()?;
        let differ = now.iter().zip(before).filter(|(a, b)| a != b).count();
        if now.len() == before.len() && differ * 100 <= before.len() * CHANGED_PERCENT_MAX {
            return Ok(());
        }
        ensure!(
            start.elapsed() < DRAWN_ANEW_MAX,
            "its screen shows something else: {differ} of {} bytes",
            before.len()
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Where a console writes its first lines, nothing is written, although nothing was drawn anew since.
fn shows_no_letters(vm: &Vm) -> Result<()> {
    let before = vm.screen()?;
    let mut keyboard = vm.keyboard()?;
    for key in ["s", "h", "e", "l", "l", "ret"] {
        keyboard.press(&[key])?;
    }
    drop(keyboard);
    let start = Instant::now();
    while start.elapsed() < ECHOED_MAX {
        let now = vm.screen()?;
        let differ = now.iter().zip(&before).take(FIRST_LINES_BYTES);
        ensure!(
            differ.filter(|(a, b)| a != b).count() == 0,
            "what was typed stands on its screen"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// The seconds that the agent counts only grow, and it began once.
fn started_once(vm: &Vm) -> Result<()> {
    let lines = vm.lines().iter();
    let said: Vec<AgentLine> = lines
        .filter_map(|(_, line)| AgentLine::parse(line))
        .collect();
    let starts = said
        .iter()
        .filter(|line| line.is_milestone("agent-started"))
        .count();
    ensure!(starts == 1, "it started {starts} times");
    ensure!(
        said.is_sorted_by(|a, b| a.seconds <= b.seconds + 1.0),
        "it was restarted"
    );
    Ok(())
}
