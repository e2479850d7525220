//! Whom devices trust: the keys that sign bundles, which one signs, and which are retired; and the keys that sign warrants.

use axum::extract::State;
use maud::{Markup, html};
use wire::keys::{KeyPlace, KeyPurpose, KeyRow, KeyState, SignatureState, SignedBy};

use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, layout};
use crate::error::Failure;
use crate::people::roles::May;
use crate::state::AppState;

/// `GET /trust`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
) -> Result<Markup, Failure> {
    let (keys, may_change) = (state.key_rows().await?, visitor.user.may(May::Administer));
    let content = page(visitor.words, &keys, &state.home().server_urls, may_change);
    Ok(visitor.page(visitor.words.t("Trust"), None, &content))
}

/// The content of the page.
#[must_use]
pub fn page(words: Words, keys: &[KeyRow], urls: &[String], may_change: bool) -> Markup {
    let is_stealable = |key: &KeyRow| key.place == KeyPlace::Server;
    let of = |purpose| keys.iter().filter(move |key| key.purpose == purpose);
    let bundle: Vec<&KeyRow> = of(KeyPurpose::Bundle).collect();
    let wipe: Vec<&KeyRow> = of(KeyPurpose::Wipe).collect();
    html! {
        (draw::head(&[], words.t("Trust"), words.t("whose bundles devices take, and where they call home"), &html! {}))
        @if keys.iter().any(is_stealable) {
            p.notice { (words.t("Whoever takes over this server can sign with the keys that lie on it. A key that is kept elsewhere can't be taken with the server: have it sign, and retire the others.")) }
        }
        (draw::block("keys-title", words.t("Keys that sign bundles"), "", &table(words, &bundle, may_change)))
        p.muted { (words.t("A boot image trusts the keys that weren't retired when it was built. So add a key, build a boot image and let it reach the machines; then have the key sign; and retire the old one when nothing that it signed is to be staged any more.")) }
        (draw::block("wipe-title", words.t("Keys that sign warrants"), words.t("without a warrant, no disk of a deployed machine is written over"), &html! {
            @if !wipe.iter().any(|key| key.state != KeyState::Retired) {
                p.notice { (words.t("There is no such key. So whoever takes over this server can have every deployed machine written over. Add a key that is kept elsewhere, and build a boot image: machines that have it want a signature by that key first.")) }
            }
            @if !wipe.is_empty() { (wipe_table(words, &wipe, may_change)) }
        }))
        @if may_change { (new(words)) }
        (draw::block("home-title", words.t("Where devices call home"), words.t("the first one that answers"), &html! {
            ul { @for url in urls { li { code { (url) } } } }
        }))
    }
}

fn table(words: Words, keys: &[&KeyRow], may_change: bool) -> Markup {
    let rows: Vec<Markup> = keys
        .iter()
        .map(|key| {
            let path = format!("POST /api/v1/trust/keys/{}", key.name);
            let public_key = key.public_key.to_string();
            html! {
                th scope="row" { (key.name) }
                td { (state_text(words, key)) }
                td { (words.t(place_word(key.place))) }
                td { span.mono title=(public_key) { (&public_key[..16]) "…" } }
                td { (words.time(key.added_at_ms)) }
                td.number { (words.number(key.bundles.into())) }
                td.number { @if key.state == KeyState::Retired && key.staged > 0 { "⚠ " } (words.number(key.staged.into())) }
                td { @if may_change && key.state == KeyState::Trusted { div.buttons {
                    button type="button" data-api={ (path) "/use" } data-done=(words.t("It signs what is built from now on."))
                        data-confirm=(words.fill(en("Sign with {key} from now on? Media that are built then only start machines with a boot image that trusts it."), &[("key", &key.name)])) {
                        (words.t("Sign with it"))
                    }
                    button.danger type="button" data-api={ (path) "/retire" }
                        data-confirm=(words.fill(en("Retire {key} for good? Boot images that are built from now on refuse what it has signed. If its private half lies on this server, it is removed."), &[("key", &key.name)])) {
                        (words.t("Retire the key"))
                    }
                } } }
            }
        })
        .collect();
    let columns = [
        en("Key"),
        en("State"),
        en("Private half"),
        en("Public half begins with"),
        en("Added"),
        en("Bundles"),
        en("Machines that wait staged"),
        en("Action"),
    ]
    .map(|column| words.t(column));
    draw::table(words.t("Keys that sign bundles"), &columns, &[5, 6], &rows)
}

