//! How long the server took to answer, as devices see it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::ClientError;
use serde::Serialize;

/// Kinds of failures that are told apart.
const FAILURE_KINDS_MAX: usize = 20;

/// What was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    /// A challenge; the TLS handshake of a new connection included.
    Challenge,
    /// A check-in.
    CheckIn,
    /// A batch with events in it.
    Events,
    /// A batch with at most progress in it.
    Heartbeat,
}

impl Call {
    const ALL: [Self; 4] = [
        Self::Challenge,
        Self::CheckIn,
        Self::Events,
        Self::Heartbeat,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::CheckIn => "check-in",
            Self::Events => "events",
            Self::Heartbeat => "heartbeat",
        }
    }
}

#[derive(Default)]
pub(super) struct Measure {
    /// By call, in microseconds.
    times: [Mutex<Vec<u32>>; 4],
    /// How late a device's turn came, in microseconds: what the simulator itself couldn't keep up with.
    late: Mutex<Vec<u32>>,
    failures: Mutex<BTreeMap<String, u64>>,
}

/// The answers to one kind of call, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Latency {
    pub(super) call: &'static str,
    pub(super) count: usize,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

impl Measure {
    /// Does it, and notes how long it took if it went well.
    pub(super) fn time<T>(
        &self,
        call: Call,
        work: impl FnOnce() -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let start = Instant::now();
        let result = work();
        if result.is_ok() {
            let index = Call::ALL
                .iter()
                .position(|other| *other == call)
                .unwrap_or(0);
            push(&self.times[index], start.elapsed());
        }
        result
    }

    pub(super) fn note_late(&self, late: Duration) {
        push(&self.late, late);
    }

    pub(super) fn note_failure(&self, error: &ClientError) {
        let kind = match error.status() {
            Some(status) => format!("answered {status}"),
            None => error
                .to_string()
                .split(" https")
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURE_KINDS_MAX || failures.contains_key(&kind) {
            *failures.entry(kind).or_default() += 1;
        }
    }

    /// Answers so far.
    pub(super) fn count(&self) -> usize {
        let counts = self.times.iter().map(|times| lock(times).len());
        counts.sum()
    }

    pub(super) fn latencies(&self) -> Vec<Latency> {
        let calls = Call::ALL.iter().zip(&self.times);
        calls
            .map(|(call, times)| latency(call.name(), lock(times).clone()))
            .chain([latency("own-delay", lock(&self.late).clone())])
            .filter(|latency| latency.count > 0)
            .collect()
    }

    pub(super) fn failures(&self) -> BTreeMap<String, u64> {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn lock(times: &Mutex<Vec<u32>>) -> std::sync::MutexGuard<'_, Vec<u32>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push(times: &Mutex<Vec<u32>>, time: Duration) {
    lock(times).push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
}

fn latency(call: &'static str, mut times: Vec<u32>) -> Latency {
    times.sort_unstable();
    // Nearest rank: the smallest time that so many in a thousand answers don't exceed.
    let at = |per_mille: usize| {
        let rank = (times.len() * per_mille).div_ceil(1000).max(1);
        times
            .get(rank - 1)
            .map_or(0.0, |time| f64::from(*time) / 1000.0)
    };
    Latency {
        call,
        count: times.len(),
        p50_ms: at(500),
        p95_ms: at(950),
        p99_ms: at(990),
        max_ms: at(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::latency;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let all = latency("x", (1..=1000).rev().map(|ms| ms * 1000).collect());
        assert_eq!(
            (all.p50_ms, all.p95_ms, all.p99_ms, all.max_ms),
            (500.0, 950.0, 990.0, 1000.0)
        );
        let one = latency("x", vec![7000]);
        assert_eq!((one.p50_ms, one.p99_ms, one.count), (7.0, 7.0, 1));
        assert_eq!(latency("x", vec![]).max_ms, 0.0);
    }
}
