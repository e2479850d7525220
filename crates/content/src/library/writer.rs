//! Adds chunks to a library.
//!
//! A pack being written is a locked `.partial` file, synced now and then, so that a cut costs little: see
//! `docs/formats/pack.md`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use wire::digest::Digest;

use super::{Library, recover, sync_folder};
use crate::error::ContentError;
use crate::frame::Frame;
use crate::manifest::ChunkRef;
use crate::pack::PackStream;
use crate::parallel;

/// After so many bytes a new pack is begun: large enough to read in one go, small enough to copy or verify alone.
const PACK_BYTES_MAX: u64 = 1 << 30;
/// After so many bytes a pack is synced: a power cut costs at most this much work.
const SYNC_BYTES: u64 = 64 << 20;
/// Names are random; more than a few taken ones mean that something else is wrong.
const NAME_ATTEMPTS_MAX: u32 = 16;

/// How many chunks are compressed ahead of what is written: at most 128 MiB, and as much packed.
const CHUNKS_ON_THEIR_WAY_MAX: usize = 128;

/// Takes a chunk that was cut.
pub(crate) type CutSink<'a> = dyn FnMut(&[u8]) -> Result<(), ContentError> + 'a;

/// Adds chunks to a library. They count as present only after [`PackWriter::finish`].
///
/// Dropped before that, it leaves an unfinished pack, whose whole frames [`Library::open`] keeps.
pub struct PackWriter<'a> {
    library: &'a Library,
    open: Option<OpenPack>,
    added: HashSet<Digest>,
    /// Whether its chunks are from then on taken from here, although the library has them.
    instead: bool,
}

struct OpenPack {
    path: PathBuf,
    stream: PackStream<File>,
    synced: u64,
    /// The sync that runs while more is written.
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl OpenPack {
    /// Begins to sync what was written so far, once the sync before is done.
    fn begin_sync(&mut self) -> Result<(), ContentError> {
        self.end_sync()?;
        self.synced = self.stream.bytes();
        let file = self.stream.flush()?.try_clone();
        let file = file.map_err(ContentError::io("sync", &self.path))?;
        self.syncing = Some(thread::spawn(move || file.sync_data()));
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), ContentError> {
        let synced = self.syncing.take().map(JoinHandle::join);
        match synced {
            None => Ok(()),
            Some(Ok(synced)) => synced.map_err(ContentError::io("sync", &self.path)),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl<'a> PackWriter<'a> {
    pub(super) fn new(library: &'a Library) -> Self {
        Self {
            library,
            open: None,
            added: HashSet::new(),
            instead: false,
        }
    }

    /// Writes chunks anew that the library has.
    pub(super) fn instead(mut self) -> Self {
        self.instead = true;
        self
    }

    /// Adds a chunk unless the library (or this pack) has it. Returns its digest.
    ///
    /// # Errors
    /// If the chunk is empty or too long, or can't be written.
    pub fn add(&mut self, raw: &[u8]) -> Result<Digest, ContentError> {
        let digest = Digest::of(raw);
        if !self.contains(&digest) {
            self.put(&Frame::pack_with(raw, digest)?)?;
        }
        Ok(digest)
    }

    /// Adds the chunks that `cut` hands over, in their order and each once, while they are compressed on all cores. Returns
    /// all of them, and what `cut` returns.
    ///
    /// # Errors
    /// With that of `cut`; or if a chunk is empty or too long, or can't be written.
    pub(crate) fn add_all<A>(
        &mut self,
        cut: impl FnOnce(&mut CutSink<'_>) -> Result<A, ContentError>,
    ) -> Result<(Vec<ChunkRef>, A), ContentError> {
        let library = self.library;
        let mut seen = self.added.clone();
        let mut chunks = Vec::new();
        let begin = || |(raw, digest): (Vec<u8>, Digest)| Frame::pack_with(&raw, digest);
        let mut accept = |frame: Result<Frame, ContentError>| self.put(&frame?);
        let cut = parallel::in_line(
            parallel::cores(),
            CHUNKS_ON_THEIR_WAY_MAX,
            begin,
            &mut accept,
            |line| {
                cut(&mut |raw| {
                    let digest = Digest::of(raw);
                    let bytes = u32::try_from(raw.len()).unwrap_or(u32::MAX);
                    chunks.push(ChunkRef { digest, bytes });
                    if !library.contains(&digest) && seen.insert(digest) {
                        line.send((raw.to_vec(), digest))?;
                    }
                    Ok(())
                })
            },
        )?;
        Ok((chunks, cut))
    }

    /// Adds a frame as received, after checking it, unless the library has it.
    ///
    /// # Errors
    /// If the frame is damaged, or can't be written.
    pub fn add_frame(&mut self, frame: &Frame) -> Result<(), ContentError> {
        if self.contains(&frame.digest()) {
            return Ok(());
        }
        if !frame.is_signed() {
            frame.unpack(&mut Vec::new())?;
        }
        self.put(frame)
    }

    /// Adds a frame that was checked already.
    pub(crate) fn add_checked(&mut self, frame: &Frame) -> Result<(), ContentError> {
        if self.contains(&frame.digest()) {
            Ok(())
        } else {
            self.put(frame)
        }
    }

    /// Makes the pack durable and its chunks present. An empty pack leaves no file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(mut self) -> Result<(), ContentError> {
        self.finish_pack()
    }

    /// Whether the unfinished pack has it.
    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.added.contains(digest)
    }

    fn contains(&self, digest: &Digest) -> bool {
        self.added.contains(digest) || self.library.contains(digest)
    }

    /// Adds a frame whatever the library has.
    pub(super) fn put(&mut self, frame: &Frame) -> Result<(), ContentError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        open.stream.add(frame)?;
        if open.stream.bytes() - open.synced >= SYNC_BYTES {
            open.begin_sync()?;
        }
        let is_full = open.stream.is_full() || open.stream.bytes() >= PACK_BYTES_MAX;
        self.open = Some(open);
        self.added.insert(frame.digest());
        if is_full { self.finish_pack() } else { Ok(()) }
    }

    fn begin(&self) -> Result<OpenPack, ContentError> {
        let folder = &self.library.packs_folder;
        for _ in 0..NAME_ATTEMPTS_MAX {
            let mut random = [0_u8; 16];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| ContentError::stream("get random bytes")(error.into()))?;
            let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let path = folder.join(name).with_extension("partial");
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            let file = file.map_err(ContentError::io("create", &path))?;
            // Whoever opens the library just now may have taken the new file for a leftover.
            if recover::lock(&file, &path) {
                return Ok(OpenPack {
                    path,
                    stream: PackStream::new(file)?,
                    synced: 0,
                    syncing: None,
                });
            }
        }
        Err(ContentError::TooMuch {
            what: "unfinished packs of the same name",
            limit: NAME_ATTEMPTS_MAX.into(),
        })
    }

    /// Makes the pack durable and its chunks present; what is added next begins another.
    pub(super) fn finish_pack(&mut self) -> Result<(), ContentError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.end_sync()?;
        let OpenPack { path, stream, .. } = open;
        let (file, entries, _) = stream.finish()?;
        file.sync_all().map_err(ContentError::io("sync", &path))?;
        let folder = &self.library.packs_folder;
        let name = folder
            .join(crate::pack::name(&entries))
            .with_extension("pack");
        fs::rename(&path, &name).map_err(ContentError::io("rename", &path))?;
        sync_folder(folder).map_err(ContentError::io("sync", folder))?;
        self.library.register(name, entries, self.instead);
        self.added.clear();
        Ok(())
    }
}
