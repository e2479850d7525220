//! The compiled task sequence: what a device runs. People write YAML; this is what the server makes of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::Environment;
use crate::names::{SequenceName, StepPath};

/// The version of this format.
pub const FORMAT: u32 = 1;
/// A sequence with more steps than this is a mistake.
pub const STEPS_MAX: usize = 1000;

/// A compiled sequence: a flat list of steps, groups dissolved into paths and conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CompiledSequence {
    /// [`FORMAT`].
    pub format: u32,
    /// The name of the sequence.
    pub name: SequenceName,
    /// Variables with the values the document gives them; the order may override them.
    #[serde(default)]
    pub variables: std::collections::BTreeMap<String, Value>,
    /// The steps, in order.
    pub steps: Vec<CompiledStep>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CompiledStep {
    /// Where it stands; unique in the sequence.
    pub path: StepPath,
    /// What it is called on screens.
    pub title: String,
    /// The step type, such as `apply-image`.
    pub kind: String,
    /// All must be true for the step to run: those of its groups, outermost first, then its own.
    #[serde(default)]
    pub when: Vec<String>,
    /// How long one attempt may take, in seconds.
    pub timeout_seconds: u64,
    /// How often it is tried; at least 1.
    pub attempts: u32,
    /// The wait between attempts, in seconds.
    #[serde(default)]
    pub wait_seconds: u64,
    /// Whether the run goes on, with a warning, if the last attempt fails.
    #[serde(default)]
    pub continue_on_error: bool,
    /// What becomes of it after a power cut, if the document says so; otherwise the step type does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_restart: Option<OnRestart>,
    /// Where it must run, if the document says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_in: Option<Environment>,
    /// What the step type reads.
    pub with: Value,
}

/// What becomes of a step that was begun and not done when the power failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnRestart {
    /// Safe to repeat: the recorded plan is applied again.
    Redo,
    /// It is planned again, and finds out what is already true.
    Verify,
    /// The run stops and asks a person.
    Refuse,
}
