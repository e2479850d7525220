//! Packs: large files of frames in apply order. See `docs/formats/pack.md`.
//!
//! The index at the end is only a convenience: [`scan`] makes it again from the frames.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use wire::digest::Digest;

use crate::error::ContentError;
use crate::frame::{self, Frame, FrameHeader};

/// The length of a pack's header and of its footer.
pub(crate) const HEADER_BYTES: u64 = 16;
/// The most frames in a pack: their index has 192 MiB, which a device with 4 GiB of memory can still hold.
pub(crate) const FRAMES_MAX: usize = 4 << 20;

const MAGIC: &[u8; 8] = b"FSTGPACK";
const VERSION: u16 = 1;
const INDEX_MAGIC: &[u8; 4] = b"FSI1";
const FOOTER_MAGIC: &[u8; 8] = b"FSTGPEND";
const FOOTER_BYTES: u64 = 16;
const ENTRY_BYTES: usize = Digest::BYTES + 16;
/// Frames are a few hundred KiB long; larger buffers only cost cache, and smaller ones save a copy but no time.
const BUFFER_BYTES: usize = 256 << 10;
/// How much is looked through at once for the next frame.
const WINDOW_BYTES: usize = 1 << 20;

/// Where a frame lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) digest: Digest,
    pub(crate) offset: u64,
    pub(crate) raw_bytes: u32,
    pub(crate) packed_bytes: u32,
}

impl IndexEntry {
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame::HEADER_BYTES as u64 + u64::from(self.packed_bytes)
    }

    fn new(header: FrameHeader, offset: u64) -> Self {
        Self {
            digest: header.digest,
            offset,
            raw_bytes: header.raw_bytes,
            packed_bytes: header.packed_bytes,
        }
    }
}

fn bad(rule: &'static str) -> ContentError {
    ContentError::BadPack { rule }
}

fn header() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

fn check_header(bytes: &[u8; 16]) -> Result<(), ContentError> {
    if &bytes[..8] != MAGIC {
        return Err(bad("it does not begin like a pack"));
    }
    match u16::from_le_bytes([bytes[8], bytes[9]]) {
        VERSION => {}
        0 => return Err(bad("its version is 0")),
        version => {
            return Err(ContentError::Newer {
                what: "pack",
                version,
                newest: VERSION,
            });
        }
    }
    if bytes[10..] != [0; 6] {
        return Err(bad("a reserved byte is not zero"));
    }
    Ok(())
}

