//! The examples of the admin API: a real server is asked every question once, in an order in which each makes sense, and what it
//! says is noted in `routes/answers.json`. Later the answers must have the shape that is noted; `UPDATE=1` notes them anew.

use std::collections::BTreeMap;

use client::ClientError;
use content::sign_root;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value, json};
use wire::bundle::SignatureText;
use wire::digest::Digest;
use wire::keys::PublicKey;
use wire::package::PackageKind;
use wire::warrant::{WarrantRequest, signed_bytes};

use crate::harness::{Machine, PASSWORD, SEQUENCE, Site, event, good_run, login, send};

const NOTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/routes/answers.json");
/// Enough to see that it is a list.
const ROWS_SHOWN: usize = 2;
/// Enough to see what kind of text it is.
const LINES_SHOWN: usize = 6;
const BYTES_MAX: u64 = 1 << 20;
/// More machines than this are two people's business.
const ABOVE: u32 = 100;
/// What differs from server to server for no reason of the API, and what is shown instead. Secrets of a server that is gone
/// would do no harm, but those who look for secrets in repositories can't know that.
const REPLACED: [(&str, &str); 6] = [
    ("token", "fst_the-token-itself-is-shown-once"),
    ("secret", "whsec_the-secret-itself-is-shown-once"),
    ("one-time-password", "to-be-replaced-at-the-first-sign-in"),
    (
        "ca-pem",
        "-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n",
    ),
    ("instance", "urn:forestage:request:9f86d081884c7d65"),
    ("server-url", "https://forestage.example"),
];
/// 21 September 2026 at 14:13:20 in UTC.
const SOME_TIME_MS: u64 = 1_790_000_000_000;
/// Numbers above this are times.
const TIMES_FROM_MS: u64 = 1_500_000_000_000;

/// Who asks, and what was answered.
struct Story {
    site: Site,
    /// Paths as the table of routes has them, by method.
    routes: Vec<(String, String, String)>,
    answers: BTreeMap<String, Value>,
    /// What was refused or couldn't be read: all of it is told at the end.
    refused: Vec<String>,
}

/// A text in an answer; empty if it isn't there, which the next question will tell.
fn text_in(answer: &Value, pointer: &str) -> String {
    match answer.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

impl Story {
    fn new() -> Self {
        let site = Site::with_second_person_above(ABOVE);
        let description: Value = site.admin.get("/api/v1/openapi.json").unwrap();
        let mut routes = Vec::new();
        for (path, methods) in description["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                routes.push((method.to_uppercase(), path.clone(), id.to_owned()));
            }
        }
        let about = json!({ "openapi": description["openapi"], "info": description["info"] });
        let answers = [("get_openapi_json".to_owned(), about)].into();
        Self {
            site,
            routes,
            answers,
            refused: Vec::new(),
        }
    }

    /// The operation that answers this: of those that fit, the one with the most words in common.
    fn operation(&self, method: &str, path: &str) -> String {
        let path = path.split('?').next().unwrap();
        let asked: Vec<&str> = path.split('/').collect();
        let fits = |route: &&(String, String, String)| {
            let words: Vec<&str> = route.1.split('/').collect();
            let same = |(word, asked): (&&str, &&str)| word.starts_with('{') || word == asked;
            route.0 == method && words.len() == asked.len() && words.iter().zip(&asked).all(same)
        };
        let open = |route: &&(String, String, String)| route.1.matches('{').count();
        let found = self.routes.iter().filter(fits).min_by_key(open);
        found
            .unwrap_or_else(|| panic!("no route is {method} {path}"))
            .2
            .clone()
    }

    /// Asks, and notes the first answer of each operation.
    fn ask(&mut self, what: &str, body: Value) -> Value {
        let (method, path) = what.split_once(' ').unwrap();
        let answer = match method {
            "GET" => self.site.admin.get(path),
            _ => self.site.admin.send::<Value, Value>(method, path, &body),
        };
        self.note(method, path, answer)
    }

    fn get(&mut self, path: &str) -> Value {
        self.ask(&format!("GET {path}"), Value::Null)
    }

    fn post(&mut self, path: &str) -> Value {
        self.ask(&format!("POST {path}"), Value::Null)
    }

    fn upload(&mut self, method: &str, path: &str, kind: &str, bytes: &[u8]) -> Value {
        let length = Some(bytes.len() as u64);
        let answer = self
            .site
            .admin
            .upload(method, path, kind, &mut &*bytes, length);
        self.note(method, path, answer)
    }

    fn text(&mut self, path: &str) {
        let bytes = self.site.admin.get_bytes(path, BYTES_MAX);
        let text = bytes.map(|bytes| {
            let text = String::from_utf8(bytes).unwrap();
            let lines: Vec<&str> = text.lines().take(LINES_SHOWN).collect();
            Value::String(lines.join("\n") + "\n")
        });
        self.note("GET", path, text);
    }

    fn note(&mut self, method: &str, path: &str, answer: Result<Value, ClientError>) -> Value {
        let operation = self.operation(method, path);
        match answer {
            Ok(answer) => {
                self.answers
                    .entry(operation)
                    .or_insert_with(|| answer.clone());
                answer
            }
            Err(error) => {
                self.refused.push(format!("{method} {path}: {error:?}"));
                Value::Null
            }
        }
    }
}

