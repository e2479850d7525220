//! Altered bundles and lying media: the agent's own staging is given bundles that somebody or something has changed, on a
//! machine made of files, and what it writes is looked at.
//!
//! What must hold is in `docs/formats/bundle.md`: everything but the chunks is refused before the first write; a chunk is
//! checked on the buffer that is then written.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FORESTAGE_ALTERED_BUNDLES=1000` | alters about so many bundles instead of 230 (`cargo xtask nightly` does) |
//! | `FORESTAGE_LYING_MEDIA=1000` | stages from so many lying media instead of 30 |
//! | `FORESTAGE_ATTACK_SEED=7` | other alterations; a failure names its own |

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use testkit::chance::{Chance, variable};
use wire::bundle::{BundlePart, BundleRoot};
use wire::digest::Digest;
use wire::package::Model;

use crate::block::BlockFile;
use crate::block::lying::{Medium, Turns};
use crate::machine::made_of_files::{FileMachine, model};
use crate::test_bundle::{HEAD_BYTES, TestBundle, head, key, trust};

/// A stick as it lies in a machine: nobody writes to it.
pub(crate) fn medium(bytes: &[u8]) -> BlockFile {
    let (file, _) = Medium::new(bytes.to_vec(), bytes.to_vec(), Turns::OnceRead);
    file
}

/// When an alteration is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Before the first write.
    AtOnce,
    /// When the chunk is read, if it is a chunk that is used.
    AtTheChunk,
    /// Never: it lies where nobody reads.
    Never,
}

/// What attackers have to work with.
struct Workshop {
    good: TestBundle,
    /// Of an earlier release, signed by the key that devices trust.
    older: TestBundle,
    attacker: SigningKey,
}

/// Alters the bundle.
type Alter = fn(&Workshop, &mut Chance) -> Vec<u8>;

const ALTERATIONS: &[(&str, Found, Alter)] = &[
    (
        "a flipped bit before the packs",
        Found::AtOnce,
        |shop, chance| flipped(&shop.good.bytes, 0..shop.good.packs_at, chance),
    ),
    (
        "a flipped bit in the index",
        Found::AtOnce,
        |shop, chance| {
            flipped(
                &shop.good.bytes,
                shop.good.frames_end..shop.good.table_at,
                chance,
            )
        },
    ),
    (
        "a flipped bit in the frame table",
        Found::AtOnce,
        |shop, chance| {
            flipped(
                &shop.good.bytes,
                shop.good.table_at..shop.good.bytes.len(),
                chance,
            )
        },
    ),
    ("another's frame table", Found::AtOnce, |shop, _| {
        let mut bytes = shop.good.bytes.clone();
        let (at, theirs) = (shop.good.table_at, &shop.older.bytes[shop.older.table_at..]);
        let length = theirs.len().min(bytes.len() - at);
        bytes[at..at + length].copy_from_slice(&theirs[..length]);
        bytes
    }),
    (
        "a frame table that names altered chunks",
        Found::AtOnce,
        |shop, chance| {
            let frames = shop.good.packs_at + 16..shop.good.frames_end;
            let mut bytes = flipped(&shop.good.bytes, frames, chance);
            let table = shop.good.frame_table(&bytes);
            bytes[shop.good.table_at..].copy_from_slice(&table);
            bytes
        },
    ),
    (
        "from before there were frame tables",
        Found::Never,
        |shop, _| {
            let mut bytes = shop.good.with_root(|root| root.frames = None);
            bytes.truncate(bytes.len() - (shop.good.bytes.len() - shop.good.table_at));
            bytes
        },
    ),
    (
        "a flipped bit in the chunks",
        Found::AtTheChunk,
        |shop, chance| {
            flipped(
                &shop.good.bytes,
                shop.good.packs_at + 16..shop.good.frames_end,
                chance,
            )
        },
    ),
    ("two blocks swapped", Found::AtOnce, |shop, chance| {
        swapped(&shop.good.bytes, 0..shop.good.packs_at, chance)
    }),
    (
        "two blocks of the chunks swapped",
        Found::AtTheChunk,
        |shop, chance| {
            swapped(
                &shop.good.bytes,
                shop.good.packs_at + 16..shop.good.frames_end,
                chance,
            )
        },
    ),
    (
        "chunks overwritten with zeros",
        Found::AtTheChunk,
        |shop, chance| {
            let mut bytes = shop.good.bytes.clone();
            let (from, to) = (shop.good.packs_at + 16, shop.good.frames_end);
            let at = from + chance.place(to - from);
            let end = (at + 1 + chance.place(100_000)).min(to);
            bytes[at..end].fill(0);
            bytes
        },
    ),
    (
        "another's chunks under the same index",
        Found::AtTheChunk,
        |shop, _| {
            let mut bytes = shop.good.bytes.clone();
            let frames = &shop.older.bytes[shop.older.packs_at..shop.older.frames_end];
            let room = shop.good.frames_end - shop.good.packs_at;
            let length = frames.len().min(room);
            bytes[shop.good.packs_at..shop.good.packs_at + length]
                .copy_from_slice(&frames[..length]);
            bytes
        },
    ),
    ("cut off", Found::AtOnce, |shop, chance| {
        shop.good.bytes[..chance.place(shop.good.bytes.len())].to_vec()
    }),
    (
        "cut off and filled up with zeros",
        Found::AtOnce,
        |shop, chance| {
            let mut bytes = shop.good.bytes.clone();
            let whole = bytes.len();
            bytes.truncate(chance.place(whole - 16));
            bytes.resize(whole + chance.place(5000), 0);
            bytes
        },
    ),
    ("lengthened in the middle", Found::AtOnce, |shop, chance| {
        let (at, length) = (
            chance.place(shop.good.bytes.len() - 1),
            1 + chance.place(4096),
        );
        let (before, after) = shop.good.bytes.split_at(at);
        [before, &chance.bytes(length), after].concat()
    }),
    ("lengthened at its end", Found::Never, |shop, chance| {
        let length = 1 + chance.place(1 << 20);
        [shop.good.bytes.clone(), chance.bytes(length)].concat()
    }),
    ("old tables over new chunks", Found::AtOnce, |shop, _| {
        [
            &shop.older.bytes[..shop.older.packs_at],
            &shop.good.bytes[shop.good.packs_at..],
        ]
        .concat()
    }),
    ("a new root over old manifests", Found::AtOnce, |shop, _| {
        [
            &shop.good.bytes[..shop.good.manifests_at],
            &shop.older.bytes[shop.older.manifests_at..],
        ]
        .concat()
    }),
    ("another root's signature", Found::AtOnce, |shop, _| {
        let mut bytes = shop.good.bytes.clone();
        bytes[24..HEAD_BYTES].copy_from_slice(&shop.older.bytes[24..HEAD_BYTES]);
        bytes
    }),
    ("packs before manifests", Found::AtOnce, |shop, _| {
        let TestBundle {
            bytes,
            manifests_at,
            packs_at,
            ..
        } = &shop.good;
        [
            &bytes[..*manifests_at],
            &bytes[*packs_at..],
            &bytes[*manifests_at..*packs_at],
        ]
        .concat()
    }),
    ("for another model", Found::AtOnce, for_another_model),
    ("signed by another key", Found::AtOnce, |shop, chance| {
        resigned(shop, chance, &shop.attacker)
    }),
    (
        "signed by another key in our name",
        Found::AtOnce,
        |shop, chance| resigned(shop, chance, &key()),
    ),
    (
        "a signature written differently",
        Found::AtOnce,
        |shop, _| {
            let mut bytes = shop.good.bytes.clone();
            add_order(&mut bytes[56..HEAD_BYTES]);
            bytes
        },
    ),
    ("a head that lies", Found::AtOnce, |shop, chance| {
        let mut bytes = shop.good.bytes.clone();
        let length = u32::try_from(shop.good.manifests_at - HEAD_BYTES).expect("it fits");
        let lies = [
            0,
            1,
            2,
            length - 1,
            length + 1,
            length * 2,
            16 << 20,
            u32::MAX,
        ];
        bytes[12..16].copy_from_slice(&chance.pick(&lies).to_le_bytes());
        bytes
    }),
    (
        "signed by us and in disorder",
        Found::AtOnce,
        |shop, chance| {
            let disorder = chance.pick(DISORDERS);
            shop.good.with_root(disorder)
        },
    ),
];

