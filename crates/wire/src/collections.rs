//! Rules of collections, and who is in them and why. Part of the admin API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{CollectionName, DeviceId};
use crate::reasons::MemberReason;

/// A rule is one line that a person reads.
pub const RULE_CHARS_MAX: usize = 1000;
/// Collections that limit each other in a chain.
pub const LIMITS_DEEP_MAX: usize = 8;
/// Devices in one change: four times the largest fleet.
pub const DEVICES_MAX: usize = 10_000;

/// The rule of a collection; both may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct CollectionRule {
    /// An expression over a device, such as `site.code == 'BJO' and class is startingwith('1')`. Empty for none.
    pub rule: String,
    /// No device that isn't in this collection is in. Empty for none.
    pub limit_to: String,
}

/// `PUT /api/v1/collections/{name}/rule`: what is left out stays as it is, and an empty text takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct RuleChange {
    /// An expression over a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The limiting collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_to: Option<String>,
}

/// Why a device is in a collection, or isn't.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum MemberWhy {
    /// In: someone put it in.
    Direct,
    /// In: the rule says so.
    Rule,
    /// Out: someone (or a deployment that is done) keeps it out.
    Excluded,
    /// Out: it is retired or stolen.
    OutOfUse,
    /// Out: it isn't in the limiting collection.
    Limited,
    /// Out: the rule needs a value that the device doesn't have.
    Undecided,
    /// Out: nothing says that it is in.
    NoMatch,
}

/// A device as a collection sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Membership {
    /// The device.
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Its serial number.
    pub serial: String,
    /// Its site's code.
    pub site: String,
    /// Its class.
    pub class: String,
    /// Its model.
    pub model: String,
    /// Whether it is in.
    pub is_in: bool,
    /// Why.
    pub why: MemberWhy,
    /// Why, in words.
    pub reason: String,
    /// The same with its code and what it is about.
    #[serde(default)]
    pub said: Option<MemberReason>,
}

/// `GET /api/v1/collections/{name}/preview?rule=…&limit-to=…`: who is in and why. Without parameters as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CollectionPreview {
    /// The collection.
    pub name: CollectionName,
    /// What was asked about.
    pub rule: CollectionRule,
    /// How many are in.
    pub members: u32,
    /// How many of those the rule brings in.
    pub by_rule: u32,
    /// How many are kept out by hand or by a deployment.
    pub excluded: u32,
    /// How many the limiting collection keeps out.
    pub limited: u32,
    /// How many the rule can't decide.
    pub undecided: u32,
    /// Members, and those that something keeps out; not the rest of the fleet. Cut to what was asked for.
    pub devices: Vec<Membership>,
}

/// `POST /api/v1/collections/{name}/excluded`: keeps devices out, or lifts that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct ExclusionChange {
    /// Devices to keep out.
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<DeviceId>,
    /// Devices that may be in again.
    #[schemars(with = "Vec<String>")]
    pub include: Vec<DeviceId>,
    /// Why, for `exclude`.
    pub reason: String,
}
