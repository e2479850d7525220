//! The events of a run as the server holds them, for whoever wants to compare, archive or count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::names::RunId;

/// Events in one page; with long ones the page ends earlier, but never before its first.
pub const PAGE_EVENTS_MAX: i64 = 1000;

/// A page of a run's events, oldest first. `GET /api/v1/runs/{run}/events?after=SEQ`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunEvents {
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// How often the run began: these are the events of its latest beginning.
    pub take: u64,
    /// All events up to this `seq` are held.
    pub acknowledged: u64,
    /// The events of this page.
    pub events: Vec<HeldEvent>,
    /// Ask again with `after` set to this; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<u64>,
}

/// One event as it was received.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HeldEvent {
    /// Its place in the run.
    pub seq: u64,
    /// When it came, in milliseconds since 1970 on the server's clock.
    pub received_at_ms: i64,
    /// The event, to the letter as the device sent it.
    #[schemars(with = "serde_json::Value")]
    pub event: Box<RawValue>,
}
