//! Makes patches.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek, Write};

use wire::digest::Digest;

use super::bases::Bases;
use super::{PATCHED_MANIFEST_BYTES_MAX, PatchHead, TABLE_BYTES_MAX, pack, read_all, sum};
use crate::error::ContentError;
use crate::library::Library;
use crate::manifest::Manifest;
use crate::manifest::bytes::put_count;
use crate::meter::{Meter, Tally};

/// As much is made at once, and from as much. Larger parts shrink no better, as fewer of their chunks have a base in them.
const MADE_BYTES: u64 = 4 << 20;
const BASE_BYTES: u64 = 16 << 20;

/// Some new chunks that are made together, by their places in the new manifest.
type Group = Vec<u32>;

/// Writes the patch that leads from one manifest of a library to another.
pub(crate) fn write(
    library: &Library,
    from: &Digest,
    to: &Digest,
    file: &mut File,
    meter: &dyn Meter,
) -> Result<(), ContentError> {
    let (old_bytes, new_bytes) = (manifest_bytes(library, from)?, manifest_bytes(library, to)?);
    let (old, new) = (Manifest::decode(&old_bytes)?, Manifest::decode(&new_bytes)?);
    let mut tally = Tally::new(meter, old.content_bytes() + new.content_bytes());
    let bases = Bases::read(library, &old, &new, &mut tally)?;
    let failed = || ContentError::stream("write a patch");
    let mut parts = tempfile::tempfile().map_err(failed())?;
    let (mut count, mut table) = (0, Vec::new());
    for group in groups(&old, &new) {
        let made: Vec<_> = (group.iter())
            .map(|place| new.chunks()[*place as usize])
            .collect();
        let raw = read_all(library, &made)?;
        let chosen = bases.of(&made, &raw, BASE_BYTES);
        let base: Vec<_> = (chosen.iter())
            .map(|place| old.chunks()[*place as usize])
            .collect();
        let packed = pack(&raw, &read_all(library, &base)?)?;
        let frames = made
            .iter()
            .filter_map(|chunk| library.frame_bytes(&chunk.digest));
        let entry_bytes = 4 * (3 + group.len() + chosen.len());
        // What is no cheaper is fetched as it is.
        if ((packed.len() + entry_bytes) as u64) < frames.sum::<u64>()
            && table.len() + entry_bytes + 4 < TABLE_BYTES_MAX
        {
            put_count(&mut table, packed.len());
            put_places(&mut table, &group);
            put_places(&mut table, &chosen);
            parts.write_all(&packed).map_err(failed())?;
            count += 1;
        }
        tally.add(sum(&made))?;
    }
    let mut counted = Vec::new();
    put_count(&mut counted, count);
    counted.append(&mut table);
    let manifest_packed = pack(&new_bytes, &old_bytes)?;
    let table_packed = pack(&counted, &[])?;
    let head = PatchHead {
        from: *from,
        to: *to,
        manifest_bytes: new_bytes.len(),
        manifest_packed: manifest_packed.len(),
        table_bytes: counted.len(),
        table_packed: table_packed.len(),
    };
    for bytes in [head.encode(), manifest_packed, table_packed] {
        file.write_all(&bytes).map_err(failed())?;
    }
    parts.rewind().map_err(failed())?;
    io::copy(&mut parts, file).map_err(failed())?;
    Ok(())
}

fn manifest_bytes(library: &Library, digest: &Digest) -> Result<Vec<u8>, ContentError> {
    let bytes = library.manifest_bytes(digest)?;
    let bytes = bytes.ok_or(ContentError::MissingManifest { digest: *digest })?;
    if bytes.len() > PATCHED_MANIFEST_BYTES_MAX {
        return Err(ContentError::TooMuch {
            what: "bytes in a manifest that a patch leads from or to",
            limit: PATCHED_MANIFEST_BYTES_MAX as u64,
        });
    }
    Ok(bytes)
}

fn put_places(table: &mut Vec<u8>, places: &[u32]) {
    put_count(table, places.len());
    for place in places {
        table.extend_from_slice(&place.to_le_bytes());
    }
}

/// The chunks that only the new manifest has, each once and in order.
fn groups(old: &Manifest, new: &Manifest) -> Vec<Group> {
    let mut seen: HashSet<Digest> = old.chunks().iter().map(|chunk| chunk.digest).collect();
    let mut groups: Vec<Group> = Vec::new();
    let mut left = 0;
    for (place, chunk) in (0..).zip(new.chunks()) {
        if !seen.insert(chunk.digest) {
            continue;
        }
        let bytes = u64::from(chunk.bytes);
        match groups.last_mut() {
            Some(group) if bytes <= left => group.push(place),
            _ => {
                groups.push(vec![place]);
                left = MADE_BYTES;
            }
        }
        left = left.saturating_sub(bytes);
    }
    groups
}
