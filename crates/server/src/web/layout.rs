//! Small drawings that all pages share: icons, states, the databar.
//!
//! The content security policy allows neither inline styles nor inline scripts, so what varies is drawn with SVG
//! attributes and classes.

use maud::{Markup, html};
use wire::admin_api::{DeviceRow, DeviceState};
use wire::device_api::ApiError;
use wire::reasons::MachineReason;

use super::databar::{Bar, Tone};
use super::filter::{STATES, state_key};
use super::words::{Words, en};

/// The product's sign: two firs on a line.
pub(super) fn logo() -> Markup {
    html! {
        svg.logo viewBox="0 0 24 24" aria-hidden="true" {
            path d="M9 3 3.5 12H6l-3.5 6h13L12 12h2.500Z" {}
            path.near d="m17 8-3.600 6h1.700L13 18h9l-2.600-4H21Z" {}
            path.ground d="M2 21h20" {}
        }
    }
}

/// The path of a warning triangle.
pub const WARNING: &str = "M8 2.500 14.500 13.500H1.500ZM8 6.500v3.200M8 11.700v.1";
/// The path of a magnifying glass.
pub const SEARCH: &str =
    "M7 2.500a4.500 4.500 0 1 1 0 9 4.500 4.500 0 0 1 0-9ZM10.300 10.300l3.700 3.700";

/// A small drawing beside a word; it never stands alone.
#[must_use]
pub fn icon(path: &str) -> Markup {
    html! { svg.icon viewBox="0 0 16 16" aria-hidden="true" { path d=(path) {} } }
}

/// The drawing of a device's state; each has its own shape, so that colour is never needed to tell them apart.
#[must_use]
pub const fn state_icon(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Imported => "M3 3.500h10M3 8h10M3 12.500h6",
        DeviceState::Staged => {
            "M2.500 5 8 2.200 13.500 5v6L8 13.800 2.500 11ZM2.500 5 8 7.800 13.500 5M8 7.800v6"
        }
        DeviceState::CheckedIn => {
            "M8 12.500v.1M5.300 9.800a3.800 3.800 0 0 1 5.400 0M2.700 7.100a7.500 7.500 0 0 1 10.600 0"
        }
        DeviceState::Running => "M4.500 2.800v10.400L13 8Z",
        DeviceState::Completed => "M3 8.500 6.500 12 13 4.500",
        DeviceState::Failed => "M4 4l8 8M12 4l-8 8",
        DeviceState::Stopped => "M4 4h8v8H4Z",
        DeviceState::Stalled => {
            "M8 1.800a6.200 6.200 0 1 1 0 12.400A6.200 6.200 0 0 1 8 1.800ZM8 4.800V8l2.200 1.500"
        }
        DeviceState::Quarantined => {
            "M8 1.800 13 4v4c0 3.200-2.200 5.200-5 6.200C5.200 13.200 3 11.200 3 8V4ZM8 5v3.500M8 10.800v.1"
        }
    }
}

/// A state as icon and word.
#[must_use]
pub fn state_chip(state: DeviceState) -> Markup {
    html! { span class={ "chip s-" (state_key(state)) } { (icon(state_icon(state))) (capital(state)) } }
}

/// A state as icon and word, in the visitor's language.
#[must_use]
pub fn chip(words: Words, state: DeviceState) -> Markup {
    html! {
        span class={ "chip s-" (state_key(state)) } { (icon(state_icon(state))) (words.t(state_word(state))) }
    }
}

/// A state in English, to be translated.
#[must_use]
pub const fn state_word(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Imported => en("Imported"),
        DeviceState::Staged => en("Staged"),
        DeviceState::CheckedIn => en("Checked in"),
        DeviceState::Running => en("Running"),
        DeviceState::Completed => en("Completed"),
        DeviceState::Failed => en("Failed"),
        DeviceState::Stopped => en("Stopped"),
        DeviceState::Stalled => en("Stalled"),
        DeviceState::Quarantined => en("Quarantined"),
    }
}

/// A state by its key, in the visitor's language; one of a later release as it is called there.
#[must_use]
pub fn state_named(words: Words, key: &str) -> String {
    match STATES.into_iter().find(|state| state_key(*state) == key) {
        Some(state) => words.t(state_word(state)).to_owned(),
        None => capital(key.replace('-', " ")),
    }
}

