//! The overview: one table of all devices, troubled ones first, that keeps itself up to date.
//!
//! Pure functions over rows. Each device is one `tbody`, the unit that the live updates replace.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use wire::admin_api::{DeviceRow, DeviceState, RunRow};

use super::databar::databar;
use super::filter::{Filter, STATES, state_key};
use super::format;
use super::layout;

/// Rows on one page. A browser stays quick with these; a fleet is narrowed by filters, and trouble sorts first.
pub const ROWS_MAX: usize = 1000;

/// The rows to show, in order: trouble first, then what moves, then the rest by site, class and name.
#[must_use]
pub fn select<'a>(rows: &'a [DeviceRow], filter: &Filter) -> Vec<&'a DeviceRow> {
    let mut shown: Vec<_> = rows.iter().filter(|row| filter.matches(row)).collect();
    shown.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    shown
}

type SortKey<'a> = (u8, i64, &'a str, &'a str, &'a str, &'a str);

fn sort_key(row: &DeviceRow) -> SortKey<'_> {
    let rank = match row.state {
        DeviceState::Failed => 0,
        DeviceState::Stalled => 1,
        DeviceState::Quarantined => 2,
        DeviceState::Running => 3,
        DeviceState::CheckedIn => 4,
        DeviceState::Completed => 5,
        DeviceState::Staged => 6,
        DeviceState::Imported => 7,
    };
    // The latest to finish stands first; rows of a run that goes on keep their places while it does.
    let newest = match row.state {
        DeviceState::Completed => row
            .run
            .as_ref()
            .and_then(|run| run.ended_at_ms)
            .map_or(0, i64::wrapping_neg),
        _ => 0,
    };
    (
        rank,
        newest,
        &row.site,
        &row.class,
        row.name.as_deref().unwrap_or("\u{10ffff}"),
        &row.serial,
    )
}

/// The content of the overview page.
#[must_use]
pub fn overview(rows: &[DeviceRow], filter: &Filter, now_ms: i64) -> Markup {
    let shown = select(rows, filter);
    html! {
        h1.hidden { "Overview" }
        (tiles(rows, filter))
        (filters(rows, filter))
        p.count #count role="status" { (count(shown.len(), rows.len())) }
        table.devices aria-label="Devices" {
            thead {
                tr {
                    th scope="col" { "Device" }
                    th scope="col" { "State" }
                    th scope="col" { "Model" }
                    th scope="col" { "Site" }
                    th scope="col" { "Class" }
                    th scope="col" { "Step" }
                    th scope="col" { "Elapsed of expected" }
                    th.number scope="col" title="Content fetched over the network, in megabytes" { "Fetched, MB" }
                    th.number scope="col" { "Last seen" }
                }
            }
            @for row in shown.iter().take(ROWS_MAX) { (device(row, now_ms)) }
        }
        div.empty #empty hidden[!shown.is_empty()] { (empty(rows.is_empty())) }
    }
}

/// How many rows are shown, in words.
#[must_use]
pub fn count(shown: usize, all: usize) -> String {
    if shown > ROWS_MAX {
        format!("The first {ROWS_MAX} of {shown} devices; narrow the filter to see the others")
    } else if shown == all {
        format!("{all} {}", if all == 1 { "device" } else { "devices" })
    } else {
        format!("{shown} of {all} devices")
    }
}

fn empty(no_devices: bool) -> Markup {
    html! {
        @if no_devices {
            h2 { "No devices yet" }
            p { "Import an asset file to begin: " code { "forestage asset import laptops.csv" } }
        } @else {
            h2 { "No device matches" }
            p { a href="/" { "Show all devices" } }
        }
    }
}

/// The counts by state; each is a link that sets or clears the filter.
#[must_use]
pub fn tiles(rows: &[DeviceRow], filter: &Filter) -> Markup {
    let mut counts = BTreeMap::new();
    for row in rows.iter().filter(|row| filter.matches_but_state(row)) {
        *counts.entry(state_key(row.state)).or_insert(0_usize) += 1;
    }
    html! {
        nav.tiles #tiles aria-label="Devices by state" {
            @for state in STATES {
                @let count = counts.get(state_key(state)).copied().unwrap_or_default();
                @let current = filter.state == Some(state);
                a class={ "tile s-" (state_key(state)) @if count == 0 { " none" } }
                    href={ "/" (filter.with_state((!current).then_some(state)).query()) }
                    aria-current=[current.then_some("true")]
                    title=(if current { "Show all states" } else { "Show only these" }) {
                    span.figure { (count) }
                    span.word { (layout::icon(layout::state_icon(state))) (layout::capital(state)) }
                }
            }
        }
    }
}

