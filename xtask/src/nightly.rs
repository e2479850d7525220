//! `cargo xtask nightly`: proofs that take too long for every change, each by its name. One that fails doesn't keep the
//! others from running; what came of each is kept in `target/nightly`.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    build_programs, build_programs_for_people, cargo, e2e, fuzz, root, run as run_program,
    supply_chain,
};

/// Twenty times what every test run takes.
const RANDOM_RUNS: &str = "100000";
const PROPTEST_CASES: &str = "20000";
const CRASH_STATES: &str = "20000";
const FAILING_OPERATIONS: &str = "1000000";
const ATTACKS: [(&str, &str); 6] = [
    ("FORESTAGE_ALTERED_BUNDLES", "1000"),
    ("FORESTAGE_LYING_MEDIA", "1000"),
    ("FORESTAGE_FLIPPED_BITS", "2500"),
    ("FORESTAGE_FORGED_ENROLMENTS", "10000"),
    ("FORESTAGE_HOSTILE_TEXTS", "5000"),
    // All that goes over the line.
    ("FORESTAGE_ALTERED_BYTES", "1000000"),
];
/// Histories of a county, fifty times as many as in every test run.
const YEARS: &str = "10000";
/// Real cuts of virtual machines.
const VM_CUTS: &str = "200";
const KEY_PRESSES: &str = "10000";
/// Inputs for each reader.
const FUZZ_RUNS: &str = "10000000";

/// Something that is shown, not measured.
struct Proof {
    name: &'static str,
    what: &'static str,
    /// Writes its figures as JSON into the file, if it has any.
    prove: fn(&Path) -> Result<()>,
}

static PROOFS: [Proof; 13] = [
    Proof {
        name: "engine",
        what: "long property tests of the engine",
        prove: engine,
    },
    Proof {
        name: "power-cuts",
        what: "power cuts and failing disks",
        prove: power_cuts,
    },
    Proof {
        name: "vm-cuts",
        what: "two hundred power cuts of virtual machines",
        prove: vm_cuts,
    },
    Proof {
        name: "attacks",
        what: "altered bundles, lying media, flipped bits, forged check-ins, somebody on the line, hostile texts",
        prove: attacks,
    },
    Proof {
        name: "fuzz",
        what: "every reader of outside data, fuzzed",
        prove: |_no_figures| fuzz::run(FUZZ_RUNS),
    },
    Proof {
        name: "years",
        what: "ten thousand histories of a county in virtual time",
        prove: years,
    },
    Proof {
        name: "storm",
        what: "no event is lost by a server that is killed every ten seconds",
        prove: |figures| storm(figures, &[]),
    },
    Proof {
        name: "storm-postgres",
        what: "the same on PostgreSQL",
        prove: |figures| storm(figures, &["--postgres"]),
    },
    Proof {
        name: "storm-power",
        what: "the same in a virtual machine whose power is cut, with a disk that loses what wasn't flushed",
        prove: |figures| storm(figures, &["--power"]),
    },
    Proof {
        name: "api",
        what: "a hundred thousand random questions to the admin API",
        prove: api,
    },
    Proof {
        name: "wan",
        what: "a line that is cut, silent, slow or lossy at fifty points of a deployment, once for an hour",
        prove: wan,
    },
    Proof {
        name: "keyboard",
        what: "ten thousand keys pressed at a machine that works and waits",
        prove: keyboard,
    },
    Proof {
        name: "supply-chain",
        what: "what the programs are made of; the agent, compiled twice, is the same",
        prove: supply_chain::prove,
    },
];

