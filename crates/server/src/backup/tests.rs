//! What a backup promises: whole or not at all, nothing to read without its key, every flipped bit found.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use content::NoMeter;
use sqlx::Connection as _;
use testkit::chance::variable;

use super::*;
use crate::db::Db;

/// So many bits are flipped, one at a time, and each is another one, unless `FORESTAGE_FLIPPED_BITS` says how many.
const FLIPPED_BITS: u64 = 100;
const SECRET: &str = "the key of the authority, of which no byte may be read";

struct World {
    folder: tempfile::TempDir,
    key: Key,
}

impl World {
    /// A data folder; of its database nobody reads more than its form.
    fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            key: Key::generate(),
        };
        for folder in ["keys", "tls", "bundles", "library/packs", "library/patches"] {
            std::fs::create_dir_all(world.path("data").join(folder)).unwrap();
        }
        world.write("keys/bundle.key", SECRET);
        world.write("tls/ca.pem", "certificate");
        world.write("library/lock", "");
        world.write("library/packs/0f.pack", &"pack ".repeat(700));
        world.write("library/packs/1f.partial", "nobody has finished this");
        world.write("library/patches/0f-1f.patch", "made again");
        world.write("bundles/book-14@3.bundle", "bundle");
        wait(async {
            let mut db = db::connect_file(&world.database()).await.unwrap();
            sqlx::raw_sql(
                "CREATE TABLE _sqlx_migrations (version); INSERT INTO _sqlx_migrations VALUES (1)",
            )
            .execute(&mut db)
            .await
            .unwrap();
            db.close().await.unwrap();
        });
        world
    }

    /// The same with a database as a server has it.
    fn of_a_server() -> Self {
        let world = Self::new();
        std::fs::remove_file(world.database()).unwrap();
        wait(async {
            let db = world.open("data").await;
            add_collection(&db, "acknowledged").await;
            db.close().await;
        });
        world
    }

    fn database(&self) -> Utf8PathBuf {
        self.path("data").join(DATABASE)
    }

    async fn open(&self, data: &str) -> Db {
        Db::open(&self.path(data).join(DATABASE), None)
            .await
            .unwrap()
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("data").join(name), text).unwrap();
    }

    fn create(&self, name: &str, with_content: bool) -> Result<Contents, BackupError> {
        let to = [self.key.recipient()];
        let (data, file) = (self.path("data"), self.path(name));
        create(at(&data), &file, &to, with_content, &NoMeter)
    }

    fn verify(&self, name: &str) -> Result<Contents, BackupError> {
        verify(&self.path(name), &self.key, &NoMeter)
    }

    fn restore(&self, name: &str, data: &str) -> Result<Contents, BackupError> {
        restore(&self.path(name), &self.key, at(&self.path(data)), &NoMeter)
    }

    /// Every file in a folder, by its path, with its content.
    fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path(folder)];
        while let Some(next) = folders.pop() {
            for entry in next.read_dir_utf8().unwrap() {
                let path = entry.unwrap().into_path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.path(folder)).unwrap().to_string();
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
        files
    }

    fn names(&self) -> Vec<String> {
        let entries = self.path("").read_dir_utf8().unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_owned())
            .collect();
        names.sort();
        names
    }
}

fn at(data: &Utf8Path) -> Place<'_> {
    Place {
        data,
        database: None,
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(work)
}

async fn add_collection(db: &Db, name: &str) {
    let mut write = db.write().await.unwrap();
    sqlx::query("INSERT INTO collections (name, title) VALUES ($1, '')")
        .bind(name)
        .execute(&mut *write)
        .await
        .unwrap();
    db::commit(write).await.unwrap();
}

#[test]
fn what_is_restored_is_what_was_there() {
    let world = World::new();
    let made = world.create("a.backup", true).unwrap();
    assert_eq!(made.left_out, LeftOut::default());
    assert_eq!(world.verify("a.backup").unwrap(), made);
    assert_eq!(world.restore("a.backup", "restored/").unwrap(), made);
    let mut expected = world.files("data");
    // The database is compared by its rows, elsewhere.
    let mut restored = world.files("restored");
    assert!(expected.remove(DATABASE).is_some() && restored.remove(DATABASE).is_some());
    for absent in [
        "library/lock",
        "library/packs/1f.partial",
        "library/patches/0f-1f.patch",
        LOCK,
    ] {
        assert!(expected.remove(absent).is_some(), "{absent}");
    }
    assert_eq!(restored, expected);
    let mode = |name: &str| world.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("restored"), mode("restored/keys")), (0o700, 0o700));
    assert_eq!(
        (mode("restored/keys/bundle.key"), mode("a.backup")),
        (0o600, 0o600)
    );
    assert_eq!(world.names(), ["a.backup", "data", "restored"]);
}

