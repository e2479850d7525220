//! `forestage content`: digests checked, byte for byte.

use std::fs::File;

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use content::{Library, Manifest, compare_image};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use wire::names::PackageName;

use crate::bundle::{keys_of, open_verified, parse_key};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Output, bytes};
use crate::settings::connect;

/// Digests checked, byte for byte.
#[derive(Debug, Subcommand)]
pub(crate) enum Content {
    /// Read a content library and check every digest
    ///
    /// Works on a folder: the server's `library`, or the one on the staging partition of a device. Damaged chunks are
    /// named and forgotten, so that they are fetched again when they are needed. Exit code 1 if there is one.
    #[command(after_help = "Example:\n  forestage content verify /var/lib/forestage/library")]
    Verify {
        /// The library's folder
        folder: Utf8PathBuf,
    },
    /// Compare an image or a device with a package of a bundle
    ///
    /// Reads every byte and writes none. Exit code 1 if there is a difference; the first one is named.
    #[command(
        after_help = "Example:\n  forestage content compare /dev/nvme0n1p2 --bundle book-14.bundle --package debian-12"
    )]
    Compare(Box<Compare>),
}

/// `content compare`
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The image or device
    #[arg(value_name = "IMAGE|DEVICE")]
    target: Utf8PathBuf,
    /// The bundle
    #[arg(long, value_name = "FILE")]
    bundle: Utf8PathBuf,
    /// The package in it that the target should be equal to
    #[arg(long, value_name = "NAME")]
    package: PackageName,
    /// The key that signed the bundle (64 hexadecimal digits); without it the server is asked
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    key: Option<VerifyingKey>,
}

/// Does what was asked.
pub(crate) fn run(command: &Content, output: &Output) -> Outcome<()> {
    match command {
        Content::Verify { folder } => run_verify(folder, output),
        Content::Compare(compare) => run_compare(compare, output),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Verified {
    chunks: u64,
    bytes: u64,
    damaged: Vec<wire::digest::Digest>,
}

fn run_verify(folder: &camino::Utf8Path, output: &Output) -> Outcome<()> {
    // Opening a library makes it where there is none; a typing error must not.
    if !folder.join("packs").is_dir() {
        return Err(Failure::new(format!("{folder} holds no content library"))
            .because(Failure::new("it has no folder `packs`")));
    }
    let library =
        Library::open(folder).trying(|| format!("cannot open the content library {folder}"))?;
    let report = library
        .verify(&output.bytes_bar("verifying"))
        .trying(|| format!("cannot verify the content library {folder}"))?;
    let verified = Verified {
        chunks: report.chunks,
        bytes: report.bytes,
        damaged: report.damaged,
    };
    output.answer(&verified, |_| {
        let damaged: String = verified
            .damaged
            .iter()
            .map(|digest| format!("damaged: {digest}\n"))
            .collect();
        format!(
            "{damaged}{} chunks with {} are right\n",
            verified.chunks,
            bytes(verified.bytes)
        )
    })?;
    match verified.damaged.len() {
        0 => Ok(()),
        number => Err(Failure::new(format!(
            "{folder} had {}",
            crate::output::count(number, "damaged chunk")
        ))
        .hint(
            "they are fetched again when they are needed; if it happens again, the disk is failing",
        )),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Compared {
    equal: bool,
    first_difference: Option<u64>,
    image_bytes: u64,
}

fn run_compare(compare: &Compare, output: &Output) -> Outcome<()> {
    let keys = match compare.key {
        Some(key) => vec![key],
        None => keys_of(
            &connect()?
                .trust()
                .trying(|| "cannot ask the server whom to trust".into())?,
        )?,
    };
    let bundle = open_verified(&compare.bundle, &keys)?;
    let unknown = || {
        Failure::new(format!(
            "{} carries no package {}",
            compare.bundle, compare.package
        ))
    };
    let package = bundle
        .root()
        .packages
        .iter()
        .find(|package| package.name == compare.package)
        .ok_or_else(unknown)?;
    let manifest = bundle
        .manifests()
        .iter()
        .find(|(digest, _)| *digest == package.manifest)
        .ok_or_else(unknown)?;
    let manifest = Manifest::decode(&manifest.1)
        .trying(|| format!("cannot read the manifest of {}", package.name))?;
    let image_bytes = manifest.image_bytes().ok_or_else(|| {
        Failure::usage(format!("{} is a file tree, not an image", package.name))
            .hint("only packages of the kind os-image can be compared with a device")
    })?;
    let target =
        File::open(&compare.target).trying(|| format!("cannot open {}", compare.target))?;
    let first_difference = compare_image(&manifest, &target, &output.bytes_bar("comparing"))
        .trying(|| format!("cannot compare {}", compare.target))?;
    let compared = Compared {
        equal: first_difference.is_none(),
        first_difference,
        image_bytes,
    };
    output.answer(&compared, |_| match compared.first_difference {
        None => format!(
            "{} equals {} {}, byte for byte\n",
            compare.target, package.name, package.version
        ),
        Some(offset) => format!("{} differs from byte {offset} on\n", compare.target),
    })?;
    if compared.equal {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{} is not {}",
            compare.target, package.name
        )))
    }
}
