//! `forestage boot-image`: the small Linux that starts first.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use media::boot_image::{BootImageRecipe, build_boot_image, load_recipe};
use media::secure_boot::ImageSigner;
use wire::keys::PublicKey;
use wire::names::PackageName;

use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Output, Phases, bytes};
use crate::settings::{cache_folder, connect};

/// The small Linux that starts first.
#[derive(Debug, Subcommand)]
pub(crate) enum BootImage {
    /// Build a boot image: Debian's kernel, the agent, and whom it trusts
    ///
    /// Asks the server you are logged in to what devices shall trust, and bakes that into the image. The folder holds
    /// `stage.efi`, `deploy.efi` and `loader.efi`; next to it lies `FOLDER.yaml`, its definition for
    /// `forestage package import`. With `--sign-key` and `--sign-certificate` all three are signed for Secure Boot; the key
    /// is read by `sbsign` alone and goes into nothing.
    #[command(after_help = "Example:\n\
            \x20 forestage boot-image build --agent forestage-agent --output boot-image/\n\
            \x20 forestage package import boot-image.yaml")]
    Build(Build),
}

/// `boot-image build`
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The agent's program
    #[arg(long, value_name = "FILE")]
    agent: Utf8PathBuf,
    /// The folder to write
    #[arg(long, value_name = "FOLDER")]
    output: Utf8PathBuf,
    /// The name of the package
    #[arg(long, value_name = "NAME", default_value = "boot-image")]
    name: PackageName,
    /// How hard to compress: 1 (quick) to 19 (small)
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    compression_level: Option<i32>,
    /// A recipe (YAML) for what differs from the usual boot image
    #[arg(long, value_name = "FILE")]
    recipe: Option<Utf8PathBuf>,
    /// Sign what firmware starts with this private key (PEM)
    #[arg(long, value_name = "FILE", requires = "sign_certificate")]
    sign_key: Option<Utf8PathBuf>,
    /// The certificate (PEM) of that key, as it is in the firmware's db
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    sign_certificate: Option<Utf8PathBuf>,
    /// Where downloads are kept [default: ~/.cache/forestage]
    #[arg(long, value_name = "DIR")]
    cache: Option<Utf8PathBuf>,
}

/// Does what was asked.
pub(crate) fn run(command: &BootImage, output: &Output) -> Outcome<()> {
    let BootImage::Build(build) = command;
    let mut recipe = match &build.recipe {
        Some(path) => load_recipe(path).trying(|| format!("cannot use the recipe {path}"))?,
        None => BootImageRecipe::default(),
    };
    if let Some(level) = build.compression_level {
        recipe.compression_level = level;
    }
    let signer = match (&build.sign_key, &build.sign_certificate) {
        (Some(key), Some(certificate)) => Some(
            ImageSigner::new(key, certificate)
                .trying(|| format!("cannot sign with {key} and {certificate}"))?,
        ),
        _ => None,
    };
    let trust = connect()?
        .trust()
        .trying(|| "cannot ask the server what devices trust".into())?;
    let cache = build.cache.clone().map_or_else(cache_folder, Ok)?;
    let phases = Phases::new(output);
    let summary = build_boot_image(
        &recipe,
        &trust,
        &build.agent,
        signer.as_ref(),
        &cache,
        &build.output,
        &phases,
    )
    .trying(|| format!("cannot build the boot image {}", build.output))?;
    drop(phases);
    let definition = write_definition(build, &summary.version)?;
    output.answer(&summary, |_| {
        format!(
            "{}: kernel {}, {} modules, stage.efi {}, deploy.efi {}\n{}\n{}\nversion {}\npackage definition {definition}\n",
            build.output,
            summary.kernel,
            summary.modules,
            bytes(summary.stage_bytes),
            bytes(summary.deploy_bytes),
            match &summary.signed_by {
                Some(name) => format!("signed by {name}"),
                None => "not signed: starts where Secure Boot is off".to_owned(),
            },
            said_wipe_keys(&trust.wipe_keys),
            summary.version
        )
    })
}

/// Whoever builds a boot image gets its keys from the server, and should see whether a wipe key is among them.
fn said_wipe_keys(keys: &[PublicKey]) -> String {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    match keys.as_slice() {
        [] => "no wipe key: the server alone decides what is written over".to_owned(),
        keys => format!("wipe keys: {}", keys.join(", ")),
    }
}

/// Writes the package definition next to the folder.
fn write_definition(build: &Build, version: &str) -> Outcome<Utf8PathBuf> {
    let folder = build
        .output
        .file_name()
        .ok_or_else(|| Failure::usage(format!("{} is no folder name", build.output)))?;
    let path = build.output.with_file_name(format!("{folder}.yaml"));
    let text = format!(
        "# Written by `forestage boot-image build`.\nname: {}\nversion: {}\nkind: boot-image\ntitle: Boot image\n\
         source:\n  tree: {}\n",
        quoted(build.name.as_str()),
        quoted(version),
        quoted(folder)
    );
    std::fs::write(&path, text).trying(|| format!("cannot write {path}"))?;
    Ok(path)
}

/// A JSON text is a YAML text.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}
