//! Facts: what was observed on a device. Strings come from firmware, so they are hints and never proofs.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How much of each text a server keeps, in characters, and of which letters: see [`clean`](crate::plain::clean).
pub const TEXT_CHARS_MAX: usize = 128;

/// Everything observed on a device at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct Facts {
    /// SMBIOS type 1 manufacturer.
    pub vendor: String,
    /// SMBIOS type 1 product name.
    pub product: String,
    /// SMBIOS type 1 SKU number.
    pub sku: String,
    /// SMBIOS type 2 product.
    pub baseboard: String,
    /// SMBIOS type 1 serial number.
    pub serial: String,
    /// SMBIOS type 3 asset tag.
    pub asset_tag: String,
    /// SMBIOS type 1 UUID.
    pub uuid: Option<Uuid>,
    /// Installed memory in bytes.
    pub memory_bytes: u64,
    /// All disks, the boot medium included.
    pub disks: Vec<Disk>,
    /// All physical network interfaces.
    pub network: Vec<NetworkInterface>,
    /// How the machine was started.
    pub firmware: Firmware,
    /// Whether Secure Boot is enforced.
    pub secure_boot: bool,
    /// Whether a TPM 2.0 is present.
    pub tpm: bool,
    /// What the machine runs on.
    pub power: Power,
    /// The machine's own clock, in seconds since 1970. Wrong in many a box; `None` if the machine doesn't say.
    pub clock: Option<i64>,
}

/// What a machine runs on. A desktop or a virtual machine shows neither, and so do facts of older agents.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case", default)]
pub struct Power {
    /// Whether it is on mains power; `None` if that can't be seen.
    pub mains: Option<bool>,
    /// How full its batteries are, all together; `None` if there is none.
    pub battery_percent: Option<u8>,
}

/// How the machine was started.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// UEFI.
    #[default]
    Uefi,
    /// A BIOS, or a kernel that was loaded directly.
    Bios,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// Where the kernel shows it, such as `/dev/nvme0n1`.
    pub path: String,
    /// The bus it hangs on.
    pub bus: Bus,
    /// Its model string.
    #[serde(default)]
    pub model: String,
    /// Its own serial number.
    #[serde(default)]
    pub serial: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Whether the kernel calls it removable, or it hangs on USB.
    #[serde(default)]
    pub removable: bool,
    /// What the wipe guard sees on it.
    pub content: DiskContent,
}

/// The bus of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// NVM Express.
    Nvme,
    /// SATA, SCSI or SAS.
    Ata,
    /// USB.
    Usb,
    /// virtio, in virtual machines.
    Virtio,
    /// eMMC or SD card.
    Mmc,
    /// Anything else.
    Other,
}

/// What the wipe guard sees on a disk. Only `Blank` and `StagedHere` may be wiped without an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskContent {
    /// The first and the last MiB hold only zeros.
    Blank,
    /// Carries our staging mark for this very device, and the device was never finished.
    StagedHere,
    /// Carries our mark for this device, which has been handed out since.
    DeployedHere,
    /// Carries our mark, for another device.
    StagedElsewhere,
    /// The medium this machine was started from.
    BootMedium,
    /// Something that is not ours.
    Foreign,
}

/// One physical network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct NetworkInterface {
    /// The kernel's name, such as `enp0s2`.
    pub name: String,
    /// The MAC address, small letters with colons.
    pub mac: String,
}

#[cfg(test)]
mod tests {
    use super::{Facts, Power};

    #[test]
    fn facts_of_an_older_agent_are_read() {
        let facts: Facts =
            serde_json::from_str(r#"{ "serial": "PF0ABC12", "tpm": true }"#).unwrap();
        assert_eq!((facts.power, facts.clock), (Power::default(), None));
        let facts: Facts = serde_json::from_str(
            r#"{ "power": { "battery-percent": 80, "since": 3 }, "clock": 1767225600 }"#,
        )
        .unwrap();
        assert_eq!(facts.power.battery_percent, Some(80));
        assert_eq!(
            (facts.power.mains, facts.clock),
            (None, Some(1_767_225_600))
        );
    }
}
