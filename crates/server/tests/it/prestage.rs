//! Content up and down, and the bundle of a prestage.

use std::io::{Cursor, Read as _};

use content::{Bundle, Frame, Manifest, Unverified};
use ed25519_dalek::VerifyingKey;
use serde_json::json;
use wire::admin_api::{PackageUses, PrestageDefinition};
use wire::boot_config::Trust;
use wire::digest::Digest;
use wire::package::{ModelRule, PackageKind};

use crate::admin::refusal;
use crate::harness::{Machine, Site};

#[test]
fn content_goes_up_once_and_comes_down_verified() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;class\nPF1;8B\n");
    let (device, order) = Machine::new("PF1").order(&site);
    let java = order
        .packages
        .iter()
        .find(|package| package.name.as_str() == "java")
        .unwrap();
    let bytes = device.manifest(&java.manifest).unwrap();
    let manifest = Manifest::decode(&bytes).unwrap();
    let digests: Vec<Digest> = manifest.chunks().iter().map(|chunk| chunk.digest).collect();
    assert_eq!(site.admin.missing_chunks(digests.clone()).unwrap(), []);
    let unknown = Digest::of(b"never seen");
    let mut stream = device
        .chunks(&[digests.clone(), vec![unknown]].concat())
        .unwrap();
    let mut received = Vec::new();
    let mut raw = Vec::new();
    while let Some(frame) = Frame::read(&mut stream).unwrap() {
        frame.unpack(&mut raw).unwrap();
        received.push(frame.digest());
    }
    assert_eq!(received, digests);
    assert_eq!(refusal(device.manifest(&unknown)).0, 404);
}

#[test]
fn a_package_without_its_content_or_with_a_taken_version_is_refused() {
    let site = Site::new();
    let mut package = site.publish_tree("java", "17", PackageKind::Application, b"one");
    package.title = "Another".into();
    assert_eq!(refusal(site.admin.publish(&package)).1, "version-taken");
    package.version = "18".parse().unwrap();
    package.manifest = Digest::of(b"nowhere");
    assert_eq!(refusal(site.admin.publish(&package)).1, "content-missing");
    let cut: &[u8] = b"not a frame at all";
    let length = Some(cut.len() as u64);
    assert_eq!(
        refusal(site.admin.upload_chunks(&mut &cut[..], length)).1,
        "bad-content"
    );
    assert_eq!(
        refusal(site.admin.upload_manifest(&Digest::of(b"x"), b"y")).1,
        "wrong-digest"
    );
}

#[test]
fn a_prestage_becomes_a_bundle_that_verifies() {
    let site = Site::new();
    site.prepare(10);
    let mut driver = site.publish_tree("wifi", "1", PackageKind::Driver, b"wifi");
    driver.version = "2".parse().unwrap();
    driver.models = vec![ModelRule {
        product: Some("Other 13".into()),
        ..ModelRule::default()
    }];
    site.admin.publish(&driver).unwrap();
    let name = site.define_prestage();
    let plan = site.admin.plan_prestage(&name).unwrap();
    let names = |items: &[wire::admin_api::PlanItem]| {
        let mut names: Vec<String> = items.iter().map(|item| item.name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&plan.kept), ["boot-image", "debian", "java"]);
    assert_eq!(names(&plan.omitted), ["wifi"]);
    assert!(
        plan.kept
            .iter()
            .chain(&plan.omitted)
            .all(|item| !item.reason.is_empty())
    );
    let built = site.admin.build_prestage(&name).unwrap();
    assert_eq!(
        (
            built.version,
            site.admin.build_prestage(&name).unwrap().version
        ),
        (1, 2)
    );
    let mut bytes = Vec::new();
    let path = "/api/v1/prestages/book/versions/1/bundle";
    site.admin
        .download(path, 0)
        .unwrap()
        .0
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes.len() as u64, built.bundle_bytes);
    let mut tail = Vec::new();
    site.admin
        .download(path, built.bundle_bytes - 9)
        .unwrap()
        .0
        .read_to_end(&mut tail)
        .unwrap();
    assert_eq!(tail, bytes[bytes.len() - 9..]);
    let trust: Trust = site.server.anyone().get("/api/v1/trust").unwrap();
    let key = bundle_key(&trust);
    let bundle =
        Bundle::<_, Unverified>::open(Cursor::new(bytes.clone()), built.bundle_bytes).unwrap();
    let bundle = bundle.verify(&[key]).unwrap();
    assert_eq!(
        (bundle.root_digest(), bundle.root().packages.len()),
        (built.bundle, 3)
    );
    assert_eq!(site.admin.prestages().unwrap().len(), 2);
    // Each package says who needs it.
    let uses: PackageUses = site.admin.get("/api/v1/packages/java/uses").unwrap();
    assert!(!uses.steps.is_empty(), "{uses:?}");
    let prestages: Vec<String> = uses.prestages.iter().map(ToString::to_string).collect();
    assert_eq!(prestages, ["book@2"]);
    let unknown = site.admin.get::<PackageUses>("/api/v1/packages/none/uses");
    assert_eq!(refusal(unknown).0, 404);
    let missing =
        site.admin
            .send::<_, serde_json::Value>("POST", "/api/v1/prestages/none/build", &json!({}));
    assert_eq!(refusal(missing).0, 404);
}

#[test]
fn a_factory_sequence_of_ones_own() {
    let site = Site::new();
    site.prepare(10);
    let name = site.define_prestage();
    let mut definition: PrestageDefinition = site
        .admin
        .get(&format!("/api/v1/prestages/{name}"))
        .unwrap();
    definition.stage = Some("own-stage".parse().unwrap());
    let put = || site.admin.put_prestage(&name, &definition);
    assert_eq!(refusal(put()).1, "not-found");
    let stage = |staging: &str| {
        format!(
            "sequence: own-stage\nsteps:\n  - id: disk\n    format-disk:\n      disk: {{ removable: false }}\n      \
             volumes: [{{ role: esp, size: 1GiB }}, {{ role: os, size: rest }}, {{ role: staging, size: {staging} }}]\n  \
             - {{ id: mine, stage-content: {{}} }}\n  - {{ id: os, apply-image: {{ image: debian }} }}\n  - {{ id: boot, \
             install-boot-image: {{ image: boot-image }} }}\n  - {{ id: end, finish: {{ action: shut-down, deployed: \
             false }} }}\n"
        )
    };
    let store = |text: &str| {
        site.admin
            .put_sequence(&"own-stage".parse().unwrap(), text)
            .unwrap()
    };
    store(&stage("4GiB"));
    assert_eq!(refusal(put()).1, "bad-stage");
    store(&stage("2GiB"));
    put().unwrap();
    site.admin.build_prestage(&name).unwrap();
    let mut bytes = Vec::new();
    let path = format!("/api/v1/prestages/{name}/versions/1/bundle");
    site.admin
        .download(&path, 0)
        .unwrap()
        .0
        .read_to_end(&mut bytes)
        .unwrap();
    let length = bytes.len() as u64;
    let trust: Trust = site.server.anyone().get("/api/v1/trust").unwrap();
    let bundle = Bundle::<_, Unverified>::open(Cursor::new(bytes), length).unwrap();
    let bundle = bundle.verify(&[bundle_key(&trust)]).unwrap();
    assert_eq!(bundle.root().stage.steps[1].path.as_str(), "mine");
}

fn bundle_key(trust: &Trust) -> VerifyingKey {
    let key: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&trust.bundle_keys[0][at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    VerifyingKey::from_bytes(key.as_slice().try_into().unwrap()).unwrap()
}
