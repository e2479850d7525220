//! Observing the machine: SMBIOS texts, disks, network interfaces, firmware. Everything here is a hint, never a proof.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use wire::facts::{Bus, Disk, DiskContent, Facts, Firmware, NetworkInterface};
use wire::layout::{MEDIUM_BOOT_PARTITION_NAME, MEDIUM_BUNDLE_PARTITION_NAME};

use crate::block::BlockFile;
use crate::guard;

/// SMBIOS texts are at most 64 characters by the standard, and longer in practice; this is generous.
const TEXT_CHARS_MAX: usize = 256;
/// Machines have a handful; a hub full of card readers still stays below.
const DISKS_MAX: usize = 64;
const INTERFACES_MAX: usize = 64;
/// The variable that says whether Secure Boot is enforced (UEFI 2.10, section 3.3).
const SECURE_BOOT: &str = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Where the kernel shows devices: `/sys`, `/dev` and `/proc`, or copies of them in tests.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
    pub(crate) proc: PathBuf,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            dev: "/dev".into(),
            proc: "/proc".into(),
        }
    }
}

/// A partition as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelPartition {
    /// The disk's name, such as `nvme0n1`.
    pub(crate) disk: String,
    /// The partition's own node, such as `/dev/nvme0n1p1`.
    pub(crate) node: PathBuf,
    /// The GPT name.
    pub(crate) name: String,
    /// Its number.
    pub(crate) number: u32,
    /// Its length in bytes.
    pub(crate) size_bytes: u64,
}

impl Kernel {
    fn text(&self, path: &str) -> String {
        read_text(&self.sys.join(path))
    }

    /// Serial number and UUID: what marks and receipts name a machine by.
    pub(crate) fn identity(&self) -> (String, Option<Uuid>) {
        let uuid = Uuid::parse_str(&self.text("class/dmi/id/product_uuid")).ok();
        (self.text("class/dmi/id/product_serial"), uuid)
    }

    /// Observes everything.
    pub(crate) fn facts(&self) -> Facts {
        let (serial, uuid) = self.identity();
        let dmi = |name: &str| self.text(&format!("class/dmi/id/{name}"));
        let is_uefi = self.sys.join("firmware/efi").exists();
        Facts {
            vendor: dmi("sys_vendor"),
            product: dmi("product_name"),
            sku: dmi("product_sku"),
            baseboard: dmi("board_name"),
            asset_tag: dmi("chassis_asset_tag"),
            memory_bytes: memory_bytes(
                &fs::read_to_string(self.proc.join("meminfo")).unwrap_or_default(),
            ),
            disks: self.disks(&serial, uuid),
            network: self.interfaces(),
            firmware: if is_uefi {
                Firmware::Uefi
            } else {
                Firmware::Bios
            },
            // Four bytes of attributes come before the value.
            secure_boot: fs::read(self.sys.join(SECURE_BOOT))
                .is_ok_and(|bytes| bytes.get(4) == Some(&1)),
            tpm: self.text("class/tpm/tpm0/tpm_version_major") == "2",
            serial,
            uuid,
        }
    }

    /// Names of all real disks, sorted.
    pub(crate) fn disk_names(&self) -> Vec<String> {
        const VIRTUAL: [&str; 8] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd"];
        let mut names = folder_names(&self.sys.join("block"));
        names.retain(|name| {
            !VIRTUAL.iter().any(|prefix| name.starts_with(prefix))
                && !name.contains("boot")
                && !name.contains("rpmb")
                && self.text(&format!("block/{name}/hidden")) != "1"
                && self.disk_bytes(name) > 0
        });
        names.sort();
        names.truncate(DISKS_MAX);
        names
    }

    fn disk_bytes(&self, name: &str) -> u64 {
        // The kernel counts in sectors of 512 bytes, whatever the disk's own are.
        self.text(&format!("block/{name}/size"))
            .parse::<u64>()
            .unwrap_or(0)
            .saturating_mul(512)
    }

    fn disks(&self, serial: &str, uuid: Option<Uuid>) -> Vec<Disk> {
        let names = self.disk_names();
        let partitions = self.partitions();
        names
            .into_iter()
            .map(|name| self.disk(&name, &partitions, serial, uuid))
            .collect()
    }

