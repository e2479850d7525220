//! A whole machine made of plain files: what the kernel would show of it, a disk, its volumes, and a folder in place of the
//! mounted staging partition. The agent's own code stages it, with the real filesystem tools. For tests.
//!
//! The files' time of change lies in 1970 until somebody writes, so that even writing what is there already is seen.
//!
//! Deliberately absent: a kernel. The volumes are files beside the disk, which nothing joins to the stretches of its table; the
//! staging partition is formatted as a file, and what would be written to it once it is mounted goes to the folder.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use uuid::Uuid;
use wire::boot_config::Trust;
use wire::event::Environment;
use wire::layout::VolumeRole;
use wire::mark::StagingMark;
use wire::package::Model;

use super::facts::Kernel;
use super::volumes::Volumes;
use crate::block::BlockFile;
use crate::guard;
use crate::stage::{self, Known};
use crate::view::Board;

const MIB: u64 = 1 << 20;
const DISK: &str = "nvme0n1";
const DISK_MIB: u64 = 64;
/// In the order of the disk, with their sizes in MiB: FAT32 begins at 33. The OS volume gets what the others leave.
const VOLUMES: [(VolumeRole, u64); 3] = [
    (VolumeRole::Esp, 36),
    (VolumeRole::Os, 18),
    (VolumeRole::Staging, 8),
];
const SERIAL: &str = "PF3ABC";
const UUID: Uuid = Uuid::from_u128(1);

/// A sequence that stages this machine.
pub(crate) const STAGE: &str = "sequence: stage
steps:
  - id: disk
    format-disk:
      disk: { bus: nvme, removable: false }
      volumes: [{ role: esp, size: 36MiB }, { role: os, size: rest }, { role: staging, size: 8MiB }]
  - id: os
    apply-image: { image: debian }
  - id: content
    stage-content: {}
  - id: boot
    install-boot-image: { image: boot-image }
  - id: finish
    finish: { action: shut-down, deployed: false }
";

/// What it is, as a bundle names it.
pub(crate) fn model() -> Model {
    Model {
        vendor: "Acme".into(),
        product: "Book 14".into(),
        ..Model::default()
    }
}

/// The machine.
pub(crate) struct FileMachine {
    folder: tempfile::TempDir,
    volumes: Arc<Volumes>,
}

