//! What is baked into a boot image: whom the device trusts. No secret is ever in here.

use serde::{Deserialize, Serialize};

use crate::keys::PublicKey;

/// Where this file lies inside the boot image and inside an installed OS that resumes a run.
pub const TRUST_PATH: &str = "/etc/forestage/trust.json";

/// Whom a device trusts and where it calls home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Trust {
    /// 1.
    pub format: u32,
    /// Base URLs of the server, tried in order, such as `https://forestage.example:8443`.
    pub server_urls: Vec<String>,
    /// The only certificate authority the device accepts (PEM, RFC 7468).
    pub ca_pem: String,
    /// Ed25519 public keys (RFC 8032) that sign bundles, 64 hexadecimal digits each.
    pub bundle_keys: Vec<String>,
    /// Ed25519 public keys of which one must have signed a warrant before a deployed disk is written over; none: an order
    /// of the server suffices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wipe_keys: Vec<PublicKey>,
}

/// The kernel command line parameter that says what a boot image is for.
pub const MODE_PARAMETER: &str = "forestage.mode";

/// What a boot image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootMode {
    /// Stage this machine from the boot medium, without network.
    Stage,
    /// Check in and run what the server orders.
    Deploy,
}

impl BootMode {
    /// The value on the kernel command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Deploy => "deploy",
        }
    }

    /// Finds the mode on a kernel command line.
    #[must_use]
    pub fn from_command_line(command_line: &str) -> Option<Self> {
        command_line.split_ascii_whitespace().find_map(|word| {
            match word.strip_prefix(MODE_PARAMETER)?.strip_prefix('=')? {
                "stage" => Some(Self::Stage),
                "deploy" => Some(Self::Deploy),
                _ => None,
            }
        })
    }
}

/// The index of kernel modules in a boot image, at `/lib/modules/forestage.json`: names to files and dependencies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ModuleIndex {
    /// Modules to load at once, in this order (softdeps that nothing names by alias, such as `crc32c_generic`).
    pub always: Vec<String>,
    /// Alias patterns (`*`, `?` and `[a-z]`, as in `modinfo -F alias`) and the module each belongs to.
    pub aliases: Vec<(String, String)>,
    /// By module name: its file and the modules to load before it.
    pub modules: std::collections::BTreeMap<String, ModuleEntry>,
}

/// One kernel module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ModuleEntry {
    /// The absolute path in the boot image.
    pub file: String,
    /// Names of modules it needs, directly.
    pub needs: Vec<String>,
}
