//! The prestage bundle: one signed file with everything a factory needs. See `docs/formats/bundle.md`.
//!
//! What was verified and what was not are two types. Content can only be read from a verified bundle.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde_json::Value;
use tracing::warn;
use wire::bundle::{BundlePart, BundleRoot, BundleSignature, SignatureText};
use wire::digest::Digest;
use wire::keys::PublicKey;

use crate::converge::flush::while_flushing;
use crate::error::{ContentError, chain};
use crate::frame::{self, Frame};
use crate::hashed::Hashed;
use crate::library::Library;
use crate::manifest::{ChunkRef, MANIFEST_BYTES_MAX, Manifest};
use crate::meter::{Meter, Tally};
use crate::pack::{self, IndexEntry, PackStream};
use crate::parallel;
use crate::source::{ChunkSource, SourceKind};

/// The longest root: fifty times the root of 1000 packages with a sequence of 1000 steps.
const ROOT_BYTES_MAX: usize = 16 << 20;
/// The most manifests: a prestage has one per package, and `wire` allows no sequence with more steps than 1000.
const MANIFESTS_MAX: usize = 4096;
/// The bytes of all manifests: they are held in memory on a machine with 4 GiB.
const MANIFESTS_BYTES_MAX: u64 = 512 << 20;
/// The most packs; the writer makes one.
const PACKS_MAX: usize = 1024;
/// The frame table is held in memory: this is one for as many frames as a pack may hold.
const FRAMES_BYTES_MAX: u64 = (pack::FRAMES_MAX * Digest::BYTES) as u64;

/// How many frames are checked ahead of what is written: at most 64 MiB.
const FRAMES_ON_THEIR_WAY_MAX: usize = 64;

const MAGIC: &[u8; 8] = b"FSTGBNDL";
const VERSION: u16 = 1;
const CONTEXT: &[u8] = b"forestage bundle 1\0";
const HEAD_BYTES: usize = 88;
/// Where the id of the key lies in the head, and the signature behind it. Zeros: nobody has signed it yet.
const SIGNED_AT: usize = 16;
const ROOT_FORMAT: u32 = 1;

fn bad(rule: &'static str) -> ContentError {
    ContentError::BadBundle { rule }
}

/// The first 8 bytes of the digest of a public key.
#[must_use]
pub fn key_id(key: &VerifyingKey) -> [u8; 8] {
    key_id_of(key.as_bytes())
}

fn key_id_of(public_key: &[u8; 32]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&Digest::of(public_key).as_bytes()[..8]);
    id
}

fn signed_bytes(root: &[u8]) -> Vec<u8> {
    [CONTEXT, root].concat()
}

/// Signs the root of a bundle where the bundle isn't.
#[must_use]
pub fn sign_root(root: &[u8], key: &SigningKey) -> BundleSignature {
    BundleSignature {
        format: 1,
        key: PublicKey::from_bytes(key.verifying_key().as_bytes()),
        root: Digest::of(root),
        signature: SignatureText::from_bytes(&key.sign(&signed_bytes(root)).to_bytes()),
    }
}

/// Reads a root as whoever signs it must: nothing may be in it that this release would not show.
///
/// # Errors
/// If it is no root, or holds more than this release knows.
pub fn read_root(bytes: &[u8]) -> Result<BundleRoot, ContentError> {
    if !(2..=ROOT_BYTES_MAX).contains(&bytes.len()) {
        return Err(bad("the length of its root is out of bounds"));
    }
    let root: BundleRoot = serde_json::from_slice(bytes).map_err(|_| bad("this is no root"))?;
    check_root(&root, (HEAD_BYTES + bytes.len()) as u64)?;
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|_| bad("this is no root"));
    if !is_all_in(&read(bytes)?, &read(&encode_root(&root)?)?) {
        return Err(bad(
            "its root holds something that this release doesn't know",
        ));
    }
    Ok(root)
}

