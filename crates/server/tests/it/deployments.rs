//! Rules of collections, and a deployment from its preview to its end.

use serde_json::json;
use wire::admin_api::{CollectionChange, Deployment, DeviceState, MemberChange};
use wire::collections::{ExclusionChange, MemberWhy, RuleChange};
use wire::deployments::{CapRequest, DeviceList, ResumeRequest, Startable, StopRequest, Window};
use wire::device_api::CheckInReply;
use wire::names::RunId;
use wire::reasons::MemberReason;

use super::harness::{Machine, Site, event, good_run, send};

pub(crate) fn rule(text: &str, limit_to: &str) -> RuleChange {
    RuleChange {
        rule: Some(text.into()),
        limit_to: Some(limit_to.into()),
    }
}

#[test]
fn what_a_change_of_a_rule_leaves_out_stays() {
    let site = Site::new();
    site.prepare(10);
    collection(&site, "all");
    let laptops = "laptops".parse().unwrap();
    let put = |change: &RuleChange| {
        let preview = site.admin.put_collection_rule(&laptops, change).unwrap();
        (preview.rule.rule, preview.rule.limit_to)
    };
    let stored = |rule: &str, limit: &str| (rule.to_owned(), limit.to_owned());
    assert_eq!(
        put(&rule("class == '8B'", "all")),
        stored("class == '8B'", "all")
    );
    let another = RuleChange {
        rule: Some("class == '9A'".into()),
        limit_to: None,
    };
    let tried = site.admin.collection_preview(&laptops, Some(&another), 10);
    assert_eq!(tried.unwrap().rule.limit_to, "all");
    assert_eq!(put(&another), stored("class == '9A'", "all"));
    let no_limit = RuleChange {
        rule: None,
        limit_to: Some(String::new()),
    };
    assert_eq!(put(&no_limit), stored("class == '9A'", ""));
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

pub(crate) fn collection(site: &Site, name: &str) {
    let change = CollectionChange {
        name: name.parse().unwrap(),
        title: None,
    };
    site.admin.put_collection(&change).unwrap();
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
    let deployment = "autumn".to_owned();
    let said = Some(MemberReason::DoneBy { deployment });
    assert_eq!(preview.devices[0].said, said);
    assert!(matches!(machine.check_in(&site), CheckInReply::Idle { .. }));
    let rerun = format!("/api/v1/runs/{}/rerun", order.run);
    let asked = |confirm: &str| -> Result<serde_json::Value, _> {
        site.admin
            .send("POST", &rerun, &json!({ "confirm": confirm }))
    };
    assert!(refusal(asked("rerun PF2")).contains("type exactly: rerun PF1"));
    let detail = site.admin.run(order.run).unwrap();
    asked(&detail.confirm_rerun.unwrap()).unwrap();
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
            .create_deployment(&deployment, typed)
            .unwrap_err();
        assert!(error.to_string().contains("confirm"), "{error}");
    }
    assert_eq!(site.admin.deployments().unwrap().len(), 1);
    site.admin
        .create_deployment(&deployment, "winter 2")
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
    assert_eq!(site.device("PF1").state, DeviceState::Stopped);
    let status = site.admin.deployment_status(&name).unwrap();
    assert_eq!((status.failed.len(), status.states["stopped"]), (0, 1));
    let runs = |state: &str| -> usize {
        let path = format!("/api/v1/runs?state={state}");
        site.admin
            .get::<Vec<serde_json::Value>>(&path)
            .unwrap()
            .len()
    };
    assert_eq!((runs("stopped"), runs("failed")), (1, 0));
    let told: wire::insights::Insights = site.admin.get("/api/v1/insights").unwrap();
    assert_eq!((told.runs, told.stopped, told.failures.len()), (1, 1, 0));
    assert_eq!(told.days.iter().map(|day| day.failed).sum::<u64>(), 0);
    site.resume(&name);
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
    let (machine, _) = failed(&site, "PF1");
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
    site.change(&available);
    let machine = Machine::new("PF1");
    assert!(told(machine.check_in(&site)).contains("available"));
    let devices = DeviceList {
        devices: vec![site.device("PF1").device],
        ..DeviceList::default()
    };
    let startable = |site: &Site| -> Vec<Startable> {
        let path = format!("/api/v1/devices/{}/startable", site.device("PF1").device);
        site.admin.get(&path).unwrap()
    };
    let as_it_is = Startable {
        name: available.name.clone(),
        confirm: Some("autumn 1".into()),
    };
    assert_eq!(startable(&site), [as_it_is]);
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
    assert_eq!(again.left[0].said, Some(MemberReason::AnotherRun));
    assert_eq!(startable(&site), []);
    machine.order(&site);
    let later = Deployment {
        purpose: wire::admin_api::Purpose::Required,
        window: Some(Window {
            starts_at_ms: Some(4_102_444_800_000),
            ..Window::default()
        }),
        ..available
    };
    site.change(&later);
    assert!(told(Machine::new("PF2").check_in(&site)).contains("begins 2100-01-01"));
}

