//! Pupils and who has which device: lists, hand-out and return, labels, and what personal data asks for.
//!
//! Names and numbers of pupils stand in the table `pupils` alone. Everything else, the audit and the log too, knows a pupil
//! by a random id. *Absent:* pupils in URLs, page titles, logs and webhooks.

pub(crate) mod classes;
pub(crate) mod hand_out;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod label_code;
pub(crate) mod labels;
mod list_file;
pub(crate) mod personal;
pub(crate) mod register;
pub(crate) mod scan;
pub(crate) mod settings;
pub(crate) mod store;

use crate::people::roles::May;
use crate::routes::Routes;

/// Reads a list as each of the two kinds it may be.
pub(crate) fn read_list(bytes: &[u8]) {
    for purpose in [list_file::Purpose::Pupils, list_file::Purpose::HandOut] {
        let _ = list_file::parse(bytes, purpose);
    }
}

/// The routes of this folder.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/pupils", May::ViewPupils, register::list)
        .post("/api/v1/pupils", May::Assign, register::post)
        .post("/api/v1/pupils/import", May::Assign, import::pupils)
        .post("/api/v1/pupils/search", May::ViewPupils, register::search)
        .get("/api/v1/pupils/{id}", May::ViewPupils, register::get)
        .put("/api/v1/pupils/{id}", May::Assign, register::put)
        .get("/api/v1/pupils/{id}/export", May::Assign, personal::export)
        .post("/api/v1/pupils/{id}/erase", May::Assign, personal::erase)
        .get("/api/v1/assignments", May::ViewPupils, history::list)
        .get("/api/v1/assignments.csv", May::ViewPupils, history::csv)
        .post("/api/v1/assignments", May::Assign, hand_out::post)
        .post("/api/v1/assignments/scan", May::Assign, scan::post)
        .post("/api/v1/assignments/pairs", May::Assign, hand_out::post_pairs)
        .post("/api/v1/assignments/import", May::Assign, import::assignments)
        .get("/api/v1/assignments/classes", May::ViewPupils, classes::list)
        .get("/api/v1/assignments/class", May::ViewPupils, classes::get)
        .post("/api/v1/assignments/{id}/return", May::Assign, hand_out::take_back)
        .post("/api/v1/assignments/{id}/undo", May::Assign, hand_out::undo)
        .post("/api/v1/assignments/{id}/reopen", May::Assign, hand_out::reopen)
        .get("/api/v1/labels.pdf", May::View, labels::api::sheet)
        .get("/api/v1/labels.png", May::View, labels::api::one)
        .get("/api/v1/hand-out-settings", May::View, settings::get)
        .put("/api/v1/hand-out-settings", May::Administer, settings::put)
}
