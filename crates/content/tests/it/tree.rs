//! Trees: captured, laid down elsewhere and compared, with names as they occur in Norway.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use camino::Utf8Path;
use content::{ContentError, NoMeter, compare_tree, converge_tree};

use crate::support::{Network, StopAfter, Temp, Witness, capture_tree, listing, noise};

fn set_time(path: &std::path::Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// A tree with everything a tree can hold.
fn make(top: &Utf8Path) {
    fs::create_dir_all(top.join("Ærlig talt/tom mappe")).unwrap();
    fs::create_dir_all(top.join("a/b/c")).unwrap();
    fs::create_dir_all(top.join("a.b")).unwrap();
    fs::write(top.join("Ærlig talt/blåbærsyltetøy.txt"), "god på vaffel").unwrap();
    // The same name once composed, once decomposed: two files.
    fs::write(top.join("blåbær"), "NFC").unwrap();
    fs::write(top.join("bla\u{30a}bær"), "NFD").unwrap();
    fs::write(
        top.as_std_path().join(OsStr::from_bytes(b"latin1-\xf8")),
        "not UTF-8",
    )
    .unwrap();
    fs::write(top.join("tom"), "").unwrap();
    fs::write(top.join("a/b/c/stor"), noise(1, 3 << 20)).unwrap();
    fs::write(top.join("a/b/mellom"), noise(2, 300 << 10)).unwrap();
    for (index, bytes) in (0..200_u64).zip(2000_usize..) {
        fs::write(
            top.join(format!("a.b/liten-{index:03}")),
            noise(index + 100, bytes),
        )
        .unwrap();
    }
    fs::set_permissions(top.join("tom"), Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(top.join("a/b/mellom"), Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(
        top.join("Ærlig talt/tom mappe"),
        Permissions::from_mode(0o1770),
    )
    .unwrap();
    symlink("../blåbær", top.join("a/lenke")).unwrap();
    symlink("/finnes/ikke", top.join("a/ut")).unwrap();
    symlink("a/b", top.join("mappelenke")).unwrap();
    set_time(top.join("tom").as_std_path(), 1_000_000_000);
    set_time(
        top.join("Ærlig talt/tom mappe").as_std_path(),
        1_100_000_000,
    );
    set_time(top.join("a/b").as_std_path(), 1_200_000_000);
}

#[test]
fn a_tree_arrives_as_it_was() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    make(&source);
    let manifest = capture_tree(&source, &library);
    assert_eq!(
        content::Manifest::decode(&manifest.encode()).unwrap(),
        manifest
    );
    fs::create_dir(&target).unwrap();
    let witness = Witness::default();
    let counts = converge_tree(&manifest, &target, &[&library], &witness).unwrap();
    assert_eq!(counts.local, manifest.content_bytes());
    assert_eq!(
        witness.last.get(),
        (manifest.content_bytes(), manifest.content_bytes())
    );
    assert_eq!(listing(target.as_std_path()), listing(source.as_std_path()));
    assert_eq!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
    assert_eq!(capture_tree(&target, &library), manifest);
    // Whoever says everything twice is heard once: a file of several chunks isn't whole with two times one of them.
    let twice = temp.join("twice");
    fs::create_dir(&twice).unwrap();
    let mut network = Network::new(&library);
    network.says_all_twice = true;
    let counts = converge_tree(&manifest, &twice, &[&network], &NoMeter).unwrap();
    assert_eq!(counts.network, manifest.content_bytes());
    assert_eq!(listing(twice.as_std_path()), listing(source.as_std_path()));
    // A second time nothing is fetched, nothing written, and nothing needed.
    let inode = fs::metadata(target.join("a/b/c/stor")).unwrap().ino();
    let again = converge_tree(&manifest, &target, &[], &NoMeter).unwrap();
    assert_eq!(again.unchanged, manifest.content_bytes());
    assert_eq!(
        fs::metadata(target.join("a/b/c/stor")).unwrap().ino(),
        inode
    );
}

#[test]
fn what_differs_is_named_and_mended_and_the_rest_stays() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    make(&source);
    let manifest = capture_tree(&source, &library);
    fs::create_dir(&target).unwrap();
    converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
    fs::write(target.join("blåbær"), "nfc").unwrap();
    fs::write(target.join("a/b/c/stor"), "kort").unwrap();
    fs::remove_file(target.join("a/lenke")).unwrap();
    symlink("../andre", target.join("a/lenke")).unwrap();
    fs::remove_dir(target.join("Ærlig talt/tom mappe")).unwrap();
    fs::set_permissions(target.join("a.b/liten-007"), Permissions::from_mode(0o777)).unwrap();
    fs::remove_file(target.join("tom")).unwrap();
    symlink("/etc/passwd", target.join("tom")).unwrap();
    fs::write(target.join("min egen fil"), "ikke rør").unwrap();
    let differences = compare_tree(&manifest, &target, &NoMeter).unwrap();
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "a/b/c/stor: its length differs",
            "a/lenke: it points elsewhere",
            "a.b/liten-007: its mode, owner or time differs",
            "blåbær: its content differs",
            "tom: it is something else",
            "Ærlig talt/tom mappe: missing",
        ]
    );
    let counts = converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
    assert_eq!(counts.local, (3 << 20) + 3);
    assert_eq!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
    assert_eq!(
        fs::read(target.join("min egen fil")).unwrap(),
        "ikke rør".as_bytes()
    );
    assert!(fs::metadata("/etc/passwd").is_ok());
}

