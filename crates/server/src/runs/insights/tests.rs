use super::*;
use crate::runs::history::tests::{again, past_of};
use crate::web::sample;

fn told(filter: &Filter, period: Period, past: &Past) -> Insights {
    Chosen::of(sample::kept(), past, filter, period, TimeZone::UTC).insights(past)
}

#[test]
fn the_figures_add_up() {
    let rows = sample::kept();
    let told = told(&Filter::default(), Period::default(), &past_of(&rows));
    let in_state = |state| count(rows.iter().filter(|row| row.state == state).count());
    assert_eq!(told.devices, count(rows.len()));
    assert_eq!(told.completed, in_state(DeviceState::Completed));
    let sum = |of: fn(&SiteProgress) -> u64| told.sites.iter().map(of).sum::<u64>();
    assert_eq!(sum(|site| site.completed), told.completed);
    assert_eq!(
        sum(|site| site.in_trouble),
        in_state(DeviceState::Failed) + in_state(DeviceState::Stalled)
    );
    let last = told.days.last().map(|day| day.done_so_far);
    assert_eq!(last, Some(told.completed));
    assert_eq!(told.times.columns.iter().sum::<u64>(), told.times.runs);
    assert!(told.times.median_seconds <= told.times.p95_seconds);
    let failed: u64 = told.failures.iter().map(|reason| reason.devices).sum();
    assert_eq!(failed, in_state(DeviceState::Failed));
    let shares: u32 = told
        .steps
        .iter()
        .map(|step| u32::from(step.share_percent))
        .sum();
    assert!((95..=105).contains(&shares), "{shares}");
    let local: u64 = told.days.iter().map(|day| day.local_bytes).sum();
    assert_eq!(local, told.local_bytes);
    assert_eq!(sum(|site| site.local_bytes), told.local_bytes);
    assert_eq!(sum(|site| site.network_bytes), told.network_bytes);
    let began: u64 = told
        .hours
        .iter()
        .map(|hour| hour.completed + hour.failed)
        .sum();
    // Nobody counts as a failure what was stopped.
    assert_eq!(told.stopped, in_state(DeviceState::Stopped));
    assert_eq!((told.hours.len(), began + told.stopped), (24, told.runs));
    let ended: u64 = told.days.iter().map(|day| day.completed + day.failed).sum();
    assert_eq!(ended + told.stopped, told.runs);
}

/// A device that ran thrice counts once as done, and all its runs count as runs.
#[test]
fn all_runs_count_and_a_device_is_done_once() {
    let mut past = past_of(&sample::kept());
    let before = told(&Filter::default(), Period::default(), &past);
    let of = |past: &Past, state| Arc::clone(past.runs().find(|run| run.state == state).unwrap());
    let (done, failed) = (
        of(&past, DeviceState::Completed),
        of(&past, DeviceState::Failed),
    );
    let day = 86_400_000;
    again(&mut past, &done, 1, sample::NOW_MS + day);
    again(&mut past, &done, 2, sample::NOW_MS + day);
    again(&mut past, &failed, 3, sample::NOW_MS + day);
    let after = told(&Filter::default(), Period::default(), &past);
    assert_eq!(after.runs, before.runs + 3);
    assert_eq!(after.completed, before.completed);
    let last = after.days.last().unwrap();
    assert_eq!((last.completed, last.failed), (2, 1));
    assert_eq!(last.done_so_far, before.completed);
    let reason = &after.failures[0];
    assert_eq!((reason.devices, reason.runs), (1, 2));
}

#[test]
fn the_filter_chooses_devices_and_the_runs_of_a_deployment_and_of_days() {
    let rows = sample::kept();
    let past = past_of(&rows);
    let filter = Filter {
        site: Some("BJO".into()),
        ..Filter::default()
    };
    let of_site = told(&filter, Period::default(), &past);
    assert_eq!(of_site.sites.len(), 1);
    let ended = rows.iter().filter(|row| {
        let run = row.run.as_ref();
        row.site == "BJO" && run.is_some_and(|run| run.ended_at_ms.is_some())
    });
    assert_eq!(of_site.runs, count(ended.count()));
    let none = Filter {
        deployment: Some("of-last-year".into()),
        ..Filter::default()
    };
    assert_eq!(told(&none, Period::default(), &past).runs, 0);
    let period = Period::from(PeriodQuery {
        since: "2030-01-01".into(),
        until: "no day".into(),
    });
    assert_eq!(period.until, None);
    assert_eq!(told(&Filter::default(), period, &past).runs, 0);
}

#[test]
fn nothing_is_no_division_by_zero() {
    let past = Past::default();
    let filter = Filter::default();
    let none = Chosen::of(Vec::new(), &past, &filter, Period::default(), TimeZone::UTC);
    let told = none.insights(&past);
    assert_eq!((told.times, told.runs), (RunTimes::default(), 0));
}

#[test]
fn a_run_counts_for_the_hour_in_which_it_began() {
    let rows = sample::kept();
    let mut past = past_of(&rows);
    let done = past.runs().find(|run| run.state == DeviceState::Completed);
    let done = Arc::clone(done.unwrap());
    let took_ms = i64::try_from(done.elapsed_seconds).unwrap() * 1000;
    let before = told(&Filter::default(), Period::default(), &past);
    // 2026-08-17 at 07:59:59 and at 08:00:00.
    let eight = 1_786_953_600_000;
    again(&mut past, &done, 1, eight - 1000 + took_ms);
    again(&mut past, &done, 2, eight + took_ms);
    let after = told(&Filter::default(), Period::default(), &past);
    let more = |hour: usize| after.hours[hour].completed - before.hours[hour].completed;
    assert_eq!((more(7), more(8)), (1, 1));
}

#[test]
fn days_long_before_the_last_one_are_not_told() {
    let mut past = past_of(&sample::kept());
    let done = past.runs().find(|run| run.state == DeviceState::Completed);
    let done = Arc::clone(done.unwrap());
    let day = 86_400_000;
    let days = i64::try_from(DAYS_MAX).unwrap();
    let last = sample::NOW_MS + 400 * day;
    again(&mut past, &done, 1, last - days * day);
    again(&mut past, &done, 2, last - (days - 1) * day);
    again(&mut past, &done, 3, last);
    let told = told(&Filter::default(), Period::default(), &past);
    assert_eq!(told.days.len(), 2, "{:?}", told.days);
    let done_before = told.days[0].done_so_far;
    assert_eq!(
        done_before, told.completed,
        "those who were done earlier are"
    );
}

#[test]
fn days_are_those_of_the_time_zone() {
    let half_past_eleven = 1_786_923_000_000; // 2026-08-16T23:30Z
    let east = TimeZone::fixed(jiff::tz::offset(2));
    let day = |zone: &TimeZone| day_of(half_past_eleven, zone).map(|day| day.to_string());
    assert_eq!(day(&TimeZone::UTC).as_deref(), Some("2026-08-16"));
    assert_eq!(day(&east).as_deref(), Some("2026-08-17"));
}
