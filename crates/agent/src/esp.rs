//! The EFI system partition: formatting, the boot image's two slots, the boot entry of the OS, and the one sector that
//! says what starts. See `docs/formats/staged-disk.md`.
//!
//! Written through `fatfs` on the partition itself and never mounted. The order is: data and allocation table on the
//! disk, then the folder entry, then (another sync later) the sector that makes the machine use it.

mod cache;
mod dot_entries;

use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};
use fatfs::{Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions};

use crate::block::BlockFile;
use cache::Cache;

/// Where firmware looks on a disk it knows nothing about. The last file a staging writes.
pub(crate) const FIRMWARE_PATH: &str = "EFI/BOOT/BOOTX64.EFI";
const LOADER_PATH: &str = "EFI/systemd/systemd-bootx64.efi";
const LOADER_CONF: &str = "loader/loader.conf";
const SLOT_A: &str = "forestage-a.efi";
const SLOT_B: &str = "forestage-b.efi";
/// `loader.conf` is one sector, rewritten in place: it is the old or the new one, never half of each.
const LOADER_CONF_BYTES: usize = 512;
const OS_ENTRY_BYTES_MAX: u64 = 4096;
const COPY_BYTES: usize = 256 << 10;

/// Where kernel, initrd and boot entry of the OS lie. There are two places, so that an OS that gets another kernel starts with the
/// old one or the new one, whenever the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OsSlot {
    /// The first one that is used, and the only one that releases up to 0.1 knew.
    #[default]
    A,
    /// The other one.
    B,
}

impl OsSlot {
    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The boot entry, in `loader/entries`.
    pub(crate) const fn entry(self) -> &'static str {
        match self {
            Self::A => "forestage-os.conf",
            Self::B => "forestage-os-b.conf",
        }
    }

    pub(crate) fn entry_path(self) -> String {
        format!("loader/entries/{}", self.entry())
    }

    pub(crate) const fn kernel(self) -> &'static str {
        match self {
            Self::A => "forestage-os/vmlinuz",
            Self::B => "forestage-os/vmlinuz-b",
        }
    }

    pub(crate) const fn initrd(self) -> &'static str {
        match self {
            Self::A => "forestage-os/initrd.img",
            Self::B => "forestage-os/initrd-b.img",
        }
    }
}

/// What starts at power-on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoaderConf {
    /// The slot that holds the boot image in use: `forestage-a.efi` or `forestage-b.efi`.
    pub(crate) slot: String,
    /// Which kernel the OS starts with.
    pub(crate) os: OsSlot,
    /// Whether the OS starts, and not the boot image.
    pub(crate) is_os: bool,
}

impl LoaderConf {
    /// The sector.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let default = if self.is_os {
            self.os.entry()
        } else {
            &self.slot
        };
        let os = match self.os {
            OsSlot::A => String::new(),
            OsSlot::B => format!("# os {}\n", self.os.entry()),
        };
        let mut text = format!(
            "timeout 0\ndefault {default}\neditor no\n# boot-image {}\n{os}#",
            self.slot
        )
        .into_bytes();
        text.resize(LOADER_CONF_BYTES - 1, b' ');
        text.push(b'\n');
        text
    }

    /// Reads the sector; `None` if it is not one of ours.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        let slot = value("# boot-image ").filter(|slot| [SLOT_A, SLOT_B].contains(slot))?;
        let os = match value("# os ") {
            None => OsSlot::A,
            Some(name) if name == OsSlot::B.entry() => OsSlot::B,
            Some(_) => return None,
        };
        let default = value("default ")?;
        if default != slot && default != os.entry() {
            return None;
        }
        Some(Self {
            slot: slot.to_owned(),
            os,
            is_os: default == os.entry(),
        })
    }
}

/// What an OS needs to be started.
pub(crate) struct OsEntry<S> {
    /// The title of the boot entry.
    pub(crate) title: String,
    /// The kernel's command line.
    pub(crate) options: String,
    /// The kernel.
    pub(crate) kernel: S,
    /// The initrd, if the OS has one.
    pub(crate) initrd: Option<S>,
}

