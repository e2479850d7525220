//! Captures content: cuts it into chunks, adds them to a library and says in a manifest how they belong together.
//!
//! How content is cut is described in `docs/formats/pack.md`; no reader depends on it.

mod ahead;
mod chunker;
mod cuts;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use camino::Utf8Path;
use rustix::fs::{Mode, OFlags, SeekFrom, seek};
use rustix::io::Errno;
use wire::digest::Digest;

use self::ahead::{Listed, reading_ahead};
use self::chunker::Chunker;
use self::cuts::Cuts;
use crate::attributes::Holder;
use crate::error::ContentError;
use crate::filesystem;
use crate::library::PackWriter;
use crate::manifest::{
    ATTRIBUTE_BYTES_MAX, BLOCK_BYTES, Device, ENTRIES_MAX, Entry, EntryKind, Extent, Hole, Image,
    Manifest, Metadata, Shape, Tree, TreePath,
};
use crate::meter::{Meter, Tally};

/// Files from this size on have chunks of their own: a changed neighbour costs them nothing.
const OWN_CHUNKS_BYTES: u64 = 256 << 10;
/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

/// Captures a folder as a tree: names as bytes, sorted; modes, owners, links, other names of the same file, devices, FIFOs,
/// sockets, empty folders, mtimes, extended attributes, holes.
///
/// # Errors
/// If something can't be read, changes meanwhile, or is more than a manifest can tell.
pub fn capture_tree(
    folder: &Utf8Path,
    to: &mut PackWriter<'_>,
    meter: &dyn Meter,
) -> Result<Manifest, ContentError> {
    let top = folder.as_std_path();
    let mut walk = Walk {
        top,
        entries: Vec::new(),
        with_names: HashMap::new(),
    };
    walk.folder(&mut Vec::new())?;
    let mut entries = walk.entries;
    let total = entries.iter().map(file_bytes).sum();
    let mut tally = Tally::new(meter, total);
    let mut chunker = Chunker::new(1);
    let files: Vec<Listed> = (entries.iter())
        .filter(|entry| file_bytes(entry) > 0)
        .map(|entry| (top.join(entry.path.as_path()), file_bytes(entry)))
        .collect();
    let (chunks, digests) = to.add_all(|sink| {
        reading_ahead(&files, |ahead| {
            let mut digests = Vec::with_capacity(files.len());
            while let Some((path, bytes)) = ahead.next_file() {
                let has_own_chunks = *bytes >= OWN_CHUNKS_BYTES;
                if has_own_chunks {
                    chunker.flush(sink)?;
                }
                let push = &mut |part: &[u8]| chunker.push(part, sink);
                digests.push(read_file(path, *bytes, &mut tally, push)?);
                if has_own_chunks {
                    chunker.flush(sink)?;
                }
            }
            chunker.flush(sink)?;
            Ok(digests)
        })
    })?;
    let mut digests = digests.into_iter();
    for entry in &mut entries {
        if let EntryKind::File {
            bytes: 1.., digest, ..
        } = &mut entry.kind
        {
            *digest = digests.next().unwrap_or(*digest);
        }
    }
    Manifest::new(chunks, Shape::Tree(Tree::new(entries)?))
}

fn file_bytes(entry: &Entry) -> u64 {
    if let EntryKind::File { bytes, .. } = entry.kind {
        bytes
    } else {
        0
    }
}

/// Lists what is in a folder in the order of a manifest; the digests of files are filled in later.
struct Walk<'a> {
    top: &'a Path,
    entries: Vec<Entry>,
    /// What has several names, by device and inode, and which entry was its first.
    with_names: HashMap<(u64, u64), u32>,
}

