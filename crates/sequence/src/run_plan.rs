//! The dry run: how a run would go on one device, from what is known of it.
//!
//! It walks the sequence as the engine does, with the same conditions, the same templates and the same planning of the
//! same steps, so that it gives the answer the device will act on (`tests/it/run_plan.rs` compares the two, step by
//! step). Where something isn't known yet it says so, and until when, and never guesses.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wire::facts::Facts;
use wire::names::PackageName;
use wire::package::{Package, PackageKind};
use wire::run_plan::{Decision, PlannedPackage, PlannedStep, RunPlan};
use wire::sequence::{CompiledSequence, CompiledStep};

use crate::expression;
use crate::ports::StepError;
use crate::scope::{MODEL_NAMES, OUTPUTS_NAME, Scope, fact_values};
use crate::steps::apply_drivers::{choose, model_of};
use crate::steps::set_identity::SetIdentity;
use crate::steps::{AnyStep, PackageUse, PlanCx, Planned, Step, step_type};
use crate::tri::{Tri, decide_in};

/// When the facts of a machine that nobody has switched on yet become known.
const UNTIL_SEEN: &str = "the machine checks in";

/// What is known before a run.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What is known of the machine.
    pub facts: &'a Facts,
    /// Whether the machine itself told these facts. If not, they come from its asset and name at most serial number,
    /// asset tag, UUID and model; what is empty isn't known.
    pub is_seen: bool,
    /// What the order would hold.
    pub variables: &'a BTreeMap<String, Value>,
    /// Every package at the version the order would name.
    pub packages: &'a [Package],
}

/// Plans a run of `sequence`. Never fails: a step that would fail is an answer.
#[must_use]
pub fn plan_run(sequence: &CompiledSequence, known: &Known<'_>) -> RunPlan {
    let mut planner = Planner::new(sequence, known);
    let steps = sequence
        .steps
        .iter()
        .map(|step| planner.step(step))
        .collect();
    RunPlan {
        sequence: sequence.name.clone(),
        steps,
        host_name: planner.host_name,
        packages: planner.packages,
    }
}

struct Planner<'a> {
    known: &'a Known<'a>,
    scope: Scope,
    /// Names whose value comes later, and when.
    to_come: BTreeMap<String, String>,
    /// Steps so far whose output isn't known.
    open_outputs: BTreeSet<String>,
    outputs: serde_json::Map<String, Value>,
    /// Whether `outputs` has something that the scope lacks. Few steps ask for outputs, so it waits for one that does.
    has_new_outputs: bool,
    host_name: Option<String>,
    packages: Vec<PlannedPackage>,
}

/// What the conditions of a step come to.
#[derive(Default)]
struct Judgement<'s> {
    decision: Decision,
    /// The condition that decides.
    condition: Option<&'s str>,
    /// For `Undecided`.
    until: Vec<String>,
    /// For `Fails`.
    error: Option<StepError>,
}

impl<'s> Judgement<'s> {
    fn of(decision: Decision, condition: &'s str) -> Self {
        Self {
            decision,
            condition: Some(condition),
            ..Self::default()
        }
    }
}

impl<'a> Planner<'a> {
    fn new(sequence: &'a CompiledSequence, known: &'a Known<'a>) -> Self {
        let layers = [&sequence.variables, known.variables];
        let mut scope = Scope::new(known.facts, &layers, &BTreeMap::new());
        let mut to_come = BTreeMap::new();
        if !known.is_seen {
            for (name, value) in fact_values(known.facts) {
                let is_told = value.as_str().is_some_and(|text| !text.is_empty())
                    && (MODEL_NAMES.contains(&name.as_str())
                        || ["serial", "asset_tag", "uuid"].contains(&name.as_str()));
                if !is_told {
                    scope.forget(&name);
                    to_come.insert(name, UNTIL_SEEN.to_owned());
                }
            }
        }
        Self {
            known,
            scope,
            to_come,
            open_outputs: BTreeSet::new(),
            outputs: serde_json::Map::new(),
            has_new_outputs: false,
            host_name: None,
            packages: Vec::new(),
        }
    }

