//! One asset: what is known of it, correcting it, and what became of it. Part of the admin API.
//!
//! | request | answers |
//! | --- | --- |
//! | `GET /api/v1/devices/{id}/asset` | [`AssetDetail`] |
//! | `POST /api/v1/devices/{id}/asset` with [`AssetChange`] | [`AssetDetail`] |
//! | `POST /api/v1/devices/{id}/retire` with [`AssetReason`] | [`AssetDetail`] |
//! | `POST /api/v1/devices/{id}/report-stolen` with [`AssetReason`] | [`AssetDetail`] |
//! | `POST /api/v1/devices/{id}/restore` with [`AssetReason`] | [`AssetDetail`] |

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin_api::DeviceRow;
use crate::package::Model;
use crate::reasons::Evidence;

/// Characters of the reason why an asset is retired, stolen or back.
pub const REASON_CHARS_MAX: usize = 200;

/// What became of an asset.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AssetState {
    /// It is ours, and used.
    #[default]
    InUse,
    /// It is worn out, sold or given away.
    Retired,
    /// It was stolen, or lost.
    Stolen,
}

impl AssetState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::InUse, Self::Retired, Self::Stolen];

    /// The word that stands for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::InUse => "in-use",
            Self::Retired => "retired",
            Self::Stolen => "stolen",
        }
    }

    /// The state that this word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// An asset that is out of use: it gets no order and is in no collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OutOfUse {
    /// `retired` or `stolen`.
    pub state: AssetState,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub at_ms: i64,
}

/// Corrects an asset. What isn't named stays; an empty text empties it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AssetChange {
    /// The code of a site that is there; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The asset tag; no other asset may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset_tag: Option<String>,
    /// The name that its next run gives it; no other machine may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Why an asset is retired, reported stolen or taken back into use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AssetReason {
    /// One line.
    #[serde(default)]
    pub reason: String,
}

/// What a machine said of itself when it last checked in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AssetSeen {
    /// When.
    pub at_ms: i64,
    /// From which address.
    pub address: String,
    /// Its serial number.
    pub serial: String,
    /// Its asset tag.
    pub asset_tag: String,
    /// Its SMBIOS UUID.
    pub uuid: String,
    /// Its model.
    pub model: Model,
    /// The MAC addresses of its network interfaces.
    pub macs: Vec<String>,
    /// Why it was taken for this asset.
    pub evidence: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<Evidence>,
}

/// All that is known of an asset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AssetDetail {
    /// Its row in the overview.
    pub device: DeviceRow,
    /// When it was first imported.
    pub imported_at_ms: Option<i64>,
    /// Its SMBIOS UUID, as imported.
    pub uuid: String,
    /// Its model, as imported.
    pub model: Model,
    /// What else files said of it, such as `order-number` and `warranty-end`.
    pub fields: BTreeMap<String, String>,
    /// The first digits of the key that it is bound to.
    pub key: Option<String>,
    /// What it said of itself; none if it never checked in.
    pub seen: Option<AssetSeen>,
}

#[cfg(test)]
mod tests {
    use super::AssetState;

    #[test]
    fn words_are_those_of_the_api() {
        for state in AssetState::ALL {
            assert_eq!(serde_json::json!(state), state.word());
            assert_eq!(AssetState::of_word(state.word()), Some(state));
        }
        assert_eq!(AssetState::of_word("lost"), None);
    }
}
