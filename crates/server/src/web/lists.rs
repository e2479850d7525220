//! The plain list pages: devices, collections, deployments, sequences, packages, prestages.

use maud::{Markup, html};
use wire::admin_api::{
    CollectionRow, Deployment, DeviceRow, PackageRow, PrestageVersion, Purpose, SequenceRow,
    Severity,
};

use super::{format, layout};

/// A table with a title; `empty` is said instead if there are no rows.
fn table(title: &str, columns: &[&str], rows: &[Markup], empty: &Markup) -> Markup {
    html! {
        div.headline.page-title { h1 { (title) } span.muted { (format::grouped(rows.len() as u64)) } }
        @if rows.is_empty() {
            div.empty { (empty) }
        } @else {
            div.scroll {
                table.list aria-label=(title) {
                    thead { tr { @for column in columns { th scope="col" { (column) } } } }
                    tbody { @for row in rows { tr { (row) } } }
                }
            }
        }
    }
}

fn hint(text: &str, command: &str) -> Markup {
    html! { h2 { (text) } p { "On the command line: " code { (command) } } }
}

/// All devices.
#[must_use]
pub fn devices(rows: &[DeviceRow]) -> Markup {
    let columns = [
        "Serial number",
        "Name",
        "Asset tag",
        "Model",
        "Site",
        "Class",
        "State",
        "Collections",
    ];
    let rows: Vec<_> = rows.iter().map(|row| html! {
        th scope="row" { (layout::serial_link(&row.serial, row.state)) }
        td { (layout::or_dash(row.name.as_deref().unwrap_or_default())) }
        td { (layout::or_dash(&row.asset_tag)) }
        td { (row.model) }
        td { (layout::or_dash(&row.site_name)) }
        td { (layout::or_dash(&row.class)) }
        td {
            @match &row.run {
                Some(run) => { a href={ "/runs/" (run.run) } { (layout::state_chip(row.state)) } }
                None => { (layout::state_chip(row.state)) }
            }
        }
        td { @for (index, name) in row.collections.iter().enumerate() { @if index > 0 { ", " } (name) } }
    }).collect();
    table(
        "Devices",
        &columns,
        &rows,
        &hint("No devices yet", "forestage asset import laptops.csv"),
    )
}

/// All collections.
#[must_use]
pub fn collections(rows: &[CollectionRow]) -> Markup {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { (row.name) }
                td { (layout::or_dash(&row.title)) }
                td.number { (row.members) }
            }
        })
        .collect();
    table(
        "Collections",
        &["Name", "Title", "Devices"],
        &rows,
        &hint("No collections yet", "forestage collection create"),
    )
}

/// All deployments.
#[must_use]
pub fn deployments(rows: &[Deployment]) -> Markup {
    let columns = [
        "Name",
        "Sequence",
        "Collection",
        "Purpose",
        "Expected duration",
        "Cap",
        "State",
    ];
    let rows: Vec<_> = rows.iter().map(|row| html! {
        th scope="row" { (row.name) }
        td { (row.sequence) }
        td { (row.collection) }
        td { (match row.purpose { Purpose::Required => "required", Purpose::Available => "available" }) }
        td.number {
            @if row.expected_seconds == 0 { "—" } @else { (format::clock(row.expected_seconds)) }
        }
        td.number { (row.cap) }
        td { (if row.stopped { "stopped" } else { "active" }) }
    }).collect();
    table(
        "Deployments",
        &columns,
        &rows,
        &hint("No deployments yet", "forestage deployment create"),
    )
}

/// All sequences.
#[must_use]
pub fn sequences(rows: &[SequenceRow]) -> Markup {
    let rows: Vec<_> = rows.iter().map(|row| html! {
        th scope="row" { (row.name) }
        td.number { (row.version) }
        td.number { (row.steps) }
        td {
            @let warnings = row.findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
            @if warnings == 0 { "none" } @else { (warnings) }
        }
        td { (format::moment(row.updated_at_ms)) " UTC" }
    }).collect();
    let columns = ["Name", "Version", "Steps", "Warnings", "Changed"];
    table(
        "Task sequences",
        &columns,
        &rows,
        &hint("No task sequences yet", "forestage sequence put"),
    )
}

/// All packages.
#[must_use]
pub fn packages(rows: &[PackageRow]) -> Markup {
    let rows: Vec<_> = rows.iter().map(|row| html! {
        th scope="row" { (row.package.name) @if !row.package.title.is_empty() { span.sub { (row.package.title) } } }
        td { span.mono { (row.package.version) } @if row.current { span.tag { "current" } } }
        td { (row.package.kind) }
        td.number { (format::bytes(row.package.content_bytes)) }
        td { (format::moment(row.published_at_ms)) " UTC" }
    }).collect();
    let columns = ["Name", "Version", "Kind", "Content", "Published"];
    table(
        "Packages",
        &columns,
        &rows,
        &hint("No packages yet", "forestage package import"),
    )
}

/// All prestages that were built.
#[must_use]
pub fn prestages(rows: &[PrestageVersion]) -> Markup {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { (row.prestage) "@" (row.version) }
                td { (row.model) }
                td { (row.plan.kept.len()) " kept, " (row.plan.omitted.len()) " left out" }
                td.number { (format::bytes(row.content_bytes)) }
                td.number { (format::bytes(row.bundle_bytes)) }
                td { span.mono title=(row.bundle) { (row.bundle.short()) } }
                td { (format::moment(row.built_at_ms)) " UTC" }
            }
        })
        .collect();
    let columns = [
        "Prestage", "Model", "Packages", "Content", "Bundle", "Digest", "Built",
    ];
    table(
        "Prestages",
        &columns,
        &rows,
        &hint("No prestages yet", "forestage prestage build"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn lists_have_a_row_per_thing_and_say_when_there_is_none() {
        let html = devices(&sample::devices()).into_string();
        assert_eq!(
            html.matches("scope=\"row\"").count(),
            sample::devices().len()
        );
        assert!(
            collections(&[])
                .into_string()
                .contains("No collections yet")
        );
        assert!(prestages(&[]).into_string().contains("No prestages yet"));
        sample::assert_harmless(&devices(&[sample::hostile_device()]).into_string());
    }
}
