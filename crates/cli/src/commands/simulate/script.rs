//! What one machine will go through, decided beforehand: a pure function of its order, its facts and its seed.
//!
//! Steps do nothing and take a plausible time. Conditions and host names are those of the order, by the code that the
//! agent uses; the events are those that the agent's engine writes, in its order.

use std::collections::BTreeMap;

use sequence::scope::{Scope, Template};
use serde_json::{Value, json};
use wire::event::{
    ContentBytes, Environment, EventBody, FinishAction, LogLevel, Progress, ProgressUnit,
    StepOutcome, StepTitle,
};
use wire::facts::Facts;
use wire::names::StepPath;
use wire::order::Order;
use wire::sequence::CompiledStep;

use super::device::End;
use super::fleet;
use super::random::Random;
use super::scenario::Scenario;

/// From power-on to the first event, on any machine, in milliseconds.
const START_MS: u64 = 18_000;
/// A line that is down comes back after so many milliseconds.
const LINE_DOWN_MS: (u64, u64) = (60_000, 600_000);
/// Progress is said so often within a long step.
const PROGRESS_PARTS: u64 = 12;
/// Steps shorter than this say nothing of their progress.
const PROGRESS_STEP_MS_MIN: u64 = 10_000;
/// How long a step of each type takes on the usual machine, in seconds; others take [`OTHER_SECONDS`].
const STEP_SECONDS: [(&str, u64); 15] = [
    ("check-machine", 3),
    ("format-disk", 9),
    ("apply-image", 210),
    ("apply-drivers", 40),
    ("apply-files", 15),
    ("install-packages", 75),
    ("install-boot-image", 14),
    ("install-os-boot", 8),
    ("set-identity", 6),
    ("set-network", 5),
    ("join-domain", 25),
    ("create-user", 2),
    ("run-script", 45),
    ("restart", 4),
    ("finish", 2),
];
const OTHER_SECONDS: u64 = 8;

/// What happens, and when.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moment {
    /// Milliseconds of simulated time since the run began.
    pub(super) at_ms: u64,
    pub(super) what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// A line of the journal.
    Event(EventBody),
    /// Progress: shown, never stored.
    Progress(Progress),
    /// The machine starts again, on purpose or because someone pulled the plug. Its connection and its session are gone.
    Start {
        /// Nobody meant it: what was sent lately is sent again.
        is_cut: bool,
    },
    /// The network is gone until then, in milliseconds of simulated time.
    LineDownUntil(u64),
    /// Nothing more is heard of it.
    Silence,
}

/// What goes wrong with one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) fail: bool,
    pub(super) retry: bool,
    pub(super) stall: bool,
    pub(super) cut: bool,
    pub(super) line_down: bool,
    pub(super) offline: bool,
}

impl Trouble {
    /// Draws a machine's lot.
    pub(super) fn draw(scenario: &Scenario, random: &mut Random) -> Self {
        let lot = u32::try_from(random.below(10_000)).unwrap_or(u32::MAX);
        let fail = lot < scenario.fail.0;
        let stall = !fail && lot < scenario.fail.0 + scenario.stall.0;
        let offline =
            !fail && !stall && lot < scenario.fail.0 + scenario.stall.0 + scenario.offline.0;
        Self {
            fail,
            stall,
            offline,
            retry: random.chance(scenario.retry.0),
            cut: random.chance(scenario.cut.0),
            line_down: random.chance(scenario.line_down.0),
        }
    }
}

impl Trouble {
    /// How a machine ends that this happens to.
    pub(super) const fn end(&self) -> End {
        match (self.fail, self.stall) {
            (true, _) => End::Failed,
            (_, true) => End::Silent,
            _ => End::Done,
        }
    }
}

/// Which steps something happens at.
#[derive(Default)]
struct Fate {
    fail: Option<usize>,
    retry: Option<usize>,
    stall: Option<usize>,
    cut: Option<usize>,
    line_down: Option<usize>,
}

