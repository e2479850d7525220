//! Frames: chunks as they are stored and sent. See `docs/formats/pack.md`.
//!
//! A frame that was read is not yet checked: its digest is a claim until [`Frame::unpack`] has filled a buffer, unless a signed
//! table names the frame as it is.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use wire::digest::Digest;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::ContentError;

/// The longest chunk we make.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The longest chunk we read: a later release may round its cuts up to a larger block.
pub const RAW_BYTES_MAX: usize = CHUNK_BYTES_MAX + (64 << 10);
/// The length of a frame's header.
pub(crate) const HEADER_BYTES: usize = 52;
pub(crate) const MAGIC: &[u8; 4] = b"FSF1";

const CHECKED_BYTES: usize = 48;
const CODEC_STORED: u8 = 0;
const CODEC_ZSTD: u8 = 1;
/// Beyond 3, building slows down much faster than bundles shrink; reading doesn't care.
const ZSTD_LEVEL: i32 = 3;

thread_local! {
    // Contexts are large; one per thread serves all frames.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A chunk as it is stored and sent: see `docs/formats/pack.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    header: FrameHeader,
    packed: Vec<u8>,
    /// Whether a signed table names it, byte by byte as it is: see [`Frame::bytes_digest`].
    is_signed: bool,
    /// What it took to get it, if that isn't its own length.
    sent_bytes: Option<u64>,
}

/// The part of a frame in front of the packed bytes, with lengths inside their limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    codec: u8,
    pub(crate) digest: Digest,
    pub(crate) raw_bytes: u32,
    pub(crate) packed_bytes: u32,
}

impl FrameHeader {
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, ContentError> {
        let bad = |rule| Err(ContentError::BadFrame { rule });
        if &bytes[..4] != MAGIC {
            return bad("it does not begin like a frame");
        }
        if Digest::of(&bytes[..CHECKED_BYTES]).as_bytes()[..4] != bytes[CHECKED_BYTES..] {
            return bad("its header is damaged");
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut digest = [0; Digest::BYTES];
        digest.copy_from_slice(&bytes[16..CHECKED_BYTES]);
        let header = Self {
            codec: bytes[4],
            digest: Digest::from_bytes(digest),
            raw_bytes: word(8),
            packed_bytes: word(12),
        };
        if header.codec > CODEC_ZSTD {
            return bad("its codec is unknown");
        }
        if bytes[5..8] != [0; 3] {
            return bad("a reserved byte is not zero");
        }
        if header.raw_bytes == 0 || header.raw_bytes as usize > RAW_BYTES_MAX {
            return bad("its raw length is out of bounds");
        }
        if header.packed_bytes == 0 || header.packed_bytes > header.raw_bytes {
            return bad("its packed length is out of bounds");
        }
        if header.codec == CODEC_STORED && header.packed_bytes != header.raw_bytes {
            return bad("it is stored, but its lengths differ");
        }
        Ok(header)
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4] = self.codec;
        bytes[8..12].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.packed_bytes.to_le_bytes());
        bytes[16..CHECKED_BYTES].copy_from_slice(self.digest.as_bytes());
        let check = Digest::of(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&check.as_bytes()[..4]);
        bytes
    }
}

impl Frame {
    /// Packs a chunk of 1 to [`RAW_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// If the chunk is empty or too long, or zstd runs out of memory.
    pub fn pack(raw: &[u8]) -> Result<Self, ContentError> {
        Self::pack_with(raw, Digest::of(raw))
    }

    pub(crate) fn pack_with(raw: &[u8], digest: Digest) -> Result<Self, ContentError> {
        if raw.is_empty() {
            return Err(ContentError::BadFrame {
                rule: "a chunk is never empty",
            });
        }
        let raw_bytes = u32::try_from(raw.len())
            .ok()
            .filter(|bytes| *bytes as usize <= RAW_BYTES_MAX)
            .ok_or(ContentError::TooMuch {
                what: "bytes in a chunk",
                limit: RAW_BYTES_MAX as u64,
            })?;
        let shrunk = compress(raw).map_err(ContentError::stream("compress a chunk"))?;
        let (codec, packed) = if shrunk.len() < raw.len() {
            (CODEC_ZSTD, shrunk)
        } else {
            (CODEC_STORED, raw.to_vec())
        };
        let packed_bytes = u32::try_from(packed.len()).unwrap_or(raw_bytes);
        Ok(Self {
            header: FrameHeader {
                codec,
                digest,
                raw_bytes,
                packed_bytes,
            },
            packed,
            is_signed: false,
            sent_bytes: None,
        })
    }

