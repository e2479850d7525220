use std::collections::BTreeMap;

use proptest::prelude::*;
use wire::imports::{ImportProfile, ImportSettings, RowResult, UndoImport};
use wire::reasons::{RowReason, texts};

use super::columns::{Field, title_key};
use super::drafts::{Reading, read};
use super::plan::{Fleet, Known, Planned, Values, plan};
use crate::fleet::identity::name_key;
use crate::people::roles::Reach;

fn reading(text: &str) -> Reading {
    read(text.as_bytes(), &ImportSettings::default(), &[]).unwrap()
}

/// Serial, site, site name and class of each row, or what is wrong.
fn check(text: &str) -> Vec<Result<[String; 4], String>> {
    planned(text, &Fleet::default())
        .into_iter()
        .map(|row| {
            let fields = [
                Field::Serial,
                Field::SiteCode,
                Field::SiteName,
                Field::Class,
            ];
            match row.result {
                RowResult::New => Ok(fields.map(|field| row.row.text(&field).to_owned())),
                result => Err(format!(
                    "{}: {}",
                    result.word(),
                    texts(&row.problems).join("; ")
                )),
            }
        })
        .collect()
}

fn planned(text: &str, fleet: &Fleet) -> Vec<Planned> {
    plan(reading(text).rows, fleet, &Reach::Everywhere)
}

fn fleet(assets: &[(&str, &str, &str)]) -> Fleet {
    let mut fleet = Fleet::default();
    for (serial, tag, class) in assets {
        let values = Values {
            serial: (*serial).into(),
            asset_tag: (*tag).into(),
            class: (*class).into(),
            ..Values::default()
        };
        let device = format!("device of {serial}");
        fleet.insert(name_key(serial).unwrap(), Known { device, values });
    }
    fleet
}

#[test]
fn reads_what_spreadsheets_write() {
    let expected = vec![Ok([
        "PF1".to_owned(),
        "BJO".into(),
        "Bjørnøya skole".into(),
        "8B".into(),
    ])];
    let cases = [
        "serial,site code,site name,class\nPF1,BJO,Bjørnøya skole,8B\n",
        "Serienummer;Skolekode;Skolenavn;Klasse\r\n\r\nPF1;BJO;\"Bjørnøya skole\";8B\r\n",
        "\n;;;\nKlasse\tskole\tSkolekode\tserienr\n8B\tBjørnøya skole\tBJO\tPF1\n\n",
        "Acme AS, ordrebekreftelse\nKunde:;Troms fylkeskommune\n\nSerienr.;Skolekode;Skolenavn;Klasse\nPF1;BJO;Bjørnøya skole;8B\n",
    ];
    for text in cases {
        assert_eq!(check(text), expected, "{text:?}");
    }
}

#[test]
fn a_blank_cell_says_nothing_and_a_clear_one_empties_its_field() {
    let mut fleet = fleet(&[("PF1", "T1", "8B")]);
    let mut known = fleet.get("PF1").unwrap().clone();
    known.values.fields.insert("room".into(), "12".into());
    fleet.insert("PF1".into(), known);
    let becomes = |text: &str| planned(text, &fleet)[0].becomes.clone();
    let same = becomes("serial;tag;class;room\nPF1;;;\n");
    assert_eq!(same, fleet.get("PF1").unwrap().values);
    let cleared = becomes("serial;tag;class;room\nPF1;(clear);(clear);(clear)\n");
    assert_eq!(
        (cleared.asset_tag.as_str(), cleared.class.as_str()),
        ("", "")
    );
    assert!(cleared.fields.is_empty());
}

#[test]
fn a_placeholder_uuid_is_ignored_with_a_note() {
    let text = "serial;uuid\nPF1;ffffffff-ffff-ffff-ffff-ffffffffffff\nPF2;FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n";
    for row in planned(text, &Fleet::default()) {
        assert_eq!(
            (row.result, row.becomes.uuid.as_str()),
            (RowResult::New, "")
        );
        assert!(
            matches!(row.problems[0], RowReason::PlaceholderUuid { .. }),
            "{:?}",
            row.problems
        );
    }
}