/// Whether nothing of `what` is lost in `whole`, which may have more.
fn is_all_in(what: &Value, whole: &Value) -> bool {
    match (what, whole) {
        (Value::Object(what), Value::Object(whole)) => what
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|other| is_all_in(value, other))),
        (Value::Array(what), Value::Array(whole)) => {
            what.len() == whole.len()
                && what
                    .iter()
                    .zip(whole)
                    .all(|(value, other)| is_all_in(value, other))
        }
        (what, whole) => what == whole,
    }
}

/// Puts a signature that was made elsewhere into the head of a bundle. Whoever calls this has checked it with
/// [`Bundle::with_signature`].
///
/// # Errors
/// If the file can't be written.
pub fn put_signature(bundle: &File, signature: &BundleSignature) -> Result<(), ContentError> {
    let head = [
        key_id_of(signature.key.as_bytes()).as_slice(),
        signature.signature.as_bytes(),
    ]
    .concat();
    bundle
        .write_all_at(&head, SIGNED_AT as u64)
        .and_then(|()| bundle.sync_all())
        .map_err(ContentError::stream("write the signature of the bundle"))
}

/// A bundle nobody has vouched for.
#[derive(Debug)]
pub struct Unverified {
    available: u64,
    key_id: [u8; 8],
    signature: Signature,
    root: Vec<u8>,
}

/// A bundle whose root is signed by a key we trust, whose manifests have the right digests, and whose packs say that they
/// hold every chunk of them.
#[derive(Debug)]
pub struct Verified {
    key: VerifyingKey,
    root: BundleRoot,
    root_digest: Digest,
    manifests: Vec<(Digest, Vec<u8>)>,
    /// The chunks of all manifests and their lengths: nothing else is taken from the packs.
    chunks: Chunks,
    packs_at: u64,
    /// Where the chunks lie in the file, by digest.
    index: Vec<IndexEntry>,
    /// The digests of all frames; `None` if the bundle is from before there were any.
    frames: Option<HashSet<Digest>>,
}

/// A prestage bundle: a file, or the partition of a boot medium (which may be longer than the bundle).
#[derive(Debug)]
pub struct Bundle<R, State> {
    reader: Mutex<R>,
    state: State,
}

impl<R: Read + Seek> Bundle<R, Unverified> {
    /// Reads the head. `available` is the length of the file or partition: a bundle whose head is cut off is refused
    /// here, one whose end is missing by [`Bundle::verify`], as soon as its length can be believed.
    ///
    /// # Errors
    /// If it is no bundle, a newer one, or can't be read.
    pub fn open(mut reader: R, available: u64) -> Result<Self, ContentError> {
        let io = || ContentError::stream("read the bundle");
        let mut head = [0; HEAD_BYTES];
        reader.seek(SeekFrom::Start(0)).map_err(io())?;
        if frame::fill(&mut reader, &mut head).map_err(io())? < HEAD_BYTES {
            return Err(ContentError::CutOff {
                needed: HEAD_BYTES as u64,
                available,
            });
        }
        if &head[..8] != MAGIC {
            return Err(bad("it does not begin like a bundle"));
        }
        match u16::from_le_bytes([head[8], head[9]]) {
            VERSION => {}
            0 => return Err(bad("its version is 0")),
            version => {
                return Err(ContentError::Newer {
                    what: "bundle",
                    version,
                    newest: VERSION,
                });
            }
        }
        if head[10..12] != [0; 2] {
            return Err(bad("a reserved byte is not zero"));
        }
        let length = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
        if !(2..=ROOT_BYTES_MAX).contains(&length) {
            return Err(bad("the length of its root is out of bounds"));
        }
        let needed = (HEAD_BYTES + length) as u64;
        if needed > available {
            return Err(ContentError::CutOff { needed, available });
        }
        let mut root = vec![0; length];
        let filled = frame::fill(&mut reader, &mut root).map_err(io())?;
        if filled < length {
            return Err(ContentError::CutOff {
                needed,
                available: (HEAD_BYTES + filled) as u64,
            });
        }
        let mut key_id = [0; 8];
        key_id.copy_from_slice(&head[16..24]);
        let mut signature = [0; 64];
        signature.copy_from_slice(&head[24..HEAD_BYTES]);
        let signature = Signature::from_bytes(&signature);
        Ok(Self {
            reader: Mutex::new(reader),
            state: Unverified {
                available,
                key_id,
                signature,
                root,
            },
        })
    }

