//! Trees: folders, files and everything else that has a name in a filesystem.
//!
//! A [`Tree`] that exists is safe to apply: paths stay below the target, parents come before children, nothing comes
//! twice, and another name of a file comes behind it.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use wire::digest::Digest;

use super::bytes::{Reader, bad, put_count, put_text};
use super::image::BLOCK_BYTES;
use super::{VERSION_PLAIN, VERSION_RICH};
use crate::attributes::{self, Attribute};
use crate::error::ContentError;

/// The longest path; what Linux accepts in one call.
pub const PATH_BYTES_MAX: usize = 4096;
/// The longest part of a path; what Linux filesystems hold.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest target of a symbolic link; what Linux filesystems hold.
pub const LINK_BYTES_MAX: usize = 4095;
/// The deepest path: deeper trees are mistakes, and every level costs an open folder.
pub const DEPTH_MAX: usize = 128;

/// More would not fit into a manifest, were they files; other names of a file are shorter.
pub const ENTRIES_MAX: usize = 4 << 20;

/// The shortest entry is a folder: its kind, a path of one byte with its length, and the metadata.
const PLAIN_ENTRY_BYTES_MIN: usize = 1 + 3 + 2 + 8 + 12;
/// Or another name of a file: its kind, a path, and which entry it is another name of.
const RICH_ENTRY_BYTES_MIN: usize = 1 + 3 + 4;
const HOLE_BYTES: usize = 16;
/// Beside the kind of an entry: it has extended attributes.
const HAS_ATTRIBUTES: u8 = 0x80;
/// Beside the kind of a file: it has holes.
const HAS_HOLES: u8 = 0x40;
const NANOSECONDS: u32 = 1_000_000_000;

/// A path in a tree: relative, without `.`, `..`, empty parts and NUL. Bytes, not text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// Checks a path and takes it over.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ContentError> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(bad("a path is too long"));
        }
        let mut depth = 0;
        for part in bytes.split(|byte| *byte == b'/') {
            depth += 1;
            match part {
                b"" => return Err(bad("a path has an empty part")),
                b"." | b".." => return Err(bad("a path has a part `.` or `..`")),
                part if part.len() > NAME_BYTES_MAX => {
                    return Err(bad("a part of a path is too long"));
                }
                part if part.contains(&0) => return Err(bad("a path holds a NUL")),
                _ => {}
            }
        }
        if depth > DEPTH_MAX {
            return Err(bad("a path is too deep"));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As the system's functions take it.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The folder it is in, empty for the top, and its last part.
    pub(crate) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        }
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TreePath {
    /// Part by part, so that a folder comes directly before what is in it.
    fn cmp(&self, other: &Self) -> Ordering {
        self.0
            .split(|byte| *byte == b'/')
            .cmp(other.0.split(|byte| *byte == b'/'))
    }
}

impl std::fmt::Debug for TreePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_path(), f)
    }
}

impl std::fmt::Display for TreePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.as_path().display(), f)
    }
}

/// What an entry is, beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The lower 12 bits: set-user-ID, set-group-ID, sticky, permissions.
    pub mode: u16,
    /// The owner.
    pub owner: u32,
    /// The group.
    pub group: u32,
    /// Seconds since 1970 of the last change.
    pub mtime_seconds: i64,
    /// And its nanoseconds.
    pub mtime_nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Its length.
        bytes: u64,
        /// The digest of its bytes.
        digest: Digest,
        /// Where it takes no room; its bytes are zero there.
        holes: Vec<Hole>,
    },
    /// A symbolic link.
    Link {
        /// What it points at: any bytes but NUL.
        target: Vec<u8>,
    },
    /// Another name of something that isn't a folder.
    HardLink {
        /// Its place among the entries, before this one.
        to: u32,
    },
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device(Device),
}

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Whether it is read in blocks, not in characters.
    pub is_block: bool,
    /// Which driver it has.
    pub major: u32,
    /// Which of the driver's devices it is.
    pub minor: u32,
}

/// A stretch of a file that takes no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: TreePath,
    /// Mode, owner and time; of another name, those of what it names.
    pub metadata: Metadata,
    /// What it is.
    pub kind: EntryKind,
    /// Its extended attributes, access control lists among them; by name. Another name has none of its own.
    pub attributes: Vec<Attribute>,
}

impl Entry {
    /// Whether only version 2 of the format can tell it.
    fn is_rich(&self) -> bool {
        let is_plain = match &self.kind {
            EntryKind::Folder | EntryKind::Link { .. } => true,
            EntryKind::File { holes, .. } => holes.is_empty(),
            _ => false,
        };
        !is_plain || !self.attributes.is_empty()
    }
}

/// The entries of a tree, in order and without contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
    content_bytes: u64,
}

