//! Filesystem images, and those inside the disks of virtual machines: raw, qcow2 and VHDX.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use camino::{Utf8Path, Utf8PathBuf};
use content::{ContentError, Unsettled, check_settled};
use wire::digest::Digest;

use crate::command::Program;
use crate::error::MediaError;
use crate::partition_table::{self, Partition};
use crate::progress::Progress;
use crate::tree;

/// How much is copied at once; what is zero of it stays a hole.
const COPY_BYTES: usize = 64 << 10;
/// The head of a qcow2 disk tells in its first bytes where its other files are.
const HEAD_BYTES: usize = 80;

/// A disk of a virtual machine, or an image of a whole disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskSource {
    /// The disk: raw, qcow2 or VHDX.
    #[schemars(with = "String")]
    pub file: Utf8PathBuf,
    /// The partition to take, by its number.
    #[serde(default)]
    pub partition: Option<u32>,
    /// The partition to take, by its label in the partition table.
    #[serde(default)]
    pub label: Option<String>,
}

/// How a disk is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Raw,
    Qcow2,
    Vhdx,
}

/// The filesystem of one partition of a disk as an image of its own, below `cache`, where it stays for the next time.
/// `fingerprint` tells the disk from others.
pub(crate) fn partition_image(
    source: &DiskSource,
    disk: &Utf8Path,
    fingerprint: &str,
    cache: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Utf8PathBuf, MediaError> {
    let folder = cache.join("disk-images");
    let which = format!("{fingerprint} {:?} {:?}", source.partition, source.label);
    let name = disk.file_stem().unwrap_or("disk");
    let kept = folder.join(format!(
        "{name}-{}.img",
        Digest::of(which.as_bytes()).short()
    ));
    if kept.is_file() {
        return Ok(kept);
    }
    let (_scratch, scratch) = tree::scratch(&folder)?;
    let raw = match format(disk)? {
        Format::Raw => disk.to_owned(),
        format => {
            progress.phase(&format!("unpacking {disk}"));
            let raw = scratch.join("disk.raw");
            convert(disk, format, &raw)?;
            raw
        }
    };
    let partition = choose(source, disk, &raw)?;
    progress.phase(&format!("taking the filesystem out of {disk}"));
    let image = scratch.join("partition.img");
    copy(&raw, &image, partition.start, partition.bytes)?;
    fs::rename(&image, &kept).map_err(MediaError::write(&kept))?;
    Ok(kept)
}

/// Refuses what is no filesystem image, or one whose filesystem was still in use when it was taken.
pub(crate) fn check_filesystem(image: &Utf8Path) -> Result<(), MediaError> {
    if format(image)? != Format::Raw {
        return Err(MediaError::refused(
            format!("{image} is the disk of a virtual machine, not a filesystem image"),
            "name it as source: { disk: { file: … } }",
        ));
    }
    let mut file = File::open(image).map_err(MediaError::read(image))?;
    if let Some(partitions) = partition_table::read(&mut file)
        .ok()
        .filter(|found| !found.is_empty())
    {
        return Err(MediaError::refused(
            format!("{image} is a disk with partitions, not a filesystem image"),
            format!(
                "name it as source: {{ disk: {{ file: …, partition: … }} }}; it has {}",
                list(&partitions)
            ),
        ));
    }
    let image_bytes = file
        .seek(SeekFrom::End(0))
        .map_err(MediaError::read(image))?;
    match check_settled(&file, image_bytes) {
        Ok(()) => Ok(()),
        Err(ContentError::Unsettled { unsettled }) => Err(MediaError::refused(
            format!("{image} can't be used as it is: {unsettled}"),
            how_to_settle(unsettled),
        )),
        Err(error) => Err(MediaError::unusable(
            image,
            "filesystem image",
            error.to_string(),
        )),
    }
}

fn how_to_settle(unsettled: Unsettled) -> &'static str {
    match unsettled {
        Unsettled::Ext4Journal | Unsettled::Ext4State => {
            "shut its system down and take the image again, or run e2fsck -f on a copy"
        }
        Unsettled::XfsLog | Unsettled::BtrfsLog => {
            "shut its system down and take the image again, or mount and unmount a copy"
        }
        Unsettled::NtfsDirty => {
            "let Windows check the volume (chkdsk /f), shut it down and take the image again"
        }
        Unsettled::NtfsHibernated => {
            "switch it off in Windows (powercfg /h off), shut down (shutdown /s /t 0) and take the image again"
        }
    }
}