#[test]
fn no_symbolic_link_leads_out_of_the_folder() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target, outside) = (
        temp.join("source"),
        temp.join("target"),
        temp.join("outside"),
    );
    fs::create_dir_all(source.join("lib/firmware")).unwrap();
    fs::write(source.join("lib/firmware/x"), "ny").unwrap();
    let manifest = capture_tree(&source, &library);
    fs::create_dir_all(outside.join("firmware")).unwrap();
    fs::write(outside.join("firmware/x"), "urørt").unwrap();
    for to in ["../outside", outside.as_str(), "/"] {
        let target = temp.join(&format!("target{}", to.len()));
        fs::create_dir(&target).unwrap();
        symlink(to, target.join("lib")).unwrap();
        let error = converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap_err();
        assert!(
            matches!(error, ContentError::Obstructed { .. }),
            "{to}: {error:?}"
        );
        assert_ne!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
    }
    assert_eq!(
        fs::read(outside.join("firmware/x")).unwrap(),
        "urørt".as_bytes()
    );
    assert!(!temp.join("outside/.forestage").exists());
    // One that stays inside is followed: Debian's /lib is usr/lib.
    fs::create_dir_all(target.join("usr/lib")).unwrap();
    symlink("usr/lib", target.join("lib")).unwrap();
    converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
    assert_eq!(fs::read(target.join("usr/lib/firmware/x")).unwrap(), b"ny");
    assert!(
        fs::symlink_metadata(target.join("lib"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
}

#[test]
fn a_link_may_lead_to_a_folder_that_is_new() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    for path in ["run/lock/x", "var/lock/y"] {
        let path = source.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "ny").unwrap();
    }
    let manifest = capture_tree(&source, &library);
    // As Debian has it: `var/lock` is `run/lock`, which isn't there yet.
    fs::create_dir_all(target.join("var")).unwrap();
    symlink("../run/lock", target.join("var/lock")).unwrap();
    converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
    for name in ["x", "y"] {
        assert_eq!(fs::read(target.join("run/lock").join(name)).unwrap(), b"ny");
    }
    assert_eq!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
}

#[test]
fn folders_that_exist_keep_their_mode_and_time() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    fs::create_dir_all(source.join("etc")).unwrap();
    fs::create_dir_all(target.join("etc")).unwrap();
    fs::set_permissions(source.join("etc"), Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(target.join("etc"), Permissions::from_mode(0o750)).unwrap();
    let manifest = capture_tree(&source, &library);
    converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
    assert_eq!(
        fs::metadata(target.join("etc")).unwrap().mode() & 0o7777,
        0o750
    );
}

