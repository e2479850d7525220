//! What the machines made, against what the database holds: two sets that must be equal, and an order that must be kept.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A run, and the `seq` of an event in it.
pub(crate) type Place = (String, u64);

/// So many of each kind of trouble are named.
const NAMED_MAX: usize = 20;

/// An event as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    place: Place,
    take: u64,
    received_at_ms: i64,
    event: String,
}

/// Events by what is wrong with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    pub(crate) made: usize,
    pub(crate) held: usize,
    /// Made, and not held.
    lost: Vec<Place>,
    /// Held with other bytes than were made.
    changed: Vec<Place>,
    /// Held more than once.
    twice: Vec<Place>,
    /// Held, and made by no machine.
    foreign: Vec<Place>,
    /// Received before the one that stands before it.
    out_of_order: Vec<Place>,
}

/// The query for [`parse`]. The databases read bytes as text in different ways.
pub(crate) fn query(on_postgres: bool) -> String {
    let text = if on_postgres {
        "convert_from(bytes, 'UTF8')"
    } else {
        "CAST(bytes AS TEXT)"
    };
    format!("SELECT run, take, seq, received_at_ms, {text} FROM events ORDER BY run, take, seq")
}

/// Rows of the database, in its order.
pub(crate) fn parse(rows: &str) -> Result<Vec<Held>> {
    rows.lines()
        .map(|row| held(row).with_context(|| format!("not a row of an event: {row}")))
        .collect()
}

fn held(row: &str) -> Option<Held> {
    let mut columns = row.splitn(5, '|');
    let run = columns.next()?.to_owned();
    let take = columns.next()?.parse().ok()?;
    let seq = columns.next()?.parse().ok()?;
    Some(Held {
        place: (run, seq),
        take,
        received_at_ms: columns.next()?.parse().ok()?,
        event: columns.next()?.to_owned(),
    })
}

impl Audit {
    /// Compares. `made` are the events byte for byte; `held` is in the order of run, take and `seq`.
    pub(crate) fn of(made: &BTreeMap<Place, &str>, held: &[Held]) -> Self {
        let mut audit = Self {
            made: made.len(),
            held: held.len(),
            ..Self::default()
        };
        let mut times: BTreeMap<&Place, usize> = BTreeMap::new();
        for row in held {
            *times.entry(&row.place).or_default() += 1;
            match made.get(&row.place) {
                None => audit.foreign.push(row.place.clone()),
                Some(made) if *made != row.event => audit.changed.push(row.place.clone()),
                Some(_) => {}
            }
        }
        let lost = made.keys().filter(|place| !times.contains_key(place));
        audit.lost = lost.cloned().collect();
        let twice = times.iter().filter(|(_, times)| **times > 1);
        audit.twice = twice.map(|(place, _)| (*place).clone()).collect();
        for pair in held.windows(2) {
            let is_same_take = (&pair[0].place.0, pair[0].take) == (&pair[1].place.0, pair[1].take);
            if is_same_take && pair[1].received_at_ms < pair[0].received_at_ms {
                audit.out_of_order.push(pair[1].place.clone());
            }
        }
        audit
    }

    /// Each once, as it was made, in order; none more, none less.
    pub(crate) fn is_whole(&self) -> bool {
        self.kinds().iter().all(|(_, places)| places.is_empty())
    }

    fn kinds(&self) -> [(&'static str, &[Place]); 5] {
        [
            ("lost", &self.lost),
            ("changed", &self.changed),
            ("twice", &self.twice),
            ("foreign", &self.foreign),
            ("out-of-order", &self.out_of_order),
        ]
    }

    /// For programs; the first of each kind by name.
    pub(crate) fn figures(&self) -> Value {
        let mut figures = json!({ "made": self.made, "held": self.held });
        for (kind, places) in self.kinds() {
            figures[kind] = places.len().into();
            if !places.is_empty() {
                let name = |(run, seq): &Place| format!("{run} {seq}");
                let named: Vec<String> = places.iter().take(NAMED_MAX).map(name).collect();
                figures[format!("{kind}-named")] = named.into();
            }
        }
        figures
    }

    /// For people.
    pub(crate) fn row(&self) -> String {
        let kinds = self.kinds();
        let kinds = kinds.map(|(kind, places)| format!("{} {kind}", places.len()));
        format!(
            "events: {} made, {} held; {}",
            self.made,
            self.held,
            kinds.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Audit, Place, parse};

    fn made<'a>(events: &[(&str, u64, &'a str)]) -> BTreeMap<Place, &'a str> {
        let made = |&(run, seq, event): &(&str, u64, &'a str)| ((run.to_owned(), seq), event);
        events.iter().map(made).collect()
    }

    fn places(places: &[(&str, u64)]) -> Vec<Place> {
        let place = |(run, seq): &(&str, u64)| ((*run).to_owned(), *seq);
        places.iter().map(place).collect()
    }

    #[test]
    fn equal_sets_are_whole() {
        let held = parse("a|1|1|100|{\"x\":\"|\"}\na|1|2|100|y\nb|1|1|90|z\n").unwrap();
        let made = made(&[("a", 1, "{\"x\":\"|\"}"), ("a", 2, "y"), ("b", 1, "z")]);
        let audit = Audit::of(&made, &held);
        assert!(audit.is_whole(), "{audit:?}");
        assert_eq!((audit.made, audit.held), (3, 3));
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        let rows = "a|1|1|100|x\na|1|2|99|y\na|2|1|200|x\nb|1|1|90|other\nc|1|1|90|x\n";
        let made = made(&[
            ("a", 1, "x"),
            ("a", 2, "y"),
            ("a", 3, "z"),
            ("b", 1, "mine"),
        ]);
        let audit = Audit::of(&made, &parse(rows).unwrap());
        let expected = Audit {
            made: 4,
            held: 5,
            lost: places(&[("a", 3)]),
            changed: places(&[("b", 1)]),
            twice: places(&[("a", 1)]),
            foreign: places(&[("c", 1)]),
            out_of_order: places(&[("a", 2)]),
        };
        assert_eq!(audit, expected);
        assert!(!audit.is_whole());
        let figures = audit.figures();
        assert_eq!(
            (&figures["lost"], &figures["lost-named"][0]),
            (&1.into(), &"a 3".into())
        );
        assert!(parse("a|1|x|100|e").is_err());
    }
}
