//! The console under load: a real server and 2,500 simulated devices on this machine, and what it cost.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{cargo, root, run};

/// The fleet of the county.
const DEVICES: &str = "2500";
const SITES: &str = "16";
/// All are switched on within this time.
const WITHIN: &str = "10s";
/// A run of the drill takes two to four minutes; so it ends within half a minute.
const SPEED: &str = "12";
const READY_MAX: Duration = Duration::from_secs(60);
/// The kernel counts processor time in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures once, and answers the figures.
pub(crate) fn measure() -> Result<Value> {
    run(cargo().args(["build", "--quiet", "--release", "--package", "cli"]))?;
    let folder = root().join("target/console-load");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("cannot empty target/console-load")?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut server = Server::start(&folder)?;
    prepare(&folder, &server)?;
    let before = server.cpu_seconds()?;
    let output = forestage(&folder)
        .args([
            "--json", "simulate", "run", "--within", WITHIN, "--speed", SPEED,
        ])
        .args(["--workers", "64"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start forestage")?;
    let report: Value = serde_json::from_slice(&output.stdout).context("no report")?;
    let figures = json!({
        "name": "console",
        "report": report,
        "server-cpu-seconds": server.cpu_seconds()? - before,
        "server-peak-memory-mib": server.peak_memory_mib()?,
    });
    server.stop();
    if !output.status.success() {
        bail!("the simulation ended with {}: {report:#}", output.status);
    }
    Ok(figures)
}

/// For people.
pub(crate) fn rows(figures: &Value) -> Vec<String> {
    let mut rows = vec![format!(
        "console: {} devices, {:.1} s; server {:.1} CPU s, peak {:.0} MiB; events {} acknowledged, {} lost",
        figures["report"]["devices"],
        figures["report"]["seconds"].as_f64().unwrap_or_default(),
        figures["server-cpu-seconds"].as_f64().unwrap_or_default(),
        figures["server-peak-memory-mib"]
            .as_f64()
            .unwrap_or_default(),
        figures["report"]["events"]["acknowledged"],
        figures["report"]["events"]["lost"],
    )];
    for call in figures["report"]["latencies"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let ms = |key: &str| call[key].as_f64().unwrap_or_default();
        rows.push(format!(
            "  {:<10} {:>7} calls   p50 {:>8.1} ms   p95 {:>8.1} ms   p99 {:>8.1} ms   max {:>8.1} ms",
            call["call"].as_str().unwrap_or_default(),
            call["count"],
            ms("p50-ms"),
            ms("p95-ms"),
            ms("p99-ms"),
            ms("max-ms"),
        ));
    }
    rows
}

fn prepare(folder: &Path, server: &Server) -> Result<()> {
    let text = |key: &str| server.ready[key].as_str().unwrap_or_default().to_owned();
    run(forestage(folder)
        .args([
            "login",
            &text("url"),
            "--ca",
            &text("ca"),
            "--user",
            "admin",
        ])
        .env("FORESTAGE_PASSWORD", text("one-time-login"))
        .env("FORESTAGE_NEW_PASSWORD", "Polarnatt-over-Andøya-2026")
        .stdout(Stdio::null())
        .stderr(Stdio::null()))?;
    let sequence = root().join("examples/sequences/training-laptop.yaml");
    quietly(forestage(folder).args(["sequence", "put"]).arg(sequence))?;
    quietly(forestage(folder).args(["collection", "create", "drill"]))?;
    quietly(forestage(folder).args([
        "simulate",
        "assets",
        "--devices",
        DEVICES,
        "--sites",
        SITES,
        "--folder",
        "fleet",
    ]))?;
    quietly(forestage(folder).args([
        "asset",
        "import",
        "fleet/assets.csv",
        "--collection",
        "drill",
    ]))?;
    quietly(forestage(folder).args([
        "deployment",
        "create",
        "drill",
        "--collection",
        "drill",
        "--sequence",
        "training-laptop",
        "--expected",
        "5m",
        "--cap",
        DEVICES,
    ]))
}

fn quietly(command: &mut Command) -> Result<()> {
    run(command.stdout(Stdio::null()))
}

fn forestage(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .current_dir(folder)
        .env("FORESTAGE_CONFIG", folder.join("config.json"))
        .env("FORESTAGE_CACHE", folder.join("cache"))
        .stdin(Stdio::null());
    command
}

fn program() -> PathBuf {
    root().join("target/release/forestage")
}

struct Server {
    process: Child,
    ready: Value,
}

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        let log = std::fs::File::create(folder.join("server.log"))?;
        let process = Command::new(program())
            .args([
                "serve",
                "--data",
                "data",
                "--listen",
                "127.0.0.1:0",
                "--ready-file",
                "ready.json",
            ])
            .current_dir(folder)
            .env("FORESTAGE_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        let mut server = Self {
            process,
            ready: Value::Null,
        };
        let started = Instant::now();
        while started.elapsed() < READY_MAX {
            if let Ok(text) = std::fs::read(folder.join("ready.json")) {
                server.ready = serde_json::from_slice(&text)?;
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        server.stop();
        bail!("the server doesn't get ready: see target/console-load/server.log")
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.process.id());
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// User and system time so far.
    fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name before it may hold blanks; it ends with the last parenthesis.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS_PER_SECOND)
    }

    fn peak_memory_mib(&self) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0)
            .context("the kernel doesn't tell the peak memory")
    }

    fn stop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
