//! Collecting: only what nobody needs goes, wherever it is cut.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use content::{ContentError, GcPlan, Library, Meter, NoMeter};
use wire::digest::Digest;

use crate::support::{Temp, capture_tree, noise, packs};

/// Adds a tree of one large file of these blocks of noise, as a pack of its own, and its manifest.
fn add(temp: &Temp, library: &Library, name: &str, seeds: &[u64]) -> Digest {
    let folder = temp.join(name);
    fs::create_dir(&folder).unwrap();
    for seed in seeds {
        fs::write(folder.join(format!("{seed}")), noise(*seed, 300 << 10)).unwrap();
    }
    let manifest = capture_tree(&folder, library);
    library.put_manifest(&manifest.encode()).unwrap()
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

fn plan(library: &Library, needed: &[Digest]) -> Result<GcPlan, ContentError> {
    library.plan_gc(&needed.iter().copied().collect(), later())
}

/// Whether all of a manifest's chunks are here and sound.
fn is_whole(library: &Library, digest: &Digest) -> bool {
    let Ok(manifest) = library.manifest(digest) else {
        return false;
    };
    manifest.chunks().iter().all(|chunk| {
        let frame = library.frame(&chunk.digest).unwrap();
        frame.is_some_and(|frame| frame.unpack(&mut Vec::new()).is_ok())
    })
}

/// Three packs: one needed, one half needed, one not needed at all. Answers what is needed and what isn't.
fn make(temp: &Temp, library: &Library) -> ([Digest; 2], [Digest; 2]) {
    let needed = add(temp, library, "needed", &[1, 2]);
    let mixed = add(temp, library, "mixed", &[3, 4, 5, 6]);
    let part = add(temp, library, "part", &[4, 5]);
    let gone = add(temp, library, "gone", &[7, 8]);
    assert_eq!(packs(&temp.join("l")).len(), 3);
    ([needed, part], [mixed, gone])
}

fn names(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut names = packs(folder);
    names.extend(
        (folder.join("manifests").read_dir_utf8().unwrap()).map(|entry| entry.unwrap().into_path()),
    );
    names.sort();
    names
}

#[test]
fn only_what_nobody_needs_goes() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (needed, unneeded) = make(&temp, &library);
    let before = names(&temp.join("l"));
    let found = plan(&library, &needed).unwrap();
    // A plan changes nothing.
    assert_eq!(names(&temp.join("l")), before);
    assert_eq!(
        found.manifests.iter().collect::<HashSet<_>>(),
        unneeded.iter().collect::<HashSet<_>>()
    );
    assert_eq!((found.packs_removed(), found.packs_rewritten()), (1, 1));
    let stored = library.stats().stored_bytes;
    library.gc(&found, &NoMeter).unwrap();
    assert_eq!(library.stats().stored_bytes, stored - found.freed_bytes);
    assert_eq!(library.stats().packs, 2);
    for library in [&library, &temp.library("l")] {
        assert!(needed.iter().all(|digest| is_whole(library, digest)));
        assert!(!unneeded.iter().any(|digest| is_whole(library, digest)));
    }
    assert_eq!(plan(&library, &needed).unwrap(), GcPlan::default());
}

#[test]
fn what_came_just_now_stays() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (needed, unneeded) = make(&temp, &library);
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let found = library.plan_gc(&needed.iter().copied().collect(), an_hour_ago);
    assert_eq!(found.unwrap(), GcPlan::default());
    assert!(unneeded.iter().all(|digest| is_whole(&library, digest)));
}

#[test]
fn little_waste_is_left_where_it_is() {
    let temp = Temp::new();
    let library = temp.library("l");
    add(&temp, &library, "all", &[1, 2, 3, 4, 5]);
    let part = add(&temp, &library, "part", &[1, 2, 3, 4]);
    let found = plan(&library, &[part]).unwrap();
    assert_eq!((found.manifests.len(), found.chunks), (1, 0));
    library.gc(&found, &NoMeter).unwrap();
    assert!(is_whole(&library, &part));
}