impl<S> OsEntry<S> {
    /// The boot entry that starts what lies in `slot`.
    fn text(&self, slot: OsSlot) -> String {
        let clean = |text: &str| text.replace(['\n', '\r'], " ");
        let initrd = match self.initrd {
            Some(_) => format!("initrd /{}\n", slot.initrd()),
            None => String::new(),
        };
        format!(
            "title {}\nlinux /{}\n{initrd}options {}\n",
            clean(&self.title),
            slot.kernel(),
            clean(&self.options)
        )
    }
}

/// An open FAT volume.
pub(crate) struct Fat {
    volume: FileSystem<Cache>,
    device: Cache,
}

/// Makes an empty FAT32 volume, durably.
pub(crate) fn format(device: &BlockFile, label: &[u8; 11]) -> Result<()> {
    let mut fresh = Cache::new(device);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .volume_label(*label)
        .volume_id(0x4653_5447);
    // FAT32 needs 65525 clusters; the default cluster size leaves too few on volumes below 256 MiB.
    let options = if device.length() < (260 << 20) {
        options.bytes_per_cluster(512)
    } else {
        options
    };
    fatfs::format_volume(&mut fresh, options).context("cannot format the FAT volume")?;
    fresh.sync()?;
    // Closing counts the free clusters, which formatting leaves unsaid.
    Fat::open(device)?.close()
}

impl Fat {
    /// Opens the volume on `device`.
    pub(crate) fn open(device: &BlockFile) -> Result<Self> {
        let device = Cache::new(device);
        // `fatfs` trusts the boot sector; a stick may hold anything.
        dot_entries::Geometry::read(&device)?.context("no FAT32 volume that can be read")?;
        // In memory until something is written.
        dot_entries::repair(&device)?;
        let volume = FileSystem::new(device.clone(), FsOptions::new())
            .context("no FAT volume that can be read")?;
        Ok(Self { volume, device })
    }

