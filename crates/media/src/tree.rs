//! Looks things up inside a folder that holds another system's files, without ever leaving it.

use std::fs;
use std::io::Read;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use crate::error::MediaError;

/// As many symbolic links as the kernel follows.
const LINKS_MAX: usize = 40;

/// The file at `path` as the system in `root` sees it, symbolic links followed inside `root`; `None` if there is none.
pub(crate) fn resolve(root: &Utf8Path, path: &str) -> Option<Utf8PathBuf> {
    let mut waiting: Vec<String> = components(Utf8Path::new(path));
    waiting.reverse();
    let mut inside: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = waiting.pop() {
        if part == ".." {
            inside.pop();
            continue;
        }
        inside.push(part);
        let real = join(root, &inside);
        if fs::symlink_metadata(&real).ok()?.file_type().is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            let target = Utf8PathBuf::from_path_buf(fs::read_link(&real).ok()?).ok()?;
            inside.pop();
            if target.is_absolute() {
                inside.clear();
            }
            waiting.extend(components(&target).into_iter().rev());
        }
    }
    Some(join(root, &inside))
}

fn components(path: &Utf8Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Utf8Component::Normal(name) => Some(name.to_owned()),
            Utf8Component::ParentDir => Some("..".to_owned()),
            _ => None,
        })
        .collect()
}

fn join(root: &Utf8Path, parts: &[String]) -> Utf8PathBuf {
    let mut path = root.to_owned();
    path.extend(parts);
    path
}

/// All regular files below `folder`, sorted, symbolic links not followed.
pub(crate) fn files(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, MediaError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir_utf8().map_err(MediaError::read(&folder))? {
            let entry = entry.map_err(MediaError::read(&folder))?;
            let kind = entry.file_type().map_err(MediaError::read(entry.path()))?;
            if kind.is_dir() {
                folders.push(entry.path().to_owned());
            } else if kind.is_file() {
                found.push(entry.path().to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a whole file of at most `bytes_max` bytes.
pub(crate) fn read(path: &Utf8Path, bytes_max: u64) -> Result<Vec<u8>, MediaError> {
    let file = fs::File::open(path).map_err(MediaError::read(path))?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(MediaError::read(path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(MediaError::unusable(
            path,
            "input file",
            format!("it is longer than {bytes_max} bytes"),
        ));
    }
    Ok(bytes)
}

/// Reads a text written by a person.
pub(crate) fn read_text(path: &Utf8Path, what: &'static str) -> Result<String, MediaError> {
    /// Ours have one page; a megabyte is a mistake.
    const TEXT_BYTES_MAX: u64 = 1 << 20;
    let bytes = read(path, TEXT_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|error| MediaError::Document {
        path: path.to_owned(),
        what,
        reason: format!("it is not UTF-8 text: {error}"),
    })
}

/// Makes a folder and its parents.
pub(crate) fn make_folder(path: &Utf8Path) -> Result<(), MediaError> {
    fs::create_dir_all(path).map_err(MediaError::write(path))
}

/// Writes a file to a new name, syncs it and puts it in place.
pub(crate) fn write(path: &Utf8Path, bytes: &[u8]) -> Result<(), MediaError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    make_folder(folder)?;
    let failed = MediaError::write(path);
    let written = (|| {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        set_mode(file.as_file(), 0o644)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    })();
    written.map_err(failed)
}

/// Temporary files are private; what we hand out is for everyone to read.
pub(crate) fn set_mode(file: &fs::File, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// A folder for work in progress inside `folder`, removed when dropped.
pub(crate) fn scratch(folder: &Utf8Path) -> Result<(tempfile::TempDir, Utf8PathBuf), MediaError> {
    make_folder(folder)?;
    let scratch = tempfile::Builder::new()
        .prefix(".work-")
        .tempdir_in(folder)
        .map_err(MediaError::write(folder))?;
    let path = Utf8PathBuf::from_path_buf(scratch.path().to_owned()).map_err(|path| {
        MediaError::unusable(folder, "folder", format!("{} is not UTF-8", path.display()))
    })?;
    Ok((scratch, path))
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use camino::Utf8Path;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let folder = tempfile::tempdir().expect("folder");
        let root = Utf8Path::from_path(folder.path()).expect("UTF-8");
        std::fs::create_dir_all(root.join("usr/lib")).expect("folder");
        std::fs::write(root.join("usr/lib/a"), "a").expect("file");
        symlink("/usr/lib", root.join("lib")).expect("link");
        symlink("../../../../../../usr/lib/a", root.join("usr/lib/b")).expect("link");
        symlink("loop", root.join("loop")).expect("link");
        symlink("/etc/passwd", root.join("usr/lib/out")).expect("link");
        assert_eq!(resolve(root, "/lib/a"), Some(root.join("usr/lib/a")));
        assert_eq!(resolve(root, "lib/b"), Some(root.join("usr/lib/a")));
        assert_eq!(resolve(root, "/loop"), None);
        assert_eq!(resolve(root, "/lib/out"), None, "no passwd in here");
        assert_eq!(resolve(root, "/lib/c"), None);
    }
}
