//! What the screen says, folded from what happens.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sequence::view::{RunState, RunView, progress_text};
use wire::event::Event;
use wire::facts::Facts;

use crate::clock;
use crate::screen::{
    ErrorText, MachineText, Phase, PowerSafety, RunText, Screen, ScreenModel, StepText,
};

struct State {
    model: ScreenModel,
    run: RunView,
    started_ms: u64,
    expected_seconds: u64,
    /// Where the server is; `None` where none listens.
    server: Option<String>,
    /// The step whose pace is being measured, when that began, and how far it was then.
    pace: Option<(String, u64, u64)>,
}

/// Joins everything that has something to show. In an installed OS there is no screen, and showing does nothing.
pub(crate) struct Board {
    screen: Option<Screen>,
    state: Mutex<State>,
}

impl Board {
    /// A board with the machine's screen, or without one.
    pub(crate) fn new(screen: Option<Screen>) -> Self {
        let mut model = ScreenModel::default();
        model.footer.version = env!("CARGO_PKG_VERSION").to_owned();
        let state = State {
            model,
            run: RunView::default(),
            started_ms: clock::uptime_ms(),
            expected_seconds: 0,
            server: None,
            pace: None,
        };
        Self {
            screen,
            state: Mutex::new(state),
        }
    }

    /// Says which machine this is.
    pub(crate) fn set_machine(&self, facts: &Facts) {
        self.change(|state| {
            state.model.machine = MachineText {
                name: state.model.machine.name.take(),
                serial: facts.serial.clone(),
                model: format!("{} {}", facts.vendor, facts.product)
                    .trim()
                    .to_owned(),
            };
        });
    }

    /// Says where runs are looked at: the address of the server.
    pub(crate) fn set_server(&self, url: &str) {
        self.change(|state| state.server = Some(url.trim_end_matches('/').to_owned()));
    }

    /// Says what the machine does; `message` may be empty.
    pub(crate) fn set_phase(&self, phase: Phase, message: &str) {
        self.change(|state| {
            if state.model.phase != phase {
                // What is over shows how long it took.
                if phase.is_at_work() {
                    state.started_ms = clock::uptime_ms();
                }
                (state.model.step, state.model.error, state.model.remaining) = (None, None, None);
                state.model.source = None;
                state.model.headline.clear();
            }
            state.model.phase = phase;
            message.clone_into(&mut state.model.message);
            state.model.power = Some(match phase {
                Phase::Staging | Phase::Starting => PowerSafety::StartsOver,
                Phase::StagedDone | Phase::DeployDone | Phase::Idle | Phase::Failed => {
                    PowerSafety::Finished
                }
                _ => PowerSafety::Safe,
            });
        });
    }

    /// A run begins or goes on; `events` are those of earlier starts.
    pub(crate) fn begin_run(
        &self,
        phase: Phase,
        name: Option<String>,
        expected_seconds: u64,
        events: &[Event],
    ) {
        self.set_phase(phase, "");
        self.change(|state| {
            state.run = RunView::of(events);
            state.model.run = run_text(state);
            state.expected_seconds = expected_seconds;
            state.pace = None;
            state.model.machine.name = name.or_else(|| named(&state.run));
            let source = if phase == Phase::Staging {
                "from the boot medium"
            } else {
                "from this disk"
            };
            state.model.source = Some(source.to_owned());
        });
    }

    /// Says where content comes from.
    pub(crate) fn set_bundle(&self, bundle: &str) {
        self.change(|state| bundle.clone_into(&mut state.model.footer.bundle));
    }

    /// Says our address.
    pub(crate) fn set_address(&self, address: &str) {
        self.change(|state| address.clone_into(&mut state.model.footer.address));
    }

    /// Takes in an event of the run.
    pub(crate) fn event(&self, event: &Event) {
        self.change(|state| {
            state.run.apply(event);
            state.model.run = run_text(state);
            fold(state);
        });
    }

    /// An admin stopped the run.
    pub(crate) fn stopped(&self) {
        let what = "an administrator stopped this run".to_owned();
        self.fail(
            &[what],
            "switch it off, or leave it: it goes on as soon as an administrator wants it to",
        );
        self.change(|state| "STOPPED".clone_into(&mut state.model.headline));
    }

    /// The run so far.
    pub(crate) fn run(&self) -> RunView {
        self.lock().run.clone()
    }

    /// Something failed outside of a run.
    pub(crate) fn fail(&self, chain: &[String], hint: &str) {
        self.set_phase(Phase::Failed, "");
        let error = ErrorText::from_chain(
            None,
            chain,
            Some(hint.to_owned()).filter(|hint| !hint.is_empty()),
        );
        self.change(|state| state.model.error = Some(error));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let elapsed = clock::uptime_ms().saturating_sub(state.started_ms);
        let is_counting = state.model.step.is_some() || !state.model.phase.is_at_work();
        state.model.elapsed = is_counting.then(|| Duration::from_millis(elapsed));
        if let Some(screen) = &self.screen {
            screen.show(state.model.clone());
        }
    }
}

