//! Figures about the rollout: progress from the rows of the fleet in memory, everything else from the runs that ended.
//!
//! The filter of the overview chooses devices; of their runs, those of the deployment and of the days that are asked for
//! are counted. Progress is told by each device's latest run.

pub(crate) mod tables;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Query, State};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::Deserialize;
use wire::admin_api::{DeviceRow, DeviceState};
use wire::insights::{
    DAYS_MAX, DayFigures, FailureReason, HourFigures, Insights, REASONS_MAX, RunTimes, STEPS_MAX,
    SiteProgress, StepFigures, TIME_COLUMNS,
};
use wire::names::DeviceId;

use super::history::{Past, PastRun, nearest_rank};
use crate::error::Failure;
use crate::people::auth::User;
use crate::state::AppState;
use crate::web::filter::{Clock, Filter, FilterQuery};
use crate::web::{format, overview};

/// The days whose runs are counted, as they stand in the address; what is no day is no limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PeriodQuery {
    since: String,
    until: String,
}

/// The days whose runs are counted: both are, if there are any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) since: Option<Date>,
    pub(crate) until: Option<Date>,
}

impl From<PeriodQuery> for Period {
    fn from(query: PeriodQuery) -> Self {
        let day = |text: &str| text.trim().parse().ok();
        Self {
            since: day(&query.since),
            until: day(&query.until),
        }
    }
}

impl Period {
    fn covers(self, day: Date) -> bool {
        self.since.is_none_or(|since| since <= day) && self.until.is_none_or(|until| day <= until)
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// `GET /api/v1/insights`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(query): Query<FilterQuery>,
    Query(period): Query<PeriodQuery>,
) -> Result<Json<Insights>, Failure> {
    insights_for(&state, &user, &query.into(), period.into())
        .await
        .map(Json)
}

/// The figures of the devices that someone sees and the filter lets through.
pub(crate) async fn insights_for(
    state: &AppState,
    user: &User,
    filter: &Filter,
    period: Period,
) -> Result<Insights, Failure> {
    let past = state.history().read(state.db()).await?;
    let fleet = state.fleet().await?;
    let rows = overview::belonging(&fleet, &user.reach);
    let chosen = Chosen::of(rows, &past, filter, period, TimeZone::system());
    Ok(chosen.insights(&past))
}

/// What figures are made of.
pub(crate) struct Chosen<'a> {
    /// Devices whose progress is told.
    rows: Vec<Arc<DeviceRow>>,
    /// Runs that count, oldest first, each with the day on which it ended.
    runs: Vec<(Date, &'a PastRun)>,
    serials: HashMap<DeviceId, Arc<DeviceRow>>,
    zone: TimeZone,
}

impl<'a> Chosen<'a> {
    pub(crate) fn of(
        rows: Vec<Arc<DeviceRow>>,
        past: &'a Past,
        filter: &Filter,
        period: Period,
        zone: TimeZone,
    ) -> Self {
        let clock = Clock::now();
        let of_device = filter.without_deployment();
        let devices = rows.iter().filter(|row| of_device.matches(row, clock));
        let serials: HashMap<_, _> = devices.map(|row| (row.device, Arc::clone(row))).collect();
        let deployment = filter.deployment.as_deref();
        let runs = past.runs().filter(|run| {
            serials.contains_key(&run.device)
                && deployment.is_none_or(|wanted| *run.deployment == *wanted)
        });
        let runs = runs.filter_map(|run| Some((day_of(run.ended_at_ms, &zone)?, &**run)));
        let mut runs: Vec<_> = runs.filter(|(day, _)| period.covers(*day)).collect();
        runs.sort_by_key(|(_, run)| (run.ended_at_ms, run.run));
        let progress = rows.into_iter().filter(|row| filter.matches(row, clock));
        Self {
            rows: progress.collect(),
            runs,
            serials,
            zone,
        }
    }

    pub(crate) fn insights(&self, past: &Past) -> Insights {
        let completed = self
            .rows
            .iter()
            .filter(|row| row.state == DeviceState::Completed);
        let stopped = self
            .runs
            .iter()
            .filter(|(_, run)| run.state == DeviceState::Stopped);
        let local = self.runs.iter().map(|(_, run)| local_bytes(run));
        let network = self.runs.iter().map(|(_, run)| run.content.network_packed);
        Insights {
            time_zone: self.zone.iana_name().unwrap_or("UTC").to_owned(),
            devices: count(self.rows.len()),
            completed: count(completed.count()),
            runs: count(self.runs.len()),
            stopped: count(stopped.count()),
            local_bytes: local.fold(0, u64::saturating_add),
            network_bytes: network.fold(0, u64::saturating_add),
            sites: self.sites(),
            days: self.days(),
            hours: self.hours(),
            times: self.times(),
            failures: self.failures(),
            steps: self.steps(past),
        }
    }

    fn days(&self) -> Vec<DayFigures> {
        let mut days: BTreeMap<Date, DayFigures> = BTreeMap::new();
        let mut done = HashSet::new();
        for (day, run) in &self.runs {
            let figures = days.entry(*day).or_default();
            match run.state {
                DeviceState::Completed => {
                    figures.completed += 1;
                    done.insert(run.device);
                }
                DeviceState::Failed => figures.failed += 1,
                // Whoever stops a run says nothing about what would have come of it.
                _ => {}
            }
            figures.done_so_far = count(done.len());
            figures.local_bytes = figures.local_bytes.saturating_add(local_bytes(run));
            figures.network_bytes = figures
                .network_bytes
                .saturating_add(run.content.network_packed);
        }
        let last = days.last_key_value().map(|(day, _)| *day);
        let is_recent = |day: &Date| {
            let before = last.and_then(|last| last.since(*day).ok());
            before
                .is_none_or(|before| usize::try_from(before.get_days()).is_ok_and(|n| n < DAYS_MAX))
        };
        days.into_iter()
            .filter(|(day, _)| is_recent(day))
            .map(|(day, figures)| DayFigures {
                day: day.to_string(),
                ..figures
            })
            .collect()
    }