    /// Whether a file is there in whole: a cut may leave one that is empty, or one of which nothing but the entry is there.
    pub(crate) fn has_file(&self, path: &str) -> bool {
        let Ok(mut file) = self.volume.root_dir().open_file(path) else {
            return false;
        };
        let length = file.seek(SeekFrom::End(0));
        let found = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| std::io::copy(&mut file, &mut std::io::sink()));
        matches!((length, found), (Ok(length), Ok(found)) if length > 0 && length == found)
    }

    /// Reads a file of at most `bytes_max`; `None` if there is none.
    pub(crate) fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        let Ok(file) = self.volume.root_dir().open_file(path) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {path}"))?;
        ensure!(
            bytes.len() as u64 <= bytes_max,
            "{path} is longer than {bytes_max} bytes"
        );
        Ok(Some(bytes))
    }

    /// Replaces a file, durably. Data come first, then the folder entry.
    pub(crate) fn replace(&self, path: &str, from: &mut dyn Read) -> Result<()> {
        self.write_file(path, from)
            .with_context(|| format!("cannot write {path}"))
    }

    fn write_file(&self, path: &str, from: &mut dyn Read) -> Result<()> {
        let (folder, name) = self.folder_of(path)?;
        if folder.open_file(name).is_ok() {
            folder.remove(name)?;
            self.device.sync()?;
        }
        let mut file = folder.create_file(name)?;
        self.device.sync()?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read])?;
            self.device.write_back()?;
        }
        self.device.sync()?;
        file.flush()?;
        drop(file);
        self.device.sync()?;
        Ok(())
    }

    fn folder_of<'p>(&self, path: &'p str) -> Result<(Dir<'_, Cache>, &'p str)> {
        let mut folder = self.volume.root_dir();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return Ok((folder, part));
            }
            folder = match folder.open_dir(part) {
                Ok(found) => found,
                Err(_) => {
                    let made = folder.create_dir(part)?;
                    dot_entries::repair(&self.device)?;
                    made
                }
            };
        }
        bail!("an empty path")
    }

    /// Whether the file holds exactly these bytes.
    fn equals(&self, path: &str, wanted: &mut (impl Read + Seek)) -> Result<bool> {
        let Ok(mut file) = self.volume.root_dir().open_file(path) else {
            return Ok(false);
        };
        wanted.seek(SeekFrom::Start(0))?;
        let same = digest(&mut file)? == digest(wanted)?;
        wanted.seek(SeekFrom::Start(0))?;
        Ok(same)
    }

    /// Marks the volume clean and makes everything durable.
    pub(crate) fn close(self) -> Result<()> {
        // A power cut may have come between making a folder and repairing it.
        dot_entries::repair(&self.device)?;
        self.volume
            .stats()
            .context("cannot count the free clusters")?;
        self.volume
            .unmount()
            .context("cannot close the FAT volume")?;
        self.device.sync()?;
        Ok(())
    }

    /// What starts at power-on; `None` on a fresh volume.
    pub(crate) fn loader_conf(&self) -> Result<Option<LoaderConf>> {
        Ok(self
            .read(LOADER_CONF, 4096)?
            .and_then(|bytes| LoaderConf::decode(&bytes)))
    }

    /// Says what starts at power-on: one sector, rewritten where it lies.
    pub(crate) fn set_loader_conf(&self, conf: &LoaderConf) -> Result<()> {
        let bytes = conf.encode();
        let current = self.read(LOADER_CONF, 4096)?;
        if current.as_deref() == Some(&bytes) {
            return Ok(());
        }
        self.device.sync()?;
        if current.is_none_or(|current| current.len() != LOADER_CONF_BYTES) {
            return self.replace(LOADER_CONF, &mut bytes.as_slice());
        }
        let mut file = self.volume.root_dir().open_file(LOADER_CONF)?;
        file.write_all(&bytes)?;
        self.device.sync()?;
        Ok(())
    }

    /// Puts a boot image into the slot that is not in use (unless the one in use holds it already) and makes it the one
    /// in use. On a fresh volume, the file that firmware starts comes last of all.
    pub(crate) fn install_boot_image<S: Read + Seek>(
        &self,
        image: &mut S,
        loader: &mut S,
    ) -> Result<()> {
        let current = self.loader_conf()?;
        let slot = match &current {
            Some(conf) if self.equals(&format!("EFI/Linux/{}", conf.slot), image)? => {
                conf.slot.clone()
            }
            Some(conf) if conf.slot == SLOT_A => SLOT_B.to_owned(),
            _ => SLOT_A.to_owned(),
        };
        let path = format!("EFI/Linux/{slot}");
        if !self.equals(&path, image)? {
            self.replace(&path, image)?;
        }
        ensure!(
            self.equals(&path, image)?,
            "{path} does not read back as written"
        );
        if !self.equals(LOADER_PATH, loader)? {
            self.replace(LOADER_PATH, loader)?;
        }
        self.set_loader_conf(&LoaderConf {
            slot,
            os: current.map(|conf| conf.os).unwrap_or_default(),
            is_os: false,
        })?;
        // A loader that is there starts both slots; replacing it would open a moment in which nothing boots.
        if !self.has_file(FIRMWARE_PATH) {
            loader.seek(SeekFrom::Start(0))?;
            self.replace(FIRMWARE_PATH, loader)?;
        }
        Ok(())
    }

    /// Writes kernel, initrd and boot entry of the OS, unless those that it starts with are these. The ones that it starts with
    /// stay as they are until one sector says that it starts with the new ones; whether it is the OS that starts doesn't change.
    pub(crate) fn install_os_entry<S: Read + Seek>(&self, mut entry: OsEntry<S>) -> Result<()> {
        let conf = self.loader_conf()?;
        let current = conf.as_ref().map(|conf| conf.os).unwrap_or_default();
        if self.has_os_entry(current, &mut entry)? {
            return Ok(());
        }
        let slot = match self.has_file(&current.entry_path()) {
            true => current.other(),
            false => current,
        };
        self.replace(slot.kernel(), &mut entry.kernel)?;
        if let Some(initrd) = &mut entry.initrd {
            self.replace(slot.initrd(), initrd)?;
        }
        self.replace(&slot.entry_path(), &mut entry.text(slot).as_bytes())?;
        ensure!(
            self.has_os_entry(slot, &mut entry)?,
            "the kernel of the OS does not read back as written"
        );
        match conf {
            Some(conf) => self.set_loader_conf(&LoaderConf { os: slot, ..conf }),
            None => Ok(()),
        }
    }

    /// Whether exactly this lies in `slot`. What is read begins at its start again.
    fn has_os_entry<S: Read + Seek>(&self, slot: OsSlot, entry: &mut OsEntry<S>) -> Result<bool> {
        let text = self.read(&slot.entry_path(), OS_ENTRY_BYTES_MAX)?;
        let has_initrd = match &mut entry.initrd {
            Some(initrd) => self.equals(slot.initrd(), initrd)?,
            None => true,
        };
        let has_kernel = self.equals(slot.kernel(), &mut entry.kernel)?;
        Ok(has_initrd && has_kernel && text.as_deref() == Some(entry.text(slot).as_bytes()))
    }

    /// Switches between boot image and OS.
    pub(crate) fn set_default(&self, is_os: bool) -> Result<()> {
        let conf = self
            .loader_conf()?
            .context("the ESP has no boot image: run install-boot-image first")?;
        if is_os {
            ensure!(
                self.has_file(&conf.os.entry_path()),
                "the ESP has no boot entry for the OS"
            );
        }
        self.set_loader_conf(&LoaderConf { is_os, ..conf })
    }
}

