//! Makes a volume equal to a filesystem image.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use wire::digest::Digest;
use wire::event::ContentBytes;

use super::{by_digest, missing, offsets};
use crate::capture::is_zero;
use crate::error::ContentError;
use crate::manifest::{ChunkRef, Extent, Image, Manifest};
use crate::meter::{Meter, Tally};
use crate::parallel;
use crate::source::{self, ChunkSource, WANTED_MAX};

/// How many chunks of the target are read at once, on all cores.
const READ_CHUNKS: usize = 64;
/// Zeros are written in blocks of this.
const BLOCK: usize = 4096;
/// Holes are read in steps of this.
const HOLE_STEP_BYTES: u64 = 1 << 20;
/// How many such steps are done at once, on all cores; then the meter is asked whether to stop.
const HOLE_STEPS: usize = 64;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
    let image = manifest.image()?;
    check_length(image, target)?;
    let chunks = manifest.chunks();
    let work = Work {
        image,
        target,
        chunks,
        offsets: offsets(chunks),
    };
    let mut counts = ContentBytes::default();
    let mut tally = Tally::new(meter, manifest.content_bytes());
    let mut differing = Vec::new();
    let indexes: Vec<usize> = (0..chunks.len()).collect();
    for batch in indexes.chunks(READ_CHUNKS) {
        for (index, is_equal) in batch
            .iter()
            .zip(parallel::map(batch, |index| work.is_equal(*index)))
        {
            if is_equal? {
                counts.unchanged += u64::from(chunks[*index].bytes);
                tally.add(u64::from(chunks[*index].bytes))?;
            } else {
                differing.push(*index);
            }
        }
        tally.check()?;
        if differing.len() + READ_CHUNKS > WANTED_MAX {
            work.write(
                &std::mem::take(&mut differing),
                sources,
                &mut counts,
                &mut tally,
            )?;
        }
    }
    work.write(&differing, sources, &mut counts, &mut tally)?;
    zero_holes(image, target, &tally)?;
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
    let image = manifest.image()?;
    check_length(image, target)?;
    let chunks = manifest.chunks();
    let work = Work {
        image,
        target,
        chunks,
        offsets: offsets(chunks),
    };
    let mut tally = Tally::new(meter, manifest.content_bytes());
    let mut first = None;
    let indexes: Vec<usize> = (0..chunks.len()).collect();
    for batch in indexes.chunks(READ_CHUNKS) {
        for (index, is_equal) in batch
            .iter()
            .zip(parallel::map(batch, |index| work.is_equal(*index)))
        {
            if !is_equal? && first.is_none() {
                first = work.pieces(*index).next().map(|piece| piece.offset);
            }
            tally.add(u64::from(chunks[*index].bytes))?;
        }
        if first.is_some() {
            break;
        }
    }
    let before = first.unwrap_or(u64::MAX);
    for steps in hole_steps(image).chunks(HOLE_STEPS) {
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

struct Work<'a> {
    image: &'a Image,
    target: &'a File,
    chunks: &'a [ChunkRef],
    offsets: Vec<u64>,
}

impl Work<'_> {
    fn pieces(&self, index: usize) -> impl Iterator<Item = Extent> {
        self.image
            .pieces(self.offsets[index], u64::from(self.chunks[index].bytes))
    }

    /// Whether the target has this chunk in its place already.
    fn is_equal(&self, index: usize) -> Result<bool, ContentError> {
        let chunk = &self.chunks[index];
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(chunk.bytes as usize, 0);
            let mut rest = buffer.as_mut_slice();
            for piece in self.pieces(index) {
                let (part, after) = rest.split_at_mut(
                    usize::try_from(piece.bytes)
                        .unwrap_or(usize::MAX)
                        .min(rest.len()),
                );
                self.target
                    .read_exact_at(part, piece.offset)
                    .map_err(ContentError::stream("read the target"))?;
                rest = after;
            }
            Ok(Digest::of(buffer) == chunk.digest)
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
            &|frame, raw| {
                let places = places.get(&frame.digest()).map_or(&[][..], Vec::as_slice);
                for index in places {
                    self.write_chunk(*index, &raw)?;
                }
                Ok(raw.len() as u64 * places.len() as u64)
            },
            &mut |bytes, kind| {
                source::count(counts, kind, bytes);
                tally.add(bytes)
            },
        );
        *counts += fetched;
        let (open, error) = result?;
        missing(self.chunks, &self.offsets, &open, error)
    }

    fn write_chunk(&self, index: usize, raw: &[u8]) -> Result<(), ContentError> {
        if raw.len() != self.chunks[index].bytes as usize {
            let rule = "its length is not the one in the manifest";
            return Err(ContentError::DamagedChunk {
                digest: self.chunks[index].digest,
                rule,
            });
        }
        let mut rest = raw;
        for piece in self.pieces(index) {
            let (part, after) = rest.split_at(
                usize::try_from(piece.bytes)
                    .unwrap_or(usize::MAX)
                    .min(rest.len()),
            );
            self.target
                .write_all_at(part, piece.offset)
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
    let mut steps = Vec::new();
    for hole in image.holes() {
        let (mut offset, end) = (hole.offset, hole.offset + hole.bytes);
        while offset < end {
            let bytes = (end - offset).min(HOLE_STEP_BYTES);
            steps.push(Extent { offset, bytes });
            offset += bytes;
        }
    }
    steps
}

/// Holes must read as zeros, whatever was on the disk before.
fn zero_holes(image: &Image, target: &File, tally: &Tally<'_>) -> Result<(), ContentError> {
    for steps in hole_steps(image).chunks(HOLE_STEPS) {
        parallel::map(steps, |step| zero(target, *step))
            .into_iter()
            .collect::<Result<(), _>>()?;
        tally.check()?;
    }
    Ok(())
}

fn read_step(target: &File, step: Extent, buffer: &mut Vec<u8>) -> Result<(), ContentError> {
    buffer.resize(usize::try_from(step.bytes).unwrap_or(0), 0);
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
