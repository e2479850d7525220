//! The content library in a folder: packs and manifests. See `docs/formats/pack.md`.
//!
//! All it knows comes from the files themselves and can be made again from them. What nobody needs any more goes only when
//! someone says what is needed: see [`Library::plan_gc`].

mod collect;
mod keep;
mod patches;
mod recover;
mod writer;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use camino::Utf8Path;
use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use tracing::warn;
use wire::digest::Digest;

pub use self::collect::GcPlan;
pub use self::keep::Keeping;
pub use self::patches::StoredPatch;
pub use self::writer::PackWriter;
use crate::error::{ContentError, chain};
use crate::frame::Frame;
use crate::manifest::{ChunkRef, MANIFEST_BYTES_MAX, Manifest};
use crate::meter::{Meter, Tally};
use crate::pack::{self, IndexEntry};
use crate::parallel;
use crate::source::{ChunkSource, SourceKind};

/// How many frames are held in memory at once while all are checked.
const VERIFY_FRAMES: usize = 64;

/// A content library in a folder: `packs/`, `manifests/`, `patches/`. Safe to use from several threads.
#[derive(Debug)]
pub struct Library {
    packs_folder: PathBuf,
    manifests_folder: PathBuf,
    /// Made when the first patch is.
    patches_folder: PathBuf,
    /// Held by all who have the library open, so that nobody collects behind their back. `None` where it can't be written.
    lock: Option<File>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` is a pack that is gone.
    packs: Vec<Option<Arc<PathBuf>>>,
    index: HashMap<Digest, Location>,
}

#[derive(Debug, Clone, Copy)]
struct Location {
    pack: usize,
    entry: IndexEntry,
}

/// What [`Library::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Chunks that are right.
    pub chunks: u64,
    /// Their bytes before compression.
    pub bytes: u64,
    /// Chunks that were damaged and have been forgotten.
    pub damaged: Vec<Digest>,
}

/// Nobody collects: see [`Library::keep_files`].
#[derive(Debug)]
pub struct FilesKept(#[expect(dead_code, reason = "held, not read")] Option<File>);

/// How much a library holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibraryStats {
    /// How many packs.
    pub packs: u64,
    /// How many different chunks.
    pub chunks: u64,
    /// Their bytes before compression.
    pub content_bytes: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
}

impl Library {
    /// Opens the library in `folder`, making it if it isn't there. A missing or stale index is rebuilt from the packs;
    /// a torn end of a pack (power cut) is cut off, and what was whole in it counts as present.
    ///
    /// # Errors
    /// If the folder or a pack can't be read, or another program is collecting in it. A pack we don't understand is left alone, with a warning in the log.
    pub fn open(folder: &Utf8Path) -> Result<Self, ContentError> {
        let packs_folder = folder.join("packs").into_std_path_buf();
        let manifests_folder = folder.join("manifests").into_std_path_buf();
        for folder in [&packs_folder, &manifests_folder] {
            fs::create_dir_all(folder).map_err(ContentError::io("create", folder))?;
        }
        let library = Self {
            lock: lock(&folder.join("lock").into_std_path_buf())?,
            packs_folder,
            manifests_folder,
            patches_folder: folder.join("patches").into_std_path_buf(),
            state: RwLock::default(),
        };
        for (path, entries) in recover::packs(&library.packs_folder)? {
            library.register(path, entries, false);
        }
        Ok(library)
    }

    /// While the answer lives, nobody collects in `folder`: every file of the library that is there stays. Changes nothing.
    ///
    /// # Errors
    /// If another program is collecting.
    pub fn keep_files(folder: &Utf8Path) -> Result<FilesKept, ContentError> {
        lock(&folder.join("lock").into_std_path_buf()).map(FilesKept)
    }