#[test]
fn of_two_copies_the_sound_one_stays() {
    for damaged in [0, 1] {
        let temp = Temp::new();
        let needed = add(&temp, &temp.library("l"), "needed", &[1, 2]);
        let pack = &packs(&temp.join("l"))[0];
        fs::copy(pack, pack.with_file_name(format!("{:064}.pack", 0))).unwrap();
        let copies = packs(&temp.join("l"));
        assert_eq!(copies.len(), 2);
        let mut bytes = fs::read(&copies[damaged]).unwrap();
        bytes[100_000] ^= 1;
        fs::write(&copies[damaged], bytes).unwrap();
        let library = temp.library("l");
        library
            .gc(&plan(&library, &[needed]).unwrap(), &NoMeter)
            .unwrap();
        drop(library);
        let library = temp.library("l");
        // What is damaged is forgotten, and then the other copy counts.
        library.verify(&NoMeter).unwrap();
        assert!(is_whole(&temp.library("l"), &needed), "copy {damaged}");
    }
}

#[test]
fn nothing_is_planned_while_a_needed_manifest_is_unknown() {
    let temp = Temp::new();
    let library = temp.library("l");
    make(&temp, &library);
    let unknown = Digest::of(b"unknown");
    let error = plan(&library, &[unknown]).unwrap_err();
    assert!(matches!(error, ContentError::MissingManifest { digest } if digest == unknown));
}

#[test]
fn nobody_collects_while_another_has_it_open() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (needed, _) = make(&temp, &library);
    let found = plan(&library, &needed).unwrap();
    let other = temp.library("l");
    let before = names(&temp.join("l"));
    let error = library.gc(&found, &NoMeter).unwrap_err();
    assert!(matches!(error, ContentError::LibraryInUse { .. }));
    assert_eq!(names(&temp.join("l")), before);
    drop(other);
    library.gc(&found, &NoMeter).unwrap();
    // Afterwards it can be opened again.
    temp.library("l");
}

/// Copies the library whenever it is asked whether to stop: each copy is what a power cut at that moment leaves.
struct Cuts<'a> {
    temp: &'a Temp,
    number: Cell<usize>,
}

impl Meter for Cuts<'_> {
    fn report(&self, _done: u64, _total: u64) {}

    fn is_cancelled(&self) -> bool {
        let to = self.temp.join(&format!("cut-{}", self.number.get()));
        let status = Command::new("cp")
            .arg("-a")
            .arg(self.temp.join("l"))
            .arg(&to)
            .status();
        assert!(status.unwrap().success());
        self.number.set(self.number.get() + 1);
        false
    }
}

#[test]
fn a_cut_at_any_step_loses_nothing() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (needed, unneeded) = make(&temp, &library);
    let found = plan(&library, &needed).unwrap();
    let cuts = Cuts {
        temp: &temp,
        number: Cell::new(0),
    };
    library.gc(&found, &cuts).unwrap();
    let stored = library.stats().stored_bytes;
    // Before and after each pack, and after each chunk that is copied.
    assert!(cuts.number.get() >= 6, "{}", cuts.number.get());
    for number in 0..cuts.number.get() {
        let cut = temp.library(&format!("cut-{number}"));
        assert!(
            needed.iter().all(|digest| is_whole(&cut, digest)),
            "cut {number}"
        );
        // Another run goes on from there.
        cut.gc(&plan(&cut, &needed).unwrap(), &NoMeter).unwrap();
        assert!(needed.iter().all(|digest| is_whole(&cut, digest)));
        assert!(!unneeded.iter().any(|digest| is_whole(&cut, digest)));
        assert_eq!(cut.stats().stored_bytes, stored, "cut {number}");
    }
}

#[test]
fn who_reads_meanwhile_misses_nothing() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (needed, _) = make(&temp, &library);
    let found = plan(&library, &needed).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            loop {
                // Once more after the end, so that there is at least one round behind it.
                let is_last = is_done.load(Ordering::SeqCst);
                assert!(needed.iter().all(|digest| is_whole(&library, digest)));
                if is_last {
                    return;
                }
            }
        });
        let result = library.gc(&found, &NoMeter);
        is_done.store(true, Ordering::SeqCst);
        result.unwrap();
        reader.join().unwrap();
    });
}
