//! Ways through the pages of machines and what is aimed at them: assets, collections, deployments, sites, variables,
//! prestages, tokens.

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::{Value, json};

use super::{Walk, find, row_of};

impl Walk {
    pub(super) fn asset(&mut self, _: &Utf8Path) -> Result<()> {
        let page = "/devices/SIM-00003";
        self.go(page)?;
        self.open("Correct the asset")?;
        self.fill("#class", "9Æ")?;
        self.fill("#name", "bjo-rett")?;
        self.press_and_stored("Store")?;
        let row = self.device_row("SIM-00003")?;
        ensure!(
            row["class"] == "9Æ" && row["assigned-name"] == "bjo-rett",
            "{row}"
        );
        // What isn't named stays.
        ensure!(row["asset-tag"] == "A-3" && row["site"] == "BJO", "{row}");
        for (title, reason, state) in [
            ("Retire it", "skjermen er knust", "retired"),
            ("Take it back into use", "ny skjerm", ""),
            ("Report it stolen", "bussen", "stolen"),
            ("Take it back into use", "funnet", ""),
        ] {
            self.go(page)?;
            self.open(title)?;
            let form = form_of(title);
            let field = self
                .browser
                .value(&format!("{form}.querySelector('[name=reason]').id"))?;
            self.fill(&format!("#{}", field.as_str().unwrap_or_default()), reason)?;
            self.browser.value("window.isLeft = true")?;
            self.press_button_in(&form, title)?;
            self.reloaded()
                .with_context(|| format!("{title} did not come through"))?;
            let out = self.device_row("SIM-00003")?["out-of-use"].clone();
            let is_as_meant = match state {
                "" => out.is_null(),
                state => out["state"] == state && out["reason"] == reason,
            };
            ensure!(is_as_meant, "{title}: {out}");
        }
        Ok(())
    }

    fn device_row(&mut self, serial: &str) -> Result<Value> {
        let devices = self.api("/api/v1/devices")?;
        find(&devices, "serial", serial)
    }

    pub(super) fn names(&mut self, _: &Utf8Path) -> Result<()> {
        const WANTED: [&str; 2] = ["SIM-00001", "SIM-00002"];
        self.go("/device-names")?;
        self.fill("#serials", &format!("{} SIM-99999", WANTED.join(" ")))?;
        self.press_button("Show the names")?;
        self.wait(
            "document.querySelector('main [role=alert]')?.textContent.includes('SIM-99999')",
        )?;
        // Two machines of one school can't both be called as it is.
        self.fill("#serials", &WANTED.join(" "))?;
        self.fill("#template", "{{ site.code }}")?;
        self.press_button("Show the names")?;
        self.wait(&format!(
            "{}?.textContent.includes('SIM-00001 gets the same name')",
            row_of("SIM-00002")
        ))?;
        let buttons = self
            .browser
            .value("document.querySelectorAll('main form[data-api]').length")?;
        ensure!(buttons == 0, "names that clash can be stored");
        self.fill("#template", "lek-{{ number(2) }}")?;
        self.press_button("Show the names")?;
        self.wait("document.body.textContent.includes('Nothing is stored yet')")?;
        let shown = self.device_row("SIM-00001")?;
        ensure!(
            shown["assigned-name"].is_null(),
            "showing names stored them"
        );
        self.press_button("Store the names")?;
        self.agree()?;
        for (serial, name) in WANTED.into_iter().zip(["lek-01", "lek-02"]) {
            let row = self.device_row(serial)?;
            ensure!(row["assigned-name"] == name, "{row}");
        }
        Ok(())
    }

    pub(super) fn collection(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/collections")?;
        self.open("Make a collection")?;
        self.fill("#name", "loaners")?;
        self.fill("#title", "Utlånsmaskiner")?;
        self.press_button("Make the collection")?;
        self.wait("location.pathname === '/collections/loaners'")?;
        // By hand, from the page of a machine, and out again.
        self.go("/devices/SIM-00002")?;
        self.open("Put it into a collection")?;
        self.browser.choose("#collection", "loaners")?;
        self.press_button("Put in")?;
        self.agree()?;
        ensure!(self.is_in("loaners", "SIM-00002")?, "it isn't in");
        self.member("loaners", "SIM-00002", "Take out")?;
        ensure!(!self.is_in("loaners", "SIM-00002")?, "it is still in");
        // By a rule that is tried first; one machine is kept out of it, and let in again.
        self.fill("#rule", "site.code == 'BJO'")?;
        self.press_button("Try it out")?;
        self.wait("document.body.textContent.includes('not stored yet')")?;
        ensure!(
            !self.is_in("loaners", "SIM-00001")?,
            "trying a rule stored it"
        );
        self.press_and_stored("Store the rule")?;
        ensure!(self.is_in("loaners", "SIM-00001")?, "the rule isn't stored");
        self.member("loaners", "SIM-00001", "Keep out")?;
        ensure!(!self.is_in("loaners", "SIM-00001")?, "it isn't kept out");
        self.member("loaners", "SIM-00001", "Let in again")?;
        ensure!(self.is_in("loaners", "SIM-00001")?, "it isn't let in");
        Ok(())
    }