    /// The bytes that are signed. Nothing in them may be believed yet.
    #[must_use]
    pub fn root_bytes(&self) -> &[u8] {
        &self.state.root
    }

    /// The same bundle with a signature that was made elsewhere, which is as unverified as the one it had.
    ///
    /// # Errors
    /// If the signature is that of another root.
    pub fn with_signature(mut self, signature: &BundleSignature) -> Result<Self, ContentError> {
        if Digest::of(&self.state.root) != signature.root {
            return Err(ContentError::OtherRoot);
        }
        self.state.key_id = key_id_of(signature.key.as_bytes());
        self.state.signature = Signature::from_bytes(signature.signature.as_bytes());
        Ok(self)
    }

    /// Checks the signature (`verify_strict`), the length, every manifest, the index of every pack and the frame table.
    ///
    /// # Errors
    /// If the key isn't among `keys`, the signature is wrong, the bundle is cut off, a manifest, an index or the table is
    /// damaged, or a chunk isn't in it.
    pub fn verify(self, keys: &[VerifyingKey]) -> Result<Bundle<R, Verified>, ContentError> {
        let Unverified {
            available,
            key_id: id,
            signature,
            root: root_bytes,
        } = self.state;
        if id == [0; 8] && signature.to_bytes() == [0; 64] {
            return Err(ContentError::Unsigned);
        }
        let Some(key) = keys.iter().find(|key| key_id(key) == id) else {
            return Err(ContentError::UnknownKey {
                key_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            });
        };
        key.verify_strict(&signed_bytes(&root_bytes), &signature)
            .map_err(|_| ContentError::BadSignature)?;
        let root: BundleRoot = serde_json::from_slice(&root_bytes)
            .map_err(|_| bad("its root is signed, but we can't read it"))?;
        let manifests_at = (HEAD_BYTES + root_bytes.len()) as u64;
        let places = check_root(&root, manifests_at)?;
        if places.end > available {
            return Err(ContentError::CutOff {
                needed: places.end,
                available,
            });
        }
        let mut reader = self
            .reader
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (manifests, chunks) = read_manifests(&mut reader, &root, manifests_at)?;
        let index = read_indexes(&mut reader, &root, places.packs, &chunks)?;
        let frames = match &root.frames {
            Some(part) => Some(read_frame_table(
                &mut reader,
                part,
                places.frames,
                index.len(),
            )?),
            None => None,
        };
        let root_digest = Digest::of(&root_bytes);
        let state = Verified {
            key: *key,
            root,
            root_digest,
            manifests,
            chunks,
            packs_at: places.packs,
            index,
            frames,
        };
        Ok(Bundle {
            reader: Mutex::new(reader),
            state,
        })
    }
}

/// Where the parts of a bundle begin behind its manifests, and where it ends.
struct Places {
    packs: u64,
    frames: u64,
    end: u64,
}

