//! Figures that people would rather look at than read. Every drawing has its numbers in a table below it.

pub(super) mod report;

use axum::extract::{Query, State};
use jiff::civil::Date;
use maud::{Markup, html};
use wire::admin_api::DeviceRow;
use wire::insights::{
    DayFigures, FailureReason, HourFigures, Insights, RunTimes, SiteProgress, StepFigures,
};

use super::filter::{Filter, FilterQuery, encode};
use super::format;
use super::overview;
use super::runs;
use super::visitor::Visitor;
use super::words::Words;
use crate::error::Failure;
use crate::runs::insights::{Period, PeriodQuery, insights_for};
use crate::runs::list::RunQuery;
use crate::state::AppState;

/// The height of a drawing in its own units; its width is 1000.
const HEIGHT: u64 = 200;
const WIDTH: u64 = 1000;

/// `/insights`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(query): Query<FilterQuery>,
    Query(period): Query<PeriodQuery>,
) -> Result<Markup, Failure> {
    let (filter, period) = (Filter::from(query), Period::from(period));
    let told = insights_for(&state, &visitor.user, &filter, period).await?;
    let rows = overview::belonging(&*state.fleet().await?, &visitor.user.reach);
    let content = page(visitor.words, &told, &rows, &filter, period);
    Ok(visitor.page(visitor.words.t("Insights"), None, &content))
}

/// The content of the page.
pub(super) fn page(
    words: Words,
    told: &Insights,
    rows: &[std::sync::Arc<DeviceRow>],
    filter: &Filter,
    period: Period,
) -> Markup {
    html! {
        div.headline.page-title {
            h1 { (words.t("Insights")) }
            span.muted { (summary(words, told)) }
        }
        (which(words, rows, filter, period))
        (cards(words, told, Links::To { failed_runs: &failed_runs(filter, period) }))
    }
}

fn summary(words: Words, told: &Insights) -> Markup {
    html! {
        (words.fill("{n} of {m} machines are done", &[("n", &told.completed), ("m", &told.devices)]))
        " · " (words.count(told.runs, "{n} run ended", "{n} runs ended"))
        @if told.stopped > 0 { ", " (words.fill("{n} of them stopped by administrators", &[("n", &told.stopped)])) }
        " · " (told.time_zone)
    }
}

/// Where figures lead: on the page to what they are made of, in a file nowhere.
#[derive(Debug, Clone, Copy)]
enum Links<'a> {
    To { failed_runs: &'a str },
    None,
}

impl Links<'_> {
    /// A link to this address, if there are any.
    fn to(self, address: &str, text: &str) -> Markup {
        match self {
            Self::To { .. } => html! { a href=(address) { (text) } },
            Self::None => html! { (text) },
        }
    }
}

fn cards(words: Words, told: &Insights, links: Links<'_>) -> Markup {
    html! {
        div.insights {
            (card(words.t("Progress over the days"), &rollout(words, told)))
            (card(words.t("How long runs took"), &times(words, &told.times)))
            div.wide { (card(words.t("Progress of each site"), &sites(words, &told.sites, links))) }
            (card(words.t("When runs began"), &hours(words, &told.hours)))
            (card(words.t("Content from the disk and from the network"), &bytes(words, told)))
            (card(words.t("Slowest steps"), &steps(words, &told.steps)))
            (card(words.t("Why runs failed"), &html! {
                (failures(words, &told.failures, links))
                @if let (false, Links::To { failed_runs }) = (told.failures.is_empty(), links) {
                    p { a href=(failed_runs) { (words.t("Show the runs that failed")) } }
                }
            }))
        }
    }
}

/// The list of the runs that failed.
fn failed_runs(filter: &Filter, period: Period) -> String {
    let since = period.since.map(|day| day.to_string());
    runs::address(&RunQuery {
        state: "failed".into(),
        since: since.unwrap_or_default(),
        ..runs::of(filter)
    })
}

