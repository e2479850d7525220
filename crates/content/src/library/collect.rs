//! Collects what nobody needs any more.
//!
//! First comes a plan, which changes nothing. Doing it removes only what the plan names, in an order in which a cut at any
//! moment loses nothing: what is needed of a pack is durable in a new one before the old one goes. Chunks that are there
//! twice for a while harm nobody.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use tracing::warn;
use wire::digest::Digest;

use super::{Library, StoredPatch, read_frame, sync_folder};
use crate::error::{ContentError, chain};
use crate::meter::{Meter, Tally};
use crate::pack::{self, IndexEntry};

/// A pack is written anew when at least one part in so many of it isn't needed: less isn't worth reading and writing it.
const WORTH_ONE_IN: u64 = 4;

/// What would go, and what would be written anew for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcPlan {
    /// Manifests that nobody needs.
    pub manifests: Vec<Digest>,
    /// Patches from or to a manifest that nobody needs.
    pub patches: Vec<StoredPatch>,
    /// How many chunks go.
    pub chunks: u64,
    /// How many bytes that frees: packs and patches.
    pub freed_bytes: u64,
    /// How many bytes are copied for it.
    pub copied_bytes: u64,
    packs: Vec<PackPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PackPlan {
    path: PathBuf,
    /// What is needed of it.
    keep: Vec<IndexEntry>,
}

impl GcPlan {
    /// How many packs go as a whole.
    #[must_use]
    pub fn packs_removed(&self) -> usize {
        self.packs.len() - self.packs_rewritten()
    }

    /// How many packs are written anew without what isn't needed.
    #[must_use]
    pub fn packs_rewritten(&self) -> usize {
        let has_something = |pack: &&PackPlan| !pack.keep.is_empty();
        self.packs.iter().filter(has_something).count()
    }
}

