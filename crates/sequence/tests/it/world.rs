//! What the tests share: an order, and one run on a fake machine.

use std::collections::BTreeMap;

use sequence::engine::{RunEnd, World, go_on, run};
use serde_json::{Value, json};
use testkit::fake_machine::{
    FakeClock, FakeContent, FakeJournal, FakeMachine, FakeObserver, FakeState, laptop_facts,
};
use wire::event::{Environment, EventBody};
use wire::facts::Facts;
use wire::names::{DeviceId, RunId};
use wire::order::Order;
use wire::package::Package;

pub(crate) const STEPS: &str = r#"
  - { id: disk, format-disk: { disk: { bus: nvme, removable: false }, volumes: [{ role: esp, size: 1GiB }, { role: os, size: rest }, { role: staging, size: 8GiB }] } }
  - { id: content, stage-content: {} }
  - { id: os, apply-image: { image: debian } }
  - { id: drivers, apply-drivers: {} }
  - id: identity
    set-identity: { hostname: "{{ (site.code ~ '-' ~ serial | last(4)) | hostname }}", locale: nb_NO.UTF-8, keyboard: "no", time-zone: Europe/Oslo }
  - { id: admin, create-user: { name: lokaladmin, groups: [sudo], full-name: Lokal admin, authorized-keys: ["ssh-ed25519 AAAA admin"] } }
  - { id: kind, set-variables: { kind: "{{ class }}-x" } }
  - id: apps
    when: kind == "1STA-x"
    steps:
      - { id: java, install-packages: { packages: [java, editor] } }
      - { id: never, when: vendor == "Other", install-packages: { packages: [java] } }
  - { id: files, apply-files: { package: files, to: /opt/school } }
  - { id: boot, install-boot-image: { image: boot-image } }
  - { id: os-boot, install-os-boot: {} }
  - { id: restart, restart: { into: os } }
  - { id: check, run-script: { script: "true", repeatable: true, args: ["{{ outputs['identity'].hostname }}"] } }
  - { id: once, run-script: { script: append /var/log/once } }
  - { id: end, finish: { action: shut-down } }
"#;

pub(crate) fn package(name: &str, kind: &str) -> Package {
    let mut package = json!({
        "name": name, "version": "1.0", "kind": kind, "manifest": "0".repeat(64), "manifest-bytes": 1,
        "content-bytes": 1000,
    });
    if kind == "application" {
        package["install"] = json!({
            "command": ["installer", name, "1.0"],
            "detect": { "command": { "command": ["installed-version", name], "stdout": "1.0" } },
        });
    }
    if kind == "driver" {
        package["models"] = json!([{ "vendor": "Acme", "product": name }]);
    }
    serde_json::from_value(package).unwrap()
}

pub(crate) fn packages() -> Vec<Package> {
    [
        ("debian", "os-image"),
        ("boot-image", "boot-image"),
        ("java", "application"),
        ("editor", "application"),
        ("files", "files"),
        ("book14", "driver"),
        ("book15", "driver"),
    ]
    .map(|(name, kind)| package(name, kind))
    .to_vec()
}

pub(crate) fn order(steps: &str) -> Order {
    let sequence = sequence::document::compile(&format!("sequence: test\nsteps:\n{steps}"))
        .unwrap()
        .sequence;
    Order {
        format: 1,
        run: RunId(uuid::Uuid::nil()),
        device: DeviceId(uuid::Uuid::nil()),
        deployment: None,
        sequence,
        variables: BTreeMap::from([
            ("site".to_owned(), json!({ "code": "BÆR", "name": "Bærum" })),
            ("class".to_owned(), Value::from("1STA")),
        ]),
        packages: packages(),
        expected_seconds: 0,
    }
}

pub(crate) fn facts() -> Facts {
    laptop_facts("Acme", "book14", "PF0ABC12")
}

/// A machine between two power-ons, with its journal.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) order: Order,
    pub(crate) facts: Facts,
    pub(crate) journal: FakeJournal,
    pub(crate) state: FakeState,
    pub(crate) environment: Environment,
    pub(crate) failures: Vec<(&'static str, usize)>,
    pub(crate) secrets: Vec<(&'static str, &'static str)>,
    pub(crate) stop_after_steps: Option<usize>,
    pub(crate) clock_step_ms: u64,
    /// How long content that isn't there is waited for.
    pub(crate) server_away: std::time::Duration,
    pub(crate) calls: Vec<String>,
    pub(crate) heard: Vec<wire::event::Event>,
}