/// Writes a script.
struct Writer<'a> {
    order: &'a Order,
    random: Random,
    slowness: u64,
    now_ms: u64,
    environment: Environment,
    moments: Vec<Moment>,
}

/// The whole run of a machine; or, after a failure, the rest of it from that step on, in which nothing goes wrong.
pub(super) fn script(
    order: &Order,
    facts: &Facts,
    scenario: &Scenario,
    trouble: &Trouble,
    random: Random,
    again_from: Option<&StepPath>,
) -> Vec<Moment> {
    let mut writer = Writer {
        order,
        random,
        slowness: fleet::slowness(&facts.product),
        now_ms: START_MS,
        environment: Environment::BootImage,
        moments: Vec::new(),
    };
    let scope = Scope::new(
        facts,
        &[&order.sequence.variables, &order.variables],
        &BTreeMap::new(),
    );
    let begin = again_from
        .and_then(|path| {
            order
                .sequence
                .steps
                .iter()
                .position(|step| step.path == *path)
        })
        .unwrap_or(0);
    let fate = writer.fate(scenario, trouble, &scope);
    if again_from.is_none() {
        writer.begin();
    } else {
        writer.now_ms = 0;
    }
    writer.event(EventBody::RunResumed {
        environment: writer.environment,
    });
    if trouble.offline && again_from.is_none() {
        // Until all is over, whenever that is.
        writer.push(What::LineDownUntil(u64::MAX));
    }
    for (index, step) in order.sequence.steps.iter().enumerate().skip(begin) {
        if !writer.step(index, step, &scope, &fate) {
            return writer.moments;
        }
    }
    let ends = writer.moments.last().map(|moment| &moment.what);
    if !matches!(ends, Some(What::Event(EventBody::RunDone { .. }))) {
        writer.event(EventBody::RunDone {
            action: FinishAction::Stay,
        });
    }
    if trouble.offline {
        // It stands on a desk without network for a while, then someone plugs it in.
        writer.now_ms += writer.random.between(LINE_DOWN_MS.0, LINE_DOWN_MS.1);
        let now_ms = writer.now_ms;
        writer.push(What::LineDownUntil(now_ms));
    }
    writer.moments
}

fn runs(step: &CompiledStep, scope: &Scope) -> bool {
    // A condition on what an earlier step found out can't be known here; such a step is taken to run.
    step.when
        .iter()
        .all(|condition| scope.is_true(condition).unwrap_or(true))
}

