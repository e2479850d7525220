//! The page of one package: its versions, and where it is used.

use axum::extract::{Path, State};
use maud::{Markup, html};
use serde_json::Value;
use wire::admin_api::{Deployment, PackageRow, PrestageVersion};
use wire::names::{PackageName, SequenceName, StepPath};

use super::draw;
use super::visitor::Visitor;
use super::words::{Words, en};
use crate::catalog::packages;
use crate::error::Failure;
use crate::routes::parse;
use crate::state::AppState;

/// Where a package is used.
#[derive(Debug, Clone, Default)]
pub struct Uses {
    /// Steps of the latest versions of sequences that name it.
    pub steps: Vec<(SequenceName, StepPath)>,
    /// The latest version of each prestage that carries it.
    pub prestages: Vec<PrestageVersion>,
    /// Deployments of those sequences.
    pub deployments: Vec<Deployment>,
}

/// `GET /packages/{name}`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Markup, Failure> {
    let name: PackageName = parse(&name)?;
    let mut rows = packages::list(State(state.clone())).await?.0;
    rows.retain(|row| row.package.name == name);
    if rows.is_empty() {
        return Err(Failure::not_found(format!("package {name}")));
    }
    let uses = uses(&state, &visitor, &name).await?;
    let content = page(visitor.words, &name, &rows, &uses);
    Ok(visitor.page(name.as_str(), None, &content))
}

async fn uses(state: &AppState, visitor: &Visitor, name: &PackageName) -> Result<Uses, Failure> {
    let mut uses = Uses::default();
    for row in state.sequences().await? {
        let Some((_, compiled)) = state.sequence_version(&row.name, row.version).await? else {
            continue;
        };
        let steps = compiled.steps.into_iter();
        let naming = steps.filter(|step| names(&step.with, name.as_str()));
        uses.steps
            .extend(naming.map(|step| (row.name.clone(), step.path)));
    }
    let mut prestages = state.prestages().await?;
    prestages.retain(|version| visitor.user.has_prestage(&version.prestage));
    // Newest first: the first of a name is its latest version.
    prestages.dedup_by(|later, first| later.prestage == first.prestage);
    prestages.retain(|version| version.plan.kept.iter().any(|item| item.name == *name));
    uses.prestages = prestages;
    uses.deployments = state.deployments().await?;
    uses.deployments.retain(|deployment| {
        let mut sequences = uses.steps.iter();
        sequences.any(|(sequence, _)| *sequence == deployment.sequence)
    });
    Ok(uses)
}

/// Whether a value of a step is this name, or holds it.
fn names(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Array(values) => values.iter().any(|value| names(value, name)),
        Value::Object(values) => values.values().any(|value| names(value, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The content of the page.
#[must_use]
pub fn page(words: Words, name: &PackageName, rows: &[PackageRow], uses: &Uses) -> Markup {
    let title = rows.first().map_or("", |row| row.package.title.as_str());
    let crumbs = [("/packages", words.t("Packages"))];
    html! {
        (draw::head(&crumbs, name.as_str(), title, &html! {}))
        (version_rows(words, rows))
        (used(words, uses))
    }
}

fn version_rows(words: Words, rows: &[PackageRow]) -> Markup {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" {
                    span.mono { (row.package.version) } @if row.current { span.tag { (words.t("current")) } }
                }
                td { (row.package.kind) }
                td.number { (words.bytes(row.package.content_bytes)) }
                td { span.mono title=(row.package.manifest) { (row.package.manifest.short()) } }
                td { (words.time(row.published_at_ms)) }
            }
        })
        .collect();
    let columns = [
        en("Version"),
        en("Kind"),
        en("Content"),
        en("Digest"),
        en("Published"),
    ]
    .map(|column| words.t(column));
    let table = draw::table(words.t("Versions"), &columns, &[2], &rows);
    draw::block("versions-title", words.t("Versions"), "", &table)
}

fn used(words: Words, uses: &Uses) -> Markup {
    let is_used = !(uses.steps.is_empty() && uses.prestages.is_empty());
    let content = html! {
        @if !is_used { p.muted { (words.t("Nothing names it: no step, no prestage.")) } }
        @if !uses.steps.is_empty() {
            h3 { (words.t("Steps that name it")) }
            ul.evidence {
                @for (sequence, step) in &uses.steps {
                    li { a href={ "/sequences/" (sequence) } { (sequence) } " · " code { (step) } }
                }
            }
        }
        @if !uses.prestages.is_empty() {
            h3 { (words.t("Prestages that carry it")) }
            ul.evidence {
                @for version in &uses.prestages {
                    li { a href={ "/prestages/" (version.prestage) } { (version.prestage) } "@" (version.version) }
                }
            }
        }
        @if !uses.deployments.is_empty() {
            h3 { (words.t("Deployments of those task sequences")) }
            ul.evidence { @for deployment in &uses.deployments { li { (deployment.name) " → " (deployment.collection) } } }
        }
    };
    draw::block("used-title", words.t("Where it is used"), "", &content)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_names_a_package_at_any_depth_and_only_whole() {
        let with = json!({ "packages": ["vim", { "name": "java-17" }], "n": 1 });
        assert!(names(&with, "vim") && names(&with, "java-17"));
        assert!(!names(&with, "java") && !names(&with, "packages"));
    }
}
