//! Places chunks come from, and how several are asked in turn.
//!
//! Sources promise nothing: what they hand over is checked by whoever uses it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, mpsc};
use std::thread;

use tracing::warn;
use wire::digest::Digest;
use wire::event::ContentBytes;

use crate::buffer::Buffer;
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

    /// Whether it has this chunk at hand, so that asking for it is cheaper than looking whether it is needed. Sources that
    /// would have to ask somewhere say no.
    fn has(&self, digest: &Digest) -> bool {
        let _ = digest;
        false
    }

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

/// How many frames are on their way at once, from being read to being accepted: at most 64 MiB packed and as much
/// unpacked, and enough that no core waits.
const FRAMES_ON_THEIR_WAY_MAX: usize = 64;

/// What is done, on any core, with a chunk whose bytes were checked. Bytes that it doesn't take away are the buffer of the
/// next chunk: fresh memory costs more than unpacking into memory that is warm.
pub(crate) type Prepare<'a, T> = dyn Fn(&Frame, &mut Buffer) -> Result<T, ContentError> + Sync + 'a;

/// Fetches `wanted` (at most [`WANTED_MAX`], each once) from `sources` in order, each asked for what the ones before
/// did not have. While one thread reads, `prepare` runs on all cores and gets the checked bytes of a chunk; `accept`
/// gets what it returned, one after the other and in the order the source had. Here only `network_packed` is counted:
/// how often a chunk is used is known to the caller.
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
        let ask = still_open(wanted, &open);
        match fetch_from(*source, &ask, &mut open, counts, prepare, accept)? {
            Ok(()) => {}
            Err(ContentError::Cancelled) => return Err(ContentError::Cancelled),
            Err(error) => {
                warn!("a source of content failed: {}", chain(&error));
                last_error = Some(error);
            }
        }
    }
    Ok((still_open(wanted, &open), last_error))
}

fn still_open(wanted: &[Digest], open: &HashSet<Digest>) -> Vec<Digest> {
    let is_open = |digest: &&Digest| open.contains(digest);
    wanted.iter().filter(is_open).copied().collect()
}

/// Counts `bytes` of content as coming from a source of this kind.
pub(crate) fn count(counts: &mut ContentBytes, kind: SourceKind, bytes: u64) {
    match kind {
        SourceKind::Local => counts.local += bytes,
        SourceKind::Network => counts.network += bytes,
    }
}

/// What became of a frame, by its place in the order of the source; `None` if it was damaged.
type Prepared<T> = (usize, Digest, Result<Option<T>, ContentError>);

/// Fetches from one source. The outer error is one of our own, the inner one is the source's.
fn fetch_from<T: Send>(
    source: &dyn ChunkSource,
    ask: &[Digest],
    open: &mut HashSet<Digest>,
    counts: &mut ContentBytes,
    prepare: &Prepare<'_, T>,
    accept: &mut dyn FnMut(T, SourceKind) -> Result<(), ContentError>,
) -> Result<Result<(), ContentError>, ContentError> {
    let (to_workers, frames) = mpsc::sync_channel::<(usize, Frame)>(FRAMES_ON_THEIR_WAY_MAX);
    let (to_us, prepared) = mpsc::channel::<Prepared<T>>();
    let frames = Mutex::new(frames);
    thread::scope(|scope| {
        for _ in 0..parallel::workers().min(ask.len()) {
            let (frames, to_us) = (&frames, to_us.clone());
            scope.spawn(move || work(frames, &to_us, prepare));
        }
        drop(to_us);
        let mut line = Line {
            source,
            open,
            accept,
            prepared,
            early: BTreeMap::new(),
            sent: 0,
            accepted: 0,
        };
        // An error of our own must not be taken for one of the source.
        let mut own_error = None;
        let result = source.fetch(ask, &mut |frame| {
            if source.kind() == SourceKind::Network {
                counts.network_packed += frame.frame_bytes();
            }
            line.send(frame, &to_workers).map_err(|error| {
                own_error = Some(error);
                ContentError::Cancelled
            })
        });
        drop(to_workers);
        match own_error {
            Some(error) => Err(error),
            None => line.finish().map(|()| result),
        }
    })
}

/// One worker: checks and prepares frames until there are no more.
fn work<T>(
    frames: &Mutex<mpsc::Receiver<(usize, Frame)>>,
    to_us: &mpsc::Sender<Prepared<T>>,
    prepare: &Prepare<'_, T>,
) {
    let mut raw = Buffer::default();
    loop {
        let next = parallel::lock(frames).recv();
        let Ok((place, frame)) = next else { return };
        let result = match frame.unpack_into(&mut raw) {
            Ok(()) => prepare(&frame, &mut raw).map(Some),
            Err(_) => Ok(None),
        };
        // Nobody waits any more if an earlier frame ended the work.
        if to_us.send((place, frame.digest(), result)).is_err() {
            return;
        }
    }
}

/// Frames on their way through the workers, put back into their order at the end.
struct Line<'a, 's, T> {
    source: &'s dyn ChunkSource,
    open: &'a mut HashSet<Digest>,
    accept: &'a mut dyn FnMut(T, SourceKind) -> Result<(), ContentError>,
    prepared: mpsc::Receiver<Prepared<T>>,
    /// What is prepared before something in front of it.
    early: BTreeMap<usize, (Digest, Option<T>)>,
    sent: usize,
    accepted: usize,
}

impl<T> Line<'_, '_, T> {
    fn send(
        &mut self,
        frame: Frame,
        to_workers: &mpsc::SyncSender<(usize, Frame)>,
    ) -> Result<(), ContentError> {
        if !self.open.contains(&frame.digest()) {
            return Ok(());
        }
        while let Ok(prepared) = self.prepared.try_recv() {
            self.take(prepared)?;
        }
        while self.sent - self.accepted >= FRAMES_ON_THEIR_WAY_MAX {
            self.wait()?;
        }
        if to_workers.send((self.sent, frame)).is_err() {
            return Err(ContentError::Cancelled);
        }
        self.sent += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ContentError> {
        while self.accepted < self.sent {
            self.wait()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), ContentError> {
        match self.prepared.recv() {
            Ok(prepared) => self.take(prepared),
            // Only a panic ends all workers early; the scope passes it on.
            Err(mpsc::RecvError) => Err(ContentError::Cancelled),
        }
    }

    fn take(&mut self, (place, digest, result): Prepared<T>) -> Result<(), ContentError> {
        self.early.insert(place, (digest, result?));
        while let Some((digest, prepared)) = self.early.remove(&self.accepted) {
            self.accepted += 1;
            let Some(prepared) = prepared else {
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
