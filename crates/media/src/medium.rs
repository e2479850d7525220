//! Boot media: raw disk images for a USB stick. See `docs/formats/boot-medium.md`.
//!
//! Written without root, loop devices or mounts. A medium that comes back from a factory is hostile until proven
//! otherwise: every number in it is checked before it is used.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};

use camino::Utf8Path;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use gptman::{GPT, GPTPartitionEntry};
use uuid::Uuid;
use wire::receipt::Receipt;

use crate::error::MediaError;
use crate::partition_table;
use crate::progress::Progress;
use crate::tree;
use crate::window::Window;

/// The name of the partition the firmware boots from, which also takes the receipts.
pub const MEDIUM_PARTITION: &str = "forestage-medium";
/// The name of the partition that holds the bundle.
pub const BUNDLE_PARTITION: &str = "forestage-bundle";
/// Where firmware looks for what to start, on any removable medium.
pub const BOOT_PATH: &str = "EFI/BOOT/BOOTX64.EFI";
/// The folder of the receipts.
pub const RECEIPTS_FOLDER: &str = "receipts";

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// Room for several thousand receipts of 2 kB, each in a cluster of its own.
const RECEIPTS_ROOM: u64 = 16 * MIB;
/// FAT32 begins at 65,525 clusters; with clusters of 512 bytes that is 32 MiB.
const MEDIUM_PARTITION_MIN: u64 = 64 * MIB;
/// Larger boot images are a mistake, and FAT32 with small clusters ends soon after.
const STAGE_BYTES_MAX: u64 = 1 << 30;
/// A stick serves one batch; a folder with more entries is damaged.
const RECEIPTS_MAX: usize = 100_000;
/// A receipt has about 1 kB; an error chain may make it longer.
const RECEIPT_BYTES_MAX: u64 = 256 << 10;
/// EFI system partition.
const ESP_TYPE: Uuid = Uuid::from_u128(0xC12A_7328_F81F_11D2_BA4B_00A0_C93E_C93B);
/// Linux filesystem data: no operating system touches what it does not know in there.
const BUNDLE_TYPE: Uuid = Uuid::from_u128(0x0FC6_3DAF_8483_4772_8E79_3D69_D847_7DE4);

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MediumSummary {
    /// The size of the image in bytes: what the stick must have.
    pub image_bytes: u64,
    /// The size of the FAT32 partition in bytes.
    pub medium_partition_bytes: u64,
    /// The length of the bundle in bytes.
    pub bundle_bytes: u64,
}

/// A file in `receipts/`.
#[derive(Debug)]
pub struct ReceiptFile {
    /// Its name.
    pub name: String,
    /// What it says, or why that cannot be read.
    pub receipt: Result<Receipt, MediaError>,
}

/// Where things lie on a medium, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    medium_start: u64,
    medium_bytes: u64,
    bundle_start: u64,
    bundle_partition_bytes: u64,
    image_bytes: u64,
}

impl Plan {
    fn new(stage_bytes: u64, bundle_bytes: u64) -> Self {
        let medium_bytes = (stage_bytes + RECEIPTS_ROOM)
            .max(MEDIUM_PARTITION_MIN)
            .next_multiple_of(MIB);
        let bundle_start = MIB + medium_bytes;
        let bundle_partition_bytes = bundle_bytes.max(1).next_multiple_of(MIB);
        // The last MiB holds the backup of the partition table.
        let image_bytes = bundle_start + bundle_partition_bytes + MIB;
        Self {
            medium_start: MIB,
            medium_bytes,
            bundle_start,
            bundle_partition_bytes,
            image_bytes,
        }
    }
}

