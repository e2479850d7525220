//! Where machines are, and how many run at a time.

use serde_json::{Value, json};
use wire::admin_api::{Deployment, ExpectedFrom};
use wire::device_api::CheckInReply;
use wire::insights::Insights;
use wire::sites::{SiteChange, SiteMove};

use super::harness::{Machine, Site, good_run, send};

fn here(site: &Site, code: &str, slots: u32) {
    let change = SiteChange {
        name: Some("Bjørnøya skole".into()),
        subnets: Some(vec!["127.0.0.0/8".into()]),
        slots: Some(slots),
        time_zone: Some("Europe/Oslo".into()),
        ..SiteChange::default()
    };
    site.admin.put_site(code, &change).unwrap();
}

fn idle(reply: CheckInReply) -> (String, Option<u64>) {
    match reply {
        CheckInReply::Idle {
            message,
            retry_seconds,
            ..
        } => (message, retry_seconds),
        other => panic!("{other:?}"),
    }
}

/// What the databar of a machine's run is drawn of.
fn expected(site: &Site, serial: &str) -> (u64, ExpectedFrom) {
    let run = site.device(serial).run.unwrap();
    (run.expected_seconds, run.expected_from)
}

#[test]
fn a_run_is_expected_to_take_what_its_deployment_says_else_what_the_site_does() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;skolekode\nPF1;BJØ\nPF2;BJØ\n");
    let says = |seconds: u64| {
        let change = SiteChange {
            expected_seconds: Some(seconds),
            ..SiteChange::default()
        };
        site.admin.put_site("BJØ", &change).unwrap();
    };
    says(1200);
    let (client, order) = Machine::new("PF1").order(&site);
    assert_eq!(order.expected_seconds, 600, "on the machine's own screen");
    assert_eq!(expected(&site, "PF1"), (600, ExpectedFrom::Deployment));
    let deployment = site.admin.deployments().unwrap().remove(0);
    site.change(&Deployment {
        expected_seconds: 0,
        ..deployment
    });
    assert_eq!(expected(&site, "PF1"), (1200, ExpectedFrom::Site));
    let (_, order_of_site) = Machine::new("PF2").order(&site);
    assert_eq!(order_of_site.expected_seconds, 1200);
    send(&client, order.run, &good_run(order.run));
    let told: Insights = site.admin.get("/api/v1/insights").unwrap();
    assert_eq!(told.times.expected_seconds, 1200, "figures, too");
    says(0);
    assert_eq!(expected(&site, "PF2"), (0, ExpectedFrom::Nobody));
}

#[test]
fn what_a_change_does_not_say_stays_as_it_is() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;skolekode;class\nPF1;BJØ;8B\n");
    let put = |path: &str, body: Value| -> Value {
        let path = format!("/api/v1/{path}");
        site.admin.send("PUT", &path, &body).unwrap()
    };
    let all = json!({
        "title": "Studie", "school-year": "2026/27", "teacher": "Åse", "software": ["geogebra"]
    });
    assert_eq!(put("classes/BJ%C3%98/8B", all.clone())["class"], all);
    let one = put("classes/BJ%C3%98/8B", json!({ "title": "Naturfag" }));
    let mut expected = all;
    expected["title"] = "Naturfag".into();
    assert_eq!(one["class"], expected);
    let none = put(
        "classes/BJ%C3%98/8B",
        json!({ "teacher": "", "software": [] }),
    );
    assert_eq!(none["class"]["teacher"], "", "what is said to be empty is");
    assert_eq!(none["class"]["software"], json!([]));
    assert_eq!(none["class"]["title"], "Naturfag");
    let of = |title: Option<&str>| match title {
        Some(title) => json!({ "name": "pupils", "title": title }),
        None => json!({ "name": "pupils" }),
    };
    put("collections/pupils", of(Some("All pupils")));
    assert_eq!(put("collections/pupils", of(None))["title"], "All pupils");
    assert_eq!(put("collections/pupils", of(Some("")))["title"], "");
    put(
        "sites/BJ%C3%98",
        json!({ "name": "Bjørnøya", "subnets": ["10.1.0.0/16"], "slots": 4 }),
    );
    let after = put("sites/BJ%C3%98", json!({ "time-zone": "Europe/Oslo" }));
    let after = &after["site"];
    let kept = (&after["name"], &after["subnets"][0], &after["slots"]);
    assert_eq!(kept, (&json!("Bjørnøya"), &json!("10.1.0.0/16"), &json!(4)));
}

