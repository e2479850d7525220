//! Who has which device: hand-out, return, history, and the scans of the assignment page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{AssignmentId, DeviceId, PupilId};
use crate::pupils::{HeldDevice, PupilRow};

/// A note on hand-out or return, in characters.
pub const NOTE_CHARS_MAX: usize = 500;
/// What a scanner may send at once, in characters: the longest label has 140.
pub const SCAN_CHARS_MAX: usize = 300;
/// Pairs that one class may get at once: the largest class there is, five times.
pub const CLASS_PAIRS_MAX: usize = 200;

/// One device in one pupil's hands. `GET /api/v1/assignments`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AssignmentRow {
    /// The assignment.
    #[schemars(with = "String")]
    pub assignment: AssignmentId,
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Its asset tag.
    pub asset_tag: String,
    /// The code of the device's site.
    pub site: String,
    /// The pupil.
    #[schemars(with = "String")]
    pub pupil: PupilId,
    /// The pupil's number in the school's own system; empty once erased.
    pub external_id: String,
    /// The pupil's name; empty once erased.
    pub name: String,
    /// The pupil's class; empty once erased.
    pub class: String,
    /// When it was handed out.
    pub handed_out_at_ms: i64,
    /// By whom.
    pub handed_out_by: String,
    /// A note made then.
    pub note: String,
    /// When it came back; none while it is out.
    pub returned_at_ms: Option<i64>,
    /// Who took it back.
    pub returned_by: String,
    /// In which condition.
    pub condition: String,
}

/// Hands a device out. `POST /api/v1/assignments`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HandOut {
    /// An id made by the caller: asking again with the same one does nothing twice.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub assignment: Option<AssignmentId>,
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// The pupil.
    #[schemars(with = "String")]
    pub pupil: PupilId,
    /// A note.
    #[serde(default)]
    pub note: String,
    /// Take back what is in the way: the device from whoever has it, and the pupil's other device.
    #[serde(default)]
    pub swap: bool,
    /// The pupil gets this one beside the one they have.
    #[serde(default)]
    pub additional: bool,
}

/// What handing out did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HandOutReply {
    /// The assignment.
    pub made: AssignmentRow,
    /// Assignments that ended for it.
    pub ended: Vec<AssignmentRow>,
    /// What is unusual about it.
    pub warnings: Vec<Warning>,
}

/// Takes a device back, or notes the condition of one that is back. `POST /api/v1/assignments/{id}/return`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TakeBack {
    /// In which condition it came back.
    #[serde(default)]
    pub condition: String,
}

/// Something unusual that stops nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Warning {
    /// What it is, for programs: `not-ready`, `other-site`, `other-class`, `left`.
    pub code: String,
    /// What it is, for people.
    pub text: String,
}

/// What came out of a scanner. `POST /api/v1/assignments/scan`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Scan {
    /// A serial number, asset tag, host name, the content of a label, or a pupil's number.
    pub text: String,
}

/// What a scan means; more than one of something if the text doesn't tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ScanReply {
    /// Devices that are called so.
    pub devices: Vec<ScannedDevice>,
    /// Pupils with this number.
    pub pupils: Vec<PupilRow>,
    /// Machines of other schools that are called so and are at the caller's own now. They are handed out by their own school.
    #[serde(default)]
    pub visitors: Vec<ScannedVisitor>,
}

/// A machine of another school that was scanned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ScannedVisitor {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// The code of the site that it belongs to.
    pub site: String,
    /// That site's name.
    pub site_name: String,
}

/// A device that was scanned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ScannedDevice {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Its asset tag.
    pub asset_tag: String,
    /// Its host name, if it was given one.
    pub name: String,
    /// Its model.
    pub model: String,
    /// The code of its site.
    pub site: String,
    /// The site's name.
    pub site_name: String,
    /// The class it is meant for.
    pub class: String,
    /// What the text is of it: `serial`, `asset-tag`, `name` or `label`.
    pub matched: String,
    /// Whether its last run is done.
    pub ready: bool,
    /// Who has it.
    pub holder: Option<Holder>,
}

/// Who has a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    /// The assignment that says so.
    #[schemars(with = "String")]
    pub assignment: AssignmentId,
    /// The pupil.
    #[schemars(with = "String")]
    pub pupil: PupilId,
    /// The pupil's name.
    pub name: String,
    /// The pupil's class.
    pub class: String,
    /// Since when.
    pub handed_out_at_ms: i64,
}

/// A class: who has which device, who is without, which devices are left. `GET /api/v1/assignments/class`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ClassHandOut {
    /// The site's code.
    pub site: String,
    /// The site's name.
    pub site_name: String,
    /// The class.
    pub class: String,
    /// Its pupils, by name.
    pub pupils: Vec<PupilRow>,
    /// Devices meant for the class that nobody has, by serial number.
    pub free: Vec<FreeDevice>,
}

/// A device that nobody has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FreeDevice {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Its asset tag.
    pub asset_tag: String,
    /// Whether its last run is done.
    pub ready: bool,
}

/// A class in a list. `GET /api/v1/assignments/classes`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ClassRow {
    /// The site's code.
    pub site: String,
    /// The site's name.
    pub site_name: String,
    /// The class.
    pub class: String,
    /// How many pupils it has.
    pub pupils: u32,
    /// How many of them have no device.
    pub without: u32,
    /// Devices meant for the class that nobody has.
    pub free: u32,
}

/// A pair of [`ClassPairs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Pair {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// The pupil.
    #[schemars(with = "String")]
    pub pupil: PupilId,
}

/// Hands out the pairs of a preview, all or none. `POST /api/v1/assignments/pairs`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ClassPairs {
    /// What was previewed, so that nothing else is done.
    pub pairs: Vec<Pair>,
}

/// What was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ClassPairsReply {
    /// The assignments, in the order of the request.
    pub made: Vec<AssignmentRow>,
}

impl ClassHandOut {
    /// Pupils without a device and free devices, both in order: what handing out by list would do.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&FreeDevice, &PupilRow)> {
        self.free.iter().zip(self.without()).collect()
    }

    /// Pupils who have no device.
    pub fn without(&self) -> impl Iterator<Item = &PupilRow> {
        self.pupils.iter().filter(|pupil| pupil.devices.is_empty())
    }
}

impl PupilRow {
    /// The device they have, if it is one.
    #[must_use]
    pub fn device(&self) -> Option<&HeldDevice> {
        self.devices.first()
    }
}
