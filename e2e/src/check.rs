//! Byte-for-byte checks of disks, done outside the machines and without mounting anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use content::{Bundle, Library, Manifest, NoMeter, Verified, compare_image};
use ed25519_dalek::VerifyingKey;
use tempfile::TempDir;
use wire::boot_config::Trust;
use wire::layout::VolumeRole;
use wire::package::{Package, PackageKind};

/// Files of a .deb that need not be in place as they are: configuration that scripts may change, and documents that the
/// OS image's recipe leaves out of every installation.
const NOT_INSTALLED: &[&str] = &[
    "etc/",
    "usr/share/bug/",
    "usr/share/doc/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
];

/// A bundle whose signature was checked with the keys that devices trust.
pub(crate) fn open_bundle(file: &Utf8Path, trust: &Trust) -> Result<Bundle<File, Verified>> {
    let reader = File::open(file).with_context(|| format!("cannot open {file}"))?;
    let length = reader.metadata()?.len();
    let keys = trust
        .bundle_keys
        .iter()
        .map(|text| verifying_key(text))
        .collect::<Result<Vec<_>>>()?;
    Ok(Bundle::open(reader, length)?.verify(&keys)?)
}

fn verifying_key(text: &str) -> Result<VerifyingKey> {
    let digest: wire::digest::Digest = text.parse().context("a key is 64 hexadecimal digits")?;
    Ok(VerifyingKey::from_bytes(digest.as_bytes())?)
}

/// Programs in a boot image, and where their libraries are.
const PROGRAMS: &[&str] = &["init", "sbin/e2fsck", "sbin/mke2fs", "sbin/resize2fs"];
/// What is a shell, asks for a password, or becomes somebody else.
const WAYS_IN: &[&str] = &[
    "sh", "bash", "dash", "busybox", "login", "getty", "agetty", "sulogin", "su", "sudo", "sshd",
];
/// What would make a kernel start something else, or tell more than it should.
const OPENING_PARAMETERS: &[&str] = &["init=", "rdinit=", "rd.break", "systemd.", "console=ttyS"];

/// There is nothing in a boot image that lets anybody in: no shell, no program but those that we know, none that becomes
/// somebody else, and a sealed command line. Read by busybox, not by us.
pub(crate) fn no_way_in(folder: &Utf8Path) -> Result<()> {
    for name in [
        media::boot_image::STAGE_FILE,
        media::boot_image::DEPLOY_FILE,
    ] {
        let path = folder.join(name);
        let image = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
        let sections = media::uki::parse_uki(&image)?;
        let section = |name: &str| {
            let found = sections.iter().find(|section| section.name == name);
            found.map(|section| section.bytes)
        };
        let words = section(".cmdline").context("no command line")?;
        let words = std::str::from_utf8(words)?;
        for opening in OPENING_PARAMETERS {
            let opens = words
                .split_ascii_whitespace()
                .any(|word| word.starts_with(opening));
            ensure!(!opens, "{path}: {opening} on the command line");
        }
        let scratch = Scratch::beside(&path)?;
        let archive = scratch.join("initrd");
        let initrd = zstd::decode_all(section(".initrd").context("no initrd")?)?;
        std::fs::write(&archive, initrd)?;
        let listed = Command::new("busybox")
            .args(["cpio", "-t", "-v", "-F", archive.as_str()])
            .output()
            .context("apt-get install busybox-static")?;
        ensure!(listed.status.success(), "busybox can't read the initrd");
        let listed = String::from_utf8(listed.stdout)?;
        ensure!(listed.lines().count() > 50, "busybox lists nothing");
        for line in listed.lines() {
            may_be_in_a_boot_image(line).with_context(|| format!("{path}: {line}"))?;
        }
    }
    Ok(())
}

/// A line such as `-rwxr-xr-x 0/0 1234 1970-01-01 00:00:00 sbin/mke2fs`.
fn may_be_in_a_boot_image(line: &str) -> Result<()> {
    let mode = line.split(' ').next().unwrap_or_default();
    let file = line.rsplit(' ').next().unwrap_or_default();
    ensure!(!mode.contains(['s', 'S']), "it becomes somebody else");
    let name = file.rsplit('/').next().unwrap_or_default();
    ensure!(!WAYS_IN.contains(&name), "a way in");
    if mode.starts_with('c') || mode.starts_with('b') {
        ensure!(matches!(file, "dev/console" | "dev/null"), "a device");
    }
    if mode.starts_with('-') && mode.contains('x') {
        let is_library = file.contains("lib") && name.contains(".so");
        ensure!(is_library || PROGRAMS.contains(&file), "a program");
    }
    Ok(())
}

