//! A small bundle with all that a real one has, and what is right on a machine that was staged with it. For tests.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};

use camino::Utf8Path;
use content::{Library, Manifest, NoMeter, capture_image, capture_tree, write_bundle};
use ed25519_dalek::{Signer, SigningKey};
use sequence::document::compile;
use testkit::chance::Chance;
use wire::boot_config::Trust;
use wire::bundle::BundleRoot;
use wire::digest::Digest;
use wire::layout::VolumeRole;
use wire::package::{Model, Package, PackageKind};

use crate::block::BlockFile;
use crate::esp::{self, Fat};
use crate::machine::made_of_files::{FileMachine, STAGE, model};

const BLOCK: usize = 4096;
/// Of the OS image: in its middle is a hole.
const IMAGE_BLOCKS: usize = 320;
const HOLE_BLOCKS: std::ops::Range<usize> = 128..192;
const KEY: [u8; 32] = [3; 32];
/// Where the root begins.
pub(crate) const HEAD_BYTES: usize = 88;

/// See the module.
pub(crate) struct TestBundle {
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// Its root.
    pub(crate) root: BundleRoot,
    /// Where the manifests begin, the packs, the frames' end (and so the index), the frame table.
    pub(crate) manifests_at: usize,
    pub(crate) packs_at: usize,
    pub(crate) frames_end: usize,
    pub(crate) table_at: usize,
    /// The OS volume, as far as the image goes.
    image: Vec<u8>,
    /// `deploy.efi` and `loader.efi`.
    boot_files: [Vec<u8>; 2],
}

/// The key that devices trust.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&KEY)
}

/// Whom devices trust.
pub(crate) fn trust() -> Trust {
    let public = key().verifying_key();
    Trust {
        format: 1,
        server_urls: vec![],
        ca_pem: String::new(),
        bundle_keys: vec![Digest::from_bytes(public.to_bytes()).to_string()],
        wipe_keys: Vec::new(),
    }
}

/// The head of a bundle with this root, signed by `key` under the name of `named`.
pub(crate) fn head(root: &[u8], key: &SigningKey, named: &SigningKey) -> Vec<u8> {
    let signature = key.sign(&[&b"forestage bundle 1\0"[..], root].concat());
    let length = u32::try_from(root.len()).expect("a short root");
    [
        &b"FSTGBNDL\x01\0\0\0"[..],
        &length.to_le_bytes(),
        &content::key_id(&named.verifying_key()),
        &signature.to_bytes(),
    ]
    .concat()
}

