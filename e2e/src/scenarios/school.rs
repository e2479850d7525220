//! At school.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use testkit::vm::{AgentLine, Network, Vm};
use wire::admin_api::{DeviceState, KeyProtection};
use wire::quarantine::QuarantineRow;
use wire::reasons::Evidence;

use super::planted::JOINING;
use super::shared::Shared;
use crate::fleet::{Laptop, copy_sparse};

/// The cable leads nowhere: the screen says so, nothing is lost, and with a network the run goes through.
pub(super) fn no_dhcp(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("DHCP-0001")?;
    shared.import(&laptop, "tiny")?;
    shared.stage(&laptop)?;
    let mut vm = shared.at_school(&laptop, "no-dhcp", Network::Silent)?;
    vm.wait_for("the wait for a network", |line| {
        line.is_milestone("waiting-network")
    })?;
    laptop.picture(&vm, "no-dhcp")?;
    vm.cut_power();
    deploys(shared, &laptop)
}

/// Nobody knows the serial: quarantined and shown. Once it is imported, the machine goes on by itself.
pub(super) fn unknown_serial(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("UNKN-0001")?;
    shared.stage(&laptop)?;
    let mut vm = shared.at_school(&laptop, "school", shared.network(&laptop, "school"))?;
    vm.wait_for("the quarantine", |line| line.is_milestone("quarantined"))?;
    laptop.picture(&vm, "quarantined")?;
    let device = shared.world.device("UNKN-0001")?;
    ensure!(
        device.state == DeviceState::Quarantined,
        "the overview says {}",
        device.state
    );
    ensure!(device.message.is_some(), "the overview doesn't say why");
    shared.import(&laptop, "tiny")?;
    finishes(shared, &laptop, &mut vm)
}

/// A machine with its key in its TPM, and its twin: all its names, a copy of its disk, another TPM. The twin is refused and shown.
pub(super) fn second_claimant(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("TWIN-0001")?.with_tpm();
    shared.import(&laptop, "tiny")?;
    shared.stage(&laptop)?;
    deploys(shared, &laptop)?;
    let protection = shared.world.device("TWIN-0001")?.key_protection;
    ensure!(
        protection == Some(KeyProtection::Tpm),
        "the key isn't in the TPM: {protection:?}"
    );
    let mut twin = shared.laptop("TWIN-0001-b")?.with_tpm();
    twin.identity = laptop.identity.clone();
    copy_sparse(&laptop.disk, &twin.disk)?;
    let mut vm = shared.at_school(&twin, "school", shared.network(&twin, "school"))?;
    let decided =
        |line: &AgentLine| line.is_milestone("refused") || line.is_milestone("checked-in");
    let line = vm.wait_for("the refusal", decided)?;
    ensure!(
        line.is_milestone("refused"),
        "the second machine was taken for the first"
    );
    laptop.picture(&vm, "refused")?;
    let device = shared.world.device("TWIN-0001")?;
    ensure!(
        device.message.is_some(),
        "the overview doesn't show the second claimant"
    );
    let waiting: Vec<QuarantineRow> = shared.world.json(&["quarantine", "list"])?;
    let twin = waiting
        .into_iter()
        .find(|row| row.serial == "TWIN-0001")
        .context("the second machine isn't in quarantine")?;
    ensure!(
        twin.evidence_said.contains(&Evidence::OtherTpm),
        "it doesn't say what has become of its TPM: {:?}",
        twin.evidence
    );
    Ok(())
}

/// A script fails: step id, plain words and log on the screen and on the overview. It can be tried again from afar.
pub(super) fn failing_script(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("FAIL-0001")?;
    shared.import(&laptop, "tiny-failing")?;
    shared.stage(&laptop)?;
    let mut vm = shared.at_school(&laptop, "school", shared.network(&laptop, "school"))?;
    vm.wait_for("the failure", |line| {
        line.is_event("run-failed", Some("printers"))
    })?;
    vm.wait_for("the report", |line| line.is_milestone("reported"))?;
    laptop.picture(&vm, "failed")?;
    let device = shared.world.device("FAIL-0001")?;
    ensure!(
        device.state == DeviceState::Failed,
        "the overview says {}",
        device.state
    );
    ensure!(
        !device.collections.is_empty(),
        "a failed machine must stay in its collection"
    );
    let run = device.run.context("it has a run")?;
    ensure!(
        run.failed_step
            .as_ref()
            .is_some_and(|step| step.as_str() == "printers"),
        "failed at {:?}",
        run.failed_step
    );
    ensure!(!run.errors.is_empty(), "the overview doesn't say why");
    let detail = shared.world.run_detail(&run)?;
    ensure!(
        detail.log.iter().any(|line| line
            .text
            .contains("no printer answers at skriver.bjørnsletta")),
        "the script's own words are not in the log"
    );
    // The machine stands in front of its failure; a retry reaches it without a key press, and repeats that step alone.
    shared.world.run(&["run", "retry", "FAIL-0001"])?;
    let begun = vm.wait_for("the retry", |line| line.is_event("step-started", None))?;
    ensure!(
        begun.is_event("step-started", Some("printers")),
        "the retry began at another step"
    );
    vm.wait_for("the second failure", |line| {
        line.is_event("run-failed", Some("printers"))
    })?;
    Ok(())
}

