//! A server that burns down, and another one that goes on from its backup: on the same kind of database, and on the other.

use camino::{Utf8Path, Utf8PathBuf};
use content::NoMeter;
use serde_json::{Value, json};
use server::DatabaseUrl;
use server::backup::{self, BackupError, Key, Place};
use testkit::planted::Scanner;
use wire::admin_api::DeviceState;
use wire::device_api::CheckInReply;
use wire::people::NewToken;

use crate::harness::{Machine, Site, dump_postgres, good_run, name_of, new_postgres, send};
use crate::webhooks::subscribe;

const ASSETS: &str = "serial;asset tag;site code;class\nPF1;A1;BJØ;8B\nPF2;A2;BJØ;8B\n";

/// A backup and the folder it lies in.
struct Backup {
    folder: tempfile::TempDir,
    file: Utf8PathBuf,
    key: Key,
}

impl Backup {
    fn of(site: &Site) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(folder.path()).unwrap().join("a.backup");
        let key = Key::generate();
        let place = Place {
            data: &site.data,
            database: site.database.as_ref(),
        };
        backup::create(place, &file, &[key.recipient()], true, &NoMeter).unwrap();
        Self { folder, file, key }
    }

    /// Restores to a folder beside it.
    fn restore(
        &self,
        folder: &str,
        database: Option<&DatabaseUrl>,
    ) -> Result<Utf8PathBuf, BackupError> {
        let data = self.file.with_file_name(folder);
        let place = Place {
            data: &data,
            database,
        };
        backup::restore(&self.file, &self.key, place, &NoMeter).map(|_| data)
    }
}

/// A server at work burns down, and is restored to `database`.
fn goes_on(site: Site, database: Option<DatabaseUrl>) {
    site.prepare(10);
    site.import(ASSETS);
    let book = site.define_prestage();
    site.admin.build_prestage(&book).unwrap();
    let (receiver, secret) = subscribe(&site);
    let (machine, other) = (Machine::new("PF1"), Machine::new("PF2"));
    let CheckInReply::Run { session, order, .. } = machine.check_in(&site) else {
        panic!("no order");
    };
    let run = order.run;
    let events = good_run(run);
    let device = site.server.anyone().with_token(&session);
    assert_eq!(send(&device, run, &events[..3]).acknowledged, 3);
    let new = NewToken {
        title: "asset system".into(),
        scopes: vec![],
        days: 0,
    };
    let token = site.admin.create_token(&new).unwrap().token;
    let audit: Vec<Value> = site.admin.get("/api/v1/audit").unwrap();
    let backup = Backup::of(&site);
    // What comes now is lost with the server. The machine has it still.
    assert_eq!(send(&device, run, &events[..5]).acknowledged, 5);

    let data = backup.restore("data", database.as_ref()).unwrap();
    assert_eq!(data.join("forestage.db").exists(), database.is_none());
    let site = site.elsewhere(&data, database);

    // Its session is good, and what it goes on with doesn't follow on what the server has.
    let device = site.server.anyone().with_token(&session);
    assert_eq!(send(&device, run, &events[5..]).acknowledged, 3);
    // After a restart it checks in, gets the same order, and tells all of its journal.
    let (device, again) = machine.order(&site);
    assert_eq!((again.run, again.device), (run, order.device));
    assert_eq!(send(&device, run, &events).acknowledged, 6);
    assert_eq!(site.device("PF1").state, DeviceState::Completed);
    let told = receiver.wait("run.completed", 1);
    assert!(told[0].is_signed_with(&secret));
    // Another key with its name is still a stranger, and a machine that wasn't seen yet is welcome.
    let thief = Machine::new("PF1").check_in(&site);
    assert!(!matches!(thief, CheckInReply::Run { .. }), "{thief:?}");
    let (device, order) = other.order(&site);
    let events = good_run(order.run);
    assert_eq!(send(&device, order.run, &events).acknowledged, 6);
    // Programs, the audit, numbers that are counted up, content, the key that signs bundles.
    let program = site.server.anyone().with_token(&token);
    let since: Vec<Value> = program.get("/api/v1/audit").unwrap();
    assert!(audit.iter().all(|row| since.contains(row)));
    let verified: Value = program.get("/api/v1/audit/verify").unwrap();
    assert_eq!(verified["broken"], Value::Null, "{verified}");
    site.import("serial;asset tag;site code;class\nPF3;A3;BJØ;8B\n");
    let report: Value = site
        .admin
        .send("POST", "/api/v1/content/verify", &json!({}))
        .unwrap();
    assert_eq!(
        (&report["damaged"], &report["packages"]),
        (&json!([]), &json!([]))
    );
    site.admin.build_prestage(&book).unwrap();
}

#[test]
fn machines_people_and_programs_go_on_with_a_restored_server() {
    goes_on(Site::on(None), None);
}

#[test]
fn the_same_with_postgresql() {
    goes_on(Site::on_postgres(), Some(new_postgres()));
}

#[test]
fn a_backup_leads_from_one_database_to_the_other() {
    goes_on(Site::on(None), Some(new_postgres()));
    goes_on(Site::on_postgres(), None);
}

#[test]
fn every_row_of_postgresql_comes_back_as_it_was() {
    let site = Site::on_postgres();
    site.prepare(10);
    site.import(ASSETS);
    let (device, order) = Machine::new("PF1").order(&site);
    send(&device, order.run, &good_run(order.run));
    let sqlite = Backup::of(&site);
    let to = new_postgres();
    sqlite.restore("data", Some(&to)).unwrap();
    assert_eq!(sorted(&dump_postgres(&name_of(&to))), sorted(&site.dump()));
}

/// The database gives rows in any order; when migrations were run is no row of ours.
fn sorted(dump: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = dump
        .lines()
        .filter(|line| !line.contains("|t|\\x"))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_database_with_tables_is_never_written_over() {
    let site = Site::on_postgres();
    site.prepare(10);
    let backup = Backup::of(&site);
    let before = site.dump();
    let error = backup.restore("data", site.database.as_ref()).unwrap_err();
    assert!(matches!(error, BackupError::Filled { .. }), "{error:?}");
    assert_eq!(site.dump(), before);
    let left: Vec<String> = Utf8Path::from_path(backup.folder.path())
        .unwrap()
        .read_dir_utf8()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_owned())
        .collect();
    assert_eq!(left, ["a.backup"]);
}

#[test]
fn without_its_key_a_backup_holds_no_planted_secret() {
    let site = Site::new();
    site.prepare(10);
    let secrets = [
        crate::nothing_to_steal::plant(&site),
        site.private_keys(),
        vec![("a site".into(), "Bjørnøya skole".into())],
    ]
    .concat();
    site.import("serial;asset tag;site code;site name\nPF1;A1;BJØ;Bjørnøya skole\n");
    assert!(secrets.len() >= 200, "{} secrets", secrets.len());
    let backup = Backup::of(&site);
    let scanner = Scanner::new(&secrets);
    let scan = scanner.scan_path(&backup.file, &|_| false).unwrap();
    assert_eq!(scan.found, []);
    // With its key it holds what has to be there, or the scanner found nothing because it can't.
    let data = backup.restore("data", None).unwrap();
    let found = scanner.scan_path(&data, &|_| false).unwrap().found;
    assert!(found.iter().any(|found| found.place.contains("ca.key")));
    assert!(
        found
            .iter()
            .any(|found| found.place.contains("forestage.db"))
    );
}
