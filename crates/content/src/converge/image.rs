//! Makes a volume equal to a filesystem image.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, SeekFrom, seek};
use rustix::io::Errno;
use tracing::warn;
use wire::digest::Digest;
use wire::event::ContentBytes;

use super::flush::while_flushing;
use super::volume::Volume;
use super::{by_digest, missing, offsets};
use crate::buffer::Buffer;
use crate::capture::is_zero;
use crate::error::ContentError;
use crate::manifest::{ChunkRef, Extent, Image, Manifest};
use crate::meter::{Meter, Tally};
use crate::parallel;
use crate::source::{self, ChunkSource, Run};

/// Chunks that follow each other are read at once, until they make up so much: where files are small, so are chunks, and
/// many small reads take several times as long.
const RUN_BYTES: u64 = 2 << 20;
/// How many runs of the target are read ahead of what is judged, on all cores.
const LOOKS_AHEAD: usize = 16;
/// How many chunks that differ are written at once: few pauses, and still early enough that a cut leaves little to do again.
const WRITE_CHUNKS: usize = 4096;
/// Zeros are written in blocks of this.
const BLOCK: usize = 4096;
/// Holes are read in steps of this.
const HOLE_STEP_BYTES: u64 = 1 << 20;
/// Shorter holes are read: asking the disk costs more.
const PUNCH_BYTES_MIN: u64 = 256 << 10;
/// How many such steps are done at once, on all cores; then the meter is asked whether to stop.
const HOLE_STEPS: usize = 64;

/// How often it is asked whether to stop while only zeroing goes on.
const STOP_CHECKED_EVERY: Duration = Duration::from_millis(200);

thread_local! {
    static BUFFER: RefCell<Buffer> = RefCell::new(Buffer::default());
}

/// Makes `target` (a block device or file, at least `image_bytes` long) equal to the image: reads what is there, writes
/// only what differs, holes as zeros where the target isn't zero already; then syncs and returns the counts.
/// `sources` are asked in order, each for what the ones before did not have.
///
/// # Errors
/// If the manifest is of a tree, the target is too small, can't be read or written, no source has a chunk, or the meter
/// says stop. The target is then partly converted, and converging again goes on.
pub fn converge_image(
    manifest: &Manifest,
    target: &File,
    sources: &[&dyn ChunkSource],
    meter: &dyn Meter,
) -> Result<ContentBytes, ContentError> {
    let work = Work::new(manifest, target)?;
    let mut tally = Tally::new(meter, manifest.content_bytes());
    let counts = while_flushing(
        || target.sync_data(),
        || work.converge_and_zero(sources, &mut tally),
    )?;
    target
        .sync_all()
        .map_err(ContentError::stream("sync the target"))?;
    Ok(counts)
}

/// Compares without writing: the first difference between `target` and the image, as an offset; `None` if equal.
///
/// Within the content a difference is known to the chunk, within holes to the byte.
///
/// # Errors
/// If the manifest is of a tree, the target is too small or can't be read, or the meter says stop.
pub fn compare_image(
    manifest: &Manifest,
    target: &File,
    meter: &dyn Meter,
) -> Result<Option<u64>, ContentError> {
    let work = Work::new(manifest, target)?;
    let mut tally = Tally::new(meter, manifest.content_bytes());
    let mut first = None;
    for batch in work.runs().chunks(LOOKS_AHEAD) {
        for (run, are_equal) in batch
            .iter()
            .zip(parallel::map(batch, |run| work.are_equal(run)))
        {
            for (index, is_equal) in run.clone().zip(are_equal?) {
                if !is_equal && first.is_none() {
                    first = work.pieces(index).next().map(|piece| piece.offset);
                }
                tally.add(u64::from(work.chunks[index].bytes))?;
            }
        }
        if first.is_some() {
            break;
        }
    }
    let before = first.unwrap_or(u64::MAX);
    for steps in hole_steps(work.image).chunks(HOLE_STEPS) {
        for found in parallel::map(steps, |step| first_nonzero(target, *step)) {
            if let Some(offset) = found? {
                return Ok(Some(offset.min(before)));
            }
        }
        tally.check()?;
        if steps.last().is_some_and(|step| step.offset >= before) {
            break;
        }
    }
    Ok(first)
}

/// Whether a run of the target is worth a look before it is written.
///
/// On a volume that holds something else altogether, reading it all first would take as long as writing. Once as many as
/// are looked at at once differed, only a few are looked at, until one of them is equal. What isn't looked at is written,
/// which is always right; so only runs whose chunks are at hand are left unlooked.
#[derive(Default)]
struct Looks {
    differed_since_equal: Cell<usize>,
    passed: Cell<usize>,
}

