//! A second administrator for what writes over many disks: nothing happens before somebody else has said yes.

use client::{Client, ClientError};
use serde_json::{Value, json};
use wire::admin_api::{CollectionChange, Deployment};
use wire::deployments::{
    Approval, ApproveRequest, Awaited, CapRequest, DeclineRequest, DeploymentStatus, DeviceList,
    ResumeRequest, StopRequest,
};
use wire::device_api::CheckInReply;
use wire::names::DeploymentName;
use wire::people::{NewToken, NewUser, Role};
use wire::reasons::MemberReason;

use crate::admin::refusal;
use crate::harness::{Machine, Site, event, good_run, send};

/// Two machines are one person's business.
const ABOVE: u32 = 2;

fn site(cap: u32, machines: u32) -> Site {
    let site = Site::with_second_person_above(ABOVE);
    site.prepare(cap);
    let rows: String = (1..=machines)
        .map(|number| format!("PF{number};8B;BJO\n"))
        .collect();
    site.import(&format!("serial;class;site\n{rows}"));
    site
}

fn autumn() -> DeploymentName {
    "autumn".parse().unwrap()
}

/// Another administrator, signed in.
fn another(site: &Site) -> Client {
    site.colleague("kari")
}

fn status(site: &Site) -> DeploymentStatus {
    site.admin.deployment_status(&autumn()).unwrap()
}

fn awaited(site: &Site) -> Option<Approval> {
    status(site).approval
}

fn approve(client: &Client, confirm: &str) -> Result<DeploymentStatus, ClientError> {
    let confirm = confirm.to_owned();
    client.approve_deployment(&autumn(), &ApproveRequest { confirm })
}

/// Approves with the words that the status tells.
fn approved(site: &Site, client: &Client) -> DeploymentStatus {
    approve(client, &awaited(site).unwrap().confirm).unwrap()
}

/// Machines that begin and fail.
fn fails(site: &Site, serials: &[&str]) {
    let failed = json!({"kind": "run-failed", "path": "os", "errors": ["no space"]});
    for serial in serials {
        let (device, order) = Machine::new(serial).order(site);
        let mut events = good_run(order.run);
        events.truncate(3);
        events.push(event(order.run, 4, failed.clone()));
        send(&device, order.run, &events);
    }
}

/// What the runs are, in no order.
fn states(site: &Site) -> Vec<String> {
    let rows = site.admin.runs().unwrap();
    let mut states: Vec<String> = rows.iter().map(|row| format!("{:?}", row.state)).collect();
    states.sort();
    states
}

/// The sequence writes over nothing from now on.
fn make_harmless(site: &Site) {
    let harmless = "sequence: deploy\nsteps:\n  - id: finish\n    finish: { action: restart }\n";
    let name = "deploy".parse().unwrap();
    site.admin.put_sequence(&name, harmless).unwrap();
}

fn raise(client: &Client, cap: u32) -> DeploymentStatus {
    let confirm = format!("autumn {cap}");
    client
        .change_cap(&autumn(), &CapRequest { cap, confirm })
        .unwrap()
}

fn decline(client: &Client) -> Result<DeploymentStatus, ClientError> {
    client.decline_deployment(&autumn(), &DeclineRequest::default())
}

fn gets_no_order(site: &Site, machine: &Machine) {
    let reply = machine.check_in(site);
    assert!(matches!(reply, CheckInReply::Idle { .. }), "{reply:?}");
}

/// What the audit has about approvals, oldest first: who, what.
fn audited(site: &Site) -> Vec<(String, String)> {
    let rows: Value = site.admin.get("/api/v1/audit").unwrap();
    let mut about: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["who"].as_str().unwrap(),
                row["action"].as_str().unwrap(),
            )
        })
        .filter(|(_, action)| action.starts_with("approval-"))
        .map(|(who, action)| (who.to_owned(), action.to_owned()))
        .collect();
    about.reverse();
    about
}

#[test]
fn what_one_person_decides_about_needs_nobody_else() {
    let site = site(ABOVE, 2);
    assert_eq!((status(&site).stopped, awaited(&site)), (false, None));
    Machine::new("PF1").order(&site);
}

