//! A source whose chunks are kept in a library as they are used.

use std::sync::Mutex;

use wire::digest::Digest;

use super::{Library, PackWriter};
use crate::error::ContentError;
use crate::frame::Frame;
use crate::parallel::lock;
use crate::source::{ChunkSource, SourceKind};

/// Another source, of which every chunk that is used goes into a library as well: a volume is written and the library
/// filled in one pass over a medium, and what came over the network once is not fetched again.
///
/// Chunks count as present after [`Keeping::finish`]. Dropped before that, an unfinished pack is left, whose whole frames
/// [`Library::open`] keeps.
pub struct Keeping<'a> {
    source: &'a dyn ChunkSource,
    library: &'a Library,
    writer: Mutex<PackWriter<'a>>,
}

impl<'a> Keeping<'a> {
    /// Keeps in `library` what is used of `source`.
    ///
    /// # Errors
    /// If no pack can be begun.
    pub fn new(source: &'a dyn ChunkSource, library: &'a Library) -> Result<Self, ContentError> {
        Ok(Self {
            source,
            library,
            writer: Mutex::new(library.pack_writer()?),
        })
    }

    /// Makes what was kept durable and present. After an error, too: what came until then needn't come again.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(self) -> Result<(), ContentError> {
        self.writer
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .finish()
    }

    /// Parts `wanted` into what the unfinished pack holds, which is present from now on, and the rest.
    fn part(&self, wanted: &[Digest]) -> Result<(Vec<Digest>, Vec<Digest>), ContentError> {
        let mut writer = lock(&self.writer);
        let (kept, rest): (Vec<_>, Vec<_>) = wanted.iter().partition(|digest| writer.holds(digest));
        if !kept.is_empty() {
            writer.finish_pack()?;
        }
        Ok((kept, rest))
    }
}

impl ChunkSource for Keeping<'_> {
    fn kind(&self) -> SourceKind {
        self.source.kind()
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        // What is needed again has gone by: a medium would have to be read once more for it.
        let (kept, rest) = self.part(wanted)?;
        self.library.fetch(&kept, sink)?;
        if rest.is_empty() {
            return Ok(());
        }
        self.source.fetch(&rest, sink)
    }

    fn has(&self, digest: &Digest) -> bool {
        self.source.has(digest)
    }

    fn sound(&self, frame: &Frame) -> Result<(), ContentError> {
        lock(&self.writer).add_checked(frame)
    }

    fn damaged(&self, digest: &Digest) {
        self.source.damaged(digest);
    }
}
