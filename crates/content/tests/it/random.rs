//! Random trees and images, all the way: captured, bundled, staged, converged, each cut somewhere, and in the end compared with
//! the original by other code than that which made it.
//!
//! In them are sparse files, hard links, FIFOs, sockets, extended attributes and access control lists, names of any bytes, empty
//! files and files of many chunks, times long ago and far ahead; devices, capabilities and the attributes of root, too, if root
//! runs this. A folder that was made before a cut keeps the time of the cut.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use camino::Utf8Path;
use content::{
    Bundle, ContentError, Library, Manifest, NoMeter, compare_image, compare_tree, converge_image,
    converge_library, converge_tree, write_bundle,
};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::bundle::{key, root};
use crate::support::{StopAfter, Temp, capture_image, capture_tree, listing, noise, run};

#[derive(Debug, Clone)]
enum Kind {
    Folder,
    File {
        bytes: usize,
        seed: u64,
        is_sparse: bool,
    },
    Link(Vec<u8>),
    /// Another name of what was made last and is no folder.
    HardLink,
    Fifo,
    Socket,
    /// The driver and which one of its devices; blocks or characters.
    Device(u32, u32, bool),
}

#[derive(Debug, Clone)]
struct Thing {
    kind: Kind,
    mode: u32,
    seconds: i64,
    nanoseconds: u32,
    attributes: Vec<(String, Vec<u8>)>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = proptest::collection::vec(any::<u8>(), 1..20);
    let text = prop_oneof![
        Just("blåbær".as_bytes().to_vec()),
        Just(b" ".to_vec()),
        Just(vec![b'x'; 255])
    ];
    prop_oneof![3 => any_bytes, 1 => text].prop_filter("names that can't be", |name| {
        !name.contains(&0)
            && !name.contains(&b'/')
            && name != b"."
            && name != b".."
            && !name.starts_with(b".forestage-")
    })
}

fn thing() -> impl Strategy<Value = Thing> {
    let bytes = prop_oneof![4 => 0..6000_usize, 2 => Just(0), 1 => 250_000..270_000_usize, 1 => Just(3 << 20)];
    let file = (bytes, 0..20_u64, any::<bool>()).prop_map(|(bytes, seed, is_sparse)| Kind::File {
        bytes,
        seed,
        is_sparse,
    });
    let target = proptest::collection::vec(1..=255_u8, 1..100).prop_map(Kind::Link);
    let device = (0..4096_u32, 0..1_048_576_u32, any::<bool>())
        .prop_map(|(major, minor, is_block)| Kind::Device(major, minor, is_block));
    let special = prop_oneof![Just(Kind::Fifo), Just(Kind::Socket), device];
    let kind = prop_oneof![
        2 => Just(Kind::Folder), 6 => file, 1 => target, 1 => Just(Kind::HardLink), 1 => special
    ];
    // What ext4 can tell: from 1901 to 2446.
    let seconds = prop_oneof![
        Just(-2_000_000_000),
        Just(-1),
        Just(0),
        Just(1_790_000_000),
        Just(10_000_000_000_i64)
    ];
    let attributes = prop_oneof![
        2 => Just(Vec::new()).boxed(),
        1 => proptest::collection::vec(attribute(), 1..4).boxed(),
    ];
    (
        kind,
        0..0o10000_u32,
        seconds,
        0..1_000_000_000_u32,
        attributes,
    )
        .prop_map(|(kind, mode, seconds, nanoseconds, attributes)| Thing {
            kind,
            // Whoever runs the tests must be able to read it.
            mode: mode | 0o700,
            seconds,
            nanoseconds,
            attributes,
        })
}

/// An attribute that something may have, if it is of the right kind.
fn attribute() -> impl Strategy<Value = (String, Vec<u8>)> {
    let value = || proptest::collection::vec(any::<u8>(), 0..300);
    let named = |begin: &'static str| {
        ("[a-zæøå .]{1,20}", value())
            .prop_map(move |(name, value)| (format!("{begin}{name}"), value))
    };
    let list = |name: &'static str| {
        (0..8_u16, 0..8_u16).prop_map(move |(one, mask)| (name.to_owned(), access_list(one, mask)))
    };
    // Version 2, effective, and what is permitted.
    let capability = (0..1024_u32).prop_map(|permitted| {
        let words = [0x0200_0001, permitted, 0, 0, 0];
        let value = words
            .iter()
            .flat_map(|word: &u32| word.to_le_bytes())
            .collect();
        ("security.capability".to_owned(), value)
    });
    prop_oneof![
        named("user."),
        named("trusted."),
        list("system.posix_acl_access"),
        list("system.posix_acl_default"),
        capability,
    ]
}

