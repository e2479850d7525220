//! The pages about targeting: sites, classes, models, collections, deployments. Handlers; what they draw is beside them.

mod collections;
mod deployments;
mod fleet;

use axum::Json;
use axum::extract::{Path, Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use wire::admin_api::{Deployment, Purpose};
use wire::collections::CollectionRule;

use super::draw;
use super::visitor::Visitor;
use super::words::{Words, en};
use crate::catalog::sequences;
use crate::error::Failure;
use crate::fleet::targeting::preview::preview_of;
use crate::people::roles::May;
use crate::routes::parse;
use crate::state::AppState;

type Page = Result<Markup, Failure>;

/// Devices named on the page of a collection; the API names more.
const MEMBERS_SHOWN: usize = 500;

/// A table, or what is said in place of an empty one.
fn table(
    words: Words,
    label: &str,
    columns: &[&'static str],
    rows: &[Markup],
    empty: &'static str,
) -> Markup {
    html! {
        @if rows.is_empty() {
            p.muted { (words.t(empty)) }
        } @else {
            (draw::table(label, &columns.iter().map(|column| words.t(column)).collect::<Vec<_>>(), &[], rows))
        }
    }
}

fn may(visitor: &Visitor, what: May) -> bool {
    visitor.user.may(what)
}

pub(super) async fn show_sites(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = state.site_rows(&visitor.user.reach).await?;
    let content = fleet::sites(visitor.words, &rows, may(&visitor, May::Deploy));
    Ok(visitor.page(visitor.words.t("Sites"), None, &content))
}

pub(super) async fn show_site(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(code): Path<String>,
) -> Page {
    let detail = state.site_detail(&visitor.user.reach, &code).await?;
    let rights = (may(&visitor, May::Deploy), may(&visitor, May::ChangeAssets));
    let content = fleet::site(visitor.words, &detail, rights);
    Ok(visitor.page(&detail.site.code, None, &content))
}

pub(super) async fn show_classes(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = state.class_rows(&visitor.user.reach).await?;
    let content = fleet::classes(visitor.words, &rows, may(&visitor, May::Deploy));
    Ok(visitor.page(visitor.words.t("Classes"), None, &content))
}

pub(super) async fn show_models(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = state.model_rows(&visitor.user.reach).await?;
    let content = fleet::models(visitor.words, &rows);
    Ok(visitor.page(visitor.words.t("Models"), None, &content))
}

/// A rule to be tried out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Tried {
    #[serde(default)]
    rule: Option<String>,
    #[serde(default)]
    limit_to: Option<String>,
}

pub(super) async fn show_collection(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(tried): Query<Tried>,
) -> Page {
    let name = parse(&name)?;
    let stored = state.collection_rule(&name).await?;
    let supposed = tried.rule.map(|rule| CollectionRule {
        rule: rule.trim().to_owned(),
        limit_to: tried.limit_to.unwrap_or_default(),
    });
    let reach = &visitor.user.reach;
    let rule = supposed.clone().unwrap_or_else(|| stored.clone());
    // A rule that is wrong is shown with what is wrong, in its form.
    let preview = match state
        .collection_preview(reach, &name, supposed, MEMBERS_SHOWN)
        .await
    {
        Ok(preview) => Ok(preview),
        Err(Failure::Refused { error, .. }) => Err(error),
        Err(other) => return Err(other),
    };
    let others = state.collections().await?;
    let can_change = may(&visitor, May::Deploy);
    let shown = collections::Shown {
        name: &name,
        stored: &stored,
        rule: &rule,
        preview: &preview,
        others: &others,
        can_change,
    };
    let content = collections::one(visitor.words, &shown);
    Ok(visitor.page(name.as_str(), None, &content))
}

pub(super) async fn show_deployment(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Page {
    let status = state
        .deployment_status(&visitor.user, &parse(&name)?)
        .await?;
    let all = state.deployments().await?;
    let deployment = all
        .into_iter()
        .find(|deployment| deployment.name == status.name);
    let deployment = deployment.ok_or_else(|| Failure::not_found("such deployment"))?;
    let rights = (may(&visitor, May::Deploy), may(&visitor, May::Operate));
    let content = deployments::one(visitor.words, &deployment, &status, rights);
    Ok(visitor.page(status.name.as_str(), None, &content))
}

/// A deployment as far as its form is filled in.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Draft {
    name: String,
    collection: String,
    sequence: String,
    purpose: String,
    expected_minutes: String,
    cap: String,
    slots: String,
    daily: String,
    stay: String,
}

impl Draft {
    /// The deployment, or what is missing.
    fn deployment(&self) -> Result<Deployment, Failure> {
        let number = |text: &str, default: u32| match text.trim() {
            "" => Ok(default),
            text => parse::<u32>(text),
        };
        let daily = match self.daily.trim() {
            "" => None,
            hours => Some(parse::<wire::deployments::DailyHours>(hours)?),
        };
        Ok(Deployment {
            name: parse(self.name.trim())?,
            collection: parse(&self.collection)?,
            sequence: parse(&self.sequence)?,
            purpose: match self.purpose.as_str() {
                "available" => Purpose::Available,
                _ => Purpose::Required,
            },
            expected_seconds: u64::from(number(&self.expected_minutes, 15)?) * 60,
            leave_collection_on_success: self.stay.is_empty(),
            cap: number(&self.cap, 0)?,
            stopped: false,
            slots: number(&self.slots, 0)?,
            window: daily.map(|daily| wire::deployments::Window {
                daily: Some(daily),
                ..wire::deployments::Window::default()
            }),
        })
    }
}

pub(super) async fn new_deployment(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(draft): Query<Draft>,
) -> Page {
    let collections = state.collections().await?;
    let Json(sequences) = sequences::list(State(state.clone())).await?;
    let preview = if draft.name.is_empty() {
        None
    } else {
        let previewed = match draft.deployment() {
            Ok(deployment) => {
                let mut db = state.db().write().await?;
                preview_of(&state, &mut db, &deployment)
                    .await
                    .map(|preview| (deployment, preview))
            }
            Err(failure) => Err(failure),
        };
        Some(match previewed {
            Ok(previewed) => Ok(previewed),
            Err(Failure::Refused { error, .. }) => Err(error),
            Err(other) => return Err(other),
        })
    };
    let content = deployments::form(
        visitor.words,
        &draft,
        &collections,
        &sequences,
        preview.as_ref(),
    );
    Ok(visitor.page(visitor.words.t(en("New deployment")), None, &content))
}
