//! `forestage os-image`: filesystem images of an operating system.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use media::os_image::{build_os_image, load_recipe};

use crate::failure::{Outcome, Trying};
use crate::output::{Output, Phases, bytes};
use crate::settings::cache_folder;

/// Filesystem images of an operating system.
#[derive(Debug, Subcommand)]
pub(crate) enum OsImage {
    /// Build an OS image from a recipe
    ///
    /// Builds a filesystem image from Debian packages; `forestage package import` makes a package of it.
    #[command(
        after_help = "Example:\n  forestage os-image build debian-12.yaml --output debian-12.img"
    )]
    Build(Build),
}

/// `os-image build`
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The recipe
    recipe: Utf8PathBuf,
    /// The image to write
    #[arg(long, value_name = "FILE")]
    output: Utf8PathBuf,
    /// Where downloads are kept [default: ~/.cache/forestage]
    #[arg(long, value_name = "DIR")]
    cache: Option<Utf8PathBuf>,
}

/// Does what was asked.
pub(crate) fn run(command: &OsImage, output: &Output) -> Outcome<()> {
    let OsImage::Build(build) = command;
    let recipe =
        load_recipe(&build.recipe).trying(|| format!("cannot use the recipe {}", build.recipe))?;
    let cache = build.cache.clone().map_or_else(cache_folder, Ok)?;
    let phases = Phases::new(output);
    let summary = build_os_image(&recipe, &build.output, &cache, &phases)
        .trying(|| format!("cannot build the OS image {}", build.output))?;
    drop(phases);
    output.answer(&summary, |_| {
        format!(
            "{}: {} on disk of {}, {} Debian packages\n",
            build.output,
            bytes(summary.used_bytes),
            bytes(summary.image_bytes),
            summary.debian_packages
        )
    })
}
