//! Signatures of messages, as Standard Webhooks has them: HMAC-SHA256 over id, time and body.
//!
//! No secret is stored: each is made from the webhook's salt by a key that only the data folder holds. Who reads the
//! database alone can sign nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8Path;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::error::Failure;
use crate::secret;

/// What secrets begin with.
const PREFIX: &str = "whsec_";

/// Makes the secrets of all webhooks.
#[derive(Clone)]
pub(crate) struct WebhookKey([u8; 32]);

/// The secret of one webhook.
pub(super) struct Secret([u8; 32]);

impl WebhookKey {
    /// Reads the key from `folder`, making it at the first start.
    pub(crate) fn open(folder: &Utf8Path) -> Result<Self, Failure> {
        secret::seed(&folder.join("webhook.key")).map(Self)
    }

    #[cfg(test)]
    pub(super) const fn of(key: [u8; 32]) -> Self {
        Self(key)
    }

    pub(super) fn secret(&self, salt: &str) -> Secret {
        Secret(mac(&self.0, salt.as_bytes()))
    }
}

impl Secret {
    /// As people copy it to the receiver.
    pub(super) fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.0))
    }

    /// The header `webhook-signature`.
    pub(super) fn signature(&self, message: &str, seconds: i64, body: &str) -> String {
        let signed = format!("{message}.{seconds}.{body}");
        format!("v1,{}", STANDARD.encode(mac(&self.0, signed.as_bytes())))
    }
}

fn mac(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_standard() {
        // The example of the Standard Webhooks specification.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}");
        let expected = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(STANDARD.encode(mac.finalize().into_bytes()), expected);
    }

    #[test]
    fn each_salt_has_its_own_secret() {
        let key = WebhookKey([7; 32]);
        let (one, other) = (key.secret("a"), key.secret("b"));
        assert_ne!(one.text(), other.text());
        assert_eq!(one.text(), key.secret("a").text());
        assert_eq!(
            STANDARD
                .decode(one.text().strip_prefix(PREFIX).unwrap())
                .unwrap()
                .len(),
            32
        );
        assert_ne!(one.signature("m", 1, "{}"), one.signature("m", 2, "{}"));
    }
}
