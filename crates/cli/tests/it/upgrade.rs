//! What an earlier release kept is brought to this release's form and still right, and the machines that it enrolled go on.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::world::World;

/// See its README.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/database-16");
const PASSWORD: &str = "seven sheep on a ferry";
/// Noted when the database was written.
const AUDIT_HEAD: &str = "29:f3cfdca76b201eccd149ff2a667723819aeeff72fd69d9670b140064bd4d521f";

fn states(world: &World) -> BTreeMap<String, String> {
    let devices = world.json(&["device", "list"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let devices = devices.as_array().unwrap().iter();
    devices
        .map(|device| (text(&device["serial"]), text(&device["state"])))
        .collect()
}

#[test]
fn a_server_goes_on_with_the_database_of_an_earlier_release() {
    let fixture = Path::new(FIXTURE);
    let world = World::start_on(&fixture.join("forestage.db"), PASSWORD);
    let expected = [
        ("SIM-00001", "failed"),
        ("SIM-00002", "completed"),
        ("SIM-00003", "failed"),
        ("SIM-00004", "failed"),
        ("SIM-00005", "completed"),
        ("SIM-00006", "completed"),
    ];
    let expected = expected.map(|(serial, state)| (serial.to_owned(), state.to_owned()));
    assert_eq!(states(&world), expected.into());
    world.run(&["audit", "verify", "--head", AUDIT_HEAD]);
    let out = world.json(&["assignment", "list"]);
    assert_eq!(out[0]["asset-tag"], "S000005", "{out:#}");
    let keys = world.json(&["trust", "list"]);
    assert_eq!(keys[0]["name"], "server", "{keys:#}");
    assert_eq!(keys[0]["state"], "signing", "{keys:#}");
    let webhooks = world.json(&["webhook", "list"]);
    assert_eq!(webhooks[0]["title"], "Eiendeler", "{webhooks:#}");
    let variables = world.json(&["variable", "list", "--site", "BJO"]);
    assert!(variables.to_string().contains("keyboard"), "{variables:#}");
    // The machines have the keys that they were enrolled with.
    let fleet = std::fs::read(fixture.join("fleet.json")).unwrap();
    world.write("simulated-fleet/fleet.json", fleet);
    world.run(&["deployment", "retry-failed", "drill"]);
    let report = world.json(&["simulate", "run", "--within", "1s", "--speed", "1000"]);
    assert_eq!(report["surprises"], json!([]), "{report:#}");
    assert_eq!(report["events"]["lost"], 0, "{report:#}");
    assert!(states(&world).values().all(|state| state == "completed"));
}