    fn step(&mut self, step: &CompiledStep) -> PlannedStep {
        let mut planned = PlannedStep {
            path: step.path.clone(),
            title: step.title.clone(),
            kind: step.kind.clone(),
            decision: Decision::Runs,
            condition: None,
            text: None,
            until: Vec::new(),
            errors: Vec::new(),
            hint: None,
        };
        self.show_outputs(step.when.iter().map(String::as_str));
        let judgement = self.judge(&step.when);
        planned.decision = judgement.decision;
        planned.condition = judgement.condition.map(str::to_owned);
        planned.until = judgement.until;
        if let Some(error) = &judgement.error {
            fail(&mut planned, error);
        }
        match planned.decision {
            Decision::Skipped => {
                self.output(step, Some(Value::Null));
            }
            Decision::Runs | Decision::Undecided => self.body(step, &mut planned),
            Decision::Fails => self.output(step, None),
        }
        planned
    }

    /// The decision of all conditions together, and the one that makes it.
    fn judge<'s>(&self, conditions: &'s [String]) -> Judgement<'s> {
        let mut judgement = Judgement::default();
        for condition in conditions {
            let until = RefCell::new(Vec::new());
            let is_open = |part: &str| {
                let names = expression::condition_names(part).unwrap_or_default();
                let waits = self.waits_for(part, &names);
                let is_open = !waits.is_empty();
                until.borrow_mut().extend(waits);
                is_open
            };
            let tri = decide_in(condition, &self.scope, &is_open);
            let until = until.into_inner();
            let truth = match tri {
                Tri::True => Ok(true),
                Tri::False => Ok(false),
                // Nothing is still to come, so it is as good as it gets.
                Tri::Unknown if until.is_empty() => self.scope.is_true(condition),
                Tri::Unknown => {
                    if judgement.decision == Decision::Runs {
                        judgement = Judgement::of(Decision::Undecided, condition);
                        judgement.until = deduplicated(until);
                    }
                    continue;
                }
            };
            match truth {
                Ok(true) => {}
                Ok(false) => return Judgement::of(Decision::Skipped, condition),
                Err(error) => {
                    let judgement = Judgement::of(Decision::Fails, condition);
                    return Judgement {
                        error: Some(error),
                        ..judgement
                    };
                }
            }
        }
        judgement
    }

    /// What must happen before this expression has a value; nothing if it has one (or never will).
    fn waits_for(&self, expression: &str, names: &[String]) -> Vec<String> {
        let mut waits: Vec<String> = names
            .iter()
            .filter_map(|name| self.to_come.get(name).cloned())
            .collect();
        if names.iter().any(|name| name == OUTPUTS_NAME) {
            let asked = |path: &&String| {
                expression.contains(&format!("'{path}'"))
                    || expression.contains(&format!("\"{path}\""))
            };
            let open = self.open_outputs.iter().filter(asked);
            waits.extend(open.map(|path| format!("step `{path}` is done")));
        }
        waits
    }

    /// A step that runs, or may run.
    fn body(&mut self, step: &CompiledStep, planned: &mut PlannedStep) {
        let parsed =
            step_type(&step.kind).map(|step_type| (step_type, step_type.parse(&step.with)));
        let (step_type, parsed) = match parsed {
            Some((step_type, Ok(parsed))) => (step_type, parsed),
            Some((_, Err(error))) => {
                let error =
                    StepError::refused(format!("cannot read the arguments of {}", step.kind))
                        .because(error);
                return self.failed(step, planned, &error);
            }
            None => {
                let error =
                    StepError::refused(format!("there is no step type {} any more", step.kind));
                return self.failed(step, planned, &error);
            }
        };
        self.content(parsed.as_ref(), planned.decision == Decision::Runs);
        self.show_outputs(
            parsed
                .templates()
                .iter()
                .map(|template| template.0.as_str()),
        );
        let mut waits = Vec::new();
        for template in parsed.templates() {
            let names = expression::template_names(&template.0).unwrap_or_default();
            waits.extend(self.waits_for(&template.0, &names));
        }
        if step_type.observes && !self.known.is_seen {
            waits.push(UNTIL_SEEN.to_owned());
        }
        if !waits.is_empty() {
            planned.until = deduplicated([std::mem::take(&mut planned.until), waits].concat());
            return self.output(step, None);
        }
        let cx = PlanCx {
            facts: self.known.facts,
            scope: &self.scope,
            packages: self.known.packages,
            path: &step.path,
        };
        match parsed.plan(&cx) {
            Ok(plan) => {
                planned.text = Some(plan.text.clone());
                self.took(step, &plan, planned.decision);
            }
            Err(error) if planned.decision == Decision::Runs => self.failed(step, planned, &error),
            // It may never come to that; what would go wrong is worth saying all the same.
            Err(error) => {
                (planned.errors, planned.hint) = (error.chain(), error.hint.clone());
                self.output(step, None);
            }
        }
    }

    fn failed(&mut self, step: &CompiledStep, planned: &mut PlannedStep, error: &StepError) {
        fail(planned, error);
        self.output(step, None);
    }

    /// What later steps know of a step that was planned.
    fn took(&mut self, step: &CompiledStep, plan: &Planned, decision: Decision) {
        let sets_variables = step_type(&step.kind).is_some_and(|found| found.sets_variables);
        let is_certain = decision == Decision::Runs;
        if step.kind == SetIdentity::KIND && is_certain {
            self.host_name = plan.data["hostname"].as_str().map(str::to_owned);
        }
        // Such a step gives out what it planned, and nothing can happen to it in between.
        self.output(
            step,
            (sets_variables && is_certain).then(|| plan.data.clone()),
        );
    }

    /// Remembers the output of a step; `None` if it isn't known.
    fn output(&mut self, step: &CompiledStep, output: Option<Value>) {
        let path = step.path.to_string();
        let sets_variables = step_type(&step.kind).is_some_and(|found| found.sets_variables);
        let Some(output) = output else {
            if let (true, Some(values)) = (sets_variables, step.with.as_object()) {
                for name in values.keys() {
                    self.scope.forget(name);
                    self.to_come
                        .insert(name.clone(), format!("step `{path}` is done"));
                }
            }
            self.open_outputs.insert(path);
            return;
        };
        if let (true, Value::Object(values)) = (sets_variables, &output) {
            // Facts can't be talked over; the lint refuses their names here.
            for (name, value) in values {
                self.to_come.remove(name);
                self.scope.set(name, value);
            }
        }
        self.outputs.insert(path, output);
        self.has_new_outputs = true;
    }

    /// Puts the outputs so far into the scope if one of these expressions may ask for them.
    fn show_outputs<'e>(&mut self, mut expressions: impl Iterator<Item = &'e str>) {
        if self.has_new_outputs && expressions.any(|text| text.contains(OUTPUTS_NAME)) {
            let outputs = Value::Object(self.outputs.clone());
            self.scope.set(OUTPUTS_NAME, &outputs);
            self.has_new_outputs = false;
        }
    }

    /// Notes the packages a step asks for.
    fn content(&mut self, parsed: &dyn AnyStep, certain: bool) {
        for wanted in parsed.packages() {
            match wanted {
                PackageUse::Named(name, kind) => self.named(&name, kind, certain),
                PackageUse::Drivers => {
                    let model = model_of(self.known.facts);
                    // If two fit equally well the step fails, and says so.
                    if let Ok(Some(driver)) = choose(self.known.packages, &model) {
                        self.note(driver, certain);
                    }
                }
            }
        }
    }

    fn named(&mut self, name: &PackageName, kind: PackageKind, certain: bool) {
        let package = self
            .known
            .packages
            .iter()
            .find(|package| &package.name == name && package.kind == kind);
        if let Some(package) = package {
            self.note(package, certain);
        }
    }

    fn note(&mut self, package: &Package, certain: bool) {
        match self
            .packages
            .iter_mut()
            .find(|known| known.name == package.name)
        {
            Some(known) => known.certain |= certain,
            None => self.packages.push(PlannedPackage {
                name: package.name.clone(),
                version: package.version.clone(),
                certain,
            }),
        }
    }
}

fn fail(planned: &mut PlannedStep, error: &StepError) {
    planned.decision = Decision::Fails;
    planned.errors = error.chain();
    planned.hint.clone_from(&error.hint);
}

fn deduplicated(texts: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts
        .into_iter()
        .filter(|text| seen.insert(text.clone()))
        .collect()
}
