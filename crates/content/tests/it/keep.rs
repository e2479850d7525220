//! Chunks that are kept in a library while they are used for something else.

use std::fs::{self, File};

use camino::Utf8Path;
use content::{ChunkSource, ContentError, Keeping, Library, Manifest, NoMeter, converge_image};

use wire::digest::Digest;

use crate::support::{Network, Temp, capture_image, noise};

/// An image of 16 MiB, captured into a library.
fn image(temp: &Temp, library: &Library) -> (Vec<u8>, Manifest) {
    let bytes = noise(1, 16 << 20);
    let path = temp.join("image");
    fs::write(&path, &bytes).unwrap();
    (bytes, capture_image(&path, library))
}

fn target(path: &Utf8Path, bytes: usize) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    file.set_len(bytes as u64).unwrap();
    file
}

/// Applies the image, keeping what comes from `medium`.
fn apply(
    manifest: &Manifest,
    target: &File,
    library: &Library,
    medium: &dyn ChunkSource,
) -> Result<(), ContentError> {
    let keeping = Keeping::new(medium, library).unwrap();
    let result = converge_image(manifest, target, &[library, &keeping], &NoMeter);
    keeping.finish().unwrap();
    result.map(|_| ())
}

#[test]
fn one_pass_fills_volume_and_library() {
    let temp = Temp::new();
    let from = temp.library("from");
    let (bytes, manifest) = image(&temp, &from);
    let medium = Network::new(&from);
    let library = temp.library("l");
    apply(
        &manifest,
        &target(&temp.join("volume"), bytes.len()),
        &library,
        &medium,
    )
    .unwrap();
    assert!(fs::read(temp.join("volume")).unwrap() == bytes);
    assert!(library.missing(&manifest).is_empty());
    assert_eq!(
        medium.asked.get(),
        manifest.chunks().len(),
        "each is asked for once"
    );
    // The library is whole: the next volume needs nobody else.
    let next = target(&temp.join("next"), bytes.len());
    converge_image(&manifest, &next, &[&temp.library("l")], &NoMeter).unwrap();
    assert!(fs::read(temp.join("next")).unwrap() == bytes);
}

#[test]
fn what_came_before_a_cut_need_not_come_again() {
    let temp = Temp::new();
    let from = temp.library("from");
    let (bytes, manifest) = image(&temp, &from);
    let medium = Network::new(&from);
    medium.frames_max.set(20);
    let library = temp.library("l");
    let volume = target(&temp.join("volume"), bytes.len());
    let error = apply(&manifest, &volume, &library, &medium).unwrap_err();
    assert!(
        matches!(error, ContentError::MissingChunk { .. }),
        "{error}"
    );
    assert_eq!(
        library.missing(&manifest).len(),
        manifest.chunks().len() - 20
    );
    medium.frames_max.set(usize::MAX);
    medium.asked.set(0);
    apply(&manifest, &volume, &library, &medium).unwrap();
    assert_eq!(medium.asked.get(), manifest.chunks().len() - 20);
    assert!(fs::read(temp.join("volume")).unwrap() == bytes);
}

#[test]
fn a_damaged_chunk_is_not_kept() {
    let temp = Temp::new();
    let from = temp.library("from");
    let (bytes, manifest) = image(&temp, &from);
    let mut medium = Network::new(&from);
    let damaged = manifest.chunks()[7].digest;
    medium.damaged = Some(damaged);
    let library = temp.library("l");
    let volume = target(&temp.join("volume"), bytes.len());
    assert!(apply(&manifest, &volume, &library, &medium).is_err());
    assert!(!library.contains(&damaged));
    let missing = library.missing(&manifest);
    assert_eq!(
        missing.iter().map(|chunk| chunk.digest).collect::<Vec<_>>(),
        [damaged]
    );
}

#[test]
fn what_is_needed_again_comes_from_the_unfinished_pack() {
    let temp = Temp::new();
    let from = temp.library("from");
    let (_, manifest) = image(&temp, &from);
    let medium = Network::new(&from);
    let library = temp.library("l");
    let keeping = Keeping::new(&medium, &library).unwrap();
    let digests: Vec<_> = (manifest.chunks().iter())
        .map(|chunk| chunk.digest)
        .collect();
    let mut frames = Vec::new();
    let mut fetch = |wanted: &[Digest]| {
        keeping
            .fetch(wanted, &mut |frame| {
                frames.push(frame);
                Ok(())
            })
            .unwrap();
        frames.split_off(0)
    };
    for frame in fetch(&digests[..3]) {
        keeping.sound(&frame).unwrap();
    }
    assert!(
        !library.contains(&digests[0]),
        "not before its pack is finished"
    );
    assert_eq!(fetch(&digests[..1]).len(), 1);
    // The pack was finished for the first; the second is as little to be asked for.
    assert_eq!(fetch(&digests[1..4]).len(), 3);
    assert_eq!(medium.asked.get(), 4, "the medium is not read again");
}