/// The index and the footer, for frames that end at `offset`.
fn index_bytes(entries: &[IndexEntry], offset: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + entries.len() * ENTRY_BYTES + Digest::BYTES + 16);
    bytes.extend_from_slice(INDEX_MAGIC);
    bytes.extend_from_slice(
        &u32::try_from(entries.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    for entry in entries {
        bytes.extend_from_slice(entry.digest.as_bytes());
        bytes.extend_from_slice(&entry.offset.to_le_bytes());
        bytes.extend_from_slice(&entry.raw_bytes.to_le_bytes());
        bytes.extend_from_slice(&entry.packed_bytes.to_le_bytes());
    }
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes.extend_from_slice(&offset.to_le_bytes());
    bytes.extend_from_slice(FOOTER_MAGIC);
    bytes
}

/// The length of a pack whose frames have `frame_bytes` bytes together.
pub(crate) fn length(frames: usize, frame_bytes: u64) -> u64 {
    let index = (8 + frames * ENTRY_BYTES + Digest::BYTES) as u64;
    HEADER_BYTES + frame_bytes + index + FOOTER_BYTES
}

/// The name of a pack in a library.
pub(crate) fn name(entries: &[IndexEntry]) -> String {
    let mut hasher = blake3::Hasher::new();
    for entry in entries {
        hasher.update(entry.digest.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Writes a pack front to back.
pub(crate) struct PackStream<W: Write> {
    to: BufWriter<W>,
    entries: Vec<IndexEntry>,
    at: u64,
}

impl<W: Write> PackStream<W> {
    pub(crate) fn new(to: W) -> Result<Self, ContentError> {
        let to = BufWriter::with_capacity(BUFFER_BYTES, to);
        let mut stream = Self {
            to,
            entries: Vec::new(),
            at: 0,
        };
        stream.put(&header())?;
        Ok(stream)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        self.to
            .write_all(bytes)
            .map_err(ContentError::stream("write a pack"))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn add(&mut self, frame: &Frame) -> Result<(), ContentError> {
        if self.is_full() {
            return Err(ContentError::TooMuch {
                what: "frames in a pack",
                limit: FRAMES_MAX as u64,
            });
        }
        self.entries.push(IndexEntry::new(frame.header(), self.at));
        frame.write(&mut self.to)?;
        self.at += frame.frame_bytes();
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= FRAMES_MAX
    }

    /// How many bytes were written.
    pub(crate) fn bytes(&self) -> u64 {
        self.at
    }

    /// Hands everything to the system and shows where it went.
    pub(crate) fn flush(&mut self) -> Result<&W, ContentError> {
        self.to
            .flush()
            .map_err(ContentError::stream("write a pack"))?;
        Ok(self.to.get_ref())
    }

    /// Writes the index. Returns where everything went, the index, and the length of the whole.
    pub(crate) fn finish(mut self) -> Result<(W, Vec<IndexEntry>, u64), ContentError> {
        let index = index_bytes(&self.entries, self.at);
        self.put(&index)?;
        let to = self
            .to
            .into_inner()
            .map_err(|error| ContentError::stream("write a pack")(error.into_error()))?;
        Ok((to, self.entries, self.at))
    }
}

/// Reads the index of the pack that lies in `from` at `base` and is `bytes` long, and where its frames end.
///
/// Whether a frame is where the index says is only seen when it is read.
pub(crate) fn read_index(
    from: &mut (impl Read + Seek),
    base: u64,
    bytes: u64,
) -> Result<(Vec<IndexEntry>, u64), ContentError> {
    let io = || ContentError::stream("read the index of a pack");
    let read = |from: &mut dyn Read, buffer: &mut [u8]| match frame::fill(from, buffer) {
        Ok(filled) if filled == buffer.len() => Ok(()),
        Ok(_) => Err(bad("it is cut off")),
        Err(error) => Err(io()(error)),
    };
    let mut edge = [0; 16];
    from.seek(SeekFrom::Start(base)).map_err(io())?;
    read(from, &mut edge)?;
    check_header(&edge)?;
    let footer_at = bytes
        .checked_sub(FOOTER_BYTES)
        .ok_or(bad("it is cut off"))?;
    from.seek(SeekFrom::Start(base + footer_at)).map_err(io())?;
    read(from, &mut edge)?;
    let (offset, magic) = edge.split_at(8);
    if magic != FOOTER_MAGIC {
        return Err(bad("its footer is missing"));
    }
    let index_at = offset
        .try_into()
        .map(u64::from_le_bytes)
        .unwrap_or(u64::MAX);
    let index_length = footer_at
        .checked_sub(index_at)
        .filter(|_| index_at >= HEADER_BYTES);
    let index_length = index_length
        .and_then(|length| usize::try_from(length).ok())
        .unwrap_or(usize::MAX);
    if !(8 + Digest::BYTES..=8 + FRAMES_MAX * ENTRY_BYTES + Digest::BYTES).contains(&index_length) {
        return Err(bad("the length of its index is out of bounds"));
    }
    let mut index = vec![0; index_length];
    from.seek(SeekFrom::Start(base + index_at)).map_err(io())?;
    read(from, &mut index)?;
    Ok((parse_index(&index, index_at)?, index_at))
}

fn parse_index(index: &[u8], frames_end: u64) -> Result<Vec<IndexEntry>, ContentError> {
    let (body, digest) = index.split_at(index.len() - Digest::BYTES);
    if Digest::of(body).as_bytes() != digest || &body[..4] != INDEX_MAGIC {
        return Err(bad("its index is damaged"));
    }
    let count = u32::from_le_bytes([body[4], body[5], body[6], body[7]]) as usize;
    if (body.len() - 8) != count.saturating_mul(ENTRY_BYTES) {
        return Err(bad("the length of its index is not the expected one"));
    }
    let mut entries = Vec::with_capacity(count);
    for bytes in body[8..].chunks_exact(ENTRY_BYTES) {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut digest = [0; Digest::BYTES];
        digest.copy_from_slice(&bytes[..Digest::BYTES]);
        let entry = IndexEntry {
            digest: Digest::from_bytes(digest),
            offset: u64::from(word(32)) | (u64::from(word(36)) << 32),
            raw_bytes: word(40),
            packed_bytes: word(44),
        };
        let is_inside = entry
            .offset
            .checked_add(entry.frame_bytes())
            .is_some_and(|end| end <= frames_end);
        if !is_inside || entry.packed_bytes as usize > frame::RAW_BYTES_MAX {
            return Err(bad("its index points outside"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Reads a pack of `bytes` bytes from its start to its end, and hands its frames over.
pub(crate) fn read_frames(
    from: &mut dyn Read,
    bytes: u64,
    sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
) -> Result<(), ContentError> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from.take(bytes));
    let io = || ContentError::stream("read a pack");
    let mut edge = [0; 16];
    if frame::fill(&mut from, &mut edge).map_err(io())? < edge.len() {
        return Err(bad("it is cut off"));
    }
    check_header(&edge)?;
    loop {
        let mut head = [0; frame::HEADER_BYTES];
        let filled = frame::fill(&mut from, &mut head[..4]).map_err(io())?;
        if filled < 4 {
            return Err(bad("it is cut off"));
        }
        if &head[..4] != frame::MAGIC {
            break;
        }
        if frame::fill(&mut from, &mut head[4..]).map_err(io())? < head.len() - 4 {
            return Err(bad("it is cut off"));
        }
        sink(Frame::read_body(FrameHeader::decode(&head)?, &mut from)?)?;
    }
    // What follows is the index. It is not needed here, but it counts for the digest of the whole.
    std::io::copy(&mut from, &mut std::io::sink()).map_err(io())?;
    if from.get_ref().limit() > 0 {
        return Err(bad("it is cut off"));
    }
    Ok(())
}

/// Finds every whole frame in a pack by reading it, checks each, and tells where the last one ends.
pub(crate) fn scan(file: &File) -> Result<(Vec<IndexEntry>, u64), ContentError> {
    let io = || ContentError::stream("scan a pack");
    let bytes = file.metadata().map_err(io())?.len();
    let mut edge = [0; 16];
    if bytes < HEADER_BYTES {
        return Err(bad("it is cut off"));
    }
    file.read_exact_at(&mut edge, 0).map_err(io())?;
    check_header(&edge)?;
    let (mut entries, mut end, mut at) = (Vec::new(), HEADER_BYTES, HEADER_BYTES);
    let mut raw = Vec::new();
    while at < bytes && entries.len() < FRAMES_MAX {
        match Frame::read_at(file, at).map_err(io())? {
            Some(frame) if frame.unpack(&mut raw).is_ok() => {
                entries.push(IndexEntry::new(frame.header(), at));
                at += frame.frame_bytes();
                end = at;
            }
            _ => match next_magic(file, at + 1, bytes).map_err(io())? {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    Ok((entries, end))
}

fn next_magic(file: &File, mut at: u64, bytes: u64) -> std::io::Result<Option<u64>> {
    let mut window = vec![0; WINDOW_BYTES];
    while at < bytes {
        let length = usize::try_from((bytes - at).min(WINDOW_BYTES as u64)).unwrap_or(WINDOW_BYTES);
        let window = &mut window[..length];
        file.read_exact_at(window, at)?;
        if let Some(found) = window
            .windows(frame::MAGIC.len())
            .position(|bytes| bytes == frame::MAGIC)
        {
            return Ok(Some(at + found as u64));
        }
        // The magic may lie across the edge of two windows.
        at += if length < WINDOW_BYTES {
            length
        } else {
            length - (frame::MAGIC.len() - 1)
        } as u64;
    }
    Ok(None)
}

/// Puts a new index behind the frames, which end at `end`, and makes it durable.
pub(crate) fn write_index(file: &File, entries: &[IndexEntry], end: u64) -> std::io::Result<()> {
    // A cut between these two lines leaves a pack without an index, which is scanned when it is opened.
    file.set_len(end)?;
    file.write_all_at(&index_bytes(entries, end), end)?;
    file.sync_all()
}
