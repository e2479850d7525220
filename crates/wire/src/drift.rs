//! Drift: what changed since a prestage was built, and what it costs. Part of the admin API; see
//! `docs/formats/admin-api.md`.

use serde::{Deserialize, Serialize};

use crate::names::{InvalidText, PackageName, PackageVersion, PrestageName, StepPath};
use crate::package::PackageKind;

/// One version of a prestage, written `name@n`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub struct PrestageId {
    /// The prestage.
    pub prestage: PrestageName,
    /// The version, from 1.
    pub version: u32,
}

impl std::fmt::Display for PrestageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.prestage, self.version)
    }
}

impl std::str::FromStr for PrestageId {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidText {
            what: "version of a prestage",
            text: text.to_owned(),
            rule: "NAME@N, such as book-14@3",
        };
        let (name, version) = text.split_once('@').ok_or_else(invalid)?;
        let version = version.parse().ok().filter(|version| *version > 0);
        Ok(Self {
            prestage: name.parse()?,
            version: version.ok_or_else(invalid)?,
        })
    }
}

/// `GET /api/v1/prestage-diff?from=NAME@N&to=NAME@M`: what changed from one version to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PrestageDiff {
    /// The one version.
    pub from: PrestageId,
    /// The other.
    pub to: PrestageId,
    /// The bundle of the one in bytes.
    pub from_bytes: u64,
    /// The bundle of the other in bytes.
    pub to_bytes: u64,
    /// Packages that were added, removed or changed, by name.
    pub packages: Vec<PackageDifference>,
    /// How many packages are the same in both.
    pub unchanged: u32,
    /// How the factory sequences differ. `None` if one of the bundles isn't there any more.
    pub steps: Option<Vec<StepDifference>>,
}

/// A package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PackageDifference {
    /// The package.
    pub name: PackageName,
    /// Its kind.
    pub kind: PackageKind,
    /// The version before; `None` if it was added.
    pub from: Option<PackageVersion>,
    /// The version after; `None` if it was removed.
    pub to: Option<PackageVersion>,
    /// Its content before, in bytes before compression.
    pub from_bytes: u64,
    /// Its content after, in bytes before compression.
    pub to_bytes: u64,
    /// What a device that holds everything of the version before would fetch for it, in bytes as sent.
    pub fetch_bytes: u64,
}

/// A step that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepDifference {
    /// Where it stands.
    pub path: StepPath,
    /// What it is called.
    pub title: String,
    /// Added, removed or changed.
    pub change: Change,
    /// For `changed`: what, such as `with.volumes[2].size: 8 GiB → 12 GiB`.
    #[serde(default)]
    pub details: Vec<String>,
}

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It wasn't there before.
    Added,
    /// It isn't there any more.
    Removed,
    /// It is another.
    Changed,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        })
    }
}

/// `GET /api/v1/prestages/{name}/drift?version=N`: how far staged devices are behind what they would run today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PrestageDrift {
    /// The prestage.
    pub prestage: PrestageName,
    /// The version asked for; else every version that a device carries, and the latest. Newest first.
    pub versions: Vec<VersionDrift>,
}

/// The drift of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct VersionDrift {
    /// The version.
    pub version: u32,
    /// When it was built.
    pub built_at_ms: i64,
    /// How many devices carry it, by their check-in or receipt, whichever came last.
    pub devices: u32,
    /// How many of them have a deployment behind them: what it needed is fetched already.
    pub deployed: u32,
    /// Every package that the version carries, that a run could ask for today, or that a bundle would carry today; by
    /// name.
    pub packages: Vec<PackageDrift>,
    /// What each of these devices fetches at most if it is deployed today, in bytes as sent.
    pub fetch_bytes: u64,
    /// How a factory sequence derived today would differ. `None` if the bundle isn't there any more.
    pub steps: Option<Vec<StepDifference>>,
}

impl VersionDrift {
    /// What all devices that aren't deployed yet fetch together, at most.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let waiting = self.devices.saturating_sub(self.deployed);
        self.fetch_bytes.saturating_mul(u64::from(waiting))
    }
}

/// The drift of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PackageDrift {
    /// The package.
    pub name: PackageName,
    /// Its kind.
    pub kind: PackageKind,
    /// The version staged; `None` if it wasn't.
    pub staged: Option<PackageVersion>,
    /// The version today; `None` if no run could ask for it and no bundle would carry it any more.
    pub now: Option<PackageVersion>,
    /// What a device fetches for it, in bytes as sent: the chunks that are in nothing it holds, and the manifest.
    pub fetch_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::PrestageId;

    #[test]
    fn versions_are_written_with_their_name() {
        let check = |text: &str| text.parse::<PrestageId>().map(|id| id.to_string());
        assert_eq!(check("book-14@3"), Ok("book-14@3".into()));
        for text in [
            "", "book", "book@", "book@0", "book@x", "Book@1", "book@1@2",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
