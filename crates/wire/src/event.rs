//! Events: what happened in a run. Screens, pages and reports are pure functions of the list of events.
//!
//! Journal and status messages are the same thing: a journal line *is* an event. See `docs/formats/journal.md`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::{RunId, SequenceName, StepPath};

/// One event. Order by `seq`; the clock of an unboxed laptop is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// The run it belongs to.
    pub run: RunId,
    /// Rises by one within the run, from 1. Lossy events (`progress`) carry the `seq` of the event before them.
    pub seq: u64,
    /// How often the machine has started in this run, from 1.
    pub boot: u32,
    /// Milliseconds since that start.
    pub uptime_ms: u64,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum EventBody {
    /// The run begins. Lists all steps, so that a viewer can draw the whole run.
    RunStarted {
        /// The sequence.
        sequence: SequenceName,
        /// All steps in order.
        steps: Vec<StepTitle>,
    },
    /// The run goes on after a restart or a power cut.
    RunResumed {
        /// `boot-image` or `os`.
        environment: Environment,
    },
    /// The machine restarts on purpose.
    RunSuspended {
        /// Where it will come up.
        into: Environment,
    },
    /// All steps are done.
    RunDone {
        /// What the machine does now.
        action: FinishAction,
    },
    /// A step failed for good.
    RunFailed {
        /// The step.
        path: StepPath,
        /// The error chain, outermost first.
        errors: Vec<String>,
        /// What a person can do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// The last lines the failing attempt logged, oldest first, without control characters. At most 20 lines and
        /// 4 KiB.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        last_lines: Vec<String>,
    },
    /// Someone stopped the run.
    RunAborted {
        /// Why.
        reason: String,
    },
    /// A step begins. Durable before any effect.
    StepStarted {
        /// The step.
        path: StepPath,
        /// The attempt, from 1.
        attempt: u32,
    },
    /// A step knows what it will do. Durable before any effect.
    StepPlanned {
        /// The step.
        path: StepPath,
        /// The plan as data; after a restart a `redo` step applies this very plan.
        plan: Value,
        /// The plan in words.
        text: String,
    },
    /// A step ended well. Durable before the next begins.
    StepDone {
        /// The step.
        path: StepPath,
        /// How.
        outcome: StepOutcome,
        /// A warning or the reason for skipping.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Where its content came from.
        #[serde(default)]
        content: ContentBytes,
        /// Values later steps and conditions can use.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
    },
    /// An attempt failed and will be repeated.
    AttemptFailed {
        /// The step.
        path: StepPath,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// The error chain, outermost first.
        errors: Vec<String>,
        /// The wait before the next attempt, in seconds.
        wait_seconds: u64,
    },
    /// A line of log.
    Log {
        /// The step it came from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<StepPath>,
        /// How serious.
        level: LogLevel,
        /// The text; at most 2 KiB.
        text: String,
    },
    /// How far a step is. Lossy: only the latest matters, never journaled.
    Progress(Progress),
    /// Something a newer release says.
    #[serde(other)]
    Unknown,
}

impl EventBody {
    /// Whether this event may be lost; such events are never journaled.
    #[must_use]
    pub const fn is_lossy(&self) -> bool {
        matches!(self, Self::Progress(_))
    }
}

/// A step as listed when a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepTitle {
    /// Where it stands.
    pub path: StepPath,
    /// What it is called.
    pub title: String,
    /// The step type.
    pub kind: String,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// The step.
    pub path: StepPath,
    /// How much is done.
    pub current: u64,
    /// How much there is; 0 if unknown.
    pub total: u64,
    /// What is counted.
    pub unit: ProgressUnit,
    /// What is being worked on, in words.
    #[serde(default)]
    pub message: String,
}

/// What progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProgressUnit {
    /// Bytes.
    Bytes,
    /// Items, such as packages.
    Items,
}

/// How a step ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// Its effect is there.
    Done,
    /// It was already true, or went wrong in a way the document allows.
    Warning,
    /// Its condition was false, or there was nothing to do.
    Skipped,
}

/// How serious a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Good to know.
    Info,
    /// Someone should look.
    Warning,
    /// Someone must act.
    Error,
}

/// Where the bytes of some content came from. All count content before compression, except `network_packed`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case", default)]
pub struct ContentBytes {
    /// Already in place at the target, verified by reading.
    pub unchanged: u64,
    /// From the local content library or the boot medium.
    pub local: u64,
    /// From the network.
    pub network: u64,
    /// The same as `network`, as transferred (compressed, manifests included).
    pub network_packed: u64,
}

impl std::ops::AddAssign for ContentBytes {
    fn add_assign(&mut self, other: Self) {
        self.unchanged += other.unchanged;
        self.local += other.local;
        self.network += other.network;
        self.network_packed += other.network_packed;
    }
}

/// Where the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Environment {
    /// The boot image, in memory.
    BootImage,
    /// The installed OS.
    Os,
}

/// What a machine does when a run is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FinishAction {
    /// Power off.
    ShutDown,
    /// Restart.
    Restart,
    /// Go on running.
    Stay,
}

#[cfg(test)]
mod tests {
    use super::{Event, EventBody};

    #[test]
    fn a_newer_kind_of_event_is_read_as_unknown() {
        let text = r#"{"run":"00000000-0000-0000-0000-000000000001","seq":3,"boot":1,"uptime-ms":9,
            "body":{"kind":"battery-low","percent":3}}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(event.body, EventBody::Unknown);
    }
}
