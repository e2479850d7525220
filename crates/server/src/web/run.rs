//! The page of one run: what happened, step by step, and what to do if it went wrong.
//!
//! Pure functions over a [`RunDetail`]. The page is made of parts with ids; the live updates replace whole parts and
//! append to the log.

use maud::{Markup, html};
use wire::admin_api::{DeviceRow, DeviceState, LogLine, RunDetail, StepRow};
use wire::event::ContentBytes;

use super::{format, layout, overview};

/// Lines of log on the page, the newest. A whole deployment writes a few hundred.
pub const LOG_LINES_MAX: usize = 2000;
/// The width of the timeline in its own units; fine enough for a phone and a wall screen.
const TIMELINE_WIDTH: u64 = 1000;
/// A step shorter than this would be invisible.
const BAR_WIDTH_MIN: u64 = 4;

/// The content of the page of a run. The device's row adds model, site and class, which a run alone doesn't know.
#[must_use]
pub fn run_page(detail: &RunDetail, device: Option<&DeviceRow>) -> Markup {
    html! {
        p.crumbs { a href="/" { "Overview" } " / " span { (title(detail)) } }
        @for (_, part) in parts(detail, device) { (part) }
        (log(&detail.log))
    }
}

/// What the page is called: the host name, or the serial number as long as there is none.
#[must_use]
pub fn title(detail: &RunDetail) -> &str {
    detail.row.name.as_deref().unwrap_or(&detail.row.serial)
}

/// The parts that are replaced when they change, with their ids.
#[must_use]
pub fn parts(detail: &RunDetail, device: Option<&DeviceRow>) -> [(&'static str, Markup); 4] {
    [
        ("run-head", head(detail, device)),
        ("run-failure", failure(detail)),
        ("run-facts", facts(detail)),
        ("run-timeline", timeline(detail)),
    ]
}

fn head(detail: &RunDetail, device: Option<&DeviceRow>) -> Markup {
    let row = &detail.row;
    html! {
        section.card.run-head #run-head aria-label="Run" {
            div.headline {
                h1 { (layout::or_dash(title(detail))) }
                (layout::state_chip(row.state))
                span.muted.step-now {
                    @if row.step_count > 0 {
                        "Step " (row.step_number) " of " (row.step_count) " · " (row.step_title)
                    }
                    @if row.state == DeviceState::Running {
                        @if let Some(percent) = row.step_percent { " · " (percent.min(100)) " %" }
                    }
                }
            }
            (overview::elapsed(row))
            dl.identity {
                (pair("Serial number", &layout::serial_link(&row.serial, row.state)))
                @if let Some(device) = device {
                    (pair("Model", &html! { (device.model.vendor) " " (device.model.product) }))
                    (pair("Site", &html! {
                        (layout::or_dash(&device.site_name)) " " span.muted { (device.site) }
                    }))
                    (pair("Class", &html! { (layout::or_dash(&device.class)) }))
                    (pair("Asset tag", &html! { (layout::or_dash(&device.asset_tag)) }))
                }
                (pair("Deployment", &html! { (row.deployment) }))
                (pair("Sequence", &html! { (row.sequence) }))
                (pair("Started", &html! { (format::moment(row.started_at_ms)) " UTC" }))
                @if let Some(ended) = row.ended_at_ms {
                    (pair("Ended", &html! { (format::moment(ended)) " UTC" }))
                }
                (pair("Run", &html! { span.mono.small title=(row.run) { (short_id(&row.run.to_string())) } }))
            }
        }
    }
}

fn short_id(id: &str) -> String {
    id.chars()
        .skip(id.chars().count().saturating_sub(12))
        .collect()
}

