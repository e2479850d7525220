//! Imports from upload to undo, and what a big one costs the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use wire::admin_api::{DeviceState, ReceiptRow};
use wire::classes::AliasChange;
use wire::device_api::CheckInReply;
use wire::imports::{
    AcceptImport, ImportDraft, ImportProfile, ImportSettings, ImportState, RowResult, UndoImport,
};
use wire::receipt::{ImportReceipts, ReceiptImport, ReceiptImportResult, ReceiptText};
use wire::reconciliation::{ReconcileSerials, ReconciledFilter, ReconciledState};

use crate::admin::refusal;
use crate::harness::{Machine, Site};

const ORDER: &str = "Acme AS;;;\nOrdrebekreftelse 4711, Tromsø;;;\n\nSerienr;Inventarnr;Klasse;Ordrenr\nPF1;T1;8A;4711\nPF2;T2;8A;4711\nPF3;T3;8B;4711\nAntall;3;;\n";

fn site() -> Site {
    let site = Site::new();
    site.prepare(100);
    site
}

fn upload(site: &Site, text: &str) -> ImportDraft {
    let settings = ImportSettings {
        collection: "laptops".into(),
        ..ImportSettings::default()
    };
    let bytes = encoding_rs_bytes(text);
    site.admin
        .upload_import("ordre.csv", &bytes, &settings)
        .unwrap()
}

/// Windows-1252, as Excel writes CSV in Norway.
fn encoding_rs_bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

#[test]
fn a_draft_changes_nothing_until_it_is_accepted_and_an_undo_takes_it_back() {
    let site = site();
    site.import("serial;class\nPF3;8A\n");
    let draft = upload(&site, ORDER);
    let counts = draft.import.counts;
    assert_eq!((counts.new, counts.changed, counts.skipped), (2, 1, 1));
    assert_eq!((draft.title_line, draft.rows[0].line), (4, 5));
    assert!(draft.form.starts_with("windows-1252"), "{}", draft.form);
    assert_eq!(site.admin.devices().unwrap().len(), 1);

    let seen = AcceptImport {
        seen: draft.plan.clone(),
        ..AcceptImport::default()
    };
    site.import("serial;class\nPF2;9C\n");
    let id = draft.import.import;
    assert_eq!(
        refusal(site.admin.accept_import(id, &seen)),
        (409, "plan-changed".into())
    );
    let accepted = site
        .admin
        .accept_import(id, &AcceptImport::default())
        .unwrap();
    assert_eq!(accepted.state, ImportState::Accepted);
    assert_eq!((accepted.counts.new, accepted.counts.changed), (1, 2));
    assert_eq!(site.device("PF3").class, "8B");
    assert_eq!(site.device("PF1").collections.len(), 1);
    assert_eq!(
        refusal(site.admin.accept_import(id, &AcceptImport::default())).1,
        "no-draft"
    );

    let again = upload(&site, ORDER);
    assert_eq!(again.same_as, [id]);
    assert_eq!(again.import.counts.unchanged, 3);
    site.admin.discard_import(again.import.import).unwrap();

    Machine::new("PF1").order(&site);
    let undo = UndoImport::default();
    let report = site.admin.undo_import(id, &undo).unwrap();
    assert_eq!(
        (report.deleted, report.restored, report.kept.len()),
        (0, 2, 1)
    );
    assert!(
        report.kept[0].why.contains("checked in"),
        "{:?}",
        report.kept
    );
    assert_eq!(site.device("PF3").class, "8A");
    assert_eq!(site.device("PF2").class, "9C");
    assert_eq!(site.device("PF1").state, DeviceState::Running);
    assert_eq!(refusal(site.admin.undo_import(id, &undo)).1, "not-accepted");
    let states: Vec<_> = site
        .admin
        .imports()
        .unwrap()
        .iter()
        .map(|row| row.state)
        .collect();
    assert_eq!(states, [ImportState::Discarded, ImportState::Undone]);
}

#[test]
fn bad_rows_refuse_all_unless_only_the_valid_ones_are_wanted() {
    let site = site();
    let draft = upload(&site, "serial;class\nPF1;8A\nPF1;8B\n;8C\n");
    let id = draft.import.import;
    let refused = refusal(site.admin.accept_import(id, &AcceptImport::default()));
    assert_eq!(refused, (409, "rows-refused".into()));
    assert!(site.admin.devices().unwrap().is_empty());
    let wish = AcceptImport {
        valid_rows_only: true,
        ..AcceptImport::default()
    };
    let row = site.admin.accept_import(id, &wish).unwrap();
    assert_eq!(
        (row.counts.new, row.counts.duplicate, row.counts.invalid),
        (1, 1, 1)
    );
    let invalid = site.admin.import(id, Some(RowResult::Invalid), 10).unwrap();
    assert_eq!((invalid.rows_total, invalid.rows[0].line), (1, 4));
    // A new machine that nobody has seen goes again.
    let report = site.admin.undo_import(id, &UndoImport::default()).unwrap();
    assert_eq!(
        (report.deleted, site.admin.devices().unwrap().len()),
        (1, 0)
    );
}

