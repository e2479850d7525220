//! The power cable, pulled between any two journal lines.

use sequence::engine::RunEnd;
use sequence::view::{RunState, RunView};
use wire::event::{Environment, EventBody, FinishAction};

use crate::world::{Bench, STEPS};

/// From the boot image to the OS and back; `finish` then lets the OS start.
const THERE_AND_BACK: &str = r#"
  - { id: disk, format-disk: { disk: { removable: false }, volumes: [{ role: esp, size: 1GiB }, { role: os, size: rest }, { role: staging, size: 8GiB }] } }
  - { id: there, restart: { into: os } }
  - { id: kind, set-variables: { kind: x } }
  - { id: back, restart: { into: boot-image } }
  - { id: end, finish: { action: shut-down } }
"#;

const DONE: RunEnd = RunEnd::Done(FinishAction::ShutDown);

#[test]
fn a_whole_run() {
    let mut bench = Bench::new(STEPS);
    assert_eq!(bench.power_on_to_end(), DONE);
    insta::assert_snapshot!(bench.story());
    insta::assert_debug_snapshot!(bench.state);
    let view = RunView::of(&bench.journal.events);
    assert_eq!(
        (view.state, view.step_number(), view.boot),
        (RunState::Done, view.steps.len(), 2)
    );
    let seqs: Vec<u64> = bench.journal.events.iter().map(|event| event.seq).collect();
    assert_eq!(
        seqs,
        (1..=seqs.len() as u64).collect::<Vec<_>>(),
        "seq rises by one"
    );
}

#[test]
fn a_run_that_is_done_stays_done() {
    let mut bench = Bench::new(STEPS);
    bench.power_on_to_end();
    let (events, state) = (bench.journal.events.clone(), bench.state.clone());
    assert_eq!(bench.power_on().unwrap(), DONE);
    assert_eq!((bench.journal.events, bench.state), (events, state));
}

#[test]
fn a_power_cut_between_any_two_journal_lines_changes_nothing_in_the_end() {
    let mut whole = Bench::new(STEPS);
    assert_eq!(whole.power_on_to_end(), DONE);
    for cut in 0..whole.journal.events.len() {
        let mut bench = Bench::new(STEPS);
        // The journal refuses the next line, so the effects are exactly those between two lines.
        bench.journal.capacity = Some(cut);
        let first = bench.power_on();
        if let Ok(RunEnd::Suspended(into)) = first {
            bench.environment = into;
            bench.power_on().unwrap_err();
        }
        bench.journal.capacity = None;
        bench.environment = bench.boot_environment();
        let mut end = bench.power_on_to_end();
        if was_cut_in_once(&whole, cut) {
            assert_eq!(
                end,
                RunEnd::Failed,
                "cut after line {cut}: the script isn't known to be repeatable"
            );
            let ran = bench
                .state
                .files
                .get(camino::Utf8Path::new("/var/log/once"))
                .map_or(0, Vec::len);
            assert!(
                ran <= "ran\n".len(),
                "cut after line {cut}: the script ran twice by itself"
            );
            // A person looked, found that it has run, and starts the run again: only then is it repeated.
            bench
                .state
                .files
                .remove(camino::Utf8Path::new("/var/log/once"));
            end = bench.power_on_to_end();
        }
        assert_eq!(end, DONE, "cut after line {cut}\n{}", bench.story());
        assert_eq!(
            bench.state,
            whole.state,
            "cut after line {cut}\n{}",
            bench.story()
        );
    }
}

/// Whether the cut falls between the plan and the end of the step that refuses to be repeated.
fn was_cut_in_once(whole: &Bench, cut: usize) -> bool {
    let lines = &whole.journal.events;
    let is_once = |body: &EventBody| match body {
        EventBody::StepPlanned { path, .. } => path.as_str() == "once",
        _ => false,
    };
    let planned = lines.iter().position(|event| is_once(&event.body)).unwrap();
    let done = planned
        + lines[planned..]
            .iter()
            .position(|event| matches!(&event.body, EventBody::StepDone { path, .. } if path.as_str() == "once"))
            .unwrap();
    (planned + 1..=done).contains(&cut)
}

#[test]
fn a_power_cut_in_every_call_to_the_machine_is_survived() {
    let mut whole = Bench::new(STEPS);
    assert_eq!(whole.power_on_to_end(), DONE);
    // Failing calls stop the run like a cut inside a step; starting it again must reach the same state.
    for prefix in [
        "write-layout",
        "apply-",
        "write-file",
        "command",
        "remove-folder",
        "install-",
        "set-default",
        "mark-",
    ] {
        for nth in 1..40 {
            let mut bench = Bench::new(STEPS);
            bench.failures = vec![(prefix, nth)];
            let mut end = bench.power_on_to_end();
            let failed = end == RunEnd::Failed;
            bench.failures.clear();
            bench.environment = bench.boot_environment();
            if failed {
                end = bench.power_on_to_end();
            }
            let once = camino::Utf8Path::new("/var/log/once");
            if bench
                .state
                .files
                .get(once)
                .is_some_and(|ran| ran.len() > "ran\n".len())
            {
                // The failing call came after the script's effect, and a person chose to start the run again.
                bench.state.files.insert(once.to_owned(), b"ran\n".to_vec());
            }
            assert_eq!(end, DONE, "{prefix} {nth}\n{}", bench.story());
            assert_eq!(bench.state, whole.state, "{prefix} {nth}");
        }
    }
}

