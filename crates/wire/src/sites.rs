//! Sites: schools with their networks, and how many machines run there at a time. Part of the admin API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{DeploymentName, DeviceId};

/// Subnets of one site: a school has a handful per building.
pub const SUBNETS_MAX: usize = 200;
/// Places at one site: more than any school has sockets.
pub const SLOTS_MAX: u32 = 10_000;
/// Devices in one [`SiteMove`]: four times the largest fleet.
pub const MOVES_MAX: usize = 10_000;

/// `PUT /api/v1/sites/{code}`: makes a site or changes it. What isn't said stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct SiteChange {
    /// Its name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All its subnets, such as `10.17.0.0/16` or `2001:db8:17::/48`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnets: Option<Vec<String>>,
    /// How many machines run there at a time; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How long a run is expected to take there, in seconds, for deployments that don't say it; 0 if the site doesn't, either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_seconds: Option<u64>,
    /// The time zone of its working day, such as `Europe/Oslo`; empty for UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// `GET /api/v1/sites`: one site and what goes on there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct SiteRow {
    /// Its code, as asset files have it.
    pub code: String,
    /// Its name for people.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// How many machines run there at a time; 0 for no limit.
    pub slots: u32,
    /// How long a run is expected to take there, in seconds, for deployments that don't say it; 0 if the site doesn't, either.
    pub expected_seconds: u64,
    /// The time zone of its working day; empty for UTC.
    pub time_zone: String,
    /// Devices that the import puts there.
    pub devices: u32,
    /// Of those, the ones that were last seen at another site.
    pub elsewhere: u32,
    /// Devices seen there that the import puts elsewhere.
    pub visitors: u32,
    /// Runs there that show a sign of life: each holds a place.
    pub live: u32,
    /// Machines that wait for a place.
    pub waiting: u32,
    /// Devices by state, as in the API.
    pub states: BTreeMap<String, u32>,
}

/// `GET /api/v1/sites/{code}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct SiteDetail {
    /// As in the list.
    pub site: SiteRow,
    /// Who waits, in order of arrival.
    pub queue: Vec<WaitingDevice>,
    /// Devices whose import and whose last check-in name different sites, this one among them.
    pub misplaced: Vec<MisplacedDevice>,
}

/// A machine that waits for a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WaitingDevice {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// What it is to run.
    #[schemars(with = "String")]
    pub deployment: DeploymentName,
    /// Since when it has been asking.
    pub arrived_at_ms: i64,
    /// When it asks again; one that doesn't loses its place in the queue.
    pub asks_again_at_ms: i64,
}

/// A device that isn't where the import says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MisplacedDevice {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Where the import puts it.
    pub site: String,
    /// Where it last checked in.
    pub seen_site: String,
}

/// `POST /api/v1/devices/move-to-seen-site`: these devices belong where they were last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct SiteMove {
    /// The devices, at most [`MOVES_MAX`].
    #[schemars(with = "Vec<String>")]
    pub devices: Vec<DeviceId>,
}

/// The answer to [`SiteMove`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct SiteMoved {
    /// Devices that have another site now.
    pub moved: u32,
    /// Devices that stay: they were seen nowhere else.
    pub unmoved: u32,
}