/// The screen's view of the run.
fn fold(state: &mut State) {
    let run = &state.run;
    let number = u32::try_from(run.step_number()).unwrap_or(0);
    let count = u32::try_from(run.steps.len()).unwrap_or(0);
    state.model.step = run.current_step().map(|step| StepText {
        number,
        count,
        title: step.title.clone(),
        percent: step.percent(),
        detail: match &step.progress {
            Some(progress) if progress.total == 0 => progress.message.clone(),
            Some(progress) if progress.message.is_empty() => progress_text(progress),
            Some(progress) => format!("{}  {}", progress_text(progress), progress.message),
            None => step
                .message
                .clone()
                .or_else(|| step.plan.clone())
                .unwrap_or_default(),
        },
    });
    if let Some(name) = named(run) {
        state.model.machine.name = Some(name);
    }
    if run.state == RunState::Failed {
        let step = run.failed_step.as_ref().map(ToString::to_string);
        state.model.phase = Phase::Failed;
        state.model.power = Some(PowerSafety::Finished);
        state.model.error = Some(ErrorText {
            last_lines: run.last_lines.clone(),
            ..ErrorText::from_chain(step, &run.errors, run.hint.clone())
        });
    }
    state.model.remaining = remaining(state);
}

/// What helps after every failure of a run.
const SWITCH: &str = "Switching off and on again starts another try.";

/// How a run is found again by a person in front of the machine.
fn run_text(state: &State) -> Option<RunText> {
    let id = state.run.run?.to_string();
    let serial = Some(&state.model.machine.serial).filter(|serial| !serial.is_empty());
    let retry = format!("forestage run retry {}", serial.unwrap_or(&id));
    let again = match (&state.server, state.run.state) {
        (Some(_), RunState::Aborted) => vec![format!("To go on where it was: {retry}")],
        (Some(_), _) => vec![SWITCH.to_owned(), format!("Without touching it: {retry}")],
        (None, _) => vec![SWITCH.to_owned()],
    };
    Some(RunText {
        code: short_code(&id),
        link: match &state.server {
            Some(url) => format!("{url}/runs/{id}"),
            None => format!("forestage:run:{id}"),
        },
        again,
    })
}

/// The last twelve digits of an id, in fours: as the pages show it.
fn short_code(id: &str) -> String {
    let digits: Vec<char> = id.chars().filter(char::is_ascii_hexdigit).collect();
    let last = &digits[digits.len().saturating_sub(12)..];
    let fours: Vec<String> = last.chunks(4).map(|four| four.iter().collect()).collect();
    fours.join(" ")
}

/// The name a step gave the machine.
fn named(run: &RunView) -> Option<String> {
    run.steps
        .iter()
        .rev()
        .find_map(|step| step.output.get("hostname")?.as_str().map(str::to_owned))
}

/// How long still: what the order expects, or else the pace of the step that runs, if it is the last long one.
fn remaining(state: &mut State) -> Option<Duration> {
    let now = clock::uptime_ms();
    if state.expected_seconds > 0 {
        let elapsed = now.saturating_sub(state.started_ms) / 1000;
        return state
            .expected_seconds
            .checked_sub(elapsed)
            .filter(|left| *left > 0)
            .map(Duration::from_secs);
    }
    let step = state.run.current_step()?;
    let progress = step
        .progress
        .as_ref()
        .filter(|progress| progress.total > 0)?;
    let path = step.path.to_string();
    match &state.pace {
        Some((known, since_ms, from)) if *known == path && progress.current >= *from => {
            /// Before this, a pace is a guess.
            const PACE_MS_MIN: u64 = 3000;
            let (spent, done) = (now.saturating_sub(*since_ms), progress.current - from);
            if spent < PACE_MS_MIN || done == 0 {
                return None;
            }
            let left = u128::from(progress.total.saturating_sub(progress.current))
                * u128::from(spent)
                / u128::from(done);
            u64::try_from(left).ok().map(Duration::from_millis)
        }
        _ => {
            state.pace = Some((path, now, progress.current));
            None
        }
    }
}

