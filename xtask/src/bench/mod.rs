//! `cargo xtask bench`: figures for people, and as JSON for machines.

mod engine;

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{build_programs_for_people, cargo, e2e, root, run as run_program};

/// What a figure should be at most, in seconds: promises of the documents, never of a test.
const GOALS_SECONDS: [(&str, f64); 3] = [
    ("lint-200-steps", 1.0),
    ("plan-one-asset", 1.0),
    ("plan-2500-assets", 30.0),
];

struct Options {
    json: Option<PathBuf>,
    only: Option<String>,
    rounds: Option<String>,
    profile: Option<String>,
}

/// Runs the benchmarks and prints a table. Being slow is no failure.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    if let Some((name, command)) = IN_E2E
        .iter()
        .find(|(name, _)| options.only.as_deref() == Some(name))
    {
        return in_e2e(name, command, &options);
    }
    let mut results = plans(&options)?;
    if !results.is_empty() {
        eprintln!(
            "{:<20} {:>12} {:>12} {:>12} {:>10}  met",
            "name", "median", "least", "most", "goal"
        );
    }
    for result in &results {
        eprintln!("{}", row(result));
    }
    if engine::is_wanted(&options) {
        let measured = engine::measure(&options)?;
        for row in measured.iter().flat_map(engine::rows) {
            eprintln!("{row}");
        }
        results.extend(measured);
    }
    if results.is_empty() {
        bail!("no benchmark has that name");
    }
    match options.json {
        Some(file) => write(&file, &json!({ "results": results })),
        None => Ok(()),
    }
}

/// Lint and dry run of sequences.
fn plans(options: &Options) -> Result<Vec<Value>> {
    let only = options.only.as_deref();
    if only.is_some_and(|only| GOALS_SECONDS.iter().all(|(name, _)| *name != only)) {
        return Ok(Vec::new());
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
    let judge = |figure: &Value| judged(figure["name"].as_str().unwrap_or_default(), figure);
    let results = figures(&output.stdout)?
        .iter()
        .map(judge)
        .collect::<Vec<_>>();
    let is_wanted = |result: &Value| only.is_none_or(|only| result["name"] == only);
    Ok(results.into_iter().filter(is_wanted).collect())
}

/// What a benchmark printed: a line of JSON for each figure.
fn figures(printed: &[u8]) -> Result<Vec<Value>> {
    String::from_utf8_lossy(printed)
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a figure: {line}")))
        .collect()
}

/// What takes minutes and both processors, and so is measured when asked for: its name, and the command of `e2e`.
const IN_E2E: [(&str, &str); 4] = [
    ("console", "load"),
    ("import", "import"),
    ("overview", "overview"),
    ("rules", "rules"),
];

fn in_e2e(name: &str, command: &str, options: &Options) -> Result<()> {
    build_programs_for_people()?;
    let file = root().join(format!("target/bench-{name}.json"));
    run_program(e2e()?.arg(command).arg("--json").arg(&file))?;
    let Some(wanted) = &options.json else {
        return Ok(());
    };
    let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let figures: Value = serde_json::from_slice(&text)?;
    write(wanted, &json!({ "results": [figures] }))
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            json: None,
            only: None,
            rounds: None,
            profile: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--json" => options.json = Some(value?.into()),
                "--only" => options.only = Some(value?.clone()),
                "--rounds" => options.rounds = Some(value?.clone()),
                "--profile" => options.profile = Some(value?.clone()),
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
