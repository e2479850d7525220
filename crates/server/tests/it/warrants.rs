//! Warrants, from the first wipe key to a machine that is written over once: what a server hands out, what it holds back and says,
//! and what it takes from whoever has signed.

use client::ClientError;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde_json::{Value, json};
use wire::admin_api::{Deployment, Purpose};
use wire::boot_config::Trust;
use wire::bundle::SignatureText;
use wire::deployments::WarrantsStand;
use wire::device_api::{CheckInReply, RefusalReason, RefusedOrder, ToldMark};
use wire::keys::{KeyPurpose, KeyState, NewKey, PublicKey};
use wire::mark::MarkState;
use wire::names::{DeploymentName, RunId};
use wire::reasons::{MachineReason, WarningReason};
use wire::warrant::{
    SignedWarrant, Warrant, WarrantFile, WarrantPart, WarrantRequest, WarrantsTaken, signed_bytes,
};

use crate::admin::refusal;
use crate::harness::{Machine, SEQUENCE, Site, event, good_run, send};

fn wipe_key() -> SigningKey {
    SigningKey::from_bytes(&[77; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::from_bytes(key.verifying_key().as_bytes())
}

fn winter() -> DeploymentName {
    "winter".parse().unwrap()
}

/// A county with a wipe key, and laptops that were imported.
fn site() -> Site {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;class\nPF1;8B\nPF2;8B\n");
    add_key(&site, "wipe", Some(public(&wipe_key()))).unwrap();
    site
}

fn add_key(site: &Site, name: &str, public_key: Option<PublicKey>) -> Result<(), ClientError> {
    let new = NewKey {
        name: name.parse().unwrap(),
        purpose: KeyPurpose::Wipe,
        public_key,
    };
    site.admin.add_key(&new).map(|row| {
        assert_eq!(
            (row.purpose, row.state),
            (KeyPurpose::Wipe, KeyState::Trusted)
        );
    })
}

/// Whom a boot image that is built now trusts.
fn trust(site: &Site) -> Trust {
    site.server.anyone().trust().unwrap()
}

/// A laptop whose boot image knows the key.
fn laptop(serial: &str) -> Machine {
    let mut machine = Machine::new(serial);
    machine.wipe_keys = vec![public(&wipe_key())];
    machine.mark = Some(ToldMark {
        state: MarkState::Staged,
        run: None,
    });
    machine
}

/// Runs what it is given to the end, and marks its disk as the agent does.
fn deploy(site: &Site, machine: &mut Machine) -> RunId {
    let (client, order) = machine.order(site);
    send(&client, order.run, &good_run(order.run));
    machine.mark = Some(ToldMark {
        state: MarkState::Deployed,
        run: Some(order.run),
    });
    order.run
}

/// The same machines are to be deployed anew.
fn begin_winter(site: &Site) {
    site.import("serial;class\nPF1;8B\nPF2;8B\n");
    site.create(&winter_deployment());
}

fn winter_deployment() -> Deployment {
    Deployment {
        name: winter(),
        collection: "laptops".parse().unwrap(),
        sequence: "deploy".parse().unwrap(),
        purpose: Purpose::Required,
        expected_seconds: 600,
        leave_collection_on_success: true,
        cap: 10,
        stopped: false,
        slots: 0,
        window: None,
    }
}

/// How many machines would wait for a warrant, as it is told before the deployment is made or changed.
fn would_wait(site: &Site) -> Option<u32> {
    let preview = site.admin.preview_deployment(&winter_deployment()).unwrap();
    preview.said.iter().find_map(|said| match said {
        WarningReason::NeedWarrants { devices } => Some(*devices),
        _ => None,
    })
}

/// A machine that was deployed once and waits for a warrant now, and what is to be signed.
fn waiting(site: &Site) -> (Machine, WarrantRequest) {
    let mut one = laptop("PF1");
    deploy(site, &mut one);
    begin_winter(site);
    waits(site, &one);
    (one, site.admin.warrant_request(&winter()).unwrap())
}

fn sign(request: &WarrantRequest, key: &SigningKey) -> WarrantFile {
    let warrants = request.machines.iter().map(|machine| {
        let text = request.warrant(machine).text();
        let signature = key.sign(&signed_bytes(&text)).to_bytes();
        WarrantPart {
            text,
            signature: SignatureText::from_bytes(&signature),
        }
    });
    WarrantFile {
        format: 1,
        deployment: request.deployment.clone(),
        key: public(key),
        warrants: warrants.collect(),
    }
}

fn stand(site: &Site) -> Option<WarrantsStand> {
    let status: Value = site.admin.get("/api/v1/deployments/winter/status").unwrap();
    serde_json::from_value(status["warrants"].clone()).unwrap()
}

fn waits(site: &Site, machine: &Machine) {
    let CheckInReply::Idle {
        message,
        retry_seconds,
        ..
    } = machine.check_in(site)
    else {
        panic!("no order may be handed out");
    };
    assert!(message.contains("waits for a warrant"), "{message}");
    assert!(retry_seconds.is_some(), "it waits, and starts no OS");
    let said = site.device(&machine.facts.serial).said;
    let deployment = winter().to_string();
    assert_eq!(said, Some(MachineReason::NeedsWarrant { deployment }));
}

/// What is handed out with the order.
fn warrant(site: &Site, machine: &Machine) -> Option<SignedWarrant> {
    match machine.check_in(site) {
        CheckInReply::Run { warrant, .. } => warrant.map(|warrant| *warrant),
        other => panic!("no order: {other:?}"),
    }
}

#[test]
fn a_deployed_machine_is_written_over_once_somebody_has_signed() {
    let site = site();
    let trust = trust(&site);
    assert_eq!(trust.wipe_keys, [public(&wipe_key())]);
    assert_eq!(trust.bundle_keys.len(), 1);

    // A first deployment needs none.
    let [mut one, mut two] = ["PF1", "PF2"].map(laptop);
    let first = deploy(&site, &mut one);
    site.import("serial;class\nPF1;8B\nPF2;8B\n");
    assert_eq!(would_wait(&site), Some(1));
    deploy(&site, &mut two);
    begin_winter(&site);
    assert_eq!(would_wait(&site), Some(2));
    for machine in [&one, &two] {
        waits(&site, machine);
    }
    assert_eq!(stand(&site), Some(WarrantsStand { ready: 0, wait: 2 }));

    let request = site.admin.warrant_request(&winter()).unwrap();
    let serials: Vec<&str> = request
        .machines
        .iter()
        .map(|machine| machine.serial.as_str())
        .collect();
    assert_eq!(serials, ["PF1", "PF2"]);
    assert_eq!(request.machines[0].run, Some(first));
    assert_eq!(request.machines[0].model, "Acme Book 14");
    let taken = site
        .admin
        .bring_warrants(&sign(&request, &wipe_key()))
        .unwrap();
    assert_eq!(
        taken,
        WarrantsTaken {
            taken: 2,
            left_out: 0,
            needed_keys: Vec::new(),
            wait: 0
        }
    );
    assert_eq!(stand(&site), Some(WarrantsStand { ready: 2, wait: 0 }));
    assert_eq!(would_wait(&site), None);
    let audit: Value = site.admin.get("/api/v1/audit").unwrap();
    assert!(audit.to_string().contains("warrants-added"));

    // Each gets its own, at every check-in until the run is over.
    for machine in [&one, &two] {
        for _ in 0..2 {
            let signed = warrant(&site, machine).unwrap();
            let says = Warrant::parse(&signed.text).unwrap();
            assert_eq!(says.serial, machine.facts.serial);
            assert_eq!(says.run, machine.mark.unwrap().run);
            let signature = ed25519_dalek::Signature::from_bytes(signed.signature.as_bytes());
            let key: VerifyingKey = wipe_key().verifying_key();
            key.verify_strict(&signed_bytes(&signed.text), &signature)
                .unwrap();
        }
    }
    let second = deploy(&site, &mut one);
    // Cut off between the mark and the end of its run: it is in the middle of it, and needs none.
    let (client, order) = two.order(&site);
    two.run = Some(order.run);
    two.mark = Some(ToldMark {
        state: MarkState::Deployed,
        run: Some(order.run),
    });
    assert_eq!(warrant(&site, &two), None);
    send(&client, order.run, &good_run(order.run));
    // Spent: all over again wants another one.
    let rerun = json!({ "confirm": "rerun PF1" });
    let _: Value = site
        .admin
        .send("POST", &format!("/api/v1/runs/{second}/rerun"), &rerun)
        .unwrap();
    waits(&site, &one);
    let request = site.admin.warrant_request(&winter()).unwrap();
    let [machine] = &request.machines[..] else {
        panic!("{request:?}");
    };
    assert_eq!(
        (machine.serial.as_str(), machine.run),
        ("PF1", Some(second))
    );
    // A restart forgets nothing.
    let site = site.restart();
    waits(&site, &one);
    site.admin
        .bring_warrants(&sign(&request, &wipe_key()))
        .unwrap();
    assert!(warrant(&site, &one).is_some());
}

#[test]
fn an_order_that_its_machine_refuses_is_shown_until_the_machine_begins() {
    let site = site();
    let mut one = laptop("PF1");
    let (client, order) = one.order(&site);
    let refuses = |run, reason| {
        let text = format!("the disk\n{}", "x".repeat(5000));
        Some(RefusedOrder { run, reason, text })
    };
    let audited = || {
        let path = "/api/v1/audit?action=order-refused";
        let rows: Value = site.admin.get(path).unwrap();
        rows.as_array().unwrap().len()
    };
    one.refused = refuses(order.run, RefusalReason::UnknownDisk);
    for _ in 0..3 {
        one.check_in(&site);
    }
    let said = site.device("PF1").said;
    let Some(MachineReason::RefusedUnknownDisk { deployment, why }) = said else {
        panic!("{said:?}");
    };
    assert_eq!(deployment, "autumn");
    assert!(why.starts_with("the disk") && !why.contains('\n'), "{why}");
    assert_eq!(why.chars().count(), 400);
    assert_eq!(audited(), 1);

    // Another one is news; that of another run is none of this order.
    one.refused = refuses(order.run, RefusalReason::NoWarrant);
    one.check_in(&site);
    let deployment = "autumn".to_owned();
    let said = Some(MachineReason::RefusedWithoutWarrant { deployment });
    assert_eq!(site.device("PF1").said, said);
    assert_eq!(audited(), 2);
    one.refused = refuses(RunId::random(), RefusalReason::NoWarrant);
    one.check_in(&site);
    assert_eq!(site.device("PF1").said, None);

    // It begins without another check-in.
    one.refused = refuses(order.run, RefusalReason::NoWarrant);
    one.check_in(&site);
    assert!(site.device("PF1").said.is_some());
    send(&client, order.run, &good_run(order.run)[..1]);
    assert_eq!(site.device("PF1").said, None);
}

#[test]
fn what_is_not_signed_for_just_that_is_not_taken() {
    let site = site();
    let (one, request) = waiting(&site);
    let good = sign(&request, &wipe_key());
    let refused = |file: &WarrantFile| refusal(site.admin.bring_warrants(file));
    let changed = |change: &dyn Fn(&mut WarrantFile)| {
        let mut file = good.clone();
        change(&mut file);
        refused(&file)
    };
    let other = SigningKey::from_bytes(&[78; 32]);
    assert_eq!(
        refused(&sign(&request, &other)),
        (422, "unknown-key".into())
    );
    let bundle_key = trust(&site).bundle_keys[0].parse().unwrap();
    assert_eq!(
        changed(&|file| file.key = bundle_key),
        (422, "unknown-key".into())
    );
    assert_eq!(
        changed(&|file| file.warrants[0].text = file.warrants[0].text.replace("PF1", "PF2")),
        (422, "bad-signature".into())
    );
    assert_eq!(
        changed(&|file| file.format = 2),
        (400, "bad-warrants".into())
    );
    // Signed for another deployment, in a file for this one.
    let mut elsewhere = request.clone();
    elsewhere.deployment = "autumn".parse().unwrap();
    let elsewhere = sign(&elsewhere, &wipe_key());
    assert_eq!(
        changed(&|file| file.warrants = elsewhere.warrants.clone()),
        (422, "other-deployment".into())
    );
    let path = "/api/v1/deployments/winter/warrants";
    let sent: Result<Value, _> = site.admin.send("PUT", path, &elsewhere);
    assert_eq!(refusal(sent), (422, "other-deployment".into()));
    waits(&site, &one);
    assert_eq!(stand(&site), Some(WarrantsStand { ready: 0, wait: 1 }));

    // One that has changed since is left out, and the others aren't held up.
    let device = site.device("PF1").device;
    site.admin.bring_warrants(&good).unwrap();
    assert!(warrant(&site, &one).is_some());
    let _: Value = site
        .admin
        .send("POST", &format!("/api/v1/devices/{device}/reset-key"), &())
        .unwrap();
    let left = site.admin.bring_warrants(&good).unwrap();
    assert_eq!((left.taken, left.left_out), (0, 1));

    // A key that is retired allows nothing any more.
    site.admin.retire_key(&"wipe".parse().unwrap()).unwrap();
    assert_eq!(stand(&site), None);
    assert_eq!(refused(&good), (422, "retired-key".into()));
    assert_eq!(trust(&site).wipe_keys, []);
}

#[test]
fn a_wipe_key_never_lies_on_the_server_and_signs_no_bundle() {
    let site = site();
    assert_eq!(
        refusal(add_key(&site, "here", None)),
        (400, "wipe-key-elsewhere".into())
    );
    assert_eq!(
        refusal(site.admin.use_key(&"wipe".parse().unwrap())),
        (409, "wipe-key".into())
    );
    assert_eq!(
        refusal(add_key(&site, "again", Some(public(&wipe_key())))),
        (409, "key-exists".into())
    );
}

#[test]
fn a_warrant_by_a_key_that_the_machine_does_not_know_is_left_out_and_the_key_is_named() {
    let site = site();
    let other_key = SigningKey::from_bytes(&[78; 32]);
    add_key(&site, "spare", Some(public(&other_key))).unwrap();
    let (one, request) = waiting(&site);
    let bring = |key| site.admin.bring_warrants(&sign(&request, key)).unwrap();
    assert_eq!(
        bring(&other_key),
        WarrantsTaken {
            taken: 0,
            left_out: 1,
            needed_keys: vec![public(&wipe_key())],
            wait: 1
        }
    );
    waits(&site, &one);
    assert_eq!(bring(&wipe_key()).taken, 1);
    assert!(warrant(&site, &one).is_some());
}

#[test]
fn what_was_mended_after_a_failure_wants_a_warrant_of_its_own() {
    let site = site();
    let (mut one, request) = waiting(&site);
    site.admin
        .bring_warrants(&sign(&request, &wipe_key()))
        .unwrap();
    let (client, order) = one.order(&site);
    let mut failed = good_run(order.run);
    failed.truncate(1);
    let why = json!({"kind": "run-failed", "path": "os", "errors": ["no space"]});
    failed.push(event(order.run, 2, why));
    send(&client, order.run, &failed);
    one.run = Some(order.run);
    // Its warrant no longer fits, as its disk tells another run than was signed for.
    one.mark = Some(ToldMark {
        state: MarkState::Deployed,
        run: Some(RunId::random()),
    });
    assert_eq!(one.order(&site).1.run, order.run);
    // Somebody mends what it runs: that is another order, and it isn't stored before it may begin.
    let mended = SEQUENCE.replace("class == '8B'", "class == '9B'");
    site.admin
        .put_sequence(&"deploy".parse().unwrap(), &mended)
        .unwrap();
    for _ in 0..2 {
        let CheckInReply::Idle { message, .. } = one.check_in(&site) else {
            panic!("no order may be handed out");
        };
        assert!(message.contains("waits for a warrant"), "{message}");
    }
    let runs: Value = site.admin.get("/api/v1/runs").unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 2);
}

#[test]
fn only_machines_that_want_one_are_asked_for() {
    let site = site();
    let [mut one, mut two] = ["PF1", "PF2"].map(laptop);
    one.wipe_keys.clear();
    let first = deploy(&site, &mut one);
    deploy(&site, &mut two);
    begin_winter(&site);
    // What the last run put there isn't known before they tell.
    assert_eq!(stand(&site).unwrap().wait, 2);
    let CheckInReply::Run { order, warrant, .. } = one.check_in(&site) else {
        panic!("no order");
    };
    assert_eq!(warrant, None);
    waits(&site, &two);
    let serials = || -> Vec<String> {
        let request = site.admin.warrant_request(&winter()).unwrap();
        let machines = request.machines.into_iter();
        machines.map(|machine| machine.serial).collect()
    };
    assert_eq!(serials(), ["PF2"]);
    // At the end of its run it names that, whatever its new boot image knows.
    one.wipe_keys = vec![public(&wipe_key())];
    one.mark = Some(ToldMark {
        state: MarkState::Deployed,
        run: Some(order.run),
    });
    assert_eq!(self::warrant(&site, &one), None);
    assert_eq!(serials(), ["PF2"]);
    // One that was to begin anew, and is no longer used.
    one.mark = Some(ToldMark {
        state: MarkState::Deployed,
        run: Some(first),
    });
    waits(&site, &one);
    assert_eq!(serials(), ["PF1", "PF2"]);
    let device = site.device("PF1").device;
    let retire = format!("/api/v1/devices/{device}/retire");
    let why = json!({ "reason": "worn out" });
    let _: Value = site.admin.send("POST", &retire, &why).unwrap();
    assert_eq!(serials(), ["PF2"]);
}

#[test]
fn the_server_knows_what_a_mark_says_before_the_machine_tells() {
    let site = site();
    // Of an earlier release: its marks name no run, and it tells nothing.
    let mut old = Machine::new("PF1");
    let (client, order) = old.order(&site);
    send(&client, order.run, &good_run(order.run));
    let mut new = laptop("PF2");
    let run = deploy(&site, &mut new);
    begin_winter(&site);
    let request = site.admin.warrant_request(&winter()).unwrap();
    let runs: Vec<_> = request
        .machines
        .iter()
        .map(|machine| (machine.serial.as_str(), machine.run))
        .collect();
    assert_eq!(runs, [("PF1", None), ("PF2", Some(run))]);
    site.admin
        .bring_warrants(&sign(&request, &wipe_key()))
        .unwrap();
    assert!(warrant(&site, &new).is_some());
    // Its next boot image knows the key.
    old.wipe_keys = vec![public(&wipe_key())];
    old.mark = Some(ToldMark {
        state: MarkState::Deployed,
        run: None,
    });
    assert!(warrant(&site, &old).is_some());
    // One that knows another key has no use for this one's.
    new.wipe_keys = vec![public(&SigningKey::from_bytes(&[78; 32]))];
    waits(&site, &new);
    assert_eq!(stand(&site).unwrap().wait, 1);
    // One whose boot image knows none gets its order as ever.
    new.wipe_keys.clear();
    assert_eq!(warrant(&site, &new), None);
}
