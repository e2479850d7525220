//! `forestage package`: content, captured here and published on the server.

use std::fs::File;
use std::io::Read;

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use client::Client;
use content::{Library, Manifest, capture_image, capture_tree};
use media::package_definition::{PreparedContent, load_definition, prepare_package};
use serde::Serialize;
use wire::admin_api::{DIGESTS_MAX, PackageRow};
use wire::digest::Digest;
use wire::package::Package as WirePackage;

use crate::failure::{Outcome, Trying};
use crate::output::{Bar, Look, Output, Phases, Table, bytes, moment};
use crate::settings::{cache_folder, connect, temporary_folder};

/// One upload: what a broken connection loses at most, and one pack on the server.
const UPLOAD_BYTES: u64 = 256 << 20;

/// Content, captured here and published on the server.
#[derive(Debug, Subcommand)]
pub(crate) enum Package {
    /// Capture content and publish it as a package
    ///
    /// Packages are OS images, boot images, applications, drivers and files. A definition (YAML) says what
    /// the package is and where its content comes from: a filesystem image, a disk of a virtual machine (raw, qcow2,
    /// VHDX), a Windows archive (WIM), a folder, a tar archive or Debian's packages. Only chunks that the server lacks
    /// are sent, so importing the next version of a package sends the difference.
    #[command(after_help = "Example:\n  forestage package import packages/*.yaml")]
    Import(Import),
    /// List all packages and their versions
    #[command(after_help = "Example:\n  forestage package list")]
    List,
}

/// `package import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The definitions
    #[arg(required = true, value_name = "DEFINITION.yaml")]
    definitions: Vec<Utf8PathBuf>,
    /// Where downloads and prepared content are kept [default: ~/.cache/forestage]
    #[arg(long, value_name = "DIR")]
    cache: Option<Utf8PathBuf>,
}

/// What one import did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Imported {
    package: WirePackage,
    /// Content before compression.
    content_bytes: u64,
    /// Of these, in chunks the server didn't have.
    new_bytes: u64,
    /// What was sent, compressed.
    uploaded_bytes: u64,
}