impl Walk<'_> {
    /// Lists what is `below` the top folder.
    fn folder(&mut self, below: &mut Vec<u8>) -> Result<(), ContentError> {
        let folder = match below.is_empty() {
            true => self.top.to_path_buf(),
            false => self.top.join(OsStr::from_bytes(below)),
        };
        let mut names = Vec::new();
        for found in fs::read_dir(&folder).map_err(ContentError::io("list", &folder))? {
            let found = found.map_err(ContentError::io("list", &folder))?;
            names.push(found.file_name());
        }
        names.sort_unstable_by(|left, right| left.as_bytes().cmp(right.as_bytes()));
        let length = below.len();
        for name in names {
            // The walk stops before it fills the memory.
            if self.entries.len() >= ENTRIES_MAX {
                return Err(ContentError::TooMuch {
                    what: "files and folders in a tree",
                    limit: ENTRIES_MAX as u64,
                });
            }
            if length > 0 {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            let entry = self.describe(&folder.join(&name), TreePath::new(below.clone())?)?;
            let is_folder = entry.kind == EntryKind::Folder;
            self.entries.push(entry);
            if is_folder {
                self.folder(below)?;
            }
            below.truncate(length);
        }
        Ok(())
    }

    fn describe(&mut self, path: &Path, tree_path: TreePath) -> Result<Entry, ContentError> {
        let found = fs::symlink_metadata(path).map_err(ContentError::io("look at", path))?;
        if !found.is_dir() && found.nlink() > 1 {
            let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
            let first = self.with_names.entry((found.dev(), found.ino()));
            let to = *first.or_insert(index);
            if to != index {
                return Ok(Entry {
                    path: tree_path,
                    metadata: self.entries[to as usize].metadata,
                    kind: EntryKind::HardLink { to },
                    attributes: Vec::new(),
                });
            }
        }
        let attributes = (Holder::Named(path).attributes())
            .map_err(|error| ContentError::io("read the attributes of", path)(error.into()))?;
        if attributes
            .iter()
            .any(|one| one.value.len() > ATTRIBUTE_BYTES_MAX)
        {
            return Err(ContentError::Unsupported {
                path: path.to_path_buf(),
                kind: "an extended attribute is too long",
            });
        }
        Ok(Entry {
            path: tree_path,
            metadata: metadata(&found),
            kind: kind(path, &found)?,
            attributes,
        })
    }
}

fn metadata(found: &fs::Metadata) -> Metadata {
    Metadata {
        mode: u16::try_from(found.mode() & 0o7777).unwrap_or(0),
        owner: found.uid(),
        group: found.gid(),
        mtime_seconds: found.mtime(),
        mtime_nanoseconds: u32::try_from(found.mtime_nsec()).unwrap_or(0),
    }
}

fn kind(path: &Path, found: &fs::Metadata) -> Result<EntryKind, ContentError> {
    let is = found.file_type();
    Ok(if is.is_dir() {
        EntryKind::Folder
    } else if is.is_file() {
        // Nothing is opened that can't have holes.
        let may_have_holes = found.blocks() * 512 < found.len();
        EntryKind::File {
            bytes: found.len(),
            digest: Digest::of(b""),
            holes: match may_have_holes {
                true => holes(path, found.len())?,
                false => Vec::new(),
            },
        }
    } else if is.is_symlink() {
        let target = fs::read_link(path).map_err(ContentError::io("read", path))?;
        EntryKind::Link {
            target: target.into_os_string().into_encoded_bytes(),
        }
    } else if is.is_fifo() {
        EntryKind::Fifo
    } else if is.is_socket() {
        EntryKind::Socket
    } else {
        EntryKind::Device(Device {
            is_block: is.is_block_device(),
            major: rustix::fs::major(found.rdev()),
            minor: rustix::fs::minor(found.rdev()),
        })
    })
}

/// Opens a file without following links: one that became a link to a device since would never end.
fn open(path: &Path) -> Result<File, ContentError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty());
    file.map(File::from)
        .map_err(|error| ContentError::io("open", path)(error.into()))
}

/// The whole blocks of a file that take no room.
fn holes(path: &Path, bytes: u64) -> Result<Vec<Hole>, ContentError> {
    let file = open(path)?;
    let failed = |error: Errno| ContentError::io("read", path)(error.into());
    let mut holes = Vec::new();
    let mut end = 0;
    for data in data_segments(&file, bytes).map_err(failed)? {
        holes.push((end, data.offset));
        end = data.offset + data.bytes;
    }
    holes.push((end, bytes));
    let holes = holes.into_iter().filter(|(from, to)| from < to);
    Ok(holes
        .map(|(from, to)| Hole {
            offset: from,
            bytes: to - from,
        })
        .collect())
}

