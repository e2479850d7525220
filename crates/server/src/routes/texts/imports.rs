//! Imports of asset files, machines in quarantine, labels.

use wire::reconciliation::{ReconcileSerials, Reconciliation};

use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("GET", "/api/v1/imports", "List the imports of asset files.", "")
        .of("POST", "/api/v1/imports", "Upload an asset file, CSV or Excel, as a draft.", "Nothing is stored in the fleet until it is accepted.")
        .takes_bytes("application/octet-stream")
        .of("GET", "/api/v1/imports/{id}", "Show an import: its columns, and what each row would do.", "")
        .of("POST", "/api/v1/imports/{id}/settings", "Correct what the columns of a draft are taken for.", "")
        .of("POST", "/api/v1/imports/{id}/accept", "Accept a draft: all of it is stored, or nothing.", "")
        .fails(409, "plan-changed", "It would do something else than what was looked at, or the fleet changes all the time.")
        .of("POST", "/api/v1/imports/{id}/discard", "Discard a draft.", "")
        .of("POST", "/api/v1/imports/{id}/undo", "Undo a whole import.", "")
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
        .of("PUT", "/api/v1/import-profiles/{name}", "Store what a vendor's columns are taken for.", "")
        .of("POST", "/api/v1/import-profiles/{name}/remove", "Forget what a vendor's columns are taken for.", "")
        .of("GET", "/api/v1/quarantine", "List the machines that can't prove who they are.", "")
        .of("POST", "/api/v1/quarantine/decide", "Decide who machines in quarantine are.", "")
        .of("POST", "/api/v1/quarantine/{machine}/undo", "Undo a decision about a machine.", "")
        .of("GET", "/api/v1/labels.pdf", "Print a sheet of labels.", "")
        .answers_bytes("application/pdf")
        .of("GET", "/api/v1/labels.png", "Draw one label.", "")
        .answers_bytes("image/png")
}