/// Where everything probably differs, one run in so many is looked at.
const LOOK_ONE_IN: usize = 16;

impl Looks {
    fn is_worth_it(&self, is_at_hand: impl Fn() -> bool) -> bool {
        if self.differed_since_equal.get() < LOOKS_AHEAD || !is_at_hand() {
            return true;
        }
        self.passed.set(self.passed.get() + 1);
        self.passed.get().is_multiple_of(LOOK_ONE_IN)
    }

    fn learn(&self, is_equal: bool) {
        let differed = self.differed_since_equal.get();
        self.differed_since_equal
            .set(if is_equal { 0 } else { differed + 1 });
    }
}

struct Work<'a> {
    image: &'a Image,
    target: &'a File,
    volume: Volume<'a>,
    chunks: &'a [ChunkRef],
    offsets: Vec<u64>,
}

impl<'a> Work<'a> {
    fn new(manifest: &'a Manifest, target: &'a File) -> Result<Self, ContentError> {
        let image = manifest.image()?;
        check_length(image, target)?;
        let chunks = manifest.chunks();
        Ok(Self {
            image,
            target,
            volume: Volume::new(target),
            chunks,
            offsets: offsets(chunks),
        })
    }

    /// Converges what isn't holes while the disk zeroes the holes, which takes it time and us next to none. What it can't zero by
    /// itself is zeroed by hand afterwards: that goes through the page cache, which must not be used beside direct writes.
    ///
    /// Zeroing begins once the start of the volume is what it should be or something was written: as long as content may
    /// turn out to be missing, a volume that holds something else stays as it is.
    fn converge_and_zero(
        &self,
        sources: &[&dyn ChunkSource],
        tally: &mut Tally<'_>,
    ) -> Result<ContentBytes, ContentError> {
        let is_stopped = AtomicBool::new(false);
        let (begin, begun) = mpsc::channel::<()>();
        let (done, wait) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let zeroing = scope.spawn(|| {
                let (begun, _done) = (begun, done);
                // Without a word all is converged, or nothing is going to be.
                let _begun = begun.recv();
                punch_holes(self.image, self.target, &is_stopped)
            });
            let result = self.converge(sources, tally, &|| {
                // Once is enough, and more are no harm.
                let _sent = begin.send(());
            });
            is_stopped.store(result.is_err(), Ordering::Relaxed);
            drop(begin);
            let result = result.and_then(|counts| {
                while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(STOP_CHECKED_EVERY) {
                    tally.check()?;
                }
                Ok(counts)
            });
            is_stopped.store(result.is_err(), Ordering::Relaxed);
            let by_hand = zeroing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let counts = result?;
            zero_by_hand(self.target, &by_hand?, tally)?;
            Ok(counts)
        })
    }

    /// Compares and writes, from the start of the stream to its end.
    fn converge(
        &self,
        sources: &[&dyn ChunkSource],
        tally: &mut Tally<'_>,
        is_well_begun: &dyn Fn(),
    ) -> Result<ContentBytes, ContentError> {
        let counts = RefCell::new(ContentBytes::default());
        let tally = RefCell::new(tally);
        let differing = RefCell::new(Vec::new());
        let looks = Looks::default();
        let mut accept = |(run, are_equal): (Range<usize>, Result<Vec<bool>, ContentError>)| {
            let are_equal = are_equal?;
            looks.learn(are_equal.contains(&true));
            if run.start == 0 && !are_equal.contains(&false) {
                is_well_begun();
            }
            for (index, is_equal) in run.zip(are_equal) {
                if is_equal {
                    let bytes = u64::from(self.chunks[index].bytes);
                    counts.borrow_mut().unchanged += bytes;
                    tally.borrow_mut().add(bytes)?;
                } else {
                    differing.borrow_mut().push(index);
                }
            }
            tally.borrow().check()
        };
        let write = || {
            let mut indexes = std::mem::take(&mut *differing.borrow_mut());
            indexes.sort_unstable();
            let (mut counts, mut tally) = (counts.borrow_mut(), tally.borrow_mut());
            self.write(&indexes, sources, &mut counts, &mut tally)?;
            if !indexes.is_empty() {
                is_well_begun();
            }
            Ok::<_, ContentError>(())
        };
        parallel::in_line(
            parallel::workers(),
            LOOKS_AHEAD,
            || |run: Range<usize>| (run.clone(), self.are_equal(&run)),
            &mut accept,
            |line| {
                for run in self.runs() {
                    let has = |index: usize| {
                        let digest = &self.chunks[index].digest;
                        sources.iter().any(|source| source.has(digest))
                    };
                    if looks.is_worth_it(|| run.clone().all(has)) {
                        line.send(run)?;
                    } else {
                        differing.borrow_mut().extend(run);
                    }
                    if differing.borrow().len() >= WRITE_CHUNKS {
                        // All in their order: a medium is read from front to back, and what has gone by takes another round.
                        line.settle()?;
                        write()?;
                    }
                }
                Ok(())
            },
        )?;
        write()?;
        Ok(counts.into_inner())
    }

    fn pieces(&self, index: usize) -> impl Iterator<Item = Extent> {
        self.image
            .pieces(self.offsets[index], u64::from(self.chunks[index].bytes))
    }

    /// All chunks, in runs that are read at once.
    fn runs(&self) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut first = 0;
        for (index, chunk) in self.chunks.iter().enumerate() {
            let end = self.offsets[index] + u64::from(chunk.bytes);
            if end - self.offsets[first] >= RUN_BYTES || index + 1 == self.chunks.len() {
                runs.push(first..index + 1);
                first = index + 1;
            }
        }
        runs
    }

    /// Which chunks of a run the target has in their places already.
    fn are_equal(&self, run: &Range<usize>) -> Result<Vec<bool>, ContentError> {
        let chunks = &self.chunks[run.clone()];
        let bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            let mut rest = &mut buffer[..];
            for piece in self.image.pieces(self.offsets[run.start], bytes) {
                let (part, after) = rest.split_at_mut(
                    usize::try_from(piece.bytes)
                        .unwrap_or(usize::MAX)
                        .min(rest.len()),
                );
                self.volume
                    .read(part, piece.offset)
                    .map_err(ContentError::stream("read the target"))?;
                rest = after;
            }
            let mut rest = &buffer[..];
            let is_equal = |chunk: &ChunkRef| {
                let (raw, after) = rest.split_at((chunk.bytes as usize).min(rest.len()));
                rest = after;
                Digest::of(raw) == chunk.digest
            };
            Ok(chunks.iter().map(is_equal).collect())
        })
    }

    /// Fetches these chunks and writes them to their places.
    fn write(
        &self,
        indexes: &[usize],
        sources: &[&dyn ChunkSource],
        counts: &mut ContentBytes,
        tally: &mut Tally<'_>,
    ) -> Result<(), ContentError> {
        let (wanted, places) = by_digest(self.chunks, indexes);
        let mut fetched = ContentBytes::default();
        let result = source::fetch(
            sources,
            &wanted,
            &mut fetched,
            &|run| self.write_run(run, &places),
            &mut |_, bytes, kind| {
                source::count(counts, kind, bytes);
                tally.add(bytes)
            },
        );
        *counts += fetched;
        let (open, error) = result?;
        missing(self.chunks, &self.offsets, &open, error)
    }

    /// Writes chunks to all their places, those that follow each other at once, and tells how many bytes that was.
    fn write_run(
        &self,
        run: &Run<'_>,
        places: &HashMap<Digest, Vec<usize>>,
    ) -> Result<Vec<u64>, ContentError> {
        let mut written = vec![0; run.chunks.len()];
        for stretch in run.stretches(self.chunks, places)? {
            self.write_stretch(stretch.place, &run.bytes[stretch.bytes.clone()])?;
            written[stretch.chunk] += stretch.bytes.len() as u64;
        }
        Ok(written)
    }

    /// Writes what belongs to the place of a chunk and to those behind it.
    fn write_stretch(&self, index: usize, bytes: &[u8]) -> Result<(), ContentError> {
        let mut rest = bytes;
        for piece in self.image.pieces(self.offsets[index], bytes.len() as u64) {
            let (part, after) = rest.split_at(
                usize::try_from(piece.bytes)
                    .unwrap_or(usize::MAX)
                    .min(rest.len()),
            );
            self.volume
                .write(part, piece.offset)
                .map_err(ContentError::stream("write the target"))?;
            rest = after;
        }
        Ok(())
    }
}

