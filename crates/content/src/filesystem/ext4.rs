//! Where files lie inside an ext4 image, and whether its journal has been played. Layout: the kernel's documentation of ext4, "Data Structures and Algorithms".

use super::{Survey, TABLE_BYTES, Unsettled, u16_at, u32_at};

const SUPERBLOCK_OFFSET: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 1024;
const MAGIC: u16 = 0xEF53;
const INCOMPATIBLE_RECOVER: u32 = 0x4;
const INCOMPATIBLE_64_BIT: u32 = 0x80;
/// Unmounted, and no error was met.
const STATE_CLEAN: u16 = 1;
const INODE_HAS_EXTENTS: u32 = 0x8_0000;
/// An initialised extent has at most this many blocks; longer ones are marked as not yet written.
const EXTENT_BLOCKS_MAX: u16 = 32768;
const EXTENT_MAGIC: u16 = 0xF30A;
/// The kernel builds no deeper tree.
const EXTENT_DEPTH_MAX: u16 = 5;
/// As many groups as 16 TiB have.
const GROUPS_MAX: u64 = 1 << 17;

/// Looks through the inodes of all groups; `None` when there is no sense in going on.
pub(super) fn survey(survey: &mut Survey<'_>) -> Option<()> {
    let volume = Volume::open(survey)?;
    for group in 0..volume.groups {
        volume.group(group, survey)?;
    }
    Some(())
}

/// Why the filesystem can't be used elsewhere yet: for ext2 and ext3, too.
pub(super) fn unsettled(survey: &mut Survey<'_>) -> Option<Unsettled> {
    let superblock = superblock(survey)?;
    if u32_at(&superblock, 0x60)? & INCOMPATIBLE_RECOVER != 0 {
        Some(Unsettled::Ext4Journal)
    } else {
        (u16_at(&superblock, 0x3A)? != STATE_CLEAN).then_some(Unsettled::Ext4State)
    }
}

fn superblock(survey: &mut Survey<'_>) -> Option<[u8; SUPERBLOCK_BYTES]> {
    let mut superblock = [0; SUPERBLOCK_BYTES];
    survey.read(&mut superblock, SUPERBLOCK_OFFSET)?;
    (u16_at(&superblock, 0x38)? == MAGIC).then_some(superblock)
}

struct Volume {
    block_bytes: u64,
    inode_bytes: usize,
    inodes_per_group: u32,
    descriptor_bytes: u64,
    first_descriptor: u64,
    groups: u64,
    has_64_bit: bool,
}

impl Volume {
    fn open(survey: &mut Survey<'_>) -> Option<Self> {
        let superblock = superblock(survey)?;
        let block_bytes = 1024_u64 << u32_at(&superblock, 0x18).filter(|shift| *shift <= 6)?;
        let blocks = u64::from(u32_at(&superblock, 0x04)?);
        let first_block = u64::from(u32_at(&superblock, 0x14)?);
        let blocks_per_group = u64::from(u32_at(&superblock, 0x20)?);
        let has_64_bit = u32_at(&superblock, 0x60)? & INCOMPATIBLE_64_BIT != 0;
        let inode_bytes = usize::from(u16_at(&superblock, 0x58)?);
        let descriptor_bytes = match has_64_bit {
            true => u64::from(u16_at(&superblock, 0xFE)?).max(64),
            false => 32,
        };
        if blocks_per_group == 0 || !(128..=4096).contains(&inode_bytes) {
            return None;
        }
        Some(Self {
            block_bytes,
            inode_bytes,
            inodes_per_group: u32_at(&superblock, 0x28)?,
            descriptor_bytes,
            first_descriptor: (first_block + 1) * block_bytes,
            groups: blocks.div_ceil(blocks_per_group).min(GROUPS_MAX),
            has_64_bit,
        })
    }

    /// Reads the inodes of a group; `None` when there is no sense in going on.
    fn group(&self, group: u64, survey: &mut Survey<'_>) -> Option<()> {
        let mut descriptor = [0; 64];
        let read = usize::try_from(self.descriptor_bytes.min(64)).ok()?;
        let at = self.first_descriptor + group * self.descriptor_bytes;
        survey.read(&mut descriptor[..read], at)?;
        let high = match self.has_64_bit {
            true => u64::from(u32_at(&descriptor, 0x28)?),
            false => 0,
        };
        let table = (high << 32) | u64::from(u32_at(&descriptor, 0x08)?);
        let unused = u32::from(u16_at(&descriptor, 0x1C)?);
        let inodes = self.inodes_per_group.saturating_sub(unused);
        let mut at = table.checked_mul(self.block_bytes)?;
        let mut left = u64::from(inodes) * self.inode_bytes as u64;
        if at.checked_add(left)? > survey.image_bytes {
            return None;
        }
        let mut buffer = vec![0; TABLE_BYTES - TABLE_BYTES % self.inode_bytes];
        while left > 0 {
            let part = usize::try_from(left.min(buffer.len() as u64)).ok()?;
            survey.read(&mut buffer[..part], at)?;
            for inode in buffer[..part].chunks_exact(self.inode_bytes) {
                if survey.is_full() {
                    return None;
                }
                // A damaged inode only costs its own hints.
                let _damaged = self.inode(inode, survey).is_none();
            }
            at += part as u64;
            left -= part as u64;
        }
        Some(())
    }