impl TestBundle {
    /// Content of its own for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self::for_model(seed, model())
    }

    /// The same for other machines.
    pub(crate) fn for_model(seed: u64, model: Model) -> Self {
        let mut chance = Chance::new(seed);
        let boot_files = [90_000, 20_000].map(|length| chance.bytes(length));
        Self::make(chance, model, boot_files)
    }

    /// The same with these `deploy.efi` and `loader.efi`.
    pub(crate) fn with_boot_files(seed: u64, boot_files: [Vec<u8>; 2]) -> Self {
        Self::make(Chance::new(seed), model(), boot_files)
    }

    fn make(mut chance: Chance, model: Model, boot_files: [Vec<u8>; 2]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = Utf8Path::from_path(folder.path()).expect("a UTF-8 path");
        let library = Library::open(&folder.join("library")).expect("a library");
        let mut image = chance.bytes(IMAGE_BLOCKS * BLOCK);
        image[HOLE_BLOCKS.start * BLOCK..HOLE_BLOCKS.end * BLOCK].fill(0);
        let trees = [
            (
                "boot-image",
                PackageKind::BootImage,
                vec![
                    ("deploy.efi", boot_files[0].clone()),
                    ("loader.efi", boot_files[1].clone()),
                    ("stage.efi", chance.bytes(90_000)),
                ],
            ),
            (
                "ordbok",
                PackageKind::Files,
                vec![("blåbær", chance.bytes(300_000)), ("tom", Vec::new())],
            ),
        ];
        let mut packages = vec![capture_os(&folder.join("image"), &image, &library)];
        for (name, kind, files) in trees {
            packages.push(capture(&folder.join(name), name, kind, &files, &library));
        }
        let root = BundleRoot {
            format: 1,
            prestage: "elev".parse().expect("a name"),
            version: 3,
            built_at_ms: 1,
            model,
            stage: compile(STAGE).expect("a sequence").sequence,
            packages,
            manifests: vec![],
            packs: vec![],
            frames: None,
            content_bytes: 0,
        };
        let mut file = tempfile::tempfile().expect("a temporary file");
        write_bundle(root, &library, Some(&key()), &mut file, &NoMeter).expect("a bundle");
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.read_to_end(&mut bytes).expect("a file");
        let root_bytes = u32::from_le_bytes(bytes[12..16].try_into().expect("four bytes"));
        let manifests_at = HEAD_BYTES + usize::try_from(root_bytes).expect("it fits");
        let root: BundleRoot =
            serde_json::from_slice(&bytes[HEAD_BYTES..manifests_at]).expect("a root");
        let manifests_bytes: u64 = root.manifests.iter().map(|part| part.bytes).sum();
        let packs_at = manifests_at + usize::try_from(manifests_bytes).expect("it fits");
        let table_bytes = root.frames.expect("a frame table").bytes;
        let table_at = bytes.len() - usize::try_from(table_bytes).expect("it fits");
        let footer = table_at - 16;
        let index_at = u64::from_le_bytes(bytes[footer..footer + 8].try_into().expect("eight"));
        Self {
            manifests_at,
            packs_at,
            frames_end: packs_at + usize::try_from(index_at).expect("it fits"),
            table_at,
            bytes,
            root,
            image,
            boot_files,
        }
    }

    /// Another root in front of the same manifests and packs, signed by the key that devices trust.
    pub(crate) fn with_root(&self, change: impl FnOnce(&mut BundleRoot)) -> Vec<u8> {
        let mut root = self.root.clone();
        change(&mut root);
        let root = serde_json::to_vec(&root).expect("a root is JSON");
        let head = head(&root, &key(), &key());
        [&head[..], &root, &self.bytes[self.manifests_at..]].concat()
    }

    /// The frame table that fits these bytes, whose frames lie where this bundle's do.
    pub(crate) fn frame_table(&self, bytes: &[u8]) -> Vec<u8> {
        let mut at = self.packs_at + 16;
        let mut table = Vec::new();
        while at < self.frames_end {
            let packed = self.bytes[at + 12..at + 16].try_into().expect("four bytes");
            let end = at + 52 + usize::try_from(u32::from_le_bytes(packed)).expect("it fits");
            table.extend_from_slice(Digest::of(&bytes[at..end]).as_bytes());
            at = end;
        }
        table
    }

    /// Asserts that `machine` was staged with this bundle, in whole.
    pub(crate) fn assert_staged(&self, machine: &FileMachine, place: &str) {
        self.assert_nothing_else(machine, place);
        let os = fs::read(machine.volume(VolumeRole::Os)).expect("a volume");
        assert!(os[..self.image.len()] == self.image, "{place}: the OS");
        let library = self.library(machine);
        for part in &self.root.manifests {
            let manifest = library.manifest(&part.digest).expect("a manifest");
            assert_eq!(library.missing(&manifest), [], "{place}");
        }
        assert!(self.starts(machine), "{place}: nothing starts");
        assert!(machine.staging().join("staged.json").exists(), "{place}");
    }

    /// Asserts that whatever `machine` holds is of this bundle: each block of the OS volume, each chunk and manifest of the
    /// library; and that it starts only if all is there.
    pub(crate) fn assert_nothing_else(&self, machine: &FileMachine, place: &str) {
        let os = fs::read(machine.volume(VolumeRole::Os)).expect("a volume");
        for (number, block) in os.chunks(BLOCK).enumerate() {
            let right = self.image.chunks(BLOCK).nth(number);
            let is_right = right.is_some_and(|right| right == block);
            let is_blank = block.iter().all(|byte| *byte == 0);
            assert!(is_right || is_blank, "{place}: block {number} of the OS");
        }
        let library = self.library(machine);
        let report = library.verify(&NoMeter).expect("a readable library");
        assert_eq!(report.damaged, [], "{place}");
        let ours = self.chunks();
        let known = ours.iter().filter(|digest| library.contains(digest));
        assert_eq!(report.chunks, known.count() as u64, "{place}: chunks");
        let manifests = fs::read_dir(machine.staging().join("library/manifests"));
        for file in manifests.into_iter().flatten() {
            let path = file.expect("an entry").path();
            let digest = Digest::of(&fs::read(path).expect("a manifest"));
            let is_ours = self.root.manifests.iter().any(|part| part.digest == digest);
            assert!(is_ours, "{place}: manifest {digest}");
        }
        if self.starts(machine) {
            let is_whole = ours.iter().all(|digest| library.contains(digest));
            assert!(is_whole, "{place}: it starts, and the library is not whole");
        }
    }

    /// Whether firmware finds something to start; whatever it finds must be this bundle's.
    fn starts(&self, machine: &FileMachine) -> bool {
        let device = BlockFile::read_write(machine.volume(VolumeRole::Esp)).expect("a volume");
        let Ok(fat) = Fat::open(&device) else {
            return false;
        };
        let read = |path: &str| fat.read(path, 1 << 20).expect("a readable volume");
        let Some(loader) = read(esp::FIRMWARE_PATH) else {
            return false;
        };
        assert!(loader == self.boot_files[1], "another boot manager");
        let image = read("EFI/Linux/forestage-a.efi");
        assert!(
            image.as_ref() == Some(&self.boot_files[0]),
            "another boot image"
        );
        true
    }

    fn library(&self, machine: &FileMachine) -> Library {
        Library::open(&machine.staging().join("library")).expect("a library")
    }

    /// The chunks of all manifests, each once.
    fn chunks(&self) -> Vec<Digest> {
        let mut at = self.manifests_at;
        let mut chunks = Vec::new();
        for part in &self.root.manifests {
            let length = usize::try_from(part.bytes).expect("it fits");
            let manifest = Manifest::decode(&self.bytes[at..at + length]).expect("a manifest");
            chunks.extend(manifest.chunks().iter().map(|chunk| chunk.digest));
            at += length;
        }
        chunks.sort_unstable();
        chunks.dedup();
        chunks
    }
}

