//! Figures about the rollout, made from the rows of the fleet in memory: no question to the database, whatever is asked.
//!
//! They are about each device's latest run. Runs before it are history of one machine, not progress of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Query, State};
use jiff::tz::TimeZone;
use wire::admin_api::{DeviceRow, DeviceState, RunRow};
use wire::insights::{
    DAYS_MAX, DayFigures, FailureReason, Insights, REASONS_MAX, RunTimes, SiteProgress,
    TIME_COLUMNS,
};

use crate::error::Failure;
use crate::people::auth::User;
use crate::state::AppState;
use crate::web::filter::{Clock, Filter, FilterQuery};
use crate::web::overview;

/// A longer message says the same by its beginning.
const SHAPE_CHARS_MAX: usize = 200;

/// `GET /api/v1/insights`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(query): Query<FilterQuery>,
) -> Result<Json<Insights>, Failure> {
    insights_for(&state, &user, &query.into()).await.map(Json)
}

/// The figures of the devices that someone sees and the filter lets through.
pub(crate) async fn insights_for(
    state: &AppState,
    user: &User,
    filter: &Filter,
) -> Result<Insights, Failure> {
    let fleet = state.fleet().await?;
    let clock = Clock::now();
    let mut rows = overview::within(&fleet, &user.reach);
    rows.retain(|row| filter.matches(row, clock));
    Ok(insights(&rows, &TimeZone::system()))
}

/// The figures of these devices; days are those of the time zone.
pub(crate) fn insights(rows: &[Arc<DeviceRow>], zone: &TimeZone) -> Insights {
    let completed = rows
        .iter()
        .filter(|row| row.state == DeviceState::Completed);
    Insights {
        time_zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        devices: count(rows.len()),
        completed: count(completed.count()),
        sites: sites(rows),
        days: days(rows, zone),
        times: times(rows),
        failures: failures(rows),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn sites(rows: &[Arc<DeviceRow>]) -> Vec<SiteProgress> {
    let mut sites: BTreeMap<&str, SiteProgress> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.site.is_empty()) {
        let site = sites.entry(&row.site).or_insert_with(|| SiteProgress {
            site: row.site.clone(),
            name: row.site_name.clone(),
            ..SiteProgress::default()
        });
        site.devices += 1;
        match row.state {
            DeviceState::Completed => site.completed += 1,
            DeviceState::Running => site.running += 1,
            DeviceState::Failed | DeviceState::Stalled => site.in_trouble += 1,
            _ => {}
        }
    }
    sites.into_values().collect()
}

fn days(rows: &[Arc<DeviceRow>], zone: &TimeZone) -> Vec<DayFigures> {
    let mut days: BTreeMap<String, DayFigures> = BTreeMap::new();
    for run in rows.iter().filter_map(|row| row.run.as_ref()) {
        let Some(day) = run.ended_at_ms.and_then(|at| day_of(at, zone)) else {
            continue;
        };
        let figures = days.entry(day).or_default();
        match run.state {
            DeviceState::Completed => figures.completed += 1,
            DeviceState::Failed => figures.failed += 1,
            _ => {}
        }
        let local = run.content.unchanged.saturating_add(run.content.local);
        figures.local_bytes = figures.local_bytes.saturating_add(local);
        figures.network_bytes = figures
            .network_bytes
            .saturating_add(run.content.network_packed);
    }
    let mut done_so_far = 0;
    let mut told: Vec<_> = days
        .into_iter()
        .map(|(day, figures)| {
            done_so_far += figures.completed;
            DayFigures {
                day,
                done_so_far,
                ..figures
            }
        })
        .collect();
    told.drain(..told.len().saturating_sub(DAYS_MAX));
    told
}

fn day_of(at_ms: i64, zone: &TimeZone) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(at_ms).ok()?;
    Some(zone.to_datetime(at).date().to_string())
}