/// Checks the counts and lengths in a root.
fn check_root(root: &BundleRoot, manifests_at: u64) -> Result<Places, ContentError> {
    if root.format != ROOT_FORMAT {
        return Err(bad("the format of its root is unknown"));
    }
    if root.manifests.len() > MANIFESTS_MAX || root.packs.len() > PACKS_MAX {
        return Err(bad("it has too many manifests or packs"));
    }
    let sum = |parts: &[BundlePart]| {
        parts
            .iter()
            .try_fold(0_u64, |sum, part| sum.checked_add(part.bytes))
    };
    let manifests_bytes = sum(&root.manifests).filter(|bytes| *bytes <= MANIFESTS_BYTES_MAX);
    let manifests_bytes = manifests_bytes.ok_or(bad("its manifests are too long"))?;
    if root
        .manifests
        .iter()
        .any(|part| part.bytes > MANIFEST_BYTES_MAX as u64)
    {
        return Err(bad("one of its manifests is too long"));
    }
    let listed: HashSet<&Digest> = root.manifests.iter().map(|part| &part.digest).collect();
    if root
        .packages
        .iter()
        .any(|package| !listed.contains(&package.manifest))
    {
        return Err(bad("the manifest of a package is not in it"));
    }
    let frames_bytes = root.frames.map_or(0, |part| part.bytes);
    if frames_bytes > FRAMES_BYTES_MAX {
        return Err(bad("its frame table is too long"));
    }
    let packs = manifests_at + manifests_bytes;
    let frames = sum(&root.packs).and_then(|bytes| packs.checked_add(bytes));
    let frames = frames.ok_or(bad("its packs are too long"))?;
    let end = frames.checked_add(frames_bytes);
    Ok(Places {
        packs,
        frames,
        end: end.ok_or(bad("its packs are too long"))?,
    })
}

/// Chunks by digest, with their lengths.
type Chunks = HashMap<Digest, u32>;
type Manifests = (Vec<(Digest, Vec<u8>)>, Chunks);

fn read_manifests(
    reader: &mut (impl Read + Seek),
    root: &BundleRoot,
    at: u64,
) -> Result<Manifests, ContentError> {
    let io = || ContentError::stream("read the manifests of the bundle");
    reader.seek(SeekFrom::Start(at)).map_err(io())?;
    let mut manifests = Vec::with_capacity(root.manifests.len());
    let mut chunks = Chunks::new();
    for part in &root.manifests {
        let mut bytes = vec![0; usize::try_from(part.bytes).unwrap_or(0)];
        if frame::fill(reader, &mut bytes).map_err(io())? < bytes.len() {
            return Err(bad("one of its manifests is cut off"));
        }
        if Digest::of(&bytes) != part.digest {
            return Err(bad("one of its manifests was altered"));
        }
        chunks.extend(
            Manifest::decode(&bytes)?
                .chunks()
                .iter()
                .map(|chunk| (chunk.digest, chunk.bytes)),
        );
        manifests.push((part.digest, bytes));
    }
    Ok((manifests, chunks))
}

/// Reads the index of every pack: what isn't in the bundle, or doesn't belong in it, is known before anything is written.
///
/// An index isn't signed by itself. What it says is a reason to refuse a bundle, never one to believe a chunk.
fn read_indexes(
    reader: &mut (impl Read + Seek),
    root: &BundleRoot,
    packs_at: u64,
    chunks: &Chunks,
) -> Result<Vec<IndexEntry>, ContentError> {
    let mut found: Vec<IndexEntry> = Vec::with_capacity(chunks.len());
    let mut at = packs_at;
    for part in &root.packs {
        let (entries, frames_end) = pack::read_index(reader, at, part.bytes)?;
        let mut frame_at = pack::HEADER_BYTES;
        for entry in entries {
            if entry.offset != frame_at {
                return Err(bad("the frames of one of its packs don't lie back to back"));
            }
            if chunks.get(&entry.digest) != Some(&entry.raw_bytes) {
                return Err(bad("it holds a chunk that no manifest names"));
            }
            frame_at += entry.frame_bytes();
            let offset = at + entry.offset;
            found.push(IndexEntry { offset, ..entry });
        }
        if frame_at != frames_end {
            return Err(bad("the frames of one of its packs don't lie back to back"));
        }
        at += part.bytes;
    }
    found.sort_unstable_by_key(|entry| entry.digest);
    let is_in_it = |digest: &Digest| {
        found
            .binary_search_by_key(digest, |entry| entry.digest)
            .is_ok()
    };
    if !chunks.keys().all(is_in_it) {
        return Err(bad("it lacks a chunk that one of its manifests names"));
    }
    Ok(found)
}

