//! Images of filesystems that were still in use when they were taken, made by the filesystems' own programs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use camino::Utf8Path;
use content::{ContentError, Unsettled, check_settled};

use crate::support::{Temp, empty_ntfs, ext4, ntfs, run};

fn check(image: &Utf8Path) -> Option<Unsettled> {
    let file = File::open(image).unwrap();
    let bytes = file.metadata().unwrap().len();
    match check_settled(&file, bytes) {
        Ok(()) => None,
        Err(ContentError::Unsettled { unsettled }) => Some(unsettled),
        Err(error) => panic!("{image}: {error}"),
    }
}

/// An empty image of this size.
fn make_file(image: &Utf8Path, bytes: u64) {
    File::create_new(image).unwrap().set_len(bytes).unwrap();
}

#[test]
fn an_ext4_filesystem_that_was_mounted_is_refused() {
    let temp = Temp::new();
    let (folder, image) = (temp.join("tree"), temp.join("image"));
    fs::create_dir(&folder).unwrap();
    ext4(&folder, &image);
    assert_eq!(check(&image), None);
    let debugfs = |command| {
        run(
            "e2fsprogs",
            "debugfs",
            &["-w", "-R", command, image.as_str()],
        )
    };
    debugfs("feature needs_recovery");
    assert_eq!(check(&image), Some(Unsettled::Ext4Journal));
    debugfs("feature -needs_recovery");
    debugfs("set_super_value state 3");
    assert_eq!(check(&image), Some(Unsettled::Ext4State));
    run("e2fsprogs", "e2fsck", &["-f", "-y", image.as_str()]);
    assert_eq!(check(&image), None);
}

#[test]
fn an_ntfs_volume_that_is_dirty_or_hibernated_is_refused() {
    let temp = Temp::new();
    let image = temp.join("image");
    empty_ntfs(&image);
    assert_eq!(check(&image), None);
    // Whoever changes the size of a volume marks it, so that Windows looks at it.
    run(
        "ntfs-3g",
        "ntfsresize",
        &["-f", "-f", "--no-progress-bar", "-s", "40M", image.as_str()],
    );
    assert_eq!(check(&image), Some(Unsettled::NtfsDirty));
    run("ntfs-3g", "ntfsfix", &["-d", image.as_str()]);
    assert_eq!(check(&image), None);

    // In its record, and outside of it; and a file of this name that says nothing, or lies elsewhere.
    let folder = temp.join("tree");
    fs::create_dir_all(folder.join("Users")).unwrap();
    for (name, begin, bytes, expected) in [
        ("hiberfil.sys", b"HIBR", 16, Some(Unsettled::NtfsHibernated)),
        (
            "hiberfil.sys",
            b"hibr",
            100_000,
            Some(Unsettled::NtfsHibernated),
        ),
        ("hiberfil.sys", b"\0\0\0\0", 100_000, None),
        ("Users/hiberfil.sys", b"HIBR", 16, None),
    ] {
        let mut memory = vec![0; bytes];
        memory[..4].copy_from_slice(begin);
        fs::write(temp.join("memory"), &memory).unwrap();
        let image = temp.join(&format!("image {begin:?} {bytes} {}", name.len()));
        ntfs(&folder, &image);
        let from = temp.join("memory");
        let args = ["-f", image.as_str(), from.as_str(), name];
        run("ntfs-3g", "ntfscp", &args);
        assert_eq!(check(&image), expected, "{name}");
    }
}

#[test]
fn an_xfs_filesystem_with_something_in_its_log_is_refused() {
    let temp = Temp::new();
    let image = temp.join("image");
    make_file(&image, 320 << 20);
    run("xfsprogs", "mkfs.xfs", &["-q", image.as_str()]);
    let state = || run("xfsprogs", "xfs_logprint", &["-t", image.as_str()]);
    assert!(state().contains("<CLEAN>"), "{}", state());
    assert_eq!(check(&image), None);
    // What says that it was unmounted becomes something else.
    let file = File::options().read(true).write(true).open(&image).unwrap();
    let bytes = fs::read(&image).unwrap();
    let records = bytes.chunks_exact(512).enumerate();
    let header = records.filter(|(_, block)| block[..4] == [0xFE, 0xED, 0xBA, 0xBE]);
    let last = header.map(|(index, _)| index as u64).max().unwrap();
    file.write_all_at(&[0x01], (last + 1) * 512 + 9).unwrap();
    assert!(state().contains("<DIRTY>"), "{}", state());
    assert_eq!(check(&image), Some(Unsettled::XfsLog));
}

#[test]
fn a_btrfs_filesystem_with_something_in_its_log_is_refused() {
    let temp = Temp::new();
    let image = temp.join("image");
    make_file(&image, 128 << 20);
    run("btrfs-progs", "mkfs.btrfs", &["-q", image.as_str()]);
    let told = || {
        run(
            "btrfs-progs",
            "btrfs",
            &["inspect-internal", "dump-super", "-f", image.as_str()],
        )
    };
    let log_root = || {
        let told = told();
        let line = told.lines().find(|line| line.starts_with("log_root\t"));
        line.unwrap().split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(log_root(), "0");
    assert_eq!(check(&image), None);
    let file = File::options().write(true).open(&image).unwrap();
    file.write_all_at(&0x0040_0000_u64.to_le_bytes(), (64 << 10) + 0x60)
        .unwrap();
    assert_eq!(log_root(), "4194304");
    assert_eq!(check(&image), Some(Unsettled::BtrfsLog));
}