/// What a server that is broken might sign.
const DISORDERS: &[fn(&mut BundleRoot)] = &[
    |root| root.format = 2,
    |root| root.manifests[0].bytes = 0,
    |root| root.manifests[1].bytes = u64::MAX,
    |root| root.manifests[1].bytes -= 1,
    |root| root.manifests[0].digest = Digest::of(b""),
    |root| root.manifests.swap(0, 1),
    |root| root.manifests.clear(),
    |root| root.packs.clear(),
    |root| root.packs[0].bytes = 0,
    |root| root.packs[0].bytes -= 1,
    |root| root.packs[0].bytes = u64::MAX,
    |root| {
        root.packs.push(BundlePart {
            bytes: 0,
            ..root.packs[0]
        })
    },
    |root| {
        root.frames = Some(BundlePart {
            bytes: 0,
            ..root.packs[0]
        })
    },
    |root| root.frames = Some(root.packs[0]),
    |root| {
        root.frames = Some(BundlePart {
            bytes: u64::MAX,
            ..root.packs[0]
        })
    },
    |root| {
        root.frames = root.frames.map(|part| BundlePart {
            digest: Digest::of(b""),
            ..part
        })
    },
    |root| root.packages[0].manifest = Digest::of(b"another"),
];

fn flipped(bytes: &[u8], range: std::ops::Range<usize>, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[range.start + chance.place(range.len())] ^= 1 << chance.below(8);
    bytes
}

fn swapped(bytes: &[u8], range: std::ops::Range<usize>, chance: &mut Chance) -> Vec<u8> {
    let mut swapped = bytes.to_vec();
    let length = 1 + chance.place(64.min(range.len() / 4));
    while swapped == bytes {
        let place = |chance: &mut Chance| range.start + chance.place(range.len() - length);
        let (one, other) = (place(chance), place(chance));
        if one.abs_diff(other) >= length {
            for at in 0..length {
                swapped.swap(one + at, other + at);
            }
        }
    }
    swapped
}