/// Writes the boot medium `out`: a raw disk image to be copied onto a USB stick, with `stage.efi` of the boot image in
/// `boot_image_folder` and the bundle in the file `bundle`. Written aside and put in place when whole.
///
/// # Errors
/// If something can't be read or written, or `stage.efi` is absurdly long.
pub fn write_medium(
    boot_image_folder: &Utf8Path,
    bundle: &Utf8Path,
    out: &Utf8Path,
    progress: &dyn Progress,
) -> Result<MediumSummary, MediaError> {
    let stage_path = boot_image_folder.join("stage.efi");
    let stage = tree::read(&stage_path, STAGE_BYTES_MAX)?;
    let mut bundle_file = File::open(bundle).map_err(MediaError::read(bundle))?;
    let bundle_bytes = bundle_file
        .metadata()
        .map_err(MediaError::read(bundle))?
        .len();
    let plan = Plan::new(stage.len() as u64, bundle_bytes);

    let folder = out
        .parent()
        .filter(|folder| !folder.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    tree::make_folder(folder)?;
    let mut image = tempfile::NamedTempFile::new_in(folder).map_err(MediaError::write(out))?;
    progress.phase("writing partition table and boot image");
    let failed = MediaError::write(out);
    (|| {
        let file = image.as_file_mut();
        file.set_len(plan.image_bytes)?;
        write_partition_table(file, &plan)?;
        let window = Window::new(file.try_clone()?, plan.medium_start, plan.medium_bytes);
        write_medium_partition(window, &stage)
    })()
    .map_err(failed)?;

    progress.phase("copying the bundle");
    image
        .as_file_mut()
        .seek(SeekFrom::Start(plan.bundle_start))
        .map_err(MediaError::write(out))?;
    copy(
        &mut bundle_file,
        bundle,
        image.as_file_mut(),
        out,
        bundle_bytes,
        progress,
    )?;
    let failed = MediaError::write(out);
    (|| {
        tree::set_mode(image.as_file(), 0o644)?;
        image.as_file().sync_all()?;
        image.persist(out).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    })()
    .map_err(failed)?;
    Ok(MediumSummary {
        image_bytes: plan.image_bytes,
        medium_partition_bytes: plan.medium_bytes,
        bundle_bytes,
    })
}

/// Reads all receipts of a boot medium: an image file or a device, opened for reading only.
///
/// # Errors
/// If the medium itself can't be read or isn't one of ours. A receipt that can't be read is reported in its place.
pub fn read_receipts(image_or_device: &Utf8Path) -> Result<Vec<ReceiptFile>, MediaError> {
    let not_ours = |reason: String| MediaError::unusable(image_or_device, "boot medium", reason);
    let mut file = OpenOptions::new()
        .read(true)
        .open(image_or_device)
        .map_err(MediaError::read(image_or_device))?;
    let bytes = file
        .seek(SeekFrom::End(0))
        .map_err(MediaError::read(image_or_device))?;
    let (start, length) = find_partition(&mut file, bytes, MEDIUM_PARTITION).map_err(not_ours)?;
    let mut window = Window::new(file, start, length);
    check_fat(&mut window, length)
        .and_then(|()| window.rewind().map_err(|e| e.to_string()))
        .map_err(not_ours)?;
    let fat = FileSystem::new(window, FsOptions::new())
        .map_err(|error| not_ours(format!("its FAT volume: {error}")))?;
    let folder = fat
        .root_dir()
        .open_dir(RECEIPTS_FOLDER)
        .map_err(|error| not_ours(format!("its receipts: {error}")))?;
    let mut receipts = Vec::new();
    for (seen, entry) in folder.iter().enumerate() {
        if seen > RECEIPTS_MAX {
            return Err(not_ours("its folder of receipts is endless".into()));
        }
        let entry = entry.map_err(|error| not_ours(format!("its folder of receipts: {error}")))?;
        let name = entry.file_name();
        if !entry.is_file() || !name.to_lowercase().ends_with(".json") {
            continue;
        }
        let path = image_or_device.join(RECEIPTS_FOLDER).join(&name);
        let mut text = Vec::new();
        let read = entry
            .to_file()
            .take(RECEIPT_BYTES_MAX + 1)
            .read_to_end(&mut text);
        let receipt = match read {
            Ok(_) if text.len() as u64 > RECEIPT_BYTES_MAX => Err("it is too long".to_owned()),
            Ok(_) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        receipts.push(ReceiptFile {
            receipt: receipt.map_err(|r| MediaError::unusable(path, "receipt", r)),
            name,
        });
    }
    receipts.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(receipts)
}

fn write_partition_table(file: &mut File, plan: &Plan) -> io::Result<()> {
    let other = |error: gptman::Error| io::Error::other(error);
    let mut gpt = GPT::new_from(file, SECTOR, guid(Uuid::new_v4())).map_err(other)?;
    let parts = [
        (
            ESP_TYPE,
            plan.medium_start,
            plan.medium_bytes,
            MEDIUM_PARTITION,
        ),
        (
            BUNDLE_TYPE,
            plan.bundle_start,
            plan.bundle_partition_bytes,
            BUNDLE_PARTITION,
        ),
    ];
    for (number, (kind, start, bytes, name)) in (1..).zip(parts) {
        gpt[number] = GPTPartitionEntry {
            partition_type_guid: guid(kind),
            unique_partition_guid: guid(Uuid::new_v4()),
            starting_lba: start / SECTOR,
            ending_lba: (start + bytes) / SECTOR - 1,
            attribute_bits: 0,
            partition_name: name.into(),
        };
    }
    file.rewind()?;
    GPT::write_protective_mbr_into(file, SECTOR).map_err(other)?;
    gpt.write_into(file).map_err(other)?;
    Ok(())
}

/// The mixed-endian form in which GPT stores UUIDs.
fn guid(uuid: Uuid) -> [u8; 16] {
    uuid.to_bytes_le()
}

fn write_medium_partition(mut window: Window, stage: &[u8]) -> io::Result<()> {
    // The FAT library begins where the file stands.
    window.rewind()?;
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(cluster_bytes(window.len()))
        .volume_id(0x4653_5447)
        .volume_label(*b"FORESTAGE  ");
    fatfs::format_volume(&mut window, options)?;
    window.rewind()?;
    let fat = FileSystem::new(&mut window, FsOptions::new().update_accessed_date(false))?;
    {
        let root = fat.root_dir();
        root.create_dir("EFI")?;
        root.create_dir("EFI/BOOT")?;
        root.create_dir(RECEIPTS_FOLDER)?;
        let mut file = root.create_file(BOOT_PATH)?;
        file.truncate()?;
        file.write_all(stage)?;
        file.flush()?;
    }
    fat.unmount()?;
    repair_dot_entries(&mut window)
}

/// The FAT library gives `.` and `..` long names and a wrong parent, which checkers (and strict firmware) take for
/// damage. Rewrites the first four entries of every folder, which hold just these two.
fn repair_dot_entries(window: &mut Window) -> io::Result<()> {
    const ENTRY: usize = 32;
    const ROOT_CLUSTER: u32 = 2;
    let mut boot = [0; 512];
    window.rewind()?;
    window.read_exact(&mut boot)?;
    let cluster_bytes = u64::from(boot[13]) * SECTOR;
    let table_sectors = u32::from_le_bytes([boot[36], boot[37], boot[38], boot[39]]);
    let reserved = u16::from_le_bytes([boot[14], boot[15]]);
    let data_start =
        (u64::from(reserved) + u64::from(boot[16]) * u64::from(table_sectors)) * SECTOR;
    let mut waiting = vec![(ROOT_CLUSTER, 0)];
    while let Some((cluster, parent)) = waiting.pop() {
        let at = data_start + u64::from(cluster.saturating_sub(ROOT_CLUSTER)) * cluster_bytes;
        // A few folders with a few names each: the first sector holds all of them.
        let mut entries = [0; 512];
        window.seek(SeekFrom::Start(at))?;
        window.read_exact(&mut entries)?;
        if cluster != ROOT_CLUSTER {
            let mut dot = [0; ENTRY];
            dot.copy_from_slice(&entries[ENTRY..2 * ENTRY]);
            let (mut dots, deleted) = (dot, [0xe5; ENTRY]);
            dots[..2].copy_from_slice(b"..");
            set_first_cluster(&mut dots, parent);
            entries[..4 * ENTRY].copy_from_slice(&[dot, dots, deleted, deleted].concat());
            window.seek(SeekFrom::Start(at))?;
            window.write_all(&entries)?;
        }
        let own = if cluster == ROOT_CLUSTER { 0 } else { cluster };
        let folders = entries.chunks_exact(ENTRY).filter(|entry| {
            let is_long_name = entry[11] & 0x0f == 0x0f;
            !is_long_name
                && entry[11] & 0x10 != 0
                && entry[0] != b'.'
                && entry[0] != 0xe5
                && entry[0] != 0
        });
        waiting.extend(folders.map(|entry| (first_cluster(entry), own)));
    }
    Ok(())
}

fn first_cluster(entry: &[u8]) -> u32 {
    u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]])
}

