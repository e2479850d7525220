//! Filesystems inside images: where their files lie, and whether they are as their OS left them when it was done.
//!
//! Where files lie is only a hint for the cutter: what can't be read is passed over, and the image is cut without it. Nothing
//! in an image is trusted, and nothing is allocated by a length that it claims.

mod btrfs;
mod ext4;
mod ntfs;
mod xfs;

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::ContentError;

/// Eight million stretches take 128 MiB; a desktop has forty thousand.
const STRETCHES_MAX: usize = 8 << 20;
/// What a sound volume writes about its files takes far less than this share of it. In a hostile one it points at itself,
/// and reading it would never end.
const READ_ONE_IN: u64 = 8;
/// Read even if the volume is small.
const READ_BYTES_MIN: u64 = 16 << 20;
/// How much of a table is read at once.
const TABLE_BYTES: usize = 1 << 20;

/// A stretch of one file that lies in one piece on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileStretch {
    /// Where it begins on the volume.
    pub(crate) offset: u64,
    /// How long it is.
    pub(crate) bytes: u64,
}

/// The stretches of all files and folders, in the order of the volume; empty if it is neither ext4 nor NTFS.
pub(crate) fn file_stretches(image: &File, image_bytes: u64) -> Vec<FileStretch> {
    let mut survey = Survey::new(image, image_bytes);
    // What was found before something was damaged, or there was too much of it, is as good as before.
    let _stopped = ext4::survey(&mut survey).or_else(|| ntfs::survey(&mut survey));
    let mut found = survey.found;
    found.sort_unstable();
    found.dedup_by_key(|stretch| stretch.offset);
    found
}

/// Why a filesystem can't be used elsewhere yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsettled {
    /// ext4: what is in its journal isn't in its place.
    Ext4Journal,
    /// ext4: it is in use, or has errors.
    Ext4State,
    /// XFS: what is in its log isn't in its place.
    XfsLog,
    /// Btrfs: what is in its log isn't in its place.
    BtrfsLog,
    /// NTFS: it is in use, or has errors.
    NtfsDirty,
    /// NTFS: Windows means to go on with it.
    NtfsHibernated,
}

impl std::fmt::Display for Unsettled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ext4Journal => {
                "its ext4 filesystem wasn't unmounted: the journal has yet to be played"
            }
            Self::Ext4State => "its ext4 filesystem wasn't unmounted, or has errors",
            Self::XfsLog => "its XFS filesystem wasn't unmounted: the log has yet to be played",
            Self::BtrfsLog => "its Btrfs filesystem wasn't unmounted: the log has yet to be played",
            Self::NtfsDirty => "its NTFS volume is marked as dirty",
            Self::NtfsHibernated => "its Windows is hibernated, as it is after a fast shutdown",
        })
    }
}

/// Looks whether the filesystem in an image was left in order. One that isn't known is taken to be.
///
/// # Errors
/// If it wasn't.
pub fn check_settled(image: &File, image_bytes: u64) -> Result<(), ContentError> {
    let checks = [
        ext4::unsettled,
        xfs::unsettled,
        btrfs::unsettled,
        ntfs::unsettled,
    ];
    let found = (checks.iter()).find_map(|check| check(&mut Survey::new(image, image_bytes)));
    found.map_or(Ok(()), |unsettled| {
        Err(ContentError::Unsettled { unsettled })
    })
}

/// An image that is looked through, within limits, and what was found in it.
struct Survey<'a> {
    image: &'a File,
    image_bytes: u64,
    /// How much may still be read.
    left: u64,
    found: Vec<FileStretch>,
}

impl<'a> Survey<'a> {
    fn new(image: &'a File, image_bytes: u64) -> Self {
        Self {
            image,
            image_bytes,
            left: (image_bytes / READ_ONE_IN).max(READ_BYTES_MIN),
            found: Vec::new(),
        }
    }

    /// Reads, as long as it isn't too much altogether.
    fn read(&mut self, bytes: &mut [u8], at: u64) -> Option<()> {
        self.left = self.left.checked_sub(bytes.len() as u64)?;
        self.image.read_exact_at(bytes, at).ok()
    }

    /// Takes note of a stretch, as long as there aren't too many.
    fn add(&mut self, offset: u64, bytes: u64) -> Option<()> {
        if self.found.len() >= STRETCHES_MAX {
            return None;
        }
        if offset < self.image_bytes {
            self.found.push(FileStretch { offset, bytes });
        }
        Some(())
    }

    fn is_full(&self) -> bool {
        self.found.len() >= STRETCHES_MAX
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}