/// Reads a file that must have `bytes` bytes, and returns its digest.
fn read_file(
    path: &Path,
    bytes: u64,
    tally: &mut Tally<'_>,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), ContentError>,
) -> Result<Digest, ContentError> {
    let file = open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = read_buffer(bytes);
    let mut seen = 0;
    // One byte more than expected, so that a file that grew is noticed.
    let mut from = (&file).take(bytes + 1);
    loop {
        let count = from
            .read(&mut buffer)
            .map_err(ContentError::io("read", path))?;
        if count == 0 {
            break;
        }
        seen += count as u64;
        hasher.update(&buffer[..count]);
        sink(&buffer[..count])?;
        tally.add(count as u64)?;
    }
    if seen != bytes {
        return Err(ContentError::Changed {
            path: path.to_path_buf(),
        });
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

/// Memory for reading a file of `bytes` bytes, and for noticing that it grew. Most files are small: cleared memory that they don't
/// fill costs more than reading them.
pub(crate) fn read_buffer(bytes: u64) -> Vec<u8> {
    vec![0; usize::try_from(bytes + 1).map_or(READ_BYTES, |bytes| bytes.min(READ_BYTES))]
}

/// Captures a filesystem image: chunks with 4-KiB aligned, content-defined cuts, which in ext4 and NTFS also fall
/// where files begin and end; holes and zero blocks left out.
///
/// # Errors
/// If the image can't be read, or its length is no multiple of 512 bytes.
pub fn capture_image(
    image: &File,
    to: &mut PackWriter<'_>,
    meter: &dyn Meter,
) -> Result<Manifest, ContentError> {
    let io = || ContentError::stream("read the image");
    let image_bytes = seek(image, SeekFrom::End(0)).map_err(|error| io()(error.into()))?;
    let segments = data_segments(image, image_bytes).map_err(|error| io()(error.into()))?;
    let mut tally = Tally::new(meter, segments.iter().map(|segment| segment.bytes).sum());
    let mut chunker = Chunker::new(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX));
    let mut cuts = Cuts::new(filesystem::file_stretches(image, image_bytes));
    let mut buffer = vec![0; READ_BYTES];
    let (chunks, extents) = to.add_all(|sink| {
        let mut extents: Vec<Extent> = Vec::new();
        for segment in segments {
            let mut at = segment.offset;
            let end = segment.offset + segment.bytes;
            while at < end {
                let part = &mut buffer
                    [..usize::try_from((end - at).min(READ_BYTES as u64)).unwrap_or(READ_BYTES)];
                image.read_exact_at(part, at).map_err(io())?;
                for run in runs(part) {
                    let (offset, bytes) = (at + run.start as u64, run.len() as u64);
                    let mut rest = &part[run];
                    while !rest.is_empty() {
                        let here = offset + bytes - rest.len() as u64;
                        if cuts.falls_at(here, rest, chunker.pending()) {
                            chunker.flush(sink)?;
                        }
                        let (now, later) = rest.split_at(cuts.next_after(here, rest.len()));
                        chunker.push(now, sink)?;
                        rest = later;
                    }
                    match extents.last_mut() {
                        Some(last) if last.offset + last.bytes == offset => last.bytes += bytes,
                        _ => extents.push(Extent { offset, bytes }),
                    }
                }
                at += part.len() as u64;
                tally.add(part.len() as u64)?;
            }
        }
        chunker.flush(sink)?;
        Ok(extents)
    })?;
    Manifest::new(chunks, Shape::Image(Image::new(image_bytes, extents)?))
}

/// The parts of an image or a file that may hold something, in whole blocks, in order.
fn data_segments(image: &File, image_bytes: u64) -> Result<Vec<Extent>, Errno> {
    let mut segments: Vec<Extent> = Vec::new();
    let mut at = 0;
    while at < image_bytes {
        let start = match seek(image, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // Not every filesystem and no device knows its holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error),
        };
        let end = match seek(image, SeekFrom::Hole(start)) {
            Ok(end) => end,
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => image_bytes,
            Err(error) => return Err(error),
        };
        let start = (start - start % BLOCK_BYTES).max(at);
        let end = end.next_multiple_of(BLOCK_BYTES).min(image_bytes);
        if end > start {
            segments.push(Extent {
                offset: start,
                bytes: end - start,
            });
        }
        at = end.max(at + 1);
    }
    Ok(segments)
}

/// The runs of blocks that aren't zero.
fn runs(part: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    let mut at = 0;
    for block in part.chunks(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX)) {
        let end = at + block.len();
        if !is_zero(block) {
            match runs.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => runs.push(at..end),
            }
        }
        at = end;
    }
    runs
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Where a path of a tree lies in a folder, for messages.
pub(crate) fn shown(folder: &Utf8Path, path: &TreePath) -> PathBuf {
    folder.as_std_path().join(path.as_path())
}
