//! `forestage content stats|verify|gc|repair`: of the server's library, or of one in a folder.

use std::collections::HashSet;
use std::fs::File;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use client::Client;
use content::{Bundle, ChunkSource, ContentError, Library, Manifest, Verified, converge_library};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use wire::content::{Collected, PackageContent};
use wire::digest::Digest;

use crate::bundle::{keys_of, open_verified, parse_key};
use crate::commands::package::{missing_on_server, upload};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Output, Table, bytes, count};
use crate::settings::connect;

/// Whose library.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// A library in this folder, such as that on the staging partition of a device; without it, the server's
    #[arg(long, value_name = "FOLDER")]
    library: Option<Utf8PathBuf>,
}

/// `content gc`
#[derive(Debug, Args)]
pub(crate) struct Gc {
    #[command(flatten)]
    of: Of,
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
}

/// `content repair`
#[derive(Debug, Args)]
pub(crate) struct Repair {
    #[command(flatten)]
    of: Of,
    /// Where sound chunks are taken from: a bundle, or the folder of another library
    #[arg(long, value_name = "BUNDLE|FOLDER")]
    from: Utf8PathBuf,
    /// The key that signed the bundle (64 hexadecimal digits); without it the server is asked
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    key: Option<VerifyingKey>,
}

/// What a library holds.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Stats {
    packs: u64,
    chunks: u64,
    content_bytes: u64,
    stored_bytes: u64,
    manifests: u64,
    named_by: Vec<Named>,
}

/// A manifest, and who names it.
#[derive(Serialize, Clone)]
#[serde(rename_all = "kebab-case")]
struct Named {
    /// A package and its version; where nobody knows, the manifest.
    name: String,
    chunks: u64,
    content_bytes: u64,
    lost: Vec<Digest>,
    is_manifest_lost: bool,
}

impl From<PackageContent> for Named {
    fn from(package: PackageContent) -> Self {
        Self {
            name: format!("{} {}", package.name, package.version),
            chunks: package.chunks,
            content_bytes: package.content_bytes,
            lost: package.lost,
            is_manifest_lost: package.is_manifest_lost,
        }
    }
}

impl Named {
    fn is_whole(&self) -> bool {
        self.lost.is_empty() && !self.is_manifest_lost
    }

    fn state(&self) -> String {
        match (self.is_manifest_lost, self.lost.len()) {
            (true, _) => "its manifest is lost".to_owned(),
            (false, 0) => "whole".to_owned(),
            (false, lost) => format!("{} lost", count(lost, "chunk")),
        }
    }
}

/// What came of reading everything.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    chunks: u64,
    bytes: u64,
    damaged: Vec<Digest>,
    lacking: Vec<Named>,
}

/// `content stats`
pub(crate) fn stats(of: &Of, output: &Output) -> Outcome<()> {
    let stats = match &of.library {
        Some(folder) => {
            let library = open(folder)?;
            let stats = library.stats();
            let named_by = named(&library)?;
            Stats {
                packs: stats.packs,
                chunks: stats.chunks,
                content_bytes: stats.content_bytes,
                stored_bytes: stats.stored_bytes,
                manifests: named_by.len() as u64,
                named_by,
            }
        }
        None => {
            let stats = connect()?
                .content_stats()
                .trying(|| "cannot ask the server for its content".into())?;
            Stats {
                packs: stats.packs,
                chunks: stats.chunks,
                content_bytes: stats.content_bytes,
                stored_bytes: stats.stored_bytes,
                manifests: stats.manifests,
                named_by: stats.packages.into_iter().map(Named::from).collect(),
            }
        }
    };
    output.answer(&stats, |look| {
        let mut table = Table::new(&["named by", ">chunks", ">content", "state"]);
        for named in &stats.named_by {
            table.row([
                named.name.clone(),
                named.chunks.to_string(),
                bytes(named.content_bytes),
                named.state(),
            ]);
        }
        format!(
            "{} chunks with {} in {} packs, which take {}; {} manifests\n{}",
            stats.chunks,
            bytes(stats.content_bytes),
            stats.packs,
            bytes(stats.stored_bytes),
            stats.manifests,
            table.render(look, "")
        )
    })
}

/// `content verify`
pub(crate) fn verify(of: &Of, output: &Output) -> Outcome<()> {
    let report = match &of.library {
        Some(folder) => verify_folder(&open(folder)?, folder, output)?,
        None => {
            let report = connect()?
                .verify_content()
                .trying(|| "cannot have the server verify its content".into())?;
            Report {
                chunks: report.chunks,
                bytes: report.bytes,
                damaged: report.damaged,
                lacking: report.packages.into_iter().map(Named::from).collect(),
            }
        }
    };
    output.answer(&report, |_| verified(&report))?;
    match report.damaged.is_empty() && report.lacking.is_empty() {
        true => Ok(()),
        false => Err(Failure::new("content is damaged or lost").hint(
            "`forestage content repair --from BUNDLE` takes it again, and so does importing the package once more; if it \
             happens again, the disk is failing",
        )),
    }
}

