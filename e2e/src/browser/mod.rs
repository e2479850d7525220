//! Every page of the console in a real browser: light and dark, at a desk and on a phone, in both languages.
//!
//! The server is a real one with what `docs/guide/console.md` puts into it. Each view is checked with axe-core, must have no
//! complaint in its console (which is where violations of the content security policy stand), must not scroll sideways,
//! and everything that can be used must be reached by Tab, with a focus that can be seen.
//!
//! Pictures are written to `target/browser/pictures`, or to the folder in `FORESTAGE_PICTURES`, for people to look at. They
//! aren't compared with committed ones: fonts differ from machine to machine, and a comparison that is mended by hand
//! every week proves nothing. What can be said exactly is checked instead.

mod axe;
mod bulk;
pub(crate) mod chromium;
mod journeys;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use crate::{console, guides};
use chromium::{Browser, Screen};

/// Things on a page beyond which the walk by Tab ends: long tables repeat themselves.
const TAB_STOPS_MAX: usize = 120;

/// Content, so that there is a page of a package.
const A_PACKAGE: &str = r#"
truncate -s 1M os.img
printf 'name: tiny-os\nversion: "1"\nkind: os-image\ntitle: Lite system\nsource:\n  image: os.img\n' > tiny-os.yaml
forestage package import tiny-os.yaml
"#;

/// A receiver where nobody listens, so that there is a page of a webhook and of what came of a message.
const A_WEBHOOK: &str = r"
forestage webhook add http://127.0.0.1:9/forestage --title 'the asset system'
if forestage webhook test 1; then exit 1; fi
";

/// How pages are looked at. What differs by language is text alone, so that each look has one.
const SCREENS: [(&str, Screen); 4] = [
    ("desk-light-en", screen(1440, 900, false, "en")),
    ("desk-dark-nb", screen(1440, 900, true, "nb")),
    ("phone-light-nb", screen(390, 844, false, "nb")),
    ("phone-dark-en", screen(390, 844, true, "en")),
];

const fn screen(width: u32, height: u32, dark: bool, language: &'static str) -> Screen {
    Screen {
        width,
        height,
        dark,
        language,
    }
}

/// Looks at the pages whose address contains one of these texts (`/` is the overview alone), or at all.
pub(crate) fn run(pages: &[String]) -> Result<()> {
    let root = guides::root();
    let folder = root.join("target/browser");
    if pages.is_empty() || pages.contains(&"journeys".to_owned()) {
        journeys::run(&folder)?;
    }
    if pages == ["journeys"] {
        return Ok(());
    }
    let axe = axe::source(&folder)?;
    let world = guides::World::start(root, &guides::program()?, "console-browser")?;
    // Simulated machines refuse a server that has others, so they come first.
    world.run_page(root, "simulate")?;
    world.run_page(root, "console")?;
    world.run_script(A_PACKAGE)?;
    world.run_script(A_WEBHOOK)?;
    world.run_script(bulk::PREPARE)?;
    let mut browser = Browser::start(&folder)?;
    let pictures = std::env::var("FORESTAGE_PICTURES")
        .map_or_else(|_| folder.join("pictures"), Utf8PathBuf::from);
    std::fs::create_dir_all(&pictures)?;
    let mut problems = Vec::new();
    look(
        &mut browser,
        world.url(),
        &axe,
        "/login",
        &pictures,
        &mut problems,
    )?;
    sign_in(&mut browser, world.url())?;
    let addresses = addresses(&mut browser, world.url(), &mut problems)?;
    let mut looked = 0;
    for address in &addresses {
        let is_meant =
            |part: &String| part == address || part != "/" && address.contains(part.as_str());
        if pages.is_empty() || pages.iter().any(is_meant) {
            look(
                &mut browser,
                world.url(),
                &axe,
                address,
                &pictures,
                &mut problems,
            )?;
            looked += 1;
        }
    }
    browser.show_on(SCREENS[0].1)?;
    if let Err(error) = bulk::journey(&mut browser, world.url()) {
        problems.push(format!("several machines at once: {error:#}"));
    }
    for problem in &problems {
        console::say(problem);
    }
    console::say(&format!("{looked} pages, pictures in {pictures}"));
    ensure!(
        problems.is_empty(),
        "{} problems on the pages",
        problems.len()
    );
    Ok(())
}

