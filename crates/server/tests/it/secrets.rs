//! Secrets for devices: what is set is told to nobody but to a run that needs it, once.

use std::sync::Barrier;
use std::time::Duration;

use client::{Client, ClientError, RunKey};
use testkit::chance::Chance;
use wire::admin_api::{AuditRow, RunDetail};
use wire::device_api::{CheckInReply, SecretRequest, SecretWanted};
use wire::names::{RunId, SecretName};
use wire::people::NewToken;
use wire::reasons::{MachineReason, WarningReason};
use wire::secrets::{SECRET_BYTES_MAX, SecretChange, SecretRow};

use crate::harness::{Machine, SEQUENCE, Site, event, good_run, send};

const SECRET: &str = "Blåbærsyltetøy 4711";
const JOIN: &str = "  - { id: join, run-script: { script: join, repeatable: true, secrets: { PASSWORD: domain-join } } }\n";
const SIDE_BY_SIDE: usize = 50;

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

pub(crate) fn set(site: &Site, secret: &str, at: &str, value: &str) -> SecretRow {
    let change = SecretChange {
        value: value.to_owned(),
        site: at.to_owned(),
    };
    site.admin.set_secret(&name(secret), &change).unwrap()
}

/// The usual sequence, with a step that needs `domain-join`.
pub(crate) fn joining() -> String {
    SEQUENCE.replace("  - id: finish\n", &format!("{JOIN}  - id: finish\n"))
}

fn key(number: usize) -> RunKey {
    let bytes = Chance::new(number as u64).bytes(32);
    RunKey::from_chance(bytes.as_slice().try_into().unwrap())
}

fn status<T>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer {
        Ok(_) => (200, String::new()),
        Err(error) => (
            error.status().unwrap_or_default(),
            error.code().unwrap_or_default().to_owned(),
        ),
    }
}

/// A site whose deployment needs a secret, and machines that have their orders.
struct Scene {
    site: Site,
    machine: Machine,
    session: Client,
    run: RunId,
}

impl Scene {
    fn new() -> Self {
        Self::on(Site::new())
    }

    fn on(site: Site) -> Self {
        site.prepare(100);
        set(&site, "domain-join", "", SECRET);
        site.admin
            .put_sequence(&"deploy".parse().unwrap(), &joining())
            .unwrap();
        site.import("serial;site code;class\nPF1;BJO;8B\nPF2;TRO;8B\n");
        let machine = Machine::new("PF1");
        let (session, order) = machine.order(&site);
        Self {
            site,
            machine,
            session,
            run: order.run,
        }
    }

    fn request(&self, key: &RunKey) -> SecretRequest {
        self.machine.ask_for("domain-join", self.run, key)
    }

    /// What the machine makes of the answer.
    fn get(&self, session: &Client, key: &RunKey) -> Result<String, ClientError> {
        let request = self.request(key);
        let answer = session.secret(self.run, &request)?;
        let secret = key.open(&answer, &request.body).unwrap();
        Ok(String::from_utf8(secret).unwrap())
    }

    fn detail(&self) -> RunDetail {
        self.site
            .admin
            .get(&format!("/api/v1/runs/{}", self.run))
            .unwrap()
    }

    fn audit(&self, action: &str) -> Vec<AuditRow> {
        let rows: Vec<AuditRow> = self.site.admin.get("/api/v1/audit?limit=1000").unwrap();
        rows.into_iter()
            .filter(|row| row.action == action)
            .collect()
    }
}

