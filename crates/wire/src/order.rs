//! The order: everything a device needs to finish a run without the network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::{DeploymentName, DeviceId, RunId};
use crate::package::Package;
use crate::sequence::CompiledSequence;

/// One run on one device. Stored on the staging partition before the first step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Order {
    /// 1.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// The device it is for.
    pub device: DeviceId,
    /// The deployment it came from; `None` at the factory.
    #[serde(default)]
    pub deployment: Option<DeploymentName>,
    /// What to do.
    pub sequence: CompiledSequence,
    /// Values for templates and conditions, already merged by precedence. `asset`, `site` and `class` are among them.
    pub variables: BTreeMap<String, Value>,
    /// Every package a step may ask for, at the version to use.
    pub packages: Vec<Package>,
    /// How long the run is expected to take, in seconds; 0 if unknown.
    #[serde(default)]
    pub expected_seconds: u64,
}
