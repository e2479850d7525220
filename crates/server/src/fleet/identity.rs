//! Who a machine is. Names are hints with weights; placeholders that firmware vendors leave in are no names at all.
//! A MAC address says nothing: dongles travel.

use uuid::Uuid;
use wire::names::DeviceId;
use wire::reasons::{AsideReason, Evidence};

/// A serial number or a UUID alone is enough; an asset tag alone is not.
const SERIAL_SCORE: u32 = 3;
const UUID_SCORE: u32 = 3;
const ASSET_TAG_SCORE: u32 = 1;
const SCORE_MIN: u32 = 3;

/// Texts that vendors leave in SMBIOS, as [`name_key`] makes them.
const PLACEHOLDERS: &[&str] = &[
    "TO BE FILLED BY O.E.M.",
    "TO BE FILLED BY O.E.M",
    "TO BE FILLED BY OEM",
    "DEFAULT STRING",
    "SYSTEM SERIAL NUMBER",
    "SYSTEM PRODUCT NAME",
    "SYSTEM VERSION",
    "SERIAL NUMBER",
    "CHASSIS SERIAL NUMBER",
    "BASE BOARD SERIAL NUMBER",
    "ASSET TAG",
    "NO ASSET TAG",
    "NO ASSET INFORMATION",
    "CHASSIS ASSET TAG",
    "ASSET-1234567890",
    "NOT SPECIFIED",
    "NOT SETTABLE",
    "NOT APPLICABLE",
    "NOT AVAILABLE",
    "NONE",
    "NULL",
    "N/A",
    "NA",
    "OEM",
    "O.E.M.",
    "INVALID",
    "UNKNOWN",
    "EMPTY",
    "SERIAL",
    "TBD",
    "INSYDE",
    "0123456789",
    "1234567890",
    "123456789",
    "12345678",
    "123456",
    "SYSTEMSERIALNUMB",
    "XXXXXXXXXX",
    "INTEL CORPORATION",
    "NO SERIAL NUMBER",
    "NOT DEFINED",
    "NOT PRESENT",
    "NOT PROVIDED",
    "UNDEFINED",
    "UNASSIGNED",
    "DEFAULT",
    "STANDARD",
    "TEST",
    "SERIAL#",
    "SERIALNUMBER",
    "SYSTEM_SERIAL_NUMBER",
    "ASSETTAG",
    "CHASSIS SERIAL",
    "EVAL",
    "FILL BY OEM",
    "FILLED BY O.E.M.",
    "PLEASE CHANGE",
    "CHANGE ME",
    "MB-1234567890",
    "ABCDEFGHIJ",
    "ABC123",
];

/// A serial number or asset tag as it is compared: trimmed, inner white space single, capital letters. `None` for
/// placeholders and texts without a letter or digit.
pub(crate) fn name_key(text: &str) -> Option<String> {
    let key = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_uppercase();
    let mut letters = key.chars().filter(|c| c.is_alphanumeric());
    let first = letters.next()?;
    // One letter over and over: 000000, FFFFFF, XXXX.
    if letters.all(|c| c == first) || PLACEHOLDERS.contains(&key.as_str()) {
        return None;
    }
    Some(key)
}

/// UUIDs that many machines share.
pub(crate) fn uuid_key(uuid: Uuid) -> Option<Uuid> {
    // The default of a firmware vendor, shared by whole series of machines.
    const SHARED: Uuid = Uuid::from_u128(0x0300_0200_0400_0500_0006_0007_0008_0009);
    let one_byte = uuid
        .as_bytes()
        .iter()
        .all(|byte| *byte == uuid.as_bytes()[0]);
    let is_shared = uuid == SHARED || swapped(uuid) == SHARED;
    (!one_byte && !is_shared).then_some(uuid)
}