    fn disk(
        &self,
        name: &str,
        partitions: &[KernelPartition],
        serial: &str,
        uuid: Option<Uuid>,
    ) -> Disk {
        let link = fs::canonicalize(self.sys.join("block").join(name)).unwrap_or_default();
        let bus = bus_of(name, &link.to_string_lossy());
        let path = self.dev.join(name);
        let is_medium = partitions
            .iter()
            .any(|partition| partition.disk == name && is_medium_name(&partition.name));
        let content = if is_medium {
            DiskContent::BootMedium
        } else {
            // A disk that can't be read is nobody's to wipe.
            BlockFile::read_only(&path)
                .and_then(|disk| guard::inspect(&disk, serial, uuid))
                .unwrap_or(DiskContent::Foreign)
        };
        let first = |paths: [String; 2]| {
            paths
                .iter()
                .map(|path| self.text(path))
                .find(|text| !text.is_empty())
        };
        Disk {
            path: path.to_string_lossy().into_owned(),
            bus,
            model: self.text(&format!("block/{name}/device/model")),
            serial: first([
                format!("block/{name}/device/serial"),
                format!("block/{name}/serial"),
            ])
            .unwrap_or_default(),
            size_bytes: self.disk_bytes(name),
            removable: bus == Bus::Usb || self.text(&format!("block/{name}/removable")) == "1",
            content,
        }
    }

    /// All partitions of all real disks.
    pub(crate) fn partitions(&self) -> Vec<KernelPartition> {
        let mut found = Vec::new();
        for disk in self.disk_names() {
            let folder = self.sys.join("block").join(&disk);
            for part in folder_names(&folder)
                .into_iter()
                .filter(|name| folder.join(name).join("partition").exists())
            {
                let event =
                    fs::read_to_string(folder.join(&part).join("uevent")).unwrap_or_default();
                let value = |key: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(key))
                        .unwrap_or_default()
                };
                let sectors: u64 = read_text(&folder.join(&part).join("size"))
                    .parse()
                    .unwrap_or(0);
                found.push(KernelPartition {
                    disk: disk.clone(),
                    node: self.dev.join(&part),
                    name: value("PARTNAME=").to_owned(),
                    number: read_text(&folder.join(&part).join("partition"))
                        .parse()
                        .unwrap_or(0),
                    size_bytes: sectors.saturating_mul(512),
                });
            }
        }
        found
    }

    /// Names of physical network interfaces: those with a device behind them.
    pub(crate) fn interface_names(&self) -> Vec<String> {
        let mut names = folder_names(&self.sys.join("class/net"));
        names.retain(|name| {
            self.sys
                .join("class/net")
                .join(name)
                .join("device")
                .exists()
        });
        names.sort();
        names.truncate(INTERFACES_MAX);
        names
    }

    fn interfaces(&self) -> Vec<NetworkInterface> {
        let names = self.interface_names().into_iter();
        names
            .map(|name| NetworkInterface {
                mac: self
                    .text(&format!("class/net/{name}/address"))
                    .to_lowercase(),
                name,
            })
            .collect()
    }

    /// Whether an interface has a link.
    pub(crate) fn has_carrier(&self, interface: &str) -> bool {
        self.text(&format!("class/net/{interface}/carrier")) == "1"
    }

    /// Bytes received and sent by all physical interfaces since power-on.
    pub(crate) fn interface_bytes(&self) -> u64 {
        let count = |name: &str, counter: &str| {
            self.text(&format!("class/net/{name}/statistics/{counter}"))
                .parse::<u64>()
                .unwrap_or(0)
        };
        self.interface_names()
            .iter()
            .map(|name| count(name, "rx_bytes").saturating_add(count(name, "tx_bytes")))
            .sum()
    }

    /// The logical sector size of a disk.
    pub(crate) fn sector_bytes(&self, disk: &str) -> u64 {
        self.text(&format!("block/{disk}/queue/logical_block_size"))
            .parse()
            .unwrap_or(512)
    }
}

