//! Patches: whatever is accepted leads to the manifest that its head names.
#![no_main]

use content::Patch;
use libfuzzer_sys::fuzz_target;
use wire::digest::Digest;

fuzz_target!(|bytes: &[u8]| {
    // The first part of the input is the manifest that is there already.
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (known, mut patch) = rest.split_at(length);
    let to = patch.get(44..76).map(<[u8]>::to_vec);
    if let Ok(patch) = Patch::read(&mut patch, known) {
        assert_eq!(Some(Digest::of(patch.manifest()).as_bytes().to_vec()), to);
        assert!(patch.worth(|_| false).next().is_none());
    }
});
