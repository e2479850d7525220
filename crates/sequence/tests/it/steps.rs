//! Steps one by one, where the whole run doesn't show it.

use sequence::engine::RunEnd;
use wire::event::FinishAction;

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
