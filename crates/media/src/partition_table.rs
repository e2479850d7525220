//! Partition tables of disk images: GPT, and the four partitions of an MBR. No number in them is trusted.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use gptman::GPT;

const SECTOR: u64 = 512;
const BOOT_BYTES: usize = 512;
/// More partition entries than any tool makes.
const PARTITION_ENTRIES_MAX: u32 = 1024;
/// The kind of the one MBR partition that tells old programs that there is a GPT.
const PROTECTIVE: u8 = 0xEE;

/// A partition of a disk, inside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// From 1 on.
    pub(crate) number: u32,
    /// Empty in an MBR.
    pub(crate) name: String,
    /// Where it begins, in bytes.
    pub(crate) start: u64,
    /// How long it is.
    pub(crate) bytes: u64,
}

/// The partitions of a disk, by number; none if there is no partition table.
pub(crate) fn read(disk: &mut File) -> Result<Vec<Partition>, String> {
    let disk_bytes = disk
        .seek(SeekFrom::End(0))
        .map_err(|error| error.to_string())?;
    let mut boot = [0; BOOT_BYTES];
    let read = disk.rewind().and_then(|()| disk.read_exact(&mut boot));
    // Filesystems of Microsoft's begin with a sector that ends like an MBR.
    if read.is_err() || boot[510..] != [0x55, 0xAA] || is_filesystem(&boot) {
        return Ok(Vec::new());
    }
    let entries = boot[446..510].chunks_exact(16);
    if entries.clone().any(|entry| entry[4] == PROTECTIVE) {
        return read_gpt(disk, disk_bytes);
    }
    let number =
        |bytes: &[u8]| u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let partitions = (1..).zip(entries).filter(|(_, entry)| entry[4] != 0);
    let partitions = partitions.map(|(index, entry)| Partition {
        number: index,
        name: String::new(),
        start: number(&entry[8..]) * SECTOR,
        bytes: number(&entry[12..]) * SECTOR,
    });
    partitions
        .map(|partition| inside(partition, disk_bytes))
        .collect()
}

/// The partitions of a GPT, by number.
pub(crate) fn read_gpt(disk: &mut File, disk_bytes: u64) -> Result<Vec<Partition>, String> {
    let damaged = |error: &dyn std::fmt::Display| format!("its partition table: {error}");
    check_gpt_head(disk).map_err(|error| damaged(&error))?;
    let gpt = GPT::read_from(disk, SECTOR).map_err(|error| damaged(&error))?;
    let used = gpt.iter().filter(|(_, entry)| entry.is_used());
    let partitions = used.map(|(number, entry)| {
        let name = entry.partition_name.as_str().to_owned();
        let outside = || format!("its partition {number} ({name}) lies outside of it");
        let start = entry.starting_lba.checked_mul(SECTOR).ok_or_else(outside)?;
        let end = (entry.ending_lba.checked_add(1)).and_then(|end| end.checked_mul(SECTOR));
        let bytes = end
            .and_then(|end| end.checked_sub(start))
            .ok_or_else(outside)?;
        let partition = Partition {
            number,
            name,
            start,
            bytes,
        };
        inside(partition, disk_bytes)
    });
    partitions.collect()
}

fn inside(partition: Partition, disk_bytes: u64) -> Result<Partition, String> {
    let end = partition.start.checked_add(partition.bytes);
    if partition.bytes == 0 || end.is_none_or(|end| end > disk_bytes) {
        let Partition { number, name, .. } = partition;
        return Err(format!(
            "its partition {number} ({name}) lies outside of it"
        ));
    }
    Ok(partition)
}

/// Whether this is the first sector of a FAT, exFAT, NTFS or BitLocker volume.
fn is_filesystem(boot: &[u8]) -> bool {
    let names: [&[u8]; 3] = [b"NTFS    ", b"EXFAT   ", b"-FVE-FS-"];
    names.contains(&&boot[3..11])
        || boot[54..].starts_with(b"FAT")
        || boot[82..].starts_with(b"FAT32")
}

/// The reader of the partition table allocates what the header says; look at that first, in both headers.
fn check_gpt_head(file: &mut File) -> io::Result<()> {
    let bytes = file.seek(SeekFrom::End(0))?;
    for at in [SECTOR, bytes.saturating_sub(SECTOR)] {
        let mut head = [0; 92];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let field =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let is_gpt = &head[..8] == b"EFI PART";
        if is_gpt && (field(80) > PARTITION_ENTRIES_MAX || field(84) != 128 || field(12) != 92) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it claims absurd sizes",
            ));
        }
    }
    Ok(())
}