/// Which machines, and which days.
fn which(
    words: Words,
    rows: &[std::sync::Arc<DeviceRow>],
    filter: &Filter,
    period: Period,
) -> Markup {
    let offered = ["site", "class", "model", "collection", "deployment"];
    let choices = overview::choices(rows, filter);
    let day = |day: Option<jiff::civil::Date>| day.map(|day| day.to_string());
    html! {
        form.filters #filters method="get" action="/insights" role="search" {
            @for choice in choices.iter().filter(|choice| offered.contains(&choice.name)) {
                (choice.select(words))
            }
            label.day { span { (words.t("From|day")) } input type="date" name="since" value=[day(period.since)]; }
            label.day { span { (words.t("To|day")) } input type="date" name="until" value=[day(period.until)]; }
            button type="submit" { (words.t("Apply")) }
            @if !filter.is_empty() || !period.is_empty() {
                a.clear href="/insights" { (words.t("Show all machines")) }
            }
            @for (name, title) in [("insights.html", words.t("Report as a file")), ("insights.csv", "CSV")] {
                a.clear href={ "/api/v1/" (name) (query(filter, period)) } download=(name) { (title) }
            }
        }
    }
}

/// What the page is about, as it stands in the address.
fn query(filter: &Filter, period: Period) -> String {
    let mut query = filter.query();
    for (name, day) in [("since", period.since), ("until", period.until)] {
        if let Some(day) = day {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&format!("{name}={day}"));
        }
    }
    query
}

fn card(title: &str, content: &Markup) -> Markup {
    html! { section.card { h2 { (title) } (content) } }
}

fn nothing(words: Words) -> Markup {
    html! { p.muted { (words.t("No run has ended yet.")) } }
}

fn scaled(part: u64, whole: u64, to: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(to) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(to).min(to)
}

