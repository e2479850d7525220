//! Filesystem images: whatever an ext4 claims about its files, what is captured applies to the same bytes.
#![no_main]

use std::os::unix::fs::FileExt;

use camino::Utf8Path;
use content::{Library, NoMeter, capture_image, compare_image};
use libfuzzer_sys::fuzz_target;

/// Where the superblock begins: what lies in front of it means nothing, and would only be in the fuzzer's way.
const FROM: u64 = 1024;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(Utf8Path::from_path(folder.path()).unwrap()).unwrap();
    let image = tempfile::tempfile().unwrap();
    image.write_all_at(bytes, FROM).unwrap();
    image.set_len((FROM + bytes.len() as u64).next_multiple_of(4096)).unwrap();
    let mut writer = library.pack_writer().unwrap();
    let manifest = capture_image(&image, &mut writer, &NoMeter).unwrap();
    writer.finish().unwrap();
    assert_eq!(compare_image(&manifest, &image, &NoMeter).unwrap(), None);
});