/// Runs all proofs, or one.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let only = match arguments {
        [] => None,
        [option, name] if option == "--only" => Some(name.as_str()),
        _ => bail!("nightly has one option: --only NAME"),
    };
    let chosen: Vec<&Proof> = PROOFS
        .iter()
        .filter(|proof| only.is_none_or(|only| only == proof.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = PROOFS.iter().map(|proof| proof.name).collect();
        bail!(
            "there is no proof of that name; there are: {}",
            names.join(", ")
        );
    }
    let folder = root().join("target/nightly");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let mut failed = Vec::new();
    for proof in chosen {
        if let Err(error) = one(proof, &folder) {
            eprintln!("==> {} failed: {error:#}", proof.name);
            failed.push(proof.name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs one and keeps what came of it, whatever that is.
fn one(proof: &Proof, folder: &Path) -> Result<()> {
    eprintln!("==> {}: {}", proof.name, proof.what);
    let figures = folder.join(format!("{}.figures.json", proof.name));
    remove_if_there(&figures)?;
    let start = Instant::now();
    let proved = (proof.prove)(&figures);
    let seconds = start.elapsed().as_secs();
    let kept = json!({
        "name": proof.name,
        "what": proof.what,
        "commit": commit(),
        "passed": proved.is_ok(),
        "error": proved.as_ref().err().map(|error| format!("{error:#}")),
        "seconds": seconds,
        "figures": read_if_there(&figures)?,
    });
    let path = folder.join(format!("{}.json", proof.name));
    std::fs::write(&path, format!("{kept:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    remove_if_there(&figures)?;
    eprintln!(
        "==> {}: {seconds} s; {}",
        proof.name,
        path.strip_prefix(root()).unwrap_or(&path).display()
    );
    proved
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn read_if_there(path: &Path) -> Result<Value> {
    match std::fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// What was proved; with a mark if there is more in the folder than was committed. None outside a clone.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(root())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn engine(_no_figures: &Path) -> Result<()> {
    run_program(
        cargo()
            .args(["test", "--package", "sequence"])
            .env("FORESTAGE_RANDOM_RUNS", RANDOM_RUNS)
            .env("PROPTEST_CASES", PROPTEST_CASES),
    )
}

fn power_cuts(_no_figures: &Path) -> Result<()> {
    run_program(
        cargo()
            .args([
                "test",
                "--package",
                "agent",
                "--",
                "--nocapture",
                "power_cuts",
            ])
            .env("FORESTAGE_CRASH_STATES", CRASH_STATES)
            .env("FORESTAGE_FAILING_OPERATIONS", FAILING_OPERATIONS),
    )
}

fn vm_cuts(_no_figures: &Path) -> Result<()> {
    build_programs()?;
    run_program(
        e2e()?
            .args(["scenarios", "power cuts"])
            .env("FORESTAGE_VM_CUTS", VM_CUTS),
    )
}

fn attacks(_no_figures: &Path) -> Result<()> {
    run_program(
        cargo()
            .args(["test", "--package", "agent", "--package", "content"])
            .args(["--package", "server", "--package", "client"])
            .args(["--", "--nocapture"])
            .args(["altered_bundles", "flipped_bit", "enrolments"])
            .args(["in_between", "hostile::texts"])
            .envs(ATTACKS),
    )
}

fn years(figures: &Path) -> Result<()> {
    let program = [
        "run",
        "--release",
        "--quiet",
        "--package",
        "simulation",
        "--",
    ];
    let seeds = ["--seeds", YEARS, "--json"];
    run_program(cargo().args(program).args(seeds).arg(figures))
}

/// A quarter of an hour, or with `--power` eight minutes, and until the slowest machine is done.
fn storm(figures: &Path, options: &[&str]) -> Result<()> {
    build_programs_for_people()?;
    run_program(e2e()?.arg("storm").args(options).arg("--json").arg(figures))
}

/// Two hours, half of which is the long cut.
fn wan(figures: &Path) -> Result<()> {
    build_programs()?;
    run_program(e2e()?.args(["wan", "--cut", "3600", "--json"]).arg(figures))
}

fn keyboard(_no_figures: &Path) -> Result<()> {
    build_programs()?;
    run_program(
        e2e()?
            .args(["scenarios", "keyboard"])
            .env("FORESTAGE_KEY_PRESSES", KEY_PRESSES),
    )
}

fn api(figures: &Path) -> Result<()> {
    build_programs_for_people()?;
    run_program(e2e()?.args(["api", "--json"]).arg(figures))
}