#[test]
fn a_corrected_mapping_is_saved_and_recognised() {
    let site = site();
    let text = "Maskin-ID;Serienr;Rom\nPF1;1;A\n";
    let draft = upload(&site, text);
    assert_eq!(draft.columns[1].field, "serial");
    let mapping = [
        ("Maskin-ID".to_owned(), "serial".to_owned()),
        ("Rom".into(), "field:room".into()),
    ];
    let settings = ImportSettings {
        mapping: mapping.into_iter().collect(),
        ..draft.import.settings.clone()
    };
    let corrected = site
        .admin
        .set_import(draft.import.import, &settings)
        .unwrap();
    assert_eq!(corrected.rows[0].serial, "PF1");
    let bad = ImportSettings {
        mapping: [("Rom".to_owned(), "color".to_owned())]
            .into_iter()
            .collect(),
        ..settings.clone()
    };
    assert_eq!(
        refusal(site.admin.set_import(draft.import.import, &bad)).1,
        "bad-mapping"
    );
    let profile = ImportProfile {
        name: "acme".into(),
        titles: corrected
            .columns
            .iter()
            .map(|column| column.title.clone())
            .collect(),
        mapping: settings.mapping,
        ..ImportProfile::default()
    };
    site.admin.put_import_profile(&profile).unwrap();
    let next = upload(&site, text);
    assert_eq!(next.profile.as_deref(), Some("acme"));
    assert_eq!(next.rows[0].serial, "PF1");
    assert_eq!(
        site.admin.remove_import_profile("acme").unwrap().name,
        "acme"
    );
    assert_eq!(
        refusal(site.admin.upload_import(
            "x.xls",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            &ImportSettings::default()
        ))
        .1,
        "bad-asset-file"
    );
}

/// Does something while machines check in over and over; how long it and the longest check-in took.
fn beside_check_ins<T>(
    site: &Site,
    machines: &[Machine],
    work: impl FnOnce() -> T,
) -> (Duration, Duration) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let checking_in: Vec<_> = machines
            .iter()
            .map(|machine| {
                let done = &done;
                scope.spawn(move || {
                    let mut longest = Duration::ZERO;
                    while !done.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        let reply = machine.check_in(site);
                        assert!(!matches!(reply, CheckInReply::Quarantined { .. }));
                        longest = longest.max(began.elapsed());
                    }
                    longest
                })
            })
            .collect();
        let began = Instant::now();
        work();
        let took = began.elapsed();
        done.store(true, Ordering::Relaxed);
        let waits = checking_in
            .into_iter()
            .map(|machine| machine.join().unwrap());
        (took, waits.max().unwrap())
    })
}

/// Says what it measured; judges only that everything came through.
#[test]
fn ten_thousand_rows_hold_up_nobody() {
    let site = site();
    site.import("serial\nPF0\nPF1\n");
    let machines = ["PF0", "PF1"].map(Machine::new);
    let quiet = beside_check_ins(&site, &machines, || {
        (0..20).for_each(|_| drop(site.admin.devices()))
    });
    let mut text = String::from("serial;asset tag;site;class;order number;price;warranty end\n");
    for number in 0..10_000 {
        let school = number % 16;
        text.push_str(&format!(
            "BIG-{number:05};T{number:05};S{school:02};8A;4711;9990;31.07.2029\n"
        ));
    }
    let id = upload(&site, &text).import.import;
    let accept = beside_check_ins(&site, &machines, || {
        site.admin
            .accept_import(id, &AcceptImport::default())
            .unwrap()
    });
    assert_eq!(site.admin.devices().unwrap().len(), 10_002);
    let undo = beside_check_ins(&site, &machines, || {
        site.admin.undo_import(id, &UndoImport::default()).unwrap()
    });
    assert_eq!(site.admin.devices().unwrap().len(), 2);
    for (what, (took, longest)) in [("nothing", quiet), ("accept", accept), ("undo", undo)] {
        eprintln!("{what}: {took:?}; the longest check-in meanwhile took {longest:?}");
    }
}

