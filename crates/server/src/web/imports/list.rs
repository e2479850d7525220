//! All imports, the upload of a file, and the profiles.

use maud::{Markup, html};
use wire::admin_api::CollectionRow;
use wire::imports::{ImportProfile, ImportRow, ImportState};

use crate::web::draw;
use crate::web::filter::encode;
use crate::web::words::{Words, en};

/// The page.
pub(super) fn imports(
    words: Words,
    rows: &[ImportRow],
    profiles: &[ImportProfile],
    collections: &[CollectionRow],
) -> Markup {
    html! {
        (draw::head(&[], words.t("Imports"), "", &html! {}))
        (upload(words, collections))
        @if rows.is_empty() {
            (draw::empty(words.t("No imports yet"), words.t("Choose the file that the vendor sent. Nothing is stored until you accept it.")))
        } @else { (table(words, rows)) }
        @if !profiles.is_empty() {
            (draw::block("profiles-title", words.t("Profiles"), words.t("how the files of one vendor are read, recognised by their titles"), &profile_table(words, profiles)))
        }
    }
}

fn upload(words: Words, collections: &[CollectionRow]) -> Markup {
    html! {
        form.card.stacked.upload data-api="POST /api/v1/imports" data-then="/imports/{import.import}"
            data-done=(words.t("Read. Nothing is stored in the fleet yet.")) {
            label for="file" { (words.t("The vendor's file, CSV or Excel")) }
            input.drop #file type="file" data-body data-named="file" required accept=".csv,.tsv,.txt,.xlsx";
            p.note.muted { (words.t("Choose it, or drop it here. You see what each row would do before anything is stored.")) }
            label for="collection" { (words.t("Put the machines into")) }
            (collection_select(words, collections, "", "collection"))
            div.buttons { button.primary { (words.t("Upload and look")) } }
        }
    }
}

/// A choice of collections, or none.
pub(super) fn collection_select(
    words: Words,
    collections: &[CollectionRow],
    chosen: &str,
    id: &str,
) -> Markup {
    html! {
        select id=(id) name="collection" {
            option value="" { (words.t("no collection")) }
            @for collection in collections {
                option value=(collection.name) selected[collection.name.as_str() == chosen] { (collection.name) }
            }
        }
    }
}

fn table(words: Words, rows: &[ImportRow]) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            let counts = &row.counts;
            html! {
                td.number { (row.import) }
                th scope="row" { a href={ "/imports/" (row.import) } { (row.file) } }
                td { (words.t(state_word(row.state))) }
                td.number { (words.number(counts.new.into())) }
                td.number { (words.number(counts.changed.into())) }
                td.number { @if counts.refused() > 0 { "⚠ " } (words.number(counts.refused().into())) }
                td { (row.uploaded_by) }
                td { (words.time(row.uploaded_at_ms)) }
                td { @if row.state == ImportState::Accepted {
                    a href={ "/imports/" (row.import) "/receipts" } { (words.t("Receipts")) }
                } }
            }
        })
        .collect();
    let columns = [
        words.t("Number"),
        words.t("File"),
        words.t("State"),
        words.t("New"),
        words.t("Changed"),
        words.t("Refused"),
        words.t("By"),
        words.t("When"),
        words.t("Order"),
    ];
    draw::table(words.t("Imports"), &columns, &[0, 3, 4, 5], &lines)
}

/// What stands for a state, to be translated.
pub(super) const fn state_word(state: ImportState) -> &'static str {
    match state {
        ImportState::Draft => en("Draft"),
        ImportState::Accepted => en("Accepted"),
        ImportState::Discarded => en("Discarded"),
        ImportState::Undone => en("Undone"),
    }
}

fn profile_table(words: Words, profiles: &[ImportProfile]) -> Markup {
    let lines: Vec<Markup> = profiles
        .iter()
        .map(|profile| {
            html! {
                th scope="row" { (profile.name) }
                td.value { (profile.titles.join(", ")) }
                td { (profile.updated_by) }
                td { (words.time(profile.updated_at_ms)) }
                td { button data-api={ "POST /api/v1/import-profiles/" (encode(&profile.name)) "/remove" }
                    data-confirm=(words.fill(en("Remove the profile {name}?"), &[("name", &profile.name)])) {
                    (words.t("Remove"))
                } }
            }
        })
        .collect();
    let columns = [
        words.t("Name"),
        words.t("Titles"),
        words.t("By"),
        words.t("When"),
        words.t("Action"),
    ];
    draw::table(words.t("Profiles"), &columns, &[], &lines)
}