/// What was refused, as its code or the words of the message.
fn refusal<T: std::fmt::Debug>(answer: Result<T, client::ClientError>) -> String {
    format!("{:?}", answer.unwrap_err())
}

fn resume_with(confirm: &str) -> ResumeRequest {
    ResumeRequest {
        confirm: confirm.into(),
    }
}

#[test]
fn what_wipes_is_typed_at_each_moment_that_makes_it_able_to() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;klasse\nPF1;1STA\nPF2;1STA\n");
    let name = "winter".parse().unwrap();
    let winter = Deployment {
        name: "winter".parse().unwrap(),
        stopped: true,
        ..autumn(&site)
    };
    // Stopped, it does nothing; a change that would have it begin is none.
    site.admin.create_deployment(&winter, "").unwrap();
    let going = Deployment {
        stopped: false,
        ..winter.clone()
    };
    let stored = site.admin.change_deployment(&going, "winter 2").unwrap();
    assert!(stored.stopped);
    assert!(
        refusal(site.admin.resume_deployment(&name, &resume_with(""))).contains("not-confirmed")
    );
    assert!(
        refusal(
            site.admin
                .resume_deployment(&name, &resume_with("winter 1"))
        )
        .contains("winter 2")
    );
    let status = site.admin.deployment_status(&name).unwrap();
    assert_eq!((status.stopped, status.wipes), (true, true));
    assert_eq!(status.confirm_resume.as_deref(), Some("winter 2"));
    assert!(
        !site
            .admin
            .resume_deployment(&name, &resume_with("winter 2"))
            .unwrap()
            .stopped
    );
    // A larger cap and another collection are typed as well, a cap also where nothing else would be.
    let larger = Deployment {
        cap: 11,
        ..going.clone()
    };
    assert!(refusal(site.admin.change_deployment(&larger, "winter 2")).contains("winter 11"));
    site.admin.change_deployment(&larger, "winter 11").unwrap();
    collection(&site, "empty");
    let elsewhere = Deployment {
        collection: "empty".parse().unwrap(),
        ..larger
    };
    assert!(refusal(site.admin.change_deployment(&elsewhere, "winter 2")).contains("winter 11"));
    site.admin
        .stop_deployment(&name, &StopRequest::default())
        .unwrap();
    let larger = Deployment { cap: 12, ..going };
    assert!(refusal(site.admin.change_deployment(&larger, "")).contains("winter 12"));
}

#[test]
fn nobody_is_in_the_collection_yet_and_the_cap_is_typed() {
    let site = Site::new();
    site.prepare(10);
    let winter = Deployment {
        name: "winter".parse().unwrap(),
        cap: 7,
        ..autumn(&site)
    };
    assert!(refusal(site.admin.create_deployment(&winter, "")).contains("winter 7"));
    site.admin.create_deployment(&winter, "winter 7").unwrap();
}

