//! The assignment page. Everything that happens on it is done by `assets/assign.js`; here is what it stands on.

use maud::{Markup, html};
use wire::assignments::{ClassHandOut, ClassRow};

use super::super::assets;
use super::super::layout::icon;
use super::super::words::Words;
use super::shown;

const TICK: &str = "M2 8.600 6.200 12.800 14 4";
const CROSS: &str = "M3.500 3.500l9 9M12.500 3.500l-9 9";
const MARK: &str = "M8 2 15 14H1ZM8 6.500v3.500M8 11.900v.2";
const SCANNER: &str = "M2 5V2h3M14 5V2h-3M2 11v3h3M14 11v3h-3M4.500 5v6M7 5v6M9 5v6M11.500 5v6";
const CLOCK: &str = "M8 1.500a6.500 6.500 0 1 1 0 13 6.500 6.500 0 0 1 0-13ZM8 4.500V8l2.500 2";

/// What the script says.
fn texts(words: Words) -> Vec<(&'static str, &'static str)> {
    vec![
        ("scan-any", words.t("Scan a machine or a pupil")),
        ("scan-back", words.t("Scan the machine that comes back")),
        ("scan-pupil", words.t("Now scan the pupil")),
        ("scan-machine", words.t("Now scan the machine")),
        ("scan-next", words.t("Scan the next one")),
        ("looking-up", words.t("Looking it up …")),
        ("waiting", words.t("{n} scans wait for the server")),
        ("offline", words.t("No line to the server. Go on scanning: every scan is kept and sent when the line is back.")),
        ("signed-out", words.t("You are no longer signed in. Sign in in another tab; every scan is kept and sent then.")),
        ("server-failed", words.t("The server has a problem. Every scan is kept and sent again.")),
        ("refused", words.t("The server did not do it.")),
        ("unknown", words.t("Unknown")),
        ("unknown-hint", words.t("Neither a machine nor a pupil is called so. Scan again.")),
        ("visitor", words.t("{serial} belongs to {site}")),
        ("visitor-hint", words.t("It is a visitor at your school: its own school or an administrator hands it out. You can look at it and report it stolen.")),
        ("visitor-open", words.t("Open {serial}")),
        ("several", words.t("More than one machine is called so")),
        ("several-hint", words.t("Scan the serial number or the label.")),
        ("both", words.t("Both a machine and a pupil are called so")),
        ("both-hint", words.t("Scan the other half first.")),
        ("not-a-machine", words.t("This isn't a machine")),
        ("nobody-has-it", words.t("Nobody has this machine")),
        ("is-back", words.t("Is back from {name}")),
        ("is-back-short", words.t("{serial} is back from {name}")),
        ("is-with", words.t("Is with {name}")),
        ("again-takes-back", words.t("Scan the machine again to take it back, or scan the pupil who gets it.")),
        ("has", words.t("Has {serial} already")),
        ("again-swaps", words.t("Scan either of them again to swap, or scan the next one.")),
        ("someone-else", words.t("a pupil of another site")),
        ("not-ready", words.t("This machine isn't deployed yet")),
        ("w-not-ready", words.t("This machine isn't deployed yet")),
        ("w-other-site", words.t("The machine belongs to another site")),
        ("w-other-class", words.t("The machine is meant for another class")),
        ("w-left", words.t("The pupil no longer stands in the list")),
        ("undo", words.t("Undo")),
        ("undone", words.t("Undone")),
        ("row-out", words.t("{serial} to {name}")),
        ("row-back", words.t("{serial} back from {name}")),
        ("row-undone", words.t("Undone: {serial}, {name}")),
        ("without", words.t("{n} of {of} are without")),
        ("sound-on", words.t("Sound is on")),
        ("sound-off", words.t("Sound is off")),
        ("noted", words.t("Noted")),
        ("not-noted", words.t("Not noted")),
    ]
}

