//! How fast time goes for a fleet.

use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The longest that anybody is asked to wait: half a day; longer is as good as never.
const WAIT_MAX_MS: u64 = 12 * 3600 * 1000;
/// A machine for which a real minute is less than a second does nothing.
const THOUSANDTHS_MIN: u32 = 10;
const THOUSANDTHS_MAX: u32 = 10_000_000;

/// Seconds that pass for devices in a real one, in thousandths. Written `60` or `0.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speed(u32);

impl Speed {
    /// How much simulated time goes by in so much real time.
    pub(super) fn simulated_ms(self, real: Duration) -> u64 {
        let ms = real.as_millis() * u128::from(self.0) / 1000;
        u64::try_from(ms).unwrap_or(u64::MAX)
    }

    /// How long so much simulated time takes.
    pub(super) fn real(self, simulated_ms: u64) -> Duration {
        let ms = simulated_ms.saturating_mul(1000) / u64::from(self.0);
        Duration::from_millis(ms.min(WAIT_MAX_MS))
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || format!("{text:?} is not a speed: write 0.01 to 10000, such as 60 or 0.5");
        let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(rest) || rest.len() > 3 {
            return Err(rule());
        }
        let whole: u32 = whole.parse().map_err(|_| rule())?;
        let rest: u32 = format!("{rest:0<3}").parse().map_err(|_| rule())?;
        whole
            .checked_mul(1000)
            .and_then(|thousandths| thousandths.checked_add(rest))
            .filter(|thousandths| (THOUSANDTHS_MIN..=THOUSANDTHS_MAX).contains(thousandths))
            .map(Self)
            .ok_or_else(rule)
    }
}

impl Serialize for Speed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Speed;
    use std::time::Duration;

    #[test]
    fn speeds_are_read() {
        for (text, thousandths) in [
            ("60", 60_000),
            ("0.2", 200),
            ("0.01", 10),
            ("1.234", 1234),
            ("10000", 10_000_000),
        ] {
            assert_eq!(text.parse::<Speed>().unwrap().0, thousandths, "{text}");
        }
        for text in [
            "",
            "0",
            "0.009",
            "10000.001",
            "-1",
            "1.2345",
            "1,5",
            ".5",
            "5.",
            "٣",
            "99999999999",
        ] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }

    #[test]
    fn time_goes_both_ways() {
        let slow: Speed = "0.2".parse().unwrap();
        assert_eq!(slow.simulated_ms(Duration::from_secs(10)), 2000);
        assert_eq!(slow.real(2000), Duration::from_secs(10));
        let fast: Speed = "60".parse().unwrap();
        assert_eq!(fast.simulated_ms(Duration::from_millis(7)), 420);
        assert_eq!(fast.real(60_000), Duration::from_secs(1));
        assert_eq!(slow.real(u64::MAX), Duration::from_secs(12 * 3600));
    }
}
