//! Trees: folders, files and symbolic links.
//!
//! A [`Tree`] that exists is safe to apply: paths stay below the target, parents come before children, nothing comes
//! twice. Devices, sockets, FIFOs, extended attributes and access control lists are left out on purpose.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use wire::digest::Digest;

use super::bytes::{Reader, bad, put_count, put_text};
use crate::error::ContentError;

/// The longest path; what Linux accepts in one call.
pub const PATH_BYTES_MAX: usize = 4096;
/// The longest part of a path; what Linux filesystems hold.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest target of a symbolic link; what Linux filesystems hold.
pub const LINK_BYTES_MAX: usize = 4095;
/// The deepest path: deeper trees are mistakes, and every level costs an open folder.
pub const DEPTH_MAX: usize = 128;

/// A folder is the shortest entry: its kind, a path of one byte with its length, and the metadata.
const ENTRY_BYTES_MIN: usize = 1 + 3 + 2 + 8 + 12;
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
    },
    /// A symbolic link.
    Link {
        /// What it points at: any bytes but NUL.
        target: Vec<u8>,
    },
}

/// A folder, file or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: TreePath,
    /// Mode, owner and time.
    pub metadata: Metadata,
    /// What it is.
    pub kind: EntryKind,
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
            match &entry.kind {
                EntryKind::Folder => folders.push(entry.path.as_bytes()),
                EntryKind::File { bytes, .. } => {
                    content_bytes = content_bytes
                        .checked_add(*bytes)
                        .ok_or(bad("its files are too long"))?;
                }
                EntryKind::Link { .. } => {}
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

    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        put_count(to, self.entries.len());
        for Entry {
            path,
            metadata,
            kind,
        } in &self.entries
        {
            to.push(match kind {
                EntryKind::Folder => 0,
                EntryKind::File { .. } => 1,
                EntryKind::Link { .. } => 2,
            });
            put_text(to, path.as_bytes());
            to.extend_from_slice(&metadata.mode.to_le_bytes());
            to.extend_from_slice(&metadata.owner.to_le_bytes());
            to.extend_from_slice(&metadata.group.to_le_bytes());
            to.extend_from_slice(&metadata.mtime_seconds.to_le_bytes());
            to.extend_from_slice(&metadata.mtime_nanoseconds.to_le_bytes());
            match kind {
                EntryKind::Folder => {}
                EntryKind::File { bytes, digest } => {
                    to.extend_from_slice(&bytes.to_le_bytes());
                    to.extend_from_slice(digest.as_bytes());
                }
                EntryKind::Link { target } => put_text(to, target),
            }
        }
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, ContentError> {
        let count = from.count(ENTRY_BYTES_MIN)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(decode_entry(from)?);
        }
        Self::new(entries)
    }
}

fn check_entry(entry: &Entry) -> Result<(), ContentError> {
    if entry.metadata.mode > 0o7777 {
        return Err(bad("a mode has unknown bits"));
    }
    if entry.metadata.mtime_nanoseconds >= NANOSECONDS {
        return Err(bad("a time has too many nanoseconds"));
    }
    if let EntryKind::Link { target } = &entry.kind
        && (target.is_empty() || target.len() > LINK_BYTES_MAX || target.contains(&0))
    {
        return Err(bad(
            "the target of a link is empty, too long or holds a NUL",
        ));
    }
    Ok(())
}

fn decode_entry(from: &mut Reader<'_>) -> Result<Entry, ContentError> {
    let kind = from.byte()?;
    let path = TreePath::new(from.text(PATH_BYTES_MAX)?.to_vec())?;
    let metadata = Metadata {
        mode: from.u16()?,
        owner: from.u32()?,
        group: from.u32()?,
        mtime_seconds: from.i64()?,
        mtime_nanoseconds: from.u32()?,
    };
    let kind = match kind {
        0 => EntryKind::Folder,
        1 => EntryKind::File {
            bytes: from.u64()?,
            digest: Digest::from_bytes(from.array()?),
        },
        2 => EntryKind::Link {
            target: from.text(LINK_BYTES_MAX)?.to_vec(),
        },
        _ => return Err(bad("the kind of an entry is unknown")),
    };
    Ok(Entry {
        path,
        metadata,
        kind,
    })
}
