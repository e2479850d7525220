//! The page of one task sequence: its steps, its text with the findings, its versions, and what changed between two.

use axum::extract::{Path, Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use wire::admin_api::{Finding, SequenceRow, Severity};
use wire::names::SequenceName;
use wire::sequence::{CompiledSequence, CompiledStep};

use super::text_diff::{Line, diff};
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, layout};
use crate::error::Failure;
use crate::people::roles::May;
use crate::routes::parse;
use crate::state::AppState;

/// Which version is shown, and which one it is compared with.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Shown {
    version: Option<u32>,
    from: Option<u32>,
}

/// One version of a sequence.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its number.
    pub number: u32,
    /// Its text.
    pub text: String,
    /// What the text was compiled into.
    pub compiled: CompiledSequence,
}

/// `GET /sequences/{name}`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(shown): Query<Shown>,
) -> Result<Markup, Failure> {
    let name: SequenceName = parse(&name)?;
    let rows = state.sequence_versions(&name).await?;
    let missing = || Failure::not_found(format!("sequence {name}"));
    let latest = rows.first().ok_or_else(missing)?.version;
    let version = read(&state, &name, shown.version.unwrap_or(latest)).await?;
    let from = match shown.from {
        Some(from) => Some(read(&state, &name, from).await?),
        None => None,
    };
    let may_publish = visitor.user.may(May::Publish);
    let content = page(visitor.words, &rows, &version, from.as_ref(), may_publish);
    Ok(visitor.page(name.as_str(), None, &content))
}

/// What a new sequence begins as, if it isn't a copy: it can be stored and run as it stands.
const EXAMPLE: &str = include_str!("../../../../examples/sequences/training-laptop.yaml");

/// What a new sequence begins as.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Begins {
    /// The sequence that it is a copy of; empty for the example.
    from: String,
}

/// `GET /sequences/new`
pub(super) async fn show_new(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(begins): Query<Begins>,
) -> Result<Markup, Failure> {
    let rows = state.sequences().await?;
    let text = match rows.iter().find(|row| row.name.as_str() == begins.from) {
        Some(row) => read(&state, &row.name, row.version).await?.text,
        None if begins.from.is_empty() => EXAMPLE.to_owned(),
        None => return Err(Failure::not_found(format!("sequence {}", begins.from))),
    };
    let content = new_page(visitor.words, &rows, &begins.from, &text);
    Ok(visitor.page(visitor.words.t("New sequence"), None, &content))
}

async fn read(state: &AppState, name: &SequenceName, number: u32) -> Result<Version, Failure> {
    let found = state.sequence_version(name, number).await?;
    let (text, compiled) =
        found.ok_or_else(|| Failure::not_found(format!("version {number} of sequence {name}")))?;
    Ok(Version {
        number,
        text,
        compiled,
    })
}

/// The content of the page; `rows` are all versions, newest first.
#[must_use]
pub fn page(
    words: Words,
    rows: &[SequenceRow],
    version: &Version,
    from: Option<&Version>,
    may_publish: bool,
) -> Markup {
    let name = &version.compiled.name;
    let row = rows.iter().find(|row| row.version == version.number);
    let findings = row.map(|row| row.findings.as_slice()).unwrap_or_default();
    let number = words.fill("version {n}", &[("n", &version.number)]);
    let crumbs = [("/sequences", words.t("Task sequences"))];
    html! {
        (draw::head(&crumbs, name.as_str(), &number, &html! {
            @if may_publish { a.button href={ "/sequences/new?from=" (name) } { (words.t("Copy as a new sequence")) } }
        }))
        @if let Some(from) = from { (changes(words, from, version)) }
        (steps(words, &version.compiled.steps))
        (found(words, findings))
        (source(words, version, may_publish && rows.first().is_some_and(|row| row.version == version.number)))
        (versions(words, rows, version.number))
    }
}

fn steps(words: Words, steps: &[CompiledStep]) -> Markup {
    let rows: Vec<_> = steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            html! {
                td.number { (index + 1) }
                th scope="row" { (layout::or_dash(&step.title)) }
                td { code { (step.path) } }
                td { (step.kind) }
                td.value {
                    @if step.when.is_empty() { span.muted { (words.t("always")) } }
                    @for (index, condition) in step.when.iter().enumerate() {
                        @if index > 0 { br; } code { (condition) }
                    }
                }
            }
        })
        .collect();
    let columns = [
        words.t("No."),
        words.t("Step"),
        words.t("Id"),
        words.t("Kind"),
        words.t("When"),
    ];
    let table = draw::table(words.t("Steps"), &columns, &[0], &rows);
    draw::block(
        "steps-title",
        words.t("Steps"),
        &words.number(steps.len() as u64),
        &table,
    )
}

fn found(words: Words, findings: &[Finding]) -> Markup {
    let content = html! {
        @if findings.is_empty() {
            p.muted { (words.t("The check finds nothing to complain about.")) }
        } @else {
            ul.findings { @for finding in findings { (one_finding(words, finding)) } }
        }
    };
    draw::block(
        "findings-title",
        words.t("What the check says"),
        "",
        &content,
    )
}