fn for_another_model(_: &Workshop, chance: &mut Chance) -> Vec<u8> {
    let changes: [fn(&mut Model); 5] = [
        |model| model.vendor = "Acme Inc".into(),
        |model| model.product = "Book 15".into(),
        |model| model.sku = "B14-8".into(),
        |model| model.baseboard = "0ABC".into(),
        |model| *model = Model::default(),
    ];
    let mut other = model();
    chance.pick(&changes)(&mut other);
    TestBundle::for_model(1, other).bytes
}

/// Another's content, packed as it must be and signed by an attacker in the name of `named`.
fn resigned(shop: &Workshop, chance: &mut Chance, named: &SigningKey) -> Vec<u8> {
    let theirs = *chance.pick(&[&shop.good, &shop.older]);
    let root = &theirs.bytes[HEAD_BYTES..theirs.manifests_at];
    let head = head(root, &shop.attacker, named);
    [&head[..], &theirs.bytes[HEAD_BYTES..]].concat()
}

/// Adds the order of the group to the second half of a signature: the same number, written in another way.
fn add_order(half: &mut [u8]) {
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, more) in half.iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
}

fn workshop() -> Workshop {
    Workshop {
        good: TestBundle::new(1),
        older: TestBundle::new(2),
        attacker: SigningKey::from_bytes(&[66; 32]),
    }
}

#[test]
fn no_altered_bundle_is_staged() {
    let wanted = variable("FORESTAGE_ALTERED_BUNDLES").unwrap_or(230);
    let seed = variable("FORESTAGE_ATTACK_SEED").unwrap_or(1);
    let (shop, machine, trust) = (workshop(), FileMachine::new(), trust());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..wanted {
        let at = usize::try_from(number).expect("it fits") % ALTERATIONS.len();
        let (kind, found, alter) = ALTERATIONS[at];
        let own_seed = seed.wrapping_mul(0x1_0001).wrapping_add(number << 20);
        let bytes = alter(&shop, &mut Chance::new(own_seed));
        let place = format!("{kind}, number {number}, seed {seed}");
        machine.make_blank();
        let staged = machine.stage(medium(&bytes), &trust);
        match (found, &staged) {
            (Found::AtOnce, Err(errors)) => {
                assert_eq!(machine.written(), [""; 0], "{place}: {errors:?}");
                *counts.entry("refused, nothing written").or_default() += 1;
            }
            (Found::AtTheChunk, Err(errors)) => {
                let names_it = errors.iter().any(|error| error.contains("cannot "));
                assert!(names_it && errors.len() > 1, "{place}: {errors:?}");
                shop.good.assert_nothing_else(&machine, &place);
                *counts
                    .entry("ended at the chunk, nothing of it written")
                    .or_default() += 1;
            }
            (Found::AtTheChunk | Found::Never, Ok(())) => {
                shop.good.assert_staged(&machine, &place);
                *counts.entry("staged as signed").or_default() += 1;
            }
            (Found::AtOnce | Found::Never, _) => panic!("{place}: {staged:?}"),
        }
    }
    eprintln!("{wanted} altered bundles: {counts:?}");
}

#[test]
fn a_medium_that_changes_its_bytes_gets_none_of_them_written() {
    let wanted = variable("FORESTAGE_LYING_MEDIA").unwrap_or(30);
    let seed = variable("FORESTAGE_ATTACK_SEED").unwrap_or(1);
    let (shop, machine, trust) = (workshop(), FileMachine::new(), trust());
    let good = &shop.good.bytes;
    let (file, honest) = Medium::new(good.clone(), good.clone(), Turns::OnceRead);
    machine.stage(file, &trust).expect("an honest medium");
    let reads = honest.reads();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..wanted {
        let mut chance = Chance::new(seed.wrapping_mul(0x1_0001).wrapping_add(number << 20));
        let mut evil = match chance.below(4) {
            0 => chance.bytes(good.len()),
            1 => shop.older.bytes.clone(),
            2 => resigned(&shop, &mut chance, &key()),
            _ => [
                &good[..shop.good.packs_at],
                &shop.older.bytes[shop.older.packs_at..],
            ]
            .concat(),
        };
        evil.resize(good.len(), 0);
        // From the second read on: a medium that is another from the start is another medium.
        let turns = match chance.below(3) {
            0 => Turns::OnceRead,
            _ => Turns::After(1 + chance.below(reads)),
        };
        let place = format!("{turns:?}, number {number}, seed {seed}");
        machine.make_blank();
        let (file, _) = Medium::new(good.clone(), evil, turns);
        match machine.stage(file, &trust) {
            Ok(()) => {
                shop.good.assert_staged(&machine, &place);
                *counts.entry("staged with the good bytes").or_default() += 1;
            }
            Err(_) => {
                shop.good.assert_nothing_else(&machine, &place);
                *counts.entry("ended").or_default() += 1;
            }
        }
    }
    eprintln!("{wanted} media that lie, {reads} reads of an honest one: {counts:?}");
}
