//! A patch as a source of chunks.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Mutex;

use tracing::warn;
use wire::digest::Digest;

use super::{Part, Patch};
use crate::error::{ContentError, chain};
use crate::frame::{self, Frame};
use crate::library::Library;
use crate::parallel;
use crate::source::{ChunkSource, SourceKind};

/// The bytes of a patch, wherever they are.
pub trait PatchBytes {
    /// Opens `bytes` bytes from `offset` on.
    ///
    /// # Errors
    /// If they can't be reached.
    fn open(&self, offset: u64, bytes: u64) -> Result<Box<dyn Read + '_>, ContentError>;
}

impl PatchBytes for File {
    fn open(&self, offset: u64, bytes: u64) -> Result<Box<dyn Read + '_>, ContentError> {
        let mut file = self;
        file.seek(SeekFrom::Start(offset))
            .map_err(ContentError::stream("read a patch"))?;
        Ok(Box::new(file.take(bytes)))
    }
}

/// Makes chunks from a patch that comes over the network and from what is in the library.
pub struct PatchSource<'a> {
    patch: &'a Patch,
    bytes: &'a dyn PatchBytes,
    library: &'a Library,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the last part made and nobody has asked for yet.
    ready: Vec<Frame>,
    /// Bytes that were fetched, to be counted with the next frame that is handed over.
    owed: u64,
}

impl<'a> PatchSource<'a> {
    /// A source that has what `patch` makes from what is in `library`.
    pub fn new(patch: &'a Patch, bytes: &'a dyn PatchBytes, library: &'a Library) -> Self {
        Self {
            patch,
            bytes,
            library,
            state: Mutex::default(),
        }
    }

    /// The parts to be fetched for these chunks: runs that lie one behind the other.
    fn runs(&self, open: &HashSet<Digest>) -> Vec<Vec<&'a Part>> {
        let has = |digest: &Digest| self.library.contains(digest);
        let is_wanted = |part: &&Part| {
            let makes = &mut part.makes.iter();
            makes.any(|chunk| open.contains(&chunk.digest)) && part.is_worth(has)
        };
        let mut runs: Vec<Vec<&Part>> = Vec::new();
        let mut end = None;
        for part in self.patch.parts.iter().filter(is_wanted) {
            match runs.last_mut() {
                Some(run) if end == Some(part.offset) => run.push(part),
                _ => runs.push(vec![part]),
            }
            end = Some(part.offset + part.packed as u64);
        }
        runs
    }

    fn fetch_run(
        &self,
        run: &[&Part],
        state: &mut State,
        delivery: &mut Delivery<'_>,
    ) -> Result<(), ContentError> {
        let offset = run.first().map_or(0, |part| part.offset);
        let bytes = run.iter().map(|part| part.packed as u64).sum();
        let mut stream = self.bytes.open(offset, bytes)?;
        for part in run {
            let mut packed = vec![0; part.packed];
            let read = frame::fill(&mut *stream, &mut packed)
                .map_err(ContentError::stream("fetch a patch"))?;
            state.owed += read as u64;
            if read < packed.len() {
                return Err(super::bad("it is cut off"));
            }
            match part.apply(&packed, self.library) {
                Ok(frames) => state.ready = frames,
                Err(error) => {
                    warn!("{}; its chunks are fetched as they are", chain(&error));
                    continue;
                }
            }
            delivery.hand_over(state)?;
        }
        Ok(())
    }
}

/// To whom chunks are handed over, and what is still wanted.
struct Delivery<'a> {
    open: HashSet<Digest>,
    sink: &'a mut dyn FnMut(Frame) -> Result<(), ContentError>,
}

impl Delivery<'_> {
    /// Hands over what is ready and wanted.
    fn hand_over(&mut self, state: &mut State) -> Result<(), ContentError> {
        for frame in std::mem::take(&mut state.ready) {
            if self.open.remove(&frame.digest()) {
                (self.sink)(frame.sent_as(std::mem::take(&mut state.owed)))?;
            } else {
                state.ready.push(frame);
            }
        }
        Ok(())
    }
}

impl ChunkSource for PatchSource<'_> {
    fn kind(&self) -> SourceKind {
        SourceKind::Network
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let mut state = parallel::lock(&self.state);
        let mut delivery = Delivery {
            open: wanted.iter().copied().collect(),
            sink,
        };
        delivery.hand_over(&mut state)?;
        (self.runs(&delivery.open).iter())
            .try_for_each(|run| self.fetch_run(run, &mut state, &mut delivery))
    }
}