fn one_finding(words: Words, finding: &Finding) -> Markup {
    let (class, word) = match finding.severity {
        Severity::Warning => ("warning", en("Warning")),
        Severity::Error => ("error", en("Error")),
    };
    html! {
        li class={ "finding " (class) } {
            (layout::icon(layout::WARNING)) b { (words.t(word)) } " " code { (finding.code) } " "
            @if finding.line > 0 {
                a href={ "#line-" (finding.line) } { (words.fill("line {n}", &[("n", &finding.line)])) } ": "
            }
            (layout::prose(&finding.message))
            @if let Some(hint) = &finding.hint { span.sub { (layout::prose(hint)) } }
        }
    }
}

fn source(words: Words, version: &Version, may_edit: bool) -> Markup {
    let name = &version.compiled.name;
    let content = html! {
        div.source tabindex="0" role="group" aria-label=(words.t("Text")) {
            ol {
                @for (index, line) in version.text.lines().enumerate() {
                    li id={ "line-" (index + 1) } { code { (line) } }
                }
            }
        }
        @if may_edit {
            details.edit {
                summary { (words.t("Change it")) }
                form.stacked data-api={ "PUT /api/v1/sequences/" (name) } data-lint="/api/v1/sequences/lint"
                    data-done=(words.t("Saved as a new version")) data-then={ "/sequences/" (name) } {
                    input type="hidden" name="after" data-query value=(version.number);
                    (editor(words, &version.text))
                }
            }
        }
    };
    draw::block("source-title", words.t("Text"), "", &content)
}

/// The text in a form, what the check says of it, and the button that saves it.
fn editor(words: Words, text: &str) -> Markup {
    let lines = text.lines().count().clamp(10, 60);
    html! {
        label for="document" { (words.t("Text")) }
        textarea.code #document data-body rows=(lines) spellcheck="false" autocomplete="off" { (text) }
        p { b { (words.t("What the check says")) } }
        div role="status" {
            ul.findings #lint data-good=(words.t("The check finds nothing to complain about.")) {}
        }
        div.buttons { button.primary type="submit" { (words.t("Save")) } }
    }
}

/// A sequence that isn't there yet.
fn new_page(words: Words, rows: &[SequenceRow], from: &str, text: &str) -> Markup {
    html! {
        (draw::head(&[("/sequences", words.t("Task sequences"))], words.t("New sequence"), "", &html! {}))
        @if !rows.is_empty() {
            form.filters method="get" action="/sequences/new" {
                label { (words.t("Begin with")) " "
                    select name="from" {
                        option value="" { (words.t("an example")) }
                        @for row in rows { option value=(row.name) selected[row.name.as_str() == from] { (words.fill("a copy of {name}", &[("name", &row.name)])) } }
                    }
                }
                button type="submit" { (words.t("Show")) }
            }
        }
        form.stacked.card.sequence-form data-api="PUT /api/v1/sequences/{name}" data-lint="/api/v1/sequences/lint"
            data-done=(words.t("The sequence is saved.")) data-then="/sequences/{name}" {
            input type="hidden" name="after" data-query value="0";
            label for="name" { (words.t("Name")) }
            input #name name="name" required maxlength="63" placeholder="pupil-laptop" autocomplete="off" spellcheck="false";
            p.note.muted { (words.t("Small letters, digits and - _ . +. It stands in the text, too, and is changed there with it.")) }
            (editor(words, text))
        }
    }
}

fn versions(words: Words, rows: &[SequenceRow], shown: u32) -> Markup {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let address = format!("/sequences/{}?version={}", row.name, row.version);
            let earlier = row.version.saturating_sub(1);
            html! {
                th scope="row" {
                    a href=(address) aria-current=[(row.version == shown).then_some("true")] { (row.version) }
                }
                td { (words.time(row.updated_at_ms)) }
                td.number { (row.steps) }
                td.number { (row.findings.len()) }
                td {
                    @if earlier > 0 {
                        a href={ (address) "&from=" (earlier) } {
                            (words.fill("What changed since version {n}", &[("n", &earlier)]))
                        }
                    }
                }
            }
        })
        .collect();
    let columns = [
        words.t("Version"),
        words.t("Accepted"),
        words.t("Steps"),
        words.t("Warnings"),
        words.t("Changes"),
    ];
    let table = draw::table(words.t("Versions"), &columns, &[2, 3], &rows);
    draw::block("versions-title", words.t("Versions"), "", &table)
}

fn changes(words: Words, from: &Version, to: &Version) -> Markup {
    let lines = diff(&from.text, &to.text);
    let title = words.fill(
        "From version {from} to version {to}",
        &[("from", &from.number), ("to", &to.number)],
    );
    let content = html! {
        @if from.text == to.text {
            p.muted { (words.t("Both texts are the same.")) }
        } @else {
            div.source.diff tabindex="0" role="group" aria-label=(title) {
                ol {
                    @for line in lines {
                        @match line {
                            Line::Same(text) => li { code { "  " (text) } },
                            Line::Removed(text) => li.removed { del { code { "- " (text) } } },
                            Line::Added(text) => li.added { ins { code { "+ " (text) } } },
                        }
                    }
                }
            }
        }
    };
    draw::block("changes-title", &title, "", &content)
}
