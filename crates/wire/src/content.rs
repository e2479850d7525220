//! The server's content library: how much is in it and for whom, whether it is sound, and what nobody needs.
//!
//! | request | answers |
//! | --- | --- |
//! | `GET /api/v1/content/stats` | [`ContentStats`] |
//! | `POST /api/v1/content/verify` | [`ContentReport`] |
//! | `POST /api/v1/content/gc` with [`CollectContent`] | [`Collected`] |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::{PackageName, PackageVersion};

/// How much a content library holds, and for which packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ContentStats {
    /// How many packs.
    pub packs: u64,
    /// How many different chunks.
    pub chunks: u64,
    /// Their bytes before compression.
    pub content_bytes: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
    /// How many manifests.
    pub manifests: u64,
    /// The packages that name them, all versions.
    pub packages: Vec<PackageContent>,
}

/// What a package has in a library. Packages share chunks, so the sum may be more than the library holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PackageContent {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// Its manifest.
    pub manifest: Digest,
    /// How many different chunks it has; 0 if its manifest is lost.
    pub chunks: u64,
    /// Their bytes before compression.
    pub content_bytes: u64,
    /// The chunks that aren't there. If the manifest is lost, nobody can tell.
    pub lost: Vec<Digest>,
    /// Whether its manifest isn't there, or is damaged.
    pub is_manifest_lost: bool,
}

impl PackageContent {
    /// Whether everything is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && !self.is_manifest_lost
    }
}

/// What came of reading everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ContentReport {
    /// Chunks that are right.
    pub chunks: u64,
    /// Their bytes before compression.
    pub bytes: u64,
    /// Chunks that were found damaged now. They count as lost from then on.
    pub damaged: Vec<Digest>,
    /// The packages that lack something, whenever it was lost.
    pub packages: Vec<PackageContent>,
}

/// Removes what no package needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CollectContent {
    /// Only tell what would go.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Collected {
    /// Whether it only would.
    pub dry_run: bool,
    /// Manifests.
    pub manifests: Vec<Digest>,
    /// Chunks.
    pub chunks: u64,
    /// Packs that go as a whole.
    pub packs_removed: u64,
    /// Packs that are written anew without what nobody needs.
    pub packs_rewritten: u64,
    /// The bytes that are free afterwards.
    pub freed_bytes: u64,
}