    /// Reads the next frame; `None` at a clean end. Checks every length against its limit before it allocates.
    ///
    /// # Errors
    /// If the bytes are no frame, or can't be read.
    pub fn read(from: &mut dyn Read) -> Result<Option<Self>, ContentError> {
        let mut bytes = [0; HEADER_BYTES];
        match fill(from, &mut bytes).map_err(ContentError::stream("read a frame"))? {
            0 => return Ok(None),
            HEADER_BYTES => {}
            _ => {
                return Err(ContentError::BadFrame {
                    rule: "it is cut off",
                });
            }
        }
        Self::read_body(FrameHeader::decode(&bytes)?, from).map(Some)
    }

    pub(crate) fn read_body(
        header: FrameHeader,
        from: &mut dyn Read,
    ) -> Result<Self, ContentError> {
        let mut packed = vec![0; header.packed_bytes as usize];
        if fill(from, &mut packed).map_err(ContentError::stream("read a frame"))? < packed.len() {
            return Err(ContentError::BadFrame {
                rule: "it is cut off",
            });
        }
        Ok(Self {
            header,
            packed,
            is_signed: false,
            sent_bytes: None,
        })
    }

    /// Reads the frame that lies at `offset` in a file; `None` if what lies there is no whole frame.
    pub(crate) fn read_at(file: &File, offset: u64) -> io::Result<Option<Self>> {
        let mut head = [0; HEADER_BYTES];
        if fill_at(file, &mut head, offset)? < HEADER_BYTES {
            return Ok(None);
        }
        let Ok(header) = FrameHeader::decode(&head) else {
            return Ok(None);
        };
        let mut packed = vec![0; header.packed_bytes as usize];
        let filled = fill_at(file, &mut packed, offset + HEADER_BYTES as u64)?;
        Ok((filled == packed.len()).then_some(Self {
            header,
            packed,
            is_signed: false,
            sent_bytes: None,
        }))
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, to: &mut dyn Write) -> Result<(), ContentError> {
        to.write_all(&self.header.encode())
            .and_then(|()| to.write_all(&self.packed))
            .map_err(ContentError::stream("write a frame"))
    }

    /// The digest of the unpacked bytes, as the frame claims it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.header.digest
    }

    /// How many bytes the chunk has, as the frame claims it.
    #[must_use]
    pub fn raw_bytes(&self) -> u32 {
        self.header.raw_bytes
    }

    /// How many bytes the frame takes when written.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        (HEADER_BYTES + self.packed.len()) as u64
    }

    /// The same frame, which was made from `bytes` bytes that were sent instead of it.
    pub(crate) fn sent_as(self, bytes: u64) -> Self {
        Self {
            sent_bytes: Some(bytes),
            ..self
        }
    }

    /// How many bytes were sent for it, if it came over the network.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.unwrap_or_else(|| self.frame_bytes())
    }

    pub(crate) fn header(&self) -> FrameHeader {
        self.header
    }

    /// The digest of all its bytes, header and packed: not that of the chunk.
    pub(crate) fn bytes_digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.header.encode()).update(&self.packed);
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The same frame, after [`Frame::bytes_digest`] was found in a signed table.
    pub(crate) fn signed(self) -> Self {
        Self {
            is_signed: true,
            ..self
        }
    }

    /// Whether what its header says is true without unpacking it.
    pub(crate) fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// Unpacks into `buffer` (cleared first) and checks the digest on that very buffer.
    ///
    /// # Errors
    /// If the content is not what the digest says; the buffer is then empty.
    pub fn unpack(&self, buffer: &mut Vec<u8>) -> Result<(), ContentError> {
        buffer.clear();
        buffer.resize(self.header.raw_bytes as usize, 0);
        let result = self.unpack_to(buffer);
        if result.is_err() {
            buffer.clear();
        }
        result
    }

    /// Fills `buffer`, which is as long as the chunk, and checks the digest on that very buffer.
    ///
    /// # Errors
    /// If the content is not what the digest says; what the buffer then holds is worth nothing.
    pub(crate) fn unpack_to(&self, buffer: &mut [u8]) -> Result<(), ContentError> {
        let bad = |rule| ContentError::DamagedChunk {
            digest: self.header.digest,
            rule,
        };
        if self.header.codec == CODEC_STORED {
            buffer.copy_from_slice(&self.packed);
        } else {
            // zstd passes over further frames behind the first; we do not.
            if zstd::zstd_safe::find_frame_compressed_size(&self.packed) != Ok(self.packed.len()) {
                return Err(bad("its packed bytes are not one zstd frame"));
            }
            let length = decompress(&self.packed, buffer).map_err(|_| bad("it does not unpack"))?;
            if length != buffer.len() {
                return Err(bad("it unpacks to another length"));
            }
        }
        if Digest::of(buffer) != self.header.digest {
            return Err(bad("its bytes have another digest"));
        }
        Ok(())
    }
}