impl FileMachine {
    /// With a blank disk.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = Utf8Path::from_path(folder.path()).expect("a UTF-8 path");
        show(root);
        let kernel = Kernel {
            sys: root.join("sys").into(),
            dev: root.join("dev").into(),
            proc: root.join("proc").into(),
        };
        let volumes = Volumes::within(kernel, Environment::BootImage, &root.join("run"));
        let machine = Self {
            folder,
            volumes: Arc::new(volumes),
        };
        machine.make_blank();
        machine
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        let root = Utf8Path::from_path(self.folder.path()).expect("a UTF-8 path");
        root.join(name)
    }

    /// What holds the content of the staging partition.
    pub(crate) fn staging(&self) -> Utf8PathBuf {
        self.path("run/staging")
    }

    /// The file that is a volume.
    pub(crate) fn volume(&self, role: VolumeRole) -> PathBuf {
        let at = VOLUMES.iter().position(|(known, _)| *known == role);
        let number = at.expect("a volume of the layout") + 1;
        self.path(&format!("dev/{DISK}p{number}")).into()
    }

    /// The disk and the volumes.
    fn devices(&self) -> Vec<PathBuf> {
        let volumes = VOLUMES.iter().map(|(role, _)| self.volume(*role));
        volumes
            .chain([self.path("dev").join(DISK).into()])
            .collect()
    }

    /// Takes the machine out of its box once more.
    pub(crate) fn make_blank(&self) {
        for folder in ["run/staging", "run/scratch"] {
            // The first time there is none.
            let _gone = fs::remove_dir_all(self.path(folder));
            fs::create_dir_all(self.path(folder)).expect("a temporary folder");
        }
        let sizes = VOLUMES.iter().map(|(_, mib)| *mib).chain([DISK_MIB]);
        for (device, mib) in self.devices().iter().zip(sizes) {
            let file = File::create(device).expect("a file");
            file.set_len(mib * MIB).expect("a sparse file");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        }
    }

    /// What was written since it was blank, or has aged: devices, and what lies on the staging partition.
    pub(crate) fn written(&self) -> Vec<String> {
        let is_new = |path: &PathBuf| {
            let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
            modified.expect("a file") > SystemTime::UNIX_EPOCH + Duration::from_secs(1)
        };
        let written = self.devices().into_iter().chain(self.kept());
        let written = written.filter(is_new);
        written.map(|path| path.display().to_string()).collect()
    }

    /// The files and folders on the staging partition.
    fn kept(&self) -> Vec<PathBuf> {
        let mut kept = Vec::new();
        let mut folders = vec![PathBuf::from(self.staging())];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                kept.push(path);
            }
        }
        kept
    }

    /// Lets time pass: from now on only what is written anew counts as written.
    pub(crate) fn age(&self) {
        for path in self.devices().into_iter().chain(self.kept()) {
            let file = File::open(&path).expect("a file or a folder");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        }
    }

    /// Puts a second disk in, with all that the first begins with.
    pub(crate) fn add_twin(&self) {
        let twin = |path: &str| self.path(&path.replace("nvme0n1", "nvme1n1"));
        fs::create_dir_all(twin("sys/block/nvme0n1")).expect("a folder");
        for path in ["sys/block/nvme0n1/size", "dev/nvme0n1"] {
            fs::copy(self.path(path), twin(path)).expect("a file");
        }
    }

    /// The firmware calls it something else.
    pub(crate) fn says_serial(&self, serial: &str) {
        let path = self.path("sys/class/dmi/id/product_serial");
        fs::write(path, serial).expect("a file");
    }

    /// Whether the kernel has found the disk yet.
    pub(crate) fn shows_disk(&self, is_there: bool) {
        let mib = if is_there { DISK_MIB } else { 0 };
        let size = self.path(&format!("sys/block/{DISK}/size"));
        fs::write(size, (mib * MIB / 512).to_string()).expect("a file");
    }

    /// The disk gives nothing to read, or does again.
    pub(crate) fn disk_is_readable(&self, is_readable: bool) {
        let (disk, away) = (self.path("dev").join(DISK), self.path("disk"));
        if is_readable {
            fs::remove_dir(&disk).expect("a folder");
            fs::rename(&away, &disk).expect("a file");
        } else {
            fs::rename(&disk, &away).expect("a file");
            // It is there, and every read fails.
            fs::create_dir(&disk).expect("a folder");
        }
    }

    /// Writes the mark of its disk.
    pub(crate) fn mark(&self, mark: &StagingMark) {
        let disk = BlockFile::read_write(self.path("dev").join(DISK)).expect("a disk");
        guard::write_mark(&disk, mark).expect("a disk");
    }

    /// What the agent's own code works with.
    pub(crate) fn volumes(&self) -> &Arc<Volumes> {
        &self.volumes
    }

    /// Stages it from this medium. The errors of the screen and the receipt, if it fails.
    pub(crate) fn stage(&self, medium: BlockFile, trust: &Trust) -> Result<(), Vec<String>> {
        self.stage_and_tell(medium, trust).0
    }

    /// The same, and all that the receipt will say.
    pub(crate) fn stage_and_tell(
        &self,
        medium: BlockFile,
        trust: &Trust,
    ) -> (Result<(), Vec<String>>, Known) {
        let mut known = Known::default();
        let facts = self.volumes.kernel.facts();
        let board = Arc::new(Board::new(None));
        let staged = stage::stage_from(medium, &board, &self.volumes, trust, &facts, &mut known);
        let staged = staged.map_err(|error| {
            if known.ending.errors.is_empty() {
                error.chain().map(ToString::to_string).collect()
            } else {
                known.ending.errors.clone()
            }
        });
        (staged, known)
    }

    /// Its identity, as marks have it.
    pub(crate) const fn identity() -> (&'static str, Option<Uuid>) {
        (SERIAL, Some(UUID))
    }
}

/// Shows what a kernel would.
fn show(root: &Utf8Path) {
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let uuid = UUID.to_string();
    for (name, text) in [
        ("sys_vendor", "Acme"),
        ("product_name", "Book 14"),
        ("product_serial", SERIAL),
        ("product_uuid", uuid.as_str()),
    ] {
        put(&format!("sys/class/dmi/id/{name}"), text);
    }
    let sectors = |mib: u64| (mib * MIB / 512).to_string();
    put(&format!("sys/block/{DISK}/size"), &sectors(DISK_MIB));
    for (number, (role, mib)) in (1..).zip(VOLUMES) {
        let part = format!("sys/block/{DISK}/{DISK}p{number}");
        put(&format!("{part}/partition"), &number.to_string());
        put(&format!("{part}/size"), &sectors(mib));
        let name = format!("PARTNAME={}\n", role.partition_name());
        put(&format!("{part}/uevent"), &name);
    }
    put("sys/firmware/efi/fw_platform_size", "64");
    put("proc/meminfo", "MemTotal: 4194304 kB\n");
    let mounted = format!("/dev/test {} ext4 rw 0 0\n", root.join("run/staging"));
    put("proc/self/mounts", &mounted);
    fs::create_dir_all(root.join("dev")).expect("a folder");
}
