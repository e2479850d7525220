//! Whether a Btrfs filesystem has anything in its log. Layout: the kernel's `btrfs_tree.h`.

use super::{Survey, Unsettled, array_at, u64_at};

const SUPERBLOCK_OFFSET: u64 = 64 << 10;
const SUPERBLOCK_BYTES: usize = 4096;
const MAGIC: &[u8; 8] = b"_BHRfS_M";

/// Whether there is a log tree: what programs had synced when the filesystem was last in use, and is nowhere else.
pub(super) fn unsettled(survey: &mut Survey<'_>) -> Option<Unsettled> {
    let mut superblock = [0; SUPERBLOCK_BYTES];
    survey.read(&mut superblock, SUPERBLOCK_OFFSET)?;
    let is_btrfs = &array_at(&superblock, 0x40)? == MAGIC;
    (is_btrfs && u64_at(&superblock, 0x60)? != 0).then_some(Unsettled::BtrfsLog)
}
