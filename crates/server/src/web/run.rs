//! The page of one run: what happened, step by step, and what to do if it went wrong.
//!
//! Pure functions over a [`RunDetail`]. The page is made of parts with ids; the live updates replace whole parts and
//! append to the log.

use maud::{Markup, html};
use serde_json::json;
use wire::admin_api::{DeviceRow, DeviceState, LogLine, RunDetail, RunRow, RunVariable, StepRow};
use wire::event::ContentBytes;
use wire::secrets::ReleaseRow;

use super::words::{Words, en};
use super::{draw, format, layout, overview};

/// Lines of log on the page, the newest. A whole deployment writes a few hundred.
pub const LOG_LINES_MAX: usize = 2000;
/// Characters of a variable's value that are shown; all of it is in the download.
const VALUE_CHARS_MAX: usize = 400;
/// The width of the timeline in its own units; fine enough for a phone and a wall screen.
const TIMELINE_WIDTH: u64 = 1000;
/// A step shorter than this would be invisible.
const BAR_WIDTH_MIN: u64 = 4;

/// Who looks: in which language, and whether they may stop runs and have them tried again.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// The language.
    pub words: Words,
    /// Whether there are buttons.
    pub may_operate: bool,
}

/// The content of the page of a run. The device's row adds model, site and class, which a run alone doesn't know.
#[must_use]
pub fn run_page(
    sight: Sight,
    detail: &RunDetail,
    device: Option<&DeviceRow>,
    all: &[RunRow],
) -> Markup {
    let words = sight.words;
    html! {
        p.crumbs { a href="/" { (words.t("Overview")) } " / " span { (title(detail)) } }
        @for (_, part) in parts(sight, detail, device) { (part) }
        (variables(words, &detail.variables))
        (secrets(words, &detail.secrets))
        (log(words, &detail.log))
        (other_runs(words, detail, all))
    }
}

/// What the page is called: the host name, or the serial number as long as there is none.
#[must_use]
pub fn title(detail: &RunDetail) -> &str {
    detail.row.name.as_deref().unwrap_or(&detail.row.serial)
}

/// The parts that are replaced when they change, with their ids.
#[must_use]
pub fn parts(
    sight: Sight,
    detail: &RunDetail,
    device: Option<&DeviceRow>,
) -> [(&'static str, Markup); 4] {
    let words = sight.words;
    [
        ("run-head", head(sight, detail, device)),
        ("run-failure", failure(words, detail, device)),
        ("run-facts", facts(words, detail)),
        ("run-timeline", timeline(words, detail)),
    ]
}

fn head(sight: Sight, detail: &RunDetail, device: Option<&DeviceRow>) -> Markup {
    let (words, row) = (sight.words, &detail.row);
    html! {
        section.card.run-head #run-head aria-label=(words.t("Run")) {
            div.headline {
                h1 { (layout::or_dash(title(detail))) }
                (layout::chip(words, row.state))
                span.muted.step-now {
                    @if row.step_count > 0 {
                        (words.fill("Step {n} of {m}", &[("n", &row.step_number), ("m", &row.step_count)]))
                        " · " (row.step_title)
                    }
                    @if row.state == DeviceState::Running {
                        @if let Some(percent) = row.step_percent { " · " (percent.min(100)) " %" }
                    }
                }
            }
            (overview::elapsed(words, row))
            (identity(words, detail, device))
            div.buttons.run-buttons {
                @if sight.may_operate { (actions(words, detail)) }
                a.button href={ "/api/v1/runs/" (row.run) } download={ "run-" (row.run) ".json" } {
                    (words.t("Download as JSON")) }
            }
        }
    }
}

