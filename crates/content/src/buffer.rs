//! Memory that disks can read from and write to without the kernel copying it.

use std::ops::{Deref, DerefMut};

/// What direct I/O asks for: the largest block of disks, and the size of a page.
pub(crate) const ALIGN: usize = 4096;

/// Bytes that begin at a multiple of [`ALIGN`] in memory. Its memory is kept when it shrinks.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Makes it `length` bytes long; what they are is not defined.
    pub(crate) fn resize(&mut self, length: usize) {
        if self.memory.len() < length + ALIGN {
            self.memory = vec![0; length + ALIGN];
            self.start = self.memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        }
        self.length = length;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGN, Buffer};

    #[test]
    fn it_begins_where_disks_want_it() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty());
        for length in [1, 100_000, 5, 1 << 20] {
            buffer.resize(length);
            buffer.fill(7);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr().align_offset(ALIGN), 0);
        }
    }
}
