//! One import: how it is read, what each row does or did, and the way back.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::json;
use wire::admin_api::CollectionRow;
use wire::imports::{
    ImportColumn, ImportDraft, ImportLine, ImportProfile, ImportState, RowResult, UndoReport,
};

use super::list::{collection_select, state_word};
use super::parts::{Kind, kinds, notice, turn, with};
use crate::fleet::aliases::KnownModels;
use crate::web::draw;
use crate::web::layout;
use crate::web::targeting::fleet::model_select;
use crate::web::words::{Words, en};

/// Rows that stay and are named; the API names all.
const KEPT_SHOWN_MAX: usize = 100;

/// What the page shows.
pub(super) struct Shown<'s> {
    pub(super) words: Words,
    pub(super) import: &'s ImportDraft,
    /// The kind of rows that is looked at.
    pub(super) result: Option<RowResult>,
    /// From 1.
    pub(super) page: usize,
    pub(super) collections: &'s [CollectionRow],
    pub(super) profiles: &'s [ImportProfile],
    /// The models that a name in the file can stand for.
    pub(super) known: &'s KnownModels,
    /// What taking it back would do, with force or without.
    pub(super) undo: Option<&'s (bool, UndoReport)>,
}

/// The page.
pub(super) fn import(shown: &Shown<'_>) -> Markup {
    let (words, import) = (shown.words, shown.import);
    let row = &import.import;
    let number = words.fill(en("import {n}"), &[("n", &row.import)]);
    let sub = format!("{number}, {}", words.t(state_word(row.state)));
    html! {
        (draw::head(&[("/imports", words.t("Imports"))], &row.file, &sub, &actions(shown)))
        (draw::facts(&facts(words, import)))
        @for other in &import.same_as {
            (notice(&html! {
                (words.t("The very same file was imported already:")) " "
                a href={ "/imports/" (other) } { (words.fill(en("import {n}"), &[("n", other)])) }
            }))
        }
        @for problem in &import.said {
            div.problem role="alert" { (layout::icon(layout::WARNING)) span { (layout::capital(words.say(problem))) "." } }
        }
        @if let Some((force, report)) = shown.undo { (undo(words, row.import, *force, report)) }
        @if let Some(report) = &import.undone {
            (draw::block("undone-title", words.t("What was taken back"), "", &undone(words, report)))
        }
        @if !import.unknown_models.is_empty() { (models(shown)) }
        @if !import.columns.is_empty() { (reading(shown)) }
        (rows(shown))
    }
}

fn facts(words: Words, import: &ImportDraft) -> Vec<(&'static str, Markup)> {
    let row = &import.import;
    let by = |name: &Option<String>, at: Option<i64>| match (name, at) {
        (Some(name), Some(at)) => html! { (name) ", " (words.time(at)) },
        _ => html! { "—" },
    };
    let mut facts = vec![
        (
            words.t("Uploaded"),
            html! { (row.uploaded_by) ", " (words.time(row.uploaded_at_ms)) },
        ),
        (words.t("Size"), html! { (words.bytes(row.file_bytes)) }),
    ];
    if !import.form.is_empty() {
        facts.push((words.t("Read as"), html! { (import.form) }));
        facts.push((words.t("Titles in line"), html! { (import.title_line) }));
    }
    if let Some(profile) = &import.profile {
        facts.push((words.t("Read with profile"), html! { (profile) }));
    }
    if !row.settings.collection.is_empty() {
        let name = &row.settings.collection;
        facts.push((
            words.t("Into collection"),
            html! { a href={ "/collections/" (name) } { (name) } },
        ));
    }
    if row.accepted_at_ms.is_some() {
        facts.push((
            words.t("Accepted"),
            by(&row.accepted_by, row.accepted_at_ms),
        ));
    }
    if row.undone_at_ms.is_some() {
        facts.push((words.t("Undone"), by(&row.undone_by, row.undone_at_ms)));
    }
    facts
}

