//! Patches: the way from one manifest to another for whoever has the content of the first. See `docs/formats/patch.md`.
//!
//! A patch is only a cheaper way to get chunks: each is checked against its digest as if it had come whole, and whoever lacks
//! a base, or finds the patch damaged, asks the next source.

mod bases;
pub(crate) mod make;
mod source;

use std::collections::HashSet;
use std::io::Read;

use wire::digest::Digest;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name};

use crate::error::ContentError;
use crate::frame::{self, Frame};
use crate::library::Library;
use crate::manifest::bytes::{Reader, put_count};
use crate::manifest::{ChunkRef, Manifest};
use crate::source::ChunkSource as _;

pub use self::source::{PatchBytes, PatchSource};

/// The longest manifest that patches lead from or to: the content of a disk of 400 GiB. Both are held in memory.
pub(crate) const PATCHED_MANIFEST_BYTES_MAX: usize = 64 << 20;
/// The longest table: four million chunks.
const TABLE_BYTES_MAX: usize = 16 << 20;
/// What a part makes is held in memory, and so is what it is made from.
const MADE_BYTES_MAX: u64 = 8 << 20;
const BASE_BYTES_MAX: u64 = 32 << 20;

const MAGIC: &[u8; 8] = b"FSTGPTCH";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 92;
/// Three counts.
const PART_BYTES_MIN: usize = 12;
/// A part is fetched if it is at most one in so many of the bytes that it makes and that aren't there: about what chunks
/// shrink to by themselves.
const WORTH_ONE_IN: u64 = 2;

/// The higher ones gain a tenth and take ten times as long.
const ZSTD_LEVEL: i32 = 12;
/// Windows of zstd are powers of two between these; the longest holds a manifest and its base.
const WINDOW_LOG: std::ops::RangeInclusive<u32> = 10..=27;

fn bad(rule: &'static str) -> ContentError {
    ContentError::BadPatch { rule }
}

/// Where a patch leads, and how long what comes before its parts is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PatchHead {
    pub(crate) from: Digest,
    pub(crate) to: Digest,
    manifest_bytes: usize,
    manifest_packed: usize,
    table_bytes: usize,
    table_packed: usize,
}

impl PatchHead {
    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, ContentError> {
        let mut from = Reader::new(bytes);
        if from.array()? != *MAGIC {
            return Err(bad("it does not begin like a patch"));
        }
        match from.u16()? {
            VERSION => {}
            version => {
                return Err(ContentError::Newer {
                    what: "patch",
                    version,
                    newest: VERSION,
                });
            }
        }
        if from.u16()? != 0 {
            return Err(bad("a reserved byte is not zero"));
        }
        let mut digest = || from.array().map(Digest::from_bytes);
        let (old, new) = (digest()?, digest()?);
        let mut length = || from.u32().map(|bytes| bytes as usize);
        let head = Self {
            from: old,
            to: new,
            manifest_bytes: length()?,
            manifest_packed: length()?,
            table_bytes: length()?,
            table_packed: length()?,
        };
        if head.manifest_bytes > PATCHED_MANIFEST_BYTES_MAX
            || head.manifest_packed > compress_bound(head.manifest_bytes)
            || head.table_bytes > TABLE_BYTES_MAX
            || head.table_packed > compress_bound(head.table_bytes)
        {
            return Err(bad("a length is out of bounds"));
        }
        Ok(head)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(self.from.as_bytes());
        bytes.extend_from_slice(self.to.as_bytes());
        put_count(&mut bytes, self.manifest_bytes);
        put_count(&mut bytes, self.manifest_packed);
        put_count(&mut bytes, self.table_bytes);
        put_count(&mut bytes, self.table_packed);
        bytes
    }

    /// How long the patch is up to its first part.
    pub(crate) fn front_bytes(&self) -> u64 {
        (HEAD_BYTES + self.manifest_packed + self.table_packed) as u64
    }

    /// Reads the head of a patch.
    pub(crate) fn read(from: &mut dyn Read) -> Result<Self, ContentError> {
        let mut bytes = [0; HEAD_BYTES];
        let read = frame::fill(from, &mut bytes).map_err(ContentError::stream("read a patch"))?;
        if read < HEAD_BYTES {
            return Err(bad("it is cut off"));
        }
        Self::decode(&bytes)
    }
}

