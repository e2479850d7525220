//! Pupils, hand-out and return.

use wire::assignments::{AssignmentRow, ClassHandOut, ClassRow, HandOutReply, ScanReply};
use wire::pupils::{
    Erasure, HandOutSettings, ListImportReport, PupilDetail, PupilExport, PupilRow,
};

use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("GET", "/api/v1/pupils", "List pupils.", "Those in reach.")
        .answers::<Vec<PupilRow>>("")
        .of("POST", "/api/v1/pupils", "Enter a pupil.", "")
        .answers::<PupilDetail>("")
        .of("POST", "/api/v1/pupils/import", "Import a list of pupils.", "")
        .answers::<ListImportReport>("")
        .of("GET", "/api/v1/pupils/{id}", "Show a pupil, and which machine they have.", "")
        .answers::<PupilDetail>("")
        .of("PUT", "/api/v1/pupils/{id}", "Correct a pupil.", "")
        .answers::<PupilDetail>("")
        .of("GET", "/api/v1/pupils/{id}/export", "Export all that is kept of a pupil.", "For those who ask what is known of them.")
        .answers::<PupilExport>("")
        .of("POST", "/api/v1/pupils/{id}/erase", "Erase a pupil.", "")
        .answers::<Erasure>("")
        .of("GET", "/api/v1/assignments", "Tell who has and had which machine.", "")
        .answers::<Vec<AssignmentRow>>("")
        .of("POST", "/api/v1/assignments", "Hand a machine out.", "")
        .answers::<HandOutReply>("")
        .of("POST", "/api/v1/assignments/scan", "Tell what was scanned: a machine or a pupil.", "It changes nothing.")
        .answers::<ScanReply>("")
        .of("POST", "/api/v1/assignments/pairs", "Hand machines out to a class.", "")
        .of("POST", "/api/v1/assignments/import", "Import a list of who has which machine.", "")
        .answers::<ListImportReport>("")
        .of("GET", "/api/v1/assignments/classes", "List the classes.", "")
        .answers::<Vec<ClassRow>>("")
        .of("GET", "/api/v1/assignments/class", "Show a class and the machines that are free for it.", "")
        .answers::<ClassHandOut>("")
        .of("POST", "/api/v1/assignments/{id}/return", "Take a machine back.", "")
        .answers::<AssignmentRow>("")
        .of("POST", "/api/v1/assignments/{id}/undo", "Undo a hand-out.", "")
        .answers::<AssignmentRow>("")
        .of("POST", "/api/v1/assignments/{id}/reopen", "Undo a return.", "")
        .answers::<AssignmentRow>("")
        .of("GET", "/api/v1/hand-out-settings", "Tell how long hand-outs are remembered.", "")
        .answers::<HandOutSettings>("")
        .of("PUT", "/api/v1/hand-out-settings", "Change how long hand-outs are remembered.", "")
        .answers::<HandOutSettings>("")
}
