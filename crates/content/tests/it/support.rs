//! What several test modules need.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use content::{ChunkSource, ContentError, Frame, Library, Manifest, Meter, NoMeter, SourceKind};
use wire::digest::Digest;

/// A temporary folder with a UTF-8 path.
pub(crate) struct Temp(tempfile::TempDir);

impl Temp {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.0.path()).unwrap()
    }

    pub(crate) fn join(&self, name: &str) -> Utf8PathBuf {
        self.path().join(name)
    }

    pub(crate) fn library(&self, name: &str) -> Library {
        Library::open(&self.join(name)).unwrap()
    }
}

/// Bytes that don't compress and are the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut noise);
    noise
}

pub(crate) fn capture_tree(folder: &Utf8Path, library: &Library) -> Manifest {
    let mut writer = library.pack_writer().unwrap();
    let manifest = content::capture_tree(folder, &mut writer, &NoMeter).unwrap();
    writer.finish().unwrap();
    manifest
}

pub(crate) fn capture_image(image: &Utf8Path, library: &Library) -> Manifest {
    let mut writer = library.pack_writer().unwrap();
    let manifest =
        content::capture_image(&File::open(image).unwrap(), &mut writer, &NoMeter).unwrap();
    writer.finish().unwrap();
    manifest
}

/// All files of `folder/packs`, by name.
pub(crate) fn packs(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut packs: Vec<_> = folder
        .join("packs")
        .read_dir_utf8()
        .unwrap()
        .map(|entry| entry.unwrap().into_path())
        .collect();
    packs.sort();
    packs
}

/// Everything below a folder in words, so that two folders can be compared: independent of the crate under test.
pub(crate) fn listing(folder: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    list(folder, folder, &mut found);
    found
}

fn list(top: &Path, folder: &Path, found: &mut BTreeMap<Vec<u8>, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            list(top, &path, found);
            "folder".to_owned()
        } else if metadata.is_symlink() {
            format!("link to {:?}", fs::read_link(&path).unwrap())
        } else if metadata.is_file() {
            format!("file {}", Digest::of(&fs::read(&path).unwrap()))
        } else {
            let kind = metadata.file_type();
            let kinds = [kind.is_fifo(), kind.is_socket(), kind.is_block_device()];
            format!("special {kinds:?} {:x}", metadata.rdev())
        };
        let mode = if metadata.is_symlink() {
            0
        } else {
            metadata.mode()
        };
        let text = format!(
            "{content} {mode:o} {}:{} {}.{}",
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        found.insert(
            path.strip_prefix(top)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            text,
        );
    }
}

/// A library that counts as the network and may be faulty.
pub(crate) struct Network<'a> {
    pub(crate) library: &'a Library,
    /// Breaks after so many frames.
    pub(crate) frames_max: Cell<usize>,
    /// Which chunk to hand over damaged.
    pub(crate) damaged: Option<Digest>,
    pub(crate) asked: Cell<usize>,
    /// Hands everything over twice, as one does that was asked again while it still answered.
    pub(crate) says_all_twice: bool,
}

impl<'a> Network<'a> {
    pub(crate) fn new(library: &'a Library) -> Self {
        Self {
            library,
            frames_max: Cell::new(usize::MAX),
            damaged: None,
            asked: Cell::new(0),
            says_all_twice: false,
        }
    }
}

impl ChunkSource for Network<'_> {
    fn kind(&self) -> SourceKind {
        SourceKind::Network
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        self.asked.set(self.asked.get() + wanted.len());
        self.library.fetch(wanted, &mut |frame| {
            let left = self
                .frames_max
                .get()
                .checked_sub(1)
                .ok_or(ContentError::Stream {
                    what: "go on",
                    source: std::io::ErrorKind::ConnectionReset.into(),
                })?;
            self.frames_max.set(left);
            if self.says_all_twice {
                sink(frame.clone())?;
            }
            sink(if Some(frame.digest()) == self.damaged {
                damage(&frame)
            } else {
                frame
            })
        })
    }
}

/// The same frame with another last byte.
pub(crate) fn damage(frame: &Frame) -> Frame {
    let mut bytes = Vec::new();
    frame.write(&mut bytes).unwrap();
    *bytes.last_mut().unwrap() ^= 0x10;
    Frame::read(&mut bytes.as_slice()).unwrap().unwrap()
}

/// Says stop once so many bytes are done.
pub(crate) struct StopAfter {
    pub(crate) bytes: u64,
    pub(crate) done: Cell<u64>,
}

impl StopAfter {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            done: Cell::new(0),
        }
    }
}

impl Meter for StopAfter {
    fn report(&self, done: u64, _total: u64) {
        self.done.set(done);
    }

    fn is_cancelled(&self) -> bool {
        self.done.get() > self.bytes
    }
}

/// Checks that reports rise and end at the total.
#[derive(Default)]
pub(crate) struct Witness {
    pub(crate) last: Cell<(u64, u64)>,
}

impl Meter for Witness {
    fn report(&self, done: u64, total: u64) {
        assert!(
            done >= self.last.get().0 && done <= total,
            "{done} of {total} after {:?}",
            self.last.get()
        );
        self.last.set((done, total));
    }
}

/// Runs a program of Debian's to its end, and tells what it printed.
pub(crate) fn run(package: &str, program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("this test needs {program} ({package}): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// An ext4 image of a folder, as OS images are made.
pub(crate) fn ext4(folder: &Utf8Path, image: &Utf8Path) {
    let made = ["-q", "-F", "-t", "ext4", "-b", "4096", "-d"];
    let args = [&made[..], &[folder.as_str(), image.as_str(), "64M"]].concat();
    run("e2fsprogs", "mke2fs", &args);
}

/// An empty NTFS volume.
pub(crate) fn empty_ntfs(image: &Utf8Path) {
    File::create_new(image).unwrap().set_len(64 << 20).unwrap();
    run("ntfs-3g", "mkntfs", &["-q", "-Q", "-F", image.as_str()]);
}

/// An NTFS volume of a folder, as Windows images are applied.
pub(crate) fn ntfs(folder: &Utf8Path, image: &Utf8Path) {
    let wim = image.with_extension("wim");
    let wimlib = |args: &[&str]| run("wimtools", "wimlib-imagex", args);
    let (from, to) = (folder.as_str(), image.as_str());
    wimlib(&["capture", from, wim.as_str(), "--compress=none", "--quiet"]);
    empty_ntfs(image);
    wimlib(&["apply", wim.as_str(), "1", to, "--quiet"]);
}
