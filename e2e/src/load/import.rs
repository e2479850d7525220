//! How long machines wait while a large import is accepted and taken back: a drill as it is, and one with an import in it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::drill;

use super::fleet::Fleet;
use super::{Load, number, write};
use crate::console;

/// Rows of the file.
const ROWS: u32 = 10_000;
const SITES: u32 = 16;
/// Machines come all the while: switched on one after the other, a few every second.
const WITHIN: &str = "60s";
const SPEED: &str = "4";
const WORKERS: &str = "16";
/// From the start of the simulation until machines check in.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// Measures, prints, and writes the figures as JSON where asked to.
pub(crate) fn run(options: &Load) -> Result<()> {
    let quiet = drill_with(options, None)?;
    let busy = drill_with(options, Some(ROWS))?;
    let figures = json!({ "name": "import", "rows": ROWS, "without": quiet, "with": busy });
    for row in rows(&figures) {
        console::say(&row);
    }
    write(options.json.as_deref(), &figures)
}

/// A drill, meanwhile an import of so many rows; the report of the drill, and how long the import took.
fn drill_with(options: &Load, rows: Option<u32>) -> Result<Value> {
    let fleet = Fleet::start(
        "import",
        drill::TRAINING.into(),
        options.devices,
        SITES,
        options.postgres,
    )?;
    let simulation = fleet
        .forestage()
        .args(["--json", "simulate", "run"])
        .args(["--within", WITHIN, "--speed", SPEED, "--workers", WORKERS])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start forestage")?;
    std::thread::sleep(UNDER_WAY);
    let mut took = Value::Null;
    if let Some(rows) = rows {
        let file = fleet.work().join("large.csv");
        std::fs::write(&file, large(rows))?;
        let words = ["--json", "asset", "import", "large.csv", "--dry-run"];
        let draft: Value = serde_json::from_slice(&succeed(fleet.forestage().args(words))?.0)?;
        let import = draft["import"].to_string();
        let accept = succeed(fleet.forestage().args(["import", "accept", &import]))?.1;
        let undo = succeed(fleet.forestage().args(["import", "undo", &import]))?.1;
        took = json!({ "accept-seconds": accept, "undo-seconds": undo });
    }
    let output = simulation.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout).context("no report")?;
    ensure!(output.status.success(), "the simulation failed: {report:#}");
    Ok(json!({ "took": took, "report": report }))
}

/// A file with fields that every vendor has, and some of their own.
fn large(rows: u32) -> String {
    let mut text = String::from("serial;asset tag;site;class;order number;price;warranty end\n");
    for number in 0..rows {
        let school = number % SITES;
        text.push_str(&format!(
            "BIG-{number:05};T{number:05};S{school:02};8A;4711;9990;31.07.2029\n"
        ));
    }
    text
}

/// What a command that must succeed prints, and how many seconds it took.
fn succeed(command: &mut Command) -> Result<(Vec<u8>, f64)> {
    let began = Instant::now();
    let output = command.output().context("cannot start forestage")?;
    let took = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok((output.stdout, took))
}

/// For people.
fn rows(figures: &Value) -> Vec<String> {
    let took = &figures["with"]["took"];
    let mut rows = vec![format!(
        "import: {} rows accepted in {:.1} s, taken back in {:.1} s, while machines check in and report",
        figures["rows"],
        number(&took["accept-seconds"]),
        number(&took["undo-seconds"]),
    )];
    for (what, title) in [("without", "without it"), ("with", "with it")] {
        for row in super::latencies(&figures[what]["report"]) {
            rows.push(format!("  {title:<10} {row}"));
        }
    }
    rows
}
