//! Places chunks come from, and how several are asked in turn.
//!
//! Sources promise nothing: what they hand over is checked by whoever uses it.

use std::collections::HashSet;

use tracing::warn;
use wire::digest::Digest;
use wire::event::ContentBytes;

use crate::error::{ContentError, chain};
use crate::frame::Frame;
use crate::parallel;

/// A place chunks come from.
pub trait ChunkSource {
    /// Which counter of [`ContentBytes`] its bytes belong to.
    fn kind(&self) -> SourceKind;

    /// Hands frames of `wanted` to `sink`, in any order; chunks it doesn't have are passed over in silence.
    ///
    /// At most [`WANTED_MAX`] chunks are asked for at once.
    ///
    /// # Errors
    /// If it can't be reached or read, or with the error of `sink`.
    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError>;

    /// Learns that it handed over a damaged chunk, so that it can forget it.
    fn damaged(&self, digest: &Digest) {
        let _ = digest;
    }
}

/// Where chunks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// The local library or the boot medium.
    Local,
    /// The network.
    Network,
}

/// The most chunks a source is asked for at once; half of what the device API takes.
pub const WANTED_MAX: usize = 512;

/// How many bytes, before compression, are unpacked at once.
const UNPACK_BYTES: u64 = 16 << 20;

/// What is done, on any core, with a chunk whose bytes were checked.
pub(crate) type Prepare<'a, T> = dyn Fn(&Frame, Vec<u8>) -> Result<T, ContentError> + Sync + 'a;

/// Fetches `wanted` (at most [`WANTED_MAX`], each once) from `sources` in order, each asked for what the ones before
/// did not have. `prepare` runs on all cores and gets the checked bytes of a chunk; `accept` gets, one after the other,
/// what it returned. Here only `network_packed` is counted: how often a chunk is used is known to the caller.
///
/// Returns the chunks nobody had, and what went wrong with the last source that failed.
pub(crate) fn fetch<T: Send>(
    sources: &[&dyn ChunkSource],
    wanted: &[Digest],
    counts: &mut ContentBytes,
    prepare: &Prepare<'_, T>,
    accept: &mut dyn FnMut(T, SourceKind) -> Result<(), ContentError>,
) -> Result<(Vec<Digest>, Option<ContentError>), ContentError> {
    let mut open: HashSet<Digest> = wanted.iter().copied().collect();
    let mut last_error = None;
    for source in sources {
        if open.is_empty() {
            break;
        }
        let ask: Vec<Digest> = wanted
            .iter()
            .filter(|digest| open.contains(digest))
            .copied()
            .collect();
        let mut batch = Batch {
            source: *source,
            open: &mut open,
            counts,
            prepare,
            accept,
            frames: Vec::new(),
            bytes: 0,
        };
        // An error of our own must not be taken for one of the source.
        let mut own_error = None;
        let result = source.fetch(&ask, &mut |frame| {
            batch.take(frame).map_err(|error| {
                own_error = Some(error);
                ContentError::Cancelled
            })
        });
        if let Some(error) = own_error {
            return Err(error);
        }
        batch.flush()?;
        match result {
            Ok(()) => {}
            Err(ContentError::Cancelled) => return Err(ContentError::Cancelled),
            Err(error) => {
                warn!("a source of content failed: {}", chain(&error));
                last_error = Some(error);
            }
        }
    }
    Ok((
        wanted
            .iter()
            .filter(|digest| open.contains(digest))
            .copied()
            .collect(),
        last_error,
    ))
}

/// Counts `bytes` of content as coming from a source of this kind.
pub(crate) fn count(counts: &mut ContentBytes, kind: SourceKind, bytes: u64) {
    match kind {
        SourceKind::Local => counts.local += bytes,
        SourceKind::Network => counts.network += bytes,
    }
}

struct Batch<'a, T> {
    source: &'a dyn ChunkSource,
    open: &'a mut HashSet<Digest>,
    counts: &'a mut ContentBytes,
    prepare: &'a Prepare<'a, T>,
    accept: &'a mut dyn FnMut(T, SourceKind) -> Result<(), ContentError>,
    frames: Vec<Frame>,
    bytes: u64,
}

impl<T: Send> Batch<'_, T> {
    fn take(&mut self, frame: Frame) -> Result<(), ContentError> {
        if self.source.kind() == SourceKind::Network {
            self.counts.network_packed += frame.frame_bytes();
        }
        if !self.open.contains(&frame.digest()) {
            return Ok(());
        }
        self.bytes += u64::from(frame.raw_bytes());
        self.frames.push(frame);
        if self.bytes >= UNPACK_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), ContentError> {
        let frames = std::mem::take(&mut self.frames);
        self.bytes = 0;
        let results = parallel::map(&frames, |frame| {
            let mut raw = Vec::new();
            match frame.unpack(&mut raw) {
                Ok(()) => (self.prepare)(frame, raw).map(Some),
                Err(_) => Ok(None),
            }
        });
        for (frame, result) in frames.iter().zip(results) {
            let digest = frame.digest();
            let Some(prepared) = result? else {
                warn!("chunk {digest} came damaged; asking the next source");
                self.source.damaged(&digest);
                continue;
            };
            // A source may hand the same chunk over twice.
            if self.open.remove(&digest) {
                (self.accept)(prepared, self.source.kind())?;
            }
        }
        Ok(())
    }
}