#[test]
fn content_that_is_left_out_is_counted() {
    let world = World::new();
    let made = world.create("a.backup", false).unwrap();
    let left_out = LeftOut {
        files: 2,
        bytes: 3506,
    };
    assert_eq!(made.left_out, left_out);
    world.restore("a.backup", "restored").unwrap();
    let restored = world.files("restored").into_keys();
    assert_eq!(
        restored.collect::<Vec<_>>(),
        [DATABASE, "keys/bundle.key", "tls/ca.pem"]
    );
}

#[test]
fn all_that_was_committed_before_is_in_it_although_somebody_writes() {
    let world = World::of_a_server();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            wait(async {
                let db = world.open("data").await;
                let mut number = 0;
                while !is_done.load(Ordering::Relaxed) {
                    add_collection(&db, &format!("meanwhile-{number}")).await;
                    number += 1;
                }
                db.close().await;
            })
        });
        world.create("a.backup", false).unwrap();
        is_done.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    });
    assert!(!world.path("data").join(SNAPSHOT).exists());
    world.restore("a.backup", "restored").unwrap();
    wait(async {
        let restored = world.open("restored").await;
        let names: Vec<String> = sqlx::query_scalar("SELECT name FROM collections ORDER BY name")
            .fetch_all(restored.read())
            .await
            .unwrap();
        assert_eq!(names[0], "acknowledged");
        let sound: String = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_one(restored.read())
            .await
            .unwrap();
        assert_eq!(sound, "ok");
        restored.close().await;
    });
}

#[test]
fn every_flipped_bit_is_found_and_nothing_is_restored() {
    let world = World::new();
    // A few of the chunks that are authenticated.
    world.write("library/packs/2f.pack", &"many packs ".repeat(18_000));
    let flips = variable("FORESTAGE_FLIPPED_BITS").unwrap_or(FLIPPED_BITS);
    world.create("a.backup", true).unwrap();
    let sound = std::fs::read(world.path("a.backup")).unwrap();
    let bits = sound.len() as u64 * 8;
    assert!(bits > flips);
    for number in 0..flips {
        let bit = number * bits / flips;
        let at = usize::try_from(bit / 8).unwrap();
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << (bit % 8);
        std::fs::write(world.path("a.backup"), &flipped).unwrap();
        assert!(world.verify("a.backup").is_err(), "bit {bit}");
        if number % 50 == 0 {
            assert!(world.restore("a.backup", "restored").is_err(), "bit {bit}");
            assert_eq!(world.names(), ["a.backup", "data"], "bit {bit}");
        }
    }
    for bytes in (0..sound.len()).step_by(sound.len() / 100) {
        std::fs::write(world.path("a.backup"), &sound[..bytes]).unwrap();
        assert!(world.verify("a.backup").is_err(), "cut after {bytes}");
    }
    std::fs::write(world.path("a.backup"), [&sound[..], b"x"].concat()).unwrap();
    assert!(world.verify("a.backup").is_err());
}

#[test]
fn without_its_key_there_is_nothing_to_read() {
    let world = World::new();
    world.create("a.backup", true).unwrap();
    let bytes = std::fs::read(world.path("a.backup")).unwrap();
    for text in [SECRET, "certificate", "bundle.key", "members", "pack pack"] {
        let is_there = bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes());
        assert!(!is_there, "{text}");
    }
    let other = verify(&world.path("a.backup"), &Key::generate(), &NoMeter);
    assert!(
        matches!(other, Err(BackupError::Decrypt { .. })),
        "{other:?}"
    );
    let second = Key::generate();
    let to = [world.key.recipient(), second.recipient()];
    let (data, file) = (world.path("data"), world.path("b.backup"));
    create(at(&data), &file, &to, false, &NoMeter).unwrap();
    world.verify("b.backup").unwrap();
    verify(&file, &second, &NoMeter).unwrap();
}