fn identity(words: Words, detail: &RunDetail, device: Option<&DeviceRow>) -> Markup {
    let row = &detail.row;
    html! {
        dl.identity {
            (pair(words.t("Serial number"), &layout::serial_link(words, &row.serial, row.state)))
            @if let Some(device) = device {
                (pair(words.t("Model"), &html! { (device.model.vendor) " " (device.model.product) }))
                (pair(words.t("Site"), &html! {
                    (layout::or_dash(&device.site_name)) " " span.muted { (device.site) }
                }))
                (pair(words.t("Class"), &html! { (layout::or_dash(&device.class)) }))
                (pair(words.t("Asset tag"), &html! { (layout::or_dash(&device.asset_tag)) }))
            }
            (pair(words.t("Deployment"), &html! {
                a href={ "/deployments/" (row.deployment) } { (row.deployment) } }))
            (pair(words.t("Sequence"), &html! { a href={ "/sequences/" (row.sequence) } { (row.sequence) } }))
            (pair(words.t("Started"), &words.time(row.started_at_ms)))
            @if let Some(ended) = row.ended_at_ms { (pair(words.t("Ended"), &words.time(ended))) }
            (pair(words.t("Run"), &html! { span.mono.small title=(row.run) { (short_id(&row.run.to_string())) } }))
        }
    }
}

/// What can be done with the run as it stands.
fn actions(words: Words, detail: &RunDetail) -> Markup {
    let row = &detail.row;
    let name = row.name.as_deref().unwrap_or(&row.serial);
    let address = |what: &str| format!("POST /api/v1/runs/{}/{what}", row.run);
    let asked = |text: &'static str| words.fill(text, &[("name", &name)]);
    html! {
        @match row.state {
            DeviceState::Running | DeviceState::Stalled => {
                button.danger type="button" data-api=(address("stop"))
                    data-confirm=(asked(en("Stop the run on {name}?"))) data-done=(words.t("The machine is told to stop.")) {
                    (words.t("Stop")) }
            }
            DeviceState::Failed => {
                button.primary type="button" data-api=(address("retry"))
                    data-done=(words.t("It goes on when the machine checks in.")) {
                    (words.t("Retry from the failed step")) }
                (rerun(words, detail, &asked(en("Run all steps again on {name}?"))))
            }
            DeviceState::Stopped => {
                button.primary type="button" data-api=(address("retry"))
                    data-done=(words.t("It goes on when the machine checks in.")) {
                    (words.t("Go on from where it was")) }
                (rerun(words, detail, &asked(en("Run all steps again on {name}?"))))
            }
            DeviceState::Completed => {
                (rerun(words, detail, &asked(en("Run all steps again on {name}?"))))
            }
            DeviceState::Imported | DeviceState::Staged | DeviceState::CheckedIn | DeviceState::Quarantined => {}
        }
    }
}