fn actions(shown: &Shown<'_>) -> Markup {
    let (words, import) = (shown.words, shown.import);
    let id = import.import.import;
    match import.import.state {
        ImportState::Draft => html! {
            button data-api={ "POST /api/v1/imports/" (id) "/discard" } data-then="/imports" { (words.t("Discard")) }
            @if import.problems.is_empty() { (accept(words, import)) }
        },
        ImportState::Accepted => html! {
            a.button href={ "/imports/" (id) "/receipts" } { (words.t("Compare with receipts")) }
            @if shown.undo.is_none() { a.button href={ "/imports/" (id) "?undo=1" } { (words.t("Take back …")) } }
        },
        ImportState::Discarded | ImportState::Undone => html! {},
    }
}

/// Accepts what was looked at: if the fleet has changed meanwhile, the server says so and does nothing.
fn accept(words: Words, import: &ImportDraft) -> Markup {
    let id = import.import.import;
    let counts = &import.import.counts;
    let valid = u64::from(counts.new + counts.changed + counts.unchanged);
    let api = format!("POST /api/v1/imports/{id}/accept");
    let done = words.t("Imported");
    html! {
        @if valid == 0 {
            // Nothing to accept.
        } @else if counts.refused() == 0 {
            button.primary data-api=(api) data-done=(done) data-body=(json!({ "seen": import.plan })) {
                (words.count(valid, en("Accept the row"), en("Accept all {n} rows")))
            }
        } @else {
            button data-api=(api) data-done=(done) data-body=(json!({ "seen": import.plan, "valid-rows-only": true }))
                data-confirm=(words.count(counts.refused().into(),
                    en("Leave out the refused row and accept the others?"), en("Leave out {n} refused rows and accept the others?"))) {
                (words.count(valid, en("Accept the valid row only"), en("Accept the {n} valid rows only")))
            }
        }
    }
}

/// Names of models that nothing else says: which model each of them is.
fn models(shown: &Shown<'_>) -> Markup {
    let (words, known) = (shown.words, shown.known);
    let unknown = &shown.import.unknown_models;
    let content = html! {
        p { (words.t("No machine, no stick and no prestage uses these names. If a vendor calls a known model so, say which one it is: this file and later ones are then read with its own name. A model that is new here needs nothing.")) }
        @for (at, model) in unknown.iter().enumerate() {
            @let id = format!("model-{at}");
            form.model-name data-api="PUT /api/v1/model-aliases/{name}" data-done=(words.t("Remembered, and read again")) {
                input type="hidden" name="name" value=(model.product);
                label for=(id) { b { (model.product) } " (" (words.count(model.rows.into(), en("{n} row"), en("{n} rows"))) ")" }
                span { (words.t("is the model")) }
                (model_select(&id, known))
                button { (words.t("Remember")) }
            }
        }
    };
    draw::block(
        "models-title",
        words.t("Models that nobody knows by these names"),
        "",
        &content,
    )
}

/// What the columns were taken for, with samples, and how to correct it.
fn reading(shown: &Shown<'_>) -> Markup {
    let (words, import) = (shown.words, shown.import);
    let row = &import.import;
    let columns = [words.t("Column"), words.t("Taken for"), words.t("Such as")];
    let lines: Vec<Markup> = import
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| column_row(words, at, column))
        .collect();
    let form = html! {
        form data-api={ "POST /api/v1/imports/" (row.import) "/settings" } data-done=(words.t("Read again")) {
            datalist #fields { @for (field, name) in FIELDS { option value=(field) { (words.t(name)) } } }
            (draw::table(words.t("Columns"), &columns, &[], &lines))
            p.muted.small { (words.t("A column can also be kept under a name of your own, such as field:room, or be ignored.")) }
            div.reading {
                @if import.sheets.len() > 1 {
                    label { span { (words.t("Sheet")) }
                        select name="sheet" data-type="number" {
                            @for (name, at) in import.sheets.iter().zip(1_u32..) {
                                option value=(at) selected[at == import.sheet] { (name) }
                            }
                        }
                    }
                } @else { input type="hidden" name="sheet" data-type="number" value=(row.settings.sheet); }
                label { span { (words.t("Profile")) }
                    select name="profile" {
                        option value="" { (words.t("the one that knows these titles")) }
                        option value="none" selected[row.settings.profile == "none"] { (words.t("none")) }
                        @for profile in shown.profiles {
                            option value=(profile.name) selected[profile.name == row.settings.profile] { (profile.name) }
                        }
                    }
                }
                label { span { (words.t("Put the machines into")) } (collection_select(words, shown.collections, &row.settings.collection, "collection")) }
                button { (words.t("Read again so")) }
            }
        }
        (save_profile(words, import))
    };
    draw::block(
        "reading-title",
        words.t("What the columns were taken for"),
        "",
        &form,
    )
}

