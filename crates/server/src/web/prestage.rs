//! The page of one prestage: its versions, what devices that carry one will fetch, and what a bundle holds and why.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use maud::{Markup, html};
use wire::admin_api::{PlanItem, PrestageDefinition, PrestagePlan, PrestageVersion};
use wire::device_api::ApiError;
use wire::drift::{PrestageDiff, PrestageDrift};
use wire::names::{PackageName, PrestageName, SequenceName};

use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, layout};
use crate::catalog::drift::{self, Pair, Wanted};
use crate::catalog::prestages;
use crate::error::Failure;
use crate::limits::TITLE_CHARS_MAX;
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
    let mut defined = prestages::defined(&state).await?.into_iter();
    let definition = defined.find(|(defined, _)| *defined == name);
    if versions.is_empty() && definition.is_none() {
        return Err(missing());
    }
    let today = match &definition {
        Some((_, definition)) if visitor.user.may(May::View) => {
            let plan = match prestages::draft(&state, &name).await {
                Ok(draft) => Ok(draft.plan),
                Err(Failure::Refused { error, .. }) => Err(error),
                Err(other) => return Err(other),
            };
            Some((definition, plan))
        }
        _ => None,
    };
    let drift = if visitor.user.may(May::View) && !versions.is_empty() {
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
    let shown = Shown {
        name: &name,
        versions: &versions,
        today: today.as_ref().map(|(definition, plan)| (*definition, plan)),
        drift: drift.as_ref(),
        diff: diff.as_ref(),
        may_build: visitor.user.may(May::Publish),
    };
    let content = page(visitor.words, &shown);
    Ok(visitor.page(name.as_str(), None, &content))
}

/// What the page shows.
pub struct Shown<'s> {
    /// The prestage.
    pub name: &'s PrestageName,
    /// Its versions, newest first.
    pub versions: &'s [PrestageVersion],
    /// How it is defined, and what would be built today or why nothing can be; nothing for those who may not see it.
    pub today: Option<(&'s PrestageDefinition, &'s Result<PrestagePlan, ApiError>)>,
    /// What devices that carry one will fetch.
    pub drift: Option<&'s PrestageDrift>,
    /// What changed between two versions.
    pub diff: Option<&'s PrestageDiff>,
    /// Whether the visitor may define and build it.
    pub may_build: bool,
}

/// The content of the page.
#[must_use]
pub fn page(words: Words, shown: &Shown<'_>) -> Markup {
    let name = shown.name;
    let is_buildable = shown.today.is_some_and(|(_, plan)| plan.is_ok());
    let build = html! {
        @if shown.may_build && is_buildable {
            button.primary type="button" data-api={ "POST /api/v1/prestages/" (name) "/build" }
                data-done=(words.t("The next version is built.")) { (words.t("Build the next version")) }
        }
    };
    let built = shown
        .versions
        .first()
        .map(|version| version.model.to_string());
    let defined = shown
        .today
        .map(|(definition, _)| definition.model.to_string());
    let crumbs = [("/prestages", words.t("Prestages"))];
    html! {
        (draw::head(&crumbs, name.as_str(), &defined.or(built).unwrap_or_default(), &build))
        @if let Some(diff) = shown.diff { (difference(words, diff)) }
        @if shown.may_build && let Some(latest) = shown.versions.first() {
            (super::keys::to_do(words, name.as_str(), latest.version, &latest.signed))
        }
        @if shown.versions.is_empty() { p.muted { (words.t("No version is built yet.")) } }
        @else { (version_rows(words, shown.versions, shown.drift)) }
        @if let Some((definition, plan)) = shown.today { (today(words, shown, definition, plan)) }
        @if let Some(latest) = shown.versions.first() {
            (items(words, "kept-title", words.t("What the latest version carries"), &latest.plan.kept))
            (items(words, "omitted-title", words.t("What it leaves out"), &latest.plan.omitted))
        }
    }
}

/// How it is defined, and what would be built today.
fn today(
    words: Words,
    shown: &Shown<'_>,
    definition: &PrestageDefinition,
    plan: &Result<PrestagePlan, ApiError>,
) -> Markup {
    let sequence = |name: &SequenceName| html! { a href={ "/sequences/" (name) } { (name) } };
    let names = |names: &[PackageName]| {
        let names: Vec<&str> = names.iter().map(PackageName::as_str).collect();
        html! { (layout::or_dash(&names.join(", "))) }
    };
    let facts = [
        (words.t("Task sequence"), sequence(&definition.sequence)),
        (
            words.t("Factory sequence"),
            match &definition.stage {
                Some(stage) => sequence(stage),
                None => html! { span.muted { (words.t("derived from the task sequence")) } },
            },
        ),
        (words.t("Carried besides"), names(&definition.extra)),
        (words.t("Left out"), names(&definition.omit)),
    ];
    let content = html! {
        (draw::facts(&facts))
        @if shown.may_build {
            details.edit { summary { (words.t("Change the definition")) } (form(words, Some((shown.name, definition)))) }
        }
    };
    html! {
        (draw::block("definition-title", words.t("Definition"), "", &content))
        @match plan {
            Ok(plan) => {
                (items(words, "plan-title", words.t("What a version that is built today would carry"), &plan.kept))
                (items(words, "plan-omitted-title", words.t("What it would leave out"), &plan.omitted))
            }
            Err(error) => div.problem role="alert" { (layout::icon(layout::WARNING)) div {
                p { b { (words.t("Nothing can be built today:")) } }
                (layout::refusal(words, error))
            } },
        }
    }
}