/// Shows a failure on a screen that nothing else uses.
pub(crate) fn show_failure(screen: &Screen, what: &str, why: &[String], hint: &str) {
    let error = ErrorText {
        step: None,
        what: what.to_owned(),
        why: why.to_vec(),
        hint: Some(hint.to_owned()),
        last_lines: Vec::new(),
    };
    screen.show(ScreenModel {
        phase: Phase::Failed,
        error: Some(error),
        ..ScreenModel::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::event::{EventBody, ProgressUnit, StepTitle};
    use wire::names::RunId;

    fn event(seq: u64, body: EventBody) -> Event {
        Event {
            run: RunId(uuid::Uuid::nil()),
            seq,
            boot: 1,
            uptime_ms: 1,
            body,
        }
    }

    #[test]
    fn what_a_step_waits_for_stands_there_until_it_goes_on() {
        let board = Board::new(None);
        board.begin_run(Phase::Deploying, None, 0, &[]);
        let path: wire::names::StepPath = "java".parse().unwrap();
        let steps = vec![StepTitle {
            path: path.clone(),
            title: "Java".into(),
            kind: "install-packages".into(),
        }];
        let sequence = "laptop".parse().unwrap();
        board.event(&event(1, EventBody::RunStarted { sequence, steps }));
        let attempt = 1;
        board.event(&event(
            2,
            EventBody::StepStarted {
                path: path.clone(),
                attempt,
            },
        ));
        let shown = |current, total, message: &str| {
            let progress = wire::event::Progress {
                path: path.clone(),
                current,
                total,
                unit: ProgressUnit::Bytes,
                message: message.to_owned(),
            };
            board.event(&event(3, EventBody::Progress(progress)));
            let step = board.lock().model.step.clone().unwrap();
            (step.percent, step.detail)
        };
        assert_eq!(
            shown(0, 0, "waiting for the server"),
            (None, "waiting for the server".to_owned())
        );
        assert_eq!(shown(1, 2, "java").0, Some(50));
    }

    #[test]
    fn a_failing_run_becomes_a_failed_screen_with_its_step() {
        let board = Board::new(None);
        board.begin_run(Phase::Staging, None, 0, &[]);
        let path: wire::names::StepPath = "content".parse().unwrap();
        let steps = vec![StepTitle {
            path: path.clone(),
            title: "Content".into(),
            kind: "stage-content".into(),
        }];
        board.event(&event(
            1,
            EventBody::RunStarted {
                sequence: "stage".parse().unwrap(),
                steps,
            },
        ));
        board.event(&event(
            2,
            EventBody::StepStarted {
                path: path.clone(),
                attempt: 1,
            },
        ));
        let progress = wire::event::Progress {
            path: path.clone(),
            current: 1,
            total: 4,
            unit: ProgressUnit::Items,
            message: String::new(),
        };
        board.event(&event(2, EventBody::Progress(progress)));
        let step = board.lock().model.step.clone().unwrap();
        assert_eq!(
            (step.number, step.count, step.percent, step.detail.as_str()),
            (1, 1, Some(25), "1 of 4")
        );
        let errors = vec!["cannot read".to_owned(), "the stick is gone".to_owned()];
        board.event(&event(
            3,
            EventBody::RunFailed {
                path,
                errors,
                hint: Some("plug it in".into()),
                last_lines: vec!["I/O error".into()],
            },
        ));
        let model = board.lock().model.clone();
        assert_eq!(model.phase, Phase::Failed);
        let error = model.error.unwrap();
        assert_eq!(
            (error.step.as_deref(), error.what.as_str()),
            (Some("content"), "cannot read")
        );
        assert_eq!(error.why, ["the stick is gone"]);
        assert_eq!(error.last_lines, ["I/O error"]);
        let run = model.run.unwrap();
        assert_eq!(run.link, format!("forestage:run:{}", uuid::Uuid::nil()));
        assert_eq!(
            (run.code.as_str(), run.again),
            ("0000 0000 0000", vec![SWITCH.to_owned()])
        );
    }

    #[test]
    fn at_school_the_code_leads_to_the_page_of_the_run() {
        let board = Board::new(None);
        board.set_server("https://forestage.example:8443/");
        board.set_machine(&Facts {
            serial: "PF1".into(),
            ..Facts::default()
        });
        let resumed = EventBody::RunResumed {
            environment: wire::event::Environment::BootImage,
        };
        board.begin_run(Phase::Deploying, None, 0, &[event(1, resumed)]);
        let run = board.lock().model.run.clone().unwrap();
        assert!(
            run.link
                .starts_with("https://forestage.example:8443/runs/0000")
        );
        assert_eq!(run.again[1], "Without touching it: forestage run retry PF1");
        let reason = "an admin stopped the run".to_owned();
        board.event(&event(2, EventBody::RunAborted { reason }));
        board.stopped();
        let model = board.lock().model.clone();
        assert_eq!(
            (model.phase, model.headline.as_str()),
            (Phase::Failed, "STOPPED")
        );
        assert_eq!(
            model.run.unwrap().again,
            ["To go on where it was: forestage run retry PF1"]
        );
        board.begin_run(Phase::Deploying, None, 0, &[]);
        assert_eq!(board.lock().model.headline, "");
    }
}
