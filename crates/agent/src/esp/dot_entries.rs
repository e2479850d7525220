//! Puts right how folders begin. `fatfs` 0.3 gives `.` and `..` of new ones long names, and a folder in the root a wrong
//! parent: checkers take that for damage, and an OS would "repair" it. A power cut may leave a folder without its first
//! cluster, in which then lies whatever lay there before, or which the table calls free: it is emptied, and keeps it.

use std::collections::BTreeSet;
use std::io;

use super::cache::Cache;

const SECTOR: u64 = 512;
const ENTRY: usize = 32;
const DOT: &[u8; 11] = b".          ";
const DOTS: &[u8; 11] = b"..         ";
const END_OF_CHAIN: u32 = 0x0fff_ffff;
/// The attribute of a folder.
const FOLDER: u8 = 0x10;
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
    /// The length of one copy of the allocation table in bytes, and how many copies there are.
    table_bytes: u64,
    tables: u64,
    data_start: u64,
    cluster_bytes: u64,
    clusters: u64,
    root: u32,
}

impl Geometry {
    /// Reads the boot sector; `None` if the volume is not a FAT32 volume whose numbers fit together.
    pub(super) fn read(device: &Cache) -> io::Result<Option<Self>> {
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
            table_bytes: table_sectors * SECTOR,
            tables,
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

    /// All entries of a folder and the clusters they lie in; none if its chain is damaged, which is for others to repair.
    fn entries(&self, device: &Cache, first: u32) -> io::Result<(Vec<u8>, Vec<u32>)> {
        let (mut bytes, mut clusters) = (Vec::new(), Vec::new());
        let mut cluster = first;
        while self.holds(cluster) {
            let at = bytes.len();
            if at as u64 + self.cluster_bytes > FOLDER_BYTES_MAX {
                return Ok((Vec::new(), Vec::new()));
            }
            clusters.push(cluster);
            bytes.resize(at + usize::try_from(self.cluster_bytes).unwrap_or(0), 0);
            device.read_at(&mut bytes[at..], self.position(cluster))?;
            let mut next = [0; 4];
            device.read_at(&mut next, self.table_start + u64::from(cluster) * 4)?;
            cluster = u32::from_le_bytes(next) & 0x0fff_ffff;
        }
        Ok((bytes, clusters))
    }

    /// Gives a folder its last cluster, which the table may call free: the next file would be written over it.
    fn keep(&self, device: &Cache, last: u32) -> io::Result<()> {
        let mut next = [0; 4];
        let at = self.table_start + u64::from(last) * 4;
        device.read_at(&mut next, at)?;
        if u32::from_le_bytes(next) & 0x0fff_ffff != 0 {
            return Ok(());
        }
        for copy in 0..self.tables {
            device.write_at(&END_OF_CHAIN.to_le_bytes(), at + copy * self.table_bytes)?;
        }
        Ok(())
    }

    /// Leaves a folder with nothing but its two first entries.
    fn empty(&self, device: &Cache, clusters: &[u32], parent: u32) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(self.cluster_bytes).unwrap_or(0)];
        for cluster in clusters {
            device.write_at(&bytes, self.position(*cluster))?;
        }
        bytes.truncate(2 * ENTRY);
        for (entry, (name, to)) in bytes
            .chunks_exact_mut(ENTRY)
            .zip([(DOT, clusters[0]), (DOTS, parent)])
        {
            entry[..name.len()].copy_from_slice(name);
            entry[11] = FOLDER;
            set_first_cluster(entry, to);
        }
        device.write_at(&bytes, self.position(clusters[0]))
    }
}

/// Repairs every folder that begins as `fatfs` begins one, and empties those that begin as no folder does.
pub(super) fn repair(device: &Cache) -> io::Result<()> {
    let Some(geometry) = Geometry::read(device)? else {
        return Ok(());
    };
    let mut seen = BTreeSet::from([geometry.root]);
    let mut waiting = vec![(geometry.root, 0)];
    while let Some((cluster, parent)) = waiting.pop() {
        let (mut entries, clusters) = geometry.entries(device, cluster)?;
        if let Some(last) = clusters.last() {
            geometry.keep(device, *last)?;
        }
        if cluster != geometry.root && !clusters.is_empty() {
            if let Some(repaired) = repaired(&entries, cluster, parent) {
                device.write_at(&repaired, geometry.position(cluster))?;
            } else if !begins_well(&entries, cluster) {
                geometry.empty(device, &clusters, parent)?;
                entries.clear();
            }
        }
        // `..` of a folder in the root says 0.
        let own = if cluster == geometry.root { 0 } else { cluster };
        for entry in entries
            .chunks_exact(ENTRY)
            .take_while(|entry| entry[0] != 0)
        {
            let is_folder = entry[11] & 0x18 == FOLDER && entry[0] != b'.' && entry[0] != 0xe5;
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
        && &dot[..11] == DOT
        && &dots[..11] == DOTS
        && first_cluster(dot) == cluster;
    if !is_ours {
        return None;
    }
    // The two that are left over are marked as deleted.
    let mut repaired = [0xe5; 4 * ENTRY];
    repaired[..ENTRY].copy_from_slice(dot);
    repaired[ENTRY..2 * ENTRY].copy_from_slice(dots);
    set_first_cluster(&mut repaired[ENTRY..], parent);
    Some(repaired)
}

fn first_cluster(entry: &[u8]) -> u32 {
    u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]])
}

fn set_first_cluster(entry: &mut [u8], cluster: u32) {
    let bytes = cluster.to_le_bytes();
    entry[26..28].copy_from_slice(&bytes[..2]);
    entry[20..22].copy_from_slice(&bytes[2..]);
}

/// Whether the first two entries are `.` of this very folder and `..`.
fn begins_well(entries: &[u8], cluster: u32) -> bool {
    let is = |entry: &[u8], name: &[u8]| &entry[..11] == name && entry[11] & FOLDER != 0;
    entries.len() >= 2 * ENTRY
        && is(entries, DOT)
        && first_cluster(entries) == cluster
        && is(&entries[ENTRY..], DOTS)
}
