//! A source whose chunks are kept in a library as they are used.

use std::collections::HashSet;
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

    /// Hands over what was kept before, and tells what is left. It has gone by: a medium would have to be read once more.
    fn fetch_kept(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<Vec<Digest>, ContentError> {
        let kept: Vec<Digest> = {
            let mut writer = lock(&self.writer);
            if wanted.iter().any(|digest| writer.holds(digest)) {
                writer.finish_pack()?;
            }
            let is_kept = |digest: &&Digest| self.library.contains(digest);
            wanted.iter().filter(is_kept).copied().collect()
        };
        let mut open: HashSet<Digest> = wanted.iter().copied().collect();
        self.library.fetch(&kept, &mut |frame| {
            open.remove(&frame.digest());
            sink(frame)
        })?;
        let is_open = |digest: &&Digest| open.contains(digest);
        Ok(wanted.iter().filter(is_open).copied().collect())
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
        let rest = self.fetch_kept(wanted, sink)?;
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
        if self.library.contains(digest) {
            self.library.damaged(digest);
        }
        self.source.damaged(digest);
    }
}
