//! The asset system's table, read as another program does: by `sqlite3` and `psql`, and over HTTP.

use serde_json::Value;
use wire::asset_computers::AssetComputerPage;

use crate::harness::{Machine, Site, event, good_run, send};

const ASSETS: &str = "serial;asset tag;site code;site name;class;vendor;product\n\
    PF1;=1+1;BJO;Bjørnøya skole;8B;Acme;Book 13\nPF2;A2;BJO;;9A;;\nPF3;A3;TRO;Tromsø \"vest\" skole;;;\n";
const QUERY: &str = "SELECT serial, asset_tag, product, host_name, site_code, class, state, prestage, prestage_version, macs, \
    completed_at IS NOT NULL, staged_at_ms > 1700000000000, substr(imported_at, 1, 2), pupil_name \
    FROM asset_computers ORDER BY serial";

/// One computer completed, one staged, one only imported.
fn fleet(site: &Site) {
    site.prepare(10);
    site.import(ASSETS);
    site.receipt("PF2", 3, "staged");
    site.receipt("PF3", 3, "staged");
    site.receipt("PF3", 3, "failed");
    let mut machine = Machine::new("PF1");
    machine.facts.network = serde_json::from_value(serde_json::json!([
        {"name": "eth0", "mac": "52:54:00:00:00:01", "link": true},
        {"name": "wlan0", "mac": "52:54:00:00:00:02", "link": false},
    ]))
    .unwrap();
    machine.staged = serde_json::from_value(serde_json::json!({
        "prestage": "book", "version": 2, "bundle": "0".repeat(64),
    }))
    .ok();
    let (device, order) = machine.order(site);
    let computers = page(site, "").computers;
    let running = computers.iter().find(|row| row.serial == "PF1").unwrap();
    assert_eq!(
        (running.state.as_str(), &running.host_name),
        ("running", &None)
    );
    let path = format!("/api/v1/runs/{}", order.run);
    let ask = |what: &str| -> Value {
        let nothing = serde_json::json!({});
        let asked = site.admin.send("POST", &format!("{path}/{what}"), &nothing);
        asked.unwrap()
    };
    ask("stop");
    let aborted = serde_json::json!({"kind": "run-aborted", "reason": "an administrator"});
    let mut events = good_run(order.run)[..1].to_vec();
    events.push(event(order.run, 2, aborted));
    assert_eq!(send(&device, order.run, &events).acknowledged, 2);
    let stopped = page(site, "?state=stopped").computers;
    assert_eq!(stopped.len(), 1, "it didn't fail");
    ask("retry");
    // It goes on, with all that it hasn't told yet.
    let mut rest = good_run(order.run).split_off(1);
    for (event, seq) in rest.iter_mut().zip(3_u64..) {
        event["seq"] = seq.into();
    }
    assert_eq!(send(&device, order.run, &rest).acknowledged, 7);
}

fn page(site: &Site, query: &str) -> AssetComputerPage {
    site.admin
        .get(&format!("/api/v1/asset-computers{query}"))
        .unwrap()
}

const EXPECTED: &str = "PF1|=1+1|Book 14|bjo-8b-pf1|BJO|8B|completed|book|2|52:54:00:00:00:01 52:54:00:00:00:02|1||20|\n\
    PF2|A2|||BJO|9A|staged|book|3||0|1|20|\nPF3|A3|||TRO||imported||||0||20|\n";

#[test]
fn sqlite3_reads_it_while_the_server_writes() {
    let site = Site::on(None);
    fleet(&site);
    let output = std::process::Command::new("sqlite3")
        .args(["-readonly", site.data.join("forestage.db").as_str(), QUERY])
        .output()
        .expect("this test needs sqlite3: `apt-get install sqlite3`, or `cargo xtask setup`");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), EXPECTED);
}

#[test]
fn psql_reads_it_with_a_role_that_can_read_nothing_else() {
    let site = Site::on_postgres();
    fleet(&site);
    let database = site.postgres_name();
    let cluster = testkit::postgres::cluster().unwrap();
    let role = format!("asset_system_{database}");
    for grant in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT CONNECT ON DATABASE {database} TO {role}"),
        format!("GRANT USAGE ON SCHEMA public TO {role}"),
        format!("GRANT SELECT ON asset_computers TO {role}"),
    ] {
        cluster.psql("forestage", &database, &grant).unwrap();
    }
    // The grants outlive a restart of the server.
    let site = site.restart();
    let rows = cluster.psql(&role, &database, QUERY).unwrap();
    let expected = EXPECTED
        .replace("|1||20|", "|t||20|")
        .replace("|0|1|20|", "|f|t|20|")
        .replace("|0||20|", "|f||20|");
    assert_eq!(rows, expected);
    for refused in [
        "SELECT * FROM users",
        "SELECT * FROM pupils",
        "UPDATE devices SET serial = ''",
        "CREATE TABLE mine (a TEXT)",
    ] {
        let error = cluster.psql(&role, &database, refused).unwrap_err();
        assert!(error.to_string().contains("denied"), "{refused}: {error}");
    }
    drop(site);
}

#[test]
fn pages_end_and_hold_each_computer_once() {
    let site = Site::new();
    fleet(&site);
    let all = page(&site, "").computers;
    assert_eq!(all.len(), 3);
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = page(&site, &format!("?limit=1&after={after}"));
        paged.extend(page.computers);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(paged, all);
    assert_eq!(page(&site, "?site=TRO").computers.len(), 1);
    assert_eq!(
        page(&site, "?state=completed&site=BJO").computers[0].serial,
        "PF1"
    );
    assert!(page(&site, "?state=nonsense").computers.is_empty());
    for bad in ["?limit=0", "?limit=5001", "?limit=x"] {
        let answer = site
            .admin
            .get::<Value>(&format!("/api/v1/asset-computers{bad}"));
        assert!(answer.is_err(), "{bad}");
    }
}

#[test]
fn a_csv_carries_no_formula_into_a_spreadsheet() {
    let site = Site::new();
    fleet(&site);
    let bytes = site.admin.asset_computers_csv("", "").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("device_id,serial,asset_tag,"), "{text}");
    assert!(text.contains(",PF1,'=1+1,"), "{text}");
    assert!(text.contains(r#","Tromsø ""vest"" skole","#), "{text}");
    assert_eq!(text.lines().count(), 4);
}