fn capture_os(path: &Utf8Path, image: &[u8], library: &Library) -> Package {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .expect("a file");
    file.write_all(image).expect("a file");
    let mut writer = library.pack_writer().expect("a pack");
    let manifest = capture_image(&file, &mut writer, &NoMeter).expect("an image");
    writer.finish().expect("a pack");
    package("debian", PackageKind::OsImage, &manifest, library)
}

fn capture(
    folder: &Utf8Path,
    name: &str,
    kind: PackageKind,
    files: &[(&str, Vec<u8>)],
    library: &Library,
) -> Package {
    fs::create_dir(folder).expect("a folder");
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("a file");
    }
    let mut writer = library.pack_writer().expect("a pack");
    let manifest = capture_tree(folder, &mut writer, &NoMeter).expect("a tree");
    writer.finish().expect("a pack");
    package(name, kind, &manifest, library)
}

fn package(name: &str, kind: PackageKind, manifest: &Manifest, library: &Library) -> Package {
    let bytes = manifest.encode();
    Package {
        name: name.parse().expect("a name"),
        version: "1".parse().expect("a version"),
        kind,
        title: String::new(),
        manifest: library.put_manifest(&bytes).expect("a manifest"),
        manifest_bytes: bytes.len() as u64,
        content_bytes: manifest.content_bytes(),
        models: vec![],
        install: None,
        volume_bytes_min: manifest.image_bytes().unwrap_or(0),
    }
}
