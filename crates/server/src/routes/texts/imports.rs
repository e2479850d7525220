//! Imports of asset files, machines in quarantine, labels.

use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("GET", "/api/v1/imports", "List the imports of asset files.", "")
        .of("POST", "/api/v1/imports", "Upload an asset file, CSV or Excel, as a draft.", "Nothing is stored in the fleet until it is accepted.")
        .takes_bytes("application/octet-stream")
        .of("GET", "/api/v1/imports/{id}", "Show an import: its columns, and what each row would do.", "")
        .of("POST", "/api/v1/imports/{id}/settings", "Correct what the columns of a draft are taken for.", "")
        .of("POST", "/api/v1/imports/{id}/accept", "Accept a draft: all of it is stored.", "")
        .of("POST", "/api/v1/imports/{id}/discard", "Discard a draft.", "")
        .of("POST", "/api/v1/imports/{id}/undo", "Undo a whole import.", "")
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
