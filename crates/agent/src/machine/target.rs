//! Files of the target OS: read, written and removed without ever leaving it through a symbolic link.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Configuration files are small; what is larger is content, and comes as a package.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;

/// The root folder of a target OS.
pub(crate) struct Target {
    root: OwnedFd,
}

impl Target {
    /// Opens the folder that is `/` for the target OS.
    pub(crate) fn open(root: &Utf8Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root.as_str(), flags, Mode::empty())
            .with_context(|| format!("cannot open {root}"))?;
        Ok(Self { root })
    }

    fn open_inside(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // Symbolic links are followed as the target OS would: `/` in a link is the target's own.
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    }

    /// Reads a file; `None` if there is none.
    pub(crate) fn read(&self, path: &Utf8Path) -> Result<Option<Vec<u8>>> {
        let fd = match self.open_inside(path.as_str(), OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open {path} in the target OS"));
            }
        };
        let file = File::from(fd);
        ensure!(file.metadata()?.is_file(), "{path} is not a file");
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {path}"))?;
        ensure!(
            bytes.len() as u64 <= FILE_BYTES_MAX,
            "{path} is longer than 16 MiB"
        );
        Ok(Some(bytes))
    }

    /// Opens a file for reading, of any length.
    pub(crate) fn open_file(&self, path: &Utf8Path) -> Result<File> {
        let fd = self.open_inside(path.as_str(), OFlags::RDONLY | OFlags::NONBLOCK);
        let file = File::from(fd.with_context(|| format!("cannot open {path} in the target OS"))?);
        ensure!(file.metadata()?.is_file(), "{path} is not a file");
        Ok(file)
    }

    /// The names in a folder; empty if there is none.
    pub(crate) fn names(&self, path: &Utf8Path) -> Result<Vec<String>> {
        let fd = match self.open_inside(path.as_str(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot open {path} in the target OS"));
            }
        };
        let mut names = Vec::new();
        for entry in
            rustix::fs::Dir::read_from(&fd).with_context(|| format!("cannot list {path}"))?
        {
            // Names that are not text are none we look for.
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Opens a folder, making what is missing on the way.
    fn folder(&self, path: &Utf8Path) -> Result<OwnedFd> {
        let mut so_far = Utf8PathBuf::from("/");
        for part in path.components() {
            match part {
                Utf8Component::Normal(name) => so_far.push(name),
                Utf8Component::RootDir | Utf8Component::CurDir => continue,
                _ => bail!("{path} leaves the target OS"),
            }
            match self.open_inside(so_far.as_str(), OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot open {so_far} in the target OS"));
                }
            }
            let parent = so_far.parent().unwrap_or(Utf8Path::new("/"));
            let parent = self.open_inside(parent.as_str(), OFlags::PATH | OFlags::DIRECTORY)?;
            let name = so_far.file_name().context("a folder without a name")?;
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                .with_context(|| format!("cannot make {so_far} in the target OS"))?;
        }
        self.open_inside(so_far.as_str(), OFlags::RDONLY | OFlags::DIRECTORY)
            .with_context(|| format!("cannot open {so_far} in the target OS"))
    }

    /// The path of a folder as we see it, making it if it isn't there.
    pub(crate) fn real_folder(&self, path: &Utf8Path) -> Result<Utf8PathBuf> {
        let folder = self.folder(path)?;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()))?;
        Utf8PathBuf::from_path_buf(real)
            .map_err(|path| anyhow::anyhow!("{} is not text", path.display()))
    }

    /// Writes a file durably and all at once. What was there (a symbolic link, too) is replaced.
    pub(crate) fn write(&self, path: &Utf8Path, bytes: &[u8], mode: u32) -> Result<()> {
        self.write_from(path, &mut &bytes[..], mode)
            .with_context(|| format!("cannot write {path} in the target OS"))
    }

    /// The same, from a reader.
    pub(crate) fn write_from(&self, path: &Utf8Path, from: &mut dyn Read, mode: u32) -> Result<()> {
        let name = path.file_name().context("a file without a name")?;
        let folder = self.folder(path.parent().context("a file without a folder")?)?;
        let aside = format!(".{name}.forestage-new");
        remove_if_there(&folder, &aside)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(
            &folder,
            &*aside,
            flags,
            Mode::from_raw_mode(0o600),
        )?);
        std::io::copy(from, &mut file)?;
        file.flush()?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
        file.sync_all()?;
        rustix::fs::renameat(&folder, &*aside, &folder, name)?;
        rustix::fs::fsync(&folder)?;
        Ok(())
    }

    /// Makes a symbolic link, replacing what was there.
    pub(crate) fn link(&self, path: &Utf8Path, to: &str) -> Result<()> {
        let name = path.file_name().context("a link without a name")?;
        let folder = self.folder(path.parent().context("a link without a folder")?)?;
        remove_if_there(&folder, name)?;
        rustix::fs::symlinkat(to, &folder, name).with_context(|| format!("cannot link {path}"))?;
        rustix::fs::fsync(&folder)?;
        Ok(())
    }

    /// Removes a file or link, if it is there.
    pub(crate) fn remove_file(&self, path: &Utf8Path) -> Result<()> {
        let name = path.file_name().context("a file without a name")?;
        let parent = path.parent().context("a file without a folder")?;
        match self.open_inside(parent.as_str(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => remove_if_there(&folder, name),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => {
                Err(error).with_context(|| format!("cannot open {parent} in the target OS"))
            }
        }
    }

    /// Removes a folder with all that is in it. Folders directly below `/` are never ours.
    pub(crate) fn remove_folder(&self, path: &Utf8Path) -> Result<()> {
        let depth = path
            .components()
            .filter(|part| matches!(part, Utf8Component::Normal(_)))
            .count();
        let leaves = path
            .components()
            .any(|part| matches!(part, Utf8Component::ParentDir));
        ensure!(depth >= 2 && !leaves, "refusing to remove {path}");
        let parent = path.parent().context("a folder without a parent")?;
        let parent = match self.open_inside(parent.as_str(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(parent) => parent,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot open {parent} in the target OS"));
            }
        };
        let name = path.file_name().context("a folder without a name")?;
        let real = format!("/proc/self/fd/{}/{name}", parent.as_fd().as_raw_fd());
        match std::fs::remove_dir_all(real) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {path} in the target OS"))
            }
            _ => Ok(()),
        }
    }
}

