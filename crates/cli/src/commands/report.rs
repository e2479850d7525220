//! `forestage report`: figures about the rollout.

use clap::{Args, Subcommand};
use wire::insights::Insights;

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, clean, seconds};
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
}

/// Which machines the figures are about.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only machines of this site
    #[arg(long, default_value = "", hide_default_value = true)]
    site: String,
    /// Only machines whose latest run is of this deployment
    #[arg(long, default_value = "", hide_default_value = true)]
    deployment: String,
}

/// Does what was asked.
pub(crate) fn run(command: &Report, output: &Output) -> Outcome<()> {
    let (Report::Rollout(which) | Report::Failures(which)) = command;
    let filter = [
        ("site", which.site.as_str()),
        ("deployment", which.deployment.as_str()),
    ];
    let told = connect()?
        .insights(&filter)
        .trying(|| "cannot read the figures".into())?;
    match command {
        Report::Rollout(_) => output.answer(&told, |look| render_rollout(&told, look)),
        Report::Failures(_) => output.answer(&told.failures, |look| render_failures(&told, look)),
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
        "{}\n{} of {} machines are done; {took}\n",
        table.render(look, ""),
        told.completed,
        told.devices
    )
}

fn render_failures(told: &Insights, look: &Look) -> String {
    if told.failures.is_empty() {
        return "no machine's latest run failed\n".to_owned();
    }
    let mut table = Table::new(&["DEVICES", "STEP", "WHAT IT SAID", "FOR EXAMPLE"]);
    for reason in &told.failures {
        table.row([
            reason.devices.to_string(),
            clean(&reason.step),
            clean(&reason.message),
            clean(&reason.example),
        ]);
    }
    table.render(look, "")
}