impl Writer<'_> {
    fn push(&mut self, what: What) {
        self.moments.push(Moment {
            at_ms: self.now_ms,
            what,
        });
    }

    fn event(&mut self, body: EventBody) {
        self.push(What::Event(body));
    }

    fn begin(&mut self) {
        let steps = self.order.sequence.steps.iter().map(|step| StepTitle {
            path: step.path.clone(),
            title: step.title.clone(),
            kind: step.kind.clone(),
        });
        self.event(EventBody::RunStarted {
            sequence: self.order.sequence.name.clone(),
            steps: steps.collect(),
        });
    }

    fn fate(&mut self, scenario: &Scenario, trouble: &Trouble, scope: &Scope) -> Fate {
        let steps = self.order.sequence.steps.iter().enumerate();
        let running: Vec<usize> = steps
            .filter(|(_, step)| runs(step, scope))
            .map(|(index, _)| index)
            .collect();
        // Nothing can go wrong in the last step, which only says that the run is done.
        let eventful = &running[..running.len().saturating_sub(1)];
        let is_meant = |index: &usize| {
            let step = &self.order.sequence.steps[*index];
            scenario.fail_at.is_empty() || scenario.fail_at.contains(&step.path)
        };
        let failing: Vec<usize> = eventful.iter().copied().filter(is_meant).collect();
        let mut at = |wanted: bool, among: &[usize]| {
            let place = self.random.pick(among).copied();
            place.filter(|_| wanted)
        };
        Fate {
            fail: at(trouble.fail, &failing),
            retry: at(trouble.retry, eventful),
            stall: at(trouble.stall, eventful),
            cut: at(trouble.cut, eventful),
            line_down: at(trouble.line_down, eventful),
        }
    }

    /// One step; false if the run ends with it.
    fn step(&mut self, index: usize, step: &CompiledStep, scope: &Scope, fate: &Fate) -> bool {
        let path = step.path.clone();
        if !runs(step, scope) {
            let condition = step.when.first().cloned().unwrap_or_default();
            self.event(EventBody::StepDone {
                path,
                outcome: StepOutcome::Skipped,
                message: Some(format!("the condition `{condition}` is false")),
                content: ContentBytes::default(),
                output: Value::Null,
            });
            return true;
        }
        let here = |place: Option<usize>| place == Some(index);
        let mut attempt = 1;
        let work_ms = self.work_ms(&step.kind);
        self.start(step, attempt, scope);
        if here(fate.line_down) {
            let until = self.now_ms + self.random.between(LINE_DOWN_MS.0, LINE_DOWN_MS.1);
            self.push(What::LineDownUntil(until));
        }
        if here(fate.stall) {
            self.work(step, work_ms / 2);
            self.push(What::Silence);
            return false;
        }
        if here(fate.cut) {
            self.work(step, work_ms / 2);
            self.power_on(true);
            self.start(step, attempt, scope);
        }
        if here(fate.retry) {
            self.work(step, work_ms / 3);
            let wait_seconds = step.wait_seconds.clamp(1, 60);
            self.event(EventBody::AttemptFailed {
                path: path.clone(),
                attempt,
                errors: vec!["simulated: it did not work this time".into()],
                wait_seconds,
            });
            self.now_ms += wait_seconds * 1000;
            attempt += 1;
            self.start(step, attempt, scope);
        }
        if here(fate.fail) {
            self.work(step, work_ms / 2);
            self.fail(step);
            return false;
        }
        self.work(step, work_ms);
        self.done(step, scope);
        true
    }

    fn start(&mut self, step: &CompiledStep, attempt: u32, scope: &Scope) {
        let path = step.path.clone();
        self.event(EventBody::StepStarted {
            path: path.clone(),
            attempt,
        });
        let (plan, text) = match host_name(step, scope) {
            Some(name) => (
                json!({ "hostname": name }),
                format!("simulated: name the machine {name}"),
            ),
            None => (
                json!({ "simulated": step.kind }),
                format!("simulated: {}", step.title),
            ),
        };
        self.event(EventBody::StepPlanned { path, plan, text });
    }

    /// Time goes by, and is told.
    fn work(&mut self, step: &CompiledStep, work_ms: u64) {
        let total = content_bytes(&step.kind, &mut self.random);
        let parts = if work_ms < PROGRESS_STEP_MS_MIN {
            0
        } else {
            PROGRESS_PARTS
        };
        let began_ms = self.now_ms;
        for part in 1..=parts {
            self.now_ms = began_ms + work_ms * part / (parts + 1);
            let (current, total, unit) = match total {
                0 => (part, parts, ProgressUnit::Items),
                total => (total / parts * part, total, ProgressUnit::Bytes),
            };
            self.push(What::Progress(Progress {
                path: step.path.clone(),
                current,
                total,
                unit,
                message: String::new(),
            }));
        }
        self.now_ms = began_ms + work_ms;
    }

    fn fail(&mut self, step: &CompiledStep) {
        let path = step.path.clone();
        let text = "simulated: the device said something unexpected (code 5)".to_owned();
        self.event(EventBody::Log {
            path: Some(path.clone()),
            level: LogLevel::Error,
            text: text.clone(),
        });
        self.event(EventBody::RunFailed {
            path,
            errors: vec![
                format!("simulated: cannot finish \u{201c}{}\u{201d}", step.title),
                "the device did not answer".into(),
            ],
            hint: Some("this machine is simulated: `forestage run retry` mends it".into()),
            last_lines: vec![text],
        });
    }

    fn done(&mut self, step: &CompiledStep, scope: &Scope) {
        let mut random = self.random.clone();
        let bytes = content_bytes(&step.kind, &mut random);
        let network = if random.chance(2000) { bytes / 20 } else { 0 };
        let output = match host_name(step, scope) {
            Some(name) => json!({ "hostname": name }),
            None => Value::Null,
        };
        self.event(EventBody::StepDone {
            path: step.path.clone(),
            outcome: StepOutcome::Done,
            message: None,
            content: ContentBytes {
                unchanged: bytes / 2,
                local: bytes - bytes / 2 - network,
                network,
                network_packed: network / 3,
            },
            output,
        });
        if step.kind == "restart" {
            let into = match step.with.get("into").and_then(Value::as_str) {
                Some("boot-image") => Environment::BootImage,
                _ => Environment::Os,
            };
            self.event(EventBody::RunSuspended { into });
            self.environment = into;
            self.power_on(false);
        }
        if step.kind == "finish" {
            let action = step.with.get("action").cloned().unwrap_or_default();
            self.event(EventBody::RunDone {
                action: serde_json::from_value(action).unwrap_or(FinishAction::Stay),
            });
        }
    }

    fn power_on(&mut self, is_cut: bool) {
        self.push(What::Start { is_cut });
        self.now_ms += START_MS + self.random.below(START_MS);
        self.event(EventBody::RunResumed {
            environment: self.environment,
        });
    }

    fn work_ms(&mut self, kind: &str) -> u64 {
        let seconds = STEP_SECONDS
            .iter()
            .find(|(known, _)| *known == kind)
            .map_or(OTHER_SECONDS, |(_, seconds)| *seconds);
        // Most take about as long as they should, a few much longer.
        let luck = match self.random.below(100) {
            0..=89 => self.random.between(80, 125),
            90..=98 => self.random.between(125, 200),
            _ => self.random.between(200, 400),
        };
        seconds * self.slowness * luck / 10
    }
}

