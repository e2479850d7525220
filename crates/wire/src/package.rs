//! Packages: versioned, immutable content with a kind.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::{PackageName, PackageVersion};

/// One version of a package, as published. The content itself is named by `manifest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Package {
    /// The name; unique together with the version.
    pub name: PackageName,
    /// The version.
    pub version: PackageVersion,
    /// What it is for.
    pub kind: PackageKind,
    /// One line for people.
    #[serde(default)]
    pub title: String,
    /// The digest of the manifest's bytes.
    pub manifest: Digest,
    /// The length of the manifest in bytes.
    pub manifest_bytes: u64,
    /// The bytes of content it describes, without holes, before compression.
    pub content_bytes: u64,
    /// For `driver`: the models it is for. Empty means none.
    #[serde(default)]
    pub models: Vec<ModelRule>,
    /// For `application`: how it is installed.
    #[serde(default)]
    pub install: Option<Install>,
    /// For `os-image`: the smallest volume that holds it, in bytes.
    #[serde(default)]
    pub volume_bytes_min: u64,
}

/// What a package is for.
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
pub enum PackageKind {
    /// A filesystem image that becomes the OS volume.
    OsImage,
    /// A tree with `stage.efi`, `deploy.efi` (unified kernel images) and `loader.efi` (the boot manager).
    BootImage,
    /// Something to install into the OS.
    Application,
    /// A tree laid over the OS for some models only.
    Driver,
    /// A tree laid over the OS.
    Files,
}

impl std::fmt::Display for PackageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OsImage => "os-image",
            Self::BootImage => "boot-image",
            Self::Application => "application",
            Self::Driver => "driver",
            Self::Files => "files",
        })
    }
}

/// Matches hardware models. Absent fields match everything; the texts are compared whole, letter case ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelRule {
    /// SMBIOS manufacturer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// SMBIOS product name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// SMBIOS SKU number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// SMBIOS baseboard product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseboard: Option<String>,
}

/// A hardware model: what is known of a machine before it is in anyone's hands.
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case", default)]
pub struct Model {
    /// SMBIOS manufacturer.
    pub vendor: String,
    /// SMBIOS product name.
    pub product: String,
    /// SMBIOS SKU number; empty if unknown.
    pub sku: String,
    /// SMBIOS baseboard product; empty if unknown.
    pub baseboard: String,
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.vendor, self.product)?;
        if !self.sku.is_empty() {
            write!(f, " ({})", self.sku)?;
        }
        Ok(())
    }
}

impl ModelRule {
    /// Whether this rule matches `model`. A rule without any field matches nothing: a driver for every model is a
    /// mistake more often than a wish.
    #[must_use]
    pub fn matches(&self, model: &Model) -> bool {
        let pairs = [
            (&self.vendor, &model.vendor),
            (&self.product, &model.product),
            (&self.sku, &model.sku),
            (&self.baseboard, &model.baseboard),
        ];
        pairs.iter().any(|(rule, _)| rule.is_some())
            && pairs.iter().all(|(rule, value)| match rule {
                Some(rule) => rule.trim().to_lowercase() == value.trim().to_lowercase(),
                None => true,
            })
    }
}

/// How an application is installed, and how one sees that it already is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Install {
    /// Program and arguments, run in the target OS inside the folder that holds the content. Never through a shell.
    pub command: Vec<String>,
    /// Exit codes that mean success.
    #[serde(default = "Install::success_default")]
    pub success_exit_codes: Vec<i32>,
    /// Exit codes that mean success once the machine has restarted.
    #[serde(default)]
    pub restart_exit_codes: Vec<i32>,
    /// How one sees that exactly this version is installed.
    #[serde(default)]
    pub detect: Option<Detect>,
}

impl Install {
    fn success_default() -> Vec<i32> {
        vec![0]
    }
}

/// A detection rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Detect {
    /// Program and arguments, run in the target OS; installed if it exits with 0 and prints exactly `stdout`
    /// (surrounding white space ignored).
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// What it prints if this version is installed.
        stdout: String,
    },
    /// Installed if this file exists in the target OS.
    File {
        /// The absolute path.
        path: String,
    },
}

#[cfg(test)]
mod tests {
    use super::{Model, ModelRule};

    #[test]
    fn an_empty_rule_matches_nothing() {
        let model = Model {
            vendor: "Acme".into(),
            product: "Book 14".into(),
            ..Model::default()
        };
        assert!(!ModelRule::default().matches(&model));
        let rule = ModelRule {
            product: Some("book 14".into()),
            ..ModelRule::default()
        };
        assert!(rule.matches(&model));
        let rule = ModelRule {
            vendor: Some("Other".into()),
            ..rule
        };
        assert!(!rule.matches(&model));
    }
}
