//! What a deployment is besides sequence and collection, and how it is asked about. Part of the admin API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{CollectionName, DeploymentName, DeviceId, RunId, SequenceName};
use crate::reasons::{MemberReason, MissingReason, WarningReason};

/// Devices in one request: four times the largest fleet.
pub const DEVICES_MAX: usize = 10_000;
/// Devices that a preview or a status names; numbers count all.
pub const NAMED_MAX: usize = 200;
/// Minutes of a day.
pub const DAY_MINUTES: u16 = 24 * 60;

/// When machines may begin. Runs that have begun go on to their end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct Window {
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts_at_ms: Option<i64>,
    /// Not from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at_ms: Option<i64>,
    /// Only in these hours, in the time zone of the machine's site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<DailyHours>,
}

/// Hours of a day. With `from` behind `to` they span midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DailyHours {
    /// The first minute, counted from midnight.
    pub from_minute: u16,
    /// The minute it ends at.
    pub to_minute: u16,
}

impl std::fmt::Display for DailyHours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (self.from_minute, self.to_minute);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

/// Hours that are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} are no hours of a day such as 16:00-06:00")]
pub struct BadHours(pub String);

impl std::str::FromStr for DailyHours {
    type Err = BadHours;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let minute = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            let is_time = minutes < 60 && hours <= 24 && hours * 60 + minutes <= DAY_MINUTES;
            is_time.then_some(hours * 60 + minutes)
        };
        let hours = text
            .split_once('-')
            .and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match hours {
            Some((from_minute, to_minute)) if from_minute != to_minute => Ok(Self {
                from_minute,
                to_minute,
            }),
            _ => Err(BadHours(text.to_owned())),
        }
    }
}

/// A deployment that may be let begin on a device. `GET /api/v1/devices/{id}/startable`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Startable {
    /// Its name.
    pub name: DeploymentName,
    /// The words that confirm it, for one that writes over disks.
    #[serde(default)]
    pub confirm: Option<String>,
}

/// A reason and the devices it is the reason for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct Affected {
    /// In words.
    pub reason: String,
    /// The same with its code and what it is about.
    pub said: Option<MemberReason>,
    /// How many devices.
    pub devices: u32,
    /// Serial numbers of some, at most [`NAMED_MAX`].
    pub serials: Vec<String>,
}

/// `POST /api/v1/deployments/preview` with a deployment: what it would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeploymentPreview {
    /// The deployment.
    pub name: DeploymentName,
    /// Members of the collection now.
    pub members: u32,
    /// Of those, the devices that it would begin on.
    pub due: u32,
    /// Devices that it has touched already; 0 for a new one.
    pub touched: u32,
    /// Whether it writes over disks.
    pub wipes: bool,
    /// The steps that do, as the sequence names them.
    #[serde(default)]
    pub wiping_steps: Vec<String>,
    /// The words that confirm it, if it wants any: `NAME MACHINES` if it writes over disks (of a collection without
    /// machines, as many as the cap), `NAME CAP` if the cap of one that exists is raised.
    #[serde(default)]
    pub confirm: Option<String>,
    /// Another administrator has to approve it before any machine begins.
    #[serde(default)]
    pub second_person: bool,
    /// How long runs of this sequence took so far, in seconds: the median; `None` if there was none.
    #[serde(default)]
    pub median_seconds: Option<u64>,
    /// What someone should look at first.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<WarningReason>,
    /// Members that it would not begin on, by reason.
    #[serde(default)]
    pub held: Vec<Affected>,
    /// Models in it.
    #[serde(default)]
    pub models: Vec<ModelPreview>,
}

/// A model in a [`DeploymentPreview`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ModelPreview {
    /// The model in words.
    pub model: String,
    /// How many members are of it.
    pub devices: u32,
    /// Whether a prestage is defined for it.
    pub has_prestage: bool,
    /// Packages that the sequence may ask for on it and that aren't published.
    pub missing: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<MissingReason>,
}

/// Machines of a deployment whose disk was deployed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WarrantsStand {
    /// So many have a warrant.
    pub ready: u32,
    /// So many wait for one: only boot images without wipe keys let the deployment begin on them.
    pub wait: u32,
}

