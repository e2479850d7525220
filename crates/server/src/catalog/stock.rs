//! What staged devices hold, and what they would have to fetch. Computed once for each version of a prestage, never for
//! each device.

use std::collections::{BTreeMap, HashSet};

use content::{Library, Patch};
use sqlx::AnyConnection;
use wire::admin_api::PrestageVersion;
use wire::device_api::Staged;
use wire::digest::Digest;
use wire::drift::PrestageId;
use wire::names::PrestageName;
use wire::package::Package;
use wire::receipt::{Receipt, ReceiptResult};

use crate::catalog::keys::Signers;
use crate::catalog::patches::offers;
use crate::error::{Doing as _, Failure, stored};

/// What a device carries since the factory, as far as anyone told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried {
    /// The version.
    pub(crate) id: PrestageId,
    /// The digest of the bundle's signed root; not every receipt has it.
    bundle: Option<Digest>,
}

impl Carried {
    /// As a check-in says it.
    pub(crate) fn staged(&self) -> Option<Staged> {
        Some(Staged {
            prestage: self.id.prestage.clone(),
            version: self.id.version,
            bundle: self.bundle?,
        })
    }
}

/// Which version of a prestage each staged device carries, by the key of its serial number. A check-in and a receipt may
/// contradict each other: whichever came last is right. Receipts of devices that nobody imported count too.
pub(crate) async fn carried(db: &mut AnyConnection) -> Result<BTreeMap<String, Carried>, Failure> {
    let receipts: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT serial_key, document, received_at_ms FROM receipts WHERE serial_key <> '' ORDER BY received_at_ms",
    )
    .fetch_all(&mut *db)
    .await
    .doing("read the receipts")?;
    let devices: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT serial_key, staged, checked_in_at_ms FROM devices WHERE staged <> ''",
    )
    .fetch_all(&mut *db)
    .await
    .doing("read what is staged on the devices")?;
    let mut latest: BTreeMap<String, (i64, Option<Carried>)> = BTreeMap::new();
    for (serial, document, at) in receipts {
        let receipt: Receipt = stored("receipt", &document)?;
        latest.insert(serial, (at, of_receipt(receipt)));
    }
    for (serial, document, at) in devices {
        let staged: Staged = stored("staged content", &document)?;
        if latest.get(&serial).is_none_or(|(known, _)| *known <= at) {
            let id = PrestageId {
                prestage: staged.prestage,
                version: staged.version,
            };
            let bundle = Some(staged.bundle);
            latest.insert(serial, (at, Some(Carried { id, bundle })));
        }
    }
    Ok(latest
        .into_iter()
        .filter_map(|(serial, (_, carries))| Some((serial, carries?)))
        .collect())
}

fn of_receipt(receipt: Receipt) -> Option<Carried> {
    if receipt.result != ReceiptResult::Staged {
        return None;
    }
    let id = PrestageId {
        prestage: receipt.prestage?,
        version: receipt.prestage_version?,
    };
    Some(Carried {
        id,
        bundle: receipt.bundle,
    })
}

/// A version of a prestage as it was built.
pub(crate) async fn built(
    db: &mut AnyConnection,
    id: &PrestageId,
) -> Result<Option<PrestageVersion>, Failure> {
    let row: Option<BuiltRow> = sqlx::query_as(
        "SELECT document, signer, signed FROM prestage_versions WHERE prestage = $1 AND version = $2",
    )
    .bind(id.prestage.as_str())
    .bind(i64::from(id.version))
    .fetch_optional(&mut *db)
    .await
    .doing("read the version of a prestage")?;
    let mut found = with_signers(db, row.into_iter().collect()).await?;
    Ok(found.pop())
}

/// The document of a version, the public key of who signs it, and whether that was done.
pub(crate) type BuiltRow = (String, String, i64);

/// Versions of prestages, with who signed them.
pub(crate) async fn with_signers(
    db: &mut AnyConnection,
    rows: Vec<BuiltRow>,
) -> Result<Vec<PrestageVersion>, Failure> {
    let signers = Signers::read(db).await?;
    let version = |(document, signer, signed): BuiltRow| {
        Ok(PrestageVersion {
            signed: signers.of(&signer, signed != 0),
            ..stored("prestage", &document)?
        })
    };
    rows.into_iter().map(version).collect()
}

/// All versions of a prestage, newest first.
pub(crate) async fn versions(
    db: &mut AnyConnection,
    name: &PrestageName,
) -> Result<Vec<PrestageVersion>, Failure> {
    let rows: Vec<BuiltRow> = sqlx::query_as(
        "SELECT document, signer, signed FROM prestage_versions WHERE prestage = $1 ORDER BY version DESC",
    )
    .bind(name.as_str())
    .fetch_all(&mut *db)
    .await
    .doing("read the versions of a prestage")?;
    with_signers(db, rows).await
}

