//! Quarantine: who waits there, why, and what a decision does when the machine asks again.

use wire::admin_api::DeviceState;
use wire::device_api::CheckInReply;
use wire::quarantine::{Decide, Decision, QuarantineReason, QuarantineRow};

use crate::admin::refusal;
use crate::harness::{Machine, Site};

fn site() -> Site {
    let site = Site::new();
    site.prepare(100);
    site.import("serial;asset tag;class;site\nPF1;T1;8B;BJO\nPF2;T2;8B;BJO\n");
    site
}

fn waiting(site: &Site, serial: &str) -> QuarantineRow {
    let rows = site.admin.quarantine().unwrap();
    rows.into_iter()
        .find(|row| row.serial == serial)
        .unwrap_or_else(|| panic!("{serial} isn't in quarantine"))
}

fn decide(
    site: &Site,
    row: &QuarantineRow,
    decision: Decision,
) -> Result<Vec<QuarantineRow>, client::ClientError> {
    let machines = vec![row.machine.clone()];
    site.admin.decide(&Decide { machines, decision })
}

fn is_quarantined(reply: &CheckInReply) -> bool {
    matches!(reply, CheckInReply::Quarantined { .. })
}

#[test]
fn a_machine_with_a_blank_mainboard_becomes_the_asset_it_is_said_to_be() {
    let site = site();
    let mut machine = Machine::new("Default string");
    machine.facts.asset_tag = "T1".into();
    assert!(is_quarantined(&machine.check_in(&site)));
    let row = waiting(&site, "Default string");
    assert_eq!(
        (row.reason, row.candidates.len()),
        (QuarantineReason::Unknown, 1)
    );
    assert_eq!(
        (row.candidates[0].serial.as_str(), row.candidates[0].score),
        ("PF1", 1)
    );
    let decided = decide(&site, &row, Decision::IsAsset { asset: None }).unwrap();
    assert_eq!(decided[0].decision.as_ref().unwrap().by, "admin");
    assert_eq!(site.device("PF1").state, DeviceState::Imported);
    machine.order(&site);
    assert_eq!(site.device("PF1").state, DeviceState::Running);
    // It holds for the next check-in, and for no machine of another name.
    machine.order(&site);
    machine.facts.serial = "PF2".into();
    assert!(is_quarantined(&machine.check_in(&site)));
    assert_eq!(waiting(&site, "PF2").reason, QuarantineReason::MovedKey);
}

#[test]
fn a_second_claimant_waits_until_the_key_is_replaced() {
    let site = site();
    let first = Machine::new("PF1");
    first.order(&site);
    let second = Machine::new("PF1");
    assert!(matches!(
        second.check_in(&site),
        CheckInReply::Refused { .. }
    ));
    let row = waiting(&site, "PF1");
    assert_eq!(row.reason, QuarantineReason::SecondClaimant);
    assert!(row.candidates[0].is_bound);
    assert_eq!(
        refusal(decide(&site, &row, Decision::IsAsset { asset: None })).1,
        "bad-decision"
    );
    decide(
        &site,
        &row,
        Decision::ReplaceKey {
            asset: Some("pf1".into()),
        },
    )
    .unwrap();
    second.order(&site);
    assert!(matches!(
        first.check_in(&site),
        CheckInReply::Refused { .. }
    ));
}

