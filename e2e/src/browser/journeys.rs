//! Ways through the pages that change something, by key and mouse in a real browser. Each asks the server afterwards what
//! it has now: a page that says it is done proves nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use serde_json::{Value, json};

use super::chromium::Browser;
use crate::{console, guides};

/// Two pupils who get a machine, and one who doesn't; two machines at their school that had their first day, and three
/// that nobody ordered.
const PREPARE: &str = r#"
printf 'serial;asset tag;vendor;product;site;site name;class\n' > laptops.csv
for n in 1 2 3; do printf 'SIM-0000%s;A-%s;Acme;Book 14;BJO;Bjørnøya skole;8B\n' "$n" "$n"; done >> laptops.csv
printf 'username;name;site;class\nelev1;Åse Ødegård;BJO;8B\nelev2;Kari Nordmann;BJO;8B\nelev3;Ola Hætta;BJO;8B\n' > pupils.csv
forestage collection create drill --title Drill
forestage asset import laptops.csv --collection drill
forestage sequence put "$EXAMPLES/sequences/training-laptop.yaml"
forestage deployment create drill --collection drill --sequence training-laptop --expected 5m --cap 10
printf 'strangers: 3\n' > strangers.yaml
forestage simulate run --within 1s --speed 600 --scenario strangers.yaml
forestage pupil import pupils.csv
forestage collection create spare --title Spare
forestage collection add spare SIM-00001
forestage deployment create again --collection spare --sequence training-laptop --expected 5m --cap 10 --available
printf 'Maskin-ID;Lapp\nJ-1;M-101\nJ-2;M-102\n' > odd.csv
"#;

/// Walks all of them, in a world of its own.
pub(crate) fn run(folder: &Utf8Path) -> Result<()> {
    let root = guides::root();
    let world = guides::World::start(root, &guides::program()?, "journeys")?;
    world.run_script(PREPARE)?;
    let mut browser = Browser::start(&folder.join("journeys"))?;
    browser.show_on(super::SCREENS[0].1)?;
    super::sign_in(&mut browser, world.url())?;
    let mut walk = Walk {
        browser,
        url: world.url().to_owned(),
    };
    type Journey = fn(&mut Walk, &Utf8Path) -> Result<()>;
    let journeys: [(&str, Journey); 6] = [
        ("a class is handed out with a scanner", Walk::scanner),
        (
            "a vendor's file is mapped, imported and taken back",
            Walk::imports,
        ),
        ("machines in quarantine are decided about", Walk::quarantine),
        ("a webhook is added, tested and removed", Walk::webhooks),
        (
            "a machine is started and its key is forgotten",
            Walk::device,
        ),
        ("an account is made, changed and removed", Walk::users),
    ];
    for (name, journey) in journeys {
        journey(&mut walk, &world.work()).with_context(|| format!("journey: {name}"))?;
        // A refusal is an answer, which the browser complains about, too.
        let mut complaints = walk.browser.take_complaints();
        complaints.retain(|text| !text.contains("the server responded with a status of 409"));
        ensure!(complaints.is_empty(), "journey: {name}: {complaints:?}");
        console::say(&format!("journey: {name}"));
    }
    Ok(())
}

/// A browser that is signed in.
struct Walk {
    browser: Browser,
    url: String,
}

impl Walk {
    /// Machine, pupil, next; each code as a keyboard-wedge scanner types it, wherever the focus is.
    fn scanner(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/assign")?;
        self.wait("document.querySelector('#assign').dataset.ready === 'yes'")?;
        self.scan("SIM-00001")?;
        self.shown("half", "SIM-00001", "Now scan the pupil")?;
        self.scan("elev1")?;
        self.shown("done", "Åse Ødegård", "Scan the next one")?;
        ensure!(self.holder("SIM-00001")? == "elev1", "elev1 has no machine");
        // The other way round, by asset tag, without waiting between the two, and with the focus on a button.
        self.browser.press("Tab")?;
        self.scan("elev2")?;
        self.scan("A-2")?;
        self.shown("done", "Kari Nordmann", "Scan the next one")?;
        ensure!(self.holder("SIM-00002")? == "elev2", "elev2 has no machine");
        // A code that nobody has changes nothing, and is forgotten.
        self.scan("7038010001234")?;
        self.shown("bad", "Unknown", "Scan again")?;
        self.wait("document.querySelector('#assign').dataset.sound === 'bad'")?;
        // A machine that somebody has: the refusal says so, and the next scans go on.
        self.scan("elev3")?;
        self.shown("half", "Ola Hætta", "Now scan the machine")?;
        self.scan("SIM-00001")?;
        self.shown("bad", "SIM-00001", "again to swap")?;
        ensure!(
            self.holder("SIM-00001")? == "elev1",
            "a refusal took it away"
        );
        self.browser.press("Escape")?;
        self.shown("idle", "Scan a machine or a pupil", "")?;
        // The last one was a mistake.
        self.browser.press("Control+z")?;
        self.shown("idle", "Undone", "Scan the next one")?;
        ensure!(self.holder("SIM-00002")?.is_empty(), "it wasn't undone");
        ensure!(self.holder("SIM-00001")? == "elev1", "too much was undone");
        // And back: the machine alone says who had it.
        self.browser
            .click("document.querySelector('[name=assign-mode][value=back] + span')")?;
        self.shown("idle", "Scan the machine that comes back", "")?;
        self.scan("A-1")?;
        self.shown("done", "SIM-00001", "Scan the next one")?;
        ensure!(self.holder("SIM-00001")?.is_empty(), "it isn't back");
        Ok(())
    }

