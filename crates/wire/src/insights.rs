//! Figures about the rollout: `GET /api/v1/insights`, taken over all runs that ended.
//!
//! Devices are chosen by the filter of the overview; of their runs, those of the deployment and the days that are named.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::RunId;

/// Days that are told at most, up to the last one on which a run ended: a rollout and the summer before it.
pub const DAYS_MAX: usize = 120;
/// Reasons of failures that are told at most; the commonest come first.
pub const REASONS_MAX: usize = 50;
/// Steps that are told at most; those that took most of the time come first.
pub const STEPS_MAX: usize = 40;
/// Columns of the distribution of run times: up to twice the expected time, the last one open.
pub const TIME_COLUMNS: usize = 20;

/// `GET /api/v1/insights`: with the filter of the overview in the query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Insights {
    /// The time zone that days are counted in.
    pub time_zone: String,
    /// Devices that the figures are about.
    pub devices: u64,
    /// Of them, those whose latest run is completed.
    pub completed: u64,
    /// Runs that ended.
    #[serde(default)]
    pub runs: u64,
    /// Of them, those that an administrator stopped: neither completed nor failed.
    #[serde(default)]
    pub stopped: u64,
    /// Bytes of content that their machines had on their own disks: what a network never carried.
    #[serde(default)]
    pub local_bytes: u64,
    /// Bytes of content that came over the network, as transferred.
    #[serde(default)]
    pub network_bytes: u64,
    /// The progress of each site.
    pub sites: Vec<SiteProgress>,
    /// What happened on each day on which a run ended, oldest first. Days that aren't there are days without one.
    pub days: Vec<DayFigures>,
    /// Runs by the hour of the day in which they began: 24 hours from midnight, or none if no run ended.
    #[serde(default)]
    pub hours: Vec<HourFigures>,
    /// How long completed runs took.
    pub times: RunTimes,
    /// Why runs failed, commonest first.
    pub failures: Vec<FailureReason>,
    /// How long steps took, those first that took most of the time of all runs.
    #[serde(default)]
    pub steps: Vec<StepFigures>,
}

/// The progress of one site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SiteProgress {
    /// The site's code.
    pub site: String,
    /// Its name.
    pub name: String,
    /// Its devices.
    pub devices: u64,
    /// Those whose latest run is completed.
    pub completed: u64,
    /// Those in a run.
    pub running: u64,
    /// Those whose run failed or has gone silent.
    pub in_trouble: u64,
    /// Bytes of content that its devices had on their own disks: what the site's line never carried.
    #[serde(default)]
    pub local_bytes: u64,
    /// Bytes of content that came over the network, as transferred.
    #[serde(default)]
    pub network_bytes: u64,
}

/// One day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DayFigures {
    /// The day, such as `2026-08-17`.
    pub day: String,
    /// Runs that were completed on it.
    pub completed: u64,
    /// Runs that failed on it.
    pub failed: u64,
    /// Devices that had completed a run by the end of it.
    pub done_so_far: u64,
    /// Bytes of content that came from the devices' own disks.
    pub local_bytes: u64,
    /// Bytes of content that came over the network, as transferred.
    pub network_bytes: u64,
}

/// One hour of the day, whatever the day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HourFigures {
    /// From this hour, 0 to 23, to the next.
    pub hour: u8,
    /// Runs that began in it and were completed.
    pub completed: u64,
    /// Runs that began in it and failed.
    pub failed: u64,
}

/// How long completed runs took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunTimes {
    /// Completed runs that were counted.
    pub runs: u64,
    /// Half of them took no longer.
    pub median_seconds: u64,
    /// 19 of 20 took no longer.
    pub p95_seconds: u64,
    /// What most of them were expected to take; 0 if unknown.
    pub expected_seconds: u64,
    /// The width of a column of the distribution.
    pub column_seconds: u64,
    /// Runs in each column; the last one holds all that took longer.
    pub columns: Vec<u64>,
}

/// Failures of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FailureReason {
    /// The step that failed; empty if it isn't known.
    pub step: String,
    /// What it said, with numbers and names left out, so that the same failure is counted as the same.
    pub message: String,
    /// How many devices.
    pub devices: u64,
    /// How many runs.
    #[serde(default)]
    pub runs: u64,
    /// One of the devices, that of the latest such run: its serial number.
    pub example: String,
    /// The latest such run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_run: Option<RunId>,
}

/// How long one step took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepFigures {
    /// Where it stands.
    pub path: String,
    /// What it is called.
    pub title: String,
    /// The step type.
    pub kind: String,
    /// In how many runs it was done.
    pub runs: u64,
    /// Half of them took no longer, in milliseconds.
    pub median_ms: u64,
    /// 19 of 20 took no longer.
    pub p95_ms: u64,
    /// The longest.
    pub longest_ms: u64,
    /// Its part of the time of all steps, in percent.
    pub share_percent: u8,
}