#[test]
fn new_assets_rejections_and_second_thoughts() {
    let site = site();
    let machine = Machine::new("PF9");
    let other = Machine::new("PF8");
    for machine in [&machine, &other] {
        assert!(is_quarantined(&machine.check_in(&site)));
    }
    let rows = site.admin.quarantine().unwrap();
    let machines: Vec<String> = rows.iter().map(|row| row.machine.clone()).collect();
    let reject = Decision::Reject {
        reason: "not ours".into(),
    };
    let decision = Decide {
        machines: machines.clone(),
        decision: reject,
    };
    assert_eq!(site.admin.decide(&decision).unwrap().len(), 2);
    match machine.check_in(&site) {
        CheckInReply::Quarantined { message, .. } => {
            assert!(message.contains("not ours"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    for machine in &machines {
        assert_eq!(site.admin.undo_decision(machine).unwrap().decision, None);
    }
    assert_eq!(refusal(site.admin.undo_decision(&machines[0])).0, 404);
    let row = waiting(&site, "PF9");
    let new = |site: &str| Decision::NewAsset {
        site: site.into(),
        class: "8B".into(),
    };
    assert_eq!(refusal(decide(&site, &row, new("NOWHERE"))).0, 404);
    assert_eq!(
        refusal(decide(&site, &row, Decision::IsAsset { asset: None })).1,
        "bad-decision"
    );
    decide(&site, &row, new("BJO")).unwrap();
    assert!(!is_quarantined(&machine.check_in(&site)));
    let device = site.device("PF9");
    assert_eq!((device.site.as_str(), device.class.as_str()), ("BJO", "8B"));
    assert!(is_quarantined(&other.check_in(&site)));
}

#[test]
fn a_known_mac_makes_an_asset_a_candidate_and_never_recognises_it() {
    let site = site();
    site.import("serial;site;MAC\nPF5;BJO;52:54:00:00:00:01 / 525400000002\n");
    let mut machine = Machine::new("Default string");
    for (mac, expected) in [
        ("52-54-00-00-00-02", vec![("PF5", 0)]),
        ("52:54:00:00:00:01", vec![("PF5", 0)]),
        ("52:54:00:00:00:03", vec![]),
        ("00:00:00:00:00:00", vec![]),
    ] {
        machine.facts.network = serde_json::from_value(
            serde_json::json!([{ "name": "eth0", "mac": mac, "link": true }]),
        )
        .unwrap();
        assert!(is_quarantined(&machine.check_in(&site)), "{mac}");
        let row = waiting(&site, "Default string");
        let found: Vec<_> = row
            .candidates
            .iter()
            .map(|one| (one.serial.as_str(), one.score))
            .collect();
        assert_eq!(found, expected, "{mac}");
    }
}

#[test]
fn a_machine_in_quarantine_says_from_which_school_it_asked() {
    let site = site();
    Machine::new("STRANGER").check_in(&site);
    let row = waiting(&site, "STRANGER");
    assert_eq!(
        (row.address.as_str(), row.seen_site.as_str()),
        ("127.0.0.1", "")
    );
    let kari = site.school_admin("BJO");
    assert_eq!(refusal(kari.quarantine()).0, 403);
    let change = serde_json::json!({ "subnets": ["127.0.0.0/8"] });
    let _detail: serde_json::Value = site
        .admin
        .send("PUT", "/api/v1/sites/BJO", &change)
        .unwrap();
    Machine::new("STRANGER-2").check_in(&site);
    assert_eq!(waiting(&site, "STRANGER-2").seen_site, "BJO");
    let of = |code: &str| {
        let rows: Vec<QuarantineRow> = site
            .admin
            .get(&format!("/api/v1/quarantine?site={code}"))
            .unwrap();
        rows.into_iter().map(|row| row.serial).collect::<Vec<_>>()
    };
    assert_eq!(
        (of("BJO"), of("TRO")),
        (vec!["STRANGER-2".to_owned()], vec![])
    );
}

#[test]
fn a_uuid_that_several_machines_show_recognises_nobody() {
    let site = site();
    let uuid = "4c4c4544-0042-3510-8052-b4c04f564433";
    site.import(&format!("serial;uuid\nPF7;{uuid}\n"));
    let machine = |serial: &str, uuid: &str| {
        let mut machine = Machine::new(serial);
        machine.facts.uuid = Some(uuid.parse().unwrap());
        machine
    };
    // Written in the other byte order, it is the same.
    let first = machine(
        "To be filled by O.E.M.",
        "44454c4c-4200-1035-8052-b4c04f564433",
    );
    assert!(!is_quarantined(&first.check_in(&site)));
    let second = machine("PF1", uuid);
    assert!(
        is_quarantined(&second.check_in(&site)),
        "the serial number of one, the UUID of another"
    );
    assert_eq!(waiting(&site, "PF1").reason, QuarantineReason::TwoRecords);
}