/// After staging: the OS volume equals the image, and the staging partition holds every chunk of every package.
pub(crate) fn staged_disk(disk: &Utf8Path, bundle: &Bundle<File, Verified>) -> Result<u64> {
    let scratch = Scratch::beside(disk)?;
    let manifests = decode_manifests(bundle)?;
    let os_image = os_image(bundle)?;
    let os = partition(disk, VolumeRole::Os, &scratch)?;
    let manifest = &manifests[&os_image.manifest];
    if let Some(offset) = compare_image(manifest, &File::open(&os)?, &NoMeter)? {
        bail!(
            "the OS volume of {disk} differs from {} {} at byte {offset}",
            os_image.name,
            os_image.version
        );
    }
    std::fs::remove_file(os)?;
    let staging = partition(disk, VolumeRole::Staging, &scratch)?;
    replay_journal(&staging)?;
    let library = dump(&staging, "/library", &scratch.join("dump"))?;
    let library = Library::open(&library)?;
    let report = library.verify(&NoMeter)?;
    ensure!(
        report.damaged.is_empty(),
        "{} chunks on {disk} are damaged",
        report.damaged.len()
    );
    for (digest, manifest) in &manifests {
        ensure!(
            library.manifest_bytes(digest)?.is_some(),
            "manifest {digest} is missing on {disk}"
        );
        let missing = library.missing(manifest);
        ensure!(
            missing.is_empty(),
            "{} chunks of manifest {digest} are missing on {disk}",
            missing.len()
        );
    }
    Ok(report.bytes + manifest.content_bytes())
}

/// After deployment: every file of the OS image is as it was, but for those in `may_differ` (a prefix each), and every
/// file of the applications' .deb packages is in place. Returns how many files were compared.
pub(crate) fn deployed_disk(
    disk: &Utf8Path,
    image: &Utf8Path,
    applications: &[(Package, Manifest)],
    library: &Library,
    may_differ: &[&str],
) -> Result<usize> {
    let scratch = Scratch::beside(disk)?;
    let os = partition(disk, VolumeRole::Os, &scratch)?;
    replay_journal(&os)?;
    let deployed = dump(&os, "/", &scratch.join("deployed"))?;
    std::fs::remove_file(os)?;
    let original = dump(image, "/", &scratch.join("original"))?;
    let mut compared = compare_trees(&original, &deployed, may_differ)?;
    for (package, manifest) in applications {
        let debs = scratch.join("debs").join(package.name.as_str());
        std::fs::create_dir_all(&debs)?;
        content::converge_tree(manifest, &debs, &[library], &NoMeter)?;
        let unpacked = scratch.join("unpacked").join(package.name.as_str());
        std::fs::create_dir_all(&unpacked)?;
        for deb in std::fs::read_dir(&debs)? {
            let deb = Utf8PathBuf::try_from(deb?.path())?;
            let status = Command::new("dpkg-deb")
                .args(["-x", deb.as_str(), unpacked.as_str()])
                .status()?;
            ensure!(status.success(), "cannot unpack {deb}");
        }
        compared += compare_trees(&unpacked, &deployed, NOT_INSTALLED).with_context(|| {
            format!(
                "application {} {} is not in place",
                package.name, package.version
            )
        })?;
    }
    Ok(compared)
}

