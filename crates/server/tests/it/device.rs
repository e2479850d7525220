//! A device from its first check-in to the end of its run.

use serde_json::{Value, json};
use wire::admin_api::{DeviceState, KeyProtection, RunRow};
use wire::assets::AssetDetail;
use wire::device_api::{CheckInReply, KeyPlace};
use wire::names::CollectionName;
use wire::quarantine::QuarantineReason;
use wire::reasons::Evidence;

use crate::admin::refusal;
use crate::deployments::{collection, rule};
use crate::harness::{Machine, Site, event, good_run, send};

const ASSETS: &str =
    "serial;asset tag;site code;site name;class\nPF1;A1;BJO;Bjørnøya skole;8B\nPF2;A2;BJO;;9A\n";

fn site() -> Site {
    let site = Site::new();
    site.prepare(10);
    site.import(ASSETS);
    site
}

#[test]
fn a_run_from_check_in_to_done() {
    let site = site();
    let machine = Machine::new("PF1");
    let (device, order) = machine.order(&site);
    assert_eq!(
        order.variables["site"],
        json!({"code": "BJO", "name": "Bjørnøya skole"})
    );
    assert_eq!(order.variables["class"], json!("8B"));
    assert!(
        order
            .packages
            .iter()
            .any(|package| package.name.as_str() == "java")
    );
    let events = good_run(order.run);
    // In pieces, with duplicates and a gap.
    assert_eq!(send(&device, order.run, &events[..2]).acknowledged, 2);
    assert_eq!(send(&device, order.run, &events[4..]).acknowledged, 2);
    assert_eq!(send(&device, order.run, &events[..4]).acknowledged, 4);
    let progress =
        json!({"kind": "progress", "path": "os", "current": 1, "total": 4, "unit": "bytes"});
    assert_eq!(
        send(&device, order.run, &[event(order.run, 4, progress)]).acknowledged,
        4
    );
    let row = site.device("PF1");
    let run = row.run.unwrap();
    assert_eq!(
        (row.state, run.step_percent, run.name.as_deref()),
        (DeviceState::Running, Some(25), Some("bjo-8b-pf1"))
    );
    assert_eq!(
        (run.step_number, run.step_count, run.expected_seconds),
        (1, 1, 600)
    );
    // The same order again, to the letter.
    assert_eq!(machine.order(&site).1, order);
    assert_eq!(send(&device, order.run, &events).acknowledged, 6);
    let row = site.device("PF1");
    assert_eq!(
        (row.state, row.collections.len()),
        (DeviceState::Completed, 0)
    );
    let run = row.run.unwrap();
    assert!(
        run.server_bytes > 3000 && run.server_bytes < 100_000,
        "{}",
        run.server_bytes
    );
    assert_eq!((run.interface_bytes, run.content.local), (12_345, 77));
    let detail = site.admin.run(order.run).unwrap();
    assert!(
        detail
            .log
            .iter()
            .any(|line| line.text == "blåbær" && line.seq == 4)
    );
    assert_eq!(
        (detail.steps[0].state.as_str(), detail.steps[0].duration_ms),
        ("done", Some(3000))
    );
    assert!(!detail.identity.is_empty());
    assert!(matches!(machine.check_in(&site), CheckInReply::Idle { .. }));
}

#[test]
fn the_events_of_a_run_are_read_to_the_letter_and_page_by_page() {
    let site = site();
    let (device, order) = Machine::new("PF1").order(&site);
    // Blanks, an unknown kind and the order of keys are the device's own business.
    let mut texts = vec![format!(
        "{{ \"seq\":1,\"run\": \"{}\", \"boot\":1,\"uptime-ms\":5,\"body\":{{\"kind\":\"blåbær\"}}}}",
        order.run
    )];
    let long = "x".repeat(900_000);
    for seq in [2, 3] {
        texts.push(
            event(
                order.run,
                seq,
                json!({"kind": "log", "level": "info", "text": long}),
            )
            .to_string(),
        );
    }
    for seq in 4..=1100 {
        texts.push(
            event(
                order.run,
                seq,
                json!({"kind": "log", "level": "info", "text": "a"}),
            )
            .to_string(),
        );
    }
    for some in texts.chunks(400) {
        let events = some
            .iter()
            .map(|text| serde_json::value::RawValue::from_string(text.clone()).unwrap())
            .collect();
        let batch = wire::device_api::EventBatch {
            events,
            interface_bytes: 0,
        };
        device.events(order.run, &batch).unwrap();
    }
    let mut read = Vec::new();
    let mut after = Some(0);
    let mut pages = 0;
    while let Some(seq) = after {
        let page = site.admin.run_events(order.run, seq).unwrap();
        assert_eq!((page.take, page.acknowledged), (1, 1100));
        read.extend(page.events.iter().map(|event| event.event.get().to_owned()));
        after = page.next_after;
        pages += 1;
    }
    assert_eq!(read, texts);
    assert_eq!(pages, 2);
    let unknown = wire::names::RunId::random();
    assert_eq!(refusal(site.admin.run_events(unknown, 0)).0, 404);
    assert_eq!(refusal(device.run_events(order.run, 0)).0, 401);
}