/// What is the same in every telling of the story, in its place.
#[derive(Default)]
struct Steady {
    ids: BTreeMap<String, String>,
}

impl Steady {
    fn value(&mut self, key: &str, value: &Value) -> Value {
        match value {
            Value::Array(items) => {
                let shown = items.iter().take(ROWS_SHOWN);
                Value::Array(shown.map(|item| self.value(key, item)).collect())
            }
            Value::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(key, value)| (key.clone(), self.value(key, value)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            Value::Number(number) if number.as_u64().is_some_and(|n| n > TIMES_FROM_MS) => {
                json!(SOME_TIME_MS)
            }
            Value::String(text) => Value::String(self.text(key, text)),
            other => other.clone(),
        }
    }

    fn text(&mut self, key: &str, text: &str) -> String {
        if let Some((_, shown)) = REPLACED.iter().find(|(replaced, _)| *replaced == key) {
            return (*shown).to_owned();
        }
        if text.starts_with("https://127.0.0.1") {
            return "https://forestage.example".to_owned();
        }
        let next = self.ids.len() + 1;
        let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if uuid::Uuid::parse_str(text).is_ok() {
            let id = || format!("0a9d2c1e-5b7f-4c3d-8e6a-{next:012}");
            return self.ids.entry(text.to_owned()).or_insert_with(id).clone();
        }
        if is_digest {
            let digest = || Digest::of(next.to_string().as_bytes()).to_string();
            return self
                .ids
                .entry(text.to_owned())
                .or_insert_with(digest)
                .clone();
        }
        text.to_owned()
    }
}

/// Whether an answer has the fields of its example, of the same types. Of a list each row that is shown must be like some row.
fn is_alike(answer: &Value, example: &Value) -> bool {
    match (answer, example) {
        (Value::Null, _) | (_, Value::Null) => true,
        (Value::Array(rows), Value::Array(shown)) => {
            rows.is_empty() == shown.is_empty()
                && shown
                    .iter()
                    .all(|one| rows.iter().any(|row| is_alike(row, one)))
        }
        (Value::Object(fields), Value::Object(shown)) => {
            fields.keys().eq(shown.keys())
                && fields
                    .iter()
                    .all(|(key, field)| is_alike(field, &shown[key]))
        }
        _ => std::mem::discriminant(answer) == std::mem::discriminant(example),
    }
}

#[test]
fn answers_are_of_the_shape_that_the_description_shows() {
    let mut story = Story::new();
    content_and_prestages(&mut story);
    keys(&mut story);
    machines(&mut story);
    targeting(&mut story);
    runs(&mut story);
    imports(&mut story);
    pupils(&mut story);
    people(&mut story);
    assert_eq!(story.refused, Vec::<String>::new());
    if std::env::var_os("UPDATE").is_some() {
        let mut steady = Steady::default();
        let answers = story.answers.iter();
        let answers = answers.map(|(id, answer)| (id, steady.value("", answer)));
        let answers: BTreeMap<_, Value> = answers.collect();
        let text = serde_json::to_string_pretty(&answers).unwrap();
        std::fs::write(NOTED, text + "\n").unwrap();
    }
    let noted = std::fs::read_to_string(NOTED).unwrap();
    let noted: BTreeMap<String, Value> = serde_json::from_str(&noted).unwrap();
    let is_noted = |(id, answer): &(&String, &Value)| {
        noted
            .get(*id)
            .is_some_and(|example| is_alike(answer, example))
    };
    let others: Vec<_> = story.answers.iter().filter(|one| !is_noted(one)).collect();
    assert!(
        others.is_empty(),
        "answered otherwise than their examples; `UPDATE=1 cargo test -p server --test it examples` notes them anew: {others:?}"
    );
    assert!(
        noted.keys().eq(story.answers.keys()),
        "examples of what isn't asked"
    );
}

#[test]
fn an_answer_of_another_shape_is_seen() {
    let example = json!({ "rows": [{ "serial": "PF1", "at": null }], "next": 1 });
    let check = |answer| is_alike(&answer, &example);
    assert!(check(
        json!({ "rows": [{ "serial": "X", "at": 3 }, { "serial": "Y", "at": null }], "next": null })
    ));
    for other in [
        json!({ "rows": [{ "serial": "X" }], "next": 1 }),
        json!({ "rows": [{ "serial": "X", "at": 3, "by": "" }], "next": 1 }),
        json!({ "rows": [{ "serial": 1, "at": 3 }], "next": 1 }),
        json!({ "rows": [], "next": 1 }),
        json!({ "rows": [{ "serial": "X", "at": 3 }], "next": "1" }),
        json!([]),
    ] {
        assert!(!check(other.clone()), "{other}");
    }
}

/// The site of the tests, and a second version of everything that a prestage carries.
fn content_and_prestages(story: &mut Story) {
    story.site.prepare(100);
    story.get("/api/v1/trust");
    let packages = story.get("/api/v1/packages");
    let packages = packages.as_array().unwrap().iter();
    let mut packages = packages.map(|row| row["package"].clone());
    let java = packages.find(|package| package["name"] == "java").unwrap();
    let manifest = text_in(&java, "/manifest");
    story.ask("POST /api/v1/packages", java);
    story.get("/api/v1/packages/java/uses");
    let path = format!("/api/v1/content/manifests/{manifest}");
    let bytes = story.site.admin.get_bytes(&path, BYTES_MAX).unwrap();
    story.upload("PUT", &path, "application/octet-stream", &bytes);
    story.upload(
        "POST",
        "/api/v1/content/chunks",
        "application/octet-stream",
        &[],
    );
    let lacking = Digest::of(b"never seen").to_string();
    story.ask(
        "POST /api/v1/content/missing",
        json!({ "digests": [lacking] }),
    );
    story.get("/api/v1/content/stats");
    story.post("/api/v1/content/verify");
    story.ask("POST /api/v1/content/gc", json!({ "dry-run": true }));

    story.upload(
        "PUT",
        "/api/v1/sequences/deploy",
        "application/yaml",
        SEQUENCE.as_bytes(),
    );
    let misspelt = SEQUENCE.replace("install-packages", "instal-packages");
    story.upload(
        "POST",
        "/api/v1/sequences/lint",
        "application/yaml",
        misspelt.as_bytes(),
    );
    story.get("/api/v1/sequences");
    story.get("/api/v1/sequences/deploy/versions");
    story.text("/api/v1/sequences/deploy");
    story.text("/api/v1/sequences/deploy/versions/1");

    let definition = json!({
        "sequence": "deploy", "model": { "vendor": "Acme", "product": "Book 14", "sku": "", "baseboard": "" },
        "extra": [], "omit": [],
    });
    story.ask("PUT /api/v1/prestages/book", definition);
    story.get("/api/v1/prestages/book");
    story.get("/api/v1/prestages/book/plan");
    story.post("/api/v1/prestages/book/build");
    story
        .site
        .publish_tree("java", "18", PackageKind::Application, b"java 18");
    story.get("/api/v1/prestages/book/drift");
    story.post("/api/v1/prestages/book/build");
    story.get("/api/v1/prestages");
    story.get("/api/v1/prestage-diff?from=book@1&to=book@2");
}

fn keys(story: &mut Story) {
    let elsewhere = SigningKey::from_bytes(&[7; 32]);
    let public_key = PublicKey::from_bytes(elsewhere.verifying_key().as_bytes());
    story.ask(
        "POST /api/v1/trust/keys",
        json!({ "name": "vault-2026", "public-key": public_key }),
    );
    story.post("/api/v1/trust/keys/vault-2026/use");
    story.get("/api/v1/trust/keys");
    story.post("/api/v1/prestages/book/build");
    let path = "/api/v1/prestages/book/versions/3";
    let root = (story.site.admin)
        .get_bytes(&format!("{path}/root"), BYTES_MAX)
        .unwrap();
    let signature = json!(sign_root(&root, &elsewhere));
    story.ask(&format!("PUT {path}/signature"), signature);
    story.post("/api/v1/trust/keys/server/retire");
}

/// Signed elsewhere, before a machine that was deployed is written over.
fn warrants(story: &mut Story) {
    let elsewhere = SigningKey::from_bytes(&[77; 32]);
    let public_key = PublicKey::from_bytes(elsewhere.verifying_key().as_bytes());
    let key = json!({ "name": "wipe-2026", "purpose": "wipe", "public-key": public_key });
    story.ask("POST /api/v1/trust/keys", key);
    let path = "/api/v1/deployments/autumn/warrants";
    let request = story.get(path);
    let request: WarrantRequest = serde_json::from_value(request).unwrap();
    let warrants = request.machines.iter().map(|machine| {
        let text = request.warrant(machine).text();
        let signature = elsewhere.sign(&signed_bytes(&text)).to_bytes();
        json!({ "text": text, "signature": SignatureText::from_bytes(&signature) })
    });
    let warrants: Vec<Value> = warrants.collect();
    let file =
        json!({ "format": 1, "deployment": "autumn", "key": public_key, "warrants": warrants });
    story.ask(&format!("PUT {path}"), file);
}

const ASSETS: &str = "serial;asset tag;vendor;product;site code;site name;class\n\
    PF1;TK-40117;Acme;Book 14;BJO;Bjørnøya skole;8B\nPF2;TK-40118;Acme;Book 14;BJO;;8B\nPF3;TK-40119;Acme;Book 14;BJO;;9A\n\
    PF4;TK-40120;Acme;Book 14;HAV;Havna skole;9A\nPF5;TK-40121;Acme;Book 14;HAV;;9A\n";

/// A machine's id.
fn id(story: &Story, serial: &str) -> String {
    story.site.device(serial).device.to_string()
}

fn receipt(serial: &str) -> Value {
    json!({
        "format": 1, "serial": serial, "uuid": null, "vendor": "Acme", "product": "Book 14", "macs": [],
        "disk": "/dev/nvme0n1", "disk-serial": "D1", "disk-bytes": 256_060_514_304_u64, "prestage": "book",
        "prestage-version": 1, "bundle": null, "seconds": 61, "result": "staged", "agent": "1.0.0",
    })
}

fn machines(story: &mut Story) {
    story.upload(
        "POST",
        "/api/v1/assets/import?collection=laptops",
        "text/csv",
        ASSETS.as_bytes(),
    );
    let school = json!({ "name": "Bjørnøya skole", "subnets": ["10.17.0.0/16"], "slots": 40 });
    story.ask("PUT /api/v1/sites/BJO", school);
    // Whoever asks from this very computer is at the other school.
    let other = json!({ "name": "Havna skole", "subnets": ["127.0.0.0/8"], "slots": 40 });
    story
        .site
        .admin
        .send::<_, Value>("PUT", "/api/v1/sites/HAV", &other)
        .unwrap();
    story.ask("POST /api/v1/receipts", receipt("PF1"));
    let files = json!([
        { "name": "PF2.json", "text": receipt("PF2").to_string() },
        { "name": "PF3.json", "text": "{" },
    ]);
    story.ask(
        "POST /api/v1/receipts/import",
        json!({ "dry-run": false, "files": files }),
    );
    story.get("/api/v1/receipts");
    let asked = json!({ "serials": ["PF1", "PF9"], "oldest": [], "state": "" });
    story.ask("POST /api/v1/receipts/reconcile", asked);

    let pf1 = id(story, "PF1");
    let room = json!({ "scope": "class", "name": "8B", "set": { "update": false }, "unset": [] });
    story.ask("POST /api/v1/variables", room);
    story.get("/api/v1/variables");
    story.get(&format!("/api/v1/devices/{pf1}/variables"));
    let asked = json!({
        "devices": { "kind": "serials", "serials": ["PF1"] }, "what": { "kind": "due" }, "detailed": true,
    });
    story.ask("POST /api/v1/plans", asked);
    let names = json!({ "template": "{{ site.code }}-{{ number(3) }}", "collection": "laptops", "apply": false });
    story.ask("POST /api/v1/device-names", names);
    story.ask(
        &format!("POST /api/v1/devices/{pf1}/asset"),
        json!({ "class": "8C" }),
    );
    story.get(&format!("/api/v1/devices/{pf1}/asset"));
    let pf5 = format!("/api/v1/devices/{}", id(story, "PF5"));
    story.ask(
        &format!("POST {pf5}/retire"),
        json!({ "reason": "worn out" }),
    );
    story.ask(
        &format!("POST {pf5}/restore"),
        json!({ "reason": "mended" }),
    );
    story.ask(
        &format!("POST {pf5}/report-stolen"),
        json!({ "reason": "taken from the bus" }),
    );
    story.get("/api/v1/find?text=TK-40117");
    story.ask(
        "PUT /api/v1/classes/BJO/8B",
        json!({ "title": "Naturfag", "software": ["geogebra"] }),
    );
    story.get("/api/v1/classes");
    story.ask("DELETE /api/v1/classes/BJO/8B", Value::Null);
    story.get("/api/v1/models");
    story.ask(
        "PUT /api/v1/model-aliases/BOOK-14-NO",
        json!({ "product": "Book 14" }),
    );
    story.get("/api/v1/model-aliases");
    story.ask("DELETE /api/v1/model-aliases/BOOK-14-NO", Value::Null);

    let stranger = Machine::new("Default string");
    stranger.check_in(&story.site);
    let waiting = story.get("/api/v1/quarantine");
    let machine = text_in(&waiting, "/0/machine");
    let decision =
        json!({ "machines": [machine], "decision": { "what": "reject", "reason": "not ours" } });
    story.ask("POST /api/v1/quarantine/decide", decision);
    story.post(&format!("/api/v1/quarantine/{machine}/undo"));
}

fn targeting(story: &mut Story) {
    let pf3 = id(story, "PF3");
    story.ask(
        "PUT /api/v1/collections/first-years",
        json!({ "name": "first-years", "title": "First years" }),
    );
    let rule = json!({ "rule": "class is startingwith('8')", "limit-to": "laptops" });
    story.ask("PUT /api/v1/collections/first-years/rule", rule);
    story.get("/api/v1/collections/first-years/rule");
    story.get("/api/v1/collections/first-years/preview");
    story.ask(
        "POST /api/v1/collections/first-years/members",
        json!({ "add": [pf3], "remove": [] }),
    );
    story.get("/api/v1/collections/first-years/members");
    let exclude = json!({ "exclude": [pf3], "reason": "in repair" });
    story.ask("POST /api/v1/collections/first-years/excluded", exclude);
    story.get("/api/v1/collections");

    let repair = json!({
        "name": "repair", "collection": "laptops", "sequence": "deploy", "purpose": "available",
        "expected-seconds": 1500, "cap": 3,
    });
    let preview = story.ask("POST /api/v1/deployments/preview", repair.clone());
    let mut confirmed = repair.clone();
    confirmed["confirm"] = preview["confirm"].clone();
    story.ask("PUT /api/v1/deployments/repair", confirmed);
    story.get("/api/v1/deployments");
    let cap = json!({ "cap": 4, "confirm": "repair 4" });
    story.ask("POST /api/v1/deployments/repair/cap", cap);
    approvals(story, &repair);
    story.ask(
        "POST /api/v1/deployments/repair/stop",
        json!({ "let-running-finish": true }),
    );
    let status = story.get("/api/v1/deployments/repair/status");
    let words = json!({ "confirm": status["confirm-resume"].as_str().unwrap_or_default() });
    story.ask("POST /api/v1/deployments/repair/resume", words);
    story.get(&format!("/api/v1/devices/{pf3}/startable"));
    let one = json!({ "devices": [pf3], "confirm": "repair 1" });
    story.ask("POST /api/v1/deployments/repair/start", one.clone());
    story.ask("POST /api/v1/deployments/repair/cancel", one.clone());
    story.ask("POST /api/v1/deployments/repair/uncancel", one);

    story.ask(
        "PUT /api/v1/views/failed-at-BJO",
        json!({ "query": "site=BJO&state=failed", "shared": true }),
    );
    story.get("/api/v1/views");
    story.get("/api/v1/views/failed-at-BJO");
    story.ask(
        "DELETE /api/v1/views/failed-at-BJO?shared=true",
        Value::Null,
    );
}

/// Another administrator asks for more than one person decides about, twice.
fn approvals(story: &mut Story, like: &Value) {
    let ola = story.site.colleague("ola");
    for (cap, decision) in [(ABOVE + 1, "decline"), (ABOVE + 2, "approve")] {
        let mut much = like.clone();
        much["name"] = format!("everyone-{cap}").into();
        much["cap"] = cap.into();
        let preview: Value = ola
            .send("POST", "/api/v1/deployments/preview", &much)
            .unwrap();
        much["confirm"] = preview["confirm"].clone();
        let path = format!("/api/v1/deployments/everyone-{cap}");
        ola.send::<_, Value>("PUT", &path, &much).unwrap();
        let status: Value = ola.get(&format!("{path}/status")).unwrap();
        let body = match decision {
            "approve" => json!({ "confirm": status["approval"]["confirm"] }),
            _ => json!({ "reason": "after the exams" }),
        };
        story.ask(&format!("POST {path}/{decision}"), body);
    }
}

/// PF1 completes, PF2 and PF3 fail and are tried again, PF4 is stopped.
fn runs(story: &mut Story) {
    let (device, order) = Machine::new("PF1").order(&story.site);
    send(&device, order.run, &good_run(order.run));
    let completed = order.run;
    let failed = json!({
        "kind": "run-failed", "path": "os", "errors": ["cannot apply the image", "the disk is full"],
        "hint": "take a larger disk",
    });
    let mut retried = String::new();
    for serial in ["PF3", "PF2"] {
        let (device, order) = Machine::new(serial).order(&story.site);
        let mut events = good_run(order.run);
        events.truncate(3);
        events.push(event(order.run, 4, failed.clone()));
        send(&device, order.run, &events);
        retried = format!("/api/v1/runs/{}", order.run);
    }
    story.post(&format!("{retried}/retry"));
    story.post("/api/v1/deployments/autumn/retry-failed");
    let (_, order) = Machine::new("PF4").order(&story.site);
    let run = format!("/api/v1/runs/{}", order.run);
    story.post(&format!("{run}/stop"));
    let completed = format!("/api/v1/runs/{completed}");
    story.get(&completed);
    story.get(&format!("{completed}/events"));
    story.get("/api/v1/runs");
    story.text("/api/v1/runs.csv");
    story.get("/api/v1/insights");
    story.text("/api/v1/insights.csv?report=days");
    story.ask(
        &format!("POST {completed}/rerun"),
        json!({ "confirm": "rerun PF1" }),
    );
    warrants(story);
    let pf1 = format!("/api/v1/devices/{}", id(story, "PF1"));
    story.get("/api/v1/devices");
    story.get(&pf1);
    story.text("/api/v1/devices.csv");
    story.get("/api/v1/sites");
    story.get("/api/v1/sites/BJO");
    story.ask(
        "POST /api/v1/devices/move-to-seen-site",
        json!({ "devices": [id(story, "PF1")] }),
    );
    story.post(&format!("{pf1}/reset-key"));
    story
        .site
        .admin
        .send::<_, Value>("PUT", "/api/v1/sites/NY", &json!({ "name": "Nyskolen" }))
        .unwrap();
    story.ask("DELETE /api/v1/sites/NY", Value::Null);
    story.get("/api/v1/asset-computers");
}

fn imports(story: &mut Story) {
    let order = "Serienr;Inventarnr;Klasse;Rom\nPF6;TK-40122;8A;101\nPF7;TK-40123;8A;101\nPF6;TK-40124;8A;101\n";
    let draft = story.upload(
        "POST",
        "/api/v1/imports?file=ordre-4711.csv&collection=laptops",
        "application/octet-stream",
        order.as_bytes(),
    );
    let import = format!("/api/v1/imports/{}", draft["import"]["import"]);
    let settings = json!({ "sheet": 0, "mapping": { "Rom": "field:room" }, "profile": "", "collection": "laptops" });
    story.ask(&format!("POST {import}/settings"), settings);
    story.get(&import);
    story.ask(
        &format!("POST {import}/accept"),
        json!({ "valid-rows-only": true, "seen": "" }),
    );
    story.get(&format!("{import}/reconciliation"));
    story.text(&format!("{import}/reconciliation.csv"));
    story.ask(
        &format!("POST {import}/undo"),
        json!({ "force": false, "dry-run": true }),
    );
    let path = "/api/v1/imports?file=ordre-4712.csv";
    let draft = story.upload("POST", path, "application/octet-stream", order.as_bytes());
    story.post(&format!(
        "/api/v1/imports/{}/discard",
        draft["import"]["import"]
    ));
    story.get("/api/v1/imports");
    let profile =
        json!({ "name": "acme", "titles": ["Serienr", "Rom"], "mapping": { "Serienr": "serial" } });
    story.ask("PUT /api/v1/import-profiles/acme", profile);
    story.get("/api/v1/import-profiles");
    story.post("/api/v1/import-profiles/acme/remove");
}

fn pupils(story: &mut Story) {
    let list = "elevnummer;navn;skole;klasse\nkarnor01;Kari Nordmann;BJO;8B\naasode01;Åse Ødegård;BJO;8B\n";
    story.upload("POST", "/api/v1/pupils/import", "text/csv", list.as_bytes());
    let ola =
        json!({ "external-id": "olan1", "name": "Ola Nordmann", "site": "BJO", "class": "8B" });
    let made = story.ask("POST /api/v1/pupils", ola.clone());
    let pupil = text_in(&made, "/pupil/pupil");
    story.ask("POST /api/v1/assignments/scan", json!({ "text": "PF2" }));
    let give =
        json!({ "device": id(story, "PF2"), "pupil": pupil, "note": "a scratch on the lid" });
    let given = story.ask("POST /api/v1/assignments", give);
    let assignment = format!(
        "/api/v1/assignments/{}",
        text_in(&given, "/made/assignment")
    );
    story.get("/api/v1/assignments");
    story.text("/api/v1/assignments.csv");
    story.get("/api/v1/assignments/classes");
    story.get("/api/v1/assignments/class?site=BJO&class=8B");
    story.ask(&format!("PUT /api/v1/pupils/{pupil}"), ola);
    story.get(&format!("/api/v1/pupils/{pupil}"));
    story.get(&format!("/api/v1/pupils/{pupil}/export"));
    story.get("/api/v1/pupils");
    let rows = story.ask(
        "POST /api/v1/pupils/search",
        json!({ "text": "ødegård", "site": "BJO" }),
    );
    let pair = json!({ "device": id(story, "PF3"), "pupil": rows[0]["pupil"] });
    story.ask("POST /api/v1/assignments/pairs", json!({ "pairs": [pair] }));
    story.ask(
        &format!("POST {assignment}/return"),
        json!({ "condition": "the charger is missing" }),
    );
    story.post(&format!("{assignment}/reopen"));
    story.post(&format!("{assignment}/undo"));
    let pairs = "serienummer;elevnummer\nPF2;olan1\nPF9;olan1\n";
    story.upload(
        "POST",
        "/api/v1/assignments/import?dry-run=true",
        "text/csv",
        pairs.as_bytes(),
    );
    story.get("/api/v1/hand-out-settings");
    let settings = json!({ "retention-days": 365, "owner-line": "Tilhører Bjørnøya kommune" });
    story.ask("PUT /api/v1/hand-out-settings", settings);
    story.post(&format!("/api/v1/pupils/{pupil}/erase"));
}

fn people(story: &mut Story) {
    let hook = json!({ "url": "https://127.0.0.1:9/forestage", "title": "Asset system", "events": ["run.completed"] });
    let made = story.ask("POST /api/v1/webhooks", hook);
    let hook = format!("/api/v1/webhooks/{}", made["webhook"]["webhook"]);
    story.ask(
        &format!("PUT {hook}"),
        json!({ "events": ["run.completed", "run.failed"] }),
    );
    story.post(&format!("{hook}/new-secret"));
    let tried = story.post(&format!("{hook}/test"));
    story.post(&format!("{hook}/pause"));
    story.get(&format!("{hook}/deliveries"));
    let message = text_in(&tried, "/message");
    story.post(&format!("{hook}/resume"));
    story.post(&format!("{hook}/deliveries/{message}/resend"));
    story.get("/api/v1/webhooks");
    story.ask(&format!("DELETE {hook}"), Value::Null);

    let secret = json!({ "value": "nine goats in the fog" });
    story.ask("PUT /api/v1/secrets/domain-join", secret);
    story.get("/api/v1/secrets");
    story.ask("DELETE /api/v1/secrets/domain-join", Value::Null);

    let one = json!(login(PASSWORD));
    story.ask("POST /api/v1/login", one);
    story.ask("PUT /api/v1/me/language", json!({ "language": "nb" }));
    story.get("/api/v1/me");
    story.ask(
        "POST /api/v1/users",
        json!({ "name": "kari", "role": "school-admin", "site": "BJO" }),
    );
    let role = json!({ "role": "factory-operator", "prestages": ["book"] });
    story.ask("PUT /api/v1/users/kari/role", role);
    story.post("/api/v1/users/kari/reset-password");
    story.get("/api/v1/users");
    story.ask(
        "POST /api/v1/tokens",
        json!({ "title": "asset system", "scopes": ["view"], "days": 365 }),
    );
    story.get("/api/v1/tokens");
    story.get("/api/v1/audit");
    story.text("/api/v1/audit.csv");
    story.get("/api/v1/audit/head");
    story.get("/api/v1/audit/verify");
}
