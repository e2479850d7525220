//! The receipt: what the factory did to one machine. Receipts are claims, not proofs.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Digest;
use crate::names::{DeviceId, PrestageName};

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
    /// What the firmware's Secure Boot makes of the boot image; `None` if the firmware has none, if staging didn't come that
    /// far, and from agents that didn't look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<ReceiptSecureBoot>,
    /// The version of the agent.
    pub agent: String,
}

/// What firmware makes of a boot image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReceiptSecureBoot {
    /// Whether it looks at signatures.
    pub state: SecureBootState,
    /// What it would not start if it looked, each with the reason. Empty if all would start, or it has no keys.
    #[serde(default)]
    pub refuses: Vec<String>,
}

/// Whether firmware starts only what is signed by those it trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SecureBootState {
    /// It does.
    Enforced,
    /// It has keys, and doesn't look at them.
    Off,
    /// It has no keys: whoever comes first may enrol some.
    SetupMode,
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

/// `POST /api/v1/receipts/import`: many receipts at once, as the files that lie on a boot medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImportReceipts {
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// The files.
    pub files: Vec<ReceiptText>,
}

/// A file that should hold a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReceiptText {
    /// Its name, by which the answer speaks of it.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// What became of each of them. One that can't be read doesn't hold up the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ReceiptImport {
    /// Whether this is what would happen.
    pub dry_run: bool,
    /// Receipts that were not known.
    pub new: u32,
    /// Receipts that the server has already; nothing changes.
    pub known: u32,
    /// Files that hold no receipt.
    pub refused: u32,
    /// One row per file, in the order in which they were sent.
    pub rows: Vec<ImportedReceipt>,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImportedReceipt {
    /// The file's name.
    pub file: String,
    /// What became of it.
    pub result: ReceiptImportResult,
    /// The receipt, if it holds one.
    #[serde(default)]
    pub receipt: Option<Receipt>,
    /// The device it belongs to, if its serial number is known and the caller may know.
    #[serde(default)]
    pub device: Option<DeviceId>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptImportResult {
    /// It is stored.
    New,
    /// It was stored before.
    Known,
    /// It holds no receipt.
    Refused,
}
