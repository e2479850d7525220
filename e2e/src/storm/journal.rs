//! What the machines made and what they were told: `docs/formats/simulation-journal.md`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::audit::Place;

/// An event of a machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) serial: String,
    pub(super) at_ms: i64,
    /// Byte for byte.
    pub(super) event: String,
}

/// The server has all events up to `acknowledged`, as a machine heard at `at_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) at_ms: i64,
    pub(super) acknowledged: u64,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) made: BTreeMap<Place, Made>,
    /// Of each machine, in the order in which they came.
    pub(super) answers: BTreeMap<String, Vec<Answer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    at_ms: i64,
    serial: String,
    made: Option<Box<RawValue>>,
    acknowledged: Option<u64>,
}

#[derive(Deserialize)]
struct Head {
    run: String,
    seq: u64,
}

impl Journal {
    /// The events, byte for byte.
    pub(super) fn events(&self) -> BTreeMap<Place, &str> {
        self.made
            .iter()
            .map(|(place, made)| (place.clone(), made.event.as_str()))
            .collect()
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut journal = Self::default();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            if let Some(line) = line.strip_suffix('\n') {
                journal
                    .take(line)
                    .with_context(|| format!("line {} of the journal", index + 1))?;
            }
        }
        Ok(journal)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let line: Line = serde_json::from_str(line)?;
        if let Some(event) = line.made {
            let head: Head = serde_json::from_str(event.get())?;
            let place = (head.run, head.seq);
            let made = Made {
                serial: line.serial.clone(),
                at_ms: line.at_ms,
                event: event.get().to_owned(),
            };
            ensure!(
                !self.made.contains_key(&place),
                "the event {} of run {} was made before",
                place.1,
                place.0
            );
            self.made.insert(place, made);
        }
        if let Some(acknowledged) = line.acknowledged {
            self.answers.entry(line.serial).or_default().push(Answer {
                at_ms: line.at_ms,
                acknowledged,
            });
        }
        Ok(())
    }

    /// How long each event was kept until its machine heard that the server has it, in milliseconds.
    pub(super) fn kept_ms(&self) -> Vec<i64> {
        let kept = self.made.iter().filter_map(|((_, seq), made)| {
            let answers = self.answers.get(&made.serial)?;
            let first = answers.partition_point(|answer| answer.acknowledged < *seq);
            Some(answers.get(first)?.at_ms - made.at_ms)
        });
        kept.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Journal};

    const TEXT: &str = concat!(
        r#"{"at-ms":10,"serial":"SIM-1","made":{"run":"a","seq":1, "x": 1}}"#,
        "\n",
        r#"{"at-ms":11,"serial":"SIM-1","acknowledged":0}"#,
        "\n",
        r#"{"at-ms":20,"serial":"SIM-1","made":{"run":"a","seq":2},"later":true}"#,
        "\n",
        r#"{"at-ms":35,"serial":"SIM-1","acknowledged":2}"#,
        "\n",
        r#"{"at-ms":36,"serial":"SIM-1","ma"#,
    );

    #[test]
    fn what_was_made_and_told_is_read_and_a_torn_last_line_is_not() {
        let journal = Journal::parse(TEXT).unwrap();
        let first = &journal.made[&("a".to_owned(), 1)];
        assert_eq!(first.event, r#"{"run":"a","seq":1, "x": 1}"#);
        let answers = [(11, 0), (35, 2)].map(|(at_ms, acknowledged)| Answer {
            at_ms,
            acknowledged,
        });
        assert_eq!(journal.answers["SIM-1"], answers);
        assert_eq!(journal.kept_ms(), [25, 15]);
    }

    #[test]
    fn an_event_that_is_made_twice_is_a_mistake_of_the_simulation() {
        let (line, _) = TEXT.split_once('\n').unwrap();
        assert!(Journal::parse(&format!("{line}\n{line}\n")).is_err());
    }
}
