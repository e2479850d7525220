//! What past releases wrote is still read. Made by `examples/write_fixtures.rs`, once per format version.

use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use camino::Utf8PathBuf;
use content::{
    Bundle, Library, Manifest, NoMeter, Patch, PatchSource, compare_tree, converge_library,
    converge_tree, read_root,
};
use ed25519_dalek::VerifyingKey;
use wire::bundle::BundleSignature;
use wire::mark::{MarkState, StagingMark};

use crate::support::Temp;

fn read(name: &str) -> Vec<u8> {
    read_from("content-1", name)
}

fn read_from(folder: &str, name: &str) -> Vec<u8> {
    let fixtures = Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    fs::read(fixtures.join(folder).join(name)).unwrap()
}

#[test]
fn the_bundle_of_version_1() {
    assert!(!has_frame_table("content-1"));
    assert!(!has_frame_table("content-2"));
}

#[test]
fn the_bundle_with_a_frame_table() {
    assert!(has_frame_table("content-3"));
}

/// Reads a bundle, and tells whether it has a frame table.
fn has_frame_table(folder: &str) -> bool {
    let read = |name: &str| read_from(folder, name);
    let bytes = read("small.bundle");
    let key = VerifyingKey::from_bytes(&read("key.pub").try_into().unwrap()).unwrap();
    let available = bytes.len() as u64;
    let bundle = Bundle::open(Cursor::new(bytes), available)
        .unwrap()
        .verify(&[key])
        .unwrap();
    assert_eq!(bundle.root().prestage.as_str(), "elev-2026");
    assert_eq!(bundle.root().packages.len(), 2);
    assert_eq!(bundle.manifests()[0].1, read("image.manifest"));
    assert_eq!(bundle.manifests()[1].1, read("tree.manifest"));
    let mut bytes = 0;
    bundle
        .frames(&mut |frame| {
            let mut raw = Vec::new();
            frame.unpack(&mut raw)?;
            bytes += raw.len() as u64;
            Ok(())
        })
        .unwrap();
    assert_eq!(bytes, bundle.root().content_bytes);
    let manifests: Vec<Manifest> = (bundle.manifests().iter())
        .map(|(_, bytes)| Manifest::decode(bytes).unwrap())
        .collect();
    let temp = Temp::new();
    let library = Library::open(&temp.join("l")).unwrap();
    converge_library(&manifests, &library, &[&bundle], &NoMeter).unwrap();
    assert_eq!(library.verify(&NoMeter).unwrap().damaged, []);
    for manifest in &manifests {
        assert_eq!(library.missing(manifest), []);
    }
    bundle.root().frames.is_some()
}

#[test]
fn the_signature_of_version_1() {
    let read = |name: &str| read_from("bundle-signature-1", name);
    let signature = BundleSignature::parse(&read("small.signature")).unwrap();
    let root = read("small.root");
    assert_eq!(read_root(&root).unwrap().prestage.as_str(), "elev-2026");
    let bundle = read_from("content-2", "small.bundle");
    let available = bundle.len() as u64;
    let key = VerifyingKey::from_bytes(&read("key.pub").try_into().unwrap()).unwrap();
    let open = || Bundle::open(Cursor::new(bundle.clone()), available).unwrap();
    assert_eq!(open().root_bytes(), root);
    open()
        .with_signature(&signature)
        .unwrap()
        .verify(&[key])
        .unwrap();
}

#[test]
fn the_manifests_and_the_pack_of_version_1() {
    let temp = Temp::new();
    fs::create_dir_all(temp.join("l/packs")).unwrap();
    fs::write(temp.join("l/packs/small.pack"), read("small.pack")).unwrap();
    let library = Library::open(&temp.join("l")).unwrap();
    assert_eq!(library.verify(&NoMeter).unwrap().damaged, []);
    for name in ["tree.manifest", "image.manifest"] {
        let manifest = Manifest::decode(&read(name)).unwrap();
        assert_eq!(manifest.encode(), read(name));
        assert_eq!(library.missing(&manifest), []);
    }
    let tree = Manifest::decode(&read("tree.manifest")).unwrap();
    fs::create_dir(temp.join("tree")).unwrap();
    converge_tree(&tree, &temp.join("tree"), &[&library], &NoMeter).unwrap();
    assert_eq!(
        compare_tree(&tree, &temp.join("tree"), &NoMeter).unwrap(),
        []
    );
    let text = fs::read_to_string(temp.join("tree/ordbøker/Æ.txt")).unwrap();
    assert_eq!(text, "ær, ære, ærlig\n".repeat(50));
}

#[test]
fn the_tree_of_version_2() {
    let read = |name: &str| read_from("content-2", name);
    let temp = Temp::new();
    fs::create_dir_all(temp.join("l/packs")).unwrap();
    fs::write(temp.join("l/packs/small.pack"), read("small.pack")).unwrap();
    let library = Library::open(&temp.join("l")).unwrap();
    let bytes = read("tree.manifest");
    assert_eq!(bytes[8], 2);
    let tree = Manifest::decode(&bytes).unwrap();
    assert_eq!(tree.encode(), bytes);
    let target = temp.join("tree");
    fs::create_dir(&target).unwrap();
    converge_tree(&tree, &target, &[&library], &NoMeter).unwrap();
    assert_eq!(compare_tree(&tree, &target, &NoMeter).unwrap(), []);
    let stat = |name: &str| fs::symlink_metadata(target.join(name)).unwrap();
    assert_eq!(stat("stor").ino(), stat("ordbøker/stor").ino());
    assert!(stat("rør").file_type().is_fifo());
    assert!(stat("hullete").len() == 100_000 && stat("hullete").blocks() <= 16);
    let mut value = [0; 20];
    let noted = target.join("ordbøker/Æ.txt");
    let length = rustix::fs::getxattr(noted.as_std_path(), "user.språk", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"nynorsk");
}

#[test]
fn the_patch_of_version_1() {
    let read = |name: &str| read_from("patch-1", name);
    let temp = Temp::new();
    fs::create_dir_all(temp.join("l/packs")).unwrap();
    fs::write(temp.join("l/packs/small.pack"), read("small.pack")).unwrap();
    fs::write(temp.join("patch"), read("next.patch")).unwrap();
    let library = Library::open(&temp.join("l")).unwrap();
    let patch = Patch::read(&mut read("next.patch").as_slice(), &read("tree.manifest")).unwrap();
    let next = Manifest::decode(patch.manifest()).unwrap();
    assert!(!library.missing(&next).is_empty());
    let file = File::open(temp.join("patch")).unwrap();
    let patched = PatchSource::new(&patch, &file, &library);
    converge_library(std::slice::from_ref(&next), &library, &[&patched], &NoMeter).unwrap();
    assert_eq!(library.missing(&next), []);
    fs::create_dir(temp.join("tree")).unwrap();
    converge_tree(&next, &temp.join("tree"), &[&library], &NoMeter).unwrap();
    let text = fs::read(temp.join("tree/ordbøker/stor")).unwrap();
    assert_eq!((text.len(), &text[700..705]), (5005, &b"nytt "[..]));
}

#[test]
fn the_staging_mark_of_version_1() {
    let mark = StagingMark::decode(&read("staging.mark")).unwrap();
    assert_eq!(mark, StagingMark::new("PF3ÆØÅ", None, MarkState::Staged));
}
