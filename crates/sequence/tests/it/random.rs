//! Random sequences, random failures, random power cuts: what must hold for every run there can be.
//!
//! The cases come from one fixed seed, so that every run of this test is the same. A case that fails prints its own
//! seed. The environment says otherwise:
//!
//! | variable | what it does |
//! | --- | --- |
//! | `FORESTAGE_RANDOM_CASE=0x…` | runs exactly the case with this seed |
//! | `FORESTAGE_RANDOM_RUNS=100000` | runs so many cases instead of 5,000 (`cargo xtask nightly` does) |
//!
//! For example `FORESTAGE_RANDOM_CASE=0x2a cargo test -p sequence --test it random`.

mod document;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use sequence::engine::{RunEnd, World, run};
use sequence::journal_line;
use sequence::view::{RunState, RunView};
use serde_json::{Value, json};
use testkit::chance::Chance;
use testkit::fake_machine::{FakeClock, FakeContent, FakeMachine, FakeState};
use wire::event::{Environment, Event, EventBody, StepOutcome};
use wire::names::StepPath;

use self::watch::{Stopper, Watched, is_effect_there};
use crate::world::Bench;

/// Any number; changing it changes all cases.
const BASE_SEED: u64 = 0xf0_2e_57_a6_e0;
const RUNS: u64 = 5000;
/// What a machine call begins with; the empty text is any call.
const CALLS: [&str; 11] = [
    "",
    "facts",
    "write-layout",
    "apply-",
    "write-file",
    "command",
    "command /bin/sh",
    "remove-folder",
    "install-",
    "set-default-boot",
    "mark-deployed",
];

/// What became of the cases: a test that never saw a power cut would prove nothing.
#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    aborted: AtomicU64,
    cut: AtomicU64,
    started_again: AtomicU64,
    gone_on_with: AtomicU64,
    /// Stopped because a script that isn't repeatable was cut.
    refused: AtomicU64,
}

#[test]
fn whatever_happens_a_run_keeps_its_word() {
    let tally = Tally::default();
    if let Some(seed) = variable("FORESTAGE_RANDOM_CASE") {
        check(seed, &tally);
        return;
    }
    let runs = variable("FORESTAGE_RANDOM_RUNS").unwrap_or(RUNS);
    eprintln!("{runs} cases from the base seed {BASE_SEED:#x}");
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let tally = &tally;
            scope.spawn(move || {
                for number in (thread..runs).step_by(usize::try_from(threads).unwrap()) {
                    check(Chance::new(BASE_SEED.wrapping_add(number)).number(), tally);
                }
            });
        }
    });
    eprintln!("{tally:?}");
    let all = [
        &tally.done,
        &tally.failed,
        &tally.aborted,
        &tally.cut,
        &tally.started_again,
        &tally.gone_on_with,
        &tally.refused,
    ];
    let is_seen = |count: &AtomicU64| count.load(Ordering::Relaxed) >= runs / 100;
    assert!(
        all.into_iter().all(is_seen),
        "too little happens: {tally:?}"
    );
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// One case. Panics with everything that is needed to repeat and to understand it.
fn check(seed: u64, tally: &Tally) {
    let mut life = Life::new(seed);
    let told = match catch_unwind(AssertUnwindSafe(|| life.live())) {
        Ok(Ok(end)) => return life.count(&end, tally),
        Ok(Err(told)) => told,
        Err(_) => "it panicked, see above".to_owned(),
    };
    panic!(
        "{told}\nrepeat it with FORESTAGE_RANDOM_CASE={seed:#x}\n\n{}\n{}\n{}",
        life.text,
        life.diary.join("\n"),
        life.bench.story()
    );
}

