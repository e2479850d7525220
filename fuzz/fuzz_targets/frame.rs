//! A stream of frames: whatever is accepted has the digest it claims, and is written as it was read.
#![no_main]

use content::Frame;
use libfuzzer_sys::fuzz_target;
use wire::digest::Digest;

fuzz_target!(|bytes: &[u8]| {
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
});
