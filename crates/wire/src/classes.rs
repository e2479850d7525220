//! Classes and their software, models, and names for machines. Part of the admin API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{CollectionName, DeviceId, PackageName};
use crate::reasons::{MissingReason, NameReason};

/// Packages of one class: a timetable's worth.
pub const SOFTWARE_MAX: usize = 100;
/// Names of models that are kept: each vendor has a handful for each model.
pub const ALIASES_MAX: usize = 5000;
/// Devices that are named at once: four times the largest fleet.
pub const NAMED_MAX: usize = 10_000;
/// A template for names is one line.
pub const TEMPLATE_CHARS_MAX: usize = 500;
/// What Windows and NetBIOS allow.
pub const NETBIOS_CHARS_MAX: usize = 15;

/// `PUT /api/v1/classes/{site}/{name}`: makes a class, or changes what is said of it; the rest stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ClassChange {
    /// The school year, such as `2026/27`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub school_year: Option<String>,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who teaches it, as free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// All packages that it needs, in order; sequences see them as `class_software`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<Vec<PackageName>>,
}

/// What is known of a class.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct Class {
    /// The school year, such as `2026/27`.
    pub school_year: String,
    /// One line for people.
    pub title: String,
    /// Who teaches it, as free text.
    pub teacher: String,
    /// Packages that it needs, in order; sequences see them as `class_software`.
    pub software: Vec<PackageName>,
}

/// `GET /api/v1/classes`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ClassRow {
    /// The site's code.
    pub site: String,
    /// Its name, as asset files have it.
    pub name: String,
    /// What is known of it.
    pub class: Class,
    /// Whether someone made it; otherwise only assets name it.
    pub is_made: bool,
    /// Devices of it.
    pub devices: u32,
    /// Software that isn't published.
    pub missing: Vec<String>,
}

/// A name that a vendor uses for a model. `GET /api/v1/model-aliases`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ModelAlias {
    /// The vendor's name; letter case and the number of blanks make no difference.
    pub alias: String,
    /// SMBIOS manufacturer of the model that it stands for.
    pub vendor: String,
    /// SMBIOS product name of that model.
    pub product: String,
    /// Who said so.
    pub set_by: String,
    /// When.
    pub set_at_ms: i64,
}

/// `PUT /api/v1/model-aliases/{name}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct AliasChange {
    /// SMBIOS product name of the model, as its machines say it.
    pub product: String,
    /// SMBIOS manufacturer; left out: that of the known model with this product name.
    pub vendor: String,
}

/// `GET /api/v1/models`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ModelRow {
    /// SMBIOS manufacturer.
    pub vendor: String,
    /// SMBIOS product name.
    pub product: String,
    /// SMBIOS SKU number.
    pub sku: String,
    /// SMBIOS baseboard product.
    pub baseboard: String,
    /// Devices of it.
    pub devices: u32,
    /// Driver packages that match it.
    pub drivers: Vec<String>,
    /// Prestages for it.
    pub prestages: Vec<String>,
    /// How long completed runs took on it, in seconds: the median.
    pub median_seconds: Option<u64>,
    /// What is missing.
    pub warnings: Vec<String>,
    /// The same, each with its code and what it is about.
    #[serde(default)]
    pub said: Vec<MissingReason>,
}

/// `POST /api/v1/device-names`: names for devices from a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct NameRequest {
    /// Such as `{{ site.code }}-{{ class.name }}-{{ serial | last(6) }}` or `{{ site.code }}-{{ number(3) }}`.
    pub template: String,
    /// The members of this collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionName>,
    /// Besides or instead, these devices.
    #[schemars(with = "Vec<String>")]
    pub devices: Vec<DeviceId>,
    /// Longer names than the 15 characters that Windows allows.
    pub long_names: bool,
    /// Devices that have a name get a new one.
    pub rename: bool,
    /// Store the names; otherwise they are only shown.
    pub apply: bool,
}

/// The answer to [`NameRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct NamePlan {
    /// One for each device, in order of site and serial number.
    pub rows: Vec<NameRow>,
    /// Devices that get a name.
    pub named: u32,
    /// Devices that keep theirs.
    pub kept: u32,
    /// Devices that can't be named so. If there is one, nothing is stored.
    pub problems: u32,
    /// Whether the names were stored.
    pub applied: bool,
}

/// A device in a [`NamePlan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct NameRow {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Its site's code.
    pub site: String,
    /// The name it has.
    #[serde(default)]
    pub current: String,
    /// The name it gets.
    #[serde(default)]
    pub name: String,
    /// Why it can't get that.
    #[serde(default)]
    pub problem: Option<String>,
    /// The same as a sentence with a code.
    #[serde(default)]
    pub said: Option<NameReason>,
}
