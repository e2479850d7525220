//! What changed since a prestage was built, to the byte.

use content::{Library, Manifest, Patch};
use wire::device_api::{CheckInReply, Staged};
use wire::digest::Digest;
use wire::drift::{Change, PackageDrift, PrestageDrift, PrestageId};
use wire::package::{Package, PackageKind};

use crate::admin::refusal;
use crate::harness::{Machine, SEQUENCE, Site, good_run, send};

fn id(version: u32) -> PrestageId {
    PrestageId {
        prestage: "book".parse().unwrap(),
        version,
    }
}

/// What a device that has `before` fetches for `after`, counted from the server's own library.
fn expected(site: &Site, before: &Package, after: &Package) -> u64 {
    let library = Library::open(&site.data.join("library")).unwrap();
    let manifest = |package: &Package| -> Manifest { library.manifest(&package.manifest).unwrap() };
    let held: Vec<Digest> = manifest(before).chunks().iter().map(|c| c.digest).collect();
    // The server makes the patch in its own time.
    let stored = crate::patches::wait_for(site, &before.manifest, &after.manifest);
    let mut file = library.patch(&stored.from, &stored.to).unwrap().unwrap();
    let known = library.manifest_bytes(&stored.from).unwrap().unwrap();
    let patch = Patch::read(&mut file, &known).unwrap();
    let (mut parts, mut made) = (0, Vec::new());
    for (bytes, makes) in patch.worth(|digest| held.contains(digest)) {
        parts += bytes;
        made.extend(makes);
    }
    let frames = manifest(after)
        .chunks()
        .iter()
        .filter(|chunk| !held.contains(&chunk.digest) && !made.contains(&chunk.digest))
        .map(|chunk| {
            let mut bytes = Vec::new();
            let frame = library.frame(&chunk.digest).unwrap().unwrap();
            frame.write(&mut bytes).unwrap();
            bytes.len() as u64
        })
        .sum::<u64>();
    stored.front_bytes + parts + frames
}

fn drift_of<'d>(drift: &'d PrestageDrift, name: &str) -> &'d PackageDrift {
    let packages = &drift.versions[0].packages;
    packages
        .iter()
        .find(|row| row.name.as_str() == name)
        .unwrap()
}

#[test]
fn a_package_that_changed_costs_its_new_chunks() {
    let site = Site::new();
    site.prepare(10);
    let name = site.define_prestage();
    let rows = site.admin.packages().unwrap().into_iter();
    let old = rows
        .map(|row| row.package)
        .find(|package| package.name.as_str() == "java")
        .unwrap();
    site.admin.build_prestage(&name).unwrap();
    let fresh = site.admin.prestage_drift(&name, None).unwrap();
    assert_eq!(
        fresh.versions.len(),
        1,
        "the latest, though nobody carries it"
    );
    assert_eq!(
        (fresh.versions[0].fetch_bytes, fresh.versions[0].devices),
        (0, 0)
    );
    assert_eq!(fresh.versions[0].steps, Some(vec![]));

    let new = site.publish_tree("java", "18", PackageKind::Application, b"java 18");
    site.publish_tree("words", "1", PackageKind::Files, b"blabaer");
    let text = SEQUENCE.replace("size: 2GiB", "size: 3GiB").replace(
        "  - id: boot\n",
        "  - id: words\n    apply-files: { package: words, to: /usr/share/dict }\n  - id: boot\n",
    );
    let sequence = "deploy".parse().unwrap();
    site.admin.put_sequence(&sequence, &text).unwrap();
    let drift = site.admin.prestage_drift(&name, Some(1)).unwrap();
    let java = drift_of(&drift, "java");
    assert_eq!(
        (java.staged.as_ref(), java.now.as_ref()),
        (Some(&old.version), Some(&new.version))
    );
    assert_eq!(java.fetch_bytes, expected(&site, &old, &new));
    let words = drift_of(&drift, "words");
    assert!(words.staged.is_none() && words.fetch_bytes > 0);
    assert_eq!(drift_of(&drift, "debian").fetch_bytes, 0);
    let version = &drift.versions[0];
    assert_eq!(version.fetch_bytes, java.fetch_bytes + words.fetch_bytes);
    let steps = version.steps.as_ref().unwrap();
    assert_eq!((steps.len(), steps[0].change), (1, Change::Changed));
    assert_eq!(steps[0].details, ["with.volumes[2].size: 2 GiB → 3 GiB"]);

    site.admin.build_prestage(&name).unwrap();
    let diff = site.admin.prestage_diff(&id(1), &id(2)).unwrap();
    let changed: Vec<&str> = diff.packages.iter().map(|row| row.name.as_str()).collect();
    assert_eq!((changed, diff.unchanged), (vec!["java", "words"], 2));
    assert_eq!(diff.packages[0].fetch_bytes, java.fetch_bytes);
    assert_eq!(diff.steps.as_ref(), Some(steps));
    assert!(diff.to_bytes > diff.from_bytes);
    let back = site.admin.prestage_diff(&id(2), &id(1)).unwrap();
    assert_eq!(
        (&back.packages[1].to, back.packages[1].fetch_bytes),
        (&None, 0)
    );

    std::fs::remove_file(site.data.join("bundles/book@1.bundle")).unwrap();
    let drift = site.admin.prestage_drift(&name, Some(1)).unwrap();
    assert_eq!(drift.versions[0].steps, None);
    assert_eq!(refusal(site.admin.prestage_diff(&id(1), &id(9))).0, 404);
    assert_eq!(refusal(site.admin.prestage_drift(&name, Some(9))).0, 404);
    let none = "none".parse().unwrap();
    assert_eq!(refusal(site.admin.prestage_drift(&none, None)).0, 404);
}