/// A step needs a secret: it gets it, as its digest shows, once; what it says of it is hidden. That the secret lies nowhere is found
/// out when everything is scanned.
pub(super) fn secret(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("JOIN-0001")?;
    shared.import(&laptop, "tiny-secret")?;
    shared.stage(&laptop)?;
    deploys(shared, &laptop)?;
    let joined = crate::check::os_file(&laptop.disk, "/etc/joined")?;
    let digest = sha256(JOINING)?;
    ensure!(
        joined.split_whitespace().next() == Some(&*digest),
        "the script was given something else: {joined:?}"
    );
    let run = shared.world.run_of("JOIN-0001")?;
    let detail = shared.world.run_detail(&run)?;
    let released: Vec<_> = detail
        .secrets
        .iter()
        .map(|release| (release.secret.as_str(), release.answers))
        .collect();
    ensure!(released == [("domain-join", 1)], "released: {released:?}");
    ensure!(
        detail
            .log
            .iter()
            .any(|line| line.text.contains("joining with [secret]")),
        "what the script said isn't in the log, or not hidden"
    );
    Ok(())
}

/// The SHA-256 of a text, as `sha256sum` prints it.
fn sha256(text: &str) -> Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start sha256sum")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(text.as_bytes())?;
    drop(stdin);
    let printed = String::from_utf8(child.wait_with_output()?.stdout)?;
    let digest = printed.split_whitespace().next();
    digest
        .map(str::to_owned)
        .context("sha256sum printed nothing")
}

/// An admin stops a run in the middle of a script that says nothing for an hour: it stops long before that, says so, and
/// goes on where it was when it is tried again.
pub(super) fn stopped(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("STOP-0001")?;
    shared.import(&laptop, "tiny-slow")?;
    shared.stage(&laptop)?;
    let mut vm = shared.at_school(&laptop, "school", shared.network(&laptop, "school"))?;
    vm.wait_for("the script", |line| {
        line.is_event("step-planned", Some("slow"))
    })?;
    shared.world.run(&["run", "stop", "STOP-0001"])?;
    vm.wait_for("the stop", |line| line.is_event("run-aborted", None))?;
    vm.wait_for("the report", |line| line.is_milestone("reported"))?;
    laptop.picture(&vm, "stopped")?;
    shared.world.run(&["run", "retry", "STOP-0001"])?;
    let begun = vm.wait_for("the retry", |line| line.is_event("step-started", None))?;
    ensure!(
        begun.is_event("step-started", Some("slow")),
        "the retry began at another step"
    );
    Ok(())
}

/// The power goes in the middle of the run; at the next start it resumes and does no step twice.
pub(super) fn power_cut(shared: &Shared) -> Result<()> {
    let laptop = shared.laptop("SCUT-0001")?;
    shared.import(&laptop, "tiny")?;
    shared.stage(&laptop)?;
    let mut vm = shared.at_school(&laptop, "school-cut", shared.network(&laptop, "school-cut"))?;
    vm.wait_for("the script", |line| {
        line.is_event("step-started", Some("identity"))
    })?;
    vm.cut_power();
    let mut vm = shared.at_school(&laptop, "school", shared.network(&laptop, "school"))?;
    let line = vm.wait_for("the run going on", |line| {
        line.is_event("run-resumed", None) || line.is_event("run-started", None)
    })?;
    ensure!(line.is_event("run-resumed", None), "the run began anew");
    finishes(shared, &laptop, &mut vm)?;
    ensure!(
        vm.lines().iter().all(|(_, line)| AgentLine::parse(line)
            .is_none_or(|l| !l.is_event("step-started", Some("os")))),
        "a step that was done was run again"
    );
    Ok(())
}

fn deploys(shared: &Shared, laptop: &Laptop) -> Result<()> {
    let mut vm = shared.at_school(laptop, "school", shared.network(laptop, "school"))?;
    finishes(shared, laptop, &mut vm)
}

pub(super) fn finishes(shared: &Shared, laptop: &Laptop, vm: &mut Vm) -> Result<()> {
    vm.wait_for_milestone("reported")?;
    vm.wait_for_power_off()?;
    is_deployed(shared, laptop)
}

/// The server says so, and so does its disk.
pub(super) fn is_deployed(shared: &Shared, laptop: &Laptop) -> Result<()> {
    let serial = &laptop.identity.serial;
    let device = shared.world.device(serial)?;
    ensure!(
        device.state == DeviceState::Completed,
        "{serial} is {}",
        device.state
    );
    ensure!(
        device.collections.is_empty(),
        "{serial} is still in {:?}",
        device.collections
    );
    let host_name = crate::check::os_file(&laptop.disk, "/etc/hostname")?;
    ensure!(
        host_name.trim() == serial.to_lowercase(),
        "the script wrote {host_name:?}"
    );
    Ok(())
}
