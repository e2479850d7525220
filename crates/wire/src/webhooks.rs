//! Webhooks: part of the admin API. What receivers get stands in `docs/formats/webhooks.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reasons::{DeliveryReason, PauseReason};

/// Webhooks of one server; more are a message broker.
pub const WEBHOOKS_MAX: usize = 20;
/// The address of a receiver, in bytes.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2000;
/// The certificates of a receiver's authority, in bytes: a chain of ten.
pub const WEBHOOK_CA_BYTES_MAX: usize = 64 << 10;
/// Deliveries in one answer.
pub const DELIVERIES_MAX: usize = 200;

/// What a receiver can be told.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum WebhookEvent {
    /// A receipt says that the factory staged a device.
    DeviceStaged,
    /// A device was seen for the first time.
    DeviceCheckedIn,
    /// A machine could not be recognised.
    DeviceQuarantined,
    /// A device was retired.
    DeviceRetired,
    /// A device was reported stolen.
    DeviceStolen,
    /// A device that was reported stolen asked for work.
    DeviceStolenSeen,
    /// A device is used again.
    DeviceRestored,
    /// A run began.
    RunStarted,
    /// A run is done.
    RunCompleted,
    /// A run failed.
    RunFailed,
    /// A run was stopped by an administrator.
    RunStopped,
    /// A machine refuses the order of a run.
    RunRefused,
    /// A run has said nothing for too long.
    RunStalled,
    /// A device was handed to a pupil.
    AssignmentMade,
    /// A device came back.
    AssignmentEnded,
    /// Assets were imported.
    ImportAccepted,
    /// A deployment was stopped.
    DeploymentStopped,
    /// A deployment would touch more devices than it may.
    DeploymentCapReached,
    /// Somebody pressed the test button.
    Test,
}

/// A name that is none of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no event `{0}`")]
pub struct UnknownEvent(String);

impl WebhookEvent {
    /// Every event.
    pub const ALL: [Self; 19] = [
        Self::DeviceStaged,
        Self::DeviceCheckedIn,
        Self::DeviceQuarantined,
        Self::DeviceRetired,
        Self::DeviceStolen,
        Self::DeviceStolenSeen,
        Self::DeviceRestored,
        Self::RunStarted,
        Self::RunCompleted,
        Self::RunFailed,
        Self::RunStopped,
        Self::RunRefused,
        Self::RunStalled,
        Self::AssignmentMade,
        Self::AssignmentEnded,
        Self::ImportAccepted,
        Self::DeploymentStopped,
        Self::DeploymentCapReached,
        Self::Test,
    ];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceStaged => "device.staged",
            Self::DeviceCheckedIn => "device.checked-in",
            Self::DeviceQuarantined => "device.quarantined",
            Self::DeviceRetired => "device.retired",
            Self::DeviceStolen => "device.stolen",
            Self::DeviceStolenSeen => "device.stolen-seen",
            Self::DeviceRestored => "device.restored",
            Self::RunStarted => "run.started",
            Self::RunCompleted => "run.completed",
            Self::RunFailed => "run.failed",
            Self::RunStopped => "run.stopped",
            Self::RunRefused => "run.refused",
            Self::RunStalled => "run.stalled",
            Self::AssignmentMade => "assignment.made",
            Self::AssignmentEnded => "assignment.ended",
            Self::ImportAccepted => "import.accepted",
            Self::DeploymentStopped => "deployment.stopped",
            Self::DeploymentCapReached => "deployment.cap-reached",
            Self::Test => "test",
        }
    }
}

impl std::fmt::Display for WebhookEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for WebhookEvent {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        let found = Self::ALL.into_iter().find(|event| event.name() == text);
        found.ok_or_else(|| UnknownEvent(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for WebhookEvent {
    type Error = UnknownEvent;

    fn try_from(text: String) -> Result<Self, UnknownEvent> {
        text.parse()
    }
}

impl From<WebhookEvent> for String {
    fn from(event: WebhookEvent) -> Self {
        event.name().into()
    }
}

/// A new webhook. `POST /api/v1/webhooks`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewWebhook {
    /// Where to: `https://…`; `http://` only to the server's own machine.
    pub url: String,
    /// One line for people.
    #[serde(default)]
    pub title: String,
    /// What it is told; empty for everything.
    #[serde(default)]
    pub events: Vec<WebhookEvent>,
    /// The authorities to trust instead of the system's, as PEM.
    #[serde(default)]
    pub ca_pem: String,
}

/// What is changed of a webhook; the rest stays, and so does its log. `PUT /api/v1/webhooks/{id}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct WebhookChange {
    /// Where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// All that it is told; empty for everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<WebhookEvent>>,
    /// The authorities to trust instead of the system's, as PEM; empty for the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// How long messages are signed with the secret before the present one, too: a day, in which receivers get the new one.
pub const OLD_SECRET_HOURS: u32 = 24;

/// A webhook with its secret, which is shown this once. The answer to `POST /api/v1/webhooks` and
/// `POST /api/v1/webhooks/{id}/new-secret`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MadeWebhook {
    /// The webhook.
    pub webhook: WebhookRow,
    /// What the receiver checks signatures with: `whsec_` and base64.
    pub secret: String,
}

/// A webhook. `GET /api/v1/webhooks`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct WebhookRow {
    /// Its number.
    pub webhook: i64,
    /// Where to.
    pub url: String,
    /// One line for people.
    pub title: String,
    /// What it is told; empty for everything.
    pub events: Vec<WebhookEvent>,
    /// Whether it has authorities of its own.
    pub own_ca: bool,
    /// `active` or `paused`.
    pub state: String,
    /// Why it is paused; empty if it isn't.
    pub reason: String,
    /// Until when messages are signed with its old secret, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret_until_ms: Option<i64>,
    /// The same with its code and what it is about.
    #[serde(default)]
    pub said: Option<PauseReason>,
    /// Deliveries that are due or wait for their next attempt.
    pub waiting: u64,
    /// Deliveries that were given up.
    pub failed: u64,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at_ms: i64,
}

/// One event for one receiver. `GET /api/v1/webhooks/{id}/deliveries`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeliveryRow {
    /// What the receiver sees as `webhook-id`; the same at each attempt.
    pub message: String,
    /// The event.
    pub event: String,
    /// When it happened.
    pub at_ms: i64,
    /// `waiting`, `delivered` or `failed`.
    pub state: String,
    /// When the next attempt is due, if it waits.
    pub due_at_ms: Option<i64>,
    /// Every attempt, oldest first.
    pub attempts: Vec<AttemptRow>,
}

/// One attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AttemptRow {
    /// When.
    pub at_ms: i64,
    /// How long it took.
    pub duration_ms: u64,
    /// The HTTP status; none if no answer came.
    pub status: Option<u16>,
    /// How the answer began.
    pub answer: String,
    /// Why no answer came.
    pub error: String,
    /// The same with its code and what it is about.
    #[serde(default)]
    pub said: Option<DeliveryReason>,
}

#[cfg(test)]
mod tests {
    use super::WebhookEvent;

    #[test]
    fn names_are_read_back() {
        for event in WebhookEvent::ALL {
            assert_eq!(event.name().parse(), Ok(event));
        }
        assert!("run.exploded".parse::<WebhookEvent>().is_err());
    }
}