fn rerun(words: Words, detail: &RunDetail, asked: &str) -> Markup {
    let confirm = detail.confirm_rerun.as_deref();
    html! {
        button type="button" data-api={ "POST /api/v1/runs/" (detail.row.run) "/rerun" } data-confirm=(asked)
            data-body=(json!({ "confirm": confirm.unwrap_or_default() })) data-confirm-type=[confirm] data-then="/runs/{run}"
            data-done=(words.t("A new run begins when the machine checks in.")) { (words.t("Run again from the start")) }
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
fn failure(words: Words, detail: &RunDetail, device: Option<&DeviceRow>) -> Markup {
    let is_latest = |device: &&DeviceRow| {
        let latest = device.run.as_ref().map(|run| run.run);
        latest == Some(detail.row.run)
    };
    let refusing = device
        .filter(is_latest)
        .filter(|it| layout::has_refused(it));
    let state = detail.row.state;
    if let (DeviceState::Running | DeviceState::Stalled, Some(device)) = (state, refusing) {
        return refused(words, device);
    }
    match state {
        DeviceState::Failed => failed(words, detail),
        DeviceState::Stalled => stalled(words, &detail.row),
        DeviceState::Stopped => stopped(words, &detail.row),
        DeviceState::Imported
        | DeviceState::Staged
        | DeviceState::CheckedIn
        | DeviceState::Running
        | DeviceState::Completed
        | DeviceState::Quarantined => html! { div #run-failure {} },
    }
}

fn failed(words: Words, detail: &RunDetail) -> Markup {
    let row = &detail.row;
    let failed = row.failed_step.as_ref();
    let kind = failed.and_then(|path| detail.steps.iter().find(|step| step.path == *path));
    let advice = kind.and_then(|step| what_to_do(&step.kind));
    html! {
        section.card.failure.s-failed #run-failure aria-label=(words.t("What went wrong")) {
            h2 {
                (layout::icon(layout::state_icon(DeviceState::Failed)))
                (words.t("Failed"))
                @if let Some(step) = failed { " " (words.t("at step")) " " code { (step) } }
            }
            @match row.errors.split_first() {
                Some((what, causes)) => {
                    p.what { (layout::prose(what)) }
                    @if !causes.is_empty() {
                        ol.causes {
                            @for cause in causes {
                                li { span.muted { (words.t("because")) " " } (layout::prose(cause)) }
                            }
                        }
                    }
                }
                None => { p.what { (words.t("The run ended without an error message; the log below is all there is.")) } }
            }
            @if !detail.last_lines.is_empty() {
                p.muted { (words.t("The last it said:")) }
                pre.last-lines { (detail.last_lines.join("\n")) }
            }
            @if row.hint.is_some() || advice.is_some() {
                div.hint {
                    b { (words.t("What to do about it")) }
                    @if let Some(hint) = &row.hint { p { (layout::prose(hint)) } }
                    @if let Some(advice) = advice { p { (words.t(advice)) } }
                }
            }
            p.hint { b { (words.t("To go on from there:")) } " " code { "forestage run retry " (row.serial) } }
        }
    }
}

/// What usually helps when a step of this type fails: beside what the step itself says.
fn what_to_do(kind: &str) -> Option<&'static str> {
    match kind {
        "format-disk" => Some(en(
            "Look at the disk: is it there, large enough, and the only one that the rule fits? A disk with unknown content is never wiped without an order for that machine.",
        )),
        "apply-image" | "apply-drivers" | "copy-files" | "install-packages" => Some(en(
            "Content comes from the machine's own disk first, then over the network. See below whether bytes came, and whether the package is published.",
        )),
        "run-script" => Some(en(
            "Read the last lines of the script above, and run it by hand on a machine like this one.",
        )),
        "restart" | "install-boot-entry" | "install-os-boot-entry" => Some(en(
            "Look at the machine's firmware: boot order, Secure Boot, and whether it lets entries be written.",
        )),
        "join-domain" | "set-identity" | "create-user" => Some(en(
            "Look at the variables below: name, site and class decide what this step sets.",
        )),
        _ => None,
    }
}

fn refused(words: Words, device: &DeviceRow) -> Markup {
    html! {
        section.card.failure.s-failed #run-failure aria-label=(words.t("What went wrong")) {
            h2 { (layout::icon(layout::WARNING)) (words.t("Order refused")) }
            p.what { (layout::prose(&layout::message(words, device).unwrap_or_default())) }
            div.hint {
                b { (words.t("What to do about it")) }
                p {
                    (words.t("It asks again by itself. If it is to be written over, have somebody sign a warrant for its deployment; if nobody wanted that, find out where the order came from."))
                }
            }
        }
    }
}

fn stalled(words: Words, row: &RunRow) -> Markup {
    html! {
        section.card.failure.s-stalled #run-failure aria-label=(words.t("What went wrong")) {
            h2 { (layout::icon(layout::state_icon(DeviceState::Stalled))) (words.t("Stalled")) }
            p.what {
                (words.t("The machine has been silent since")) " " (words.time(row.last_seen_at_ms)) ". "
                (words.fill("Step {n} of {m}", &[("n", &row.step_number), ("m", &row.step_count)]))
            }
            div.hint {
                b { (words.t("What to do about it")) }
                p {
                    (words.t("Look whether it has power and a network. It goes on by itself from where it was, and reports what it did meanwhile."))
                }
            }
        }
    }
}

fn stopped(words: Words, row: &RunRow) -> Markup {
    html! {
        section.card.s-stopped #run-failure aria-label=(words.t("Stopped")) {
            h2 { (layout::icon(layout::state_icon(DeviceState::Stopped))) (words.t("Stopped")) }
            p.what {
                (words.t("An administrator stopped the run; nothing went wrong.")) " "
                (words.fill("Step {n} of {m}", &[("n", &row.step_number), ("m", &row.step_count)]))
            }
            div.hint {
                b { (words.t("To go on from there:")) } " " code { "forestage run retry " (row.serial) }
                p { (words.t("If its deployment is stopped, resume that: all machines that were stopped with it go on.")) }
            }
        }
    }
}