/// Reads the digests of the `count` frames in the packs.
fn read_frame_table(
    reader: &mut (impl Read + Seek),
    part: &BundlePart,
    at: u64,
    count: usize,
) -> Result<HashSet<Digest>, ContentError> {
    let io = || ContentError::stream("read the frame table of the bundle");
    if part.bytes != (count * Digest::BYTES) as u64 {
        return Err(bad("its frame table isn't one of as many frames as it has"));
    }
    let mut bytes = vec![0; count * Digest::BYTES];
    reader.seek(SeekFrom::Start(at)).map_err(io())?;
    if frame::fill(reader, &mut bytes).map_err(io())? < bytes.len() {
        return Err(bad("its frame table is cut off"));
    }
    if Digest::of(&bytes) != part.digest {
        return Err(bad("its frame table was altered"));
    }
    let (digests, _) = bytes.as_chunks();
    Ok(digests.iter().copied().map(Digest::from_bytes).collect())
}

impl<R: Read + Seek> Bundle<R, Verified> {
    /// The key that signed it.
    #[must_use]
    pub fn key(&self) -> &VerifyingKey {
        &self.state.key
    }

    /// The signed root.
    #[must_use]
    pub fn root(&self) -> &BundleRoot {
        &self.state.root
    }

    /// The digest of its bytes.
    #[must_use]
    pub fn root_digest(&self) -> Digest {
        self.state.root_digest
    }

    /// The manifests' bytes, checked.
    #[must_use]
    pub fn manifests(&self) -> &[(Digest, Vec<u8>)] {
        &self.state.manifests
    }

    /// Reads all frames once, in order, and hands each to `sink`.
    ///
    /// Every frame must be a chunk of one of the manifests. Those that the frame table names needn't be unpacked to be kept; all
    /// others are checked by whoever unpacks them, and the packs must be what was signed in the end.
    ///
    /// # Errors
    /// If the packs are damaged or can't be read, or with the error of `sink`.
    pub fn frames(
        &self,
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let mut reader = parallel::lock(&self.reader);
        let mut at = self.state.packs_at;
        let mut signed = HashSet::new();
        let mut sink = |frame: Frame| {
            if !self.state.chunks.contains_key(&frame.digest()) {
                return Err(bad("it holds a chunk that no manifest names"));
            }
            let frame = self.state.vouch(frame);
            if frame.is_signed() {
                signed.insert(frame.digest());
            }
            sink(frame)
        };
        for part in &self.state.root.packs {
            reader
                .seek(SeekFrom::Start(at))
                .map_err(ContentError::stream("read the bundle"))?;
            if self.state.frames.is_some() {
                pack::read_frames(&mut *reader, part.bytes, &mut sink)?;
            } else {
                let mut hashed = Hashed::new(&mut *reader);
                pack::read_frames(&mut hashed, part.bytes, &mut sink)?;
                if hashed.digest() != part.digest {
                    return Err(bad("one of its packs was altered"));
                }
            }
            at += part.bytes;
        }
        match &self.state.frames {
            Some(frames) if frames.len() != signed.len() => {
                Err(bad("one of its packs was altered"))
            }
            _ => Ok(()),
        }
    }
}

impl Verified {
    /// Marks a frame that was signed as it is. What its header says then needs no other proof: the header is part of what was
    /// signed, wherever the frame lay.
    fn vouch(&self, frame: Frame) -> Frame {
        match &self.frames {
            Some(frames) if frames.contains(&frame.bytes_digest()) => frame.signed(),
            _ => frame,
        }
    }
}