/// Each damaged chunk with who needs it, and who lacks what was lost before.
fn verified(report: &Report) -> String {
    let needing = |digest: &Digest| {
        let names = (report.lacking.iter())
            .filter(|named| named.lost.contains(digest))
            .map(|named| named.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    for digest in &report.damaged {
        let needing = needing(digest);
        text += &match needing.as_str() {
            "" => format!("damaged: {digest}, which nobody needs\n"),
            _ => format!("damaged: {digest}, needed by {needing}\n"),
        };
    }
    for named in &report.lacking {
        text += &format!("{}: {}\n", named.name, named.state());
    }
    text + &format!(
        "{} chunks with {} are right\n",
        report.chunks,
        bytes(report.bytes)
    )
}

/// `content gc`
pub(crate) fn gc(gc: &Gc, output: &Output) -> Outcome<()> {
    let collected = match &gc.of.library {
        Some(folder) => gc_folder(folder, gc.dry_run, output)?,
        None => connect()?
            .collect_content(gc.dry_run)
            .trying(|| "cannot have the server remove content".into())?,
    };
    output.answer(&collected, |_| {
        let verb = if gc.dry_run { "would go" } else { "are gone" };
        format!(
            "{} and {} {verb}, {} freed; {} removed, {} written anew\n",
            count(collected.manifests.len(), "manifest"),
            count(
                usize::try_from(collected.chunks).unwrap_or(usize::MAX),
                "chunk"
            ),
            bytes(collected.freed_bytes),
            count(
                usize::try_from(collected.packs_removed).unwrap_or(usize::MAX),
                "pack"
            ),
            collected.packs_rewritten
        )
    })
}

/// In a folder every manifest counts as needed: only what no manifest names goes.
fn gc_folder(folder: &Utf8Path, dry_run: bool, output: &Output) -> Outcome<Collected> {
    let trying = || format!("cannot collect in the content library {folder}");
    let library = open(folder)?;
    let needed: HashSet<Digest> = library.manifests().trying(trying)?.into_iter().collect();
    let plan = library
        .plan_gc(&needed, SystemTime::now())
        .map_err(|error| match error {
            error @ ContentError::MissingManifest { .. } => Failure::refused(trying())
                .because(error)
                .hint("`forestage content repair` first: nobody knows what that manifest needs"),
            error => Failure::new(trying()).because(error),
        })?;
    if !dry_run {
        library
            .gc(&plan, &output.bytes_bar("collecting"))
            .trying(trying)?;
    }
    Ok(Collected {
        dry_run,
        chunks: plan.chunks,
        packs_removed: plan.packs_removed() as u64,
        packs_rewritten: plan.packs_rewritten() as u64,
        freed_bytes: plan.freed_bytes,
        manifests: plan.manifests,
    })
}

/// What came of a repair.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Repaired {
    chunks: usize,
    manifests: usize,
    lacking: Vec<Named>,
}

/// `content repair`
pub(crate) fn repair(repair: &Repair, output: &Output) -> Outcome<()> {
    let source = Source::open(repair)?;
    let repaired = match &repair.of.library {
        Some(folder) => repair_folder(folder, &source, output)?,
        None => repair_server(&connect()?, &source, output)?,
    };
    output.answer(&repaired, |_| {
        let lacking =
            (repaired.lacking.iter()).map(|named| format!("{}: {}\n", named.name, named.state()));
        format!(
            "{}{} and {} taken from {}\n",
            lacking.collect::<String>(),
            count(repaired.chunks, "chunk"),
            count(repaired.manifests, "manifest"),
            repair.from
        )
    })?;
    match repaired.lacking.len() {
        0 => Ok(()),
        _ => Err(
            Failure::new(format!("{} doesn't have all that is lost", repair.from)).hint(
                "take the rest from another bundle, or import the packages named above again",
            ),
        ),
    }
}

fn repair_folder(folder: &Utf8Path, source: &Source, output: &Output) -> Outcome<Repaired> {
    let trying = || format!("cannot repair the content library {folder}");
    let library = open(folder)?;
    verify_folder(&library, folder, output)?;
    let (mut manifests, mut found) = (Vec::new(), 0);
    for digest in library.manifests().trying(trying)? {
        if library.manifest_bytes(&digest).trying(trying)?.is_none()
            && let Some(bytes) = source.manifest_bytes(&digest)?
        {
            library.put_manifest(&bytes).trying(trying)?;
            found += 1;
        }
        manifests.extend(library.manifest(&digest).ok());
    }
    let before = library.stats().chunks;
    match converge_library(
        &manifests,
        &library,
        &[source.chunks()],
        &output.bytes_bar("repairing"),
    ) {
        // What it doesn't have is named below.
        Ok(_) | Err(ContentError::MissingChunk { .. }) => {}
        Err(error) => return Err(Failure::new(trying()).because(error)),
    }
    let chunks = library.stats().chunks.saturating_sub(before);
    let mut lacking = named(&library)?;
    lacking.retain(|named| !named.is_whole());
    Ok(Repaired {
        chunks: usize::try_from(chunks).unwrap_or(usize::MAX),
        manifests: found,
        lacking,
    })
}

fn repair_server(client: &Client, source: &Source, output: &Output) -> Outcome<Repaired> {
    let trying = || "cannot repair the server's content".to_owned();
    let report = client.verify_content().trying(trying)?;
    let (mut lost, mut found) = (Vec::new(), 0);
    let mut seen = HashSet::new();
    for package in &report.packages {
        if !package.is_manifest_lost {
            lost.extend(&package.lost);
        } else if let Some(bytes) = source.manifest_bytes(&package.manifest)?
            && seen.insert(package.manifest)
        {
            let manifest = Manifest::decode(&bytes).trying(trying)?;
            client
                .upload_manifest(&package.manifest, &bytes)
                .trying(trying)?;
            lost.extend(missing_on_server(client, &manifest)?);
            found += 1;
        }
    }
    lost.retain(|digest| seen.insert(*digest));
    // Chunks from outside are checked before they are sent, and what is sent is read from a library.
    let folder = tempfile::tempdir().trying(|| "cannot make a temporary folder".into())?;
    let folder = Utf8Path::from_path(folder.path())
        .ok_or_else(|| Failure::new("the temporary folder has no UTF-8 path"))?;
    let library = Library::open(folder).trying(trying)?;
    let mut writer = library.pack_writer().trying(trying)?;
    let taken = source
        .chunks()
        .fetch(&lost, &mut |frame| match writer.add_frame(&frame) {
            // It is as good as not there.
            Err(ContentError::DamagedChunk { .. }) => Ok(()),
            added => added,
        });
    taken.trying(trying)?;
    writer.finish().trying(trying)?;
    lost.retain(|digest| library.contains(digest));
    upload(client, &library, &lost, &output.bytes_bar("repairing"))?;
    let now = client.content_stats().trying(trying)?;
    let lacking = now.packages.into_iter().map(Named::from);
    Ok(Repaired {
        chunks: lost.len(),
        manifests: found,
        lacking: lacking.filter(|named| !named.is_whole()).collect(),
    })
}

/// Where sound chunks come from.
enum Source {
    Bundle(Box<Bundle<File, Verified>>),
    Library(Library),
}

impl Source {
    fn open(repair: &Repair) -> Outcome<Self> {
        if repair.from.is_dir() {
            return open(&repair.from).map(Self::Library);
        }
        let keys = match repair.key {
            Some(key) => vec![key],
            None => keys_of(
                &connect()?
                    .trust()
                    .trying(|| "cannot ask the server whom to trust".into())?,
            )?,
        };
        open_verified(&repair.from, &keys).map(|bundle| Self::Bundle(Box::new(bundle)))
    }

    fn chunks(&self) -> &dyn ChunkSource {
        match self {
            Self::Bundle(bundle) => &**bundle,
            Self::Library(library) => library,
        }
    }

    fn manifest_bytes(&self, digest: &Digest) -> Outcome<Option<Vec<u8>>> {
        match self {
            Self::Bundle(bundle) => {
                let mut found = bundle.manifests().iter();
                Ok(found
                    .find(|(known, _)| known == digest)
                    .map(|(_, bytes)| bytes.clone()))
            }
            Self::Library(library) => library
                .manifest_bytes(digest)
                .trying(|| format!("cannot read manifest {digest}")),
        }
    }
}

fn open(folder: &Utf8Path) -> Outcome<Library> {
    // Opening a library makes it where there is none; a typing error must not.
    if !folder.join("packs").is_dir() {
        return Err(Failure::new(format!("{folder} holds no content library"))
            .because(Failure::new("it has no folder `packs`")));
    }
    Library::open(folder).trying(|| format!("cannot open the content library {folder}"))
}

fn verify_folder(library: &Library, folder: &Utf8Path, output: &Output) -> Outcome<Report> {
    let report = library
        .verify(&output.bytes_bar("verifying"))
        .trying(|| format!("cannot verify the content library {folder}"))?;
    let mut lacking = named(library)?;
    lacking.retain(|named| !named.is_whole());
    Ok(Report {
        chunks: report.chunks,
        bytes: report.bytes,
        damaged: report.damaged,
        lacking,
    })
}

/// All manifests of a library, and what each of them lacks.
fn named(library: &Library) -> Outcome<Vec<Named>> {
    let digests = library
        .manifests()
        .trying(|| "cannot list the manifests".into())?;
    let named = digests.into_iter().map(|digest| {
        let manifest = library.manifest(&digest).ok();
        let chunks: HashSet<Digest> = (manifest.iter())
            .flat_map(Manifest::chunks)
            .map(|chunk| chunk.digest)
            .collect();
        let lost = manifest.as_ref().map(|manifest| library.missing(manifest));
        Named {
            name: format!("manifest {}", digest.short()),
            chunks: chunks.len() as u64,
            content_bytes: manifest.as_ref().map_or(0, Manifest::content_bytes),
            lost: lost
                .unwrap_or_default()
                .iter()
                .map(|chunk| chunk.digest)
                .collect(),
            is_manifest_lost: manifest.is_none(),
        }
    });
    Ok(named.collect())
}