fn facts(words: Words, detail: &RunDetail) -> Markup {
    let row = &detail.row;
    html! {
        div.facts #run-facts {
            section.card aria-labelledby="content-title" {
                h2 #content-title { (words.t("Where content came from")) }
                (sources(words, &row.content))
            }
            section.card aria-labelledby="network-title" {
                h2 #network-title { (words.t("Network")) }
                dl.figures {
                    (figure(words, words.t("Content fetched"), row.content.network_packed,
                        words.t("As transferred: compressed")))
                    (figure(words, words.t("Counted at the server"), row.server_bytes,
                        words.t("All bytes to and from this device")))
                    (figure(words, words.t("Counted at the machine"), row.interface_bytes,
                        words.t("All bytes at its network card, all starts")))
                }
            }
            section.card aria-labelledby="identity-title" {
                h2 #identity-title { (words.t("How it was recognised")) }
                @if detail.said.is_empty() {
                    p.muted { (words.t("No evidence was recorded.")) }
                } @else {
                    ul.evidence { @for line in &detail.said { li { (layout::prose(&words.say(line))) } } }
                }
            }
        }
    }
}

fn figure(words: Words, name: &str, count: u64, note: &str) -> Markup {
    html! {
        div title=(note) {
            dt { (name) }
            dd { (words.bytes(count)) }
        }
    }
}