impl<R: Read + Seek> ChunkSource for Bundle<R, Verified> {
    fn kind(&self) -> SourceKind {
        SourceKind::Local
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let mut reader = parallel::lock(&self.reader);
        let index = &self.state.index;
        let find = |digest: &Digest| {
            let at = index
                .binary_search_by_key(digest, |entry| entry.digest)
                .ok()?;
            Some(index[at])
        };
        let mut found: Vec<IndexEntry> = wanted.iter().filter_map(find).collect();
        found.sort_unstable_by_key(|entry| entry.offset);
        for entry in found {
            reader
                .seek(SeekFrom::Start(entry.offset))
                .map_err(ContentError::stream("read the bundle"))?;
            match Frame::read(&mut *reader) {
                Ok(Some(frame)) if frame.digest() == entry.digest => {
                    sink(self.state.vouch(frame))?;
                }
                Ok(_) => warn!(
                    "chunk {} is not where the index of the bundle says",
                    entry.digest
                ),
                Err(error) => warn!(
                    "{}; chunk {} of the bundle counts as missing",
                    chain(&error),
                    entry.digest
                ),
            }
        }
        Ok(())
    }
}

/// Writes a bundle: `root` is completed (`manifests`, `packs`, `frames`, `content_bytes`), signed, and followed by the
/// manifests, one pack with every chunk in apply order, and the frame table. Returns the digest of the signed root and the
/// length.
///
/// The bundle begins where `to` stands. Its head is written last, so that an unfinished bundle is none. Without a key it
/// waits for its signature: no reader takes it until [`put_signature`] has given it one.
///
/// # Errors
/// If a manifest or chunk of the packages isn't in the library or is damaged, or the file can't be written.
pub fn write_bundle(
    mut root: BundleRoot,
    library: &Library,
    key: Option<&SigningKey>,
    to: &mut File,
    meter: &dyn Meter,
) -> Result<(Digest, u64), ContentError> {
    let io = || ContentError::stream("write the bundle");
    let (manifests, chunks) = collect(&root, library)?;
    let mut frame_bytes = 0;
    for chunk in &chunks {
        let bytes = library.frame_bytes(&chunk.digest);
        frame_bytes += bytes.ok_or_else(|| missing(chunk))?;
    }
    root.format = ROOT_FORMAT;
    root.content_bytes = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
    root.manifests = manifests
        .iter()
        .map(|(digest, bytes)| BundlePart {
            digest: *digest,
            bytes: bytes.len() as u64,
        })
        .collect();
    // All digests have the same length in the root, so its length is known before those of pack and frame table are.
    let part = |bytes| BundlePart {
        digest: Digest::of(b""),
        bytes,
    };
    let pack_bytes = pack::length(chunks.len(), frame_bytes);
    root.packs = vec![part(pack_bytes)];
    root.frames = Some(part((chunks.len() * Digest::BYTES) as u64));
    let length = encode_root(&root)?.len();
    let start = to.stream_position().map_err(io())?;
    let manifests_at = start + (HEAD_BYTES + length) as u64;
    let end = check_root(&root, manifests_at)?.end;
    to.write_all(&vec![0; HEAD_BYTES + length]).map_err(io())?;
    for (_, bytes) in &manifests {
        to.write_all(bytes).map_err(io())?;
    }
    let synced = to.try_clone().map_err(io())?;
    let (pack, frames) = while_flushing(
        || synced.sync_data(),
        || write_pack(&chunks, library, to, meter),
    )?;
    if pack.bytes != pack_bytes {
        return Err(bad("the library changed while it was written"));
    }
    to.write_all(&frames).map_err(io())?;
    root.packs = vec![pack];
    root.frames = Some(BundlePart {
        digest: Digest::of(&frames),
        bytes: frames.len() as u64,
    });
    let bytes = encode_root(&root)?;
    to.seek(SeekFrom::Start(start)).map_err(io())?;
    to.write_all(&head(&bytes, key)).map_err(io())?;
    to.write_all(&bytes).map_err(io())?;
    to.seek(SeekFrom::Start(end)).map_err(io())?;
    to.sync_all()
        .map_err(ContentError::stream("sync the bundle"))?;
    Ok((Digest::of(&bytes), end - start))
}

