//! Cuts a stream where its content says, so that an insertion moves few cuts.

use fastcdc::v2020::FastCDC;

use crate::error::ContentError;
use crate::frame::CHUNK_BYTES_MAX;

/// No chunk is shorter, except at a forced cut: each costs 36 bytes in a manifest and 48 in an index.
const CHUNK_BYTES_MIN: usize = 64 << 10;
/// Smaller chunks find slightly more that is equal and cost 20 % more time to apply.
const CHUNK_BYTES_AVERAGE: usize = 256 << 10;
/// How much waits at most to be cut.
const BUFFER_BYTES: usize = 4 << 20;

type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), ContentError>;

/// Cuts a stream into chunks.
pub(super) struct Chunker {
    buffer: Vec<u8>,
    align: usize,
}

impl Chunker {
    /// Cuts fall on multiples of `align` bytes from the last forced cut on.
    pub(super) fn new(align: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(BUFFER_BYTES),
            align,
        }
    }

    /// Goes on with `bytes`; hands over the chunks that are complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Result<(), ContentError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_BYTES {
                // A cut only depends on the bytes up to the longest chunk.
                self.cut(CHUNK_BYTES_MAX, sink)?;
            }
        }
        Ok(())
    }

    /// How many bytes wait to be cut.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Cuts here; hands over all there is.
    pub(super) fn flush(&mut self, sink: Sink<'_>) -> Result<(), ContentError> {
        self.cut(1, sink)
    }

    /// Cuts while at least `left_min` bytes are left.
    fn cut(&mut self, left_min: usize, sink: Sink<'_>) -> Result<(), ContentError> {
        let mut start = 0;
        let chunker = FastCDC::new(
            &self.buffer,
            CHUNK_BYTES_MIN,
            CHUNK_BYTES_AVERAGE,
            CHUNK_BYTES_MAX,
        );
        while self.buffer.len() - start >= left_min {
            let left = self.buffer.len() - start;
            let (_, end) = chunker.cut(start, left);
            let length = (end - start).next_multiple_of(self.align).min(left);
            sink(&self.buffer[start..start + length])?;
            start += length;
        }
        self.buffer.drain(..start);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK_BYTES_MAX, Chunker};

    /// The chunks of `bytes`, pushed in parts of `part` bytes.
    fn check(bytes: &[u8], part: usize, align: usize) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut chunker = Chunker::new(align);
        let mut sink = |chunk: &[u8]| {
            chunks.push(chunk.to_vec());
            Ok(())
        };
        for part in bytes.chunks(part) {
            chunker.push(part, &mut sink).unwrap();
        }
        chunker.flush(&mut sink).unwrap();
        chunks
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_stream_arrives() {
        let noise = noise(10 << 20);
        let chunks = check(&noise, 1 << 20, 1);
        assert_eq!(chunks, check(&noise, 70_001, 1));
        assert_eq!(chunks.concat(), noise);
        assert!(chunks.len() > 15);
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
    }

    #[test]
    fn aligned_cuts_are_aligned_and_find_themselves_again() {
        let noise = noise(10 << 20);
        let chunks = check(&noise, 1 << 20, 4096);
        assert!(chunks.iter().all(|chunk| chunk.len().is_multiple_of(4096)));
        let moved = check(&noise[8192..], 1 << 20, 4096);
        let again = moved.iter().filter(|chunk| chunks.contains(chunk)).count();
        assert!(again + 5 > chunks.len(), "{again} of {}", chunks.len());
    }
}