fn check_length(image: &Image, target: &File) -> Result<(), ContentError> {
    let available = seek(target, SeekFrom::End(0))
        .map_err(|error| ContentError::stream("tell the length of the target")(error.into()))?;
    let needed = image.image_bytes();
    if available < needed {
        Err(ContentError::TargetTooSmall { needed, available })
    } else {
        Ok(())
    }
}

fn hole_steps(image: &Image) -> Vec<Extent> {
    image.holes().flat_map(steps).collect()
}

fn steps(hole: Extent) -> impl Iterator<Item = Extent> {
    (0..hole.bytes.div_ceil(HOLE_STEP_BYTES)).map(move |step| Extent {
        offset: hole.offset + step * HOLE_STEP_BYTES,
        bytes: HOLE_STEP_BYTES.min(hole.bytes - step * HOLE_STEP_BYTES),
    })
}

/// Holes must read as zeros, whatever was on the disk before.
///
/// Files and most disks can be told so for a whole hole at once, see [`punch`]. The others are returned, in short steps.
fn punch_holes(
    image: &Image,
    target: &File,
    is_stopped: &AtomicBool,
) -> Result<Vec<Extent>, ContentError> {
    let mut by_hand = Vec::new();
    let mut is_trusted = true;
    for hole in image.holes() {
        if is_stopped.load(Ordering::Relaxed) {
            return Err(ContentError::Cancelled);
        }
        if is_trusted && hole.bytes >= PUNCH_BYTES_MIN {
            is_trusted = punch(target, hole);
            if is_trusted && samples_are_zero(target, hole)? {
                continue;
            }
            if is_trusted {
                warn!(
                    "the disk said that it zeroed a stretch, and did not; all zeros are written by hand"
                );
                is_trusted = false;
                // What it said before is worth nothing either.
                by_hand = image
                    .holes()
                    .take_while(|before| before.offset < hole.offset)
                    .flat_map(steps)
                    .collect();
            }
        }
        by_hand.extend(steps(hole));
    }
    Ok(by_hand)
}

