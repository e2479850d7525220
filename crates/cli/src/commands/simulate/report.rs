//! What came of it, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use serde::Serialize;
use wire::names::RunId;

use super::compare::Comparison;
use super::device::{Device, End};
use super::lock;
use super::measure::Latency;
use super::play::World;
use super::speed::Speed;
use crate::failure::{Failure, Outcome};
use crate::output::{Look, Table, clean, count};

/// Surprises shown to people; all are in the JSON.
const SURPRISES_SHOWN_MAX: usize = 10;

/// What came of a simulation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report {
    devices: usize,
    seed: u64,
    speed: Speed,
    seconds: f64,
    /// How many ended how.
    ends: BTreeMap<End, usize>,
    /// How long the server took to answer, in milliseconds.
    latencies: Vec<Latency>,
    /// Calls that had to be repeated, by why.
    failures: BTreeMap<String, u64>,
    events: Comparison,
    /// Devices that ended otherwise than they were meant to.
    surprises: Vec<Surprise>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Surprise {
    serial: String,
    run: Option<RunId>,
    meant: End,
    end: End,
    why: Option<String>,
}

impl Report {
    pub(super) fn new(
        world: &World,
        devices: &[Mutex<Device>],
        seconds: f64,
        events: Comparison,
    ) -> Self {
        let mut ends: BTreeMap<End, usize> = BTreeMap::new();
        let mut surprises = Vec::new();
        for device in devices {
            let device = lock(device);
            let end = device.end();
            *ends.entry(end).or_default() += 1;
            // Nothing to do and stopped by an admin: that's the server's business.
            let is_fine = end == device.meant || end == End::Idle || end == End::Stopped;
            // A failed one that was tried again.
            let is_mended = device.meant == End::Failed && end == End::Done;
            if !is_fine && !is_mended {
                surprises.push(Surprise {
                    serial: device.serial.clone(),
                    run: device.run(),
                    meant: device.meant,
                    end,
                    why: device.why.clone(),
                });
            }
        }
        Self {
            devices: devices.len(),
            seed: world.seed,
            speed: world.pace.speed,
            seconds,
            ends,
            latencies: world.measure.latencies(),
            failures: world.measure.failures(),
            events,
            surprises,
        }
    }

    /// For people.
    pub(super) fn render(&self, look: &Look) -> String {
        let ends: Vec<String> = self
            .ends
            .iter()
            .map(|(end, number)| format!("{number} {}", word(*end)))
            .collect();
        let mut text = format!(
            "{} in {:.1} s: {}\n\n",
            count(self.devices, "simulated device"),
            self.seconds,
            ends.join(", ")
        );
        let mut table = Table::new(&[
            "answers to",
            ">number",
            ">p50 ms",
            ">p95 ms",
            ">p99 ms",
            ">max ms",
        ]);
        for latency in &self.latencies {
            table.row([
                latency.call.to_owned(),
                latency.count.to_string(),
                format!("{:.1}", latency.p50_ms),
                format!("{:.1}", latency.p95_ms),
                format!("{:.1}", latency.p99_ms),
                format!("{:.1}", latency.max_ms),
            ]);
        }
        text.push_str(&table.render(look, "  "));
        text.push('\n');
        for (why, number) in &self.failures {
            let _ = writeln!(text, "repeated {number} times: {}", clean(why));
        }
        for surprise in self.surprises.iter().take(SURPRISES_SHOWN_MAX) {
            let _ = writeln!(
                text,
                "{}: {} instead of {}{}",
                clean(&surprise.serial),
                word(surprise.end),
                word(surprise.meant),
                surprise
                    .why
                    .as_ref()
                    .map_or(String::new(), |why| format!(": {}", clean(why)))
            );
        }
        let events = &self.events;
        let lost = match events.lost + events.changed {
            0 => look.paint.good("none"),
            _ => look
                .paint
                .bad(&format!("{} lost, {} changed", events.lost, events.changed)),
        };
        let _ = writeln!(
            text,
            "events acknowledged: {}, in {}; events lost: {lost}",
            events.acknowledged,
            count(events.runs, "run")
        );
        text
    }

    /// Whether all was as it should be.
    pub(super) fn verdict(&self) -> Outcome<()> {
        if self.events.lost + self.events.changed > 0 {
            return Err(Failure::new(format!(
                "{} events were acknowledged and are not held as they were sent",
                self.events.lost + self.events.changed
            )));
        }
        if !self.surprises.is_empty() {
            return Err(Failure::new(format!(
                "{} ended otherwise than they were meant to",
                count(self.surprises.len(), "device")
            ))
            .hint("--json lists them all"));
        }
        Ok(())
    }
}

const fn word(end: End) -> &'static str {
    match end {
        End::Done => "done",
        End::Failed => "failed",
        End::Stopped => "stopped",
        End::Silent => "silent",
        End::Idle => "with nothing to do",
        End::Quarantined => "in quarantine",
        End::Refused => "refused",
        End::Broken => "broken",
    }
}
