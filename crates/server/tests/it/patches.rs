//! Patches from the last release of a package to the current one, as a device fetches them.

use std::io::Read as _;
use std::time::{Duration, Instant};

use content::{Library, Patch, StoredPatch};
use wire::digest::Digest;
use wire::package::PackageKind;

use crate::admin::refusal;
use crate::harness::{Machine, Site};

/// Making a patch of a few kilobytes takes no time; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The patch between two manifests, once the server has made it.
pub(crate) fn wait_for(site: &Site, from: &Digest, to: &Digest) -> StoredPatch {
    let library = Library::open(&site.data.join("library")).unwrap();
    let since = Instant::now();
    loop {
        let patches = library.patches().unwrap();
        let found = patches
            .iter()
            .find(|patch| patch.from == *from && patch.to == *to);
        if let Some(found) = found {
            return *found;
        }
        assert!(since.elapsed() < PATIENCE, "no patch from {from} to {to}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lines of which only the first is another one in each release.
fn release(number: u32) -> Vec<u8> {
    let lines = (0..20_000).map(|line| format!("{}\n", Digest::of(format!("{line}").as_bytes())));
    format!("release {number}\n")
        .chars()
        .chain(lines.flat_map(|line| line.into_bytes()).map(char::from))
        .collect::<String>()
        .into_bytes()
}

#[test]
fn a_device_fetches_patches_to_what_is_current() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial\nPF1\n");
    let (device, _) = Machine::new("PF1").order(&site);
    let publish = |number: u32| {
        let version = number.to_string();
        site.publish_tree("words", &version, PackageKind::Files, &release(number))
    };
    let (old, new) = (publish(1), publish(2));
    let stored = wait_for(&site, &old.manifest, &new.manifest);
    let offers = device.patches(&new.manifest).unwrap();
    assert_eq!(offers.len(), 1);
    assert_eq!(
        (offers[0].from, offers[0].bytes, offers[0].front_bytes),
        (old.manifest, stored.bytes, stored.front_bytes)
    );
    let read = |offset: u64, bytes: u64| {
        let mut read = Vec::new();
        let stream = device.patch(&old.manifest, &new.manifest, offset, bytes);
        stream.unwrap().read_to_end(&mut read).unwrap();
        read
    };
    let whole = read(0, stored.bytes);
    assert_eq!(whole.len() as u64, stored.bytes);
    assert_eq!(read(7, 30), whole[7..37]);
    let known = device.manifest(&old.manifest).unwrap();
    let patch = Patch::read(&mut whole.as_slice(), &known).unwrap();
    assert_eq!(Digest::of(patch.manifest()), new.manifest);
    assert!(stored.bytes * 10 < new.content_bytes, "{stored:?}");
    assert_eq!(device.patches(&old.manifest).unwrap(), []);
    assert_eq!(
        refusal(device.patch(&new.manifest, &old.manifest, 0, 1).map(|_| ())).0,
        404
    );

    // What leads to an earlier release goes when there is a newer one.
    let newest = publish(3);
    wait_for(&site, &old.manifest, &newest.manifest);
    wait_for(&site, &new.manifest, &newest.manifest);
    assert_eq!(device.patches(&new.manifest).unwrap(), []);
    assert_eq!(device.patches(&newest.manifest).unwrap().len(), 2);
}
