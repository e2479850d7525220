//! A run as seen by people: folded from its events, and from nothing else.
//!
//! The server's pages, the CLI and the device's screen all show a [`RunView`]. Events may come twice, out of a newer
//! release, or (the lossy ones) not at all.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::event::{
    ContentBytes, Environment, Event, EventBody, FinishAction, LogLevel, Progress, ProgressUnit,
    StepOutcome,
};
use wire::names::{RunId, SequenceName, StepPath};

/// How many log lines a view keeps; the pages show the newest, the journal has all.
const LOG_LINES_MAX: usize = 500;

/// What a run is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// No event yet.
    #[default]
    Waiting,
    /// Steps are running.
    Running,
    /// The machine restarts on purpose.
    Restarting,
    /// All steps are done.
    Done,
    /// A step failed for good.
    Failed,
    /// Someone stopped it.
    Aborted,
}

/// What a step is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun.
    #[default]
    Waiting,
    /// Running now.
    Running,
    /// An attempt failed, the next one is to come.
    Retrying,
    /// Ended well.
    Done,
    /// Ended with a warning.
    Warning,
    /// Left out.
    Skipped,
    /// Failed for good.
    Failed,
}

impl StepState {
    /// Whether the step is over and the run went on.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Warning | Self::Skipped)
    }
}

/// A moment on the machine's own clock: only differences within one boot mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Moment {
    /// How often the machine had started in this run.
    pub boot: u32,
    /// Milliseconds since that start.
    pub uptime_ms: u64,
}

impl Moment {
    const fn of(event: &Event) -> Self {
        Self {
            boot: event.boot,
            uptime_ms: event.uptime_ms,
        }
    }

    /// Milliseconds from `self` to `later`; `None` if the machine restarted in between.
    #[must_use]
    pub fn until(self, later: Self) -> Option<u64> {
        (self.boot == later.boot).then(|| later.uptime_ms.saturating_sub(self.uptime_ms))
    }
}

/// One step as seen by people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepView {
    /// Where it stands.
    pub path: StepPath,
    /// What it is called.
    pub title: String,
    /// The step type.
    pub kind: String,
    /// What it is doing.
    pub state: StepState,
    /// The attempt, from 1; 0 before the first.
    pub attempts: u32,
    /// When the latest attempt began.
    pub started: Option<Moment>,
    /// When it ended.
    pub ended: Option<Moment>,
    /// The plan in words.
    pub plan: Option<String>,
    /// A warning, a reason for skipping, or what is being worked on.
    pub message: Option<String>,
    /// How it ended well.
    pub outcome: Option<StepOutcome>,
    /// The error chain of the latest failed attempt, outermost first.
    pub errors: Vec<String>,
    /// What a person can do about it.
    pub hint: Option<String>,
    /// Where its content came from.
    pub content: ContentBytes,
    /// Values for later steps.
    pub output: Value,
    /// The latest progress of a running step.
    pub progress: Option<Progress>,
}

impl StepView {
    /// How far the step is, 0 to 100; `None` if that is unknown.
    #[must_use]
    pub fn percent(&self) -> Option<u8> {
        if self.state.is_over() {
            return Some(100);
        }
        let progress = self
            .progress
            .as_ref()
            .filter(|progress| progress.total > 0)?;
        let share = u128::from(progress.current) * 100 / u128::from(progress.total);
        Some(u8::try_from(share.min(100)).unwrap_or(100))
    }

    /// How long the latest attempt took, in milliseconds; `None` while it runs or if the machine restarted meanwhile.
    #[must_use]
    pub fn duration_ms(&self) -> Option<u64> {
        self.started?.until(self.ended?)
    }
}

/// A log line of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogLine {
    /// The place of the line in the run.
    pub seq: u64,
    /// When.
    pub at: Moment,
    /// The step it came from.
    pub path: Option<StepPath>,
    /// How serious.
    pub level: LogLevel,
    /// The text.
    pub text: String,
}

/// A run, folded from its events. Start with `default()` and [`apply`](Self::apply) each event in order of `seq`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunView {
    /// The run; `None` before the first event.
    pub run: Option<RunId>,
    /// The sequence.
    pub sequence: Option<SequenceName>,
    /// What the run is doing.
    pub state: RunState,
    /// The steps, in order.
    pub steps: Vec<StepView>,
    /// How often the machine has started.
    pub boot: u32,
    /// The `seq` of the newest event seen.
    pub seq: u64,
    /// When the newest event happened.
    pub last: Option<Moment>,
    /// Where the agent runs, once it said so.
    pub environment: Option<Environment>,
    /// The step that failed.
    pub failed_step: Option<StepPath>,
    /// The error chain of the failure, outermost first; or why the run was stopped.
    pub errors: Vec<String>,
    /// What a person can do about the failure.
    pub hint: Option<String>,
    /// The last lines the failing step logged, oldest first.
    #[serde(default)]
    pub last_lines: Vec<String>,
    /// What the machine does now that the run is done.
    pub action: Option<FinishAction>,
    /// The newest log lines, oldest first.
    pub log: Vec<LogLine>,
}