    fn inode(&self, inode: &[u8], survey: &mut Survey<'_>) -> Option<()> {
        let kind = u16_at(inode, 0)? & 0xF000;
        let is_linked = u16_at(inode, 0x1A)? > 0;
        let has_extents = u32_at(inode, 0x20)? & INODE_HAS_EXTENTS != 0;
        if is_linked && has_extents && (kind == 0x8000 || kind == 0x4000) {
            self.node(inode.get(0x28..0x28 + 60)?, EXTENT_DEPTH_MAX, survey)?;
        }
        Some(())
    }

    fn node(&self, node: &[u8], depth_max: u16, survey: &mut Survey<'_>) -> Option<()> {
        let depth = u16_at(node, 6)?;
        if u16_at(node, 0)? != EXTENT_MAGIC || depth > depth_max {
            return None;
        }
        let entries = usize::from(u16_at(node, 2)?);
        for entry in node.get(12..)?.chunks_exact(12).take(entries) {
            if depth == 0 {
                let blocks = u16_at(entry, 4)?;
                let start = (u64::from(u16_at(entry, 6)?) << 32) | u64::from(u32_at(entry, 8)?);
                let offset = start.checked_mul(self.block_bytes)?;
                if (1..=EXTENT_BLOCKS_MAX).contains(&blocks) {
                    survey.add(offset, u64::from(blocks) * self.block_bytes)?;
                }
            } else {
                let below = (u64::from(u16_at(entry, 8)?) << 32) | u64::from(u32_at(entry, 4)?);
                let mut block = vec![0; usize::try_from(self.block_bytes).ok()?];
                survey.read(&mut block, below.checked_mul(self.block_bytes)?)?;
                self.node(&block, depth.min(depth_max) - 1, survey)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::super::file_stretches;
    use super::{EXTENT_MAGIC, MAGIC};

    /// What is found in an image that holds these bytes at these places.
    fn check(parts: &[(u64, &[u8])]) -> usize {
        let image = tempfile::tempfile().unwrap();
        image.set_len(1 << 20).unwrap();
        for (at, bytes) in parts {
            image.write_all_at(bytes, *at).unwrap();
        }
        file_stretches(&image, 1 << 20).len()
    }

    /// A superblock of 4-KiB blocks: one group of 16 inodes, whose table begins at block 2.
    fn volume(parts: &[(u64, &[u8])]) -> usize {
        let mut superblock = [0; 1024];
        superblock[0x04] = 200;
        superblock[0x18] = 2;
        superblock[0x20] = 255;
        superblock[0x28] = 16;
        superblock[0x38..0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        superblock[0x59] = 1;
        let mut all: Vec<(u64, &[u8])> = vec![(1024, &superblock), (4096 + 8, &[2])];
        all.extend_from_slice(parts);
        check(&all)
    }

    /// A node of an extent tree, all of whose entries point to `block`.
    fn node(depth: u8, entries: u8, block: u8) -> Vec<u8> {
        let mut node = EXTENT_MAGIC.to_le_bytes().to_vec();
        node.extend_from_slice(&[entries, 0, entries, 0, depth, 0, 0, 0, 0, 0]);
        for _ in 0..entries {
            match depth {
                0 => node.extend_from_slice(&[0, 0, 0, 0, 3, 0, 0, 0, block, 0, 0, 0]),
                _ => node.extend_from_slice(&[0, 0, 0, 0, block, 0, 0, 0, 0, 0, 0, 0]),
            }
        }
        node
    }

    /// A file with this extent tree.
    fn inode(tree: &[u8]) -> Vec<u8> {
        let mut inode = vec![0; 256];
        inode[0x01] = 0x80;
        inode[0x1A] = 1;
        inode[0x22] = 8;
        inode[0x28..0x28 + tree.len()].copy_from_slice(tree);
        inode
    }

    #[test]
    fn files_are_found() {
        assert_eq!(check(&[]), 0);
        assert_eq!(volume(&[]), 0);
        assert_eq!(volume(&[(2 * 4096, &inode(&node(0, 1, 20)))]), 1);
        let below = node(0, 3, 21);
        assert_eq!(
            volume(&[(2 * 4096, &inode(&node(1, 1, 9))), (9 * 4096, &below)]),
            1
        );
    }

    #[test]
    fn a_tree_that_never_ends_ends() {
        // Each of four levels points 250 times at the next: four billion nodes, were they all read.
        let levels: Vec<Vec<u8>> = (0..5).map(|depth| node(depth, 250, 9 + depth)).collect();
        let mut parts: Vec<(u64, &[u8])> = Vec::new();
        for (at, level) in (10..).zip(&levels) {
            parts.push((at * 4096, level));
        }
        let top = inode(&node(5, 4, 14));
        parts.push((2 * 4096, &top));
        assert!(volume(&parts) <= 1);
    }

    #[test]
    fn what_is_cut_off_is_passed_over() {
        let mut image = tempfile::tempfile().unwrap();
        image.write_all(&[0; 100]).unwrap();
        assert!(file_stretches(&image, 100).is_empty());
        assert!(file_stretches(&File::open("/dev/null").unwrap(), 0).is_empty());
    }
}
