//! Writes the bytes of a small bundle, with its manifests and its pack, into a new folder: what this release writes,
//! for later releases to read. Old fixtures are never written again.
//!
//! `cargo run -p content --example write_fixtures -- fixtures/content-<n>`

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use content::{Library, Manifest, NoMeter, capture_image, capture_tree, key_id, write_bundle};
use ed25519_dalek::SigningKey;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use wire::bundle::BundleRoot;
use wire::digest::Digest;
use wire::mark::{MarkState, StagingMark};
use wire::names::{PackageName, PackageVersion, PrestageName, SequenceName};
use wire::package::{Model, Package, PackageKind};
use wire::sequence::CompiledSequence;

/// Signs nothing but fixtures.
const SEED: [u8; 32] = [7; 32];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args()
        .nth(1)
        .map(Utf8PathBuf::from)
        .ok_or("name a folder that doesn't exist yet")?;
    fs::create_dir(&folder)?;
    let work = tempfile::tempdir()?;
    let work = Utf8Path::from_path(work.path()).ok_or("the temporary folder has no UTF-8 path")?;
    let library = Library::open(&work.join("library"))?;
    let mut writer = library.pack_writer()?;
    make_tree(&work.join("tree"))?;
    let tree = capture_tree(&work.join("tree"), &mut writer, &NoMeter)?.owned_by(0, 0);
    let image = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(work.join("image"))?;
    image.set_len(1 << 20)?;
    image.write_all_at(&b"superblock ".repeat(2000), 4096)?;
    image.write_all_at(&noise(1, 9000), 500 << 10)?;
    let image = capture_image(&image, &mut writer, &NoMeter)?;
    writer.finish()?;

    let packages = vec![
        package("debian", PackageKind::OsImage, &image, &library)?,
        package("ordbok", PackageKind::Application, &tree, &library)?,
    ];
    let key = SigningKey::from_bytes(&SEED);
    let mut bundle = File::create_new(folder.join("small.bundle"))?;
    write_bundle(root(packages)?, &library, Some(&key), &mut bundle, &NoMeter)?;
    fs::write(folder.join("tree.manifest"), tree.encode())?;
    fs::write(folder.join("image.manifest"), image.encode())?;
    for pack in work.join("library/packs").read_dir_utf8()? {
        fs::copy(pack?.path(), folder.join("small.pack"))?;
    }
    write_patch(work, &library, &tree, &folder.join("next.patch"))?;
    fs::write(
        folder.join("staging.mark"),
        StagingMark::new("PF3ÆØÅ", None, MarkState::Staged).encode(),
    )?;
    fs::write(folder.join("key.pub"), key.verifying_key().as_bytes())?;
    let id: String = key_id(&key.verifying_key())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    fs::write(
        folder.join("README.md"),
        format!(
            "# Content formats, bundles with a frame table\n\nWritten by `cargo run -p content --example write_fixtures`; never edited,\n\
             never written again. The bundle is signed by the key in `key.pub` (id {id}), which signs nothing else.\n"
        ),
    )?;
    Ok(())
}

/// A patch from the tree to its next version.
fn write_patch(
    work: &Utf8Path,
    library: &Library,
    tree: &Manifest,
    to: &Utf8Path,
) -> Result<(), Box<dyn Error>> {
    let mut next = noise(2, 5000);
    next.splice(700..700, *b"nytt ");
    fs::write(work.join("tree/ordbøker/stor"), next)?;
    let mut writer = library.pack_writer()?;
    let next = capture_tree(&work.join("tree"), &mut writer, &NoMeter)?.owned_by(0, 0);
    writer.finish()?;
    let from = library.put_manifest(&tree.encode())?;
    let next = library.put_manifest(&next.encode())?;
    library.make_patch(&from, &next, &NoMeter)?;
    let mut patch = library.patch(&from, &next)?.ok_or("no patch was made")?;
    std::io::copy(&mut patch, &mut File::create_new(to)?)?;
    Ok(())
}

fn make_tree(top: &Utf8Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(top.join("ordbøker/tom mappe"))?;
    fs::write(top.join("ordbøker/Æ.txt"), "ær, ære, ærlig\n".repeat(50))?;
    fs::write(top.join("ordbøker/stor"), noise(2, 5000))?;
    fs::write(top.join("tom"), "")?;
    symlink("ordbøker/Æ.txt", top.join("lenke"))?;
    fs::hard_link(top.join("ordbøker/stor"), top.join("stor"))?;
    let fifo = top.join("rør");
    let (kind, mode) = (FileType::Fifo, Mode::from_raw_mode(0o640));
    rustix::fs::mknodat(CWD, fifo.as_std_path(), kind, mode, 0)?;
    let noted = top.join("ordbøker/Æ.txt");
    let any = XattrFlags::empty();
    rustix::fs::setxattr(noted.as_std_path(), "user.språk", "nynorsk".as_bytes(), any)?;
    let sparse = File::create_new(top.join("hullete"))?;
    sparse.set_len(100_000)?;
    sparse.write_all_at(b"ordbok", 40_960)?;
    for (name, mode) in [
        ("ordbøker/Æ.txt", 0o644),
        ("ordbøker/stor", 0o755),
        ("tom", 0o600),
        ("hullete", 0o644),
    ] {
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode))?;
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_790_000_000, 5);
        File::options()
            .write(true)
            .open(top.join(name))?
            .set_modified(time)?;
    }
    Ok(())
}

fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut noise);
    noise
}

fn package(
    name: &str,
    kind: PackageKind,
    manifest: &Manifest,
    library: &Library,
) -> Result<Package, Box<dyn Error>> {
    let bytes = manifest.encode();
    let digest: Digest = library.put_manifest(&bytes)?;
    Ok(Package {
        name: PackageName::new(name)?,
        version: PackageVersion::new("1.0")?,
        kind,
        title: "Ordbøker".to_owned(),
        manifest: digest,
        manifest_bytes: bytes.len() as u64,
        content_bytes: manifest.content_bytes(),
        models: Vec::new(),
        install: None,
        volume_bytes_min: manifest.image_bytes().unwrap_or(0),
    })
}

fn root(packages: Vec<Package>) -> Result<BundleRoot, Box<dyn Error>> {
    Ok(BundleRoot {
        format: 1,
        prestage: PrestageName::new("elev-2026")?,
        version: 1,
        built_at_ms: 1_790_000_000_000,
        model: Model {
            vendor: "Acme".into(),
            product: "Bok 14".into(),
            ..Model::default()
        },
        stage: CompiledSequence {
            format: 1,
            name: SequenceName::new("stage")?,
            variables: std::collections::BTreeMap::new(),
            steps: Vec::new(),
        },
        packages,
        manifests: Vec::new(),
        packs: Vec::new(),
        frames: None,
        content_bytes: 0,
    })
}
