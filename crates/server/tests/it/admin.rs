//! Login, default deny, asset import, audit.

use client::ClientError;
use serde_json::Value;
use wire::admin_api::{AuditRow, Login, SequenceRow, Token};

use crate::harness::{PASSWORD, Server, Site, login};

/// Status and code of a refusal.
pub(crate) fn refusal<T>(result: Result<T, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Refused { status, error, .. }) => (status, error.code),
        Err(other) => panic!("not refused but: {other:?}"),
        Ok(_) => panic!("not refused"),
    }
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn the_one_time_password_must_be_replaced_and_is_then_worthless() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(
        camino::Utf8Path::from_path(folder.path()).unwrap(),
        None,
        server::Patience::default(),
        0,
    );
    let one_time = server.ready.one_time_login.clone().unwrap();
    let anyone = server.anyone();
    let try_login = |login: &Login| anyone.send::<_, Token>("POST", "/api/v1/login", login);
    assert_eq!(
        refusal(try_login(&login(&one_time))),
        code(403, "new-password-needed")
    );
    let with_new = |new: &str| Login {
        new_password: Some(new.into()),
        ..login(&one_time)
    };
    assert_eq!(
        refusal(try_login(&with_new("short"))),
        code(422, "new-password-unfit")
    );
    assert_eq!(
        refusal(try_login(&with_new(&one_time))),
        code(422, "new-password-unfit")
    );
    let token = try_login(&with_new(PASSWORD)).unwrap().token;
    assert_eq!(
        refusal(try_login(&login(&one_time))),
        code(401, "wrong-login")
    );
    assert!(
        anyone
            .with_token(&token)
            .get::<Value>("/api/v1/devices")
            .unwrap()
            .is_array()
    );
    try_login(&login(PASSWORD)).unwrap();
    let stored = std::fs::read(folder.path().join("forestage.db")).unwrap();
    let log = std::fs::read(folder.path().join("forestage.db-wal")).unwrap_or_default();
    for secret in [token.as_bytes(), PASSWORD.as_bytes(), one_time.as_bytes()] {
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(
            !holds(&stored) && !holds(&log),
            "a secret lies in the database"
        );
    }
}

#[test]
fn guessing_passwords_is_slowed_down() {
    let site = Site::new();
    let anyone = site.server.anyone();
    let guess =
        || refusal(anyone.send::<_, Token>("POST", "/api/v1/login", &login("wrong password"))).1;
    let answers: Vec<String> = (0..11).map(|_| guess()).collect();
    assert_eq!(answers[..10], vec!["wrong-login".to_owned(); 10]);
    assert_eq!(answers[10], "too-many-logins");
    // Whoever is signed in goes on.
    site.admin.devices().unwrap();
}

#[test]
fn everything_that_is_not_public_answers_401_to_strangers() {
    let site = Site::new();
    let garbage = site.server.anyone().with_token("0000");
    let mut pages: Vec<(String, String)> = [
        "/",
        "/devices",
        "/devices/PF1/plan",
        "/collections",
        "/deployments",
        "/sequences",
        "/packages",
        "/prestages",
        "/live/overview",
        "/nowhere",
    ]
    .iter()
    .map(|path| ("GET".to_owned(), (*path).to_owned()))
    .collect();
    pages.push(("POST".into(), "/logout".into()));
    let listed = server::routes::list()
        .into_iter()
        .map(|(method, path)| (method.to_string(), path.to_owned()));
    let mut refused = 0;
    for (method, path) in listed.chain(pages) {
        let id = "00000000-0000-4000-8000-000000000000";
        let path = path
            .replace("{run}", id)
            .replace("{id}", id)
            .replace("{name}", "x")
            .replace("{version}", "1");
        let path = path.replace("{digest}", &"0".repeat(64));
        let is_public = server::people::auth::is_public(&method.parse().unwrap(), &path);
        for client in [&site.server.anyone(), &garbage] {
            let status = match client.send::<_, Value>(&method, &path, &serde_json::json!({})) {
                Err(ClientError::Refused { status, .. }) => status,
                Ok(_) | Err(_) => 200,
            };
            assert_eq!(
                status == 401,
                !is_public || path == "/api/v1/login" && status == 401,
                "{method} {path}: {status}"
            );
            refused += u32::from(status == 401);
        }
    }
    assert!(refused > 80, "{refused}");
}