#[test]
fn the_recorded_plan_is_applied_after_a_cut() {
    let mut bench = Bench::new(STEPS);
    bench.journal.capacity = Some(3);
    bench.power_on().unwrap_err();
    // Now the disk is ours, and a second disk has appeared: planning again would refuse.
    bench.journal.capacity = None;
    let second = bench.facts.disks[0].clone();
    bench.facts.disks.push(wire::facts::Disk {
        path: "/dev/nvme1n1".into(),
        ..second
    });
    assert_eq!(bench.power_on_to_end(), DONE);
    assert_eq!(bench.state.layout.unwrap().disk, "/dev/nvme0n1");
}

#[test]
fn coming_up_in_the_wrong_place_fails_and_can_be_repeated() {
    let mut bench = Bench::new(STEPS);
    assert_eq!(
        bench.power_on().unwrap(),
        RunEnd::Suspended(Environment::Os)
    );
    assert_eq!(bench.power_on().unwrap(), RunEnd::Failed);
    let view = RunView::of(&bench.journal.events);
    assert_eq!(
        view.errors,
        ["asked to restart into os, came up in boot-image"]
    );
    assert_eq!(view.failed_step.unwrap().as_str(), "restart");
    assert_eq!(bench.power_on_to_end(), DONE);
}

#[test]
fn a_person_who_mends_the_boot_order_has_not_agreed_to_run_a_cut_script_again() {
    let mut bench = Bench::new(STEPS);
    let mut whole = bench.clone();
    assert_eq!(whole.power_on_to_end(), DONE);
    // The power fails after the script's effect, and the machine comes up in the wrong place.
    let is_done = |body: &EventBody| matches!(body, EventBody::StepDone { path, .. } if path.as_str() == "once");
    let mut lines = whole.journal.events.iter();
    bench.journal.capacity = lines.position(|event| is_done(&event.body));
    assert_eq!(
        bench.power_on().unwrap(),
        RunEnd::Suspended(Environment::Os)
    );
    bench.environment = Environment::Os;
    bench.power_on().unwrap_err();
    bench.journal.capacity = None;
    bench.environment = Environment::BootImage;
    assert_eq!(bench.power_on().unwrap(), RunEnd::Failed);
    // Started again, the restart is repeated; the script still asks.
    assert_eq!(bench.power_on_to_end(), RunEnd::Failed);
    let view = RunView::of(&bench.journal.events);
    assert_eq!(view.failed_step.unwrap().as_str(), "once");
    let once = &bench.state.files[camino::Utf8Path::new("/var/log/once")];
    assert_eq!(once, b"ran\n");
    assert_eq!(bench.power_on_to_end(), DONE);
}

#[test]
fn a_power_cut_while_what_starts_is_changed_is_no_wrong_place() {
    let mut whole = Bench::new(THERE_AND_BACK);
    assert_eq!(whole.power_on_to_end(), DONE);
    for cut in 0..whole.journal.events.len() {
        let mut bench = Bench::new(THERE_AND_BACK);
        bench.journal.capacity = Some(cut);
        while let Ok(RunEnd::Suspended(into)) = bench.power_on() {
            bench.environment = into;
        }
        bench.journal.capacity = None;
        bench.environment = bench.boot_environment();
        assert_eq!(
            bench.power_on_to_end(),
            DONE,
            "cut after line {cut}\n{}",
            bench.story()
        );
    }
}

#[test]
fn a_step_that_takes_the_machine_down_is_given_up() {
    let mut bench = Bench::new(STEPS);
    bench.journal.capacity = Some(3);
    for _ in 0..40 {
        if let Ok(end) = bench.power_on() {
            assert_eq!(end, RunEnd::Failed);
            insta::assert_snapshot!(bench.story().lines().last().unwrap());
            return;
        }
        // Room for the next start of the step, not for its end.
        bench.journal.capacity = Some(bench.journal.events.len() + 3);
    }
    panic!("it is begun for ever");
}

#[test]
fn the_document_decides_what_becomes_of_a_step_after_a_cut() {
    let check = |rule: &str| {
        let steps = format!(
            "  - {{ id: once, {rule} run-script: {{ script: append /var/log/once }} }}\n  - {{ id: end, finish: {{ action: stay }} }}"
        );
        let mut bench = Bench::new(&steps);
        // The script has run, and the journal can't say so any more.
        bench.journal.capacity = Some(3);
        bench.power_on().unwrap_err();
        bench.journal.capacity = None;
        let end = bench.power_on().unwrap();
        let ran = &bench.state.files[camino::Utf8Path::new("/var/log/once")];
        (end, ran.len() / "ran\n".len())
    };
    let done = RunEnd::Done(FinishAction::Stay);
    assert_eq!(check(""), (RunEnd::Failed, 1));
    assert_eq!(check("on-restart: redo,"), (done.clone(), 2));
    assert_eq!(check("on-restart: verify,"), (done, 2));
    assert_eq!(check("on-restart: refuse,"), (RunEnd::Failed, 1));
}

#[test]
fn a_step_in_the_wrong_place_is_refused() {
    let steps = "  - { id: a, runs-in: os, set-variables: { x: y } }\n  - { id: end, finish: { action: stay } }";
    let mut bench = Bench::new(steps);
    assert_eq!(bench.power_on().unwrap(), RunEnd::Failed);
    insta::assert_snapshot!(bench.story().lines().last().unwrap());
}