/// An access control list that lets user 1000 do `one`, as the kernel takes it.
fn access_list(one: u16, mask: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [
        (0x01, 7, NOBODY),
        (0x02, one, 1000),
        (0x04, 5, NOBODY),
        (0x10, mask, NOBODY),
        (0x20, 0, NOBODY),
    ];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, may, who) in entries {
        value.extend_from_slice(&u16::to_le_bytes(tag));
        value.extend_from_slice(&u16::to_le_bytes(may));
        value.extend_from_slice(&u32::to_le_bytes(who));
    }
    value
}

/// Whether something of this kind can have such an attribute, made by whoever runs this.
fn can_have(kind: &Kind, attribute: &str, is_root: bool) -> bool {
    let is_folder = matches!(kind, Kind::Folder);
    let is_file = matches!(kind, Kind::File { .. });
    match attribute.split('.').next() {
        Some("trusted") => is_root,
        Some("security") => is_root && is_file,
        Some("user") => is_file || is_folder,
        _ => is_folder || (is_file && attribute == "system.posix_acl_access"),
    }
}

/// Things by the folder they are in (one of those made before, or the top) and their name.
type Plan = Vec<(prop::sample::Index, Vec<u8>, Thing)>;

fn plan() -> impl Strategy<Value = Plan> {
    proptest::collection::vec((any::<prop::sample::Index>(), name(), thing()), 0..25)
}