#[test]
fn many_receipts_come_in_one_request() {
    let site = site();
    site.import("serial;site code\nPF1;BJO\n");
    let receipt = |serial: &str, result: &str| {
        ReceiptText {
        name: format!("{serial}.json"),
        text: json!({
            "format": 1, "serial": serial, "uuid": null, "vendor": "Acme", "product": "Book 14", "macs": [],
            "disk": "/dev/nvme0n1", "disk-serial": "D1", "disk-bytes": 1 << 30, "prestage": "book",
            "prestage-version": 1, "bundle": null, "seconds": 61, "result": result, "agent": "test",
        })
        .to_string(),
    }
    };
    let broken = ReceiptText {
        name: "broken.json".into(),
        text: "{".into(),
    };
    let files = vec![
        receipt("PF1", "staged"),
        broken,
        receipt("PF9", "failed"),
        receipt("PF1", "staged"),
    ];
    let import = |files: &[ReceiptText], dry_run| {
        let wanted = ImportReceipts {
            dry_run,
            files: files.to_vec(),
        };
        site.admin.import_receipts(&wanted)
    };
    let stored = || {
        site.admin
            .get::<Vec<ReceiptRow>>("/api/v1/receipts")
            .unwrap()
    };
    let looked = import(&files, true).unwrap();
    assert_eq!((looked.new, looked.known, looked.refused), (2, 1, 1));
    let states = |report: &ReceiptImport| -> Vec<_> {
        let rows = report.rows.iter();
        rows.map(|row| (row.result, row.device.is_some(), row.why.is_empty()))
            .collect()
    };
    use ReceiptImportResult::{Known, New, Refused};
    let expected = [
        (New, true, true),
        (Refused, false, false),
        (New, false, true),
        (Known, true, true),
    ];
    assert_eq!(states(&looked), expected);
    assert_eq!(
        (stored().len(), site.device("PF1").state),
        (0, DeviceState::Imported)
    );
    // What was looked at is what happens, once.
    let done = import(&files, false).unwrap();
    assert_eq!(states(&done), expected);
    assert_eq!(
        (stored().len(), site.device("PF1").state),
        (2, DeviceState::Staged)
    );
    let again = import(&files, false).unwrap();
    assert_eq!((again.new, again.known, stored().len()), (0, 3, 2));
    let audit = [("action", "receipts-imported".to_owned())];
    assert_eq!(site.admin.audit(&audit, 9).unwrap().len(), 1);
    assert_eq!(
        refusal(import(&vec![receipt("X", "staged"); 20_001], true)),
        (400, "too-many-receipts".into())
    );
}

#[test]
fn an_accepted_import_is_reconciled_with_the_receipts() {
    let site = site();
    let name = site.define_prestage();
    site.admin.build_prestage(&name).unwrap();
    let draft = upload(
        &site,
        "Serienr;Produsent;Modell\nPF1;Acme;Book 14\nPF2;Acme;Book 14\nPF3;Acme;Slate 11\nPF4;Acme;Book 14\nPF5;;\n",
    );
    let id = draft.import.import;
    assert_eq!(
        refusal(site.admin.reconciliation(id, ReconciledFilter::All, &[])),
        (409, "not-accepted".into())
    );
    site.admin
        .accept_import(id, &AcceptImport::default())
        .unwrap();
    for (serial, version, result) in [
        ("PF1", 1, "failed"),
        ("pf1", 1, "staged"),
        ("PF3", 1, "staged"),
        ("PF4", 7, "staged"),
        ("PF5", 1, "failed"),
        ("PF9", 1, "staged"),
    ] {
        site.receipt(serial, version, result);
    }
    let all = site
        .admin
        .reconciliation(id, ReconciledFilter::All, &[])
        .unwrap();
    let states: Vec<_> = all
        .rows
        .iter()
        .map(|row| (row.serial.as_str(), row.state.word()))
        .collect();
    assert_eq!(
        states,
        [
            ("PF1", "staged"),
            ("PF2", "missing"),
            ("PF3", "wrong-model"),
            ("PF4", "wrong-bundle"),
            ("PF5", "failed"),
            ("PF9", "unexpected"),
        ]
    );
    assert_eq!(
        (all.ordered, all.rows_total, all.counts.differing()),
        (5, 6, 5)
    );
    assert_eq!(all.rows[0].claim.as_ref().unwrap().receipts, 2);
    // Who machines are is as before: a receipt is a claim.
    assert_eq!(site.admin.devices().unwrap().len(), 5);

    let missing = ReconciledFilter::State(ReconciledState::Missing);
    let csv = site.admin.reconciliation_csv(id, missing, &[]).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    let lines: Vec<&str> = csv.trim_start_matches('\u{feff}').lines().collect();
    assert_eq!(lines.len(), 2, "{csv}");
    assert!(lines[0].starts_with("line,serial,"), "{csv}");
    assert!(lines[1].starts_with("3,PF2,,Acme,Book 14,"), "{csv}");

    let asked = ReconcileSerials {
        serials: ["PF2", "PF4", "pf4", "PF77"].map(str::to_owned).into(),
        state: "differing".into(),
        ..ReconcileSerials::default()
    };
    let list = site.admin.reconcile_serials(&asked).unwrap();
    let states: Vec<_> = list
        .rows
        .iter()
        .map(|row| (row.serial.as_str(), row.state.word()))
        .collect();
    assert_eq!(
        states,
        [
            ("PF2", "missing"),
            ("PF4", "wrong-bundle"),
            ("PF77", "missing"),
            ("PF9", "unexpected")
        ]
    );
    let unknown = ReconcileSerials {
        state: "lost".into(),
        ..ReconcileSerials::default()
    };
    assert_eq!(
        refusal(site.admin.reconcile_serials(&unknown)).1,
        "bad-state"
    );
}