/// A file of the deployed OS, as text.
pub(crate) fn os_file(disk: &Utf8Path, path: &str) -> Result<String> {
    let scratch = Scratch::beside(disk)?;
    let os = partition(disk, VolumeRole::Os, &scratch)?;
    let output = Command::new("debugfs")
        .args(["-R", &format!("cat {path}"), os.as_str()])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The manifests of a bundle, by digest.
pub(crate) fn decode_manifests(
    bundle: &Bundle<File, Verified>,
) -> Result<BTreeMap<wire::digest::Digest, Manifest>> {
    bundle
        .manifests()
        .iter()
        .map(|(digest, bytes)| Ok((*digest, Manifest::decode(bytes)?)))
        .collect()
}

fn os_image(bundle: &Bundle<File, Verified>) -> Result<&Package> {
    let mut images = bundle
        .root()
        .packages
        .iter()
        .filter(|package| package.kind == PackageKind::OsImage);
    images.next().context("the bundle has no OS image")
}

/// Copies a partition into a file of its own, holes left out.
fn partition(disk: &Utf8Path, role: VolumeRole, scratch: &Utf8Path) -> Result<Utf8PathBuf> {
    let mut file = File::open(disk)?;
    let table = gptman::GPT::find_from(&mut file)
        .with_context(|| format!("{disk} has no partition table"))?;
    let (_, entry) = table
        .iter()
        .find(|(_, entry)| entry.partition_name.as_str() == role.partition_name())
        .with_context(|| format!("{disk} has no partition {}", role.partition_name()))?;
    let sector = table.sector_size;
    let copy = scratch.join(format!("{role}.img"));
    let status = Command::new("dd")
        .args([
            &format!("if={disk}"),
            &format!("of={copy}"),
            "bs=1M",
            "conv=sparse",
            "status=none",
        ])
        .args([
            "iflag=skip_bytes,count_bytes",
            &format!("skip={}", entry.starting_lba * sector),
        ])
        .arg(format!(
            "count={}",
            (entry.ending_lba - entry.starting_lba + 1) * sector
        ))
        .status()?;
    ensure!(
        status.success(),
        "cannot copy the {role} partition of {disk}"
    );
    // `conv=sparse` leaves a hole at the end unwritten.
    File::options()
        .write(true)
        .open(&copy)?
        .set_len((entry.ending_lba - entry.starting_lba + 1) * sector)?;
    Ok(copy)
}

/// Brings a copy of a machine's ext4 filesystem to where its next mount would: a machine whose power was cut left a journal,
/// and debugfs reads only what has been replayed.
fn replay_journal(filesystem: &Utf8Path) -> Result<()> {
    // Its status tells of what was mended; whether the filesystem is right is seen from what is read.
    Command::new("e2fsck")
        .args(["-p", filesystem.as_str()])
        .output()?;
    Ok(())
}

/// Copies a folder out of an ext4 filesystem into `target`, without mounting it.
fn dump(filesystem: &Utf8Path, folder: &str, target: &Utf8Path) -> Result<Utf8PathBuf> {
    std::fs::create_dir_all(target)?;
    let output = Command::new("debugfs")
        .args([
            "-R",
            &format!("rdump {folder} {target}"),
            filesystem.as_str(),
        ])
        .output()?;
    ensure!(
        output.status.success(),
        "cannot read {folder} of {filesystem}"
    );
    Ok(target.join(folder.trim_start_matches('/')))
}

/// A folder beside a disk for what is copied out of it: gigabytes, so it goes with this, whatever the check finds.
struct Scratch {
    path: Utf8PathBuf,
    _folder: TempDir,
}

impl Scratch {
    fn beside(disk: &Utf8Path) -> Result<Self> {
        let beside = disk.parent().context("a disk lies in a folder")?;
        let folder = tempfile::Builder::new()
            .prefix("scratch-")
            .tempdir_in(beside)?;
        Ok(Self {
            path: Utf8PathBuf::try_from(folder.path().to_owned())?,
            _folder: folder,
        })
    }
}

impl Deref for Scratch {
    type Target = Utf8Path;

    fn deref(&self) -> &Utf8Path {
        &self.path
    }
}

/// Every file of `original` must be in `copy` with the same bytes, every link with the same target.
fn compare_trees(original: &Utf8Path, copy: &Utf8Path, may_differ: &[&str]) -> Result<usize> {
    let mut compared = 0;
    let mut folders = vec![Utf8PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in original.join(&folder).read_dir_utf8()? {
            let entry = entry?;
            let relative = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(relative);
                continue;
            }
            if may_differ
                .iter()
                .any(|prefix| relative.as_str().starts_with(prefix))
            {
                continue;
            }
            let there = resolve_merged_usr(copy, &relative);
            if kind.is_symlink() {
                let same = std::fs::read_link(entry.path())?
                    == std::fs::read_link(&there).unwrap_or_default();
                ensure!(same, "the link /{relative} differs");
            } else if kind.is_file() {
                let bytes =
                    std::fs::read(&there).with_context(|| format!("/{relative} is missing"))?;
                ensure!(bytes == std::fs::read(entry.path())?, "/{relative} differs");
            }
            compared += 1;
        }
    }
    Ok(compared)
}

/// Packages of Debian 12 may still carry `/lib/x`, which an OS with merged /usr keeps at `/usr/lib/x`.
fn resolve_merged_usr(root: &Utf8Path, relative: &Utf8Path) -> Utf8PathBuf {
    let first = relative
        .components()
        .next()
        .map(|part| part.as_str().to_owned())
        .unwrap_or_default();
    let is_link =
        ["bin", "sbin", "lib", "lib64"].contains(&first.as_str()) && root.join(&first).is_symlink();
    if is_link && relative != first.as_str() {
        return root.join("usr").join(relative);
    }
    root.join(relative)
}
