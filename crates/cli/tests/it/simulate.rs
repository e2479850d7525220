//! A fleet that doesn't exist against a server that does: whatever goes wrong, every machine ends where it should, and
//! no event is lost.

use std::collections::BTreeMap;

use serde_json::Value;
use testkit::drill;

use crate::world::World;

const SEED: &str = "20260824";
/// Everything at once, and much of it.
const SCENARIO: &str = "fail: 10%\nretry: 30%\nstall: 4%\ncut: 40%\nline-down: 20%\noffline: 6%\n\
    strangers: 4\nclaimants: 3\nhostile: 4\n";

fn world(devices: u32) -> World {
    let world = World::start();
    for command in drill::commands(drill::TRAINING.into(), devices, 4) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        world.run(&words);
    }
    world
}

/// How many devices are in which state, as the server shows them.
fn states(world: &World) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for device in world.json(&["device", "list"]).as_array().unwrap() {
        let state = device["state"].as_str().unwrap().to_owned();
        *states.entry(state).or_default() += 1;
    }
    states
}

#[test]
fn two_hundred_machines_on_a_bad_day_end_where_they_should_and_nothing_is_lost() {
    let world = world(200);
    world.write("bad.yaml", SCENARIO);
    let report = world.json(&[
        "simulate",
        "run",
        "--within",
        "2s",
        "--speed",
        "300",
        "--scenario",
        "bad.yaml",
        "--seed",
        SEED,
        "--workers",
        "16",
    ]);
    let ends = |name: &str| usize::try_from(report["ends"][name].as_u64().unwrap_or(0)).unwrap();
    assert_eq!(report["surprises"], Value::Array(vec![]), "{report:#}");
    let events = &report["events"];
    assert_eq!(
        (&events["lost"], &events["changed"]),
        (&0.into(), &0.into()),
        "{report:#}"
    );
    assert_eq!(events["runs"], 200);
    assert!(
        events["acknowledged"].as_u64().unwrap() > 2000,
        "{report:#}"
    );
    assert_eq!(ends("done") + ends("failed") + ends("silent"), 200);
    assert_eq!((ends("quarantined"), ends("refused")), (8, 3));
    // Each of them happened, or the test shows nothing.
    assert!(ends("failed") > 5 && ends("silent") > 1, "{report:#}");
    let states = states(&world);
    let state = |name: &str| states.get(name).copied().unwrap_or(0);
    assert_eq!(state("completed"), ends("done"), "{states:?}");
    assert_eq!(state("failed"), ends("failed"), "{states:?}");
    assert_eq!(
        state("running") + state("stalled"),
        ends("silent"),
        "{states:?}"
    );
    // Second claimants wait for a decision beside the strangers.
    let waiting = ends("quarantined") + ends("refused");
    assert_eq!(state("quarantined"), waiting, "{states:?}");
}

#[test]
fn a_server_with_real_machines_is_left_alone() {
    let world = world(2);
    world.write("real.csv", "serial;class\nPF3ABC;8B\n");
    world.run(&["asset", "import", "real.csv", "--collection", "drill"]);
    let (code, _, stderr) = world.fail(&["simulate", "run"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("1 device that no simulation made"),
        "{stderr}"
    );
    let before = states(&world);
    assert_eq!(before.get("imported"), Some(&3), "{before:?}");
    // Said to be a test server, only the simulated ones are switched on; again, they have nothing more to do.
    for expected in ["done", "idle"] {
        let report = world.json(&[
            "simulate",
            "run",
            "--yes-this-is-a-test-server",
            "--within",
            "1s",
            "--speed",
            "1000",
            "--ask-again",
            "1s",
        ]);
        assert_eq!(report["ends"][expected], 2, "{report:#}");
    }
    assert_eq!(states(&world).get("imported"), Some(&1));
    // Another fleet's keys are second claimants.
    let (code, stdout, _) = world.fail(&[
        "--json",
        "simulate",
        "run",
        "--yes-this-is-a-test-server",
        "--within",
        "1s",
        "--state",
        "other",
    ]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["ends"]["refused"]), (1, &2.into()));
}

#[test]
fn a_machine_that_failed_stands_there_until_it_is_retried_also_after_it_was_off() {
    let world = world(3);
    let switch_on = |fail: &str| {
        let report = world.json(&[
            "simulate", "run", "--within", "1s", "--speed", "1000", "--fail", fail,
        ]);
        assert_eq!(report["surprises"], Value::Array(vec![]), "{report:#}");
        assert_eq!(report["events"]["lost"], 0, "{report:#}");
        report["ends"].clone()
    };
    let ends = |name: &str| serde_json::json!({ name: 3 });
    let stand = |state: &str| assert_eq!(states(&world), BTreeMap::from([(state.to_owned(), 3)]));
    assert_eq!(switch_on("100%"), ends("failed"));
    stand("failed");
    assert_eq!(switch_on("0%"), ends("failed"));
    stand("failed");
    world.run(&["deployment", "retry-failed", "drill"]);
    assert_eq!(switch_on("0%"), ends("done"));
    stand("completed");
    assert_eq!(switch_on("0%"), ends("idle"));
}
