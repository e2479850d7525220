//! Machines that could not be matched to exactly one asset, and what is decided about them.
//!
//! | request | answers |
//! | --- | --- |
//! | `GET /api/v1/quarantine?site=CODE` | [`QuarantineRow`]s, last seen first |
//! | `POST /api/v1/quarantine/decide` with [`Decide`] | [`QuarantineRow`]s of those decided |
//! | `POST /api/v1/quarantine/{machine}/undo` | [`QuarantineRow`] |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reasons::{AsideReason, Evidence};

/// Machines that one request may decide about.
pub const DECIDED_MAX: usize = 1000;

/// Why a machine is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineReason {
    /// No asset has its names.
    Unknown,
    /// Two or more assets fit equally well.
    TwoRecords,
    /// Its names are those of a device that another key is bound to.
    SecondClaimant,
    /// Its key is bound to another device: a disk or a mainboard was moved.
    MovedKey,
}

impl QuarantineReason {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Unknown,
        Self::TwoRecords,
        Self::SecondClaimant,
        Self::MovedKey,
    ];

    /// The word that stands for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::TwoRecords => "two-records",
            Self::SecondClaimant => "second-claimant",
            Self::MovedKey => "moved-key",
        }
    }
}

/// What is to happen when a machine asks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "what",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Decision {
    /// It is this asset, which no key is bound to yet.
    IsAsset {
        /// Device id or serial number; absent: the best candidate, if there is exactly one.
        #[serde(default)]
        asset: Option<String>,
    },
    /// It is a machine that no file named.
    NewAsset {
        /// The code of its site; empty if unknown.
        #[serde(default)]
        site: String,
        /// Its class.
        #[serde(default)]
        class: String,
    },
    /// It is this asset, whose disk or mainboard was replaced: the old key is forgotten.
    ReplaceKey {
        /// Device id or serial number; absent: the best candidate, if there is exactly one.
        #[serde(default)]
        asset: Option<String>,
    },
    /// It stays out.
    Reject {
        /// Why.
        #[serde(default)]
        reason: String,
    },
}

/// Decides about machines: all of them or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Decide {
    /// The machines, by [`QuarantineRow::machine`]; at most [`DECIDED_MAX`].
    pub machines: Vec<String>,
    /// What is to happen.
    pub decision: Decision,
}

/// An asset that a machine may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// The device.
    pub device: String,
    /// Its serial number.
    pub serial: String,
    /// Its asset tag.
    pub asset_tag: String,
    /// Its site.
    pub site: String,
    /// How well it fits: 3 or more would have sufficed.
    pub score: u32,
    /// On what evidence.
    pub evidence: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<Evidence>,
    /// Whether a key is bound to it already.
    pub is_bound: bool,
}

/// A decision that waits for the machine to ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Pending {
    /// What was decided.
    pub decision: Decision,
    /// The device it is about, if any.
    #[serde(default)]
    pub device: Option<String>,
    /// Who decided.
    pub by: String,
    /// When.
    pub at_ms: i64,
}

/// A machine in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct QuarantineRow {
    /// What it is called as long as it is nobody.
    pub machine: String,
    /// The first digits of its key.
    pub key: String,
    /// Why it is here.
    pub reason: QuarantineReason,
    /// The same in words.
    pub message: String,
    /// These words with their code and what they are about.
    #[serde(default)]
    pub said: Option<AsideReason>,
    /// What was looked at.
    pub evidence: Vec<String>,
    /// The same with codes and what they are about.
    #[serde(default)]
    pub evidence_said: Vec<Evidence>,
    /// What it says of itself.
    pub vendor: String,
    /// Its product name.
    pub product: String,
    /// Its serial number, as it says.
    pub serial: String,
    /// Its asset tag, as it says.
    pub asset_tag: String,
    /// Its UUID, as it says.
    pub uuid: String,
    /// MAC addresses: hints, no more.
    pub macs: Vec<String>,
    /// When it first asked.
    pub first_seen_at_ms: i64,
    /// When it last asked.
    pub last_seen_at_ms: i64,
    /// The address that it last asked from; empty if that wasn't noted.
    #[serde(default)]
    pub address: String,
    /// The code of the site that has this address; empty if none has.
    #[serde(default)]
    pub seen_site: String,
    /// Assets it may be, the likeliest first.
    pub candidates: Vec<Candidate>,
    /// What was decided about it.
    #[serde(default)]
    pub decision: Option<Pending>,
}
