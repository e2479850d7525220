//! How soon a herd is back after its server was away.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::journal::Answer;
use crate::load::percentiles;

/// The server was killed, and started again. Milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    pub(super) killed_at_ms: i64,
    pub(super) started_at_ms: i64,
    /// None if it was killed again before it listened.
    pub(super) ready_at_ms: Option<i64>,
}

/// The machines that were at work when the server was killed.
#[derive(Debug, PartialEq, Eq)]
struct Herd {
    at_work: usize,
    /// Not heard before the server was killed the next time.
    unheard: usize,
    /// From the start of the server until the last of the others was heard.
    last_heard_ms: i64,
}

/// A herd for each outage. The times at which each machine was answered are in order.
fn herds(outages: &[Outage], answers: &BTreeMap<String, Vec<Answer>>) -> Vec<Herd> {
    let until = outages.iter().skip(1).map(|next| next.killed_at_ms);
    let until = until.chain(std::iter::once(i64::MAX));
    let herd = |(outage, until): (&Outage, i64)| {
        let mut herd = Herd {
            at_work: 0,
            unheard: 0,
            last_heard_ms: 0,
        };
        for times in answers.values() {
            let was_at_work = times[0].at_ms < outage.killed_at_ms;
            let next = times.partition_point(|answer| answer.at_ms < outage.started_at_ms);
            let Some(next) = times.get(next).filter(|_| was_at_work) else {
                continue;
            };
            herd.at_work += 1;
            if next.at_ms < until {
                herd.last_heard_ms = herd.last_heard_ms.max(next.at_ms - outage.started_at_ms);
            } else {
                herd.unheard += 1;
            }
        }
        herd
    };
    outages.iter().zip(until).map(herd).collect()
}

pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// For programs. The last outage stands alone: after it, the herd has all the time it needs.
pub(super) fn figures(outages: &[Outage], answers: &BTreeMap<String, Vec<Answer>>) -> Value {
    let herds = herds(outages, answers);
    let ready = outages
        .iter()
        .filter_map(|outage| Some(seconds(outage.ready_at_ms? - outage.started_at_ms)));
    let whole = herds
        .iter()
        .filter(|herd| herd.unheard == 0 && herd.at_work > 0);
    let last = herds.last().map(|herd| {
        json!({ "at-work": herd.at_work, "heard-after-seconds": seconds(herd.last_heard_ms) })
    });
    json!({
        "kills": outages.len(),
        "ready-after-seconds": percentiles(ready.collect()),
        "at-work-max": herds.iter().map(|herd| herd.at_work).max(),
        "all-heard": whole.clone().count(),
        "all-heard-after-seconds": percentiles(whole.map(|herd| seconds(herd.last_heard_ms)).collect()),
        "unheard-before-next-kill-max": herds.iter().map(|herd| herd.unheard).max(),
        "last": last,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Answer, Herd, Outage, figures, herds};

    fn answers(machines: &[(&str, &[i64])]) -> BTreeMap<String, Vec<Answer>> {
        let answer = |at_ms: &i64| Answer {
            at_ms: *at_ms,
            acknowledged: 1,
        };
        let machine = |(name, times): &(&str, &[i64])| {
            ((*name).to_owned(), times.iter().map(answer).collect())
        };
        machines.iter().map(machine).collect()
    }

    #[test]
    fn a_herd_is_back_when_the_last_one_at_work_was_heard() {
        let outage = |killed_at_ms| Outage {
            killed_at_ms,
            started_at_ms: killed_at_ms + 10,
            ready_at_ms: Some(killed_at_ms + 200),
        };
        let outages = [outage(1000), outage(2000)];
        let answers = answers(&[
            ("at work", &[500, 1400, 2500]),
            ("slow", &[600, 2300]),
            ("done before", &[700, 900]),
            ("switched on later", &[1500, 1900, 4000]),
            ("done between", &[800, 1910]),
        ]);
        let herd = |at_work, unheard, last_heard_ms| Herd {
            at_work,
            unheard,
            last_heard_ms,
        };
        assert_eq!(
            herds(&outages, &answers),
            [herd(3, 1, 900), herd(3, 0, 1990)]
        );
        let figures = figures(&outages, &answers);
        assert_eq!(figures["kills"], 2);
        assert_eq!(figures["all-heard"], 1);
        assert_eq!(figures["all-heard-after-seconds"]["max"], 1.99);
        assert_eq!(figures["last"]["at-work"], 3);
        assert_eq!(figures["ready-after-seconds"]["max"], 0.19);
    }
}
