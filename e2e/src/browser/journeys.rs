//! Ways through the pages that change something, by key and mouse in a real browser. Each asks the server afterwards what
//! it has now: a page that says it is done proves nothing.

mod fleet;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, bail, ensure};
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
forestage simulate assets --devices 2 --folder made-up
printf '{' > made-up/receipts/broken.json
mkdir wallpaper
printf 'Bjørnøya' > wallpaper/bakgrunn.txt
printf 'name: background\nversion: "1"\nkind: files\ntitle: Background\nsource:\n  tree: wallpaper\n' > background.yaml
forestage package import background.yaml
"#;

/// The dots of one label, `0` for black, as a browser draws it.
const LABEL: &str = "fetch('/api/v1/labels.png?devices=SIM-00003').then(async answer => {
  const image = await createImageBitmap(await answer.blob());
  const canvas = new OffscreenCanvas(image.width, image.height);
  const pen = canvas.getContext('2d');
  pen.drawImage(image, 0, 0);
  const { data } = pen.getImageData(0, 0, image.width, image.height);
  let dots = '';
  for (let at = 0; at < data.length; at += 4) dots += data[at] < 128 ? '0' : '1';
  return { width: image.width, dots };
})";

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
    let journeys: [(&str, Journey); 23] = [
        ("a class is handed out with a scanner", Walk::scanner),
        (
            "a vendor's file is mapped, imported and taken back",
            Walk::imports,
        ),
        ("machines in quarantine are decided about", Walk::quarantine),
        (
            "a class, a site and a collection keep what nobody changed",
            Walk::forms,
        ),
        (
            "a webhook is added, tested, changed and removed",
            Walk::webhooks,
        ),
        (
            "a machine is started and its key is forgotten",
            Walk::device,
        ),
        (
            "an asset is corrected, retired, stolen and taken back",
            Walk::asset,
        ),
        ("machines are named from a template", Walk::names),
        ("a collection lets machines in and out", Walk::collection),
        (
            "a deployment is made, changed and stopped",
            Walk::deployment,
        ),
        ("a site is made, changed and removed", Walk::site),
        ("a variable is set and removed", Walk::variable),
        ("a secret is set, never shown, and removed", Walk::secret),
        ("a prestage is defined and changed", Walk::prestage),
        ("the content library is verified and tidied", Walk::content),
        ("a token is made, used and revoked", Walk::token),
        ("an account is made, changed and removed", Walk::users),
        ("receipts are looked at and handed in", Walk::receipts),
        (
            "a sequence is written, checked, saved and changed",
            Walk::sequence,
        ),
        ("labels are printed and read by a scanner", Walk::labels),
        ("how long pupils are kept is set", Walk::retention),
        (
            "all that is kept of a pupil is handed over and erased",
            Walk::erasure,
        ),
        ("the audit's chain is verified", Walk::audit),
    ];
    for (name, journey) in journeys {
        journey(&mut walk, &world.work()).with_context(|| format!("journey: {name}"))?;
        // A refusal is an answer, which the browser complains about, too.
        let mut complaints = walk.browser.take_complaints();
        complaints.retain(|text| !text.contains("the server responded with a status of 4"));
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
        self.browser
            .choose_files("#file", &[work.join("odd.csv")])?;
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

    /// Each form is filled in, and what isn't touched in it stays.
    fn forms(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/classes/BJO/8B")?;
        self.browser
            .click("document.querySelector('details.edit summary')")?;
        self.fill("#title", "Ungdomstrinnet")?;
        self.fill_text("#software", "geogebra\noffice")?;
        self.store("Store the class")?;
        self.browser
            .click("document.querySelector('details.edit summary')")?;
        self.fill("#teacher", "Åse Ødegård")?;
        self.store("Store the class")?;
        let class = find(&self.api("/api/v1/classes")?, "name", "8B")?["class"].clone();
        let expected = json!({
            "title": "Ungdomstrinnet", "school-year": "", "teacher": "Åse Ødegård", "software": ["geogebra", "office"],
        });
        ensure!(class == expected, "{class}");
        // Whoever makes a class or a site that exists already changes what they say, and no more.
        self.go("/classes")?;
        self.browser
            .click("document.querySelector('main details summary')")?;
        self.fill("#site", "BJO")?;
        self.fill("#name", "8B")?;
        self.fill("#school-year", "2026/27")?;
        self.press_button("Store the class")?;
        self.wait("location.pathname === '/classes/BJO/8B'")?;
        let class = find(&self.api("/api/v1/classes")?, "name", "8B")?["class"].clone();
        ensure!(
            class["title"] == expected["title"] && class["school-year"] == "2026/27",
            "{class}"
        );
        for (field, text) in [("#slots", "7"), ("#expected", "16:30")] {
            self.go("/sites/BJO")?;
            self.browser
                .click("[...document.querySelectorAll('main details summary')].at(-1)")?;
            self.fill(field, text)?;
            self.press_button("Store the site")?;
            self.wait("location.pathname === '/sites'")?;
        }
        let site = find(&self.api("/api/v1/sites")?, "code", "BJO")?;
        ensure!(
            site["slots"] == 7
                && site["expected-seconds"] == 990
                && site["name"] == "Bjørnøya skole",
            "{site}"
        );
        self.go("/collections/spare")?;
        self.browser
            .click("document.querySelector('details.edit summary')")?;
        self.fill("#title", "Reserve")?;
        self.store("Store")?;
        let spare = find(&self.api("/api/v1/collections")?, "name", "spare")?;
        ensure!(
            spare["title"] == "Reserve" && spare["members"] == 1,
            "{spare}"
        );
        Ok(())
    }

    /// Presses the button of a form whose page comes again.
    fn store(&mut self, button: &str) -> Result<()> {
        self.browser.value("window.isLeft = true")?;
        self.press_button(button)?;
        self.reloaded()
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
        self.browser
            .click("document.querySelector('details.edit summary')")?;
        self.fill("#title", "Eiendeler")?;
        self.browser
            .click("document.querySelector('input[value=\"run.failed\"]')")?;
        self.browser.value("window.isLeft = true")?;
        self.press_button("Store")?;
        self.reloaded()?;
        let changed = find(&self.api("/api/v1/webhooks")?, "title", "Eiendeler")?;
        ensure!(
            changed["url"] == address.as_str() && changed["events"] == json!(["run.failed"]),
            "{changed}"
        );
        self.browser
            .click("document.querySelectorAll('details.edit summary')[1]")?;
        self.press_button("Make a new secret")?;
        ensure!(self.shown_once()? != secret, "it is the old secret");
        self.press_button("Remove")?;
        self.confirm(None)?;
        self.wait("location.pathname === '/webhooks'")?;
        ensure!(
            self.api("/api/v1/webhooks")? == json!([]),
            "it is still there"
        );
        Ok(())
    }

    fn secret(&mut self, _: &Utf8Path) -> Result<()> {
        const VALUE: &str = "sju sauer på ferja";
        self.go("/secrets")?;
        self.fill("#name", "domain-join")?;
        self.fill("#value", VALUE)?;
        self.store("Set the secret")?;
        let all = self.api("/api/v1/secrets")?;
        ensure!(find(&all, "name", "domain-join")?["site"] == "", "{all}");
        let is_shown = format!(
            "document.documentElement.outerHTML.includes({})",
            json!(VALUE)
        );
        ensure!(
            self.browser.value(&is_shown)? == false && !all.to_string().contains(VALUE),
            "the page or the list tells the secret"
        );
        self.browser.value("window.isLeft = true")?;
        self.press_button("Remove")?;
        self.confirm(None)?;
        self.reloaded()?;
        ensure!(
            self.api("/api/v1/secrets")? == json!([]),
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

    /// Opens what is folded under this title.
    fn open(&mut self, title: &str) -> Result<()> {
        let summary = format!(
            "[...document.querySelectorAll('main summary')].find(one => one.textContent.trim() === {})",
            json!(title)
        );
        self.browser.click(&summary)?;
        self.wait(&format!("{summary}.parentElement.open"))
    }

    /// Says yes when asked, and waits for the page that comes afterwards.
    fn agree(&mut self) -> Result<()> {
        self.browser.value("window.isLeft = true")?;
        self.confirm(None)?;
        self.reloaded()
    }

    /// Presses a button of a form and waits for the page that comes afterwards.
    fn press_and_stored(&mut self, button: &str) -> Result<()> {
        self.browser.value("window.isLeft = true")?;
        self.press_button(button)?;
        self.reloaded()
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

    fn receipts(&mut self, work: &Utf8Path) -> Result<()> {
        let folder = work.join("made-up/receipts");
        let file = |name: &str| folder.join(name);
        let count = |rows: &Value| rows.as_array().map_or(0, Vec::len);
        self.go("/receipts")?;
        self.browser
            .click("document.querySelector('main a[href=\"/receipts/import\"]')")?;
        self.wait(
            "location.pathname === '/receipts/import' && document.readyState === 'complete'",
        )?;
        self.browser.choose_files(
            "#files",
            &[
                file("SIM-00001.json"),
                file("broken.json"),
                file("SIM-00002.json"),
            ],
        )?;
        self.press_button("Upload and look")?;
        self.wait("document.querySelectorAll('#report tbody tr').length === 3")?;
        // What needs a look comes first, and nothing is stored yet.
        self.wait(
            "document.querySelector('#report tbody tr').textContent.includes('broken.json')",
        )?;
        ensure!(
            count(&self.api("/api/v1/receipts")?) == 0,
            "looking stored something"
        );
        self.browser
            .click("document.querySelector('#report [data-kind=refused]')")?;
        self.wait("document.querySelectorAll('#report tbody tr').length === 1")?;
        self.press_button("Accept all 2 new receipts")?;
        self.wait("location.pathname === '/receipts' && document.readyState === 'complete'")?;
        let stored = self.api("/api/v1/receipts")?;
        ensure!(
            count(&stored) == 2 && stored[0]["device"].is_string(),
            "{stored}"
        );
        // The same again is nothing new.
        self.go("/receipts/import")?;
        self.browser
            .choose_files("#files", &[file("SIM-00001.json")])?;
        self.press_button("Upload and look")?;
        self.wait("document.querySelector('#nothing-new')?.checkVisibility()")?;
        self.wait("!document.querySelector('#accept').checkVisibility()")
    }

    fn sequence(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/sequences")?;
        self.browser
            .click("document.querySelector('main a[href=\"/sequences/new\"]')")?;
        self.wait("location.pathname === '/sequences/new' && document.readyState === 'complete'")?;
        // Nothing is made of a name that is taken.
        self.fill("#name", "training-laptop")?;
        self.press_button("Save")?;
        self.wait("document.querySelector('.problem')?.textContent.includes('already')")?;
        self.fill("#name", "øving")?;
        self.press_button("Save")?;
        self.wait("document.querySelector('.problem')?.textContent.includes('small letter')")?;
        self.fill("#name", "drill-two")?;
        self.wait("document.querySelector('#document').value.includes('sequence: drill-two')")?;
        // The check says what is wrong before anything is saved, and where.
        let good = self
            .browser
            .value("document.querySelector('#document').value")?;
        let good = good.as_str().unwrap_or_default().to_owned();
        self.fill_text(
            "#document",
            &good.replace("check-machine:", "chekc-machine:"),
        )?;
        self.wait("document.querySelector('#lint .error')?.textContent.includes('chekc-machine')")?;
        self.press_button("Save")?;
        self.wait("document.querySelector('.problem')?.textContent.includes('errors')")?;
        ensure!(
            find(&self.api("/api/v1/sequences")?, "name", "drill-two").is_err(),
            "a sequence with an error was stored"
        );
        self.fill_text("#document", &good)?;
        self.wait("document.querySelector('#lint .muted') !== null")?;
        self.press_button("Save")?;
        self.wait(
            "location.pathname === '/sequences/drill-two' && document.readyState === 'complete'",
        )?;
        ensure!(self.version_of("drill-two")? == 1, "no first version");
        self.browser
            .click("document.querySelector('details.edit summary')")?;
        self.fill_text("#document", &good.replace("attempts: 3", "attempts: 5"))?;
        // Somebody else saves another one meanwhile: theirs isn't written over.
        let theirs = good.replace("attempts: 3", "attempts: 4");
        self.browser.value(&format!(
            "fetch('/api/v1/sequences/drill-two', {{ method: 'PUT', body: {} }}).then(a => a.status)",
            json!(theirs)
        ))?;
        self.press_button("Save")?;
        self.wait(
            "document.querySelector('.problem')?.textContent.includes('came after version 1')",
        )?;
        ensure!(self.version_of("drill-two")? == 2, "theirs was replaced");
        self.go("/sequences/drill-two")?;
        self.browser
            .click("document.querySelector('details.edit summary')")?;
        self.fill_text("#document", &good.replace("attempts: 3", "attempts: 5"))?;
        self.press_and_stored("Save")?;
        ensure!(self.version_of("drill-two")? == 3, "it isn't a new version");
        Ok(())
    }

    fn version_of(&mut self, sequence: &str) -> Result<u64> {
        let rows = self.api("/api/v1/sequences")?;
        Ok(find(&rows, "name", sequence)?["version"]
            .as_u64()
            .unwrap_or(0))
    }

    /// The sheet is asked for as its form does; what its label says is what a scanner types on the page of the hand-out.
    fn labels(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/labels")?;
        self.browser.choose("#l-of", "BJO|8B")?;
        self.fill("#l-skip", "2")?;
        let sheet = self.browser.value(
            "(form => fetch(form.action + '?' + new URLSearchParams(new FormData(form))))(document.querySelector('main form'))\
             .then(async answer => [answer.status, answer.headers.get('content-type'), (await answer.text()).slice(0, 5)])",
        )?;
        ensure!(sheet == json!([200, "application/pdf", "%PDF-"]), "{sheet}");
        let label = self.browser.value(LABEL)?;
        let (width, dots) = (label["width"].as_u64(), label["dots"].as_str());
        let (Some(width), Some(dots)) = (width, dots) else {
            bail!("no picture: {label}");
        };
        let (width, dots) = (usize::try_from(width)?, dots.as_bytes());
        let height = dots.len() / width;
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            if dots[y * width + x] == b'0' { 0 } else { 255 }
        });
        let codes = image.detect_grids();
        let code = codes.first().context("no code on the label")?.decode()?.1;
        ensure!(code.starts_with("FS1."), "the label says {code}");
        self.go("/assign")?;
        self.wait("document.querySelector('#assign').dataset.ready === 'yes'")?;
        self.scan(&code)?;
        self.shown("half", "SIM-00003", "Now scan the pupil")
    }

    fn retention(&mut self, _: &Utf8Path) -> Result<()> {
        let days = |walk: &mut Self| -> Result<Value> {
            Ok(walk.api("/api/v1/hand-out-settings")?["retention-days"].clone())
        };
        self.go("/pupils")?;
        ensure!(days(self)? == 365, "it isn't a year at first");
        self.browser.click(
            "[...document.querySelectorAll('summary')].find(s => s.textContent === 'Settings of the hand-out')",
        )?;
        self.fill("#s-days", "5000")?;
        self.press_button("Store")?;
        // The browser itself refuses what is out of bounds.
        self.wait("!document.querySelector('#s-days').validity.valid")?;
        ensure!(days(self)? == 365, "something impossible was stored");
        self.fill("#s-days", "30")?;
        self.press_and_stored("Store")?;
        ensure!(days(self)? == 30, "it wasn't stored");
        self.wait("document.querySelector('#s-days').value === '30'")
    }

    fn erasure(&mut self, _: &Utf8Path) -> Result<()> {
        let pupils = self.api("/api/v1/pupils")?;
        let pupil = find(&pupils, "external-id", "elev1")?;
        let id = pupil["pupil"].as_str().unwrap_or_default().to_owned();
        let name = pupil["name"].as_str().unwrap_or_default().to_owned();
        ensure!(!name.is_empty(), "{pupil}");
        self.go(&format!("/pupils/{id}"))?;
        let link = self.browser.value(
            "[...document.querySelectorAll('main a[download]')].map(link => link.getAttribute('href'))",
        )?;
        let export = self.api(link[0].as_str().unwrap_or_default())?;
        let said = export.to_string();
        ensure!(
            said.contains(&name) && said.contains("SIM-00001"),
            "name or machine is missing: {said}"
        );
        let audit = self.api("/api/v1/audit?action=pupil-exported")?;
        ensure!(audit[0]["subject"] == *id, "{audit}");
        self.press_button("Erase")?;
        self.confirm(Some("elev1"))?;
        self.wait("location.pathname === '/pupils' && document.readyState === 'complete'")?;
        for path in [
            format!("/api/v1/pupils/{id}"),
            "/api/v1/pupils".to_owned(),
            "/api/v1/assignments".to_owned(),
        ] {
            let left = self.api(&path)?.to_string();
            ensure!(
                !left.contains(&name) && !left.contains("elev1"),
                "{path} still says: {left}"
            );
        }
        let history = self.api(&format!("/api/v1/pupils/{id}"))?;
        ensure!(
            history.to_string().contains("SIM-00001"),
            "that a machine was out is gone, too: {history}"
        );
        self.go(&format!("/pupils/{id}"))?;
        self.wait("document.querySelector('h1').textContent === 'Erased'")
    }

    fn audit(&mut self, _: &Utf8Path) -> Result<()> {
        let rows = self.api("/api/v1/audit?limit=500")?;
        let by_people = rows.as_array().into_iter().flatten();
        let nameless = by_people
            .filter(|row| row["who"] == "admin" && row["address"] != "127.0.0.1")
            .count();
        ensure!(
            nameless == 0,
            "{nameless} rows don't say from where: {rows}"
        );
        self.go("/audit")?;
        self.press_button("Verify the chain")?;
        self.wait("document.querySelector('#chain [role=status]')?.textContent.includes('The chain is whole')")?;
        let head = self.api("/api/v1/audit/head")?;
        let noted = format!(
            "{}:{}",
            head["number"],
            head["digest"].as_str().unwrap_or_default()
        );
        self.wait(&format!(
            "document.querySelector('#chain code').textContent === {}",
            json!(noted)
        ))?;
        // A head that this server never had.
        self.fill("#head", &noted.replacen(':', "0:", 1))?;
        self.press_button("Verify with it")?;
        self.wait("document.querySelector('#chain [role=alert]')?.textContent.includes('rows were cut off its end')")
    }

    /// Puts a long text into a field at once, as pasting does.
    fn fill_text(&mut self, field: &str, text: &str) -> Result<()> {
        self.browser.value(&format!(
            "(field => {{ field.value = {}; field.dispatchEvent(new Event('input', {{ bubbles: true }})); }})(document.querySelector({}))",
            json!(text),
            json!(field)
        ))?;
        Ok(())
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

/// The row of what stands first in it.
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
