//! Imports of asset files, machines in quarantine, labels.

use wire::imports::{
    AcceptImport, ImportDraft, ImportProfile, ImportRow, ImportSettings, UndoImport, UndoReport,
};
use wire::quarantine::{Decide, QuarantineRow};
use wire::reconciliation::{ReconcileSerials, Reconciliation};

use super::LIST_ROWS;
use crate::routes::docs::Texts;

const DRAFT: &str = r#"{"import":{"import":7,"file":"order-4711.xlsx","digest":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262","file-bytes":18734,"state":"draft","counts":{"new":1,"changed":0,"unchanged":0,"duplicate":0,"invalid":0,"skipped":0},"settings":{"sheet":0,"mapping":{},"profile":"","collection":"pupils-2026"},"uploaded-by":"kari","uploaded-at-ms":1790000000000},"form":"an Excel workbook","sheets":["Order"],"sheet":1,"title-line":4,"columns":[{"title":"Serienr","field":"serial","told":false,"samples":["PF1"]}],"plan":"9f86d081","rows-total":1,"rows":[{"line":5,"serial":"PF1","result":"new","changes":[{"field":"serial","old":"","new":"PF1"}]}]}"#;
const DECIDE: &str = r#"{"machines":["3f0c"],"decision":{"what":"is-asset","asset":"PF1"}}"#;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("GET", "/api/v1/imports", "List the imports of asset files.", "Newest first. Whoever looks after one site sees their own.")
        .answers::<Vec<ImportRow>>("")
        .at_most(LIST_ROWS)
        .of("POST", "/api/v1/imports", "Upload an asset file, CSV or Excel, as a draft.", "Nothing is stored in the fleet until it is accepted.")
        .query("file", "The file's name.")
        .query("collection", "The collection that its machines are put into.")
        .query("sheet", "Which sheet of a workbook, from 1.")
        .query("profile", "The profile to read it with; `none` for none.")
        .takes_bytes("application/octet-stream")
        .answers::<ImportDraft>(DRAFT)
        .fails(422, "bad-asset-file", "It is no table, or one beyond the limits.")
        .of("GET", "/api/v1/imports/{id}", "Show an import: its columns, and what each row would do.", "Once it is accepted: what each row did.")
        .query("result", "Only rows of this result, such as `new` or `invalid`.")
        .query("limit", "How many rows.")
        .query("offset", "How many rows are passed over.")
        .answers::<ImportDraft>(DRAFT)
        .of("POST", "/api/v1/imports/{id}/settings", "Correct what the columns of a draft are taken for.", "")
        .takes::<ImportSettings>(r#"{"sheet":0,"mapping":{"Maskin-ID":"serial","Rom":"field:room"},"profile":"","collection":"pupils-2026"}"#)
        .answers::<ImportDraft>("")
        .fails(409, "no-draft", "It was accepted, undone or discarded already.")
        .of("POST", "/api/v1/imports/{id}/accept", "Accept a draft: all of it is stored, or nothing.", "")
        .takes::<AcceptImport>(r#"{"valid-rows-only":false,"seen":"9f86d081"}"#)
        .answers::<ImportRow>("")
        .fails(409, "no-draft", "It was accepted, undone or discarded already.")
        .fails(409, "plan-changed", "It would do something else than what was looked at, or the fleet changes all the time.")
        .fails(409, "rows-refused", "Invalid or duplicate rows stand in the way.")
        .of("POST", "/api/v1/imports/{id}/discard", "Discard a draft.", "")
        .answers::<ImportRow>("")
        .fails(409, "no-draft", "It was accepted, undone or discarded already.")
        .of("POST", "/api/v1/imports/{id}/undo", "Undo a whole import.", "Rows that were changed since stay, unless that is forced; machines that have checked in stay in any case.")
        .takes::<UndoImport>(r#"{"force":false,"dry-run":true}"#)
        .answers::<UndoReport>(r#"{"dry-run":true,"deleted":2,"restored":1,"unchanged":0,"kept":[{"line":7,"serial":"PF3","why":"the machine has checked in; it is never deleted"}]}"#)
        .fails(409, "not-accepted", "Only what was accepted can be undone.")
        .fails(409, "plan-changed", "The fleet changes all the time.")
        .of("GET", "/api/v1/imports/{id}/reconciliation", "Compare an accepted import with the factory's receipts.", "What is staged, missing, failed, of the wrong model, from the wrong bundle, staged twice, or was never ordered. Receipts are claims.")
        .query("state", "Only rows of this state, or `differing` for all that aren't as ordered.")
        .query("oldest", "The oldest version of a prestage that is as good as the newest, such as `book-14@3`; several with commas between.")
        .query("limit", "How many rows.")
        .query("offset", "How many rows are passed over.")
        .answers::<Reconciliation>("")
        .fails(409, "not-accepted", "An import that isn't accepted is no order.")
        .of("GET", "/api/v1/imports/{id}/reconciliation.csv", "The same as a table for the vendor.", "")
        .query("state", "Only rows of this state, or `differing` for all that aren't as ordered.")
        .query("oldest", "As above.")
        .answers_bytes("text/csv")
        .of("POST", "/api/v1/receipts/reconcile", "Compare a list of serial numbers with the factory's receipts.", "A question that is too long for an address; it changes nothing.")
        .takes::<ReconcileSerials>(r#"{"serials":["PF1","PF2"],"oldest":["book-14@3"],"state":"missing"}"#)
        .answers::<Reconciliation>("")
        .of("GET", "/api/v1/import-profiles", "List what vendors' columns are taken for.", "")
        .answers::<Vec<ImportProfile>>("")
        .whole()
        .of("PUT", "/api/v1/import-profiles/{name}", "Store what a vendor's columns are taken for.", "")
        .takes::<ImportProfile>(r#"{"name":"acme","titles":["Maskin-ID","Serienr"],"mapping":{"Serienr":"serial"}}"#)
        .answers::<ImportProfile>("")
        .fails(422, "bad-profile", "A column is taken for what no column can be.")
        .of("POST", "/api/v1/import-profiles/{name}/remove", "Forget what a vendor's columns are taken for.", "")
        .answers::<ImportProfile>("")
        .of("GET", "/api/v1/quarantine", "List the machines that can't prove who they are.", "")
        .answers::<Vec<QuarantineRow>>("")
        .at_most(1000)
        .of("POST", "/api/v1/quarantine/decide", "Decide who machines in quarantine are.", "")
        .takes::<Decide>(DECIDE)
        .answers::<Vec<QuarantineRow>>("")
        .of("POST", "/api/v1/quarantine/{machine}/undo", "Undo a decision about a machine.", "")
        .answers::<QuarantineRow>("")
        .of("GET", "/api/v1/labels.pdf", "Print a sheet of labels.", "")
        .query("paper", "`a4-3x8`, `a4-3x7`, `a4-5x13` or `roll-62x29`.")
        .query("skip", "Places of the first sheet that are used already.")
        .query("collection", "The collection whose direct members get one.")
        .query("site", "The code of the site whose machines get one.")
        .query("class", "The class whose machines get one.")
        .query("devices", "Serial numbers or asset tags, with commas between.")
        .answers_bytes("application/pdf")
        .of("GET", "/api/v1/labels.png", "Draw one label.", "")
        .query("devices", "A serial number or an asset tag.")
        .answers_bytes("image/png")
}