fn digest(from: &mut dyn Read) -> std::io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&buffer[..read]);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::block::sparse;
    use std::io::Cursor;
    use std::os::unix::fs::FileExt as _;

    fn volume() -> BlockFile {
        let device = sparse(64 << 20);
        format(&device, b"FORESTAGE  ").unwrap();
        device
    }

    fn install(device: &BlockFile, image: &[u8]) {
        let fat = Fat::open(device).unwrap();
        fat.install_boot_image(
            &mut Cursor::new(image.to_vec()),
            &mut Cursor::new(b"loader".to_vec()),
        )
        .unwrap();
        fat.close().unwrap();
    }

    #[test]
    fn the_second_image_goes_into_the_other_slot() {
        let device = volume();
        install(&device, &[1; 100_000]);
        let fat = Fat::open(&device).unwrap();
        assert_eq!(fat.read(FIRMWARE_PATH, 100).unwrap().unwrap(), b"loader");
        assert_eq!(
            fat.loader_conf().unwrap().unwrap(),
            LoaderConf {
                slot: SLOT_A.into(),
                os: OsSlot::A,
                is_os: false
            }
        );
        assert!(!fat.has_file("EFI/Linux/forestage-b.efi"));
        fat.close().unwrap();
        install(&device, &[1; 100_000]);
        assert!(
            !Fat::open(&device)
                .unwrap()
                .has_file("EFI/Linux/forestage-b.efi"),
            "the same image changes nothing"
        );
        install(&device, &[2; 90_000]);
        let fat = Fat::open(&device).unwrap();
        assert_eq!(fat.loader_conf().unwrap().unwrap().slot, SLOT_B);
        assert_eq!(
            fat.read("EFI/Linux/forestage-a.efi", 1 << 20)
                .unwrap()
                .unwrap(),
            [1; 100_000]
        );
        assert_eq!(
            fat.read("EFI/Linux/forestage-b.efi", 1 << 20)
                .unwrap()
                .unwrap(),
            [2; 90_000]
        );
    }

    #[test]
    fn the_default_is_switched_by_changing_one_sector() {
        let device = volume();
        install(&device, b"image");
        let fat = Fat::open(&device).unwrap();
        assert!(fat.set_default(true).is_err(), "no OS entry yet");
        fat.install_os_entry(OsEntry {
            title: "Debian\noptions evil".into(),
            options: "root=PARTUUID=x rw".into(),
            kernel: Cursor::new(b"kernel"),
            initrd: Some(Cursor::new(b"initrd")),
        })
        .unwrap();
        let entry = fat
            .read("loader/entries/forestage-os.conf", 4096)
            .unwrap()
            .unwrap();
        assert!(
            String::from_utf8(entry)
                .unwrap()
                .starts_with("title Debian options evil\nlinux /forestage-os/vmlinuz\n")
        );
        let position = find(&device, b"timeout 0\ndefault forestage-a.efi");
        fat.set_default(true).unwrap();
        assert_eq!(
            find(&device, b"timeout 0\ndefault forestage-os.conf"),
            position,
            "the cluster stays"
        );
        assert!(fat.loader_conf().unwrap().unwrap().is_os);
        fat.set_default(false).unwrap();
        assert_eq!(
            fat.loader_conf().unwrap().unwrap(),
            LoaderConf {
                slot: SLOT_A.into(),
                os: OsSlot::A,
                is_os: false
            }
        );
    }

    #[test]
    fn another_kernel_goes_beside_the_one_that_the_os_starts_with() {
        let device = volume();
        install(&device, b"image");
        let fat = Fat::open(&device).unwrap();
        let install = |kernel: &'static [u8], initrd: Option<&'static [u8]>| {
            let entry = OsEntry {
                title: "Debian".into(),
                options: "rw".into(),
                kernel: Cursor::new(kernel),
                initrd: initrd.map(Cursor::new),
            };
            fat.install_os_entry(entry).unwrap();
            fat.loader_conf().unwrap().unwrap()
        };
        assert_eq!(install(b"old", Some(b"initrd")).os, OsSlot::A);
        fat.set_default(true).unwrap();
        let read = |path: &str| fat.read(path, 64).unwrap().unwrap();
        let conf = install(b"new", Some(b"initrd"));
        assert_eq!((conf.os, conf.is_os), (OsSlot::B, true));
        assert_eq!(read(OsSlot::A.kernel()), b"old");
        assert_eq!(read(OsSlot::B.kernel()), b"new");
        // Nothing is written for what is there, and another initrd is another thing to start with.
        assert_eq!(install(b"new", Some(b"initrd")).os, OsSlot::B);
        assert_eq!(install(b"new", Some(b"longer initrd")).os, OsSlot::A);
        assert_eq!(install(b"new", None).os, OsSlot::B);
        let entry = read(&OsSlot::B.entry_path());
        assert_eq!(
            String::from_utf8(entry).unwrap(),
            "title Debian\nlinux /forestage-os/vmlinuz-b\noptions rw\n"
        );
        // A boot image that comes later leaves the OS its kernel.
        fat.install_boot_image(
            &mut Cursor::new(b"newer image".to_vec()),
            &mut Cursor::new(b"loader".to_vec()),
        )
        .unwrap();
        let conf = fat.loader_conf().unwrap().unwrap();
        assert_eq!((conf.os, conf.is_os), (OsSlot::B, false));
        fat.close().unwrap();
        assert_clean(&device);
    }

    fn find(device: &BlockFile, needle: &[u8]) -> usize {
        let mut bytes = vec![0; usize::try_from(device.length()).unwrap()];
        device.read_at(&mut bytes, 0).unwrap();
        bytes
            .windows(needle.len())
            .position(|window| window == needle)
            .expect("on the volume")
    }

    #[test]
    fn a_conf_is_one_sector_and_strangers_are_refused() {
        for (os, is_os) in [(OsSlot::A, true), (OsSlot::B, true), (OsSlot::B, false)] {
            let conf = LoaderConf {
                slot: SLOT_B.into(),
                os,
                is_os,
            };
            assert_eq!(conf.encode().len(), LOADER_CONF_BYTES);
            assert_eq!(LoaderConf::decode(&conf.encode()), Some(conf));
        }
        let another =
            b"default forestage-os.conf\n# boot-image forestage-a.efi\n# os forestage-os-b.conf\n";
        assert_eq!(LoaderConf::decode(another), None, "neither of its two");
        assert_eq!(
            LoaderConf::decode(b"default other.conf\n# boot-image forestage-a.efi\n"),
            None
        );
        assert_eq!(LoaderConf::decode(&[0xff; 512]), None);
        assert!(Fat::open(&sparse(64 << 20)).is_err());
    }

    /// Whether `fsck.vfat` is content, and what it says of the volume, which it calls `volume` here.
    pub(crate) fn fsck(device: &BlockFile) -> (bool, String) {
        let mut bytes = vec![0; usize::try_from(device.length()).unwrap()];
        device.read_at(&mut bytes, 0).unwrap();
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(device.length()).unwrap();
        for (number, block) in (0..).zip(bytes.chunks(4096)) {
            if block.iter().any(|byte| *byte != 0) {
                image.as_file().write_all_at(block, number * 4096).unwrap();
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let output = std::process::Command::new("fsck.vfat")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .arg("-n")
            .arg(image.path())
            .output()
            .expect("this test needs dosfstools: apt-get install dosfstools");
        let said = String::from_utf8_lossy(&output.stdout);
        let said = said.replace(&*image.path().to_string_lossy(), "volume");
        (output.status.success(), said)
    }

    /// `fsck.vfat` finds nothing to repair and says nothing but its name and the count of files.
    fn assert_clean(device: &BlockFile) {
        let (is_content, said) = fsck(device);
        assert!(is_content, "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }

    #[test]
    fn other_tools_find_the_volume_sound() {
        let device = volume();
        assert_clean(&device);
        install(&device, &[1; 100_000]);
        let fat = Fat::open(&device).unwrap();
        fat.install_os_entry(OsEntry {
            title: "Debian".into(),
            options: "rw".into(),
            kernel: Cursor::new([3; 70_000]),
            initrd: None,
        })
        .unwrap();
        fat.set_default(true).unwrap();
        fat.close().unwrap();
        assert_clean(&device);
        install(&device, &[2; 90_000]);
        assert_clean(&device);
        let fat = Fat::open(&device).unwrap();
        assert!(fat.has_file(FIRMWARE_PATH) && fat.has_file("forestage-os/vmlinuz"));
    }

    #[test]
    fn a_folder_in_a_long_folder_is_put_right_too() {
        let device = volume();
        let fat = Fat::open(&device).unwrap();
        for n in 0..40 {
            fat.replace(
                &format!("receipts/a name longer than eight {n}.json"),
                &mut &b"{}"[..],
            )
            .unwrap();
        }
        fat.replace("receipts/one/two/three/file", &mut &b"deep"[..])
            .unwrap();
        fat.close().unwrap();
        assert_clean(&device);
    }

    #[test]
    fn folders_of_earlier_versions_are_repaired_at_closing() {
        let device = volume();
        let fat = Fat::open(&device).unwrap();
        fat.volume.root_dir().create_dir("EFI").unwrap();
        fat.volume.root_dir().create_dir("EFI/BOOT").unwrap();
        fat.close().unwrap();
        assert_clean(&device);
    }

    mod hostile {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(256))]

            /// A damaged boot sector ends in an answer, never in a panic or a hang.
            #[test]
            fn boot_sectors_are_survived(flips in prop::collection::vec((0..512_u64, any::<u8>()), 1..12)) {
                use std::sync::{LazyLock, Mutex};
                static DEVICE: LazyLock<Mutex<BlockFile>> = LazyLock::new(|| Mutex::new(volume()));
                let device = DEVICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let mut before = [0; 512];
                device.read_at(&mut before, 0).unwrap();
                for (at, value) in flips {
                    device.write_at(&[value], at).unwrap();
                }
                let _ = Fat::open(&device).map(|fat| fat.has_file(FIRMWARE_PATH));
                let cache = Cache::new(&device);
                dot_entries::repair(&cache).unwrap();
                cache.sync().unwrap();
                device.write_at(&before, 0).unwrap();
            }
        }
    }
}
