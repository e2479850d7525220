//! Every event, caused by what really causes it, reaches a real receiver with a right signature.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use wire::device_api::{RefusalReason, RefusedOrder};
use wire::imports::{AcceptImport, ImportSettings};
use wire::webhooks::{NewWebhook, WebhookChange, WebhookEvent};

use crate::admin::refusal;
use crate::harness::{Machine, Site, event, good_run, send};

const PATIENCE: Duration = Duration::from_secs(60);
const ASSETS: &str = "serial;asset tag;site code;site name;class\nPF1;A1;BJO;Bjørnøya skole;8B\nPF2;A2;BJO;;9A\nPF3;A3;BJO;;9A\n";

/// A message as a receiver got it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Message {
    fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// What a receiver does by the book.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        let timestamp = &self.headers["webhook-timestamp"];
        let seconds: i64 = timestamp.parse().unwrap();
        let now = jiff::Timestamp::now().as_second();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{timestamp}.{}", self.id(), self.body).as_bytes());
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let mut signatures = self.headers["webhook-signature"].split(' ');
        (now - seconds).abs() < 300 && signatures.any(|one| one == expected)
    }
}

#[derive(Default)]
struct Inbox {
    messages: Mutex<Vec<Message>>,
    came: Condvar,
    /// What to answer; 200 when it has run out.
    answers: Mutex<Vec<u16>>,
}

/// A receiver on a free port; it answers with what it was sent.
pub(crate) struct Receiver {
    url: String,
    inbox: Arc<Inbox>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "http://{}/hook?from=forestage",
            listener.local_addr().unwrap()
        );
        let inbox = Arc::new(Inbox::default());
        let shared = Arc::clone(&inbox);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inbox = Arc::clone(&shared);
                std::thread::spawn(move || receive(&stream, &inbox));
            }
        });
        Self { url, inbox }
    }

    fn answer(&self, statuses: &[u16]) {
        self.inbox
            .answers
            .lock()
            .unwrap()
            .extend(statuses.iter().rev());
    }

    /// Waits until so many messages of this kind have come; all messages so far.
    pub(crate) fn wait(&self, kind: &str, count: usize) -> Vec<Message> {
        let start = Instant::now();
        let mut messages = self.inbox.messages.lock().unwrap();
        loop {
            let of_kind: Vec<Message> = messages
                .iter()
                .filter(|message| message.kind() == kind)
                .cloned()
                .collect();
            if of_kind.len() >= count {
                return of_kind;
            }
            let kinds: Vec<String> = messages.iter().map(Message::kind).collect();
            assert!(start.elapsed() < PATIENCE, "no {kind}, only {kinds:?}");
            messages = self
                .inbox
                .came
                .wait_timeout(messages, Duration::from_secs(1))
                .unwrap()
                .0;
        }
    }

    fn all(&self) -> Vec<Message> {
        self.inbox.messages.lock().unwrap().clone()
    }
}

fn receive(stream: &TcpStream, inbox: &Inbox) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "POST /hook?from=forestage HTTP/1.1\r\n");
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let status = inbox.answers.lock().unwrap().pop().unwrap_or(200);
    let answer = format!("thanks for {body}");
    inbox
        .messages
        .lock()
        .unwrap()
        .push(Message { headers, body });
    inbox.came.notify_all();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    )
    .unwrap();
}

/// A receiver for everything, and its secret.
pub(crate) fn subscribe(site: &Site) -> (Receiver, String) {
    let receiver = Receiver::start();
    let new = NewWebhook {
        url: receiver.url.clone(),
        title: "Eiendeler".into(),
        ..NewWebhook::default()
    };
    let made = site.admin.add_webhook(&new).unwrap();
    (receiver, made.secret)
}

