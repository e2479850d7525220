//! `forestage report`: figures about the rollout.

use clap::{Args, Subcommand};
use wire::insights::Insights;

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, bytes, clean, seconds};
use crate::settings::connect;

/// Figures about the rollout.
#[derive(Debug, Subcommand)]
pub(crate) enum Report {
    /// Show how far each site is, and how long runs took
    #[command(after_help = "Example:\n  forestage report rollout --deployment autumn-2026")]
    Rollout(Which),
    /// Show why runs failed, commonest reason first
    #[command(after_help = "Example:\n  forestage report failures --site BJO")]
    Failures(Which),
    /// Show how long steps took, those first that took most of the time
    #[command(after_help = "Example:\n  forestage report steps --since 2026-08-17")]
    Steps(Which),
}

/// Which machines the figures are about.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only machines of this site
    #[arg(long, default_value = "", hide_default_value = true)]
    site: String,
    /// Only machines of this model
    #[arg(long, default_value = "", hide_default_value = true)]
    model: String,
    /// Only runs of this deployment
    #[arg(long, default_value = "", hide_default_value = true)]
    deployment: String,
    /// Only runs that ended on this day or later, such as 2026-08-17
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "DAY"
    )]
    since: String,
    /// Only runs that ended on this day or earlier
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "DAY"
    )]
    until: String,
}

/// Does what was asked.
pub(crate) fn run(command: &Report, output: &Output) -> Outcome<()> {
    let (Report::Rollout(which) | Report::Failures(which) | Report::Steps(which)) = command;
    let filter = [
        ("site", which.site.as_str()),
        ("model", which.model.as_str()),
        ("deployment", which.deployment.as_str()),
        ("since", which.since.as_str()),
        ("until", which.until.as_str()),
    ];
    let told = connect()?
        .insights(&filter)
        .trying(|| "cannot read the figures".into())?;
    match command {
        Report::Rollout(_) => output.answer(&told, |look| render_rollout(&told, look)),
        Report::Failures(_) => output.answer(&told.failures, |look| render_failures(&told, look)),
        Report::Steps(_) => output.answer(&told.steps, |look| render_steps(&told, look)),
    }
}

fn render_rollout(told: &Insights, look: &Look) -> String {
    let mut table = Table::new(&["SITE", "NAME", "DEVICES", "DONE", "RUNNING", "IN TROUBLE"]);
    for site in &told.sites {
        table.row([
            clean(&site.site),
            clean(&site.name),
            site.devices.to_string(),
            site.completed.to_string(),
            site.running.to_string(),
            site.in_trouble.to_string(),
        ]);
    }
    let times = &told.times;
    let took = if times.runs == 0 {
        "no run is completed yet".to_owned()
    } else {
        format!(
            "median {}, 95 % within {}, expected {}",
            seconds(times.median_seconds),
            seconds(times.p95_seconds),
            seconds(times.expected_seconds)
        )
    };
    format!(
        "{}\n{} of {} machines are done; {} runs ended; {took}\n{} of content never crossed the network, {} did\n",
        table.render(look, ""),
        told.completed,
        told.devices,
        told.runs,
        bytes(told.local_bytes),
        bytes(told.network_bytes),
    )
}

fn render_failures(told: &Insights, look: &Look) -> String {
    if told.failures.is_empty() {
        return "no run failed\n".to_owned();
    }
    let mut table = Table::new(&["DEVICES", "RUNS", "STEP", "WHAT IT SAID", "FOR EXAMPLE"]);
    for reason in &told.failures {
        table.row([
            reason.devices.to_string(),
            reason.runs.to_string(),
            clean(&reason.step),
            clean(&reason.message),
            clean(&reason.example),
        ]);
    }
    table.render(look, "")
}

fn render_steps(told: &Insights, look: &Look) -> String {
    if told.steps.is_empty() {
        return "no run has ended yet\n".to_owned();
    }
    let mut table = Table::new(&["STEP", "TITLE", "RUNS", "MEDIAN", "95 % WITHIN", "SHARE"]);
    for step in &told.steps {
        table.row([
            clean(&step.path),
            clean(&step.title),
            step.runs.to_string(),
            seconds(step.median_ms / 1000),
            seconds(step.p95_ms / 1000),
            format!("{} %", step.share_percent),
        ]);
    }
    table.render(look, "")
}

#[cfg(test)]
mod tests {
    use wire::insights::{FailureReason, StepFigures};

    use super::*;
    use crate::output::Paint;

    const LOOK: Look = Look {
        paint: Paint::NONE,
        width: 110,
    };

    #[test]
    fn reports_say_what_no_run_says() {
        let none = Insights::default();
        assert!(render_failures(&none, &LOOK).contains("no run failed"));
        assert!(render_steps(&none, &LOOK).contains("no run has ended yet"));
        assert!(render_rollout(&none, &LOOK).contains("0 of 0 machines are done"));
    }

    #[test]
    fn nothing_a_machine_says_moves_the_cursor() {
        let told = Insights {
            failures: vec![FailureReason {
                message: "\u{1b}[2J boom".into(),
                ..FailureReason::default()
            }],
            steps: vec![StepFigures {
                title: "\u{1b}[2J".into(),
                ..StepFigures::default()
            }],
            ..Insights::default()
        };
        assert!(!render_failures(&told, &LOOK).contains('\u{1b}'));
        assert!(!render_steps(&told, &LOOK).contains('\u{1b}'));
    }
}
