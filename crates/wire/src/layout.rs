//! The layout of a staged disk: what the volumes are called, wherever they are looked for.

use serde::{Deserialize, Serialize};

/// What a volume is for. The GPT partition name is `forestage-<role>`; a device finds its volumes by it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeRole {
    /// The EFI system partition (FAT32).
    Esp,
    /// The OS volume; its filesystem comes with the OS image.
    Os,
    /// The staging partition (ext4): content library, journal, logs.
    Staging,
}

impl VolumeRole {
    /// The GPT partition name.
    #[must_use]
    pub const fn partition_name(self) -> &'static str {
        match self {
            Self::Esp => "forestage-esp",
            Self::Os => "forestage-os",
            Self::Staging => "forestage-staging",
        }
    }

    /// The GPT partition type as text (UEFI 2.10, table 5.7; Discoverable Partitions Specification for the root).
    #[must_use]
    pub const fn partition_type(self) -> &'static str {
        match self {
            Self::Esp => "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
            Self::Os => "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
            Self::Staging => "8a5b4f0e-3f0a-4c6e-9f2d-666f72657374",
        }
    }
}

impl std::fmt::Display for VolumeRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Esp => "esp",
            Self::Os => "os",
            Self::Staging => "staging",
        })
    }
}

/// The GPT partition name of the bundle on a boot medium. The bundle's bytes start at the first byte of the partition.
pub const MEDIUM_BUNDLE_PARTITION_NAME: &str = "forestage-bundle";
/// The GPT partition type of the bundle on a boot medium.
pub const MEDIUM_BUNDLE_PARTITION_TYPE: &str = "8a5b4f0e-3f0a-4c6e-9f2d-62756e646c65";
/// The GPT partition name of the FAT volume on a boot medium: boot image and receipts.
pub const MEDIUM_BOOT_PARTITION_NAME: &str = "forestage-medium";
/// The folder for receipts on that volume.
pub const MEDIUM_RECEIPTS_FOLDER: &str = "receipts";
