//! The head of a bundle, and, signed by us, any root and what follows it.
#![no_main]

use std::io::Cursor;

use content::{Bundle, key_id};
use ed25519_dalek::{Signer, SigningKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = SigningKey::from_bytes(&[1; 32]);
    let open = |bytes: Vec<u8>| {
        let available = bytes.len() as u64;
        Bundle::open(Cursor::new(bytes), available)?.verify(&[key.verifying_key()])
    };
    assert!(open(bytes.to_vec()).is_err(), "nobody signed this");
    // The first two bytes say how long the root is.
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let signature = key.sign(&[b"forestage bundle 1\0".as_slice(), &rest[..length]].concat());
    let mut bundle = b"FSTGBNDL\x01\0\0\0".to_vec();
    bundle.extend_from_slice(&u32::try_from(length).expect("below 64 KiB").to_le_bytes());
    bundle.extend_from_slice(&key_id(&key.verifying_key()));
    bundle.extend_from_slice(&signature.to_bytes());
    bundle.extend_from_slice(rest);
    if let Ok(bundle) = open(bundle) {
        let _ = bundle.frames(&mut |frame| frame.unpack(&mut Vec::new()));
    }
});
