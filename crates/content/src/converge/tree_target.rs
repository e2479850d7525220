//! The folder a tree is laid into: every operation stays below it, whatever symbolic links lie in there.
//!
//! Folders are opened beneath the top folder by the kernel's own check (`openat2`), everything else happens by name
//! inside an open folder and never follows a link.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use camino::Utf8Path;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::capture::shown;
use crate::error::ContentError;
use crate::manifest::{Metadata, TreePath};

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
    Other,
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
        Ok(match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => Found::Folder,
            rustix::fs::FileType::RegularFile => Found::File(stat),
            rustix::fs::FileType::Symlink => Found::Link(stat),
            _ => Found::Other,
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

    /// Makes a folder, with its mode and owner, all at once.
    pub(super) fn make_folder(
        &mut self,
        path: &TreePath,
        metadata: &Metadata,
    ) -> Result<(), ContentError> {
        let is_root = self.is_root;
        let aside = aside(path);
        let (parent, name) = self.parent(path)?;
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
            set_owner_and_mode(&folder, metadata, is_root)?;
            rustix::fs::renameat(parent, aside.as_str(), parent, name)
        };
        let result = make();
        result.map_err(self.error("create", path))
    }

    /// Makes or replaces a symbolic link, all at once.
    pub(super) fn make_link(
        &mut self,
        path: &TreePath,
        to: &[u8],
        metadata: &Metadata,
    ) -> Result<(), ContentError> {
        let is_root = self.is_root;
        let aside = aside(path);
        let (parent, name) = self.parent(path)?;
        let make = || {
            remove(parent, aside.as_str())?;
            rustix::fs::symlinkat(to, parent, aside.as_str())?;
            let result = set_link_metadata(parent, aside.as_bytes(), metadata, is_root)
                .and_then(|()| rustix::fs::renameat(parent, aside.as_str(), parent, name));
            if result.is_err() {
                let _ = remove(parent, aside.as_str());
            }
            result
        };
        let result = make();
        result.map_err(self.error("create", path))
    }

    /// Sets owner and time of a symbolic link.
    pub(super) fn touch_link(
        &mut self,
        path: &TreePath,
        metadata: &Metadata,
    ) -> Result<(), ContentError> {
        let is_root = self.is_root;
        let (parent, name) = self.parent(path)?;
        let result = set_link_metadata(parent, name, metadata, is_root);
        result.map_err(self.error("set the time of", path))
    }

    /// Sets owner, mode and time of a file.
    pub(super) fn touch_file(
        &self,
        path: &TreePath,
        file: &File,
        metadata: &Metadata,
    ) -> Result<(), ContentError> {
        set_owner_and_mode(file, metadata, self.is_root)
            .and_then(|()| rustix::fs::futimens(file, &times(metadata)))
            .map_err(self.error("set the mode of", path))
    }

    /// Sets the time of a folder we made.
    pub(super) fn touch_folder(
        &mut self,
        path: &TreePath,
        metadata: &Metadata,
    ) -> Result<(), ContentError> {
        let (parent, name) = self.parent(path)?;
        let result =
            rustix::fs::utimensat(parent, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW);
        result.map_err(self.error("set the time of", path))
    }

    /// Makes a file, all at once.
    pub(super) fn write_file(
        &mut self,
        path: &TreePath,
        place: Place,
        bytes: &[u8],
        metadata: &Metadata,
    ) -> Result<(), ContentError> {
        let mut file = self.start_file(path, place)?;
        let written = (file.write_all(bytes))
            .map_err(|error| ContentError::io("write", &self.shown(path))(error))
            .and_then(|()| self.finish_file(path, place, &file, metadata));
        if written.is_err() {
            self.abandon_file(path, place);
        }
        written
    }

    /// Starts a new file. A leftover of a power cut is replaced.
    pub(super) fn start_file(
        &mut self,
        path: &TreePath,
        place: Place,
    ) -> Result<File, ContentError> {
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
        result.map(File::from).map_err(self.error("create", path))
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
        path: &TreePath,
        place: Place,
        file: &File,
        metadata: &Metadata,
    ) -> Result<(), ContentError> {
        self.touch_file(path, file, metadata)?;
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

fn set_owner_and_mode(
    file: impl std::os::fd::AsFd,
    metadata: &Metadata,
    is_root: bool,
) -> Result<(), Errno> {
    // The owner first: changing it takes the set-user-ID bit away.
    if is_root {
        rustix::fs::fchown(
            &file,
            Some(Uid::from_raw(metadata.owner)),
            Some(Gid::from_raw(metadata.group)),
        )?;
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(metadata.mode.into()))
}

fn set_link_metadata(
    parent: &OwnedFd,
    name: &[u8],
    metadata: &Metadata,
    is_root: bool,
) -> Result<(), Errno> {
    if is_root {
        let (owner, group) = (Uid::from_raw(metadata.owner), Gid::from_raw(metadata.group));
        rustix::fs::chownat(
            parent,
            name,
            Some(owner),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    rustix::fs::utimensat(parent, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)
}
