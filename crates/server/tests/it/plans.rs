//! Run plans: what is foretold is what is ordered.

use serde_json::json;
use wire::admin_api::RunRow;
use wire::device_api::Staged;
use wire::device_plan::{DevicePlan, PlanDevices, PlanReply, PlanRequest, PlanWhat};
use wire::digest::Digest;
use wire::drift::PrestageId;
use wire::package::PackageKind;
use wire::run_plan::Decision;
use wire::variables::{VariableChange, VariableOrigin, VariableScope};

use crate::admin::refusal;
use crate::harness::{Machine, SEQUENCE, Site, event, good_run, send};

const IDENTITY: &str = "  - id: id\n    set-identity:\n      \
    hostname: \"{{ (site.code ~ '-' ~ room ~ '-' ~ serial | last(2)) | hostname }}\"\n";

fn site() -> Site {
    let site = Site::new();
    site.prepare(10);
    let text = SEQUENCE
        .replace("update: false\n", "update: false\n  room: none\n")
        .replace("  - id: boot\n", &format!("{IDENTITY}  - id: boot\n"));
    let name = "deploy".parse().unwrap();
    site.admin.put_sequence(&name, &text).unwrap();
    site.import(
        "serial;vendor;product;site;class\nPF01;Acme;Book 14;BJO;8B\nPF02;Acme;Book 14;BJO;9A\nQQ02;Acme;Book 14;BJO;9A\n",
    );
    site
}

fn request(what: PlanWhat, serials: &[&str]) -> PlanRequest {
    PlanRequest {
        what,
        devices: PlanDevices::Serials {
            serials: serials.iter().map(|serial| (*serial).to_owned()).collect(),
        },
        detailed: true,
    }
}

fn plan(site: &Site, serial: &str) -> DevicePlan {
    let reply = site.admin.plan_runs(&request(PlanWhat::Due, &[serial]));
    reply.unwrap().plans.remove(0)
}

fn decision(plan: &DevicePlan, path: &str) -> Decision {
    let steps = &plan.detail.as_ref().unwrap().run.steps;
    let step = steps.iter().find(|step| step.path.as_str() == path);
    step.unwrap().decision
}

fn staged(version: u32) -> Staged {
    Staged {
        prestage: "book".parse().unwrap(),
        version,
        bundle: Digest::of(b"root"),
    }
}

#[test]
fn an_asset_is_planned_before_and_after_it_was_seen() {
    let site = site();
    let name = site.define_prestage();
    site.admin.build_prestage(&name).unwrap();
    site.receipt("PF01", 1, "staged");
    site.publish_tree("java", "18", PackageKind::Application, b"java 18");
    let change = VariableChange {
        scope: VariableScope::Class,
        name: "8B".into(),
        set: [("room".to_owned(), json!(112))].into(),
        unset: vec![],
    };
    site.admin.change_variables(&change).unwrap();

    let before = plan(&site, "pf01");
    assert!(!before.is_seen);
    assert_eq!(before.deployment, Some("autumn".parse().unwrap()));
    assert_eq!(before.host_name.as_deref(), Some("bjo-112-01"));
    assert_eq!(
        before.staged.as_ref().map(PrestageId::to_string),
        Some("book@1".into())
    );
    assert_eq!(decision(&before, "java"), Decision::Runs);
    assert_eq!(decision(&before, "boot"), Decision::Skipped);
    let detail = before.detail.as_ref().unwrap();
    let room = detail.variables.iter().find(|v| v.key == "room").unwrap();
    let origin = VariableOrigin::Scope {
        scope: VariableScope::Class,
        name: "8B".into(),
    };
    assert_eq!((&room.value, &room.origin), (&json!(112), &origin));
    let drift = site.admin.prestage_drift(&name, None).unwrap();
    let java = drift.versions[0]
        .packages
        .iter()
        .find(|row| row.fetch_bytes > 0)
        .unwrap();
    assert_eq!(
        before.fetch_bytes, java.fetch_bytes,
        "nothing but the new Java"
    );
    let content: Vec<(&str, bool)> = detail
        .packages
        .iter()
        .map(|row| (row.name.as_str(), row.fetch_bytes > 0))
        .collect();
    assert_eq!(content, [("debian", false), ("java", true)]);
    assert_eq!(detail.packages[1].staged, Some("17".parse().unwrap()));

    let mut machine = Machine::new("PF01");
    machine.staged = Some(staged(1));
    let (device, order) = machine.order(&site);
    let after = plan(&site, "PF01");
    assert!(after.is_seen);
    let seen: std::collections::BTreeMap<_, _> = after
        .detail
        .as_ref()
        .unwrap()
        .variables
        .iter()
        .map(|variable| (variable.key.clone(), variable.value.clone()))
        .collect();
    assert_eq!(seen, order.variables, "the plan sees what the order holds");
    assert_eq!(after.fetch_bytes, before.fetch_bytes);
    send(&device, order.run, &good_run(order.run));
    assert_eq!(
        plan(&site, "PF01").sequence,
        None,
        "it is done, nothing is due"
    );
    let rerun = format!("/api/v1/runs/{}/rerun", order.run);
    let again: RunRow = site
        .admin
        .send("POST", &rerun, &json!({ "confirm": "rerun PF01" }))
        .unwrap();
    assert!(plan(&site, "PF01").sequence.is_some(), "it runs once more");
    let failed = json!({"kind": "run-failed", "path": "os", "errors": ["x"]});
    let events = [good_run(again.run)[0].clone(), event(again.run, 2, failed)];
    send(&device, again.run, &events);
    assert!(
        plan(&site, "PF01").sequence.is_some(),
        "the latest run failed, so it is tried again"
    );
}

