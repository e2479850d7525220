//! The plain list pages: devices, collections, deployments, sequences, packages, prestages.

use maud::{Markup, html};
use wire::admin_api::{
    CollectionRow, Deployment, DeviceRow, PackageRow, PrestageDefinition, PrestageVersion, Purpose,
    SequenceRow, Severity,
};
use wire::names::PrestageName;

use super::layout;
use super::words::{Words, en};
use crate::limits::TITLE_CHARS_MAX;

/// A table with a title; `empty` is said instead if there are no rows.
fn table(
    words: Words,
    title: &'static str,
    columns: &[&'static str],
    rows: &[Markup],
    empty: &Markup,
) -> Markup {
    let title = words.t(title);
    html! {
        div.headline.page-title { h1 { (title) } span.muted { (words.number(rows.len() as u64)) } }
        @if rows.is_empty() {
            div.empty { (empty) }
        } @else {
            div.scroll tabindex="0" role="group" aria-label=(title) {
                table.list aria-label=(title) data-sort {
                    thead { tr { @for column in columns { th scope="col" { (words.t(column)) } } } }
                    tbody { @for row in rows { tr { (row) } } }
                }
            }
        }
    }
}

fn hint(words: Words, text: &'static str, command: &str) -> Markup {
    html! {
        h2 { (words.t(text)) }
        p { (words.t("On the command line:")) " " code { (command) } }
    }
}

/// All devices.
#[must_use]
pub fn devices(words: Words, rows: &[DeviceRow]) -> Markup {
    let columns = [
        en("Serial number"),
        en("Name"),
        en("Asset tag"),
        en("Model"),
        en("Site"),
        en("Class"),
        en("State"),
        en("Collections"),
    ];
    let rows: Vec<_> = rows.iter().map(|row| html! {
        th scope="row" { (layout::serial_link(words, &row.serial, row.state)) }
        td { (layout::or_dash(row.name.as_deref().unwrap_or_default())) }
        td { (layout::or_dash(&row.asset_tag)) }
        td { (row.model) }
        td { (layout::or_dash(&row.site_name)) }
        td { (layout::or_dash(&row.class)) }
        td {
            @match &row.run {
                Some(run) => { a href={ "/runs/" (run.run) } { (layout::chip(words, row.state)) } }
                None => { (layout::chip(words, row.state)) }
            }
        }
        td { @for (index, name) in row.collections.iter().enumerate() { @if index > 0 { ", " } (name) } }
    }).collect();
    table(
        words,
        en("Devices"),
        &columns,
        &rows,
        &hint(
            words,
            en("No devices yet"),
            "forestage asset import laptops.csv",
        ),
    )
}

/// All collections.
#[must_use]
pub fn collections(words: Words, rows: &[CollectionRow], may_deploy: bool) -> Markup {
    let list = collection_list(words, rows);
    html! {
        (list)
        @if may_deploy { details.edit {
            summary { (words.t("Make a collection")) }
            form.stacked.card data-api="PUT /api/v1/collections/{name}" data-then="/collections/{name}" {
                label for="name" { (words.t("Name")) }
                input #name name="name" data-too required autocomplete="off" spellcheck="false" placeholder="pupils-2026";
                label for="title" { (words.t("Title")) }
                input #title name="title" maxlength=(TITLE_CHARS_MAX) data-changed autocomplete="off";
                div.buttons { button.primary { (words.t("Make the collection")) } }
            }
        } }
    }
}

fn collection_list(words: Words, rows: &[CollectionRow]) -> Markup {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { a href={ "/collections/" (row.name) } { (row.name) } }
                td { (layout::or_dash(&row.title)) }
                td.number { (row.members) }
            }
        })
        .collect();
    table(
        words,
        en("Collections"),
        &[en("Name"), en("Title"), en("Devices")],
        &rows,
        &hint(
            words,
            en("No collections yet"),
            "forestage collection create",
        ),
    )
}

/// All deployments.
#[must_use]
pub fn deployments(words: Words, rows: &[Deployment]) -> Markup {
    let columns = [
        en("Name"),
        en("Sequence"),
        en("Collection"),
        en("Purpose"),
        en("Expected duration"),
        en("Cap"),
        en("State"),
    ];
    let rows: Vec<_> = rows.iter().map(|row| html! {
        th scope="row" { a href={ "/deployments/" (row.name) } { (row.name) } }
        td { (row.sequence) }
        td { a href={ "/collections/" (row.collection) } { (row.collection) } }
        td { (match row.purpose { Purpose::Required => words.t("required"), Purpose::Available => words.t("available") }) }
        td.number {
            @if row.expected_seconds == 0 { "—" } @else { (super::format::clock(row.expected_seconds)) }
        }
        td.number { (row.cap) }
        td { (if row.stopped { words.t("stopped") } else { words.t("active") }) }
    }).collect();
    table(
        words,
        en("Deployments"),
        &columns,
        &rows,
        &hint(
            words,
            en("No deployments yet"),
            "forestage deployment create",
        ),
    )
}

