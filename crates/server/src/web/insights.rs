//! Figures that people would rather look at than read. Every drawing has its numbers in a table below it.

use axum::extract::{Query, State};
use maud::{Markup, html};
use wire::admin_api::DeviceRow;
use wire::insights::{DayFigures, FailureReason, Insights, RunTimes, SiteProgress, StepFigures};

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
    let rows = overview::within(&*state.fleet().await?, &visitor.user.reach);
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
            span.muted {
                (words.fill("{n} of {m} machines are done", &[("n", &told.completed), ("m", &told.devices)]))
                " · " (words.count(told.runs, "{n} run ended", "{n} runs ended"))
                " · " (told.time_zone)
            }
        }
        (which(words, rows, filter, period))
        div.insights {
            (card(words.t("Progress over the days"), &rollout(words, told)))
            (card(words.t("Progress of each site"), &sites(words, &told.sites)))
            (card(words.t("How long runs took"), &times(words, &told.times)))
            (card(words.t("Content from the disk and from the network"), &bytes(words, told)))
            (card(words.t("Slowest steps"), &steps(words, &told.steps)))
            (card(words.t("Why runs failed"), &html! {
                (failures(words, &told.failures))
                @if !told.failures.is_empty() { p { a href=(failed_runs(filter, period)) { (words.t("Show the runs that failed")) } } }
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
        }
    }
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
    let drawn: Vec<_> = told
        .days
        .iter()
        .map(|day| vec![("bar-done", day.done_so_far)])
        .collect();
    let rows: Vec<_> = told
        .days
        .iter()
        .map(|day| {
            let figures = [day.completed, day.failed, day.done_so_far];
            let figures = figures.map(|number| words.number(number));
            [vec![day.day.clone()], figures.to_vec()].concat()
        })
        .collect();
    let titles = [
        words.t("Day"),
        words.t("Completed|runs"),
        words.t("Failed|runs"),
        words.t("Done so far"),
    ];
    html! {
        (columns(words.t("Machines that were done by the end of each day; the full height is all of them"), &drawn, told.devices))
        (ends(told.days.first().map(|day| day.day.as_str()), told.days.last().map(|day| day.day.as_str())))
        (numbers(words, &titles, &rows))
    }
}

fn ends(first: Option<&str>, last: Option<&str>) -> Markup {
    html! { div.ends.muted { span { (first.unwrap_or_default()) } span { (last.unwrap_or_default()) } } }
}

fn sites(words: Words, sites: &[SiteProgress]) -> Markup {
    html! {
        div.scroll {
            table.list {
                thead {
                    tr {
                        th scope="col" { (words.t("Site")) }
                        th scope="col" { (words.t("Done|progress")) }
                        th scope="col" { (words.t("Running|progress")) }
                        th scope="col" { (words.t("In trouble")) }
                    }
                }
                tbody {
                    @for site in sites {
                        tr {
                            th scope="row" { a href={ "/?site=" (encode(&site.site)) } {
                                (super::layout::or_dash(&site.name)) } }
                            td {
                                (site.completed) " / " (site.devices)
                                svg.progress viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true" {
                                    rect.fill width=(scaled(site.completed, site.devices, 100)) height="3" {}
                                }
                            }
                            td { (site.running) }
                            td { @if site.in_trouble > 0 { b { (site.in_trouble) } } @else { "0" } }
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

fn bytes(words: Words, told: &Insights) -> Markup {
    let days: &[DayFigures] = &told.days;
    if days.is_empty() {
        return nothing(words);
    }
    let most = days
        .iter()
        .map(|day| day.local_bytes.saturating_add(day.network_bytes));
    let most = most.max().unwrap_or(1);
    let drawn: Vec<_> = days
        .iter()
        .map(|day| {
            vec![
                ("bar-network", day.network_bytes),
                ("bar-done", day.local_bytes),
            ]
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
        (numbers(words, &titles, &rows))
    }
}

fn failures(words: Words, reasons: &[FailureReason]) -> Markup {
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
                                    @match reason.latest_run {
                                        Some(run) => { a.mono href={ "/runs/" (run) } { (reason.example) } }
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
    fn every_drawing_has_its_numbers() {
        let html = drawn(Words::ENGLISH, sample::kept());
        assert_eq!(html.matches("svg class=\"chart\"").count(), 3);
        assert_eq!(html.matches("details class=\"numbers\"").count(), 3);
        assert!(html.contains("Slowest steps") && html.contains("LibreOffice"));
        let empty = drawn(Words::ENGLISH, Vec::new());
        assert!(empty.contains("No run has ended yet."));
    }
}