    /// Whether the chunk is here.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.read_state(|state| state.index.contains_key(digest))
    }

    /// Reads the frame of a chunk; `None` if it isn't here.
    ///
    /// # Errors
    /// If its pack can't be read, or the frame isn't where it should be. Its content is not yet checked: see
    /// [`Frame::unpack`].
    pub fn frame(&self, digest: &Digest) -> Result<Option<Frame>, ContentError> {
        loop {
            let Some((path, entry)) = self.locate(digest) else {
                return Ok(None);
            };
            match File::open(&*path) {
                Ok(file) => return read_frame(&file, &path, &entry).map(Some),
                // It was collected meanwhile, and what is needed of it is elsewhere.
                Err(_) if self.locate(digest).is_none_or(|(now, _)| now != path) => {}
                Err(error) => return Err(ContentError::io("open", &path)(error)),
            }
        }
    }

    /// How many bytes the frame of a chunk takes; `None` if it isn't here.
    #[must_use]
    pub fn frame_bytes(&self, digest: &Digest) -> Option<u64> {
        self.read_state(|state| {
            state
                .index
                .get(digest)
                .map(|location| location.entry.frame_bytes())
        })
    }

    /// Starts a pack. Several may be open at once.
    ///
    /// # Errors
    /// Never at present: the file is made with the first chunk.
    pub fn pack_writer(&self) -> Result<PackWriter<'_>, ContentError> {
        Ok(PackWriter::new(self))
    }

    /// Stores a manifest durably, after decoding it.
    ///
    /// # Errors
    /// If it is no manifest, or can't be written.
    pub fn put_manifest(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        Manifest::decode(bytes)?;
        let digest = Digest::of(bytes);
        if self.manifest_bytes(&digest)?.is_none() {
            let path = self.manifest_path(&digest);
            write_durably(&path, bytes).map_err(ContentError::io("write", &path))?;
        }
        Ok(digest)
    }

    /// The bytes of a manifest, digest checked; `None` if it isn't here. A damaged one counts as not here, so that it
    /// is fetched again.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ContentError> {
        let path = self.manifest_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ContentError::io("open", &path)(error)),
        };
        let mut bytes = Vec::new();
        let limit = MANIFEST_BYTES_MAX as u64 + 1;
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(ContentError::io("read", &path))?;
        if Digest::of(&bytes) != *digest {
            warn!("manifest {digest} is damaged and counts as missing");
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// The manifest; an error if it isn't here.
    ///
    /// # Errors
    /// If it isn't here, or can't be read.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, ContentError> {
        let bytes = self
            .manifest_bytes(digest)?
            .ok_or(ContentError::MissingManifest { digest: *digest })?;
        Manifest::decode(&bytes)
    }

    /// The chunks of `manifest` that aren't here, each once, in apply order.
    #[must_use]
    pub fn missing(&self, manifest: &Manifest) -> Vec<ChunkRef> {
        let mut seen = HashSet::new();
        self.read_state(|state| {
            let is_missing = |chunk: &&ChunkRef| {
                !state.index.contains_key(&chunk.digest) && seen.insert(chunk.digest)
            };
            manifest
                .chunks()
                .iter()
                .filter(is_missing)
                .copied()
                .collect()
        })
    }

    /// How much is here. Fast: nothing is read.
    #[must_use]
    pub fn stats(&self) -> LibraryStats {
        self.read_state(|state| LibraryStats {
            packs: state.packs.iter().flatten().count() as u64,
            chunks: state.index.len() as u64,
            content_bytes: state
                .index
                .values()
                .map(|location| u64::from(location.entry.raw_bytes))
                .sum(),
            stored_bytes: state
                .index
                .values()
                .map(|location| location.entry.frame_bytes())
                .sum(),
        })
    }

    /// Reads everything and checks every digest; damaged chunks are forgotten (and so fetched again).
    ///
    /// # Errors
    /// If a pack can't be read, or its index can't be written.
    pub fn verify(&self, meter: &dyn Meter) -> Result<VerifyReport, ContentError> {
        let all = self.read_state(|state| {
            state
                .index
                .values()
                .map(|location| location.entry.digest)
                .collect::<Vec<_>>()
        });
        let mut tally = Tally::new(meter, self.stats().content_bytes);
        let mut report = VerifyReport {
            chunks: 0,
            bytes: 0,
            damaged: Vec::new(),
        };
        let mut sound = HashSet::new();
        let ordered = self.in_order(&all);
        for batch in ordered.chunks(VERIFY_FRAMES) {
            let mut frames = Vec::with_capacity(batch.len());
            self.read_frames(batch, &mut |frame| {
                frames.push(frame);
                Ok(())
            })?;
            let checks = parallel::map(&frames, |frame| frame.unpack(&mut Vec::new()).is_ok());
            for (frame, _) in frames.iter().zip(checks).filter(|(_, is_sound)| *is_sound) {
                sound.insert(frame.digest());
                report.chunks += 1;
                report.bytes += u64::from(frame.raw_bytes());
            }
            tally.add(
                batch
                    .iter()
                    .map(|(_, entry)| u64::from(entry.raw_bytes))
                    .sum(),
            )?;
        }
        report.damaged = ordered
            .iter()
            .map(|(_, entry)| entry.digest)
            .filter(|digest| !sound.contains(digest))
            .collect();
        self.forget(&report.damaged)?;
        Ok(report)
    }

    /// Forgets chunks for good: the indexes of their packs are written anew without them.
    fn forget(&self, damaged: &[Digest]) -> Result<(), ContentError> {
        let mut state = self
            .state
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let gone: Vec<Location> = damaged
            .iter()
            .filter_map(|digest| state.index.remove(digest))
            .collect();
        let packs: HashSet<usize> = gone.iter().map(|location| location.pack).collect();
        let damaged: HashSet<&Digest> = damaged.iter().collect();
        for pack in packs {
            let Some(path) = &state.packs[pack] else {
                continue;
            };
            let file = File::options()
                .read(true)
                .write(true)
                .open(&**path)
                .map_err(ContentError::io("open", path))?;
            let bytes = file
                .metadata()
                .map_err(ContentError::io("read", path))?
                .len();
            // The entries come from the file: some of them may be known here from another pack.
            let (mut entries, end) =
                pack::read_index(&mut &file, 0, bytes).or_else(|_| pack::scan(&file))?;
            entries.retain(|entry| !damaged.contains(&entry.digest));
            pack::write_index(&file, &entries, end)
                .map_err(ContentError::io("write the index of", path))?;
        }
        Ok(())
    }

    /// Counts what is in a pack as present: also `instead` of where it was found before.
    fn register(&self, path: PathBuf, entries: Vec<IndexEntry>, instead: bool) {
        let mut state = self
            .state
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let pack = state.packs.len();
        state.packs.push(Some(Arc::new(path)));
        state.index.reserve(entries.len());
        for entry in entries {
            let location = Location { pack, entry };
            let known = state.index.entry(entry.digest).or_insert(location);
            if instead {
                *known = location;
            }
        }
    }

    fn read_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(
            &self
                .state
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    fn locate(&self, digest: &Digest) -> Option<(Arc<PathBuf>, IndexEntry)> {
        self.read_state(|state| {
            let location = state.index.get(digest)?;
            Some((state.packs[location.pack].clone()?, location.entry))
        })
    }

    /// Where the chunks that are here lie, in the order in which they are wanted.
    fn locate_all(&self, wanted: impl Iterator<Item = Digest>) -> Vec<(Arc<PathBuf>, IndexEntry)> {
        self.read_state(|state| {
            let locate = |digest| {
                let location: &Location = state.index.get(&digest)?;
                Some((state.packs[location.pack].clone()?, location.entry))
            };
            wanted.filter_map(locate).collect()
        })
    }

    /// The same in the order in which reading them is sequential.
    fn in_order(&self, wanted: &[Digest]) -> Vec<(Arc<PathBuf>, IndexEntry)> {
        self.read_state(|state| {
            let mut found: Vec<&Location> = wanted
                .iter()
                .filter_map(|digest| state.index.get(digest))
                .collect();
            found.sort_unstable_by_key(|location| (location.pack, location.entry.offset));
            found
                .iter()
                .filter_map(|location| Some((state.packs[location.pack].clone()?, location.entry)))
                .collect()
        })
    }

    /// Hands over the frames of `wanted`, in this order. Those that aren't here or can't be read are passed over.
    pub(crate) fn frames(
        &self,
        wanted: impl Iterator<Item = Digest>,
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        self.read_frames(&self.locate_all(wanted), sink)
    }

    /// Hands the frames over. Those that can't be read are passed over, with a warning.
    fn read_frames(
        &self,
        frames: &[(Arc<PathBuf>, IndexEntry)],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let mut open: Option<(&Path, File)> = None;
        for (path, entry) in frames {
            if open
                .as_ref()
                .is_none_or(|(opened, _)| *opened != path.as_path())
            {
                open = match File::open(&**path) {
                    Ok(file) => {
                        // What follows is read before it is asked for.
                        let _only_a_hint = fadvise(&file, 0, None, Advice::Sequential);
                        Some((path.as_path(), file))
                    }
                    Err(_)
                        if self
                            .locate(&entry.digest)
                            .is_some_and(|(now, _)| now != *path) =>
                    {
                        // It was collected meanwhile.
                        if let Some(frame) = self.frame(&entry.digest)? {
                            sink(frame)?;
                        }
                        None
                    }
                    Err(error) => {
                        let error = ContentError::io("open", path)(error);
                        warn!("{}; the content in it counts as missing", chain(&error));
                        None
                    }
                };
            }
            let Some((_, file)) = &open else { continue };
            match read_frame(file, path, entry) {
                Ok(frame) => sink(frame)?,
                Err(error) => warn!(
                    "{}; chunk {} counts as missing",
                    chain(&error),
                    entry.digest
                ),
            }
        }
        Ok(())
    }

    fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.manifests_folder.join(digest.to_string())
    }
}

