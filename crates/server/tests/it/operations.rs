//! What whoever runs the server asks it: is it alive, is it ready, what has it counted.

use serde_json::Value;

use crate::admin::refusal;
use crate::harness::{Machine, Site, good_run, send};

const TEXT_MAX: u64 = 1 << 20;

fn text(client: &client::Client, path: &str) -> String {
    String::from_utf8(client.get_bytes(path, TEXT_MAX).unwrap()).unwrap()
}

#[test]
fn anyone_may_ask_whether_it_is_well() {
    let site = Site::new();
    let anyone = site.server.anyone();
    assert_eq!(text(&anyone, "/healthz"), "ok\n");
    assert_eq!(text(&anyone, "/readyz"), "ready\n");
}

#[test]
fn without_its_library_it_is_not_ready_and_still_alive() {
    let site = Site::new();
    let library = site.data.join("library");
    std::fs::rename(&library, site.data.join("elsewhere")).unwrap();
    let answer = site
        .server
        .anyone()
        .get_bytes("/readyz", TEXT_MAX)
        .unwrap_err();
    assert!(format!("{answer:?}").contains("503"), "{answer:?}");
    assert_eq!(text(&site.server.anyone(), "/healthz"), "ok\n");
    std::fs::rename(site.data.join("elsewhere"), library).unwrap();
}

#[test]
fn metrics_are_for_those_who_may_and_count_what_happens() {
    let site = Site::new();
    assert_eq!(
        refusal(site.server.anyone().get_bytes("/metrics", TEXT_MAX)).0,
        401
    );
    site.prepare(10);
    site.import("serial;site code\nPF1;BJO\nPF2;BJO\n");
    let (device, order) = Machine::new("PF1").order(&site);
    assert_eq!(
        send(&device, order.run, &good_run(order.run)).acknowledged,
        6
    );
    Machine::new("UKJENT").check_in(&site);
    let _nothing = site.admin.get::<Value>("/no/such/page/42");
    let metrics = text(&site.admin, "/metrics");
    for line in [
        "forestage_events_stored_total 6\n",
        "forestage_check_ins_total{answer=\"run\"} 1\n",
        "forestage_check_ins_total{answer=\"quarantined\"} 1\n",
        "forestage_http_requests_total{route=\"/device/v1/runs/{run}/events\",method=\"POST\",status=\"200\"} 1\n",
        "forestage_http_answer_seconds_count{route=\"/device/v1/runs/{run}/events\"} 1\n",
        "forestage_http_requests_total{route=\"none\",method=\"GET\",status=\"404\"} 1\n",
        "forestage_runs{state=\"completed\"} 1\n",
        "forestage_runs_stalled 0\n",
        "forestage_machines{kind=\"known\"} 2\n",
        "forestage_machines{kind=\"quarantined\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    // A scraper sees no machine and no person.
    assert!(
        !metrics.contains("PF1") && !metrics.contains("admin"),
        "{metrics}"
    );
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            value.parse::<f64>().is_ok() && name.starts_with("forestage_"),
            "{line}"
        );
    }
}