/// Reads what is there, and writes zeros where it isn't zero.
fn zero_by_hand(target: &File, holes: &[Extent], tally: &Tally<'_>) -> Result<(), ContentError> {
    for steps in holes.chunks(HOLE_STEPS) {
        parallel::map(steps, |step| zero(target, *step))
            .into_iter()
            .collect::<Result<(), _>>()?;
        tally.check()?;
    }
    Ok(())
}

/// Asks the disk (or the filesystem below) to zero a stretch without being sent zeros. `false` if it can't.
///
/// Punching a hole into a block device is "write zeroes" to Linux, which a driver only offers where the disk promises that
/// the stretch reads as zeros afterwards. It is not a discard: after one, a disk may hand out whatever it likes, old
/// content among it. That would be the flag `NO_HIDE_STALE`, which is never given here.
fn punch(target: &File, hole: Extent) -> bool {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(target, flags, hole.offset, hole.bytes) {
        Ok(()) => true,
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => false,
        Err(error) => {
            // A disk that is really broken fails again when the zeros are written.
            warn!("zeroing a stretch at once failed ({error}); writing zeros instead");
            false
        }
    }
}

/// Whether a stretch reads as zeros at its start, in its middle and at its end: a disk that lies about zeroing is found out.
fn samples_are_zero(target: &File, hole: Extent) -> Result<bool, ContentError> {
    let last = hole.bytes - BLOCK as u64;
    let middle = last / 2 - last / 2 % BLOCK as u64;
    for at in [0, middle, last] {
        let sample = Extent {
            offset: hole.offset + at,
            bytes: BLOCK as u64,
        };
        if first_nonzero(target, sample)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_step(target: &File, step: Extent, buffer: &mut Buffer) -> Result<(), ContentError> {
    buffer.resize(usize::try_from(step.bytes).unwrap_or(0))?;
    target
        .read_exact_at(buffer, step.offset)
        .map_err(ContentError::stream("read the target"))
}

fn zero(target: &File, step: Extent) -> Result<(), ContentError> {
    BUFFER.with_borrow_mut(|buffer| {
        read_step(target, step, buffer)?;
        let zeros = [0; BLOCK];
        let mut at = step.offset;
        for block in buffer.chunks(zeros.len()) {
            if !is_zero(block) {
                target
                    .write_all_at(&zeros[..block.len()], at)
                    .map_err(ContentError::stream("write the target"))?;
            }
            at += block.len() as u64;
        }
        Ok(())
    })
}

fn first_nonzero(target: &File, step: Extent) -> Result<Option<u64>, ContentError> {
    BUFFER.with_borrow_mut(|buffer| {
        read_step(target, step, buffer)?;
        if is_zero(buffer) {
            return Ok(None);
        }
        Ok(buffer
            .iter()
            .position(|byte| *byte != 0)
            .map(|at| step.offset + at as u64))
    })
}
