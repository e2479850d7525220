//! What the QR code on a label says, see `docs/formats/label.md`. Letters, digits and full stops only: a scanner that types
//! for another keyboard than the computer's gets exactly these right.

use std::fmt::Write as _;

/// How a label's content begins: Forestage, version 1.
const PREFIX: &str = "FS1";
/// A serial number in a label, in bytes: longer than any that passes the import.
const SERIAL_BYTES_MAX: usize = 256;

/// The content for a serial number.
pub(crate) fn write(serial: &str) -> String {
    let is_plain = serial
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let body = if is_plain && !serial.is_empty() {
        format!("S.{serial}")
    } else {
        let hex = serial.bytes().fold(String::new(), |mut hex, byte| {
            // Writing to a string can't fail.
            let _ = write!(hex, "{byte:02X}");
            hex
        });
        format!("H.{hex}")
    };
    format!("{PREFIX}.{body}.{}", check(&body))
}

/// The serial number of a label's content; `None` if it isn't one, or was read wrong.
pub(crate) fn read(text: &str) -> Option<String> {
    let text = text.trim().to_uppercase();
    let rest = text.strip_prefix(PREFIX)?.strip_prefix('.')?;
    let (body, sum) = rest.rsplit_once('.')?;
    if body.len() > 2 * SERIAL_BYTES_MAX + 2 || sum != check(body) {
        return None;
    }
    match body.split_once('.')? {
        ("S", serial) => Some(serial.to_owned()),
        ("H", hex) => {
            let digits: Vec<u8> = hex
                .chars()
                .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
                .collect::<Option<_>>()?;
            let (pairs, []) = digits.as_chunks::<2>() else {
                return None;
            };
            let bytes = pairs.iter().map(|[high, low]| high << 4 | low).collect();
            String::from_utf8(bytes).ok()
        }
        _ => None,
    }
}

/// Four digits that tell a scan that lost a letter from one that didn't.
fn check(body: &str) -> String {
    let digest = blake3::hash(body.as_bytes());
    let [first, second, ..] = digest.as_bytes();
    format!("{first:02X}{second:02X}")
}

#[cfg(test)]
mod tests {
    use super::{read, write};
    use proptest::prelude::*;

    #[test]
    fn labels_say_the_serial_number() {
        let text = write("PF3K2ABC");
        assert!(text.starts_with("FS1.S.PF3K2ABC."), "{text}");
        assert_eq!(read(&text).as_deref(), Some("PF3K2ABC"));
        // A scanner with caps lock on.
        assert_eq!(read(&text.to_lowercase()).as_deref(), Some("PF3K2ABC"));
        assert_eq!(read("FS1.S.PF3K2AB.0000"), None);
        assert_eq!(read("PF3K2ABC"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(serial in "\\PC{0,60}") {
            prop_assert_eq!(read(&write(&serial)), Some(serial));
        }

        #[test]
        fn a_lost_letter_is_found(serial in "[A-Z0-9]{4,20}", at in 0usize..8) {
            let mut text = write(&serial);
            text.remove("FS1.S.".len() + at % serial.len());
            prop_assert_ne!(read(&text), Some(serial));
        }

        #[test]
        fn garbage_is_read_without_panic(text in "(FS1\\.)?[SHX]?\\.?(.|\n){0,40}") {
            let _read = read(&text);
        }

        #[test]
        fn only_safe_letters_are_used(serial in "\\PC{0,60}") {
            prop_assert!(write(&serial).chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '.'));
        }
    }
}