/// All sequences.
#[must_use]
pub fn sequences(words: Words, rows: &[SequenceRow]) -> Markup {
    let rows: Vec<_> = rows.iter().map(|row| html! {
        th scope="row" { a href={ "/sequences/" (row.name) } { (row.name) } }
        td.number { (row.version) }
        td.number { (row.steps) }
        td {
            @let warnings = row.findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
            @if warnings == 0 { (words.t("none")) } @else { (warnings) }
        }
        td { (words.time(row.updated_at_ms)) }
    }).collect();
    let columns = [
        en("Name"),
        en("Version"),
        en("Steps"),
        en("Warnings"),
        en("Changed"),
    ];
    table(
        words,
        en("Task sequences"),
        &columns,
        &rows,
        &hint(words, en("No task sequences yet"), "forestage sequence put"),
    )
}

/// All packages.
#[must_use]
pub fn packages(words: Words, rows: &[PackageRow]) -> Markup {
    let rows: Vec<_> = rows.iter().map(|row| html! {
        th scope="row" { a href={ "/packages/" (row.package.name) } { (row.package.name) } @if !row.package.title.is_empty() { span.sub { (row.package.title) } } }
        td { span.mono { (row.package.version) } @if row.current { span.tag { (words.t("current")) } } }
        td { (row.package.kind) }
        td.number { (words.bytes(row.package.content_bytes)) }
        td { (words.time(row.published_at_ms)) }
    }).collect();
    let columns = [
        en("Name"),
        en("Version"),
        en("Kind"),
        en("Content"),
        en("Published"),
    ];
    table(
        words,
        en("Packages"),
        &columns,
        &rows,
        &hint(words, en("No packages yet"), "forestage package import"),
    )
}

/// All prestages: every version of those that were built, and those that are defined only.
#[must_use]
pub fn prestages(
    words: Words,
    rows: &[PrestageVersion],
    defined: &[(PrestageName, PrestageDefinition)],
    may_define: bool,
) -> Markup {
    let list = prestage_list(words, rows, defined);
    html! {
        (list)
        @if may_define { details.edit {
            summary { (words.t("Define a prestage")) }
            (super::prestage::form(words, None))
        } }
    }
}

fn prestage_list(
    words: Words,
    rows: &[PrestageVersion],
    defined: &[(PrestageName, PrestageDefinition)],
) -> Markup {
    let is_built = |name: &PrestageName| rows.iter().any(|row| row.prestage == *name);
    let unbuilt = defined
        .iter()
        .filter(|(name, _)| !is_built(name))
        .map(|(name, definition)| {
            html! {
                th scope="row" { a href={ "/prestages/" (name) } { (name) } }
                td { (definition.model) }
                td { (words.t("not built yet")) }
                td.number { "—" } td.number { "—" } td { "—" } td { "—" } td { "—" }
            }
        });
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { a href={ "/prestages/" (row.prestage) } { (row.prestage) } "@" (row.version) }
                td { (row.model) }
                td { (words.fill("{kept} kept, {omitted} left out", &[("kept", &row.plan.kept.len()), ("omitted", &row.plan.omitted.len())])) }
                td.number { (words.bytes(row.content_bytes)) }
                td.number { (words.bytes(row.bundle_bytes)) }
                td { span.mono title=(row.bundle) { (row.bundle.short()) } }
                td { (super::keys::signed(words, &row.signed)) }
                td { (words.time(row.built_at_ms)) }
            }
        })
        .chain(unbuilt)
        .collect();
    let columns = [
        en("Prestage"),
        en("Model"),
        en("Packages"),
        en("Content"),
        en("Bundle"),
        en("Digest"),
        en("Signed by"),
        en("Built"),
    ];
    table(
        words,
        en("Prestages"),
        &columns,
        &rows,
        &hint(words, en("No prestages yet"), "forestage prestage build"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn lists_have_a_row_per_thing_and_say_when_there_is_none() {
        let html = devices(Words::ENGLISH, &sample::devices()).into_string();
        assert_eq!(
            html.matches("scope=\"row\"").count(),
            sample::devices().len()
        );
        assert!(
            collections(Words::ENGLISH, &[], false)
                .into_string()
                .contains("No collections yet")
        );
        assert!(
            prestages(Words::ENGLISH, &[], &[], false)
                .into_string()
                .contains("No prestages yet")
        );
        sample::assert_harmless(
            &devices(Words::ENGLISH, &[sample::hostile_device()]).into_string(),
        );
    }
}
