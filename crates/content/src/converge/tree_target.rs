//! The folder a tree is laid into: every operation stays below it, whatever symbolic links lie in there.
//!
//! Folders are opened beneath the top folder by the kernel's own check (`openat2`), everything else happens by name
//! inside an open folder and never follows a link.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use camino::Utf8Path;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::attributes::Holder;
use crate::capture::{is_zero, shown};
use crate::error::ContentError;
use crate::manifest::{Entry, EntryKind, Hole, Metadata, TreePath};

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A new file, or one that was begun.
const FILE: OFlags = OFlags::WRONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The top folder, held open.
pub(super) struct Target<'a> {
    folder: &'a Utf8Path,
    top: Arc<OwnedFd>,
    is_root: bool,
    /// The folder opened last: entries of one folder follow each other.
    last: Option<(Vec<u8>, OwnedFd)>,
}

/// Where a new file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Under its own name: its folder was made just now, so nothing can be there.
    New,
    /// Beside, and renamed when it is whole: what is there stays until then.
    Beside,
}

/// What lies where an entry should be.
pub(super) enum Found {
    Nothing,
    Folder,
    File(Stat),
    Link(Stat),
    /// A FIFO, a socket or a device.
    Special(Stat),
}

impl Found {
    /// Whether both are names of the same thing.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let identity = |found: &Self| match found {
            Self::Nothing | Self::Folder => None,
            Self::File(stat) | Self::Link(stat) | Self::Special(stat) => {
                Some((stat.st_dev, stat.st_ino))
            }
        };
        identity(self).is_some_and(|this| identity(other) == Some(this))
    }
}

impl<'a> Target<'a> {
    pub(super) fn open(folder: &'a Utf8Path) -> Result<Self, ContentError> {
        let top = rustix::fs::open(folder.as_std_path(), FOLDER, Mode::empty())
            .map_err(|error| ContentError::io("open", folder.as_std_path())(error.into()))?;
        Ok(Self {
            folder,
            top: Arc::new(top),
            is_root: rustix::process::geteuid().is_root(),
            last: None,
        })
    }

    /// The same folder for another thread.
    pub(super) fn another(&self) -> Self {
        Self {
            folder: self.folder,
            top: Arc::clone(&self.top),
            is_root: self.is_root,
            last: None,
        }
    }

    pub(super) fn shown(&self, path: &TreePath) -> PathBuf {
        shown(self.folder, path)
    }

    pub(super) fn is_root(&self) -> bool {
        self.is_root
    }

    fn error(&self, what: &'static str, path: &TreePath) -> impl FnOnce(Errno) -> ContentError {
        let path = self.shown(path);
        move |error| match error {
            Errno::XDEV | Errno::LOOP => ContentError::Obstructed {
                path,
                rule: "a symbolic link in it leads out of the folder",
            },
            Errno::NOTDIR => ContentError::Obstructed {
                path,
                rule: "a part of it is no folder",
            },
            Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => ContentError::Obstructed {
                path,
                rule: "there is a folder in its place",
            },
            error => ContentError::io(what, &path)(io::Error::from(error)),
        }
    }

