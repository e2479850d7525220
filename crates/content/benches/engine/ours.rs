//! Our side of each race, as a process of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;

use camino::Utf8Path;
use content::{
    Library, Manifest, NoMeter, capture_image, capture_tree, converge_image, converge_library,
    converge_tree,
};
use wire::digest::Digest;

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
        ["copy-library", library, manifest, to] => {
            let (library, manifest) = open(library, manifest);
            let to = Library::open(to.into()).unwrap();
            converge_library(&[manifest], &to, &[&library], &NoMeter).unwrap();
        }
        ["read-used", library, manifest, target] => read_used(library, manifest, target),
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

/// Reads every used block once, in order, and does nothing with it.
fn read_used(library: &str, manifest: &str, target: &str) {
    let (_, manifest) = open(library, manifest);
    let content::manifest::Shape::Image(image) = manifest.shape() else {
        panic!("this is no image");
    };
    let target = File::open(target).unwrap();
    let mut buffer = vec![0; 256 << 10];
    for extent in image.extents() {
        let (mut at, end) = (extent.offset, extent.offset + extent.bytes);
        while at < end {
            let part = usize::try_from((end - at).min(buffer.len() as u64)).unwrap();
            target.read_exact_at(&mut buffer[..part], at).unwrap();
            at += part as u64;
        }
    }
}
