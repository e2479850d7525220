//! What all pages share: the frame with the navigation, icons, states, the databar's drawing.
//!
//! The content security policy allows neither inline styles nor inline scripts, so what varies is drawn with SVG
//! attributes and classes.

use maud::{DOCTYPE, Markup, html};
use wire::admin_api::DeviceState;

use super::assets;
use super::databar::{Bar, Tone};
use super::filter::state_key;

/// Which entry of the navigation is the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The overview and the runs.
    Overview,
    /// The devices.
    Devices,
    /// The collections.
    Collections,
    /// The deployments.
    Deployments,
    /// The task sequences.
    Sequences,
    /// The packages.
    Packages,
    /// The prestages.
    Prestages,
}

const NAVIGATION: [(Section, &str, &str); 7] = [
    (Section::Overview, "/", "Overview"),
    (Section::Devices, "/devices", "Devices"),
    (Section::Collections, "/collections", "Collections"),
    (Section::Deployments, "/deployments", "Deployments"),
    (Section::Sequences, "/sequences", "Sequences"),
    (Section::Packages, "/packages", "Packages"),
    (Section::Prestages, "/prestages", "Prestages"),
];

/// A whole page for someone who is signed in. With `live`, the page follows the events of that address.
#[must_use]
pub fn page(
    title: &str,
    section: Section,
    user: &str,
    live: Option<&str>,
    content: &Markup,
) -> Markup {
    let bar = html! {
        header.top {
            a.brand href="/" aria-label="Forestage, overview" { (logo()) span { "Forestage" } }
            nav aria-label="Main" {
                @for (entry, address, name) in NAVIGATION {
                    a href=(address) aria-current=[(entry == section).then_some("page")] { (name) }
                }
            }
            div.session {
                @if live.is_some() {
                    span.live #live role="status" { span.dot {} span #live-text { "Not live" } }
                }
                form method="post" action="/logout" {
                    span.user title="Signed in" { (user) }
                    button.quiet type="submit" { "Sign out" }
                }
            }
        }
        @if live.is_some() {
            div.lost #lost role="alert" hidden { (icon(WARNING)) span { "Connection lost, retrying" } }
        }
    };
    document(
        title,
        live,
        &html! {
            a.skip href="#content" { "Skip to content" }
            (bar)
            main #content { (content) }
        },
    )
}

/// A page with nothing but a box in the middle: sign-in and errors.
#[must_use]
pub fn bare_page(title: &str, content: &Markup) -> Markup {
    document(
        title,
        None,
        &html! {
            main.bare #content { div.card { a.brand href="/" { (logo()) span { "Forestage" } } (content) } }
        },
    )
}

/// A page that says what went wrong and what to do.
#[must_use]
pub fn error_page(title: &str, message: &str, hint: &str) -> Markup {
    bare_page(
        title,
        &html! {
            h1 { (title) }
            p { (message) }
            p.muted { (hint) }
            p { a href="/" { "Back to the overview" } }
        },
    )
}

fn document(title: &str, live: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Forestage" }
                link rel="icon" type="image/svg+xml" href=(assets::icon_address());
                link rel="stylesheet" href=(assets::style_address());
                @if live.is_some() { script src=(assets::script_address()) defer {} }
            }
            body data-live=[live] { (body) }
        }
    }
}

/// The product's sign: two firs on a line.
fn logo() -> Markup {
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

/// A state's word as a label.
#[must_use]
pub fn capital(state: DeviceState) -> String {
    let word = state.to_string();
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
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

/// The address of the page that plans a run on the device with this serial number.
#[must_use]
pub fn plan_address(serial: &str) -> String {
    let encoded = serial.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    format!("/devices/{}/plan", encoded.collect::<String>())
}

/// A serial number that leads to the plan for its device; machines in quarantine are no known devices and have none.
#[must_use]
pub fn serial_link(serial: &str, state: DeviceState) -> Markup {
    html! {
        @if state == DeviceState::Quarantined || serial.trim().is_empty() {
            span.mono title="Serial number" { (or_dash(serial)) }
        } @else {
            a.mono href=(plan_address(serial)) title="Serial number; leads to the plan of a run" { (serial) }
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
    use super::super::sample;
    use super::*;

    #[test]
    fn code_in_messages() {
        assert_eq!(
            prose("run `a` and `<b>`").into_string(),
            "run <code>a</code> and <code>&lt;b&gt;</code>"
        );
        assert_eq!(prose("a lone ` stays").into_string(), "a lone ` stays");
    }

    #[test]
    fn pages_have_nothing_inline() {
        let content = html! { p { "x" } };
        let html = page(
            "Title",
            Section::Overview,
            sample::HOSTILE,
            Some("/live/overview"),
            &content,
        )
        .into_string();
        sample::assert_harmless(&html);
        assert!(
            !html.contains("style=") && !html.contains("<style") && !html.contains("javascript:")
        );
        assert_eq!(html.matches("<script").count(), 1);
        assert!(html.contains(r#"<script src="/assets/live-"#));
    }
}