fn set_first_cluster(entry: &mut [u8; 32], cluster: u32) {
    let bytes = cluster.to_le_bytes();
    entry[26..28].copy_from_slice(&bytes[..2]);
    entry[20..22].copy_from_slice(&bytes[2..]);
}

/// The largest usual cluster with which the volume still is FAT32 (at least 65,525 clusters, with some room to spare).
fn cluster_bytes(volume_bytes: u64) -> u32 {
    /// A little above FAT32's limit, so that reserved sectors and the tables themselves do not matter.
    const CLUSTERS_MIN: u64 = 70_000;
    [4096_u32, 2048, 1024]
        .into_iter()
        .find(|&bytes| volume_bytes / u64::from(bytes) >= CLUSTERS_MIN)
        .unwrap_or(512)
}

fn copy(
    from: &mut File,
    from_path: &Utf8Path,
    to: &mut File,
    to_path: &Utf8Path,
    total: u64,
    progress: &dyn Progress,
) -> Result<(), MediaError> {
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    while done < total {
        let wanted =
            usize::try_from(total - done).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        from.read_exact(&mut buffer[..wanted])
            .map_err(MediaError::read(from_path))?;
        to.write_all(&buffer[..wanted])
            .map_err(MediaError::write(to_path))?;
        done += wanted as u64;
        progress.bytes(done, total);
    }
    Ok(())
}

