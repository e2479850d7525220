//! Makes the entries of a tree be in a folder, and compares without writing.
//!
//! What else is in the folder stays. Folders that exist keep their mode, owner and time: a tree is often laid over an
//! OS whose folders aren't its own.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::thread;

use camino::Utf8Path;
use rustix::fs::{FileType, Stat};
use wire::digest::Digest;
use wire::event::ContentBytes;

use super::flush::while_flushing;
use super::tree_new::{New, Progress};
use super::tree_target::{Found, Place, Target, special};
use super::tree_writer::{WantedFile, Writer};
use super::{by_digest, missing, offsets};
use crate::attributes::Holder;
use crate::capture::read_buffer;
use crate::error::ContentError;
use crate::manifest::{ChunkRef, Entry, EntryKind, Manifest, Metadata, TreePath};
use crate::meter::{Meter, Tally};
use crate::source::{self, ChunkSource};

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

/// Makes the tree's entries be in `folder`: new files are written aside and renamed (or, in folders that are new as well, in
/// their place), equal ones left alone; other files in the folder stay. Never follows a symbolic link out of `folder`.
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
    let mut new = New::default();
    let mut new_folders = HashSet::new();
    let mut files = Vec::new();
    let names = other_names(tree.entries());
    let mut offset = 0;
    for (index, entry) in tree.entries().iter().enumerate() {
        tally.check()?;
        let is_new = new_folders.contains(entry.path.split().0);
        match &entry.kind {
            EntryKind::Folder => {
                if is_new || !is_there(&mut target, entry, &mut new)? {
                    new.folders.push(entry);
                    new_folders.insert(entry.path.as_bytes());
                }
            }
            // What it is another name of may yet be written.
            EntryKind::HardLink { .. } => {}
            EntryKind::Link { .. }
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::Device(_)
            | EntryKind::File { bytes: 0, .. }
                if is_new =>
            {
                new.others.push(entry);
            }
            EntryKind::Link { target: to } => link(&mut target, entry, to)?,
            EntryKind::Fifo | EntryKind::Socket | EntryKind::Device(_) => {
                special_entry(&mut target, entry)?;
            }
            EntryKind::File { bytes, digest, .. } => {
                let others = names.get(&index).map_or(&[][..], Vec::as_slice);
                if !is_new
                    && file_is_equal(&mut target, entry, others, (*bytes, *digest), &mut tally)?
                {
                    counts.unchanged += bytes;
                    tally.add(*bytes)?;
                } else if *bytes == 0 {
                    target.write_file(entry, Place::Beside, &[])?;
                } else {
                    let (place, folders) = match is_new {
                        true => (Place::New, new.folders.len()),
                        false => (Place::Beside, 0),
                    };
                    files.push(WantedFile {
                        entry,
                        offset,
                        bytes: *bytes,
                        place,
                        folders,
                    });
                }
                offset += bytes;
            }
        }
    }
    let progress = new.progress();
    let write = |progress: &Progress| {
        let writer = Writer::new(&files, &target, progress);
        write_files(manifest, &files, &writer, sources, &mut counts, &mut tally)
    };
    while_flushing(
        || target.flush(),
        || beside(&new, &progress, target.another(), write),
    )?;
    for entry in tree.entries() {
        if let EntryKind::HardLink { to } = entry.kind {
            other_name(&mut target, entry, &tree.entries()[to as usize])?;
        }
    }
    for entry in new.folders.iter().rev() {
        target.touch_folder(entry)?;
    }
    target.sync()?;
    Ok(counts)
}

/// Whether a folder is there, directly or by a link. A link may lead to one that is still to be made.
fn is_there(
    target: &mut Target<'_>,
    entry: &Entry,
    new: &mut New<'_>,
) -> Result<bool, ContentError> {
    if target.has_folder(&entry.path)? {
        return Ok(true);
    }
    if !matches!(target.look(&entry.path)?, Found::Link(_)) {
        return Ok(false);
    }
    new.make_folders(target)?;
    target.has_folder(&entry.path)
}

