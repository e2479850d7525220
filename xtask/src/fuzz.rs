//! The fuzz targets, with libFuzzer and on the toolchain that everything else is built with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::{cargo, root, setup};

/// What libFuzzer needs of the compiler, as cargo-fuzz passes it, and checks that a release build leaves out.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks";
/// Naming the target keeps the flags from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// One input takes less than this many seconds, and no piece of memory of more than this many MiB.
const LIMITS: [&str; 3] = ["-timeout=1", "-malloc_limit_mb=256", "-rss_limit_mb=1024"];

/// Tries every target with `runs` inputs, several at once. What one finds lies in `target/fuzz`, and is a failure.
pub(crate) fn run(runs: &str) -> Result<()> {
    setup::fuzzing()?;
    let built = cargo()
        .args(["build", "--release", "--target", TARGET])
        .current_dir(root().join("fuzz"))
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", folder())
        .status()
        .context("cannot start cargo")?;
    ensure!(built.success(), "the fuzz targets can't be built");
    let mut names = fs::read_dir(root().join("fuzz/fuzz_targets"))?
        .map(|entry| Ok(entry?.path().with_extension("")))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    let queue = Mutex::new(names.into_iter());
    let next = || queue.lock().ok()?.next();
    let lanes = thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..lanes)
            .map(|_| {
                scope.spawn(|| {
                    std::iter::from_fn(&next)
                        .filter_map(|name| {
                            let name = name.file_name()?.to_str()?.to_owned();
                            one(&name, runs).err().map(|error| format!("{error:#}"))
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| vec!["a worker panicked".to_owned()])
            })
            .collect()
    });
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn folder() -> PathBuf {
    root().join("target/fuzz")
}

fn one(name: &str, runs: &str) -> Result<()> {
    let found = folder().join("corpus").join(name);
    fs::create_dir_all(&found)?;
    let log = folder().join(format!("{name}.log"));
    let log_file =
        fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = Command::new(folder().join(TARGET).join("release").join(name))
        .arg(&found)
        .arg(root().join("fuzz/corpus").join(name))
        .arg(format!("-runs={runs}"))
        .arg(format!("-artifact_prefix={}/{name}-", folder().display()))
        .args(LIMITS)
        .stderr(log_file)
        .status()
        .with_context(|| format!("cannot start the fuzz target {name}"))?;
    let said = fs::read_to_string(&log)?;
    let last = said
        .lines()
        .rfind(|line| line.starts_with("Done"))
        .unwrap_or_default();
    ensure!(
        status.success(),
        "the fuzz target {name} found something; see {}",
        log.display()
    );
    eprintln!("    {name:<20} {last}");
    Ok(())
}
