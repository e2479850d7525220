//! Runs, seen from the command line: a device checks in and reports, the program watches.

use std::time::Duration;

use client::Client;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::json;
use wire::device_api::{CHECK_IN_CONTEXT, CheckIn, CheckInBody, CheckInReply, EventBatch};
use wire::event::Environment;
use wire::facts::Facts;
use wire::names::RunId;
use wire::order::Order;

use crate::world::World;

/// A device in its first run.
pub(crate) struct Device {
    client: Client,
    order: Order,
    seq: u64,
}

pub(crate) fn start(world: &World) -> Device {
    world.write("os.img", vec![5; 1 << 20]);
    world.write(
        "os.yaml",
        "name: tiny-os\nversion: '1'\nkind: os-image\nsource:\n  image: os.img\n",
    );
    world.run(&["package", "import", "os.yaml"]);
    world.write("tiny.yaml", include_str!("tiny.yaml"));
    world.run(&["sequence", "put", "tiny.yaml"]);
    world.run(&["collection", "create", "pupils"]);
    let create = [
        "deployment",
        "create",
        "autumn",
        "--collection",
        "pupils",
        "--sequence",
        "tiny",
        "--expected",
        "16m",
    ];
    world.run(&[&create[..], &["--cap", "3", "--confirm", "autumn 3"]].concat());
    world.write(
        "assets.csv",
        "serial;vendor;model;site code;site;class\nPF1;Acme;Book 14;BJO;Bjørnsletta;1STA\n",
    );
    world.run(&["asset", "import", "assets.csv", "--collection", "pupils"]);
    check_in(world)
}

fn check_in(world: &World) -> Device {
    let ca = std::fs::read_to_string(world.path(world.ready["ca"].as_str().unwrap())).unwrap();
    let client = Client::new(world.url(), &ca, Duration::from_secs(30)).unwrap();
    let facts = Facts {
        vendor: "Acme".into(),
        product: "Book 14".into(),
        serial: "PF1".into(),
        ..Facts::default()
    };
    let body = CheckInBody {
        key: None,
        facts,
        agent: "0.1.0".into(),
        environment: Some(Environment::BootImage),
        staged: None,
        run: None,
        mark: None,
        wipe_keys: Vec::new(),
        refused: None,
    };
    let body = serde_json::to_string(&body).unwrap();
    let challenge = client.challenge().unwrap().challenge;
    let key = SigningKey::from_bytes(&[9; 32]);
    let signature = key.sign(&[CHECK_IN_CONTEXT, challenge.as_bytes(), body.as_bytes()].concat());
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let device_key = hex(key.verifying_key().as_bytes());
    let request = CheckIn {
        challenge,
        device_key,
        signature: hex(&signature.to_bytes()),
        body,
    };
    match client.check_in(&request).unwrap() {
        CheckInReply::Run { session, order, .. } => Device {
            client: client.with_token(&session),
            order,
            seq: 0,
        },
        other => panic!("{other:?}"),
    }
}

impl Device {
    fn run(&self) -> RunId {
        self.order.run
    }

    fn report(&mut self, body: serde_json::Value) {
        self.seq += 1;
        let (run, uptime) = (self.run(), self.seq * 1000);
        let event =
            json!({ "run": run, "seq": self.seq, "boot": 1, "uptime-ms": uptime, "body": body });
        let raw = serde_json::value::RawValue::from_string(event.to_string()).unwrap();
        let batch = EventBatch {
            events: vec![raw],
            interface_bytes: 4096,
        };
        assert_eq!(
            self.client.events(self.run(), &batch).unwrap().acknowledged,
            self.seq
        );
    }

    /// Runs its order to the end.
    pub(crate) fn finish(&mut self) {
        self.begin();
        for path in ["disk", "os", "identity", "finish"] {
            self.step(path);
        }
        self.report(json!({ "kind": "run-done", "action": "shut-down" }));
    }

    fn begin(&mut self) {
        let steps = self.order.sequence.steps.iter();
        let steps: Vec<_> = steps
            .map(|step| json!({ "path": step.path, "title": step.title, "kind": step.kind }))
            .collect();
        self.report(json!({ "kind": "run-started", "sequence": "tiny", "steps": steps }));
    }

    fn step(&mut self, path: &str) {
        self.report(json!({ "kind": "step-started", "path": path, "attempt": 1 }));
        self.report(json!({ "kind": "step-done", "path": path, "outcome": "done", "content": { "local": 4096 } }));
    }
}

#[test]
fn a_run_that_completes() {
    let world = World::start();
    let mut device = start(&world);
    device.begin();
    device.step("disk");
    let (code, stdout, stderr) = world.fail(&["run", "watch", "PF1", "--timeout", "1s"]);
    assert!(
        code == 1 && stderr.contains("has not ended yet") && stdout.contains("done     disk"),
        "{stdout}{stderr}"
    );
    for path in ["os", "identity", "finish"] {
        device.step(path);
    }
    device.report(json!({ "kind": "run-done", "action": "shut-down" }));
    let watched = world.run(&["run", "watch", "PF1"]);
    assert!(
        watched.contains("4/4  done     finish") && watched.contains("\ncompleted in "),
        "{watched}"
    );
    assert_eq!(world.json(&["run", "list"])[0]["state"], "completed");
    assert_eq!(
        world.json(&["run", "show", &device.run().to_string()])["steps"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert!(
        world
            .run(&["run", "show", "PF1"])
            .contains("16.0 KiB from local content")
    );
    assert_eq!(world.fail(&["run", "show", "PF2"]).0, 1);
}

#[test]
fn a_run_that_fails_ends_the_watch_with_1() {
    let world = World::start();
    let mut device = start(&world);
    device.begin();
    world.run(&["run", "stop", "PF1"]);
    let errors = ["cannot write /dev/nvme0n1", "the disk is gone"];
    device.report(json!({ "kind": "step-started", "path": "disk", "attempt": 1 }));
    device.report(json!({ "kind": "run-failed", "path": "disk", "errors": errors, "hint": "change the disk" }));
    let (code, _, stderr) = world.fail(&["run", "watch", "PF1"]);
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "error: the run of PF1 failed at step disk\n  cause: cannot write /dev/nvme0n1\n  cause: the disk is gone\n  \
         hint: change the disk\n"
    );
    // Gone on with, the same run runs again; the server hands out its order as it was.
    let retried = world.json(&["run", "retry", "PF1"]);
    assert_eq!(
        (&retried["run"], &retried["state"]),
        (&json!(device.run()), &json!("running"))
    );
    assert_eq!(check_in(&world).run(), device.run());
    let rerun = ["run", "rerun", "PF1", "--confirm", "rerun PF1"];
    let (code, _, stderr) = world.fail(&rerun);
    assert!(code == 1 && stderr.contains("has not ended"), "{stderr}");
    device.report(json!({ "kind": "run-aborted", "reason": "an admin stopped the run" }));
    let (code, _, stderr) = world.fail(&["run", "rerun", "PF1"]);
    assert!(code == 3 && stderr.contains("rerun PF1"), "{stderr}");
    let said = world.run(&rerun);
    let anew = check_in(&world).run();
    assert!(
        anew != device.run() && said.contains(&anew.to_string()),
        "{said}"
    );
}