impl RunView {
    /// Folds all `events`.
    #[must_use]
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut view = Self::default();
        for event in events {
            view.apply(event);
        }
        view
    }

    /// Takes in an event. One that was seen already changes nothing.
    pub fn apply(&mut self, event: &Event) {
        if event.body.is_lossy() {
            if event.seq < self.seq {
                return;
            }
        } else if event.seq <= self.seq {
            return;
        }
        self.run.get_or_insert(event.run);
        self.seq = event.seq;
        self.boot = self.boot.max(event.boot);
        self.last = Some(Moment::of(event));
        self.apply_body(event);
    }

    /// The number of the current step, from 1: the one that runs, failed, or comes next. The number of steps if all
    /// are over, 0 if there are none.
    #[must_use]
    pub fn step_number(&self) -> usize {
        let busy = |step: &StepView| {
            matches!(
                step.state,
                StepState::Running | StepState::Retrying | StepState::Failed
            )
        };
        let index = self
            .steps
            .iter()
            .position(busy)
            .or_else(|| self.steps.iter().position(|step| !step.state.is_over()));
        index.map_or(self.steps.len(), |index| index + 1)
    }

    /// The step [`step_number`](Self::step_number) counts; `None` if there are no steps.
    #[must_use]
    pub fn current_step(&self) -> Option<&StepView> {
        self.steps.get(self.step_number().checked_sub(1)?)
    }

    /// Where all content came from.
    #[must_use]
    pub fn content(&self) -> ContentBytes {
        let mut sum = ContentBytes::default();
        for step in &self.steps {
            sum += step.content;
        }
        sum
    }

    fn apply_body(&mut self, event: &Event) {
        match &event.body {
            EventBody::RunStarted { sequence, steps } => {
                self.sequence = Some(sequence.clone());
                self.state = RunState::Running;
                for step in steps {
                    let view = self.step(&step.path);
                    view.title.clone_from(&step.title);
                    view.kind.clone_from(&step.kind);
                }
            }
            EventBody::RunResumed { environment } => {
                self.go_on();
                self.environment = Some(*environment);
            }
            EventBody::RunSuspended { .. } => self.state = RunState::Restarting,
            EventBody::RunDone { action } => {
                self.state = RunState::Done;
                self.action = Some(*action);
            }
            EventBody::RunFailed {
                path,
                errors,
                hint,
                last_lines,
            } => {
                self.fail(event, path, errors, hint.as_ref());
                self.last_lines.clone_from(last_lines);
            }
            EventBody::RunAborted { reason } => {
                self.state = RunState::Aborted;
                self.errors = vec![reason.clone()];
            }
            EventBody::Log { path, level, text } => {
                self.push_log(event, path.as_ref(), *level, text)
            }
            _ => self.apply_step(event),
        }
    }

    fn apply_step(&mut self, event: &Event) {
        let at = Some(Moment::of(event));
        match &event.body {
            EventBody::StepStarted { path, attempt } => {
                self.go_on();
                let step = self.step(path);
                (step.state, step.attempts, step.started, step.ended) =
                    (StepState::Running, *attempt, at, None);
                (step.progress, step.message) = (None, None);
            }
            EventBody::StepPlanned { path, text, .. } => self.step(path).plan = Some(text.clone()),
            EventBody::StepDone {
                path,
                outcome,
                message,
                content,
                output,
            } => {
                let step = self.step(path);
                step.state = match outcome {
                    StepOutcome::Done => StepState::Done,
                    StepOutcome::Warning => StepState::Warning,
                    StepOutcome::Skipped => StepState::Skipped,
                };
                (step.outcome, step.ended, step.progress) = (Some(*outcome), at, None);
                (step.message, step.content, step.output) =
                    (message.clone(), *content, output.clone());
                if *outcome != StepOutcome::Warning {
                    step.errors.clear();
                }
            }
            EventBody::AttemptFailed { path, errors, .. } => {
                let step = self.step(path);
                (step.state, step.ended, step.progress) = (StepState::Retrying, at, None);
                step.errors.clone_from(errors);
            }
            EventBody::Progress(progress) => {
                let step = self.step(&progress.path);
                if step.state == StepState::Running {
                    step.message =
                        Some(progress.message.clone()).filter(|message| !message.is_empty());
                    step.progress = Some(progress.clone());
                }
            }
            _ => {}
        }
    }

    /// A run that failed is tried again: what was shown as failed is so no longer.
    fn go_on(&mut self) {
        self.state = RunState::Running;
        self.errors.clear();
        self.last_lines.clear();
        self.hint = None;
        if let Some(path) = self.failed_step.take() {
            let step = self.step(&path);
            step.state = StepState::Waiting;
            step.errors.clear();
            step.hint = None;
        }
    }

    fn fail(&mut self, event: &Event, path: &StepPath, errors: &[String], hint: Option<&String>) {
        self.state = RunState::Failed;
        self.failed_step = Some(path.clone());
        self.errors = errors.to_vec();
        self.hint = hint.cloned();
        let step = self.step(path);
        (step.state, step.ended, step.progress) =
            (StepState::Failed, Some(Moment::of(event)), None);
        step.errors = errors.to_vec();
        step.hint = hint.cloned();
    }

    fn push_log(&mut self, event: &Event, path: Option<&StepPath>, level: LogLevel, text: &str) {
        if self.log.len() >= LOG_LINES_MAX {
            self.log.remove(0);
        }
        let line = LogLine {
            seq: event.seq,
            at: Moment::of(event),
            path: path.cloned(),
            level,
            text: text.to_owned(),
        };
        self.log.push(line);
    }

    /// The step at `path`; one that the run did not list (a newer release may do so) is added at the end.
    fn step(&mut self, path: &StepPath) -> &mut StepView {
        let index = self
            .steps
            .iter()
            .position(|step| &step.path == path)
            .unwrap_or_else(|| {
                self.steps.push(StepView {
                    path: path.clone(),
                    title: path.to_string(),
                    kind: String::new(),
                    state: StepState::Waiting,
                    attempts: 0,
                    started: None,
                    ended: None,
                    plan: None,
                    message: None,
                    outcome: None,
                    errors: Vec::new(),
                    hint: None,
                    content: ContentBytes::default(),
                    output: Value::Null,
                    progress: None,
                });
                self.steps.len() - 1
            });
        &mut self.steps[index]
    }
}

