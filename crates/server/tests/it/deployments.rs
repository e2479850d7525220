//! Rules of collections, and a deployment from its preview to its end.

use serde_json::json;
use wire::admin_api::{CollectionRow, Deployment, DeviceState, MemberChange};
use wire::collections::{CollectionRule, ExclusionChange, MemberWhy};
use wire::deployments::{CapRequest, DeviceList, StopRequest, Window};
use wire::device_api::CheckInReply;

use super::harness::{Machine, Site, event, good_run, send};

fn rule(text: &str, limit_to: &str) -> CollectionRule {
    CollectionRule {
        rule: text.into(),
        limit_to: limit_to.into(),
    }
}

fn autumn(site: &Site) -> Deployment {
    let mut all = site.admin.deployments().unwrap();
    all.remove(0)
}

/// What a machine with nothing to do is told.
fn told(reply: CheckInReply) -> String {
    match reply {
        CheckInReply::Idle { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

fn collection(site: &Site, name: &str) {
    let row = CollectionRow {
        name: name.parse().unwrap(),
        title: String::new(),
        members: 0,
    };
    site.admin.put_collection(&row).unwrap();
}

#[test]
fn a_rule_brings_devices_in_and_says_why() {
    let site = Site::new();
    site.prepare(10);
    collection(&site, "all");
    site.admin
        .import_assets(
            "serial;skolekode;klasse\nPF1;BJØ;1STA\nPF2;BJØ;2STA\nPF3;ALT;1STB\nPF4;ALT;1STB\n"
                .as_bytes(),
            None,
            false,
        )
        .unwrap();
    let all = "all".parse().unwrap();
    let laptops = "laptops".parse().unwrap();
    site.admin
        .put_collection_rule(&all, &rule("site.code in ['BJØ', 'ALT']", ""))
        .unwrap();
    let preview = site
        .admin
        .put_collection_rule(
            &laptops,
            &rule("class is startingwith('1') and state == 'imported'", "all"),
        )
        .unwrap();
    assert_eq!((preview.members, preview.by_rule), (3, 3));
    assert_eq!(site.device("PF1").collections.len(), 2);
    assert_eq!(site.device("PF2").collections.len(), 1);
    // A preview changes nothing.
    let other = site
        .admin
        .collection_preview(
            &laptops,
            Some(&rule("facts.tpm and class == '1STA'", "")),
            10,
        )
        .unwrap();
    assert_eq!((other.members, other.undecided), (0, 4));
    let exclude = ExclusionChange {
        exclude: vec![site.device("PF3").device],
        reason: "in repair".into(),
        ..ExclusionChange::default()
    };
    let preview = site.admin.change_exclusions(&laptops, &exclude).unwrap();
    assert_eq!((preview.members, preview.excluded), (2, 1));
    let out = preview.devices.iter().find(|one| !one.is_in).unwrap();
    assert_eq!((out.serial.as_str(), out.why), ("PF3", MemberWhy::Excluded));
    assert!(out.reason.contains("in repair"));
    // Whoever puts it in by hand means it.
    let add = MemberChange {
        add: vec![site.device("PF3").device, site.device("PF2").device],
        ..MemberChange::default()
    };
    assert_eq!(
        site.admin.change_members(&laptops, &add).unwrap().members,
        4
    );
    site.admin
        .put_collection_rule(&all, &rule("site.code == 'ALT'", ""))
        .unwrap();
    let limited = site.admin.collection_preview(&laptops, None, 10).unwrap();
    assert_eq!((limited.members, limited.limited), (2, 2));
}

#[test]
fn a_wrong_rule_says_where_it_is_wrong() {
    let site = Site::new();
    site.prepare(10);
    collection(&site, "all");
    let (all, laptops) = ("all".parse().unwrap(), "laptops".parse().unwrap());
    let check = |text: &str, limit: &str| {
        let error = site
            .admin
            .put_collection_rule(&laptops, &rule(text, limit))
            .unwrap_err();
        error.to_string()
    };
    assert!(check("site.code = 'BJØ'", "").contains("column 11"));
    assert!(check("klass == '1STA'", "").contains("nothing is called `klass`"));
    assert!(check("class | uppr == '1STA'", "").contains("column 9"));
    assert!(check("class == '1STA'", "none-such").contains("collection none-such"));
    site.admin
        .put_collection_rule(&all, &rule("", "laptops"))
        .unwrap();
    assert!(check("class == '1STA'", "all").contains("go round"));
}

#[test]
fn a_machine_that_a_rule_brought_in_leaves_when_it_is_done_and_comes_back_for_a_rerun() {
    let site = Site::new();
    site.prepare(10);
    site.admin
        .import_assets(b"serial;klasse\nPF1;1STA\n", None, false)
        .unwrap();
    let laptops = "laptops".parse().unwrap();
    site.admin
        .put_collection_rule(&laptops, &rule("class == '1STA'", ""))
        .unwrap();
    let machine = Machine::new("PF1");
    let (client, order) = machine.order(&site);
    send(&client, order.run, &good_run(order.run));
    assert_eq!(site.device("PF1").collections, []);
    let preview = site.admin.collection_preview(&laptops, None, 10).unwrap();
    assert_eq!(preview.devices[0].reason, "done by deployment autumn");
    assert!(matches!(machine.check_in(&site), CheckInReply::Idle { .. }));
    let rerun = format!("/api/v1/runs/{}/rerun", order.run);
    let _row: serde_json::Value = site.admin.send("POST", &rerun, &()).unwrap();
    let (_, again) = machine.order(&site);
    assert_ne!(again.run, order.run);
    assert_eq!(site.device("PF1").collections, [laptops]);
}

#[test]
fn what_writes_over_disks_is_confirmed_by_name_and_number() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;klasse\nPF1;1STA\nPF2;1STA\n");
    let deployment = Deployment {
        name: "winter".parse().unwrap(),
        leave_collection_on_success: false,
        ..autumn(&site)
    };
    let preview = site.admin.preview_deployment(&deployment).unwrap();
    assert_eq!((preview.members, preview.due, preview.wipes), (2, 2, true));
    assert_eq!(preview.wiping_steps, ["disk", "os"]);
    assert!(
        preview
            .warnings
            .iter()
            .any(|text| text.contains("stay in the collection"))
    );
    assert!(
        preview
            .warnings
            .iter()
            .any(|text| text.contains("no prestage"))
    );
    assert_eq!(preview.confirm.as_deref(), Some("winter 2"));
    for typed in ["", "winter", "winter 3", "autumn 2"] {
        let error = site
            .admin
            .put_confirmed_deployment(&deployment, typed)
            .unwrap_err();
        assert!(error.to_string().contains("confirm"), "{error}");
    }
    assert_eq!(site.admin.deployments().unwrap().len(), 1);
    site.admin
        .put_confirmed_deployment(&deployment, "winter 2")
        .unwrap();
    assert_eq!(site.admin.deployments().unwrap().len(), 2);
}

#[test]
fn nobody_begins_when_the_collection_is_larger_than_the_cap() {
    let site = Site::new();
    site.prepare(2);
    site.import("serial\nPF1\nPF2\n");
    let two = Machine::new("PF2");
    let (client, order) = Machine::new("PF1").order(&site);
    send(&client, order.run, &good_run(order.run));
    // Now two of three would be touched, which is more than meant.
    site.import("serial\nPF3\n");
    let name = "autumn".parse().unwrap();
    let message = told(two.check_in(&site));
    assert!(
        message.contains("would touch 3") && message.contains("cap is 2"),
        "{message}"
    );
    let status = site.admin.deployment_status(&name).unwrap();
    assert!(status.asks_for_cap);
    assert_eq!((status.touched, status.reach, status.due), (1, 3, 2));
    let raise = |confirm: &str| {
        let request = CapRequest {
            cap: 3,
            confirm: confirm.into(),
        };
        site.admin.change_cap(&name, &request)
    };
    assert!(raise("yes").is_err());
    assert!(!raise(&status.confirm_cap.unwrap()).unwrap().asks_for_cap);
    two.order(&site);
}

#[test]
fn a_stop_acts_at_once_and_a_resume_goes_on() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial\nPF1\nPF2\n");
    let name = "autumn".parse().unwrap();
    let machine = Machine::new("PF1");
    let two = Machine::new("PF2");
    let (client, order) = machine.order(&site);
    let begin = event(
        order.run,
        1,
        json!({"kind": "run-started", "sequence": "deploy", "steps": []}),
    );
    assert!(!send(&client, order.run, std::slice::from_ref(&begin)).stop);
    let finish = StopRequest {
        let_running_finish: true,
    };
    site.admin.stop_deployment(&name, &finish).unwrap();
    assert!(!send(&client, order.run, &[]).stop);
    told(two.check_in(&site));
    site.admin
        .stop_deployment(&name, &StopRequest::default())
        .unwrap();
    assert!(send(&client, order.run, &[]).stop);
    let aborted = event(
        order.run,
        2,
        json!({"kind": "run-aborted", "reason": "an administrator"}),
    );
    send(&client, order.run, &[aborted]);
    assert_eq!(site.device("PF1").state, DeviceState::Failed);
    site.admin.resume_deployment(&name).unwrap();
    match machine.check_in(&site) {
        CheckInReply::Run {
            order: same,
            go_on,
            stop,
            ..
        } => {
            assert_eq!((same.run, go_on, stop), (order.run, true, false));
        }
        other => panic!("{other:?}"),
    }
    two.order(&site);
}

#[test]
fn one_device_is_cancelled_and_failed_ones_are_retried() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial\nPF1\nPF2\n");
    let name = "autumn".parse().unwrap();
    let devices = DeviceList {
        devices: vec![site.device("PF2").device],
        ..DeviceList::default()
    };
    assert_eq!(
        site.admin.cancel_deployment(&name, &devices).unwrap().done,
        1
    );
    assert!(told(Machine::new("PF2").check_in(&site)).contains("cancelled for this device"));
    let machine = Machine::new("PF1");
    let (client, order) = machine.order(&site);
    let steps = json!([{"path": "os", "title": "OS", "kind": "apply-image"}]);
    let events = [
        event(
            order.run,
            1,
            json!({"kind": "run-started", "sequence": "deploy", "steps": steps}),
        ),
        event(
            order.run,
            2,
            json!({"kind": "run-failed", "path": "os", "errors": ["no disk"]}),
        ),
    ];
    send(&client, order.run, &events);
    let status = site.admin.deployment_status(&name).unwrap();
    assert_eq!((status.failed.len(), status.due), (1, 0));
    assert_eq!(status.failed[0].error, "no disk");
    assert_eq!(site.admin.retry_failed(&name).unwrap().done, 1);
    assert!(matches!(
        machine.check_in(&site),
        CheckInReply::Run { go_on: true, .. }
    ));
}