#[test]
fn what_is_in_the_way_is_refused_and_stays() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    fs::create_dir_all(source.join("mappe")).unwrap();
    fs::write(source.join("fil"), "x").unwrap();
    let manifest = capture_tree(&source, &library);
    fs::create_dir_all(target.join("fil")).unwrap();
    let error = converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap_err();
    assert!(
        matches!(error, ContentError::Obstructed { .. }),
        "{error:?}"
    );
    fs::remove_dir(target.join("fil")).unwrap();
    fs::remove_dir(target.join("mappe")).ok();
    fs::write(target.join("mappe"), "en fil").unwrap();
    let error = converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap_err();
    assert!(
        matches!(error, ContentError::Obstructed { .. }),
        "{error:?}"
    );
    assert_eq!(fs::read(target.join("mappe")).unwrap(), b"en fil");
}

#[test]
fn a_file_with_another_name_outside_is_not_changed_through_it() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(source.join("fil"), "likt").unwrap();
    let manifest = capture_tree(&source, &library);
    fs::write(temp.join("utenfor"), "likt").unwrap();
    fs::set_permissions(temp.join("utenfor"), Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(temp.join("utenfor"), target.join("fil")).unwrap();
    converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
    assert_eq!(
        fs::metadata(temp.join("utenfor")).unwrap().mode() & 0o7777,
        0o600
    );
    assert_eq!(fs::metadata(target.join("fil")).unwrap().nlink(), 1);
}

