//! The partition table of a staged disk: written from a `Layout`, compared with one, read back.

use std::io::{Seek, SeekFrom};

use anyhow::{Context, Result, ensure};
use sequence::layout::Layout;
use uuid::Uuid;
use wire::layout::VolumeRole;

use crate::block::BlockFile;

/// Layouts have at most this many volumes: a GPT has room for 128, ours have three (five with Windows).
const VOLUMES_MAX: usize = 16;
/// Where an MBR has the type of its first partition, and what it is in a protective one (UEFI specification, 5.2.3).
const MBR_TYPE: usize = 450;
const PROTECTIVE: u8 = 0xee;

/// One partition as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Its number, from 1.
    pub(crate) number: u32,
    /// Its GPT name.
    pub(crate) name: String,
    /// Its own GUID.
    pub(crate) guid: Uuid,
    /// Its type GUID.
    pub(crate) kind: Uuid,
    /// Where it begins, in bytes.
    pub(crate) offset_bytes: u64,
    /// Its length in bytes.
    pub(crate) size_bytes: u64,
}

/// The GUID of a partition: always the same for the same device and role, so that writing a table twice is writing it
/// once.
pub(crate) fn partition_guid(serial: &str, uuid: Option<Uuid>, what: &str) -> Uuid {
    let mut hasher = blake3::Hasher::new_derive_key("forestage 2026 partition guid");
    hasher.update(serial.as_bytes());
    hasher.update(uuid.unwrap_or_default().as_bytes());
    hasher.update(what.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// What the table of `layout` looks like on the device with these names.
pub(crate) fn partitions_of(
    layout: &Layout,
    serial: &str,
    uuid: Option<Uuid>,
) -> Result<Vec<Partition>> {
    ensure!(
        layout.volumes.len() <= VOLUMES_MAX,
        "a layout with {} volumes is a mistake",
        layout.volumes.len()
    );
    let mut partitions = Vec::new();
    for (number, volume) in (1_u32..).zip(&layout.volumes) {
        let kind =
            Uuid::parse_str(volume.role.partition_type()).context("the type of a partition")?;
        partitions.push(Partition {
            number,
            name: volume.role.partition_name().to_owned(),
            guid: partition_guid(serial, uuid, volume.role.partition_name()),
            kind,
            offset_bytes: volume.offset_bytes,
            size_bytes: volume.size_bytes,
        });
    }
    Ok(partitions)
}

/// Writes protective MBR and GPT with exactly these partitions, durably.
pub(crate) fn write_table(
    disk: &BlockFile,
    sector: u64,
    disk_guid: Uuid,
    partitions: &[Partition],
) -> Result<()> {
    let mut disk = disk.clone();
    disk.seek(SeekFrom::Start(0))?;
    let mut gpt = gptman::GPT::new_from(&mut disk, sector, disk_guid.to_bytes_le())?;
    for partition in partitions {
        ensure!(
            partition.offset_bytes.is_multiple_of(sector)
                && partition.size_bytes.is_multiple_of(sector)
                && partition.size_bytes > 0,
            "volume {} does not lie on sector bounds",
            partition.name
        );
        let first = partition.offset_bytes / sector;
        gpt[partition.number] = gptman::GPTPartitionEntry {
            partition_type_guid: partition.kind.to_bytes_le(),
            unique_partition_guid: partition.guid.to_bytes_le(),
            starting_lba: first,
            ending_lba: first + partition.size_bytes / sector - 1,
            attribute_bits: 0,
            partition_name: partition.name.as_str().into(),
        };
    }
    // Both tables carry checksums: a cut in the middle leaves one that is whole or none, and the mark stands before.
    gpt.write_into(&mut disk)?;
    disk.sync()?;
    gptman::GPT::write_protective_mbr_into(&mut disk, sector)?;
    disk.sync()?;
    Ok(())
}

/// Reads the partitions of a disk; an error if there is no sound table.
pub(crate) fn read_table(disk: &BlockFile) -> Result<Vec<Partition>> {
    let mut disk = disk.clone();
    disk.seek(SeekFrom::Start(0))?;
    let gpt = gptman::GPT::find_from(&mut disk).context("no sound partition table")?;
    let mut partitions = Vec::new();
    for (number, entry) in gpt.iter().filter(|(_, entry)| entry.is_used()) {
        let sectors = entry.size()?;
        let bytes = |count: u64| {
            count
                .checked_mul(gpt.sector_size)
                .context("a partition beyond all disks")
        };
        partitions.push(Partition {
            number,
            name: entry.partition_name.as_str().to_owned(),
            guid: Uuid::from_bytes_le(entry.unique_partition_guid),
            kind: Uuid::from_bytes_le(entry.partition_type_guid),
            offset_bytes: bytes(entry.starting_lba)?,
            size_bytes: bytes(sectors)?,
        });
    }
    Ok(partitions)
}

/// Whether the disk already has exactly these partitions: in both copies of the table and under a protective MBR. Kernels
/// use nothing less.
pub(crate) fn has_table(disk: &BlockFile, partitions: &[Partition]) -> bool {
    read_table(disk).is_ok_and(|found| found == partitions)
        && is_whole(disk).is_ok_and(|is_whole| is_whole)
}

fn is_whole(disk: &BlockFile) -> Result<bool> {
    let mut disk = disk.clone();
    // The second copy if the first is broken.
    let first = gptman::GPT::find_from(&mut disk)?;
    if !first.is_primary() {
        return Ok(false);
    }
    let header = first.header;
    let backup_at = header.backup_lba.checked_mul(first.sector_size);
    disk.seek(SeekFrom::Start(
        backup_at.context("a table beyond all disks")?,
    ))?;
    let backup = gptman::GPTHeader::read_from(&mut disk)?;
    backup.read_partitions(&mut disk, first.sector_size)?;
    let mut mbr = [0; 512];
    disk.read_at(&mut mbr, 0)?;
    Ok(
        backup.partition_entry_array_crc32 == header.partition_entry_array_crc32
            && backup.disk_guid == header.disk_guid
            && mbr[MBR_TYPE] == PROTECTIVE
            && mbr[510..] == [0x55, 0xaa],
    )
}

/// The partition for `role`.
pub(crate) fn find(partitions: &[Partition], role: VolumeRole) -> Option<&Partition> {
    partitions
        .iter()
        .find(|partition| partition.name == role.partition_name())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::block::sparse;
    use proptest::prelude::*;
    use sequence::layout::Volume;

    pub(crate) fn layout() -> Layout {
        let mib = 1 << 20;
        Layout {
            disk: "/dev/test".into(),
            disk_bytes: 256 * mib,
            volumes: vec![
                Volume {
                    role: VolumeRole::Esp,
                    offset_bytes: mib,
                    size_bytes: 64 * mib,
                },
                Volume {
                    role: VolumeRole::Os,
                    offset_bytes: 65 * mib,
                    size_bytes: 100 * mib,
                },
                Volume {
                    role: VolumeRole::Staging,
                    offset_bytes: 165 * mib,
                    size_bytes: 90 * mib,
                },
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let disk = sparse(256 << 20);
        let partitions = partitions_of(&layout(), "PF3ABC", None).unwrap();
        assert!(!has_table(&disk, &partitions));
        write_table(&disk, 512, Uuid::from_u128(5), &partitions).unwrap();
        assert!(has_table(&disk, &partitions));
        let os = read_table(&disk).unwrap();
        assert_eq!(
            find(&os, VolumeRole::Os).unwrap().guid,
            partition_guid("PF3ABC", None, "forestage-os")
        );
        let other = partitions_of(&layout(), "PF3ABD", None).unwrap();
        assert!(
            !has_table(&disk, &other),
            "another device's table is not ours"
        );
    }

    #[test]
    fn a_volume_beyond_the_disk_is_refused() {
        let disk = sparse(100 << 20);
        let partitions = partitions_of(&layout(), "PF3ABC", None).unwrap();
        assert!(write_table(&disk, 512, Uuid::from_u128(5), &partitions).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_tables_never_panic(at in 0_usize..17_408, bit in 0_u8..8) {
            let disk = sparse(256 << 20);
            let partitions = partitions_of(&layout(), "PF3ABC", None).unwrap();
            write_table(&disk, 512, Uuid::from_u128(5), &partitions).unwrap();
            let mut byte = [0];
            disk.read_at(&mut byte, at as u64).unwrap();
            byte[0] ^= 1 << bit;
            disk.write_at(&byte, at as u64).unwrap();
            let _ = read_table(&disk);
        }
    }
}
