//! `forestage medium`: the boot medium that carries a bundle to the factory.

use std::collections::HashSet;
use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use content::{Bundle, ContentError, Library, Manifest, Verified, converge_tree};
use media::boot_image::{STAGE_FILE, trust_in};
use media::medium::{MediumSummary, write_medium};
use wire::boot_config::Trust;
use wire::digest::Digest;
use wire::package::PackageKind;

use crate::bundle::{PrestageRef, check_signed, download, keys_of, open_verified};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Output, Phases, bytes};
use crate::settings::{connect, temporary_folder};

/// The boot medium that carries a bundle to the factory.
#[derive(Debug, Subcommand)]
pub(crate) enum Medium {
    /// Build the image of a boot medium from a prestage
    ///
    /// Downloads the bundle, checks its signature and writes a disk image: copy it onto
    /// a USB stick as it is. It holds no password, key or token.
    #[command(after_help = "Example:\n\
            \x20 forestage medium build --prestage book-14 --output stick.img\n\
            \x20 dd if=stick.img of=/dev/sdX bs=4M oflag=direct")]
    Build(Build),
}

/// `medium build`
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The prestage, with @N for a version other than the latest
    #[arg(long, value_name = "NAME[@N]")]
    prestage: PrestageRef,
    /// The image to write
    #[arg(long, value_name = "FILE")]
    output: Utf8PathBuf,
}

/// Does what was asked.
pub(crate) fn run(command: &Medium, output: &Output) -> Outcome<()> {
    let Medium::Build(build) = command;
    refuse_device(&build.output)?;
    let client = connect()?;
    let row = build.prestage.resolve(&client)?;
    check_signed(&row)?;
    let trust = client
        .trust()
        .trying(|| "cannot ask the server whom to trust".into())?;
    let keys = keys_of(&trust)?;

    // Kept only until the medium is written: bundles are large, and each is used once.
    let folder = temporary_folder()?;
    let bundle = folder.path.join("prestage.bundle");
    output.say(&format!(
        "downloading {}@{} ({})",
        row.prestage,
        row.version,
        bytes(row.bundle_bytes)
    ));
    download(&client, &row, &bundle, &keys, output)?;
    let summary = assemble(&bundle, &trust, &build.output, output)?;
    output.answer(&summary, |_| {
        format!(
            "{}: {}@{} for {}, {} (bundle {})\n",
            build.output,
            row.prestage,
            row.version,
            crate::output::clean(&row.model.to_string()),
            bytes(summary.image_bytes),
            bytes(summary.bundle_bytes)
        )
    })
}

/// This command makes image files; it must not wipe a disk by a slip of the hand.
fn refuse_device(path: &Utf8Path) -> Outcome<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(Failure::refused(format!("{path} exists and is not a file"))
                .hint("name an image file; then copy the image onto the stick"))
        }
        _ => Ok(()),
    }
}

/// Takes the boot image out of the verified bundle and writes the medium.
fn assemble(
    bundle_path: &Utf8Path,
    trust: &Trust,
    image: &Utf8Path,
    output: &Output,
) -> Outcome<MediumSummary> {
    let bundle = open_verified(bundle_path, &keys_of(trust)?)?;
    let package = bundle
        .root()
        .packages
        .iter()
        .find(|package| package.kind == PackageKind::BootImage);
    let package = package.ok_or_else(|| {
        Failure::new(format!("{bundle_path} carries no boot image"))
            .hint("give the sequence a step `install-boot-image`, and build the prestage again")
    })?;
    let manifest = bundle
        .manifests()
        .iter()
        .find(|(digest, _)| *digest == package.manifest);
    let (_, manifest) =
        manifest.ok_or_else(|| Failure::new(format!("{bundle_path} lacks a manifest it names")))?;
    let manifest = Manifest::decode(manifest)
        .trying(|| format!("cannot read the boot image in {bundle_path}"))?;

    let folder = temporary_folder()?;
    let boot_image = folder.path.join("boot-image");
    std::fs::create_dir(&boot_image).trying(|| format!("cannot make the folder {boot_image}"))?;
    let library = copy_chunks(&bundle, &manifest, &folder.path.join("content"))
        .trying(|| format!("cannot read the chunks of {bundle_path}"))?;
    let bar = output.bytes_bar("boot image");
    converge_tree(&manifest, &boot_image, &[&library], &bar)
        .trying(|| format!("cannot take the boot image out of {bundle_path}"))?;
    drop(bar);
    check_boot_image(&boot_image, &bundle, trust, output)?;
    let phases = Phases::new(output);
    write_medium(&boot_image, bundle_path, image, &phases)
        .trying(|| format!("cannot write the boot medium {image}"))
}

/// The boot image on the medium must believe the bundle beside it: it may have been built before the key was added.
fn check_boot_image(
    folder: &Utf8Path,
    bundle: &Bundle<File, Verified>,
    trust: &Trust,
    output: &Output,
) -> Outcome<()> {
    let path = folder.join(STAGE_FILE);
    let image = std::fs::read(&path).trying(|| format!("cannot read {path}"))?;
    let baked_in = match trust_in(&image) {
        Ok(trust) => trust,
        Err(error) => {
            output.say(&format!("cannot tell whom the boot image trusts: {error}"));
            return Ok(());
        }
    };
    let build =
        "build one with `forestage boot-image build`, import it, and build the prestage again";
    let signer = bundle.key().as_bytes();
    if !keys_of(&baked_in)?
        .iter()
        .any(|key| key.as_bytes() == signer)
    {
        return Err(Failure::refused(
            "the boot image in this bundle doesn't trust the key that signed the bundle: the medium would refuse itself",
        )
        .because(Failure::new("it was built before that key was added"))
        .hint(build));
    }
    if let Some(key) = trust
        .wipe_keys
        .iter()
        .find(|key| !baked_in.wipe_keys.contains(key))
    {
        output.say(&format!(
            "warning: the boot image in this bundle doesn't know the wipe key {key}, and lets a deployed disk be written over without a warrant by it: {build}"
        ));
    }
    let is_retired = |key: &&String| !trust.bundle_keys.contains(*key);
    if let Some(key) = baked_in.bundle_keys.iter().find(is_retired) {
        output.say(&format!(
            "warning: the boot image in this bundle still trusts the key {key}, which is retired: {build}"
        ));
    }
    Ok(())
}

/// Copies the chunks of `manifest` out of the bundle, in one pass over its frames.
fn copy_chunks(
    bundle: &Bundle<File, Verified>,
    manifest: &Manifest,
    folder: &Utf8Path,
) -> Result<Library, ContentError> {
    let library = Library::open(folder)?;
    let wanted: HashSet<Digest> = manifest.chunks().iter().map(|chunk| chunk.digest).collect();
    let mut pack = library.pack_writer()?;
    bundle.frames(&mut |frame| {
        if wanted.contains(&frame.digest()) {
            pack.add_frame(&frame)
        } else {
            Ok(())
        }
    })?;
    pack.finish()?;
    Ok(library)
}
