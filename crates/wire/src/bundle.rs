//! The root of a prestage bundle: the one document that is signed. See `docs/formats/bundle.md`.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::PublicKey;
use crate::names::PrestageName;
use crate::package::{Model, Package};
use crate::sequence::CompiledSequence;

/// Everything a bundle holds, by digest and length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct BundleRoot {
    /// 1.
    pub format: u32,
    /// The prestage it was built from.
    pub prestage: PrestageName,
    /// Its version, from 1.
    pub version: u32,
    /// When it was built, in milliseconds since 1970.
    pub built_at_ms: i64,
    /// The only model it may be staged on.
    pub model: Model,
    /// The built-in or replaced `stage` sequence.
    pub stage: CompiledSequence,
    /// All packages it carries.
    pub packages: Vec<Package>,
    /// The manifests, in the order they lie in the file.
    pub manifests: Vec<BundlePart>,
    /// The packs, in the order they lie in the file, after the manifests.
    pub packs: Vec<BundlePart>,
    /// The digests of all frames in the packs, behind them; older bundles have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<BundlePart>,
    /// The bytes of content before compression.
    pub content_bytes: u64,
}

/// A stretch of the bundle file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct BundlePart {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A signature over the root of a bundle, made where the bundle isn't. See `docs/formats/bundle-signature.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct BundleSignature {
    /// 1.
    pub format: u32,
    /// The public half of the key that made it.
    pub key: PublicKey,
    /// The digest of the root it was made over.
    pub root: Digest,
    /// The signature.
    pub signature: SignatureText,
}

/// Why some bytes are no signature of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// Another file.
    #[error("this is no file with the signature of a bundle")]
    NotOne,
    /// A newer release made it.
    #[error("the signature has format {0}; this release reads format 1")]
    Newer(u32),
}

impl BundleSignature {
    /// The longest file: three times what is written.
    pub const BYTES_MAX: usize = 1024;

    /// Reads a file with a signature. Whether the signature is good is not known yet.
    ///
    /// # Errors
    /// If it is none, or a newer one.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidSignature> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(InvalidSignature::NotOne);
        }
        let signature: Self =
            serde_json::from_slice(bytes).map_err(|_| InvalidSignature::NotOne)?;
        match signature.format {
            1 => Ok(signature),
            0 => Err(InvalidSignature::NotOne),
            newer => Err(InvalidSignature::Newer(newer)),
        }
    }
}

hex_bytes!(
    /// An Ed25519 signature (RFC 8032), as 128 hexadecimal digits.
    SignatureText,
    64,
    "128 small hexadecimal digits"
);

#[cfg(test)]
mod tests {
    use super::{BundleSignature, InvalidSignature};

    fn file(format: u32, key: &str, signature: &str) -> String {
        let root = "0".repeat(64);
        format!(r#"{{"format":{format},"key":"{key}","root":"{root}","signature":"{signature}"}}"#)
    }

    #[test]
    fn a_signature_is_read_as_it_is_written_and_nothing_else_is() {
        let (key, signature) = ("ab".repeat(32), "cd".repeat(64));
        let good = file(1, &key, &signature);
        let read = BundleSignature::parse(good.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), good);
        assert_eq!(read.signature.as_bytes(), &[0xcd; 64]);
        let parse = |text: String| BundleSignature::parse(text.as_bytes());
        assert_eq!(
            parse(file(2, &key, &signature)),
            Err(InvalidSignature::Newer(2))
        );
        for text in [
            String::new(),
            file(0, &key, &signature),
            file(1, &key[1..], &signature),
            file(1, &key, &signature[2..]),
            file(1, &key.to_uppercase(), &signature),
            format!("{good}{}", " ".repeat(BundleSignature::BYTES_MAX)),
            format!("{good}{good}"),
        ] {
            assert_eq!(parse(text), Err(InvalidSignature::NotOne));
        }
    }
}
