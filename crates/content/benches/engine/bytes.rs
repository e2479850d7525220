//! How many bytes an update costs: everything that is sent to a device which has the old version, indexes included.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use camino::Utf8Path;
use content::{
    ChunkSource, ContentError, Frame, Library, Manifest, NoMeter, Patch, PatchSource, SourceKind,
    capture_image, capture_tree, converge_library,
};
use serde_json::{Map, Value, json};
use wire::digest::Digest;

use crate::data::Data;
use crate::race::{Ratio, result};

type Measure = fn(&str, &Data) -> Value;

/// All of them, by name.
pub(crate) const ALL: [(&str, Measure); 4] = [
    ("update-package", |name, data| {
        update_package(name, data, "usr/lib/jvm", 0.40, 1.1)
    }),
    ("update-package-security", |name, data| {
        update_package(name, data, ".", 0.30, 1.2)
    }),
    ("update-image", |name, data| {
        update_image(name, data, "ntfs")
    }),
    ("update-image-ext4", |name, data| {
        update_image(name, data, "img")
    }),
];

/// From one version of a tree to the next.
fn update_package(name: &str, data: &Data, below: &str, of_casync: f64, of_xdelta3: f64) -> Value {
    let tree = |version: &str| data.kept.join(format!("tree-{version}")).join(below);
    let ours = ours(data, &mut |library, version| {
        let mut writer = library.pack_writer().unwrap();
        let folder = tree(version);
        let manifest = capture_tree(utf8(&folder), &mut writer, &NoMeter).unwrap();
        writer.finish().unwrap();
        manifest
    });
    let mut sent = Map::new();
    let mut missing = Vec::new();
    let script = |script: &str| peer(data, below, script);
    let casync = "casync make --store=$O/s old.caidx $W/tree-old/$B >/dev/null; mv $O/s $O/before; mkdir $O/s
        casync make --store=$O/s --seed=$O/before new.caidx $W/tree-new/$B >/dev/null
        (cd $O/s; find . -name '*.cacnk' | while read -r f; do [ -e ../before/$f ] || stat -c %s $f; done; stat -c %s $O/new.caidx)";
    let xdelta3 = "for v in old new; do tar --sort=name -C $W/tree-$v/$B -c . > $v.tar; done
        xdelta3 -e -q -9 -B 2147483648 -s old.tar new.tar delta; stat -c %s delta";
    for (peer, text) in [("casync", casync), ("xdelta3", xdelta3)] {
        match script(&format!("command -v {peer} >/dev/null || exit 100; {text}")) {
            Some(bytes) => {
                sent.insert(peer.to_owned(), json!(bytes));
            }
            None => missing.push(peer),
        }
    }
    let ratios = [("casync", of_casync), ("xdelta3", of_xdelta3)];
    report(name, &ours, sent, &ratios, &missing)
}

/// From one image to the next, made again with everything in another place. What can't be avoided are the blocks that the
/// old one has nowhere.
fn update_image(name: &str, data: &Data, kind: &str) -> Value {
    let image = |version: &str| data.kept.join(format!("{version}.{kind}"));
    if !image("new").exists() {
        return json!({ "name": name, "missing": ["wimlib", "mkntfs"] });
    }
    let ours = ours(data, &mut |library, version| {
        let mut writer = library.pack_writer().unwrap();
        let image = File::open(image(version)).unwrap();
        let manifest = capture_image(&image, &mut writer, &NoMeter).unwrap();
        writer.finish().unwrap();
        manifest
    });
    let fresh = new_blocks(&image("old"), &image("new"));
    let ideal = zstd::bulk::compress(&fresh, 3).unwrap().len();
    let sent = Map::from_iter([("new-4k-blocks".to_owned(), json!(ideal))]);
    report(name, &ours, sent, &[("new-4k-blocks", 1.3)], &[])
}

struct Sent {
    /// The manifest, and what each part of the patch makes of what.
    front: u64,
    /// Everything else.
    content: u64,
    chunks: usize,
}