/// Columns side by side; each is a list of parts that stand upon each other, with their class.
fn columns(title: &str, columns: &[Vec<(&'static str, u64)>], whole: u64) -> Markup {
    let step = WIDTH / u64::try_from(columns.len().max(1)).unwrap_or(1);
    let places = (0_u64..).map(|place| place * step);
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(title) {
            @for (x, parts) in places.zip(columns) {
                @let mut top = HEIGHT;
                @for (class, amount) in parts {
                    @let height = scaled(*amount, whole, HEIGHT);
                    @let () = top = top.saturating_sub(height);
                    rect class=(class) x=(x + step / 10) y=(top) width=((step * 8 / 10).max(1)) height=(height) {}
                }
            }
        }
    }
}

/// The numbers behind a drawing.
fn numbers(words: Words, titles: &[&str], rows: &[Vec<String>]) -> Markup {
    html! {
        details.numbers {
            summary { (words.t("The numbers")) }
            div.scroll {
                table.list {
                    thead { tr { @for title in titles { th scope="col" { (title) } } } }
                    tbody {
                        @for row in rows {
                            tr { @for cell in row { td { (cell) } } }
                        }
                    }
                }
            }
        }
    }
}

fn rollout(words: Words, told: &Insights) -> Markup {
    if told.days.is_empty() {
        return nothing(words);
    }
    let days = calendar(&told.days);
    let mut done = 0;
    let (mut drawn, mut rows) = (Vec::new(), Vec::new());
    for (day, figures) in &days {
        done = figures.map_or(done, |figures| figures.done_so_far);
        let class = figures.map_or(IDLE, |_| "bar-done");
        drawn.push(vec![(class, done)]);
        let ended = figures.map(|figures| [figures.completed, figures.failed]);
        let ended = ended.map_or_else(
            || [NONE, NONE].map(str::to_owned),
            |n| n.map(|n| words.number(n)),
        );
        rows.push(
            [
                vec![day.to_string()],
                ended.to_vec(),
                vec![words.number(done)],
            ]
            .concat(),
        );
    }
    let titles = [
        words.t("Day"),
        words.t("Completed|runs"),
        words.t("Failed|runs"),
        words.t("Done so far"),
    ];
    html! {
        (columns(words.t("Machines that were done by the end of each day; the full height is all of them"), &drawn, told.devices))
        (ends(told.days.first().map(|day| day.day.as_str()), told.days.last().map(|day| day.day.as_str())))
        (idle_days(words, &days))
        (numbers(words, &titles, &rows))
    }
}

/// The class of a column that stands for a day on which nothing happened.
const IDLE: &str = "bar-idle";
/// What stands in a table where nothing happened.
const NONE: &str = "—";

/// Every day from the first to the last one. Those on which no run ended have no figures.
fn calendar(days: &[DayFigures]) -> Vec<(Date, Option<&DayFigures>)> {
    let mut all: Vec<(Date, Option<&DayFigures>)> = Vec::new();
    for figures in days {
        let Ok(day) = figures.day.parse::<Date>() else {
            continue;
        };
        if let Some((last, _)) = all.last() {
            let idle: Vec<_> = last
                .series(jiff::Span::new().days(1))
                .skip(1)
                .take_while(|idle| *idle < day)
                .collect();
            all.extend(idle.into_iter().map(|idle| (idle, None)));
        }
        all.push((day, Some(figures)));
    }
    all
}

fn idle_days(words: Words, days: &[(Date, Option<&DayFigures>)]) -> Markup {
    let is_any = days.iter().any(|(_, figures)| figures.is_none());
    html! {
        @if is_any { p.muted.small { (words.t("Pale: days on which no run ended")) } }
    }
}

fn ends(first: Option<&str>, last: Option<&str>) -> Markup {
    html! { div.ends.muted { span { (first.unwrap_or_default()) } span { (last.unwrap_or_default()) } } }
}

fn sites(words: Words, sites: &[SiteProgress], links: Links<'_>) -> Markup {
    html! {
        div.scroll {
            table.list {
                thead {
                    tr {
                        th scope="col" { (words.t("Site")) }
                        th scope="col" { (words.t("Done|progress")) }
                        th scope="col" { (words.t("Running|progress")) }
                        th scope="col" { (words.t("In trouble")) }
                        th scope="col" { (words.t("From the disk")) }
                        th scope="col" { (words.t("Over the network")) }
                    }
                }
                tbody {
                    @for site in sites {
                        tr {
                            th scope="row" {
                                (links.to(&format!("/?site={}", encode(&site.site)), super::layout::or_dash(&site.name)))
                            }
                            td {
                                (site.completed) " / " (site.devices)
                                svg.progress viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true" {
                                    rect.fill width=(scaled(site.completed, site.devices, 100)) height="3" {}
                                }
                            }
                            td { (site.running) }
                            td { @if site.in_trouble > 0 { b { (site.in_trouble) } } @else { "0" } }
                            td { (words.bytes(site.local_bytes)) }
                            td { (words.bytes(site.network_bytes)) }
                        }
                    }
                }
            }
        }
    }
}

fn times(words: Words, times: &RunTimes) -> Markup {
    if times.runs == 0 {
        return nothing(words);
    }
    let most = times.columns.iter().copied().max().unwrap_or(1);
    let drawn: Vec<_> = times
        .columns
        .iter()
        .map(|runs| vec![("bar-done", *runs)])
        .collect();
    let begins = (0_u64..).map(|column| column * times.column_seconds);
    let rows: Vec<_> = begins
        .zip(&times.columns)
        .map(|(from, runs)| vec![format::clock(from), words.number(*runs)])
        .collect();
    let last = times.column_seconds * u64::try_from(times.columns.len()).unwrap_or(0);
    html! {
        p {
            (words.fill("Median {median}, 95 % within {p95}, expected {expected}; {n} runs", &[
                ("median", &format::clock(times.median_seconds)),
                ("p95", &format::clock(times.p95_seconds)),
                ("expected", &format::clock(times.expected_seconds)),
                ("n", &times.runs),
            ]))
        }
        (columns(words.t("How many runs took how long; the expected time is in the middle"), &drawn, most))
        (ends(Some("0:00"), Some(&format!("{}+", format::clock(last)))))
        (numbers(words, &[words.t("From"), words.t("Runs")], &rows))
    }
}

