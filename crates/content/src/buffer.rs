//! Memory that disks can read from and write to without the kernel copying it.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

use crate::error::ContentError;

/// What direct I/O asks for: the largest block of disks, and the size of a page.
pub(crate) const ALIGN: usize = 4096;

/// Of large pages, a disk gets long requests where each small page would be a part of its own; reading so was twice as fast.
const LARGE_PAGE: usize = 2 << 20;

/// Bytes that begin at a multiple of [`ALIGN`] in memory, in large pages where the kernel has some. Its memory is kept when
/// it shrinks.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Option<MmapMut>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Makes it `length` bytes long; what they are is not defined.
    ///
    /// # Errors
    /// If there isn't so much memory.
    pub(crate) fn resize(&mut self, length: usize) -> Result<(), ContentError> {
        if self
            .memory
            .as_ref()
            .map_or(0, |memory| memory.len() - self.start)
            < length
        {
            *self = Self::map(length).map_err(ContentError::stream("get memory"))?;
        }
        self.length = length;
        Ok(())
    }

    fn map(length: usize) -> io::Result<Self> {
        let whole = length.next_multiple_of(LARGE_PAGE);
        let memory = MmapMut::map_anon(whole + LARGE_PAGE)?;
        // A kernel without large pages does with small ones.
        let _advised = memory.advise(Advice::HugePage);
        let start = memory.as_ptr().align_offset(LARGE_PAGE).min(LARGE_PAGE);
        Ok(Self {
            memory: Some(memory),
            start,
            length: 0,
        })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Some(memory) => &memory[self.start..self.start + self.length],
            None => &[],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Some(memory) => &mut memory[self.start..self.start + self.length],
            None => &mut [],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGN, Buffer};

    #[test]
    fn it_begins_where_disks_want_it() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty());
        for length in [1, 100_000, 5, 0, 3 << 20, 1 << 20] {
            buffer.resize(length).unwrap();
            buffer.fill(7);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr().align_offset(ALIGN), 0);
        }
    }
}