/// The other names of each entry that has some, by its place.
fn other_names(entries: &[Entry]) -> HashMap<usize, Vec<&Entry>> {
    let mut names: HashMap<usize, Vec<&Entry>> = HashMap::new();
    for entry in entries {
        if let EntryKind::HardLink { to } = entry.kind {
            names.entry(to as usize).or_default().push(entry);
        }
    }
    names
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
        let compared = match entry.kind {
            EntryKind::HardLink { to } => {
                compare_name(&mut target, entry, &tree.entries()[to as usize])
            }
            _ => compare_entry(&mut target, entry, &mut tally),
        };
        let what = match compared {
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

fn compare_name(
    target: &mut Target<'_>,
    entry: &Entry,
    named: &Entry,
) -> Result<Option<&'static str>, ContentError> {
    let found = target.look(&entry.path)?;
    let is_same = target.look(&named.path)?.is_same(&found);
    Ok(match found {
        Found::Nothing => Some("missing"),
        _ if is_same => None,
        _ => Some("it isn't another name of what it should be"),
    })
}

fn compare_entry(
    target: &mut Target<'_>,
    entry: &Entry,
    tally: &mut Tally<'_>,
) -> Result<Option<&'static str>, ContentError> {
    let found = match entry.kind {
        EntryKind::Folder => return Ok((!target.has_folder(&entry.path)?).then_some("missing")),
        _ => target.look(&entry.path)?,
    };
    match (&entry.kind, found) {
        (_, Found::Nothing) => Ok(Some("missing")),
        (EntryKind::File { bytes, digest, .. }, Found::File(stat)) => {
            if u64::try_from(stat.st_size) != Ok(*bytes) {
                return Ok(Some("its length differs"));
            }
            let mut file = target.open_file(&entry.path)?;
            if hash(&mut file, *bytes, target, &entry.path, tally)? != Some(*digest) {
                return Ok(Some("its content differs"));
            }
            compare_metadata(target, entry, &stat, true)
        }
        (EntryKind::Link { target: to }, Found::Link(stat)) => {
            if target.read_link(&entry.path)? != *to {
                return Ok(Some("it points elsewhere"));
            }
            compare_metadata(target, entry, &stat, false)
        }
        (kind, Found::Special(stat)) if is_special(&stat, kind) => {
            compare_metadata(target, entry, &stat, true)
        }
        _ => Ok(Some("it is something else")),
    }
}

fn compare_metadata(
    target: &mut Target<'_>,
    entry: &Entry,
    stat: &Stat,
    with_mode: bool,
) -> Result<Option<&'static str>, ContentError> {
    let is_root = target.is_root();
    if !metadata_is_equal(stat, &entry.metadata, with_mode, is_root) {
        return Ok(Some("its mode, owner or time differs"));
    }
    Ok((!target.has_attributes(entry)?).then_some("its attributes differ"))
}

fn link(target: &mut Target<'_>, entry: &Entry, to: &[u8]) -> Result<(), ContentError> {
    match target.look(&entry.path)? {
        Found::Link(stat) if target.read_link(&entry.path)? == to => {
            if metadata_is_equal(&stat, &entry.metadata, false, target.is_root())
                && target.has_attributes(entry)?
            {
                Ok(())
            } else {
                target.touch_link(entry)
            }
        }
        Found::Nothing | Found::Link(_) | Found::File(_) => {
            target.make_link(entry, to, Place::Beside)
        }
        Found::Folder | Found::Special(_) => Err(in_the_way(target, &entry.path)),
    }
}

/// A FIFO, a socket or a device: nothing of it is worth keeping if it isn't equal.
fn special_entry(target: &mut Target<'_>, entry: &Entry) -> Result<(), ContentError> {
    match target.look(&entry.path)? {
        Found::Special(stat)
            if is_special(&stat, &entry.kind)
                && metadata_is_equal(&stat, &entry.metadata, true, target.is_root())
                && target.has_attributes(entry)? =>
        {
            Ok(())
        }
        Found::Folder => Err(in_the_way(target, &entry.path)),
        _ => target.make_special(entry, Place::Beside),
    }
}

/// Whether this is the FIFO, the socket or the device of an entry.
fn is_special(stat: &Stat, kind: &EntryKind) -> bool {
    let is_one = matches!(
        kind,
        EntryKind::Fifo | EntryKind::Socket | EntryKind::Device(_)
    );
    is_one && (FileType::from_raw_mode(stat.st_mode), stat.st_rdev) == special(kind)
}

