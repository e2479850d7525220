//! Days as people write them in filters.

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::error::Failure;

/// The midnight in the server's time zone at which a day begins, so many days later; none if no day is said.
pub(crate) fn midnight(day: &str, days_later: i64) -> Result<Option<i64>, Failure> {
    if day.trim().is_empty() {
        return Ok(None);
    }
    let begin = |day: Date| {
        let day = day.checked_add(days_later.days()).ok()?;
        TimeZone::system().to_timestamp(day.at(0, 0, 0, 0)).ok()
    };
    let moment = day.trim().parse::<Date>().ok().and_then(begin);
    let moment = moment.ok_or_else(|| {
        Failure::bad_request("bad-day", format!("`{day}` is no day")).hint("write it as 2026-08-17")
    })?;
    Ok(Some(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::midnight;

    #[test]
    fn a_day_lasts_until_the_next_one_begins() {
        let at = |day, later| midnight(day, later).unwrap();
        assert_eq!((at("", 1), at(" ", 0)), (None, None));
        // No day of any time zone is shorter than 23 hours.
        let day = at("2026-08-17", 1).unwrap() - at("2026-08-17", 0).unwrap();
        assert!(day >= 23 * 3_600_000, "{day}");
        assert_eq!(at("2026-08-17", 1), at("2026-08-18", 0));
        for text in ["17.08.2026", "2026-02-30", "yesterday"] {
            assert!(midnight(text, 0).is_err(), "{text}");
        }
    }
}
