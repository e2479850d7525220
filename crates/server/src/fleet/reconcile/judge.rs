//! Decides how each machine of an order compares with what the sticks say.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use wire::digest::Digest;
use wire::drift::PrestageId;
use wire::names::{DeviceId, PrestageName};
use wire::package::Model;
use wire::reasons::{ReconciledReason, texts};
use wire::receipt::{Receipt, ReceiptResult};
use wire::reconciliation::{ReconciledRow, ReconciledState, StickClaim};

/// A machine of the order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ordered {
    /// The line in the vendor's file.
    pub(crate) line: Option<u64>,
    pub(crate) serial: String,
    /// How the serial number is compared.
    pub(crate) key: String,
    pub(crate) asset_tag: String,
    /// What the order says of the model; empty texts if nothing.
    pub(crate) model: Model,
    pub(crate) site: String,
    pub(crate) device: Option<DeviceId>,
}

/// A receipt and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) receipt: Receipt,
    pub(crate) received_at_ms: i64,
}

/// A version of a prestage that was built here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) model: Model,
    pub(crate) root: Digest,
}

/// All that was built here, and from which version on it is good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bundles {
    /// By prestage and version.
    pub(crate) built: BTreeMap<PrestageName, BTreeMap<u32, Built>>,
    /// The oldest version that is as good as the newest.
    pub(crate) oldest: BTreeMap<PrestageName, u32>,
}

/// Receipts by the key of their serial number, each in the order in which they came. Those without a serial number that
/// is one stand under the empty key.
pub(crate) type Claims = BTreeMap<String, Vec<Claim>>;

/// Every machine of the order in its order, then every serial number on a stick that neither stands in the order nor is
/// `known` as a machine of another one.
pub(crate) fn judge(
    ordered: &[Ordered],
    claims: &Claims,
    bundles: &Bundles,
    known: &HashSet<String>,
) -> Vec<ReconciledRow> {
    let keys: HashSet<&str> = ordered.iter().map(|machine| machine.key.as_str()).collect();
    let mut rows: Vec<ReconciledRow> = ordered
        .iter()
        .map(|machine| {
            let claims = claims.get(&machine.key).filter(|_| !machine.key.is_empty());
            row(machine, claims.map_or(&[], Vec::as_slice), bundles)
        })
        .collect();
    for (key, claims) in claims {
        if key.is_empty() {
            rows.extend(
                claims
                    .iter()
                    .map(|claim| unexpected(std::slice::from_ref(claim))),
            );
        } else if !keys.contains(key.as_str()) && !known.contains(key) {
            rows.push(unexpected(claims));
        }
    }
    rows
}

fn row(machine: &Ordered, claims: &[Claim], bundles: &Bundles) -> ReconciledRow {
    let findings = findings(machine, claims, bundles);
    // Found in the order of their gravity.
    let state = findings
        .first()
        .map_or(ReconciledState::Staged, |(state, _)| *state);
    let said: Vec<ReconciledReason> = findings.into_iter().map(|(_, why)| why).collect();
    ReconciledRow {
        line: machine.line,
        serial: machine.serial.clone(),
        asset_tag: machine.asset_tag.clone(),
        ordered: machine.model.clone(),
        site: machine.site.clone(),
        state,
        why: texts(&said),
        said,
        claim: claim(claims),
        device: machine.device,
    }
}

fn unexpected(claims: &[Claim]) -> ReconciledRow {
    let serial = claims
        .last()
        .map_or_else(String::new, |claim| claim.receipt.serial.clone());
    let why = if serial.is_empty() {
        ReconciledReason::NoSerial
    } else {
        ReconciledReason::NotOrdered
    };
    ReconciledRow {
        line: None,
        serial,
        asset_tag: String::new(),
        ordered: Model::default(),
        site: String::new(),
        state: ReconciledState::Unexpected,
        why: vec![why.to_string()],
        said: vec![why],
        claim: claim(claims),
        device: None,
    }
}