/// Another name of what is in its place already.
fn other_name(target: &mut Target<'_>, entry: &Entry, named: &Entry) -> Result<(), ContentError> {
    let found = target.look(&entry.path)?;
    if target.look(&named.path)?.is_same(&found) {
        return Ok(());
    }
    match found {
        Found::Folder => Err(in_the_way(target, &entry.path)),
        _ => target.make_name(&entry.path, &named.path),
    }
}

fn in_the_way(target: &Target<'_>, path: &TreePath) -> ContentError {
    ContentError::Obstructed {
        path: target.shown(path),
        rule: "there is a folder or a device in its place",
    }
}

/// Whether a file has the right bytes already; if so its metadata is put right. `others` are the other names it should have.
fn file_is_equal(
    target: &mut Target<'_>,
    entry: &Entry,
    others: &[&Entry],
    (bytes, digest): (u64, Digest),
    tally: &mut Tally<'_>,
) -> Result<bool, ContentError> {
    let found = target.look(&entry.path)?;
    let stat = match &found {
        Found::File(stat) if u64::try_from(stat.st_size) == Ok(bytes) => stat,
        Found::Nothing | Found::File(_) | Found::Link(_) => return Ok(false),
        Found::Folder | Found::Special(_) => return Err(in_the_way(target, &entry.path)),
    };
    let mut names_of_ours = 1;
    for other in others {
        // One that can't be looked at, because its folder isn't there, is none.
        names_of_ours += u64::from(target.look(&other.path).is_ok_and(|it| it.is_same(&found)));
    }
    let mut file = target.open_file(&entry.path)?;
    // With other names a change of mode would reach beyond the tree; a file of its own is then written.
    if stat.st_nlink > names_of_ours
        || hash(&mut file, bytes, target, &entry.path, tally)? != Some(digest)
    {
        return Ok(false);
    }
    let has_attributes = (Holder::Open(file.as_fd()).has(&entry.attributes, target.is_root()))
        .map_err(|error| {
            ContentError::io("read the attributes of", &target.shown(&entry.path))(error.into())
        })?;
    if !has_attributes || !metadata_is_equal(stat, &entry.metadata, true, target.is_root()) {
        target.touch_file(entry, &file)?;
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
    let mut buffer = read_buffer(bytes);
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

/// Writes files while another thread makes what else is new.
fn beside(
    new: &New<'_>,
    progress: &Progress,
    mut target: Target<'_>,
    write: impl FnOnce(&Progress) -> Result<(), ContentError>,
) -> Result<(), ContentError> {
    thread::scope(|scope| {
        let maker = scope.spawn(|| new.make(&mut target, progress));
        let written = write(progress);
        if written.is_err() {
            progress.stop();
        }
        // Files that wait in vain for their folder say less than whoever couldn't make it.
        match maker.join() {
            Ok(made) => made.and(written),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn write_files(
    manifest: &Manifest,
    files: &[WantedFile<'_>],
    writer: &Writer<'_, '_>,
    sources: &[&dyn ChunkSource],
    counts: &mut ContentBytes,
    tally: &mut Tally<'_>,
) -> Result<(), ContentError> {
    let chunks = manifest.chunks();
    let offsets = offsets(chunks);
    let (wanted, places) = by_digest(chunks, &needed_chunks(chunks, &offsets, files));
    let mut fetched = ContentBytes::default();
    let result = source::fetch(
        sources,
        &wanted,
        &mut fetched,
        &|run| {
            let mut written = vec![0; run.chunks.len()];
            for stretch in run.stretches(chunks, &places)? {
                let raw = &run.bytes[stretch.bytes];
                written[stretch.chunk] += writer.write(offsets[stretch.place], raw)?;
            }
            Ok(written)
        },
        &mut |_, written, kind| {
            source::count(counts, kind, written);
            tally.add(written)
        },
    );
    writer.clean_up();
    *counts += fetched;
    let (open, error) = result?;
    missing(chunks, &offsets, &open, error)
}

/// The chunks that hold bytes of these files.
fn needed_chunks(chunks: &[ChunkRef], offsets: &[u64], files: &[WantedFile<'_>]) -> Vec<usize> {
    let mut needed = Vec::new();
    for file in files {
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
