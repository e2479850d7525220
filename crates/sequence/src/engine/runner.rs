//! The loop over the steps.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde_json::Value;
use wire::event::{Environment, EventBody, StepOutcome, StepTitle};
use wire::names::StepPath;
use wire::order::Order;
use wire::sequence::{CompiledStep, FORMAT, STEPS_MAX};

use super::history::{History, Pending};
use super::progress::StepProgress;
use super::recorder::Recorder;
use super::{Journal, RunEnd, World};
use crate::document::{ATTEMPTS_MAX, TIMEOUT_SECONDS_MAX};
use crate::ports::StepError;
use crate::scope::Scope;
use crate::size::seconds_in_words;
use crate::steps::restart::environment_name;
use crate::steps::{
    AnyStep, Flow, OnRestart, Outcome, PlanCx, Planned, StepCx, StepType, on_restart, step_type,
};

/// A step that takes the machine down with it is not begun for ever: so many starts beyond its attempts.
const EXTRA_STARTS_MAX: u32 = 10;

/// One call of [`super::run`].
pub(super) struct Runner<'a> {
    order: &'a Order,
    world: &'a World<'a>,
    recorder: Recorder<'a>,
    history: History,
    log_lines: Cell<u64>,
}

/// What a step came to.
enum StepEnd {
    Over(Flow),
    Failed(StepError),
    Stopped,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        order: &'a Order,
        journal: &'a mut dyn Journal,
        world: &'a World<'a>,
    ) -> Self {
        let history = History::of(journal.events());
        let recorder = Recorder::new(order.run, history.seq, history.boot + 1, journal, world);
        let log_lines = Cell::new(history.log_lines);
        Self {
            order,
            world,
            recorder,
            history,
            log_lines,
        }
    }

    pub(super) fn run(mut self) -> io::Result<RunEnd> {
        if let Some(end) = self.history.end() {
            return Ok(end);
        }
        self.announce()?;
        if self.world.observer.is_stopped() {
            return self.abort();
        }
        if let Err((path, error)) = check_order(self.order) {
            return self.fail(&path, &error);
        }
        if let Some(end) = self.check_environment()? {
            return Ok(end);
        }
        for step in &self.order.sequence.steps {
            if self.history.over.contains_key(&step.path) {
                continue;
            }
            if self.world.observer.is_stopped() {
                return self.abort();
            }
            match self.run_step(step)? {
                StepEnd::Over(Flow::Next) => {}
                StepEnd::Over(Flow::Suspend(_)) if self.world.observer.is_stopped() => {
                    return self.abort();
                }
                StepEnd::Over(Flow::Suspend(into)) => return self.suspend(into),
                StepEnd::Over(Flow::Finish(action)) => {
                    self.recorder.record(EventBody::RunDone { action })?;
                    return Ok(RunEnd::Done(action));
                }
                StepEnd::Failed(error) => return self.fail(&step.path, &error),
                StepEnd::Stopped => return self.abort(),
            }
        }
        self.end_without_finish()
    }

    /// See [`super::go_on`].
    pub(super) fn go_on(self) -> io::Result<()> {
        if self.history.end() == Some(RunEnd::Aborted) {
            self.announce()?;
        }
        Ok(())
    }

    /// All steps are over and none ended the run: the power failed after the last one, or it was skipped.
    fn end_without_finish(&self) -> io::Result<RunEnd> {
        let Some(step) = self.order.sequence.steps.last() else {
            return self.abort();
        };
        match self.step_flow(&step.path) {
            Some(Flow::Finish(action)) if self.history.ran.contains(&step.path) => {
                self.recorder.record(EventBody::RunDone { action })?;
                Ok(RunEnd::Done(action))
            }
            _ => {
                let error = StepError::refused(
                    "the sequence came to its end without a step that finishes the run",
                )
                .hint("end the sequence with a `finish` step that has no condition");
                self.fail(&step.path, &error)
            }
        }
    }

    fn announce(&self) -> io::Result<()> {
        if !self.history.is_started {
            let title = |step: &CompiledStep| StepTitle {
                path: step.path.clone(),
                title: step.title.clone(),
                kind: step.kind.clone(),
            };
            let steps = self.order.sequence.steps.iter().map(title).collect();
            let sequence = self.order.sequence.name.clone();
            return self
                .recorder
                .record(EventBody::RunStarted { sequence, steps });
        }
        self.recorder.record(EventBody::RunResumed {
            environment: self.world.machine.environment(),
        })
    }

    /// Whether we are where the latest step that restarted the machine said; the end of this part of the run if not.
    fn check_environment(&self) -> io::Result<Option<RunEnd>> {
        let leads_to = |path: &StepPath| match self.step_flow(path) {
            Some(Flow::Suspend(into)) => Some((path.clone(), into)),
            _ => None,
        };
        let actual = self.world.machine.environment();
        // The power may have failed when what starts was changed already and the step that did it not yet over.
        let begun = self.history.latest.as_ref();
        match begun.and_then(|path| self.step_flow(path)) {
            Some(Flow::Suspend(into)) if into == actual => return Ok(None),
            Some(Flow::Finish(_)) => return Ok(None),
            _ => {}
        }
        let Some((path, expected)) = self.history.ran.iter().rev().find_map(leads_to) else {
            return Ok(None);
        };
        if actual == expected {
            return Ok(None);
        }
        let is_latest = self.history.latest.as_ref() == Some(&path);
        if is_latest && self.history.suspended.is_none() {
            // The power failed, or the agent did, between the end of the step and the restart.
            return self.suspend(expected).map(Some);
        }
        let (asked, came) = (environment_name(expected), environment_name(actual));
        let error = StepError::refused(format!("asked to restart into {asked}, came up in {came}"))
            .hint(
                "check the boot order in the firmware; starting the run again repeats the restart",
            );
        self.fail(&path, &error).map(Some)
    }

    fn step_flow(&self, path: &StepPath) -> Option<Flow> {
        let step = self
            .order
            .sequence
            .steps
            .iter()
            .find(|step| &step.path == path)?;
        parse(step).ok().map(|(_, parsed)| parsed.flow())
    }

    fn suspend(&self, into: Environment) -> io::Result<RunEnd> {
        self.recorder.record(EventBody::RunSuspended { into })?;
        Ok(RunEnd::Suspended(into))
    }

    fn abort(&self) -> io::Result<RunEnd> {
        self.recorder.record(EventBody::RunAborted {
            reason: "an admin stopped the run".to_owned(),
        })?;
        Ok(RunEnd::Aborted)
    }

    fn fail(&self, path: &StepPath, error: &StepError) -> io::Result<RunEnd> {
        let (errors, hint) = (error.chain(), error.hint.clone());
        self.recorder.record(EventBody::RunFailed {
            path: path.clone(),
            errors,
            hint,
            last_lines: self.recorder.last_lines(path),
        })?;
        Ok(RunEnd::Failed)
    }

    fn run_step(&mut self, step: &CompiledStep) -> io::Result<StepEnd> {
        let pending = self.history.pending.remove(&step.path);
        let (step_type, parsed) = match parse(step) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(StepEnd::Failed(error)),
        };
        if pending.is_none() {
            match self.false_condition(step) {
                Err(error) => return Ok(StepEnd::Failed(error)),
                Ok(Some(condition)) => {
                    let message = Some(format!("`{condition}` is false"));
                    let outcome = Outcome {
                        kind: StepOutcome::Skipped,
                        message,
                        ..Outcome::done()
                    };
                    return self.step_over(step, outcome, None);
                }
                Ok(None) => {}
            }
        }
        if let Some(error) = pending
            .as_ref()
            .and_then(|pending| refusal(step, parsed.as_ref(), pending))
        {
            return Ok(StepEnd::Failed(error));
        }
        self.attempts(step, step_type, parsed.as_ref(), pending)
    }

    fn attempts(
        &mut self,
        step: &CompiledStep,
        step_type: &StepType,
        parsed: &dyn AnyStep,
        pending: Option<Pending>,
    ) -> io::Result<StepEnd> {
        let first = pending.as_ref().map_or(1, |pending| pending.attempt);
        let mut recorded = pending
            .and_then(|pending| pending.plan)
            .filter(|_| on_restart(step, parsed) == OnRestart::Redo);
        for attempt in first.. {
            self.recorder.record(EventBody::StepStarted {
                path: step.path.clone(),
                attempt,
            })?;
            let error = match self.attempt(step, step_type, parsed, recorded.take())? {
                Ok(outcome) => return self.step_over(step, outcome, Some(parsed.flow())),
                Err(error) => error,
            };
            if self.world.observer.is_stopped() {
                return Ok(StepEnd::Stopped);
            }
            if error.is_final || attempt >= step.attempts {
                return self.give_up(step, error);
            }
            let (errors, wait_seconds) = (error.chain(), step.wait_seconds);
            self.recorder.record(EventBody::AttemptFailed {
                path: step.path.clone(),
                attempt,
                errors,
                wait_seconds,
            })?;
            self.world
                .clock
                .wait(wait_seconds.saturating_mul(1000), &|| {
                    self.world.observer.is_stopped()
                });
            if self.world.observer.is_stopped() {
                return Ok(StepEnd::Stopped);
            }
        }
        Ok(StepEnd::Stopped)
    }

    fn give_up(&mut self, step: &CompiledStep, error: StepError) -> io::Result<StepEnd> {
        if !step.continue_on_error {
            return Ok(StepEnd::Failed(error));
        }
        let message = Some(error.chain().join(": "));
        self.step_over(
            step,
            Outcome {
                kind: StepOutcome::Warning,
                message,
                ..Outcome::done()
            },
            None,
        )
    }

    /// One attempt. The outer error is the journal's, the inner one the step's.
    fn attempt(
        &self,
        step: &CompiledStep,
        step_type: &StepType,
        parsed: &dyn AnyStep,
        recorded: Option<Value>,
    ) -> io::Result<Result<Outcome, StepError>> {
        let deadline_ms = self
            .world
            .clock
            .uptime_ms()
            .saturating_add(step.timeout_seconds.saturating_mul(1000));
        let progress = StepProgress {
            recorder: &self.recorder,
            world: self.world,
            path: &step.path,
            deadline_ms: Cell::new(deadline_ms),
            log_lines: &self.log_lines,
            reported_ms: Cell::new(None),
        };
        let planned = match self.plan(step, step_type, parsed, recorded) {
            Ok(planned) => planned,
            Err(error) => return Ok(Err(error)),
        };
        let Planned { data, text } = planned;
        self.recorder.record(EventBody::StepPlanned {
            path: step.path.clone(),
            plan: data.clone(),
            text,
        })?;
        let time_left = || progress.time_left();
        let cx = StepCx::new(
            self.world.machine,
            self.world.content,
            &progress,
            self.order.run,
            &step.path,
            &time_left,
        );
        let result = parsed.apply(&data, &cx);
        self.recorder.check()?;
        Ok(result.map_err(|error| {
            if progress.is_late() {
                too_late(step, error)
            } else {
                error
            }
        }))
    }

    fn plan(
        &self,
        step: &CompiledStep,
        step_type: &StepType,
        parsed: &dyn AnyStep,
        recorded: Option<Value>,
    ) -> Result<Planned, StepError> {
        let actual = self.world.machine.environment();
        let needed = step_type.needs.or(step.runs_in);
        if let Some(needed) = needed.filter(|needed| *needed != actual) {
            let (needed, actual) = (environment_name(needed), environment_name(actual));
            return Err(StepError::refused(format!(
                "{} works in {needed} only, this is {actual}",
                step.kind
            ))
            .hint("put the step before the restart into the OS"));
        }
        if let Some(data) = recorded {
            let text = parsed.describe(&data)?;
            return Ok(Planned { data, text });
        }
        let facts = self.world.machine.facts()?;
        let scope = self.scope(&facts);
        let packages = self.world.content.packages();
        parsed.plan(&PlanCx {
            facts: &facts,
            scope: &scope,
            packages,
            path: &step.path,
        })
    }

    fn scope(&self, facts: &wire::facts::Facts) -> Scope {
        let mut set = BTreeMap::new();
        let mut outputs = BTreeMap::new();
        for step in &self.order.sequence.steps {
            let Some(output) = self.history.over.get(&step.path) else {
                continue;
            };
            if let (Some(true), Value::Object(values)) = (
                step_type(&step.kind).map(|step_type| step_type.sets_variables),
                output,
            ) {
                set.extend(values.clone());
            }
            outputs.insert(step.path.to_string(), output.clone());
        }
        Scope::new(
            facts,
            &[&self.order.sequence.variables, &self.order.variables, &set],
            &outputs,
        )
    }

    /// The first condition that is false.
    fn false_condition<'s>(&self, step: &'s CompiledStep) -> Result<Option<&'s str>, StepError> {
        if step.when.is_empty() {
            return Ok(None);
        }
        let scope = self.scope(&self.world.machine.facts()?);
        for condition in &step.when {
            if !scope.is_true(condition)? {
                return Ok(Some(condition));
            }
        }
        Ok(None)
    }

    /// A step is over; `flow` is what comes next if it really ran.
    fn step_over(
        &mut self,
        step: &CompiledStep,
        outcome: Outcome,
        flow: Option<Flow>,
    ) -> io::Result<StepEnd> {
        let Outcome {
            kind,
            message,
            content,
            output,
        } = outcome;
        let path = step.path.clone();
        let body = EventBody::StepDone {
            path: path.clone(),
            outcome: kind,
            message,
            content,
            output: output.clone(),
        };
        self.recorder.record(body)?;
        if flow.is_some() {
            self.history.ran.push(path.clone());
        }
        self.history.over.insert(path, output);
        Ok(StepEnd::Over(flow.unwrap_or(Flow::Next)))
    }
}

