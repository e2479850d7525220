//! Opens the packs of a library, mending what a power cut or a bad sector has left.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tracing::{info, warn};

use super::sync_folder;
use crate::error::{ContentError, chain};
use crate::pack::{self, IndexEntry};

/// All usable packs in `folder` with their indexes. Unfinished ones that nobody is writing are finished first.
pub(super) fn packs(folder: &Path) -> Result<Vec<(PathBuf, Vec<IndexEntry>)>, ContentError> {
    let mut finished = Vec::new();
    let mut partial = Vec::new();
    for entry in fs::read_dir(folder).map_err(ContentError::io("list", folder))? {
        let path = entry.map_err(ContentError::io("list", folder))?.path();
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("pack") => finished.push(path),
            Some("partial") => partial.push(path),
            _ => {}
        }
    }
    for path in partial {
        match finish_partial(folder, &path) {
            Ok(Some(pack)) => finished.push(pack),
            Ok(None) => {}
            Err(error) => warn!("{}; leaving it alone", chain(&error)),
        }
    }
    finished.sort_unstable();
    finished.dedup();
    let mut packs = Vec::with_capacity(finished.len());
    for path in finished {
        match open(&path) {
            Ok(entries) => packs.push((path, entries)),
            Err(error) => warn!("cannot use {}: {}", path.display(), chain(&error)),
        }
    }
    Ok(packs)
}

fn open(path: &Path) -> Result<Vec<IndexEntry>, ContentError> {
    let file = File::open(path).map_err(ContentError::io("open", path))?;
    let bytes = file
        .metadata()
        .map_err(ContentError::io("read", path))?
        .len();
    match pack::read_index(&mut &file, 0, bytes) {
        Ok((entries, _)) => return Ok(entries),
        Err(ContentError::BadPack { rule }) => {
            warn!(
                "the index of {} is unusable ({rule}); reading the pack instead",
                path.display()
            );
        }
        Err(error) => return Err(error),
    }
    let (entries, end) = pack::scan(&file)?;
    // On a medium that can't be written to, the scan has to do.
    if let Ok(file) = File::options().write(true).open(path) {
        pack::write_index(&file, &entries, end)
            .map_err(ContentError::io("write the index of", path))?;
    }
    Ok(entries)
}

/// Turns what a cut left into a finished pack. `None` if someone is writing it, or nothing in it is whole.
fn finish_partial(folder: &Path, path: &Path) -> Result<Option<PathBuf>, ContentError> {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(ContentError::io("open", path))?;
    if !lock(&file, path) {
        return Ok(None);
    }
    let (entries, end) = match pack::scan(&file) {
        Ok(found) => found,
        Err(ContentError::BadPack { .. }) => (Vec::new(), 0),
        Err(error) => return Err(error),
    };
    if entries.is_empty() {
        fs::remove_file(path).map_err(ContentError::io("remove", path))?;
        return Ok(None);
    }
    pack::write_index(&file, &entries, end)
        .map_err(ContentError::io("write the index of", path))?;
    let name = folder.join(pack::name(&entries)).with_extension("pack");
    fs::rename(path, &name).map_err(ContentError::io("rename", path))?;
    sync_folder(folder).map_err(ContentError::io("sync", folder))?;
    info!("kept {} chunks of an unfinished pack", entries.len());
    Ok(Some(name))
}

/// Locks a pack being written. `false` if another holds it, or the path is no longer this file.
pub(super) fn lock(file: &File, path: &Path) -> bool {
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return false;
    }
    // Whoever held it before may have finished and renamed it.
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}
