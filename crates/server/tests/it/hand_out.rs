//! Pupils and who has which device.

use client::{AssignmentFilter, ListOptions, PupilFilter};
use wire::admin_api::AuditRow;
use wire::assignments::{AssignmentRow, ClassPairs, HandOut, Pair, ScannedDevice, TakeBack};
use wire::names::AssignmentId;
use wire::pupils::{HandOutSettings, PupilEntry, PupilRow, PupilSearch};

use crate::admin::refusal;
use crate::harness::{Site, hex};
use crate::webhooks::subscribe;

const ASSETS: &str = "serial;asset tag;site;site name;class\n\
    PF1;T1;BJO;Bjørnøya skole;8B\nPF2;T2;BJO;Bjørnøya skole;8B\nPF3;T3;HAV;Havna skole;9A\n";
const PUPILS: &str = "elevnummer;navn;skole;klasse\n\
    e1;Kari Nordmann;BJO;8B\ne2;Åse Ødegård;BJO;8B\ne3;Ola Hansen;Havna skole;9A\n";

/// A server with three machines and three pupils.
fn school() -> Site {
    let site = Site::new();
    site.prepare(10);
    site.import(ASSETS);
    let report = site
        .admin
        .import_pupils(PUPILS.as_bytes(), &ListOptions::default())
        .unwrap();
    assert_eq!((report.new, report.stored), (3, true));
    site
}

fn device(site: &Site, text: &str) -> ScannedDevice {
    let reply = site.admin.scan(text).unwrap();
    assert_eq!((reply.devices.len(), reply.pupils.len()), (1, 0), "{text}");
    reply.devices.into_iter().next().unwrap()
}

fn pupil(site: &Site, text: &str) -> PupilRow {
    let reply = site.admin.scan(text).unwrap();
    assert_eq!((reply.devices.len(), reply.pupils.len()), (0, 1), "{text}");
    reply.pupils.into_iter().next().unwrap()
}

fn ask(site: &Site, serial: &str, number: &str) -> HandOut {
    HandOut {
        assignment: Some(AssignmentId::random()),
        device: device(site, serial).device,
        pupil: pupil(site, number).pupil,
        note: String::new(),
        swap: false,
        additional: false,
    }
}

fn give(site: &Site, serial: &str, number: &str) -> AssignmentRow {
    site.admin
        .hand_out(&ask(site, serial, number))
        .unwrap()
        .made
}

