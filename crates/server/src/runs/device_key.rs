//! The keys that devices prove to hold. What is accepted is accepted in one form alone, so that a key is one text and nobody
//! but its holder can make another signature out of one.

use ed25519_dalek::{Signature, VerifyingKey};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use wire::admin_api::KeyProtection;
use wire::device_api::KeyPlace;
use wire::reasons::Evidence;

use crate::secret::{hex, unhex};

/// What a point begins with that is written with both coordinates (SEC 1, section 2.3.3).
const POINT_UNCOMPRESSED: u8 = 4;
/// Half the order of P-256 (FIPS 186-5; SP 800-186, section 3.2.1.3), rounded down: with s, the order less s fits, too.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// A public key. Its kind is told by its length, so that nothing can contradict it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKey {
    /// Ed25519 (RFC 8032), as agents have it in a file.
    Ed25519([u8; 32]),
    /// A point of P-256, x before y, as TPMs make it.
    EcdsaP256([u8; 64]),
}

impl DeviceKey {
    /// Reads 64 or 128 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        unhex::<32>(text)
            .map(Self::Ed25519)
            .or_else(|| unhex::<64>(text).map(Self::EcdsaP256))
    }

    /// The key as it is stored: small hexadecimal digits.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Ed25519(bytes) => hex(bytes),
            Self::EcdsaP256(bytes) => hex(bytes),
        }
    }

    /// Whether `signature`, 128 hexadecimal digits, is this key's of `message`.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        let Some(signature) = unhex::<64>(signature) else {
            return false;
        };
        match self {
            Self::Ed25519(key) => VerifyingKey::from_bytes(key).is_ok_and(|key| {
                key.verify_strict(message, &Signature::from_bytes(&signature))
                    .is_ok()
            }),
            Self::EcdsaP256(key) => {
                let point = [&[POINT_UNCOMPRESSED][..], key].concat();
                signature[32..] <= HALF_ORDER[..]
                    && UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                        .verify(message, &signature)
                        .is_ok()
            }
        }
    }

    /// What keeps it from being copied, if the device is to be believed. No TPM makes our Ed25519 keys, whatever is said.
    pub(crate) fn protection(&self, place: Option<&KeyPlace>) -> KeyProtection {
        match (self, place) {
            (Self::EcdsaP256(_), Some(KeyPlace::Tpm { .. })) => KeyProtection::Tpm,
            _ => KeyProtection::Software,
        }
    }
}

/// What should be known of where a device keeps its key.
pub(crate) fn evidence(place: Option<&KeyPlace>) -> Option<Evidence> {
    match place? {
        KeyPlace::Tpm { is_other: true } => Some(Evidence::OtherTpm),
        KeyPlace::Software { why: Some(why) } => Some(Evidence::TpmUnusable { why: why.clone() }),
        KeyPlace::Tpm { is_other: false }
        | KeyPlace::Software { why: None }
        | KeyPlace::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6979, appendix A.2.5: P-256 and SHA-256, the message "sample".
    const X: &str = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6";
    const Y: &str = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    const R: &str = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
    const S: &str = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
    /// The order of the curve less S.
    const LOW_S: &str = "0834e36ad29a83bf2bc9385e491d6099c8fdf9d1ed67aa7ea5f51f93782857a9";

    #[test]
    fn one_signature_of_two_is_taken() {
        let key = DeviceKey::parse(&format!("{X}{Y}")).unwrap();
        assert!(key.has_signed(b"sample", &format!("{R}{LOW_S}")));
        assert!(!key.has_signed(b"sample", &format!("{R}{S}")));
        assert!(!key.has_signed(b"test", &format!("{R}{LOW_S}")));
    }

    #[test]
    fn what_is_no_key_or_no_signature_is_refused() {
        let good = format!("{R}{LOW_S}");
        let zero = "0".repeat(64);
        for key in [
            format!("{Y}{X}"),
            format!("{X}{X}"),
            format!("{zero}{zero}"),
            X.to_owned(),
        ] {
            let key = DeviceKey::parse(&key).unwrap();
            assert!(!key.has_signed(b"sample", &good), "{key:?}");
        }
        for key in ["", "04", &format!("04{X}{Y}"), &format!("02{X}"), &X[2..]] {
            assert_eq!(DeviceKey::parse(key), None, "{key}");
        }
        let key = DeviceKey::parse(&format!("{X}{Y}")).unwrap();
        let der = format!("3045022100{R}0220{LOW_S}");
        for signature in [
            der,
            format!("{zero}{LOW_S}"),
            format!("{R}{zero}"),
            format!("{LOW_S}{R}"),
            String::new(),
        ] {
            assert!(!key.has_signed(b"sample", &signature), "{signature}");
        }
    }

    #[test]
    fn a_key_is_one_text() {
        let small = format!("{X}{Y}");
        let key = DeviceKey::parse(&small.to_uppercase()).unwrap();
        assert_eq!(key.text(), small);
    }

    #[test]
    fn only_a_key_that_a_tpm_can_make_is_shown_as_in_one() {
        let tpm = KeyPlace::Tpm { is_other: false };
        let check = |key: &str, place| DeviceKey::parse(key).unwrap().protection(place);
        let point = format!("{X}{Y}");
        assert_eq!(check(&point, Some(&tpm)), KeyProtection::Tpm);
        assert_eq!(check(&point, None), KeyProtection::Software);
        assert_eq!(check(X, Some(&tpm)), KeyProtection::Software);
    }
}
