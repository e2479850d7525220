//! The screen on the wall: how far the rollout is and where it hurts, readable from across the room, without a hand.
//!
//! Pure functions over rows. *Absent:* pupils; whatever somebody would have to click to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use wire::admin_api::{DeviceRow, DeviceState};

use super::filter::{Assets, Clock, encode, is_done_since, state_key};
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{frame, layout, overview};
use crate::error::Failure;
use crate::state::AppState;

/// Machines in trouble that are named; a screen that needs scrolling is no screen for the wall.
const NAMED_MAX: usize = 8;
/// Characters of what went wrong: about two lines.
const WHY_CHARS_MAX: usize = 120;

/// Which site the screen is for; all that one sees if empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct WallQuery {
    pub(super) site: String,
}

/// `/wall`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(query): Query<WallQuery>,
) -> Result<Markup, Failure> {
    let fleet = state.fleet().await?;
    let rows = overview::belonging(&fleet, &visitor.user.reach);
    let site = query.site.trim();
    let live = match site {
        "" => "/live/wall".to_owned(),
        site => format!("/live/wall?site={}", encode(site)),
    };
    let words = visitor.words;
    let content = html! {
        @for (_, part) in parts(words, &rows, site, Clock::now()) { (part) }
    };
    Ok(frame::wall(
        &visitor,
        words.t("Wall screen"),
        &live,
        &content,
    ))
}

/// The parts of the screen, each with its id: what live updates replace.
pub(super) fn parts(
    words: Words,
    rows: &[Arc<DeviceRow>],
    site: &str,
    clock: Clock,
) -> [(&'static str, Markup); 4] {
    let rows: Vec<_> = rows
        .iter()
        .map(AsRef::as_ref)
        .filter(|row: &&DeviceRow| site.is_empty() || row.site == site)
        .filter(|row| Assets::InUse.hold(row))
        .collect();
    [
        ("wall-title", title(words, &rows, site)),
        ("wall-tiles", tiles(words, &rows, clock)),
        ("wall-progress", progress(words, &rows, site)),
        ("wall-trouble", trouble(words, &rows)),
    ]
}

fn title(words: Words, rows: &[&DeviceRow], site: &str) -> Markup {
    let done = count(rows, DeviceState::Completed);
    let name = rows.first().map_or(site, |row| name_of_site(row));
    let name = match site {
        "" => words.t("All sites"),
        _ => name,
    };
    html! {
        div #wall-title.wall-title {
            h1 { (name) }
            p { (words.fill("{n} of {m} machines are done", &[("n", &done), ("m", &rows.len())])) }
        }
    }
}

fn count(rows: &[&DeviceRow], state: DeviceState) -> usize {
    rows.iter().filter(|row| row.state == state).count()
}

fn tiles(words: Words, rows: &[&DeviceRow], clock: Clock) -> Markup {
    let today = rows
        .iter()
        .filter(|row| is_done_since(row, clock.today_ms))
        .count();
    let tile = |state: DeviceState, word: &str, count: usize| {
        html! {
            div class={ "wall-tile s-" (state_key(state)) @if count == 0 { " none" } } {
                span.figure { (words.number(count as u64)) }
                span.word { (layout::icon(layout::state_icon(state))) (word) }
            }
        }
    };
    let of_state = |state: DeviceState| {
        let word = words.t(layout::state_word(state));
        tile(state, word, count(rows, state))
    };
    html! {
        section #wall-tiles.wall-tiles aria-label=(words.t("Devices by state")) {
            (of_state(DeviceState::Staged))
            (of_state(DeviceState::Running))
            (tile(DeviceState::Completed, words.t("Done today"), today))
            (of_state(DeviceState::Failed))
            (of_state(DeviceState::Stalled))
            (of_state(DeviceState::Quarantined))
        }
    }
}

/// How far a site or a class is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    all: usize,
    done: usize,
    running: usize,
    trouble: usize,
}

/// By site, or by class if there is one site only.
fn progress(words: Words, rows: &[&DeviceRow], site: &str) -> Markup {
    let by_class = !site.is_empty();
    let mut groups: BTreeMap<(&str, &str), Progress> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.site.is_empty()) {
        let name = if by_class {
            layout::or_dash(&row.class)
        } else {
            name_of_site(row)
        };
        let group = groups.entry((name, &row.site)).or_default();
        group.all += 1;
        match row.state {
            DeviceState::Completed => group.done += 1,
            DeviceState::Running => group.running += 1,
            DeviceState::Failed | DeviceState::Stalled | DeviceState::Quarantined => {
                group.trouble += 1;
            }
            DeviceState::Imported
            | DeviceState::Staged
            | DeviceState::CheckedIn
            | DeviceState::Stopped => {}
        }
    }
    let title = if by_class {
        words.t("Progress of each class")
    } else {
        words.t("Progress of each site")
    };
    html! {
        section #wall-progress.wall-progress aria-label=(title) {
            ul { @for ((name, _), group) in &groups { li { (bar(words, name, group)) } } }
        }
    }
}

