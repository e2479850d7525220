//! Makes a library hold content.

use std::collections::HashSet;

use wire::digest::Digest;
use wire::event::ContentBytes;

use super::missing;
use crate::error::ContentError;
use crate::library::{Library, PackWriter};
use crate::manifest::{ChunkRef, Manifest};
use crate::meter::{Meter, Tally};
use crate::source::{self, ChunkSource};

/// Makes `library` hold every chunk of `manifests`.
///
/// What was fetched before an error is kept: the next attempt asks only for the rest.
///
/// # Errors
/// If no source has a chunk, the library can't be written, or the meter says stop.
pub fn converge_library(
    manifests: &[Manifest],
    library: &Library,
    sources: &[&dyn ChunkSource],
    meter: &dyn Meter,
) -> Result<ContentBytes, ContentError> {
    let mut seen = HashSet::new();
    let chunks: Vec<ChunkRef> = manifests
        .iter()
        .flat_map(Manifest::chunks)
        .copied()
        .collect();
    let chunks: Vec<ChunkRef> = chunks
        .into_iter()
        .filter(|chunk| seen.insert(chunk.digest))
        .collect();
    let offsets = super::offsets(&chunks);
    let mut tally = Tally::new(
        meter,
        chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum(),
    );
    let mut counts = ContentBytes::default();
    let mut wanted = Vec::new();
    for chunk in &chunks {
        if library.contains(&chunk.digest) {
            counts.unchanged += u64::from(chunk.bytes);
        } else {
            wanted.push(chunk.digest);
        }
    }
    tally.add(counts.unchanged)?;
    let mut writer = library.pack_writer()?;
    let result = add(&wanted, sources, &mut writer, &mut counts, &mut tally)
        .and_then(|(open, error)| missing(&chunks, &offsets, &open, error));
    let finished = writer.finish();
    result.and(finished)?;
    Ok(counts)
}

fn add(
    wanted: &[Digest],
    sources: &[&dyn ChunkSource],
    writer: &mut PackWriter<'_>,
    counts: &mut ContentBytes,
    tally: &mut Tally<'_>,
) -> Result<source::Rest, ContentError> {
    let mut fetched = ContentBytes::default();
    let result = source::fetch_packed(sources, wanted, &mut fetched, &mut |frame, (), kind| {
        let bytes = u64::from(frame.raw_bytes());
        writer.add_checked(frame)?;
        source::count(counts, kind, bytes);
        tally.add(bytes)
    });
    *counts += fetched;
    result
}