    fn hours(&self) -> Vec<HourFigures> {
        if self.runs.is_empty() {
            return Vec::new();
        }
        let mut hours: Vec<_> = (0..24)
            .map(|hour| HourFigures {
                hour,
                ..HourFigures::default()
            })
            .collect();
        for (_, run) in &self.runs {
            let took_ms = i64::try_from(run.elapsed_seconds.saturating_mul(1000)).unwrap_or(0);
            let Some(began) = moment(run.ended_at_ms - took_ms, &self.zone) else {
                continue;
            };
            let Some(figures) = usize::try_from(began.hour())
                .ok()
                .and_then(|hour| hours.get_mut(hour))
            else {
                continue;
            };
            match run.state {
                DeviceState::Completed => figures.completed += 1,
                DeviceState::Failed => figures.failed += 1,
                _ => {}
            }
        }
        hours
    }

    fn sites(&self) -> Vec<SiteProgress> {
        let mut sites = sites(&self.rows);
        for (_, run) in &self.runs {
            let row = self.serials.get(&run.device);
            if let Some(site) = row.and_then(|row| sites.get_mut(row.site.as_str())) {
                site.local_bytes = site.local_bytes.saturating_add(local_bytes(run));
                site.network_bytes = site
                    .network_bytes
                    .saturating_add(run.content.network_packed);
            }
        }
        sites.into_values().collect()
    }

    fn times(&self) -> RunTimes {
        let completed = self
            .runs
            .iter()
            .map(|(_, run)| *run)
            .filter(|run| run.state == DeviceState::Completed);
        let runs: Vec<_> = completed.collect();
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
        let width = match expected_seconds {
            0 => longest,
            expected => expected.saturating_mul(2),
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

    fn failures(&self) -> Vec<FailureReason> {
        let mut reasons: BTreeMap<(&str, &str), (FailureReason, HashSet<DeviceId>)> =
            BTreeMap::new();
        let failed = self
            .runs
            .iter()
            .map(|(_, run)| *run)
            .filter(|run| run.state == DeviceState::Failed);
        for run in failed {
            let key = (run.failed_step.as_str(), run.message.as_str());
            let (reason, devices) = reasons.entry(key).or_default();
            devices.insert(run.device);
            reason.runs += 1;
            // Runs come oldest first: the last one to be seen is the latest.
            reason.latest_run = Some(run.run);
            let row = self.serials.get(&run.device);
            reason.example = row.map_or_else(String::new, |row| row.serial.clone());
        }
        let told = reasons
            .into_iter()
            .map(|((step, message), (reason, devices))| FailureReason {
                step: step.to_owned(),
                message: message.to_owned(),
                devices: count(devices.len()),
                ..reason
            });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|reason| std::cmp::Reverse((reason.devices, reason.runs)));
        told.truncate(REASONS_MAX);
        told
    }

    fn steps(&self, past: &Past) -> Vec<StepFigures> {
        let mut took: HashMap<u32, Vec<u64>> = HashMap::new();
        for (place, ms) in self.runs.iter().flat_map(|(_, run)| run.steps.iter()) {
            took.entry(*place).or_default().push(u64::from(*ms));
        }
        let sum = |took: &[u64]| took.iter().copied().fold(0, u64::saturating_add);
        let all = took
            .values()
            .map(|took| sum(took))
            .fold(0, u64::saturating_add);
        let mut told: Vec<_> = took
            .into_iter()
            .filter_map(|(place, mut took)| {
                let name = past.name(place)?;
                took.sort_unstable();
                let figures = StepFigures {
                    path: name.path.clone(),
                    title: name.title.clone(),
                    kind: name.kind.clone(),
                    runs: count(took.len()),
                    median_ms: nearest_rank(&took, 50),
                    p95_ms: nearest_rank(&took, 95),
                    longest_ms: took.last().copied().unwrap_or(0),
                    share_percent: format::share(sum(&took), all),
                };
                Some((sum(&took), figures))
            })
            .collect();
        told.sort_by(|(a, left), (b, right)| b.cmp(a).then_with(|| left.path.cmp(&right.path)));
        told.truncate(STEPS_MAX);
        told.into_iter().map(|(_, figures)| figures).collect()
    }
}

/// Content that did not cross the network, because the machine had it.
fn local_bytes(run: &PastRun) -> u64 {
    run.content.unchanged.saturating_add(run.content.local)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn sites(rows: &[Arc<DeviceRow>]) -> BTreeMap<&str, SiteProgress> {
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
    sites
}

fn moment(at_ms: i64, zone: &TimeZone) -> Option<DateTime> {
    let at = jiff::Timestamp::from_millisecond(at_ms).ok()?;
    Some(zone.to_datetime(at))
}

fn day_of(at_ms: i64, zone: &TimeZone) -> Option<Date> {
    Some(moment(at_ms, zone)?.date())
}

#[cfg(test)]
mod tests;