fn times(rows: &[Arc<DeviceRow>]) -> RunTimes {
    let completed = |run: &&RunRow| run.state == DeviceState::Completed;
    let runs: Vec<_> = rows
        .iter()
        .filter_map(|row| row.run.as_ref())
        .filter(completed)
        .collect();
    if runs.is_empty() {
        return RunTimes::default();
    }
    let mut took: Vec<_> = runs.iter().map(|run| run.elapsed_seconds).collect();
    took.sort_unstable();
    let mut expected: BTreeMap<u64, usize> = BTreeMap::new();
    for run in &runs {
        *expected.entry(run.expected_seconds).or_default() += 1;
    }
    let commonest = expected.iter().max_by_key(|(_, runs)| **runs);
    let expected_seconds = commonest.map_or(0, |(seconds, _)| *seconds);
    let longest = took.last().copied().unwrap_or(0);
    let width = if expected_seconds > 0 {
        expected_seconds.saturating_mul(2)
    } else {
        longest
    };
    let column_seconds = width.div_ceil(count(TIME_COLUMNS)).max(1);
    let mut columns = vec![0; TIME_COLUMNS];
    for seconds in &took {
        let column = usize::try_from(seconds / column_seconds).unwrap_or(TIME_COLUMNS);
        columns[column.min(TIME_COLUMNS - 1)] += 1;
    }
    RunTimes {
        runs: count(took.len()),
        median_seconds: nearest_rank(&took, 50),
        p95_seconds: nearest_rank(&took, 95),
        expected_seconds,
        column_seconds,
        columns,
    }
}

/// The value that so many per cent of the sorted values don't exceed.
fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

fn failures(rows: &[Arc<DeviceRow>]) -> Vec<FailureReason> {
    let mut reasons: BTreeMap<(String, String), FailureReason> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state == DeviceState::Failed) {
        let Some(run) = &row.run else { continue };
        let step = run
            .failed_step
            .as_ref()
            .map_or_else(String::new, |step| step.to_string());
        let message = shape(run.errors.first().map_or("", String::as_str));
        let reason = reasons
            .entry((step, message))
            .or_insert_with_key(|(step, message)| FailureReason {
                step: step.clone(),
                message: message.clone(),
                devices: 0,
                example: row.serial.clone(),
            });
        reason.devices += 1;
    }
    let mut told: Vec<_> = reasons.into_values().collect();
    told.sort_by_key(|reason| std::cmp::Reverse(reason.devices));
    told.truncate(REASONS_MAX);
    told
}

/// What a message says whatever machine says it: every word with a digit in it is a `…`.
fn shape(message: &str) -> String {
    let words = message.split_whitespace().map(|word| {
        if word.chars().any(|char| char.is_ascii_digit()) {
            "…"
        } else {
            word
        }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().take(SHAPE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn the_figures_add_up() {
        let rows = sample::kept();
        let told = insights(&rows, &TimeZone::UTC);
        let in_state = |state| count(rows.iter().filter(|row| row.state == state).count());
        assert_eq!(told.devices, count(rows.len()));
        assert_eq!(told.completed, in_state(DeviceState::Completed));
        let sum = |of: fn(&SiteProgress) -> u64| told.sites.iter().map(of).sum::<u64>();
        assert_eq!(sum(|site| site.completed), told.completed);
        assert_eq!(
            sum(|site| site.in_trouble),
            in_state(DeviceState::Failed) + in_state(DeviceState::Stalled)
        );
        assert_eq!(
            told.days.last().map(|day| day.done_so_far),
            Some(told.completed)
        );
        assert_eq!(told.times.columns.iter().sum::<u64>(), told.times.runs);
        assert!(told.times.median_seconds <= told.times.p95_seconds);
        assert_eq!(
            told.failures
                .iter()
                .map(|reason| reason.devices)
                .sum::<u64>(),
            in_state(DeviceState::Failed)
        );
    }

    #[test]
    fn nothing_is_no_division_by_zero() {
        assert_eq!(insights(&[], &TimeZone::UTC).times, RunTimes::default());
    }

    #[test]
    fn days_are_those_of_the_time_zone() {
        let half_past_eleven = 1_786_923_000_000; // 2026-08-16T23:30Z
        let east = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            day_of(half_past_eleven, &TimeZone::UTC).as_deref(),
            Some("2026-08-16")
        );
        assert_eq!(
            day_of(half_past_eleven, &east).as_deref(),
            Some("2026-08-17")
        );
    }

    #[test]
    fn the_same_failure_is_the_same_whatever_the_numbers() {
        assert_eq!(
            shape("cannot write chunk 7f3a at 1234 of /dev/nvme0n1"),
            shape("cannot write chunk 99ab at 77 of /dev/sda1")
        );
        assert_eq!(shape(&"ø".repeat(5000)).chars().count(), SHAPE_CHARS_MAX);
    }

    #[test]
    fn ranks() {
        let sorted: Vec<u64> = (1..=20).collect();
        assert_eq!(
            (nearest_rank(&sorted, 50), nearest_rank(&sorted, 95)),
            (10, 19)
        );
        assert_eq!(nearest_rank(&[7], 95), 7);
    }
}