fn make(top: &Path, plan: &Plan) {
    fs::create_dir(top).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let mut folders = vec![top.to_path_buf()];
    let mut last: Option<(PathBuf, &Thing)> = None;
    let mut made: BTreeMap<PathBuf, &Thing> = BTreeMap::new();
    for (folder, name, thing) in plan {
        let path = folder.get(&folders).join(OsStr::from_bytes(name));
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        let special = |kind, device| {
            rustix::fs::mknodat(CWD, &path, kind, Mode::RWXU, device).unwrap();
        };
        match &thing.kind {
            Kind::Folder => {
                fs::create_dir(&path).unwrap();
                folders.push(path.clone());
            }
            Kind::File {
                bytes,
                seed,
                is_sparse,
            } => {
                let file = File::create_new(&path).unwrap();
                if *is_sparse {
                    file.set_len(*bytes as u64).unwrap();
                    let end = noise(*seed, (*bytes).min(10));
                    file.write_all_at(&end, (*bytes - end.len()) as u64)
                        .unwrap();
                } else {
                    file.write_all_at(&noise(*seed, *bytes), 0).unwrap();
                }
            }
            Kind::Link(to) => symlink(OsStr::from_bytes(to), &path).unwrap(),
            Kind::HardLink => match &last {
                Some((first, _)) => fs::hard_link(first, &path).unwrap(),
                None => continue,
            },
            Kind::Fifo => special(FileType::Fifo, 0),
            Kind::Socket => special(FileType::Socket, 0),
            Kind::Device(..) if !is_root => continue,
            Kind::Device(major, minor, is_block) => {
                let kind = match is_block {
                    true => FileType::BlockDevice,
                    false => FileType::CharacterDevice,
                };
                special(kind, rustix::fs::makedev(*major, *minor));
            }
        }
        match (&thing.kind, &last) {
            (Kind::Folder, _) => {}
            // It stays what it is under its first name.
            (Kind::HardLink, Some((_, first))) => {
                made.insert(path, *first);
                continue;
            }
            _ => last = Some((path.clone(), thing)),
        }
        made.insert(path, thing);
    }
    // Times last, and from the inside out: making something changes the time of its folder.
    for (path, thing) in made.iter().rev() {
        if !matches!(thing.kind, Kind::Link(_)) {
            fs::set_permissions(path, fs::Permissions::from_mode(thing.mode)).unwrap();
        }
        for (name, value) in &thing.attributes {
            if can_have(&thing.kind, name, is_root) {
                let any = XattrFlags::empty();
                rustix::fs::lsetxattr(path, name.as_str(), value, any).unwrap();
            }
        }
        let time = Timespec {
            tv_sec: thing.seconds,
            tv_nsec: thing.nanoseconds.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// What rsync would change to make one folder as the other, in all it knows of; the top folder itself doesn't matter.
fn rsync(from: &Utf8Path, to: &Utf8Path, is_cut: bool) -> Vec<String> {
    let (from, to) = (format!("{from}/"), format!("{to}/"));
    let mut args = vec!["-aHAXn", "--checksum", "--delete", "--itemize-changes"];
    args.push("--modify-window=-1");
    if is_cut {
        args.push("--omit-dir-times");
    }
    args.extend([from.as_str(), to.as_str()]);
    let told = run("rsync", "rsync", &args);
    told.lines()
        .filter(|line| !line.ends_with(" ./"))
        .map(ToOwned::to_owned)
        .collect()
}

/// Does it with a stop after some of the bytes, and again until the end. Also whether it did stop.
fn with_a_cut<T>(
    cut: u64,
    mut work: impl FnMut(&StopAfter) -> Result<T, ContentError>,
) -> (T, bool) {
    match work(&StopAfter::new(cut)) {
        Err(ContentError::Cancelled) => (work(&StopAfter::new(u64::MAX)).unwrap(), true),
        done => (done.unwrap(), false),
    }
}

/// Everything in a folder. After a cut without the times of folders: those made before it look like any that were there.
fn seen(folder: &Utf8Path, is_cut: bool) -> BTreeMap<Vec<u8>, String> {
    let mut seen = listing(folder.as_std_path());
    for text in seen.values_mut().filter(|text| text.starts_with("folder")) {
        if is_cut && let Some(end) = text.rfind(' ') {
            text.truncate(end);
        }
    }
    seen
}

/// Both manifests go from the library `server` through a bundle to one at `device`, which is opened anew after the cut.
fn stage(temp: &Temp, server: &Library, manifests: &[&Manifest], cut: u64) -> Library {
    let digests: Vec<_> = (manifests.iter())
        .map(|manifest| server.put_manifest(&manifest.encode()).unwrap())
        .collect();
    let path = temp.join("bundle");
    let mut file = File::create_new(&path).unwrap();
    let (_, length) =
        write_bundle(root(&digests), server, Some(&key()), &mut file, &NoMeter).unwrap();
    let bundle = Bundle::open(File::open(&path).unwrap(), length).unwrap();
    let bundle = bundle.verify(&[key().verifying_key()]).unwrap();
    let manifests: Vec<Manifest> = (bundle.manifests().iter())
        .map(|(_, bytes)| Manifest::decode(bytes).unwrap())
        .collect();
    with_a_cut(cut, |meter| {
        let library = temp.library("device");
        converge_library(&manifests, &library, &[&bundle], meter)?;
        Ok(library)
    })
    .0
}

fn check(plan: &Plan, blocks: &[(u64, u64)], prior: u64, cuts: [u64; 3]) {
    let temp = Temp::new();
    let tree = temp.join("tree");
    make(tree.as_std_path(), plan);
    let image = make_image(&temp.join("image"), blocks);
    let server = temp.library("server");
    let tree_manifest = capture_tree(&tree, &server);
    let image_manifest = capture_image(&temp.join("image"), &server);
    // Another library gets the same bytes: what is built from the same input is the same.
    assert_eq!(
        capture_tree(&tree, &temp.library("other")).encode(),
        tree_manifest.encode()
    );
    let device = stage(&temp, &server, &[&image_manifest, &tree_manifest], cuts[0]);

    let target = temp.join("target");
    fs::create_dir(&target).unwrap();
    let (_, is_cut) = with_a_cut(cuts[1], |meter| {
        converge_tree(&tree_manifest, &target, &[&device], meter)
    });
    assert_eq!(seen(&target, is_cut), seen(&tree, is_cut));
    assert_eq!(rsync(&tree, &target, is_cut), [""; 0]);
    assert_eq!(compare_tree(&tree_manifest, &target, &NoMeter).unwrap(), []);

    let volume = temp.join("volume");
    fs::write(&volume, noise(prior, image.len())).unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&volume)
        .unwrap();
    with_a_cut(cuts[2], |meter| {
        converge_image(&image_manifest, &file, &[&device], meter)
    });
    assert!(fs::read(&volume).unwrap() == image, "the volume is another");
    assert_eq!(
        compare_image(&image_manifest, &file, &NoMeter).unwrap(),
        None
    );
}

/// An image of 2 MiB with noise in some of its blocks, and what is in it.
fn make_image(path: &Utf8Path, blocks: &[(u64, u64)]) -> Vec<u8> {
    let file = File::create_new(path).unwrap();
    file.set_len(2 << 20).unwrap();
    for (block, seed) in blocks {
        file.write_all_at(&noise(*seed, 4096), block * 4096)
            .unwrap();
    }
    fs::read(path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn what_goes_in_comes_out(
        plan in plan(),
        blocks in proptest::collection::vec((0..512_u64, 0..9_u64), 0..200),
        prior in 0..9_u64,
        cuts in proptest::array::uniform3(0..4_000_000_u64),
    ) {
        check(&plan, &blocks, prior, cuts);
    }
}
