//! Steps one by one, where the whole run doesn't show it.

use sequence::engine::RunEnd;
use wire::event::{EventBody, FinishAction};

use crate::world::{Bench, package};

const END: &str = "\n  - { id: end, finish: { action: stay } }\n";

fn check(steps: &str, change: impl FnOnce(&mut Bench)) -> Bench {
    let mut bench = Bench::new(&format!("{steps}{END}"));
    change(&mut bench);
    bench.power_on_to_end();
    bench
}

#[test]
fn an_application_that_is_there_is_left_alone() {
    let bench = check(
        "  - { id: a, install-packages: { packages: [java] } }",
        |bench| {
            bench.state.installed.insert("java".into(), "1.0".into());
        },
    );
    assert!(
        !bench
            .calls
            .iter()
            .any(|call| call.contains("installer") || call.contains("apply-tree")),
        "{:?}",
        bench.calls
    );
    insta::assert_snapshot!(bench.story());
}

#[test]
fn an_installer_that_lies_is_found_out() {
    let bench = check(
        "  - { id: a, install-packages: { packages: [java] } }",
        |bench| {
            let java = bench
                .order
                .packages
                .iter_mut()
                .find(|package| package.name.as_str() == "java")
                .unwrap();
            java.install.as_mut().unwrap().command = vec!["hostname".into()];
        },
    );
    insta::assert_snapshot!(bench.story().lines().last().unwrap());
}

#[test]
fn two_drivers_that_fit_equally_well_are_an_error() {
    let bench = check("  - { id: a, apply-drivers: {} }", |bench| {
        let mut second = package("book14", "driver");
        second.version = "2.0".parse().unwrap();
        bench.order.packages.push(second);
    });
    insta::assert_snapshot!(bench.story().lines().last().unwrap());
    let bench = check("  - { id: a, apply-drivers: {} }", |bench| {
        let mut second = package("book14", "driver");
        second.version = "2.0".parse().unwrap();
        second.models[0].product = None;
        bench.order.packages.push(second);
    });
    assert!(
        bench
            .story()
            .contains("apply the drivers for Acme book14: book14 1.0"),
        "{}",
        bench.story()
    );
}

#[test]
fn no_driver_is_no_error() {
    let bench = check("  - { id: a, apply-drivers: {} }", |bench| {
        bench.facts.product = "unknown".into()
    });
    assert!(
        bench
            .story()
            .contains("apply no drivers: none is for Acme unknown"),
        "{}",
        bench.story()
    );
}

#[test]
fn the_factory_sequence_leaves_a_disk_that_can_still_be_wiped() {
    let mut bench = Bench::new(crate::world::STEPS);
    bench.order.sequence = sequence::derive::stage_sequence(&bench.order.sequence);
    bench.order.variables.clear();
    assert_eq!(
        bench.power_on().unwrap(),
        RunEnd::Done(FinishAction::ShutDown)
    );
    assert!(!bench.state.deployed && bench.state.staged.len() == bench.order.packages.len());
    assert_eq!(
        bench.state.default_boot,
        Some(sequence::ports::BootTarget::BootImage)
    );
    insta::assert_snapshot!(bench.story());
}

/// The last line of the story: how the run ended, in words.
fn ending(bench: &Bench) -> String {
    bench.story().lines().last().unwrap().to_owned()
}

/// Cuts the power between any two journal lines, switches on again, and expects the state of a run without a cut.
fn cut_anywhere(steps: &str, change: impl Fn(&mut Bench)) {
    let whole = check(steps, &change);
    assert!(
        matches!(
            whole.journal.events.last().unwrap().body,
            EventBody::RunDone { .. }
        ),
        "{}",
        whole.story()
    );
    for cut in 0..whole.journal.events.len() {
        let mut bench = Bench::new(&format!("{steps}{END}"));
        change(&mut bench);
        bench.journal.capacity = Some(cut);
        while let Ok(RunEnd::Suspended(into)) = bench.power_on() {
            bench.environment = into;
        }
        bench.journal.capacity = None;
        bench.environment = bench.boot_environment();
        assert_eq!(
            bench.power_on_to_end(),
            RunEnd::Done(FinishAction::Stay),
            "cut after line {cut}\n{}",
            bench.story()
        );
        assert_eq!(
            bench.state,
            whole.state,
            "cut after line {cut}\n{}",
            bench.story()
        );
    }
}

/// A package whose installer asks for a restart, and that is seen only after it.
fn needs_restart(bench: &mut Bench) {
    let java = bench
        .order
        .packages
        .iter_mut()
        .find(|package| package.name.as_str() == "java")
        .unwrap();
    let install = java.install.as_mut().unwrap();
    install.command = vec!["restart-installer".into(), "java".into(), "1.0".into()];
    install.restart_exit_codes = vec![194];
}

