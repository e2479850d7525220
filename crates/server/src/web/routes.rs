//! The routes of the pages: they read what a page needs, and let pure functions draw it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Path, Query, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::Markup;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tracing::error;
use wire::names::RunId;

use super::filter::{Filter, FilterQuery};
use super::layout::{self, Section};
use super::login::{Stage, login_page, password_problem, safe_next};
use super::source::{Refusal, Source, SourceError};
use super::{assets, lists, live, overview, plan, run};

/// Open pages that are kept up to date at the same time; each costs a reading of all devices per update.
const STREAMS_MAX: usize = 200;
/// The sign-in form: five short fields.
const FORM_BYTES_MAX: usize = 16 << 10;

/// Nothing from elsewhere, nothing inline, never inside another page's frame.
const POLICY: &str = "default-src 'self'; base-uri 'none'; object-src 'none'; \
    form-action 'self'; frame-ancestors 'none'";

#[derive(Clone)]
struct Pages<S> {
    source: S,
    streams: Arc<Semaphore>,
}

/// All routes over any source.
pub(super) fn router<S: Source>(source: S) -> Router {
    let pages = Pages {
        source,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    Router::new()
        .route("/", get(show_overview::<S>))
        .route("/runs/{run}", get(show_run::<S>))
        .route("/devices", get(show_devices::<S>))
        .route("/devices/{serial}/plan", get(show_plan::<S>))
        .route("/collections", get(show_collections::<S>))
        .route("/deployments", get(show_deployments::<S>))
        .route("/sequences", get(show_sequences::<S>))
        .route("/packages", get(show_packages::<S>))
        .route("/prestages", get(show_prestages::<S>))
        .route("/live/overview", get(live_overview::<S>))
        .route("/live/runs/{run}", get(live_run::<S>))
        .route("/live/session", get(StatusCode::NO_CONTENT))
        .route("/login", get(show_login).post(sign_in::<S>))
        .route("/logout", post(sign_out::<S>))
        .route(
            "/assets/{name}",
            get(async |Path(name): Path<String>| assets::serve(&name)),
        )
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn(harden))
        .with_state(pages)
}

/// A page that could not be made.
enum Problem {
    Source(SourceError),
    NoSuchRun,
    NoSuchDevice,
    CrossSite,
    TooManyStreams,
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, title, message, hint) = match self {
            Self::Source(error) => {
                error!(error = %super::chain(&error), "a page could not be shown");
                let hint = "Reload the page; if that does not help, look into the server's log.";
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Something went wrong",
                    "The server could not read what this page shows.",
                    hint,
                )
            }
            Self::NoSuchRun => {
                let hint = "Look for the device on the overview.";
                (
                    StatusCode::NOT_FOUND,
                    "No such run",
                    "There is no run with this address.",
                    hint,
                )
            }
            Self::NoSuchDevice => {
                let hint = "Look for the device on the overview.";
                (
                    StatusCode::NOT_FOUND,
                    "No such device",
                    "There is no device with this serial number.",
                    hint,
                )
            }
            Self::CrossSite => {
                let hint = "Open the sign-in page of this server itself and try again.";
                (
                    StatusCode::FORBIDDEN,
                    "Refused",
                    "This request came from another site.",
                    hint,
                )
            }
            Self::TooManyStreams => {
                let hint = "Close some pages, or reload now and then.";
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Too many live pages",
                    "Too many pages are kept up to date already.",
                    hint,
                )
            }
        };
        (status, layout::error_page(title, message, hint)).into_response()
    }
}

type Page = Result<Markup, Problem>;

fn user<S: Source>(source: &S, extensions: &Extensions) -> String {
    source.user(extensions).unwrap_or_default()
}

async fn show_overview<S: Source>(
    State(pages): State<Pages<S>>,
    Query(query): Query<FilterQuery>,
    extensions: Extensions,
) -> Page {
    let filter = Filter::from(query);
    let rows = pages.source.device_rows().await?;
    let content = overview::overview(&rows, &filter, super::now_ms());
    let live = format!("/live/overview{}", filter.query());
    Ok(layout::page(
        "Overview",
        Section::Overview,
        &user(&pages.source, &extensions),
        Some(&live),
        &content,
    ))
}

async fn show_run<S: Source>(
    State(pages): State<Pages<S>>,
    Path(id): Path<String>,
    extensions: Extensions,
) -> Page {
    let run: RunId = id.parse().map_err(|_| Problem::NoSuchRun)?;
    let detail = pages
        .source
        .run_detail(run)
        .await?
        .ok_or(Problem::NoSuchRun)?;
    let device = pages.source.device_row(detail.row.device).await?;
    let content = run::run_page(&detail, device.as_ref());
    let live = format!("/live/runs/{run}");
    let title = format!("{}: {}", run::title(&detail), detail.row.state);
    Ok(layout::page(
        &title,
        Section::Overview,
        &user(&pages.source, &extensions),
        Some(&live),
        &content,
    ))
}

