//! NTFS volumes: whatever one claims about its files, what is captured applies to the same bytes.
#![no_main]

use std::os::unix::fs::FileExt;

use camino::Utf8Path;
use content::{Library, NoMeter, capture_image, compare_image};
use libfuzzer_sys::fuzz_target;

/// A jump over the header, and what tells NTFS.
const BEGIN: &[u8; 11] = b"\xEB\x52\x90NTFS    ";

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(Utf8Path::from_path(folder.path()).unwrap()).unwrap();
    let image = tempfile::tempfile().unwrap();
    image.write_all_at(BEGIN, 0).unwrap();
    image.write_all_at(bytes, BEGIN.len() as u64).unwrap();
    image.set_len((BEGIN.len() as u64 + bytes.len() as u64).next_multiple_of(4096)).unwrap();
    let mut writer = library.pack_writer().unwrap();
    let manifest = capture_image(&image, &mut writer, &NoMeter).unwrap();
    writer.finish().unwrap();
    assert_eq!(compare_image(&manifest, &image, &NoMeter).unwrap(), None);
});
