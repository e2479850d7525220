//! A volume that is read and written past the page cache where that can be done.
//!
//! What is compared or written isn't needed again by anybody: the kernel had better copy nothing. Short stretches, where
//! files are small and scattered, are written through the page cache, which makes few long writes of them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};

use crate::buffer::ALIGN;

/// How much is written at once through the page cache: larger buffers fall out of the processor's cache and cost up to
/// five times as much.
const CACHED_WRITE_BYTES: usize = 256 << 10;
/// From here on a write is long enough to be sent to the disk as it is.
const DIRECT_WRITE_BYTES_MIN: usize = 256 << 10;

/// A block device or a file.
pub(super) struct Volume<'a> {
    cached: &'a File,
    direct: Option<File>,
}

impl<'a> Volume<'a> {
    /// Not every filesystem can be read past the cache, and where /proc is missing the file can't be opened once more.
    ///
    /// Linux writes back what the cache has of a stretch before that is read directly. It is opened as `file` is: a disk
    /// that was open for writing makes the system look at it again when it is closed, which comparing must not do.
    pub(super) fn new(file: &'a File) -> Self {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct: Option<OwnedFd> = rustix::fs::fcntl_getfl(file).ok().and_then(|flags| {
            let flags = (flags & OFlags::RWMODE) | OFlags::DIRECT | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).ok()
        });
        Self {
            cached: file,
            direct: direct.map(File::from),
        }
    }

    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self.direct_for(bytes, offset) {
            Some(direct) => match direct.read_exact_at(bytes, offset) {
                Err(error) if is_unfit(&error) => self.cached.read_exact_at(bytes, offset),
                result => result,
            },
            None => self.cached.read_exact_at(bytes, offset),
        }
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.len() >= DIRECT_WRITE_BYTES_MIN
            && let Some(direct) = self.direct_for(bytes, offset)
        {
            match direct.write_all_at(bytes, offset) {
                Err(error) if is_unfit(&error) => {}
                result => return result,
            }
        }
        for (number, part) in bytes.chunks(CACHED_WRITE_BYTES).enumerate() {
            self.cached
                .write_all_at(part, offset + (number * CACHED_WRITE_BYTES) as u64)?;
        }
        Ok(())
    }

    fn direct_for(&self, bytes: &[u8], offset: u64) -> Option<&File> {
        let is_fit = bytes.as_ptr().align_offset(ALIGN) == 0
            && bytes.len().is_multiple_of(ALIGN)
            && offset.is_multiple_of(ALIGN as u64);
        self.direct.as_ref().filter(|_| is_fit)
    }
}

/// The kernel's word for direct I/O that a disk or a filesystem can't do as asked.
fn is_unfit(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}