/// Makes everything happen that a receiver can be told.
fn everything(site: &Site) {
    site.prepare(2);
    site.import(ASSETS);
    site.receipt("PF1", 3, "staged");
    Machine::new("UKJENT").check_in(site);
    // Three are one too many.
    Machine::new("PF3").check_in(site);
    let _raised: Value = site
        .admin
        .send(
            "POST",
            "/api/v1/deployments/autumn/cap",
            &json!({"cap": 3, "confirm": "autumn 3"}),
        )
        .unwrap();
    let stolen = Machine::new("PF1");
    let (device, order) = stolen.order(site);
    assert_eq!(
        send(&device, order.run, &good_run(order.run)).acknowledged,
        6
    );
    let mut failing = Machine::new("PF2");
    let (device, order) = failing.order(site);
    let mut events = good_run(order.run);
    events[5] = event(
        order.run,
        6,
        json!({"kind": "run-failed", "path": "os", "errors": ["cannot write", "no space"]}),
    );
    assert_eq!(send(&device, order.run, &events).acknowledged, 6);
    let _run: Value = site
        .admin
        .send("POST", &format!("/api/v1/runs/{}/retry", order.run), &())
        .unwrap();
    failing.refused = Some(RefusedOrder {
        run: order.run,
        reason: RefusalReason::BadWarrant,
        text: "it was altered".into(),
    });
    let (device, _) = failing.order(site);
    let resumed = event(
        order.run,
        7,
        json!({"kind": "run-aborted", "reason": "an administrator wants it"}),
    );
    assert_eq!(send(&device, order.run, &[resumed]).acknowledged, 7);
    let _stopped: Value = site
        .admin
        .send("POST", "/api/v1/deployments/autumn/stop", &json!({}))
        .unwrap();
    hand_out_and_back(site);
    let device = site.device("PF1").device;
    for (what, reason) in [("retire", "worn out"), ("report-stolen", "from the bus")] {
        let path = format!("/api/v1/devices/{device}/{what}");
        let _asset: Value = site
            .admin
            .send("POST", &path, &json!({ "reason": reason }))
            .unwrap();
    }
    stolen.check_in(site);
    let path = format!("/api/v1/devices/{device}/restore");
    let _asset: Value = site
        .admin
        .send("POST", &path, &json!({ "reason": "found" }))
        .unwrap();
}

fn hand_out_and_back(site: &Site) {
    let pupil: Value = site
        .admin
        .send(
            "POST",
            "/api/v1/pupils",
            &json!({"external-id": "olan1", "name": "Ola Nordmann", "site": "BJO", "class": "8B"}),
        )
        .unwrap();
    let device = site.device("PF1").device;
    let made: Value = site
        .admin
        .send(
            "POST",
            "/api/v1/assignments",
            &json!({"device": device, "pupil": pupil["pupil"]["pupil"]}),
        )
        .unwrap();
    let id = made["made"]["assignment"].as_str().unwrap().to_owned();
    let _back: Value = site
        .admin
        .send(
            "POST",
            &format!("/api/v1/assignments/{id}/return"),
            &json!({}),
        )
        .unwrap();
}

