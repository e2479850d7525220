//! The page of one prestage: its versions, what devices that carry one will fetch, and what a bundle holds and why.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use maud::{Markup, html};
use wire::admin_api::{PlanItem, PrestageVersion};
use wire::drift::{PrestageDiff, PrestageDrift};
use wire::names::PrestageName;

use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, layout};
use crate::catalog::drift::{self, Pair, Wanted};
use crate::error::Failure;
use crate::people::roles::May;
use crate::routes::parse;
use crate::state::AppState;

/// Which versions are compared.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Compared {
    from: Option<u32>,
    to: Option<u32>,
}

/// `GET /prestages/{name}`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(compared): Query<Compared>,
) -> Result<Markup, Failure> {
    let name: PrestageName = parse(&name)?;
    let missing = || Failure::not_found(format!("version of prestage {name}"));
    if !visitor.user.has_prestage(&name) {
        return Err(missing());
    }
    let mut versions = state.prestages().await?;
    versions.retain(|version| version.prestage == name);
    if versions.is_empty() {
        return Err(missing());
    }
    let drift = if visitor.user.may(May::View) {
        let wanted = Query(Wanted { version: None });
        let user = Extension(visitor.user.clone());
        let drift = drift::drift(State(state.clone()), user, Path(name.to_string()), wanted).await;
        match drift {
            Ok(Json(drift)) => Some(drift),
            // Nothing of it can be run by now, such as a sequence that is gone; whatever else fails is told.
            Err(failure) if failure.api_error().0.is_client_error() => None,
            Err(failure) => return Err(failure),
        }
    } else {
        None
    };
    let diff = match (compared.from, compared.to) {
        (Some(from), Some(to)) if visitor.user.may(May::View) => {
            let (from, to) = (format!("{name}@{from}"), format!("{name}@{to}"));
            let Json(diff) = drift::diff(State(state), Query(Pair { from, to })).await?;
            Some(diff)
        }
        _ => None,
    };
    let may_build = visitor.user.may(May::Publish);
    let content = page(
        visitor.words,
        &name,
        &versions,
        drift.as_ref(),
        diff.as_ref(),
        may_build,
    );
    Ok(visitor.page(name.as_str(), None, &content))
}

/// The content of the page; `versions` are newest first.
#[must_use]
pub fn page(
    words: Words,
    name: &PrestageName,
    versions: &[PrestageVersion],
    drift: Option<&PrestageDrift>,
    diff: Option<&PrestageDiff>,
    may_build: bool,
) -> Markup {
    let build = html! {
        @if may_build {
            button.primary type="button" data-api={ "POST /api/v1/prestages/" (name) "/build" }
                data-done=(words.t("The next version is built.")) { (words.t("Build the next version")) }
        }
    };
    let model = versions.first().map(|version| version.model.to_string());
    let crumbs = [("/prestages", words.t("Prestages"))];
    html! {
        (draw::head(&crumbs, name.as_str(), &model.unwrap_or_default(), &build))
        @if let Some(diff) = diff { (difference(words, diff)) }
        (version_rows(words, versions, drift))
        @if let Some(latest) = versions.first() {
            (items(words, "kept-title", words.t("What the latest version carries"), &latest.plan.kept))
            (items(words, "omitted-title", words.t("What it leaves out"), &latest.plan.omitted))
        }
    }
}

fn version_rows(
    words: Words,
    versions: &[PrestageVersion],
    drift: Option<&PrestageDrift>,
) -> Markup {
    let rows: Vec<_> = versions
        .iter()
        .map(|version| {
            let drift = drift.and_then(|drift| {
                let mut all = drift.versions.iter();
                all.find(|drift| drift.version == version.version)
            });
            let earlier = version.version.saturating_sub(1);
            html! {
                th scope="row" { (version.prestage) "@" (version.version) }
                td { (words.time(version.built_at_ms)) }
                td.number { (version.plan.kept.len()) }
                td.number { (words.bytes(version.content_bytes)) }
                td.number { (words.bytes(version.bundle_bytes)) }
                td { span.mono title=(version.bundle) { (version.bundle.short()) } }
                @match drift {
                    Some(drift) => {
                        td.number { (words.number(drift.devices.into())) }
                        td.number { (words.bytes(drift.fetch_bytes)) }
                    }
                    None => { td.number { "—" } td.number { "—" } }
                }
                td {
                    @if earlier > 0 {
                        a href={ "/prestages/" (version.prestage) "?from=" (earlier) "&to=" (version.version) } {
                            (words.fill("What changed since version {n}", &[("n", &earlier)]))
                        }
                    }
                }
            }
        })
        .collect();
    let columns = [
        en("Version"),
        en("Built"),
        en("Packages"),
        en("Content"),
        en("Bundle"),
        en("Digest"),
        en("Devices that carry it"),
        en("Each fetches today"),
        en("Changes"),
    ]
    .map(|column| words.t(column));
    let table = draw::table(words.t("Versions"), &columns, &[2, 3, 4, 6, 7], &rows);
    draw::block("versions-title", words.t("Versions"), "", &table)
}

fn items(words: Words, id: &str, title: &str, items: &[PlanItem]) -> Markup {
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            html! {
                th scope="row" { a href={ "/packages/" (item.name) } { (item.name) } }
                td { span.mono { (item.version) } }
                td { (item.kind) }
                td.number { (words.bytes(item.content_bytes)) }
                td.value { (layout::prose(&item.reason)) }
            }
        })
        .collect();
    let columns = [
        en("Package"),
        en("Version"),
        en("Kind"),
        en("Content"),
        en("Why"),
    ]
    .map(|column| words.t(column));
    let content = if rows.is_empty() {
        html! { p.muted { (words.t("nothing")) } }
    } else {
        draw::table(title, &columns, &[3], &rows)
    };
    draw::block(id, title, &words.number(items.len() as u64), &content)
}

fn difference(words: Words, diff: &PrestageDiff) -> Markup {
    let title = words.fill(
        "From version {from} to version {to}",
        &[("from", &diff.from.version), ("to", &diff.to.version)],
    );
    let rows: Vec<_> = diff
        .packages
        .iter()
        .map(|package| {
            let side = |version: &Option<wire::names::PackageVersion>| match version {
                Some(version) => html! { span.mono { (version) } },
                None => html! { "—" },
            };
            html! {
                th scope="row" { (package.name) }
                td { (package.kind) }
                td { (side(&package.from)) }
                td { (side(&package.to)) }
                td.number { (words.bytes(package.fetch_bytes)) }
            }
        })
        .collect();
    let columns = [
        en("Package"),
        en("Kind"),
        en("Before"),
        en("After"),
        en("To fetch"),
    ]
    .map(|column| words.t(column));
    let content = html! {
        @if rows.is_empty() {
            p.muted { (words.t("Both carry the same packages.")) }
        } @else {
            (draw::table(&title, &columns, &[4], &rows))
        }
        @for step in diff.steps.iter().flatten() {
            p { code { (step.path) } " " (step.title) ": " (step.change)
                @for detail in &step.details { span.sub { (detail) } } }
        }
    };
    draw::block("changes-title", &title, "", &content)
}