fn is_medium_name(name: &str) -> bool {
    [MEDIUM_BOOT_PARTITION_NAME, MEDIUM_BUNDLE_PARTITION_NAME].contains(&name)
}

fn bus_of(name: &str, link: &str) -> Bus {
    if link.contains("/usb") {
        Bus::Usb
    } else if name.starts_with("nvme") {
        Bus::Nvme
    } else if name.starts_with("mmcblk") {
        Bus::Mmc
    } else if link.contains("/virtio") || name.starts_with("vd") {
        Bus::Virtio
    } else if name.starts_with("sd") {
        Bus::Ata
    } else {
        Bus::Other
    }
}

fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .unwrap_or(0)
        .saturating_mul(1024)
}

fn read_text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.trim()
        .chars()
        .filter(|char| !char.is_control())
        .take(TEXT_CHARS_MAX)
        .collect()
}

fn folder_names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_machine_is_read_from_the_kernels_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let kernel = Kernel {
            sys: root.join("sys"),
            dev: root.join("dev"),
            proc: root.join("proc"),
        };
        put(root, "sys/class/dmi/id/sys_vendor", "Acme\u{7} Åse\n");
        put(root, "sys/class/dmi/id/product_serial", "PF3ABC\n");
        put(
            root,
            "sys/class/dmi/id/product_uuid",
            "00000000-0000-0000-0000-000000000001\n",
        );
        put(root, "sys/block/nvme0n1/size", "16384\n");
        put(root, "sys/block/nvme0n1/nvme0n1p1/partition", "1\n");
        put(root, "sys/block/nvme0n1/nvme0n1p1/size", "2048\n");
        put(
            root,
            "sys/block/nvme0n1/nvme0n1p1/uevent",
            "DEVTYPE=partition\nPARTN=1\nPARTNAME=forestage-esp\n",
        );
        put(root, "sys/block/loop0/size", "8\n");
        put(root, "sys/block/sda/size", "16384\n");
        put(root, "sys/block/sda/removable", "1\n");
        put(root, "sys/block/sda/sda2/partition", "2\n");
        put(
            root,
            "sys/block/sda/sda2/uevent",
            "PARTNAME=forestage-bundle\n",
        );
        put(root, "sys/class/net/enp0s2/device/x", "");
        put(root, "sys/class/net/enp0s2/address", "52:54:00:AB:00:01\n");
        put(root, "sys/class/net/enp0s2/statistics/rx_bytes", "100\n");
        put(root, "sys/class/net/enp0s2/statistics/tx_bytes", "11\n");
        put(root, "sys/class/net/lo/address", "00:00:00:00:00:00\n");
        put(
            root,
            "proc/meminfo",
            "MemTotal:        2048 kB\nMemFree: 1 kB\n",
        );
        put(root, "dev/nvme0n1", "");
        fs::File::options()
            .write(true)
            .open(root.join("dev/nvme0n1"))
            .unwrap()
            .set_len(8 << 20)
            .unwrap();
        let facts = kernel.facts();
        assert_eq!(
            (facts.vendor.as_str(), facts.serial.as_str()),
            ("Acme Åse", "PF3ABC")
        );
        assert_eq!(facts.uuid, Some(Uuid::from_u128(1)));
        assert_eq!(facts.memory_bytes, 2 << 20);
        assert_eq!(facts.disks.len(), 2);
        assert_eq!(
            (facts.disks[0].bus, facts.disks[0].content),
            (Bus::Nvme, DiskContent::Blank)
        );
        assert_eq!(
            (facts.disks[1].removable, facts.disks[1].content),
            (true, DiskContent::BootMedium)
        );
        assert_eq!(
            facts.network,
            [NetworkInterface {
                name: "enp0s2".into(),
                mac: "52:54:00:ab:00:01".into()
            }]
        );
        assert_eq!(kernel.interface_bytes(), 111);
        assert_eq!(kernel.partitions()[0].size_bytes, 1 << 20);
        fs::remove_file(root.join("dev/nvme0n1")).unwrap();
        assert_eq!(
            kernel.facts().disks[0].content,
            DiskContent::Foreign,
            "what can't be read is never wiped"
        );
    }
}
