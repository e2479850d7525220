//! `years`: tells one history (`--seed 7`), or goes through many (`--seeds 200`), each in a moment.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use clap::Parser;
use serde_json::json;
use simulation::{Beginning, Figures};

/// Whole years of a county in virtual time.
#[derive(Parser)]
struct Arguments {
    /// Tells the history of this seed.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Goes through so many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Every so many of them.
    #[arg(long, default_value_t = 1)]
    step: usize,
    /// Says of each what it came to.
    #[arg(long)]
    each: bool,
    /// Writes the figures there, as JSON.
    #[arg(long)]
    json: Option<Utf8PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let beginning = Beginning::new()?;
    let mut out = std::io::stdout();
    if let Some(seed) = arguments.seed {
        let history = beginning.history(seed, |line| {
            // Whoever stops listening has heard enough.
            let _ = writeln!(std::io::stdout(), "{line}");
        })?;
        writeln!(
            out,
            "seed {seed}: {} requests, {} power cuts, {} things wrong",
            history.figures.requests,
            history.figures.cuts,
            history.wrongs.len()
        )?;
        return Ok(code(history.wrongs.is_empty()));
    }
    let (mut all, mut restored) = (Figures::default(), 0);
    let mut failed = Vec::new();
    let seeds = (arguments.from..arguments.from + arguments.seeds).step_by(arguments.step.max(1));
    let mut done = 0_u64;
    for seed in seeds {
        let history = beginning
            .history(seed, |_| {})
            .with_context(|| format!("seed {seed} can't go on"))?;
        done += 1;
        let one = history.figures;
        all.requests += one.requests;
        all.cuts += one.cuts;
        all.waits += one.waits;
        all.held_by_cap += one.held_by_cap;
        all.claimants_refused += one.claimants_refused;
        restored += u64::from(history.was_restored);
        if arguments.each {
            let (asked, cut) = (one.requests, one.cuts);
            writeln!(out, "seed {seed}: {asked} requests, {cut} power cuts")?;
        }
        if let Some(wrong) = history.wrongs.first() {
            writeln!(out, "seed {seed}: {wrong}")?;
            failed.push(seed);
        }
    }
    let Figures {
        requests,
        cuts,
        waits,
        held_by_cap,
        claimants_refused,
    } = all;
    writeln!(
        out,
        "{done} seeds, {requests} requests, {cuts} power cuts, {restored} restored servers, {waits} waits for a place, \
         {held_by_cap} for a cap, {claimants_refused} refusals of second claimants; {} went wrong",
        failed.len()
    )?;
    if !failed.is_empty() {
        writeln!(
            out,
            "tell one: cargo run -p simulation -- --seed {}",
            failed[0]
        )?;
    }
    if let Some(path) = &arguments.json {
        let figures = json!({
            "seeds": done, "requests": requests, "power-cuts": cuts, "restored-servers": restored,
            "waits-for-a-place": waits, "held-by-a-cap": held_by_cap, "claimants-refused": claimants_refused,
            "failed-seeds": failed,
        });
        std::fs::write(path, format!("{figures:#}\n"))
            .with_context(|| format!("cannot write {path}"))?;
    }
    Ok(code(failed.is_empty()))
}

fn code(is_well: bool) -> ExitCode {
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
