//! Plans of runs on known devices: part of the admin API. See `docs/formats/admin-api.md`.

use serde::{Deserialize, Serialize};

use crate::drift::PrestageId;
use crate::names::{
    CollectionName, DeploymentName, DeviceId, PackageName, PackageVersion, SequenceName,
};
use crate::package::{Model, PackageKind};
use crate::run_plan::RunPlan;
use crate::variables::EffectiveVariable;

/// Devices whose plans are told step by step in one reply; more are told in numbers.
pub const DETAILED_MAX: usize = 100;

/// `POST /api/v1/plans`: how would a run go, before a machine is touched? The answer is a [`PlanReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlanRequest {
    /// What would run.
    pub what: PlanWhat,
    /// On which devices.
    pub devices: PlanDevices,
    /// Whether to tell steps, variables and packages too, for at most [`DETAILED_MAX`] devices.
    #[serde(default)]
    pub detailed: bool,
}

/// What would run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum PlanWhat {
    /// What is due on each device: the sequence of the deployment it runs or would begin.
    Due,
    /// This sequence at its latest version.
    Sequence {
        /// The sequence.
        name: SequenceName,
    },
    /// A document that isn't stored.
    Document {
        /// The YAML.
        text: String,
    },
}

/// On which devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum PlanDevices {
    /// Those with these serial numbers.
    Serials {
        /// The serial numbers; each must be known.
        serials: Vec<String>,
    },
    /// The members of a collection.
    Collection {
        /// The collection.
        name: CollectionName,
    },
    /// All.
    All,
}

/// The answer to a [`PlanRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlanReply {
    /// One per device.
    pub plans: Vec<DevicePlan>,
    /// Host names that more than one of these devices would get.
    pub clashes: Vec<HostNameClash>,
    /// How many plans fail.
    pub failing: u32,
    /// What all of them would fetch together at most, in bytes as sent.
    pub fetch_bytes: u64,
}

/// Two or more devices would get the same host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HostNameClash {
    /// The name.
    pub host_name: String,
    /// The serial numbers of the devices.
    pub serials: Vec<String>,
}

/// How a run would go on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DevicePlan {
    /// The device.
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Its model, as imported or as seen.
    pub model: Model,
    /// Its site's code.
    pub site: String,
    /// Its site's name.
    pub site_name: String,
    /// Its class.
    pub class: String,
    /// Whether the machine itself told its facts. If not, only what the asset file says is known.
    pub is_seen: bool,
    /// What it carries since the factory, as far as is known.
    pub staged: Option<PrestageId>,
    /// The deployment that is due on it.
    pub deployment: Option<DeploymentName>,
    /// The sequence planned. `None`: nothing is due, so there is no plan.
    pub sequence: Option<SequenceName>,
    /// The host name it would get, if that is known.
    pub host_name: Option<String>,
    /// How many steps would become what.
    pub steps: StepCounts,
    /// Why the run would fail: the first step that does, and its error.
    pub problem: Option<String>,
    /// What it would fetch at most, in bytes as sent: the content of steps that are undecided counts.
    pub fetch_bytes: u64,
    /// The same without steps that are undecided.
    pub fetch_bytes_certain: u64,
    /// Steps, variables and packages, if they were asked for.
    #[serde(default)]
    pub detail: Option<PlanDetail>,
}

/// How many steps would become what.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub struct StepCounts {
    /// They run.
    pub runs: u32,
    /// A condition is false.
    pub skipped: u32,
    /// A condition asks for something that isn't known yet.
    pub undecided: u32,
    /// They fail.
    pub fails: u32,
}

/// A plan step by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlanDetail {
    /// The run.
    pub run: RunPlan,
    /// The variables it would see, by name.
    pub variables: Vec<EffectiveVariable>,
    /// The content that steps ask for, in order of first use.
    pub packages: Vec<PlannedContent>,
}

/// A package that a run would use, and where it would come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedContent {
    /// The package.
    pub name: PackageName,
    /// The version the run would use.
    pub version: PackageVersion,
    /// Its kind.
    pub kind: PackageKind,
    /// Its content in bytes, before compression.
    pub content_bytes: u64,
    /// Whether a step that asks for it is sure to run.
    pub certain: bool,
    /// The version that was staged; `None` if none was.
    pub staged: Option<PackageVersion>,
    /// What the device would fetch for it, in bytes as sent; 0 if it holds all of it.
    pub fetch_bytes: u64,
}
