//! The receipt: what the factory did to one machine. Receipts are claims, not proofs.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Digest;
use crate::names::PrestageName;

/// One receipt, a JSON file on the boot medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Receipt {
    /// 1.
    pub format: u32,
    /// SMBIOS serial number.
    pub serial: String,
    /// SMBIOS UUID.
    pub uuid: Option<Uuid>,
    /// SMBIOS manufacturer.
    pub vendor: String,
    /// SMBIOS product name.
    pub product: String,
    /// MAC addresses of all network interfaces.
    pub macs: Vec<String>,
    /// The disk that was staged, as the kernel names it; empty if none was chosen.
    pub disk: String,
    /// That disk's own serial number.
    pub disk_serial: String,
    /// That disk's size in bytes.
    pub disk_bytes: u64,
    /// The prestage.
    pub prestage: Option<PrestageName>,
    /// Its version.
    pub prestage_version: Option<u32>,
    /// The digest of the bundle's signed root.
    pub bundle: Option<Digest>,
    /// From power-on of the boot image's kernel to the end, in seconds.
    pub seconds: u64,
    /// How it ended.
    pub result: ReceiptResult,
    /// The error chain, outermost first, if it failed.
    #[serde(default)]
    pub errors: Vec<String>,
    /// The step that failed.
    #[serde(default)]
    pub failed_step: Option<String>,
    /// The version of the agent.
    pub agent: String,
}

/// How staging ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptResult {
    /// The disk is ready for school.
    Staged,
    /// It is not, and will not start.
    Failed,
}