#[test]
fn only_the_holder_of_the_key_may_answer_a_challenge_and_only_once() {
    let site = site();
    let client = site.server.anyone();
    let machine = Machine::new("PF1");
    let challenge = client.challenge().unwrap().challenge;
    let mut forged = machine.sign(&challenge);
    forged.body = forged.body.replace("PF1", "PF2");
    assert_eq!(refusal(client.check_in(&forged)).1, "bad-signature");
    assert_eq!(
        refusal(client.check_in(&machine.sign(&challenge))).1,
        "bad-challenge"
    );
    let fresh = client.challenge().unwrap().challenge;
    let mut strange = machine.sign(&fresh);
    strange.signature = "zz".into();
    assert_eq!(refusal(client.check_in(&strange)).1, "bad-signature");
    assert_eq!(site.device("PF1").state, DeviceState::Imported);
}

#[test]
fn a_second_claimant_is_refused_and_shown_until_the_key_is_reset() {
    let site = site();
    let (_, order) = Machine::new("PF1").order(&site);
    let thief = Machine::new("PF1");
    assert!(matches!(
        thief.check_in(&site),
        CheckInReply::Refused { .. }
    ));
    let row = site.device("PF1");
    assert!(
        row.message
            .as_deref()
            .is_some_and(|text| text.contains("another machine")),
        "{:?}",
        row.message
    );
    let _row: Value = site
        .admin
        .send(
            "POST",
            &format!("/api/v1/devices/{}/reset-key", row.device),
            &json!({}),
        )
        .unwrap();
    assert_eq!(thief.order(&site).1.run, order.run);
    assert_eq!(site.device("PF1").message, None);
}

#[test]
fn where_the_key_lies_is_shown_and_found() {
    let site = site();
    Machine::new("PF1").order(&site);
    let mut machine = Machine::with_tpm("PF2");
    machine.order(&site);
    let protection = |serial| site.device(serial).key_protection;
    assert_eq!(protection("PF1"), Some(KeyProtection::Software));
    assert_eq!(protection("PF2"), Some(KeyProtection::Tpm));
    for (word, expected) in [("tpm", "PF2"), ("software", "PF1")] {
        let name: CollectionName = format!("key-{word}").parse().unwrap();
        collection(&site, name.as_str());
        let fits = rule(&format!("key_protection == '{word}'"), "");
        site.admin.put_collection_rule(&name, &fits).unwrap();
        let rows = site.admin.devices().unwrap();
        let members = rows.iter().filter(|row| row.collections.contains(&name));
        let serials: Vec<_> = members.map(|row| row.serial.as_str()).collect();
        assert_eq!(serials, [expected]);
    }
    // It stays itself when it says nothing of its key, or something that only later releases know.
    for place in [None, Some(KeyPlace::Unknown)] {
        machine.place = place;
        machine.order(&site);
        assert_eq!(protection("PF2"), Some(KeyProtection::Software));
    }
    let path = format!("/api/v1/devices/{}/reset-key", site.device("PF2").device);
    let _row: Value = site.admin.send("POST", &path, &json!({})).unwrap();
    assert_eq!(protection("PF2"), None);
}

