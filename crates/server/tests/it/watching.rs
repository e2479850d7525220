//! What those who watch a rollout are told: figures, medians, runs.

use serde_json::json;
use wire::admin_api::{RunDetail, RunRow};
use wire::insights::Insights;

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
