//! `forestage report`: figures about the rollout.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand, ValueEnum};
use wire::insights::Insights;

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, bytes, clean, count, print, seconds};
use crate::settings::connect;

/// Figures about the rollout.
#[derive(Debug, Subcommand)]
pub(crate) enum Report {
    /// Show how far each site is, and how long runs took
    ///
    /// As HTML it is one file with all figures and drawings, to be sent on or printed.
    #[command(
        after_help = "Example:\n  forestage report rollout --deployment autumn-2026\n  \
                      forestage report rollout --format html --output rollout.html"
    )]
    Rollout(Which),
    /// Show why runs failed, commonest reason first
    #[command(after_help = "Example:\n  forestage report failures --site BJO")]
    Failures(Which),
    /// Show how long steps took, those first that took most of the time
    #[command(after_help = "Example:\n  forestage report steps --since 2026-08-17")]
    Steps(Which),
    /// Show what happened on each day on which a run ended
    #[command(after_help = "Example:\n  forestage report days --format csv --output days.csv")]
    Days(Which),
    /// Show at which hours of the day runs began
    #[command(after_help = "Example:\n  forestage report hours --site BJO")]
    Hours(Which),
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
    /// How it is written; `--json` is the same as json
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write it to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<Utf8PathBuf>,
}

/// How figures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table for people
    Text,
    /// A table for a spreadsheet; texts that it would carry out are defused
    Csv,
    /// One file with all figures and drawings, which needs nothing else
    Html,
    /// As the API tells it
    Json,
}

/// Does what was asked.
pub(crate) fn run(command: &Report, output: &Output) -> Outcome<()> {
    let (part, which) = match command {
        Report::Rollout(which) => ("rollout", which),
        Report::Failures(which) => ("failures", which),
        Report::Steps(which) => ("steps", which),
        Report::Days(which) => ("days", which),
        Report::Hours(which) => ("hours", which),
    };
    let filter = [
        ("site", which.site.as_str()),
        ("model", which.model.as_str()),
        ("deployment", which.deployment.as_str()),
        ("since", which.since.as_str()),
        ("until", which.until.as_str()),
    ];
    let trying = || "cannot read the figures".to_owned();
    let client = connect()?;
    let format = if output.is_json() {
        Format::Json
    } else {
        which.format
    };
    let text = match format {
        Format::Csv => text(client.insights_csv(part, &filter).trying(trying)?),
        Format::Html => text(client.insights_html(&filter).trying(trying)?),
        Format::Json => {
            let told = client.insights(&filter).trying(trying)?;
            let mut text = match command {
                Report::Rollout(_) => serde_json::to_string_pretty(&told),
                Report::Failures(_) => serde_json::to_string_pretty(&told.failures),
                Report::Steps(_) => serde_json::to_string_pretty(&told.steps),
                Report::Days(_) => serde_json::to_string_pretty(&told.days),
                Report::Hours(_) => serde_json::to_string_pretty(&told.hours),
            }
            .trying(trying)?;
            text.push('\n');
            text
        }
        Format::Text => {
            let (told, look) = (client.insights(&filter).trying(trying)?, output.look());
            match command {
                Report::Rollout(_) => render_rollout(&told, &look),
                Report::Failures(_) => render_failures(&told, &look),
                Report::Steps(_) => render_steps(&told, &look),
                Report::Days(_) => render_days(&told, &look),
                Report::Hours(_) => render_hours(&told, &look),
            }
        }
    };
    match &which.output {
        None => print(&text),
        Some(path) => {
            let size = count(text.len(), "byte");
            std::fs::write(path, text).trying(|| format!("cannot write {path}"))?;
            output.say(&format!("{path} written ({size})"));
            Ok(())
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn render_rollout(told: &Insights, look: &Look) -> String {
    let mut table = Table::new(&[
        "SITE",
        "NAME",
        "DEVICES",
        "DONE",
        "RUNNING",
        "IN TROUBLE",
        "FROM DISK",
        "NETWORK",
    ]);
    for site in &told.sites {
        table.row([
            clean(&site.site),
            clean(&site.name),
            site.devices.to_string(),
            site.completed.to_string(),
            site.running.to_string(),
            site.in_trouble.to_string(),
            bytes(site.local_bytes),
            bytes(site.network_bytes),
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

fn render_days(told: &Insights, look: &Look) -> String {
    if told.days.is_empty() {
        return "no run has ended yet\n".to_owned();
    }
    let mut table = Table::new(&[
        "DAY",
        "COMPLETED",
        "FAILED",
        "DONE SO FAR",
        "FROM DISK",
        "NETWORK",
    ]);
    for day in &told.days {
        table.row([
            clean(&day.day),
            day.completed.to_string(),
            day.failed.to_string(),
            day.done_so_far.to_string(),
            bytes(day.local_bytes),
            bytes(day.network_bytes),
        ]);
    }
    table.render(look, "")
}

fn render_hours(told: &Insights, look: &Look) -> String {
    if told.hours.is_empty() {
        return "no run has ended yet\n".to_owned();
    }
    let mut table = Table::new(&["HOUR", "COMPLETED", "FAILED"]);
    for hour in &told.hours {
        table.row([
            format!("{:02}:00", hour.hour),
            hour.completed.to_string(),
            hour.failed.to_string(),
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
        for render in [render_steps, render_days, render_hours] {
            assert!(render(&none, &LOOK).contains("no run has ended yet"));
        }
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
