//! What the journal tells of a run: which steps are over, which were cut off, and how.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::event::{Environment, Event, EventBody, FinishAction, StepOutcome};
use wire::names::StepPath;

use super::RunEnd;

/// A step that was begun and is not over.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pending {
    /// The attempt to go on with, from 1.
    pub(super) attempt: u32,
    /// The start of the machine in which it was last begun.
    pub(super) boot: u32,
    /// How often it was begun since it last came to an end; more often than attempts if the machine dies in it.
    pub(super) starts: u32,
    /// The plan; with it, effects may have begun.
    pub(super) plan: Option<Value>,
}

/// A journal, folded.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The newest `seq`.
    pub(super) seq: u64,
    /// The newest boot number.
    pub(super) boot: u32,
    /// Whether the run was begun.
    pub(super) is_started: bool,
    /// The outputs of the steps that are over.
    pub(super) over: BTreeMap<StepPath, Value>,
    /// The steps that are over and really ran, in order.
    pub(super) ran: Vec<StepPath>,
    /// The steps that were cut off. More than one if the machine came up elsewhere than where it was cut, so that an
    /// earlier restart had to be repeated first.
    pub(super) pending: BTreeMap<StepPath, Pending>,
    /// The step that was begun last.
    pub(super) latest: Option<StepPath>,
    /// Whether the last thing recorded is that the machine restarts, and where to.
    pub(super) suspended: Option<Environment>,
    /// How many log lines there are.
    pub(super) log_lines: u64,
    done: Option<FinishAction>,
    is_aborted: bool,
}

impl History {
    pub(super) fn of(events: &[Event]) -> Self {
        let mut history = Self::default();
        for event in events {
            history.seq = history.seq.max(event.seq);
            history.boot = history.boot.max(event.boot);
            history.apply(event.boot, &event.body);
        }
        history
    }

    /// The end of the run, if it has one already.
    pub(super) const fn end(&self) -> Option<RunEnd> {
        match self.done {
            Some(action) => Some(RunEnd::Done(action)),
            None if self.is_aborted => Some(RunEnd::Aborted),
            None => None,
        }
    }

    fn apply(&mut self, boot: u32, body: &EventBody) {
        match body {
            EventBody::RunStarted { .. } => self.is_started = true,
            // Nothing is recorded after the end of a run, unless someone wants it gone on with.
            EventBody::RunResumed { .. } => self.is_aborted = false,
            EventBody::RunSuspended { into } => self.suspended = Some(*into),
            EventBody::RunDone { action } => self.done = Some(*action),
            EventBody::RunAborted { .. } => self.stop(boot),
            EventBody::RunFailed { path, .. } => {
                // The person who starts the run again has read of this step, and only of this one: it begins from
                // nothing. What else was cut off still is.
                self.pending.remove(path);
                self.over.remove(path);
                self.ran.retain(|ran| ran != path);
            }
            EventBody::StepStarted { path, attempt } => self.start(boot, path, *attempt),
            EventBody::StepPlanned { path, plan, .. } => {
                if let Some(pending) = self.pending.get_mut(path) {
                    pending.plan = Some(plan.clone());
                }
            }
            EventBody::AttemptFailed { path, attempt, .. } => {
                if let Some(pending) = self.pending.get_mut(path) {
                    (pending.attempt, pending.plan) = (attempt + 1, None);
                }
            }
            EventBody::StepDone {
                path,
                output,
                outcome,
                ..
            } => {
                let was_begun = self.pending.remove(path).is_some();
                // A warning is a failure the document allows: its effect isn't there.
                if was_begun && *outcome != StepOutcome::Warning {
                    self.ran.push(path.clone());
                }
                self.over.insert(path.clone(), output.clone());
                self.suspended = None;
            }
            EventBody::Log { .. } => self.log_lines += 1,
            _ => {}
        }
    }

    /// The step that was stopped begins from nothing if the run is gone on with: whoever stopped it knows of it. One
    /// that the power had cut off before is another matter.
    fn stop(&mut self, boot: u32) {
        self.is_aborted = true;
        if let Some(path) = &self.latest
            && self.pending.get(path).is_some_and(|step| step.boot == boot)
        {
            self.pending.remove(path);
        }
    }

    fn start(&mut self, boot: u32, path: &StepPath, attempt: u32) {
        self.suspended = None;
        self.latest = Some(path.clone());
        // The recorded plan stays the plan, however often the power fails.
        let pending = self.pending.entry(path.clone()).or_default();
        (pending.attempt, pending.boot) = (attempt, boot);
        pending.starts += 1;
    }
}