#[test]
fn every_event_reaches_a_receiver_with_a_right_signature() {
    let site = Site::new();
    let (receiver, secret) = subscribe(&site);
    everything(&site);
    site.admin.test_webhook(1).unwrap();
    for kind in WebhookEvent::ALL {
        // A run that stalls has a test of its own.
        if kind != WebhookEvent::RunStalled {
            receiver.wait(kind.name(), 1);
        }
    }
    let messages = receiver.all();
    for message in &messages {
        assert!(message.is_signed_with(&secret), "{message:?}");
        assert!(!message.is_signed_with("whsec_AAAA"));
        assert_eq!(message.headers["content-type"], "application/json");
    }
    let data = |kind: &str| receiver.wait(kind, 1)[0].json()["data"].clone();
    let completed = data("run.completed");
    assert_eq!(completed["device"]["serial"], "PF1");
    assert_eq!(completed["device"]["asset-tag"], "A1");
    assert_eq!(completed["run"]["host-name"], "bjo-8b-pf1");
    assert_eq!(completed["run"]["deployment"], "autumn");
    assert_eq!(
        data("run.failed")["failure"],
        json!({"step": "os", "errors": ["cannot write", "no space"]})
    );
    assert_eq!(
        data("run.refused")["refusal"],
        json!({"reason": "bad-warrant", "text": "it was altered"})
    );
    assert_eq!(
        data("device.staged")["prestage"],
        json!({"name": "book", "version": 3})
    );
    assert_eq!(data("device.quarantined")["device"]["serial"], "UKJENT");
    assert_eq!(data("device.retired")["reason"], "worn out");
    assert_eq!(data("device.stolen")["reason"], "from the bus");
    let seen = data("device.stolen-seen");
    assert_eq!(
        (&seen["device"]["serial"], &seen["address"]),
        (&json!("PF1"), &json!("127.0.0.1"))
    );
    assert_eq!(data("device.restored")["reason"], "found");
    assert_eq!(data("import.accepted")["new"], 3);
    assert_eq!(
        data("deployment.cap-reached"),
        json!({"deployment": "autumn", "cap": 2})
    );
    assert_eq!(data("deployment.stopped"), json!({"deployment": "autumn"}));
    assert_eq!(data("assignment.made")["pupil"], json!({"id": "olan1"}));
    assert_eq!(data("assignment.ended")["device"]["serial"], "PF1");
    // A name of a child is in none of them.
    assert!(
        messages
            .iter()
            .all(|message| !message.body.contains("Nordmann"))
    );
    let ids: std::collections::BTreeSet<&str> = messages.iter().map(Message::id).collect();
    assert_eq!(ids.len(), messages.len(), "each message once");
}

#[test]
fn a_draft_that_is_accepted_is_told_once_and_a_refused_one_is_not() {
    let site = Site::new();
    site.prepare(2);
    let (receiver, secret) = subscribe(&site);
    let settings = ImportSettings {
        collection: "laptops".into(),
        ..ImportSettings::default()
    };
    let text = "serial;class\nPF1;8A\nPF2;8B\nPF2;8C\n";
    let draft = site
        .admin
        .upload_import("ordre.csv", text.as_bytes(), &settings)
        .unwrap();
    let id = draft.import.import;
    let all_rows = AcceptImport::default();
    assert_eq!(
        refusal(site.admin.accept_import(id, &all_rows)).1,
        "rows-refused"
    );
    let valid_rows = AcceptImport {
        valid_rows_only: true,
        ..AcceptImport::default()
    };
    site.admin.accept_import(id, &valid_rows).unwrap();
    let messages = receiver.wait("import.accepted", 1);
    let told = site.admin.webhook_deliveries(1).unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(messages[0].is_signed_with(&secret));
    assert_eq!(
        messages[0].json()["data"],
        json!({"new": 2, "changed": 0, "unchanged": 0, "collection": "laptops"})
    );
}

#[test]
fn a_run_that_falls_silent_is_told_once_and_again_after_it_was_heard_of() {
    let site = Site::with_patience(|patience| patience.stalled_after = Duration::from_millis(400));
    let (receiver, secret) = subscribe(&site);
    site.prepare(10);
    site.import(ASSETS);
    let (device, order) = Machine::new("PF1").order(&site);
    let message = receiver.wait("run.stalled", 1).remove(0);
    assert!(message.is_signed_with(&secret));
    assert_eq!(message.json()["data"]["run"]["id"], json!(order.run));
    let events = good_run(order.run);
    send(&device, order.run, &events[..2]);
    receiver.wait("run.stalled", 2);
    send(&device, order.run, &events);
    receiver.wait("run.completed", 1);
    assert_eq!(
        receiver.wait("run.stalled", 2).len(),
        2,
        "what has ended can't stall"
    );
}

#[test]
fn a_receiver_that_is_down_gets_everything_later_under_the_same_ids() {
    let site =
        Site::with_patience(|patience| patience.webhook_waits = vec![Duration::from_millis(50); 3]);
    let (receiver, secret) = subscribe(&site);
    receiver.answer(&[500, 302]);
    site.prepare(10);
    site.import(ASSETS);
    let tries = receiver.wait("import.accepted", 3);
    assert!(
        tries
            .iter()
            .all(|message| message.id() == tries[0].id() && message.is_signed_with(&secret))
    );
    let delivery = wait_for_state(&site, "delivered");
    let statuses: Vec<Option<u64>> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["status"].as_u64())
        .collect();
    assert_eq!(statuses, [Some(500), Some(302), Some(200)]);
    let answer = delivery["attempts"][0]["answer"].as_str().unwrap();
    assert!(answer.starts_with("thanks for {"), "{answer}");
    // Once more by hand.
    site.admin.resend_webhook(1, tries[0].id()).unwrap();
    let again = receiver.wait("import.accepted", 4);
    assert_eq!(again[3].id(), again[0].id());
}