fn pair(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The box for a run in trouble; an empty element otherwise, so that a live update can fill it.
fn failure(detail: &RunDetail) -> Markup {
    let row = &detail.row;
    html! {
        @match row.state {
            DeviceState::Failed => {
                section.card.failure.s-failed #run-failure aria-label="What went wrong" {
                    h2 {
                        (layout::icon(layout::state_icon(DeviceState::Failed)))
                        "Failed"
                        @if let Some(step) = &row.failed_step { " at step " code { (step) } }
                    }
                    @match row.errors.split_first() {
                        Some((what, causes)) => {
                            p.what { (layout::prose(what)) }
                            @if !causes.is_empty() {
                                ol.causes {
                                    @for cause in causes { li { span.muted { "because " } (layout::prose(cause)) } }
                                }
                            }
                        }
                        None => { p.what { "The run ended without an error message; the log below is all there is." } }
                    }
                    @if !detail.last_lines.is_empty() {
                        p.muted { "The last it said:" }
                        pre.last-lines { (detail.last_lines.join("\n")) }
                    }
                    @if let Some(hint) = &row.hint { p.hint { b { "What to do: " } (layout::prose(hint)) } }
                    p.hint { b { "To go on from there: " } code { "forestage run retry " (row.serial) } }
                }
            }
            DeviceState::Stalled => {
                section.card.failure.s-stalled #run-failure aria-label="What went wrong" {
                    h2 { (layout::icon(layout::state_icon(DeviceState::Stalled))) "Stalled" }
                    p.what {
                        "The machine has been silent since " (format::time_of_day(row.last_seen_at_ms)) " UTC, in step "
                        (row.step_number) " of " (row.step_count) "."
                    }
                    p.hint {
                        b { "What to do: " }
                        "Look whether it has power and a network. It goes on by itself from where it was, "
                        "and reports what it did meanwhile."
                    }
                }
            }
            DeviceState::Imported
            | DeviceState::Staged
            | DeviceState::CheckedIn
            | DeviceState::Running
            | DeviceState::Completed
            | DeviceState::Quarantined => { div #run-failure {} }
        }
    }
}

fn facts(detail: &RunDetail) -> Markup {
    let row = &detail.row;
    html! {
        div.facts #run-facts {
            section.card aria-labelledby="content-title" {
                h2 #content-title { "Where content came from" }
                (sources(&row.content))
            }
            section.card aria-labelledby="network-title" {
                h2 #network-title { "Network" }
                dl.figures {
                    (figure("Content fetched", row.content.network_packed, "As transferred: compressed"))
                    (figure("Counted at the server", row.server_bytes, "All bytes to and from this device"))
                    (figure("Counted at the machine", row.interface_bytes, "All bytes at its network card, all starts"))
                }
            }
            section.card aria-labelledby="identity-title" {
                h2 #identity-title { "How it was recognised" }
                @if detail.identity.is_empty() {
                    p.muted { "No evidence was recorded." }
                } @else {
                    ul.evidence { @for line in &detail.identity { li { (layout::prose(line)) } } }
                }
            }
        }
    }
}

fn figure(name: &str, count: u64, note: &str) -> Markup {
    html! {
        div title=(note) {
            dt { (name) }
            dd { (format::bytes(count)) }
        }
    }
}

fn sources(content: &ContentBytes) -> Markup {
    let total = content
        .unchanged
        .saturating_add(content.local)
        .saturating_add(content.network);
    let shares = [
        ("unchanged", "Unchanged on disk", content.unchanged),
        ("local", "From the local library", content.local),
        ("network", "Over the network", content.network),
    ];
    let mut left = 0;
    html! {
        svg.stack viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            @for (class, _, count) in shares {
                @let least = u64::from(count > 0) * BAR_WIDTH_MIN;
                @let width = scaled(count, total, 1000, least).min(1000_u64.saturating_sub(left));
                rect class={ "source-" (class) } x=(left) width=(width) height="10" {}
                @let () = left += width;
            }
        }
        dl.figures.sources {
            @for (class, name, count) in shares {
                div {
                    dt { svg.swatch viewBox="0 0 10 10" aria-hidden="true" {
                        rect class={ "source-" (class) } width="10" height="10" {} } (name) }
                    dd { (format::bytes(count)) span.muted.share { (format::share(count, total)) " %" } }
                }
            }
        }
    }
}

/// `part` of `whole` scaled to `width`, at least `least`.
fn scaled(part: u64, whole: u64, width: u64, least: u64) -> u64 {
    if whole == 0 {
        return least;
    }
    let scaled = u128::from(part) * u128::from(width) / u128::from(whole);
    u64::try_from(scaled)
        .unwrap_or(width)
        .clamp(least, width.max(least))
}

/// The steps over time.
fn timeline(detail: &RunDetail) -> Markup {
    let span = time_span(detail);
    html! {
        section.card.timeline #run-timeline aria-labelledby="timeline-title" {
            div.headline {
                h2 #timeline-title { "Steps" }
                span.muted { (outcome_counts(&detail.steps)) }
            }
            @if detail.steps.is_empty() {
                p.muted { "The machine has not listed its steps yet." }
            } @else {
                (axis(span))
                ol.steps {
                    @for (index, step) in detail.steps.iter().enumerate() { (step_row(index + 1, step, detail, span)) }
                }
            }
        }
    }
}

fn time_span(detail: &RunDetail) -> u64 {
    let ends = detail.steps.iter().filter_map(|step| {
        step.offset_ms
            .map(|offset| offset.saturating_add(step.duration_ms.unwrap_or(0)))
    });
    ends.chain([detail.row.elapsed_seconds.saturating_mul(1000)])
        .max()
        .unwrap_or(0)
        .max(1)
}

