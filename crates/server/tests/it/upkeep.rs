//! Looking after the content library: who needs what, what is damaged, and what goes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use camino::Utf8PathBuf;
use content::{Library, NoMeter};
use wire::package::{Package, PackageKind};

use crate::admin::refusal;
use crate::harness::Site;

/// Content may be collected at once.
fn settled() -> Site {
    Site::with_patience(|patience| patience.content_settles_after = Duration::ZERO)
}

fn publish(site: &Site, name: &str, version: &str, text: &[u8]) -> Package {
    site.publish_tree(name, version, PackageKind::Application, text)
}

/// Uploads content that never becomes a package. Answers a folder with a library that has it.
fn upload_only(site: &Site) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    std::fs::create_dir(path.join("tree")).unwrap();
    std::fs::write(path.join("tree/stille"), "uten navn ".repeat(1000)).unwrap();
    let library = Library::open(&path.join("library")).unwrap();
    let mut pack = library.pack_writer().unwrap();
    let manifest = content::capture_tree(&path.join("tree"), &mut pack, &NoMeter).unwrap();
    pack.finish().unwrap();
    site.upload(&library, &manifest);
    folder
}

/// Flips a bit of the first chunk in every pack on the server's disk.
fn damage(site: &Site) {
    for pack in site.data.join("library/packs").read_dir_utf8().unwrap() {
        let path = pack.unwrap().into_path();
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        // Behind the header of the pack and of its first frame.
        file.read_exact_at(&mut byte, 16 + 52 + 20).unwrap();
        byte[0] ^= 4;
        file.write_all_at(&byte, 16 + 52 + 20).unwrap();
    }
}

#[test]
fn stats_say_who_names_what() {
    let site = Site::new();
    let package = publish(&site, "java", "17", b"one");
    let stats = site.admin.content_stats().unwrap();
    assert_eq!((stats.packs, stats.manifests), (1, 1));
    assert_eq!(stats.content_bytes, package.content_bytes);
    let [java] = stats.packages.as_slice() else {
        panic!("{:?}", stats.packages);
    };
    assert_eq!((java.name.as_str(), java.version.as_str()), ("java", "17"));
    assert_eq!(java.chunks, stats.chunks);
    assert!(java.is_whole());
}

#[test]
fn what_is_damaged_is_named_with_who_needs_it_and_taken_again() {
    let site = Site::new();
    let java = publish(&site, "java", "17", &b"one ".repeat(100));
    let clean = site.admin.verify_content().unwrap();
    assert_eq!((clean.damaged, clean.packages), (vec![], vec![]));
    damage(&site);
    let report = site.admin.verify_content().unwrap();
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(report.packages.len(), 1);
    assert_eq!(report.packages[0].name, java.name);
    assert_eq!(report.packages[0].lost, report.damaged);
    // The server knows from then on that it lacks the chunk, and takes it again when it is uploaded.
    let missing = site.admin.missing_chunks(report.damaged.clone()).unwrap();
    assert_eq!(missing, report.damaged);
    publish(&site, "java", "18", &b"one ".repeat(100));
    let report = site.admin.verify_content().unwrap();
    assert_eq!((report.damaged, report.packages), (vec![], vec![]));
}

#[test]
fn only_what_no_package_names_goes() {
    let site = settled();
    // The older version is what machines were staged with.
    publish(&site, "java", "17", b"one");
    publish(&site, "java", "18", b"two");
    let before = site.admin.content_stats().unwrap();
    upload_only(&site);
    let with_rest = site.admin.content_stats().unwrap();
    assert!(with_rest.chunks > before.chunks);
    let plan = site.admin.collect_content(true).unwrap();
    assert_eq!((plan.manifests.len(), plan.packs_removed), (1, 1));
    assert_eq!(plan.chunks, with_rest.chunks - before.chunks);
    // A dry run changes nothing.
    assert_eq!(site.admin.content_stats().unwrap(), with_rest);
    let done = site.admin.collect_content(false).unwrap();
    assert_eq!(done.freed_bytes, plan.freed_bytes);
    assert_eq!(site.admin.content_stats().unwrap(), before);
    let report = site.admin.verify_content().unwrap();
    assert_eq!((report.damaged, report.packages), (vec![], vec![]));
    // The same after a start, which reads everything anew.
    let site = site.restart();
    assert_eq!(site.admin.content_stats().unwrap(), before);
    let audit = site.admin.audit_after(0).unwrap();
    let collected = audit.iter().filter(|row| row.action == "content-collected");
    assert_eq!(collected.count(), 1, "a dry run is no act");
}

#[test]
fn what_came_just_now_stays() {
    let site = Site::new();
    let folder = upload_only(&site);
    let collected = site.admin.collect_content(false).unwrap();
    assert_eq!((collected.manifests.len(), collected.chunks), (0, 0));
    drop(folder);
    assert_eq!(site.admin.content_stats().unwrap().manifests, 1);
}

#[test]
fn nothing_goes_while_it_is_unknown_what_a_package_needs() {
    let site = settled();
    let java = publish(&site, "java", "17", b"one");
    upload_only(&site);
    let manifest = (site.data.join("library/manifests")).join(java.manifest.to_string());
    std::fs::write(manifest, "gone").unwrap();
    let before = site.admin.content_stats().unwrap();
    assert!(before.packages[0].is_manifest_lost);
    let refused = refusal(site.admin.collect_content(false));
    assert_eq!((refused.0, refused.1.as_str()), (409, "content-lost"));
    assert_eq!(site.admin.content_stats().unwrap(), before);
}

#[test]
fn nothing_goes_while_a_backup_is_made() {
    let site = settled();
    upload_only(&site);
    let before = site.admin.content_stats().unwrap();
    let kept = Library::keep_files(&site.data.join("library")).unwrap();
    let refused = refusal(site.admin.collect_content(false));
    assert_eq!((refused.0, refused.1.as_str()), (409, "content-in-use"));
    assert_eq!(site.admin.content_stats().unwrap(), before);
    drop(kept);
    assert!(site.admin.collect_content(false).unwrap().chunks > 0);
}
