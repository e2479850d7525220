//! The staging mark: whatever is accepted survives being written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::digest::Digest;
use wire::mark::{MARK_BYTES, StagingMark};

fuzz_target!(|bytes: &[u8]| {
    let _ = StagingMark::decode(bytes);
    // With the right digest, so that the JSON is reached.
    let mut sector = [0; MARK_BYTES];
    sector[..16].copy_from_slice(b"FORESTAGE-MARK-1");
    let body = MARK_BYTES - Digest::BYTES;
    let count = bytes.len().min(body - 16);
    sector[16..16 + count].copy_from_slice(&bytes[..count]);
    let digest = Digest::of(&sector[..body]);
    sector[body..].copy_from_slice(digest.as_bytes());
    if let Some(mark) = StagingMark::decode(&sector) {
        let again = StagingMark::decode(&mark.encode()).expect("we wrote it");
        assert_eq!(again.state, mark.state);
        assert_eq!(again.uuid, mark.uuid);
    }
});