/// The name that a step gives the machine.
fn host_name(step: &CompiledStep, scope: &Scope) -> Option<String> {
    let template = step.with.get("hostname")?.as_str()?;
    scope.render(&Template(template.to_owned())).ok()
}

/// How much a step of this type moves.
fn content_bytes(kind: &str, random: &mut Random) -> u64 {
    match kind {
        "apply-image" => random.between(4_000_000_000, 6_000_000_000),
        "install-packages" => random.between(100_000_000, 900_000_000),
        "apply-drivers" | "apply-files" | "install-boot-image" => {
            random.between(10_000_000, 90_000_000)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Moment, Trouble, What, script};
    use crate::commands::simulate::random::Random;
    use crate::commands::simulate::scenario::Scenario;
    use sequence::view::{RunState, RunView, StepState};
    use wire::event::Event;
    use wire::facts::Facts;
    use wire::names::{DeviceId, RunId};
    use wire::order::Order;

    const SEQUENCE: &str = include_str!("../../../../../examples/sequences/pupil-laptop.yaml");

    fn order() -> Order {
        let sequence = sequence::document::compile(SEQUENCE).unwrap().sequence;
        let variables = serde_json::json!({"site": {"code": "BJO", "name": "Bjørnøya skole"}, "class": "1STA",
            "serial": "SIM-00001", "update_boot_image": false});
        Order {
            format: 1,
            run: RunId::random(),
            device: DeviceId::random(),
            deployment: None,
            sequence,
            variables: serde_json::from_value(variables).unwrap(),
            packages: vec![],
            expected_seconds: 600,
        }
    }

    fn facts() -> Facts {
        Facts {
            serial: "SIM-00001".into(),
            product: "Book 14".into(),
            ..Facts::default()
        }
    }

    fn events(order: &Order, moments: &[Moment]) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        let mut boot = 1;
        for moment in moments {
            match &moment.what {
                What::Event(body) => {
                    let seq = events.last().map_or(1, |event| event.seq + 1);
                    events.push(Event {
                        run: order.run,
                        seq,
                        boot,
                        uptime_ms: moment.at_ms,
                        body: body.clone(),
                    });
                }
                What::Start { .. } => boot += 1,
                _ => {}
            }
        }
        events
    }

    /// The view of a run with this trouble, for many seeds.
    fn check(trouble: &Trouble, expected: RunState) {
        let order = order();
        for seed in 0..200 {
            let random = Random::new(seed, "SIM-00001");
            let moments = script(
                &order,
                &facts(),
                &Scenario::default(),
                trouble,
                random,
                None,
            );
            assert!(
                moments.is_sorted_by_key(|moment| moment.at_ms),
                "seed {seed}"
            );
            let view = RunView::of(&events(&order, &moments));
            assert_eq!(view.state, expected, "seed {seed}: {:?}", view.errors);
            assert_eq!(view.steps.len(), order.sequence.steps.len());
            if expected == RunState::Done {
                assert!(
                    view.steps.iter().all(|step| step.state.is_over()),
                    "seed {seed}"
                );
            }
            if expected == RunState::Failed {
                let failed = view.failed_step.clone().unwrap();
                let random = Random::new(seed, "SIM-00001");
                let rest = script(
                    &order,
                    &facts(),
                    &Scenario::default(),
                    trouble,
                    random,
                    Some(&failed),
                );
                // Tried again, it fails at the same place again unless its trouble is taken away, as it is.
                let calm = script(
                    &order,
                    &facts(),
                    &Scenario::default(),
                    &Trouble::default(),
                    Random::new(seed, "again"),
                    Some(&failed),
                );
                assert!(!rest.is_empty());
                let mut view = view;
                for (index, event) in events(&order, &calm).into_iter().enumerate() {
                    let seq = 1000 + index as u64;
                    view.apply(&Event { seq, ..event });
                }
                assert_eq!(view.state, RunState::Done, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_calm_run_is_done_and_says_its_name() {
        check(&Trouble::default(), RunState::Done);
        let order = order();
        let moments = script(
            &order,
            &facts(),
            &Scenario::default(),
            &Trouble::default(),
            Random::new(1, "x"),
            None,
        );
        let view = RunView::of(&events(&order, &moments));
        let named = view
            .steps
            .iter()
            .find(|step| step.output.get("hostname").is_some())
            .unwrap();
        assert_eq!(named.output["hostname"], "bjo-1sta-0001");
        assert!(
            view.steps
                .iter()
                .any(|step| step.state == StepState::Skipped)
        );
        assert!(view.content().local > 1_000_000_000);
    }

    #[test]
    fn whatever_goes_wrong_the_run_ends_as_it_should() {
        let calm = Trouble::default;
        check(
            &Trouble {
                retry: true,
                cut: true,
                line_down: true,
                ..calm()
            },
            RunState::Done,
        );
        check(
            &Trouble {
                offline: true,
                cut: true,
                ..calm()
            },
            RunState::Done,
        );
        check(
            &Trouble {
                fail: true,
                cut: true,
                ..calm()
            },
            RunState::Failed,
        );
        check(
            &Trouble {
                stall: true,
                ..calm()
            },
            RunState::Running,
        );
    }

    #[test]
    fn a_failure_happens_where_the_scenario_says() {
        let order = order();
        let scenario = Scenario {
            fail_at: vec!["drivers".parse().unwrap()],
            ..Scenario::default()
        };
        let trouble = Trouble {
            fail: true,
            ..Trouble::default()
        };
        for seed in 0..20 {
            let moments = script(
                &order,
                &facts(),
                &scenario,
                &trouble,
                Random::new(seed, "x"),
                None,
            );
            let view = RunView::of(&events(&order, &moments));
            assert_eq!(view.failed_step.unwrap().as_str(), "drivers");
        }
    }
}