/// All that is wrong with a machine, the gravest first.
fn findings(
    machine: &Ordered,
    claims: &[Claim],
    bundles: &Bundles,
) -> Vec<(ReconciledState, ReconciledReason)> {
    let Some(last) = claims.last().map(|claim| &claim.receipt) else {
        return vec![(ReconciledState::Missing, ReconciledReason::NoStick)];
    };
    let mut findings = Vec::new();
    let met = model(last);
    if last.result == ReceiptResult::Failed {
        let step = last.failed_step.as_ref().map(ToString::to_string);
        let errors = last.errors.join(": ");
        let why = match (step, errors.is_empty()) {
            (None, true) => ReconciledReason::Failed,
            (None, false) => ReconciledReason::FailedBecause { errors },
            (Some(step), true) => ReconciledReason::FailedAt { step },
            (Some(step), false) => ReconciledReason::FailedAtBecause { step, errors },
        };
        findings.push((ReconciledState::Failed, why));
    }
    if !is_model(&machine.model, &met) {
        let why = ReconciledReason::WrongModel {
            ordered: machine.model.to_string(),
            met: met.to_string(),
        };
        findings.push((ReconciledState::WrongModel, why));
    }
    if last.result == ReceiptResult::Staged
        && let Some(why) = wrong_bundle(last, &met, bundles)
    {
        findings.push((ReconciledState::WrongBundle, why));
    }
    if let Some(why) = staged_twice(claims) {
        findings.push((ReconciledState::StagedTwice, why));
    }
    findings
}

fn staged_twice(claims: &[Claim]) -> Option<ReconciledReason> {
    let staged = || {
        let receipts = claims.iter().map(|claim| &claim.receipt);
        receipts.filter(|receipt| receipt.result == ReceiptResult::Staged)
    };
    let times = staged().count();
    if times < 2 {
        return None;
    }
    let disks: BTreeSet<&str> = staged()
        .map(|receipt| receipt.disk_serial.as_str())
        .collect();
    let machines: BTreeSet<_> = staged().filter_map(|receipt| receipt.uuid).collect();
    let times = times as u64;
    Some(if machines.len() > 1 {
        let machines = machines.len() as u64;
        ReconciledReason::StagedMachines { times, machines }
    } else if disks.len() > 1 {
        let disks = disks.len() as u64;
        ReconciledReason::StagedDisks { times, disks }
    } else {
        ReconciledReason::StagedTwice { times }
    })
}

/// Why a machine wasn't staged from the bundle that is for it, if so.
fn wrong_bundle(receipt: &Receipt, met: &Model, bundles: &Bundles) -> Option<ReconciledReason> {
    let Some(id) = prestage(receipt) else {
        // Where nothing was built for a model, there is nothing to compare with.
        let mut built = bundles.built.values().flat_map(BTreeMap::values);
        return built
            .any(|built| is_model(&built.model, met))
            .then_some(ReconciledReason::NoBundle);
    };
    let versions = bundles.built.get(&id.prestage);
    let Some(built) = versions.and_then(|versions| versions.get(&id.version)) else {
        let prestage = id.to_string();
        return Some(ReconciledReason::NeverBuilt { prestage });
    };
    if receipt.bundle.is_some_and(|root| root != built.root) {
        let prestage = id.to_string();
        return Some(ReconciledReason::OtherRoot { prestage });
    }
    if !is_model(&built.model, met) {
        return Some(ReconciledReason::OtherModel {
            prestage: id.to_string(),
            model: built.model.to_string(),
            met: met.to_string(),
        });
    }
    let newest = versions.and_then(|versions| versions.keys().next_back().copied())?;
    let oldest = bundles.oldest.get(&id.prestage).copied().unwrap_or(newest);
    let version = oldest.min(newest);
    (id.version < version).then(|| ReconciledReason::OldVersion {
        prestage: id.to_string(),
        wanted: PrestageId {
            prestage: id.prestage.clone(),
            version,
        }
        .to_string(),
    })
}

fn claim(claims: &[Claim]) -> Option<StickClaim> {
    let last = claims.last()?;
    Some(StickClaim {
        result: last.receipt.result,
        model: model(&last.receipt),
        prestage: prestage(&last.receipt),
        disk_serial: last.receipt.disk_serial.clone(),
        errors: last.receipt.errors.clone(),
        received_at_ms: last.received_at_ms,
        receipts: u32::try_from(claims.len()).unwrap_or(u32::MAX),
    })
}

fn prestage(receipt: &Receipt) -> Option<PrestageId> {
    Some(PrestageId {
        prestage: receipt.prestage.clone()?,
        version: receipt.prestage_version?,
    })
}

fn model(receipt: &Receipt) -> Model {
    Model {
        vendor: receipt.vendor.clone(),
        product: receipt.product.clone(),
        ..Model::default()
    }
}

