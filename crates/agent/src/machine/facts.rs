//! Observing the machine: SMBIOS texts, disks, network interfaces, firmware. Everything here is a hint, never a proof.

use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use wire::facts::{Bus, Disk, DiskContent, Facts, Firmware, NetworkInterface, Power};
use wire::layout::{MEDIUM_BOOT_PARTITION_NAME, MEDIUM_BUNDLE_PARTITION_NAME};

use crate::block::BlockFile;
use crate::{clock, guard, secure_boot};

/// SMBIOS texts are at most 64 characters by the standard, and longer in practice; this is generous.
const TEXT_CHARS_MAX: usize = 256;
/// Machines have a handful; a hub full of card readers still stays below.
const DISKS_MAX: usize = 64;
const INTERFACES_MAX: usize = 64;
/// A laptop has two batteries at most, and a port per charger.
const SUPPLIES_MAX: usize = 64;

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
            secure_boot: secure_boot::is_enforced(self),
            tpm: self.text("class/tpm/tpm0/tpm_version_major") == "2",
            power: self.power(),
            clock: clock::unix_seconds(),
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

    /// Power supplies and batteries (Documentation/ABI/testing/sysfs-class-power of the kernel).
    fn power(&self) -> Power {
        let supplies = self.supplies();
        let of_type = |kinds: &[&str]| -> Vec<&Supply> {
            supplies
                .iter()
                .filter(|supply| kinds.contains(&supply.kind.as_str()))
                .collect()
        };
        let batteries = of_type(&["Battery"]);
        let online: Vec<bool> = of_type(&["Mains", "USB"])
            .iter()
            .filter_map(|supply| Some(supply.number("online")? > 0))
            .collect();
        let mains = if online.is_empty() {
            mains_by_batteries(&batteries)
        } else {
            Some(online.contains(&true))
        };
        Power {
            mains,
            battery_percent: battery_percent(&batteries),
        }
    }

    /// What feeds the machine itself: the batteries of mice and pens say that they belong to a device.
    fn supplies(&self) -> Vec<Supply> {
        let folder = self.sys.join("class/power_supply");
        let mut names = folder_names(&folder);
        names.sort();
        names.truncate(SUPPLIES_MAX);
        let supply = |name: String| Supply {
            kind: read_text(&folder.join(&name).join("type")),
            folder: folder.join(name),
        };
        let is_ours = |supply: &Supply| {
            supply.text("scope") != "Device" && supply.number("present") != Some(0)
        };
        names.into_iter().map(supply).filter(is_ours).collect()
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

/// A power supply or battery as the kernel shows it.
struct Supply {
    folder: PathBuf,
    kind: String,
}

impl Supply {
    fn text(&self, name: &str) -> String {
        read_text(&self.folder.join(name))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }
}

/// Where no charger is listed, what the batteries do tells whether there is one. `Not charging` tells nothing.
fn mains_by_batteries(batteries: &[&Supply]) -> Option<bool> {
    let does = |states: &[&str]| {
        batteries
            .iter()
            .any(|battery| states.contains(&battery.text("status").as_str()))
    };
    if does(&["Discharging"]) {
        Some(false)
    } else if does(&["Charging", "Full"]) {
        Some(true)
    } else {
        None
    }
}

/// How full all batteries are together: a large one counts for more than a small one.
fn battery_percent(batteries: &[&Supply]) -> Option<u8> {
    let levels: Vec<(u64, Option<u64>)> = batteries
        .iter()
        .filter_map(|battery| {
            let size = ["energy_full", "charge_full"]
                .iter()
                .find_map(|name| battery.number(name).filter(|size| *size > 0));
            // Worn batteries report more than they hold.
            Some((battery.number("capacity")?.min(100), size))
        })
        .collect();
    // Without the size of each they count alike.
    let sizes: Option<Vec<u64>> = levels.iter().map(|(_, size)| *size).collect();
    let sizes = sizes.unwrap_or_else(|| vec![1; levels.len()]);
    let total: u128 = sizes.iter().map(|size| u128::from(*size)).sum();
    let filled: u128 = levels
        .iter()
        .zip(&sizes)
        .map(|((percent, _), size)| u128::from(*percent) * u128::from(*size))
        .sum();
    u8::try_from(filled.checked_div(total)?).ok()
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
        assert!(facts.clock.is_some_and(|seconds| seconds > 1_700_000_000));
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

    fn power_of(supplies: &[(&str, &[(&str, &str)])]) -> Power {
        let folder = tempfile::tempdir().unwrap();
        for (name, files) in supplies {
            for (file, text) in *files {
                put(
                    folder.path(),
                    &format!("sys/class/power_supply/{name}/{file}"),
                    text,
                );
            }
        }
        let kernel = Kernel {
            sys: folder.path().join("sys"),
            ..Kernel::default()
        };
        kernel.power()
    }

    #[test]
    fn a_machine_without_supplies_says_nothing_of_power() {
        assert_eq!(power_of(&[]), Power::default());
        let mouse: &[(&str, &str)] = &[
            ("type", "Battery\n"),
            ("scope", "Device\n"),
            ("capacity", "3\n"),
        ];
        assert_eq!(power_of(&[("hid-mouse", mouse)]), Power::default());
    }

    #[test]
    fn any_charger_is_mains_power() {
        let battery: &[(&str, &str)] = &[
            ("type", "Battery\n"),
            ("capacity", "71\n"),
            ("status", "Not charging\n"),
        ];
        let ac: &[(&str, &str)] = &[("type", "Mains\n"), ("online", "0\n")];
        let usb: &[(&str, &str)] = &[("type", "USB\n"), ("online", "1\n")];
        let all = power_of(&[
            ("AC", ac),
            ("BAT0", battery),
            ("ucsi-source-psy-USBC000:001", usb),
        ]);
        assert_eq!((all.mains, all.battery_percent), (Some(true), Some(71)));
        assert_eq!(
            power_of(&[("AC", ac), ("BAT0", battery)]).mains,
            Some(false)
        );
        assert_eq!(power_of(&[("BAT0", battery)]).mains, None);
    }

    #[test]
    fn batteries_tell_of_a_charger_that_is_not_listed() {
        let battery = |status: &'static str| [("type", "Battery"), ("status", status)];
        let (full, used) = (battery("Full"), battery("Discharging"));
        assert_eq!(power_of(&[("BAT0", &full)]).mains, Some(true));
        assert_eq!(
            power_of(&[("BAT0", &full), ("BAT1", &used)]).mains,
            Some(false)
        );
    }

    #[test]
    fn several_batteries_count_by_their_size() {
        let large: &[(&str, &str)] = &[
            ("type", "Battery"),
            ("capacity", "90"),
            ("energy_full", "30000000"),
        ];
        let small: &[(&str, &str)] = &[
            ("type", "Battery"),
            ("capacity", "10"),
            ("energy_full", "10000000"),
        ];
        let silent: &[(&str, &str)] = &[("type", "Battery"), ("capacity", "130")];
        let gone: &[(&str, &str)] = &[("type", "Battery"), ("capacity", "0"), ("present", "0")];
        let percent = |supplies: &[(&str, &[(&str, &str)])]| power_of(supplies).battery_percent;
        assert_eq!(
            percent(&[("BAT0", large), ("BAT1", small), ("BAT2", gone)]),
            Some(70)
        );
        assert_eq!(percent(&[("BAT0", small), ("BAT1", silent)]), Some(55));
        assert_eq!(percent(&[("BAT1", silent)]), Some(100));
        assert_eq!(percent(&[("BAT0", gone)]), None);
    }
}
