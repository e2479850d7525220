//! `forestage content`: what a library holds, checked byte for byte, kept in order.

use std::fs::File;

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use content::{Manifest, compare_image};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use wire::names::PackageName;

use crate::bundle::{keys_of, open_verified, parse_key};
use crate::commands::content_library::{self, Gc, Of, Repair};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::Output;
use crate::settings::connect;

/// What a library holds, checked byte for byte, kept in order.
#[derive(Debug, Subcommand)]
pub(crate) enum Content {
    /// Show how much content there is, and what names it
    #[command(
        after_help = "Example:\n  forestage content stats\n  forestage content stats --library /mnt/staging/library"
    )]
    Stats(Of),
    /// Read all content and check every digest
    ///
    /// Of the server, or of a library in a folder, such as the one on the staging partition of a device. Damaged chunks are
    /// named with the packages that need them, and forgotten, so that they can be fetched again. Exit code 1 if there is
    /// one, or if something is lost.
    #[command(
        after_help = "Example:\n  forestage content verify\n  forestage content verify --library /mnt/staging/library"
    )]
    Verify(Of),
    /// Remove content that nobody needs
    ///
    /// On the server that is what no package names, in whatever version; what came within the last day stays. In a folder
    /// it is what no manifest names. It can be stopped at any moment, and done again.
    #[command(
        after_help = "Example:\n  forestage content gc --dry-run\n  forestage content gc --library /mnt/staging/library"
    )]
    Gc(Gc),
    /// Take damaged or lost content again, from a bundle or another library
    ///
    /// Verifies first. Everything is checked before it is taken. Exit code 1 if something is still lost afterwards; what it
    /// is, is named. Importing a package again repairs it too.
    #[command(
        after_help = "Example:\n  forestage content repair --from book-14.bundle\n\
            \x20 forestage content repair --library /mnt/staging/library --from book-14.bundle"
    )]
    Repair(Box<Repair>),
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
        Content::Stats(of) => content_library::stats(of, output),
        Content::Verify(of) => content_library::verify(of, output),
        Content::Gc(gc) => content_library::gc(gc, output),
        Content::Repair(repair) => content_library::repair(repair, output),
        Content::Compare(compare) => run_compare(compare, output),
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
