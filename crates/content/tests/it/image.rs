//! Filesystem images: what converges, from whatever was there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use camino::{Utf8Path, Utf8PathBuf};
use content::{
    ContentError, Library, Manifest, NoMeter, capture_image, compare_image, converge_image,
};
use proptest::prelude::*;
use wire::digest::Digest;

use crate::support::{self, Network, StopAfter, Temp, Witness, empty_ntfs, ext4, noise, ntfs, run};

const BLOCK: usize = 4096;

/// An image of `blocks` blocks with noise in the given ones, and a hole elsewhere.
fn make(path: &Utf8Path, blocks: usize, full: &[(usize, usize, u64)]) -> Vec<u8> {
    let file = File::create(path).unwrap();
    file.set_len((blocks * BLOCK) as u64).unwrap();
    for (at, count, seed) in full {
        file.write_all_at(&noise(*seed, count * BLOCK), (at * BLOCK) as u64)
            .unwrap();
    }
    fs::read(path).unwrap()
}

fn open(path: &Utf8Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Converges a target that holds `prior`, and checks everything about it.
fn check(
    manifest: &Manifest,
    library: &Library,
    expected: &[u8],
    prior: &[u8],
    target: &Utf8Path,
) -> u64 {
    fs::write(target, prior).unwrap();
    let file = open(target);
    let differs = compare_image(manifest, &file, &NoMeter).unwrap();
    let first = expected
        .iter()
        .zip(prior)
        .position(|(left, right)| left != right)
        .map(|at| at as u64);
    // Within content a difference is known to the chunk, never later than it is.
    assert_eq!(differs.is_some(), first.is_some());
    assert!(differs <= first, "{differs:?} {first:?}");
    let witness = Witness::default();
    let counts = converge_image(manifest, &file, &[library], &witness).unwrap();
    assert_eq!(fs::read(target).unwrap()[..expected.len()], *expected);
    assert_eq!(
        fs::read(target).unwrap()[expected.len()..],
        prior[expected.len()..]
    );
    assert_eq!(compare_image(manifest, &file, &NoMeter).unwrap(), None);
    assert_eq!(counts.unchanged + counts.local, manifest.content_bytes());
    assert_eq!(
        witness.last.get(),
        (manifest.content_bytes(), manifest.content_bytes())
    );
    counts.local
}

#[test]
fn converges_from_anything_and_reads_only_what_it_must() {
    let temp = Temp::new();
    let library = temp.library("l");
    let expected = make(
        &temp.join("image"),
        1000,
        &[(0, 3, 1), (10, 400, 2), (500, 1, 3), (700, 250, 4)],
    );
    let manifest = support::capture_image(&temp.join("image"), &library);
    assert_eq!(manifest.content_bytes(), 654 * 4096);
    assert_eq!(manifest.image_bytes(), Some(1000 * 4096));
    let target = temp.join("target");
    let check = |prior: &[u8]| check(&manifest, &library, &expected, prior, &target);
    assert_eq!(check(&vec![0; expected.len()]), manifest.content_bytes());
    assert_eq!(check(&expected), 0);
    assert_eq!(
        check(&noise(9, expected.len() + 5000)),
        manifest.content_bytes()
    );
    // One flipped bit costs one chunk; one in a hole costs none.
    let mut flipped = expected.clone();
    flipped[720 * BLOCK + 77] ^= 4;
    let cost = check(&flipped);
    assert!(cost > 0 && cost <= 1 << 20, "{cost}");
    let mut flipped = expected.clone();
    flipped[600 * BLOCK + 77] ^= 4;
    assert_eq!(check(&flipped), 0);
}

#[test]
fn zero_blocks_are_left_out_even_if_they_are_no_holes() {
    let temp = Temp::new();
    let library = temp.library("l");
    let mut bytes = vec![0; 200 * BLOCK];
    bytes[50 * BLOCK] = 1;
    fs::write(temp.join("image"), &bytes).unwrap();
    assert_eq!(
        support::capture_image(&temp.join("image"), &library).content_bytes(),
        4096
    );
    fs::write(temp.join("empty"), b"").unwrap();
    assert_eq!(
        support::capture_image(&temp.join("empty"), &library).image_bytes(),
        Some(0)
    );
    fs::write(temp.join("odd"), vec![1; 1000]).unwrap();
    let mut writer = library.pack_writer().unwrap();
    assert!(
        capture_image(
            &File::open(temp.join("odd")).unwrap(),
            &mut writer,
            &NoMeter
        )
        .is_err()
    );
}

#[test]
fn the_last_block_may_be_short() {
    let temp = Temp::new();
    let library = temp.library("l");
    let bytes = noise(5, 3 * BLOCK + 512);
    fs::write(temp.join("image"), &bytes).unwrap();
    let manifest = support::capture_image(&temp.join("image"), &library);
    check(
        &manifest,
        &library,
        &bytes,
        &vec![7; bytes.len()],
        &temp.join("target"),
    );
}

#[test]
fn the_same_chunk_in_two_places_is_fetched_once_and_counted_twice() {
    let temp = Temp::new();
    let library = temp.library("l");
    let expected = make(&temp.join("image"), 2000, &[(0, 600, 1), (900, 600, 1)]);
    let manifest = support::capture_image(&temp.join("image"), &library);
    let stats = library.stats();
    assert!(
        stats.content_bytes < manifest.content_bytes() * 3 / 4,
        "{stats:?}"
    );
    let network = Network::new(&library);
    fs::write(temp.join("target"), vec![0; expected.len()]).unwrap();
    let counts = converge_image(
        &manifest,
        &open(&temp.join("target")),
        &[&network],
        &NoMeter,
    )
    .unwrap();
    assert_eq!(counts.network, manifest.content_bytes());
    assert_eq!(network.asked.get() as u64, stats.chunks);
    assert!(counts.network_packed < counts.network);
    assert_eq!(fs::read(temp.join("target")).unwrap(), expected);
}

#[test]
fn a_cut_convergence_goes_on() {
    let temp = Temp::new();
    let library = temp.library("l");
    let expected = make(&temp.join("image"), 16_000, &[(100, 15_000, 1)]);
    let manifest = support::capture_image(&temp.join("image"), &library);
    let target = temp.join("target");
    fs::write(&target, vec![3; expected.len()]).unwrap();
    let stop = StopAfter::new(manifest.content_bytes() / 2);
    let result = converge_image(&manifest, &open(&target), &[&library], &stop);
    assert!(matches!(result, Err(ContentError::Cancelled)));
    let counts = converge_image(&manifest, &open(&target), &[&library], &NoMeter).unwrap();
    assert!(counts.unchanged >= stop.bytes, "{counts:?}");
    assert_eq!(fs::read(&target).unwrap(), expected);
}

#[test]
fn refusals_write_nothing() {
    let temp = Temp::new();
    let library = temp.library("l");
    make(&temp.join("image"), 100, &[(0, 50, 1)]);
    let manifest = support::capture_image(&temp.join("image"), &library);
    let target = temp.join("target");
    let small = vec![7; 99 * BLOCK];
    fs::write(&target, &small).unwrap();
    let result = converge_image(&manifest, &open(&target), &[&library], &NoMeter);
    assert!(matches!(
        result,
        Err(ContentError::TargetTooSmall {
            needed: 409_600,
            available: 405_504
        })
    ));
    assert_eq!(fs::read(&target).unwrap(), small);
    let large = vec![7; 100 * BLOCK];
    fs::write(&target, &large).unwrap();
    let error = converge_image(
        &manifest,
        &open(&target),
        &[&temp.library("empty")],
        &NoMeter,
    )
    .unwrap_err();
    assert!(matches!(
        error,
        ContentError::MissingChunk { offset: 0, .. }
    ));
    let mut network = Network::new(&library);
    network.damaged = Some(manifest.chunks()[0].digest);
    let error = converge_image(&manifest, &open(&target), &[&network], &NoMeter).unwrap_err();
    assert!(matches!(
        error,
        ContentError::MissingChunk { offset: 0, .. }
    ));
    assert_eq!(fs::read(&target).unwrap(), large);
    fs::create_dir(temp.join("tree")).unwrap();
    let tree = support::capture_tree(&temp.join("tree"), &library);
    let error = converge_image(&tree, &open(&target), &[&library], &NoMeter).unwrap_err();
    assert!(matches!(error, ContentError::WrongKind { .. }));
}

#[test]
fn a_full_target_says_so() {
    let full = File::options().read(true).write(true).open("/dev/full");
    let temp = Temp::new();
    let library = temp.library("l");
    // A frame is written to where nothing fits.
    let mut writer = library.pack_writer().unwrap();
    let digest = writer.add(b"blue").unwrap();
    writer.finish().unwrap();
    let error = library
        .frame(&digest)
        .unwrap()
        .unwrap()
        .write(&mut full.unwrap())
        .unwrap_err();
    assert!(matches!(error, ContentError::NoSpace { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_prior_content_converges(
        content in proptest::collection::vec((0..400_usize, 1..100_usize, 0..5_u64), 0..6),
        prior in proptest::collection::vec((0..400_usize, 1..100_usize, 0..5_u64), 0..6),
    ) {
        let temp = Temp::new();
        let library = temp.library("l");
        let expected = make(&temp.join("image"), 500, &content);
        let prior = make(&temp.join("prior"), 500, &prior);
        let manifest = support::capture_image(&temp.join("image"), &library);
        prop_assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest.clone());
        check(&manifest, &library, &expected, &prior, &temp.join("target"));
    }
}

/// Makes an image of a folder, then again when some of it is another, and says how much of that one isn't known.
fn made_again(make: fn(&Utf8Path, &Utf8Path)) -> (u64, u64) {
    let temp = Temp::new();
    let library = temp.library("l");
    let folder = temp.join("tree");
    fs::create_dir(&folder).unwrap();
    for number in 0..600_u64 {
        let bytes = if number % 50 == 7 {
            500_000
        } else {
            3000 + 37 * number
        };
        let name = format!("{:03}", number * 7 % 600);
        fs::write(
            folder.join(name),
            noise(number, usize::try_from(bytes).unwrap()),
        )
        .unwrap();
    }
    make(&folder, &temp.join("old.img"));
    support::capture_image(&temp.join("old.img"), &library);
    let before = library.stats();
    // Everything behind the new file moves by an odd number of blocks; another grows and a third goes.
    fs::write(folder.join("000a"), noise(1000, 21_000)).unwrap();
    fs::write(folder.join("200"), noise(1001, 90_000)).unwrap();
    fs::remove_file(folder.join("300")).unwrap();
    make(&folder, &temp.join("new.img"));
    let manifest = support::capture_image(&temp.join("new.img"), &library);
    let expected = fs::read(temp.join("new.img")).unwrap();
    let prior = fs::read(temp.join("old.img")).unwrap();
    check(&manifest, &library, &expected, &prior, &temp.join("target"));
    let fresh = library.stats().content_bytes - before.content_bytes;
    (fresh, manifest.content_bytes())
}

#[test]
fn an_image_made_again_is_mostly_known() {
    let (fresh, total) = made_again(ext4);
    assert!(fresh * 12 < total, "ext4: {fresh} of {total} bytes are new");
    let (fresh, total) = made_again(ntfs);
    // Its table of files, a kilobyte for each, is another one.
    assert!(fresh * 5 < total, "NTFS: {fresh} of {total} bytes are new");
}

/// How many of the files have a chunk of their own, each being as long as the shortest chunk.
fn own_chunks(manifest: &Manifest, files: &[Vec<u8>]) -> usize {
    let chunks: HashSet<Digest> = (manifest.chunks().iter().map(|chunk| chunk.digest)).collect();
    (files
        .iter()
        .filter(|file| chunks.contains(&Digest::of(file))))
    .count()
}

#[test]
fn a_large_file_has_chunks_of_its_own() {
    let temp = Temp::new();
    let library = temp.library("l");
    let files: Vec<Vec<u8>> = (0..20).map(|seed| noise(seed, 64 << 10)).collect();
    for (number, file) in files.iter().enumerate() {
        let folder = temp.join(&format!("tree/mappe {}", number % 3));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("blåbær {number}")), file).unwrap();
        fs::write(
            folder.join(format!("liten {number}")),
            noise(99, 5000 + 100 * number),
        )
        .unwrap();
    }
    for (name, make) in [("ext4", ext4 as fn(&Utf8Path, &Utf8Path)), ("ntfs", ntfs)] {
        make(&temp.join("tree"), &temp.join(name));
        let manifest = support::capture_image(&temp.join(name), &library);
        assert_eq!(own_chunks(&manifest, &files), files.len(), "{name}");
    }
}

/// A volume in use, until it is dropped.
struct Mounted(Utf8PathBuf);

impl Mounted {
    fn ntfs(image: &Utf8Path, folder: Utf8PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        run("ntfs-3g", "ntfs-3g", &[image.as_str(), folder.as_str()]);
        Self(folder)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("mount", "umount", &[self.0.as_str()]);
    }
}

#[test]
fn an_ntfs_file_in_more_pieces_than_its_record_holds_is_found() {
    let temp = Temp::new();
    let image = temp.join("image");
    empty_ntfs(&image);
    let mounted = Mounted::ntfs(&image, temp.join("mounted"));
    let file = File::create_new(mounted.0.join("stykker")).unwrap();
    // Between the pieces are holes, so that they can't be told as one.
    let pieces: Vec<Vec<u8>> = (0..500).map(|seed| noise(seed, 64 << 10)).collect();
    for (piece, at) in pieces.iter().zip((0..).step_by(1 << 20)) {
        file.write_all_at(piece, at).unwrap();
    }
    drop(file);
    drop(mounted);
    let told = run("ntfs-3g", "ntfsinfo", &["-F", "stykker", image.as_str()]);
    assert!(told.contains("$ATTRIBUTE_LIST"), "{told}");
    let manifest = support::capture_image(&image, &temp.library("l"));
    // Where the volume's own tables are in the way, a piece lies in two.
    let found = own_chunks(&manifest, &pieces);
    assert!(found >= pieces.len() - 5, "{found} of {}", pieces.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_damaged_volume_is_captured_as_it_is(
        damages in proptest::collection::vec((0..40_u64, 0..1024_u64, any::<u8>()), 1..60),
    ) {
        static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let temp = Temp::new();
            File::create_new(temp.join("image")).unwrap().set_len(2 << 20).unwrap();
            run("ntfs-3g", "mkntfs", &["-q", "-Q", "-F", temp.join("image").as_str()]);
            fs::read(temp.join("image")).unwrap()
        });
        let temp = Temp::new();
        let library = temp.library("l");
        let mut bytes = SOUND.clone();
        // In the boot sector and in the records of the table, which begins behind four clusters.
        for (record, at, byte) in damages {
            let from = if record == 0 { 0 } else { 16384 + (record - 1) * 1024 };
            bytes[usize::try_from(from + at).unwrap()] = byte;
        }
        fs::write(temp.join("image"), &bytes).unwrap();
        let manifest = support::capture_image(&temp.join("image"), &library);
        check(&manifest, &library, &bytes, &bytes, &temp.join("target"));
    }
}