fn compress(raw: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::new(ZSTD_LEVEL)?),
        };
        compressor.compress(raw)
    })
}

/// Unpacks into `buffer` and tells how much of it was filled.
fn decompress(packed: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(packed, buffer)
    })
}

/// Reads from a place on until `buffer` is full or the end is reached; returns how much was read.
fn fill_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads until `buffer` is full or the end is reached; returns how much was read.
pub(crate) fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Frame, RAW_BYTES_MAX};

    fn written(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, frame.frame_bytes());
        bytes
    }

    /// What a reader makes of some bytes: the chunks it accepts, and whether it ended cleanly.
    fn check(mut bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let mut chunks = Vec::new();
        loop {
            match Frame::read(&mut bytes) {
                Ok(None) => return (chunks, true),
                Ok(Some(frame)) => {
                    let mut raw = Vec::new();
                    if frame.unpack(&mut raw).is_err() {
                        assert!(raw.is_empty());
                        return (chunks, false);
                    }
                    chunks.push(raw);
                }
                Err(_) => return (chunks, false),
            }
        }
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    }

    #[test]
    fn noise_is_stored_and_text_is_packed() {
        let noise = noise(100_000);
        assert_eq!(Frame::pack(&noise).unwrap().frame_bytes(), 52 + 100_000);
        assert!(Frame::pack(&b"blue ".repeat(2000)).unwrap().frame_bytes() < 200);
        assert!(Frame::pack(b"").is_err());
        assert!(Frame::pack(&vec![0; RAW_BYTES_MAX]).is_ok());
        assert!(Frame::pack(&vec![0; RAW_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_second_zstd_frame_behind_the_first_is_refused() {
        let raw = b"blue ".repeat(2000);
        let mut frame = Frame::pack(&raw).unwrap();
        // An empty zstd frame changes nothing about the unpacked bytes.
        let empty = zstd::bulk::compress(b"", 1).unwrap();
        frame.header.packed_bytes += u32::try_from(empty.len()).unwrap();
        frame.packed.extend_from_slice(&empty);
        assert_eq!(check(&written(&frame)), (vec![], false));
    }

    #[test]
    fn a_frame_that_claims_less_than_it_holds_is_refused() {
        let mut frame = Frame::pack(&b"blue ".repeat(2000)).unwrap();
        frame.header.raw_bytes -= 1;
        let mut roomy = Vec::with_capacity(1 << 20);
        assert!(frame.unpack(&mut roomy).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5000), 0..5)) {
            let bytes: Vec<u8> = chunks.iter().flat_map(|raw| written(&Frame::pack(raw).unwrap())).collect();
            prop_assert_eq!(check(&bytes), (chunks, true));
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            prop_assert_eq!(check(&bytes), (vec![], false));
        }

        #[test]
        fn a_cut_is_noticed(raw in proptest::collection::vec(0..4_u8, 1..3000), cut in any::<prop::sample::Index>()) {
            let bytes = written(&Frame::pack(&raw).unwrap());
            let cut = cut.index(bytes.len() - 1) + 1;
            prop_assert_eq!(check(&bytes[..cut]).1, cut == bytes.len());
        }

        #[test]
        fn a_flipped_bit_is_noticed(
            raw in proptest::collection::vec(0..4_u8, 1..3000),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let mut bytes = written(&Frame::pack(&raw).unwrap());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // zstd has a few bits that mean nothing; what comes out is then still the right chunk.
            let (chunks, _) = check(&bytes);
            prop_assert!(chunks.is_empty() || chunks == vec![raw]);
        }
    }
}