fn wait_for_state(site: &Site, state: &str) -> Value {
    let start = Instant::now();
    loop {
        let rows = site.admin.webhook_deliveries(1).unwrap();
        let rows = serde_json::to_value(rows).unwrap();
        if rows[0]["state"] == state {
            return rows[0].clone();
        }
        assert!(start.elapsed() < PATIENCE, "{rows}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_receiver_that_never_answers_well_is_paused_and_gets_what_waited_when_it_goes_on() {
    let site =
        Site::with_patience(|patience| patience.webhook_waits = vec![Duration::from_millis(20)]);
    let (receiver, _) = subscribe(&site);
    receiver.answer(&[500, 503]);
    site.prepare(10);
    site.import(ASSETS);
    receiver.wait("import.accepted", 2);
    wait_for_state(&site, "failed");
    let row = site.admin.webhooks().unwrap().remove(0);
    assert_eq!((row.state.as_str(), row.failed), ("paused", 1));
    assert!(
        row.reason.contains("its last answer was 503"),
        "{}",
        row.reason
    );
    site.receipt("PF1", 3, "staged");
    assert_eq!(site.admin.webhooks().unwrap()[0].waiting, 1);
    assert_eq!(
        refusal(site.admin.resend_webhook(1, receiver.all()[0].id())).1,
        "paused"
    );
    site.admin.resume_webhook(1).unwrap();
    receiver.wait("device.staged", 1);
}

#[test]
fn a_restart_of_the_server_loses_nothing() {
    let site = Site::new();
    let (receiver, secret) = subscribe(&site);
    site.admin.pause_webhook(1).unwrap();
    site.prepare(10);
    site.import(ASSETS);
    let site = site.restart();
    assert!(receiver.all().is_empty());
    site.admin.resume_webhook(1).unwrap();
    let messages = receiver.wait("import.accepted", 1);
    assert!(
        messages[0].is_signed_with(&secret),
        "the secret outlives a restart"
    );
    wait_for_state(&site, "delivered");
    let site = site.restart();
    site.receipt("PF1", 3, "staged");
    receiver.wait("device.staged", 1);
    assert_eq!(
        receiver.wait("import.accepted", 1).len(),
        1,
        "what was delivered is not delivered again"
    );
}

#[test]
fn only_what_was_asked_for_is_told() {
    let site = Site::new();
    let receiver = Receiver::start();
    let new = NewWebhook {
        url: receiver.url.clone(),
        events: vec![WebhookEvent::DeviceStaged],
        ..NewWebhook::default()
    };
    site.admin.add_webhook(&new).unwrap();
    site.prepare(10);
    site.import(ASSETS);
    site.receipt("PF1", 3, "failed");
    site.receipt("PF1", 3, "staged");
    // The same receipt again is no news.
    site.receipt("PF1", 3, "staged");
    site.admin.test_webhook(1).unwrap();
    receiver.wait("device.staged", 1);
    let kinds: Vec<String> = receiver.all().iter().map(Message::kind).collect();
    assert_eq!(
        kinds.iter().filter(|kind| *kind != "test").count(),
        1,
        "{kinds:?}"
    );
    site.admin.remove_webhook(1).unwrap();
    assert!(site.admin.webhooks().unwrap().is_empty());
    assert_eq!(refusal(site.admin.test_webhook(1)).1, "not-found");
}

#[test]
fn a_private_authority_is_trusted_only_where_it_is_given() {
    let site = Site::new();
    site.prepare(10);
    // Any HTTPS server of a private authority will do: it answers 401, so the handshake was good.
    let url = format!("{}/api/v1/none", site.server.ready.urls[0]);
    let ca_pem = std::fs::read_to_string(&site.server.ready.ca_path).unwrap();
    let with = |ca_pem: &str| {
        let new = NewWebhook {
            url: url.clone(),
            ca_pem: ca_pem.into(),
            ..NewWebhook::default()
        };
        let made = site.admin.add_webhook(&new).unwrap();
        site.admin
            .test_webhook(made.webhook.webhook)
            .unwrap()
            .attempts
            .remove(0)
    };
    assert_eq!(with(&ca_pem).status, Some(401));
    let stranger = with("");
    assert_eq!(stranger.status, None);
    assert!(
        stranger.error.contains("UnknownIssuer"),
        "{}",
        stranger.error
    );
}

#[test]
fn addresses_that_leak_are_refused() {
    let site = Site::new();
    for (url, code) in [
        ("http://assets.example/hook", "bad-url"),
        ("https://user:secret@assets.example/", "bad-url"),
        ("file:///etc/passwd", "bad-url"),
        ("", "bad-url"),
    ] {
        let new = NewWebhook {
            url: url.into(),
            ..NewWebhook::default()
        };
        assert_eq!(refusal(site.admin.add_webhook(&new)).1, code, "{url}");
    }
    let new = NewWebhook {
        url: "https://a.example/".into(),
        ca_pem: "no PEM".into(),
        ..NewWebhook::default()
    };
    assert_eq!(refusal(site.admin.add_webhook(&new)).1, "bad-ca");
    let unknown = json!({"url": "https://a.example/", "events": ["run.exploded"]});
    assert!(
        site.admin
            .send::<_, Value>("POST", "/api/v1/webhooks", &unknown)
            .is_err()
    );
}

#[test]
fn a_webhook_is_changed_and_gets_a_new_secret_while_its_log_stays() {
    let site = Site::new();
    site.prepare(2);
    let (receiver, first) = subscribe(&site);
    let tested = |count: usize| {
        site.admin.test_webhook(1).unwrap();
        receiver.wait("test", count).remove(count - 1)
    };
    tested(1);
    let second = site.admin.new_webhook_secret(1).unwrap();
    assert!(second.webhook.old_secret_until_ms.is_some());
    let message = tested(2);
    assert!(message.is_signed_with(&second.secret) && message.is_signed_with(&first));
    let third = site.admin.new_webhook_secret(1).unwrap().secret;
    let message = tested(3);
    assert!(message.is_signed_with(&third) && message.is_signed_with(&second.secret));
    assert!(!message.is_signed_with(&first), "one old secret at a time");

    let other = Receiver::start();
    let change = WebhookChange {
        url: Some(other.url.clone()),
        events: Some(vec![WebhookEvent::DeviceStaged]),
        ..WebhookChange::default()
    };
    let row = site.admin.change_webhook(1, &change).unwrap();
    assert_eq!(
        (row.title.as_str(), row.url),
        ("Eiendeler", other.url.clone())
    );
    site.import(ASSETS);
    site.receipt("PF1", 3, "staged");
    let told = other.wait("device.staged", 1);
    assert!(told[0].is_signed_with(&third), "it keeps its secret");
    site.admin.test_webhook(1).unwrap();
    let kinds: Vec<String> = other.all().iter().map(Message::kind).collect();
    assert_eq!(
        kinds,
        ["device.staged", "test"],
        "of the import it isn't told"
    );
    assert_eq!(site.admin.webhook_deliveries(1).unwrap().len(), 5);
    let nothing = site.admin.change_webhook(1, &WebhookChange::default());
    assert_eq!(nothing.unwrap().events, [WebhookEvent::DeviceStaged]);
    let bad = WebhookChange {
        url: Some("http://assets.example".into()),
        ..WebhookChange::default()
    };
    assert_eq!(refusal(site.admin.change_webhook(1, &bad)).1, "bad-url");
    assert_eq!(refusal(site.admin.change_webhook(9, &change)).0, 404);
    assert_eq!(refusal(site.admin.new_webhook_secret(9)).0, 404);
}