#[test]
fn every_row_says_what_is_wrong_with_it() {
    let text = "serial;uuid;tag\nPF1;;T1\n;;\n;;T9\nDefault string;;\npf1 ;;\nPF2;xyz;\nPF3;;;4\n1,23E+12;;\nPF4;;T1\nSum:;;3 stk\n";
    let rows: Vec<String> = check(text)
        .into_iter()
        .map(|row| row.map_or_else(|problem| problem, |_| "new".into()))
        .collect();
    let expected = [
        "new",
        "invalid: there is no serial number",
        "invalid: the serial number \"Default string\" is a placeholder",
        "duplicate: the serial number pf1 stands in line 2",
        "invalid: \"xyz\" is not a UUID",
        "invalid: it has 4 values, and there are 3 columns",
        "invalid: serial 1,23E+12 has lost digits",
        "duplicate: the asset tag T1 stands in line 2",
        "skipped: a line of totals",
    ];
    assert_eq!(rows.len(), expected.len(), "{rows:#?}");
    for (row, expected) in rows.iter().zip(expected) {
        assert!(row.starts_with(expected), "{row} / {expected}");
    }
}

#[test]
fn rows_are_compared_with_the_fleet() {
    let fleet = fleet(&[
        ("PF1", "T1", "8A"),
        ("PF2", "T2", "8A"),
        ("PF3", "T3", "8A"),
    ]);
    let text = "serial;tag;class;Ordrenr;Garanti til\npf1;T1;8A;;\nPF2;T2;8B;4711;31.07.2029\nPF9;T3;8A;;\nPF8;T8;;;\n";
    let rows = planned(text, &fleet);
    let results: Vec<_> = rows.iter().map(|row| row.result).collect();
    use RowResult::{Changed, Duplicate, New};
    // The spelling of a serial number is a value, too.
    assert_eq!(results, [Changed, Changed, Duplicate, New]);
    let changes: Vec<String> = rows[1]
        .line()
        .changes
        .iter()
        .map(|change| format!("{}: {:?} → {:?}", change.field, change.old, change.new))
        .collect();
    assert_eq!(
        changes,
        [
            "class: \"8A\" → \"8B\"",
            "field:order-number: \"\" → \"4711\"",
            "field:warranty-end: \"\" → \"2029-07-31\""
        ]
    );
    assert!(
        matches!(&rows[2].problems[0], RowReason::UuidTaken { owner, .. } if owner == "PF3")
            || matches!(&rows[2].problems[0], RowReason::TagTaken { owner, .. } if owner == "PF3"),
        "{:?}",
        rows[2].problems
    );
    let own = plan(
        reading("serial;site\nPF1;BJO\n").rows,
        &Fleet::default(),
        &Reach::Site("KON".into()),
    );
    assert_eq!(own[0].result, RowResult::Invalid);
}

#[test]
fn says_why_a_file_can_not_be_imported_as_it_is() {
    let problem = |text: &str| texts(&reading(text).problems).join("; ");
    assert!(problem("name,room\nx,y").contains("no column is called `serial`"));
    assert!(problem("serial,serienummer\nx,y").contains("two columns are taken for serial"));
    assert!(problem("serial;class\n").contains("no row below"));
    assert!(read(b" \n\n", &ImportSettings::default(), &[]).is_err());
}