    /// The open folder an entry is in, and the entry's name in there.
    fn parent<'p>(&mut self, path: &'p TreePath) -> Result<(&OwnedFd, &'p [u8]), ContentError> {
        let (parent, name) = path.split();
        if parent.is_empty() {
            return Ok((&self.top, name));
        }
        let last = match self.last.take() {
            Some(last) if last.0 == parent => last,
            _ => {
                let opened = self
                    .open_folder(parent)
                    .map_err(self.error("open the folder of", path))?;
                (parent.to_vec(), opened)
            }
        };
        Ok((&self.last.insert(last).1, name))
    }

    fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.top, path, FOLDER, Mode::empty(), beneath) {
            // Older kernels and some sandboxes lack openat2; then no link is followed at all.
            Err(Errno::NOSYS | Errno::PERM) => {}
            result => return result,
        }
        let mut folder: Option<OwnedFd> = None;
        for part in path.split(|byte| *byte == b'/') {
            let from = folder.as_ref().unwrap_or(&self.top);
            folder = Some(rustix::fs::openat(
                from,
                part,
                FOLDER | OFlags::NOFOLLOW,
                Mode::empty(),
            )?);
        }
        folder.ok_or(Errno::NOENT)
    }

    /// Whether a folder is there, directly or by a link that stays inside.
    pub(super) fn has_folder(&mut self, path: &TreePath) -> Result<bool, ContentError> {
        match self.open_folder(path.as_bytes()) {
            Ok(opened) => {
                self.last = Some((path.as_bytes().to_vec(), opened));
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.error("open", path)(error)),
        }
    }

    /// What lies in the place of an entry, without following a link.
    pub(super) fn look(&mut self, path: &TreePath) -> Result<Found, ContentError> {
        let (folder, name) = self.parent(path)?;
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(error) => return Err(self.error("look at", path)(error)),
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Folder,
            FileType::RegularFile => Found::File(stat),
            FileType::Symlink => Found::Link(stat),
            _ => Found::Special(stat),
        })
    }

    pub(super) fn open_file(&mut self, path: &TreePath) -> Result<File, ContentError> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(file) => Ok(File::from(file)),
            Err(error) => Err(self.error("open", path)(error)),
        }
    }

    pub(super) fn read_link(&mut self, path: &TreePath) -> Result<Vec<u8>, ContentError> {
        let (folder, name) = self.parent(path)?;
        match rustix::fs::readlinkat(folder, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(error) => Err(self.error("read", path)(error)),
        }
    }

    /// Whether an entry that isn't a folder has the attributes it should have.
    pub(super) fn has_attributes(&mut self, entry: &Entry) -> Result<bool, ContentError> {
        let is_root = self.is_root;
        let (parent, name) = self.parent(&entry.path)?;
        let result = Holder::Named(&named(parent, name)).has(&entry.attributes, is_root);
        result.map_err(self.error("read the attributes of", &entry.path))
    }

    /// Makes a folder, with its mode, owner and attributes, all at once.
    pub(super) fn make_folder(&mut self, entry: &Entry) -> Result<(), ContentError> {
        let is_root = self.is_root;
        let aside = aside(&entry.path);
        let (parent, name) = self.parent(&entry.path)?;
        let make = || {
            match rustix::fs::unlinkat(parent, aside.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
            rustix::fs::mkdirat(parent, aside.as_str(), Mode::RWXU)?;
            let folder = rustix::fs::openat(
                parent,
                aside.as_str(),
                FOLDER | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
            set_all_but_times(&folder, entry, is_root)?;
            rustix::fs::renameat(parent, aside.as_str(), parent, name)
        };
        let result = make();
        result.map_err(self.error("create", &entry.path))
    }

    /// Makes or replaces a symbolic link. One that is replaced is replaced all at once.
    pub(super) fn make_link(
        &mut self,
        entry: &Entry,
        to: &[u8],
        place: Place,
    ) -> Result<(), ContentError> {
        let is_root = self.is_root;
        self.make_at(&entry.path, place, |parent, name| {
            rustix::fs::symlinkat(to, parent, name)?;
            set_link_metadata(parent, name, entry, is_root)
        })
    }

    /// Makes or replaces a FIFO, a socket or a device. One that is replaced is replaced all at once.
    pub(super) fn make_special(&mut self, entry: &Entry, place: Place) -> Result<(), ContentError> {
        let is_root = self.is_root;
        let (kind, device) = special(&entry.kind);
        self.make_at(&entry.path, place, |parent, name| {
            let mode = Mode::from_raw_mode(entry.metadata.mode.into());
            rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)?;
            if is_root {
                set_owner(parent, name, &entry.metadata)?;
            }
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
            Holder::Named(&named(parent, name)).make_have(&entry.attributes, is_root)?;
            set_times(parent, name, &entry.metadata)
        })
    }

    /// Makes something have another name, or replaces what has that name, all at once.
    pub(super) fn make_name(&mut self, path: &TreePath, of: &TreePath) -> Result<(), ContentError> {
        let (folder, name) = self.parent(of)?;
        let folder = folder.try_clone();
        let folder = folder.map_err(|error| ContentError::io("open", &self.shown(of))(error))?;
        self.make_at(path, Place::Beside, |parent, aside| {
            rustix::fs::linkat(&folder, name, parent, aside, AtFlags::empty())
        })
    }

    /// Makes something in its place.
    fn make_at(
        &mut self,
        path: &TreePath,
        place: Place,
        make: impl FnOnce(&OwnedFd, &[u8]) -> Result<(), Errno>,
    ) -> Result<(), ContentError> {
        let (parent, name) = self.parent(path)?;
        let unfinished = unfinished(path, name, place);
        let made = || {
            if place == Place::New {
                return make(parent, &unfinished);
            }
            remove(parent, &*unfinished)?;
            let made = make(parent, &unfinished)
                .and_then(|()| rustix::fs::renameat(parent, &*unfinished, parent, name));
            if made.is_err() {
                let _ = remove(parent, &*unfinished);
            }
            made
        };
        let result = made();
        result.map_err(self.error("create", path))
    }

    /// Sets owner, attributes and time of a symbolic link.
    pub(super) fn touch_link(&mut self, entry: &Entry) -> Result<(), ContentError> {
        let is_root = self.is_root;
        let (parent, name) = self.parent(&entry.path)?;
        let result = set_link_metadata(parent, name, entry, is_root);
        result.map_err(self.error("set the time of", &entry.path))
    }

    /// Sets owner, mode, attributes and time of a file.
    pub(super) fn touch_file(&self, entry: &Entry, file: &File) -> Result<(), ContentError> {
        set_all_but_times(file, entry, self.is_root)
            .and_then(|()| rustix::fs::futimens(file, &times(&entry.metadata)))
            .map_err(self.error("set the mode of", &entry.path))
    }

    /// Sets the time of a folder we made.
    pub(super) fn touch_folder(&mut self, entry: &Entry) -> Result<(), ContentError> {
        let (parent, name) = self.parent(&entry.path)?;
        let result = set_times(parent, name, &entry.metadata);
        result.map_err(self.error("set the time of", &entry.path))
    }

    /// Makes a file, all at once.
    pub(super) fn write_file(
        &mut self,
        entry: &Entry,
        place: Place,
        bytes: &[u8],
    ) -> Result<(), ContentError> {
        let file = self.start_file(entry, place)?;
        let written = self
            .write_part(entry, &file, 0, bytes)
            .and_then(|()| self.finish_file(entry, place, &file));
        if written.is_err() {
            self.abandon_file(&entry.path, place);
        }
        written
    }

    /// Writes some of a file's bytes, except where it has holes.
    pub(super) fn write_part(
        &self,
        entry: &Entry,
        file: &File,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), ContentError> {
        let holes = match &entry.kind {
            EntryKind::File { holes, .. } => holes.as_slice(),
            _ => &[],
        };
        let written = (outside_holes(holes, at, bytes))
            .try_for_each(|(at, part)| file.write_all_at(part, at));
        written.map_err(|error| ContentError::io("write", &self.shown(&entry.path))(error))
    }

    /// Starts a new file. A leftover of a power cut is replaced.
    pub(super) fn start_file(&mut self, entry: &Entry, place: Place) -> Result<File, ContentError> {
        let path = &entry.path;
        let (parent, name) = self.parent(path)?;
        let name = unfinished(path, name, place);
        let start = || {
            if place == Place::Beside {
                remove(parent, &*name)?;
            }
            rustix::fs::openat(
                parent,
                &*name,
                FILE | OFlags::CREATE | OFlags::EXCL,
                Mode::RUSR | Mode::WUSR,
            )
        };
        let result = start();
        let file = result.map(File::from).map_err(self.error("create", path))?;
        match &entry.kind {
            // What isn't written of it is a hole.
            EntryKind::File { bytes, holes, .. } if !holes.is_empty() => file
                .set_len(*bytes)
                .map_err(|error| ContentError::io("write", &self.shown(path))(error))?,
            _ => {}
        }
        Ok(file)
    }

    /// Opens a file that was started.
    pub(super) fn reopen_file(
        &mut self,
        path: &TreePath,
        place: Place,
    ) -> Result<File, ContentError> {
        let (parent, name) = self.parent(path)?;
        let name = unfinished(path, name, place);
        let result = rustix::fs::openat(parent, &*name, FILE, Mode::empty());
        result.map(File::from).map_err(self.error("open", path))
    }

    /// Puts a whole file in its place.
    pub(super) fn finish_file(
        &mut self,
        entry: &Entry,
        place: Place,
        file: &File,
    ) -> Result<(), ContentError> {
        let path = &entry.path;
        self.touch_file(entry, file)?;
        if place == Place::New {
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        let result = rustix::fs::renameat(parent, &*unfinished(path, name, place), parent, name);
        result.map_err(self.error("replace", path))
    }

    /// Removes a file that was started, if it can.
    pub(super) fn abandon_file(&mut self, path: &TreePath, place: Place) {
        if let Ok((parent, name)) = self.parent(path) {
            let _ = remove(parent, &*unfinished(path, name, place));
        }
    }

    /// Makes everything durable.
    pub(super) fn sync(&self) -> Result<(), ContentError> {
        self.flush()
            .map_err(ContentError::io("sync", self.folder.as_std_path()))
    }

    /// Writes back what was written so far.
    pub(super) fn flush(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.top)?)
    }
}

