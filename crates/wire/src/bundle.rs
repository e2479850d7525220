//! The root of a prestage bundle: the one document that is signed. See `docs/formats/bundle.md`.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
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
