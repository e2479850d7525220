//! Every reader of bytes from outside, with inputs made from its corpus: none panics, none hangs, none takes much memory.
//!
//! In one process of the optimized build, so that a hundred thousand inputs each are a matter of minutes. A fuzzer that sees
//! which branches are taken goes deeper: `fuzz/README.md`.

use std::collections::VecDeque;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::readers::mutate::Mutator;
use ::readers::{ALL, Reader, corpus, named};
use anyhow::{Context, Result, bail, ensure};
use blake3::hash;
use camino::Utf8PathBuf;

use crate::console;

/// What a reader may take of memory, all that is running beside it included: 256 MiB.
const MEMORY_KIB_MAX: u64 = 256 << 10;
/// A reader that takes longer for one input hangs. Generous, because the machine may be busy.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// Where inputs go that something was wrong with.
const FOUND: &str = "target/readers";

/// Options.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// Inputs for each reader
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    inputs: u64,
    /// Other inputs
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Only this reader
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only this input, of one reader
    #[arg(long, value_name = "FILE", requires = "only")]
    input: Option<Utf8PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            inputs: 100_000,
            seed: 1,
            only: None,
            input: None,
        }
    }
}

/// What one reader is doing.
struct At {
    reader: Reader,
    since: Instant,
    input: Vec<u8>,
}

/// Runs them on all cores, and tells what each took.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted: VecDeque<Reader> = match &options.only {
        None => ALL.into(),
        Some(name) => {
            let known = ALL.map(|reader| reader.name).join(", ");
            [named(name)
                .with_context(|| format!("no reader is called `{name}`; there are {known}"))?]
            .into()
        }
    };
    if let (Some(file), Some(reader)) = (&options.input, wanted.front()) {
        (reader.read)(&fs::read(file).with_context(|| format!("cannot read {file}"))?);
        return Ok(());
    }
    // Files in memory: the disk is not what is tried here.
    if Path::new("/dev/shm").is_dir() {
        tempfile::env::override_temp_dir(Path::new("/dev/shm")).map_err(|other| {
            anyhow::anyhow!("temporary files already go to {}", other.display())
        })?;
    }
    let queue = Mutex::new(wanted);
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let lanes: Vec<Mutex<Option<At>>> = (0..cores).map(|_| Mutex::new(None)).collect();
    let failed: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = lanes
            .iter()
            .map(|lane| {
                scope.spawn(|| {
                    std::iter::from_fn(&next)
                        .filter_map(|reader| try_reader(reader, options, lane).err())
                        .map(|error| format!("{error:#}"))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(200));
            lanes.iter().for_each(end_if_it_hangs);
        }
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| vec!["a worker panicked".to_owned()])
            })
            .collect()
    });
    let kib = memory_peak_kib()?;
    console::say(&format!("readers: at most {} MiB of memory", kib >> 10));
    ensure!(
        kib <= MEMORY_KIB_MAX,
        "that is more than {} MiB",
        MEMORY_KIB_MAX >> 10
    );
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn try_reader(reader: Reader, options: &Options, lane: &Mutex<Option<At>>) -> Result<()> {
    let corpus = corpus(reader).with_context(|| format!("the corpus of {}", reader.name))?;
    let mut mutator = Mutator::new(&corpus, options.seed);
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for number in 0..corpus.len() as u64 + options.inputs {
        let own = usize::try_from(number)
            .ok()
            .and_then(|number| corpus.get(number));
        let input = own.map_or_else(|| mutator.next_input(), Vec::as_slice);
        let since = Instant::now();
        *lane.lock().unwrap_or_else(PoisonError::into_inner) = Some(At {
            reader,
            since,
            input: input.to_vec(),
        });
        if catch_unwind(AssertUnwindSafe(|| (reader.read)(input))).is_err() {
            bail!("{} panicked. {}", reader.name, kept(reader, input));
        }
        slowest = slowest.max(since.elapsed());
    }
    *lane.lock().unwrap_or_else(PoisonError::into_inner) = None;
    console::say(&format!(
        "readers: {:<18} {} inputs and {} of the corpus in {:.1} s, the slowest {:.1} ms",
        reader.name,
        options.inputs,
        corpus.len(),
        began.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1e3,
    ));
    Ok(())
}

/// A thread can't be ended from outside, but the program can.
fn end_if_it_hangs(lane: &Mutex<Option<At>>) {
    let at = lane.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(At {
        reader,
        since,
        input,
    }) = at.as_ref()
        && since.elapsed() > HANGS_AFTER
    {
        let said = format!("{} hangs. {}", reader.name, kept(*reader, input));
        console::failure(&anyhow::anyhow!(said));
        std::process::exit(1);
    }
}

/// Keeps an input; how to try it again.
fn kept(reader: Reader, input: &[u8]) -> String {
    let file = format!("{FOUND}/{}-{}", reader.name, &hash(input).to_hex()[..16]);
    let written = fs::create_dir_all(FOUND).and_then(|()| fs::write(&file, input));
    match written {
        Ok(()) => format!("Again: e2e readers --only {} --input {file}", reader.name),
        Err(error) => format!("Its input can't be kept: {error}"),
    }
}

/// The most memory that this process had, as the kernel counts it.
fn memory_peak_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("the kernel tells no peak of memory")
}