const RESTART_IF_NEEDED: &str = "  - { id: into, restart: { into: os } }
  - { id: java, install-packages: { packages: [java] } }
  - { id: again, when: \"outputs['java']['restart-needed']\", restart: { into: os } }
  - { id: look, install-packages: { packages: [java] } }";

#[test]
fn an_installer_can_ask_for_a_restart() {
    let bench = check(RESTART_IF_NEEDED, needs_restart);
    insta::assert_snapshot!(bench.story());
    cut_anywhere(RESTART_IF_NEEDED, needs_restart);
    let bench = check(RESTART_IF_NEEDED, |_| {});
    assert!(bench.story().contains("again Skipped"), "{}", bench.story());
}

#[test]
fn a_later_failure_does_not_make_a_restart_forgotten() {
    let steps = "  - { id: a, attempts: 2, install-packages: { packages: [java, editor] } }";
    let bench = check(steps, |bench| {
        needs_restart(bench);
        // There at once, but not complete: only the installer's exit code tells.
        let java = bench
            .order
            .packages
            .iter_mut()
            .find(|package| package.name.as_str() == "java")
            .unwrap();
        java.install.as_mut().unwrap().detect = Some(wire::package::Detect::File {
            path: "/run/forestage/restart-needed/java".into(),
        });
        bench.failures = vec![("command installer editor", 1)];
    });
    let story = bench.story();
    assert!(story.contains("attempt 1 failed"), "{story}");
    assert!(
        story.contains(r#""before":["java"],"installed":["editor"],"restart-needed":true"#),
        "{story}"
    );
}

const WITH_SECRET: &str = "  - { id: a, run-script: { script: print PASSWORD, repeatable: true, secrets: { PASSWORD: \
                           wifi-school } } }";
const SECRET: &str = "blåbær-7";

/// Neither journal nor plans nor what others hear holds the secret.
fn holds_no_secret(bench: &Bench) {
    for events in [&bench.journal.events, &bench.heard] {
        let text = serde_json::to_string(events).unwrap();
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(
        !bench.calls.join("\n").contains(SECRET),
        "{:?}",
        bench.calls
    );
}

#[test]
fn a_script_gets_a_secret_and_nobody_else_does() {
    let release = |bench: &mut Bench| bench.secrets = vec![("wifi-school", SECRET)];
    let bench = check(WITH_SECRET, release);
    insta::assert_snapshot!(bench.story());
    holds_no_secret(&bench);
    cut_anywhere(WITH_SECRET, release);
}

#[test]
fn without_the_secret_the_script_does_not_run() {
    let bench = check(WITH_SECRET, |_| {});
    insta::assert_snapshot!(ending(&bench));
    assert!(
        !bench.calls.iter().any(|call| call.starts_with("command")),
        "{:?}",
        bench.calls
    );
}

const CHECK_ALL: &str = "  - { id: fit, attempts: 3, wait: 10s, check-machine: { min-disk: 60GiB, min-memory: 7GiB, mains-power: true, \
                         min-battery-percent: 30, firmware: uefi, tpm: true, secure-boot: true, clock-not-before: \
                         2026-01-01 } }";

fn fit(bench: &mut Bench) {
    bench.facts.tpm = true;
    bench.facts.secure_boot = true;
    bench.facts.clock = Some(1_767_225_600);
    bench.facts.power = wire::facts::Power {
        mains: Some(true),
        battery_percent: Some(30),
    };
}

#[test]
fn a_machine_that_is_fit_goes_on() {
    insta::assert_snapshot!(check(CHECK_ALL, fit).story());
    cut_anywhere(CHECK_ALL, fit);
}

#[test]
fn all_that_is_wrong_with_a_machine_is_said_at_once() {
    let bench = check(CHECK_ALL, |bench| {
        bench.facts.clock = Some(1_577_836_800);
        bench.facts.memory_bytes = 3 << 30;
        // A stick that is large enough is no built-in disk.
        bench.facts.disks[0].size_bytes = 32 << 30;
        bench.facts.disks[1].size_bytes = 128 << 30;
        bench.facts.power.mains = Some(false);
        bench.facts.firmware = wire::facts::Firmware::Bios;
    });
    insta::assert_snapshot!(ending(&bench));
    assert!(
        !bench.story().contains("attempt 2"),
        "a disk doesn't grow while the run waits"
    );
}

#[test]
fn a_machine_on_its_battery_is_waited_for() {
    let bench = check(CHECK_ALL, |bench| {
        fit(bench);
        bench.facts.power.mains = Some(false);
        bench.facts.power.battery_percent = Some(12);
    });
    insta::assert_snapshot!(bench.story());
}
