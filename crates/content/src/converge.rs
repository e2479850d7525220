//! Convergence: makes a target equal to a manifest, taking each chunk from the nearest place that has it.
//!
//! There is no other way to apply content. A cut at any moment is resumed by converging again. Nothing is written that
//! was not checked against its digest on the very buffer that is written.

pub(crate) mod flush;
pub(crate) mod image;
pub(crate) mod library;
pub(crate) mod tree;
mod tree_new;
mod tree_target;
mod tree_writer;
mod volume;

use std::collections::HashMap;

use wire::digest::Digest;

use crate::error::ContentError;
use crate::manifest::ChunkRef;

/// Where each chunk begins in the stream.
pub(crate) fn offsets(chunks: &[ChunkRef]) -> Vec<u64> {
    let mut next = 0;
    let begin = |chunk: &ChunkRef| {
        let offset = next;
        next += u64::from(chunk.bytes);
        offset
    };
    chunks.iter().map(begin).collect()
}

/// The error for the first chunk that nobody had.
fn missing(
    chunks: &[ChunkRef],
    offsets: &[u64],
    missing: &[Digest],
    source: Option<ContentError>,
) -> Result<(), ContentError> {
    let Some(digest) = missing.first() else {
        return Ok(());
    };
    let at = chunks.iter().position(|chunk| chunk.digest == *digest);
    let offset = at.and_then(|at| offsets.get(at)).copied().unwrap_or(0);
    Err(ContentError::MissingChunk {
        digest: *digest,
        offset,
        source: source.map(Box::new),
    })
}

/// The different digests among some chunks, in order, and where each is needed.
fn by_digest(chunks: &[ChunkRef], indexes: &[usize]) -> (Vec<Digest>, HashMap<Digest, Vec<usize>>) {
    let mut order = Vec::new();
    let mut places: HashMap<Digest, Vec<usize>> = HashMap::new();
    for index in indexes {
        let digest = chunks[*index].digest;
        let known = places.entry(digest).or_default();
        if known.is_empty() {
            order.push(digest);
        }
        known.push(*index);
    }
    (order, places)
}
