//! Receipts are handed in: what each file says and what would become of it, before anything is stored.

use maud::{Markup, html};
use wire::receipt::ReceiptResult;

use super::receipts;
use crate::web::assets;
use crate::web::draw;
use crate::web::layout;
use crate::web::words::{Words, en};

/// The page. Its script sends all files in one request, and fills in the report from the templates.
pub(super) fn page(words: Words) -> Markup {
    html! {
        (draw::head(&[("/receipts", words.t("Receipts"))], words.t("Hand in receipts"), "", &html! {}))
        form.card.stacked.upload #hand-in {
            label for="files" { (words.t("The receipts, as files")) }
            input.drop #files type="file" multiple accept=".json";
            label for="folder" { (layout::prose(words.t("Or the stick's folder `receipts`"))) }
            input.drop #folder type="file" webkitdirectory;
            p.note.muted { (words.t("Choose them, or drop them here. You see what each says before anything is stored.")) }
            div.buttons { button.primary { (words.t("Upload and look")) } }
        }
        section.block #report hidden aria-labelledby="report-title" tabindex="-1" {
            div.headline {
                h2 #report-title { (words.t("What each file would do")) }
                div.buttons.actions {
                    button.primary #accept data-one=(words.t("Accept the new receipt")) data-many=(words.t("Accept all {n} new receipts"))
                        data-done=(words.t("The receipts are stored.")) {}
                }
            }
            p.remark #nothing-new role="note" hidden { (words.t("There is nothing new in these files.")) }
            nav.kinds aria-label=(words.t("What each file would do")) {
                @for (kind, name) in KINDS { button type="button" data-kind=(kind) aria-pressed=(kind.is_empty()) { (words.t(name)) " " b {} } }
            }
            (draw::table(words.t("Receipts"), &columns(words), &[], &[]))
            p.muted #more-rows hidden data-text=(words.t("and {n} more")) {}
            template #row { tr {
                td data-part="file" {}
                th.mono scope="row" data-part="serial" {}
                td data-part="result" {}
                td data-part="model" {}
                td data-part="outcome" {}
                td data-part="prestage" {}
                td.value data-part="why" {}
            } }
            template #chips {
                @for (kind, name, class, sign) in RESULTS { span class=(class) data-chip=(kind) { (layout::icon(sign)) (words.t(name)) } }
                span data-chip="staged" { (receipts::result(words, ReceiptResult::Staged)) }
                span data-chip="failed" { (receipts::result(words, ReceiptResult::Failed)) }
            }
        }
        script src=(assets::address("receipts.js")) defer {}
    }
}

/// All files, and those of which something else becomes: the word of the API, and what it is called.
const KINDS: [(&str, &str); 4] = [
    ("", en("All")),
    ("new", en("New")),
    ("known", en("Known already")),
    ("refused", en("Refused")),
];

/// Each result has a sign of its own, so that colour is never needed.
const RESULTS: [(&str, &str, &str, &str); 3] = [
    ("new", en("New"), "chip s-completed", "M8 3v10M3 8h10"),
    ("known", en("Known already"), "chip s-imported", "M3 8h10"),
    ("refused", en("Refused"), "chip s-failed", layout::WARNING),
];

fn columns(words: Words) -> [&'static str; 7] {
    [
        words.t("File"),
        words.t("Serial number"),
        words.t("Result"),
        words.t("Model"),
        words.t("The stick says"),
        words.t("Prestage"),
        words.t("Why"),
    ]
}