/// The unit of a step's progress in words, for one line of text such as `3 of 7 items`.
#[must_use]
pub fn progress_text(progress: &Progress) -> String {
    match progress.unit {
        ProgressUnit::Bytes => format!(
            "{} of {}",
            crate::size::in_words(progress.current),
            crate::size::in_words(progress.total)
        ),
        ProgressUnit::Items => format!("{} of {}", progress.current, progress.total),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wire::event::Event;

    use super::{RunState, RunView, StepState};

    /// Makes events from short literals: `(seq, body)`.
    fn view(bodies: &[(u64, serde_json::Value)]) -> RunView {
        let events: Vec<Event> = bodies
            .iter()
            .map(|(seq, body)| {
                let event = json!({"run": uuid::Uuid::nil(), "seq": seq, "boot": 1, "uptime-ms": seq * 100, "body": body});
                serde_json::from_value(event).unwrap()
            })
            .collect();
        RunView::of(&events)
    }

    fn started() -> (u64, serde_json::Value) {
        let steps = json!([{"path": "a", "title": "A", "kind": "x"}, {"path": "g/b", "title": "B", "kind": "y"}]);
        (
            1,
            json!({"kind": "run-started", "sequence": "s", "steps": steps}),
        )
    }

    #[test]
    fn duplicates_and_unknown_events_change_nothing() {
        let once = [
            started(),
            (
                2,
                json!({"kind": "step-started", "path": "a", "attempt": 1}),
            ),
        ];
        let twice = [once.clone(), once.clone()].concat();
        assert_eq!(view(&once), view(&twice));
        let newer = [once.to_vec(), vec![(3, json!({"kind": "battery-low"}))]].concat();
        assert_eq!(view(&newer).steps, view(&once).steps);
        assert_eq!(view(&newer).seq, 3);
    }

    #[test]
    fn counts_steps_and_percent() {
        let mut events = vec![started()];
        assert_eq!(view(&events).step_number(), 1);
        events.push((
            2,
            json!({"kind": "step-done", "path": "a", "outcome": "skipped"}),
        ));
        events.push((
            3,
            json!({"kind": "step-started", "path": "g/b", "attempt": 1}),
        ));
        events.push((
            3,
            json!({"kind": "progress", "path": "g/b", "current": 1, "total": 4, "unit": "items"}),
        ));
        let run = view(&events);
        assert_eq!(
            (run.step_number(), run.current_step().unwrap().percent()),
            (2, Some(25))
        );
        events.push((
            4,
            json!({"kind": "step-done", "path": "g/b", "outcome": "done"}),
        ));
        events.push((5, json!({"kind": "run-done", "action": "shut-down"})));
        let run = view(&events);
        assert_eq!((run.step_number(), run.state), (2, RunState::Done));
        assert_eq!(run.steps[1].duration_ms(), Some(100));
    }

    #[test]
    fn a_failed_run_that_is_tried_again_is_no_longer_failed() {
        let mut events = vec![
            started(),
            (
                2,
                json!({"kind": "step-started", "path": "a", "attempt": 1}),
            ),
            (
                3,
                json!({"kind": "run-failed", "path": "a", "errors": ["no disk"], "hint": "add one"}),
            ),
        ];
        let run = view(&events);
        assert_eq!(
            (run.state, run.steps[0].state),
            (RunState::Failed, StepState::Failed)
        );
        assert_eq!(run.failed_step.unwrap().as_str(), "a");
        events.push((4, json!({"kind": "run-resumed", "environment": "os"})));
        let run = view(&events);
        assert_eq!(
            (run.state, run.steps[0].state),
            (RunState::Running, StepState::Waiting)
        );
        assert!(run.errors.is_empty());
    }
}
