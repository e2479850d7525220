//! `cargo xtask bench`: figures for people, and as JSON for machines.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{cargo, console_load};

/// What a figure should be at most, in seconds: promises of the documents, never of a test.
const GOALS_SECONDS: [(&str, f64); 3] = [
    ("lint-200-steps", 1.0),
    ("plan-one-asset", 1.0),
    ("plan-2500-assets", 30.0),
];

struct Options {
    json: Option<PathBuf>,
    only: Option<String>,
}

/// Runs the benchmarks and prints a table. Being slow is no failure.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    if options.only.as_deref() == Some("console") {
        return console(&options);
    }
    let output = cargo()
        .args([
            "bench",
            "--quiet",
            "--package",
            "sequence",
            "--bench",
            "plan",
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the benchmark ended with {}", output.status);
    }
    let mut results = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let figure: Value =
            serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?;
        let name = figure["name"].as_str().unwrap_or_default().to_owned();
        if options.only.as_ref().is_none_or(|only| *only == name) {
            results.push(judged(&name, &figure));
        }
    }
    if results.is_empty() {
        bail!("no benchmark has that name");
    }
    eprintln!(
        "{:<20} {:>12} {:>12} {:>12} {:>10}  met",
        "name", "median", "least", "most", "goal"
    );
    for result in &results {
        eprintln!("{}", row(result));
    }
    match options.json {
        Some(file) => write(&file, &json!({ "results": results })),
        None => Ok(()),
    }
}

/// The console under load takes a minute and both processors, so it is measured when asked for.
fn console(options: &Options) -> Result<()> {
    let figures = console_load::measure()?;
    for row in console_load::rows(&figures) {
        eprintln!("{row}");
    }
    match &options.json {
        Some(file) => write(file, &json!({ "results": [figures] })),
        None => Ok(()),
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            json: None,
            only: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--json" => options.json = Some(value?.into()),
                "--only" => options.only = Some(value?.clone()),
                other => bail!("bench has no option `{other}`"),
            }
        }
        Ok(options)
    }
}

fn judged(name: &str, figure: &Value) -> Value {
    let goal = GOALS_SECONDS
        .iter()
        .find(|(of, _)| *of == name)
        .map(|(_, seconds)| *seconds);
    let ours = figure["median-seconds"].as_f64();
    json!({
        "name": name,
        "unit": "seconds",
        "ours": ours,
        "least": figure["least-seconds"],
        "most": figure["most-seconds"],
        "goal": goal,
        "met": goal.zip(ours).map(|(goal, ours)| ours <= goal),
    })
}

fn row(result: &Value) -> String {
    let seconds = |key: &str| match result[key].as_f64() {
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        Some(seconds) => format!("{seconds:.2} s"),
        None => "-".to_owned(),
    };
    format!(
        "{:<20} {:>12} {:>12} {:>12} {:>10}  {}",
        result["name"].as_str().unwrap_or_default(),
        seconds("ours"),
        seconds("least"),
        seconds("most"),
        seconds("goal"),
        match result["met"].as_bool() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        }
    )
}

fn write(file: &std::path::Path, report: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
