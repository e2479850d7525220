//! Our side of each race, as a process of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;

use camino::Utf8Path;
use content::{
    Library, Manifest, NoMeter, capture_image, capture_tree, converge_image, converge_tree,
    write_bundle,
};
use serde_json::json;
use wire::digest::Digest;

use crate::stage;

/// How a script starts us.
pub(crate) fn command() -> String {
    format!("{} ours", std::env::current_exe().unwrap().display())
}

pub(crate) fn run(arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["build", folder, library] => {
            let library = Library::open(library.into()).unwrap();
            let mut writer = library.pack_writer().unwrap();
            let manifest = capture_tree(folder.into(), &mut writer, &NoMeter).unwrap();
            writer.finish().unwrap();
            println!("{}", library.put_manifest(&manifest.encode()).unwrap());
        }
        ["capture-image", image, library] => {
            let library = Library::open(library.into()).unwrap();
            println!("{}", capture(image, &library));
        }
        ["apply-image", library, manifest, target] => {
            let (library, manifest) = open(library, manifest);
            let target = File::options().read(true).write(true).open(target).unwrap();
            let counts = converge_image(&manifest, &target, &[&library], &NoMeter).unwrap();
            eprintln!("{counts:?}");
        }
        ["apply-tree", library, manifest, folder] => {
            let (library, manifest) = open(library, manifest);
            converge_tree(&manifest, folder.into(), &[&library], &NoMeter).unwrap();
        }
        ["bundle", library, manifest, to] => bundle(library, manifest, to),
        ["stage", bundle, target, library, rate] => {
            let rate = rate.parse().unwrap();
            stage::run(bundle, Some(target), library, rate);
        }
        ["stage-library", bundle, library] => stage::run(bundle, None, library, 0.0),
        ["read-used", library, manifest, target] => {
            let target = File::open(target).unwrap();
            let read = |part: &mut [u8], at| target.read_exact_at(part, at);
            each_used(library, manifest, &read);
        }
        ["write-used", library, manifest, target] => {
            let target = File::options().write(true).open(target).unwrap();
            each_used(library, manifest, &|part, at| target.write_all_at(part, at));
        }
        ref other => panic!("no such race: {other:?}"),
    }
}

/// Adds an image to a library.
pub(crate) fn capture(image: &str, library: &Library) -> Digest {
    let mut writer = library.pack_writer().unwrap();
    let image = File::open(image).unwrap();
    let manifest = capture_image(&image, &mut writer, &NoMeter).unwrap();
    writer.finish().unwrap();
    library.put_manifest(&manifest.encode()).unwrap()
}

fn open(library: &str, manifest: &str) -> (Library, Manifest) {
    let library = Library::open(Utf8Path::new(library)).unwrap();
    let digest = std::fs::read_to_string(manifest).unwrap();
    let manifest = library.manifest(&digest.trim().parse().unwrap()).unwrap();
    (library, manifest)
}

/// Goes over every used block once, in order.
fn each_used(library: &str, manifest: &str, visit: &dyn Fn(&mut [u8], u64) -> std::io::Result<()>) {
    let (_, manifest) = open(library, manifest);
    let content::manifest::Shape::Image(image) = manifest.shape() else {
        panic!("this is no image");
    };
    let mut buffer = vec![1; 256 << 10];
    for extent in image.extents() {
        let (mut at, end) = (extent.offset, extent.offset + extent.bytes);
        while at < end {
            let part = usize::try_from((end - at).min(buffer.len() as u64)).unwrap();
            visit(&mut buffer[..part], at).unwrap();
            at += part as u64;
        }
    }
}

/// A bundle with one image in it.
fn bundle(library: &str, manifest: &str, to: &str) {
    let (library, manifest) = open(library, manifest);
    let bytes = manifest.encode();
    let root = serde_json::from_value(json!({
        "format": 1, "prestage": "bench", "version": 1, "built-at-ms": 1,
        "model": { "vendor": "", "product": "", "sku": "", "baseboard": "" },
        "stage": { "format": 1, "name": "stage", "variables": {}, "steps": [] },
        "packages": [{
            "name": "debian", "version": "1", "kind": "os-image", "title": "", "manifest": Digest::of(&bytes),
            "manifest-bytes": bytes.len(), "content-bytes": manifest.content_bytes(), "models": [],
            "volume-bytes-min": 0,
        }],
        "manifests": [], "packs": [], "content-bytes": 0,
    }));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)
        .unwrap();
    write_bundle(
        root.unwrap(),
        &library,
        Some(&stage::key()),
        &mut file,
        &NoMeter,
    )
    .unwrap();
}
