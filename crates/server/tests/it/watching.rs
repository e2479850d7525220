//! What those who watch a rollout are told: figures, medians, runs.

use std::collections::HashMap;

use serde_json::json;
use wire::admin_api::{RunDetail, RunRow};
use wire::event::Environment;
use wire::insights::Insights;

use crate::admin::refusal;
use crate::harness::{Machine, Site, event, good_run, send};

fn insights(site: &Site, query: &str) -> Insights {
    site.admin.get(&format!("/api/v1/insights{query}")).unwrap()
}

/// Three machines, the first of which is done.
fn site() -> Site {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;site code\nPF1;BJO\nPF2;BJO\nPF3;BJO\n");
    let (device, order) = Machine::new("PF1").order(&site);
    send(&device, order.run, &good_run(order.run));
    site
}

#[test]
fn a_run_that_failed_is_a_figure_until_it_goes_on() {
    let site = site();
    let (device, order) = Machine::new("PF2").order(&site);
    let failed = json!({"kind": "run-failed", "path": "os", "errors": ["chunk 7 is broken"]});
    let started = json!({"kind": "run-started", "sequence": "pupil-laptop",
        "steps": [{"path": "os", "title": "System", "kind": "apply-image"}]});
    let events = [
        event(order.run, 1, started),
        event(
            order.run,
            2,
            json!({"kind": "step-started", "path": "os", "attempt": 1}),
        ),
        event(order.run, 3, failed),
    ];
    send(&device, order.run, &events);
    let told = insights(&site, "");
    assert_eq!((told.devices, told.completed, told.runs), (3, 1, 2));
    let reason = &told.failures[0];
    assert_eq!(
        (reason.step.as_str(), reason.message.as_str()),
        ("os", "chunk … is broken")
    );
    assert_eq!(
        (reason.example.as_str(), reason.latest_run),
        ("PF2", Some(order.run))
    );
    assert_eq!(insights(&site, "?deployment=no-such").runs, 0);
    assert_eq!(
        insights(&site, "?since=2000-01-01&until=2000-01-02").runs,
        0
    );

    let path = format!("/api/v1/runs/{}/retry", order.run);
    let _again: RunRow = site.admin.send("POST", &path, &json!({})).unwrap();
    let told = insights(&site, "");
    assert_eq!((told.runs, told.failures.len()), (1, 0));
}

#[test]
fn runs_are_chosen_before_they_are_cut_into_pages() {
    let site = site();
    for serial in ["PF2", "PF3"] {
        Machine::new(serial).order(&site);
    }
    let runs =
        |query: &str| -> Vec<RunRow> { site.admin.get(&format!("/api/v1/runs?{query}")).unwrap() };
    let serials =
        |query: &str| -> Vec<String> { runs(query).into_iter().map(|row| row.serial).collect() };
    let all = runs("");
    assert_eq!(all.len(), 3);
    assert_eq!(serials("state=completed&limit=1"), ["PF1"], "the oldest");
    assert_eq!(serials("state=running").len(), 2);
    assert_eq!(serials("state=stalled&site=BJO").len(), 0);
    assert_eq!(serials("state=failed").len(), 0);
    assert_eq!(serials("device=pf1"), ["PF1"]);
    assert_eq!(serials("device=PF4").len(), 0);
    let row = &all[0];
    for (name, value) in [
        ("site", "BJO"),
        ("deployment", row.deployment.as_str()),
        ("collection", "laptops"),
        ("since", "2000-01-01"),
    ] {
        assert_eq!(serials(&format!("{name}={value}")).len(), 3, "{name}");
    }
    for (name, value) in [
        ("site", "KON"),
        ("deployment", "no-such"),
        ("collection", "no-such"),
        ("model", "no-such"),
        ("since", "2099-01-01"),
    ] {
        assert_eq!(serials(&format!("{name}={value}")).len(), 0, "{name}");
    }
    let wrong = site.admin.get::<Vec<RunRow>>("/api/v1/runs?state=staged");
    assert_eq!(wrong.unwrap_err().status(), Some(400));

    // Page by page it is the same list, also where several began in the same millisecond.
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = runs(&format!("limit=1{cursor}"));
        let Some(row) = page.first() else { break };
        cursor = format!("&cursor={}", row.run);
        paged.push(row.run);
    }
    assert_eq!(paged, all.iter().map(|row| row.run).collect::<Vec<_>>());
    let rest = runs(&format!("state=running&limit=5&cursor={}", all[0].run));
    assert_eq!(rest.len(), 1);
}

