//! Finding a device by what stands on it or on its label. `GET /api/v1/find?text=TEXT`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Devices in one answer: who sees more types on.
pub const FOUND_MAX: usize = 12;

/// A device that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FoundDevice {
    /// Its serial number.
    pub serial: String,
    /// Its host name, once known.
    pub name: Option<String>,
    /// Its asset tag.
    pub asset_tag: String,
    /// The name of its site.
    pub site_name: String,
}