#[test]
fn a_machine_whose_tpm_was_cleared_says_so_and_waits_for_an_administrator() {
    let site = site();
    Machine::with_tpm("PF1").order(&site);
    let mut cleared = Machine::with_tpm("PF1");
    cleared.place = Some(KeyPlace::Tpm { is_other: true });
    let reply = cleared.check_in(&site);
    assert!(matches!(reply, CheckInReply::Refused { .. }), "{reply:?}");
    let rows = site.admin.quarantine().unwrap();
    assert_eq!(rows[0].reason, QuarantineReason::SecondClaimant);
    let evidence = &rows[0].evidence_said;
    assert!(evidence.contains(&Evidence::OtherTpm), "{evidence:?}");
    let path = format!("/api/v1/devices/{}/reset-key", site.device("PF1").device);
    let _row: Value = site.admin.send("POST", &path, &json!({})).unwrap();
    cleared.order(&site);
    let device = site.device("PF1");
    assert_eq!(device.key_protection, Some(KeyProtection::Tpm));

    // A TPM that fails is no reason to keep a machine out, and no secret.
    let mut failing = Machine::new("PF2");
    let why = format!("the TPM is in failure mode{}", " and more".repeat(100));
    failing.place = Some(KeyPlace::Software { why: Some(why) });
    failing.order(&site);
    let path = format!("/api/v1/devices/{}/asset", site.device("PF2").device);
    let asset: AssetDetail = site.admin.get(&path).unwrap();
    let evidence = asset.seen.unwrap().evidence.join("; ");
    assert!(evidence.contains("isn't in the TPM: the TPM is in failure mode"));
    assert!(evidence.len() < 800, "{evidence}");
}

#[test]
fn an_unknown_machine_waits_in_quarantine_until_it_is_imported() {
    let site = site();
    for serial in ["PF9", "To be filled by O.E.M."] {
        let machine = Machine::new(serial);
        assert!(
            matches!(machine.check_in(&site), CheckInReply::Quarantined { .. }),
            "{serial}"
        );
        assert!(
            matches!(machine.check_in(&site), CheckInReply::Quarantined { .. }),
            "{serial}"
        );
    }
    let quarantined = |site: &Site| {
        let rows = site.admin.devices().unwrap();
        rows.iter()
            .filter(|row| row.state == DeviceState::Quarantined)
            .count()
    };
    assert_eq!(quarantined(&site), 2);
    let machine = Machine::new("PF10");
    assert!(matches!(
        machine.check_in(&site),
        CheckInReply::Quarantined { .. }
    ));
    site.import("serial;class\nPF10;8B\n");
    machine.order(&site);
    assert_eq!(quarantined(&site), 2);
    assert_eq!(site.device("PF10").state, DeviceState::Running);
}

#[test]
fn a_deployment_stops_at_its_cap() {
    let site = Site::new();
    site.prepare(1);
    site.import(ASSETS);
    let machines = ["PF1", "PF2"].map(Machine::new);
    for (machine, serial) in machines.iter().zip(["PF1", "PF2"]) {
        match machine.check_in(&site) {
            CheckInReply::Idle { message, .. } => assert!(message.contains("cap"), "{message}"),
            other => panic!("{other:?}"),
        }
        assert!(site.device(serial).message.unwrap().contains("cap"));
    }
    let mistyped: Result<Value, _> = site.admin.send(
        "POST",
        "/api/v1/deployments/autumn/cap",
        &json!({"cap": 3, "confirm": "autumn"}),
    );
    assert!(mistyped.is_err());
    let _raised: Value = site
        .admin
        .send(
            "POST",
            "/api/v1/deployments/autumn/cap",
            &json!({"cap": 3, "confirm": "autumn 3"}),
        )
        .unwrap();
    machines[1].order(&site);
}

#[test]
fn a_restart_of_the_server_in_the_middle_keeps_everything() {
    let site = site();
    let machine = Machine::new("PF1");
    let (device, order) = machine.order(&site);
    let events = good_run(order.run);
    send(&device, order.run, &events[..4]);
    let before = site.admin.run(order.run).unwrap();
    drop(device);
    let site = site.restart();
    let after = site.admin.run(order.run).unwrap();
    assert_eq!(
        (&after.steps, &after.log, &after.identity),
        (&before.steps, &before.log, &before.identity)
    );
    assert!(after.row.server_bytes >= before.row.server_bytes);
    assert_eq!(after.row.interface_bytes, before.row.interface_bytes);
    let (device, again) = machine.order(&site);
    assert_eq!(again, order);
    assert_eq!(send(&device, order.run, &events[4..]).acknowledged, 6);
    assert_eq!(site.device("PF1").state, DeviceState::Completed);
}