/// Finds a partition by name; its start and length in bytes, inside of the medium.
fn find_partition(file: &mut File, medium_bytes: u64, name: &str) -> Result<(u64, u64), String> {
    let partitions = partition_table::read_gpt(file, medium_bytes)?;
    let mut found = (partitions.iter()).filter(|partition| partition.name == name);
    let partition = found
        .next()
        .ok_or_else(|| format!("it has no partition {name}"))?;
    if found.next().is_some() {
        return Err(format!("it has two partitions {name}"));
    }
    Ok((partition.start, partition.bytes))
}

/// The reader of the volume trusts the boot sector; we don't.
fn check_fat(window: &mut Window, partition_bytes: u64) -> Result<(), String> {
    let mut boot = [0; 512];
    window
        .rewind()
        .and_then(|()| window.read_exact(&mut boot))
        .map_err(|error| format!("its FAT volume: {error}"))?;
    let two = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let four = |at: usize| {
        u64::from(u32::from_le_bytes([
            boot[at],
            boot[at + 1],
            boot[at + 2],
            boot[at + 3],
        ]))
    };
    let (sector, per_cluster, reserved, tables) =
        (two(11), u64::from(boot[13]), two(14), u64::from(boot[16]));
    let (root_entries, sectors16, table_sectors16) = (two(17), two(19), two(22));
    let (sectors, table_sectors, root_cluster) = (four(32), four(36), four(44));
    let is_fat32 =
        boot[510..] == [0x55, 0xaa] && root_entries == 0 && sectors16 == 0 && table_sectors16 == 0;
    let used = reserved + tables * table_sectors;
    let is_sound = sector == SECTOR
        && per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&tables)
        && sectors * SECTOR <= partition_bytes
        && used < sectors;
    if !is_fat32 || !is_sound {
        return Err("its FAT volume is damaged or of another kind".into());
    }
    let clusters = (sectors - used) / per_cluster;
    let table_holds = table_sectors * SECTOR / 4;
    if clusters < 65_525 || table_holds < clusters + 2 || !(2..clusters + 2).contains(&root_cluster)
    {
        return Err("its FAT volume is damaged".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
