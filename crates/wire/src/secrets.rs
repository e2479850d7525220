//! Secrets for devices, as the admin API has them: set and removed, never read. How a device gets one stands in
//! [`crate::device_api`] and `docs/formats/secrets.md`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{SecretName, SequenceName};

/// Secrets of one server, each site's own counted: a few for every school of a county.
pub const SECRETS_MAX: usize = 5000;
/// The longest secret: a certificate with its chain and key fits, and so does the environment of a program (128 KiB, Linux).
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// `PUT /api/v1/secrets/{name}`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecretChange {
    /// The secret itself: text, at most 64 KiB, without NUL.
    pub value: String,
    /// For the machines of this site alone; without it, for all whose site has no value of its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
}

impl fmt::Debug for SecretChange {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretChange([secret], {:?})", self.site)
    }
}

/// A secret, without its value: nobody can read that back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SecretRow {
    /// Its name, as sequences have it.
    pub name: SecretName,
    /// The site whose machines get this value; empty for all that have none of their own.
    pub site: String,
    /// Who set it last.
    pub changed_by: String,
    /// When.
    pub changed_at_ms: i64,
    /// How often this value, or an earlier one, was released to a run.
    pub releases: u64,
    /// When it last was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at_ms: Option<i64>,
    /// The sequences whose latest version asks for it.
    pub sequences: Vec<SequenceName>,
}

/// A secret that was released to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReleaseRow {
    /// Which.
    pub secret: SecretName,
    /// The site whose value it was; empty if it was the one for all.
    pub site: String,
    /// When.
    pub released_at_ms: i64,
    /// How often it was given out: more than once if an answer got lost on the way, or a step was tried again.
    pub answers: u64,
}
