//! Figures about the rollout: `GET /api/v1/insights`, taken over the latest run of each device.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Days that are told at most: a rollout and the summer before it.
pub const DAYS_MAX: usize = 120;
/// Reasons of failures that are told at most; the commonest come first.
pub const REASONS_MAX: usize = 50;
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
    /// The progress of each site.
    pub sites: Vec<SiteProgress>,
    /// What happened on each day on which a run ended, oldest first.
    pub days: Vec<DayFigures>,
    /// How long completed runs took.
    pub times: RunTimes,
    /// Why the latest runs failed, commonest first.
    pub failures: Vec<FailureReason>,
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
    /// Devices done by the end of it.
    pub done_so_far: u64,
    /// Bytes of content that came from the devices' own disks.
    pub local_bytes: u64,
    /// Bytes of content that came over the network, as transferred.
    pub network_bytes: u64,
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
    /// One of them: its serial number.
    pub example: String,
}
