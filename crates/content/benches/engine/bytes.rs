//! How many bytes an update costs.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use content::Library;
use serde_json::{Value, json};
use wire::digest::Digest;

use crate::data::Data;
use crate::ours;

/// The bytes to fetch from one desktop image to the next, manifest included, beside the blocks that are really new.
pub(crate) fn update_image(data: &Data) -> Value {
    let folder = tempfile::tempdir_in(&data.kept).unwrap();
    let library =
        Library::open(folder.path().join("library").as_path().try_into().unwrap()).unwrap();
    let kept = |name: &str| data.kept.join(name).to_str().unwrap().to_owned();
    ours::capture(&kept("old.img"), &library);
    let before = library.stats();
    let digest = ours::capture(&kept("new.img"), &library);
    let after = library.stats();
    let manifest = library.manifest_bytes(&digest).unwrap().unwrap();
    let manifest_bytes = zstd::bulk::compress(&manifest, 3).unwrap().len() as u64;
    let ours = after.stored_bytes - before.stored_bytes + manifest_bytes;
    let ideal = new_blocks(&kept("old.img"), &kept("new.img"));
    json!({
        "name": "update-image",
        "unit": "bytes",
        "ours": ours,
        "manifest": manifest_bytes,
        "chunks": after.chunks - before.chunks,
        "peers": { "new-4k-blocks-zstd": { "bytes": ideal } },
    })
}

/// The blocks that `new` has and `old` hasn't, compressed together.
fn new_blocks(old: &str, new: &str) -> u64 {
    let mut known = HashSet::new();
    each_block(old, &mut |block| {
        known.insert(Digest::of(block));
    });
    let mut fresh = Vec::new();
    each_block(new, &mut |block| {
        if known.insert(Digest::of(block)) {
            fresh.extend_from_slice(block);
        }
    });
    zstd::bulk::compress(&fresh, 3).unwrap().len() as u64
}

fn each_block(path: &str, see: &mut dyn FnMut(&[u8])) {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let part = usize::try_from((length - at).min(buffer.len() as u64)).unwrap();
        file.read_exact_at(&mut buffer[..part], at).unwrap();
        buffer[..part].chunks(4096).for_each(&mut *see);
        at += part as u64;
    }
}