#[test]
fn nobody_gets_an_order_until_somebody_else_has_approved() {
    let site = site(10, 4);
    let kari = another(&site);
    let machine = Machine::new("PF1");
    let asked = awaited(&site).unwrap();
    assert_eq!(
        (asked.what, asked.machines, asked.asked_by.as_str()),
        (Awaited::Resume, 10, "admin")
    );
    gets_no_order(&site, &machine);
    // Whoever asked can't say yes, neither so nor by resuming it.
    assert_eq!(
        refusal(approve(&site.admin, &asked.confirm)).1,
        "same-person"
    );
    let confirm = status(&site).confirm_resume.unwrap();
    let row = site
        .admin
        .resume_deployment(&autumn(), &ResumeRequest { confirm });
    assert!(row.unwrap().stopped);
    gets_no_order(&site, &machine);
    assert_eq!(refusal(approve(&kari, "autumn 3")).1, "not-confirmed");
    gets_no_order(&site, &machine);
    let status = approve(&kari, "autumn 4").unwrap();
    assert_eq!((status.stopped, status.approval), (false, None));
    machine.order(&site);
    assert_eq!(refusal(approve(&kari, "autumn 4")).1, "nothing-awaited");
    let told = |who: &str, action: &str| (who.to_owned(), action.to_owned());
    assert_eq!(
        audited(&site),
        [
            told("admin", "approval-requested"),
            told("admin", "approval-requested"),
            told("kari", "approval-given"),
        ]
    );
}

#[test]
fn what_is_declined_or_taken_back_stays_as_it_was() {
    let site = site(10, 4);
    let kari = another(&site);
    let reason = "after the exams".to_owned();
    kari.decline_deployment(&autumn(), &DeclineRequest { reason })
        .unwrap();
    assert_eq!((status(&site).stopped, awaited(&site)), (true, None));
    gets_no_order(&site, &Machine::new("PF1"));
    let confirm = status(&site).confirm_resume.unwrap();
    site.admin
        .resume_deployment(&autumn(), &ResumeRequest { confirm })
        .unwrap();
    site.admin
        .decline_deployment(&autumn(), &DeclineRequest::default())
        .unwrap();
    assert_eq!((status(&site).stopped, awaited(&site)), (true, None));
}

#[test]
fn a_higher_cap_counts_once_it_is_approved() {
    let machine = Machine::new("PF1");
    let site = site(1, 4);
    let kari = another(&site);
    assert_eq!(raise(&site.admin, 2).cap, 2);
    let asked = raise(&site.admin, 4);
    assert_eq!(
        (asked.cap, asked.approval.unwrap().what),
        (2, Awaited::RaiseCap)
    );
    gets_no_order(&site, &machine);
    assert_eq!(approved(&site, &kari).cap, 4);
    machine.order(&site);
}

#[test]
fn whoever_changes_what_awaits_approval_cannot_give_it() {
    let site = site(10, 4);
    let kari = another(&site);
    let mut changed: Deployment = site.admin.deployments().unwrap().remove(0);
    changed.cap = 20;
    kari.change_deployment(&changed, "autumn 20").unwrap();
    assert_eq!(awaited(&site).unwrap().asked_by, "kari");
    let confirm = awaited(&site).unwrap().confirm;
    assert_eq!(refusal(approve(&kari, &confirm)).1, "same-person");
    assert!(!approved(&site, &site.admin).stopped);
    // What reaches nobody else needs nobody else.
    changed.stopped = false;
    changed.slots = 3;
    site.change(&changed);
    assert_eq!((status(&site).stopped, awaited(&site)), (false, None));
    changed.cap = 30;
    let row = site.admin.change_deployment(&changed, "autumn 30").unwrap();
    assert!(row.stopped && awaited(&site).is_some());
}

#[test]
fn many_failed_runs_go_on_together_once_it_is_approved() {
    let site = site(10, 4);
    let kari = another(&site);
    approved(&site, &kari);
    fails(&site, &["PF1", "PF2", "PF3"]);
    let acted = site.admin.retry_failed(&autumn()).unwrap();
    assert_eq!(acted.done, 0);
    assert_eq!(acted.left[0].said, Some(MemberReason::AwaitsApproval));
    assert_eq!(states(&site), ["Failed"; 3]);
    let status = approved(&site, &kari);
    assert_eq!((status.approval, status.failed), (None, vec![]));
    assert_ne!(states(&site), ["Failed"; 3]);
}