/// A machine with a run, and all that will go wrong with it.
struct Life {
    random: Chance,
    text: String,
    bench: Bench,
    /// Each power-on in words.
    diary: Vec<String>,
    /// How many power cuts are to come.
    cuts: u64,
    /// How often a person starts the failed run again.
    retries: u64,
    /// How often the machine comes up elsewhere than it was told.
    wrong_boots: u64,
    /// In how many power-ons calls fail.
    failing: u64,
    /// Whether an admin stops the run at some moment.
    is_to_be_stopped: bool,
    stopper: Stopper,
    /// What the view was while it was folded event by event, each of them twice.
    view: RunView,
    folded: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = Chance::new(seed);
        let text = document::document(&mut random);
        let mut bench = Bench::new("  - { id: end, finish: { action: stay } }");
        match sequence::document::compile(&text) {
            Ok(compiled) => bench.order.sequence = compiled.sequence,
            Err(findings) => panic!("the generator made a bad sequence: {findings:?}\n{text}"),
        }
        for package in &mut bench.order.packages {
            package.content_bytes = 5;
        }
        bench.clock_step_ms = *random.pick(&[1, 10, 40]);
        let is_calm = random.chance(30);
        let mut up_to = |limit| {
            if is_calm { 0 } else { random.below(limit) }
        };
        let (failing, wrong_boots) = (up_to(3), up_to(4) / 2);
        let is_to_be_stopped = up_to(5) == 1;
        Self {
            cuts: random.below(5),
            retries: random.below(4),
            wrong_boots,
            failing,
            is_to_be_stopped,
            random,
            text,
            bench,
            diary: Vec::new(),
            stopper: Stopper::default(),
            view: RunView::default(),
            folded: 0,
        }
    }

    /// From the first power-on to an end that stays.
    fn live(&mut self) -> Result<RunEnd, String> {
        let undisturbed = self.undisturbed()?;
        let is_only_cut = self.failing + self.wrong_boots == 0 && !self.is_to_be_stopped;
        let end = self.go_to_the_end()?;
        self.check_end(&end)?;
        self.check_effects()?;
        self.check_repeats()?;
        self.check_views(&end)?;
        if is_only_cut && !self.text.contains("timeout") {
            self.compare(&end, &undisturbed)?;
        }
        Ok(end)
    }

    fn count(&self, end: &RunEnd, tally: &Tally) {
        let said = |words: &str| self.diary.iter().any(|line| line.contains(words));
        let story = self.bench.story();
        let seen = [
            (&tally.done, matches!(end, RunEnd::Done(_))),
            (&tally.failed, *end == RunEnd::Failed),
            (&tally.aborted, *end == RunEnd::Aborted),
            (&tally.cut, said(": None")),
            (&tally.started_again, said("starts it again")),
            (&tally.gone_on_with, said("gone on with")),
            (&tally.refused, story.contains("safe to repeat")),
        ];
        for (count, is_seen) in seen {
            count.fetch_add(is_seen.into(), Ordering::Relaxed);
        }
    }

    /// How the same sequence ends on a machine nothing happens to.
    fn undisturbed(&self) -> Result<(RunEnd, Vec<Event>, FakeState), String> {
        let mut bench = self.bench.clone();
        for _ in 0..5 {
            match bench.power_on() {
                Ok(RunEnd::Suspended(into)) => bench.environment = into,
                Ok(end) => return Ok((end, bench.journal.events, bench.state)),
                Err(error) => return Err(format!("the fake journal failed: {error}")),
            }
        }
        Err("an undisturbed run restarts for ever".to_owned())
    }

    fn go_to_the_end(&mut self) -> Result<RunEnd, String> {
        let steps = &self.bench.order.sequence.steps;
        let restarts = steps.iter().filter(|step| step.kind == "restart").count() as u64;
        let disturbances = self.cuts + self.retries + self.wrong_boots;
        // Every power-on but the last is owed to a disturbance or to a restart, and a disturbance repeats a restart.
        let power_ons_max = 1 + disturbances + restarts * (1 + disturbances);
        for _ in 0..power_ons_max {
            match self.power_on()? {
                None => self.after_cut(),
                Some(RunEnd::Suspended(_)) => self.restart(),
                Some(RunEnd::Failed) if self.retries > 0 => {
                    self.retries -= 1;
                    self.diary.push("a person starts it again".to_owned());
                    self.restart();
                }
                Some(RunEnd::Aborted) if self.retries > 0 => {
                    self.retries -= 1;
                    self.stopper = Stopper::default();
                    self.is_to_be_stopped = false;
                    self.diary.push("an admin has it gone on with".to_owned());
                    self.bench.journal.capacity = None;
                    self.bench.go_on().map_err(|error| error.to_string())?;
                    self.restart();
                }
                Some(end) => return Ok(end),
            }
            self.maybe_a_newer_agent_spoke();
        }
        Err(format!("no end after {power_ons_max} power-ons"))
    }

    /// One power-on; `None` if the power was cut.
    fn power_on(&mut self) -> Result<Option<RunEnd>, String> {
        let bench = &mut self.bench;
        let machine =
            FakeMachine::resumed(bench.facts.clone(), bench.environment, bench.state.clone());
        let lines = bench.journal.events.len();
        let mut what = format!("power-on in {:?}", bench.environment);
        if self.failing > 0 {
            self.failing -= 1;
            for _ in 0..=self.random.below(3) {
                let (prefix, nth) = (*self.random.pick(&CALLS), 1 + self.random.place(12));
                machine.fail(prefix, nth);
                what += &format!(", call {nth} of `{prefix}` fails");
            }
        }
        bench.journal.capacity = None;
        if self.cuts > 0 && self.random.chance(80) {
            if self.random.chance(50) {
                bench.journal.capacity = Some(lines + self.random.place(40));
                what += &format!(", cut after line {:?}", bench.journal.capacity);
            } else {
                let calls = self.random.place(40);
                machine.cut_after(calls);
                what += &format!(", cut after call {calls}");
            }
        }
        if self.is_to_be_stopped && self.stopper.polls.is_none() && self.random.chance(60) {
            self.stopper.polls = Some(self.random.place(60));
            what += &format!(", stopped at poll {:?}", self.stopper.polls);
        }
        let content = FakeContent::new(&machine, bench.order.packages.clone());
        let clock = FakeClock {
            step_ms: bench.clock_step_ms,
            ..FakeClock::default()
        };
        let world = World {
            machine: &machine,
            content: &content,
            observer: &self.stopper,
            clock: &clock,
        };
        let mut journal = Watched {
            journal: &mut bench.journal,
            machine: &machine,
            order: &bench.order,
            stopper: &self.stopper,
            before: machine.state(),
            wrong: Vec::new(),
        };
        let end = run(&bench.order, &mut journal, &world).ok();
        let wrong = std::mem::take(&mut journal.wrong);
        bench.state = machine.state();
        self.diary.push(format!("{what}: {end:?}"));
        self.fold();
        let is_cut = machine.is_cut() || self.bench.journal.capacity == Some(self.lines());
        match wrong.into_iter().next() {
            Some(wrong) => Err(wrong),
            None if end.is_none() && !is_cut => Err("it ended without an end".to_owned()),
            None => Ok(end),
        }
    }

    fn lines(&self) -> usize {
        self.bench.journal.events.len()
    }

    /// What the power cut leaves: before the disk is laid out, the journal was in memory.
    fn after_cut(&mut self) {
        self.cuts -= 1;
        let is_durable = self.bench.journal.events.iter().any(|event| {
            matches!(&event.body, EventBody::StepDone { path, .. } if self.kind(path) == "format-disk")
        });
        if !is_durable && self.random.chance(70) {
            self.bench.journal.events.clear();
            (self.view, self.folded) = (RunView::default(), 0);
            self.diary.push("the journal is lost".to_owned());
        }
        self.restart();
    }

    fn kind(&self, path: &StepPath) -> &str {
        let mut steps = self.bench.order.sequence.steps.iter();
        steps
            .find(|step| &step.path == path)
            .map_or("", |step| &step.kind)
    }

    fn restart(&mut self) {
        self.bench.environment = self.bench.boot_environment();
        if self.wrong_boots > 0 && self.random.chance(40) {
            self.wrong_boots -= 1;
            self.bench.environment = match self.bench.environment {
                Environment::BootImage => Environment::Os,
                Environment::Os => Environment::BootImage,
            };
        }
    }

    /// The next release may write what this one has never heard of.
    fn maybe_a_newer_agent_spoke(&mut self) {
        if let Some(last) = self.bench.journal.events.last()
            && self.random.chance(10)
        {
            let event = json!({
                "run": last.run, "seq": last.seq + 1, "boot": last.boot, "uptime-ms": 1, "mood": "good",
                "body": { "kind": "battery-low", "percent": 3 },
            });
            let event = serde_json::from_value(event).unwrap();
            self.bench.journal.events.push(event);
            self.fold();
        }
    }

    /// Folds what is new, twice, with an old event in between: sending again is normal.
    fn fold(&mut self) {
        let events = &self.bench.journal.events;
        for event in &events[self.folded..] {
            self.view.apply(event);
            self.view.apply(event);
            self.view.apply(&events[self.random.place(self.folded + 1)]);
        }
        self.folded = events.len();
    }

    /// The end is the last thing recorded, and another power-on changes nothing about it.
    fn check_end(&mut self, end: &RunEnd) -> Result<(), String> {
        let mut bodies = self.bench.journal.events.iter().rev();
        let last = bodies.find(|event| event.body != EventBody::Unknown);
        let fits = matches!(
            (end, last.map(|event| &event.body)),
            (RunEnd::Done(_), Some(EventBody::RunDone { .. }))
                | (RunEnd::Failed, Some(EventBody::RunFailed { .. }))
                | (RunEnd::Aborted, Some(EventBody::RunAborted { .. }))
        );
        if !fits {
            return Err(format!("{end:?} is not what the journal ends with"));
        }
        if *end == RunEnd::Failed {
            return Ok(());
        }
        let (state, lines) = (self.bench.state.clone(), self.lines());
        let again = self.power_on()?;
        if again.as_ref() != Some(end) || self.bench.state != state || self.lines() != lines {
            return Err(format!("it ended with {end:?} and goes on: {again:?}"));
        }
        Ok(())
    }

    /// What is called done is there in the end too, unless a later step is about the same thing.
    fn check_effects(&self) -> Result<(), String> {
        for event in &self.bench.journal.events {
            let EventBody::StepDone { path, outcome, .. } = &event.body else {
                continue;
            };
            let mut steps = self.bench.order.sequence.steps.iter();
            let step = steps.find(|step| &step.path == path).unwrap();
            let is_replaced = ["set-identity", "restart"].contains(&step.kind.as_str());
            if *outcome == StepOutcome::Done
                && !is_replaced
                && !is_effect_there(step, &self.bench.state)
            {
                return Err(format!("in the end the effect of {path} isn't there"));
            }
        }
        Ok(())
    }

    /// A script that isn't repeatable runs again only after the journal says that it failed or was stopped: then its
    /// `attempts` allow it, or a person who has read of it.
    fn check_repeats(&self) -> Result<(), String> {
        for step in &self.bench.order.sequence.steps {
            let script = step.with["script"].as_str().unwrap_or_default();
            let Some(file) = script.strip_prefix("append ") else {
                continue;
            };
            let file = self.bench.state.files.get(camino::Utf8Path::new(file));
            let ran = file.map_or(0, |file| file.len() / "ran\n".len());
            let (mut begun, mut failed) = (None, 0);
            for event in &self.bench.journal.events {
                let ended = match &event.body {
                    EventBody::StepStarted { path, .. } => {
                        begun = Some(path);
                        continue;
                    }
                    EventBody::RunAborted { .. } => begun,
                    EventBody::RunFailed { path, .. } | EventBody::AttemptFailed { path, .. } => {
                        Some(path)
                    }
                    _ => None,
                };
                failed += usize::from(ended == Some(&step.path));
            }
            if step.with["repeatable"] != Value::Bool(true) && ran > 1 + failed {
                return Err(format!(
                    "{} ran {ran} times and failed {failed} times",
                    step.path
                ));
            }
        }
        Ok(())
    }

    /// Every reader of the events sees the same, whichever way they came.
    fn check_views(&self, end: &RunEnd) -> Result<(), String> {
        let events = &self.bench.journal.events;
        let whole = RunView::of(events);
        if whole != self.view {
            return Err("folding at once and one by one differ".to_owned());
        }
        let state = match end {
            RunEnd::Done(_) => RunState::Done,
            RunEnd::Failed => RunState::Failed,
            RunEnd::Aborted => RunState::Aborted,
            RunEnd::Suspended(_) => RunState::Restarting,
        };
        if whole.state != state {
            return Err(format!("{end:?} is shown as {:?}", whole.state));
        }
        let bytes: Vec<u8> = events.iter().flat_map(journal_line::encode).collect();
        if journal_line::decode(&bytes) != (events.clone(), bytes.len()) {
            return Err("the journal reads otherwise than it was written".to_owned());
        }
        let newer: Vec<Event> = events.iter().map(newer_release).collect();
        if newer != *events {
            return Err("fields of a newer release change what is read".to_owned());
        }
        let sent = serde_json::to_value(&whole).unwrap();
        if serde_json::from_value::<RunView>(sent).unwrap() != whole {
            return Err("the view changes on its way".to_owned());
        }
        Ok(())
    }

    /// Power cuts alone change nothing in the end; the only thing they stop for is a script that isn't repeatable.
    fn compare(
        &self,
        end: &RunEnd,
        undisturbed: &(RunEnd, Vec<Event>, FakeState),
    ) -> Result<(), String> {
        let (expected, events, state) = undisturbed;
        let fails_anyway = events.last().and_then(failed_step);
        let is_script = |path: &&StepPath| self.kind(path) == "run-script";
        let mut failures = self.bench.journal.events.iter().filter_map(failed_step);
        if let Some(path) = failures.find(|path| Some(*path) != fails_anyway && !is_script(path)) {
            return Err(format!("a power cut made {path} fail"));
        }
        let is_same = match end {
            RunEnd::Done(_) => {
                end == expected && without_repeats(&self.bench.state) == without_repeats(state)
            }
            // A cut script waits for a person, and the persons of this case have gone home.
            _ => *end == RunEnd::Failed,
        };
        if is_same {
            return Ok(());
        }
        Err(format!(
            "power cuts alone changed the end\n{:#?}\ninstead of {expected:?}\n{state:#?}",
            self.bench.state
        ))
    }
}

fn failed_step(event: &Event) -> Option<&StepPath> {
    match &event.body {
        EventBody::RunFailed { path, .. } => Some(path),
        _ => None,
    }
}

/// The event as a newer release would write it, read by this one.
fn newer_release(event: &Event) -> Event {
    let mut event = serde_json::to_value(event).unwrap();
    event["mood"] = json!({ "seq": 0 });
    event["body"]["mood"] = json!([null]);
    for part in ["content", "steps"] {
        match &mut event["body"][part] {
            Value::Object(fields) => drop(fields.insert("mood".to_owned(), json!(1))),
            Value::Array(items) => items.iter_mut().for_each(|item| item["mood"] = json!(1)),
            _ => {}
        }
    }
    serde_json::from_value(event).unwrap()
}

/// A script that a person had repeated is no difference.
fn without_repeats(state: &FakeState) -> FakeState {
    let mut state = state.clone();
    for (path, text) in &mut state.files {
        if path.starts_with("/var/log") {
            *text = b"ran\n".to_vec();
        }
    }
    state
}