#[test]
fn a_secret_is_set_and_removed_and_never_read() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;site code\nPF1;BJO\n");
    let row = set(&site, "domain-join", "", SECRET);
    assert_eq!((row.name.as_str(), row.site.as_str()), ("domain-join", ""));
    assert_eq!((row.changed_by.as_str(), row.releases), ("admin", 0));
    set(&site, "domain-join", "BJO", "of their own");
    set(&site, "domain-join", "BJO", "another of their own");
    let rows = site.admin.secrets().unwrap();
    let places: Vec<&str> = rows.iter().map(|row| row.site.as_str()).collect();
    assert_eq!(places, ["", "BJO"]);
    let try_to = |value: String, at: &str| {
        let site_code = at.to_owned();
        let change = SecretChange {
            value,
            site: site_code,
        };
        status(site.admin.set_secret(&name("wifi"), &change))
    };
    let refused = |code: &str| (400, code.to_owned());
    assert_eq!(try_to(String::new(), ""), refused("no-secret"));
    assert_eq!(try_to("a\0b".into(), ""), refused("bad-secret"));
    assert_eq!(
        try_to("x".repeat(SECRET_BYTES_MAX + 1), ""),
        refused("too-long")
    );
    assert_eq!(try_to("x".into(), "NOWHERE"), (404, "not-found".into()));
    assert_eq!(try_to("\u{1}".repeat(SECRET_BYTES_MAX), "").0, 200);
    let remove = |secret: &str, at: &str| status(site.admin.remove_secret(&name(secret), at));
    assert_eq!(remove("domain-join", "BJO").0, 200);
    assert_eq!(remove("domain-join", "BJO").0, 404);
    assert_eq!(remove("domain-join", "").0, 200);
    let left = site.admin.secrets().unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    let rows: Vec<AuditRow> = site.admin.get("/api/v1/audit?limit=1000").unwrap();
    let told: Vec<String> = rows
        .iter()
        .filter(|row| row.action.starts_with("secret-"))
        .map(|row| format!("{} {} {}", row.action, row.subject, row.detail))
        .collect();
    let expected = [
        "secret-removed domain-join ",
        "secret-removed domain-join for site BJO",
        "secret-set wifi ",
        "secret-set domain-join for site BJO",
        "secret-set domain-join for site BJO",
        "secret-set domain-join ",
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_needs_a_secret_that_is_not_set_does_not_begin() {
    let scene = Scene::new();
    let admin = &scene.site.admin;
    let listed = admin.secrets().unwrap();
    assert_eq!(listed[0].sequences, ["deploy".parse().unwrap()]);
    admin.remove_secret(&name("domain-join"), "").unwrap();
    let findings = admin.lint_sequence(&joining()).unwrap();
    let unset = findings.iter().find(|finding| finding.code == "FS027");
    let hint = unset
        .and_then(|finding| finding.hint.as_deref())
        .unwrap_or_default();
    assert!(
        hint.contains("forestage secret set domain-join"),
        "{findings:?}"
    );
    let refused = admin.put_sequence(&"again".parse().unwrap(), &joining());
    assert_eq!(status(refused), (422, "sequence-refused".into()));
    let deployments = admin.deployments().unwrap();
    let mut winter = deployments[0].clone();
    winter.name = "winter".parse().unwrap();
    let confirm = admin
        .preview_deployment(&winter)
        .unwrap()
        .confirm
        .unwrap_or_default();
    let refused = (409, "secret-not-set".to_owned());
    assert_eq!(status(admin.create_deployment(&winter, &confirm)), refused);
    // A machine that is at work already is told what is missing.
    let answer = scene.get(&scene.session, &key(1));
    assert_eq!(status(answer), (404, "not-found".into()));
    set(&scene.site, "domain-join", "", SECRET);
    assert_eq!(scene.get(&scene.session, &key(1)).unwrap(), SECRET);
    admin.create_deployment(&winter, &confirm).unwrap();
}

#[test]
fn a_run_gets_a_secret_once_for_each_session_and_three_times_at_most() {
    let scene = Scene::new();
    assert_eq!(scene.get(&scene.session, &key(1)).unwrap(), SECRET);
    // The answer got lost.
    assert_eq!(scene.get(&scene.session, &key(1)).unwrap(), SECRET);
    let taken = (409, "released".to_owned());
    assert_eq!(status(scene.get(&scene.session, &key(2))), taken);
    // The power was cut: the machine begins with another session and another key.
    let (second, _) = scene.machine.order(&scene.site);
    assert_eq!(scene.get(&second, &key(2)).unwrap(), SECRET);
    assert_eq!(scene.get(&second, &key(1)).unwrap(), SECRET);
    let (third, _) = scene.machine.order(&scene.site);
    assert_eq!(scene.get(&third, &key(3)).unwrap(), SECRET);
    let (fourth, _) = scene.machine.order(&scene.site);
    let too_often = (409, "released-too-often".to_owned());
    assert_eq!(status(scene.get(&fourth, &key(4))), too_often);
    let rows = scene.detail().secrets;
    let answers: Vec<u64> = rows.iter().map(|row| row.answers).collect();
    assert_eq!(answers, [3, 1, 1]);
    let told: Vec<String> = scene
        .audit("secret-released")
        .iter()
        .rev()
        .map(|row| row.detail.clone())
        .collect();
    let expected: Vec<String> = (1..=3)
        .map(|number| format!("to PF1, run {}, release {number}", scene.run))
        .collect();
    assert_eq!(told, expected);
    // An administrator has it tried again.
    let failed = event(
        scene.run,
        2,
        serde_json::json!({
            "kind": "run-failed", "path": "join", "errors": ["no"], "hint": null,
        }),
    );
    send(
        &fourth,
        scene.run,
        &[good_run(scene.run)[0].clone(), failed],
    );
    assert_eq!(scene.detail().row.state.to_string(), "failed");
    let path = format!("/api/v1/runs/{}/retry", scene.run);
    let _: serde_json::Value = scene.site.admin.send("POST", &path, &()).unwrap();
    assert_eq!(scene.get(&fourth, &key(4)).unwrap(), SECRET);
    assert_eq!(scene.detail().secrets.len(), 4);
    assert_eq!(scene.site.admin.secrets().unwrap()[0].releases, 4);
}

#[test]
fn a_release_is_over_for_other_sessions_after_its_time() {
    let at_once = |patience: &mut server::Patience| patience.secrets_open_for = Duration::ZERO;
    let scene = Scene::on(Site::with_patience(at_once));
    assert_eq!(scene.get(&scene.session, &key(1)).unwrap(), SECRET);
    let over = (409, "released".to_owned());
    // For the session that it was released to, it is over with the session.
    assert_eq!(scene.get(&scene.session, &key(1)).unwrap(), SECRET);
    let (second, _) = scene.machine.order(&scene.site);
    assert_eq!(status(scene.get(&second, &key(1))), over);
    assert_eq!(scene.get(&second, &key(2)).unwrap(), SECRET);
}

#[test]
fn nobody_else_gets_it_and_no_run_that_does_not_need_it() {
    let scene = Scene::new();
    let (run, session) = (scene.run, &scene.session);
    let other = Machine::new("PF2");
    let (others_session, others_order) = other.order(&scene.site);
    let not_there = (404, "not-found".to_owned());
    // With another machine's session, for another run, and with a session that isn't one.
    assert_eq!(
        status(others_session.secret(run, &scene.request(&key(1)))),
        not_there
    );
    assert_eq!(
        status(others_session.secret(run, &other.ask_for("domain-join", run, &key(1)))),
        not_there
    );
    assert_eq!(
        status(session.secret(others_order.run, &scene.request(&key(1)))),
        not_there
    );
    let elsewhere = scene
        .machine
        .ask_for("domain-join", others_order.run, &key(1));
    assert_eq!(status(session.secret(run, &elsewhere)), not_there);
    let anyone = scene.site.server.anyone().with_token(&"0".repeat(64));
    assert_eq!(status(anyone.secret(run, &scene.request(&key(1)))).0, 401);
    assert_eq!(
        status(scene.site.admin.secret(run, &scene.request(&key(1)))).0,
        401
    );
    // Signed by another key, for something else, or changed after signing.
    let bad = (403, "bad-signature".to_owned());
    assert_eq!(
        status(session.secret(run, &other.ask_for("domain-join", run, &key(1)))),
        bad
    );
    let ours = scene.request(&key(1));
    let changed = SecretRequest {
        signature: ours.signature.clone(),
        body: scene.request(&key(2)).body,
    };
    assert_eq!(status(session.secret(run, &changed)), bad);
    let check_in = scene.machine.sign(&ours.body);
    let recycled = SecretRequest {
        signature: check_in.signature,
        ..ours.clone()
    };
    assert_eq!(status(session.secret(run, &recycled)), bad);
    // What isn't asked for by a step, and what can't be read.
    set(&scene.site, "wifi", "", "another secret");
    let unneeded = scene.machine.ask_for("wifi", run, &key(1));
    assert_eq!(
        status(session.secret(run, &unneeded)),
        (403, "not-needed".into())
    );
    for body in ["", "{}", r#"{"run":"x","secret":"y","run-key":"z"}"#] {
        let request = SecretRequest {
            body: body.into(),
            ..ours.clone()
        };
        assert_eq!(
            status(session.secret(run, &request)),
            (400, "bad-json".into()),
            "{body}"
        );
    }
    let wanted = SecretWanted {
        run,
        secret: name("domain-join"),
        run_key: "0".repeat(63),
    };
    let body = serde_json::to_string(&wanted).unwrap();
    let request = SecretRequest {
        body,
        ..ours.clone()
    };
    assert_eq!(
        status(session.secret(run, &request)),
        (400, "bad-run-key".into())
    );
    assert_eq!(scene.detail().secrets, []);
    // Of whatever was heard, nothing opens with another key.
    let answer = session.secret(run, &ours).unwrap();
    assert!(key(2).open(&answer, &ours.body).is_err());
    assert!(key(1).open(&answer, &scene.request(&key(2)).body).is_err());
    // Each site's machines get its own value.
    set(&scene.site, "domain-join", "TRO", "Tromsø 1");
    let request = other.ask_for("domain-join", others_order.run, &key(5));
    let answer = others_session.secret(others_order.run, &request).unwrap();
    assert_eq!(
        key(5).open(&answer, &request.body).unwrap(),
        "Tromsø 1".as_bytes()
    );
}

#[test]
fn a_run_that_ended_or_is_to_stop_gets_nothing() {
    let stopped = Scene::new();
    let _: serde_json::Value = stopped
        .site
        .admin
        .send("POST", &format!("/api/v1/runs/{}/stop", stopped.run), &())
        .unwrap();
    let ended = (409, "run-ended".to_owned());
    assert_eq!(status(stopped.get(&stopped.session, &key(1))), ended);

    let completed = Scene::new();
    send(&completed.session, completed.run, &good_run(completed.run));
    assert_eq!(status(completed.get(&completed.session, &key(1))), ended);

    let stolen = Scene::new();
    let device = stolen.site.device("PF1").device;
    let reason = serde_json::json!({ "reason": "left on the bus" });
    let path = format!("/api/v1/devices/{device}/report-stolen");
    let _: serde_json::Value = stolen.site.admin.send("POST", &path, &reason).unwrap();
    let answer = status(stolen.get(&stolen.session, &key(1)));
    assert!(answer.0 == 409 || answer.0 == 401, "{answer:?}");
}

#[test]
fn a_machine_whose_site_lacks_a_secret_does_not_begin() {
    let site = Site::new();
    site.prepare(100);
    site.import("serial;site code;class\nPF1;BJO;8B\nPF2;TRO;8B\n");
    set(&site, "domain-join", "BJO", "of Bjørnsletta");
    site.admin
        .put_sequence(&"deploy".parse().unwrap(), &joining())
        .unwrap();
    let preview = || {
        let mut winter = site.admin.deployments().unwrap()[0].clone();
        winter.name = "winter".parse().unwrap();
        site.admin.preview_deployment(&winter).unwrap()
    };
    let needs_secret = WarningReason::NeedSecret {
        secret: "domain-join".into(),
        devices: 1,
        sites: "TRO".into(),
    };
    assert!(preview().said.contains(&needs_secret));
    let mut machine = Machine::new("PF2");
    let waits = |machine: &Machine| {
        let reply = machine.check_in(&site);
        let CheckInReply::Idle {
            session,
            retry_seconds: Some(_),
            ..
        } = reply
        else {
            panic!("it would be wiped, and stop for good: {reply:?}");
        };
        let said = site.device("PF2").said;
        let needs = MachineReason::NeedsSecret {
            deployment: "autumn".into(),
            secret: "domain-join".into(),
        };
        assert_eq!(said, Some(needs));
        site.server.anyone().with_token(&session)
    };
    waits(&machine);
    assert!(matches!(
        Machine::new("PF1").check_in(&site),
        CheckInReply::Run { .. }
    ));
    set(&site, "domain-join", "TRO", "of Tromsø");
    assert!(!preview().said.contains(&needs_secret));
    let (_, order) = machine.order(&site);
    // Removed before it began, and while it is at work.
    site.admin
        .remove_secret(&name("domain-join"), "TRO")
        .unwrap();
    let idle = waits(&machine);
    machine.run = Some(order.run);
    assert_eq!(machine.order(&site).1.run, order.run);
    // A machine that goes on by itself has whichever session its last check-in gave it.
    set(&site, "domain-join", "TRO", "of Tromsø");
    let request = machine.ask_for("domain-join", order.run, &key(1));
    let answer = idle.secret(order.run, &request).unwrap();
    let opened = key(1).open(&answer, &request.body).unwrap();
    assert_eq!(opened, "of Tromsø".as_bytes());
    // Stopped while it waits, the run ends, and the next one waits as this one did.
    machine.run = None;
    site.admin
        .remove_secret(&name("domain-join"), "TRO")
        .unwrap();
    waits(&machine);
    let path = format!("/api/v1/runs/{}", order.run);
    let _: serde_json::Value = site
        .admin
        .send("POST", &format!("{path}/stop"), &())
        .unwrap();
    machine.check_in(&site);
    let detail: RunDetail = site.admin.get(&path).unwrap();
    assert_eq!(detail.row.state.to_string(), "stopped");
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_it() {
    let site = Site::new();
    let body = serde_json::json!({ "value": 47_114_711, "site": "" });
    let refused: Result<serde_json::Value, ClientError> =
        site.admin.send("PUT", "/api/v1/secrets/wifi", &body);
    let error = refused.unwrap_err();
    assert_eq!(error.code(), Some("bad-json"));
    assert!(
        !format!("{error} {error:?}").contains("47114711"),
        "{error:?}"
    );
}

#[test]
fn a_token_that_publishes_brings_in_no_further_secret() {
    let scene = Scene::new();
    let new = NewToken {
        title: "build".into(),
        scopes: vec!["publish".into()],
        days: 1,
    };
    let token = scene.site.admin.create_token(&new).unwrap().token;
    let publisher = scene.site.server.anyone().with_token(&token);
    let put = |name: &str, text: &str| {
        let name = name.parse().unwrap();
        status(publisher.put_sequence(&name, text).map(|_| ()))
    };
    let forbidden = (403, "forbidden".to_owned());
    assert_eq!(put("another", &joining()), forbidden);
    assert_eq!(put("another", SEQUENCE).0, 200);
    assert_eq!(put("another", &joining()), forbidden);
    // That sequence had it from an administrator.
    let changed = joining().replace("script: join", "script: join-again");
    assert_eq!(put("deploy", &changed).0, 200);
}

#[test]
fn of_a_thousand_that_ask_at_once_one_gets_it() {
    let scene = Scene::new();
    let barrier = Barrier::new(SIDE_BY_SIDE);
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|thread| {
                let (scene, barrier) = (&scene, &barrier);
                scope.spawn(move || {
                    let keys: Vec<RunKey> = (0..1000 / SIDE_BY_SIDE)
                        .map(|number| key(thread * 1000 + number))
                        .collect();
                    barrier.wait();
                    let asked = keys
                        .iter()
                        .map(|key| status(scene.get(&scene.session, key)));
                    asked.collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let got = answers.iter().filter(|answer| answer.0 == 200).count();
    let refused = answers
        .iter()
        .filter(|answer| answer.1 == "released")
        .count();
    assert_eq!((got, refused), (1, 999));
    assert_eq!(scene.audit("secret-released").len(), 1);
    let rows = scene.detail().secrets;
    assert_eq!((rows.len(), rows[0].answers), (1, 1));
}