fn sources(words: Words, content: &ContentBytes) -> Markup {
    let total = content
        .unchanged
        .saturating_add(content.local)
        .saturating_add(content.network);
    let shares = [
        ("unchanged", words.t("Unchanged on disk"), content.unchanged),
        ("local", words.t("From the local library"), content.local),
        ("network", words.t("Over the network"), content.network),
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
                    dd { (words.bytes(count)) span.muted.share { (format::share(count, total)) " %" } }
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
fn timeline(words: Words, detail: &RunDetail) -> Markup {
    let span = time_span(detail);
    html! {
        section.card.timeline #run-timeline aria-labelledby="timeline-title" {
            div.headline {
                h2 #timeline-title { (words.t("Steps")) }
                span.muted { (outcome_counts(words, &detail.steps)) }
                @if detail.steps.iter().any(|step| step.median_ms.is_some()) {
                    span.muted.median-note {
                        svg.swatch viewBox="0 0 10 10" aria-hidden="true" { rect.median width="10" height="10" {} }
                        @match &detail.median_model {
                            Some(model) => (words.fill("Thin bar: the median of {model}", &[("model", model)])),
                            None => (words.t("Thin bar: the median of all models")),
                        }
                    }
                }
            }
            @if detail.steps.is_empty() {
                p.muted { (words.t("The machine has not listed its steps yet.")) }
            } @else {
                (axis(span))
                ol.steps {
                    @for (index, step) in detail.steps.iter().enumerate() { (step_row(words, index + 1, step, detail, span)) }
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

fn outcome_counts(words: Words, steps: &[StepRow]) -> String {
    let states = ["done", "warning", "skipped", "failed", "running", "waiting"];
    let counts = states.map(|state| {
        let count = steps.iter().filter(|step| step.state == state).count();
        (count, words.t(step_state(state).word).to_lowercase())
    });
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

fn step_row(words: Words, number: usize, step: &StepRow, detail: &RunDetail, span: u64) -> Markup {
    let state = step_state(&step.state);
    html! {
        li class={ "entry t-" (state.class) } {
            span.number { (number) }
            span.state title=(step.state) { (layout::icon(state.icon)) span { (words.t(state.word)) } }
            div.what {
                span.title { (layout::or_dash(&step.title)) }
                span.sub { code { (step.path) } " · " (step.kind)
                    @if step.attempts > 1 { " · " b { (words.fill("{n} attempts", &[("n", &step.attempts)])) } } }
            }
            div.bars { (gantt(step, detail, span)) }
            span.duration { (duration(words, step, detail)) (median(words, step)) }
            span.bytes title=(bytes_note(words, &step.content)) { (step_bytes(words, &step.content)) }
            @if !step.plan.is_empty() || step.message.is_some() {
                div.more {
                    @if let Some(message) = &step.message { p.message { (layout::prose(message)) } }
                    @if !step.plan.is_empty() { p.plan { span.muted { (words.t("Plan:")) " " } (layout::prose(&step.plan)) } }
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
            @if let Some(median) = step.median_ms {
                @let usual = scaled(median, span, TIMELINE_WIDTH, BAR_WIDTH_MIN).min(TIMELINE_WIDTH - left);
                rect.median x=(left) y="7.5" width=(usual) height="2.5" {}
            }
            rect.fill x=(left) width=(width.min(TIMELINE_WIDTH - left)) height="7" {}
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

fn duration(words: Words, step: &StepRow, detail: &RunDetail) -> String {
    duration_ms(step, detail).map_or_else(|| "—".to_owned(), |took| words.precise(took))
}

/// How long the step usually takes, and of how many runs that is the median.
fn median(words: Words, step: &StepRow) -> Markup {
    html! {
        @if let Some(median) = step.median_ms {
            span.sub title=(words.t("Median of runs that ended")) {
                (words.fill("~ {time} (n {n})", &[("time", &words.precise(median)), ("n", &step.median_runs)]))
            }
        }
    }
}

fn step_bytes(words: Words, content: &ContentBytes) -> Markup {
    let total = content
        .unchanged
        .saturating_add(content.local)
        .saturating_add(content.network);
    html! {
        @if total == 0 {
            span.muted { "—" }
        } @else {
            (words.bytes(total))
            span.sub { (source(words, content)) }
        }
    }
}

/// Where a step's content came from, in a word: all of it from one place, or how much over the network.
fn source(words: Words, content: &ContentBytes) -> String {
    if content.network > 0 {
        return words.fill(
            "{bytes} network",
            &[("bytes", &words.bytes(content.network))],
        );
    }
    let word = if content.local == 0 {
        words.t("disk|source")
    } else if content.unchanged == 0 {
        words.t("library|source")
    } else {
        words.t("disk and library")
    };
    word.to_owned()
}

fn bytes_note(words: Words, content: &ContentBytes) -> String {
    words.fill(
        "{unchanged} unchanged on disk, {local} from the local library, {network} over the network",
        &[
            ("unchanged", &words.bytes(content.unchanged)),
            ("local", &words.bytes(content.local)),
            ("network", &words.bytes(content.network)),
        ],
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
            en("Running"),
            layout::state_icon(DeviceState::Running),
        ),
        "done" => (
            "done",
            en("Done|step"),
            layout::state_icon(DeviceState::Completed),
        ),
        "warning" => ("warning", en("Warning"), layout::WARNING),
        "skipped" => (
            "skipped",
            en("Skipped|step"),
            "M3 4l5 4-5 4ZM9 4l4.500 4L9 12",
        ),
        "failed" => (
            "failed",
            en("Failed"),
            layout::state_icon(DeviceState::Failed),
        ),
        _ => ("waiting", en("Waiting|step"), "M4 8h.1M8 8h.1M12 8h.1"),
    };
    StepState { class, word, icon }
}

/// Which secrets the run was given, when and how often; nothing if none.
fn secrets(words: Words, rows: &[ReleaseRow]) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { span.mono { (row.secret) } }
                td { (super::secrets::whose(words, &row.site)) }
                td { (words.time(row.released_at_ms)) }
                td.number { (words.number(row.answers)) }
            }
        })
        .collect();
    let columns = [
        words.t("Secret"),
        words.t("Value for"),
        words.t("Released"),
        words.t("Given out"),
    ];
    html! {
        @if !rows.is_empty() {
            (draw::block("secrets-title", words.t("Secrets"), words.t("what steps of this run were given"), &draw::table(words.t("Secrets"), &columns, &[3], &lines)))
        }
    }
}

fn log(words: Words, lines: &[LogLine]) -> Markup {
    let skipped = lines.len().saturating_sub(LOG_LINES_MAX);
    html! {
        section.card.log-card aria-labelledby="log-title" {
            div.headline {
                h2 #log-title { (words.t("Log")) }
                span.muted { (words.t("times in UTC")) }
                fieldset.levels {
                    legend.hidden { (words.t("Show")) }
                    input type="radio" name="level" id="level-all" checked; label for="level-all" { (words.t("All|lines")) }
                    input type="radio" name="level" id="level-warning";
                    label for="level-warning" { (words.t("Warnings and errors")) }
                    input type="radio" name="level" id="level-error"; label for="level-error" { (words.t("Errors")) }
                }
            }
            @if skipped > 0 {
                p.muted { (words.fill("The {n} newest lines; {m} older ones are left out.", &[("n", &LOG_LINES_MAX), ("m", &skipped)])) }
            }
            div.log-scroll tabindex="0" role="log" aria-labelledby="log-title" {
                ol.log #log data-after=(lines.last().map_or(0, |line| line.seq)) { (log_lines(words, &lines[skipped..])) }
                @if lines.is_empty() { p.muted #log-empty { (words.t("Nothing yet.")) } }
            }
        }
    }
}

/// Lines of the log, to be put at its end.
#[must_use]
pub fn log_lines(words: Words, lines: &[LogLine]) -> Markup {
    html! {
        @for line in lines {
            @let level = level(&line.level);
            li class={ "line l-" (level) } data-seq=(line.seq) {
                time title=(words.fill("Received {time} UTC", &[("time", &words.moment(line.received_at_ms))])) {
                    (format::time_of_day(line.received_at_ms)) }
                span.level { (words.t(level_word(level))) }
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

fn level_word(level: &str) -> &'static str {
    match level {
        "error" => en("error|level"),
        "warning" => en("warning|level"),
        _ => en("info|level"),
    }
}

/// What the order set.
fn variables(words: Words, variables: &[RunVariable]) -> Markup {
    let rows: Vec<_> = variables
        .iter()
        .map(|variable| {
            html! {
                th scope="row" { span.mono { (variable.name) } }
                td.value {
                    @match &variable.value {
                        Some(value) => { code { (cut(value)) } },
                        None => { span.muted { (words.t("secret, not shown")) } },
                    }
                }
            }
        })
        .collect();
    let columns = [words.t("Variable"), words.t("Value")];
    html! {
        @if !rows.is_empty() {
            details.card.order-variables {
                summary { (words.t("Variables of the order")) " " span.muted { (rows.len()) } }
                (draw::table(words.t("Variables of the order"), &columns, &[], &rows))
            }
        }
    }
}

fn cut(value: &str) -> String {
    let mut shown: String = value.chars().take(VALUE_CHARS_MAX).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}

/// The other runs of the device.
fn other_runs(words: Words, detail: &RunDetail, all: &[RunRow]) -> Markup {
    let others = all.iter().filter(|run| run.run != detail.row.run);
    let rows: Vec<_> = others
        .map(|run| {
            html! {
                th scope="row" { a href={ "/runs/" (run.run) } { (words.time(run.started_at_ms)) } }
                td { (layout::chip(words, run.state)) }
                td { (run.deployment) }
                td { (run.step_number) "/" (run.step_count) " " (run.step_title) }
                td.number { (format::clock(run.elapsed_seconds)) }
                td.number { (words.bytes(run.content.network_packed)) }
            }
        })
        .collect();
    let columns = [
        words.t("Started"),
        words.t("State"),
        words.t("Deployment"),
        words.t("Step"),
        words.t("Took"),
        words.t("Fetched"),
    ];
    html! {
        @if !rows.is_empty() {
            (draw::block("others-title", words.t("Other runs of this machine"), "",
                &draw::table(words.t("Other runs of this machine"), &columns, &[4, 5], &rows)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    const SIGHT: Sight = Sight {
        words: Words::ENGLISH,
        may_operate: true,
    };

    fn drawn(detail: &RunDetail, device: Option<&DeviceRow>) -> Markup {
        run_page(SIGHT, detail, device, &[])
    }

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
        let html = drawn(&detail, Some(&device)).into_string();
        for text in [
            "Failed at step <code>apps/office</code>",
            "because ",
            "libpoppler126",
            "What to do about it",
            "/retry",
            "/rerun",
        ] {
            assert!(html.contains(text), "{text}");
        }
        let (device, detail) = sample_of(DeviceState::Completed);
        let html = drawn(&detail, Some(&device)).into_string();
        assert!(!html.contains("What to do"));
    }

    #[test]
    fn an_order_that_is_refused_is_trouble_of_the_run_that_it_belongs_to() {
        let (mut device, mut detail) = sample_of(DeviceState::Running);
        let deployment = "autumn".to_owned();
        device.said = Some(wire::reasons::MachineReason::RefusedBadWarrant { deployment });
        let html = |device: &DeviceRow, detail: &RunDetail| {
            let page = drawn(detail, Some(device)).into_string();
            page.contains("Order refused") && page.contains("the warrant was altered")
        };
        assert!(html(&device, &detail));
        detail.row.run = wire::names::RunId(uuid::Uuid::nil());
        assert!(!html(&device, &detail), "another run");
    }

    #[test]
    fn a_stopped_run_is_no_failure_and_says_how_it_goes_on() {
        let (device, detail) = sample_of(DeviceState::Stopped);
        let html = drawn(&detail, Some(&device)).into_string();
        assert!(html.contains("nothing went wrong") && html.contains("forestage run retry "));
        assert!(!html.contains("What went wrong") && !html.contains("s-failed"));
    }

    #[test]
    fn no_text_of_a_run_becomes_markup() {
        let device = sample::hostile_device();
        sample::assert_harmless(&drawn(&sample::hostile_detail(), Some(&device)).into_string());
    }

    #[test]
    fn a_run_without_anything_still_has_a_page() {
        let (_, mut detail) = sample_of(DeviceState::Running);
        detail.steps.clear();
        detail.log.clear();
        detail.identity.clear();
        detail.row.content = ContentBytes::default();
        detail.row.elapsed_seconds = 0;
        let html = drawn(&detail, None).into_string();
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
        let html = log(Words::ENGLISH, &lines).into_string();
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
        let html = timeline(Words::ENGLISH, &detail)
            .into_string()
            .replace("<li", "\n<li")
            .replace("<svg", "\n  <svg");
        insta::assert_snapshot!("timeline", html);
    }

    #[test]
    fn buttons_are_for_those_who_may_and_fit_the_state() {
        let buttons = |state, may_operate| {
            let (device, detail) = sample_of(state);
            let sight = Sight {
                may_operate,
                ..SIGHT
            };
            let html = run_page(sight, &detail, Some(&device), &[]).into_string();
            assert_eq!(
                html.contains("data-confirm-type=\"rerun"),
                html.contains("/rerun\"")
            );
            ["/stop", "/retry", "/rerun"].map(|what| html.contains(&format!("{what}\"")))
        };
        assert_eq!(buttons(DeviceState::Running, true), [true, false, false]);
        assert_eq!(buttons(DeviceState::Failed, true), [false, true, true]);
        assert_eq!(buttons(DeviceState::Stopped, true), [false, true, true]);
        assert_eq!(buttons(DeviceState::Completed, true), [false, false, true]);
        assert_eq!(buttons(DeviceState::Failed, false), [false; 3]);
    }

    #[test]
    fn secrets_have_names_only_and_the_median_says_of_what() {
        let (device, detail) = sample_of(DeviceState::Completed);
        let html = drawn(&detail, Some(&device)).into_string();
        assert!(html.contains("admin_password") && html.contains("secret, not shown"));
        assert!(html.contains("the median of ThinkPad L14 Gen 5") && html.contains("(n 40)"));
        let others =
            run_page(SIGHT, &detail, None, std::slice::from_ref(&detail.row)).into_string();
        assert!(!others.contains("Other runs"), "a run is not its own other");
    }

    proptest! {
        #[test]
        fn bars_stay_inside(offset: u64, duration: Option<u64>, elapsed: u64) {
            let (_, mut detail) = sample_of(DeviceState::Running);
            detail.row.elapsed_seconds = elapsed;
            detail.steps[0].offset_ms = Some(offset);
            detail.steps[0].duration_ms = duration;
            let html = gantt(&detail.steps[0], &detail, time_span(&detail)).into_string();
            let html = &html[html.find("class=\"fill\"").unwrap()..];
            let number = |name: &str| -> u64 {
                let start = html.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
                html[start..].split('"').next().unwrap().parse().unwrap()
            };
            prop_assert!(number("width") >= 1);
            prop_assert!(number("x") + number("width") <= TIMELINE_WIDTH);
        }
    }
}