async fn show_plan<S: Source>(
    State(pages): State<Pages<S>>,
    Path(serial): Path<String>,
    extensions: Extensions,
) -> Page {
    let plan = pages.source.device_plan(&serial).await?;
    let plan = plan.ok_or(Problem::NoSuchDevice)?;
    Ok(layout::page(
        &plan::title(&plan),
        Section::Overview,
        &user(&pages.source, &extensions),
        None,
        &plan::plan_page(&plan),
    ))
}

/// The list pages differ in what they read, how they draw it and where they stand in the navigation.
macro_rules! list_page {
    ($handler:ident, $title:literal, $section:ident, $read:ident, $draw:path) => {
        async fn $handler<S: Source>(
            State(pages): State<Pages<S>>,
            extensions: Extensions,
        ) -> Page {
            let rows = pages.source.$read().await?;
            let user = user(&pages.source, &extensions);
            Ok(layout::page(
                $title,
                Section::$section,
                &user,
                None,
                &$draw(&rows),
            ))
        }
    };
}

list_page!(
    show_devices,
    "Devices",
    Devices,
    device_rows,
    lists::devices
);
list_page!(
    show_collections,
    "Collections",
    Collections,
    collections,
    lists::collections
);
list_page!(
    show_deployments,
    "Deployments",
    Deployments,
    deployments,
    lists::deployments
);
list_page!(
    show_sequences,
    "Task sequences",
    Sequences,
    sequences,
    lists::sequences
);
list_page!(
    show_packages,
    "Packages",
    Packages,
    packages,
    lists::packages
);
list_page!(
    show_prestages,
    "Prestages",
    Prestages,
    prestages,
    lists::prestages
);

async fn live_overview<S: Source>(
    State(pages): State<Pages<S>>,
    Query(query): Query<FilterQuery>,
) -> Result<Response, Problem> {
    let permit = pages
        .streams
        .try_acquire_owned()
        .map_err(|_| Problem::TooManyStreams)?;
    Ok(live::overview(pages.source, query.into(), permit).into_response())
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn live_run<S: Source>(
    State(pages): State<Pages<S>>,
    Path(id): Path<String>,
    Query(After { after }): Query<After>,
) -> Result<Response, Problem> {
    let run: RunId = id.parse().map_err(|_| Problem::NoSuchRun)?;
    let permit = pages
        .streams
        .try_acquire_owned()
        .map_err(|_| Problem::TooManyStreams)?;
    Ok(live::run(pages.source, run, after, permit).into_response())
}

#[derive(Deserialize)]
struct LoginQuery {
    #[serde(default)]
    next: String,
}

async fn show_login(Query(query): Query<LoginQuery>) -> Markup {
    login_page(Stage::SignIn, "", &query.next, None)
}

#[derive(Deserialize)]
struct LoginForm {
    user: String,
    password: String,
    new_password: Option<String>,
    #[serde(default)]
    repeated: String,
    #[serde(default)]
    next: String,
}

async fn sign_in<S: Source>(
    State(pages): State<Pages<S>>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, Problem> {
    if is_cross_site(&headers) {
        return Err(Problem::CrossSite);
    }
    let stage = if form.new_password.is_some() {
        Stage::NewPassword
    } else {
        Stage::SignIn
    };
    let again = |status: StatusCode, stage, problem: Option<&str>| {
        Ok((status, login_page(stage, &form.user, &form.next, problem)).into_response())
    };
    let unfit = form
        .new_password
        .as_ref()
        .and_then(|new| password_problem(&form.password, new, &form.repeated));
    if unfit.is_some() {
        return again(StatusCode::UNPROCESSABLE_ENTITY, stage, unfit.as_deref());
    }
    match pages
        .source
        .login(&form.user, &form.password, form.new_password.as_deref())
        .await
    {
        Ok(cookie) => Ok((
            [(header::SET_COOKIE, cookie)],
            Redirect::to(safe_next(&form.next)),
        )
            .into_response()),
        Err(Refusal::NewPasswordNeeded) => again(StatusCode::OK, Stage::NewPassword, None),
        Err(Refusal::Told(message)) => again(StatusCode::FORBIDDEN, stage, Some(&message)),
        Err(Refusal::Throttled(message)) => {
            again(StatusCode::TOO_MANY_REQUESTS, stage, Some(&message))
        }
        Err(Refusal::Failed(error)) => Err(error.into()),
    }
}

async fn sign_out<S: Source>(
    State(pages): State<Pages<S>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if is_cross_site(&headers) {
        return Err(Problem::CrossSite);
    }
    let cookie = pages.source.logout(&headers).await?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response())
}

/// Browsers say where a request comes from. One that does not is too old for `Sec-Fetch-Site`, and its `Origin` counts.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text =
        |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        return site != "same-origin" && site != "none";
    }
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => false,
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_none_or(|(_, rest)| rest != host),
        (Some(_), None) => true,
    }
}

/// Sets the headers that every page, style and stream has.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            header::HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            header::HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            header::HeaderName::from_static("permissions-policy"),
            "camera=(), microphone=(), geolocation=()",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages show people's devices: no copy stays behind in a shared browser.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