/// The front of a patch: the manifest that it leads to, and what each of its parts makes of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    manifest: Vec<u8>,
    parts: Vec<Part>,
}

/// Some chunks, made from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where its bytes lie in the patch.
    pub(crate) offset: u64,
    pub(crate) packed: usize,
    pub(crate) makes: Vec<ChunkRef>,
    pub(crate) bases: Vec<ChunkRef>,
}

fn sum<'a>(chunks: impl IntoIterator<Item = &'a ChunkRef>) -> u64 {
    chunks.into_iter().map(|chunk| u64::from(chunk.bytes)).sum()
}

impl Patch {
    /// Reads the front of a patch that leads from this manifest: the manifest that comes out has been checked.
    ///
    /// # Errors
    /// If it is no patch, a newer one, one from another manifest, or damaged.
    pub fn read(from: &mut dyn Read, manifest: &[u8]) -> Result<Self, ContentError> {
        let head = PatchHead::read(from)?;
        if Digest::of(manifest) != head.from || manifest.len() > PATCHED_MANIFEST_BYTES_MAX {
            return Err(bad("it leads from another manifest"));
        }
        let old = Manifest::decode(manifest)?;
        let mut take = |bytes: usize| {
            let mut packed = vec![0; bytes];
            let read = frame::fill(from, &mut packed);
            match read.map_err(ContentError::stream("read a patch"))? {
                read if read == bytes => Ok(packed),
                _ => Err(bad("it is cut off")),
            }
        };
        let mut new = vec![0; head.manifest_bytes];
        unpack(&take(head.manifest_packed)?, manifest, &mut new)?;
        if Digest::of(&new) != head.to {
            return Err(bad("it leads to another manifest than it says"));
        }
        let mut table = vec![0; head.table_bytes];
        unpack(&take(head.table_packed)?, &[], &mut table)?;
        let parts = decode_table(
            &table,
            head.front_bytes(),
            old.chunks(),
            Manifest::decode(&new)?.chunks(),
        )?;
        Ok(Self {
            manifest: new,
            parts,
        })
    }

    /// The bytes of the manifest that it leads to.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// What is fetched of it by someone who `has` some chunks: the bytes of each part that is worth it, and the chunks that
    /// it makes.
    pub fn worth(
        &self,
        has: impl Fn(&Digest) -> bool,
    ) -> impl Iterator<Item = (u64, impl Iterator<Item = Digest>)> {
        let parts = self.parts.iter().filter(move |part| part.is_worth(&has));
        parts.map(|part| {
            let makes = part.makes.iter().map(|chunk| chunk.digest);
            (part.packed as u64, makes)
        })
    }
}

impl Part {
    /// Whether someone who `has` some chunks gains by it.
    fn is_worth(&self, has: impl Fn(&Digest) -> bool) -> bool {
        let lacking = sum(self.makes.iter().filter(|chunk| !has(&chunk.digest)));
        self.packed as u64 * WORTH_ONE_IN <= lacking
            && self.bases.iter().all(|chunk| has(&chunk.digest))
    }

    /// Makes its chunks from what is in the library, and checks each.
    fn apply(&self, packed: &[u8], library: &Library) -> Result<Vec<Frame>, ContentError> {
        let base = read_all(library, &self.bases)?;
        let mut made = vec![0; usize::try_from(sum(&self.makes)).unwrap_or(0)];
        unpack(packed, &base, &mut made)?;
        let mut rest = made.as_slice();
        let frame = |chunk: &ChunkRef| {
            let (raw, after) = rest.split_at((chunk.bytes as usize).min(rest.len()));
            rest = after;
            if Digest::of(raw) == chunk.digest {
                Frame::pack_with(raw, chunk.digest)
            } else {
                Err(bad("it makes another chunk than it says"))
            }
        };
        self.makes.iter().map(frame).collect()
    }
}