impl Tree {
    /// Checks entries and takes them over.
    ///
    /// # Errors
    /// Says which rule they break.
    pub fn new(entries: Vec<Entry>) -> Result<Self, ContentError> {
        if entries.len() > ENTRIES_MAX {
            return Err(ContentError::TooMuch {
                what: "files and folders in a tree",
                limit: ENTRIES_MAX as u64,
            });
        }
        let mut content_bytes = 0_u64;
        // The folders that the entry before is in, outermost first, and that entry itself if it is one.
        let mut folders: Vec<&[u8]> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 && entries[index - 1].path >= entry.path {
                return Err(bad("its entries are not in order, or one comes twice"));
            }
            let (parent, _) = entry.path.split();
            while folders.last().is_some_and(|folder| *folder != parent) {
                folders.pop();
            }
            if !parent.is_empty() && folders.is_empty() {
                return Err(bad("an entry has no folder to be in"));
            }
            check_entry(entry)?;
            check_other_name(entry, &entries[..index])?;
            match &entry.kind {
                EntryKind::Folder => folders.push(entry.path.as_bytes()),
                EntryKind::File { bytes, .. } => {
                    content_bytes = content_bytes
                        .checked_add(*bytes)
                        .ok_or(bad("its files are too long"))?;
                }
                _ => {}
            }
        }
        Ok(Self {
            entries,
            content_bytes,
        })
    }

    /// The entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of all files.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// The same tree, everything owned by `owner` and `group`.
    #[must_use]
    pub fn owned_by(mut self, owner: u32, group: u32) -> Self {
        for entry in &mut self.entries {
            entry.metadata.owner = owner;
            entry.metadata.group = group;
        }
        self
    }

    /// The lowest version of the format that can tell all entries.
    pub(super) fn version(&self) -> u16 {
        match self.entries.iter().any(Entry::is_rich) {
            true => VERSION_RICH,
            false => VERSION_PLAIN,
        }
    }

    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        put_count(to, self.entries.len());
        for entry in &self.entries {
            encode_entry(entry, to);
        }
    }

    pub(super) fn decode(from: &mut Reader<'_>, version: u16) -> Result<Self, ContentError> {
        let count = from.count(match version {
            VERSION_PLAIN => PLAIN_ENTRY_BYTES_MIN,
            _ => RICH_ENTRY_BYTES_MIN,
        })?;
        if count > ENTRIES_MAX {
            return Err(bad("it has too many entries"));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(decode_entry(from, &entries)?);
        }
        let tree = Self::new(entries)?;
        if tree.version() != version {
            return Err(bad("its version is not the lowest that can tell it"));
        }
        Ok(tree)
    }
}

fn check_entry(entry: &Entry) -> Result<(), ContentError> {
    if entry.metadata.mode > 0o7777 {
        return Err(bad("a mode has unknown bits"));
    }
    if entry.metadata.mtime_nanoseconds >= NANOSECONDS {
        return Err(bad("a time has too many nanoseconds"));
    }
    match &entry.kind {
        EntryKind::Link { target }
            if target.is_empty() || target.len() > LINK_BYTES_MAX || target.contains(&0) =>
        {
            return Err(bad(
                "the target of a link is empty, too long or holds a NUL",
            ));
        }
        EntryKind::File { bytes, holes, .. } => check_holes(*bytes, holes)?,
        _ => {}
    }
    attributes::check(&entry.attributes)
}

fn check_holes(file_bytes: u64, holes: &[Hole]) -> Result<(), ContentError> {
    let mut last_end = None;
    for Hole { offset, bytes } in holes {
        let end = offset.checked_add(*bytes).filter(|end| *end <= file_bytes);
        let end = end.ok_or(bad("a hole lies outside its file"))?;
        let is_whole = offset.is_multiple_of(BLOCK_BYTES)
            && (bytes.is_multiple_of(BLOCK_BYTES) || end == file_bytes);
        if *bytes == 0 || !is_whole {
            return Err(bad("a hole is empty or isn't made of whole blocks"));
        }
        if last_end.is_some_and(|last| last >= *offset) {
            return Err(bad("holes overlap, touch or are not in order"));
        }
        last_end = Some(end);
    }
    Ok(())
}

/// Another name leads to something that comes before it and has names, and says nothing else about it.
fn check_other_name(entry: &Entry, before: &[Entry]) -> Result<(), ContentError> {
    let EntryKind::HardLink { to } = entry.kind else {
        return Ok(());
    };
    let named = usize::try_from(to).ok().and_then(|to| before.get(to));
    let named = named.ok_or(bad("another name leads to nothing before it"))?;
    if matches!(named.kind, EntryKind::Folder | EntryKind::HardLink { .. }) {
        return Err(bad("another name leads to a folder or to another name"));
    }
    if entry.metadata != named.metadata || !entry.attributes.is_empty() {
        return Err(bad("another name says something else"));
    }
    Ok(())
}

