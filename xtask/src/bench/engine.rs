//! The content engine against its peers, and the size of what runs on devices.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Options;
use crate::{cargo, root, run, setup};

/// What this module can measure; `engine` is all of it.
const NAMES: [&str; 14] = [
    "engine",
    "apply-image",
    "build",
    "build-next",
    "stage",
    "stage-100",
    "stage-400",
    "converge-unchanged",
    "converge-changed",
    "apply-tree",
    "update-package",
    "update-package-security",
    "update-image",
    "update-image-ext4",
];
const AGENT_SIZE: &str = "agent-size";
/// Where the data are kept; `FORESTAGE_BENCH_DATA` names another folder.
const DATA: &str = "target/bench";

/// Whether it has to run for what was asked.
pub(super) fn is_wanted(options: &Options) -> bool {
    let only = options.only.as_deref();
    only.is_none_or(|only| only == AGENT_SIZE || NAMES.contains(&only))
}

/// Measures, and answers the results.
pub(super) fn measure(options: &Options) -> Result<Vec<Value>> {
    let only = options.only.as_deref();
    let mut results = Vec::new();
    if only != Some(AGENT_SIZE) {
        setup::bench_peers()?;
        results.extend(races(options)?);
    }
    if only.is_none_or(|only| only == AGENT_SIZE || only == "engine") {
        results.push(agent_size()?);
    }
    Ok(results)
}

fn races(options: &Options) -> Result<Vec<Value>> {
    let data =
        std::env::var_os("FORESTAGE_BENCH_DATA").map_or_else(|| root().join(DATA), Into::into);
    let mut command = cargo();
    command.args([
        "bench",
        "--quiet",
        "--package",
        "content",
        "--bench",
        "engine",
        "--",
    ]);
    command.arg("--data").arg(data);
    for (name, value) in [
        ("--only", &options.only),
        ("--rounds", &options.rounds),
        ("--profile", &options.profile),
    ] {
        command.args(value.iter().flat_map(|value| [name, value.as_str()]));
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the benchmark ended with {}", output.status);
    }
    super::figures(&output.stdout)
}

/// The static program that runs from memory on every machine.
fn agent_size() -> Result<Value> {
    run(cargo().args([
        "build",
        "--quiet",
        "--profile",
        "agent",
        "--package",
        "agent",
        "--target",
        setup::AGENT_TARGET,
    ]))?;
    let path = root()
        .join("target")
        .join(setup::AGENT_TARGET)
        .join("agent/forestage-agent");
    let bytes = std::fs::metadata(&path)
        .with_context(|| format!("cannot find {}", path.display()))?
        .len();
    let packed = Command::new("zstd")
        .args(["-q", "-19", "-c"])
        .arg(&path)
        .output()
        .context("cannot run zstd")?;
    Ok(json!({ "name": AGENT_SIZE, "unit": "bytes", "ours": bytes, "packed": packed.stdout.len() }))
}

/// For people: a result, each of its ratios, and every runner.
pub(super) fn rows(result: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ours = match result["unit"].as_str() {
        Some("bytes") => format!(
            "{:.2} MB",
            result["ours"].as_f64().unwrap_or_default() / 1e6
        ),
        _ => format!("{:.2} s", result["ours"].as_f64().unwrap_or_default()),
    };
    let mut rows = vec![format!("{:<24} {ours}", text(&result["name"]))];
    for ratio in result["ratios"].as_array().into_iter().flatten() {
        let (word, goal) = match ratio["at-least"].as_f64() {
            Some(goal) => ("at least", goal),
            None => ("at most", ratio["at-most"].as_f64().unwrap_or_default()),
        };
        rows.push(format!(
            "    {:<44} {:>8.3}   {word} {goal:<6} {}",
            text(&ratio["name"]),
            ratio["ratio"].as_f64().unwrap_or_default(),
            if ratio["met"] == true {
                "met"
            } else {
                "NOT met"
            }
        ));
    }
    for (name, run) in result["runs"].as_object().into_iter().flatten() {
        let number = |key: &str| run[key].as_f64().unwrap_or_default();
        rows.push(format!(
            "    {name:<16} {:>7.2} s ({:.2} to {:.2}), {:.1} CPU s, {:.0} MiB of memory, {:.1} MB written out",
            number("seconds"),
            number("least"),
            number("most"),
            number("cpu-seconds"),
            number("memory-bytes") / 1_048_576.0,
            number("output-bytes") / 1e6
        ));
    }
    for name in result["missing"].as_array().into_iter().flatten() {
        rows.push(format!(
            "    {:<16} missing: not installed here",
            text(name)
        ));
    }
    rows
}