fn filters(rows: &[DeviceRow], filter: &Filter) -> Markup {
    let sites: BTreeSet<_> = rows.iter().map(|row| (&row.site_name, &row.site)).collect();
    html! {
        form.filters #filters method="get" action="/" role="search" {
            label.search {
                span.hidden { "Search" }
                (layout::icon(layout::SEARCH))
                input type="search" name="text" value=(filter.text) maxlength="100" autocomplete="off"
                    placeholder="Search name, serial, model, class";
            }
            label {
                span.hidden { "Site" }
                select name="site" {
                    option value="" { "All sites" }
                    @for (name, code) in sites {
                        @if !code.is_empty() {
                            option value=(code) selected[filter.site.as_ref() == Some(code)] {
                                (layout::or_dash(name)) " (" (code) ")"
                            }
                        }
                    }
                }
            }
            label {
                span.hidden { "State" }
                select name="state" {
                    option value="" { "All states" }
                    @for state in STATES {
                        option value=(state_key(state)) selected[filter.state == Some(state)] {
                            (layout::capital(state))
                        }
                    }
                }
            }
            button type="submit" { "Apply" }
            @if !filter.is_empty() { a.clear href="/" { "Clear" } }
        }
    }
}

/// The id of a device's element.
#[must_use]
pub fn row_id(row: &DeviceRow) -> String {
    format!("d-{}", row.device)
}

/// One device: a `tbody` of one line, or two if something must be said.
#[must_use]
pub fn device(row: &DeviceRow, now_ms: i64) -> Markup {
    let name = row.name.as_deref().unwrap_or("—");
    html! {
        tbody id=(row_id(row)) class={ "device s-" (state_key(row.state)) } data-version=(version(row)) {
            tr {
                th.name scope="row" data-label="Device" {
                    @match &row.run {
                        Some(run) => { a href={ "/runs/" (run.run) } { (layout::or_dash(name)) } }
                        None => { span { (layout::or_dash(name)) } }
                    }
                    span.sub { (layout::serial_link(&row.serial, row.state)) }
                }
                td.state { (layout::state_chip(row.state)) }
                td.model title=(row.model) {
                    span { (layout::or_dash(&row.model.product)) }
                    span.sub { (row.model.vendor) }
                }
                td.site title=(row.site) { (layout::or_dash(site_name(row))) }
                td.class { (layout::or_dash(&row.class)) }
                @match &row.run {
                    Some(run) => { (run_cells(run)) }
                    None => {
                        td.step { span.muted { "—" } }
                        td.time { span.muted { "—" } }
                        td.number { span.muted { "—" } }
                    }
                }
                td.number.seen { (last_seen(row.last_seen_at_ms, now_ms)) }
            }
            @if let Some(trouble) = trouble(row) { (trouble) }
        }
    }
}

fn site_name(row: &DeviceRow) -> &str {
    if row.site_name.trim().is_empty() {
        &row.site
    } else {
        &row.site_name
    }
}

fn run_cells(run: &RunRow) -> Markup {
    let working = matches!(run.state, DeviceState::Running | DeviceState::Stalled);
    let fetched = format!(
        "{} of content, {} in all at the server, {} at the machine's network card",
        format::bytes(run.content.network_packed),
        format::bytes(run.server_bytes),
        format::bytes(run.interface_bytes)
    );
    html! {
        td.step {
            span.line {
                span.of title={ "Step " (run.step_number) " of " (run.step_count) } {
                    (run.step_number) span.muted { "/" (run.step_count) }
                }
                span.title title=(run.step_title) { (layout::or_dash(&run.step_title)) }
                @if working { @if let Some(percent) = run.step_percent { span.percent { (percent.min(100)) " %" } } }
            }
            @if working { @if let Some(percent) = run.step_percent { (layout::progress(percent)) } }
        }
        td.time { (elapsed(run)) }
        td.number.fetched title=(fetched) { (format::megabytes(run.content.network_packed)) span.unit { " MB" } }
    }
}

/// Elapsed and expected time with the databar. While the run goes on, the page counts on by itself.
#[must_use]
pub fn elapsed(run: &RunRow) -> Markup {
    let bar = databar(run.elapsed_seconds, run.expected_seconds, run.state);
    html! {
        div.timing data-elapsed=[(run.state == DeviceState::Running).then_some(run.elapsed_seconds)]
            data-expected=(run.expected_seconds) {
            span.line {
                span.elapsed { (format::clock(run.elapsed_seconds)) }
                @if run.expected_seconds > 0 { span.muted { " / " (format::clock(run.expected_seconds)) } }
                span.label { (bar.label) }
            }
            (layout::bar(&bar))
        }
    }
}

fn last_seen(at_ms: Option<i64>, now_ms: i64) -> Markup {
    html! {
        @match at_ms {
            Some(at_ms) => {
                @let seconds = format::seconds_between(at_ms, now_ms);
                span data-ago=(seconds) title={ (format::moment(at_ms)) " UTC" } { (format::ago(seconds)) }
            }
            None => { span.muted { "—" } }
        }
    }
}

