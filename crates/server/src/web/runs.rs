//! The list of runs, with its filter in the address and in pages.

use axum::extract::{Extension, Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use wire::admin_api::{DeviceState, RunRow};
use wire::names::RunId;

use super::filter::{Filter, state_key};
use super::overview::{self, Choice};
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, format, layout};
use crate::error::Failure;
use crate::people::auth::User;
use crate::routes::page::query_of;
use crate::runs::list::{RUN_STATES, RunQuery};
use crate::state::AppState;

/// Runs on one page.
const ROWS: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageQuery {
    cursor: Option<String>,
}

/// The address of the list of these runs.
pub(super) fn address(query: &RunQuery) -> String {
    format!("/runs{}", query_of(&query.pairs()))
}

/// The runs of the devices that a filter of the overview shows, as far as a list of runs can tell them apart.
pub(super) fn of(filter: &Filter) -> RunQuery {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let state = filter.state.filter(|state| RUN_STATES.contains(state));
    RunQuery {
        state: state.map(state_key).unwrap_or_default().to_owned(),
        site: text(&filter.site),
        collection: String::new(),
        deployment: text(&filter.deployment),
        model: text(&filter.model),
        device: String::new(),
        since: String::new(),
    }
}

/// `/runs`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(query): Query<RunQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Markup, Failure> {
    let cursor = page.cursor.as_deref();
    let (rows, is_more) = state.runs_for(&user, &query, cursor, ROWS).await?;
    let fleet = state.fleet().await?;
    let devices = overview::within(&fleet, &user.reach);
    let chosen = Filter {
        site: Some(query.site.clone()).filter(|site| !site.is_empty()),
        model: Some(query.model.clone()).filter(|model| !model.is_empty()),
        ..Filter::default()
    };
    let [site, _, model, ..] = overview::choices(&devices, &chosen);
    let collections = state.collection_names().await?;
    let collections = collections.iter().map(String::as_str);
    let collection = Choice::of(
        "collection",
        en("Collection"),
        en("All collections"),
        &query.collection,
        collections,
    );
    let deployments = state.deployments().await?;
    let deployments = deployments.iter().map(|row| row.name.as_str());
    let deployment = Choice::of(
        "deployment",
        en("Deployment"),
        en("All deployments"),
        &query.deployment,
        deployments,
    );
    let choices = [site, model, collection, deployment];
    let next = rows.last().filter(|_| is_more).map(|row| row.run);
    let words = visitor.words;
    let content = html! {
        (draw::head(&[], words.t("Runs"), "", &html! {}))
        (filters(words, &query, &choices))
        (list(words, &rows))
        (pages(words, &query, cursor.is_some(), next))
    };
    Ok(visitor.page(words.t("Runs"), None, &content))
}

fn filters(words: Words, query: &RunQuery, choices: &[Choice<'_>]) -> Markup {
    html! {
        form.filters #filters method="get" action="/runs" role="search" {
            label.search {
                span.hidden { (words.t("Device")) }
                (layout::icon(layout::SEARCH))
                input type="search" name="device" value=(query.device) maxlength="100" autocomplete="off"
                    placeholder=(words.t("Serial number, name or asset tag"));
            }
            label {
                span.hidden { (words.t("State")) }
                select name="state" {
                    option value="" { (words.t("All states")) }
                    @for state in RUN_STATES {
                        option value=(state_key(state)) selected[query.state == state_key(state)] {
                            (words.t(layout::state_word(state)))
                        }
                    }
                }
            }
            @for choice in choices { (choice.select(words)) }
            label.day {
                span { (words.t("Since")) }
                input type="date" name="since" value=(query.since);
            }
            button type="submit" { (words.t("Apply")) }
            @if !query.pairs().is_empty() { a.clear href="/runs" { (words.t("Clear")) } }
            a.clear href={ "/api/v1/runs.csv" (query_of(&query.pairs())) } download="runs.csv" { "CSV" }
        }
    }
}

