//! Secrets that are sealed to a device. See `docs/formats/secrets.md`.

use std::fmt::Write as _;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, Serializable as _, single_shot_open};
use wire::device_api::{SECRET_CONTEXT, SealedSecret};

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// A key that a device makes for one run, and keeps in memory alone. It is overwritten when it is dropped.
pub struct RunKey {
    private: PrivateKey,
    public: PublicKey,
}

/// What was sealed doesn't open with this key, for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the server sealed doesn't open with the key of this run")]
pub struct NotForUs;

impl RunKey {
    /// The key that follows from 32 random bytes, which nobody else may ever see.
    #[must_use]
    pub fn from_chance(bytes: &[u8; 32]) -> Self {
        let (private, public) = X25519HkdfSha256::derive_keypair(bytes);
        Self { private, public }
    }

    /// Its public half, as a request names it.
    #[must_use]
    pub fn public(&self) -> String {
        let bytes = self.public.to_bytes();
        bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Opens the answer to the request with this body.
    ///
    /// # Errors
    /// It was sealed to another key, for another request, or was changed.
    pub fn open(&self, answer: &SealedSecret, asked: &str) -> Result<Vec<u8>, NotForUs> {
        let key = unhex(&answer.encapsulated_key).ok_or(NotForUs)?;
        let key = EncappedKey::from_bytes(&key).map_err(|_| NotForUs)?;
        let sealed = unhex(&answer.sealed).ok_or(NotForUs)?;
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &key,
            SECRET_CONTEXT,
            &sealed,
            asked.as_bytes(),
        )
        .map_err(|_| NotForUs)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use wire::device_api::SealedSecret;

    use super::{NotForUs, RunKey, unhex};

    #[test]
    fn a_key_follows_from_its_chance() {
        let key = RunKey::from_chance(&[7; 32]);
        assert_eq!(key.public(), RunKey::from_chance(&[7; 32]).public());
        assert_ne!(key.public(), RunKey::from_chance(&[8; 32]).public());
        assert_eq!(unhex(&key.public()).unwrap().len(), 32);
    }

    #[test]
    fn garbage_does_not_open() {
        let key = RunKey::from_chance(&[7; 32]);
        for (encapsulated_key, sealed) in [
            ("", ""),
            ("0", "æ"),
            (&*"0".repeat(64), "00"),
            (&*key.public(), "00"),
        ] {
            let answer = SealedSecret {
                encapsulated_key: encapsulated_key.to_owned(),
                sealed: sealed.to_owned(),
            };
            assert_eq!(key.open(&answer, ""), Err(NotForUs));
        }
    }
}
