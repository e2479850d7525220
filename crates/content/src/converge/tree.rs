//! Makes the entries of a tree be in a folder, and compares without writing.
//!
//! What else is in the folder stays. Folders that exist keep their mode, owner and time: a tree is often laid over an
//! OS whose folders aren't its own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};

use camino::Utf8Path;
use rustix::fs::Stat;
use wire::digest::Digest;
use wire::event::ContentBytes;

use super::tree_target::{Aside, Found, Target};
use super::{by_digest, missing, offsets};
use crate::buffer::Buffer;
use crate::error::ContentError;
use crate::manifest::{ChunkRef, Entry, EntryKind, Manifest, Metadata, TreePath};
use crate::meter::{Meter, Tally};
use crate::source::{self, ChunkSource, SourceKind, WANTED_MAX};

/// How many bytes of chunks wait in memory to be written in order.
const BATCH_BYTES: u64 = 32 << 20;
/// How much of a file is read at once.
const READ_BYTES: usize = 256 << 10;

/// Something in a folder that isn't as the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: TreePath,
    /// What differs, in plain words.
    pub what: &'static str,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Makes the tree's entries be in `folder`: new files are written aside and renamed, equal ones left alone; other
/// files in the folder stay. Never follows a symbolic link out of `folder`.
///
/// # Errors
/// If the manifest is of an image, something of another kind is in the way, the folder can't be read or written, no
/// source has a chunk, or the meter says stop. Converging again goes on.
pub fn converge_tree(
    manifest: &Manifest,
    folder: &Utf8Path,
    sources: &[&dyn ChunkSource],
    meter: &dyn Meter,
) -> Result<ContentBytes, ContentError> {
    let tree = manifest.tree()?;
    let mut tally = Tally::new(meter, tree.content_bytes());
    let mut target = Target::open(folder)?;
    let mut counts = ContentBytes::default();
    let mut folders = Vec::new();
    let mut files = Vec::new();
    let mut offset = 0;
    for entry in tree.entries() {
        tally.check()?;
        match &entry.kind {
            EntryKind::Folder => {
                if !target.has_folder(&entry.path)? {
                    target.make_folder(&entry.path, &entry.metadata)?;
                    folders.push(entry);
                }
            }
            EntryKind::Link { target: to } => link(&mut target, entry, to)?,
            EntryKind::File { bytes, digest } => {
                if file_is_equal(&mut target, entry, *bytes, *digest, &mut tally)? {
                    counts.unchanged += bytes;
                    tally.add(*bytes)?;
                } else {
                    files.push(WantedFile {
                        entry,
                        offset,
                        bytes: *bytes,
                        digest: *digest,
                    });
                }
                offset += bytes;
            }
        }
    }
    write_files(
        manifest,
        &files,
        &mut target,
        sources,
        &mut counts,
        &mut tally,
    )?;
    for entry in folders.iter().rev() {
        target.touch_folder(&entry.path, &entry.metadata)?;
    }
    target.sync()?;
    Ok(counts)
}

/// Compares without writing: what in `folder` isn't as the tree says. Other files in the folder don't matter, nor do
/// mode, owner and time of folders. Owners are compared only by root, as only root sets them.
///
/// # Errors
/// If the manifest is of an image, the folder can't be read, or the meter says stop.
pub fn compare_tree(
    manifest: &Manifest,
    folder: &Utf8Path,
    meter: &dyn Meter,
) -> Result<Vec<Difference>, ContentError> {
    let tree = manifest.tree()?;
    let mut tally = Tally::new(meter, tree.content_bytes());
    let mut target = Target::open(folder)?;
    let mut differences = Vec::new();
    for entry in tree.entries() {
        let what = match compare_entry(&mut target, entry, &mut tally) {
            Ok(what) => what,
            Err(ContentError::Obstructed { rule, .. }) => Some(rule),
            // The folder it should be in is missing.
            Err(ContentError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Some("missing")
            }
            Err(error) => return Err(error),
        };
        differences.extend(what.map(|what| Difference {
            path: entry.path.clone(),
            what,
        }));
        if let EntryKind::File { bytes, .. } = entry.kind {
            tally.add(bytes)?;
        }
    }
    Ok(differences)
}