/// What people choose from; anything else that the server knows can be typed.
const FIELDS: [(&str, &str); 11] = [
    ("serial", en("Serial number")),
    ("asset-tag", en("Asset tag")),
    ("uuid", en("UUID of the machine")),
    ("vendor", en("Vendor")),
    ("product", en("Product")),
    ("sku", en("Article number (SKU)")),
    ("baseboard", en("Mainboard")),
    ("site", en("Code of the site")),
    ("site-name", en("Name of the site")),
    ("class", en("Class")),
    ("ignored", en("Ignored")),
];

fn column_row(words: Words, at: usize, column: &ImportColumn) -> Markup {
    let id = format!("column-{at}");
    let known = FIELDS.iter().find(|(field, _)| *field == column.field);
    let samples = column.samples.join(", ");
    html! {
        th scope="row" { label for=(id) { (layout::or_dash(&column.title)) } }
        td {
            input id=(id) name=(column.title) value=(column.field) list="fields" data-in="mapping"
                data-changed[!column.told] required maxlength="60" autocomplete="off" spellcheck="false";
            span.sub {
                @match known {
                    Some((_, name)) => (words.t(name)),
                    None => (words.t("kept beside the others")),
                }
                ", " (if column.told { words.t("told") } else { words.t("guessed") })
            }
        }
        td.value { (layout::or_dash(&samples)) }
    }
}

fn save_profile(words: Words, import: &ImportDraft) -> Markup {
    let titles: Vec<&str> = import
        .columns
        .iter()
        .map(|column| column.title.as_str())
        .collect();
    let mapping: BTreeMap<&str, &str> = import
        .columns
        .iter()
        .map(|column| (column.title.as_str(), column.field.as_str()))
        .collect();
    html! {
        details.edit {
            summary { (words.t("Save how it is read as a profile")) }
            form.stacked.card data-api="PUT /api/v1/import-profiles/{name}" data-done=(words.t("The next file with these titles is read the same way.")) {
                label for="profile-name" { (words.t("Name of the profile")) }
                input #profile-name name="name" required maxlength="60" placeholder="acme" autocomplete="off";
                input type="hidden" name="titles" data-type="json" value=(json!(titles));
                input type="hidden" name="mapping" data-type="json" value=(json!(mapping));
                div.buttons { button { (words.t("Save the profile")) } }
            }
        }
    }
}

/// What each row does or did.
fn rows(shown: &Shown<'_>) -> Markup {
    let (words, import) = (shown.words, shown.import);
    let counts = &import.import.counts;
    let all: u32 = RowResult::ALL.iter().map(|result| counts.of(*result)).sum();
    let mut choices: Vec<Kind> = vec![("", en("All"), all)];
    choices.extend(
        RowResult::ALL.map(|result| (result.word(), result_word(result), counts.of(result))),
    );
    let chosen = shown.result.map_or("", RowResult::word);
    let address = format!("/imports/{}", import.import.import);
    let lines: Vec<Markup> = import.rows.iter().map(|row| line(words, row)).collect();
    let columns = [
        words.t("Line"),
        words.t("Serial number"),
        words.t("Result"),
        words.t("What"),
    ];
    let title = match import.import.state {
        ImportState::Draft => words.t("What each row would do"),
        _ => words.t("What each row did"),
    };
    let here = with(&address, &[("rows", chosen)]);
    let total = usize::try_from(import.rows_total).unwrap_or(usize::MAX);
    let content = html! {
        (kinds(words, title, (&address, "rows"), chosen, &choices))
        @if lines.is_empty() { p.muted { (words.t("No such rows.")) } } @else {
            (draw::table(title, &columns, &[0], &lines))
            (turn(words, &here, shown.page, total))
        }
    };
    draw::block("rows-title", title, "", &content)
}