#[test]
fn machines_wait_for_a_place_and_get_it_in_order() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;skolekode\nPF1;BJØ\nPF2;BJØ\nPF3;BJØ\n");
    here(&site, "BJØ", 1);
    let (one, two, three) = (
        Machine::new("PF1"),
        Machine::new("PF2"),
        Machine::new("PF3"),
    );
    let (client, order) = one.order(&site);
    let (message, retry) = idle(two.check_in(&site));
    assert!(message.contains("number 1") && retry.is_some(), "{message}");
    assert!(idle(three.check_in(&site)).0.contains("number 2"));
    let detail = site.admin.site("BJØ").unwrap();
    assert_eq!(
        (detail.site.live, detail.site.waiting, detail.site.slots),
        (1, 2, 1)
    );
    assert_eq!(detail.queue[0].serial, "PF2");
    // A restart of the server changes nothing.
    let site = site.restart();
    assert!(idle(three.check_in(&site)).0.contains("number 2"));
    drop(client);
    let (client, _) = one.order(&site);
    send(&client, order.run, &good_run(order.run));
    assert!(idle(three.check_in(&site)).0.contains("number 2"));
    let (_, order) = two.order(&site);
    assert_eq!(order.deployment.unwrap().as_str(), "autumn");
    assert!(idle(three.check_in(&site)).0.contains("number 1"));
    here(&site, "BJØ", 0);
    three.order(&site);
    assert_eq!(site.admin.site("BJØ").unwrap().site.waiting, 0);
}

#[test]
fn a_machine_is_where_it_checks_in_and_moves_there_only_when_told() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;skolekode\nPF1;ALT\nPF2;BJØ\n");
    here(&site, "BJØ", 0);
    Machine::new("PF1").check_in(&site);
    assert_eq!(site.device("PF1").site, "ALT");
    let detail = site.admin.site("BJØ").unwrap();
    assert_eq!((detail.site.visitors, detail.misplaced.len()), (1, 1));
    assert_eq!(site.admin.site("ALT").unwrap().site.elsewhere, 1);
    let devices = vec![detail.misplaced[0].device, site.device("PF2").device];
    let moved = site.admin.move_to_seen_site(&SiteMove { devices }).unwrap();
    assert_eq!((moved.moved, moved.unmoved), (1, 1));
    assert_eq!(site.device("PF1").site, "BJØ");
    site.admin.remove_site("ALT").unwrap();
    assert!(
        site.admin
            .remove_site("BJØ")
            .unwrap_err()
            .to_string()
            .contains("2 devices")
    );
}

#[test]
fn a_subnet_belongs_to_one_site() {
    let site = Site::new();
    here(&site, "BJØ", 3);
    let put = |code: &str, body: Value| -> Result<Value, String> {
        let path = format!("/api/v1/sites/{code}");
        site.admin
            .send("PUT", &path, &body)
            .map_err(|error| error.to_string())
    };
    assert!(
        put("ALT", json!({"subnets": ["127.0.0.0/8"]}))
            .unwrap_err()
            .contains("belongs to site")
    );
    assert!(
        put("ALT", json!({"subnets": ["127.0.0.1/8"]}))
            .unwrap_err()
            .contains("127.0.0.0/8")
    );
    assert!(put("ALT", json!({"time-zone": "Europe/Troms"})).is_err());
    put("ALT", json!({"subnets": ["127.0.0.0/16"]})).unwrap();
    // What isn't said stays.
    put("ALT", json!({"slots": 7})).unwrap();
    let row = site.admin.site("ALT").unwrap().site;
    assert_eq!(
        (row.subnets, row.slots),
        (vec!["127.0.0.0/16".to_owned()], 7)
    );
}