/// The packages in the bundle of a version, as they were published.
pub(crate) async fn packages_of(
    db: &mut AnyConnection,
    version: &PrestageVersion,
) -> Result<Vec<Package>, Failure> {
    let mut packages = Vec::with_capacity(version.plan.kept.len());
    for item in &version.plan.kept {
        let document: String =
            sqlx::query_scalar("SELECT document FROM packages WHERE name = $1 AND version = $2")
                .bind(item.name.as_str())
                .bind(item.version.as_str())
                .fetch_one(&mut *db)
                .await
                .doing("read a package that was built into a prestage")?;
        packages.push(stored("package", &document)?);
    }
    Ok(packages)
}

/// What a device holds: the content of some packages.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    manifests: HashSet<Digest>,
    chunks: HashSet<Digest>,
}

impl Stock {
    /// That of a device which was staged with `packages`.
    pub(crate) fn of(library: &Library, packages: &[Package]) -> Result<Self, Failure> {
        let mut stock = Self::default();
        for package in packages {
            if stock.manifests.insert(package.manifest) {
                let manifest = manifest(library, package)?;
                stock
                    .chunks
                    .extend(manifest.chunks().iter().map(|chunk| chunk.digest));
            }
        }
        Ok(stock)
    }

    /// What such a device lacks of a package.
    pub(crate) fn lacks(&self, library: &Library, package: &Package) -> Result<Lack, Failure> {
        // Nothing is read for what was staged as it is: that is most of it.
        if self.manifests.contains(&package.manifest) {
            return Ok(Lack::default());
        }
        let manifest = manifest(library, package)?;
        let mut seen: HashSet<Digest> = HashSet::new();
        let mut lack = Lack {
            manifest_bytes: package.manifest_bytes,
            chunks: Vec::new(),
        };
        if let Some((patch, front_bytes)) = self.patch(library, package)? {
            lack.manifest_bytes = front_bytes;
            for (bytes, makes) in patch.worth(|digest| self.chunks.contains(digest)) {
                // The first chunk of a part brings the others with it.
                let made = makes.filter(|digest| seen.insert(*digest));
                let bytes = std::iter::once(bytes).chain(std::iter::repeat(0));
                lack.chunks.extend(made.zip(bytes));
            }
        }
        let missing = manifest
            .chunks()
            .iter()
            .filter(|chunk| !self.chunks.contains(&chunk.digest) && seen.insert(chunk.digest));
        lack.chunks.extend(missing.map(|chunk| {
            // A chunk that is damaged here has no length as stored; the next import brings it back.
            let bytes = library.frame_bytes(&chunk.digest);
            (chunk.digest, bytes.unwrap_or(u64::from(chunk.bytes)))
        }));
        Ok(lack)
    }

    /// The patch that such a device takes, and how long its front is: the same choice as the device makes.
    fn patch(&self, library: &Library, package: &Package) -> Result<Option<(Patch, u64)>, Failure> {
        let offers = offers(library, &package.manifest)?;
        let mut usable = offers
            .iter()
            .filter(|offer| self.manifests.contains(&offer.from));
        let Some(offer) = usable.next() else {
            return Ok(None);
        };
        let read = || {
            let known = library.manifest_bytes(&offer.from)?;
            let file = library.patch(&offer.from, &package.manifest)?;
            let (Some(known), Some(mut file)) = (known, file) else {
                return Ok(None);
            };
            let patch = Patch::read(&mut file, &known)?;
            Ok(Some((patch, offer.front_bytes)))
        };
        read().map_err(|source| Failure::Content {
            what: format!("read the patch to package {}", package.name),
            source,
        })
    }
}

fn manifest(library: &Library, package: &Package) -> Result<content::Manifest, Failure> {
    library
        .manifest(&package.manifest)
        .map_err(|source| Failure::Content {
            what: format!("read the manifest of package {}", package.name),
            source,
        })
}

/// What a device lacks of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lack {
    manifest_bytes: u64,
    /// Each chunk once, with its length as sent.
    chunks: Vec<(Digest, u64)>,
}

/// The bytes to fetch for each of these, in this order: a chunk that two of them need is fetched for the first.
pub(crate) fn bytes_of(lacks: &[&Lack]) -> Vec<u64> {
    let mut fetched = HashSet::new();
    let bytes = |lack: &&Lack| {
        let chunks = lack
            .chunks
            .iter()
            .filter(|(digest, _)| fetched.insert(*digest));
        lack.manifest_bytes + chunks.map(|(_, bytes)| bytes).sum::<u64>()
    };
    lacks.iter().map(bytes).collect()
}