#[test]
fn a_fleet_is_planned_in_numbers() {
    let site = site();
    let ask = |what: PlanWhat, devices: PlanDevices| -> PlanReply {
        let request = PlanRequest {
            what,
            devices,
            detailed: false,
        };
        site.admin.plan_runs(&request).unwrap()
    };
    let members = || PlanDevices::Collection {
        name: "laptops".parse().unwrap(),
    };
    let reply = ask(PlanWhat::Due, members());
    assert_eq!((reply.plans.len(), reply.failing), (3, 0));
    assert!(
        reply
            .plans
            .iter()
            .all(|plan| plan.detail.is_none() && plan.staged.is_none())
    );
    assert_eq!(reply.clashes.len(), 1);
    assert_eq!(reply.clashes[0].serials, ["PF02", "QQ02"]);
    let by_class: Vec<(u32, u32)> = reply
        .plans
        .iter()
        .map(|plan| (plan.steps.runs + plan.steps.undecided, plan.steps.skipped))
        .collect();
    assert_eq!(by_class, [(5, 1), (4, 2), (4, 2)], "Java is for 8B alone");
    assert!(reply.plans[0].fetch_bytes > reply.plans[1].fetch_bytes);
    let sum: u64 = reply.plans.iter().map(|plan| plan.fetch_bytes).sum();
    assert_eq!((reply.fetch_bytes, sum > 0), (sum, true));

    // A document that isn't stored; its run fails on two of them.
    let text = SEQUENCE.replace(
        "  - id: boot\n",
        "  - id: name\n    when: class == '9A'\n    set-identity: { hostname: \"{{ site.none }}\" }\n  - id: boot\n",
    );
    let reply = ask(PlanWhat::Document { text }, PlanDevices::All);
    assert_eq!(reply.failing, 2);
    let problem = reply.plans[2].problem.as_ref().unwrap();
    assert!(problem.starts_with("step `name`: "), "{problem}");
    assert_eq!(
        site.admin.sequences().unwrap().len(),
        1,
        "nothing was stored"
    );
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let site = site();
    let refused =
        |what: PlanWhat, serials: &[&str]| refusal(site.admin.plan_runs(&request(what, serials)));
    let stored = |name: &str| PlanWhat::Sequence {
        name: name.parse().unwrap(),
    };
    assert_eq!(refused(stored("none"), &["PF01"]).0, 404);
    assert_eq!(refused(stored("deploy"), &["PF99"]).0, 404);
    let text = "sequence: x\nsteps:\n  - id: disk\n    format-dsik: {}\n".to_owned();
    assert_eq!(
        refused(PlanWhat::Document { text }, &["PF01"]),
        (422, "sequence-refused".into())
    );
    let many = ["PF01"; 101];
    assert_eq!(refused(stored("deploy"), &many).1, "too-many-devices");
    let nowhere = PlanRequest {
        what: PlanWhat::Due,
        devices: PlanDevices::Collection {
            name: "none".parse().unwrap(),
        },
        detailed: false,
    };
    assert_eq!(refusal(site.admin.plan_runs(&nowhere)).0, 404);
}

/// A long sequence on many assets. A few show that every number is right; with `FORESTAGE_FLEET=2500` and `--release` it
/// is the largest fleet, and says how long it took.
#[test]
fn many_assets_are_planned_with_a_long_sequence() {
    const STEPS: usize = 195;
    let fleet: u32 = std::env::var("FORESTAGE_FLEET").map_or(20, |text| text.parse().unwrap());
    let site = site();
    let mut csv = String::from("serial;vendor;product;site;class\n");
    for number in 0..fleet {
        csv.push_str(&format!(
            "XY{number:06};Acme;Book 14;S{};{}B\n",
            number % 80,
            number % 10
        ));
    }
    site.import(&csv);
    let mut text = SEQUENCE.replace("  - id: finish\n    finish: { action: restart }\n", "");
    for number in 0..STEPS {
        text.push_str(&format!(
            "  - id: step{number}\n    when: class == '{}B' and site.code != 'none'\n    run-script:\n      \
             interpreter: [/bin/sh]\n      script: exit 0\n      args: [\"{{{{ site.code ~ serial | last(4) | lower }}}}\"]\n",
            number % 10,
        ));
    }
    text.push_str("  - id: finish\n    finish: { action: restart }\n");
    let request = PlanRequest {
        what: PlanWhat::Document { text },
        devices: PlanDevices::All,
        detailed: false,
    };
    let begun = std::time::Instant::now();
    let reply = site.admin.plan_runs(&request).unwrap();
    eprintln!("{fleet} assets planned in {:.1?}", begun.elapsed());
    let plans: Vec<&DevicePlan> = reply
        .plans
        .iter()
        .filter(|plan| plan.serial.starts_with("XY"))
        .collect();
    assert_eq!(
        (plans.len(), reply.failing),
        (usize::try_from(fleet).unwrap(), 0)
    );
    for plan in plans {
        let digit: u32 = plan.class.trim_end_matches('B').parse().unwrap();
        let own = u32::try_from(STEPS).unwrap() / 10 + u32::from(digit < 5);
        // Disk, OS image and the end run on all; Java on 8B alone; the boot image is never renewed.
        assert_eq!(
            plan.steps.runs,
            3 + own + u32::from(digit == 8),
            "{}",
            plan.serial
        );
        assert_eq!(plan.steps.undecided + plan.steps.fails, 0);
    }
}