/// A state's word as a label.
#[must_use]
pub fn capital(state: impl std::fmt::Display) -> String {
    let word = state.to_string();
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// What a machine waits for or what should be known of it, in the visitor's language as far as it is a sentence of ours.
#[must_use]
pub fn message(words: Words, row: &DeviceRow) -> Option<String> {
    let said = row.said.as_ref().map(|said| words.say(said));
    said.or_else(|| row.message.clone())
}

/// Whether the machine says that it doesn't take the order that it was given.
#[must_use]
pub fn has_refused(row: &DeviceRow) -> bool {
    row.said.as_ref().is_some_and(MachineReason::is_refusal)
}

/// A refusal: what its code says in the visitor's language, and the details in English.
#[must_use]
pub fn refusal(words: Words, error: &ApiError) -> Markup {
    let details = html! {
        p { (prose(&sentence(&error.message))) }
        @if let Some(hint) = &error.hint { p.muted { (prose(&sentence(hint))) } }
    };
    html! {
        @match words.refusal(&error.code) {
            Some(said) => { p { (said) } div.muted.small lang="en" { (details) } }
            None => (details),
        }
    }
}

/// An error's text as a sentence for a page.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let end = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    chars
        .next()
        .map(|first| {
            first
                .to_uppercase()
                .chain(chars)
                .chain(end.chars())
                .collect()
        })
        .unwrap_or_default()
}

/// A message for people, in which what stands between back quotes is code.
#[must_use]
pub fn prose(text: &str) -> Markup {
    let parts: Vec<_> = text.split('`').collect();
    html! {
        @if parts.len().is_multiple_of(2) {
            (text)
        } @else {
            @for (index, part) in parts.into_iter().enumerate() {
                @if index % 2 == 1 { code { (part) } } @else { (part) }
            }
        }
    }
}

/// The bar of a databar; the caller prints the label beside it.
#[must_use]
pub fn bar(bar: &Bar) -> Markup {
    html! {
        svg class={ "databar " (bar.tone.class()) } viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect.fill width=(bar.fill_percent) height="6" {}
            @if bar.tone != Tone::Plain { line.mark x1="50" x2="50" y1="0" y2="6" {} }
        }
    }
}

/// A thin bar of `percent`.
#[must_use]
pub fn progress(percent: u8) -> Markup {
    html! {
        svg.progress viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true" {
            rect.fill width=(percent.min(100)) height="3" {}
        }
    }
}

/// The address of the page of the device with this serial number.
#[must_use]
pub fn device_address(serial: &str) -> String {
    format!("/devices/{}", super::filter::encode(serial))
}

/// The address of the page that plans a run on the device with this serial number.
#[must_use]
pub fn plan_address(serial: &str) -> String {
    format!("{}/plan", device_address(serial))
}

/// A serial number that leads to its device's page; machines in quarantine are no known devices and have none.
#[must_use]
pub fn serial_link(words: Words, serial: &str, state: DeviceState) -> Markup {
    html! {
        @if state == DeviceState::Quarantined || serial.trim().is_empty() {
            span.mono title=(words.t("Serial number")) { (or_dash(serial)) }
        } @else {
            a.mono href=(device_address(serial)) title=(words.t("Serial number")) { (serial) }
        }
    }
}

/// A text that may be missing.
#[must_use]
pub fn or_dash(text: &str) -> &str {
    if text.trim().is_empty() { "—" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_by_its_key_has_its_word_in_both_languages() {
        for state in STATES {
            let named = |words| state_named(words, state_key(state));
            assert_eq!(named(Words::ENGLISH), state_word(state));
            assert_ne!(named(Words::BOKMAL), state_word(state));
        }
        assert_eq!(state_named(Words::BOKMAL, "laid-out"), "Laid out");
    }

    #[test]
    fn code_in_messages() {
        assert_eq!(
            prose("run `a` and `<b>`").into_string(),
            "run <code>a</code> and <code>&lt;b&gt;</code>"
        );
        assert_eq!(prose("a lone ` stays").into_string(), "a lone ` stays");
    }

    #[test]
    fn errors_become_sentences() {
        for (text, sentence) in [
            ("the password is wrong", "The password is wrong."),
            ("it ends well.", "It ends well."),
            ("", ""),
        ] {
            assert_eq!(super::sentence(text), sentence);
        }
    }
}