#[test]
fn a_sequence_does_not_begin_to_wipe_under_a_deployment() {
    let site = Site::new();
    site.prepare(10);
    let sequence = "tame".parse().unwrap();
    let tame = "sequence: tame\nsteps:\n  - id: finish\n    finish: { action: restart }\n";
    site.admin.put_sequence(&sequence, tame).unwrap();
    let winter = Deployment {
        name: "winter".parse().unwrap(),
        sequence: sequence.clone(),
        ..autumn(&site)
    };
    site.admin.create_deployment(&winter, "").unwrap();
    let wild = super::harness::SEQUENCE;
    assert!(refusal(site.admin.put_sequence(&sequence, wild)).contains("write over disks"));
    let name = winter.name;
    site.admin
        .stop_deployment(&name, &StopRequest::default())
        .unwrap();
    site.admin.put_sequence(&sequence, wild).unwrap();
    assert!(refusal(site.admin.resume_deployment(&name, &resume_with(""))).contains("winter 10"));
}

#[test]
fn a_name_that_is_taken_is_not_written_over() {
    let site = Site::new();
    site.prepare(10);
    let again = Deployment {
        cap: 3,
        ..autumn(&site)
    };
    assert!(refusal(site.admin.create_deployment(&again, "autumn 3")).contains("name-taken"));
    assert_eq!(autumn(&site).cap, 10);
    site.change(&again);
    assert_eq!(autumn(&site).cap, 3);
    let unknown = Deployment {
        name: "winter".parse().unwrap(),
        ..again
    };
    assert!(refusal(site.admin.change_deployment(&unknown, "winter 3")).contains("winter"));
    assert_eq!(site.admin.deployments().unwrap().len(), 1);
}

/// A machine whose run failed at its first step.
fn failed(site: &Site, serial: &str) -> (Machine, RunId) {
    let machine = Machine::new(serial);
    let (client, order) = machine.order(site);
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
    (machine, order.run)
}

#[test]
fn what_was_stopped_or_cancelled_goes_on_only_when_that_is_taken_back() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial\nPF1\n");
    let name = "autumn".parse().unwrap();
    let (machine, run) = failed(&site, "PF1");
    let ask = |what: &str| -> Result<serde_json::Value, _> {
        let path = format!("/api/v1/runs/{run}/{what}");
        site.admin
            .send("POST", &path, &json!({ "confirm": "rerun PF1" }))
    };
    site.admin
        .stop_deployment(&name, &StopRequest::default())
        .unwrap();
    for what in ["retry", "rerun"] {
        assert!(refusal(ask(what)).contains("deployment-stopped"), "{what}");
    }
    assert!(refusal(site.admin.retry_failed(&name)).contains("deployment-stopped"));
    told(machine.check_in(&site));
    let one = DeviceList {
        devices: vec![site.device("PF1").device],
        ..DeviceList::default()
    };
    site.admin.cancel_deployment(&name, &one).unwrap();
    site.resume(&name);
    for what in ["retry", "rerun"] {
        assert!(
            refusal(ask(what)).contains("deployment-cancelled"),
            "{what}"
        );
    }
    let left = site.admin.retry_failed(&name).unwrap();
    assert_eq!((left.done, left.left[0].devices), (0, 1));
    assert!(told(machine.check_in(&site)).contains("cancelled for this device"));
    let status = site.admin.deployment_status(&name).unwrap();
    assert_eq!(
        (
            status.cancelled[0].serial.as_str(),
            status.cancelled[0].who.as_str()
        ),
        ("PF1", "admin")
    );
    // It writes over the disk, so that letting it is typed.
    assert!(refusal(site.admin.uncancel_deployment(&name, &one)).contains("autumn 1"));
    let typed = DeviceList {
        confirm: "autumn 1".into(),
        ..one
    };
    assert_eq!(
        site.admin.uncancel_deployment(&name, &typed).unwrap().done,
        1
    );
    let again = site.admin.uncancel_deployment(&name, &typed).unwrap();
    assert_eq!((again.done, again.left[0].devices), (0, 1));
    assert_eq!(site.admin.deployment_status(&name).unwrap().cancelled, []);
    let seen = site.admin.run(run).unwrap().row.last_seen_at_ms;
    let now = || jiff::Timestamp::now().as_millisecond();
    while now() <= seen {
        std::thread::yield_now();
    }
    let asked_at = now();
    ask("retry").unwrap();
    // Its machine may be off: it has as long to ask as any other before it counts as stalled.
    assert!(site.admin.run(run).unwrap().row.last_seen_at_ms >= asked_at);
    assert!(matches!(
        machine.check_in(&site),
        CheckInReply::Run { go_on: true, .. }
    ));
}