fn parse(step: &CompiledStep) -> Result<(&'static StepType, Box<dyn AnyStep>), StepError> {
    let Some(step_type) = step_type(&step.kind) else {
        return Err(StepError::refused(format!(
            "this agent doesn't know the step type {}",
            step.kind
        ))
        .hint("update the boot image of this device, or use a step type it knows"));
    };
    match step_type.parse(&step.with) {
        Ok(parsed) => Ok((step_type, parsed)),
        Err(error) => {
            let what = format!("cannot read the arguments of {}", step.kind);
            Err(StepError::refused(what)
                .because(error)
                .hint("lint the sequence with the release that runs it"))
        }
    }
}

/// Why a step that was cut off must not be begun again; `None` if it may.
fn refusal(step: &CompiledStep, parsed: &dyn AnyStep, pending: &Pending) -> Option<StepError> {
    if on_restart(step, parsed) == OnRestart::Refuse && pending.plan.is_some() {
        let text =
            "the power failed while this step was running, and it isn't known to be safe to repeat";
        return Some(StepError::refused(text).hint(
            "look at the machine; starting the run again repeats the step. Say `repeatable: true` if it always may",
        ));
    }
    (pending.starts > step.attempts.saturating_add(EXTRA_STARTS_MAX)).then(|| {
        StepError::refused(format!(
            "the machine went down {} times during this step",
            pending.starts
        ))
        .hint("look for overheating, a bad power supply or a broken disk")
    })
}