/// The same UUID with its first three groups in the other byte order: SMBIOS stores them little-endian, and tools
/// don't agree on which one to print.
pub(crate) fn swapped(uuid: Uuid) -> Uuid {
    let mut bytes = uuid.into_bytes();
    bytes[0..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Uuid::from_bytes(bytes)
}

/// What a machine calls itself, or what an asset is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// By [`name_key`].
    pub(crate) serial: Option<String>,
    /// By [`uuid_key`].
    pub(crate) uuid: Option<Uuid>,
    /// By [`name_key`].
    pub(crate) asset_tag: Option<String>,
    /// The UUID was seen on more than one machine: it says nothing.
    pub(crate) uuid_is_shared: bool,
}

impl Names {
    /// Stands for them: a decision about a machine holds as long as its names are the same.
    pub(crate) fn fingerprint(&self) -> String {
        let text = |name: &Option<String>| name.clone().unwrap_or_default();
        let uuid = self.uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
        format!("{}|{uuid}|{}", text(&self.serial), text(&self.asset_tag))
    }
}

/// What the evidence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Exactly one asset fits best, and well enough.
    Recognised {
        /// The asset.
        device: DeviceId,
        /// Why.
        evidence: Vec<Evidence>,
    },
    /// None does, or several do.
    Unknown {
        /// For the admin.
        why: AsideReason,
        /// What was looked at.
        evidence: Vec<Evidence>,
    },
}

/// Weighs what a machine calls itself against the assets that share some name with it.
pub(crate) fn recognise(machine: &Names, candidates: &[(DeviceId, Names)]) -> Verdict {
    let mut scored: Vec<(u32, DeviceId, Vec<Evidence>)> = candidates
        .iter()
        .map(|(device, asset)| {
            let (score, evidence) = score(machine, asset);
            (score, *device, evidence)
        })
        .collect();
    scored.sort_by_key(|(score, device, _)| (std::cmp::Reverse(*score), *device));
    if machine.serial.is_none() && machine.uuid.is_none() {
        return Verdict::Unknown {
            why: AsideReason::NoNames,
            evidence: vec![Evidence::OnlyPlaceholders],
        };
    }
    match scored.as_slice() {
        [(first, device, evidence), rest @ ..]
            if *first >= SCORE_MIN && rest.first().is_none_or(|(second, ..)| second < first) =>
        {
            Verdict::Recognised {
                device: *device,
                evidence: evidence.clone(),
            }
        }
        [(first, ..), ..] if *first >= SCORE_MIN => {
            let evidence = scored.into_iter().flat_map(|(_, device, lines)| {
                let device = device.to_string();
                std::iter::once(Evidence::OfAsset { device }).chain(lines)
            });
            Verdict::Unknown {
                why: AsideReason::TwoAssets,
                evidence: evidence.collect(),
            }
        }
        _ => Verdict::Unknown {
            why: match machine.serial.clone() {
                Some(serial) => AsideReason::NoAsset { serial },
                None => AsideReason::NoAssetByUuid,
            },
            evidence: scored.into_iter().flat_map(|(_, _, lines)| lines).collect(),
        },
    }
}