#[test]
fn a_cut_convergence_goes_on_and_leaves_no_litter() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    fs::create_dir_all(source.join("mappe")).unwrap();
    for index in 0..30 {
        fs::write(
            source.join(format!("mappe/fil-{index:02}")),
            noise(index, 3 << 20),
        )
        .unwrap();
    }
    let manifest = capture_tree(&source, &library);
    fs::create_dir(&target).unwrap();
    let stop = StopAfter::new(manifest.content_bytes() / 2);
    let result = converge_tree(&manifest, &target, &[&library], &stop);
    assert!(matches!(result, Err(ContentError::Cancelled)));
    // What a power cut in the middle of a file leaves.
    let names = || {
        fs::read_dir(target.join("mappe"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    assert!(
        names()
            .iter()
            .all(|name| !name.as_bytes().starts_with(b".forestage")),
        "{:?}",
        names()
    );
    let missing = "mappe/fil-29";
    let aside = format!(
        ".forestage-{}",
        &wire::digest::Digest::of(missing.as_bytes()).to_string()[..16]
    );
    fs::write(target.join("mappe").join(aside), "halvt").unwrap();
    let network = Network::new(&library);
    let counts = converge_tree(&manifest, &target, &[&network], &NoMeter).unwrap();
    assert!(counts.unchanged > 0 && counts.network > 0);
    assert_eq!(counts.unchanged + counts.network, manifest.content_bytes());
    assert_eq!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
    assert_eq!(names().len(), 30);
}

#[test]
fn a_small_change_costs_little() {
    let temp = Temp::new();
    let library = temp.library("l");
    let source = temp.join("source");
    fs::create_dir_all(source.join("jre/lib")).unwrap();
    fs::write(source.join("jre/lib/modules"), noise(1, 24 << 20)).unwrap();
    for index in 0..300 {
        fs::write(
            source.join(format!("jre/lib/klasse-{index:03}")),
            noise(index + 10, 20_000),
        )
        .unwrap();
    }
    let before = capture_tree(&source, &library);
    // One percent: a stretch in the middle of the large file replaced by a longer one, three small files changed.
    let mut modules = noise(1, 24 << 20);
    modules.splice((10 << 20)..(10 << 20) + 200_000, noise(2, 230_000));
    fs::write(source.join("jre/lib/modules"), modules).unwrap();
    for index in 100..103 {
        fs::write(
            source.join(format!("jre/lib/klasse-{index:03}")),
            noise(index + 9000, 20_011),
        )
        .unwrap();
    }
    let other = temp.library("other");
    let after = capture_tree(&source, &other);
    let new: u64 = library
        .missing(&after)
        .iter()
        .map(|chunk| u64::from(chunk.bytes))
        .sum();
    assert!(
        new > 200_000 && new < before.content_bytes() / 10,
        "{new} of {}",
        before.content_bytes()
    );
    // A changed time is in the manifest alone.
    set_time(source.join("jre/lib/modules").as_std_path(), 1);
    let touched = capture_tree(&source, &other);
    assert_ne!(touched, after);
    assert_eq!(touched.chunks(), after.chunks());
}

/// What `setfattr` would do.
fn set_attribute(path: &Utf8Path, name: &str, value: &[u8]) {
    let any = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path.as_std_path(), name, value, any).unwrap();
}

fn attribute(path: &Utf8Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 100];
    let length = rustix::fs::getxattr(path.as_std_path(), name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn other_names_of_a_file_are_kept_and_mended() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    fs::create_dir_all(source.join("bin")).unwrap();
    fs::create_dir(&target).unwrap();
    fs::write(source.join("bin/gzip"), noise(1, 5000)).unwrap();
    for name in ["bin/gunzip", "zcat"] {
        fs::hard_link(source.join("bin/gzip"), source.join(name)).unwrap();
    }
    symlink("bin", source.join("lenke")).unwrap();
    fs::hard_link(source.join("lenke"), source.join("ny lenke")).unwrap();
    let manifest = capture_tree(&source, &library);
    assert_eq!(manifest.content_bytes(), 5000);
    let inode = |name: &str| fs::symlink_metadata(target.join(name)).unwrap().ino();
    let check = || {
        converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
        assert_eq!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
        assert_eq!(inode("bin/gzip"), inode("bin/gunzip"));
        assert_eq!(inode("bin/gzip"), inode("zcat"));
        assert_eq!(inode("lenke"), inode("ny lenke"));
    };
    check();
    assert_eq!(listing(target.as_std_path()), listing(source.as_std_path()));
    let first = inode("zcat");
    check();
    assert_eq!(inode("zcat"), first, "what is equal is left alone");
    // A name that became a file of its own, one that is missing, and one that is in the way.
    fs::remove_file(target.join("zcat")).unwrap();
    fs::write(target.join("zcat"), noise(1, 5000)).unwrap();
    fs::remove_file(target.join("bin/gunzip")).unwrap();
    let differences = compare_tree(&manifest, &target, &NoMeter).unwrap();
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    // The first name is missing, so the others lead elsewhere, one of them to a file of its own.
    let expected = [
        "bin/gunzip: missing",
        "bin/gzip: it isn't another name of what it should be",
        "zcat: it isn't another name of what it should be",
    ];
    assert_eq!(texts, expected);
    check();
    // A name outside the tree: the file there keeps what it has.
    fs::hard_link(target.join("zcat"), temp.join("utenfor")).unwrap();
    fs::set_permissions(temp.join("utenfor"), Permissions::from_mode(0o600)).unwrap();
    check();
    assert_eq!(
        fs::metadata(temp.join("utenfor")).unwrap().mode() & 0o7777,
        0o600
    );
    fs::remove_file(target.join("zcat")).unwrap();
    fs::create_dir(target.join("zcat")).unwrap();
    let error = converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap_err();
    assert!(
        matches!(error, ContentError::Obstructed { .. }),
        "{error:?}"
    );
}

#[test]
fn attributes_are_kept_mended_and_taken_away() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    fs::create_dir_all(source.join("mappe")).unwrap();
    fs::create_dir(&target).unwrap();
    for name in ["mappe/fil", "uten"] {
        fs::write(source.join(name), "likt").unwrap();
    }
    set_attribute(&source.join("mappe"), "user.blåbær", b"syltet\xf8y");
    set_attribute(&source.join("mappe/fil"), "user.tom", b"");
    let manifest = capture_tree(&source, &library);
    let check = || {
        converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
        assert_eq!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
        assert_eq!(
            attribute(&target.join("mappe/fil"), "user.tom").as_deref(),
            Some(&b""[..])
        );
        assert_eq!(attribute(&target.join("uten"), "user.mer"), None);
    };
    check();
    let of_folder = attribute(&target.join("mappe"), "user.blåbær");
    assert_eq!(of_folder.as_deref(), Some(&b"syltet\xf8y"[..]));
    set_attribute(&target.join("mappe/fil"), "user.tom", b"ikke tom");
    set_attribute(&target.join("uten"), "user.mer", b"mer");
    let inode = fs::metadata(target.join("uten")).unwrap().ino();
    let differences = compare_tree(&manifest, &target, &NoMeter).unwrap();
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "mappe/fil: its attributes differ",
            "uten: its attributes differ"
        ]
    );
    check();
    assert_eq!(fs::metadata(target.join("uten")).unwrap().ino(), inode);
}

