//! The pages about targeting: sites, classes, models, collections, deployments. Handlers; what they draw is beside them.

mod collections;
pub(super) mod deployments;
pub(super) mod fleet;

use axum::Json;
use axum::extract::{Path, Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use wire::admin_api::{Deployment, Purpose};
use wire::collections::CollectionRule;
use wire::deployments::{DailyHours, Window};

use super::draw;
use super::visitor::Visitor;
use super::words::{Words, en};
use crate::catalog::sequences;
use crate::error::Failure;
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
    numbers: &[usize],
    rows: &[Markup],
    empty: &'static str,
) -> Markup {
    html! {
        @if rows.is_empty() {
            p.muted { (words.t(empty)) }
        } @else {
            (draw::table(label, &columns.iter().map(|column| words.t(column)).collect::<Vec<_>>(), numbers, rows))
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
    let user = &visitor.user;
    let can_move = |site: &str| user.may(May::ChangeAssets) && user.covers(site);
    let content = fleet::site(visitor.words, &detail, user.may(May::Deploy), &can_move);
    Ok(visitor.page(&detail.site.code, None, &content))
}

pub(super) async fn show_classes(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = state.class_rows(&visitor.user.reach).await?;
    let content = fleet::classes(visitor.words, &rows, may(&visitor, May::Deploy));
    Ok(visitor.page(visitor.words.t("Classes"), None, &content))
}

pub(super) async fn show_class(
    visitor: Visitor,
    State(state): State<AppState>,
    Path((site, name)): Path<(String, String)>,
) -> Page {
    let row = state.class_row(&visitor.user.reach, &site, &name).await?;
    let content = fleet::class(visitor.words, &row, may(&visitor, May::Deploy));
    Ok(visitor.page(&row.name, None, &content))
}

pub(super) async fn show_models(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = state.model_rows(&visitor.user.reach).await?;
    let aliases = state.model_aliases().await?;
    let known = match may(&visitor, May::ChangeAssets) {
        true => Some(state.known_models().await?),
        false => None,
    };
    let content = fleet::models(visitor.words, &rows, &aliases, known.as_ref());
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
        limit_to: tried.limit_to.unwrap_or_else(|| stored.limit_to.clone()),
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
    let title = others.iter().find(|row| row.name == name);
    let title = title.map_or_else(String::new, |row| row.title.clone());
    let can_change = may(&visitor, May::Deploy);
    let shown = collections::Shown {
        name: &name,
        title: &title,
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
    let content = deployments::one(visitor.words, &deployment, &status, &visitor.user);
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
    starts: String,
    ends: String,
    daily: String,
    stay: String,
}

impl Draft {
    /// A deployment as it is filled in to be changed.
    fn of(deployment: &Deployment) -> Self {
        let window = deployment.window.clone().unwrap_or_default();
        let time = |ms: Option<i64>| {
            let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            time.map(|time| time.to_string()).unwrap_or_default()
        };
        Self {
            name: deployment.name.to_string(),
            collection: deployment.collection.to_string(),
            sequence: deployment.sequence.to_string(),
            purpose: match deployment.purpose {
                Purpose::Required => "required".to_owned(),
                Purpose::Available => "available".to_owned(),
            },
            expected_minutes: minutes(deployment.expected_seconds),
            cap: deployment.cap.to_string(),
            slots: deployment.slots.to_string(),
            starts: time(window.starts_at_ms),
            ends: time(window.ends_at_ms),
            daily: window
                .daily
                .map(|daily| daily.to_string())
                .unwrap_or_default(),
            stay: match deployment.leave_collection_on_success {
                true => String::new(),
                false => "yes".to_owned(),
            },
        }
    }

    /// The deployment, or what is missing.
    fn deployment(&self) -> Result<Deployment, Failure> {
        let number = |text: &str, default: u32| match text.trim() {
            "" => Ok(default),
            text => parse::<u32>(text),
        };
        let time = |text: &str| match text.trim() {
            "" => Ok(None),
            text => parse::<jiff::Timestamp>(text).map(|time| Some(time.as_millisecond())),
        };
        let window = Window {
            starts_at_ms: time(&self.starts)?,
            ends_at_ms: time(&self.ends)?,
            daily: match self.daily.trim() {
                "" => None,
                hours => Some(parse::<DailyHours>(hours)?),
            },
        };
        Ok(Deployment {
            name: parse(self.name.trim())?,
            collection: parse(&self.collection)?,
            sequence: parse(&self.sequence)?,
            purpose: match self.purpose.as_str() {
                "available" => Purpose::Available,
                _ => Purpose::Required,
            },
            expected_seconds: seconds(self.expected_minutes.trim())?,
            leave_collection_on_success: self.stay.is_empty(),
            cap: number(&self.cap, 0)?,
            stopped: false,
            slots: number(&self.slots, 0)?,
            window: (window != Window::default()).then_some(window),
        })
    }
}

/// A duration as minutes, with seconds if there are any: `16`, `1:30`. Nothing stands for none.
fn minutes(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, 0) => String::new(),
        (minutes, 0) => minutes.to_string(),
        (minutes, seconds) => format!("{minutes}:{seconds:02}"),
    }
}

/// Reads what [`minutes`] writes.
fn seconds(text: &str) -> Result<u64, Failure> {
    if text.is_empty() {
        return Ok(0);
    }
    let (minutes, seconds) = text.split_once(':').unwrap_or((text, "0"));
    Ok(u64::from(parse::<u32>(minutes)?) * 60 + u64::from(parse::<u32>(seconds)?))
}

pub(super) async fn new_deployment(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(draft): Query<Draft>,
) -> Page {
    let shown = match draft.name.is_empty() {
        true => None,
        false => Some(draft.deployment()),
    };
    deployment_form(&visitor, &state, &draft, shown, false).await
}

/// The form shows the deployment as it is until it is sent; then what was filled in, and what that would do.
pub(super) async fn change_deployment(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(name): Path<String>,
    Query(draft): Query<Draft>,
) -> Page {
    let name = parse(&name)?;
    let all = state.deployments().await?;
    let before = all.into_iter().find(|deployment| deployment.name == name);
    let before = before.ok_or_else(|| Failure::not_found(format!("deployment {name}")))?;
    if draft.name.is_empty() {
        return deployment_form(&visitor, &state, &Draft::of(&before), None, true).await;
    }
    let changed = draft.deployment().map(|changed| Deployment {
        name,
        stopped: before.stopped,
        ..changed
    });
    deployment_form(&visitor, &state, &draft, Some(changed), true).await
}

/// The form, and what the deployment would do if there is one yet. What is wrong with it is shown beside it.
async fn deployment_form(
    visitor: &Visitor,
    state: &AppState,
    draft: &Draft,
    deployment: Option<Result<Deployment, Failure>>,
    changes: bool,
) -> Page {
    let collections = state.collections().await?;
    let Json(sequences) = sequences::list(State(state.clone())).await?;
    let previewed = match deployment {
        None => None,
        Some(Err(failure)) => Some(Err(failure)),
        Some(Ok(deployment)) => {
            let preview = state.deployment_preview(&deployment).await;
            Some(preview.map(|preview| (deployment, preview)))
        }
    };
    let preview = match previewed {
        None => None,
        Some(Ok(previewed)) => Some(Ok(previewed)),
        Some(Err(Failure::Refused { error, .. })) => Some(Err(error)),
        Some(Err(other)) => return Err(other),
    };
    let form = deployments::Form {
        draft,
        changes,
        collections: &collections,
        sequences: &sequences,
        preview: preview.as_ref(),
    };
    let content = deployments::form(visitor.words, &form);
    let title = match changes {
        true => draft.name.as_str(),
        false => visitor.words.t(en("New deployment")),
    };
    Ok(visitor.page(title, None, &content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_comes_out_of_its_form_as_it_went_in() {
        let night: DailyHours = "16:00-06:00".parse().unwrap();
        for (expected_seconds, window) in [
            (0, None),
            (
                960,
                Some(Window {
                    daily: Some(night),
                    ..Window::default()
                }),
            ),
            (
                95,
                Some(Window {
                    starts_at_ms: Some(1_786_000_000_123),
                    ends_at_ms: Some(1_787_000_000_000),
                    daily: Some(night),
                }),
            ),
        ] {
            let deployment = Deployment {
                name: "autumn".parse().unwrap(),
                collection: "pupils".parse().unwrap(),
                sequence: "deploy".parse().unwrap(),
                purpose: Purpose::Available,
                expected_seconds,
                leave_collection_on_success: false,
                cap: 40,
                stopped: false,
                slots: 7,
                window,
            };
            let read = Draft::of(&deployment).deployment();
            assert_eq!(read.ok(), Some(deployment));
        }
    }
}
