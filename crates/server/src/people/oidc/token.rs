//! ID tokens (OpenID Connect Core 1.0, 3.1.3.7): read only after their signature was checked by a key of the provider.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// An ID token is a few kilobytes, even with all the groups of a county.
const TOKEN_BYTES_MAX: usize = 256 << 10;
/// How far the provider's clock may be off, in seconds.
const LEEWAY_SECONDS: i64 = 60;
/// A subject, in bytes (OpenID Connect Core 1.0, section 2).
const SUBJECT_BYTES_MAX: usize = 255;
/// Groups that are looked at.
const GROUPS_MAX: usize = 2000;

/// Why a token isn't believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("it is no signed token")]
    Form,
    #[error("it is signed in a way that isn't accepted")]
    Algorithm,
    #[error("it is signed by a key that isn't the provider's")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it comes from another issuer")]
    Issuer,
    #[error("it is meant for someone else")]
    Audience,
    #[error("it is too old, or from the future")]
    Time,
    #[error("it doesn't belong to this sign-in")]
    Nonce,
    #[error("it doesn't say who it is about")]
    Subject,
}

impl TokenError {
    pub(super) const fn is_unknown_key(self) -> bool {
        matches!(self, Self::UnknownKey)
    }
}

/// What a provider says of someone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claims {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) all: Map<String, Value>,
}

impl Claims {
    /// A claim that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A claim that is a list of texts, or one text.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        match self.all.get(name) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(items)) => items
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .take(GROUPS_MAX)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// A public key of the provider. The kind of key decides how signatures are checked, never the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    id: Option<String>,
    kind: KeyKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyKind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256 { point: Vec<u8> },
}

impl Key {
    /// Reads a key of a JWK set; `None` for kinds that aren't accepted.
    pub(super) fn of_json(json: &Value) -> Option<Self> {
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|used| used != "sig") {
            return None;
        }
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let kind = match text("kty")? {
            "RSA" if text("alg").is_none_or(|alg| alg == "RS256") => KeyKind::Rsa {
                n: bytes("n")?,
                e: bytes("e")?,
            },
            "EC" if text("crv") == Some("P-256") => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                KeyKind::P256 {
                    point: [vec![4], x, y].concat(),
                }
            }
            _ => return None,
        };
        Some(Self {
            id: text("kid").map(str::to_owned),
            kind,
        })
    }

    const fn algorithm(&self) -> &'static str {
        match self.kind {
            KeyKind::Rsa { .. } => "RS256",
            KeyKind::P256 { .. } => "ES256",
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            KeyKind::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            KeyKind::P256 { point } => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

/// The keys of the provider.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(pub(super) Vec<Key>);

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood; we understand none.
    #[serde(default)]
    crit: Option<Value>,
}

/// What a token must say.
pub(super) struct Expected<'e> {
    pub(super) issuer: &'e str,
    pub(super) client_id: &'e str,
    pub(super) nonce: &'e str,
    /// Seconds since 1970.
    pub(super) now: i64,
}

impl Expected<'_> {
    /// Believes a token, or says why not.
    pub(super) fn verify(&self, token: &str, keys: &Keys) -> Result<Claims, TokenError> {
        let claims = signed_claims(token, keys)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| claims.get(name).and_then(Value::as_f64);
        if text("iss") != self.issuer {
            return Err(TokenError::Issuer);
        }
        self.check_audience(&claims)?;
        let now = self.now as f64;
        let leeway = LEEWAY_SECONDS as f64;
        let is_fresh = number("exp").is_some_and(|exp| now < exp + leeway)
            && number("iat").is_some_and(|iat| iat < now + leeway)
            && number("nbf").is_none_or(|nbf| nbf < now + leeway);
        if !is_fresh {
            return Err(TokenError::Time);
        }
        if self.nonce.is_empty() || text("nonce") != self.nonce {
            return Err(TokenError::Nonce);
        }
        let subject = text("sub").to_owned();
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
            return Err(TokenError::Subject);
        }
        Ok(Claims {
            issuer: self.issuer.to_owned(),
            subject,
            all: claims,
        })
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let is_us = |value: &Value| value.as_str() == Some(self.client_id);
        let (fits, is_alone) = match claims.get("aud") {
            Some(Value::Array(all)) => (all.iter().any(is_us), all.len() == 1),
            Some(one) => (is_us(one), true),
            None => (false, false),
        };
        let party = claims.get("azp");
        match party {
            Some(party) if !is_us(party) => Err(TokenError::Audience),
            None if !is_alone => Err(TokenError::Audience),
            _ if fits => Ok(()),
            _ => Err(TokenError::Audience),
        }
    }
}