#[test]
fn runs_that_go_on_are_counted_whatever_the_deployment_says_by_now() {
    for is_capped in [true, false] {
        let site = site(10, 4);
        let kari = another(&site);
        approved(&site, &kari);
        for serial in ["PF1", "PF2", "PF3"] {
            Machine::new(serial).order(&site);
        }
        site.admin
            .stop_deployment(&autumn(), &StopRequest::default())
            .unwrap();
        match is_capped {
            true => assert_eq!(raise(&site.admin, 1).cap, 1),
            false => make_harmless(&site),
        }
        site.resume(&autumn());
        let asked = awaited(&site).unwrap();
        assert_eq!(asked.what, Awaited::Resume, "capped: {is_capped}");
        assert!(status(&site).stopped && asked.machines >= 3);
        assert!(!approved(&site, &kari).stopped);
        assert_eq!(awaited(&site), None);
    }
}

#[test]
fn failed_runs_are_counted_whatever_the_sequence_says_by_now() {
    let site = site(10, 4);
    let kari = another(&site);
    approved(&site, &kari);
    fails(&site, &["PF1", "PF2", "PF3"]);
    make_harmless(&site);
    assert_eq!(site.admin.retry_failed(&autumn()).unwrap().done, 0);
    assert_eq!(states(&site), ["Failed"; 3]);
    assert_eq!(awaited(&site).unwrap().what, Awaited::RetryFailed);
}

#[test]
fn nobody_approves_with_an_account_they_have_just_made() {
    let site = site(10, 4);
    let confirm = awaited(&site).unwrap().confirm;
    let refused = |client: &Client| assert_eq!(refusal(approve(client, &confirm)).1, "same-person");
    let puppet = site.newcomer("puppet", Role::Admin, "");
    refused(&puppet);
    // Nor with one that it has made, or with one that was given another password.
    let new = NewUser {
        name: "second".into(),
        role: Role::Admin,
        site: String::new(),
        prestages: vec![],
    };
    let made = puppet.create_user(&new).unwrap();
    let password = "an island far out at sea";
    refused(&site.sign_in("second", &made.one_time_password, Some(password)));
    let kari = another(&site);
    let ola = site.colleague("ola");
    let reset = site.admin.reset_password("kari").unwrap();
    assert!(approve(&kari, &confirm).is_err());
    refused(&site.sign_in("kari", &reset.one_time_password, Some(password)));
    // Nor the other way round: the account asks, and whoever made it approves.
    let mut changed: Deployment = site.admin.deployments().unwrap().remove(0);
    changed.cap = 20;
    puppet.change_deployment(&changed, "autumn 20").unwrap();
    assert_eq!(awaited(&site).unwrap().asked_by, "puppet");
    let confirm = awaited(&site).unwrap().confirm;
    assert_eq!(refusal(approve(&site.admin, &confirm)).1, "same-person");
    // Who had no hand in it may, and so may who had one long ago.
    assert!(!approved(&site, &ola).stopped);
    changed.cap = 30;
    changed.stopped = false;
    site.change(&changed);
    site.run_sql("UPDATE audit SET at_ms = at_ms - 8 * 86400000 WHERE subject = 'puppet'");
    assert!(!approved(&site, &puppet).stopped);
}

#[test]
fn a_token_with_scopes_approves_nothing() {
    let site = site(10, 4);
    let kari = another(&site);
    let new = NewToken {
        title: "script".into(),
        scopes: vec!["view".into(), "deploy".into()],
        days: 1,
    };
    let made = kari.create_token(&new).unwrap();
    let script = site.server.anyone().with_token(&made.token);
    let confirm = awaited(&site).unwrap().confirm;
    assert_eq!(
        refusal(approve(&script, &confirm)),
        (403, "forbidden".to_owned())
    );
    assert!(status(&site).stopped);
}

