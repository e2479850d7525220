//! Several machines at once: ticked by keyboard in the overview, put into a collection, and the one that can't be is named.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::chromium::Browser;

/// Where the machines are put.
pub(super) const PREPARE: &str = "forestage collection create ticked > /dev/null";

/// How many machines the server says are in the collection.
const MEMBERS: &str =
    "fetch('/api/v1/collections/ticked/members').then(r => r.json()).then(rows => rows.length)";

pub(super) fn journey(browser: &mut Browser, url: &str) -> Result<()> {
    browser.go(&format!("{url}/"))?;
    for key in ["j", "x", "j", "x"] {
        browser.press(key)?;
    }
    shows(browser, "!document.getElementById('bulk').hidden")
        .context("the bar doesn't appear for what `x` ticks")?;
    shows(
        browser,
        "document.querySelector('#bulk [data-count]').textContent.startsWith('2 ')",
    )?;
    browser.value("document.querySelector('#bulk select').value = 'ticked'")?;
    browser.value("document.querySelector('#bulk [data-members=add]').focus()")?;
    browser.press("Enter")?;
    shows(
        browser,
        "document.querySelector('dialog[open] input') === document.activeElement",
    )
    .context("what may overwrite disks isn't confirmed by typing")?;
    // Anything else than what is asked for leaves the button off.
    browser.type_text("ticked")?;
    shows(
        browser,
        "document.querySelector('dialog[open] [value=yes]').disabled",
    )?;
    browser.type_text(" 2")?;
    browser.press("Enter")?;
    shows(browser, "!document.getElementById('bulk-result').hidden")?;
    let members = browser.value(MEMBERS)?;
    ensure!(
        members == json!(2),
        "{members} machines are in the collection"
    );
    shows(
        browser,
        "document.querySelectorAll('input.pick:checked').length === 0",
    )
    .context("what is done stays ticked")?;
    // A machine that has no run can't be retried, and the page says which one it was.
    let name = browser.value(
        "(() => { const box = document.querySelector('input.pick:not([data-run])'); \
         box?.click(); return box?.dataset.name ?? null; })()",
    )?;
    let name = name.as_str().context("every machine has a run")?;
    browser.value("document.querySelector('#bulk [data-each$=retry]').click()")?;
    shows(browser, "document.querySelector('dialog[open]')")?;
    browser.press("Tab")?;
    browser.press("Enter")?;
    shows(
        browser,
        &format!(
            "[...document.querySelectorAll('#bulk-result li b')].some(b => b.textContent === {})",
            json!(name)
        ),
    )
    .context("the machine for which it can't be done isn't named")?;
    // The ticked one is taken along to the page that names machines.
    let serial = browser.value("document.querySelector('input.pick:checked').dataset.serial")?;
    browser.click("document.querySelector('#bulk [data-open]')")?;
    shows(
        browser,
        &format!(
            "location.pathname === '/device-names' && document.querySelector('#serials')?.value === {serial}"
        ),
    )
    .context("the ticked machine isn't taken along to be named")
}

fn shows(browser: &mut Browser, expression: &str) -> Result<()> {
    browser.wait(&format!("Boolean({expression})"))
}