    fn is_in(&mut self, collection: &str, serial: &str) -> Result<bool> {
        let members = self.api(&format!("/api/v1/collections/{collection}/members"))?;
        Ok(find(&members, "serial", serial).is_ok())
    }

    /// Presses a button beside one machine of a collection.
    fn member(&mut self, collection: &str, serial: &str, button: &str) -> Result<()> {
        self.go(&format!("/collections/{collection}"))?;
        self.press_button_in(&row_of(serial), button)?;
        self.agree()
    }

    pub(super) fn deployment(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/deployments/new")?;
        self.fill("#name", "winter")?;
        self.browser.choose("#collection", "spare")?;
        self.browser.choose("#sequence", "training-laptop")?;
        self.browser.choose("#purpose", "available")?;
        self.fill("#cap", "2")?;
        self.press_button("Show what it would do")?;
        self.wait("document.body.textContent.includes('It would begin on')")?;
        ensure!(self.deployed("winter").is_err(), "a preview made it");
        self.press_button("Create the deployment")?;
        self.confirm(None)?;
        self.wait("location.pathname === '/deployments/winter'")?;
        let made = self.deployed("winter")?;
        ensure!(made["cap"] == 2 && made["purpose"] == "available", "{made}");
        // A higher cap is typed.
        self.go("/deployments/winter/change")?;
        self.fill("#cap", "5")?;
        self.fill("#expected-minutes", "1:30")?;
        self.press_button("Show what it would do")?;
        self.wait("document.body.textContent.includes('It would begin on')")?;
        self.press_button("Change the deployment")?;
        self.confirm(Some("winter 5"))?;
        self.wait("location.pathname === '/deployments/winter'")?;
        let changed = self.deployed("winter")?;
        ensure!(
            changed["cap"] == 5
                && changed["expected-seconds"] == 90
                && changed["purpose"] == "available",
            "{changed}"
        );
        self.press_button("Stop at once")?;
        self.agree()?;
        ensure!(self.deployed("winter")?["stopped"] == true, "not stopped");
        self.press_and_stored("Resume")?;
        ensure!(self.deployed("winter")?["stopped"] == false, "not resumed");
        Ok(())
    }

    fn deployed(&mut self, name: &str) -> Result<Value> {
        let all = self.api("/api/v1/deployments")?;
        find(&all, "name", name)
    }

    pub(super) fn site(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/sites")?;
        self.open("New site")?;
        self.fill("#code", "TST")?;
        self.fill("#name", "Prøveskolen")?;
        self.fill("#slots", "4")?;
        self.press_and_stored("Store the site")?;
        let site = self.site_row("TST")?;
        ensure!(
            site["name"] == "Prøveskolen" && site["slots"] == 4,
            "{site}"
        );
        self.go("/sites/TST")?;
        self.open("Change the site")?;
        self.fill("#time-zone", "Europe/Oslo")?;
        self.press_button("Store the site")?;
        self.wait("location.pathname === '/sites' && document.readyState === 'complete'")?;
        let site = self.site_row("TST")?;
        ensure!(
            site["time-zone"] == "Europe/Oslo" && site["slots"] == 4,
            "{site}"
        );
        // One that has machines stays.
        self.go("/sites/BJO")?;
        self.press_button("Remove the site")?;
        self.confirm(None)?;
        self.wait("document.querySelector('.toast, [role=status]')?.textContent.length > 0")?;
        self.site_row("BJO")?;
        self.go("/sites/TST")?;
        self.press_button("Remove the site")?;
        self.confirm(None)?;
        self.wait("location.pathname === '/sites' && document.readyState === 'complete'")?;
        ensure!(self.site_row("TST").is_err(), "it is still there");
        Ok(())
    }

    fn site_row(&mut self, code: &str) -> Result<Value> {
        let sites = self.api("/api/v1/sites")?;
        find(&sites, "code", code)
    }

