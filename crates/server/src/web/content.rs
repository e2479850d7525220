//! The content library: what is in it and for whom, whether it is sound, and what nothing needs.

use axum::Form;
use axum::extract::{Extension, State};
use maud::{Markup, html};
use serde_json::json;
use wire::content::{Collected, ContentReport, ContentStats, PackageContent};

use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, layout};
use crate::catalog::upkeep;
use crate::error::Failure;
use crate::people::auth::User;
use crate::people::roles::May;
use crate::state::AppState;

/// What is looked for.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Look {
    /// Damage.
    Verify,
    /// What nothing needs.
    Unneeded,
}

/// The form of the page.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Asked {
    look: Look,
}

/// What came of it.
enum Found {
    Report(ContentReport),
    Unneeded(Collected),
}

/// `GET /content`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
) -> Result<Markup, Failure> {
    draw_page(&visitor, &state, None).await
}

/// `POST /content`: looking takes a while and is audited, so no link does it.
pub(super) async fn look(
    visitor: Visitor,
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Form(asked): Form<Asked>,
) -> Result<Markup, Failure> {
    let found = match asked.look {
        Look::Verify => Found::Report(upkeep::verified(&state, &user).await?),
        Look::Unneeded => {
            if !user.may(May::Administer) {
                return Err(Failure::not_found("such page or route"));
            }
            Found::Unneeded(upkeep::collected(&state, &user, true).await?)
        }
    };
    draw_page(&visitor, &state, Some(&found)).await
}

async fn draw_page(
    visitor: &Visitor,
    state: &AppState,
    found: Option<&Found>,
) -> Result<Markup, Failure> {
    let stats = upkeep::stats(State(state.clone())).await?.0;
    let may_collect = visitor.user.may(May::Administer);
    let content = page(visitor.words, &stats, found, may_collect);
    Ok(visitor.page(visitor.words.t("Content library"), None, &content))
}

fn page(words: Words, stats: &ContentStats, found: Option<&Found>, may_collect: bool) -> Markup {
    let actions = html! {
        form method="post" action="/content" { button name="look" value="verify" { (words.t("Verify all of it")) } }
        @if may_collect {
            form method="post" action="/content" { button name="look" value="unneeded" { (words.t("Look for what nothing needs")) } }
        }
    };
    let about = words.t("what packages are made of, each part stored once");
    html! {
        (draw::head(&[], words.t("Content library"), about, &actions))
        (draw::facts(&[
            (words.t("Parts|chunks"), html! { (words.number(stats.chunks)) }),
            (words.t("Content"), html! { (words.bytes(stats.content_bytes)) }),
            (words.t("Stored"), html! { (words.bytes(stats.stored_bytes)) }),
            (words.t("Packs"), html! { (words.number(stats.packs)) }),
        ]))
        @match found {
            Some(Found::Report(report)) => (draw::block("found-title", words.t("What was found"), "", &reported(words, report))),
            Some(Found::Unneeded(plan)) => (draw::block("found-title", words.t("What was found"), "", &unneeded(words, plan))),
            None => {}
        }
        @if stats.packages.is_empty() {
            p.muted { (words.t("No package is published yet.")) }
        } @else {
            (draw::block("packages-title", words.t("Packages"), &words.number(stats.packages.len() as u64), &packages(words, &stats.packages)))
        }
    }
}

fn reported(words: Words, report: &ContentReport) -> Markup {
    let is_sound = report.damaged.is_empty() && report.packages.is_empty();
    html! {
        @if is_sound {
            p role="status" { (words.fill(en("All {n} parts are right."), &[("n", &words.number(report.chunks))])) " "
                (words.t("Every package has all its parts.")) }
        } @else {
            div.problem role="alert" { (layout::icon(layout::WARNING)) div {
                p { b { (words.fill(en("{n} parts are damaged or lost"), &[("n", &words.number(lost(report)))])) } }
                p { (layout::prose(words.t("Import the package again, or repair the library from a copy: `forestage content repair`."))) }
            } }
            @if !report.packages.is_empty() { (packages(words, &report.packages)) }
        }
    }
}

