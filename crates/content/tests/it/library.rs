//! Libraries: torn packs, lost indexes, damaged chunks.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use camino::Utf8Path;
use content::{ContentError, Library, NoMeter, converge_library};
use wire::digest::Digest;

use crate::support::{Network, StopAfter, Temp, capture_tree, damage, noise, packs};

/// Adds chunks of 100 KiB in one pack.
fn fill(library: &Library, seeds: std::ops::Range<u64>) -> Vec<Digest> {
    let mut writer = library.pack_writer().unwrap();
    let digests = seeds
        .map(|seed| writer.add(&noise(seed, 100 << 10)).unwrap())
        .collect();
    writer.finish().unwrap();
    digests
}

/// Which of the chunks are there and sound.
fn sound(library: &Library, digests: &[Digest]) -> Vec<bool> {
    let is_sound = |digest: &Digest| match library.frame(digest) {
        Ok(Some(frame)) => frame.unpack(&mut Vec::new()).is_ok(),
        _ => false,
    };
    digests.iter().map(is_sound).collect()
}

fn flip(path: &Utf8Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn chunks_count_as_present_only_when_the_pack_is_finished() {
    let temp = Temp::new();
    let library = temp.library("l");
    let mut writer = library.pack_writer().unwrap();
    let digest = writer.add(b"Se opp for dragen").unwrap();
    assert!(!library.contains(&digest));
    assert!(library.frame(&digest).unwrap().is_none());
    writer.finish().unwrap();
    assert!(library.contains(&digest));
    assert_eq!(sound(&temp.library("l"), &[digest]), [true]);
    assert_eq!(library.stats().content_bytes, 17);
}

#[test]
fn an_empty_pack_leaves_no_file_and_nothing_is_stored_twice() {
    let temp = Temp::new();
    let library = temp.library("l");
    library.pack_writer().unwrap().finish().unwrap();
    assert_eq!(packs(&temp.join("l")).len(), 0);
    fill(&library, 0..3);
    let bytes = fs::metadata(&packs(&temp.join("l"))[0]).unwrap().len();
    fill(&library, 0..3);
    assert_eq!(packs(&temp.join("l")).len(), 1);
    assert!(bytes < 310 << 10);
}

#[test]
fn a_lost_index_is_made_again_from_the_pack() {
    let temp = Temp::new();
    let digests = fill(&temp.library("l"), 0..5);
    let pack = &packs(&temp.join("l"))[0];
    let whole = fs::read(pack).unwrap();
    // Without the footer; without footer and index; with a flipped bit in the index.
    for cut in [
        whole.len() - 1,
        whole.len() - 16,
        16 + 5 * (52 + (100 << 10)),
    ] {
        fs::write(pack, &whole[..cut]).unwrap();
        assert_eq!(
            sound(&temp.library("l"), &digests),
            [true; 5],
            "cut at {cut}"
        );
        assert_eq!(fs::read(pack).unwrap(), whole);
    }
    flip(pack, whole.len() as u64 - 100);
    assert_eq!(sound(&temp.library("l"), &digests), [true; 5]);
    assert_eq!(fs::read(pack).unwrap(), whole);
}

#[test]
fn a_pack_cut_anywhere_keeps_its_whole_frames() {
    let temp = Temp::new();
    let digests = fill(&temp.library("l"), 0..4);
    let whole = fs::read(&packs(&temp.join("l"))[0]).unwrap();
    let frame = 52 + (100 << 10);
    for (cut, kept) in [
        (0, 0),
        (15, 0),
        (16, 0),
        (16 + frame - 1, 0),
        (16 + frame, 1),
        (16 + 3 * frame + 60, 3),
    ] {
        let folder = temp.join(&format!("cut-{cut}"));
        fs::create_dir_all(folder.join("packs")).unwrap();
        fs::write(folder.join("packs/00.partial"), &whole[..cut]).unwrap();
        let library = Library::open(&folder).unwrap();
        let expected: Vec<bool> = (0..4).map(|index| index < kept).collect();
        assert_eq!(sound(&library, &digests), expected, "cut at {cut}");
        assert_eq!(packs(&folder).len(), usize::from(kept > 0));
        assert!(
            packs(&folder)
                .iter()
                .all(|pack| pack.extension() == Some("pack"))
        );
        // What was kept is not written again.
        fill(&library, 0..4);
        assert_eq!(sound(&Library::open(&folder).unwrap(), &digests), [true; 4]);
        assert_eq!(packs(&folder).len(), 1 + usize::from(kept > 0));
    }
}

#[test]
fn zeros_at_the_torn_end_are_no_frames() {
    let temp = Temp::new();
    let digests = fill(&temp.library("l"), 0..2);
    let mut bytes = fs::read(&packs(&temp.join("l"))[0]).unwrap();
    bytes.truncate(16 + 52 + (100 << 10) + 1000);
    bytes.resize(3 << 20, 0);
    fs::create_dir_all(temp.join("m/packs")).unwrap();
    fs::write(temp.join("m/packs/00.partial"), bytes).unwrap();
    assert_eq!(sound(&temp.library("m"), &digests), [true, false]);
}

#[test]
fn a_pack_that_is_being_written_is_left_alone() {
    let temp = Temp::new();
    let library = temp.library("l");
    let mut writer = library.pack_writer().unwrap();
    let digest = writer.add(b"blue").unwrap();
    let other = temp.library("l");
    assert!(!other.contains(&digest));
    writer.finish().unwrap();
    assert_eq!(sound(&temp.library("l"), &[digest]), [true]);
}

#[test]
fn a_writer_that_was_dropped_loses_nothing_but_the_end() {
    let temp = Temp::new();
    let library = temp.library("l");
    let mut writer = library.pack_writer().unwrap();
    let digest = writer.add(&noise(1, 1 << 20)).unwrap();
    drop(writer);
    assert!(!library.contains(&digest));
    assert_eq!(sound(&temp.library("l"), &[digest]), [true]);
}

#[test]
fn a_flipped_bit_is_found_and_the_chunk_forgotten_and_fetched_again() {
    let temp = Temp::new();
    let library = temp.library("l");
    let digests = fill(&library, 0..4);
    let frame = 52 + (100 << 10);
    // One in the bytes of the second chunk, one in the header of the third.
    flip(&packs(&temp.join("l"))[0], 16 + frame + 5000);
    flip(&packs(&temp.join("l"))[0], 16 + 2 * frame + 9);
    let report = library.verify(&NoMeter).unwrap();
    assert_eq!((report.chunks, report.bytes), (2, 200 << 10));
    assert_eq!(report.damaged, digests[1..3]);
    assert!(!library.contains(&digests[1]));
    assert_eq!(
        sound(&temp.library("l"), &digests),
        [true, false, false, true]
    );
    fill(&library, 0..4);
    assert_eq!(sound(&temp.library("l"), &digests), [true; 4]);
    assert_eq!(library.verify(&NoMeter).unwrap().damaged, []);
}

#[test]
fn a_damaged_frame_is_not_added() {
    let temp = Temp::new();
    let library = temp.library("l");
    let digests = fill(&library, 0..1);
    let other = temp.library("m");
    let mut writer = other.pack_writer().unwrap();
    let result = writer.add_frame(&damage(&library.frame(&digests[0]).unwrap().unwrap()));
    assert!(
        matches!(result, Err(ContentError::DamagedChunk { digest, .. }) if digest == digests[0])
    );
    writer.finish().unwrap();
    assert!(!other.contains(&digests[0]));
}

#[test]
fn a_foreign_file_among_the_packs_is_left_alone() {
    let temp = Temp::new();
    let digests = fill(&temp.library("l"), 0..1);
    fs::write(temp.join("l/packs/readme.pack"), "not a pack at all").unwrap();
    let mut newer = fs::read(&packs(&temp.join("l"))[0]).unwrap();
    newer[8] = 2;
    fs::write(temp.join("l/packs/newer.pack"), &newer).unwrap();
    assert_eq!(sound(&temp.library("l"), &digests), [true]);
    assert_eq!(fs::read(temp.join("l/packs/newer.pack")).unwrap(), newer);
    assert_eq!(
        fs::read(temp.join("l/packs/readme.pack")).unwrap(),
        b"not a pack at all"
    );
}

#[test]
fn manifests_are_checked_when_stored_and_when_read() {
    let temp = Temp::new();
    let library = temp.library("l");
    assert!(library.put_manifest(b"nothing").is_err());
    fs::create_dir(temp.join("tree")).unwrap();
    fs::write(temp.join("tree/blåbær"), "syltetøy").unwrap();
    let manifest = capture_tree(&temp.join("tree"), &library);
    let bytes = manifest.encode();
    let digest = library.put_manifest(&bytes).unwrap();
    assert_eq!(digest, Digest::of(&bytes));
    assert_eq!(library.manifest(&digest).unwrap(), manifest);
    flip(&temp.join("l/manifests").join(digest.to_string()), 20);
    assert!(matches!(
        library.manifest(&digest),
        Err(ContentError::MissingManifest { .. })
    ));
    library.put_manifest(&bytes).unwrap();
    assert_eq!(library.manifest_bytes(&digest).unwrap(), Some(bytes));
    assert_eq!(library.manifest_bytes(&Digest::of(b"other")).unwrap(), None);
}

#[test]
fn staging_that_was_cut_goes_on() {
    let temp = Temp::new();
    let server = temp.library("server");
    fs::create_dir(temp.join("tree")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(
            temp.join("tree").join(name),
            noise(name.len() as u64 + u64::from(name.as_bytes()[0]), 3 << 20),
        )
        .unwrap();
    }
    let manifest = capture_tree(&temp.join("tree"), &server);
    let total = manifest.content_bytes();
    let network = Network::new(&server);
    network.frames_max.set(10);
    let device = temp.library("device");
    let error = converge_library(
        std::slice::from_ref(&manifest),
        &device,
        &[&network],
        &NoMeter,
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            ContentError::MissingChunk {
                source: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        device.missing(&manifest).len() + 10,
        manifest.chunks().len()
    );
    let stopped = converge_library(
        std::slice::from_ref(&manifest),
        &device,
        &[&server],
        &StopAfter::new(total / 2),
    );
    assert!(matches!(stopped, Err(ContentError::Cancelled)));
    let device = temp.library("device");
    let counts = converge_library(
        std::slice::from_ref(&manifest),
        &device,
        &[&server],
        &NoMeter,
    )
    .unwrap();
    assert_eq!(counts.unchanged + counts.local, total);
    assert!(counts.unchanged > total / 2);
    assert_eq!(device.missing(&manifest), []);
    let again = converge_library(&[manifest], &device, &[], &NoMeter).unwrap();
    assert_eq!(again.unchanged, total);
}

#[test]
fn a_damaged_chunk_comes_from_the_next_source() {
    let temp = Temp::new();
    let server = temp.library("server");
    fs::create_dir(temp.join("tree")).unwrap();
    fs::write(temp.join("tree/a"), noise(1, 2 << 20)).unwrap();
    let manifest = capture_tree(&temp.join("tree"), &server);
    let bad = manifest.chunks()[1].digest;
    let mut network = Network::new(&server);
    network.damaged = Some(bad);
    let device = temp.library("device");
    let error = converge_library(
        std::slice::from_ref(&manifest),
        &device,
        &[&network],
        &NoMeter,
    )
    .unwrap_err();
    let at = u64::from(manifest.chunks()[0].bytes);
    assert!(
        matches!(error, ContentError::MissingChunk { digest, offset, .. } if digest == bad && offset == at)
    );
    let other = temp.library("other");
    let counts = converge_library(
        std::slice::from_ref(&manifest),
        &other,
        &[&network, &server],
        &NoMeter,
    )
    .unwrap();
    assert_eq!(counts.local, u64::from(manifest.chunks()[1].bytes));
    assert_eq!(counts.network + counts.local, 2 << 20);
    assert!(counts.network_packed > counts.network);
}
