//! The page of one package: its versions, and where it is used.

use axum::extract::{Path, State};
use maud::{Markup, html};
use wire::admin_api::{PackageRow, PackageUses};
use wire::names::PackageName;

use super::draw;
use super::visitor::Visitor;
use super::words::{Words, en};
use crate::catalog::packages;
use crate::error::Failure;
use crate::routes::parse;
use crate::state::AppState;

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
    let uses = packages::uses(&state, &visitor.user, &name).await?;
    let content = page(visitor.words, &name, &rows, &uses);
    Ok(visitor.page(name.as_str(), None, &content))
}

/// The content of the page.
#[must_use]
pub fn page(words: Words, name: &PackageName, rows: &[PackageRow], uses: &PackageUses) -> Markup {
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

fn used(words: Words, uses: &PackageUses) -> Markup {
    let is_used = !(uses.steps.is_empty() && uses.prestages.is_empty());
    let content = html! {
        @if !is_used { p.muted { (words.t("Nothing names it: no step, no prestage.")) } }
        @if !uses.steps.is_empty() {
            h3 { (words.t("Steps that name it")) }
            ul.evidence {
                @for used in &uses.steps {
                    li { a href={ "/sequences/" (used.sequence) } { (used.sequence) } " · " code { (used.step) } }
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
