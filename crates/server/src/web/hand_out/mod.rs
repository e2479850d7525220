//! The pages of the hand-out: scanning, pupils, classes, history, labels. Names of pupils stand in what is shown alone,
//! never in an address or a title.

mod assign;
pub(super) mod lists;
mod shown;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Form, Path, Query, State};
use maud::Markup;
use serde::Deserialize;
use wire::names::PupilId;

use super::pages::Pages;
use super::section::Section;
use super::visitor::Visitor;
use crate::error::Failure;
use crate::people::roles::May;
use crate::pupils::{classes, history, register};
use crate::routes::parse;
use crate::state::AppState;

/// The pages of this folder.
#[rustfmt::skip]
pub(super) fn pages(pages: Pages) -> Pages {
    pages
        .get("/assign", May::Assign, Section::Assign, show_assign)
        .get("/pupils", May::ViewPupils, Section::Pupils, show_pupils)
        .post("/pupils", May::ViewPupils, Section::Pupils, search_pupils)
        .get("/pupils/classes", May::ViewPupils, Section::Pupils, show_classes)
        .get("/pupils/class", May::ViewPupils, Section::Pupils, show_class)
        .get("/pupils/history", May::ViewPupils, Section::Pupils, show_history)
        .get("/pupils/{id}", May::ViewPupils, Section::Pupils, show_pupil)
        .get("/labels", May::View, Section::Labels, show_labels)
}

/// A class, or none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chosen {
    /// Site and class in one value of a select: `BJO|8B`.
    of: String,
}

async fn show_assign(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(chosen): Query<Chosen>,
) -> Result<Markup, Failure> {
    let classes = state.class_rows_for(&visitor.user).await?;
    let class = match chosen.of.split_once('|') {
        Some((site, class)) => Some(state.class_hand_out_for(&visitor.user, site, class).await?),
        None => None,
    };
    let content = assign::page(visitor.words, &visitor.user.name, &classes, class.as_ref());
    Ok(visitor.page(visitor.words.t("Assign"), None, &content))
}

/// Where in a long list a page begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Begin {
    /// Rows before it.
    from: usize,
}

async fn show_pupils(
    state: State<AppState>,
    visitor: Visitor,
    Query(filter): Query<register::Filter>,
    Query(begin): Query<Begin>,
) -> Result<Markup, Failure> {
    page_of_pupils(state, visitor, &filter, begin.from, "").await
}

/// Whom somebody looks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Called {
    text: String,
}

/// `POST /pupils`: a name that is looked for stands in no address.
async fn search_pupils(
    state: State<AppState>,
    visitor: Visitor,
    Form(called): Form<Called>,
) -> Result<Markup, Failure> {
    let all = register::Filter::default();
    page_of_pupils(state, visitor, &all, 0, called.text.trim()).await
}

async fn page_of_pupils(
    State(state): State<AppState>,
    visitor: Visitor,
    filter: &register::Filter,
    from: usize,
    text: &str,
) -> Result<Markup, Failure> {
    let mut rows = state.pupil_rows_for(&visitor.user).await?;
    let known = rows.iter().filter(|row| row.erased_at_ms.is_none()).count();
    rows.retain(|row| filter.admits(row) && register::is_called(row, text));
    let settings = match visitor.user.may(May::Administer) {
        true => Some(state.hand_out_settings().await?),
        false => None,
    };
    let classes = state.class_rows_for(&visitor.user).await?;
    let content = lists::pupils(
        &lists::Register {
            words: visitor.words,
            may_change: visitor.user.may(May::Assign),
            known,
            filter,
            from,
            text,
            settings: settings.as_ref(),
        },
        &rows,
        &classes,
    );
    Ok(visitor.page(visitor.words.t("Pupils"), None, &content))
}

async fn show_pupil(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Markup, Failure> {
    let id: PupilId = parse(&id)?;
    let detail = state.pupil_detail_for(&visitor.user, id).await?;
    let content = lists::pupil(visitor.words, visitor.user.may(May::Assign), &detail);
    Ok(visitor.page(visitor.words.t("Pupil"), None, &content))
}

async fn show_classes(State(state): State<AppState>, visitor: Visitor) -> Result<Markup, Failure> {
    let rows = state.class_rows_for(&visitor.user).await?;
    let content = lists::classes(visitor.words, &rows);
    Ok(visitor.page(visitor.words.t("Classes"), None, &content))
}

async fn show_class(
    State(state): State<AppState>,
    visitor: Visitor,
    named: Result<Query<classes::Named>, QueryRejection>,
) -> Result<Markup, Failure> {
    let Query(named) = named.map_err(|_| Failure::not_found("class without a name"))?;
    let class = state
        .class_hand_out_for(&visitor.user, &named.site, &named.class)
        .await?;
    let content = lists::class(visitor.words, visitor.user.may(May::Assign), &class);
    let title = format!("{} {}", class.site_name, class.class);
    Ok(visitor.page(&title, None, &content))
}

async fn show_history(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(filter): Query<history::Filter>,
) -> Result<Markup, Failure> {
    let rows = state.assignments_for(&visitor.user, &filter).await?;
    let content = lists::history(visitor.words, &filter, &rows);
    Ok(visitor.page(visitor.words.t("Hand-outs and returns"), None, &content))
}

async fn show_labels(State(state): State<AppState>, visitor: Visitor) -> Result<Markup, Failure> {
    let collections = state.collections().await?;
    let classes = state.class_rows_for(&visitor.user).await?;
    let content = lists::labels(visitor.words, &collections, &classes);
    Ok(visitor.page(visitor.words.t("Labels"), None, &content))
}