/// Who has what now.
fn out(site: &Site) -> Vec<(String, String)> {
    let filter = AssignmentFilter {
        open: true,
        ..AssignmentFilter::default()
    };
    let rows = site.admin.assignments(&filter).unwrap();
    let mut out: Vec<_> = rows
        .into_iter()
        .map(|row| (row.serial, row.external_id))
        .collect();
    out.sort();
    out
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[test]
fn a_scan_says_what_it_is() {
    let site = school();
    for (text, matched) in [("pf1", "serial"), ("T1", "asset-tag")] {
        let found = device(&site, text);
        assert_eq!(
            (found.serial.as_str(), found.matched.as_str()),
            ("PF1", matched)
        );
        assert!(!found.ready);
    }
    assert_eq!(pupil(&site, " E1 ").name, "Kari Nordmann");
    let nothing = site.admin.scan("PF9").unwrap();
    assert!(nothing.devices.is_empty() && nothing.pupils.is_empty());
}

#[test]
fn a_device_is_with_one_pupil_and_a_pupil_has_one_device() {
    let site = school();
    let first = ask(&site, "PF1", "e1");
    let reply = site.admin.hand_out(&first).unwrap();
    assert_eq!(reply.warnings[0].code, "not-ready");
    // The answer got lost: asking again does nothing twice.
    assert_eq!(site.admin.hand_out(&first).unwrap().made, reply.made);
    let again = refusal(site.admin.hand_out(&ask(&site, "PF1", "e1")));
    assert_eq!(again, (409, "has-it-already".into()));
    let taken = refusal(site.admin.hand_out(&ask(&site, "PF1", "e2")));
    assert_eq!(taken, (409, "device-handed-out".into()));
    let second = refusal(site.admin.hand_out(&ask(&site, "PF2", "e1")));
    assert_eq!(second, (409, "pupil-has-device".into()));
    assert_eq!(out(&site), pairs(&[("PF1", "e1")]));

    let additional = HandOut {
        additional: true,
        ..ask(&site, "PF2", "e1")
    };
    site.admin.hand_out(&additional).unwrap();
    assert_eq!(out(&site), pairs(&[("PF1", "e1"), ("PF2", "e1")]));
    let other_site = site.admin.hand_out(&ask(&site, "PF3", "e2")).unwrap();
    let codes: Vec<_> = other_site
        .warnings
        .iter()
        .map(|w| w.code.as_str())
        .collect();
    assert_eq!(codes, ["not-ready", "other-site"]);
}

#[test]
fn a_swap_and_a_return_can_be_undone() {
    let site = school();
    give(&site, "PF1", "e1");
    give(&site, "PF2", "e2");
    let swap = HandOut {
        swap: true,
        ..ask(&site, "PF1", "e2")
    };
    let reply = site.admin.hand_out(&swap).unwrap();
    assert_eq!(reply.ended.len(), 2);
    assert_eq!(out(&site), pairs(&[("PF1", "e2")]));
    site.admin.undo_hand_out(reply.made.assignment).unwrap();
    assert_eq!(out(&site), pairs(&[("PF1", "e1"), ("PF2", "e2")]));
    let undone = refusal(site.admin.hand_out(&swap));
    assert_eq!(undone, (409, "undone".into()));

    let held = device(&site, "PF1").holder.unwrap();
    let note = TakeBack {
        condition: "Skjermen er sprukket".into(),
    };
    let back = site.admin.take_back(held.assignment, &note).unwrap();
    assert_eq!(back.condition, "Skjermen er sprukket");
    give(&site, "PF1", "e1");
    let since = refusal(site.admin.undo_return(held.assignment));
    assert_eq!(since, (409, "handed-out-since".into()));
    let detail = site.admin.pupil(pupil(&site, "e1").pupil).unwrap();
    assert_eq!(
        detail.history.len(),
        2,
        "the swap that was undone is no history"
    );
}

#[test]
fn undoing_hides_no_history_and_gives_nobody_a_second_device() {
    let site = school();
    let not_again = |refused: (u16, String), code: &str, left: &[(&str, &str)]| {
        assert_eq!(refused, (409, code.into()));
        assert_eq!(out(&site), pairs(left));
    };
    let first = give(&site, "PF1", "e1").assignment;
    site.admin.take_back(first, &TakeBack::default()).unwrap();
    let undone = refusal(site.admin.undo_hand_out(first));
    not_again(undone, "returned", &[]);
    let second = give(&site, "PF2", "e1").assignment;
    let reopened = refusal(site.admin.undo_return(first));
    not_again(reopened, "pupil-has-device", &[("PF2", "e1")]);

    // An additional one that the pupil had all along is no obstacle.
    let additional = HandOut {
        additional: true,
        ..ask(&site, "PF1", "e1")
    };
    let additional = site.admin.hand_out(&additional).unwrap().made.assignment;
    site.admin
        .take_back(additional, &TakeBack::default())
        .unwrap();
    site.admin.undo_return(additional).unwrap();
    assert_eq!(out(&site), pairs(&[("PF1", "e1"), ("PF2", "e1")]));
    site.admin
        .take_back(additional, &TakeBack::default())
        .unwrap();
    let history = site.admin.pupil(pupil(&site, "e1").pupil).unwrap().history;
    assert_eq!(history.len(), 3);

    // A swap is undone for all or for nobody.
    give(&site, "PF3", "e2");
    let swap = HandOut {
        swap: true,
        ..ask(&site, "PF2", "e2")
    };
    let swap = site.admin.hand_out(&swap).unwrap().made.assignment;
    give(&site, "PF1", "e1");
    let now = [("PF1", "e1"), ("PF2", "e2")];
    let undone = refusal(site.admin.undo_hand_out(swap));
    not_again(undone, "pupil-has-device", &now);
    let held = device(&site, "PF1").holder.unwrap().assignment;
    site.admin.take_back(held, &TakeBack::default()).unwrap();
    site.admin.erase_pupil(pupil(&site, "e1").pupil).unwrap();
    for refused in [
        site.admin.undo_hand_out(swap),
        site.admin.undo_return(second),
    ] {
        not_again(refusal(refused), "erased", &[("PF2", "e2")]);
    }
}

#[test]
fn a_school_admin_hands_out_at_their_own_site_alone() {
    let site = school();
    let foreign = give(&site, "PF3", "e3");
    let (their_device, their_pupil) = (foreign.device, foreign.pupil);
    let (own_device, own_pupil) = (device(&site, "PF1").device, pupil(&site, "e1").pupil);
    let kari = site.school_admin("BJO");
    let gone = |code: (u16, String), what: &str| {
        assert_eq!(code, (404, "not-found".into()), "{what}");
    };
    for text in ["PF3", "T3", "e3"] {
        let reply = kari.scan(text).unwrap();
        assert!(
            reply.devices.is_empty() && reply.pupils.is_empty(),
            "{text}"
        );
    }
    let pair = |device, pupil| Pair { device, pupil };
    for swap in [false, true] {
        for (device, pupil) in [(their_device, own_pupil), (own_device, their_pupil)] {
            let ask = HandOut {
                assignment: None,
                device,
                pupil,
                note: String::new(),
                swap,
                additional: false,
            };
            gone(refusal(kari.hand_out(&ask)), "a hand-out");
        }
    }
    // All or none: a good pair beside a foreign one is not handed out.
    for other in [pair(their_device, own_pupil), pair(own_device, their_pupil)] {
        let asked = ClassPairs {
            pairs: vec![
                pair(device(&site, "PF2").device, pupil(&site, "e2").pupil),
                other,
            ],
        };
        gone(refusal(kari.hand_out_pairs(&asked)), "pairs");
    }
    let id = foreign.assignment;
    gone(
        refusal(kari.take_back(id, &TakeBack::default())),
        "a return",
    );
    gone(refusal(kari.undo_hand_out(id)), "an undo");
    let same = HandOut {
        assignment: Some(id),
        device: own_device,
        pupil: own_pupil,
        note: String::new(),
        swap: true,
        additional: false,
    };
    gone(refusal(kari.hand_out(&same)), "another's id");
    gone(refusal(kari.pupil(their_pupil)), "a pupil");
    gone(refusal(kari.export_pupil(their_pupil)), "an export");
    gone(refusal(kari.erase_pupil(their_pupil)), "an erasure");
    gone(refusal(kari.hand_out_class("HAV", "9A")), "a class");
    let entry = PupilEntry {
        external_id: "e3".into(),
        name: "Ola Annen".into(),
        site: "BJO".into(),
        class: String::new(),
        several: false,
    };
    gone(refusal(kari.change_pupil(their_pupil, &entry)), "a change");
    let away = PupilEntry {
        site: "HAV".into(),
        external_id: "e1".into(),
        ..entry
    };
    assert_eq!(
        refusal(kari.change_pupil(own_pupil, &away)),
        (422, "bad-pupil".into())
    );
    let listed = |text: &str| {
        let report = kari.import_assignments(text.as_bytes(), &ListOptions::default());
        report.unwrap().rows[0].problems.join("; ")
    };
    assert_eq!(listed("device;pupil\nPF3;e1\n"), "there is no device PF3");
    assert_eq!(listed("device;pupil\nPF1;e3\n"), "there is no pupil e3");
    assert_eq!(out(&site), pairs(&[("PF3", "e3")]));
    site.admin.take_back(id, &TakeBack::default()).unwrap();
    gone(refusal(kari.undo_return(id)), "a return undone");
    assert_eq!(pupil(&site, "e3").name, "Ola Hansen");

    // What is theirs, they do.
    let mine = HandOut {
        assignment: None,
        ..ask(&site, "PF1", "e1")
    };
    let made = kari.hand_out(&mine).unwrap().made.assignment;
    kari.take_back(made, &TakeBack::default()).unwrap();
    kari.undo_return(made).unwrap();
    kari.undo_hand_out(made).unwrap();
    assert_eq!(kari.pupils(&PupilFilter::default()).unwrap().len(), 2);
    let found = |text: &str, site: &str| {
        let wanted = PupilSearch {
            text: text.into(),
            site: site.into(),
            ..PupilSearch::default()
        };
        let rows = kari.search_pupils(&wanted).unwrap();
        rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(found("ØDEGÅRD e2", ""), ["Åse Ødegård"]);
    assert_eq!(found("a", "BJO"), ["Kari Nordmann"]);
    assert!(found("Hansen", "").is_empty() && found("", "HAV").is_empty());
    // A device of theirs that another site's pupil has is out; with whom isn't told.
    give(&site, "PF2", "e3");
    let scanned = kari.scan("PF2").unwrap().devices.remove(0);
    assert_eq!(scanned.holder.unwrap().name, "");
    let taken = kari
        .hand_out(&ask(&site, "PF2", "e2"))
        .unwrap_err()
        .to_string();
    assert!(taken.contains("a pupil of another site"), "{taken}");
}

#[test]
fn a_class_gets_its_machines_in_order() {
    let site = school();
    let class = site.admin.hand_out_class("BJO", "8b").unwrap();
    let names: Vec<_> = class.pupils.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["Kari Nordmann", "Åse Ødegård"]);
    let wanted = class.pairs().into_iter().map(|(device, pupil)| Pair {
        device: device.device,
        pupil: pupil.pupil,
    });
    let wanted = ClassPairs {
        pairs: wanted.collect(),
    };
    site.admin.hand_out_pairs(&wanted).unwrap();
    assert_eq!(out(&site), pairs(&[("PF1", "e1"), ("PF2", "e2")]));
    let rows = site.admin.hand_out_classes().unwrap();
    let counts: Vec<_> = rows
        .iter()
        .map(|row| (row.class.as_str(), row.pupils, row.without, row.free))
        .collect();
    assert_eq!(counts, [("8B", 2, 0, 0), ("9A", 1, 1, 1)]);
    assert_eq!(
        refusal(site.admin.hand_out_class("XXX", "8B")),
        (404, "not-found".into())
    );
}

#[test]
fn lists_are_imported_whole_or_not_at_all() {
    let site = school();
    let dry = ListOptions {
        dry_run: true,
        ..ListOptions::default()
    };
    let list = "device;pupil\nPF1;e1\nT2;e1\nPF9;e9\n";
    let report = site
        .admin
        .import_assignments(list.as_bytes(), &dry)
        .unwrap();
    let problems: Vec<_> = report
        .rows
        .iter()
        .map(|row| row.problems.join("; "))
        .collect();
    assert_eq!(
        problems,
        [
            "",
            "Kari Nordmann (8B) has PF1 already",
            "there is no device PF9; there is no pupil e9"
        ]
    );
    let bad = site
        .admin
        .import_assignments(list.as_bytes(), &ListOptions::default())
        .unwrap();
    assert!(!bad.stored && out(&site).is_empty());
    let good = site
        .admin
        .import_assignments(
            "maskin,brukernavn\nPF1,e1\nT2,e2\n".as_bytes(),
            &ListOptions::default(),
        )
        .unwrap();
    assert!(good.stored);
    assert_eq!(out(&site), pairs(&[("PF1", "e1"), ("PF2", "e2")]));

    let complete = ListOptions {
        complete: true,
        site: "BJO".into(),
        ..ListOptions::default()
    };
    let report = site
        .admin
        .import_pupils(
            "elevnummer;navn;klasse\ne1;Kari Nordmann;9B\n".as_bytes(),
            &complete,
        )
        .unwrap();
    assert_eq!((report.changed, report.left), (1, 1));
    assert!(pupil(&site, "e2").left_at_ms.is_some());
    assert!(
        pupil(&site, "e3").left_at_ms.is_none(),
        "the list is of another site"
    );
    let unknown = site
        .admin
        .import_pupils(
            "elevnummer;navn;skole\ne9;Per;XXX\n".as_bytes(),
            &ListOptions::default(),
        )
        .unwrap();
    assert_eq!(unknown.rows[0].problems, ["there is no site XXX"]);
}

#[test]
fn an_erased_pupil_is_nowhere_any_more() {
    let site = school();
    let made = give(&site, "PF1", "e1");
    let kari = pupil(&site, "e1").pupil;
    assert_eq!(
        refusal(site.admin.erase_pupil(kari)),
        (409, "device-out".into())
    );
    let note = TakeBack {
        condition: "Kari Nordmann mistet den".into(),
    };
    site.admin.take_back(made.assignment, &note).unwrap();
    let export = site.admin.export_pupil(kari).unwrap();
    assert_eq!(export.pupil.name, "Kari Nordmann");
    assert_eq!(export.assignments.len(), 1);
    let acts: Vec<_> = export.audit.iter().map(|act| act.action.as_str()).collect();
    assert_eq!(
        acts,
        ["device-handed-out", "device-taken-back", "pupil-exported"]
    );

    assert_eq!(site.admin.erase_pupil(kari).unwrap().assignments, 1);
    let all = site.admin.pupils(&PupilFilter::default()).unwrap();
    assert_eq!(all.len(), 2);
    let history = site
        .admin
        .assignments(&AssignmentFilter::default())
        .unwrap();
    assert_eq!((history.len(), history[0].name.as_str()), (1, ""));
    let audit: Vec<AuditRow> = site.admin.get("/api/v1/audit").unwrap();
    let said = format!("{audit:?}{history:?}{all:?}");
    assert!(!said.contains("Kari") && !said.contains("\"e1\""), "{said}");
    assert!(site.admin.scan("e1").unwrap().pupils.is_empty());
    // The number is free for somebody else.
    let again = site
        .admin
        .import_pupils(
            "elevnummer;navn;skole\ne1;Kari Annen;BJO\n".as_bytes(),
            &ListOptions::default(),
        )
        .unwrap();
    assert_eq!(again.new, 1);
}

/// Which of the texts stand somewhere in the database, as text or as bytes.
fn texts_left<'a>(site: &Site, texts: &[&'a str]) -> Vec<&'a str> {
    let dump = site.dump();
    let is_left = |text: &&str| dump.contains(*text) || dump.contains(&hex(text.as_bytes()));
    texts.iter().copied().filter(is_left).collect()
}