fn compare_entry(
    target: &mut Target<'_>,
    entry: &Entry,
    tally: &mut Tally<'_>,
) -> Result<Option<&'static str>, ContentError> {
    let is_root = target.is_root();
    let metadata_differs = |stat: &Stat, with_mode| {
        let differs = !metadata_is_equal(stat, &entry.metadata, with_mode, is_root);
        differs.then_some("its mode, owner or time differs")
    };
    let found = match entry.kind {
        EntryKind::Folder => return Ok((!target.has_folder(&entry.path)?).then_some("missing")),
        _ => target.look(&entry.path)?,
    };
    Ok(match (&entry.kind, found) {
        (_, Found::Nothing) => Some("missing"),
        (EntryKind::File { bytes, digest }, Found::File(stat)) => {
            if u64::try_from(stat.st_size) != Ok(*bytes) {
                Some("its length differs")
            } else if hash(
                &mut target.open_file(&entry.path)?,
                *bytes,
                target,
                &entry.path,
                tally,
            )? == Some(*digest)
            {
                metadata_differs(&stat, true)
            } else {
                Some("its content differs")
            }
        }
        (EntryKind::Link { target: to }, Found::Link(stat)) => {
            if target.read_link(&entry.path)? == *to {
                metadata_differs(&stat, false)
            } else {
                Some("it points elsewhere")
            }
        }
        _ => Some("it is something else"),
    })
}

fn link(target: &mut Target<'_>, entry: &Entry, to: &[u8]) -> Result<(), ContentError> {
    match target.look(&entry.path)? {
        Found::Link(stat) if target.read_link(&entry.path)? == to => {
            if metadata_is_equal(&stat, &entry.metadata, false, target.is_root()) {
                Ok(())
            } else {
                target.touch_link(&entry.path, &entry.metadata)
            }
        }
        Found::Nothing | Found::Link(_) | Found::File(_) => {
            target.make_link(&entry.path, to, &entry.metadata)
        }
        Found::Folder | Found::Other => Err(in_the_way(target, &entry.path)),
    }
}

fn in_the_way(target: &Target<'_>, path: &TreePath) -> ContentError {
    ContentError::Obstructed {
        path: target.shown(path),
        rule: "there is a folder or a device in its place",
    }
}

/// Whether a file has the right bytes already; if so its metadata is put right.
fn file_is_equal(
    target: &mut Target<'_>,
    entry: &Entry,
    bytes: u64,
    digest: Digest,
    tally: &mut Tally<'_>,
) -> Result<bool, ContentError> {
    let stat = match target.look(&entry.path)? {
        Found::File(stat) if u64::try_from(stat.st_size) == Ok(bytes) => stat,
        Found::Nothing | Found::File(_) | Found::Link(_) => return Ok(false),
        Found::Folder | Found::Other => return Err(in_the_way(target, &entry.path)),
    };
    let mut file = target.open_file(&entry.path)?;
    // With several names a change of mode would reach beyond the folder; a file of its own is then written.
    if stat.st_nlink > 1 || hash(&mut file, bytes, target, &entry.path, tally)? != Some(digest) {
        return Ok(false);
    }
    if !metadata_is_equal(&stat, &entry.metadata, true, target.is_root()) {
        target.touch_file(&entry.path, &file, &entry.metadata)?;
    }
    Ok(true)
}

/// The digest of a file; `None` if it has another length.
fn hash(
    file: &mut File,
    bytes: u64,
    target: &Target<'_>,
    path: &TreePath,
    tally: &mut Tally<'_>,
) -> Result<Option<Digest>, ContentError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut seen = 0;
    let mut from = file.take(bytes + 1);
    loop {
        let count = from
            .read(&mut buffer)
            .map_err(|error| ContentError::io("read", &target.shown(path))(error))?;
        if count == 0 {
            break;
        }
        seen += count as u64;
        hasher.update(&buffer[..count]);
        tally.check()?;
    }
    Ok((seen == bytes).then(|| Digest::from_bytes(*hasher.finalize().as_bytes())))
}

fn metadata_is_equal(stat: &Stat, metadata: &Metadata, with_mode: bool, with_owner: bool) -> bool {
    (!with_mode || stat.st_mode & 0o7777 == u32::from(metadata.mode))
        && (!with_owner || (stat.st_uid == metadata.owner && stat.st_gid == metadata.group))
        && stat.st_mtime == metadata.mtime_seconds
        && u32::try_from(stat.st_mtime_nsec) == Ok(metadata.mtime_nanoseconds)
}

/// A file to be written, and where its bytes stand in the stream.
struct WantedFile<'a> {
    entry: &'a Entry,
    offset: u64,
    bytes: u64,
    digest: Digest,
}

