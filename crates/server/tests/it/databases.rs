//! SQLite and PostgreSQL: the same story gives the same answers. `FORESTAGE_TEST_DATABASE=postgres` runs all tests of this
//! program on PostgreSQL; these always run on both.

use serde_json::Value;

use crate::harness::{Machine, Site, good_run, send};

/// Names that databases sort differently unless told not to.
const ASSETS: &str = "serial;asset tag;site code;site name;class\n\
    b2;A1;BJO;Bjørnøya skole;8B\nB10;A2;ARN;Ærfugl skole;9A\na_3;A3;AAS;Ås skole;9Å\nZ-1;A4;ost;Østmarka;10\n";

fn story(site: Site) -> Value {
    site.prepare(10);
    site.import(ASSETS);
    let (device, order) = Machine::new("B10").order(&site);
    assert_eq!(
        send(&device, order.run, &good_run(order.run)).acknowledged,
        6
    );
    // A machine that nobody knows, and that says strange things.
    let stranger = Machine::new("PF\u{1}'; DROP TABLE devices; --\u{202e}");
    stranger.check_in(&site);
    let site = site.restart();
    let devices: Vec<Value> = site
        .admin
        .devices()
        .unwrap()
        .iter()
        .map(|row| serde_json::json!([row.serial, row.site, row.class, row.state, row.message]))
        .collect();
    let sequences = serde_json::to_value(site.admin.sequences().unwrap()).unwrap();
    let packages = serde_json::to_value(site.admin.packages().unwrap()).unwrap();
    let names = |list: &Value| -> Vec<Value> {
        let rows = list.as_array().unwrap();
        rows.iter().map(|row| row["name"].clone()).collect()
    };
    let audit: Value = site.admin.get("/api/v1/audit").unwrap();
    let actions: Vec<&Value> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["action"])
        .collect();
    serde_json::json!({
        "devices": devices, "sequences": names(&sequences), "packages": names(&packages), "audit": actions,
    })
}

#[test]
fn both_databases_tell_the_same_story() {
    let on_sqlite = story(Site::on(None));
    assert_eq!(
        on_sqlite["devices"].as_array().unwrap().len(),
        5,
        "{on_sqlite}"
    );
    assert_eq!(on_sqlite, story(Site::on_postgres()));
}

#[test]
fn a_text_that_a_database_cannot_hold_is_no_failure_of_the_server() {
    for site in [Site::on(None), Site::on_postgres()] {
        site.prepare(10);
        let mut machine = Machine::new("PF\u{0}1");
        machine.facts.product = "Book\u{0}14".into();
        machine.check_in(&site);
        assert_eq!(site.admin.devices().unwrap().len(), 1);
    }
}