#[test]
fn no_table_holds_anything_of_an_erased_pupil() {
    let site = school();
    let (receiver, _) = subscribe(&site);
    let list = "elevnummer;navn;skole;klasse\nzq-old;Zylva Quist;BJO;8Zq\n";
    site.admin
        .import_pupils(list.as_bytes(), &ListOptions::default())
        .unwrap();
    let zylva = pupil(&site, "zq-old").pupil;
    let handed_out = HandOut {
        note: "Quistens første".into(),
        ..ask(&site, "PF1", "zq-old")
    };
    let made = site.admin.hand_out(&handed_out).unwrap().made.assignment;
    let corrected = PupilEntry {
        external_id: "zq-new".into(),
        name: "Zylva Quist".into(),
        site: "BJO".into(),
        class: "8Zq".into(),
        several: false,
    };
    site.admin.change_pupil(zylva, &corrected).unwrap();
    refusal(site.admin.hand_out(&ask(&site, "PF2", "zq-new")));
    let swap = HandOut {
        swap: true,
        ..ask(&site, "PF2", "zq-new")
    };
    let swap = site.admin.hand_out(&swap).unwrap().made.assignment;
    site.admin.undo_hand_out(swap).unwrap();
    receiver.wait("assignment.made", 3);
    receiver.wait("assignment.ended", 2);
    let all_told = || {
        let rows = site.admin.webhook_deliveries(1).unwrap();
        rows.iter().all(|row| row.state == "delivered")
    };
    let is_told = (0..3000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        all_told()
    });
    assert!(is_told, "every message is delivered");
    // The last message waits until she is erased.
    site.admin.pause_webhook(1).unwrap();
    let note = TakeBack {
        condition: "zylva mistet den".into(),
    };
    site.admin.take_back(made, &note).unwrap();
    site.admin.export_pupil(zylva).unwrap();

    let hers = ["zylva", "quist", "zq-old", "zq-new", "8zq"];
    assert_eq!(texts_left(&site, &hers), hers);
    site.admin.erase_pupil(zylva).unwrap();
    assert_eq!(texts_left(&site, &hers), [""; 0]);
    site.admin.resume_webhook(1).unwrap();
    let last = receiver.wait("assignment.ended", 3).remove(2).json();
    assert_eq!(last["data"]["device"]["serial"], "PF1");
    assert_eq!(last["data"]["pupil"]["id"], serde_json::Value::Null);
}

#[test]
fn settings_are_kept() {
    let site = school();
    assert_eq!(
        site.admin.hand_out_settings().unwrap(),
        HandOutSettings::default()
    );
    let settings = HandOutSettings {
        retention_days: 30,
        owner_line: "Tilhører Bjørnøya kommune".into(),
    };
    site.admin.put_hand_out_settings(&settings).unwrap();
    assert_eq!(site.admin.hand_out_settings().unwrap(), settings);
    let too_long = HandOutSettings {
        retention_days: 9999,
        ..settings
    };
    let refused = refusal(site.admin.put_hand_out_settings(&too_long));
    assert_eq!(refused, (400, "too-long".into()));
}