/// Damaged parts of no package count as well.
fn lost(report: &ContentReport) -> u64 {
    let all: std::collections::BTreeSet<_> = report
        .packages
        .iter()
        .flat_map(|package| &package.lost)
        .chain(&report.damaged)
        .collect();
    all.len() as u64
}

fn unneeded(words: Words, plan: &Collected) -> Markup {
    let (chunks, bytes) = (words.number(plan.chunks), words.bytes(plan.freed_bytes));
    html! {
        @if plan.chunks == 0 && plan.manifests.is_empty() {
            p role="status" { (words.t("Nothing can be removed: every part is needed.")) }
        } @else {
            p role="status" { (words.fill(en("{n} parts are needed by nothing: {bytes} would be free."), &[("n", &chunks), ("bytes", &bytes)])) }
            div.buttons {
                button.danger type="button" data-api="POST /api/v1/content/gc" data-body=(json!({ "dry-run": false }))
                    data-then="/content" data-done=(words.t("Removed."))
                    data-confirm=(words.fill(en("Remove {n} parts that nothing needs?"), &[("n", &chunks)])) { (words.t("Remove them")) }
            }
        }
    }
}

fn packages(words: Words, packages: &[PackageContent]) -> Markup {
    let rows: Vec<Markup> = packages
        .iter()
        .map(|package| {
            html! {
                th scope="row" { a href={ "/packages/" (package.name) } { (package.name) } }
                td { span.mono { (package.version) } }
                td.number { (words.number(package.chunks)) }
                td.number { (words.bytes(package.content_bytes)) }
                td {
                    @if package.is_manifest_lost { "⚠ " (words.t("its list of parts is lost")) }
                    @else if package.lost.is_empty() { "—" }
                    @else { "⚠ " (words.number(package.lost.len() as u64)) }
                }
            }
        })
        .collect();
    let columns = [
        words.t("Package"),
        words.t("Version"),
        words.t("Parts|chunks"),
        words.t("Content"),
        words.t("Lost"),
    ];
    draw::table(words.t("Packages"), &columns, &[2, 3], &rows)
}

#[cfg(test)]
mod tests {
    use wire::digest::Digest;

    use super::*;

    fn package(lost: &[&str]) -> PackageContent {
        PackageContent {
            name: "tiny-os".parse().unwrap(),
            version: "1".parse().unwrap(),
            manifest: Digest::of(b"manifest"),
            chunks: 4,
            content_bytes: 1 << 20,
            lost: lost
                .iter()
                .map(|text| Digest::of(text.as_bytes()))
                .collect(),
            is_manifest_lost: false,
        }
    }

    fn drawn(found: Option<&Found>, may_collect: bool) -> String {
        let stats = ContentStats {
            packs: 1,
            chunks: 4,
            content_bytes: 1 << 20,
            stored_bytes: 1 << 10,
            manifests: 1,
            packages: vec![package(&[])],
        };
        page(Words::ENGLISH, &stats, found, may_collect).into_string()
    }

    #[test]
    fn damage_is_counted_once_and_says_what_to_do() {
        let report = ContentReport {
            chunks: 3,
            bytes: 1,
            damaged: vec![Digest::of(b"a"), Digest::of(b"of no package")],
            packages: vec![package(&["a", "b"])],
        };
        let html = drawn(Some(&Found::Report(report)), false);
        assert!(html.contains("3 parts are damaged or lost"), "{html}");
        assert!(html.contains("forestage content repair"));
        let sound = ContentReport {
            chunks: 4,
            bytes: 1,
            damaged: Vec::new(),
            packages: Vec::new(),
        };
        assert!(drawn(Some(&Found::Report(sound)), false).contains("All 4 parts are right."));
    }

    #[test]
    fn only_who_may_collect_is_offered_it_and_only_where_there_is_something() {
        let plan = |chunks| {
            Found::Unneeded(Collected {
                dry_run: true,
                manifests: Vec::new(),
                chunks,
                packs_removed: 0,
                packs_rewritten: 0,
                freed_bytes: 10,
            })
        };
        assert!(!drawn(None, false).contains("unneeded"));
        assert!(drawn(None, true).contains("unneeded"));
        assert!(drawn(Some(&plan(7)), true).contains("/api/v1/content/gc"));
        assert!(!drawn(Some(&plan(0)), true).contains("/api/v1/content/gc"));
    }
}