fn hours(words: Words, hours: &[HourFigures]) -> Markup {
    let ended = |hour: &HourFigures| hour.completed.saturating_add(hour.failed);
    let Some(most) = hours.iter().map(ended).max() else {
        return nothing(words);
    };
    let drawn: Vec<_> = hours
        .iter()
        .map(|hour| vec![("bar-done", hour.completed), ("bar-failed", hour.failed)])
        .collect();
    let rows: Vec<_> = hours
        .iter()
        .map(|hour| {
            let runs = [hour.completed, hour.failed].map(|runs| words.number(runs));
            [vec![format!("{:02}:00", hour.hour)], runs.to_vec()].concat()
        })
        .collect();
    let titles = [
        words.t("From"),
        words.t("Completed|runs"),
        words.t("Failed|runs"),
    ];
    html! {
        (columns(words.t("Runs by the hour of the day in which they began: below completed, above failed"), &drawn, most))
        (ends(Some("00:00"), Some("24:00")))
        (numbers(words, &titles, &rows))
    }
}

fn bytes(words: Words, told: &Insights) -> Markup {
    let days: &[DayFigures] = &told.days;
    if days.is_empty() {
        return nothing(words);
    }
    let most = days
        .iter()
        .map(|day| day.local_bytes.saturating_add(day.network_bytes));
    let most = most.max().unwrap_or(1);
    let all_days = calendar(days);
    let drawn: Vec<_> = all_days
        .iter()
        .map(|(_, figures)| match figures {
            Some(day) => vec![
                ("bar-network", day.network_bytes),
                ("bar-done", day.local_bytes),
            ],
            // A line at the bottom, as high for every such day.
            None => vec![(IDLE, most.div_ceil(50))],
        })
        .collect();
    let (local, network) = (told.local_bytes, told.network_bytes);
    let all = local.saturating_add(network);
    let rows: Vec<_> = days
        .iter()
        .map(|day| {
            let bytes = [day.local_bytes, day.network_bytes].map(|count| words.bytes(count));
            [vec![day.day.clone()], bytes.to_vec()].concat()
        })
        .collect();
    let titles = [
        words.t("Day"),
        words.t("From the disk"),
        words.t("Over the network"),
    ];
    html! {
        p {
            b { (words.fill("{local} never crossed the network", &[("local", &words.bytes(local))])) }
            " " (words.fill("({percent} % of all content); {network} did", &[
                ("percent", &format::share(local, all)), ("network", &words.bytes(network))]))
        }
        (columns(words.t("Content of each day: below over the network, above from the disk"), &drawn, most))
        (ends(days.first().map(|day| day.day.as_str()), days.last().map(|day| day.day.as_str())))
        (idle_days(words, &all_days))
        (numbers(words, &titles, &rows))
    }
}

