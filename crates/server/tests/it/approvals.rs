//! A second administrator for what writes over many disks: nothing happens before somebody else has said yes.

use client::{Client, ClientError};
use serde_json::{Value, json};
use wire::admin_api::{Deployment, Login, Token};
use wire::deployments::{
    Approval, ApproveRequest, Awaited, CapRequest, DeclineRequest, DeploymentStatus, ResumeRequest,
};
use wire::device_api::CheckInReply;
use wire::names::DeploymentName;
use wire::people::{NewUser, Role};
use wire::reasons::MemberReason;

use crate::admin::refusal;
use crate::harness::{Machine, PASSWORD, Site, event, good_run, send};

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
    let new = NewUser {
        name: "kari".into(),
        role: Role::Admin,
        site: String::new(),
        prestages: vec![],
    };
    let made = site.admin.create_user(&new).unwrap();
    let login = Login {
        user: new.name,
        password: made.one_time_password,
        token_name: "test".into(),
        new_password: Some(PASSWORD.into()),
    };
    let anyone = site.server.anyone();
    let token: Token = anyone.send("POST", "/api/v1/login", &login).unwrap();
    anyone.with_token(&token.token)
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
    let raise = |cap: u32| {
        let confirm = format!("autumn {cap}");
        site.admin
            .change_cap(&autumn(), &CapRequest { cap, confirm })
            .unwrap()
    };
    assert_eq!(raise(2).cap, 2);
    let asked = raise(4);
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
    let failed = json!({"kind": "run-failed", "path": "os", "errors": ["no space"]});
    let mut runs = Vec::new();
    for serial in ["PF1", "PF2", "PF3"] {
        let machine = Machine::new(serial);
        let (device, order) = machine.order(&site);
        let mut events = good_run(order.run);
        events.truncate(3);
        events.push(event(order.run, 4, failed.clone()));
        send(&device, order.run, &events);
        runs.push(order.run);
    }
    let acted = site.admin.retry_failed(&autumn()).unwrap();
    assert_eq!(acted.done, 0);
    assert_eq!(acted.left[0].said, Some(MemberReason::AwaitsApproval));
    let states = || {
        let rows = site.admin.runs().unwrap();
        let mut states: Vec<String> = rows.iter().map(|row| format!("{:?}", row.state)).collect();
        states.sort();
        states
    };
    assert_eq!(states(), ["Failed"; 3]);
    let status = approved(&site, &kari);
    assert_eq!((status.approval, status.failed), (None, vec![]));
    assert_ne!(states(), ["Failed"; 3]);
}
