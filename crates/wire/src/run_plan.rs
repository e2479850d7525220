//! The run plan: how a run would go on one device, before it is touched. See `docs/formats/admin-api.md`.

use serde::{Deserialize, Serialize};

use crate::names::{PackageName, PackageVersion, SequenceName, StepPath};

/// A whole run as it would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunPlan {
    /// The sequence.
    pub sequence: SequenceName,
    /// Every step, in order.
    pub steps: Vec<PlannedStep>,
    /// The host name the device would get, if a step gives it one and it is known.
    pub host_name: Option<String>,
    /// The content that the steps ask for, each package once, in order of first use.
    pub packages: Vec<PlannedPackage>,
}

/// One step of a [`RunPlan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedStep {
    /// Where it stands.
    pub path: StepPath,
    /// What it is called.
    pub title: String,
    /// The step type.
    pub kind: String,
    /// What would become of it.
    pub decision: Decision,
    /// The condition that decides, for `skipped`, `undecided` and a condition that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// What it would do, in words: the text the run itself records. `None` if that isn't known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What must happen before it is decided, or before it is known what it does, such as ``step `java` is done``.
    #[serde(default)]
    pub until: Vec<String>,
    /// Why it would fail, outermost first.
    #[serde(default)]
    pub errors: Vec<String>,
    /// What to do about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What would become of a step.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It runs.
    #[default]
    Runs,
    /// A condition is false.
    Skipped,
    /// A condition asks for something that isn't known yet.
    Undecided,
    /// It fails, and the run stops here unless the step may fail.
    Fails,
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Runs => "runs",
            Self::Skipped => "skipped",
            Self::Undecided => "undecided",
            Self::Fails => "fails",
        })
    }
}

/// A package that a run would use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedPackage {
    /// The package.
    pub name: PackageName,
    /// The version the run would use.
    pub version: PackageVersion,
    /// Whether a step that asks for it is sure to run.
    pub certain: bool,
}