/// What stands for a result, to be translated.
const fn result_word(result: RowResult) -> &'static str {
    match result {
        RowResult::New => en("New"),
        RowResult::Changed => en("Changed"),
        RowResult::Unchanged => en("Unchanged"),
        RowResult::Duplicate => en("Duplicate"),
        RowResult::Invalid => en("Invalid"),
        RowResult::Skipped => en("Passed over"),
    }
}

/// Each result has a sign of its own, so that colour is never needed.
const fn result_sign(result: RowResult) -> (&'static str, &'static str) {
    match result {
        RowResult::New => ("chip s-completed", "M8 3v10M3 8h10"),
        RowResult::Changed => ("chip s-running", "M3 6h8l-2.500-2.500M13 10H5l2.500 2.500"),
        RowResult::Unchanged | RowResult::Skipped => ("chip s-imported", "M3 8h10"),
        RowResult::Duplicate => ("chip s-stalled", "M3 3h7v7H3ZM6 10v3h7V6h-3"),
        RowResult::Invalid => ("chip s-failed", layout::WARNING),
    }
}

fn line(words: Words, row: &ImportLine) -> Markup {
    let (class, sign) = result_sign(row.result);
    let is_linked = row.device.is_some() && !row.serial.is_empty();
    html! {
        td.number { (row.line) }
        th scope="row" { @if is_linked { a.mono href=(layout::device_address(&row.serial)) { (row.serial) } }
            @else { span.mono { (layout::or_dash(&row.serial)) } } }
        td { span class=(class) { (layout::icon(sign)) (words.t(result_word(row.result))) } }
        td.value {
            @for problem in &row.said { div { (layout::capital(words.say(problem))) } }
            @if row.result == RowResult::New {
                (row.changes.iter().map(|change| format!("{}: {}", change.field, change.new)).collect::<Vec<_>>().join(", "))
            } @else {
                @for change in &row.changes {
                    div { (change.field) ": " del { (layout::or_dash(&change.old)) } " → " ins { (layout::or_dash(&change.new)) } }
                }
            }
        }
    }
}

/// What taking it back would do, and the button that does it.
fn undo(words: Words, id: i64, force: bool, report: &UndoReport) -> Markup {
    let content = html! {
        (undone(words, report))
        div.buttons {
            button.danger data-api={ "POST /api/v1/imports/" (id) "/undo" } data-body=(json!({ "force": force }))
                data-then={ "/imports/" (id) } data-done=(words.t("Undone"))
                data-confirm=(words.t("Take the import back?")) { (words.t("Take the import back")) }
            @if !force && !report.kept.is_empty() {
                a.button href={ "/imports/" (id) "?undo=force" } { (words.t("Also rows that were changed since")) }
            }
            a.button href={ "/imports/" (id) } { (words.t("Leave it")) }
        }
    };
    html! { section.card aria-labelledby="undo-title" { h2 #undo-title { (words.t("What taking it back would do")) } (content) } }
}

fn undone(words: Words, report: &UndoReport) -> Markup {
    let kept = report.kept.len() as u64;
    html! {
        ul.plain-list {
            li { (words.count(report.deleted.into(), en("1 machine goes again"), en("{n} machines go again"))) }
            li { (words.count(report.restored.into(), en("1 machine gets its old values"), en("{n} machines get their old values"))) }
            li { (words.count(kept, en("1 row stays"), en("{n} rows stay"))) }
        }
        @if kept > 0 {
            ul.plain-list.small {
                @for row in report.kept.iter().take(KEPT_SHOWN_MAX) {
                    li { (words.fill(en("Line {n}"), &[("n", &row.line)])) ", " span.mono { (row.serial) } ": " (row.said.as_ref().map_or_else(|| row.why.clone(), |why| words.say(why))) }
                }
                @if report.kept.len() > KEPT_SHOWN_MAX {
                    li.muted { (words.fill(en("and {n} more"), &[("n", &(report.kept.len() - KEPT_SHOWN_MAX))])) }
                }
            }
        }
    }
}