/// Does what was asked.
pub(crate) fn run(command: &Package, output: &Output) -> Outcome<()> {
    match command {
        Package::Import(import) => run_import(import, output),
        Package::List => {
            let rows = connect()?
                .packages()
                .trying(|| "cannot list packages".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
    }
}

fn run_import(import: &Import, output: &Output) -> Outcome<()> {
    let client = connect()?;
    let cache = import.cache.clone().map_or_else(cache_folder, Ok)?;
    let mut done = Vec::new();
    for path in &import.definitions {
        done.push(
            import_one(&client, path, &cache, output).trying(|| format!("cannot import {path}"))?,
        );
    }
    output.answer(&done, |look| render_imported(&done, look))
}

fn import_one(
    client: &Client,
    path: &Utf8Path,
    cache: &Utf8Path,
    output: &Output,
) -> Outcome<Imported> {
    let definition = load_definition(path).trying(|| "cannot use the definition".into())?;
    let base = path.parent().unwrap_or(Utf8Path::new(""));
    let phases = Phases::new(output);
    let prepared = prepare_package(&definition, base, cache, &phases)
        .trying(|| format!("cannot prepare the content of {}", definition.name))?;
    drop(phases);

    let scratch = temporary_folder()?;
    let library =
        Library::open(&scratch.path).trying(|| "cannot open a temporary content library".into())?;
    let mut package = prepared.package;
    let title = format!("{} {}", package.name, package.version);
    output.say(&format!("capturing {title}"));
    let manifest = capture(&prepared.content, &library, &output.bytes_bar(&title))?;
    let manifest_bytes = manifest.encode();
    package.manifest = Digest::of(&manifest_bytes);
    package.manifest_bytes = manifest_bytes.len() as u64;
    package.content_bytes = manifest.content_bytes();
    if let Some(image_bytes) = manifest.image_bytes() {
        package.volume_bytes_min = package.volume_bytes_min.max(image_bytes);
    }

    let missing = missing_on_server(client, &manifest)?;
    let new_bytes = manifest_bytes_of(&manifest, &missing);
    output.say(&format!(
        "uploading {title}: {} new of {}",
        bytes(new_bytes),
        bytes(package.content_bytes)
    ));
    let uploaded_bytes = upload(client, &library, &missing, &output.bytes_bar(&title))?;
    client
        .upload_manifest(&package.manifest, &manifest_bytes)
        .trying(|| "cannot upload the manifest".into())?;
    let row = client
        .publish(&package)
        .trying(|| format!("cannot publish {title}"))?;
    let content_bytes = row.package.content_bytes;
    Ok(Imported {
        package: row.package,
        content_bytes,
        new_bytes,
        uploaded_bytes,
    })
}

fn capture(content: &PreparedContent, library: &Library, bar: &Bar) -> Outcome<Manifest> {
    let failed = || "cannot store captured content".into();
    let mut pack = library.pack_writer().trying(failed)?;
    let manifest = match content {
        PreparedContent::Tree(folder) => capture_tree(folder, &mut pack, bar)
            .trying(|| format!("cannot capture the folder {folder}"))?,
        PreparedContent::Image(path) => {
            let image = File::open(path).trying(|| format!("cannot open the image {path}"))?;
            capture_image(&image, &mut pack, bar)
                .trying(|| format!("cannot capture the image {path}"))?
        }
    };
    pack.finish().trying(failed)?;
    Ok(manifest)
}

/// The chunks of the manifest that the server lacks, each once, in apply order.
pub(crate) fn missing_on_server(client: &Client, manifest: &Manifest) -> Outcome<Vec<Digest>> {
    let mut seen = std::collections::HashSet::new();
    let all: Vec<Digest> = manifest
        .chunks()
        .iter()
        .map(|chunk| chunk.digest)
        .filter(|digest| seen.insert(*digest))
        .collect();
    let mut missing = std::collections::HashSet::new();
    for part in all.chunks(DIGESTS_MAX) {
        let asked = client.missing_chunks(part.to_vec());
        missing.extend(asked.trying(|| "cannot ask the server what it lacks".into())?);
    }
    Ok(all
        .into_iter()
        .filter(|digest| missing.contains(digest))
        .collect())
}

/// How many bytes of content the missing chunks hold.
fn manifest_bytes_of(manifest: &Manifest, missing: &[Digest]) -> u64 {
    let mut left: std::collections::HashSet<&Digest> = missing.iter().collect();
    let chunks = manifest
        .chunks()
        .iter()
        .filter(|chunk| left.remove(&chunk.digest));
    chunks.map(|chunk| u64::from(chunk.bytes)).sum()
}

/// Sends the frames of `digests` in uploads of about [`UPLOAD_BYTES`]; says how many bytes were sent.
pub(crate) fn upload(
    client: &Client,
    library: &Library,
    digests: &[Digest],
    bar: &Bar,
) -> Outcome<u64> {
    let reading = || "cannot read captured content".into();
    let mut sizes = Vec::with_capacity(digests.len());
    for digest in digests {
        let frame = library.frame(digest).trying(reading)?;
        sizes.push(frame.map_or(0, |frame| frame.frame_bytes()));
    }
    let total: u64 = sizes.iter().sum();
    let (mut start, mut sent) = (0, 0);
    while start < digests.len() {
        let (mut end, mut length) = (start, 0);
        while end < digests.len() && (end == start || length + sizes[end] <= UPLOAD_BYTES) {
            length += sizes[end];
            end += 1;
        }
        let mut frames = Frames {
            library,
            digests: digests[start..end].iter(),
            buffer: Vec::new(),
            at: 0,
            sent,
            total,
            bar,
        };
        client
            .upload_chunks(&mut frames, Some(length))
            .trying(|| "cannot upload content".into())?;
        sent += length;
        start = end;
    }
    Ok(total)
}

/// The frames of some chunks, one after the other, as a stream.
struct Frames<'a> {
    library: &'a Library,
    digests: std::slice::Iter<'a, Digest>,
    buffer: Vec<u8>,
    at: usize,
    sent: u64,
    total: u64,
    bar: &'a Bar,
}

impl Read for Frames<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.buffer.len() {
            let Some(digest) = self.digests.next() else {
                return Ok(0);
            };
            let frame = self.library.frame(digest).map_err(std::io::Error::other)?;
            let frame =
                frame.ok_or_else(|| std::io::Error::other(format!("chunk {digest} is gone")))?;
            self.buffer.clear();
            self.at = 0;
            frame
                .write(&mut self.buffer)
                .map_err(std::io::Error::other)?;
        }
        let count = to.len().min(self.buffer.len() - self.at);
        to[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        self.sent += count as u64;
        self.bar.set(self.sent, self.total);
        Ok(count)
    }
}

fn render_imported(done: &[Imported], look: &Look) -> String {
    let mut table = Table::new(&[
        "package",
        "version",
        "kind",
        ">content",
        ">new",
        ">uploaded",
    ]);
    for import in done {
        table.row([
            import.package.name.to_string(),
            import.package.version.to_string(),
            import.package.kind.to_string(),
            bytes(import.content_bytes),
            bytes(import.new_bytes),
            bytes(import.uploaded_bytes),
        ]);
    }
    let sum = |of: fn(&Imported) -> u64| bytes(done.iter().map(of).sum());
    table.sums([
        crate::output::count(done.len(), "package"),
        String::new(),
        String::new(),
        sum(|import| import.content_bytes),
        sum(|import| import.new_bytes),
        sum(|import| import.uploaded_bytes),
    ]);
    table.render(look, "")
}

fn render_list(rows: &[PackageRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "package",
        "version",
        "",
        "kind",
        ">content",
        "published",
        "title",
    ]);
    for row in rows {
        table.row([
            row.package.name.to_string(),
            row.package.version.to_string(),
            if row.current { "current" } else { "" }.into(),
            row.package.kind.to_string(),
            bytes(row.package.content_bytes),
            moment(row.published_at_ms),
            row.package.title.clone(),
        ]);
    }
    if table.is_empty() {
        "no packages yet\n".into()
    } else {
        table.render(look, "")
    }
}
