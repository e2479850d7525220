//! The life of one asset: corrected, named, retired, stolen, and back.

use serde_json::{Value, json};
use wire::admin_api::DeviceRow;
use wire::asset_computers::AssetComputerPage;
use wire::assets::{AssetDetail, AssetState};
use wire::classes::{NamePlan, NameRequest};
use wire::device_api::CheckInReply;

use crate::admin::refusal;
use crate::harness::{Machine, Site, good_run, send};

const ASSETS: &str = "serial;asset tag;class;site code;uuid;order number;MAC\n\
    PF1;T1;8B;BJO;4c4c4544-0042-3510-8052-b4c04f564433;4711;52:54:00:00:00:01 / 52-54-00-00-00-02\n\
    PF2;T2;8B;TRO;;;\n";

fn site() -> Site {
    let site = Site::new();
    site.prepare(100);
    site.import(ASSETS);
    site
}

fn ask(
    client: &client::Client,
    site: &Site,
    serial: &str,
    what: &str,
    body: &Value,
) -> Result<AssetDetail, client::ClientError> {
    let device = site.device(serial).device;
    client.send("POST", &format!("/api/v1/devices/{device}/{what}"), body)
}

fn audited(site: &Site, action: &str) -> String {
    let rows: Value = site.admin.get("/api/v1/audit").unwrap();
    let rows = rows.as_array().unwrap();
    let row = rows.iter().find(|row| row["action"] == action);
    row.unwrap_or_else(|| panic!("no {action} in the audit"))["detail"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn members(site: &Site) -> Vec<String> {
    let rows: Vec<DeviceRow> = site
        .admin
        .get("/api/v1/collections/laptops/members")
        .unwrap();
    rows.into_iter().map(|row| row.serial).collect()
}

#[test]
fn an_asset_is_corrected_field_by_field_and_the_audit_has_before_and_after() {
    let site = site();
    let change = |body: Value| ask(&site.admin, &site, "PF1", "asset", &body);
    let detail = change(json!({ "class": "8C", "asset-tag": "", "name": "bjo-1" })).unwrap();
    let row = &detail.device;
    assert_eq!(
        (
            row.class.as_str(),
            row.asset_tag.as_str(),
            row.site.as_str()
        ),
        ("8C", "", "BJO")
    );
    assert_eq!(row.name.as_deref(), Some("bjo-1"));
    assert_eq!(
        audited(&site, "asset-changed"),
        r#"class "8B" to "8C", asset tag "T1" to "", name "" to "bjo-1""#
    );
    assert_eq!(
        (detail.fields["order-number"].as_str(), detail.seen),
        ("4711", None)
    );
    for (body, code) in [
        (json!({ "site": "NOWHERE" }), (404, "not-found")),
        (json!({ "asset-tag": "t2" }), (409, "tag-taken")),
        (json!({ "asset-tag": "Default string" }), (400, "bad-asset")),
        (json!({ "class": "x".repeat(129) }), (400, "bad-asset")),
        (json!({ "name": "no good" }), (400, "bad-host-name")),
        (json!({ "serial": "PF9" }), (400, "bad-json")),
    ] {
        let (status, said) = refusal(change(body.clone()));
        assert_eq!((status, said.as_str()), code, "{body}");
    }
    let other = ask(
        &site.admin,
        &site,
        "PF2",
        "asset",
        &json!({ "name": "BJO-1" }),
    );
    assert_eq!(refusal(other), (409, "name-taken".into()));
    // Whoever looks after one site corrects nothing, and finds no other.
    let kari = site.school_admin("BJO");
    assert_eq!(
        refusal(ask(&kari, &site, "PF1", "asset", &json!({}))).0,
        403
    );
    assert_eq!(
        refusal(ask(
            &kari,
            &site,
            "PF2",
            "report-stolen",
            &json!({ "reason": "x" })
        ))
        .0,
        404
    );
}

#[test]
fn a_retired_machine_gets_no_order_until_it_is_taken_back_into_use() {
    let site = site();
    let machine = Machine::new("PF1");
    let (device, order) = machine.order(&site);
    let retired = ask(
        &site.admin,
        &site,
        "PF1",
        "retire",
        &json!({ "reason": "worn out" }),
    )
    .unwrap();
    let out = retired.device.out_of_use.unwrap();
    assert_eq!(
        (out.state, out.reason.as_str(), out.by.as_str()),
        (AssetState::Retired, "worn out", "admin")
    );
    assert_eq!(
        audited(&site, "asset-retired"),
        "from in-use to retired: worn out"
    );
    assert_eq!(members(&site), ["PF2"]);
    // The run that goes on hears that it is to stop.
    let mut events = good_run(order.run);
    events.pop();
    assert!(send(&device, order.run, &events).stop);
    events = vec![crate::harness::event(
        order.run,
        6,
        json!({ "kind": "run-aborted", "reason": "stopped" }),
    )];
    send(&device, order.run, &events);
    match machine.check_in(&site) {
        CheckInReply::Idle { message, .. } => {
            assert!(message.contains("retired (worn out)"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    let again = ask(&site.admin, &site, "PF1", "retire", &json!({}));
    assert_eq!(refusal(again), (409, "same-state".into()));
    // Found again by those who ask for it.
    let csv = |query: &str| {
        let bytes = site
            .admin
            .get_bytes(&format!("/api/v1/devices.csv{query}"), 1 << 20)
            .unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert!(!csv("").contains("PF1") && csv("").contains("PF2"));
    assert!(csv("?asset=retired").contains("PF1") && !csv("?asset=retired").contains("PF2"));
    let page: AssetComputerPage = site.admin.get("/api/v1/asset-computers").unwrap();
    let row = page
        .computers
        .iter()
        .find(|row| row.serial == "PF1")
        .unwrap();
    assert_eq!(row.asset_state, "retired");
    assert_eq!(row.asset_state_since_ms, Some(out.at_ms));
    let other = page
        .computers
        .iter()
        .find(|row| row.serial == "PF2")
        .unwrap();
    assert_eq!(
        (other.asset_state.as_str(), other.asset_state_since_ms),
        ("in-use", None)
    );
    ask(&site.admin, &site, "PF1", "restore", &json!({})).unwrap();
    assert_eq!(members(&site), ["PF1", "PF2"]);
    assert_eq!(site.device("PF1").out_of_use, None);
}

#[test]
fn a_school_reports_a_machine_stolen_and_it_is_an_alarm_when_it_asks() {
    let site = site();
    let machine = Machine::new("PF1");
    let kari = site.school_admin("BJO");
    let silent = ask(&kari, &site, "PF1", "report-stolen", &json!({}));
    assert_eq!(refusal(silent), (400, "no-reason".into()));
    ask(
        &kari,
        &site,
        "PF1",
        "report-stolen",
        &json!({ "reason": "from the bus" }),
    )
    .unwrap();
    assert_eq!(site.device("PF1").message, None);
    for _ in 0..2 {
        match machine.check_in(&site) {
            CheckInReply::Refused { message } => {
                assert!(message.contains("reported stolen"), "{message}")
            }
            other => panic!("{other:?}"),
        }
    }
    let row = site.device("PF1");
    assert!(row.is_stolen_and_seen());
    assert!(row.message.unwrap().contains("from 127.0.0.1"));
    assert_eq!(audited(&site, "stolen-seen"), "from 127.0.0.1");
    let rows: Value = site.admin.get("/api/v1/audit").unwrap();
    let told = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["action"] == "stolen-seen");
    assert_eq!(told.count(), 1, "once for each address");
    // Those who report it don't take it back.
    assert_eq!(
        refusal(ask(&kari, &site, "PF1", "restore", &json!({}))).0,
        403
    );
    ask(
        &site.admin,
        &site,
        "PF1",
        "restore",
        &json!({ "reason": "found" }),
    )
    .unwrap();
    machine.order(&site);
}

#[test]
fn what_a_machine_says_stands_beside_what_was_imported() {
    let site = site();
    let mut machine = Machine::new("PF1");
    machine.facts.asset_tag = "OTHER".into();
    machine.order(&site);
    let device = site.device("PF1").device;
    let detail: AssetDetail = site
        .admin
        .get(&format!("/api/v1/devices/{device}/asset"))
        .unwrap();
    let seen = detail.seen.unwrap();
    assert_eq!(
        (seen.asset_tag.as_str(), seen.address.as_str()),
        ("OTHER", "127.0.0.1")
    );
    assert!(!seen.evidence.is_empty() && detail.key.unwrap().len() == 8);
    assert!(detail.uuid.starts_with("4c4c4544"));
}

#[test]
fn an_assigned_name_is_shown_and_clashes_with_what_other_machines_call_themselves() {
    let site = site();
    let name = |template: &str, serial: &str, apply: bool| -> NamePlan {
        let request = NameRequest {
            template: template.into(),
            collection: None,
            devices: vec![site.device(serial).device],
            long_names: false,
            rename: true,
            apply,
        };
        site.admin.name_devices(&request).unwrap()
    };
    let preview = name("lab-{{ number(2) }}", "PF2", false);
    assert_eq!(
        (preview.rows[0].name.as_str(), preview.applied),
        ("lab-01", false)
    );
    assert_eq!(site.device("PF2").name, None);
    assert!(name("lab-{{ number(2) }}", "PF2", true).applied);
    assert_eq!(site.device("PF2").name.as_deref(), Some("lab-01"));
    assert_eq!(
        name("lab-{{ number(2) }}", "PF1", false).rows[0].name,
        "lab-02"
    );
    let clash = name("LAB-01", "PF1", true);
    assert!(clash.problems == 1 && !clash.applied);
    // What a run told is shown first, and nobody else can have it.
    let (device, order) = Machine::new("PF1").order(&site);
    send(&device, order.run, &good_run(order.run));
    assert!(name("bjo-9", "PF1", true).applied);
    let row = site.device("PF1");
    assert_eq!(
        (row.name.as_deref(), row.assigned_name.as_deref()),
        (Some("bjo-8b-pf1"), Some("bjo-9"))
    );
    let taken = name("BJO-8B-PF1", "PF2", true);
    assert!(
        taken.rows[0]
            .problem
            .as_ref()
            .unwrap()
            .contains("calls itself"),
        "{taken:?}"
    );
    // Either name is found by the scanner and by the search.
    for text in ["bjo-9", "bjo-8b-pf1"] {
        let reply: Value = site
            .admin
            .send("POST", "/api/v1/assignments/scan", &json!({ "text": text }))
            .unwrap();
        assert_eq!(reply["devices"][0]["serial"], "PF1", "{text}: {reply}");
        let found: Value = site
            .admin
            .get(&format!("/api/v1/find?text={text}"))
            .unwrap();
        assert_eq!(found[0]["serial"], "PF1", "{text}");
    }
}
