//! Planted secrets: whatever the server makes, stores, answers and hands out is scanned for them. What it makes in virtual machines
//! (sticks, disks, boot images, logs) is scanned by the scenarios of `e2e`.

use std::io::Read as _;

use camino::Utf8Path;
use client::RunKey;
use serde_json::Value;
use testkit::planted::{Scan, Scanner};
use wire::admin_api::Login;
use wire::people::{NewToken, NewUser, Role};
use wire::webhooks::NewWebhook;

use crate::harness::{Machine, PASSWORD, Site, good_run, send};
use crate::secrets as of_devices;

const USERS: usize = 60;
const TOKENS: usize = 90;
const WEBHOOKS: usize = 20;
const OF_BJO: &str = "Blåbær-på-Bjørnøya-17";

/// Makes accounts, tokens and webhooks; returns what nobody must ever find.
pub(crate) fn plant(site: &Site) -> Vec<(String, Vec<u8>)> {
    let mut secrets: Vec<(String, String)> = vec![("the admin's password".into(), PASSWORD.into())];
    for number in 0..USERS {
        let name = format!("lærer{number}");
        let new = NewUser {
            name: format!("larer{number}"),
            role: Role::Viewer,
            site: String::new(),
            prestages: vec![],
        };
        let made = site.admin.create_user(&new).unwrap();
        // Of every second account the one-time password is still good.
        if number % 2 == 0 {
            let password = format!("Blåbærsyltetøy-{number}-på-fjellet");
            let login = Login {
                user: new.name,
                password: made.one_time_password.clone(),
                token_name: "test".into(),
                new_password: Some(password.clone()),
            };
            let anyone = site.server.anyone();
            let session: Value = anyone.send("POST", "/api/v1/login", &login).unwrap();
            secrets.push((format!("the password of {name}"), password));
            let token = session["token"].as_str().unwrap().to_owned();
            secrets.push((format!("the session of {name}"), token));
        }
        let one_time = made.one_time_password;
        secrets.push((format!("the one-time password of {name}"), one_time));
    }
    for number in 0..TOKENS {
        let title = format!("token {number}");
        let new = NewToken {
            title: title.clone(),
            scopes: vec![],
            days: 0,
        };
        secrets.push((title, site.admin.create_token(&new).unwrap().token));
    }
    for number in 0..WEBHOOKS {
        let new = NewWebhook {
            url: "https://eiendeler.example/hook".into(),
            title: format!("hook {number}"),
            ..NewWebhook::default()
        };
        let secret = site.admin.add_webhook(&new).unwrap().secret;
        let secret = secret.trim_start_matches("whsec_").to_owned();
        secrets.push((format!("the secret of webhook {number}"), secret));
    }
    secrets
        .into_iter()
        .map(|(name, secret)| (name, secret.into_bytes()))
        .collect()
}

/// Sets the secrets of two sites and of all, one with a value like a key file's; returns their values.
fn set_secrets(site: &Site) -> Vec<(String, Vec<u8>)> {
    let values = [("", "Flytende-Fjord-4711"), ("BJO", OF_BJO)];
    let mut planted = Vec::new();
    for (at, value) in values {
        of_devices::set(site, "domain-join", at, value);
        planted.push((format!("domain-join of {at:?}"), value.into()));
    }
    let long = "nøkkelring ".repeat(wire::secrets::SECRET_BYTES_MAX / 12);
    of_devices::set(site, "key-ring", "", &long);
    planted.push(("key-ring".to_owned(), long.into_bytes()));
    planted
}

/// A staged and a deployed machine, so that there are bundles, orders, events and receipts; and releases of a secret.
fn live(site: &Site) -> (String, Vec<(String, Vec<u8>)>) {
    site.prepare(100);
    site.import("serial;asset tag;site code;class\nPF1;A1;BJO;8B\n");
    let planted = set_secrets(site);
    site.admin
        .put_sequence(&"deploy".parse().unwrap(), &of_devices::joining())
        .unwrap();

    let prestage = site.define_prestage();
    site.admin.build_prestage(&prestage).unwrap();
    site.receipt("PF1", 1, "staged");
    let machine = Machine::new("PF1");
    let challenge = site.server.anyone().challenge().unwrap().challenge;
    let check_in = machine.sign(&challenge);
    let reply = site.server.anyone().check_in(&check_in).unwrap();
    let reply = serde_json::to_value(&reply).unwrap();
    let session = reply["session"].as_str().unwrap().to_owned();
    let run = serde_json::from_value(reply["order"]["run"].clone()).unwrap();
    let client = site.server.anyone().with_token(&session);
    let key = RunKey::from_chance(&[7; 32]);
    let request = machine.ask_for("domain-join", run, &key);
    let sealed = client.secret(run, &request).unwrap();
    let secret = key.open(&sealed, &request.body).unwrap();
    assert_eq!(String::from_utf8(secret).unwrap(), OF_BJO);
    send(&client, run, &good_run(run));
    (session, planted)
}

#[test]
fn no_planted_secret_is_in_anything_the_server_makes_or_answers() {
    let site = Site::new();
    let mut secrets = plant(&site);
    let (session, of_machines) = live(&site);
    secrets.push(("a device's session".into(), session.into_bytes()));
    secrets.extend(of_machines);
    secrets.extend(site.private_keys());
    assert!(secrets.len() >= 200, "{} secrets", secrets.len());
    let scanner = Scanner::new(&secrets);
    let mut scan = Scan::default();
    for path in [
        "users",
        "tokens",
        "webhooks",
        "devices",
        "runs",
        "receipts",
        "packages",
        "sequences",
        "prestages",
        "deployments",
        "collections",
        "sites",
        "quarantine",
        "me",
        "trust",
        "audit?limit=5000",
        "variables",
        "secrets",
        "asset-computers",
        "openapi.json",
    ] {
        let answer: Value = site.admin.get(&format!("/api/v1/{path}")).unwrap();
        scan.add(scanner.scan_bytes(path, answer.to_string().as_bytes()));
    }
    let mut bundle = Vec::new();
    let path = "/api/v1/prestages/book/versions/1/bundle";
    let (mut stream, ..) = site.admin.download(path, 0).unwrap();
    stream.read_to_end(&mut bundle).unwrap();
    scan.add(scanner.scan_bytes("the bundle", &bundle));
    assert!(scan.streams > 0, "a bundle has frames to look into");
    // Everything on its disk but the keys themselves: the database, its log of changes, content, bundles.
    let is_key = |path: &Utf8Path| path.extension() == Some("key");
    scan.add(scanner.scan_path(&site.data, &is_key).unwrap());
    assert_eq!(scan.found, []);
    eprintln!(
        "{} secrets, none in {} files and answers, {} bytes, {} streams",
        secrets.len(),
        scan.files,
        scan.bytes,
        scan.streams
    );
    // What is left out is where they are, or the scanner found nothing because it can't.
    let all = scanner.scan_path(&site.data, &|_| false).unwrap();
    assert!(all.found.iter().any(|found| found.place.contains("ca.key")));
}