    fn scan(&mut self, code: &str) -> Result<()> {
        self.browser.type_text(code)?;
        self.browser.press("Enter")
    }

    /// Waits for what the page says in large letters.
    fn shown(&mut self, state: &str, headline: &str, hint: &str) -> Result<()> {
        self.wait(&format!(
            "(p => p.dataset.state === {} && p.querySelector('[data-part=headline]').textContent === {} && \
             p.querySelector('[data-part=hint]').textContent.includes({}))(document.querySelector('#assign'))",
            json!(state),
            json!(headline),
            json!(hint)
        ))
    }

    /// The number of the pupil who has a machine; empty if nobody has it.
    fn holder(&mut self, serial: &str) -> Result<String> {
        let rows = self.api("/api/v1/asset-computers")?;
        let row = find(&rows["computers"], "serial", serial)?;
        Ok(row["pupil-id"].as_str().unwrap_or_default().to_owned())
    }

    fn imports(&mut self, work: &Utf8Path) -> Result<()> {
        let known = self.serials()?;
        self.go("/imports")?;
        self.browser.choose_file("#file", &work.join("odd.csv"))?;
        self.press_button("Upload and look")?;
        self.wait("/^\\/imports\\/\\d+$/.test(location.pathname)")?;
        let id = self.browser.value("location.pathname.split('/')[2]")?;
        let import = format!("/api/v1/imports/{}", id.as_str().unwrap_or_default());
        // Nobody knows what a `Maskin-ID` is.
        let draft = self.api(&import)?;
        ensure!(draft["problems"] != json!([]), "it was guessed: {draft}");
        self.fill("input[name='Maskin-ID']", "serial")?;
        self.fill("input[name='Lapp']", "asset-tag")?;
        self.press_button("Read again so")?;
        self.wait("document.body.textContent.includes('Accept all 2 rows')")?;
        ensure!(self.serials()? == known, "a draft made machines");
        self.press_button("Accept all 2 rows")?;
        self.wait("document.body.textContent.includes('Take back')")?;
        ensure!(
            self.api(&import)?["import"]["state"] == "accepted",
            "not accepted"
        );
        let devices = self.api("/api/v1/devices")?;
        let device = find(&devices, "serial", "J-2")?;
        ensure!(device["asset-tag"] == "M-102", "{device}");
        self.browser
            .click("document.querySelector('a[href$=\"?undo=1\"]')")?;
        self.wait("location.search === '?undo=1' && document.readyState === 'complete'")?;
        self.press_button("Take the import back")?;
        self.confirm(None)?;
        self.wait("document.body.textContent.includes('What was taken back')")?;
        ensure!(
            self.api(&import)?["import"]["state"] == "undone",
            "not undone"
        );
        ensure!(self.serials()? == known, "taking it back left machines");
        Ok(())
    }

    fn serials(&mut self) -> Result<Vec<String>> {
        let rows = self.api("/api/v1/asset-computers")?;
        let serials = rows["computers"].as_array().into_iter().flatten();
        Ok(serials.map(|row| row["serial"].to_string()).collect())
    }