/// What a device is sent that has the old version.
fn ours(data: &Data, capture: &mut dyn FnMut(&Library, &str) -> Manifest) -> Sent {
    let folder = tempfile::tempdir_in(&data.kept).unwrap();
    let server = Library::open(&utf8(folder.path()).join("server")).unwrap();
    let device = Library::open(&utf8(folder.path()).join("device")).unwrap();
    let mut store = |version| {
        let manifest = capture(&server, version);
        let digest = server.put_manifest(&manifest.encode()).unwrap();
        (manifest, digest)
    };
    let (old, from) = store("old");
    let (new, to) = store("new");
    converge_library(&[old], &device, &[&server], &NoMeter).unwrap();
    server.make_patch(&from, &to, &NoMeter).unwrap();
    let mut file = server.patch(&from, &to).unwrap().unwrap();
    let known = server.manifest_bytes(&from).unwrap().unwrap();
    let patch = Patch::read(&mut file, &known).unwrap();
    let chunks = device.missing(&new).len();
    let patched = PatchSource::new(&patch, &file, &device);
    let sources: [&dyn ChunkSource; 2] = [&patched, &Network(&server)];
    let bytes = converge_library(&[new], &device, &sources, &NoMeter).unwrap();
    Sent {
        front: server.patches().unwrap()[0].front_bytes,
        content: bytes.network_packed,
        chunks,
    }
}

/// A library on the other side of a network.
struct Network<'a>(&'a Library);

impl ChunkSource for Network<'_> {
    fn kind(&self) -> SourceKind {
        SourceKind::Network
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        self.0.fetch(wanted, sink)
    }
}

fn report(
    name: &str,
    ours: &Sent,
    sent: Map<String, Value>,
    goals: &[(&'static str, f64)],
    missing: &[&str],
) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a ratio of two lengths")]
    let total = (ours.front + ours.content) as f64;
    let ratios = goals.iter().filter_map(|(peer, limit)| {
        let ratio = total / sent.get(*peer)?.as_f64()?;
        Some(Ratio {
            name: peer,
            ratio,
            limit: *limit,
            is_most: true,
        })
    });
    let ratios: Vec<Ratio> = ratios.collect();
    let more = json!({ "missing": missing, "content": ours.content, "front": ours.front, "chunks": ours.chunks });
    result(name, "bytes", Some(total), sent, &ratios, more)
}

/// The sum of the numbers that a script prints; `None` if its program is missing.
fn peer(data: &Data, below: &str, script: &str) -> Option<u64> {
    let folder = tempfile::tempdir_in(&data.kept).unwrap();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("W", &data.kept)
        .env("B", below)
        .env("O", folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    if output.status.code() == Some(100) {
        return None;
    }
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{script}: {}: {error}",
        output.status
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    Some(
        printed
            .lines()
            .map(|line| line.trim().parse::<u64>().unwrap())
            .sum(),
    )
}

/// The length of a file.
#[expect(clippy::cast_precision_loss, reason = "for ratios")]
pub(crate) fn length(path: &Path) -> f64 {
    std::fs::metadata(path).unwrap().len() as f64
}

/// What a file takes on the disk: an image without its holes.
#[expect(clippy::cast_precision_loss, reason = "for ratios")]
pub(crate) fn used(path: &Path) -> f64 {
    (std::fs::metadata(path).unwrap().blocks() * 512) as f64
}

/// Which share of the blocks of `new` `old` doesn't have in the same place.
#[expect(clippy::cast_precision_loss, reason = "a ratio of two counts")]
pub(crate) fn changed_share(old: &Path, new: &Path) -> f64 {
    let (old, mut all, mut changed) = (File::open(old).unwrap(), 0_u64, 0_u64);
    each_block(new, &mut |at, block| {
        let mut there = vec![0; block.len()];
        old.read_exact_at(&mut there, at).unwrap();
        all += u64::from(block.iter().any(|byte| *byte != 0));
        changed += u64::from(there != block);
    });
    changed as f64 / all as f64
}

/// The blocks that `new` has and `old` has nowhere.
fn new_blocks(old: &Path, new: &Path) -> Vec<u8> {
    let mut known = HashSet::new();
    each_block(old, &mut |_, block| {
        known.insert(Digest::of(block));
    });
    let mut fresh = Vec::new();
    each_block(new, &mut |_, block| {
        if known.insert(Digest::of(block)) {
            fresh.extend_from_slice(block);
        }
    });
    fresh
}

fn each_block(path: &Path, see: &mut dyn FnMut(u64, &[u8])) {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let part = usize::try_from((length - at).min(buffer.len() as u64)).unwrap();
        file.read_exact_at(&mut buffer[..part], at).unwrap();
        for block in buffer[..part].chunks(4096) {
            see(at, block);
            at += block.len() as u64;
        }
    }
}

fn utf8(path: &Path) -> &Utf8Path {
    path.try_into().unwrap()
}
