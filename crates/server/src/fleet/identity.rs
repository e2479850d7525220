//! Who a machine is. Names are hints with weights; placeholders that firmware vendors leave in are no names at all.
//! A MAC address says nothing: dongles travel.

use uuid::Uuid;
use wire::names::DeviceId;

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
    (!uuid.is_nil() && !uuid.is_max() && uuid != SHARED).then_some(uuid)
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
}

/// What the evidence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Exactly one asset fits best, and well enough.
    Recognised {
        /// The asset.
        device: DeviceId,
        /// Why.
        evidence: Vec<String>,
    },
    /// None does, or several do.
    Unknown {
        /// In words, for the admin.
        message: String,
        /// What was looked at.
        evidence: Vec<String>,
    },
}

/// Weighs what a machine calls itself against the assets that share some name with it.
pub(crate) fn recognise(machine: &Names, candidates: &[(DeviceId, Names)]) -> Verdict {
    let mut scored: Vec<(u32, DeviceId, Vec<String>)> = candidates
        .iter()
        .map(|(device, asset)| {
            let (score, evidence) = score(machine, asset);
            (score, *device, evidence)
        })
        .collect();
    scored.sort_by_key(|(score, device, _)| (std::cmp::Reverse(*score), *device));
    if machine.serial.is_none() && machine.uuid.is_none() {
        let message =
            "the machine has neither a serial number nor a UUID that means anything".to_owned();
        return Verdict::Unknown {
            message,
            evidence: vec!["only placeholders in the firmware".into()],
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
            let evidence = scored
                .iter()
                .flat_map(|(_, device, lines)| lines.iter().map(move |l| format!("{device}: {l}")));
            let message = "two or more imported assets fit this machine equally well".to_owned();
            Verdict::Unknown {
                message,
                evidence: evidence.collect(),
            }
        }
        _ => {
            let serial = machine.serial.as_deref().unwrap_or("(placeholder)");
            let message = format!("no imported asset has serial number {serial} or this UUID");
            let evidence = scored.into_iter().flat_map(|(_, _, lines)| lines).collect();
            Verdict::Unknown { message, evidence }
        }
    }
}

fn score(machine: &Names, asset: &Names) -> (u32, Vec<String>) {
    let mut score = 0;
    let mut evidence = Vec::new();
    let mut weigh = |what: &str, mine: Option<String>, theirs: Option<String>, weight: u32| match (
        mine, theirs,
    ) {
        (Some(mine), Some(theirs)) if mine == theirs => {
            score += weight;
            evidence.push(format!("{what} {mine} is the same (+{weight})"));
        }
        (Some(mine), Some(theirs)) => evidence.push(format!(
            "{what} differs: the machine says {mine}, the asset {theirs}"
        )),
        (None, Some(_)) => evidence.push(format!("{what}: the machine has only a placeholder")),
        (_, None) => {}
    };
    weigh(
        "serial number",
        machine.serial.clone(),
        asset.serial.clone(),
        SERIAL_SCORE,
    );
    weigh(
        "UUID",
        machine.uuid.map(|u| u.to_string()),
        asset.uuid.map(|u| u.to_string()),
        UUID_SCORE,
    );
    weigh(
        "asset tag",
        machine.asset_tag.clone(),
        asset.asset_tag.clone(),
        ASSET_TAG_SCORE,
    );
    (score, evidence)
}

#[cfg(test)]
mod tests {
    use super::{Names, Verdict, name_key, recognise, uuid_key};
    use proptest::prelude::*;
    use uuid::Uuid;
    use wire::names::DeviceId;

    fn names(serial: &str, uuid: u128, asset_tag: &str) -> Names {
        Names {
            serial: name_key(serial),
            uuid: uuid_key(Uuid::from_u128(uuid)),
            asset_tag: name_key(asset_tag),
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
            Verdict::Unknown { message, .. } => {
                assert!(!message.is_empty());
                None
            }
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

    proptest! {
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
