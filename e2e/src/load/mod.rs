//! The console under load: a real server, 2,500 simulated devices on this machine, and what that cost.
//!
//! Everything here measures and nothing judges: how fast it is depends on the machine, and being slow is no failure.

pub(crate) mod fleet;
mod import;
mod overview;
mod rules;

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use testkit::drill;

use crate::console;
use fleet::Fleet;
pub(crate) use import::run as import;
pub(crate) use overview::{Overview, percentiles, run as overview};
pub(crate) use rules::run as rules;

/// The fleet of the county.
pub(crate) const DEVICES: u32 = 2500;
pub(crate) const SITES: u32 = 16;
/// All are switched on within this time.
const WITHIN: &str = "10s";
/// A run of the drill takes two to four minutes; so it ends within half a minute.
const SPEED: &str = "12";
/// Threads that speak for the fleet.
pub(crate) const WORKERS: &str = "64";

/// Options of all that is measured here.
#[derive(clap::Args, Clone)]
pub(crate) struct Load {
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<Utf8PathBuf>,
    /// How many devices
    #[arg(long, value_name = "N", default_value_t = DEVICES)]
    devices: u32,
    /// Keep the data in a private PostgreSQL, which syncs nothing
    #[arg(long)]
    postgres: bool,
}

/// The first day of the whole fleet in half a minute, with nobody watching.
pub(crate) fn run(options: &Load) -> Result<()> {
    let fleet = Fleet::start(
        "load",
        drill::TRAINING.into(),
        options.devices,
        SITES,
        options.postgres,
    )?;
    let before = fleet.server()?.cpu_seconds()?;
    let output = fleet
        .forestage()
        .args(["--json", "simulate", "run"])
        .args(["--within", WITHIN, "--speed", SPEED, "--workers", WORKERS])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start forestage")?;
    let report: Value = serde_json::from_slice(&output.stdout).context("no report")?;
    let figures = json!({
        "name": "console",
        "report": report,
        "server-cpu-seconds": fleet.server()?.cpu_seconds()? - before,
        "server-peak-memory-mib": fleet.server()?.peak_memory_mib()?,
    });
    rows(&figures).iter().for_each(|row| console::say(row));
    write(options.json.as_deref(), &figures)?;
    ensure!(
        output.status.success(),
        "the simulation ended with {}: {report:#}",
        output.status
    );
    Ok(())
}

/// For people.
fn rows(figures: &Value) -> Vec<String> {
    let report = &figures["report"];
    let mut rows = vec![format!(
        "console: {} devices, {:.1} s; server {:.1} CPU s, peak {:.0} MiB; events {} acknowledged, {} lost",
        report["devices"],
        number(&report["seconds"]),
        number(&figures["server-cpu-seconds"]),
        number(&figures["server-peak-memory-mib"]),
        report["events"]["acknowledged"],
        report["events"]["lost"],
    )];
    rows.extend(latencies(report).map(|row| format!("  {row}")));
    rows
}

/// How long the server took to answer the simulated devices, a row for each kind of call.
pub(crate) fn latencies(report: &Value) -> impl Iterator<Item = String> {
    let calls = report["latencies"].as_array().into_iter().flatten();
    calls.map(|call| {
        format!(
            "{:<10} {:>7} calls   p50 {:>8.1} ms   p95 {:>8.1} ms   p99 {:>8.1} ms   max {:>8.1} ms",
            call["call"].as_str().unwrap_or_default(),
            call["count"],
            number(&call["p50-ms"]),
            number(&call["p95-ms"]),
            number(&call["p99-ms"]),
            number(&call["max-ms"]),
        )
    })
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

pub(crate) fn write(file: Option<&Utf8Path>, figures: &Value) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures)?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {file}"))
}