/// Signs in as a person does, by keyboard.
pub(crate) fn sign_in(browser: &mut Browser, url: &str) -> Result<()> {
    browser.go(&format!("{url}/login"))?;
    browser.wait_for_focus("user")?;
    browser.type_text("admin")?;
    browser.press("Tab")?;
    browser.wait_for_focus("password")?;
    browser.type_text(guides::PASSWORD)?;
    browser.press("Enter")?;
    browser
        .wait("location.pathname === '/' && document.readyState === 'complete'")
        .context("signing in by keyboard doesn't lead to the overview")
}

/// A page that is nothing without a query: found by following links, like those with a part that varies.
const NEEDS_A_QUERY: &str = "/pupils/class";

/// Pages that show more with a query than without, as the guide's fleet fills them.
const WITH_A_QUERY: [&str; 1] = [
    "/device-names?template=%7B%7B+class.name+%7D%7D-%7B%7B+number%282%29+%7D%7D&collection=drill&rename=true",
];

/// One address for every page of the table: those with a part that varies are found by following links.
fn addresses(
    browser: &mut Browser,
    url: &str,
    problems: &mut Vec<String>,
) -> Result<BTreeSet<String>> {
    let not_pages = ["/live", "/assets", "/login"];
    let paths: Vec<&str> = server::web::pages::list()
        .iter()
        .filter(|route| route.method == "GET")
        .map(|route| route.path)
        .filter(|path| !not_pages.iter().any(|folder| path.starts_with(folder)))
        .collect();
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    for path in &paths {
        if !path.contains('{') && *path != NEEDS_A_QUERY {
            found.insert(path, (*path).to_owned());
        }
    }
    let mut waiting: Vec<String> = found.values().cloned().collect();
    while let Some(address) = waiting.pop() {
        browser.go(&format!("{url}{address}"))?;
        let links = browser.value(
            "[...document.querySelectorAll('main a[href^=\"/\"]')].map(a => a.getAttribute('href'))",
        )?;
        for link in links
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|link| link.as_str())
        {
            let bare = link.split('?').next().unwrap_or_default();
            // A page of its own isn't one of those with a part that varies, even if its address could be.
            if found.contains_key(bare) {
                continue;
            }
            for path in paths.iter().filter(|path| fits(path, bare)) {
                if !found.contains_key(path) {
                    found.insert(path, link.to_owned());
                    waiting.push(link.to_owned());
                }
            }
        }
    }
    for path in paths.iter().filter(|path| !found.contains_key(*path)) {
        problems.push(format!(
            "{path}: no link leads to it, with what the guide puts in"
        ));
    }
    let more = WITH_A_QUERY.map(str::to_owned);
    Ok(found.into_values().chain(more).collect())
}

/// Whether an address is one of a path with parts that vary, and not of one without.
fn fits(path: &str, address: &str) -> bool {
    let address = address.split(['?', '#']).next().unwrap_or(address);
    let (path, address): (Vec<_>, Vec<_>) =
        (path.split('/').collect(), address.split('/').collect());
    path.len() == address.len()
        && path
            .iter()
            .zip(&address)
            .all(|(part, own)| part.starts_with('{') || part == own)
}