fn remove_if_there(folder: &OwnedFd, name: &str) -> Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn target() -> (tempfile::TempDir, Utf8PathBuf, Target) {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().join("root")).unwrap();
        std::fs::create_dir(&root).unwrap();
        let target = Target::open(&root).unwrap();
        (folder, root, target)
    }

    #[test]
    fn links_never_lead_out() {
        let (folder, root, target) = target();
        let outside = folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("passwd"), b"host").unwrap();
        symlink(&outside, root.join("etc")).unwrap();
        symlink("../../../../outside", root.join("up")).unwrap();
        assert!(target.read("/etc/passwd".into()).unwrap().is_none());
        assert!(
            target.write("/etc/passwd".into(), b"x", 0o644).is_err()
                || !root.join("etc/passwd").exists()
        );
        assert!(target.read("/up/passwd".into()).unwrap().is_none());
        assert_eq!(std::fs::read(outside.join("passwd")).unwrap(), b"host");
        assert!(target.write("/../x".into(), b"x", 0o644).is_err());
        assert!(target.remove_folder("/etc/../../outside".into()).is_err());
    }

    #[test]
    fn a_file_is_written_whole_over_a_link() {
        let (_folder, root, target) = target();
        std::fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        target
            .write("/lib/forestage/blå.conf".into(), b"one", 0o640)
            .unwrap();
        assert_eq!(
            std::fs::read(root.join("usr/lib/forestage/blå.conf")).unwrap(),
            b"one"
        );
        let mode = std::fs::metadata(root.join("usr/lib/forestage/blå.conf"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        target
            .link("/lib/forestage/link".into(), "blå.conf")
            .unwrap();
        target
            .write("/lib/forestage/link".into(), b"two", 0o644)
            .unwrap();
        assert_eq!(
            target
                .read("/usr/lib/forestage/blå.conf".into())
                .unwrap()
                .unwrap(),
            b"one"
        );
        assert_eq!(
            target
                .read("/usr/lib/forestage/link".into())
                .unwrap()
                .unwrap(),
            b"two"
        );
        assert_eq!(
            target.real_folder("/lib/forestage".into()).unwrap(),
            root.join("usr/lib/forestage")
        );
        target.remove_folder("/lib/forestage".into()).unwrap();
        target.remove_folder("/lib/forestage".into()).unwrap();
        assert!(!root.join("usr/lib/forestage").exists());
        assert!(
            target.remove_folder("/usr".into()).is_err(),
            "never a folder below the root"
        );
    }
}
