//! The dry run, and that it is the answer the machine acts on.

use std::collections::BTreeMap;

use sequence::engine::RunEnd;
use sequence::run_plan::{Known, plan_run};
use wire::event::{EventBody, FinishAction, StepOutcome};
use wire::facts::Facts;
use wire::run_plan::{Decision, PlannedStep, RunPlan};

use crate::world::{Bench, STEPS};

fn plan(bench: &Bench, is_seen: bool) -> RunPlan {
    let known = Known {
        facts: &bench.facts,
        is_seen,
        variables: &bench.order.variables,
        packages: &bench.order.packages,
    };
    plan_run(&bench.order.sequence, &known)
}

/// One line per step, as the CLI prints it.
fn story(plan: &RunPlan) -> String {
    let line = |step: &PlannedStep| {
        let mut line = format!("{} {}", step.path, step.decision);
        for (what, text) in [("if", &step.condition), ("-", &step.text)] {
            if let Some(text) = text {
                line += &format!(" {what} {text}");
            }
        }
        if !step.until.is_empty() {
            line += &format!(" until {}", step.until.join(", "));
        }
        if !step.errors.is_empty() {
            line += &format!(" because {}", step.errors.join(": "));
        }
        line
    };
    let mut lines: Vec<String> = plan.steps.iter().map(line).collect();
    lines.push(format!("host name {:?}", plan.host_name));
    for package in &plan.packages {
        let sure = if package.certain { "" } else { " perhaps" };
        lines.push(format!("needs{sure} {} {}", package.name, package.version));
    }
    lines.join("\n")
}

/// What the run really did with each step: its plan in words, or the condition that was false.
fn ran(bench: &Bench) -> BTreeMap<String, (Decision, Option<String>)> {
    let mut steps = BTreeMap::new();
    for event in &bench.journal.events {
        match &event.body {
            EventBody::StepPlanned { path, text, .. } => {
                steps.insert(path.to_string(), (Decision::Runs, Some(text.clone())));
            }
            EventBody::StepDone {
                path,
                outcome: StepOutcome::Skipped,
                message,
                ..
            } => {
                let planned = steps.entry(path.to_string());
                planned.or_insert((Decision::Skipped, message.clone()));
            }
            EventBody::RunFailed { path, errors, .. } => {
                steps.insert(path.to_string(), (Decision::Fails, Some(errors.join(": "))));
            }
            _ => {}
        }
    }
    steps
}

/// Plans, runs, and compares step by step. Returns how many steps the plan had left open.
fn plan_and_run(steps: &str) -> usize {
    let mut bench = Bench::new(steps);
    let plan = plan(&bench, true);
    bench.power_on_to_end();
    let ran = ran(&bench);
    let mut open = 0;
    for step in &plan.steps {
        let Some((decision, words)) = ran.get(step.path.as_str()) else {
            let failed = plan
                .steps
                .iter()
                .any(|step| step.decision == Decision::Fails);
            assert!(
                failed,
                "{} was never reached, and the plan didn't say so",
                step.path
            );
            break;
        };
        let planned = match step.decision {
            Decision::Undecided => {
                open += 1;
                continue;
            }
            Decision::Runs => step.text.clone(),
            Decision::Skipped => step.condition.as_ref().map(|c| format!("`{c}` is false")),
            Decision::Fails => Some(step.errors.join(": ")),
        };
        assert_eq!(step.decision, *decision, "{}", step.path);
        if step.decision == Decision::Runs && planned.is_none() {
            open += 1;
        } else {
            assert_eq!(planned, *words, "{}", step.path);
        }
    }
    open
}

#[test]
fn a_whole_run_is_foretold() {
    // The check's argument is an output of an earlier step: what it does is only known then.
    assert_eq!(plan_and_run(STEPS), 1);
    let bench = Bench::new(STEPS);
    insta::assert_snapshot!(story(&plan(&bench, true)));
}

#[test]
fn conditions_on_outputs_are_open_until_the_step_is_done() {
    let steps = r#"
  - { id: probe, run-script: { script: "true" } }
  - { id: after, when: "outputs['probe'].stdout == 'x'", run-script: { script: "true" } }
  - { id: sure, when: "vendor == 'Other' and outputs['probe'].stdout == 'x'", run-script: { script: "true" } }
  - { id: vars, when: "outputs['probe']['exit-code'] == 0", set-variables: { room: "a" } }
  - { id: room, when: "room == 'a'", run-script: { script: "true" } }
  - { id: none, when: "outputs['sure'] is none", run-script: { script: "true", args: ["{{ serial }}"] } }
  - { id: end, finish: { action: stay } }
"#;
    assert_eq!(plan_and_run(steps), 3);
    insta::assert_snapshot!(story(&plan(&Bench::new(steps), true)));
}

#[test]
fn failures_are_foretold() {
    let check = |steps: &str| {
        plan_and_run(steps);
        story(&plan(&Bench::new(steps), true))
    };
    insta::assert_snapshot!([
        check("  - { id: a, when: \"nobody == 1\", run-script: { script: 'true' } }\n  - { id: end, finish: { action: stay } }"),
        check("  - { id: a, apply-image: { image: missing } }\n  - { id: end, finish: { action: stay } }"),
        check("  - { id: a, set-identity: { hostname: '{{ site.name }}' } }\n  - { id: end, finish: { action: stay } }"),
    ]
    .join("\n\n"));
}

#[test]
fn an_asset_that_nobody_has_switched_on_yet() {
    let mut bench = Bench::new(STEPS);
    bench.facts = Facts {
        vendor: "Acme".into(),
        product: "book14".into(),
        serial: "PF0ABC12".into(),
        ..Facts::default()
    };
    insta::assert_snapshot!(story(&plan(&bench, false)));
}

#[test]
fn a_finished_run_ends_as_planned() {
    let mut bench = Bench::new(STEPS);
    assert_eq!(
        bench.power_on_to_end(),
        RunEnd::Done(FinishAction::ShutDown)
    );
    let plan = plan(&bench, true);
    let host_name = bench
        .state
        .files
        .get(camino::Utf8Path::new("/etc/hostname"));
    let host_name = String::from_utf8(host_name.unwrap().clone()).unwrap();
    assert_eq!(plan.host_name.as_deref(), Some(host_name.trim()));
}