#[test]
fn devices_are_counted_by_what_they_said_last() {
    let site = Site::new();
    site.prepare(10);
    let name = site.define_prestage();
    for _ in 0..3 {
        site.admin.build_prestage(&name).unwrap();
    }
    site.import("serial;class\nPF1;8A\nPF2;8A\nPF3;8A\n");
    site.receipt("PF1", 1, "staged");
    site.receipt("pf2", 1, "staged");
    site.receipt("PF3", 1, "staged");
    site.receipt("PF3", 1, "failed");
    site.receipt("PF4", 1, "staged");
    let mut machine = Machine::new("PF2");
    machine.staged = Some(Staged {
        prestage: name.clone(),
        version: 2,
        bundle: Digest::of(b"2"),
    });
    let CheckInReply::Run { session, order, .. } = machine.check_in(&site) else {
        panic!("no order");
    };
    let counted = |site: &Site| -> Vec<(u32, u32, u32)> {
        let drift = site.admin.prestage_drift(&name, None).unwrap();
        let row = |version: &wire::drift::VersionDrift| {
            (version.version, version.devices, version.deployed)
        };
        drift.versions.iter().map(row).collect()
    };
    assert_eq!(
        counted(&site),
        [(3, 0, 0), (2, 1, 0), (1, 2, 0)],
        "PF4 counts although nobody imported it"
    );
    let device = site.server.anyone().with_token(&session);
    send(&device, order.run, &good_run(order.run));
    assert_eq!(counted(&site), [(3, 0, 0), (2, 1, 1), (1, 2, 0)]);
}

#[test]
fn a_school_admin_counts_the_machines_of_their_own_site() {
    let site = Site::new();
    site.prepare(10);
    let name = site.define_prestage();
    site.admin.build_prestage(&name).unwrap();
    site.import("serial;site\nPF1;BJO\nPF2;KON\nPF3;KON\nPF5;NES\n");
    for serial in ["PF1", "PF2", "PF3", "PF4"] {
        site.receipt(serial, 1, "staged");
    }
    let counted = |client: &client::Client| {
        let drift = client.prestage_drift(&name, None).unwrap();
        drift.versions[0].devices
    };
    assert_eq!(counted(&site.admin), 4);
    assert_eq!(counted(&site.school_admin("BJO")), 1);
    assert_eq!(counted(&site.school_admin("NES")), 0);
}
