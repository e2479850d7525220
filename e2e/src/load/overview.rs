//! The overview while the whole fleet is at work: how soon it is there, how soon it shows what a device has said, and
//! what it costs browser and server to be kept up to date for minutes.
//!
//! Browser, server and fleet share the processors of this machine, so all figures are worse than in a school.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::fleet::{Fleet, Process, Running};
use super::{Load, SITES, WORKERS, number, write};
use crate::browser::{self, chromium::Browser};
use crate::{console, guides};

/// Long enough for all that is measured.
const SEQUENCE: &str = "e2e/sequences/long-drill.yaml";
/// All are switched on within this time.
const WITHIN: &str = "30s";
/// From then on until all have got their order.
const UNDER_WAY_MAX: Duration = Duration::from_secs(180);
/// How often the page is opened, to see how soon it is there.
const OPENINGS: usize = 7;
/// Between two looks at the page. What the browser says meanwhile is read only when it is asked something.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the server is watched without a browser.
const ALONE: Duration = Duration::from_secs(30);
/// So many runs are compared with what the server received.
const RUNS_COMPARED: usize = 400;
const OBSERVER: &str = include_str!("overview.js");

/// Options of `e2e overview`.
#[derive(clap::Args, Clone)]
pub(crate) struct Overview {
    #[command(flatten)]
    load: Load,
    /// How long the page is watched
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    seconds: u64,
}

/// Measures, prints a table, and writes the figures as JSON where asked to.
pub(crate) fn run(options: &Overview) -> Result<()> {
    let sequence = guides::root().join(SEQUENCE);
    let devices = options.load.devices;
    let fleet = Fleet::start("overview", &sequence, devices, SITES, options.load.postgres)?;
    let mut browser = Browser::start(&guides::root().join("target/overview"))?;
    browser::sign_in(&mut browser, fleet.url())?;
    let screen = json!({ "width": 1440, "height": 900, "deviceScaleFactor": 1, "mobile": false });
    browser.call("Emulation.setDeviceMetricsOverride", &screen)?;
    // Without this, the browser tells of every message of the stream, and someone has to read it.
    browser.call("Network.disable", &json!({}))?;
    browser.call("Performance.enable", &json!({}))?;
    let observer = json!({ "source": OBSERVER });
    browser.call("Page.addScriptToEvaluateOnNewDocument", &observer)?;

    let mut running =
        fleet.switch_on(&["--within", WITHIN, "--speed", "1", "--workers", WORKERS])?;
    under_way(&mut browser, &fleet, &mut running, devices)?;
    browser.go("about:blank")?;
    let alone = Share::over(&fleet.server()?, || {
        std::thread::sleep(ALONE);
        Ok(())
    })?;
    let openings = (0..OPENINGS)
        .map(|_| open(&mut browser, fleet.url()))
        .collect::<Result<Vec<_>>>()?;
    let before = page(&mut browser)?;
    let mut noted = Noted::default();
    let watched = Share::over(&fleet.server()?, || {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(options.seconds) {
            std::thread::sleep(LOOK_EVERY);
            noted.take(&mut browser)?;
        }
        Ok(())
    })?;
    running.still_runs()?;
    let after = page(&mut browser)?;
    let latencies = noted.latencies(&mut browser)?;
    ensure!(!latencies.is_empty(), "the page showed no step of any run");

    let busy = |key: &str| {
        let spent = number(&after[key]) - number(&before[key]);
        100.0 * spent / watched.seconds
    };
    let per_second = |count: f64| count / watched.seconds;
    let opened = |key: &str| {
        percentiles(
            openings
                .iter()
                .map(|opening| number(&opening[key]))
                .collect(),
        )
    };
    let figures = json!({
        "name": "overview",
        "devices": devices,
        "watched-seconds": watched.seconds,
        "opening": {
            "page-bytes": openings[0]["page-bytes"],
            "page-bytes-sent": openings[0]["page-bytes-sent"],
            "first-byte-ms": opened("first-byte-ms"),
            "first-paint-ms": opened("first-paint-ms"),
            "largest-paint-ms": opened("largest-paint-ms"),
            "loaded-ms": opened("loaded-ms"),
        },
        "latency-ms": percentiles(latencies),
        "updates": {
            "per-second": per_second(noted.update_ms.len() as f64),
            "characters-per-second": per_second(noted.characters.iter().sum()),
            "characters": percentiles(noted.characters),
            "script-ms": percentiles(noted.update_ms),
        },
        "browser": {
            "busy-percent": busy("TaskDuration"),
            "script-percent": busy("ScriptDuration"),
            "style-percent": busy("RecalcStyleDuration"),
            "layout-percent": busy("LayoutDuration"),
            "heap-mib-before": number(&before["JSHeapUsedSize"]) / MIB,
            "heap-mib-after": number(&after["JSHeapUsedSize"]) / MIB,
            "nodes-before": before["Nodes"],
            "nodes-after": after["Nodes"],
            "long-tasks-ms": percentiles(noted.long_tasks_ms),
        },
        "server": {
            "cpu-percent-alone": alone.cpu_percent,
            "cpu-percent-watched": watched.cpu_percent,
            "memory-mib": fleet.server()?.memory_mib()?,
            "peak-memory-mib": fleet.server()?.peak_memory_mib()?,
        },
    });
    rows(&figures).iter().for_each(|row| console::say(row));
    write(options.load.json.as_deref(), &figures)
}