/// `GET /api/v1/deployments/{name}/status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeploymentStatus {
    /// The deployment.
    pub name: DeploymentName,
    /// Its collection.
    pub collection: CollectionName,
    /// Its sequence.
    pub sequence: SequenceName,
    /// Whether it is stopped.
    pub stopped: bool,
    /// Whether it writes over disks: then whatever lets a device begin is confirmed.
    #[serde(default)]
    pub wipes: bool,
    /// Devices that it has touched.
    pub touched: u32,
    /// Devices that it would touch in all: those, and the members that are due.
    pub reach: u32,
    /// How many it may touch.
    pub cap: u32,
    /// It would touch more than it may: no further device begins until someone raises the cap.
    pub asks_for_cap: bool,
    /// Devices that are due and haven't begun.
    pub due: u32,
    /// Of those, the ones that wait for a place.
    pub waiting: u32,
    /// How its warrants stand; none if no wipe key is trusted.
    #[serde(default)]
    pub warrants: Option<WarrantsStand>,
    /// Latest runs by state.
    #[serde(default)]
    pub states: BTreeMap<String, u32>,
    /// Devices whose latest run failed.
    #[serde(default)]
    pub failed: Vec<FailedRun>,
    /// Devices that it leaves alone, because somebody said so.
    #[serde(default)]
    pub cancelled: Vec<CancelledDevice>,
    /// The words that raise the cap to the reach.
    #[serde(default)]
    pub confirm_cap: Option<String>,
    /// The words that resume it, if it is stopped and writes over disks.
    #[serde(default)]
    pub confirm_resume: Option<String>,
    /// What awaits another administrator.
    #[serde(default)]
    pub approval: Option<Approval>,
}

impl DeploymentStatus {
    /// Whether this awaits approval.
    #[must_use]
    pub fn awaits(&self, what: Awaited) -> bool {
        self.approval
            .as_ref()
            .is_some_and(|approval| approval.what == what)
    }
}

/// What awaits the approval of another administrator than the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Awaited {
    /// That machines begin it, or go on with it.
    Resume,
    /// That it may touch more machines.
    RaiseCap,
    /// That its failed runs go on.
    RetryFailed,
}

impl Awaited {
    /// As it stands in documents.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::RaiseCap => "raise-cap",
            Self::RetryFailed => "retry-failed",
        }
    }
}

/// A word that names nothing that could await approval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing that awaits approval")]
pub struct NotAwaited(pub String);

impl std::str::FromStr for Awaited {
    type Err = NotAwaited;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Resume, Self::RaiseCap, Self::RetryFailed];
        let known = all.into_iter().find(|one| one.word() == text);
        known.ok_or_else(|| NotAwaited(text.to_owned()))
    }
}

/// What somebody asked of a deployment that writes over disks, and that somebody else has to approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Approval {
    /// What is to happen.
    pub what: Awaited,
    /// To how many machines, when it was asked.
    pub machines: u32,
    /// Who asked; they can't approve it.
    pub asked_by: String,
    /// When.
    pub asked_at_ms: i64,
    /// The words that approve it, with the number of machines by now.
    pub confirm: String,
}

/// `POST /api/v1/deployments/{name}/approve`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ApproveRequest {
    /// `NAME MACHINES`, typed by a person.
    pub confirm: String,
}

/// `POST /api/v1/deployments/{name}/decline`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct DeclineRequest {
    /// Why, for the audit.
    pub reason: String,
}

/// A device that a deployment leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CancelledDevice {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Who cancelled it.
    pub who: String,
    /// When.
    pub at_ms: i64,
}

/// A failed run in a [`DeploymentStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FailedRun {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// The device's serial number.
    pub serial: String,
    /// The step it failed at.
    #[serde(default)]
    pub step: Option<String>,
    /// Why, in one line.
    pub error: String,
}

/// `POST /api/v1/deployments/{name}/stop`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct StopRequest {
    /// Runs that have begun go on to their end. Otherwise they stop at once.
    pub let_running_finish: bool,
}

/// `POST /api/v1/deployments/{name}/resume`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ResumeRequest {
    /// `NAME MACHINES`, typed by a person: wanted if the deployment writes over disks.
    pub confirm: String,
}

/// `POST /api/v1/deployments/{name}/cap`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct CapRequest {
    /// How many devices it may touch.
    pub cap: u32,
    /// `NAME CAP`, typed by a person.
    pub confirm: String,
}

/// `POST /api/v1/deployments/{name}/start` (an available one begins), `…/cancel` (never begins, stops if it runs) and
/// `…/uncancel` (may begin again).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct DeviceList {
    /// The devices, at most [`DEVICES_MAX`].
    #[schemars(with = "Vec<String>")]
    pub devices: Vec<DeviceId>,
    /// `NAME COUNT`, typed by a person: wanted for `start` and `uncancel` if the deployment writes over disks.
    pub confirm: String,
}

/// What came of something that was asked of a deployment's devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct Acted {
    /// Devices or runs it was done to.
    pub done: u32,
    /// Those it wasn't done to, by reason.
    pub left: Vec<Affected>,
}

#[cfg(test)]
mod tests {
    use super::DailyHours;

    #[test]
    fn hours_are_read_as_they_are_written() {
        for text in ["16:00-06:00", "00:00-24:00", "08:15-15:45"] {
            assert_eq!(text.parse::<DailyHours>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "16-6",
            "16:00",
            "25:00-06:00",
            "24:01-06:00",
            "06:60-07:00",
            "06:00-06:00",
            "-",
        ] {
            assert!(text.parse::<DailyHours>().is_err(), "{text}");
        }
    }
}