#[test]
fn a_vendors_name_for_a_model_is_asked_about_once_and_then_understood() {
    let site = site();
    let name = "Book 14 Notebook PC (5Z1A2)";
    // Imported while nobody knew what it meant.
    site.import(&format!("serial;vendor;model\nPF3;Acme;{name}\n"));
    let text = format!(
        "Serienr;Produsent;Modell\nPF1;ACME AS;{}\nPF2;Acme;Book 14\n",
        name.to_lowercase()
    );
    assert!(
        upload(&site, &text).unknown_models.is_empty(),
        "no model is known yet"
    );
    site.receipt("PF3", 1, "staged");
    let draft = upload(&site, &text);
    let unknown: Vec<_> = draft
        .unknown_models
        .iter()
        .map(|model| (model.product.clone(), model.rows))
        .collect();
    assert_eq!(unknown, [(name.to_lowercase(), 1)]);
    let state_of = |serial: &str| {
        let asked = ReconcileSerials {
            serials: vec![serial.to_owned()],
            ..ReconcileSerials::default()
        };
        site.admin.reconcile_serials(&asked).unwrap().rows[0].state
    };
    assert_eq!(state_of("PF3"), ReconciledState::WrongModel);

    let is = |product: &str| AliasChange {
        product: product.into(),
        ..AliasChange::default()
    };
    let alias = site.admin.put_model_alias(name, &is("book  14")).unwrap();
    assert_eq!(
        (alias.vendor.as_str(), alias.product.as_str()),
        ("Acme", "Book 14")
    );
    assert_ne!(state_of("PF3"), ReconciledState::WrongModel);
    // What was looked at would do something else now.
    let id = draft.import.import;
    let seen = AcceptImport {
        seen: draft.plan,
        ..AcceptImport::default()
    };
    assert_eq!(
        refusal(site.admin.accept_import(id, &seen)),
        (409, "plan-changed".into())
    );
    let again: ImportDraft = site.admin.get(&format!("/api/v1/imports/{id}")).unwrap();
    assert!(again.unknown_models.is_empty());
    site.admin
        .accept_import(id, &AcceptImport::default())
        .unwrap();
    let model = site.device("PF1").model;
    assert_eq!(
        (model.vendor.as_str(), model.product.as_str()),
        ("Acme", "Book 14")
    );
    let same = upload(&site, &text).import.counts;
    assert_eq!(
        (same.unchanged, same.changed),
        (2, 0),
        "the same file changes nothing"
    );

    for (name, product, status) in [
        ("book 14", "Book 14", 400),
        (" ", "Book 14", 400),
        ("another", name, 409),
        ("Book 14", "Slate 11", 409),
    ] {
        let refused = refusal(site.admin.put_model_alias(name, &is(product)));
        assert_eq!(refused, (status, "bad-alias".into()), "{name} is {product}");
    }
    assert_eq!(site.admin.model_aliases().unwrap().len(), 1);
    site.admin.remove_model_alias(&name.to_uppercase()).unwrap();
    assert_eq!(refusal(site.admin.remove_model_alias(name)).0, 404);
    assert_eq!(state_of("PF3"), ReconciledState::WrongModel);
}