#[test]
fn a_failed_run_is_shown_and_tried_again() {
    let site = site();
    let machine = Machine::new("PF1");
    let (device, order) = machine.order(&site);
    let mut events = good_run(order.run)[..2].to_vec();
    let failure = json!({"kind": "run-failed", "path": "os", "errors": ["no disk", "it is gone"], "hint": "look"});
    events.push(event(order.run, 3, failure));
    send(&device, order.run, &events);
    let row = site.device("PF1");
    assert_eq!(
        (row.state, row.message.as_deref()),
        (DeviceState::Failed, Some("no disk"))
    );
    assert_eq!(row.run.unwrap().hint.as_deref(), Some("look"));
    // As it was, so long as nobody has mended it.
    assert_eq!(machine.order(&site).1, order);
    send(
        &device,
        order.run,
        &[event(
            order.run,
            4,
            json!({"kind": "run-resumed", "environment": "boot-image"}),
        )],
    );
    assert_eq!(site.device("PF1").state, DeviceState::Running);
    send(
        &device,
        order.run,
        &[event(
            order.run,
            5,
            json!({"kind": "run-failed", "path": "os", "errors": ["no"]}),
        )],
    );
    site.publish_tree(
        "java",
        "18",
        wire::package::PackageKind::Application,
        b"java 18",
    );
    let mended = machine.order(&site).1;
    assert_ne!(mended.run, order.run);
    assert!(
        mended
            .packages
            .iter()
            .any(|package| package.version.as_str() == "18")
    );
}

#[test]
fn a_run_belongs_to_its_device_and_can_be_stopped() {
    let site = site();
    let (device, order) = Machine::new("PF1").order(&site);
    let (other, _) = Machine::new("PF2").order(&site);
    let path = format!("/device/v1/runs/{}/events", order.run);
    let nothing = json!({"events": []});
    assert_eq!(
        refusal(other.send::<_, Value>("POST", &path, &nothing)).0,
        404
    );
    assert!(!send(&device, order.run, &good_run(order.run)[..1]).stop);
    let _row: RunRow = site
        .admin
        .send(
            "POST",
            &format!("/api/v1/runs/{}/stop", order.run),
            &json!({}),
        )
        .unwrap();
    assert!(send(&device, order.run, &[]).stop);
    send(
        &device,
        order.run,
        &[event(
            order.run,
            2,
            json!({"kind": "run-aborted", "reason": "stopped by an admin"}),
        )],
    );
    assert_eq!(site.device("PF1").state, DeviceState::Stopped);
    assert!(matches!(
        Machine::new("PF1").check_in(&site),
        CheckInReply::Refused { .. }
    ));
}

/// A run that failed: its device, its order and the events so far.
fn failed_run(site: &Site, machine: &Machine) -> (client::Client, wire::order::Order) {
    let (device, order) = machine.order(site);
    let mut events = good_run(order.run)[..3].to_vec();
    let failed = json!({"kind": "run-failed", "path": "os", "errors": ["no disk"], "last-lines": ["sda: gone"]});
    events.push(event(order.run, 4, failed));
    assert_eq!(send(&device, order.run, &events).acknowledged, 4);
    assert_eq!(site.device("PF1").state, DeviceState::Failed);
    (device, order)
}

fn ask(site: &Site, run: wire::names::RunId, what: &str) -> Result<RunRow, client::ClientError> {
    site.admin.send(
        "POST",
        &format!("/api/v1/runs/{run}/{what}"),
        &json!({ "confirm": "rerun PF1" }),
    )
}

/// The order of a check-in, whether to go on with it, and whether it is to stop.
fn told(reply: CheckInReply) -> (wire::order::Order, bool, bool) {
    match reply {
        CheckInReply::Run {
            order, go_on, stop, ..
        } => (order, go_on, stop),
        other => panic!("no order: {other:?}"),
    }
}