/// The second line: what went wrong and what to do, or why the device is kept apart.
fn trouble(row: &DeviceRow) -> Option<Markup> {
    let run = row.run.as_ref();
    let text = match row.state {
        DeviceState::Failed => {
            let chain = run
                .map(|run| run.errors.join(": "))
                .filter(|chain| !chain.is_empty());
            chain
                .or_else(|| row.message.clone())
                .unwrap_or_else(|| "The run failed without an error message.".into())
        }
        DeviceState::Stalled => row
            .message
            .clone()
            .unwrap_or_else(|| "Silent for too long: no heartbeat from the machine.".into()),
        DeviceState::Quarantined => row
            .message
            .clone()
            .unwrap_or_else(|| "The machine can't prove who it is.".into()),
        DeviceState::Imported
        | DeviceState::Staged
        | DeviceState::CheckedIn
        | DeviceState::Running
        | DeviceState::Completed => return None,
    };
    let failed = (row.state == DeviceState::Failed).then_some(run).flatten();
    Some(html! {
        tr.trouble {
            td colspan="9" {
                div.note {
                    @if let Some(step) = failed.and_then(|run| run.failed_step.as_ref()) {
                        span { "Step " code { (step) } }
                    }
                    span.what { (layout::prose(&text)) }
                    @if let Some(hint) = failed.and_then(|run| run.hint.as_ref()) {
                        span.hint { b { "What to do: " } (layout::prose(hint)) }
                    }
                }
            }
        }
    })
}

/// A short digest of everything a row shows but the running clock: rows with the same version look the same.
#[must_use]
pub fn version(row: &DeviceRow) -> String {
    let mut row = row.clone();
    if let Some(run) = &mut row.run
        && run.state == DeviceState::Running
    {
        run.elapsed_seconds = 0;
    }
    let json = serde_json::to_vec(&row).unwrap_or_default();
    wire::digest::Digest::of(&json).short()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn trouble_stands_first() {
        let rows = sample::devices();
        let order: Vec<_> = select(&rows, &Filter::default())
            .into_iter()
            .map(|row| row.state)
            .collect();
        assert_eq!(
            &order[..4],
            [
                DeviceState::Failed,
                DeviceState::Stalled,
                DeviceState::Quarantined,
                DeviceState::Running
            ]
        );
        assert_eq!(order.last(), Some(&DeviceState::Imported));
        assert_eq!(order.len(), rows.len());
    }

    #[test]
    fn tiles_count_and_toggle() {
        let rows = sample::devices();
        let site = Filter {
            site: Some("BJO".into()),
            ..Filter::default()
        };
        let html = tiles(&rows, &site.with_state(Some(DeviceState::Failed))).into_string();
        assert!(
            html.contains(r#"href="/?site=BJO" aria-current="true""#),
            "the current tile clears the state: {html}"
        );
        assert!(
            html.contains(r#"href="/?site=BJO&amp;state=running""#),
            "the others keep the site"
        );
    }

    #[test]
    fn counts_in_words() {
        assert_eq!(count(1, 1), "1 device");
        assert_eq!(count(3, 30), "3 of 30 devices");
        assert!(count(ROWS_MAX + 1, ROWS_MAX + 1).starts_with("The first 1000 of 1001"));
    }

    #[test]
    fn the_version_ignores_the_clock_and_nothing_else() {
        let rows = sample::devices();
        let row = rows
            .iter()
            .find(|row| row.state == DeviceState::Running)
            .unwrap();
        let mut later = row.clone();
        later.run.as_mut().unwrap().elapsed_seconds += 5;
        assert_eq!(version(row), version(&later));
        later.run.as_mut().unwrap().step_percent = Some(99);
        assert_ne!(version(row), version(&later));
    }

    #[test]
    fn no_text_of_a_device_becomes_markup() {
        let html = overview(
            &[sample::hostile_device()],
            &Filter::default(),
            sample::NOW_MS,
        )
        .into_string();
        sample::assert_harmless(&html);
        let filter = Filter {
            text: sample::HOSTILE.into(),
            site: Some(sample::HOSTILE.into()),
            state: None,
        };
        sample::assert_harmless(
            &overview(&[sample::hostile_device()], &filter, sample::NOW_MS).into_string(),
        );
    }

    #[test]
    fn rows_look_as_agreed() {
        let rows = sample::devices();
        let find = |state| rows.iter().find(|row| row.state == state).unwrap();
        let mut page = String::new();
        for state in STATES {
            page.push_str(
                &device(find(state), sample::NOW_MS)
                    .into_string()
                    .replace("<t", "\n<t")
                    .replace("<span", "\n<span"),
            );
            page.push('\n');
        }
        insta::assert_snapshot!("device-rows", page.trim_start());
    }
}
