//! Were events lost? What the server holds, against what it told the devices that it has.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use client::{Client, ClientError};
use serde::Serialize;

use super::device::{Device, digest};
use crate::failure::{Outcome, Trying};

/// The server reads its database for each: a few at a time are enough.
const WORKERS: usize = 4;

/// What the comparison found. Lost and changed must be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Comparison {
    /// Runs that were compared.
    pub(super) runs: usize,
    /// Events that the server told the devices it has.
    pub(super) acknowledged: usize,
    /// Of these, those that it doesn't hold.
    pub(super) lost: usize,
    /// Of these, those that it holds with other bytes than were sent.
    pub(super) changed: usize,
    /// Events that it holds beyond them: acknowledged at an earlier time, or by an answer that never arrived.
    pub(super) beyond: usize,
}

impl Comparison {
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.changed += other.changed;
        self.beyond += other.beyond;
    }
}

/// Compares the events of all devices. `told` is called with how many are done.
pub(super) fn compare(
    admin: &Client,
    devices: &[Mutex<Device>],
    told: impl Fn(usize) + Sync,
) -> Outcome<Comparison> {
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Comparison::default());
    let work = || -> Result<(), ClientError> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(device) = devices.get(index) else {
                return Ok(());
            };
            let device = device
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(found) = one(admin, &device)? {
                total
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .add(&found);
            }
            told(index);
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    for result in results {
        result.trying(|| "cannot read the events that the server holds".into())?;
    }
    Ok(total
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn one(admin: &Client, device: &Device) -> Result<Option<Comparison>, ClientError> {
    let Some(run) = device.run() else {
        return Ok(None);
    };
    let mut held = BTreeMap::new();
    let mut after = Some(0);
    while let Some(seq) = after {
        let page = admin.run_events(run, seq)?;
        held.extend(
            page.events
                .iter()
                .map(|event| (event.seq, digest(event.event.get()))),
        );
        after = page.next_after;
    }
    Ok(Some(matched(&device.acknowledged, &held)))
}

fn matched(acknowledged: &[(u64, u64)], held: &BTreeMap<u64, u64>) -> Comparison {
    let mut found = Comparison {
        runs: 1,
        acknowledged: acknowledged.len(),
        ..Comparison::default()
    };
    for (seq, digest) in acknowledged {
        match held.get(seq) {
            None => found.lost += 1,
            Some(other) if other != digest => found.changed += 1,
            Some(_) => {}
        }
    }
    found.beyond = held.len() - (acknowledged.len() - found.lost);
    found
}

#[cfg(test)]
mod tests {
    use super::{Comparison, matched};

    #[test]
    fn lost_and_changed_events_are_found() {
        let held = [(1, 11), (2, 22), (4, 44)].into();
        let found = matched(&[(1, 11), (2, 21), (3, 33)], &held);
        let expected = Comparison {
            runs: 1,
            acknowledged: 3,
            lost: 1,
            changed: 1,
            beyond: 1,
        };
        assert_eq!(found, expected);
    }
}