fn outcome_counts(steps: &[StepRow]) -> String {
    let words = ["done", "warning", "skipped", "failed", "running", "waiting"];
    let counts = words.map(|word| (steps.iter().filter(|step| step.state == word).count(), word));
    let parts: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    parts.join(" · ")
}

/// Five marks of time above the bars.
fn axis(span: u64) -> Markup {
    html! {
        div.axis aria-hidden="true" {
            div.marks {
                @for quarter in 0..=4_u64 {
                    span class={ "at-" (quarter) } { (format::clock(span / 1000 * quarter / 4)) }
                }
            }
        }
    }
}

fn step_row(number: usize, step: &StepRow, detail: &RunDetail, span: u64) -> Markup {
    let state = step_state(&step.state);
    html! {
        li class={ "entry t-" (state.class) } {
            span.number { (number) }
            span.state title=(step.state) { (layout::icon(state.icon)) span { (state.word) } }
            div.what {
                span.title { (layout::or_dash(&step.title)) }
                span.sub { code { (step.path) } " · " (step.kind)
                    @if step.attempts > 1 { " · " b { (step.attempts) " attempts" } } }
            }
            div.bars { (gantt(step, detail, span)) }
            span.duration { (duration(step, detail)) }
            span.bytes title=(bytes_note(&step.content)) { (step_bytes(&step.content)) }
            @if !step.plan.is_empty() || step.message.is_some() {
                div.more {
                    @if let Some(message) = &step.message { p.message { (layout::prose(message)) } }
                    @if !step.plan.is_empty() { p.plan { span.muted { "Plan: " } (layout::prose(&step.plan)) } }
                }
            }
        }
    }
}

fn gantt(step: &StepRow, detail: &RunDetail, span: u64) -> Markup {
    let Some(offset) = step.offset_ms else {
        return html! { svg.gantt viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {} };
    };
    let duration = duration_ms(step, detail).unwrap_or(0);
    let width = scaled(duration, span, TIMELINE_WIDTH, BAR_WIDTH_MIN);
    let left = scaled(offset, span, TIMELINE_WIDTH, 0).min(TIMELINE_WIDTH - BAR_WIDTH_MIN);
    html! {
        svg.gantt viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.fill x=(left) width=(width.min(TIMELINE_WIDTH - left)) height="10" {}
        }
    }
}

/// How long the step took, or has taken so far.
fn duration_ms(step: &StepRow, detail: &RunDetail) -> Option<u64> {
    let offset = step.offset_ms?;
    let so_far = || {
        detail
            .row
            .elapsed_seconds
            .saturating_mul(1000)
            .saturating_sub(offset)
    };
    step.duration_ms
        .or_else(|| (step.state == "running").then(so_far))
}

fn duration(step: &StepRow, detail: &RunDetail) -> String {
    duration_ms(step, detail).map_or_else(|| "—".to_owned(), format::precise)
}

fn step_bytes(content: &ContentBytes) -> Markup {
    let total = content
        .unchanged
        .saturating_add(content.local)
        .saturating_add(content.network);
    html! {
        @if total == 0 {
            span.muted { "—" }
        } @else {
            (format::bytes(total))
            @if content.network > 0 { span.sub { (format::bytes(content.network)) " network" } }
        }
    }
}

fn bytes_note(content: &ContentBytes) -> String {
    format!(
        "{} unchanged on disk, {} from the local library, {} over the network",
        format::bytes(content.unchanged),
        format::bytes(content.local),
        format::bytes(content.network)
    )
}

struct StepState {
    class: &'static str,
    word: &'static str,
    icon: &'static str,
}

/// The state as the wire names it; anything a newer release says looks like a step that waits.
fn step_state(state: &str) -> StepState {
    let (class, word, icon) = match state {
        "running" => (
            "running",
            "Running",
            layout::state_icon(DeviceState::Running),
        ),
        "done" => ("done", "Done", layout::state_icon(DeviceState::Completed)),
        "warning" => ("warning", "Warning", layout::WARNING),
        "skipped" => ("skipped", "Skipped", "M3 4l5 4-5 4ZM9 4l4.500 4L9 12"),
        "failed" => ("failed", "Failed", layout::state_icon(DeviceState::Failed)),
        _ => ("waiting", "Waiting", "M4 8h.1M8 8h.1M12 8h.1"),
    };
    StepState { class, word, icon }
}