/// Whether the firmware's names fit what people wrote. Orders say `Acme`, firmware says `Acme Inc.`; product names are
/// compared whole. What isn't written fits everything.
fn is_model(written: &Model, met: &Model) -> bool {
    let letters = |text: &str| -> String {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let (vendor, product) = (letters(&written.vendor), letters(&written.product));
    let (met_vendor, met_product) = (letters(&met.vendor), letters(&met.product));
    let vendor_fits = met_vendor.starts_with(&vendor) || vendor.starts_with(&met_vendor);
    vendor_fits && (product.is_empty() || product == met_product)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::fleet::identity::name_key;

    fn book() -> Model {
        Model {
            vendor: "Acme".into(),
            product: "Book 14".into(),
            ..Model::default()
        }
    }

    fn ordered(serial: &str) -> Ordered {
        Ordered {
            line: Some(2),
            serial: serial.into(),
            key: name_key(serial).unwrap(),
            model: book(),
            ..Ordered::default()
        }
    }

    /// `SERIAL`, `staged` or `failed`, and what differs from a receipt as it should be.
    fn receipt(serial: &str, result: &str, change: serde_json::Value) -> Receipt {
        let mut receipt = json!({
            "format": 1, "serial": serial, "uuid": null, "vendor": "Acme Inc.", "product": "BOOK 14", "macs": [],
            "disk": "/dev/nvme0n1", "disk-serial": "D1", "disk-bytes": 1, "prestage": "book",
            "prestage-version": 3, "bundle": Digest::of(b"book@3"), "seconds": 61, "result": result, "agent": "test",
        });
        for (key, value) in change.as_object().unwrap() {
            receipt[key] = value.clone();
        }
        serde_json::from_value(receipt).unwrap()
    }

    fn claims(receipts: &[Receipt]) -> Claims {
        let mut claims = Claims::new();
        for (at, receipt) in receipts.iter().enumerate() {
            let key = name_key(&receipt.serial).unwrap_or_default();
            claims.entry(key).or_default().push(Claim {
                receipt: receipt.clone(),
                received_at_ms: at as i64,
            });
        }
        claims
    }

    /// `book` was built three times, `slate` once.
    fn bundles() -> Bundles {
        let built = |name: &str, model: &Model| Built {
            model: model.clone(),
            root: Digest::of(name.as_bytes()),
        };
        let slate = Model {
            product: "Slate 11".into(),
            ..book()
        };
        let versions = (1..=3).map(|n| (n, built(&format!("book@{n}"), &book())));
        let slates = [(1, built("slate@1", &slate))];
        Bundles {
            built: [
                ("book".parse().unwrap(), versions.collect()),
                ("slate".parse().unwrap(), slates.into()),
            ]
            .into(),
            oldest: BTreeMap::new(),
        }
    }

    fn check(serials: &[&str], receipts: &[Receipt], bundles: &Bundles) -> Vec<String> {
        let order: Vec<Ordered> = serials.iter().map(|serial| ordered(serial)).collect();
        judge(&order, &claims(receipts), bundles, &HashSet::new())
            .into_iter()
            .map(|row| {
                format!(
                    "{} {}: {}",
                    row.serial,
                    row.state.word(),
                    row.why.join("; ")
                )
            })
            .collect()
    }

    #[test]
    fn every_machine_gets_one_state_and_all_reasons() {
        let none = || json!({});
        let receipts = [
            receipt(
                "pf1",
                "failed",
                json!({"failed-step": "disk", "errors": ["no disk", "EIO"]}),
            ),
            receipt("PF1", "staged", none()),
            receipt("PF2", "staged", none()),
            receipt("PF2", "staged", json!({"disk-serial": "D2"})),
            receipt("PF3", "staged", none()),
            receipt(
                "PF3",
                "failed",
                json!({"failed-step": "disk", "errors": ["no disk", "EIO"]}),
            ),
            receipt("PF4", "staged", json!({"product": "Slate 11"})),
            receipt(
                "PF5",
                "staged",
                json!({"prestage-version": 2, "bundle": null}),
            ),
            receipt("PF6", "staged", json!({"bundle": Digest::of(b"other")})),
            receipt("PF7", "staged", json!({"prestage": "other"})),
            receipt("PF8", "staged", json!({"prestage": null})),
            receipt("PF99", "staged", none()),
            receipt("To be filled by O.E.M.", "staged", none()),
        ];
        let serials = [
            "PF1", "PF2", "PF3", "PF4", "PF5", "PF6", "PF7", "PF8", "PF9X",
        ];
        let rows = check(&serials, &receipts, &bundles());
        assert_eq!(
            rows,
            [
                "PF1 staged: ",
                "PF2 staged-twice: 2 receipts say that it was staged; on 2 different disks",
                "PF3 failed: the stick says that staging failed at the step disk: no disk: EIO",
                "PF4 wrong-model: ordered as Acme Book 14, the stick met Acme Inc. Slate 11; book@3 is for Acme Book \
                 14, the stick met Acme Inc. Slate 11",
                "PF5 wrong-bundle: the stick says book@2; book@3 is wanted",
                "PF6 wrong-bundle: the stick says book@3, and its signed root is another one than was built here",
                "PF7 wrong-bundle: the stick says other@3, which was never built here",
                "PF8 wrong-bundle: the stick doesn't say which bundle it was staged from",
                "PF9X missing: no stick knows it",
                "To be filled by O.E.M. unexpected: the stick says it; no order and no machine has this serial number",
                "PF99 unexpected: the stick says it; no order and no machine has this serial number",
            ]
        );
    }

    #[test]
    fn an_older_bundle_is_good_if_someone_says_so() {
        let old = receipt(
            "PF1",
            "staged",
            json!({"prestage-version": 2, "bundle": null}),
        );
        let mut bundles = bundles();
        for (oldest, state) in [
            (1, "staged"),
            (2, "staged"),
            (3, "wrong-bundle"),
            (9, "wrong-bundle"),
        ] {
            bundles.oldest = [("book".parse().unwrap(), oldest)].into();
            let rows = check(&["PF1"], std::slice::from_ref(&old), &bundles);
            assert!(
                rows[0].starts_with(&format!("PF1 {state}")),
                "{oldest}: {rows:?}"
            );
        }
        // Where nothing was built for a model, a receipt without a bundle has nothing to be compared with.
        let silent = receipt("PF1", "staged", json!({"prestage": null}));
        assert_eq!(
            check(&["PF1"], &[silent], &Bundles::default()),
            ["PF1 staged: "]
        );
    }

    #[test]
    fn two_machines_with_one_serial_number_are_told() {
        let uuid = |n: u8| json!({"uuid": uuid::Uuid::from_u128(n.into())});
        let receipts = [
            receipt("PF1", "staged", uuid(1)),
            receipt("PF1", "staged", uuid(2)),
        ];
        assert!(
            check(&["PF1"], &receipts, &bundles())[0]
                .contains("2 machines have this serial number")
        );
    }

    #[test]
    fn machines_of_other_orders_are_not_unexpected() {
        let claims = claims(&[receipt("PF7", "staged", json!({}))]);
        let known = HashSet::from(["PF7".to_owned()]);
        assert!(judge(&[], &claims, &bundles(), &known).is_empty());
        assert_eq!(judge(&[], &claims, &bundles(), &HashSet::new()).len(), 1);
    }

    proptest! {
        #[test]
        fn no_machine_of_the_order_is_lost_and_none_without_receipt_is_staged(
            serials in proptest::collection::btree_set("[A-C][0-9]{1,2}[XYZ]", 0..20),
            claimed in proptest::collection::vec(("[A-C][0-9]{1,2}[XYZ]", any::<bool>()), 0..20),
        ) {
            let order: Vec<Ordered> = serials.iter().map(|serial| ordered(serial)).collect();
            let receipts: Vec<Receipt> = claimed
                .iter()
                .map(|(serial, good)| receipt(serial, if *good { "staged" } else { "failed" }, json!({})))
                .collect();
            let rows = judge(&order, &claims(&receipts), &bundles(), &HashSet::new());
            let (mine, others): (Vec<_>, Vec<_>) =
                rows.iter().partition(|row| row.state != ReconciledState::Unexpected);
            prop_assert_eq!(mine.len(), serials.len());
            for row in mine {
                prop_assert_eq!(row.claim.is_none(), row.state == ReconciledState::Missing);
                prop_assert_eq!(row.why.is_empty(), row.state == ReconciledState::Staged);
            }
            for row in others {
                prop_assert!(!serials.contains(&row.serial));
            }
        }
    }
}
