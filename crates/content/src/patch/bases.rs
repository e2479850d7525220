//! Finds the old chunks that new ones are like.
//!
//! Two signs tell: pieces of about a kilobyte that both hold, wherever they lie (files move inside an image, and data inside
//! a file), and the place in the file of the same path, where programs differ a little everywhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fastcdc::v2020::FastCDC;
use wire::digest::Digest;

use super::read_all;
use crate::error::ContentError;
use crate::library::Library;
use crate::manifest::{ChunkRef, EntryKind, Manifest, Shape};
use crate::meter::Tally;

/// Shorter pieces find no more and take more memory: 16 bytes for each.
const PIECE_BYTES_AVERAGE: usize = 1 << 10;
/// As much as a lucky hit, say a license text, says nothing about a chunk.
const ALIKE_BYTES_MIN: usize = 2 << 10;
/// What the same place in the same file is worth, in bytes of equal pieces.
const SAME_PLACE_BYTES: usize = 16 << 10;
/// How far data may have moved inside a file and still be at the same place.
const MOVED_BYTES: u64 = 256 << 10;

/// What is known of the old content.
pub(super) struct Bases<'a> {
    chunks: &'a [ChunkRef],
    /// Where a piece comes first.
    pieces: HashMap<u64, u32>,
    /// Old chunks that lie where the new ones do, by the new one's digest.
    places: HashMap<Digest, BTreeSet<u32>>,
}

impl<'a> Bases<'a> {
    /// Reads all old chunks.
    pub(super) fn read(
        library: &Library,
        old: &'a Manifest,
        new: &Manifest,
        tally: &mut Tally<'_>,
    ) -> Result<Self, ContentError> {
        let mut pieces = HashMap::new();
        let mut seen = HashSet::new();
        for (place, chunk) in (0_u32..).zip(old.chunks()) {
            if seen.insert(chunk.digest) {
                let raw = read_all(library, std::slice::from_ref(chunk))?;
                each_piece(&raw, &mut |name, _| {
                    pieces.entry(name).or_insert(place);
                });
            }
            tally.add(u64::from(chunk.bytes))?;
        }
        Ok(Self {
            chunks: old.chunks(),
            pieces,
            places: same_places(old, new),
        })
    }

    /// The places in the old manifest of the chunks that `made`, whose bytes are `raw`, is most like: in order, and at most
    /// `bytes_max` of them.
    pub(super) fn of(&self, made: &[ChunkRef], raw: &[u8], bytes_max: u64) -> Vec<u32> {
        let mut alike: BTreeMap<u32, usize> = BTreeMap::new();
        let mut seen = HashSet::new();
        each_piece(raw, &mut |name, bytes| {
            if let Some(place) = self.pieces.get(&name)
                && seen.insert(name)
            {
                *alike.entry(*place).or_default() += bytes;
            }
        });
        for place in made
            .iter()
            .filter_map(|chunk| self.places.get(&chunk.digest))
            .flatten()
        {
            *alike.entry(*place).or_default() += SAME_PLACE_BYTES;
        }
        let mut ranked: Vec<(u32, usize)> = alike
            .into_iter()
            .filter(|(_, bytes)| *bytes >= ALIKE_BYTES_MIN)
            .collect();
        ranked.sort_by_key(|(_, bytes)| Reverse(*bytes));
        let mut left = bytes_max;
        let mut taken = HashSet::new();
        let mut chosen: Vec<u32> = (ranked.into_iter().map(|(place, _)| place))
            .filter(|place| {
                let chunk = &self.chunks[*place as usize];
                let fits = left.checked_sub(u64::from(chunk.bytes));
                // A chunk that comes several times is of use once.
                let is_taken = fits.is_some() && taken.insert(chunk.digest);
                if is_taken {
                    left = fits.unwrap_or(0);
                }
                is_taken
            })
            .collect();
        chosen.sort_unstable();
        chosen
    }
}

fn each_piece(raw: &[u8], see: &mut dyn FnMut(u64, usize)) {
    let least = PIECE_BYTES_AVERAGE / 4;
    for piece in FastCDC::new(raw, least, PIECE_BYTES_AVERAGE, PIECE_BYTES_AVERAGE * 4) {
        let digest = Digest::of(&raw[piece.offset..piece.offset + piece.length]);
        let mut name = [0; 8];
        name.copy_from_slice(&digest.as_bytes()[..8]);
        // Two pieces of the same name cost a little room in the patch, no more.
        see(u64::from_le_bytes(name), piece.length);
    }
}

/// Which old chunks hold what lay at about the same place of the same file, for each new chunk of a tree.
fn same_places(old: &Manifest, new: &Manifest) -> HashMap<Digest, BTreeSet<u32>> {
    let (old_files, new_files) = (files(old), files(new));
    let known: HashMap<&[u8], &File<'_>> = old_files.iter().map(|file| (file.path, file)).collect();
    let (old_offsets, old_end) = offsets(old.chunks());
    let mut places: HashMap<Digest, BTreeSet<u32>> = HashMap::new();
    let mut first = 0;
    let mut start = 0;
    for chunk in new.chunks() {
        let end = start + u64::from(chunk.bytes);
        while new_files.get(first).is_some_and(|file| file.end() <= start) {
            first += 1;
        }
        for file in new_files[first..]
            .iter()
            .take_while(|file| file.offset < end)
        {
            let Some(before) = known.get(file.path) else {
                continue;
            };
            let from = before.scaled(start.max(file.offset) - file.offset, file);
            let to = before.scaled(end.min(file.end()) - file.offset, file);
            let from = before.offset + from.saturating_sub(MOVED_BYTES);
            let to = (before.offset + to + MOVED_BYTES).min(before.end());
            let found = old_offsets.partition_point(|offset| *offset <= from);
            let overlapping = (found.saturating_sub(1)..old_offsets.len())
                .take_while(|place| old_offsets[*place] < to.min(old_end));
            let overlapping = overlapping.filter_map(|place| u32::try_from(place).ok());
            places.entry(chunk.digest).or_default().extend(overlapping);
        }
        start = end;
    }
    places
}

/// A file of a tree that isn't empty, and where it lies in the stream.
struct File<'a> {
    path: &'a [u8],
    offset: u64,
    bytes: u64,
}

impl File<'_> {
    fn end(&self) -> u64 {
        self.offset + self.bytes
    }

    /// As far into this file as `at` is into another one.
    fn scaled(&self, at: u64, other: &File<'_>) -> u64 {
        let scaled = u128::from(at) * u128::from(self.bytes) / u128::from(other.bytes);
        u64::try_from(scaled).unwrap_or(self.bytes)
    }
}

fn files(manifest: &Manifest) -> Vec<File<'_>> {
    let Shape::Tree(tree) = manifest.shape() else {
        return Vec::new();
    };
    let mut offset = 0;
    let file = |entry: &'_ crate::manifest::Entry| match entry.kind {
        EntryKind::File { bytes: 0, .. } => None,
        EntryKind::File { bytes, .. } => {
            offset += bytes;
            Some((offset - bytes, bytes))
        }
        _ => None,
    };
    let places: Vec<_> = tree.entries().iter().map(file).collect();
    (tree.entries().iter().zip(places))
        .filter_map(|(entry, place)| {
            place.map(|(offset, bytes)| File {
                path: entry.path.as_bytes(),
                offset,
                bytes,
            })
        })
        .collect()
}

/// Where each chunk begins in the stream, and where the last one ends.
fn offsets(chunks: &[ChunkRef]) -> (Vec<u64>, u64) {
    let offsets = crate::converge::offsets(chunks);
    (offsets, super::sum(chunks))
}
