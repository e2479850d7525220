//! What a fleet made and what it was told, line by line as it happened: for whoever wants to compare it with what a server
//! holds. See `docs/formats/simulation-journal.md`.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::{Failure, Outcome, Trying};

/// The journal of a fleet.
pub(super) struct Journal {
    path: Utf8PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// The first thing that went wrong. Nothing is written after it.
    trouble: Option<io::Error>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    at_ms: i64,
    serial: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<u64>,
}

impl Journal {
    /// Begins a new one in this file.
    pub(super) fn create(path: &Utf8Path) -> Outcome<Self> {
        let file = File::create(path).trying(|| format!("cannot write the journal {path}"))?;
        Ok(Self {
            path: path.to_owned(),
            state: Mutex::new(State {
                file,
                trouble: None,
            }),
        })
    }

    /// A machine made an event, and hasn't sent it yet.
    pub(super) fn made(&self, serial: &str, event: &RawValue) {
        self.write(&Line {
            at_ms: now_ms(),
            serial,
            made: Some(event),
            acknowledged: None,
        });
    }

    /// The server answered that it has all events of a machine up to this one.
    pub(super) fn acknowledged(&self, serial: &str, seq: u64) {
        self.write(&Line {
            at_ms: now_ms(),
            serial,
            made: None,
            acknowledged: Some(seq),
        });
    }

    /// Whether all of it could be written.
    pub(super) fn finish(&self) -> Outcome<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.trouble.take() {
            None => Ok(()),
            Some(error) => {
                Err(Failure::new(format!("cannot write the journal {}", self.path)).because(error))
            }
        }
    }

    fn write(&self, line: &Line<'_>) {
        let text = serde_json::to_string(line).map(|text| text + "\n");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.trouble.is_some() {
            return;
        }
        let written = text
            .map_err(io::Error::from)
            .and_then(|text| state.file.write_all(text.as_bytes()));
        state.trouble = written.err();
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::Journal;

    #[test]
    fn an_event_stands_there_as_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = camino::Utf8Path::from_path(folder.path())
            .unwrap()
            .join("journal.jsonl");
        let journal = Journal::create(&path).unwrap();
        let event: Box<serde_json::value::RawValue> =
            serde_json::from_str(r#"{"seq":1,  "new": [1.50]}"#).unwrap();
        journal.made("SIM-00001", &event);
        journal.acknowledged("SIM-00001", 1);
        journal.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].ends_with(r#","serial":"SIM-00001","made":{"seq":1,  "new": [1.50]}}"#),
            "{text}"
        );
        assert!(
            lines[1].ends_with(r#","serial":"SIM-00001","acknowledged":1}"#),
            "{text}"
        );
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let journal = Journal::create("/dev/full".into()).unwrap();
        journal.acknowledged("SIM-00001", 1);
        journal.acknowledged("SIM-00001", 2);
        let failure = journal.finish().unwrap_err();
        assert_eq!(failure.to_string(), "cannot write the journal /dev/full");
    }
}