/// The page.
pub(super) fn page(
    words: Words,
    user: &str,
    classes: &[ClassRow],
    class: Option<&ClassHandOut>,
) -> Markup {
    let texts: serde_json::Map<String, serde_json::Value> = texts(words)
        .into_iter()
        .map(|(key, text)| (key.to_owned(), text.into()))
        .collect();
    let chosen = class.map(|class| (class.site.as_str(), class.class.as_str()));
    html! {
        div.assign #assign data-user=(user) data-mode="out" data-state="idle"
            data-words=(serde_json::Value::Object(texts)) {
            div.headline.page-title { h1 { (words.t("Assign")) } }
            div.assign-bar {
                fieldset.assign-mode {
                    legend.hidden { (words.t("What to do")) }
                    label { input type="radio" name="assign-mode" value="out" checked; span { (words.t("Hand out")) } }
                    label { input type="radio" name="assign-mode" value="back"; span { (words.t("Take back")) } }
                }
                form.assign-class method="get" action="/assign" {
                    label for="assign-of" { (words.t("Class")) }
                    (shown::class_select(words, "assign-of", "of", classes, chosen))
                    button type="submit" { (words.t("Choose")) }
                }
                button type="button" data-part="sound" aria-pressed="true" { (words.t("Sound is on")) }
            }
            section.assign-stage aria-live="assertive" aria-atomic="true" aria-label=(words.t("What happened")) {
                span.assign-icon {
                    span data-icon="idle half busy" { (icon(SCANNER)) }
                    span data-icon="done" hidden { (icon(TICK)) }
                    span data-icon="warn done-warn" hidden { (icon(MARK)) }
                    span data-icon="bad" hidden { (icon(CROSS)) }
                }
                p.assign-headline data-part="headline" { (words.t("Scan a machine or a pupil")) }
                p.assign-detail data-part="detail" {}
                p.assign-hint data-part="hint" {}
                a.assign-hint data-part="open" hidden {}
            }
            form.assign-scan autocomplete="off" {
                label for="assign-scan" { (words.t("Scan, or type and press Enter")) }
                input id="assign-scan" name="scan" type="text" autocomplete="off" autocapitalize="off" spellcheck="false"
                    inputmode="text" maxlength="300" autofocus;
            }
            p.assign-line data-part="line" role="alert" {}
            p.muted data-part="waiting" role="status" {}
            form.assign-condition data-part="condition" hidden {
                label for="assign-condition" { (words.t("Condition of the machine that came back")) }
                input id="assign-condition" name="condition" type="text" maxlength="500" autocomplete="off";
                button type="submit" { (words.t("Note it")) }
            }
            div.assign-lists {
                section.card {
                    div.headline {
                        h2 { (words.t("This session")) }
                        span.muted { (icon(CLOCK)) " " span data-part="count" { "0" } " " (words.t("handed out")) }
                        button type="button" data-part="undo-last" disabled title="Ctrl Z" { (words.t("Undo the last")) }
                    }
                    ol.assign-list data-part="list" {}
                }
                @if let Some(class) = class { (without(words, class)) }
            }
            script src=(assets::address("assign.js")) defer {}
        }
    }
}

/// Who of the class is still without.
fn without(words: Words, class: &ClassHandOut) -> Markup {
    let names: Vec<&str> = class.without().map(|pupil| pupil.name.as_str()).collect();
    let (n, of) = (names.len(), class.pupils.len());
    html! {
        section.card {
            div.headline {
                h2 { a href=(shown::class_address(&class.site, &class.class)) { (class.site_name) " " (class.class) } }
                span.muted data-part="without-count" {
                    (words.fill("{n} of {of} are without", &[("n", &n), ("of", &of)]))
                }
            }
            ul.assign-without data-part="without" data-site=(class.site) data-class=(class.class) {
                @for name in names { li { (name) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::words::Words;
    use super::{page, texts};
    use std::collections::BTreeSet;

    #[test]
    fn the_script_finds_all_it_asks_for() {
        let script = include_str!("../assets/assign.js");
        let keys: BTreeSet<&str> = texts(Words::ENGLISH)
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        for (at, _) in script.match_indices("say(\"") {
            let key = script[at + 5..].split('"').next().unwrap_or_default();
            assert!(keys.contains(key), "{key}");
        }
        let html = page(Words::ENGLISH, "admin", &[], None).into_string();
        for (at, _) in script.match_indices("part(\"") {
            let name = script[at + 6..].split('"').next().unwrap_or_default();
            let is_there = html.contains(&format!("data-part=\"{name}\""));
            assert!(is_there || name.starts_with("without"), "{name}");
        }
    }
}