const MIB: f64 = 1_048_576.0;

/// How much processor time a process took over a while.
struct Share {
    seconds: f64,
    cpu_percent: f64,
}

impl Share {
    fn over(process: &Process, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let (started, before) = (Instant::now(), process.cpu_seconds()?);
        work()?;
        let seconds = started.elapsed().as_secs_f64();
        let cpu_percent = 100.0 * (process.cpu_seconds()? - before) / seconds;
        Ok(Self {
            seconds,
            cpu_percent,
        })
    }
}

/// Waits until every device is at work.
fn under_way(
    browser: &mut Browser,
    fleet: &Fleet,
    running: &mut Running,
    devices: u32,
) -> Result<()> {
    let count = "fetch('/api/v1/devices').then(r => r.json()).then(rows => rows.filter(row => row.state === 'running').length)";
    browser.go(&format!("{}/account", fleet.url()))?;
    let started = Instant::now();
    loop {
        running.still_runs()?;
        let at_work = browser.value(count)?;
        if at_work == devices {
            return Ok(());
        }
        ensure!(
            started.elapsed() < UNDER_WAY_MAX,
            "only {at_work} of {devices} devices are at work after {} s",
            UNDER_WAY_MAX.as_secs()
        );
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Opens the overview afresh, and says when there was something to see.
fn open(browser: &mut Browser, url: &str) -> Result<Value> {
    browser.go("about:blank")?;
    browser.go(&format!("{url}/"))?;
    browser.wait(
        "measured.opening()['largest-paint-ms'] > 0 && measured.opening()['loaded-ms'] > 0",
    )?;
    browser.value("measured.opening()")
}

/// What the browser counts of the page, by name, with nothing on the heap that isn't used.
fn page(browser: &mut Browser) -> Result<BTreeMap<String, Value>> {
    browser.call("HeapProfiler.collectGarbage", &json!({}))?;
    let reply = browser.call("Performance.getMetrics", &json!({}))?;
    let metrics = reply["metrics"].as_array().context("no metrics")?;
    let pair = |metric: &Value| {
        let name = metric["name"].as_str().unwrap_or_default();
        (name.to_owned(), metric["value"].clone())
    };
    Ok(metrics.iter().map(pair).collect())
}

/// What was noted on the page.
#[derive(Default)]
struct Noted {
    /// When a step of a run was first seen, in milliseconds since 1970.
    shown: HashMap<(String, String), i64>,
    characters: Vec<f64>,
    update_ms: Vec<f64>,
    long_tasks_ms: Vec<f64>,
}

impl Noted {
    fn take(&mut self, browser: &mut Browser) -> Result<()> {
        let news = browser.value("measured.take()")?;
        for change in list(&news["shown"]) {
            let text = |at: usize| change[at].as_str().unwrap_or_default().to_owned();
            let at_ms = change[2].as_i64().unwrap_or_default();
            self.shown.entry((text(0), text(1))).or_insert(at_ms);
        }
        for update in list(&news["updates"]) {
            self.characters.push(number(&update[0]));
            self.update_ms.push(number(&update[1]));
        }
        let tasks = list(&news["longTasksMs"]);
        self.long_tasks_ms.extend(tasks.map(number));
        Ok(())
    }

    /// From the moment that the server received the beginning of a step until the page showed it, for all steps of some
    /// runs that began while the page was watched.
    fn latencies(&self, browser: &mut Browser) -> Result<Vec<f64>> {
        let mut by_run: BTreeMap<&str, Vec<(&str, i64)>> = BTreeMap::new();
        for ((run, step), at_ms) in &self.shown {
            by_run.entry(run).or_default().push((step, *at_ms));
        }
        let mut latencies = Vec::new();
        for (run, steps) in by_run.into_iter().take(RUNS_COMPARED) {
            let held = browser.value(&format!(
                "fetch('/api/v1/runs/{run}/events').then(r => r.json()).then(held => held.events)"
            ))?;
            let received = received(&held);
            for (step, at_ms) in steps {
                if let Some(received_ms) = received.get(step) {
                    latencies.push((at_ms - received_ms) as f64);
                }
            }
        }
        Ok(latencies)
    }
}

/// When the server received that a step has begun, by the step's title.
fn received(held: &Value) -> HashMap<String, i64> {
    let mut titles = HashMap::new();
    let mut received = HashMap::new();
    for one in list(held) {
        let event = &one["event"]["body"];
        match event["kind"].as_str() {
            Some("run-started") => {
                for step in list(&event["steps"]) {
                    titles.insert(step["path"].to_string(), step["title"].clone());
                }
            }
            Some("step-started") => {
                let title = titles.get(&event["path"].to_string());
                let title = title.and_then(Value::as_str).unwrap_or_default();
                let at_ms = one["received-at-ms"].as_i64().unwrap_or_default();
                received.insert(title.to_owned(), at_ms);
            }
            _ => {}
        }
    }
    received
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// How many there are, and where they lie.
pub(crate) fn percentiles(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| match values.len() {
        0 => 0.0,
        len => values[(len * percent).div_ceil(100).clamp(1, len) - 1],
    };
    json!({ "count": values.len(), "p50": at(50), "p95": at(95), "p99": at(99), "max": at(100) })
}

/// For people.
fn rows(figures: &Value) -> Vec<String> {
    let mut rows = vec![format!(
        "overview: {} devices at work, watched for {:.0} s; the page has {:.2} MB, {:.2} MB on the line",
        figures["devices"],
        number(&figures["watched-seconds"]),
        number(&figures["opening"]["page-bytes"]) / 1e6,
        number(&figures["opening"]["page-bytes-sent"]) / 1e6,
    )];
    for (name, unit, value) in [
        ("first byte", "ms", &figures["opening"]["first-byte-ms"]),
        ("first paint", "ms", &figures["opening"]["first-paint-ms"]),
        (
            "largest paint",
            "ms",
            &figures["opening"]["largest-paint-ms"],
        ),
        ("loaded", "ms", &figures["opening"]["loaded-ms"]),
        ("received until shown", "ms", &figures["latency-ms"]),
        (
            "script for an update",
            "ms",
            &figures["updates"]["script-ms"],
        ),
        ("long tasks", "ms", &figures["browser"]["long-tasks-ms"]),
        (
            "characters of an update",
            "",
            &figures["updates"]["characters"],
        ),
    ] {
        rows.push(format!(
            "  {name:<24} {:>6} times   p50 {:>8.0} {unit}   p95 {:>8.0} {unit}   p99 {:>8.0} {unit}   max {:>8.0} {unit}",
            value["count"],
            number(&value["p50"]),
            number(&value["p95"]),
            number(&value["p99"]),
            number(&value["max"]),
        ));
    }
    let (browser, server) = (&figures["browser"], &figures["server"]);
    rows.push(format!(
        "  updates: {:.1} a second, {:.1} kB/s",
        number(&figures["updates"]["per-second"]),
        number(&figures["updates"]["characters-per-second"]) / 1e3,
    ));
    rows.push(format!(
        "  browser: busy {:.1} % (script {:.1} %, style {:.1} %, layout {:.1} %), heap {:.1} MiB, then {:.1} MiB, nodes {}, then {}",
        number(&browser["busy-percent"]),
        number(&browser["script-percent"]),
        number(&browser["style-percent"]),
        number(&browser["layout-percent"]),
        number(&browser["heap-mib-before"]),
        number(&browser["heap-mib-after"]),
        browser["nodes-before"],
        browser["nodes-after"],
    ));
    rows.push(format!(
        "  server: {:.1} % of a processor alone, {:.1} % with the page open, {:.0} MiB, at most {:.0} MiB",
        number(&server["cpu-percent-alone"]),
        number(&server["cpu-percent-watched"]),
        number(&server["memory-mib"]),
        number(&server["peak-memory-mib"]),
    ));
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{percentiles, received};

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = (1..=200).rev().map(f64::from).collect();
        let expected =
            json!({ "count": 200, "p50": 100.0, "p95": 190.0, "p99": 198.0, "max": 200.0 });
        assert_eq!(percentiles(values), expected);
        assert_eq!(percentiles(vec![7.0])["p95"], 7.0);
        assert_eq!(percentiles(Vec::new())["max"], 0.0);
    }

    #[test]
    fn a_step_is_found_by_its_title() {
        let held = json!([
            { "received-at-ms": 5, "event": { "body": { "kind": "run-started", "steps": [{ "path": "fit", "title": "Check" }] } } },
            { "received-at-ms": 9, "event": { "body": { "kind": "step-started", "path": "fit" } } },
        ]);
        assert_eq!(received(&held), [("Check".to_owned(), 9)].into());
    }
}
