//! Pupils, hand-out and return.

use wire::assignments::{
    AssignmentRow, ClassHandOut, ClassPairs, ClassPairsReply, ClassRow, HandOut, HandOutReply,
    Scan, ScanReply, TakeBack,
};
use wire::pupils::{
    Erasure, HandOutSettings, ListImportReport, PupilDetail, PupilEntry, PupilExport, PupilRow,
    PupilSearch,
};

use super::LIST_ROWS;
use crate::routes::docs::Texts;

const PUPIL: &str = r#"{"external-id":"olan1","name":"Ola Nordmann","site":"BJO","class":"8B"}"#;
const SETTINGS: &str = r#"{"retention-days":365,"owner-line":"Tilhører Bjørnøya kommune"}"#;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("GET", "/api/v1/pupils", "List pupils.", "Those in reach.")
        .query("site", "Only those of the site with this code.")
        .query("class", "Only those of this class.")
        .query("without", "`true`: only those without a machine.")
        .query("erased", "`true`: also those who were erased, as rows that say nothing.")
        .answers::<Vec<PupilRow>>()
        .whole()
        .of("POST", "/api/v1/pupils", "Enter a pupil.", "")
        .takes::<PupilEntry>(PUPIL)
        .answers::<PupilDetail>()
        .fails(422, "bad-pupil", "Name or number is missing, or the number is taken.")
        .of("POST", "/api/v1/pupils/import", "Import a list of pupils.", "CSV or Excel; all of it or nothing.")
        .query("dry-run", "`true`: only say what would happen.")
        .query("site", "The site of rows that name none.")
        .query("complete", "`true`: pupils of its sites that it doesn't name have left.")
        .takes_bytes("text/csv")
        .answers::<ListImportReport>()
        .fails(422, "bad-list", "It is no table, or a column is missing.")
        .of("POST", "/api/v1/pupils/search", "Look for pupils by name or number.", "With a body, because names of pupils stand in no address.")
        .takes::<PupilSearch>(r#"{"text":"nordmann","site":"BJO"}"#)
        .answers::<Vec<PupilRow>>()
        .of("GET", "/api/v1/pupils/{id}", "Show a pupil, and which machine they have.", "")
        .answers::<PupilDetail>()
        .of("PUT", "/api/v1/pupils/{id}", "Correct a pupil.", "")
        .takes::<PupilEntry>(PUPIL)
        .answers::<PupilDetail>()
        .fails(422, "bad-pupil", "Name or number is missing, or the number is taken.")
        .of("GET", "/api/v1/pupils/{id}/export", "Export all that is kept of a pupil.", "For those who ask what is known of them.")
        .answers::<PupilExport>()
        .of("POST", "/api/v1/pupils/{id}/erase", "Erase a pupil.", "")
        .answers::<Erasure>()
        .of("GET", "/api/v1/assignments", "Tell who has and had which machine.", "Newest first.")
        .query("device", "Only those of this machine.")
        .query("pupil", "Only those of this pupil.")
        .query("site", "Only those of machines of the site with this code.")
        .query("text", "A part of serial number, asset tag, class or whoever handed it out or took it back; never of a pupil's name.")
        .query("since", "The first day of hand-outs.")
        .query("until", "The last day of hand-outs.")
        .query("open", "`true`: only machines that are out now.")
        .query("before", "Only those handed out before this moment, in milliseconds since 1970: how the next page is asked for.")
        .answers::<Vec<AssignmentRow>>()
        .at_most(LIST_ROWS)
        .fails(400, "bad-day", "It is no day.")
        .of("GET", "/api/v1/assignments.csv", "Tell who has and had which machine, as a table.", "With the filters of the list; 100000 rows at most, the newest. It holds names of pupils.")
        .query("device", "Only those of this machine.")
        .query("pupil", "Only those of this pupil.")
        .query("site", "Only those of machines of the site with this code.")
        .query("text", "As in the list.")
        .query("since", "The first day of hand-outs.")
        .query("until", "The last day of hand-outs.")
        .query("open", "`true`: only machines that are out now.")
        .answers_bytes("text/csv")
        .fails(400, "bad-day", "It is no day.")
        .of("POST", "/api/v1/assignments", "Hand a machine out.", "")
        .takes::<HandOut>(r#"{"device":"7f1f77a0-6f6e-4d4c-9e5a-0b8a4c1c2d3e","pupil":"0a9d2c1e-5b7f-4c3d-8e6a-1f2b3c4d5e6f","note":"a scratch on the lid"}"#)
        .answers::<HandOutReply>()
        .of("POST", "/api/v1/assignments/scan", "Tell what was scanned: a machine or a pupil.", "It changes nothing.")
        .takes::<Scan>(r#"{"text":"PF1"}"#)
        .answers::<ScanReply>()
        .of("POST", "/api/v1/assignments/pairs", "Hand machines out to a class.", "All pairs or none.")
        .takes::<ClassPairs>(r#"{"pairs":[{"device":"7f1f77a0-6f6e-4d4c-9e5a-0b8a4c1c2d3e","pupil":"0a9d2c1e-5b7f-4c3d-8e6a-1f2b3c4d5e6f"}]}"#)
        .answers::<ClassPairsReply>()
        .of("POST", "/api/v1/assignments/import", "Import a list of who has which machine.", "CSV or Excel; all of it or nothing.")
        .query("dry-run", "`true`: only say what would happen.")
        .query("site", "The site of rows that name none.")
        .query("complete", "Has no meaning here.")
        .takes_bytes("text/csv")
        .answers::<ListImportReport>()
        .fails(422, "bad-list", "It is no table, or a column is missing.")
        .of("GET", "/api/v1/assignments/classes", "List the classes.", "")
        .answers::<Vec<ClassRow>>()
        .whole()
        .of("GET", "/api/v1/assignments/class", "Show a class and the machines that are free for it.", "")
        .query("site", "The code of its site.")
        .query("class", "Its name.")
        .answers::<ClassHandOut>()
        .of("POST", "/api/v1/assignments/{id}/return", "Take a machine back.", "")
        .takes::<TakeBack>(r#"{"condition":"the charger is missing"}"#)
        .answers::<AssignmentRow>()
        .of("POST", "/api/v1/assignments/{id}/undo", "Undo a hand-out.", "")
        .answers::<AssignmentRow>()
        .of("POST", "/api/v1/assignments/{id}/reopen", "Undo a return.", "")
        .answers::<AssignmentRow>()
        .of("GET", "/api/v1/hand-out-settings", "Tell how long hand-outs are remembered.", "")
        .answers::<HandOutSettings>()
        .of("PUT", "/api/v1/hand-out-settings", "Change how long hand-outs are remembered.", "")
        .takes::<HandOutSettings>(SETTINGS)
        .answers::<HandOutSettings>()
}