#[test]
fn an_available_deployment_begins_when_it_is_started_and_a_window_is_kept() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial\nPF1\nPF2\n");
    let available = Deployment {
        purpose: wire::admin_api::Purpose::Available,
        ..autumn(&site)
    };
    site.admin.put_deployment(&available).unwrap();
    let machine = Machine::new("PF1");
    assert!(told(machine.check_in(&site)).contains("available"));
    let devices = DeviceList {
        devices: vec![site.device("PF1").device],
        ..DeviceList::default()
    };
    // It writes over the disk: nothing begins before someone has typed what it does.
    let unconfirmed = site.admin.start_deployment(&available.name, &devices);
    assert!(unconfirmed.is_err());
    assert!(told(machine.check_in(&site)).contains("available"));
    let devices = DeviceList {
        confirm: "autumn 1".into(),
        ..devices
    };
    assert_eq!(
        site.admin
            .start_deployment(&available.name, &devices)
            .unwrap()
            .done,
        1
    );
    let again = site
        .admin
        .start_deployment(&available.name, &devices)
        .unwrap();
    assert_eq!(
        (again.done, again.left[0].reason.as_str()),
        (0, "another run has not ended")
    );
    machine.order(&site);
    let later = Deployment {
        purpose: wire::admin_api::Purpose::Required,
        window: Some(Window {
            starts_at_ms: Some(4_102_444_800_000),
            ..Window::default()
        }),
        ..available
    };
    let preview = site.admin.preview_deployment(&later).unwrap();
    site.admin
        .put_confirmed_deployment(&later, &preview.confirm.unwrap_or_default())
        .unwrap();
    assert!(told(Machine::new("PF2").check_in(&site)).contains("begins 2100-01-01"));
}