fn wipe_table(words: Words, keys: &[&KeyRow], may_change: bool) -> Markup {
    let rows: Vec<Markup> = keys
        .iter()
        .map(|key| {
            let public_key = key.public_key.to_string();
            html! {
                th scope="row" { (key.name) }
                td { (state_text(words, key)) }
                td { span.mono title=(public_key) { (&public_key[..16]) "…" } }
                td { (words.time(key.added_at_ms)) }
                td { @if may_change && key.state != KeyState::Retired { div.buttons {
                    button.danger type="button" data-api={ "POST /api/v1/trust/keys/" (key.name) "/retire" }
                        data-confirm=(words.fill(en("Retire {key} for good? Its warrants are no longer handed out, and boot images that are built from now on don't know it. With no other such key they let this server decide alone what is written over."), &[("key", &key.name)])) {
                        (words.t("Retire the key"))
                    }
                } } }
            }
        })
        .collect();
    let columns = [
        en("Key"),
        en("State"),
        en("Public half begins with"),
        en("Added"),
        en("Action"),
    ]
    .map(|column| words.t(column));
    draw::table(words.t("Keys that sign warrants"), &columns, &[], &rows)
}

fn state_text(words: Words, key: &KeyRow) -> Markup {
    match (key.state, key.retired_at_ms) {
        (KeyState::Signing, _) => html! { b { (words.t("✓ Signs what is built")) } },
        (KeyState::Trusted, _) => html! { (words.t("Trusted")) },
        (KeyState::Retired, at_ms) => html! {
            (words.t("Retired for good")) @if let Some(at_ms) = at_ms { " " span.muted { (words.time(at_ms)) } }
        },
    }
}

const fn place_word(place: KeyPlace) -> &'static str {
    match place {
        KeyPlace::Server => en("on this server"),
        KeyPlace::Elsewhere => en("elsewhere"),
        KeyPlace::Removed => en("removed"),
    }
}

fn new(words: Words) -> Markup {
    html! {
        details.edit { summary { (words.t("Add a key")) }
            form.stacked.card data-api="POST /api/v1/trust/keys" data-done=(words.t("Added. Boot images that are built from now on trust it.")) {
                label for="name" { (words.t("Name")) }
                input #name name="name" required autocomplete="off" spellcheck="false" placeholder="vault-2026";
                label for="purpose" { (words.t("What it signs")) }
                select #purpose name="purpose" {
                    option value="bundle" { (words.t("bundles: what is staged at the factory")) }
                    option value="wipe" { (words.t("warrants: what may write over a deployed machine")) }
                }
                label for="public-key" { (words.t("Public half, 64 digits; empty for bundles: the server makes a key and keeps it")) }
                input #public-key name="public-key" pattern="[0-9a-f]{64}" autocomplete="off" spellcheck="false";
                p.muted { (words.t("On a computer that never meets this server, this makes a key:")) " " code { "forestage trust make-key" } }
                div.buttons { button.primary { (words.t("Add the key")) } }
            }
        }
    }
}

/// Who signed a version of a prestage, in a cell of a table.
pub(super) fn signed(words: Words, signed: &SignedBy) -> Markup {
    let key = html! { @if let Some(key) = &signed.key { " " span.mono { (key) } } };
    match signed.state {
        SignatureState::Good => {
            html! { @match &signed.key { Some(key) => span.mono { (key) }, None => "—" } }
        }
        SignatureState::Waiting => html! { (words.t("Waits for its signature")) (key) },
        SignatureState::Retired => html! { (words.t("⚠ Retired key")) (key) },
    }
}