impl ChunkSource for Library {
    fn kind(&self) -> SourceKind {
        SourceKind::Local
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        self.read_frames(&self.in_order(wanted), sink)
    }

    fn has(&self, digest: &Digest) -> bool {
        self.contains(digest)
    }

    fn damaged(&self, digest: &Digest) {
        warn!("chunk {digest} is damaged in the library and is forgotten");
        if let Err(error) = self.forget(&[*digest]) {
            warn!(
                "{}; the chunk is forgotten only until the library is opened again",
                chain(&error)
            );
        }
    }
}

fn read_frame(file: &File, path: &Path, entry: &IndexEntry) -> Result<Frame, ContentError> {
    let frame = Frame::read_at(file, entry.offset)
        .map_err(ContentError::io("read", path))?
        .ok_or(ContentError::BadFrame {
            rule: "it is cut off or damaged",
        })?;
    if frame.digest() != entry.digest || frame.frame_bytes() != entry.frame_bytes() {
        return Err(ContentError::DamagedChunk {
            digest: entry.digest,
            rule: "another chunk lies in its place",
        });
    }
    Ok(frame)
}

/// Writes a new file beside, syncs, renames and syncs the folder: after a power cut it is there as a whole or not.
fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Says that the library is open here. On a medium that can't be written to nobody collects either.
fn lock(path: &Path) -> Result<Option<File>, ContentError> {
    let file = File::options().create(true).append(true).open(path);
    let Ok(file) = file else { return Ok(None) };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ContentError::LibraryInUse {
            path: path.to_path_buf(),
        }),
        // Not every filesystem has locks.
        Err(_) => Ok(None),
    }
}