#[test]
fn fifos_and_sockets_are_kept_and_replaced() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&target).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("sokkel")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    let fifo = source.join("rør");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fifo.as_std_path(),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    let manifest = capture_tree(&source, &library);
    let check = || {
        converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
        assert_eq!(compare_tree(&manifest, &target, &NoMeter).unwrap(), []);
        assert_eq!(listing(target.as_std_path()), listing(source.as_std_path()));
    };
    check();
    let inode = fs::symlink_metadata(target.join("rør")).unwrap().ino();
    check();
    assert_eq!(
        fs::symlink_metadata(target.join("rør")).unwrap().ino(),
        inode
    );
    fs::remove_file(target.join("sokkel")).unwrap();
    fs::rename(target.join("rør"), target.join("sokkel")).unwrap();
    fs::write(target.join("rør"), "en fil").unwrap();
    check();
    // A file isn't laid in the place of one of them.
    fs::remove_file(source.join("rør")).unwrap();
    fs::write(source.join("rør"), "en fil").unwrap();
    let other = capture_tree(&source, &library);
    let error = converge_tree(&other, &target, &[&library], &NoMeter).unwrap_err();
    assert!(
        matches!(error, ContentError::Obstructed { .. }),
        "{error:?}"
    );
}

#[test]
fn holes_stay_holes_and_what_is_full_stays_full() {
    let temp = Temp::new();
    let library = temp.library("l");
    let (source, target) = (temp.join("source"), temp.join("target"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&target).unwrap();
    let sparse = File::create_new(source.join("hullete")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    sparse.write_all_at(&noise(1, 9000), 13 << 20).unwrap();
    File::create_new(source.join("bare hull"))
        .unwrap()
        .set_len(5000)
        .unwrap();
    // A swap file must have no holes, although all of it is zero.
    fs::write(source.join("full"), vec![0; 1 << 20]).unwrap();
    File::open(source.join("full")).unwrap().sync_all().unwrap();
    let manifest = capture_tree(&source, &library);
    converge_tree(&manifest, &target, &[&library], &NoMeter).unwrap();
    assert_eq!(listing(target.as_std_path()), listing(source.as_std_path()));
    let blocks = |name: &str| fs::metadata(target.join(name)).unwrap().blocks() * 512;
    assert!(blocks("hullete") <= 64 << 10, "{}", blocks("hullete"));
    assert_eq!(blocks("bare hull"), 0);
    assert!(blocks("full") >= 1 << 20, "{}", blocks("full"));
    assert_eq!(capture_tree(&target, &library), manifest);
}

#[test]
fn a_tree_can_be_given_to_root() {
    let temp = Temp::new();
    let library = temp.library("l");
    make(&temp.join("source"));
    let manifest = capture_tree(&temp.join("source"), &library);
    let chunks = manifest.chunks().to_vec();
    let owned = manifest.owned_by(0, 0);
    assert_eq!(owned.chunks(), chunks);
    let content::manifest::Shape::Tree(tree) = owned.shape() else {
        panic!("not a tree")
    };
    assert!(
        tree.entries()
            .iter()
            .all(|entry| (entry.metadata.owner, entry.metadata.group) == (0, 0))
    );
}
