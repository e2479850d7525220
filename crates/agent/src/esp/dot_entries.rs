//! Puts right what `fatfs` 0.3 writes into new folders: it gives `.` and `..` long names, and a folder in the root a
//! wrong parent. Checkers take that for damage, and an OS would "repair" it.

use std::collections::BTreeSet;
use std::io;

use crate::block::BlockFile;

const SECTOR: u64 = 512;
const ENTRY: usize = 32;
/// FAT32 begins here; with fewer clusters the volume is of another kind.
const CLUSTERS_MIN: u64 = 65_525;
/// 64 MiB of allocation table; our volumes have 1 MiB of it or less.
const TABLE_SECTORS_MAX: u64 = 1 << 17;
/// The ESP has a dozen folders and a stick a few; a volume with more than this is not ours to walk.
const FOLDERS_MAX: usize = 4096;
/// What the FAT specification allows: 65,536 entries.
const FOLDER_BYTES_MAX: u64 = 2 << 20;

/// Where things lie on a FAT32 volume, checked against the volume's size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    table_start: u64,
    data_start: u64,
    cluster_bytes: u64,
    clusters: u64,
    root: u32,
}

impl Geometry {
    /// Reads the boot sector; `None` if the volume is not a FAT32 volume whose numbers fit together.
    pub(super) fn read(device: &BlockFile) -> io::Result<Option<Self>> {
        let mut boot = [0; 512];
        if device.length() < SECTOR {
            return Ok(None);
        }
        device.read_at(&mut boot, 0)?;
        let two = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let four =
            |at: usize| u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]);
        let (per_cluster, reserved, tables) = (u64::from(boot[13]), two(14), u64::from(boot[16]));
        let (sectors, table_sectors, root) = (u64::from(four(32)), u64::from(four(36)), four(44));
        // Root entries, 16-bit sizes and a table that isn't mirrored belong to other kinds of volume.
        let is_fat32 = boot[510..] == [0x55, 0xaa]
            && two(11) == SECTOR
            && [two(17), two(19), two(22), two(40) & 0x80] == [0; 4];
        let used = reserved + tables * table_sectors;
        let is_sound = per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables)
            && table_sectors <= TABLE_SECTORS_MAX
            && sectors * SECTOR <= device.length()
            && used < sectors;
        if !is_fat32 || !is_sound {
            return Ok(None);
        }
        let clusters = (sectors - used) / per_cluster;
        let geometry = Self {
            table_start: reserved * SECTOR,
            data_start: used * SECTOR,
            cluster_bytes: per_cluster * SECTOR,
            clusters,
            root,
        };
        let table_holds = table_sectors * SECTOR / 4;
        let is_whole = clusters >= CLUSTERS_MIN && table_holds >= clusters + 2;
        Ok((is_whole && geometry.holds(root)).then_some(geometry))
    }

    fn holds(&self, cluster: u32) -> bool {
        (2..self.clusters + 2).contains(&u64::from(cluster))
    }

    /// Where a cluster lies that [`Self::holds`] knows.
    fn position(&self, cluster: u32) -> u64 {
        self.data_start + (u64::from(cluster) - 2) * self.cluster_bytes
    }

    /// All entries of a folder; empty if its chain is damaged, which is for others to repair.
    fn entries(&self, device: &BlockFile, first: u32) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut cluster = first;
        while self.holds(cluster) {
            let at = bytes.len();
            if at as u64 + self.cluster_bytes > FOLDER_BYTES_MAX {
                return Ok(Vec::new());
            }
            bytes.resize(at + usize::try_from(self.cluster_bytes).unwrap_or(0), 0);
            device.read_at(&mut bytes[at..], self.position(cluster))?;
            let mut next = [0; 4];
            device.read_at(&mut next, self.table_start + u64::from(cluster) * 4)?;
            cluster = u32::from_le_bytes(next) & 0x0fff_ffff;
        }
        Ok(bytes)
    }
}

/// Repairs the first entries of every folder that begins as `fatfs` begins one, and leaves all others alone.
pub(super) fn repair(device: &BlockFile) -> io::Result<()> {
    let Some(geometry) = Geometry::read(device)? else {
        return Ok(());
    };
    let mut seen = BTreeSet::from([geometry.root]);
    let mut waiting = vec![(geometry.root, 0)];
    while let Some((cluster, parent)) = waiting.pop() {
        let entries = geometry.entries(device, cluster)?;
        if cluster != geometry.root
            && let Some(repaired) = repaired(&entries, cluster, parent)
        {
            device.write_at(&repaired, geometry.position(cluster))?;
        }
        // `..` of a folder in the root says 0.
        let own = if cluster == geometry.root { 0 } else { cluster };
        for entry in entries
            .chunks_exact(ENTRY)
            .take_while(|entry| entry[0] != 0)
        {
            let is_folder = entry[11] & 0x18 == 0x10 && entry[0] != b'.' && entry[0] != 0xe5;
            let first = first_cluster(entry);
            if is_folder && geometry.holds(first) && seen.len() < FOLDERS_MAX && seen.insert(first)
            {
                waiting.push((first, own));
            }
        }
    }
    Ok(())
}

/// What the first four entries should be; `None` if they aren't those of `fatfs`: long name, `.`, long name, `..`.
fn repaired(entries: &[u8], cluster: u32, parent: u32) -> Option<[u8; 4 * ENTRY]> {
    const LONG_NAME: u8 = 0x0f;
    let [long, dot, long_too, dots] = [0, 1, 2, 3].map(|n| entries.get(n * ENTRY..(n + 1) * ENTRY));
    let (long, dot, long_too, dots) = (long?, dot?, long_too?, dots?);
    let is_ours = [long[11], long_too[11]] == [LONG_NAME; 2]
        && &dot[..11] == b".          "
        && &dots[..11] == b"..         "
        && first_cluster(dot) == cluster;
    if !is_ours {
        return None;
    }
    // The two that are left over are marked as deleted.
    let mut repaired = [0xe5; 4 * ENTRY];
    repaired[..ENTRY].copy_from_slice(dot);
    repaired[ENTRY..2 * ENTRY].copy_from_slice(dots);
    let bytes = parent.to_le_bytes();
    repaired[ENTRY + 26..ENTRY + 28].copy_from_slice(&bytes[..2]);
    repaired[ENTRY + 20..ENTRY + 22].copy_from_slice(&bytes[2..]);
    Some(repaired)
}

fn first_cluster(entry: &[u8]) -> u32 {
    u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]])
}
