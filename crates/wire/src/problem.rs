//! Refusals of the admin API, as RFC 9457 writes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A refusal, of type `application/problem+json`. It reads as a [`crate::device_api::ApiError`] too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// The kind of problem: `urn:forestage:problem:` and its `code`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, for people.
    pub detail: String,
    /// This very request, as the server's log calls it.
    #[serde(default)]
    pub instance: String,
    /// A stable word, for programs.
    pub code: String,
    /// The same as `detail`, where older programs look for it.
    pub message: String,
    /// What to do, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What its code says, in the language of whoever asks; absent in English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}
