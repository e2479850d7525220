//! How long the rule of a collection takes to be evaluated for every device of a large fleet.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testkit::drill;

use super::fleet::Fleet;
use super::overview::percentiles;
use super::{Load, SITES, number, write};
use crate::console;

/// With a comparison, a test by the beginning, a list and a field that most devices don't have.
const RULE: &str =
    "site.code in ['BJO', 'S01', 'S02'] or class is startingwith('1') and not ('loan' in tags)";
/// How often it is asked.
const TIMES: usize = 9;

/// Measures, prints, and writes the figures as JSON where asked to.
pub(crate) fn run(options: &Load) -> Result<()> {
    let fleet = Fleet::start(
        "rules",
        drill::TRAINING.into(),
        options.devices,
        SITES,
        options.postgres,
    )?;
    time(&fleet, &["collection", "create", "ruled"])?;
    time(&fleet, &["collection", "set-rule", "ruled", RULE])?;
    let mut all = Vec::new();
    let mut none = Vec::new();
    for _ in 0..TIMES {
        all.push(time(&fleet, &["--json", "collection", "preview", "ruled"])?);
        none.push(time(&fleet, &["--json", "site", "list"])?);
    }
    let figures = json!({
        "name": "rules",
        "devices": options.devices,
        "rule": RULE,
        "preview-ms": percentiles(all),
        "small-command-ms": percentiles(none),
    });
    for (what, key) in [
        ("a preview", "preview-ms"),
        ("a small command", "small-command-ms"),
    ] {
        let value = &figures[key];
        console::say(&format!(
            "rules: {} devices, {what}: median {:.0} ms, at most {:.0} ms",
            options.devices,
            number(&value["p50"]),
            number(&value["max"]),
        ));
    }
    write(options.json.as_deref(), &figures)
}

/// Does a command that must succeed; how many milliseconds it took, from the start of the program to its end.
fn time(fleet: &Fleet, words: &[&str]) -> Result<f64> {
    let began = Instant::now();
    let output = fleet
        .forestage()
        .args(words)
        .output()
        .context("cannot start forestage")?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?} failed: {said}");
    Ok(took)
}