fn bar(words: Words, name: &str, group: &Progress) -> Markup {
    let share = |part: usize| part * 1000 / group.all.max(1);
    let (done, running, trouble) = (
        share(group.done),
        share(group.running),
        share(group.trouble),
    );
    html! {
        div.line {
            span.site { (name) }
            @if group.trouble > 0 {
                span.in-trouble { (layout::icon(layout::WARNING)) (words.number(group.trouble as u64)) }
            }
            span.of { (words.number(group.done as u64)) " / " (words.number(group.all as u64)) }
        }
        svg.wall-bar viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.bar-done x="0" y="0" width=(done) height="10" {}
            rect.bar-network x=(done) y="0" width=(running) height="10" {}
            rect.bar-trouble x=(1000 - trouble) y="0" width=(trouble) height="10" {}
        }
    }
}

/// Machines that failed or fell silent, by name.
fn trouble(words: Words, rows: &[&DeviceRow]) -> Markup {
    let mut named: Vec<_> = rows
        .iter()
        .filter(|row| matches!(row.state, DeviceState::Failed | DeviceState::Stalled))
        .collect();
    named.sort_by_cached_key(|row| overview::sort_key(row, None));
    let more = named.len().saturating_sub(NAMED_MAX);
    html! {
        section #wall-trouble.wall-trouble aria-label=(words.t("Failed and stalled")) {
            @if named.is_empty() {
                p.calm { (layout::icon(layout::state_icon(DeviceState::Completed))) (words.t("No machine has failed or stalled.")) }
            }
            ul {
                @for row in named.iter().take(NAMED_MAX) {
                    li class={ "s-" (state_key(row.state)) } {
                        div.line {
                            b { (row.name.as_deref().unwrap_or(&row.serial)) }
                            span.site { (name_of_site(row)) }
                            (layout::chip(words, row.state))
                        }
                        p.why { (why(words, row)) }
                    }
                }
            }
            @if more > 0 { p.more { (words.fill(en("and {n} more"), &[("n", &more)])) } }
        }
    }
}

fn why(words: Words, row: &DeviceRow) -> String {
    let run = row.run.as_ref();
    let step = run.map_or("", |run| run.step_title.as_str());
    let text = match (row.state, run.and_then(|run| run.errors.first())) {
        (DeviceState::Failed, Some(error)) => format!("{step}: {error}"),
        (DeviceState::Stalled, _) => {
            words.fill(en("silent at: {step}"), &[("step", &layout::or_dash(step))])
        }
        _ => row.message.clone().unwrap_or_else(|| step.to_owned()),
    };
    crate::text::clean(&text, WHY_CHARS_MAX)
}

fn name_of_site(row: &DeviceRow) -> &str {
    match row.site_name.trim() {
        "" => &row.site,
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::CLOCK;
    use super::super::sample;
    use super::*;

    fn screen(rows: &[Arc<DeviceRow>], site: &str) -> String {
        let parts = parts(Words::ENGLISH, rows, site, CLOCK);
        for (id, part) in &parts {
            let html = part.clone().into_string();
            assert!(
                html.contains(&format!("id=\"{id}\"")),
                "{id} is replaced by its id"
            );
        }
        parts.map(|(_, part)| part.into_string()).concat()
    }

    #[test]
    fn the_screen_tells_progress_and_names_trouble() {
        let rows = sample::kept();
        let all = screen(&rows, "");
        assert!(all.contains("All sites") && all.contains("Kongsbakken"));
        let failed = rows.iter().find(|row| row.state == DeviceState::Failed);
        let failed = failed.and_then(|row| row.name.as_deref()).unwrap();
        assert!(all.contains(failed), "a failure is told by name");
        let done = rows
            .iter()
            .filter(|row| row.state == DeviceState::Completed)
            .count();
        assert!(all.contains(&format!("{done} of 30 machines are done")));
    }

    #[test]
    fn one_site_is_told_by_its_classes() {
        let one = screen(&sample::kept(), "KON");
        assert!(one.contains("<h1>Kongsbakken</h1>") && one.contains("8B"));
        assert!(!one.contains("Bjørnsletta"));
        assert!(screen(&sample::kept(), "no-such").contains("0 of 0"));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let failed = sample::devices()
            .into_iter()
            .find(|row| row.state == DeviceState::Failed)
            .unwrap();
        let failed = Arc::new(failed);
        let rows = vec![failed; NAMED_MAX + 3];
        assert!(screen(&rows, "").contains("and 3 more"));
    }

    #[test]
    fn no_text_of_a_device_becomes_markup() {
        let rows = [Arc::new(sample::hostile_device())];
        sample::assert_harmless(&screen(&rows, ""));
        sample::assert_harmless(&screen(&rows, sample::HOSTILE));
    }
}