    fn quarantine(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/quarantine")?;
        let waiting = self.api("/api/v1/quarantine")?;
        let machine = |at: usize| {
            waiting[at]["machine"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let (first, others) = (machine(0), [machine(1), machine(2)]);
        let of = format!(
            "[...document.querySelectorAll('#machine-{first}')].map(h => h.closest('section'))[0]"
        );
        self.press_button_in(&of, "New asset")?;
        self.confirm(None)?;
        self.wait(&format!("{of}.textContent.includes('It is a new asset.')"))?;
        ensure!(
            self.decision(&first)?["what"] == "new-asset",
            "nothing is decided about {first}"
        );
        for other in &others {
            ensure!(
                self.decision(other)?.is_null(),
                "{other} was decided about, too"
            );
            self.browser.click(&format!(
                "document.querySelector('input[name=machines][value=\"{other}\"]')"
            ))?;
        }
        self.browser.choose("#what", "reject")?;
        self.fill("#reason", "lånt ut av leverandøren")?;
        self.press_button("Decide")?;
        self.confirm(None)?;
        self.wait("document.body.textContent.split('It stays out: lånt ut').length === 3")?;
        for other in &others {
            let decision = self.decision(other)?;
            ensure!(
                decision["what"] == "reject" && decision["reason"] == "lånt ut av leverandøren",
                "{other}: {decision}"
            );
        }
        ensure!(
            self.decision(&first)?["what"] == "new-asset",
            "the first one was decided about again"
        );
        Ok(())
    }

    fn decision(&mut self, machine: &str) -> Result<Value> {
        let rows = self.api("/api/v1/quarantine")?;
        Ok(find(&rows, "machine", machine)?["decision"]["decision"].clone())
    }

    fn webhooks(&mut self, _: &Utf8Path) -> Result<()> {
        let (address, heard) = receiver()?;
        self.go("/webhooks")?;
        self.fill("#url", &address)?;
        self.fill("#title", "Eiendelssystemet")?;
        self.press_button("Make the webhook")?;
        let secret = self.shown_once()?;
        let all = self.api("/api/v1/webhooks")?;
        let hook = find(&all, "title", "Eiendelssystemet")?;
        ensure!(hook["url"] == address.as_str(), "{hook}");
        let id = hook["webhook"].to_string();
        self.browser.click("[...document.querySelectorAll('main a')].find(a => a.textContent === 'Eiendelssystemet')")?;
        self.wait(&format!(
            "location.pathname === '/webhooks/{}' && document.readyState === 'complete'",
            id.trim_matches('"')
        ))?;
        self.press_button("Send a test message")?;
        self.wait("document.body.textContent.includes('Delivered')")?;
        let message = heard.recv().context("nobody was told")?;
        ensure!(
            message.starts_with("POST ") && message.contains("webhook-signature"),
            "{message}"
        );
        ensure!(!message.contains(&secret), "the message tells the secret");
        self.press_button("Remove")?;
        self.confirm(None)?;
        self.wait("location.pathname === '/webhooks'")?;
        ensure!(
            self.api("/api/v1/webhooks")? == json!([]),
            "it is still there"
        );
        Ok(())
    }

    fn device(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/devices/SIM-00001")?;
        self.press_button("Start again")?;
        self.confirm(None)?;
        self.wait("![...document.querySelectorAll('main button')].some(b => b.textContent === 'Start again')")?;
        let runs = self.api("/api/v1/runs")?;
        let run = find(&runs, "deployment", "again")?;
        ensure!(run["serial"] == "SIM-00001", "{run}");
        self.go("/devices/SIM-00002")?;
        self.press_button("Forget the key")?;
        self.confirm(None)?;
        self.wait("document.querySelector('.toast, [role=status]')?.textContent.length > 0")?;
        let devices = self.api("/api/v1/devices")?;
        let device = &find(&devices, "serial", "SIM-00002")?["device"];
        let audit = self.api("/api/v1/audit?action=key-reset")?;
        ensure!(audit[0]["subject"] == *device, "{audit}");
        Ok(())
    }

    fn users(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/users")?;
        self.fill("#name", "kari")?;
        self.press_button("Make the account")?;
        let password = self.shown_once()?;
        ensure!(password.len() > 10, "the password is {password}");
        let kari = self.user("kari")?;
        ensure!(
            kari["role"] == "viewer" && kari["one-time"] == true,
            "{kari}"
        );
        self.browser.value("window.isLeft = true")?;
        self.change_role("kari", "school-admin", "BJO")?;
        self.reloaded()?;
        let kari = self.user("kari")?;
        ensure!(
            kari["role"] == "school-admin" && kari["site"] == "BJO",
            "{kari}"
        );
        // Nobody could ever change an account again.
        self.change_role("admin", "viewer", "")?;
        self.wait("document.querySelector('.problem')?.textContent.includes('last admin')")?;
        ensure!(self.user("admin")?["role"] == "admin", "no admin is left");
        self.go("/users")?;
        let row = row_of("kari");
        self.press_button_in(&row, "Remove")?;
        self.confirm(Some("kari"))?;
        self.wait(&format!("!({row})"))?;
        ensure!(self.user("kari").is_err(), "the account is still there");
        Ok(())
    }

    fn change_role(&mut self, name: &str, role: &str, site: &str) -> Result<()> {
        let row = row_of(name);
        self.browser
            .click(&format!("{row}.querySelector('summary')"))?;
        self.wait(&format!("{row}.querySelector('details').open"))?;
        let id = self
            .browser
            .value(&format!("{row}.querySelector('select[name=role]').id"))?;
        let number = id.as_str().unwrap_or_default().trim_start_matches("role");
        self.browser.choose(&format!("#role{number}"), role)?;
        self.browser.choose(&format!("#site{number}"), site)?;
        self.press_button_in(&row, "Change")
    }

    fn user(&mut self, name: &str) -> Result<Value> {
        let users = self.api("/api/v1/users")?;
        find(&users, "name", name)
    }

    fn go(&mut self, address: &str) -> Result<()> {
        self.browser.go(&format!("{}{address}", self.url))
    }

    fn wait(&mut self, expression: &str) -> Result<()> {
        self.browser.wait(expression)
    }

    /// What the server has, asked beside the page.
    fn api(&mut self, path: &str) -> Result<Value> {
        self.browser.value(&format!(
            "fetch({}).then(async answer => {{ if (!answer.ok) throw new Error(await answer.text()); return answer.json(); }})",
            json!(path)
        ))
    }

    /// Types into a field, in place of what it holds.
    fn fill(&mut self, field: &str, text: &str) -> Result<()> {
        let field = format!("document.querySelector({})", json!(field));
        self.browser.click(&field)?;
        self.browser.value(&format!("{field}.select()"))?;
        self.browser.type_text(text)?;
        self.wait(&format!("{field}.value === {}", json!(text)))
    }

    fn press_button(&mut self, text: &str) -> Result<()> {
        self.press_button_in("document.querySelector('main')", text)
    }

    fn press_button_in(&mut self, place: &str, text: &str) -> Result<()> {
        self.browser.click(&format!(
            "[...{place}.querySelectorAll('button')].find(button => button.textContent.trim() === {})",
            json!(text)
        ))
    }

    /// Says yes when asked, after typing what is wanted.
    fn confirm(&mut self, typed: Option<&str>) -> Result<()> {
        self.wait("document.querySelector('dialog[open] button[value=yes]') !== null")?;
        if let Some(text) = typed {
            self.wait("document.activeElement?.closest('dialog') && document.activeElement.tagName === 'INPUT'")?;
            self.browser.type_text(text)?;
        }
        self.browser
            .click("document.querySelector('dialog[open] button[value=yes]')")
    }

    /// The secret that a dialog shows once; closes it.
    fn shown_once(&mut self) -> Result<String> {
        self.wait("document.querySelector('dialog[open] input[readonly]') !== null")?;
        let secret = self
            .browser
            .value("document.querySelector('dialog[open] input').value")?;
        self.browser.value("window.isLeft = true")?;
        self.browser
            .click("document.querySelector('dialog[open] button.primary')")?;
        self.reloaded()?;
        Ok(secret.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page that was marked as left has been replaced.
    fn reloaded(&mut self) -> Result<()> {
        self.wait("!window.isLeft && document.readyState === 'complete'")
    }
}

/// The row of an account.
fn row_of(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('main tbody tr')].find(row => row.cells[0].textContent.trim() === {})",
        json!(name)
    )
}

/// The one row of a list with this value; of lists in pages, on this page.
fn find(rows: &Value, key: &str, value: &str) -> Result<Value> {
    let found = rows
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row[key] == value);
    found
        .cloned()
        .with_context(|| format!("no {key} is {value}: {rows}"))
}

/// Somebody who takes one message and says thanks; what came, as it came.
fn receiver() -> Result<(String, Receiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/forestage", listener.local_addr()?);
    let (sender, heard) = channel();
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else {
            return;
        };
        let mut bytes = vec![0; 64 << 10];
        let count = stream.read(&mut bytes).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let _nobody_listens = sender.send(text);
        let _it_has_gone =
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    });
    Ok((address, heard))
}
