//! Single bits that flip: on the medium, in the mark, in the journal and in the small files of the staging partition. The
//! library and the OS volume are in `content` (`tests/it/flipped_bits.rs`).
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FORESTAGE_FLIPPED_BITS=2500` | so many flips at each place instead of 40 (`cargo xtask nightly` does) |
//! | `FORESTAGE_ATTACK_SEED=7` | other bits; a failure names its own |
//!
//! What means nothing is counted by itself: bytes that nobody reads, and bits that leave the content as it was.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use sequence::engine::Journal;
use serde_json::json;
use testkit::chance::{Chance, variable};
use wire::device_api::Staged;
use wire::digest::Digest;
use wire::event::{Event, EventBody};
use wire::facts::DiskContent;
use wire::mark::{MARK_BYTES, MARK_OFFSET, MarkState, StagingMark};
use wire::names::RunId;
use wire::order::Order;

use crate::altered_bundles::medium;
use crate::block::sparse;
use crate::connection::{read_staged, write_staged};
use crate::files::{Files, SystemFiles};
use crate::guard;
use crate::host::State;
use crate::journal::{RunJournal, load_order};
use crate::machine::made_of_files::FileMachine;
use crate::test_bundle::{TestBundle, trust};

/// Every how many bits of the mark the guard looks, too: it reads two ends of a disk.
const GUARD_EVERY: usize = 16;
/// The partition of a bundle ends at a multiple of this, and the rest of it is zeros.
const PARTITION_STEP: usize = 1 << 20;

fn wanted() -> u64 {
    variable("FORESTAGE_FLIPPED_BITS").unwrap_or(40)
}

fn seed() -> u64 {
    variable("FORESTAGE_ATTACK_SEED").unwrap_or(1)
}

fn flip(bytes: &[u8], chance: &mut Chance) -> (Vec<u8>, usize) {
    let mut flipped = bytes.to_vec();
    let at = chance.place(bytes.len());
    flipped[at] ^= 1 << chance.below(8);
    (flipped, at)
}

#[test]
fn a_flipped_bit_of_the_medium_is_never_staged() {
    let bundle = TestBundle::new(1);
    let (machine, trust) = (FileMachine::new(), trust());
    let mut partition = bundle.bytes.clone();
    partition.resize(partition.len().next_multiple_of(PARTITION_STEP), 0);
    let mut chance = Chance::new(seed());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..wanted() {
        let (flipped, at) = flip(&partition, &mut chance);
        let place = format!("bit of byte {at}, number {number}, seed {}", seed());
        machine.make_blank();
        let staged = machine.stage(medium(&flipped), &trust);
        let is_table =
            at < bundle.packs_at + 16 || (bundle.frames_end..bundle.bytes.len()).contains(&at);
        let kind = match &staged {
            Err(errors) if machine.written().is_empty() => {
                assert!(is_table, "{place}: {errors:?}");
                assert!(
                    errors[0].contains("the bundle on the boot medium"),
                    "{errors:?}"
                );
                "refused, nothing written"
            }
            Err(errors) => {
                assert!(!is_table, "{place}: {errors:?}");
                bundle.assert_nothing_else(&machine, &place);
                let names_it = errors.iter().any(|error| error.contains("chunk"));
                assert!(names_it, "{place}: {errors:?}");
                "ended at the chunk, which was named"
            }
            Ok(()) => {
                bundle.assert_staged(&machine, &place);
                if at >= bundle.bytes.len() {
                    "behind the bundle, where nobody reads"
                } else {
                    "meant nothing to zstd: the content was right"
                }
            }
        };
        *counts.entry(kind).or_default() += 1;
    }
    eprintln!("{} flips on the medium: {counts:?}", wanted());
}

#[test]
fn every_flipped_bit_of_the_mark_makes_the_disk_a_strangers() {
    let (serial, uuid) = FileMachine::identity();
    let disk = sparse(4 << 20);
    for state in [MarkState::Staged, MarkState::Deployed] {
        let mark = StagingMark::new(serial, uuid, state).encode();
        for bit in 0..MARK_BYTES * 8 {
            let mut flipped = mark;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(StagingMark::decode(&flipped), None, "{state:?}, bit {bit}");
            if bit % GUARD_EVERY != 0 {
                continue;
            }
            disk.write_at(&flipped, MARK_OFFSET).expect("a plain file");
            let content = guard::inspect(&disk, serial, uuid).expect("a plain file");
            assert_eq!(content, DiskContent::Foreign, "{state:?}, bit {bit}");
        }
    }
}

/// A staging partition that is a folder.
struct Folder(Utf8PathBuf);

impl State for Folder {
    fn folder(&self) -> Option<Utf8PathBuf> {
        Some(self.0.clone())
    }

    fn files(&self) -> &dyn Files {
        &SystemFiles
    }
}

fn event(run: RunId, seq: u64, body: serde_json::Value) -> Event {
    let body: EventBody = serde_json::from_value(body).expect("an event");
    Event {
        run,
        seq,
        boot: 1,
        uptime_ms: seq * 1000,
        body,
    }
}

/// What a run writes, from its start to its end.
fn events(run: RunId) -> Vec<Event> {
    let steps = json!([{"path": "os", "title": "Skriv OS-avtrykket", "kind": "apply-image"}]);
    let bodies = [
        json!({"kind": "run-started", "sequence": "deploy", "steps": steps}),
        json!({"kind": "step-started", "path": "os", "attempt": 1}),
        json!({"kind": "step-planned", "path": "os", "plan": {"hostname": "bjø-8b"}, "text": "apply"}),
        json!({"kind": "log", "path": "os", "level": "info", "text": "blåbær"}),
        json!({"kind": "step-done", "path": "os", "outcome": "done"}),
        json!({"kind": "run-done", "action": "restart"}),
    ];
    (1..)
        .zip(bodies)
        .map(|(seq, body)| event(run, seq, body))
        .collect()
}

fn order(run: RunId, bundle: &TestBundle) -> Order {
    Order {
        format: 1,
        run,
        device: wire::names::DeviceId(uuid::Uuid::from_u128(2)),
        deployment: None,
        sequence: bundle.root.stage.clone(),
        variables: [("host_name".to_owned(), json!("bjo-8b"))].into(),
        packages: bundle.root.packages.clone(),
        expected_seconds: 600,
    }
}

#[test]
fn a_journal_with_a_flipped_bit_is_a_true_beginning_and_is_gone_on_with() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = Utf8Path::from_path(temp.path()).expect("a UTF-8 path");
    let run = RunId(uuid::Uuid::from_u128(1));
    let all = events(run);
    let open = || {
        let state = Arc::new(Folder(folder.to_owned()));
        RunJournal::open(run, state as _, None).expect("a journal")
    };
    let mut journal = open();
    for event in &all {
        journal.append(event).expect("a line");
    }
    let path = folder.join("runs").join(run.to_string()).join("journal");
    let whole = fs::read(&path).expect("a journal");
    let mut chance = Chance::new(seed());
    for number in 0..wanted() {
        let (flipped, at) = flip(&whole, &mut chance);
        let place = format!("bit of byte {at}, number {number}, seed {}", seed());
        fs::write(&path, flipped).expect("a file");
        let mut journal = open();
        let read = journal.events().to_vec();
        assert!(read.len() < all.len(), "{place}: nothing noticed");
        assert_eq!(read, all[..read.len()], "{place}");
        // What the run does again is written behind what is true.
        for event in &all[read.len()..] {
            journal.append(event).expect("a line");
        }
        assert_eq!(fs::read(&path).expect("a journal"), whole, "{place}");
    }
    eprintln!("{} flips in a journal", wanted());
}

#[test]
fn an_order_and_what_was_staged_are_read_right_or_not_at_all() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let folder = Utf8Path::from_path(temp.path()).expect("a UTF-8 path");
    let run = RunId(uuid::Uuid::from_u128(1));
    let order = order(run, &TestBundle::new(1));
    let state = Arc::new(Folder(folder.to_owned()));
    RunJournal::open(run, state as _, Some(&order)).expect("a journal");
    let staged = Staged {
        prestage: "elev".parse().expect("a name"),
        version: 3,
        bundle: Digest::of(b"bundle"),
    };
    write_staged(&SystemFiles, folder, &staged).expect("a file");
    let mut chance = Chance::new(seed());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for file in ["order.json", "staged.json"] {
        let path = folder.join(file);
        let whole = fs::read(&path).expect("a file");
        for number in 0..wanted() {
            let (flipped, at) = flip(&whole, &mut chance);
            let place = format!("{file}, bit of byte {at}, number {number}, seed {}", seed());
            fs::write(&path, flipped).expect("a file");
            let order_now = load_order(&SystemFiles, folder).expect("a readable folder");
            let staged_now = read_staged(&SystemFiles, folder).expect("a readable folder");
            let is_whole = order_now.is_some() && staged_now.is_some();
            if let Some((read, _)) = order_now {
                assert_eq!(read, order, "{place}");
            }
            if let Some(read) = staged_now {
                assert_eq!(read, staged, "{place}");
            }
            let kind = if is_whole {
                "in the name of the checksum: read, and right"
            } else {
                "counted as missing"
            };
            *counts.entry(kind).or_default() += 1;
        }
        fs::write(&path, whole).expect("a file");
    }
    eprintln!("{} flips in each of two files: {counts:?}", wanted());
}
