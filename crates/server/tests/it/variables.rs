//! Variables: which value an order gets, and what is refused.

use serde_json::{Value, json};
use wire::admin_api::AuditRow;
use wire::device_api::CheckInReply;
use wire::variables::{ScopeVariables, VariableChange, VariableOrigin, VariableScope};

use crate::admin::refusal;
use crate::harness::{Machine, SEQUENCE, Site, event, send};

const DECLARED: &str = "variables:\n  update: false\n  wifi: nowhere\n  room: none\n";

fn site() -> Site {
    let site = Site::new();
    site.prepare(10);
    let text = SEQUENCE.replace("variables:\n  update: false\n", DECLARED);
    site.admin
        .put_sequence(&"deploy".parse().unwrap(), &text)
        .unwrap();
    site.import(
        "serial;vendor;product;site;class\nPF1;Acme;Book 14;BJO;8B\nPF2;Acme;Note 15;TRO;8B\n",
    );
    site
}

fn change(
    scope: VariableScope,
    name: &str,
    set: &[(&str, Value)],
    unset: &[&str],
) -> VariableChange {
    VariableChange {
        scope,
        name: name.into(),
        set: set
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
        unset: unset.iter().map(|key| (*key).to_owned()).collect(),
    }
}

fn set(site: &Site, scope: VariableScope, name: &str, key: &str, value: Value) -> ScopeVariables {
    let change = change(scope, name, &[(key, value)], &[]);
    site.admin.change_variables(&change).unwrap()
}

#[test]
fn an_order_gets_the_value_of_the_last_scope() {
    let site = site();
    set(
        &site,
        VariableScope::Collection,
        "laptops",
        "wifi",
        json!("of-collection"),
    );
    assert_eq!(
        set(
            &site,
            VariableScope::Model,
            " ACME/book 14 ",
            "wifi",
            json!("of-model")
        )
        .devices,
        1
    );
    assert_eq!(
        set(
            &site,
            VariableScope::Class,
            "8B",
            "room",
            json!({"number": 112})
        )
        .devices,
        2
    );
    assert_eq!(
        set(
            &site,
            VariableScope::Site,
            "NOWHERE",
            "wifi",
            json!("of-another")
        )
        .devices,
        0
    );
    let effective = site
        .admin
        .device_variables(site.device("PF1").device)
        .unwrap();
    assert_eq!(effective.deployment, Some("autumn".parse().unwrap()));
    let (_, order) = Machine::new("PF1").order(&site);
    assert_eq!(order.variables["wifi"], "of-model");
    assert_eq!(order.variables["room"], json!({"number": 112}));
    assert_eq!(order.variables["update"], false);
    let shown = |key: &str| {
        effective
            .variables
            .iter()
            .find(|variable| variable.key == key)
            .unwrap()
    };
    for (key, value) in &order.variables {
        assert_eq!(
            &shown(key).value,
            value,
            "{key}: what is shown is what is ordered"
        );
    }
    assert_eq!(effective.variables.len(), order.variables.len());
    let origin = VariableOrigin::Scope {
        scope: VariableScope::Model,
        name: "acme/book 14".into(),
    };
    assert_eq!(shown("wifi").origin, origin);
    assert_eq!(shown("class").origin, VariableOrigin::Asset);
}

#[test]
fn a_machine_gets_a_secret_and_its_pages_leave_it_out() {
    let site = site();
    let wifi = json!({ "ssid": "skole", "psk": "hunter2" });
    set(&site, VariableScope::Site, "BJO", "wifi", wifi.clone());
    let device = site.device("PF1").device;
    let effective = site.admin.device_variables(device).unwrap();
    let shown = effective.variables.iter().find(|one| one.key == "wifi");
    assert_eq!(
        shown.unwrap().value,
        json!({ "ssid": "skole", "psk": "•••" })
    );
    // Whoever sets variables reads what they set.
    let stored = site.admin.variables(None).unwrap();
    assert!(stored.iter().any(|row| row.value == wifi));
    let (_, order) = Machine::new("PF1").order(&site);
    assert_eq!(order.variables["wifi"], wifi);
}

#[test]
fn a_failed_run_begins_anew_if_a_variable_was_changed() {
    let site = site();
    let machine = Machine::new("PF1");
    let (device, order) = machine.order(&site);
    let failed = json!({"kind": "run-failed", "path": "os", "errors": ["no such network"]});
    let started = json!({"kind": "run-started", "sequence": "deploy", "steps": []});
    let events = [event(order.run, 1, started), event(order.run, 2, failed)];
    send(&device, order.run, &events);
    let again = |site: &Site| match machine.check_in(site) {
        CheckInReply::Run { order, .. } => order,
        other => panic!("no order: {other:?}"),
    };
    assert_eq!(again(&site).run, order.run, "nothing was mended");
    set(
        &site,
        VariableScope::Site,
        "BJO",
        "wifi",
        json!("bjo-pupils"),
    );
    let mended = again(&site);
    assert_ne!(mended.run, order.run);
    assert_eq!(mended.variables["wifi"], "bjo-pupils");
}

#[test]
fn a_change_is_made_as_a_whole_or_refused() {
    let site = site();
    let send = |change: &VariableChange| refusal(site.admin.change_variables(change));
    let scope = VariableScope::Site;
    for (bad, code) in [
        (
            change(
                scope,
                "BJO",
                &[("good", json!(1)), ("serial", json!(1))],
                &[],
            ),
            "bad-variable",
        ),
        (
            change(scope, "BJO", &[("good", json!("x".repeat(5000)))], &[]),
            "too-long",
        ),
        (change(scope, " ", &[("good", json!(1))], &[]), "bad-name"),
        (
            change(VariableScope::Model, "Acme", &[("good", json!(1))], &[]),
            "bad-name",
        ),
        (
            change(VariableScope::Device, "PF9", &[("good", json!(1))], &[]),
            "not-found",
        ),
        (
            change(
                VariableScope::Collection,
                "none",
                &[("good", json!(1))],
                &[],
            ),
            "not-found",
        ),
    ] {
        assert_eq!(send(&bad).1, code, "{bad:?}");
    }
    for batch in 0..2 {
        let names: Vec<String> = (0..100).map(|n| format!("v{batch}_{n}")).collect();
        let values: Vec<(&str, Value)> = names.iter().map(|n| (n.as_str(), json!(1))).collect();
        site.admin
            .change_variables(&change(scope, "BJO", &values, &[]))
            .unwrap();
    }
    let one_more = change(scope, "BJO", &[("one_more", json!(1))], &[]);
    assert_eq!(send(&one_more).1, "too-many-variables");
    let instead = change(
        scope,
        "BJO",
        &[("one_more", json!("hush-hush"))],
        &["v0_0", "never_set"],
    );
    let changed = site.admin.change_variables(&instead).unwrap();
    assert_eq!((changed.variables.len(), changed.devices), (200, 1));
    let stored = site.admin.variables(None).unwrap();
    assert!(stored.len() == 200 && stored.iter().all(|row| row.key != "good"));
    let of_site = site.admin.variables(Some((scope, "BJO"))).unwrap();
    assert_eq!(of_site.len(), 200);
    assert_eq!(site.admin.variables(Some((scope, "TRØ / x"))).unwrap(), []);
    let audit: Vec<AuditRow> = site.admin.get("/api/v1/audit").unwrap();
    let row = &audit[0];
    assert_eq!(
        (
            row.action.as_str(),
            row.subject.as_str(),
            row.detail.as_str()
        ),
        (
            "variables-changed",
            "site BJO",
            "set one_more; unset v0_0, never_set"
        )
    );
}
