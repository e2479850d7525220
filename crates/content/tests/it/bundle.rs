//! Bundles: signed, whole, and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, SeekFrom};

use content::{
    Bundle, ContentError, Frame, Library, Manifest, NoMeter, Unverified, Verified,
    converge_library, put_signature, read_root, sign_root, write_bundle,
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use proptest::prelude::*;
use wire::bundle::{BundlePart, BundleRoot};
use wire::digest::Digest;
use wire::names::{PackageName, PackageVersion, PrestageName, SequenceName};
use wire::package::{Model, Package, PackageKind};
use wire::sequence::CompiledSequence;

use crate::support::{Temp, capture_tree, noise};

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn public() -> VerifyingKey {
    key().verifying_key()
}

pub(crate) fn root(manifests: &[Digest]) -> BundleRoot {
    let package = |digest: &Digest| Package {
        name: PackageName::new("ordbok").unwrap(),
        version: PackageVersion::new("1.0").unwrap(),
        kind: PackageKind::Files,
        title: "Ordbøker".into(),
        manifest: *digest,
        manifest_bytes: 0,
        content_bytes: 0,
        models: vec![],
        install: None,
        volume_bytes_min: 0,
    };
    BundleRoot {
        format: 0,
        prestage: PrestageName::new("elev").unwrap(),
        version: 3,
        built_at_ms: 1,
        model: Model::default(),
        stage: CompiledSequence {
            format: 1,
            name: SequenceName::new("stage").unwrap(),
            variables: BTreeMap::new(),
            steps: vec![],
        },
        packages: manifests.iter().map(package).collect(),
        manifests: vec![],
        packs: vec![],
        frames: None,
        content_bytes: 0,
    }
}

/// A library with two trees that share a file, and a bundle of both.
fn make(temp: &Temp, bytes: usize) -> (Library, Vec<Digest>, Vec<u8>) {
    let library = temp.library("l");
    let mut manifests = Vec::new();
    for name in ["a", "b"] {
        let folder = temp.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("felles"), noise(1, bytes)).unwrap();
        fs::write(folder.join("øl"), format!("{name} ").repeat(100)).unwrap();
        manifests.push(
            library
                .put_manifest(&capture_tree(&folder, &library).encode())
                .unwrap(),
        );
    }
    let bundle = write(temp, &library, root(&manifests));
    (library, manifests, bundle)
}

fn write(temp: &Temp, library: &Library, root: BundleRoot) -> Vec<u8> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(temp.join("x.bundle"))
        .unwrap();
    let (digest, length) = write_bundle(root, library, Some(&key()), &mut file, &NoMeter).unwrap();
    assert_eq!(file.stream_position().unwrap(), length);
    let bytes = fs::read(temp.join("x.bundle")).unwrap();
    assert_eq!(bytes.len() as u64, length);
    assert_eq!(open(&bytes, bytes.len()).unwrap().root_digest(), digest);
    bytes
}

/// Two libraries in other folders, filled in another order, one of them with something else as well.
#[test]
fn the_same_content_makes_the_same_bundle() {
    let (here, there) = (Temp::new(), Temp::new());
    let (_, manifests, first) = make(&here, 5 << 20);
    let library = there.library("another");
    let foreign = there.join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("x"), noise(7, 3 << 20)).unwrap();
    library
        .put_manifest(&capture_tree(&foreign, &library).encode())
        .unwrap();
    for name in ["b", "a"] {
        let copied = std::process::Command::new("cp")
            .args(["--archive", here.join(name).as_str(), there.path().as_str()])
            .status();
        assert!(copied.unwrap().success());
        library
            .put_manifest(&capture_tree(&there.join(name), &library).encode())
            .unwrap();
    }
    let second = write(&there, &library, root(&manifests));
    assert!(
        first == second,
        "{} and {} bytes",
        first.len(),
        second.len()
    );
}

fn open(bytes: &[u8], available: usize) -> Result<Bundle<Cursor<Vec<u8>>, Verified>, ContentError> {
    Bundle::open(Cursor::new(bytes.to_vec()), available as u64)?.verify(&[public()])
}

/// The bytes of all chunks, or why the bundle is refused.
fn check(bytes: &[u8]) -> Result<u64, ContentError> {
    let bundle = open(bytes, bytes.len())?;
    let mut content = 0;
    bundle.frames(&mut |frame| {
        let mut raw = Vec::new();
        frame.unpack(&mut raw)?;
        content += raw.len() as u64;
        Ok(())
    })?;
    Ok(content)
}