#[test]
fn a_failed_run_is_gone_on_with_only_when_someone_says_so() {
    let site = site();
    let machine = Machine::new("PF1");
    let (device, order) = failed_run(&site, &machine);
    assert_eq!(
        told(machine.check_in(&site)),
        (order.clone(), false, false),
        "shown, not to go on with"
    );
    assert_eq!(ask(&site, order.run, "retry").unwrap().run, order.run);
    assert_eq!(told(machine.check_in(&site)), (order.clone(), true, false));
    assert_eq!(
        refusal(ask(&site, order.run, "retry")),
        (409, "not-ended".into())
    );
    let resumed = json!({"kind": "run-resumed", "environment": "boot-image"});
    send(&device, order.run, &[event(order.run, 5, resumed)]);
    let row = site.admin.run(order.run).unwrap().row;
    assert_eq!(
        (row.state, row.ended_at_ms, row.errors.len()),
        (DeviceState::Running, None, 0)
    );
    let done = json!({"kind": "run-done", "action": "restart"});
    send(&device, order.run, &[event(order.run, 6, done)]);
    assert_eq!(site.device("PF1").state, DeviceState::Completed);
    assert_eq!(
        refusal(ask(&site, order.run, "retry")),
        (409, "completed".into())
    );
    let audit: Vec<Value> = site.admin.get("/api/v1/audit").unwrap();
    assert!(audit.iter().any(|row| row["action"] == "run-retried"));
}

#[test]
fn a_stopped_run_can_be_gone_on_with_and_a_run_that_never_began_is_stopped_before_its_first_step() {
    let site = site();
    let machine = Machine::new("PF1");
    let (device, order) = machine.order(&site);
    ask(&site, order.run, "stop").unwrap();
    assert_eq!(told(machine.check_in(&site)), (order.clone(), true, true));
    let aborted = json!({"kind": "run-aborted", "reason": "an admin stopped the run"});
    let events = [good_run(order.run)[0].clone(), event(order.run, 2, aborted)];
    send(&device, order.run, &events);
    assert!(matches!(machine.check_in(&site), CheckInReply::Idle { .. }));
    ask(&site, order.run, "retry").unwrap();
    assert_eq!(told(machine.check_in(&site)), (order, true, false));
}

#[test]
fn a_rerun_is_a_new_run_and_brings_the_device_back() {
    let site = site();
    let machine = Machine::new("PF1");
    let (device, order) = machine.order(&site);
    assert_eq!(
        refusal(ask(&site, order.run, "rerun")),
        (409, "not-ended".into())
    );
    send(&device, order.run, &good_run(order.run));
    assert_eq!(site.device("PF1").collections.len(), 0, "it left");
    let new = ask(&site, order.run, "rerun").unwrap().run;
    assert_ne!(new, order.run);
    assert_eq!(site.device("PF1").collections.len(), 1);
    let (again, go_on, _) = told(machine.check_in(&site));
    assert_eq!((again.run, go_on), (new, true));
    assert_eq!(again.sequence, order.sequence);
    // It fails; the old one, which was completed, neither hides that nor can be gone on with.
    let events = [
        good_run(new)[0].clone(),
        event(
            new,
            2,
            json!({"kind": "run-failed", "path": "os", "errors": ["x"]}),
        ),
    ];
    send(&device, new, &events);
    assert_eq!(told(machine.check_in(&site)).0.run, new);
    assert_eq!(
        refusal(ask(&site, order.run, "retry")),
        (409, "completed".into())
    );
    let third = ask(&site, new, "rerun").unwrap().run;
    assert_eq!(
        refusal(ask(&site, new, "retry")),
        (409, "not-latest".into())
    );
    assert_eq!(told(machine.check_in(&site)).0.run, third);
}

#[test]
fn bad_events_are_refused_and_events_of_a_newer_release_are_kept() {
    let site = site();
    let (device, order) = Machine::new("PF1").order(&site);
    let path = format!("/device/v1/runs/{}/events", order.run);
    let post = |events: Value| device.send::<_, Value>("POST", &path, &json!({"events": events}));
    assert_eq!(refusal(post(json!([{"seq": 1}]))).1, "bad-event");
    let other = event(wire::names::RunId::random(), 1, json!({"kind": "log"}));
    assert_eq!(refusal(post(json!([other]))).1, "bad-event");
    assert_eq!(
        refusal(post(json!(vec![
            event(order.run, 1, json!({"kind": "x"}));
            501
        ])))
        .1,
        "too-many-events"
    );
    let newer = event(order.run, 1, json!({"kind": "battery-low", "percent": 3}));
    assert_eq!(send(&device, order.run, &[newer]).acknowledged, 1);
}
