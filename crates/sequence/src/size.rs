//! Sizes and durations as people write and read them: `1GiB`, `2m`.

/// Units of sizes, smallest first.
const UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a size such as `512MiB`: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`.
///
/// # Errors
/// Says what is wrong, in words.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let unit = text[digits..].trim_start();
    let number: Result<u64, _> = text[..digits].parse();
    let factor = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor);
    match (number, factor) {
        (Ok(number), Some(factor)) => number
            .checked_mul(factor)
            .ok_or_else(|| format!("the size {text:?} is too large")),
        _ => Err(format!(
            "{text:?} is not a size: write a whole number and B, KiB, MiB, GiB or TiB, such as `8GiB`"
        )),
    }
}

/// A size for people, such as `7.5 GiB`; exact if it is a whole number of a unit.
#[must_use]
pub fn in_words(bytes: u64) -> String {
    let (name, factor) = UNITS
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor)
        .copied()
        .unwrap_or(UNITS[0]);
    let tenths = u128::from(bytes) * 10 / u128::from(factor);
    if bytes.is_multiple_of(factor) || factor == 1 {
        format!("{} {name}", bytes / factor)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// Reads a duration such as `90s`, `2m` or `1h` as seconds.
///
/// # Errors
/// Says what is wrong, in words.
pub fn parse_seconds(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("{text:?} is not a duration: write a whole number and s, m or h, such as `2m`");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let factor = match text[digits..].trim_start() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("the duration {text:?} is too long"))
}

/// A duration for people, such as `1 min 30 s`.
#[must_use]
pub fn seconds_in_words(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let parts = [(hours, "h"), (minutes, "min"), (rest, "s")];
    let texts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    if texts.is_empty() {
        "0 s".to_owned()
    } else {
        texts.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::{in_words, parse, parse_seconds, seconds_in_words};

    #[test]
    fn sizes() {
        assert_eq!(parse("1GiB"), Ok(1 << 30));
        assert_eq!(parse("512 MiB"), Ok(512 << 20));
        for wrong in ["", "GiB", "1", "1GB", "-1GiB", "1.5GiB", "99999999999TiB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(in_words(1 << 30), "1 GiB");
        assert_eq!(in_words((3 << 30) / 2), "1.5 GiB");
        assert_eq!(in_words(0), "0 B");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_seconds("2m"), Ok(120));
        assert_eq!(parse_seconds("1h"), Ok(3600));
        for wrong in [
            "",
            "2",
            "m",
            "2d",
            "-2s",
            "99999999999999999999s",
            "9999999999999999h",
        ] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(seconds_in_words(3690), "1 h 1 min 30 s");
    }
}