/// How well they fit, and what was compared. A serial number counts 3, a UUID 3 (0 if several machines have it), an
/// asset tag 1; 3 are needed. A MAC address counts nothing: docks and dongles travel.
pub(crate) fn score(machine: &Names, asset: &Names) -> (u32, Vec<Evidence>) {
    let mut score = 0;
    let mut evidence = Vec::new();
    match compared(machine.serial.as_ref(), asset.serial.as_ref()) {
        Compared::Same(serial) => {
            score += SERIAL_SCORE;
            evidence.push(Evidence::SerialSame {
                serial,
                points: SERIAL_SCORE,
            });
        }
        Compared::Different { machine, asset } => {
            evidence.push(Evidence::SerialDiffers { machine, asset });
        }
        Compared::Placeholder => evidence.push(Evidence::SerialPlaceholder),
        Compared::NotKnown => {}
    }
    // Both are written as the machine's, if they are the same but for the byte order.
    let is_swapped = matches!((machine.uuid, asset.uuid), (Some(mine), Some(theirs)) if mine != theirs && swapped(mine) == theirs);
    let theirs = if is_swapped { machine.uuid } else { asset.uuid };
    match compared(machine.uuid.as_ref(), theirs.as_ref()) {
        Compared::Same(uuid) if machine.uuid_is_shared || asset.uuid_is_shared => {
            evidence.push(Evidence::UuidShared { uuid });
        }
        Compared::Same(uuid) => {
            score += UUID_SCORE;
            let points = UUID_SCORE;
            evidence.push(if is_swapped {
                Evidence::UuidSwapped { uuid, points }
            } else {
                Evidence::UuidSame { uuid, points }
            });
        }
        Compared::Different { machine, asset } => {
            evidence.push(Evidence::UuidDiffers { machine, asset });
        }
        Compared::Placeholder => evidence.push(Evidence::UuidPlaceholder),
        Compared::NotKnown => {}
    }
    match compared(machine.asset_tag.as_ref(), asset.asset_tag.as_ref()) {
        Compared::Same(tag) => {
            score += ASSET_TAG_SCORE;
            evidence.push(Evidence::TagSame {
                tag,
                points: ASSET_TAG_SCORE,
            });
        }
        Compared::Different { machine, asset } => {
            evidence.push(Evidence::TagDiffers { machine, asset });
        }
        Compared::Placeholder => evidence.push(Evidence::TagPlaceholder),
        Compared::NotKnown => {}
    }
    (score, evidence)
}

/// A name of a machine beside that of an asset.
enum Compared {
    Same(String),
    Different {
        machine: String,
        asset: String,
    },
    /// The asset has one, the machine only a placeholder.
    Placeholder,
    /// The asset has none.
    NotKnown,
}