/// What is to be done about a version that isn't signed by a key that counts.
pub(super) fn to_do(words: Words, prestage: &str, version: u32, signed: &SignedBy) -> Markup {
    let path = format!("/api/v1/prestages/{prestage}/versions/{version}");
    let id = format!("{prestage}@{version}");
    let key = signed.key.as_ref().map(ToString::to_string);
    let key = layout::or_dash(key.as_deref().unwrap_or_default());
    let text = match signed.state {
        SignatureState::Good => return html! {},
        SignatureState::Waiting => words.fill(
            en("{version} is built and waits for its signature with the key {key}. Until then nobody can fetch it."),
            &[("version", &id), ("key", &key)],
        ),
        SignatureState::Retired => words.fill(
            en("{version} is signed with the key {key}, which is retired: boot images of today refuse it. Build a new version, or sign this one with another key."),
            &[("version", &id), ("key", &key)],
        ),
    };
    html! {
        section.card {
            p { (layout::icon(layout::WARNING)) " " (layout::prose(&text)) }
            ol {
                li { a href={ (path) "/root" } download={ (id) ".root" } { (words.t("Fetch what is signed")) } " "
                    (words.t("and carry it to the computer with the key.")) }
                li { (words.t("Sign it there:")) " " code { "forestage prestage sign " (id) ".root --key KEY --output " (id) ".signature" } }
                li { (words.t("Bring the signature back.")) }
            }
            form.stacked data-api={ "PUT " (path) "/signature" } data-done=(words.t("Signed: it can be fetched now.")) {
                label for="signature" { (words.t("File with the signature")) }
                input #signature type="file" data-body required accept=".signature,.json";
                div.buttons { button.primary { (words.t("Hand the signature in")) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(state: KeyState, place: KeyPlace) -> KeyRow {
        KeyRow {
            name: "vault".parse().unwrap(),
            purpose: KeyPurpose::Bundle,
            public_key: "ab".repeat(32).parse().unwrap(),
            state,
            place,
            added_at_ms: 0,
            retired_at_ms: (state == KeyState::Retired).then_some(0),
            bundles: 3,
            staged: 7,
        }
    }

    fn drawn(state: KeyState, place: KeyPlace, may_change: bool) -> String {
        page(Words::ENGLISH, &[key(state, place)], &[], may_change).into_string()
    }

    #[test]
    fn only_a_key_that_waits_can_be_used_or_retired() {
        let has_buttons = |state| drawn(state, KeyPlace::Elsewhere, true).contains("/retire");
        assert!(has_buttons(KeyState::Trusted));
        assert!(!has_buttons(KeyState::Signing) && !has_buttons(KeyState::Retired));
        assert!(!drawn(KeyState::Trusted, KeyPlace::Elsewhere, false).contains("data-api"));
    }

    #[test]
    fn a_key_that_could_be_stolen_with_the_server_is_pointed_out() {
        let is_pointed_out =
            |state, place| drawn(state, place, true).contains("Whoever takes over");
        assert!(is_pointed_out(KeyState::Trusted, KeyPlace::Server));
        assert!(!is_pointed_out(KeyState::Signing, KeyPlace::Elsewhere));
        assert!(!is_pointed_out(KeyState::Retired, KeyPlace::Removed));
    }

    #[test]
    fn without_a_wipe_key_the_weaker_guarantee_is_said() {
        let wipe = |state| KeyRow {
            purpose: KeyPurpose::Wipe,
            ..key(state, KeyPlace::Elsewhere)
        };
        let drawn = |keys: &[KeyRow]| page(Words::ENGLISH, keys, &[], true).into_string();
        let is_said = |keys: &[KeyRow]| drawn(keys).contains("There is no such key");
        assert!(is_said(&[key(KeyState::Signing, KeyPlace::Elsewhere)]));
        assert!(is_said(&[wipe(KeyState::Retired)]));
        assert!(!is_said(&[wipe(KeyState::Trusted)]));
        // It is in use already, and signs no bundle.
        assert!(!drawn(&[wipe(KeyState::Trusted)]).contains("/use"));
        assert!(drawn(&[wipe(KeyState::Trusted)]).contains("/retire"));
    }

    #[test]
    fn what_waits_says_how_it_is_signed_and_what_is_good_says_nothing() {
        let said = |state| {
            let by = SignedBy {
                state,
                key: "vault".parse().ok(),
            };
            to_do(Words::ENGLISH, "book", 3, &by).into_string()
        };
        assert_eq!(said(SignatureState::Good), "");
        let waits = said(SignatureState::Waiting);
        assert!(waits.contains("/versions/3/root") && waits.contains("/versions/3/signature"));
        assert!(said(SignatureState::Retired).contains("which is retired"));
    }
}