fn too_late(step: &CompiledStep, error: StepError) -> StepError {
    let limit = seconds_in_words(step.timeout_seconds);
    let (is_final, hint) = (error.is_final, error.hint.clone());
    let outer =
        StepError::new(format!("the step took longer than its limit of {limit}")).because(error);
    StepError {
        is_final,
        hint: hint.or(Some(
            "raise `timeout` if the step needs more time".to_owned(),
        )),
        ..outer
    }
}

/// What must hold before anything is touched.
fn check_order(order: &Order) -> Result<(), (StepPath, StepError)> {
    let sequence = &order.sequence;
    let nowhere = || StepPath::new("sequence").ok();
    let first = sequence
        .steps
        .first()
        .map(|step| step.path.clone())
        .or_else(nowhere);
    let Some(first) = first else { return Ok(()) };
    if order.format != 1 || sequence.format != FORMAT {
        let text = format!(
            "the order has format {}.{}, this agent reads 1.{FORMAT}",
            order.format, sequence.format
        );
        return Err((
            first,
            StepError::refused(text).hint("update the boot image of this device"),
        ));
    }
    if sequence.steps.is_empty() || sequence.steps.len() > STEPS_MAX {
        return Err((
            first,
            StepError::refused(format!("a sequence has 1 to {STEPS_MAX} steps")),
        ));
    }
    check_limits(&sequence.steps)?;
    let Some(makes_staging) = sequence
        .steps
        .iter()
        .position(|step| is_makes_staging(&step.kind))
    else {
        return Ok(());
    };
    for step in &sequence.steps[..makes_staging] {
        // Their journal lives in memory: a power cut begins the run anew.
        let parsed = parse(step).map_err(|error| (step.path.clone(), error))?.1;
        if on_restart(step, parsed.as_ref()) != OnRestart::Redo {
            let text = format!(
                "{} stands before the disk is laid out, and isn't safe to repeat",
                step.kind
            );
            let error =
                StepError::refused(text).hint("put it after the step that lays out the disk");
            return Err((step.path.clone(), error));
        }
    }
    Ok(())
}

/// The limits of documents hold for orders too: whatever sent it, a run comes to an end.
fn check_limits(steps: &[CompiledStep]) -> Result<(), (StepPath, StepError)> {
    let mut paths = BTreeSet::new();
    for step in steps {
        let is_too_long = step.timeout_seconds > TIMEOUT_SECONDS_MAX
            || step.wait_seconds > TIMEOUT_SECONDS_MAX
            || u64::from(step.attempts) > ATTEMPTS_MAX;
        let what = if is_too_long {
            format!(
                "a step has at most {ATTEMPTS_MAX} attempts, and takes and waits at most {} each",
                seconds_in_words(TIMEOUT_SECONDS_MAX)
            )
        } else if !paths.insert(&step.path) {
            format!("the path {} stands twice in the sequence", step.path)
        } else {
            continue;
        };
        let error = StepError::refused(what)
            .hint("lint the sequence with the release that runs it, and put it again");
        return Err((step.path.clone(), error));
    }
    Ok(())
}

fn is_makes_staging(kind: &str) -> bool {
    step_type(kind).is_some_and(|step_type| step_type.makes_staging)
}