fn head(path: &Utf8Path) -> Result<Vec<u8>, MediaError> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(MediaError::read(path))?;
    let read = file.take(HEAD_BYTES as u64).read_to_end(&mut head);
    read.map_err(MediaError::read(path))?;
    // A shorter file has nothing there.
    head.resize(HEAD_BYTES, 0);
    Ok(head)
}

fn format(path: &Utf8Path) -> Result<Format, MediaError> {
    let head = head(path)?;
    Ok(if head.starts_with(b"QFI\xFB") {
        Format::Qcow2
    } else if head.starts_with(b"vhdxfile") {
        Format::Vhdx
    } else {
        Format::Raw
    })
}

/// Unpacks a disk into a raw file with holes.
fn convert(disk: &Utf8Path, format: Format, raw: &Utf8Path) -> Result<(), MediaError> {
    let name = match format {
        Format::Raw => "raw",
        Format::Qcow2 => "qcow2",
        Format::Vhdx => "vhdx",
    };
    if format == Format::Qcow2 && names_other_files(&head(disk)?) {
        return Err(MediaError::refused(
            format!(
                "{disk} is only what differs from another disk, or keeps its data in another file"
            ),
            "make it one file: qemu-img convert -O qcow2 OLD NEW",
        ));
    }
    // Its format is never guessed: a raw disk could begin like one that names any file of this machine.
    let program = Program::new("qemu-img").args(["convert", "-q", "-f", name, "-O", "raw"]);
    let program = program.args([disk.as_str(), raw.as_str()]);
    program
        .run()
        .map(drop)
        .map_err(MediaError::command(format!("unpack the disk {disk}")))
}

/// Whether a qcow2 disk names a file it is based on, or one that has its data.
fn names_other_files(head: &[u8]) -> bool {
    let is_based_on_another = head[8..16] != [0; 8];
    let is_version_3 = head[4..8] == [0, 0, 0, 3];
    is_based_on_another || (is_version_3 && head[79] & 4 != 0)
}

/// The partition that is asked for; the whole disk if it has none.
fn choose(source: &DiskSource, disk: &Utf8Path, raw: &Utf8Path) -> Result<Partition, MediaError> {
    let mut file = File::open(raw).map_err(MediaError::read(raw))?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(MediaError::read(raw))?;
    let found = partition_table::read(&mut file);
    let partitions = found.map_err(|reason| MediaError::unusable(disk, "disk", reason))?;
    let is_wanted = |partition: &&Partition| {
        source
            .partition
            .is_none_or(|number| partition.number == number)
            && (source.label.as_ref()).is_none_or(|label| partition.name == *label)
    };
    let wanted: Vec<&Partition> = partitions.iter().filter(is_wanted).collect();
    let is_chosen = source.partition.is_some() || source.label.is_some();
    match wanted[..] {
        [one] => Ok(one.clone()),
        [] if partitions.is_empty() && !is_chosen => Ok(Partition {
            number: 0,
            name: String::new(),
            start: 0,
            bytes,
        }),
        _ if partitions.is_empty() => Err(MediaError::refused(
            format!("{disk} has no partitions"),
            "leave partition and label out: it is one filesystem",
        )),
        [] => Err(MediaError::refused(
            format!("{disk} has no such partition"),
            format!("it has {}", list(&partitions)),
        )),
        _ => Err(MediaError::refused(
            format!("{disk} has several partitions, and it isn't said which one to take"),
            format!("set partition or label to one of {}", list(&partitions)),
        )),
    }
}

/// All partitions on one line.
fn list(partitions: &[Partition]) -> String {
    let one = |partition: &Partition| {
        let mib = partition.bytes.div_ceil(1 << 20);
        match partition.name.as_str() {
            "" => format!("{} ({mib} MiB)", partition.number),
            name => format!("{} ({name}, {mib} MiB)", partition.number),
        }
    };
    partitions.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Copies a part of a file; what is zero becomes a hole.
fn copy(from: &Utf8Path, to: &Utf8Path, start: u64, bytes: u64) -> Result<(), MediaError> {
    let reader = File::open(from).map_err(MediaError::read(from))?;
    let writer = File::create_new(to).map_err(MediaError::write(to))?;
    writer.set_len(bytes).map_err(MediaError::write(to))?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < bytes {
        let part = usize::try_from((bytes - at).min(COPY_BYTES as u64)).unwrap_or(COPY_BYTES);
        let part = &mut buffer[..part];
        reader
            .read_exact_at(part, start + at)
            .map_err(MediaError::read(from))?;
        if part.iter().any(|byte| *byte != 0) {
            writer
                .write_all_at(part, at)
                .map_err(MediaError::write(to))?;
        }
        at += part.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
