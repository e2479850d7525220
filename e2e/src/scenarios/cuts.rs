//! The power goes at any moment, while a machine is staged and while it is deployed, again and again. In the end it is staged as
//! signed and deployed as ordered. What the machine had written by then survives, flushed or not: states in which a disk has lost some of
//! that are the agent's own tests' (`power_cuts.rs`).
//!
//! `FORESTAGE_VM_CUTS=200` cuts so often instead of 12 (`cargo xtask nightly` does), `FORESTAGE_VM_CUT_SEED=7` at other moments.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::chance::{Chance, variable};
use testkit::vm::{AgentLine, Vm};
use wire::receipt::ReceiptResult;

use super::school::is_deployed;
use super::shared::Shared;
use crate::check;
use crate::console::say;
use crate::fleet::Laptop;

/// So often a machine loses its power at the factory before it is left alone, and so often at school.
const CUTS_EACH: u64 = 6;
/// A cut comes after one of so many lines that the agent says. Some machines are done sooner.
const LINES_MAX: u64 = 30;
/// And at most so long after it, in milliseconds.
const LATER_MAX: u64 = 1000;

/// One machine after the other, until the power was cut often enough.
pub(super) fn at_any_moment(shared: &Shared) -> Result<()> {
    let wanted = variable("FORESTAGE_VM_CUTS").unwrap_or(12);
    let seed = variable("FORESTAGE_VM_CUT_SEED").unwrap_or(1);
    let mut chance = Chance::new(seed);
    let (mut cuts, mut machines) = (0, 0);
    loop {
        machines += 1;
        let laptop = shared.laptop(&format!("CUTS-{machines:04}"))?;
        shared.import(&laptop, "tiny")?;
        cuts += stage(shared, &laptop, wanted - cuts, &mut chance)?;
        cuts += deploy(shared, &laptop, wanted - cuts, &mut chance)?;
        if cuts >= wanted {
            break;
        }
        laptop.discard()?;
    }
    say(&format!(
        "the power was cut {cuts} times, of {machines} machines, FORESTAGE_VM_CUT_SEED={seed}; all ended whole"
    ));
    Ok(())
}

fn stage(shared: &Shared, laptop: &Laptop, at_most: u64, chance: &mut Chance) -> Result<u64> {
    let stick = laptop.stick(&shared.stick)?;
    let start = || shared.at_factory(laptop, "factory", &stick);
    let is_done = |line: &AgentLine| line.is_milestone("stage-done");
    let (mut vm, _, cuts) = through(start, is_done, at_most, chance)?;
    vm.wait_for_power_off()?;
    let bundle = check::open_bundle(&shared.bundle, &shared.world.trust()?)?;
    check::staged_disk(&laptop.disk, &bundle)?;
    let receipts = media::medium::read_receipts(&stick)?;
    let is_good = |file: &media::medium::ReceiptFile| {
        (file.receipt.as_ref()).is_ok_and(|receipt| {
            receipt.serial == laptop.identity.serial && receipt.result == ReceiptResult::Staged
        })
    };
    ensure!(
        receipts.iter().any(is_good),
        "the stick has no receipt of it"
    );
    Ok(cuts)
}

fn deploy(shared: &Shared, laptop: &Laptop, at_most: u64, chance: &mut Chance) -> Result<u64> {
    let start = || shared.at_school(laptop, "school", shared.network(laptop, "school"));
    // Whose power went after its last report has nothing left to do.
    let is_idle =
        |line: &AgentLine| line.is_milestone("checked-in") && line.value["message"].is_string();
    let is_done = |line: &AgentLine| line.is_milestone("reported") || is_idle(line);
    let (mut vm, last, cuts) = through(start, is_done, at_most, chance)?;
    if !is_idle(&last) {
        vm.wait_for_power_off()?;
    }
    is_deployed(shared, laptop)?;
    Ok(cuts)
}

/// Switches a machine on and cuts its power, again and again, until it is done or has had enough of it; then it is left to end. Answers
/// with the line by which it told so, and how often its power was cut.
fn through(
    start: impl Fn() -> Result<Vm>,
    is_done: impl Fn(&AgentLine) -> bool,
    at_most: u64,
    chance: &mut Chance,
) -> Result<(Vm, AgentLine, u64)> {
    let mut cuts = 0;
    loop {
        let mut vm = start()?;
        let is_spared = cuts >= at_most.min(CUTS_EACH);
        let after = match is_spared {
            true => u64::MAX,
            false => chance.below(LINES_MAX + 1),
        };
        if after > 0 {
            let seen = Cell::new(0_u64);
            let line = vm.wait_for("the end, or the next power cut", |line| {
                seen.set(seen.get() + 1);
                seen.get() >= after || is_done(line) || has_failed(line)
            })?;
            ensure!(
                !has_failed(&line),
                "after {cuts} power cuts it failed: {}",
                line.value
            );
            if is_done(&line) {
                return Ok((vm, line, cuts));
            }
        }
        std::thread::sleep(Duration::from_millis(chance.below(LATER_MAX + 1)));
        vm.cut_power();
        cuts += 1;
    }
}

fn has_failed(line: &AgentLine) -> bool {
    let milestones = ["stage-failed", "deploy-failed", "panic", "agent-died"];
    milestones.iter().any(|at| line.is_milestone(at)) || line.is_event("run-failed", None)
}
