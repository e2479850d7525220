//! Watches one power-on: the journal and the machine side by side.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sequence::engine::{Journal, Observer};
use sequence::ports::BootTarget;
use serde_json::Value;
use testkit::fake_machine::{FakeJournal, FakeMachine, FakeState};
use wire::event::{Event, EventBody, StepOutcome};
use wire::facts::DiskContent;
use wire::layout::VolumeRole;
use wire::order::Order;
use wire::sequence::CompiledStep;

/// Asks for a stop once it was asked `polls` times, and never takes that back.
#[derive(Default)]
pub(super) struct Stopper {
    pub(super) polls: Option<usize>,
    pub(super) asked: AtomicUsize,
    pub(super) is_stopped: AtomicBool,
}

impl Observer for Stopper {
    fn event(&self, _event: &Event) {}

    fn is_stopped(&self) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if self.polls.is_some_and(|polls| asked >= polls) {
            self.is_stopped.store(true, Ordering::Relaxed);
        }
        self.is_stopped.load(Ordering::Relaxed)
    }
}

/// A journal that looks at the machine at every line, and remembers what was wrong.
pub(super) struct Watched<'a> {
    pub(super) journal: &'a mut FakeJournal,
    pub(super) machine: &'a FakeMachine,
    pub(super) order: &'a Order,
    pub(super) stopper: &'a Stopper,
    /// The machine when the step that runs was begun.
    pub(super) before: FakeState,
    pub(super) wrong: Vec<String>,
}

impl Journal for Watched<'_> {
    fn events(&self) -> &[Event] {
        &self.journal.events
    }

    fn append(&mut self, event: &Event) -> std::io::Result<()> {
        if self.machine.is_cut() {
            return Err(std::io::Error::other("the power is cut"));
        }
        let last = self.journal.events.last().map_or(0, |event| event.seq);
        self.journal.append(event)?;
        if event.seq != last + 1 {
            self.wrong.push(format!("seq {} after {last}", event.seq));
        }
        if event.body.is_lossy() {
            self.wrong
                .push(format!("a lossy event was journaled: {event:?}"));
        }
        self.look_at_machine(&event.body);
        Ok(())
    }
}

impl Watched<'_> {
    fn look_at_machine(&mut self, body: &EventBody) {
        match body {
            EventBody::StepStarted { path, .. } => {
                self.before = self.machine.state();
                if self.stopper.is_stopped.load(Ordering::Relaxed) {
                    self.wrong
                        .push(format!("{path} was begun after the run was stopped"));
                }
            }
            EventBody::StepPlanned { path, .. } if self.machine.state() != self.before => {
                self.wrong
                    .push(format!("{path} had an effect before its plan was recorded"));
            }
            EventBody::StepDone {
                path,
                outcome,
                message,
                ..
            } => {
                let claims_effect = *outcome == StepOutcome::Done
                    || message.as_deref() == Some("all of it is there already");
                let steps = &self.order.sequence.steps;
                let step = steps.iter().find(|step| &step.path == path).unwrap();
                if claims_effect && !is_effect_there(step, &self.machine.state()) {
                    self.wrong
                        .push(format!("{path} is called done, and its effect isn't there"));
                }
            }
            _ => {}
        }
    }
}

/// Whether what `step` is for is true on the machine.
pub(super) fn is_effect_there(step: &CompiledStep, state: &FakeState) -> bool {
    let with = |key: &str| step.with[key].as_str().unwrap_or_default();
    let file = |path: &str| state.files.get(camino::Utf8Path::new(path));
    match step.kind.as_str() {
        "format-disk" => state.layout.is_some() && state.content != Some(DiskContent::Blank),
        "stage-content" => state.staged.len() == crate::world::packages().len(),
        "apply-image" => state.volumes.contains_key(&VolumeRole::Os),
        "apply-drivers" => file("/book14.content").is_some(),
        "apply-files" => file(&format!("{}/files.content", with("to"))).is_some(),
        "set-identity" => {
            let expected = format!("{}\n", with("hostname"));
            file("/etc/hostname").is_some_and(|text| *text == expected.as_bytes())
        }
        "create-user" => state.users.contains_key(with("name")),
        "install-boot-image" => state.boot_image.is_some(),
        "install-os-boot" => state.os_entry && state.agent,
        "install-packages" => step.with["packages"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|name| state.installed.contains_key(name.as_str().unwrap())),
        "restart" => {
            let target = if with("into") == "os" {
                BootTarget::Os
            } else {
                BootTarget::BootImage
            };
            state.default_boot == Some(target)
        }
        "run-script" => with("script")
            .strip_prefix("append ")
            .is_none_or(|path| file(path).is_some()),
        "finish" => step.with["deployed"] != Value::Bool(true) || state.deployed,
        "set-variables" => true,
        kind => panic!("say what the effect of {kind} is"),
    }
}