/// The bytes of some chunks of a library, one behind the other.
fn read_all(library: &Library, chunks: &[ChunkRef]) -> Result<Vec<u8>, ContentError> {
    let mut all = Vec::with_capacity(usize::try_from(sum(chunks)).unwrap_or(0));
    let mut raw = Vec::new();
    for chunk in chunks {
        let frame = library.frame(&chunk.digest)?;
        let frame = frame.ok_or(bad("a chunk that it needs is not there"))?;
        if let Err(error) = frame.unpack(&mut raw) {
            library.damaged(&chunk.digest);
            return Err(error);
        }
        if raw.len() != chunk.bytes as usize {
            return Err(bad("a chunk that it needs has another length"));
        }
        all.extend_from_slice(&raw);
    }
    Ok(all)
}

/// What each part makes of what, as it stands in the table: places in the two manifests.
fn decode_table(
    table: &[u8],
    front_bytes: u64,
    old: &[ChunkRef],
    new: &[ChunkRef],
) -> Result<Vec<Part>, ContentError> {
    let mut from = Reader::new(table);
    let count = from.count(PART_BYTES_MIN)?;
    let mut parts = Vec::with_capacity(count);
    let mut made = HashSet::new();
    let mut offset = front_bytes;
    for _ in 0..count {
        let packed = from.u32()? as usize;
        let makes = decode_places(&mut from, new, MADE_BYTES_MAX)?;
        let bases = decode_places(&mut from, old, BASE_BYTES_MAX)?;
        if packed > compress_bound(usize::try_from(MADE_BYTES_MAX).unwrap_or(0)) {
            return Err(bad("a length is out of bounds"));
        }
        if makes.is_empty() || !makes.iter().all(|chunk| made.insert(chunk.digest)) {
            return Err(bad("a part makes nothing, or what another one makes"));
        }
        let part = Part {
            offset,
            packed,
            makes,
            bases,
        };
        offset += packed as u64;
        parts.push(part);
    }
    from.end()?;
    Ok(parts)
}

fn decode_places(
    from: &mut Reader<'_>,
    chunks: &[ChunkRef],
    bytes_max: u64,
) -> Result<Vec<ChunkRef>, ContentError> {
    let count = from.count(4)?;
    let mut found = Vec::with_capacity(count);
    let mut bytes = 0;
    for _ in 0..count {
        let chunk = chunks.get(from.u32()? as usize);
        let chunk = *chunk.ok_or(bad("it names a chunk that no manifest has"))?;
        bytes += u64::from(chunk.bytes);
        if bytes > bytes_max {
            return Err(bad("a part is too long"));
        }
        found.push(chunk);
    }
    Ok(found)
}

fn zstd_error(what: &'static str) -> impl Fn(usize) -> ContentError {
    move |code| ContentError::stream(what)(std::io::Error::other(get_error_name(code)))
}

/// Compresses what mostly lies in `base` already.
fn pack(raw: &[u8], base: &[u8]) -> Result<Vec<u8>, ContentError> {
    let failed = zstd_error("compress a patch");
    let mut context = CCtx::create();
    let longest = usize::BITS - (raw.len() + base.len()).leading_zeros();
    for parameter in [
        CParameter::CompressionLevel(ZSTD_LEVEL),
        // All of the base, from the first byte to the last.
        CParameter::WindowLog(longest.clamp(*WINDOW_LOG.start(), *WINDOW_LOG.end())),
        CParameter::EnableLongDistanceMatching(true),
    ] {
        context.set_parameter(parameter).map_err(&failed)?;
    }
    context.ref_prefix(base).map_err(&failed)?;
    let mut packed = vec![0; compress_bound(raw.len())];
    let length = context.compress2(&mut packed[..], raw).map_err(&failed)?;
    packed.truncate(length);
    Ok(packed)
}

/// Fills `raw` with what was packed with this base.
fn unpack(packed: &[u8], base: &[u8], raw: &mut [u8]) -> Result<(), ContentError> {
    // zstd passes over further frames behind the first; we do not.
    if zstd::zstd_safe::find_frame_compressed_size(packed) != Ok(packed.len()) {
        return Err(bad("its packed bytes are not one zstd frame"));
    }
    let mut context = DCtx::create();
    context
        .ref_prefix(base)
        .map_err(zstd_error("unpack a patch"))?;
    match context.decompress(raw, packed) {
        Ok(length) if length == raw.len() => Ok(()),
        Ok(_) => Err(bad("it unpacks to another length")),
        Err(_) => Err(bad("it does not unpack")),
    }
}
