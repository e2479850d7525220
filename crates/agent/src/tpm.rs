//! The device's key in a TPM 2.0 (TCG TPM 2.0 Library, Parts 1 to 3; `docs/formats/device-key.md`).
//!
//! The key is a primary key of the storage hierarchy: the TPM makes it anew from its own seed and our template whenever it is
//! asked, always the same one. So nothing of it is stored, and nothing of it ever leaves the TPM. Three commands suffice.
//! What is deliberately absent: sessions, policies, anything that changes the TPM's state.

mod code;
mod command;
mod response;

use std::io;

use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use crate::host::Tpm;

pub(crate) use response::{ANSWER_BYTES_MAX, Malformed, read_created, read_signed};

/// Both coordinates of a point of P-256, x before y.
pub(crate) type Point = [u8; 64];
/// A number modulo the order of P-256.
type Scalar = [u8; 32];

/// The order of P-256 (SP 800-186, section 3.2.1.3).
const ORDER: Scalar = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// What a point begins with that is written with both coordinates (SEC 1, section 2.3.3).
const POINT_UNCOMPRESSED: u8 = 4;

/// Why the TPM can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TpmError {
    #[error("the TPM takes no command")]
    Device { source: io::Error },
    #[error("the TPM refused {command}: {} (0x{code:03x})", code::words(*code))]
    Refused { command: &'static str, code: u32 },
    #[error("the TPM's answer to {command} isn't what the standard says")]
    Malformed {
        command: &'static str,
        source: Malformed,
    },
    #[error("the TPM's signature doesn't fit its key")]
    WrongSignature,
}

/// A signature, and the key that made it.
pub(crate) struct Signed {
    pub(crate) key: Point,
    /// r before s, and s is the smaller of the two that fit.
    pub(crate) signature: [u8; 64],
}

/// The public half of this TPM's key.
pub(crate) fn public_key(tpm: &mut dyn Tpm) -> Result<Point, TpmError> {
    with_key(tpm, |_, _, key| Ok(key))
}

/// Signs `message` with this TPM's key, by ECDSA over SHA-256.
pub(crate) fn sign(tpm: &mut dyn Tpm, message: &[u8]) -> Result<Signed, TpmError> {
    let message_digest = digest(&SHA256, message);
    with_key(tpm, |tpm, handle, key| {
        let sign = command::sign(handle, message_digest.as_ref());
        let (r, mut s) = exchange(tpm, "Sign", &sign, read_signed)?;
        let other = order_less(&s);
        if other < s {
            s = other;
        }
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s);
        let point = [&[POINT_UNCOMPRESSED][..], &key].concat();
        // A signature that doesn't fit would look to the server like somebody else's.
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(message, &signature)
            .map_err(|_| TpmError::WrongSignature)?;
        Ok(Signed { key, signature })
    })
}

/// Has the key made, lets `work` use it, and takes it out of the TPM's few places again.
fn with_key<T>(
    tpm: &mut dyn Tpm,
    work: impl FnOnce(&mut dyn Tpm, u32, Point) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let create = command::create_primary();
    let (handle, key) = exchange(tpm, "CreatePrimary", &create, read_created)?;
    let result = work(tpm, handle, key);
    let flush = command::flush_context(handle);
    let flushed = exchange(tpm, "FlushContext", &flush, response::read_nothing);
    let value = result?;
    flushed.map(|()| value)
}

fn exchange<T>(
    tpm: &mut dyn Tpm,
    command: &'static str,
    bytes: &[u8],
    read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<T, TpmError> {
    let answer = tpm
        .exchange(bytes)
        .map_err(|source| TpmError::Device { source })?;
    let malformed = |source| TpmError::Malformed { command, source };
    match response::code(&answer).map_err(malformed)? {
        0 => read(&answer).map_err(malformed),
        code => Err(TpmError::Refused { command, code }),
    }
}

/// The order less `s`; of a number that isn't below the order, anything.
fn order_less(s: &Scalar) -> Scalar {
    let (mut difference, mut borrow) = ([0; 32], false);
    for at in (0..32).rev() {
        let (less, first) = ORDER[at].overflowing_sub(s[at]);
        let (less, second) = less.overflowing_sub(u8::from(borrow));
        difference[at] = less;
        borrow = first || second;
    }
    difference
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testkit::swtpm::Swtpm;

    use super::*;

    impl Tpm for Swtpm {
        fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
            self.answer(command)
        }
    }

    /// One that answers everything alike.
    struct Parrot(Vec<u8>);

    impl Tpm for Parrot {
        fn exchange(&mut self, _command: &[u8]) -> io::Result<Vec<u8>> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn a_tpm_has_one_key_and_another_tpm_another() {
        let (mut ours, mut other) = (Swtpm::start().unwrap(), Swtpm::start().unwrap());
        let key = public_key(&mut ours).unwrap();
        // More often than a TPM has places for keys: none is left behind.
        for number in 0..8_u32 {
            let message = number.to_be_bytes();
            let signed = sign(&mut ours, &message).unwrap();
            assert_eq!(signed.key, key);
            assert!(
                signed.signature[32..]
                    <= order_less(&signed.signature[32..].try_into().unwrap())[..]
            );
        }
        assert_ne!(public_key(&mut other).unwrap(), key);
        ours.restart().unwrap();
        assert_eq!(public_key(&mut ours).unwrap(), key, "after a restart");
        ours.clear().unwrap();
        assert_ne!(public_key(&mut ours).unwrap(), key, "after it was cleared");
    }

    #[test]
    fn a_tpm_that_was_not_started_says_so() {
        let mut tpm = Swtpm::not_started().unwrap();
        let error = public_key(&mut tpm).unwrap_err().to_string();
        let expected = "the TPM refused CreatePrimary: it wasn't started by the firmware (0x100)";
        assert_eq!(error, expected);
    }

    #[test]
    fn answers_of_no_use_are_refused() {
        let mut gone = Parrot(Vec::new());
        assert!(matches!(
            public_key(&mut gone),
            Err(TpmError::Malformed { .. })
        ));
        let mut locked = Parrot(vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x21]);
        assert!(matches!(
            public_key(&mut locked),
            Err(TpmError::Refused { code: 0x921, .. })
        ));
    }

    #[test]
    fn the_smaller_of_two_numbers_is_taken() {
        let one = std::array::from_fn(|at| u8::from(at == 31));
        let mut most = ORDER;
        most[31] -= 1;
        assert_eq!(order_less(&one), most);
        assert_eq!(order_less(&most), one);
    }

    proptest! {
        #[test]
        fn taking_away_twice_changes_nothing(s in proptest::array::uniform32(any::<u8>())) {
            prop_assert_eq!(order_less(&order_less(&s)), s);
        }
    }
}