#[test]
fn what_was_asked_of_another_collection_or_is_done_already_no_longer_awaits() {
    let site = site(ABOVE, 4);
    let kari = another(&site);
    let spring = CollectionChange {
        name: "spring".parse().unwrap(),
        title: None,
    };
    site.admin.put_collection(&spring).unwrap();
    assert!(raise(&site.admin, 4).awaits(Awaited::RaiseCap));
    let mut changed: Deployment = site.admin.deployments().unwrap().remove(0);
    changed.slots = 7;
    let change = |to: &Deployment| {
        let preview = kari.preview_deployment(to).unwrap();
        let confirm = preview.confirm.unwrap_or_default();
        kari.change_deployment(to, &confirm).unwrap();
    };
    change(&changed);
    assert!(status(&site).awaits(Awaited::RaiseCap));
    changed.collection = spring.name;
    change(&changed);
    assert_eq!(awaited(&site), None);
    // A raise that needs nobody is one, too.
    raise(&site.admin, 1);
    assert!(raise(&site.admin, 4).awaits(Awaited::RaiseCap));
    assert_eq!(raise(&kari, 2).approval, None);
    let told = |who: &str, action: &str| (who.to_owned(), action.to_owned());
    let once = [
        told("admin", "approval-requested"),
        told("kari", "approval-overtaken"),
    ];
    assert_eq!(audited(&site), [once.clone(), once].concat());
}

#[test]
fn whoever_looks_after_a_school_takes_back_what_they_asked_and_nothing_else() {
    let site = Site::with_second_person_above(ABOVE);
    site.prepare(ABOVE);
    site.import("serial;class;site\nPF1;8B;BJO\nPF2;8B;BJO\nPF3;8B;BJO\nPF4;8B;SKO\n");
    let kari = another(&site);
    raise(&site.admin, 10);
    approved(&site, &kari);
    fails(&site, &["PF1", "PF2", "PF3"]);
    let [ours, theirs] = ["BJO", "SKO"].map(|school| site.school_admin(school));
    assert_eq!(ours.retry_failed(&autumn()).unwrap().done, 0);
    // Others ask for other machines: it doesn't become theirs.
    assert_eq!(
        refusal(site.admin.retry_failed(&autumn())).1,
        "awaits-approval"
    );
    assert_eq!(refusal(decline(&theirs)), (403, "forbidden".to_owned()));
    assert_eq!(decline(&ours).unwrap().approval, None);
    // Few enough by now, of the same school: what was asked is done.
    ours.retry_failed(&autumn()).unwrap();
    let run = site.admin.runs().unwrap().remove(0).run;
    let path = format!("/api/v1/runs/{run}/retry");
    let _: Value = site.admin.send("POST", &path, &json!({})).unwrap();
    assert_eq!(ours.retry_failed(&autumn()).unwrap().done, 2);
    assert_eq!(awaited(&site), None);
}

#[test]
fn one_person_has_so_many_machines_begin_within_a_day() {
    let site = site(ABOVE, 3);
    let mut available: Deployment = site.admin.deployments().unwrap().remove(0);
    available.purpose = wire::admin_api::Purpose::Available;
    site.change(&available);
    let devices: Vec<_> = ["PF1", "PF2", "PF3"]
        .map(|serial| site.device(serial).device)
        .into();
    let start = |count: usize| {
        let list = DeviceList {
            devices: devices[..count].to_vec(),
            confirm: format!("autumn {count}"),
        };
        site.admin.start_deployment(&autumn(), &list)
    };
    assert_eq!(refusal(start(3)), (409, "too-many-devices".to_owned()));
    assert_eq!(start(2).unwrap().done, 2);
    // One by one they are as many.
    assert_eq!(refusal(start(1)), (409, "too-many-devices".to_owned()));
    fails(&site, &["PF1"]);
    let failed = site.admin.runs().unwrap();
    let failed = failed.iter().find(|run| run.serial == "PF1").unwrap();
    let path = format!("/api/v1/runs/{}/rerun", failed.run);
    let rerun = |client: &Client| {
        client.send::<_, Value>("POST", &path, &json!({ "confirm": "rerun PF1" }))
    };
    assert_eq!(
        refusal(rerun(&site.admin)),
        (409, "too-many-devices".to_owned())
    );
    rerun(&another(&site)).unwrap();
}
