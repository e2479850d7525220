//! Places chunks come from, and how several are asked in turn.
//!
//! Sources promise nothing: what they hand over is checked by whoever uses it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tracing::warn;
use wire::digest::Digest;
use wire::event::ContentBytes;

use crate::buffer::Buffer;
use crate::error::{ContentError, chain};
use crate::frame::Frame;
use crate::manifest::ChunkRef;
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

    /// Whether asking it for this chunk is cheaper than looking whether the chunk is needed: it is at hand, or comes by
    /// anyway. Sources that would have to ask somewhere say no.
    fn has(&self, digest: &Digest) -> bool {
        let _ = digest;
        false
    }

    /// Learns that a chunk it handed over is sound, and is going to be used.
    ///
    /// # Errors
    /// If it can't do with it what it is there for; whatever the chunks are fetched for then ends with this error.
    fn sound(&self, frame: &Frame) -> Result<(), ContentError> {
        let _ = frame;
        Ok(())
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

/// A run ends with the chunk that makes it so long: what is written in one go should be long, and what is unpacked should
/// stay in the processor's cache until it is written.
const RUN_BYTES: usize = 1 << 20;

/// How many runs are on their way at once, from being read to being accepted: at most 48 MiB packed, and enough that no core
/// waits.
const RUNS_ON_THEIR_WAY_MAX: usize = 24;

/// Chunks that came one behind the other, whose bytes were checked.
pub(crate) struct Run<'a> {
    /// Each chunk, and where its bytes lie in `bytes`: one behind the other.
    pub(crate) chunks: &'a [(Digest, Range<usize>)],
    /// In memory that disks can write from.
    pub(crate) bytes: &'a [u8],
}

/// Bytes of a run that follow each other in the stream of a manifest, too.
pub(crate) struct Stretch {
    /// Which chunk of the run comes first.
    pub(crate) chunk: usize,
    /// Which place in the manifest that is.
    pub(crate) place: usize,
    /// Where they lie in the run.
    pub(crate) bytes: Range<usize>,
}

impl Run<'_> {
    /// What belongs to all places of all chunks. Of chunks with several places the first one counts for what follows what.
    ///
    /// # Errors
    /// If a chunk has another length than the manifest says.
    pub(crate) fn stretches(
        &self,
        manifest: &[ChunkRef],
        places: &HashMap<Digest, Vec<usize>>,
    ) -> Result<Vec<Stretch>, ContentError> {
        let mut stretches = Vec::new();
        let mut last: Option<(Stretch, usize)> = None;
        for (chunk, (digest, bytes)) in self.chunks.iter().enumerate() {
            let places = places.get(digest).map_or(&[][..], Vec::as_slice);
            for (number, place) in places.iter().enumerate() {
                manifest[*place].check_length(&self.bytes[bytes.clone()])?;
                let new = Stretch {
                    chunk,
                    place: *place,
                    bytes: bytes.clone(),
                };
                if number > 0 {
                    stretches.push(new);
                    continue;
                }
                match &mut last {
                    Some((stretch, next)) if next == place && stretch.bytes.end == bytes.start => {
                        stretch.bytes.end = bytes.end;
                        *next += 1;
                    }
                    _ => stretches.extend(last.replace((new, place + 1)).map(|(ended, _)| ended)),
                }
            }
        }
        stretches.extend(last.map(|(ended, _)| ended));
        Ok(stretches)
    }
}

/// What is done, on any core, with checked chunks; answers something for each.
pub(crate) type Prepare<'a, T> = dyn Fn(&Run<'_>) -> Result<Vec<T>, ContentError> + Sync + 'a;

/// What is done, on any core, with frames that aren't checked yet; answers something for each, `None` if it is damaged.
type Check<'a, T> =
    dyn Fn(&[Frame], &mut Buffer) -> Result<Vec<Option<T>>, ContentError> + Sync + 'a;

/// Takes a chunk, what came of preparing it, and where it came from.
pub(crate) type Accept<'a, T> = dyn FnMut(&Frame, T, SourceKind) -> Result<(), ContentError> + 'a;

/// Fetches `wanted` (each once) from `sources` in order, each asked for what the ones before
/// did not have. While one thread reads, `prepare` runs on all cores and gets the checked bytes of some chunks; `accept`
/// gets each frame and what came of it, one after the other and in the order the source had. Here only `network_packed` is counted:
/// how often a chunk is used is known to the caller.
///
/// Returns the chunks nobody had, and what went wrong with the last source that failed.
pub(crate) fn fetch<T: Send>(
    sources: &[&dyn ChunkSource],
    wanted: &[Digest],
    counts: &mut ContentBytes,
    prepare: &Prepare<'_, T>,
    accept: &mut Accept<'_, T>,
) -> Result<Rest, ContentError> {
    let check = |frames: &[Frame], memory: &mut Buffer| unpack_and_prepare(frames, memory, prepare);
    fetch_with(sources, wanted, counts, &check, accept)
}