/// The form that defines a prestage, or changes one.
pub(super) fn form(words: Words, known: Option<(&PrestageName, &PrestageDefinition)>) -> Markup {
    let definition = known.map(|(_, definition)| definition);
    let text = |field: fn(&PrestageDefinition) -> String| definition.map(field).unwrap_or_default();
    let lines = |names: &[PackageName]| {
        let names: Vec<&str> = names.iter().map(PackageName::as_str).collect();
        names.join("\n")
    };
    let then = match known {
        Some((name, _)) => format!("/prestages/{name}"),
        None => "/prestages".to_owned(),
    };
    html! {
        form.stacked.card data-api="PUT /api/v1/prestages/{name}" data-then=(then) data-done=(words.t("Stored.")) {
            @match known {
                Some((name, _)) => input type="hidden" name="name" value=(name);,
                None => {
                    label for="name" { (words.t("Name")) }
                    input #name name="name" required autocomplete="off" spellcheck="false" placeholder="book-14";
                }
            }
            label for="sequence" { (words.t("Task sequence")) }
            input #sequence name="sequence" required value=(text(|d| d.sequence.to_string())) autocomplete="off" spellcheck="false";
            label for="stage" { (words.t("Factory sequence; empty: derived from the task sequence")) }
            input #stage name="stage" value=(text(|d| d.stage.as_ref().map(ToString::to_string).unwrap_or_default()))
                autocomplete="off" spellcheck="false";
            label for="vendor" { (words.t("Vendor, as the firmware says it")) }
            input #vendor name="model.vendor" required value=(text(|d| d.model.vendor.clone())) maxlength=(TITLE_CHARS_MAX) autocomplete="off";
            label for="product" { (words.t("Product, as the firmware says it")) }
            input #product name="model.product" required value=(text(|d| d.model.product.clone())) maxlength=(TITLE_CHARS_MAX) autocomplete="off";
            label for="sku" { (words.t("Article number (SKU)")) }
            input #sku name="model.sku" value=(text(|d| d.model.sku.clone())) maxlength=(TITLE_CHARS_MAX) autocomplete="off";
            label for="baseboard" { (words.t("Mainboard")) }
            input #baseboard name="model.baseboard" value=(text(|d| d.model.baseboard.clone())) maxlength=(TITLE_CHARS_MAX) autocomplete="off";
            label for="extra" { (words.t("Packages to carry although no step asks for them, one a line")) }
            textarea #extra name="extra" rows="2" data-type="lines" data-empty="send" spellcheck="false" {
                (definition.map(|d| lines(&d.extra)).unwrap_or_default())
            }
            label for="omit" { (words.t("Packages to leave out although a step may ask for them, one a line")) }
            textarea #omit name="omit" rows="2" data-type="lines" data-empty="send" spellcheck="false" {
                (definition.map(|d| lines(&d.omit)).unwrap_or_default())
            }
            div.buttons { button.primary { (words.t("Store")) } }
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
                td { (super::keys::signed(words, &version.signed)) }
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
        en("Signed by"),
        en("Devices that carry it"),
        en("Each fetches today"),
        en("Changes"),
    ]
    .map(|column| words.t(column));
    let table = draw::table(words.t("Versions"), &columns, &[2, 3, 4, 7, 8], &rows);
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
                td.value { @match &item.said {
                    Some(why) => (layout::prose(&words.say(why))),
                    // It was built before reasons had codes.
                    None => (layout::prose(&item.reason)),
                } }
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

#[cfg(test)]
mod tests {
    use wire::package::Model;

    use super::super::sample::{self, HOSTILE};
    use super::*;

    fn drawn(plan: &Result<PrestagePlan, ApiError>, may_build: bool) -> String {
        let name: PrestageName = "book".parse().unwrap();
        let definition = PrestageDefinition {
            sequence: "deploy".parse().unwrap(),
            stage: None,
            model: Model {
                vendor: HOSTILE.into(),
                product: "Book 14".into(),
                ..Model::default()
            },
            extra: vec!["vim".parse().unwrap()],
            omit: Vec::new(),
        };
        let shown = Shown {
            name: &name,
            versions: &[],
            today: Some((&definition, plan)),
            drift: None,
            diff: None,
            may_build,
        };
        page(Words::ENGLISH, &shown).into_string()
    }

    #[test]
    fn a_prestage_that_was_never_built_shows_what_would_be_built() {
        let plan = Ok(PrestagePlan {
            prestage: "book".parse().unwrap(),
            model: Model::default(),
            kept: Vec::new(),
            omitted: Vec::new(),
        });
        let (may, may_not) = (drawn(&plan, true), drawn(&plan, false));
        sample::assert_harmless(&may);
        assert!(may.contains("/build\"") && may.contains("PUT /api/v1/prestages/{name}"));
        assert!(!may_not.contains("data-api"));
        assert!(may_not.contains("No version is built yet."));
    }

    #[test]
    fn what_can_not_be_built_says_why_and_has_no_button() {
        let refused = Err(ApiError {
            code: "not-found".into(),
            message: "there is no sequence deploy".into(),
            hint: Some("store it first".into()),
        });
        let html = drawn(&refused, true);
        assert!(html.contains("There is no sequence deploy.") && !html.contains("/build\""));
    }
}
