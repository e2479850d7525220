//! Variables that an administrator sets for some devices: part of the admin API. See `docs/formats/admin-api.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::{DeploymentName, DeviceId, SequenceName};

/// Variables of one scope name; more are a document, not settings.
pub const VARIABLES_MAX: usize = 200;
/// The JSON text of one value: enough for a list of a hundred names.
pub const VALUE_BYTES_MAX: usize = 4 << 10;

/// Whom a variable is for. In this order: of two values for one device, that of the later scope wins.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum VariableScope {
    /// The devices that run a deployment for this collection.
    Collection,
    /// The devices of this model, `VENDOR/PRODUCT`; letter case and white space around them are ignored.
    Model,
    /// The devices at the site with this code.
    Site,
    /// The devices of this class.
    Class,
    /// The device with this serial number.
    Device,
}

impl VariableScope {
    /// All of them, in the order of precedence.
    pub const ALL: [Self; 5] = [
        Self::Collection,
        Self::Model,
        Self::Site,
        Self::Class,
        Self::Device,
    ];
}

impl std::fmt::Display for VariableScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Collection => "collection",
            Self::Model => "model",
            Self::Site => "site",
            Self::Class => "class",
            Self::Device => "device",
        })
    }
}

impl std::str::FromStr for VariableScope {
    type Err = crate::names::InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.to_string() == text)
            .ok_or_else(|| crate::names::InvalidText {
                what: "scope of a variable",
                text: text.to_owned(),
                rule: "one of collection, model, site, class, device",
            })
    }
}

/// The model as a scope names it: `VENDOR/PRODUCT` in small letters, no white space around either.
#[must_use]
pub fn model_name(vendor: &str, product: &str) -> String {
    format!("{}/{}", vendor.trim(), product.trim()).to_lowercase()
}

/// `GET /api/v1/variables`: one variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct VariableRow {
    /// Whom it is for.
    pub scope: VariableScope,
    /// Which collection, model, site, class or device.
    pub name: String,
    /// The variable.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// When it was set.
    pub updated_at_ms: i64,
}

/// `POST /api/v1/variables`: sets and removes variables of one scope name, all of them or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct VariableChange {
    /// Whom they are for.
    pub scope: VariableScope,
    /// Which collection, model, site, class or device.
    pub name: String,
    /// Variables to set.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// Variables to remove; one that isn't set is no error.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// The answer to a [`VariableChange`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ScopeVariables {
    /// Whom they are for.
    pub scope: VariableScope,
    /// The name as it is compared: a model's in small letters, a serial number's in capital ones.
    pub name: String,
    /// How many devices it fits today; 0 may be a typing error.
    pub devices: u32,
    /// All variables it has now.
    pub variables: Vec<VariableRow>,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    tag = "from",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum VariableOrigin {
    /// The sequence's document gives it.
    Sequence {
        /// The sequence.
        name: SequenceName,
    },
    /// An administrator set it.
    Scope {
        /// For whom.
        scope: VariableScope,
        /// Which collection, model, site, class or device.
        name: String,
    },
    /// The server knows it of the device; nothing overrides it.
    Asset,
    /// Somewhere a later release knows of.
    #[serde(other)]
    Unknown,
}

impl std::fmt::Display for VariableOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sequence { name } => write!(f, "sequence {name}"),
            Self::Scope { scope, name } => write!(f, "{scope} {name}"),
            Self::Asset => f.write_str("the asset"),
            Self::Unknown => f.write_str("elsewhere"),
        }
    }
}

/// A variable as a run would see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct EffectiveVariable {
    /// The variable.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Where the value comes from.
    pub origin: VariableOrigin,
}

/// `GET /api/v1/devices/{id}/variables`: what a run on this device would see, were it ordered now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DeviceVariables {
    /// The device.
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// The deployment that is due; its sequence and its collection are counted in.
    #[serde(default)]
    pub deployment: Option<DeploymentName>,
    /// All variables, by name.
    pub variables: Vec<EffectiveVariable>,
}