fn log(lines: &[LogLine]) -> Markup {
    let skipped = lines.len().saturating_sub(LOG_LINES_MAX);
    html! {
        section.card.log-card aria-labelledby="log-title" {
            div.headline {
                h2 #log-title { "Log" }
                fieldset.levels {
                    legend.hidden { "Show" }
                    input type="radio" name="level" id="level-all" checked; label for="level-all" { "All" }
                    input type="radio" name="level" id="level-warning";
                    label for="level-warning" { "Warnings and errors" }
                    input type="radio" name="level" id="level-error"; label for="level-error" { "Errors" }
                }
            }
            @if skipped > 0 {
                p.muted { "The " (LOG_LINES_MAX) " newest lines; " (skipped) " older ones are left out." }
            }
            div.log-scroll tabindex="0" role="log" aria-labelledby="log-title" {
                ol.log #log data-after=(lines.last().map_or(0, |line| line.seq)) { (log_lines(&lines[skipped..])) }
                @if lines.is_empty() { p.muted #log-empty { "Nothing yet." } }
            }
        }
    }
}

/// Lines of the log, to be put at its end.
#[must_use]
pub fn log_lines(lines: &[LogLine]) -> Markup {
    html! {
        @for line in lines {
            @let level = level(&line.level);
            li class={ "line l-" (level) } data-seq=(line.seq) {
                time title={ "Received " (format::moment(line.received_at_ms)) " UTC" } {
                    (format::time_of_day(line.received_at_ms)) }
                span.level { (level) }
                span.step-path { @if let Some(step) = &line.step { (step) } }
                span.text { (line.text) }
            }
        }
    }
}

/// An unknown level is shown as `info`: a newer release may have finer ones.
fn level(level: &str) -> &'static str {
    match level {
        "error" => "error",
        "warning" => "warning",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    fn sample_of(state: DeviceState) -> (DeviceRow, RunDetail) {
        let device = sample::devices()
            .into_iter()
            .find(|row| row.state == state)
            .unwrap();
        let detail = sample::detail(device.run.as_ref().unwrap());
        (device, detail)
    }

    #[test]
    fn a_failure_says_where_why_and_what_to_do() {
        let (device, detail) = sample_of(DeviceState::Failed);
        let html = run_page(&detail, Some(&device)).into_string();
        for text in [
            "Failed at step <code>apps/office</code>",
            "because ",
            "libpoppler126",
            "What to do: ",
        ] {
            assert!(html.contains(text), "{text}");
        }
        let (device, detail) = sample_of(DeviceState::Completed);
        let html = run_page(&detail, Some(&device)).into_string();
        assert!(!html.contains("What to do"));
    }

    #[test]
    fn no_text_of_a_run_becomes_markup() {
        let device = sample::hostile_device();
        sample::assert_harmless(&run_page(&sample::hostile_detail(), Some(&device)).into_string());
    }

    #[test]
    fn a_run_without_anything_still_has_a_page() {
        let (_, mut detail) = sample_of(DeviceState::Running);
        detail.steps.clear();
        detail.log.clear();
        detail.identity.clear();
        detail.row.content = ContentBytes::default();
        detail.row.elapsed_seconds = 0;
        let html = run_page(&detail, None).into_string();
        assert!(html.contains("has not listed its steps") && html.contains("Nothing yet."));
    }

    #[test]
    fn long_logs_are_cut_at_the_old_end() {
        let line = |seq| LogLine {
            seq,
            received_at_ms: 0,
            level: "info".into(),
            step: None,
            text: String::new(),
        };
        let lines: Vec<_> = (1..=LOG_LINES_MAX as u64 + 5).map(line).collect();
        let html = log(&lines).into_string();
        assert_eq!(html.matches("<li").count(), LOG_LINES_MAX);
        assert!(
            html.contains("5 older ones")
                && html.contains(r#"data-seq="2005""#)
                && !html.contains(r#"data-seq="5""#)
        );
    }

    #[test]
    fn the_timeline_looks_as_agreed() {
        let (_, detail) = sample_of(DeviceState::Failed);
        let html = timeline(&detail)
            .into_string()
            .replace("<li", "\n<li")
            .replace("<svg", "\n  <svg");
        insta::assert_snapshot!("timeline", html);
    }

    proptest! {
        #[test]
        fn bars_stay_inside(offset: u64, duration: Option<u64>, elapsed: u64) {
            let (_, mut detail) = sample_of(DeviceState::Running);
            detail.row.elapsed_seconds = elapsed;
            detail.steps[0].offset_ms = Some(offset);
            detail.steps[0].duration_ms = duration;
            let html = gantt(&detail.steps[0], &detail, time_span(&detail)).into_string();
            let number = |name: &str| -> u64 {
                let start = html.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
                html[start..].split('"').next().unwrap().parse().unwrap()
            };
            prop_assert!(number("width") >= 1);
            prop_assert!(number("x") + number("width") <= TIMELINE_WIDTH);
        }
    }
}
