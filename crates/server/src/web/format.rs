//! Numbers as people read them. Everything here is pure and knows no language but English.

/// A duration as `m:ss`, from one hour on as `h:mm:ss`.
#[must_use]
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// A duration of a step: tenths of a second below ten seconds, else [`clock`].
#[must_use]
pub fn precise(milliseconds: u64) -> String {
    if milliseconds < 10_000 {
        format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
    } else {
        clock(milliseconds / 1000)
    }
}

/// How long ago, in one word and a unit: `now`, `12 s ago`, `4 min ago`, `3 h ago`, `2 d ago`.
#[must_use]
pub fn ago(seconds: u64) -> String {
    match seconds {
        0..=2 => "now".to_owned(),
        3..=59 => format!("{seconds} s ago"),
        60..=3599 => format!("{} min ago", seconds / 60),
        3600..=86_399 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Bytes in decimal units with three significant digits, as drives and networks are sold: `999 B`, `1.23 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut scale = 1000_u64;
    // 999.5 of a unit rounds to 1000, so such a number already belongs to the next one.
    while unit + 1 < UNITS.len() && u128::from(count) * 2 >= u128::from(scale) * 1999 {
        unit += 1;
        scale *= 1000;
    }
    format!("{} {}", three_digits(count, scale), UNITS[unit])
}

/// Megabytes with two decimals and no unit, for columns of numbers that are compared at a glance.
#[must_use]
pub fn megabytes(count: u64) -> String {
    let hundredths = (u128::from(count) + 5_000) / 10_000;
    format!(
        "{}.{:02}",
        grouped((hundredths / 100).try_into().unwrap_or(u64::MAX)),
        hundredths % 100
    )
}

fn three_digits(count: u64, scale: u64) -> String {
    let (count, scale) = (u128::from(count), u128::from(scale));
    for (digits, power) in [(2, 100_u128), (1, 10)] {
        let scaled = (count * power + scale / 2) / scale;
        if scaled < 1000 {
            return format!("{}.{:0digits$}", scaled / power, scaled % power);
        }
    }
    format!("{}", (count + scale / 2) / scale)
}

/// A whole number with thousands set apart by a no-break space.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// A time of day in UTC as `07:42:09`.
#[must_use]
pub fn time_of_day(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(
        |_| "—".to_owned(),
        |time| time.strftime("%H:%M:%S").to_string(),
    )
}

/// Whole seconds from `then_ms` to `now_ms`; 0 if `then` lies in the future.
#[must_use]
pub fn seconds_between(then_ms: i64, now_ms: i64) -> u64 {
    u64::try_from(now_ms.saturating_sub(then_ms) / 1000).unwrap_or(0)
}

/// The share of `part` in `whole` in percent, at most 100; 0 if there is no whole.
#[must_use]
pub fn percent(part: u64, whole: u64) -> u8 {
    if whole == 0 {
        return 0;
    }
    let percent = u128::from(part) * 100 / u128::from(whole);
    u8::try_from(percent.min(100)).unwrap_or(100)
}

/// As [`percent`], but rounded: for shares that stand beside each other.
#[must_use]
pub fn share(part: u64, whole: u64) -> u8 {
    if whole == 0 {
        return 0;
    }
    let percent = (u128::from(part) * 200 + u128::from(whole)) / (u128::from(whole) * 2);
    u8::try_from(percent.min(100)).unwrap_or(100)
}

/// Minutes as people say them.
#[must_use]
pub fn minutes(minutes: u32) -> String {
    match minutes {
        1440 => "a day".to_owned(),
        60 => "an hour".to_owned(),
        minutes if minutes % 1440 == 0 => format!("{} days", minutes / 1440),
        minutes if minutes % 60 == 0 => format!("{} hours", minutes / 60),
        minutes => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            (0, "0:00"),
            (59, "0:59"),
            (60, "1:00"),
            (754, "12:34"),
            (3600, "1:00:00"),
            (93_784, "26:03:04"),
        ];
        for (seconds, text) in cases {
            assert_eq!(clock(seconds), text);
        }
        assert_eq!(precise(0), "0.0 s");
        assert_eq!(precise(9_949), "9.9 s");
        assert_eq!(precise(61_000), "1:01");
    }

    #[test]
    fn ages() {
        let cases = [
            (0, "now"),
            (3, "3 s ago"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (7199, "1 h ago"),
        ];
        for (seconds, text) in cases {
            assert_eq!(ago(seconds), text);
        }
        assert_eq!(ago(86_400 * 12), "12 d ago");
    }

    #[test]
    fn byte_counts() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1_234_567, "1.23 MB"),
            (12_345_678, "12.3 MB"),
            (123_456_789, "123 MB"),
            (999_499_999, "999 MB"),
            (999_500_000, "1.00 GB"),
            (9_996_000, "10.0 MB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text, "{count}");
        }
        assert_eq!(megabytes(0), "0.00");
        assert_eq!(megabytes(412_345), "0.41");
        assert_eq!(megabytes(12_345_678_901), "12\u{a0}345.68");
        assert_eq!(
            megabytes(u64::MAX),
            "18\u{a0}446\u{a0}744\u{a0}073\u{a0}709.55"
        );
    }

    #[test]
    fn moments() {
        assert_eq!(time_of_day(0), "00:00:00");
        assert_eq!(seconds_between(5_000, 1_000), 0);
        assert_eq!(
            seconds_between(i64::MIN, i64::MAX),
            u64::try_from(i64::MAX / 1000).unwrap()
        );
        assert_eq!(percent(1, 0), 0);
        assert_eq!(percent(u64::MAX, 3), 100);
        assert_eq!(
            (
                share(2, 3),
                percent(2, 3),
                share(1, 0),
                share(u64::MAX, u64::MAX)
            ),
            (67, 66, 0, 100)
        );
    }
}