impl Bench {
    pub(crate) fn new(steps: &str) -> Self {
        let facts = facts();
        Self {
            order: order(steps),
            journal: FakeJournal::default(),
            state: FakeMachine::new(facts.clone()).state(),
            facts,
            environment: Environment::BootImage,
            failures: Vec::new(),
            secrets: Vec::new(),
            stop_after_steps: None,
            clock_step_ms: 1,
            server_away: std::time::Duration::ZERO,
            calls: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Switches the machine on until the run ends, restarts or the journal fails.
    pub(crate) fn power_on(&mut self) -> std::io::Result<RunEnd> {
        let machine =
            FakeMachine::resumed(self.facts.clone(), self.environment, self.state.clone());
        for (prefix, nth) in &self.failures {
            machine.fail(prefix, *nth);
        }
        for (name, secret) in &self.secrets {
            machine.release_secret(name, secret);
        }
        let content =
            FakeContent::new(&machine, self.order.packages.clone()).waiting(self.server_away);
        let observer = FakeObserver {
            stop_after_steps: self.stop_after_steps,
            ..FakeObserver::default()
        };
        let clock = FakeClock {
            step_ms: self.clock_step_ms,
            ..FakeClock::default()
        };
        let world = World {
            machine: &machine,
            content: &content,
            observer: &observer,
            clock: &clock,
        };
        let end = run(&self.order, &mut self.journal, &world);
        self.calls = machine.calls();
        self.state = machine.state();
        self.heard = observer.heard();
        end
    }

    /// An admin wants a stopped run gone on with.
    pub(crate) fn go_on(&mut self) -> std::io::Result<()> {
        let machine = FakeMachine::new(self.facts.clone());
        let world = World {
            machine: &machine,
            content: &FakeContent::new(&machine, Vec::new()),
            observer: &FakeObserver::default(),
            clock: &FakeClock::default(),
        };
        go_on(&self.order, &mut self.journal, &world)
    }

    /// Switches the machine on again as long as it restarts.
    pub(crate) fn power_on_to_end(&mut self) -> RunEnd {
        for _ in 0..5 {
            match self.power_on().unwrap() {
                RunEnd::Suspended(into) => self.environment = into,
                end => return end,
            }
        }
        panic!("the run restarts for ever");
    }

    /// What the machine would come up in.
    pub(crate) fn boot_environment(&self) -> Environment {
        match self.state.default_boot {
            Some(sequence::ports::BootTarget::Os) => Environment::Os,
            _ => Environment::BootImage,
        }
    }

    /// The journal in words, one line per event.
    pub(crate) fn story(&self) -> String {
        self.journal
            .events
            .iter()
            .map(|event| format!("{} {}\n", event.seq, words(&event.body)))
            .collect()
    }
}

fn words(body: &EventBody) -> String {
    match body {
        EventBody::RunStarted { steps, .. } => format!("run started, {} steps", steps.len()),
        EventBody::RunResumed { environment } => format!("run resumed in {environment:?}"),
        EventBody::RunSuspended { into } => format!("run suspended into {into:?}"),
        EventBody::RunDone { action } => format!("run done: {action:?}"),
        EventBody::RunFailed {
            path, errors, hint, ..
        } => {
            format!(
                "run failed at {path}: {}; hint: {}",
                errors.join(": "),
                hint.as_deref().unwrap_or("none")
            )
        }
        EventBody::RunAborted { reason } => format!("run aborted: {reason}"),
        EventBody::StepStarted { path, attempt } => format!("  {path} started, attempt {attempt}"),
        EventBody::StepPlanned { path, text, .. } => format!("  {path} planned: {text}"),
        EventBody::StepDone {
            path,
            outcome,
            message,
            output,
            ..
        } => {
            format!(
                "  {path} {outcome:?} {} {output}",
                message.as_deref().unwrap_or("")
            )
        }
        EventBody::AttemptFailed {
            path,
            attempt,
            errors,
            wait_seconds,
        } => {
            format!(
                "  {path} attempt {attempt} failed: {}; wait {wait_seconds} s",
                errors.join(": ")
            )
        }
        EventBody::Log { text, .. } => {
            format!("    log: {}", text.chars().take(60).collect::<String>())
        }
        other => format!("{other:?}"),
    }
}