impl Library {
    /// The digests of all manifests that are here, sound or not.
    ///
    /// # Errors
    /// If the folder can't be read.
    pub fn manifests(&self) -> Result<Vec<Digest>, ContentError> {
        let folder = &self.manifests_folder;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(ContentError::io("list", folder))? {
            let name = entry.map_err(ContentError::io("list", folder))?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<Digest>().ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// What could go if only the manifests in `needed`, and what they name, have to stay. Packs and manifests that came
    /// after `settled_at` stay too: someone may be about to name them.
    ///
    /// # Errors
    /// If a needed manifest isn't here or is damaged, because nobody knows then what it needs; or something can't be read.
    pub fn plan_gc(
        &self,
        needed: &HashSet<Digest>,
        settled_at: SystemTime,
    ) -> Result<GcPlan, ContentError> {
        let mut plan = GcPlan::default();
        let mut chunks = HashSet::new();
        for digest in needed {
            let manifest = self.manifest(digest)?;
            chunks.extend(manifest.chunks().iter().map(|chunk| chunk.digest));
        }
        for digest in self.manifests()? {
            if needed.contains(&digest) {
                continue;
            }
            if is_settled(&self.manifest_path(&digest), settled_at)? {
                plan.manifests.push(digest);
            } else if let Ok(manifest) = self.manifest(&digest) {
                chunks.extend(manifest.chunks().iter().map(|chunk| chunk.digest));
            }
        }
        plan.patches = self.patches()?;
        (plan.patches).retain(|patch| !needed.contains(&patch.from) || !needed.contains(&patch.to));
        plan.freed_bytes += plan.patches.iter().map(|patch| patch.bytes).sum::<u64>();
        let packs = self.read_state(|state| state.packs.clone());
        for (number, path) in packs.iter().enumerate() {
            let Some(path) = path else { continue };
            if !is_settled(path, settled_at)? {
                continue;
            }
            let entries = entries(path)?;
            let taken_from_here: Vec<bool> = self.read_state(|state| {
                let is_it = |entry: &IndexEntry| {
                    let location = state.index.get(&entry.digest);
                    location
                        .is_some_and(|location| location.pack == number && location.entry == *entry)
                };
                entries.iter().map(is_it).collect()
            });
            // A second copy is waste only if the first one is sound.
            let is_needed = |entry: &IndexEntry, is_taken: bool| {
                chunks.contains(&entry.digest) && (is_taken || !self.is_sound(&entry.digest))
            };
            let keep: Vec<IndexEntry> = entries
                .iter()
                .zip(taken_from_here)
                .filter(|(entry, is_taken)| is_needed(entry, *is_taken))
                .map(|(entry, _)| *entry)
                .collect();
            let bytes = |entries: &[IndexEntry]| -> u64 {
                entries.iter().map(IndexEntry::frame_bytes).sum()
            };
            let (all, kept) = (bytes(&entries), bytes(&keep));
            if !keep.is_empty() && (all - kept) * WORTH_ONE_IN < all || keep.len() == entries.len()
            {
                continue;
            }
            plan.chunks += (entries.len() - keep.len()) as u64;
            plan.freed_bytes += all - kept;
            plan.copied_bytes += kept;
            plan.packs.push(PackPlan {
                path: path.to_path_buf(),
                keep,
            });
        }
        Ok(plan)
    }

    fn is_sound(&self, digest: &Digest) -> bool {
        let frame = self.frame(digest).ok().flatten();
        frame.is_some_and(|frame| frame.unpack(&mut Vec::new()).is_ok())
    }

    /// Does what a plan says. What was needed when it was made stays, wherever this ends; another plan goes on from there.
    ///
    /// # Errors
    /// If another program has the library open, something can't be read or written, or the meter says stop.
    pub fn gc(&self, plan: &GcPlan, meter: &dyn Meter) -> Result<(), ContentError> {
        let _alone = self.alone()?;
        let mut tally = Tally::new(meter, plan.copied_bytes);
        for digest in &plan.manifests {
            remove(&self.manifest_path(digest))?;
        }
        sync(&self.manifests_folder)?;
        for patch in &plan.patches {
            self.remove_patch(patch)?;
        }
        for pack in &plan.packs {
            tally.check()?;
            if !pack.keep.is_empty() {
                self.copy(pack, &mut tally)?;
                tally.check()?;
            }
            self.drop_pack(&pack.path)?;
        }
        tally.check()
    }

    /// Writes what is needed of a pack into a new one; from then on it is taken from there.
    fn copy(&self, pack: &PackPlan, tally: &mut Tally<'_>) -> Result<(), ContentError> {
        let file = File::open(&pack.path).map_err(ContentError::io("open", &pack.path))?;
        let mut writer = self.pack_writer()?.instead();
        let mut raw = Vec::new();
        for entry in &pack.keep {
            // A damaged chunk is of no use in the new pack either: it counts as missing from now on.
            let frame = read_frame(&file, &pack.path, entry)
                .and_then(|frame| frame.unpack(&mut raw).map(|()| frame));
            match frame {
                Ok(frame) => writer.put(&frame)?,
                Err(error @ ContentError::Io { .. }) => return Err(error),
                Err(error) => warn!("{}; chunk {} is lost", chain(&error), entry.digest),
            }
            tally.add(entry.frame_bytes())?;
        }
        writer.finish()
    }

    fn drop_pack(&self, path: &Path) -> Result<(), ContentError> {
        let mut state = self
            .state
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_it =
            |pack: &Option<Arc<PathBuf>>| pack.as_ref().is_some_and(|pack| ***pack == *path);
        if let Some(number) = state.packs.iter().position(is_it) {
            state.packs[number] = None;
            state.index.retain(|_, location| location.pack != number);
        }
        drop(state);
        remove(path)?;
        sync(&self.packs_folder)
    }

    /// Keeps every other program from opening the library until it is dropped.
    fn alone(&self) -> Result<Alone<'_>, ContentError> {
        let in_use = || ContentError::LibraryInUse {
            path: self.packs_folder.clone(),
        };
        let lock = self.lock.as_ref().ok_or_else(in_use)?;
        flock(lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| in_use())?;
        Ok(Alone(lock))
    }
}

struct Alone<'a>(&'a File);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if let Err(error) = flock(self.0, FlockOperation::NonBlockingLockShared) {
            warn!("others can't open the content library until this program ends: {error}");
        }
    }
}

fn entries(path: &Path) -> Result<Vec<IndexEntry>, ContentError> {
    let file = File::open(path).map_err(ContentError::io("open", path))?;
    let bytes = file
        .metadata()
        .map_err(ContentError::io("read", path))?
        .len();
    let (entries, _) = pack::read_index(&mut &file, 0, bytes).or_else(|_| pack::scan(&file))?;
    Ok(entries)
}

fn is_settled(path: &Path, settled_at: SystemTime) -> Result<bool, ContentError> {
    let metadata = fs::metadata(path).map_err(ContentError::io("look at", path))?;
    let modified = metadata
        .modified()
        .map_err(ContentError::io("look at", path))?;
    Ok(modified <= settled_at)
}

/// Removes a file; one that is gone already is fine.
pub(super) fn remove(path: &Path) -> Result<(), ContentError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ContentError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> Result<(), ContentError> {
    sync_folder(folder).map_err(ContentError::io("sync", folder))
}