fn write_files(
    manifest: &Manifest,
    files: &[WantedFile<'_>],
    target: &mut Target<'_>,
    sources: &[&dyn ChunkSource],
    counts: &mut ContentBytes,
    tally: &mut Tally<'_>,
) -> Result<(), ContentError> {
    let chunks = manifest.chunks();
    let offsets = offsets(chunks);
    let needed = needed_chunks(chunks, &offsets, files);
    let mut writer = Writer {
        files,
        next: 0,
        open: None,
        target,
    };
    writer.write_empty_ones()?;
    let mut rest = needed.as_slice();
    while !rest.is_empty() {
        let batch = &rest[..batch_length(chunks, rest)];
        rest = &rest[batch.len()..];
        let (wanted, _) = by_digest(chunks, batch);
        let mut raws: HashMap<Digest, (Buffer, SourceKind)> = HashMap::new();
        let prepare = |frame: &crate::frame::Frame, raw: &mut Buffer| {
            Ok((frame.digest(), std::mem::take(raw)))
        };
        let (open, error) = source::fetch(
            sources,
            &wanted,
            counts,
            &prepare,
            &mut |(digest, raw), kind| {
                raws.insert(digest, (raw, kind));
                tally.check()
            },
        )?;
        missing(chunks, &offsets, &open, error)?;
        for index in batch {
            let chunk = &chunks[*index];
            let Some((raw, kind)) = raws
                .get(&chunk.digest)
                .filter(|(raw, _)| raw.len() == chunk.bytes as usize)
            else {
                let rule = "its length is not the one in the manifest";
                return Err(ContentError::DamagedChunk {
                    digest: chunk.digest,
                    rule,
                });
            };
            let written = writer.write(offsets[*index], raw)?;
            source::count(counts, *kind, written);
            tally.add(written)?;
        }
    }
    Ok(())
}

/// How many of `rest` make up the next batch.
fn batch_length(chunks: &[ChunkRef], rest: &[usize]) -> usize {
    let mut bytes = 0;
    let fits = |index: &&usize| {
        bytes += u64::from(chunks[**index].bytes);
        bytes <= BATCH_BYTES
    };
    rest.iter().take(WANTED_MAX).take_while(fits).count().max(1)
}

/// The chunks that hold bytes of these files.
fn needed_chunks(chunks: &[ChunkRef], offsets: &[u64], files: &[WantedFile<'_>]) -> Vec<usize> {
    let mut needed = Vec::new();
    for file in files.iter().filter(|file| file.bytes > 0) {
        let first = offsets
            .partition_point(|offset| *offset <= file.offset)
            .saturating_sub(1);
        let end = file.offset + file.bytes;
        for (index, _) in chunks
            .iter()
            .enumerate()
            .skip(first)
            .take_while(|(index, _)| offsets[*index] < end)
        {
            if needed.last().is_none_or(|last| *last < index) {
                needed.push(index);
            }
        }
    }
    needed
}

/// Writes files in the order of the stream, one at a time.
struct Writer<'a, 't> {
    files: &'a [WantedFile<'a>],
    next: usize,
    open: Option<(Aside, blake3::Hasher)>,
    target: &'a mut Target<'t>,
}

impl Writer<'_, '_> {
    fn write_empty_ones(&mut self) -> Result<(), ContentError> {
        for file in self.files.iter().filter(|file| file.bytes == 0) {
            let aside = self.target.start_file(&file.entry.path)?;
            self.target
                .finish_file(&file.entry.path, aside, &file.entry.metadata)?;
        }
        Ok(())
    }

    /// Writes what a chunk that begins at `offset` holds of the files, and tells how much that was.
    fn write(&mut self, offset: u64, raw: &[u8]) -> Result<u64, ContentError> {
        let end = offset + raw.len() as u64;
        let mut written = 0;
        while let Some(file) = self.files.get(self.next) {
            let file_end = file.offset + file.bytes;
            let (from, to) = (offset.max(file.offset), end.min(file_end));
            if file.bytes == 0 {
                self.next += 1;
                continue;
            }
            if from >= to {
                break;
            }
            let (mut aside, mut hasher) = match self.open.take() {
                Some(open) => open,
                None => (
                    self.target.start_file(&file.entry.path)?,
                    blake3::Hasher::new(),
                ),
            };
            let index = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            let part = &raw[index(from)..index(to)];
            let path = &file.entry.path;
            aside
                .file
                .write_all(part)
                .map_err(|error| ContentError::io("write", &self.target.shown(path))(error))?;
            hasher.update(part);
            written += part.len() as u64;
            if to < file_end {
                self.open = Some((aside, hasher));
                break;
            }
            if hasher.finalize().as_bytes() != file.digest.as_bytes() {
                return Err(ContentError::BadManifest {
                    rule: "the digest of a file is not that of its chunks",
                });
            }
            self.target.finish_file(path, aside, &file.entry.metadata)?;
            self.next += 1;
        }
        Ok(written)
    }
}