fn list(words: Words, rows: &[RunRow]) -> Markup {
    if rows.is_empty() {
        return draw::empty(words.t("No run fits"), "");
    }
    let columns = [
        en("Started"),
        en("Device"),
        en("State"),
        en("Deployment"),
        en("Step"),
        en("Elapsed of expected"),
        en("Content"),
        en("What happened"),
    ];
    html! {
        div.scroll tabindex="0" role="group" aria-label=(words.t("Runs")) {
            table.list.runs aria-label=(words.t("Runs")) {
                thead { tr {
                    @for column in columns { th.number[column == "Content"] scope="col" { (words.t(column)) } }
                } }
                tbody { @for row in rows { tr { (cells(words, row)) } } }
            }
        }
    }
}

fn cells(words: Words, row: &RunRow) -> Markup {
    let name = row.name.as_deref().unwrap_or(&row.serial);
    let what = match row.state {
        DeviceState::Failed => row.errors.first().map_or("", String::as_str),
        _ => &row.step_title,
    };
    html! {
        th scope="row" { a href={ "/runs/" (row.run) } { (words.time(row.started_at_ms)) } }
        td {
            (layout::or_dash(name))
            span.sub { (layout::serial_link(words, &row.serial, row.state)) }
        }
        td { (layout::chip(words, row.state)) }
        td {
            a href={ "/deployments/" (row.deployment) } { (row.deployment) }
            span.sub { (row.sequence) }
        }
        td.number { (row.step_number) "/" (row.step_count) }
        td {
            (format::clock(row.elapsed_seconds))
            @if row.expected_seconds > 0 { span.muted { " / " (format::clock(row.expected_seconds)) } }
        }
        td.number { (words.megabytes(row.content.network_packed)) " MB" }
        td.what { (layout::or_dash(what)) }
    }
}

fn pages(words: Words, query: &RunQuery, is_later: bool, next: Option<RunId>) -> Markup {
    let here = address(query);
    let and = if here.contains('?') { '&' } else { '?' };
    html! {
        @if is_later || next.is_some() {
            nav.buttons aria-label=(words.t("Pages")) {
                @if is_later { a href=(here) { (words.t("Newest")) } }
                @if let Some(next) = next {
                    a rel="next" href={ (here) (and) "cursor=" (next) } { (words.t("Older")) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_address_holds_what_narrows() {
        assert_eq!(address(&RunQuery::default()), "/runs");
        let filter = Filter {
            site: Some("BJO".into()),
            model: Some("ProBook 440 & co".into()),
            state: Some(DeviceState::Staged),
            ..Filter::default()
        };
        let query = of(&filter);
        assert_eq!(
            address(&query),
            "/runs?site=BJO&model=ProBook%20440%20%26%20co"
        );
        let next: RunId = "00000000-0000-0000-0000-000000000007".parse().unwrap();
        let page = pages(Words::ENGLISH, &query, false, Some(next)).into_string();
        assert!(page.contains("co&amp;cursor=00000000-0000-0000-0000-000000000007"));
        let page = pages(Words::ENGLISH, &RunQuery::default(), true, Some(next)).into_string();
        assert!(page.contains("\"/runs?cursor=") && page.contains("\"/runs\""));
        let failed = of(&filter.with_state(Some(DeviceState::Failed)));
        assert!(address(&failed).starts_with("/runs?state=failed&"));
    }

    #[test]
    fn no_text_of_a_device_becomes_markup() {
        let run = sample::hostile_device().run.unwrap();
        sample::assert_harmless(&list(Words::BOKMAL, &[run]).into_string());
        let query = RunQuery {
            device: sample::HOSTILE.into(),
            since: sample::HOSTILE.into(),
            site: sample::HOSTILE.into(),
            ..RunQuery::default()
        };
        sample::assert_harmless(&filters(Words::ENGLISH, &query, &[]).into_string());
        let address = pages(Words::ENGLISH, &query, true, None).into_string();
        assert!(!address.contains(sample::HOSTILE), "{address}");
    }
}
