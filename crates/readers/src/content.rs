//! What the content engine reads: bundles, packs, manifests, patches, images.

use std::io::Cursor;
use std::os::unix::fs::FileExt;

use ::content::{
    Bundle, Frame, Library, Manifest, NoMeter, Patch, capture_image, compare_image, key_id,
    read_root, sign_root,
};
use camino::{Utf8Path, Utf8PathBuf};
use ed25519_dalek::{Signer, SigningKey};
use tempfile::TempDir;
use wire::bundle::BundleSignature;
use wire::digest::Digest;

/// Where a superblock begins: what lies in front of it means nothing, and would only be in the way.
const SUPERBLOCK_AT: u64 = 1024;
/// A jump over the header, and what tells NTFS.
const NTFS_BEGINS: &[u8] = b"\xEB\x52\x90NTFS    ";

fn folder() -> (TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = Utf8Path::from_path(folder.path()).expect("its name is text");
    let path = path.to_owned();
    (folder, path)
}

/// The start of a bundle: unsigned, and with a signature that fits the bytes.
pub fn bundle_head(bytes: &[u8]) {
    let key = SigningKey::from_bytes(&[1; 32]);
    let open = |bytes: Vec<u8>| {
        let available = bytes.len() as u64;
        Bundle::open(Cursor::new(bytes), available)?.verify(&[key.verifying_key()])
    };
    assert!(open(bytes.to_vec()).is_err(), "nobody signed this");
    // The first two bytes say how long the root is.
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let signature = key.sign(&[b"forestage bundle 1\0".as_slice(), &rest[..length]].concat());
    let mut bundle = b"FSTGBNDL\x01\0\0\0".to_vec();
    bundle.extend_from_slice(&u32::try_from(length).expect("below 64 KiB").to_le_bytes());
    bundle.extend_from_slice(&key_id(&key.verifying_key()));
    bundle.extend_from_slice(&signature.to_bytes());
    bundle.extend_from_slice(rest);
    if let Ok(bundle) = open(bundle) {
        let _ = bundle.frames(&mut |frame| frame.unpack(&mut Vec::new()));
    }
}

/// A signature that was made elsewhere, and the root it was made over behind its first line.
pub fn bundle_signature(bytes: &[u8]) {
    let line = bytes.iter().position(|byte| *byte == b'\n');
    let (file, root) = bytes.split_at(line.map_or(bytes.len(), |at| at + 1));
    if let Ok(signature) = BundleSignature::parse(file) {
        let written = serde_json::to_vec(&signature).expect("it is JSON");
        assert_eq!(BundleSignature::parse(&written), Ok(signature));
    }
    if read_root(root).is_ok() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let signature = sign_root(root, &key);
        assert_eq!(signature.root, Digest::of(root));
    }
}

/// Frames, one after the other, as a pack or an answer has them.
pub fn frame(bytes: &[u8]) {
    let mut rest = bytes;
    let mut raw = Vec::new();
    let mut written = Vec::new();
    while let Ok(Some(frame)) = Frame::read(&mut rest) {
        frame.write(&mut written).expect("a Vec takes everything");
        if frame.unpack(&mut raw).is_ok() {
            assert_eq!(Digest::of(&raw), frame.digest());
            assert_eq!(raw.len(), frame.raw_bytes() as usize);
        }
    }
    assert!(bytes.starts_with(&written));
}

/// A filesystem image, from its superblock on.
pub fn image(bytes: &[u8]) {
    captured_image(bytes, &[], SUPERBLOCK_AT);
}

/// An NTFS volume, from behind what tells that it is one.
pub fn image_ntfs(bytes: &[u8]) {
    captured_image(bytes, NTFS_BEGINS, NTFS_BEGINS.len() as u64);
}

/// Whatever a volume says of itself, what is captured of it is the same bytes.
fn captured_image(bytes: &[u8], begin: &[u8], at: u64) {
    let (_folder, path) = folder();
    let library = Library::open(&path).expect("an empty library");
    let image = tempfile::tempfile().expect("a temporary file");
    image.write_all_at(begin, 0).expect("room for the start");
    image.write_all_at(bytes, at).expect("room for the input");
    image
        .set_len((at + bytes.len() as u64).next_multiple_of(4096))
        .expect("room for the input");
    let mut writer = library.pack_writer().expect("a writable library");
    let manifest = capture_image(&image, &mut writer, &NoMeter).expect("any image is captured");
    writer.finish().expect("room for the pack");
    let compared = compare_image(&manifest, &image, &NoMeter).expect("the image is still there");
    assert_eq!(compared, None);
}

/// A manifest.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes);
        let chunks = manifest.chunks().iter();
        assert_eq!(
            chunks.map(|chunk| u64::from(chunk.bytes)).sum::<u64>(),
            manifest.content_bytes()
        );
    }
}

/// A pack that lies in a library, as it is and without its index.
pub fn pack(bytes: &[u8]) {
    let (_folder, path) = folder();
    let packs = path.join("packs");
    std::fs::create_dir(&packs).expect("an empty folder");
    std::fs::write(packs.join("00000000000000000000000000000000.pack"), bytes)
        .expect("room for the input");
    if let Ok(library) = Library::open(&path) {
        let _ = library.verify(&NoMeter);
    }
}

/// A patch, behind the manifest that is there already.
pub fn patch(bytes: &[u8]) {
    // The first part of the input is the manifest that is there already.
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (known, mut patch) = rest.split_at(length);
    let to = patch.get(44..76).map(<[u8]>::to_vec);
    if let Ok(patch) = Patch::read(&mut patch, known) {
        assert_eq!(Some(Digest::of(patch.manifest()).as_bytes().to_vec()), to);
        assert!(patch.worth(|_| false).next().is_none());
    }
}
