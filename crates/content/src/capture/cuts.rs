//! Which borders of files become borders of chunks.
//!
//! When an OS image is made again, its files come to lie elsewhere. A chunk that begins and ends where files do is found
//! again; one cut at other places is not. Large files have chunks of their own. Small ones share chunks, and which of
//! them begins a new one is decided by its own first block, so that an inserted file moves few borders.

use wire::digest::Digest;

use crate::filesystem::FileStretch;
use crate::manifest::BLOCK_BYTES;

/// Stretches from this size on have chunks of their own.
const OWN_CHUNKS_BYTES: u64 = 64 << 10;
/// One in so many small files begins a chunk: with files of 8 KiB on average that makes chunks of 64 KiB.
const BEGINS_ONE_IN: u8 = 8;
/// Small files that never begin a chunk by chance share at most this much.
const SHARED_BYTES_MAX: usize = 512 << 10;

/// The borders ahead, while an image is read from its start to its end.
pub(super) struct Cuts {
    borders: Vec<Border>,
    next: usize,
}

#[derive(Clone, Copy)]
struct Border {
    offset: u64,
    /// Cut here whatever the bytes are.
    always: bool,
}

impl Border {
    fn always(offset: u64) -> Self {
        Self {
            offset,
            always: true,
        }
    }
}

impl Cuts {
    /// `stretches` are in the order of the volume.
    pub(super) fn new(stretches: Vec<FileStretch>) -> Self {
        let mut borders: Vec<Border> = Vec::with_capacity(stretches.len());
        let mut end_of_large = None;
        for stretch in stretches {
            if !stretch.offset.is_multiple_of(BLOCK_BYTES) {
                continue;
            }
            let follows_large = end_of_large == Some(stretch.offset);
            match end_of_large {
                Some(end) if end < stretch.offset => borders.push(Border::always(end)),
                _ => {}
            }
            let is_large = stretch.bytes >= OWN_CHUNKS_BYTES;
            borders.push(Border {
                offset: stretch.offset,
                always: is_large || follows_large,
            });
            let end = (stretch.offset + stretch.bytes).next_multiple_of(BLOCK_BYTES);
            end_of_large = is_large.then_some(end);
        }
        if let Some(end) = end_of_large {
            borders.push(Border::always(end));
        }
        Self { borders, next: 0 }
    }

    /// Whether a chunk begins at `offset`, where `bytes` lie, while `pending` bytes wait in front of it.
    /// Offsets are asked for in order.
    pub(super) fn falls_at(&mut self, offset: u64, bytes: &[u8], pending: usize) -> bool {
        while self
            .borders
            .get(self.next)
            .is_some_and(|border| border.offset < offset)
        {
            self.next += 1;
        }
        match self.borders.get(self.next) {
            Some(border) if border.offset == offset => {
                self.next += 1;
                border.always || pending >= SHARED_BYTES_MAX || begins(bytes)
            }
            _ => false,
        }
    }

    /// How many of the next `bytes` lie in front of the next border.
    pub(super) fn next_after(&self, offset: u64, bytes: usize) -> usize {
        let ahead = self.borders[self.next..]
            .iter()
            .find(|border| border.offset > offset);
        ahead
            .and_then(|border| usize::try_from(border.offset - offset).ok())
            .map_or(bytes, |to_border| to_border.min(bytes))
    }
}

/// Whether a small file with this first block begins a chunk.
fn begins(bytes: &[u8]) -> bool {
    let block = &bytes[..bytes
        .len()
        .min(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX))];
    Digest::of(block).as_bytes()[0].is_multiple_of(BEGINS_ONE_IN)
}