fn failures(words: Words, reasons: &[FailureReason], links: Links<'_>) -> Markup {
    html! {
        @if reasons.is_empty() {
            p.muted { (words.t("No run failed.")) }
        } @else {
            div.scroll {
                table.list {
                    thead {
                        tr {
                            th scope="col" { (words.t("Machines")) }
                            th scope="col" { (words.t("Runs")) }
                            th scope="col" { (words.t("Step")) }
                            th scope="col" { (words.t("What it said")) }
                            th scope="col" { (words.t("For example")) }
                        }
                    }
                    tbody {
                        @for reason in reasons {
                            tr {
                                td { b { (words.number(reason.devices)) } }
                                td { (words.number(reason.runs)) }
                                td { code { (reason.step) } }
                                td { (reason.message) }
                                td {
                                    span.mono {
                                        @match reason.latest_run {
                                            Some(run) => { (links.to(&format!("/runs/{run}"), &reason.example)) }
                                            None => { (reason.example) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn steps(words: Words, steps: &[StepFigures]) -> Markup {
    if steps.is_empty() {
        return nothing(words);
    }
    let longest = steps.iter().map(|step| step.p95_ms).max().unwrap_or(1);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(words.t("Slowest steps")) {
            table.list.slowest {
                thead {
                    tr {
                        th scope="col" { (words.t("Step")) }
                        th scope="col" { (words.t("Runs")) }
                        th scope="col" { (words.t("Median")) }
                        th scope="col" { (words.t("95 % within")) }
                        th scope="col" { (words.t("Share of the time")) }
                    }
                }
                tbody {
                    @for step in steps {
                        tr {
                            th scope="row" {
                                (super::layout::or_dash(&step.title))
                                span.sub { code { (step.path) } " · " (step.kind) }
                            }
                            td { (words.number(step.runs)) }
                            td { (words.precise(step.median_ms)) }
                            td {
                                (words.precise(step.p95_ms))
                                svg.progress viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true" {
                                    rect.beyond width=(scaled(step.p95_ms, longest, 100)) height="3" {}
                                    rect.fill width=(scaled(step.median_ms, longest, 100)) height="3" {}
                                }
                            }
                            td { (step.share_percent) " %" }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::runs::history::tests::past_of;
    use crate::runs::insights::Chosen;
    use jiff::tz::TimeZone;

    fn drawn(words: Words, rows: Vec<std::sync::Arc<DeviceRow>>) -> String {
        let past = past_of(&rows);
        let (filter, period) = (Filter::default(), Period::default());
        let chosen = Chosen::of(rows.clone(), &past, &filter, period, TimeZone::UTC);
        page(words, &chosen.insights(&past), &rows, &filter, period).into_string()
    }

    #[test]
    fn no_text_of_a_device_becomes_markup() {
        let mut hostile = sample::hostile_device();
        hostile.state = wire::admin_api::DeviceState::Failed;
        hostile.run.as_mut().unwrap().state = hostile.state;
        hostile.run.as_mut().unwrap().ended_at_ms = Some(sample::NOW_MS);
        for words in [Words::ENGLISH, Words::BOKMAL] {
            sample::assert_harmless(&drawn(words, vec![std::sync::Arc::new(hostile.clone())]));
        }
    }

    #[test]
    fn days_without_a_run_are_gaps_in_the_calendar() {
        let day = |day: &str, done_so_far| DayFigures {
            day: day.into(),
            done_so_far,
            ..DayFigures::default()
        };
        let days = [
            day("2026-08-27", 3),
            day("2026-08-28", 5),
            day("2026-09-01", 9),
        ];
        let told: Vec<_> = calendar(&days)
            .iter()
            .map(|(day, figures)| (day.to_string(), figures.map(|figures| figures.done_so_far)))
            .collect();
        let expected = [
            ("2026-08-27", Some(3)),
            ("2026-08-28", Some(5)),
            ("2026-08-29", None),
            ("2026-08-30", None),
            ("2026-08-31", None),
            ("2026-09-01", Some(9)),
        ];
        assert_eq!(told, expected.map(|(day, done)| (day.to_owned(), done)));
        let html = rollout(
            Words::ENGLISH,
            &Insights {
                days: days.to_vec(),
                devices: 9,
                ..Insights::default()
            },
        );
        let html = html.into_string();
        // The level of the day before, pale.
        assert_eq!(html.matches("class=\"bar-idle\"").count(), 3);
        assert!(
            html.contains("no run ended") && html.contains("2026-08-30"),
            "{html}"
        );
    }

    #[test]
    fn every_drawing_has_its_numbers() {
        let html = drawn(Words::ENGLISH, sample::kept());
        assert_eq!(html.matches("svg class=\"chart\"").count(), 4);
        assert_eq!(html.matches("details class=\"numbers\"").count(), 4);
        assert!(html.contains("Slowest steps") && html.contains("LibreOffice"));
        let empty = drawn(Words::ENGLISH, Vec::new());
        assert!(empty.contains("No run has ended yet."));
    }
}
