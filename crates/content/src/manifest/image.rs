//! Filesystem images: where the stream of chunks goes on a volume.
//!
//! An [`Image`] that exists is safe to apply: its extents lie inside the volume, ascend and don't touch.

use super::bytes::{Reader, bad, put_count};
use crate::error::ContentError;

/// Extents begin and end at multiples of this: the block size of the filesystems we capture.
pub const BLOCK_BYTES: u64 = 4096;
/// The largest volume; ext4's own limit with 4-KiB blocks and 32-bit block numbers.
pub const IMAGE_BYTES_MAX: u64 = 16 << 40;

const SECTOR_BYTES: u64 = 512;
const EXTENT_BYTES: usize = 16;

/// A stretch of a volume that has content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// The length of a volume and which parts of it have content; the rest reads as zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    image_bytes: u64,
    extents: Vec<Extent>,
    /// Where each extent begins in the stream; one more than there are extents.
    starts: Vec<u64>,
}

impl Image {
    /// Checks extents and takes them over.
    ///
    /// # Errors
    /// Says which rule they break.
    pub fn new(image_bytes: u64, extents: Vec<Extent>) -> Result<Self, ContentError> {
        if image_bytes > IMAGE_BYTES_MAX || !image_bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(bad(
                "the length of the image is too large or no multiple of 512",
            ));
        }
        let mut starts = Vec::with_capacity(extents.len() + 1);
        let (mut stream, mut last_end) = (0, None);
        for Extent { offset, bytes } in &extents {
            let end = offset.checked_add(*bytes).filter(|end| *end <= image_bytes);
            let end = end.ok_or(bad("an extent lies outside the image"))?;
            if *bytes == 0 || !offset.is_multiple_of(BLOCK_BYTES) {
                return Err(bad("an extent is empty or doesn't begin at a block"));
            }
            if !bytes.is_multiple_of(BLOCK_BYTES) && end != image_bytes {
                return Err(bad("an extent doesn't end at a block"));
            }
            if last_end.is_some_and(|last| last >= *offset) {
                return Err(bad("extents overlap, touch or are not in order"));
            }
            starts.push(stream);
            stream += bytes;
            last_end = Some(end);
        }
        starts.push(stream);
        Ok(Self {
            image_bytes,
            extents,
            starts,
        })
    }

    /// The length of the volume.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        self.image_bytes
    }

    /// The parts with content, in order.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The length of all extents.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Where `bytes` bytes of the stream, from `offset` on, lie on the volume.
    pub(crate) fn pieces(&self, offset: u64, bytes: u64) -> impl Iterator<Item = Extent> {
        let first = self
            .starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1);
        let end = offset + bytes;
        self.extents[first.min(self.extents.len())..]
            .iter()
            .zip(&self.starts[first..])
            .map_while(move |(extent, start)| {
                let from = offset.max(*start);
                let to = end.min(start + extent.bytes);
                (from < to).then(|| Extent {
                    offset: extent.offset + (from - start),
                    bytes: to - from,
                })
            })
    }

    /// What is in no extent, in order.
    pub(crate) fn holes(&self) -> impl Iterator<Item = Extent> {
        let ends = std::iter::once(0).chain(
            self.extents
                .iter()
                .map(|extent| extent.offset + extent.bytes),
        );
        let begins = self
            .extents
            .iter()
            .map(|extent| extent.offset)
            .chain(std::iter::once(self.image_bytes));
        ends.zip(begins)
            .filter(|(end, begin)| end < begin)
            .map(|(end, begin)| Extent {
                offset: end,
                bytes: begin - end,
            })
    }

    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.image_bytes.to_le_bytes());
        put_count(to, self.extents.len());
        for extent in &self.extents {
            to.extend_from_slice(&extent.offset.to_le_bytes());
            to.extend_from_slice(&extent.bytes.to_le_bytes());
        }
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, ContentError> {
        let image_bytes = from.u64()?;
        let count = from.count(EXTENT_BYTES)?;
        let mut extents = Vec::with_capacity(count);
        for _ in 0..count {
            extents.push(Extent {
                offset: from.u64()?,
                bytes: from.u64()?,
            });
        }
        Self::new(image_bytes, extents)
    }
}

#[cfg(test)]
mod tests {
    use super::{Extent, Image};

    #[test]
    fn pieces_and_holes() {
        let extent = |offset, bytes| Extent { offset, bytes };
        let image = Image::new(40960, vec![extent(4096, 8192), extent(20480, 4096)]).unwrap();
        let pieces = |offset, bytes| image.pieces(offset, bytes).collect::<Vec<_>>();
        assert_eq!(pieces(0, 4096), [extent(4096, 4096)]);
        assert_eq!(
            pieces(4096, 8192),
            [extent(8192, 4096), extent(20480, 4096)]
        );
        assert_eq!(pieces(8192, 4096), [extent(20480, 4096)]);
        assert_eq!(pieces(12288, 0), []);
        assert_eq!(
            image.holes().collect::<Vec<_>>(),
            [extent(0, 4096), extent(12288, 8192), extent(24576, 16384)]
        );
        assert_eq!(image.content_bytes(), 12288);
    }
}