    pub(super) fn variable(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/devices/SIM-00001")?;
        self.browser
            .click("document.querySelector('main a[href^=\"/variables?scope=device\"]')")?;
        self.wait("location.pathname === '/variables' && document.readyState === 'complete'")?;
        for (key, typed, value) in [
            ("keyboard", "no", json!("no")),
            ("seats", "28", json!(28)),
            ("wifi", r#"{"ssid":"skole"}"#, json!({ "ssid": "skole" })),
        ] {
            self.fill("#key", key)?;
            self.fill("#value", typed)?;
            self.press_and_stored("Set the variable")?;
            let rows = self.api("/api/v1/variables?scope=device&name=SIM-00001")?;
            ensure!(find(&rows, "key", key)?["value"] == value, "{rows}");
        }
        // What can't be the name of one is refused, beside what was typed.
        self.fill("#key", "serial")?;
        self.fill("#value", "x")?;
        self.press_button("Set the variable")?;
        self.wait("document.querySelector('.problem') !== null")?;
        self.go("/variables?scope=device&name=SIM-00001")?;
        let seats = "[...document.querySelectorAll('main tbody tr')].find(row => row.textContent.includes('seats'))";
        self.press_button_in(seats, "Remove")?;
        self.agree()?;
        let rows = self.api("/api/v1/variables?scope=device&name=SIM-00001")?;
        ensure!(
            rows.as_array().map(Vec::len) == Some(2) && find(&rows, "key", "seats").is_err(),
            "{rows}"
        );
        Ok(())
    }

    pub(super) fn prestage(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/prestages")?;
        self.open("Define a prestage")?;
        self.fill("#name", "book-14")?;
        self.fill("#sequence", "training-laptop")?;
        self.fill("#vendor", "Acme")?;
        self.fill("#product", "Book 14")?;
        self.press_button("Store")?;
        self.wait("document.body.textContent.includes('not built yet')")?;
        self.browser
            .click("document.querySelector('main a[href=\"/prestages/book-14\"]')")?;
        self.wait(
            "location.pathname === '/prestages/book-14' && document.readyState === 'complete'",
        )?;
        let defined = self.api("/api/v1/prestages/book-14")?;
        ensure!(
            defined["sequence"] == "training-laptop" && defined["model"]["product"] == "Book 14",
            "{defined}"
        );
        self.open("Change the definition")?;
        self.fill("#sku", "B14-NO")?;
        self.press_and_stored("Store")?;
        let changed = self.api("/api/v1/prestages/book-14")?;
        ensure!(
            changed["model"]["sku"] == "B14-NO" && changed["model"]["vendor"] == "Acme",
            "{changed}"
        );
        Ok(())
    }

    pub(super) fn content(&mut self, _: &Utf8Path) -> Result<()> {
        let stats = self.api("/api/v1/content/stats")?;
        let parts = stats["chunks"].as_u64().unwrap_or_default();
        ensure!(parts > 0, "there is nothing to verify: {stats}");
        self.go("/content")?;
        self.wait("document.querySelector('main tbody').textContent.includes('background')")?;
        self.press_button("Verify all of it")?;
        self.wait(&format!(
            "document.querySelector('main [role=status]')?.textContent.includes('All {parts} parts are right.')"
        ))?;
        let audit = self.api("/api/v1/audit?action=content-verified")?;
        ensure!(audit[0]["who"] == "admin", "{audit}");
        self.press_button("Look for what nothing needs")?;
        self.wait("document.querySelector('main [role=status]')?.textContent.includes('Nothing can be removed')")?;
        ensure!(
            self.api("/api/v1/content/stats")? == stats,
            "looking removed something"
        );
        Ok(())
    }

    pub(super) fn token(&mut self, _: &Utf8Path) -> Result<()> {
        self.go("/tokens")?;
        self.fill("#title", "Inventarsystemet")?;
        self.fill("#days", "30")?;
        self.browser
            .click("document.querySelector('input[name=scopes][value=view]')")?;
        self.press_button("Make the token")?;
        let secret = self.shown_once()?;
        let tokens = self.api("/api/v1/tokens")?;
        let token = find(&tokens, "title", "Inventarsystemet")?;
        ensure!(token["scopes"] == json!(["view"]), "{token}");
        ensure!(
            !tokens.to_string().contains(&secret),
            "the list tells the secret"
        );
        ensure!(self.status_with(&secret)? == 200, "it opens nothing");
        self.press_button_in(&row_of("Inventarsystemet"), "Revoke")?;
        self.agree()?;
        ensure!(self.status_with(&secret)? == 401, "it still opens the door");
        Ok(())
    }

    /// What the server answers a program with this token, without the cookie of the page.
    fn status_with(&mut self, token: &str) -> Result<Value> {
        self.browser.value(&format!(
            "fetch('/api/v1/devices', {{ credentials: 'omit', headers: {{ Authorization: 'Bearer ' + {} }} }})\
             .then(answer => answer.status)",
            json!(token)
        ))
    }
}

/// The form that is folded under this title.
fn form_of(title: &str) -> String {
    format!(
        "[...document.querySelectorAll('main summary')].find(one => one.textContent.trim() === {}).parentElement.querySelector('form')",
        json!(title)
    )
}
