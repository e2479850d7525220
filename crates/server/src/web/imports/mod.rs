//! The pages of what comes in from outside: vendors' files, the factory's receipts, an order against its receipts.
//! Handlers; what they draw is beside them.

mod draft;
mod hand_in;
mod list;
mod parts;
pub(super) mod receipts;

use axum::extract::{Path, Query, State};
use maud::Markup;
use serde::Deserialize;
use wire::imports::{ImportState, RowResult, UndoImport};

use super::pages::Pages;
use super::section::Section;
use super::visitor::Visitor;
use super::words::en;
use crate::error::Failure;
use crate::fleet::aliases::KnownModels;
use crate::fleet::import::drafts::{self, Window};
use crate::fleet::import::{profiles, routes as import_routes};
use crate::fleet::receipts as stored_receipts;
use crate::fleet::reconcile::read;
use crate::fleet::reconcile::routes::Asked;
use crate::people::roles::May;
use crate::state::AppState;
use parts::ROWS_OF_A_PAGE;

type Page = Result<Markup, Failure>;

/// The pages of this folder.
#[rustfmt::skip]
pub(super) fn pages(pages: Pages) -> Pages {
    pages
        .get("/imports", May::ChangeAssets, Section::Imports, show_imports)
        .get("/imports/{id}", May::ChangeAssets, Section::Imports, show_import)
        .get("/imports/{id}/receipts", May::ChangeAssets, Section::Receipts, show_reconciliation)
        .get("/receipts", May::SeeReceipts, Section::Receipts, show_receipts)
        .get("/receipts/import", May::SendReceipts, Section::Receipts, show_hand_in)
}

async fn show_imports(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = drafts::list(&state, &visitor.user).await?;
    let profiles = profiles::all(&state).await?;
    let collections = state.collections().await?;
    let content = list::imports(visitor.words, &rows, &profiles, &collections);
    Ok(visitor.page(visitor.words.t("Imports"), None, &content))
}

/// Which rows of an import are looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown {
    /// A kind of rows; empty for all.
    rows: String,
    /// From 1.
    page: usize,
    /// `1`: what taking it back would do; `force`: also of rows that were changed since.
    undo: String,
}

impl Shown {
    fn window(&self) -> Window {
        let word = |result: &RowResult| result.word() == self.rows;
        Window {
            result: RowResult::ALL.into_iter().find(word),
            offset: self.page.saturating_sub(1).saturating_mul(ROWS_OF_A_PAGE),
            limit: ROWS_OF_A_PAGE,
        }
    }
}

async fn show_import(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(id): Path<i64>,
    Query(shown): Query<Shown>,
) -> Page {
    let row = drafts::get(&state, &visitor.user, id).await?;
    let window = shown.window();
    let title = row.file.clone();
    let undo = match (row.state, shown.undo.as_str()) {
        (ImportState::Accepted, "1" | "force") => {
            let wish = UndoImport {
                force: shown.undo == "force",
                dry_run: true,
            };
            Some((
                wish.force,
                import_routes::undo_report(&state, &visitor.user, &row, &wish).await?,
            ))
        }
        _ => None,
    };
    let import = drafts::show(&state, &visitor.user, row, window).await?;
    let collections = state.collections().await?;
    let profiles = profiles::all(&state).await?;
    let known = match import.unknown_models.is_empty() {
        true => KnownModels::new(),
        false => state.known_models().await?,
    };
    let content = draft::import(&draft::Shown {
        words: visitor.words,
        import: &import,
        result: window.result,
        page: shown.page.max(1),
        collections: &collections,
        profiles: &profiles,
        known: &known,
        undo: undo.as_ref(),
    });
    Ok(visitor.page(&title, None, &content))
}

/// Which page of a long list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Paged {
    /// From 1.
    page: usize,
}

async fn show_receipts(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(paged): Query<Paged>,
) -> Page {
    let rows = stored_receipts::seen(&state, &visitor.user).await?;
    let orders = if visitor.user.may(May::ChangeAssets) {
        let mut orders = drafts::list(&state, &visitor.user).await?;
        orders.retain(|row| row.state == ImportState::Accepted);
        orders
    } else {
        Vec::new()
    };
    let may_send = visitor.user.may(May::SendReceipts);
    let content = receipts::all(visitor.words, &rows, &orders, paged.page.max(1), may_send);
    Ok(visitor.page(visitor.words.t("Receipts"), None, &content))
}

async fn show_hand_in(visitor: Visitor) -> Markup {
    let content = hand_in::page(visitor.words);
    visitor.page(visitor.words.t("Hand in receipts"), None, &content)
}

async fn show_reconciliation(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(id): Path<i64>,
    Query(asked): Query<Asked>,
    Query(paged): Query<Paged>,
) -> Page {
    let page = paged.page.max(1);
    let mut question = asked.question()?;
    question.window.offset = (page - 1).saturating_mul(ROWS_OF_A_PAGE);
    question.window.limit = ROWS_OF_A_PAGE;
    let filter = question.window.filter;
    let answer = read::of_import(&state, &visitor.user, id, question).await?;
    let may_send = visitor.user.may(May::SendReceipts);
    let content = receipts::order(
        visitor.words,
        &answer,
        filter,
        (asked.oldest(), page),
        may_send,
    );
    Ok(visitor.page(visitor.words.t(en("Order and receipts")), None, &content))
}
