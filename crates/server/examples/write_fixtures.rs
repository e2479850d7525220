//! Writes `fixtures/backup-1`: once, by the first release that had the format.

#![expect(clippy::unwrap_used, reason = "it is run by hand, once")]

use camino::Utf8Path;
use content::NoMeter;
use server::backup::{self, Key, Place};

/// A database that an earlier release wrote.
const DATABASE: &str = "../database-16/forestage.db";

fn main() {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/backup-1");
    std::fs::create_dir(&folder).unwrap();
    let data = folder.join("data");
    for (path, text) in [
        ("bundles/book-14@3.bundle", "a bundle"),
        ("keys/bundle.key", "a key"),
        ("library/manifests/0a", "a manifest"),
        ("library/packs/0a.pack", "a pack"),
        ("tls/ca.pem", "a certificate"),
    ] {
        let path = data.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::copy(folder.join(DATABASE), data.join("forestage.db")).unwrap();
    let key = Key::generate();
    std::fs::write(folder.join("backup.key"), key.secret_text()).unwrap();
    let place = Place {
        data: &data,
        database: None,
    };
    let file = folder.join("small.backup");
    backup::create(place, &file, &[key.recipient()], true, &NoMeter).unwrap();
    std::fs::remove_dir_all(data).unwrap();
    let readme = "# Backup, version 1\n\nWritten by `cargo run -p server --example write_fixtures`; never edited, never written again. `backup.key` opens it, and\n\
        nothing else. The database in it is that of `database-16`.\n";
    std::fs::write(folder.join("README.md"), readme).unwrap();
}