/// The same for frames that are kept as they are: what a signed table names isn't unpacked.
pub(crate) fn fetch_packed(
    sources: &[&dyn ChunkSource],
    wanted: &[Digest],
    counts: &mut ContentBytes,
    accept: &mut Accept<'_, ()>,
) -> Result<Rest, ContentError> {
    fetch_with(sources, wanted, counts, &check_packed, accept)
}

/// The chunks nobody had, and what went wrong with the last source that failed.
pub(crate) type Rest = (Vec<Digest>, Option<ContentError>);

fn fetch_with<T: Send>(
    sources: &[&dyn ChunkSource],
    wanted: &[Digest],
    counts: &mut ContentBytes,
    check: &Check<'_, T>,
    accept: &mut Accept<'_, T>,
) -> Result<Rest, ContentError> {
    let mut open: HashSet<Digest> = wanted.iter().copied().collect();
    let mut last_error = None;
    for source in sources {
        if open.is_empty() {
            break;
        }
        let ask = still_open(wanted, &open);
        match fetch_from(*source, &ask, &mut open, counts, check, accept)? {
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

/// Fetches from one source. The outer error is one of our own, the inner one is the source's.
fn fetch_from<T: Send>(
    source: &dyn ChunkSource,
    ask: &[Digest],
    open: &mut HashSet<Digest>,
    counts: &mut ContentBytes,
    check: &Check<'_, T>,
    accept: &mut Accept<'_, T>,
) -> Result<Result<(), ContentError>, ContentError> {
    let mut wanted: HashSet<Digest> = ask.iter().copied().collect();
    let begin = || {
        // Kept from run to run: fresh memory costs more than unpacking into memory that is warm.
        let mut memory = Buffer::default();
        move |frames: Vec<Frame>| {
            let checked = check(&frames, &mut memory);
            (frames, checked)
        }
    };
    let mut accept = |(frames, checked): (Vec<Frame>, Result<Vec<Option<T>>, ContentError>)| {
        for (frame, prepared) in frames.iter().zip(checked?) {
            let digest = frame.digest();
            let Some(prepared) = prepared else {
                warn!("chunk {digest} came damaged; asking the next source");
                source.damaged(&digest);
                continue;
            };
            open.remove(&digest);
            source.sound(frame)?;
            accept(frame, prepared, source.kind())?;
        }
        Ok(())
    };
    let workers = parallel::workers().min(ask.len());
    parallel::in_line(workers, RUNS_ON_THEIR_WAY_MAX, begin, &mut accept, |line| {
        // An error of our own must not be taken for one of the source.
        let mut own_error = None;
        let mut run = Vec::new();
        let mut run_bytes = 0;
        let mut sink = |frame: Frame| {
            if source.kind() == SourceKind::Network {
                counts.network_packed += frame.sent_bytes();
            }
            // Once: whoever writes counts what it was given.
            if !wanted.remove(&frame.digest()) {
                return Ok(());
            }
            run_bytes += frame.raw_bytes() as usize;
            run.push(frame);
            if run_bytes < RUN_BYTES {
                return Ok(());
            }
            run_bytes = 0;
            line.send(std::mem::take(&mut run)).map_err(|error| {
                own_error = Some(error);
                ContentError::Cancelled
            })
        };
        // While the source is asked for the next ones, work on these goes on.
        let mut asks = ask.chunks(WANTED_MAX);
        let result = asks.try_for_each(|ask| source.fetch(ask, &mut sink));
        if let Some(error) = own_error {
            return Err(error);
        }
        // What came before the source failed is of use, too.
        if !run.is_empty() {
            line.send(run)?;
        }
        Ok(result)
    })
}

/// Unpacks frames one behind the other and has them prepared; `None` for each that is damaged.
fn unpack_and_prepare<T>(
    frames: &[Frame],
    memory: &mut Buffer,
    prepare: &Prepare<'_, T>,
) -> Result<Vec<Option<T>>, ContentError> {
    memory.resize(frames.iter().map(|frame| frame.raw_bytes() as usize).sum())?;
    let mut chunks = Vec::with_capacity(frames.len());
    let mut is_sound = Vec::with_capacity(frames.len());
    let mut end = 0;
    for frame in frames {
        let range = end..end + frame.raw_bytes() as usize;
        is_sound.push(frame.unpack_to(&mut memory[range.clone()]).is_ok());
        if is_sound.last() == Some(&true) {
            end = range.end;
            chunks.push((frame.digest(), range));
        }
    }
    let bytes = &memory[..end];
    let mut prepared = prepare(&Run {
        chunks: &chunks,
        bytes,
    })?
    .into_iter();
    let of = |is_sound: bool| is_sound.then(|| prepared.next()).flatten();
    Ok(is_sound.into_iter().map(of).collect())
}

/// Checks frames without handing on what is in them.
fn check_packed(frames: &[Frame], memory: &mut Buffer) -> Result<Vec<Option<()>>, ContentError> {
    let check = |frame: &Frame| {
        if frame.is_signed() {
            return Ok(Some(()));
        }
        memory.resize(frame.raw_bytes() as usize)?;
        Ok(frame.unpack_to(memory).is_ok().then_some(()))
    };
    frames.iter().map(check).collect()
}
