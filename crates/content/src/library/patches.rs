//! The patches of a library: each a file named by the two manifests that it lies between.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use tracing::warn;
use wire::digest::Digest;

use super::{Library, sync_folder};
use crate::error::{ContentError, chain};
use crate::meter::Meter;
use crate::patch::{PatchHead, make};

/// A patch of a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPatch {
    /// The manifest that it leads from.
    pub from: Digest,
    /// And the one that it leads to.
    pub to: Digest,
    /// How long it is.
    pub bytes: u64,
    /// How long it is up to its first part: what a receiver reads at once.
    pub front_bytes: u64,
}

impl Library {
    /// Makes the patch from one manifest to another, both of which are here with all their content, unless it is here. Takes
    /// some seconds for each hundred megabytes that changed, on one core.
    ///
    /// # Errors
    /// If something of the content isn't here, can't be read or written, or the meter says stop.
    pub fn make_patch(
        &self,
        from: &Digest,
        to: &Digest,
        meter: &dyn Meter,
    ) -> Result<(), ContentError> {
        let path = self.patch_path(from, to);
        if path.exists() {
            return Ok(());
        }
        let folder = &self.patches_folder;
        fs::create_dir_all(folder).map_err(ContentError::io("create", folder))?;
        let file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder);
        let mut file = file.map_err(ContentError::io("write", &path))?;
        make::write(self, from, to, file.as_file_mut(), meter)?;
        let done = || {
            file.as_file().sync_all()?;
            file.persist(&path)?;
            sync_folder(folder)
        };
        done().map_err(ContentError::io("write", &path))
    }

    /// All patches that are here.
    ///
    /// # Errors
    /// If the folder can't be read. A file that is no patch is passed over, with a warning in the log.
    pub fn patches(&self) -> Result<Vec<StoredPatch>, ContentError> {
        let folder = &self.patches_folder;
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ContentError::io("list", folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(ContentError::io("list", folder))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "patch")
            {
                match stored(&path) {
                    Ok(patch) => found.push(patch),
                    Err(error) => warn!("{}; it is passed over", chain(&error)),
                }
            }
        }
        found.sort_unstable_by_key(|patch| (patch.to, patch.from));
        Ok(found)
    }

    /// Opens a patch; `None` if it isn't here.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn patch(&self, from: &Digest, to: &Digest) -> Result<Option<File>, ContentError> {
        let path = self.patch_path(from, to);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ContentError::io("open", &path)(error)),
        }
    }

    /// Removes a patch; one that is gone already is fine.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn remove_patch(&self, patch: &StoredPatch) -> Result<(), ContentError> {
        super::collect::remove(&self.patch_path(&patch.from, &patch.to))
    }

    fn patch_path(&self, from: &Digest, to: &Digest) -> PathBuf {
        self.patches_folder.join(format!("{to}-{from}.patch"))
    }
}

fn stored(path: &PathBuf) -> Result<StoredPatch, ContentError> {
    let mut file = File::open(path).map_err(ContentError::io("open", path))?;
    let metadata = file.metadata().map_err(ContentError::io("read", path))?;
    let head = PatchHead::read(&mut file)?;
    Ok(StoredPatch {
        from: head.from,
        to: head.to,
        bytes: metadata.len(),
        front_bytes: head.front_bytes(),
    })
}