/// Looks at one page on every screen.
fn look(
    browser: &mut Browser,
    url: &str,
    axe: &str,
    address: &str,
    pictures: &Utf8Path,
    problems: &mut Vec<String>,
) -> Result<()> {
    for (name, screen) in SCREENS {
        browser.show_on(screen)?;
        browser.take_complaints();
        browser.go(&format!("{url}{address}"))?;
        let mut say = |text: String| problems.push(format!("{address} ({name}): {text}"));
        let language = browser.value("document.documentElement.lang")?;
        if language != screen.language {
            say(format!("is in {language}"));
        }
        let wide = browser.value("document.documentElement.scrollWidth - innerWidth")?;
        if wide.as_i64().is_some_and(|wide| wide > 0) {
            say(format!(
                "scrolls sideways by {wide} px: {}",
                widest(browser)?
            ));
        }
        axe::violations(browser, axe)?
            .into_iter()
            .for_each(&mut say);
        if !name.starts_with("phone") {
            let stacked = browser.value(STACKED)?;
            if stacked != json!(0) {
                say(format!("cells lie one below the other in {stacked} rows"));
            }
        }
        if name == SCREENS[0].0 {
            unreached(browser)?.into_iter().for_each(&mut say);
        }
        let file = format!(
            "{}-{name}.png",
            address.trim_matches('/').replace(['/', '%'], "-")
        );
        browser.picture(&pictures.join(file))?;
        browser.take_complaints().into_iter().for_each(&mut say);
    }
    Ok(())
}

/// Rows of tables, of the first few, whose cells don't lie beside each other.
const STACKED: &str = "[...document.querySelectorAll('main tr')].slice(0, 20).map(row => \
    [...row.cells].map(cell => cell.getBoundingClientRect()).filter(place => place.width > 0))\
    .filter(places => places.length > 1 && places[1].left < places[0].right - 1).length";

/// Which element makes the page wider than its screen.
fn widest(browser: &mut Browser) -> Result<String> {
    let found = browser.value(
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)\
         .slice(0, 3).map(e => e.tagName + '.' + e.className).join(', ')",
    )?;
    Ok(found.as_str().unwrap_or_default().to_owned())
}

/// Marks everything that a mouse could use and that Tab must reach.
const MARK: &str = r#"(() => {
  const seen = e => e.checkVisibility({ visibilityProperty: true }) && !e.disabled;
  const wanted = [...document.querySelectorAll('a[href], button, input, select, textarea, summary')]
    .filter(seen).filter(e => e.tabIndex >= 0 && !(e.type === 'radio' && !e.checked) && e.type !== 'hidden');
  wanted.forEach((e, i) => { e.dataset.stop = String(i); });
  document.activeElement?.blur();
  return wanted.length;
})()"#;

/// What has the focus, and whether it can be seen that it has.
const FOCUSED: &str = r#"(() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const style = getComputedStyle(e);
  const label = e.nextElementSibling && getComputedStyle(e.nextElementSibling);
  const shown = s => s && ((s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none');
  return { stop: e.dataset.stop ?? '', shown: Boolean(shown(style) || shown(label)), html: e.outerHTML.slice(0, 120) };
})()"#;

/// What Tab doesn't reach, and where the focus can't be seen.
fn unreached(browser: &mut Browser) -> Result<Vec<String>> {
    let wanted = browser.value(MARK)?.as_u64().unwrap_or(0);
    let wanted = usize::try_from(wanted)?;
    let mut reached = BTreeSet::new();
    let mut problems = Vec::new();
    for _ in 0..(wanted + 10).min(TAB_STOPS_MAX) {
        browser.press("Tab")?;
        let focused = browser.value(FOCUSED)?;
        let Some(stop) = focused["stop"].as_str() else {
            continue;
        };
        if focused["shown"] == json!(false) && reached.insert(stop.to_owned()) {
            problems.push(format!("the focus can't be seen on {}", focused["html"]));
        }
        reached.insert(stop.to_owned());
    }
    if wanted + 10 < TAB_STOPS_MAX {
        for stop in (0..wanted).map(|stop| stop.to_string()) {
            if !reached.contains(&stop) {
                let find = format!(
                    "document.querySelector('[data-stop=\"{stop}\"]').outerHTML.slice(0, 120)"
                );
                problems.push(format!("Tab doesn't reach {}", browser.value(&find)?));
            }
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn addresses_fit_their_paths() {
        for (path, address, expected) in [
            ("/runs/{run}", "/runs/1", true),
            ("/runs/{run}", "/runs/1?after=2#log", true),
            ("/runs/{run}", "/runs", false),
            ("/devices/{serial}/plan", "/devices/A%2F1/plan", true),
            ("/devices/{serial}/plan", "/devices/A", false),
        ] {
            assert_eq!(fits(path, address), expected, "{path} {address}");
        }
    }
}