#[test]
fn a_bundle_fills_a_library() {
    let temp = Temp::new();
    let (library, manifests, bytes) = make(&temp, 3 << 20);
    let bundle = open(&bytes, bytes.len() + 4096).unwrap();
    assert_eq!(bundle.root().format, 1);
    assert_eq!(
        bundle
            .manifests()
            .iter()
            .map(|(digest, _)| *digest)
            .collect::<Vec<_>>(),
        manifests
    );
    assert_eq!(check(&bytes).unwrap(), bundle.root().content_bytes);
    // The shared file is in it once.
    assert!(bundle.root().content_bytes < 4 << 20);
    let device = temp.library("device");
    let mut writer = device.pack_writer().unwrap();
    bundle
        .frames(&mut |frame| writer.add_frame(&frame))
        .unwrap();
    writer.finish().unwrap();
    for digest in &manifests {
        assert_eq!(device.missing(&library.manifest(digest).unwrap()), []);
    }
}

#[test]
fn single_chunks_can_be_taken_from_a_bundle() {
    let temp = Temp::new();
    let (library, manifests, bytes) = make(&temp, 3 << 20);
    let bundle = open(&bytes, bytes.len()).unwrap();
    let wanted: Vec<_> = manifests
        .iter()
        .map(|digest| library.manifest(digest).unwrap())
        .collect();
    let device = temp.library("device");
    let counts = converge_library(&wanted, &device, &[&bundle], &NoMeter).unwrap();
    assert_eq!(counts.local, bundle.root().content_bytes);
}

/// Another root in front of what follows the root of `bytes`, signed by us.
fn with_root(bytes: &[u8], change: impl FnOnce(&mut BundleRoot)) -> Vec<u8> {
    let root_bytes = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let (root, rest) = bytes[88..].split_at(root_bytes);
    let mut root = serde_json::from_slice(root).unwrap();
    change(&mut root);
    let root = serde_json::to_vec(&root).unwrap();
    let signature = sign_root(&root, &key());
    [
        b"FSTGBNDL\x01\0\0\0".as_slice(),
        &u32::try_from(root.len()).unwrap().to_le_bytes(),
        &content::key_id(&public()),
        signature.signature.as_bytes(),
        &root,
        rest,
    ]
    .concat()
}

/// How many chunks of a bundle come into an empty library, and how many of them turn out to be damaged there.
fn stage(temp: &Temp, name: &str, bytes: &[u8]) -> Result<(u64, usize), ContentError> {
    let bundle = open(bytes, bytes.len()).unwrap();
    let manifests: Vec<Manifest> = bundle
        .manifests()
        .iter()
        .map(|(_, bytes)| Manifest::decode(bytes).unwrap())
        .collect();
    let device = temp.library(name);
    converge_library(&manifests, &device, &[&bundle], &NoMeter)?;
    let chunks = device.stats().chunks;
    Ok((chunks, device.verify(&NoMeter).unwrap().damaged.len()))
}

#[test]
fn a_frame_that_was_signed_is_not_unpacked_to_be_kept() {
    let temp = Temp::new();
    let (_, _, good) = make(&temp, 3 << 20);
    let table = open(&good, good.len()).unwrap().root().frames.unwrap();
    let count = table.bytes / 32;
    assert_eq!(stage(&temp, "good", &good).unwrap(), (count, 0));
    // From before there were frame tables: all is unpacked.
    let table_at = good.len() - usize::try_from(table.bytes).unwrap();
    let old = |bytes: &[u8]| with_root(&bytes[..table_at], |root| root.frames = None);
    assert_eq!(stage(&temp, "old", &old(&good)).unwrap(), (count, 0));
    // Nothing in a chunk that a broken server signed fits but its digest in the table.
    let pack_at = good
        .windows(8)
        .position(|bytes| bytes == b"FSTGPACK")
        .unwrap();
    let mut wrong = good.clone();
    wrong[pack_at + 16 + 52 + 100] ^= 1;
    let mut first = &good[pack_at + 16..];
    let length = Frame::read(&mut first).unwrap().unwrap().frame_bytes();
    let end = pack_at + 16 + usize::try_from(length).unwrap();
    let digest = Digest::of(&wrong[pack_at + 16..end]);
    assert!(stage(&temp, "flipped", &wrong).is_err());
    wrong[table_at..table_at + 32].copy_from_slice(digest.as_bytes());
    let believed = with_root(&wrong, |root| {
        root.frames = Some(BundlePart {
            digest: Digest::of(&wrong[table_at..]),
            ..table
        });
    });
    assert_eq!(stage(&temp, "believed", &believed).unwrap(), (count, 1));
    assert!(stage(&temp, "not believed", &old(&wrong)).is_err());
}