#[test]
fn a_device_tells_its_boot_image_and_keeps_it_when_its_system_asks() {
    let site = site();
    assert_eq!(site.device("PF2").boot_image, None, "it never asked");
    let mut machine = Machine::new("PF2");
    for (agent, expected) in [
        (("1.0", Environment::BootImage), "1.0"),
        (("2.0", Environment::Os), "1.0"),
        (("1.1", Environment::BootImage), "1.1"),
    ] {
        machine.agent = agent;
        machine.check_in(&site);
        assert_eq!(site.device("PF2").boot_image.as_deref(), Some(expected));
    }
}

#[test]
fn figures_outlive_the_server_and_stand_beside_the_steps() {
    let site = site();
    assert_eq!(insights(&site, "").runs, 1);
    let site = site.restart();
    let told = insights(&site, "");
    assert_eq!(told.runs, 1);
    let step = &told.steps[0];
    assert_eq!(step.runs, 1);
    let runs: Vec<RunRow> = site.admin.get("/api/v1/runs").unwrap();
    let detail: RunDetail = site
        .admin
        .get(&format!("/api/v1/runs/{}", runs[0].run))
        .unwrap();
    let same = detail
        .steps
        .iter()
        .find(|row| row.path.as_str() == step.path);
    let same = same.unwrap();
    assert_eq!(
        (same.median_ms, same.median_runs),
        (Some(step.median_ms), 1)
    );
    assert_eq!(
        detail.median_model, None,
        "one run is not enough for a model"
    );
    assert!(
        detail
            .variables
            .iter()
            .any(|variable| variable.name == "site")
    );
}

/// A list as a table: each line by the titles of its columns.
fn table(site: &Site, path: &str) -> Vec<HashMap<String, String>> {
    let bytes = site
        .admin
        .get_bytes(&format!("/api/v1/{path}"), 1 << 20)
        .unwrap();
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap();
    let mut reader = csv::Reader::from_reader(text);
    reader.deserialize().map(Result::unwrap).collect()
}

#[test]
fn what_happened_comes_as_tables_with_the_filters_of_its_lists() {
    let site = site();
    let runs = table(&site, "runs.csv?device=pf1&state=completed");
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0]["serial"].as_str(), runs[0]["state"].as_str()),
        ("PF1", "completed")
    );
    assert!(runs[0]["ended"].ends_with('Z') && runs[0]["error"].is_empty());
    assert_eq!(table(&site, "runs.csv?state=failed").len(), 0);

    let made = |path: &str, body: serde_json::Value| -> serde_json::Value {
        site.admin.send("POST", path, &body).unwrap()
    };
    for (serial, number, name) in [("PF1", "olan1", "=Ola"), ("PF2", "karn1", "Kari")] {
        let pupil = made(
            "/api/v1/pupils",
            json!({ "external-id": number, "name": name, "site": "BJO", "class": "8B" }),
        );
        let device = site.device(serial).device;
        let hand_out = json!({ "device": device, "pupil": pupil["pupil"]["pupil"] });
        made("/api/v1/assignments", hand_out);
    }
    let serials = |query: &str| -> Vec<String> {
        let rows = table(&site, &format!("assignments.csv{query}"));
        rows.into_iter().map(|row| row["serial"].clone()).collect()
    };
    assert_eq!(serials("").len(), 2);
    assert_eq!(serials("?text=pf2"), ["PF2"]);
    assert_eq!(serials("?text=8b&open=true").len(), 2);
    // Names of pupils don't stand in addresses.
    assert!(serials("?text=Kari").is_empty());
    assert!(serials("?until=2020-01-01").is_empty());
    assert_eq!(serials("?since=2020-01-01").len(), 2);
    let rows = table(&site, "assignments.csv?text=PF1");
    assert_eq!(rows[0]["name"], "'=Ola", "no formula");
    let list: Vec<serde_json::Value> = site.admin.get("/api/v1/assignments?text=PF2").unwrap();
    assert_eq!((list.len(), &list[0]["serial"]), (1, &json!("PF2")));
    let bad = site
        .admin
        .get::<serde_json::Value>("/api/v1/assignments?since=soon");
    assert_eq!(refusal(bad), (400, "bad-day".into()));

    let audit = table(&site, "audit.csv?action=pupil-added");
    let all = table(&site, "audit.csv");
    assert_eq!(audit.len(), 2);
    assert!(all.len() > 2 && all.iter().any(|row| row["who"] == "admin"));
    assert!(audit.iter().all(|row| row["action"] == "pupil-added"));
}
