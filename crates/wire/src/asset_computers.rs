//! The asset system's table: see `docs/formats/asset-computers.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows of a page; the largest fleets fit in a few.
pub const COMPUTERS_PAGE_MAX: u32 = 5000;
/// Rows of a page, if the caller doesn't say.
pub const COMPUTERS_PAGE: u32 = 1000;

/// One computer. What isn't known is null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct AssetComputer {
    /// The key of the row; never changes, is never used again.
    pub device_id: String,
    /// The serial number.
    pub serial: String,
    /// The asset tag.
    pub asset_tag: Option<String>,
    /// The SMBIOS UUID.
    pub uuid: Option<String>,
    /// The vendor.
    pub vendor: Option<String>,
    /// The product.
    pub product: Option<String>,
    /// The SKU.
    pub sku: Option<String>,
    /// The host name that its latest run told.
    pub host_name: Option<String>,
    /// The code of its site.
    pub site_code: String,
    /// The name of its site.
    pub site_name: Option<String>,
    /// Its class.
    pub class: Option<String>,
    /// `imported`, `staged`, `checked-in`, `running`, `completed`, `failed`, `stopped` or `stalled`.
    pub state: String,
    /// Who has it: the number in the school's own system.
    pub pupil_id: Option<String>,
    /// Who has it: the name.
    pub pupil_name: Option<String>,
    /// When the receipt came that says it was staged.
    pub staged_at: Option<String>,
    /// The same in milliseconds since 1970.
    pub staged_at_ms: Option<i64>,
    /// Its last check-in.
    pub checked_in_at: Option<String>,
    /// The same in milliseconds since 1970.
    pub checked_in_at_ms: Option<i64>,
    /// The end of its last completed run.
    pub completed_at: Option<String>,
    /// The same in milliseconds since 1970.
    pub completed_at_ms: Option<i64>,
    /// The deployment of its latest run.
    pub deployment: Option<String>,
    /// The sequence of its latest run.
    pub sequence: Option<String>,
    /// The prestage that was staged on it.
    pub prestage: Option<String>,
    /// Its version.
    pub prestage_version: Option<i64>,
    /// MAC addresses, with a space between two.
    pub macs: Option<String>,
    /// When it was last heard of.
    pub last_seen_at: Option<String>,
    /// The same in milliseconds since 1970.
    pub last_seen_at_ms: Option<i64>,
    /// When it was first imported.
    pub imported_at: Option<String>,
    /// The same in milliseconds since 1970.
    pub imported_at_ms: Option<i64>,
    /// `in-use`, `retired` or `stolen`.
    pub asset_state: String,
    /// Since when it is retired or stolen, or back in use.
    pub asset_state_since: Option<String>,
    /// The same in milliseconds since 1970.
    pub asset_state_since_ms: Option<i64>,
    /// The name that was assigned to it.
    pub assigned_name: Option<String>,
}

/// A page of them, in the order of their device ids. `GET /api/v1/asset-computers`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct AssetComputerPage {
    /// The computers.
    pub computers: Vec<AssetComputer>,
    /// What to ask for as `after` to get the next page; null on the last one.
    pub next: Option<String>,
}