#[test]
fn a_bundle_can_lie_within_a_larger_file() {
    let temp = Temp::new();
    let (library, manifests, _) = make(&temp, 100);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(temp.join("disk"))
        .unwrap();
    file.set_len(8 << 20).unwrap();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    let (_, length) = write_bundle(
        root(&manifests),
        &library,
        Some(&key()),
        &mut file,
        &NoMeter,
    )
    .unwrap();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    let mut bytes = vec![0; 7 << 20];
    file.read_exact(&mut bytes).unwrap();
    assert!(open(&bytes, bytes.len()).is_ok());
    assert!(
        bytes[usize::try_from(length).unwrap()..]
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn a_bundle_cut_off_anywhere_is_refused_before_a_frame_is_read() {
    let temp = Temp::new();
    let (_, _, bytes) = make(&temp, 700);
    // Up to the end of the root every byte; behind it each cut costs the check of a signature.
    let head = bytes
        .windows(8)
        .position(|bytes| bytes == b"FSTGMANI")
        .unwrap();
    for cut in (0..head)
        .chain((head..bytes.len()).step_by(97))
        .chain([bytes.len() - 1])
    {
        let error = open(&bytes[..cut], cut).map(|_| ()).unwrap_err();
        assert!(
            matches!(error, ContentError::CutOff { .. }),
            "{cut}: {error:?}"
        );
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let temp = Temp::new();
    let (_, _, bytes) = make(&temp, 700);
    check(&bytes).unwrap();
    let head = bytes
        .windows(8)
        .position(|bytes| bytes == b"FSTGMANI")
        .unwrap();
    // Checking a signature is slow in tests: where it covers all, and behind it, not every bit of every byte is tried.
    let signed = (88..head).step_by(7);
    for at in (0..88).chain(signed).chain((head..bytes.len()).step_by(5)) {
        for bit in if at < 88 { 0..8 } else { at % 8..at % 8 + 1 } {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(check(&flipped).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn only_our_keys_count() {
    let temp = Temp::new();
    let (_, _, bytes) = make(&temp, 100);
    let other = SigningKey::from_bytes(&[4; 32]).verifying_key();
    let verify = |keys: &[VerifyingKey]| {
        Bundle::open(Cursor::new(bytes.clone()), bytes.len() as u64)
            .unwrap()
            .verify(keys)
            .map(|_| ())
    };
    assert!(matches!(
        verify(&[other]),
        Err(ContentError::UnknownKey { .. })
    ));
    assert!(matches!(verify(&[]), Err(ContentError::UnknownKey { .. })));
    assert!(verify(&[other, public()]).is_ok());
    // Another's signature under our key id.
    let mut forged = bytes.clone();
    forged[24..88].fill(1);
    assert!(matches!(check(&forged), Err(ContentError::BadSignature)));
}

/// A bundle that nobody has signed, opened.
fn unsigned(temp: &Temp) -> (File, Bundle<File, Unverified>) {
    let (library, manifests, _) = make(temp, 100);
    let path = temp.join("unsigned");
    let mut file = File::create(&path).unwrap();
    write_bundle(root(&manifests), &library, None, &mut file, &NoMeter).unwrap();
    let length = file.metadata().unwrap().len();
    let bundle = Bundle::open(File::open(&path).unwrap(), length).unwrap();
    (file, bundle)
}

#[test]
fn a_bundle_is_signed_where_it_is_not() {
    let temp = Temp::new();
    let (file, bundle) = unsigned(&temp);
    let signature = sign_root(bundle.root_bytes(), &key());
    assert_eq!(read_root(bundle.root_bytes()).unwrap().version, 3);
    let good = bundle.with_signature(&signature).unwrap();
    good.verify(&[public()]).unwrap();
    let path = temp.join("unsigned");
    let read = || fs::read(&path).unwrap();
    assert!(matches!(check(&read()), Err(ContentError::Unsigned)));
    put_signature(&file, &signature).unwrap();
    check(&read()).unwrap();
    // Byte by byte what the holder of the key would have written.
    let whole = read();
    assert_eq!(fs::read(temp.join("x.bundle")).unwrap(), whole);
}

#[test]
fn a_signature_of_something_else_is_none() {
    let temp = Temp::new();
    let (file, bundle) = unsigned(&temp);
    let root = bundle.root_bytes().to_vec();
    let length = file.metadata().unwrap().len();
    let opened = || Bundle::open(File::open(temp.join("unsigned")).unwrap(), length).unwrap();
    let verify = |signature: &wire::bundle::BundleSignature| {
        opened()
            .with_signature(signature)?
            .verify(&[public()])
            .map(|_| ())
    };
    let good = sign_root(&root, &key());
    verify(&good).unwrap();
    let other = sign_root(&[&root[..], b" "].concat(), &key());
    assert!(matches!(verify(&other), Err(ContentError::OtherRoot)));
    // Another's, in their name and in ours; and over the same bytes for another purpose.
    let strangers = sign_root(&root, &SigningKey::from_bytes(&[4; 32]));
    assert!(matches!(
        verify(&strangers),
        Err(ContentError::UnknownKey { .. })
    ));
    let in_our_name = wire::bundle::BundleSignature {
        key: good.key,
        ..strangers
    };
    assert!(matches!(
        verify(&in_our_name),
        Err(ContentError::BadSignature)
    ));
    let bare = ed25519_dalek::Signer::sign(&key(), &root).to_bytes();
    let without_purpose = wire::bundle::BundleSignature {
        signature: wire::bundle::SignatureText::from_bytes(&bare),
        ..good
    };
    assert!(matches!(
        verify(&without_purpose),
        Err(ContentError::BadSignature)
    ));
    // A key that fits every signature of nothing: of small order.
    let small =
        wire::keys::PublicKey::from_bytes(&[&[1_u8][..], &[0; 31]].concat().try_into().unwrap());
    let mut nothing = [0; 64];
    nothing[0] = 1;
    let of_small_order = wire::bundle::BundleSignature {
        key: small,
        signature: wire::bundle::SignatureText::from_bytes(&nothing),
        ..good
    };
    let trusted = VerifyingKey::from_bytes(small.as_bytes()).unwrap();
    let bundle = opened().with_signature(&of_small_order).unwrap();
    assert!(matches!(
        bundle.verify(&[trusted]),
        Err(ContentError::BadSignature)
    ));
}

#[test]
fn a_root_with_more_in_it_than_is_shown_is_not_signed() {
    let root = unsigned(&Temp::new()).1.root_bytes().to_vec();
    let with = |from: &str, to: &str| {
        let text = String::from_utf8(root.clone()).unwrap();
        let changed = text.replacen(from, to, 1);
        assert_ne!(text, changed);
        read_root(changed.as_bytes()).map(|_| ())
    };
    for (from, to) in [
        (r#"{"format":1"#, r#"{"extra":1,"format":1"#),
        (r#""title":"#, r#""run-as":"root","title":"#),
        (r#"{"format":1"#, r#"{"format":2"#),
        (r#""version":3"#, r#""version":3,"version":4"#),
    ] {
        assert!(
            matches!(with(from, to), Err(ContentError::BadBundle { .. })),
            "{to}"
        );
    }
    // What a later release adds may be missing here.
    with(r#""title":"Ordbøker","#, r#""title":"Ordbok","#).unwrap();
}

#[test]
fn an_incomplete_library_makes_no_bundle() {
    let temp = Temp::new();
    let (library, manifests, _) = make(&temp, 3 << 20);
    let empty = temp.library("empty");
    let mut file = File::create(temp.join("y")).unwrap();
    let result = write_bundle(root(&manifests), &empty, Some(&key()), &mut file, &NoMeter);
    assert!(matches!(result, Err(ContentError::MissingManifest { .. })));
    empty
        .put_manifest(&library.manifest_bytes(&manifests[0]).unwrap().unwrap())
        .unwrap();
    let result = write_bundle(
        root(&manifests[..1]),
        &empty,
        Some(&key()),
        &mut file,
        &NoMeter,
    );
    assert!(matches!(result, Err(ContentError::MissingChunk { .. })));
    assert_eq!(fs::read(temp.join("y")).unwrap(), b"");
}

#[test]
fn an_unfinished_bundle_is_none() {
    let temp = Temp::new();
    let (library, manifests, bytes) = make(&temp, 3 << 20);
    let mut file = File::create(temp.join("y")).unwrap();
    let stop = crate::support::StopAfter::new(1 << 20);
    assert!(write_bundle(root(&manifests), &library, Some(&key()), &mut file, &stop).is_err());
    let cut = fs::read(temp.join("y")).unwrap();
    assert!(cut.len() > 100 && cut.len() < bytes.len());
    assert!(open(&cut, cut.len()).is_err());
}

proptest! {
    #[test]
    fn garbage_is_no_bundle(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(check(&bytes).is_err());
    }

    #[test]
    fn a_head_with_garbage_behind_is_no_bundle(
        length in any::<u32>(),
        bytes in proptest::collection::vec(any::<u8>(), 72..400),
    ) {
        let head = [b"FSTGBNDL\x01\0\0\0".as_slice(), &length.to_le_bytes(), &bytes].concat();
        prop_assert!(check(&head).is_err());
    }
}