#[test]
fn a_user_is_no_device_and_a_device_is_no_user() {
    let site = Site::new();
    let chunks = serde_json::json!({"digests": []});
    assert_eq!(
        refusal(
            site.admin
                .send::<_, Value>("POST", "/device/v1/content/chunks", &chunks)
        )
        .0,
        401
    );
    site.prepare(10);
    site.import("serial\nPF1\n");
    let (device, _) = crate::harness::Machine::new("PF1").order(&site);
    assert_eq!(refusal(device.devices()).0, 401);
}

#[test]
fn a_good_file_is_imported_and_a_second_time_changes_nothing() {
    let site = Site::new();
    site.prepare(10);
    let csv = "Serienummer;Inventarnummer;Modell;Produsent;Skolekode;Skolenavn;Klasse;Kommentar\n\
               PF1;A1;Book 14;Acme;BJO;Bjørnøya skole;8B;x\nPF2;A2;Book 14;Acme;TRØ;Tromsø skole;9A;\n";
    let report = site.import(csv);
    assert_eq!(
        (report.new, report.changed, report.unchanged, report.invalid),
        (2, 0, 0, 0)
    );
    assert!(
        report
            .columns
            .contains(&("Kommentar".into(), "field:kommentar".into()))
    );
    let report = site.import(&csv.replace("9A", "9B"));
    assert_eq!((report.new, report.changed, report.unchanged), (0, 1, 1));
    let row = site.device("PF2");
    assert_eq!(
        (
            row.site.as_str(),
            row.site_name.as_str(),
            row.class.as_str()
        ),
        ("TRØ", "Tromsø skole", "9B")
    );
    assert_eq!(row.collections.len(), 1);
    let audit: Vec<AuditRow> = site.admin.get("/api/v1/audit").unwrap();
    assert!(
        audit
            .iter()
            .any(|row| row.action == "assets-imported" && row.who == "admin")
    );
}

#[test]
fn one_bad_row_keeps_the_whole_file_out() {
    let site = Site::new();
    site.prepare(10);
    let report = site.import("serial;class\nPF1;8B\nTo be filled by O.E.M.;8B\npf1;8B\n;8B\n");
    assert_eq!((report.new, report.invalid), (1, 3));
    let lines: Vec<(u64, bool)> = report
        .rows
        .iter()
        .map(|row| (row.line, row.problems.is_empty()))
        .collect();
    assert_eq!(lines, [(2, true), (3, false), (4, false), (5, false)]);
    assert!(site.admin.devices().unwrap().is_empty());
    let dry = site
        .admin
        .import_assets(b"serial\nPF9\n", None, true)
        .unwrap();
    assert_eq!((dry.new, dry.dry_run), (1, true));
    assert!(site.admin.devices().unwrap().is_empty());
}

#[test]
fn a_sequence_that_changed_meanwhile_is_not_written_over() {
    let site = Site::new();
    let put = |after: &str, attempts: u32| {
        let text = format!(
            "sequence: drill\nsteps:\n  - id: done\n    attempts: {attempts}\n    finish: {{ action: stay }}\n"
        );
        let path = format!("/api/v1/sequences/drill{after}");
        let length = Some(text.len() as u64);
        site.admin.upload::<SequenceRow>(
            "PUT",
            &path,
            "application/yaml",
            &mut text.as_bytes(),
            length,
        )
    };
    let version = |row: Result<SequenceRow, ClientError>| row.unwrap().version;
    let changed = code(409, "version-changed");
    assert_eq!(refusal(put("?after=1", 1)), changed);
    assert_eq!(version(put("?after=0", 1)), 1);
    assert_eq!(refusal(put("?after=0", 2)), changed);
    assert_eq!(version(put("?after=1", 2)), 2);
    assert_eq!(refusal(put("?after=1", 3)), changed);
    // Whoever doesn't say what was changed means the latest.
    assert_eq!(version(put("", 3)), 3);
}

#[test]
fn a_bad_sequence_is_refused_with_its_findings() {
    let site = Site::new();
    let name = "bad".parse().unwrap();
    let result = site.admin.put_sequence(
        &name,
        "sequence: bad\nsteps:\n  - id: a\n    fly-away: {}\n",
    );
    assert!(result.is_err());
    assert!(site.admin.sequences().unwrap().is_empty());
}
