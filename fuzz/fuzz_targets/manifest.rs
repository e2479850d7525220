//! Manifests: whatever is accepted encodes to the same bytes.
#![no_main]

use content::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(manifest.encode(), bytes);
        assert_eq!(
            manifest
                .chunks()
                .iter()
                .map(|chunk| u64::from(chunk.bytes))
                .sum::<u64>(),
            manifest.content_bytes()
        );
    }
});