fn compared<T: PartialEq + ToString>(machine: Option<&T>, asset: Option<&T>) -> Compared {
    match (machine, asset) {
        (Some(machine), Some(asset)) if machine == asset => Compared::Same(machine.to_string()),
        (Some(machine), Some(asset)) => Compared::Different {
            machine: machine.to_string(),
            asset: asset.to_string(),
        },
        (None, Some(_)) => Compared::Placeholder,
        (_, None) => Compared::NotKnown,
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, Verdict, name_key, recognise, score, swapped, uuid_key};
    use proptest::prelude::*;
    use uuid::Uuid;
    use wire::names::DeviceId;
    use wire::reasons::Evidence;

    fn names(serial: &str, uuid: u128, asset_tag: &str) -> Names {
        Names {
            serial: name_key(serial),
            uuid: uuid_key(Uuid::from_u128(uuid)),
            asset_tag: name_key(asset_tag),
            uuid_is_shared: false,
        }
    }

    fn device(number: u128) -> DeviceId {
        DeviceId(Uuid::from_u128(number))
    }

    /// The asset that a machine is taken for, among numbered assets.
    fn check(machine: &Names, assets: &[Names]) -> Option<usize> {
        let candidates: Vec<_> = assets
            .iter()
            .enumerate()
            .map(|(n, a)| (device(n as u128), a.clone()))
            .collect();
        match recognise(machine, &candidates) {
            Verdict::Recognised {
                device: found,
                evidence,
            } => {
                assert!(!evidence.is_empty());
                (0..assets.len()).find(|n| device(*n as u128) == found)
            }
            Verdict::Unknown { .. } => None,
        }
    }

    #[test]
    fn placeholders_are_no_names() {
        for text in [
            "",
            "  ",
            "0",
            "0000000",
            "ffff-ffff",
            "To be filled by O.E.M.",
            "default  string",
            "None",
            "....",
        ] {
            assert_eq!(name_key(text), None, "{text:?}");
        }
        assert_eq!(name_key(" pf3abc "), Some("PF3ABC".into()));
        assert_eq!(uuid_key(Uuid::nil()), None);
        assert_eq!(uuid_key(Uuid::max()), None);
    }

    #[test]
    fn weighs_the_evidence() {
        let cases: &[(Names, Vec<Names>, Option<usize>)] = &[
            (
                names("A1", 0, ""),
                vec![names("A1", 0, ""), names("B1", 0, "")],
                Some(0),
            ),
            (
                names("To be filled by O.E.M.", 7, ""),
                vec![names("A1", 7, "")],
                Some(0),
            ),
            // The asset tag alone is not enough, but breaks a tie.
            (names("Z9", 0, "T1"), vec![names("A1", 0, "T1")], None),
            (
                names("A1", 7, "T2"),
                vec![names("A1", 0, "T1"), names("B1", 7, "T2")],
                Some(1),
            ),
            // Serial of one, UUID of another.
            (
                names("A1", 7, ""),
                vec![names("A1", 8, ""), names("B1", 7, "")],
                None,
            ),
            (names("0", 0, ""), vec![names("A1", 0, "")], None),
            (names("A1", 0, ""), vec![], None),
        ];
        for (number, (machine, assets, expected)) in cases.iter().enumerate() {
            assert_eq!(check(machine, assets), *expected, "case {number}");
        }
    }

    #[test]
    fn a_uuid_in_the_other_byte_order_is_the_same_and_a_shared_one_is_worth_nothing() {
        let uuid = Uuid::from_u128(0x4c4c4544_0042_3510_8052_b4c04f564433);
        assert_eq!(swapped(swapped(uuid)), uuid);
        let machine = Names {
            uuid: Some(uuid),
            ..Names::default()
        };
        let asset = Names {
            uuid: Some(swapped(uuid)),
            ..Names::default()
        };
        assert_eq!(score(&machine, &asset).0, 3);
        assert!(matches!(
            score(&machine, &asset).1[0],
            Evidence::UuidSwapped { .. }
        ));
        let shared = Names {
            uuid_is_shared: true,
            ..machine.clone()
        };
        assert_eq!(score(&shared, &asset).0, 0);
        assert_eq!(check(&shared, &[asset]), None);
    }

    fn any_names() -> impl Strategy<Value = Names> {
        let text = || proptest::option::of("[AB][0-9]");
        let uuid = proptest::option::of(0u128..3);
        (text(), uuid, text(), any::<bool>()).prop_map(|(serial, uuid, tag, shared)| Names {
            serial,
            uuid: uuid.map(|number| Uuid::from_u128(0x1234 << 64 | number)),
            asset_tag: tag,
            uuid_is_shared: shared,
        })
    }

    proptest! {
        #[test]
        fn scoring_is_symmetric(one in any_names(), other in any_names()) {
            prop_assert_eq!(score(&one, &other).0, score(&other, &one).0);
        }

        #[test]
        fn more_agreeing_evidence_never_lowers(machine in any_names(), asset in any_names()) {
            let before = score(&machine, &asset).0;
            let mut more = asset.clone();
            more.serial = machine.serial.clone().or(more.serial);
            prop_assert!(score(&machine, &more).0 >= before);
            more.asset_tag = machine.asset_tag.clone().or(more.asset_tag);
            prop_assert!(score(&machine, &more).0 >= before);
            more.uuid = machine.uuid.or(more.uuid);
            prop_assert!(score(&machine, &more).0 >= before);
        }

        #[test]
        fn placeholders_agree_with_nothing(text in "(0+|F+|x+|[ .-]*|[Dd]efault +[Ss]tring|To be filled by O\\.E\\.M\\.)") {
            let machine = names(&text, 0, &text);
            prop_assert_eq!(score(&machine, &machine.clone()).0, 0);
        }

        #[test]
        fn a_machine_without_names_is_never_recognised(
            tag in ".{0,20}",
            serials in proptest::collection::vec(".{0,8}", 0..5),
        ) {
            let machine = names("Default string", 0, &tag);
            let assets: Vec<_> = serials.iter().map(|serial| names(serial, 0, &tag)).collect();
            prop_assert_eq!(check(&machine, &assets), None);
        }
    }
}
