//! The line format of the journal: one durable event per line, with a checksum before it. See
//! `docs/formats/journal.md`.
//!
//! A power cut can tear the last line; a bad disk can change any. Reading stops at the first line that is not whole, so
//! what is read is always a true beginning of what happened.

use wire::digest::Digest;
use wire::event::Event;

/// A line is never longer: the largest event carries a plan or a script's output, both far smaller. A reader gives up
/// on a longer one before it parses it.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// How many hexadecimal digits of the BLAKE3 digest stand before the JSON: 64 bits find every accident.
const CHECKSUM_DIGITS: usize = 16;

/// The line of an event, line feed included.
#[must_use]
pub fn encode(event: &Event) -> Vec<u8> {
    let json = serde_json::to_vec(event).unwrap_or_else(|_| unreachable_json());
    let mut line = checksum(&json).into_bytes();
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    line
}

/// Reads lines until one is not whole. Returns the events and how many bytes they take; a writer cuts the rest off.
#[must_use]
pub fn decode(bytes: &[u8]) -> (Vec<Event>, usize) {
    let mut events = Vec::new();
    let mut good = 0;
    while let Some(length) = bytes[good..]
        .iter()
        .take(LINE_BYTES_MAX)
        .position(|byte| *byte == b'\n')
    {
        let Some(event) = decode_line(&bytes[good..good + length]) else {
            break;
        };
        events.push(event);
        good += length + 1;
    }
    (events, good)
}

fn decode_line(line: &[u8]) -> Option<Event> {
    let (sum, rest) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    if checksum(json).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn checksum(json: &[u8]) -> String {
    let mut digits = Digest::of(json).to_string();
    digits.truncate(CHECKSUM_DIGITS);
    digits
}

/// Events hold only texts, numbers, lists and maps with text keys, all of which JSON can write.
fn unreachable_json() -> Vec<u8> {
    debug_assert!(false, "an event is always writable as JSON");
    b"null".to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::event::{Environment, Event, EventBody, LogLevel};
    use wire::names::RunId;

    use super::{decode, encode};

    fn event(seq: u64, text: &str) -> Event {
        let body = if text.is_empty() {
            EventBody::RunResumed {
                environment: Environment::Os,
            }
        } else {
            EventBody::Log {
                path: None,
                level: LogLevel::Info,
                text: text.to_owned(),
            }
        };
        Event {
            run: RunId(uuid::Uuid::nil()),
            seq,
            boot: 1,
            uptime_ms: 7,
            body,
        }
    }

    fn journal(texts: &[String]) -> (Vec<Event>, Vec<u8>) {
        let events: Vec<Event> = (1..)
            .zip(texts)
            .map(|(seq, text)| event(seq, text))
            .collect();
        let bytes = events.iter().flat_map(encode).collect();
        (events, bytes)
    }

    #[test]
    fn a_line_reads_as_documented() {
        let line = String::from_utf8(encode(&event(1, "hei på deg"))).unwrap();
        insta::assert_snapshot!(line);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(texts in proptest::collection::vec(".{0,40}", 0..6)) {
            let (events, bytes) = journal(&texts);
            prop_assert_eq!(decode(&bytes), (events, bytes.len()));
        }

        #[test]
        fn a_cut_journal_is_read_up_to_the_last_whole_line(
            texts in proptest::collection::vec(".{0,40}", 1..6),
            cut: usize,
        ) {
            let (events, bytes) = journal(&texts);
            let cut = cut % bytes.len();
            let (read, good) = decode(&bytes[..cut]);
            prop_assert!(good <= cut);
            prop_assert_eq!(&events[..read.len()], &read[..]);
            prop_assert_eq!(read.len(), bytes[..cut].iter().filter(|byte| **byte == b'\n').count());
        }

        #[test]
        fn a_flipped_bit_is_never_read(
            texts in proptest::collection::vec("[a-z]{1,40}", 1..6),
            at: usize,
            bit in 0u8..8,
        ) {
            let (events, mut bytes) = journal(&texts);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let (read, _) = decode(&bytes);
            prop_assert_eq!(&events[..read.len()], &read[..]);
            prop_assert!(read.len() < events.len());
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(&bytes), (Vec::new(), 0));
        }
    }
}
