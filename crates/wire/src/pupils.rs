//! Pupils: who may get a device. Personal data of minors, see `docs/concepts/personal-data.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::assignments::AssignmentRow;
use crate::names::{AssignmentId, DeviceId, PupilId};
use crate::reasons::ListReason;

/// A pupil's number, name or class, in characters: the longest names of a register have a third of it.
pub const PUPIL_TEXT_CHARS_MAX: usize = 128;
/// Days after which pupils are erased at the latest, if that is switched on at all: ten years.
pub const RETENTION_DAYS_MAX: u32 = 3650;
/// The owner's line on labels, in characters: more doesn't fit on one.
pub const OWNER_LINE_CHARS_MAX: usize = 80;

/// A pupil in a list. `GET /api/v1/pupils`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PupilRow {
    /// Our own, random id of the pupil.
    #[schemars(with = "String")]
    pub pupil: PupilId,
    /// The number or user name in the school's own system; empty once erased.
    pub external_id: String,
    /// The name; empty once erased.
    pub name: String,
    /// The code of the site they go to.
    pub site: String,
    /// The site's name.
    pub site_name: String,
    /// The class.
    pub class: String,
    /// Whether they may have more than one device.
    #[serde(default)]
    pub several: bool,
    /// The devices they have now.
    pub devices: Vec<HeldDevice>,
    /// When a pupil list no longer named them.
    pub left_at_ms: Option<i64>,
    /// When everything personal was erased.
    pub erased_at_ms: Option<i64>,
}

/// Looks for pupils: those whom all that is said fits. `POST /api/v1/pupils/search`, for names stand in no address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct PupilSearch {
    /// Words that stand in the name or the number, in any case and order.
    pub text: String,
    /// The site's code.
    pub site: String,
    /// The class, in any case.
    pub class: String,
    /// Only those without a device.
    pub without: bool,
}

/// A device that a pupil has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HeldDevice {
    /// The assignment that says so.
    #[schemars(with = "String")]
    pub assignment: AssignmentId,
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Its asset tag.
    pub asset_tag: String,
    /// Since when.
    pub handed_out_at_ms: i64,
}

/// What is known of a pupil. `POST /api/v1/pupils` makes one, `PUT /api/v1/pupils/{id}` corrects one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PupilEntry {
    /// The number or user name in the school's own system.
    pub external_id: String,
    /// The name.
    pub name: String,
    /// The code of the site they go to.
    pub site: String,
    /// The class.
    #[serde(default)]
    pub class: String,
    /// Whether they may have more than one device.
    #[serde(default)]
    pub several: bool,
}

/// A pupil and every device they ever had. `GET /api/v1/pupils/{id}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PupilDetail {
    /// The pupil.
    pub pupil: PupilRow,
    /// Hand-outs and returns, newest first.
    pub history: Vec<AssignmentRow>,
}

/// What an import of a list did or would do. `POST /api/v1/pupils/import`, `POST /api/v1/assignments/import`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ListImportReport {
    /// Whether it was only asked what would happen.
    pub dry_run: bool,
    /// Whether it is stored now.
    pub stored: bool,
    /// What the columns were taken for: column title to field, in file order.
    pub columns: Vec<(String, String)>,
    /// Every row of the file.
    pub rows: Vec<ListImportRow>,
    /// Rows that were (or would be) new.
    pub new: u32,
    /// Rows that changed something known.
    pub changed: u32,
    /// Rows that said nothing new.
    pub unchanged: u32,
    /// Rows that were refused. If there is one, nothing is stored.
    pub invalid: u32,
    /// Pupils that the list no longer names, if it was said to be complete.
    #[serde(default)]
    pub left: u32,
}

/// One row of a [`ListImportReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ListImportRow {
    /// The line in the file, from 1.
    pub line: u64,
    /// What the row is about: the pupil's number, or device and pupil.
    pub subject: String,
    /// `new`, `changed`, `unchanged` or `invalid`.
    pub result: String,
    /// What is wrong, for `invalid`.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What is unusual, and done all the same.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The problems and the warnings, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<ListReason>,
}

/// Everything that is kept of one person. `GET /api/v1/pupils/{id}/export`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PupilExport {
    /// When this was put together (UTC).
    pub exported_at: String,
    /// The person.
    pub pupil: ExportedPupil,
    /// Every device they ever had.
    pub assignments: Vec<AssignmentRow>,
    /// Who did what with their data, by the random id.
    pub audit: Vec<ExportedAct>,
}

/// The person of a [`PupilExport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ExportedPupil {
    /// Our own, random id of the pupil.
    #[schemars(with = "String")]
    pub pupil: PupilId,
    /// The number or user name in the school's own system.
    pub external_id: String,
    /// The name.
    pub name: String,
    /// The site's code and name.
    pub site: String,
    /// The site's name.
    pub site_name: String,
    /// The class.
    pub class: String,
    /// When they became known here (UTC).
    pub known_since: String,
    /// When a pupil list last named them (UTC).
    pub last_listed: String,
    /// When a pupil list no longer named them (UTC).
    pub left: Option<String>,
}

/// One act of a [`PupilExport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ExportedAct {
    /// When (UTC).
    pub at: String,
    /// Who.
    pub who: String,
    /// What.
    pub action: String,
}

/// What was erased. `POST /api/v1/pupils/{id}/erase`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Erasure {
    /// The random id, which remains.
    #[schemars(with = "String")]
    pub pupil: PupilId,
    /// Assignments that remain without a person.
    pub assignments: u32,
}

/// Settings of the hand-out. `GET` and `PUT /api/v1/hand-out-settings`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HandOutSettings {
    /// Pupils without a device are erased so many days after their last return, their leaving, or the last list that
    /// named them, whichever is latest. 0 keeps them until someone erases them.
    pub retention_days: u32,
    /// A line on every label, such as `Tilhører Bjørnøya kommune`.
    #[serde(default)]
    pub owner_line: String,
}

impl Default for HandOutSettings {
    /// A year: a pupil who comes back after a summer is still known.
    fn default() -> Self {
        Self {
            retention_days: 365,
            owner_line: String::new(),
        }
    }
}
