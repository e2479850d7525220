//! The web pages: rendered here, kept up to date by server-sent events, readable without any script by reloading.
//!
//! A page is a handler in the table ([`pages_all`]) and a pure function that draws wire types. Whatever a page changes, it
//! changes by the admin API, through one script for all forms. The browser gets our stylesheet, scripts and icon; the
//! content security policy allows nothing else.

mod api;
pub mod assets;
mod audit_words;
mod content;
pub mod databar;
pub mod device;
pub mod draw;
mod dress;
pub mod filter;
pub mod format;
pub mod frame;
mod hand_out;
mod imports;
mod insights;
pub mod keys;
pub mod layout;
pub mod lists;
mod live;
pub mod login;
mod names;
pub mod overview;
pub mod package;
pub mod pages;
mod people;
pub mod plan;
pub mod prestage;
mod quarantine;
mod routes;
pub mod run;
mod runs;
#[cfg(test)]
pub(crate) mod sample;
mod secrets;
pub mod section;
pub mod sequence;
mod targeting;
pub mod text_diff;
mod variables;
pub mod visitor;
mod wall;
mod webhooks;
pub mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Path};
use axum::http::StatusCode;
use axum::middleware;
use tokio::sync::Semaphore;

use crate::people::oidc;
use crate::people::roles::May;
use crate::state::AppState;
use pages::Pages;
use section::Section;

pub(crate) use dress::dress;
pub(crate) use insights::report::html as insights_report;

/// Open pages that are kept up to date at the same time; each costs a reading of all devices per update.
const STREAMS_MAX: usize = 200;
/// The sign-in form: five short fields.
const FORM_BYTES_MAX: usize = 16 << 10;

/// Every page, one line each. An entry of the navigation appears with the page that has its address.
#[rustfmt::skip]
fn pages_all() -> Pages {
    imports::pages(hand_out::pages(Pages::default()))
        .get("/", May::View, Section::Overview, routes::show_overview)
        .get("/wall", May::View, Section::Overview, wall::show)
        .get("/insights", May::View, Section::Insights, insights::show)
        .get("/runs", May::View, Section::Runs, runs::show)
        .get("/runs/{run}", May::View, Section::Runs, routes::show_run)
        .get("/devices", May::View, Section::Devices, routes::show_devices)
        .get("/device-names", May::Deploy, Section::Devices, names::show)
        .get("/devices/{serial}", May::View, Section::Devices, device::show)
        .get("/devices/{serial}/plan", May::View, Section::Devices, routes::show_plan)
        .get("/quarantine", May::ChangeAssets, Section::Quarantine, quarantine::show)
        .get("/sites", May::View, Section::Sites, targeting::show_sites)
        .get("/sites/{code}", May::View, Section::Sites, targeting::show_site)
        .get("/classes", May::View, Section::Classes, targeting::show_classes)
        .get("/classes/{site}/{name}", May::View, Section::Classes, targeting::show_class)
        .get("/models", May::View, Section::Models, targeting::show_models)
        .get("/collections/{name}", May::View, Section::Collections, targeting::show_collection)
        .get("/deployments/new", May::Deploy, Section::Deployments, targeting::new_deployment)
        .get("/deployments/{name}", May::View, Section::Deployments, targeting::show_deployment)
        .get("/deployments/{name}/change", May::Deploy, Section::Deployments, targeting::change_deployment)
        .get("/collections", May::View, Section::Collections, routes::show_collections)
        .get("/deployments", May::View, Section::Deployments, routes::show_deployments)
        .get("/variables", May::View, Section::Variables, variables::show)
        .get("/secrets", May::Administer, Section::Secrets, secrets::show)
        .get("/sequences", May::View, Section::Sequences, routes::show_sequences)
        .get("/sequences/new", May::Publish, Section::Sequences, sequence::show_new)
        .get("/sequences/{name}", May::View, Section::Sequences, sequence::show)
        .get("/content", May::Publish, Section::Content, content::show)
        .post("/content", May::Publish, Section::Content, content::look)
        .get("/packages", May::View, Section::Packages, routes::show_packages)
        .get("/packages/{name}", May::View, Section::Packages, package::show)
        .get("/prestages", May::SeePrestages, Section::Prestages, routes::show_prestages)
        .get("/prestages/{name}", May::SeePrestages, Section::Prestages, prestage::show)
        .get("/users", May::Administer, Section::Users, people::show_users)
        .get("/tokens", May::BeSomebody, Section::Tokens, people::show_tokens)
        .get("/account", May::BeSomebody, Section::Overview, people::show_account)
        .get("/trust", May::Publish, Section::Trust, keys::show)
        .get("/audit", May::Administer, Section::Audit, people::show_audit)
        .get("/webhooks", May::Administer, Section::Webhooks, webhooks::show_all)
        .get("/webhooks/{id}", May::Administer, Section::Webhooks, webhooks::show_one)
        .get("/api", May::BeSomebody, Section::Api, api::show_api)
        .get("/login/oidc", May::Anyone, Section::Overview, oidc::begin)
        .get("/login/oidc/back", May::Anyone, Section::Overview, oidc::back)
        .get("/live/overview", May::View, Section::Overview, routes::live_overview)
        .get("/live/wall", May::View, Section::Overview, routes::live_wall)
        .get("/live/runs/{run}", May::View, Section::Runs, routes::live_run)
        .get("/live/session", May::Anyone, Section::Overview, async || StatusCode::NO_CONTENT)
        .get("/login", May::Anyone, Section::Overview, routes::show_login)
        .post("/login", May::Anyone, Section::Overview, routes::sign_in)
        .post("/logout", May::Anyone, Section::Overview, routes::sign_out)
        .post("/look", May::Anyone, Section::Overview, visitor::look)
        .get("/assets/{name}", May::Anyone, Section::Overview, async |Path(name): Path<String>| assets::serve(&name))
}

/// All routes of the pages, their styles and their live updates.
pub(crate) fn router(state: AppState) -> Router {
    pages_all()
        .into_router()
        .layer(Extension(Arc::new(Semaphore::new(STREAMS_MAX))))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn(dress::secure))
        .with_state(state)
}

/// The whole error chain in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