#[test]
fn a_run_that_was_stopped_with_its_deployment_and_then_cancelled_stays_stopped() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial\nPF1\nPF2\n");
    let name = "autumn".parse().unwrap();
    let machine = Machine::new("PF1");
    let (client, order) = machine.order(&site);
    site.admin
        .stop_deployment(&name, &StopRequest::default())
        .unwrap();
    let aborted = [
        event(
            order.run,
            1,
            json!({"kind": "run-started", "sequence": "deploy", "steps": []}),
        ),
        event(
            order.run,
            2,
            json!({"kind": "run-aborted", "reason": "an administrator"}),
        ),
    ];
    send(&client, order.run, &aborted);
    let confirm = || site.admin.deployment_status(&name).unwrap().confirm_resume;
    assert_eq!(confirm().as_deref(), Some("autumn 2"));
    let one = DeviceList {
        devices: vec![site.device("PF1").device],
        ..DeviceList::default()
    };
    site.admin.cancel_deployment(&name, &one).unwrap();
    assert_eq!(confirm().as_deref(), Some("autumn 1"));
    site.resume(&name);
    assert!(told(machine.check_in(&site)).contains("cancelled for this device"));
}

#[test]
fn nothing_is_started_that_is_required_cancelled_or_out_of_its_window() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial\nPF1\n");
    let devices = DeviceList {
        devices: vec![site.device("PF1").device],
        confirm: "autumn 1".into(),
    };
    let required = autumn(&site);
    assert!(
        refusal(site.admin.start_deployment(&required.name, &devices)).contains("not-available")
    );
    let reason = |window: Option<Window>| {
        site.change(&Deployment {
            purpose: wire::admin_api::Purpose::Available,
            window,
            ..autumn(&site)
        });
        let acted = site
            .admin
            .start_deployment(&required.name, &devices)
            .unwrap();
        (
            acted.done,
            acted.left.first().map(|left| left.reason.clone()),
        )
    };
    let ended = Window {
        ends_at_ms: Some(1_000),
        ..Window::default()
    };
    let later = Window {
        starts_at_ms: Some(4_102_444_800_000),
        ..Window::default()
    };
    assert_eq!(reason(Some(ended)), (0, Some("the window is over".into())));
    assert_eq!(
        reason(Some(later)),
        (0, Some("the window isn't open yet".into()))
    );
    site.admin
        .cancel_deployment(&required.name, &devices)
        .unwrap();
    assert_eq!(reason(None), (0, Some("cancelled for this device".into())));
    site.admin
        .uncancel_deployment(&required.name, &devices)
        .unwrap();
    assert_eq!(reason(None), (1, None));
}

#[test]
fn a_cap_that_is_reached_stands_in_the_audit_once() {
    let site = Site::new();
    site.prepare(1);
    site.import("serial\nPF1\nPF2\n");
    let rows = || {
        let path = "/api/v1/audit?action=cap-reached";
        let rows: Vec<serde_json::Value> = site.admin.get(path).unwrap();
        rows.len()
    };
    let machines = [Machine::new("PF1"), Machine::new("PF2")];
    for machine in machines.iter().cycle().take(6) {
        told(machine.check_in(&site));
    }
    assert_eq!(rows(), 1);
    // What was changed is told of anew.
    site.change(&Deployment {
        expected_seconds: 60,
        ..autumn(&site)
    });
    told(machines[0].check_in(&site));
    assert_eq!(rows(), 2);
}
