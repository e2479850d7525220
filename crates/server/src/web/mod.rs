//! The web pages: rendered here, kept up to date by server-sent events, usable without any script by reloading.
//!
//! Everything that draws is a pure function over wire types; [`source::Source`] is the only way to data, and the
//! server's own state stands behind it. The browser gets one stylesheet, one script and one icon, all ours; the
//! content security policy allows nothing else. Who may see a page is not decided here but by the server's guard,
//! around all routes.

mod adapter;
pub mod assets;
pub mod databar;
pub mod filter;
pub mod format;
pub mod layout;
pub mod lists;
mod live;
pub mod login;
pub mod overview;
pub mod plan;
mod routes;
pub mod run;
#[cfg(test)]
mod sample;
pub mod source;

use axum::Router;

use crate::state::AppState;

/// All routes of the pages, their styles and their live updates.
pub fn router(state: AppState) -> Router {
    routes::router(state)
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The whole error chain in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