#[test]
fn people_correct_the_guesses_and_profiles_remember() {
    let text = "Maskin-ID;Serienr;Farge\nA1;X9;grå\n";
    let settings = ImportSettings {
        mapping: BTreeMap::from([
            ("maskin-id".into(), "serial".into()),
            ("FARGE".into(), "ignored".into()),
        ]),
        ..ImportSettings::default()
    };
    let fields = |reading: &Reading| -> Vec<String> {
        reading
            .columns
            .columns
            .iter()
            .map(|c| c.field.to_string())
            .collect()
    };
    let corrected = read(text.as_bytes(), &settings, &[]).unwrap();
    // The guess gives way to what a person said.
    assert_eq!(fields(&corrected), ["serial", "ignored", "ignored"]);
    assert_eq!(corrected.samples[0], ["A1"]);
    let profile = ImportProfile {
        name: "acme".into(),
        titles: vec!["maskin-id".into(), "Serienr".into()],
        mapping: settings.mapping,
        ..ImportProfile::default()
    };
    let recognised = read(
        text.as_bytes(),
        &ImportSettings::default(),
        std::slice::from_ref(&profile),
    )
    .unwrap();
    assert_eq!(recognised.profile.as_deref(), Some("acme"));
    assert_eq!(fields(&recognised), fields(&corrected));
    let other = read(b"serial\nX\n", &ImportSettings::default(), &[profile]).unwrap();
    assert_eq!(other.profile, None);
    assert!("field:Æ b".parse::<Field>().is_err());
    assert_eq!("field:år".parse::<Field>().unwrap().to_string(), "field:år");
    assert_eq!(title_key("  Site \t Code"), "site code");
}

#[test]
fn an_undo_keeps_what_happened_since() {
    use super::drafts::DoneRow;
    use super::undo::{InUse, plan};
    let done = |serial: &str, result: &str, class: &str| DoneRow {
        line: 2,
        device: format!("device of {serial}"),
        serial: serial.into(),
        result: result.into(),
        detail: "[]".into(),
        was: r#"{"serial":"X","class":"7A"}"#.into(),
        became: serde_json::json!({ "serial": serial, "class": class }).to_string(),
        joined: 0,
    };
    let rows = [
        done("PF1", "new", "8A"),
        done("PF2", "new", "8A"),
        done("PF3", "new", "8B"),
        done("PF4", "changed", "8A"),
        done("PF5", "changed", "8B"),
        done("PF6", "new", "8A"),
    ];
    let fleet = fleet(&["PF1", "PF2", "PF3", "PF4", "PF5"].map(|serial| (serial, "", "8A")));
    let in_use = InUse::of(["device of PF2"]);
    let undo = |force| {
        let wish = UndoImport {
            force,
            dry_run: false,
        };
        plan(&rows, &fleet, &in_use, &Reach::Everywhere, &wish)
            .unwrap()
            .report
    };
    let report = undo(false);
    assert_eq!((report.deleted, report.restored), (1, 1));
    let kept: Vec<String> = report
        .kept
        .iter()
        .map(|k| format!("{}: {}", k.serial, k.why))
        .collect();
    assert!(
        kept[0].starts_with("PF2: the machine has checked in"),
        "{kept:?}"
    );
    assert!(
        kept[1].starts_with("PF3: changed since; now: class \"8A\""),
        "{kept:?}"
    );
    assert!(kept[3].starts_with("PF6: the machine is gone"), "{kept:?}");
    let forced = undo(true);
    assert_eq!(
        (forced.deleted, forced.restored, forced.kept.len()),
        (2, 2, 2)
    );
}

proptest! {
    #[test]
    fn garbage_after_a_header_is_read_without_panic(rest in "(.|\n|;|\"){0,200}") {
        if let Ok(file) = read(format!("serial;uuid;site\n{rest}").as_bytes(), &ImportSettings::default(), &[]) {
            for row in plan(file.rows, &Fleet::default(), &Reach::Everywhere) {
                prop_assert!(!row.result.is_valid() || !row.row.serial_key.is_empty());
                prop_assert!(row.result.is_valid() || !row.problems.is_empty());
            }
        }
    }

    #[test]
    fn what_was_imported_is_unchanged_when_imported_again(serials in proptest::collection::btree_set("[A-Z]{2}[0-9]{4}", 1..20)) {
        let text = format!("serial;class\n{}", serials.iter().map(|s| format!("{s};8A\n")).collect::<String>());
        let mut known = Fleet::default();
        for row in planned(&text, &Fleet::default()) {
            prop_assert_eq!(row.result, RowResult::New);
            known.insert(row.row.serial_key.clone(), Known { device: "d".into(), values: row.becomes });
        }
        prop_assert!(planned(&text, &known).iter().all(|row| row.result == RowResult::Unchanged));
    }
}