/// What a file is called until it is whole.
fn unfinished<'n>(path: &TreePath, name: &'n [u8], place: Place) -> Cow<'n, [u8]> {
    match place {
        Place::New => Cow::Borrowed(name),
        Place::Beside => Cow::Owned(aside(path).into_bytes()),
    }
}

/// The name beside: always the same for a path, so that a leftover is found again.
fn aside(path: &TreePath) -> String {
    let digest = wire::digest::Digest::of(path.as_bytes()).to_string();
    format!(".forestage-{}", &digest[..16])
}

fn remove(folder: &OwnedFd, name: impl rustix::path::Arg) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn times(metadata: &Metadata) -> Timestamps {
    let time = Timespec {
        tv_sec: metadata.mtime_seconds,
        tv_nsec: metadata.mtime_nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// A name in an open folder as a path: there is no call that takes both for attributes.
fn named(folder: &OwnedFd, name: &[u8]) -> PathBuf {
    let folder = format!("/proc/self/fd/{}", folder.as_raw_fd());
    PathBuf::from(folder).join(OsStr::from_bytes(name))
}

/// What kind a FIFO, a socket or a device is, for the kernel.
pub(super) fn special(kind: &EntryKind) -> (FileType, u64) {
    match kind {
        EntryKind::Device(device) => {
            let number = rustix::fs::makedev(device.major, device.minor);
            match device.is_block {
                true => (FileType::BlockDevice, number),
                false => (FileType::CharacterDevice, number),
            }
        }
        EntryKind::Socket => (FileType::Socket, 0),
        _ => (FileType::Fifo, 0),
    }
}

/// The parts of some bytes at `at` of a file that are in none of its holes. What isn't zero is in none, whatever is said.
fn outside_holes<'b>(
    holes: &[Hole],
    at: u64,
    bytes: &'b [u8],
) -> impl Iterator<Item = (u64, &'b [u8])> {
    let end = at + bytes.len() as u64;
    let first = holes.partition_point(|hole| hole.offset + hole.bytes <= at);
    let inside = holes[first..]
        .iter()
        .take_while(move |hole| hole.offset < end);
    // Every hole ends a part outside and is one itself; behind the last one there is another outside.
    let borders = inside.flat_map(move |hole| {
        let (from, to) = (hole.offset.max(at), (hole.offset + hole.bytes).min(end));
        [(from, false), (to, true)]
    });
    let mut from = at;
    borders
        .chain([(end, false)])
        .filter_map(move |(to, is_hole)| {
            let place = |offset: u64| usize::try_from(offset - at).unwrap_or(usize::MAX);
            let (begin, part) = (from, &bytes[place(from)..place(to)]);
            from = to;
            let is_left_out = part.is_empty() || (is_hole && is_zero(part));
            (!is_left_out).then_some((begin, part))
        })
}

fn set_owner(parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> Result<(), Errno> {
    let (owner, group) = (Uid::from_raw(metadata.owner), Gid::from_raw(metadata.group));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(parent, name, Some(owner), Some(group), flags)
}

fn set_times(parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> Result<(), Errno> {
    rustix::fs::utimensat(parent, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)
}

fn set_all_but_times(file: impl AsFd, entry: &Entry, is_root: bool) -> Result<(), Errno> {
    // The owner first: changing it takes the set-user-ID bit and capabilities away.
    let metadata = &entry.metadata;
    if is_root {
        let (owner, group) = (Uid::from_raw(metadata.owner), Gid::from_raw(metadata.group));
        rustix::fs::fchown(&file, Some(owner), Some(group))?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(metadata.mode.into()))?;
    Holder::Open(file.as_fd()).make_have(&entry.attributes, is_root)
}

fn set_link_metadata(
    parent: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    is_root: bool,
) -> Result<(), Errno> {
    if is_root {
        set_owner(parent, name, &entry.metadata)?;
    }
    Holder::Named(&named(parent, name)).make_have(&entry.attributes, is_root)?;
    set_times(parent, name, &entry.metadata)
}

#[cfg(test)]
mod tests {
    use super::outside_holes;
    use crate::manifest::Hole;

    /// The parts of a file of these bytes, read from `at` on, that are written if it has these holes.
    fn check(bytes: &[u8], at: usize, holes: &[(u64, u64)]) -> Vec<(u64, Vec<u8>)> {
        let hole = |(offset, bytes): &(u64, u64)| Hole {
            offset: *offset,
            bytes: *bytes,
        };
        let holes: Vec<Hole> = holes.iter().map(hole).collect();
        outside_holes(&holes, at as u64, &bytes[at..])
            .map(|(at, part)| (at, part.to_vec()))
            .collect()
    }

    #[test]
    fn holes_are_left_out() {
        let all = vec![(2, vec![3, 4, 5])];
        assert_eq!(check(&[1, 2, 3, 4, 5], 2, &[]), all);
        assert_eq!(check(&[1, 2, 3, 4, 5], 2, &[(0, 2)]), all);
        assert_eq!(
            check(&[0, 0, 0, 4, 0], 0, &[(0, 3), (4, 1)]),
            [(3, vec![4])]
        );
        assert_eq!(check(&[0, 0, 0, 4, 0], 1, &[(0, 3)]), [(3, vec![4, 0])]);
        assert_eq!(check(&[1, 0, 0], 0, &[(1, 2)]), [(0, vec![1])]);
        assert_eq!(check(&[0, 0], 0, &[(0, 2)]), []);
        // What isn't zero is written although it is said to be a hole.
        assert_eq!(check(&[0, 7], 0, &[(0, 2)]), [(0, vec![0, 7])]);
    }
}