#[test]
fn nothing_is_written_over() {
    let world = World::new();
    world.create("a.backup", false).unwrap();
    let before = std::fs::read(world.path("a.backup")).unwrap();
    let again = world.create("a.backup", false);
    assert!(
        matches!(again, Err(BackupError::Exists { .. })),
        "{again:?}"
    );
    assert_eq!(std::fs::read(world.path("a.backup")).unwrap(), before);
    let files = world.files("data");
    let over = world.restore("a.backup", "data");
    assert!(matches!(over, Err(BackupError::Exists { .. })), "{over:?}");
    assert_eq!(world.files("data"), files);
    // An empty folder is as good as none.
    std::fs::create_dir(world.path("empty")).unwrap();
    world.restore("a.backup", "empty").unwrap();
    // Of a restore that was cut off nobody knows how far it came.
    std::fs::create_dir(world.path("again.restoring")).unwrap();
    let again = world.restore("a.backup", "again");
    assert!(
        matches!(again, Err(BackupError::Exists { .. })),
        "{again:?}"
    );
}

#[test]
fn what_is_no_data_folder_is_named() {
    let world = World::new();
    for missing in ["forestage.db", "tls"] {
        let path = world.path("data").join(missing);
        std::fs::rename(&path, world.path("moved")).unwrap();
        let error = world.create("a.backup", false);
        assert!(
            matches!(error, Err(BackupError::NoData { lacks, .. }) if lacks == missing),
            "{error:?}"
        );
        std::fs::rename(world.path("moved"), &path).unwrap();
    }
    world.create("a.backup", false).unwrap();
}

#[test]
fn one_backup_of_a_folder_at_a_time_and_leftovers_of_a_killed_one_go() {
    let world = World::new();
    let held = lock(&world.path("data")).unwrap();
    let busy = world.create("a.backup", false);
    assert!(matches!(busy, Err(BackupError::Busy { .. })), "{busy:?}");
    drop(held);
    std::fs::write(world.path("a.backup.new"), "half").unwrap();
    world.write(SNAPSHOT, "half");
    world.create("a.backup", false).unwrap();
    assert_eq!(world.names(), ["a.backup", "data"]);
}

#[test]
fn nobody_collects_while_a_backup_is_made() {
    let world = World::new();
    let library = Library::open(&world.path("data").join("library")).unwrap();
    let plan = library.plan_gc(&Default::default(), std::time::SystemTime::now());
    let kept = Library::keep_files(&world.path("data").join("library")).unwrap();
    let collected = library.gc(plan.as_ref().unwrap(), &NoMeter);
    assert!(
        matches!(collected, Err(content::ContentError::LibraryInUse { .. })),
        "{collected:?}"
    );
    drop(kept);
    library.gc(&plan.unwrap(), &NoMeter).unwrap();
}

#[test]
fn a_backup_of_a_later_release_is_refused_and_nothing_is_restored() {
    let world = World::of_a_server();
    let later = db::newest_migration() + 1;
    wait(async {
        let db = world.open("data").await;
        let mut write = db.write().await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES ($1, '', 1, '', 0)",
        )
        .bind(later)
        .execute(&mut *write)
        .await
        .unwrap();
        db::commit(write).await.unwrap();
        db.close().await;
    });
    world.create("a.backup", false).unwrap();
    world.verify("a.backup").unwrap();
    let error = world.restore("a.backup", "restored").unwrap_err();
    assert!(
        matches!(error, BackupError::TooNew { found, .. } if found == later),
        "{error:?}"
    );
    assert_eq!(world.names(), ["a.backup", "data"]);
}

#[test]
fn a_disk_that_fails_leaves_nothing_half_restored() {
    let world = World::new();
    world.create("a.backup", true).unwrap();
    // A folder that can't be replaced, such as where a disk is mounted.
    std::fs::write(world.path("file"), "").unwrap();
    assert!(world.restore("a.backup", "file").is_err());
    assert!(world.restore("a.backup", "file/data").is_err());
    assert_eq!(world.names(), ["a.backup", "data", "file"]);
}

#[test]
fn the_backups_of_past_releases_are_read() {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/backup-1");
    let key = Key::load(&folder.join("backup.key")).unwrap();
    let file = folder.join("small.backup");
    let contents = verify(&file, &key, &NoMeter).unwrap();
    assert_eq!((contents.members, contents.head.with_content), (7, true));
    let world = World::new();
    let restored = world.path("restored");
    restore(&file, &key, at(&restored), &NoMeter).unwrap();
    let names: Vec<String> = world.files("restored").into_keys().collect();
    let expected = [
        "bundles/book-14@3.bundle",
        DATABASE,
        "keys/bundle.key",
        "library/manifests/0a",
        "library/packs/0a.pack",
        "tls/ca.pem",
    ];
    assert_eq!(names, expected);
    wait(async {
        let db = world.open("restored").await;
        db.close().await;
    });
}