fn head(root: &[u8], key: Option<&SigningKey>) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[0; 2]);
    head.extend_from_slice(&u32::try_from(root.len()).unwrap_or(u32::MAX).to_le_bytes());
    match key {
        Some(key) => {
            head.extend_from_slice(&key_id(&key.verifying_key()));
            head.extend_from_slice(&key.sign(&signed_bytes(root)).to_bytes());
        }
        None => head.resize(HEAD_BYTES, 0),
    }
    head
}

fn encode_root(root: &BundleRoot) -> Result<Vec<u8>, ContentError> {
    let bytes = serde_json::to_vec(root)
        .map_err(|error| ContentError::stream("encode the root")(error.into()))?;
    if bytes.len() > ROOT_BYTES_MAX {
        return Err(ContentError::TooMuch {
            what: "bytes in the root of a bundle",
            limit: ROOT_BYTES_MAX as u64,
        });
    }
    Ok(bytes)
}

type Collected = (Vec<(Digest, Vec<u8>)>, Vec<ChunkRef>);

/// The manifests of all packages and their chunks, each once, in apply order.
fn collect(root: &BundleRoot, library: &Library) -> Result<Collected, ContentError> {
    let (mut manifests, mut chunks) = (Vec::new(), Vec::new());
    let (mut seen_manifests, mut seen_chunks) = (HashSet::new(), HashSet::new());
    for digest in root.packages.iter().map(|package| package.manifest) {
        if !seen_manifests.insert(digest) {
            continue;
        }
        let bytes = library
            .manifest_bytes(&digest)?
            .ok_or(ContentError::MissingManifest { digest })?;
        let manifest = Manifest::decode(&bytes)?;
        chunks.extend(
            manifest
                .chunks()
                .iter()
                .filter(|chunk| seen_chunks.insert(chunk.digest)),
        );
        manifests.push((digest, bytes));
    }
    Ok((manifests, chunks))
}

fn missing(chunk: &ChunkRef) -> ContentError {
    ContentError::MissingChunk {
        digest: chunk.digest,
        offset: 0,
        source: None,
    }
}

/// Writes the pack, and returns what the root says of it and the frame table.
fn write_pack(
    chunks: &[ChunkRef],
    library: &Library,
    to: &mut File,
    meter: &dyn Meter,
) -> Result<(BundlePart, Vec<u8>), ContentError> {
    let mut tally = Tally::new(
        meter,
        chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum(),
    );
    let mut table = Vec::with_capacity(chunks.len() * Digest::BYTES);
    let mut stream = PackStream::new(Hashed::new(to))?;
    // A damaged chunk must not leave the house: at the factory there is no other source.
    let begin = || {
        let mut raw = Vec::new();
        move |frame: Frame| {
            frame.unpack(&mut raw)?;
            Ok((frame.bytes_digest(), frame))
        }
    };
    let mut accept = |checked: Result<(Digest, Frame), ContentError>| {
        let (digest, frame) = checked?;
        stream.add(&frame)?;
        table.extend_from_slice(digest.as_bytes());
        tally.add(u64::from(frame.raw_bytes()))
    };
    parallel::in_line(
        parallel::workers(),
        FRAMES_ON_THEIR_WAY_MAX,
        begin,
        &mut accept,
        |line| {
            let mut awaited = chunks.iter();
            let wanted = chunks.iter().map(|chunk| chunk.digest);
            library.frames(wanted, &mut |frame| match awaited.next() {
                Some(chunk) if chunk.digest != frame.digest() => Err(missing(chunk)),
                _ => line.send(frame),
            })?;
            awaited.next().map_or(Ok(()), |chunk| Err(missing(chunk)))
        },
    )?;
    let (to, _, bytes) = stream.finish()?;
    let digest = to.digest();
    Ok((BundlePart { digest, bytes }, table))
}