fn encode_entry(entry: &Entry, to: &mut Vec<u8>) {
    let kind = match &entry.kind {
        EntryKind::Folder => 0,
        EntryKind::File { holes, .. } if holes.is_empty() => 1,
        EntryKind::File { .. } => 1 | HAS_HOLES,
        EntryKind::Link { .. } => 2,
        EntryKind::HardLink { .. } => 3,
        EntryKind::Fifo => 4,
        EntryKind::Socket => 5,
        EntryKind::Device(device) => 6 + u8::from(device.is_block),
    };
    let has_attributes = match entry.attributes.is_empty() {
        true => 0,
        false => HAS_ATTRIBUTES,
    };
    to.push(kind | has_attributes);
    put_text(to, entry.path.as_bytes());
    if let EntryKind::HardLink { to: named } = &entry.kind {
        to.extend_from_slice(&named.to_le_bytes());
        return;
    }
    let metadata = &entry.metadata;
    to.extend_from_slice(&metadata.mode.to_le_bytes());
    to.extend_from_slice(&metadata.owner.to_le_bytes());
    to.extend_from_slice(&metadata.group.to_le_bytes());
    to.extend_from_slice(&metadata.mtime_seconds.to_le_bytes());
    to.extend_from_slice(&metadata.mtime_nanoseconds.to_le_bytes());
    match &entry.kind {
        EntryKind::File {
            bytes,
            digest,
            holes,
        } => {
            to.extend_from_slice(&bytes.to_le_bytes());
            to.extend_from_slice(digest.as_bytes());
            if !holes.is_empty() {
                put_count(to, holes.len());
            }
            for hole in holes {
                to.extend_from_slice(&hole.offset.to_le_bytes());
                to.extend_from_slice(&hole.bytes.to_le_bytes());
            }
        }
        EntryKind::Link { target } => put_text(to, target),
        EntryKind::Device(device) => {
            to.extend_from_slice(&device.major.to_le_bytes());
            to.extend_from_slice(&device.minor.to_le_bytes());
        }
        EntryKind::Folder | EntryKind::HardLink { .. } | EntryKind::Fifo | EntryKind::Socket => {}
    }
    if !entry.attributes.is_empty() {
        attributes::encode(&entry.attributes, to);
    }
}

fn decode_entry(from: &mut Reader<'_>, before: &[Entry]) -> Result<Entry, ContentError> {
    let kind = from.byte()?;
    let path = TreePath::new(from.text(PATH_BYTES_MAX)?.to_vec())?;
    if kind == 3 {
        let to = from.u32()?;
        let named = usize::try_from(to).ok().and_then(|to| before.get(to));
        let named = named.ok_or(bad("another name leads to nothing before it"))?;
        return Ok(Entry {
            path,
            metadata: named.metadata,
            kind: EntryKind::HardLink { to },
            attributes: Vec::new(),
        });
    }
    let metadata = Metadata {
        mode: from.u16()?,
        owner: from.u32()?,
        group: from.u32()?,
        mtime_seconds: from.i64()?,
        mtime_nanoseconds: from.u32()?,
    };
    let has_attributes = kind & HAS_ATTRIBUTES != 0;
    let kind = match kind & !HAS_ATTRIBUTES {
        0 => EntryKind::Folder,
        kind if kind & !HAS_HOLES == 1 => EntryKind::File {
            bytes: from.u64()?,
            digest: Digest::from_bytes(from.array()?),
            holes: match kind & HAS_HOLES {
                0 => Vec::new(),
                _ => decode_holes(from)?,
            },
        },
        2 => EntryKind::Link {
            target: from.text(LINK_BYTES_MAX)?.to_vec(),
        },
        4 => EntryKind::Fifo,
        5 => EntryKind::Socket,
        kind @ (6 | 7) => EntryKind::Device(Device {
            is_block: kind == 7,
            major: from.u32()?,
            minor: from.u32()?,
        }),
        _ => return Err(bad("the kind of an entry is unknown")),
    };
    let attributes = match has_attributes {
        true => attributes::decode(from)?,
        false => Vec::new(),
    };
    Ok(Entry {
        path,
        metadata,
        kind,
        attributes,
    })
}

fn decode_holes(from: &mut Reader<'_>) -> Result<Vec<Hole>, ContentError> {
    let count = from.count(HOLE_BYTES)?;
    if count == 0 {
        return Err(bad("a file has holes, but none is told"));
    }
    let mut holes = Vec::with_capacity(count);
    for _ in 0..count {
        holes.push(Hole {
            offset: from.u64()?,
            bytes: from.u64()?,
        });
    }
    Ok(holes)
}