fn signed_claims(token: &str, keys: &Keys) -> Result<Map<String, Value>, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Form);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
    let (header, claims) = message.split_once('.').ok_or(TokenError::Form)?;
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Form);
    let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| TokenError::Form)?;
    if header.crit.is_some() || !["RS256", "ES256"].contains(&header.alg.as_str()) {
        return Err(TokenError::Algorithm);
    }
    let signature = decoded(signature)?;
    let mut fitting = keys.0.iter().filter(|key| {
        key.algorithm() == header.alg && (header.kid.is_none() || key.id == header.kid)
    });
    let mut is_known = false;
    let is_signed = fitting.any(|key| {
        is_known = true;
        key.has_signed(message.as_bytes(), &signature)
    });
    match (is_signed, is_known) {
        (true, _) => {}
        (false, true) => return Err(TokenError::Signature),
        (false, false) => return Err(TokenError::UnknownKey),
    }
    serde_json::from_slice(&decoded(claims)?).map_err(|_| TokenError::Form)
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::{Value, json};

    use super::{Expected, Key, Keys, TokenError};

    /// A provider's key pair.
    pub(crate) struct Signer(EcdsaKeyPair, SystemRandom);

    impl Signer {
        pub(crate) fn new() -> Self {
            let random = SystemRandom::new();
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let bytes = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, bytes.as_ref(), &random).unwrap();
            Self(pair, random)
        }

        pub(crate) fn jwk(&self) -> Value {
            let point = self.0.public_key().as_ref();
            let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            json!({ "kty": "EC", "crv": "P-256", "kid": "k", "x": text(&point[1..33]), "y": text(&point[33..]) })
        }

        pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
            let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", text(header), text(claims));
            let signature = self.0.sign(&self.1, message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    const NOW: i64 = 1_790_000_000;

    fn good() -> Value {
        json!({ "iss": "https://login.example", "aud": "forestage", "sub": "s1", "nonce": "n", "iat": NOW, "exp": NOW + 60 })
    }

    fn check(token: &str, signer: &Signer) -> Result<String, TokenError> {
        let expected = Expected {
            issuer: "https://login.example",
            client_id: "forestage",
            nonce: "n",
            now: NOW,
        };
        let keys = Keys(vec![Key::of_json(&signer.jwk()).unwrap()]);
        expected.verify(token, &keys).map(|claims| claims.subject)
    }

    #[test]
    fn only_the_token_of_this_sign_in_is_believed() {
        let signer = Signer::new();
        let header = json!({ "alg": "ES256", "kid": "k" });
        let with = |name: &str, value: Value| {
            let mut claims = good();
            claims[name] = value;
            check(&signer.sign(&header, &claims), &signer)
        };
        assert_eq!(
            check(&signer.sign(&header, &good()), &signer),
            Ok("s1".into())
        );
        assert_eq!(with("aud", json!(["forestage"])), Ok("s1".into()));
        for (name, value, error) in [
            ("iss", json!("https://evil.example"), TokenError::Issuer),
            ("iss", json!("https://login.example/"), TokenError::Issuer),
            ("aud", json!("another"), TokenError::Audience),
            ("aud", json!([]), TokenError::Audience),
            ("aud", json!(["forestage", "another"]), TokenError::Audience),
            ("azp", json!("another"), TokenError::Audience),
            ("nonce", json!("other"), TokenError::Nonce),
            ("nonce", Value::Null, TokenError::Nonce),
            ("exp", json!(NOW - 61), TokenError::Time),
            ("exp", Value::Null, TokenError::Time),
            ("iat", json!(NOW + 3600), TokenError::Time),
            ("nbf", json!(NOW + 3600), TokenError::Time),
            ("sub", json!(""), TokenError::Subject),
            ("sub", json!("s".repeat(256)), TokenError::Subject),
        ] {
            assert_eq!(with(name, value.clone()), Err(error), "{name}: {value}");
        }
    }

    #[test]
    fn a_signature_of_another_kind_or_key_is_refused() {
        let (signer, stranger) = (Signer::new(), Signer::new());
        let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
        let signed = |header: Value| check(&signer.sign(&header, &good()), &signer);
        assert_eq!(signed(header("none", "k")), Err(TokenError::Algorithm));
        assert_eq!(signed(header("HS256", "k")), Err(TokenError::Algorithm));
        assert_eq!(signed(header("RS256", "k")), Err(TokenError::UnknownKey));
        assert_eq!(signed(header("ES256", "x")), Err(TokenError::UnknownKey));
        assert_eq!(
            signed(json!({ "alg": "ES256", "kid": "k", "crit": ["exp"] })),
            Err(TokenError::Algorithm)
        );
        let foreign = stranger.sign(&header("ES256", "k"), &good());
        assert_eq!(check(&foreign, &signer), Err(TokenError::Signature));
        // The claims of one token with the signature of another.
        let token = signer.sign(&header("ES256", "k"), &good());
        let mut claims = good();
        claims["sub"] = json!("admin");
        let other = signer.sign(&header("ES256", "k"), &claims);
        let (message, _) = other.rsplit_once('.').unwrap();
        let (_, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{message}.{signature}");
        assert_eq!(check(&forged, &signer), Err(TokenError::Signature));
        let unsigned = format!("{message}.");
        assert_eq!(check(&unsigned, &signer), Err(TokenError::Signature));
    }

    proptest! {
        #[test]
        fn garbage_is_no_token(text in "(.|\\.){0,200}") {
            prop_assert!(check(&text, &Signer::new()).is_err());
        }
    }
}
