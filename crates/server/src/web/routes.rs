//! What the plain pages read; pure functions draw it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::Semaphore;
use wire::admin_api::DeviceRow;
use wire::names::RunId;

use super::filter::{Clock, Filter, FilterQuery};
use super::live::Seen;
use super::login::{Stage, login_page_beside, password_problem, safe_next};
use super::targeting::deployments::all_awaited;
use super::visitor::{Look, Visitor};
use super::wall::WallQuery;
use super::{layout, lists, live, overview, plan, run};
use crate::catalog::{packages, prestages, sequences};
use crate::error::Failure;
use crate::people::auth::{LoginError, SessionToken};
use crate::people::oidc::Oidc;
use crate::people::roles::May;
use crate::routes::parse;
use crate::state::AppState;

type Page = Result<Markup, Failure>;

/// Open pages that are kept up to date at the same time.
pub(super) type Streams = Extension<Arc<Semaphore>>;

pub(super) async fn show_overview(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(query): Query<FilterQuery>,
) -> Page {
    let filter = Filter::from(query);
    let fleet = state.fleet().await?;
    let beside = overview::Beside {
        collections: if visitor.user.may(May::Deploy) {
            state.collection_names().await?
        } else {
            Vec::new()
        },
        views: state.views_for(&visitor.user).await?,
    };
    let sight = overview::Sight {
        words: visitor.words,
        user: &visitor.user,
        fleet: &fleet,
        filter: &filter,
    };
    let content = overview::overview(sight, &beside, Clock::now());
    let live = format!("/live/overview{}", filter.query());
    let title = visitor.words.t("Overview");
    Ok(visitor.page(title, Some(&live), &content))
}

pub(super) async fn show_run(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Page {
    let run: RunId = id.parse().map_err(|_| Failure::not_found("such run"))?;
    let detail = state.run_detail_for(&visitor.user, run).await?;
    let detail = detail.ok_or_else(|| Failure::not_found("such run"))?;
    let device = state
        .device_row_for(&visitor.user, detail.row.device)
        .await?;
    let all = state.runs_of_device(detail.row.device).await?;
    let content = run::run_page(
        sight(&visitor, device.as_ref()),
        &detail,
        device.as_ref(),
        &all,
    );
    let live = format!("/live/runs/{run}");
    let title = format!(
        "{}: {}",
        run::title(&detail),
        visitor.words.t(layout::state_word(detail.row.state))
    );
    Ok(visitor.page(&title, Some(&live), &content))
}

/// What the visitor may do on the page of a run of this device: nothing with one that is a visitor, too.
fn sight(visitor: &Visitor, device: Option<&DeviceRow>) -> run::Sight {
    let is_own = device.is_some_and(|row| visitor.user.covers(&row.site));
    run::Sight {
        words: visitor.words,
        may_operate: visitor.user.may(May::Operate) && is_own,
    }
}

pub(super) async fn show_plan(
    visitor: Visitor,
    State(state): State<AppState>,
    Path(serial): Path<String>,
) -> Page {
    let plan = state.device_plan_for(&visitor.user, &serial).await?;
    let plan = plan.ok_or_else(|| Failure::not_found("device with this serial number"))?;
    let title = plan::title(visitor.words, &plan);
    Ok(visitor.page(&title, None, &plan::plan_page(visitor.words, &plan)))
}

pub(super) async fn show_devices(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = state.device_rows_for(&visitor.user).await?;
    let content = html! {
        (lists::devices(visitor.words, &rows))
        @if visitor.user.may(May::Deploy) {
            p { a href="/device-names" { (visitor.words.t("Names from a template")) } }
        }
    };
    Ok(visitor.page(visitor.words.t("Devices"), None, &content))
}

pub(super) async fn show_collections(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = state.collections_for(&visitor.user).await?;
    let content = lists::collections(visitor.words, &rows, visitor.user.may(May::Deploy));
    Ok(visitor.page(visitor.words.t("Collections"), None, &content))
}

pub(super) async fn show_deployments(visitor: Visitor, State(state): State<AppState>) -> Page {
    let rows = state.deployments().await?;
    let awaited = state.awaited().await?;
    let content = html! {
        (all_awaited(visitor.words, &awaited))
        (lists::deployments(visitor.words, &rows))
        @if visitor.user.may(May::Deploy) {
            p { a href="/deployments/new" { (visitor.words.t("New deployment")) } }
        }
    };
    Ok(visitor.page(visitor.words.t("Deployments"), None, &content))
}

pub(super) async fn show_sequences(visitor: Visitor, State(state): State<AppState>) -> Page {
    let Json(rows) = sequences::list(State(state)).await?;
    let list = lists::sequences(visitor.words, &rows);
    let content = html! {
        (list)
        @if visitor.user.may(May::Publish) {
            div.buttons { a.button href="/sequences/new" { (visitor.words.t("New sequence")) } }
        }
    };
    Ok(visitor.page(visitor.words.t("Task sequences"), None, &content))
}

pub(super) async fn show_packages(visitor: Visitor, State(state): State<AppState>) -> Page {
    let Json(rows) = packages::list(State(state)).await?;
    let content = lists::packages(visitor.words, &rows);
    Ok(visitor.page(visitor.words.t("Packages"), None, &content))
}

pub(super) async fn show_prestages(visitor: Visitor, State(state): State<AppState>) -> Page {
    let mut rows = state.prestages().await?;
    rows.retain(|row| visitor.user.has_prestage(&row.prestage));
    let mut defined = prestages::defined(&state).await?;
    defined.retain(|(name, _)| visitor.user.has_prestage(name));
    let may_define = visitor.user.may(May::Publish);
    let content = lists::prestages(visitor.words, &rows, &defined, may_define);
    Ok(visitor.page(visitor.words.t("Prestages"), None, &content))
}

pub(super) async fn live_overview(
    visitor: Visitor,
    State(state): State<AppState>,
    Extension(streams): Streams,
    Query(query): Query<FilterQuery>,
    Query(At { at }): Query<At>,
) -> Result<Response, Failure> {
    let permit = streams
        .try_acquire_owned()
        .map_err(|_| too_many_streams())?;
    Ok({
        let words = visitor.words;
        let source = Seen::by(visitor.user, state);
        live::overview(source, words, query.into(), at, permit).into_response()
    })
}

#[derive(Deserialize)]
pub(super) struct At {
    #[serde(default)]
    at: u64,
}

#[derive(Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

pub(super) async fn live_run(
    visitor: Visitor,
    State(state): State<AppState>,
    Extension(streams): Streams,
    Path(id): Path<String>,
    Query(After { after }): Query<After>,
) -> Result<Response, Failure> {
    let run: RunId = parse(&id)?;
    let permit = streams
        .try_acquire_owned()
        .map_err(|_| too_many_streams())?;
    let device = match state.run_row_for(&visitor.user, run).await? {
        Some(row) => state.device_row_for(&visitor.user, row.device).await?,
        None => None,
    };
    let sight = sight(&visitor, device.as_ref());
    let source = Seen::by(visitor.user, state);
    Ok(live::run(source, sight, run, after, permit).into_response())
}

pub(super) async fn live_wall(
    visitor: Visitor,
    State(state): State<AppState>,
    Extension(streams): Streams,
    Query(WallQuery { site }): Query<WallQuery>,
) -> Result<Response, Failure> {
    let permit = streams
        .try_acquire_owned()
        .map_err(|_| too_many_streams())?;
    let words = visitor.words;
    let source = Seen::by(visitor.user, state);
    Ok(live::wall(source, words, site, permit).into_response())
}

fn too_many_streams() -> Failure {
    Failure::refused(
        StatusCode::SERVICE_UNAVAILABLE,
        "too-many-pages",
        "too many pages are open",
    )
    .hint("close pages that nobody looks at")
}

#[derive(Deserialize)]
pub(super) struct LoginQuery {
    #[serde(default)]
    next: String,
}

pub(super) async fn show_login(
    State(state): State<AppState>,
    headers: HeaderMap,
    Query(query): Query<LoginQuery>,
) -> Markup {
    let look = Look::from_headers(&headers);
    let provider = state.oidc().map(Oidc::title);
    login_page_beside(provider, look, Stage::SignIn, "", &query.next, None)
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    user: String,
    password: String,
    new_password: Option<String>,
    #[serde(default)]
    repeated: String,
    #[serde(default)]
    next: String,
}

pub(super) async fn sign_in(
    State(state): State<AppState>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, Failure> {
    refuse_other_sites(&headers)?;
    let look = Look::from_headers(&headers);
    let new_password = form.new_password.as_deref();
    let stage = match new_password {
        Some(_) => Stage::NewPassword,
        None => Stage::SignIn,
    };
    let again = |status: StatusCode, stage, problem: Option<&str>| {
        let provider = state.oidc().map(Oidc::title);
        let page = login_page_beside(provider, look, stage, &form.user, &form.next, problem);
        Ok((status, page).into_response())
    };
    let unfit = new_password
        .and_then(|new| password_problem(look.words, &form.password, new, &form.repeated));
    if unfit.is_some() {
        return again(StatusCode::UNPROCESSABLE_ENTITY, stage, unfit.as_deref());
    }
    let words = look.words;
    match state.login(&form.user, &form.password, new_password).await {
        Ok(session) => {
            let cookie = [(header::SET_COOKIE, session.cookie())];
            Ok((cookie, Redirect::to(safe_next(&form.next))).into_response())
        }
        Err(LoginError::NewPasswordNeeded) => again(StatusCode::OK, Stage::NewPassword, None),
        Err(LoginError::Throttled { seconds }) => {
            let problem = words.fill(
                "Too many wrong sign-ins. Try again in {n} seconds.",
                &[("n", &seconds)],
            );
            again(StatusCode::TOO_MANY_REQUESTS, stage, Some(&problem))
        }
        Err(LoginError::Wrong) => {
            let problem = words.t("The user name or the password is wrong.");
            again(StatusCode::FORBIDDEN, stage, Some(problem))
        }
        Err(error) => {
            let failure = Failure::from(error);
            match &failure {
                Failure::Refused { error, .. } => {
                    let message = error.message.clone();
                    again(StatusCode::FORBIDDEN, stage, Some(&message))
                }
                _ => Err(failure),
            }
        }
    }
}

pub(super) async fn sign_out(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    refuse_other_sites(&headers)?;
    if let Some(session) = SessionToken::from_headers(&headers) {
        state.logout(&session).await?;
    }
    let cookie = [(header::SET_COOKIE, SessionToken::removal_cookie())];
    Ok((cookie, Redirect::to("/login")).into_response())
}

/// Browsers say where a request comes from. One that does not is too old for `Sec-Fetch-Site`, and its `Origin` counts.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Failure> {
    let text =
        |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let own = match text(header::HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin" || site == "none",
        None => match (text(header::ORIGIN), text(header::HOST)) {
            (None, _) => true,
            (Some(origin), Some(host)) => origin
                .split_once("://")
                .is_some_and(|(_, rest)| rest == host),
            (Some(_), None) => false,
        },
    };
    if own {
        return Ok(());
    }
    Err(Failure::refused(
        StatusCode::FORBIDDEN,
        "cross-site",
        "this came from a page that is not ours",
    ))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::{HeaderValue, Request};
    use tower::ServiceExt as _;
    use wire::boot_config::Trust;

    use super::super::{FORM_BYTES_MAX, STREAMS_MAX};
    use super::*;

    const PASSWORD: &str = "correct horse battery";

    type Running = tokio::sync::watch::Sender<bool>;

    /// The pages of a new server, the one-time password of its administrator, and what stops it when it is dropped.
    async fn pages(folder: &tempfile::TempDir) -> (Router, String, Running) {
        let data = camino::Utf8Path::from_path(folder.path()).unwrap();
        let trust = Trust {
            format: 1,
            server_urls: vec!["https://localhost".into()],
            ca_pem: String::new(),
            bundle_keys: Vec::new(),
            wipe_keys: Vec::new(),
        };
        let (running, stopping) = tokio::sync::watch::channel(false);
        let patience = crate::serve::Patience::default();
        let state = AppState::open(data, None, trust, None, stopping, patience, 0).await;
        let state = state.unwrap();
        let one_time = state.first_user().await.unwrap().unwrap();
        (crate::routes::app(state).into_router(), one_time, running)
    }

    async fn post_login(pages: &Router, form: String) -> Response {
        let request = Request::post("/login")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        pages.clone().oneshot(request).await.unwrap()
    }

    /// The session, if that signed them in.
    fn session(response: &Response) -> Option<String> {
        let cookie = response
            .headers()
            .get(header::SET_COOKIE)?
            .to_str()
            .unwrap();
        cookie.split(';').next().map(str::to_owned)
    }

    fn first_form(one_time: &str, repeated: &str) -> String {
        format!(
            "user=admin&password={one_time}&new_password={}&repeated={}",
            PASSWORD.replace(' ', "+"),
            repeated.replace(' ', "+")
        )
    }

    #[tokio::test]
    async fn the_first_sign_in_replaces_the_one_time_password() {
        let folder = tempfile::tempdir().unwrap();
        let (pages, one_time, _running) = pages(&folder).await;
        let login = |password: &str| {
            let form = format!("user=admin&password={}", password.replace(' ', "+"));
            post_login(&pages, form)
        };
        let asked = login(&one_time).await;
        assert_eq!((asked.status(), session(&asked)), (StatusCode::OK, None));
        let unfit = post_login(&pages, first_form(&one_time, "something else")).await;
        assert_eq!(unfit.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(session(&unfit), None);
        let first = post_login(&pages, first_form(&one_time, PASSWORD)).await;
        assert_eq!(first.status(), StatusCode::SEE_OTHER);
        assert!(session(&first).is_some());
        let old = login(&one_time).await;
        assert_eq!((old.status(), session(&old)), (StatusCode::FORBIDDEN, None));
        assert!(session(&login(PASSWORD).await).is_some());
    }

    #[tokio::test]
    async fn open_pages_have_a_limit_and_one_that_is_closed_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let (pages, one_time, _running) = pages(&folder).await;
        let first = post_login(&pages, first_form(&one_time, PASSWORD)).await;
        let cookie = session(&first).unwrap();
        let open = async |path: &str| {
            let request = Request::get(path).header(header::COOKIE, &cookie);
            let request = request.body(Body::empty()).unwrap();
            pages.clone().oneshot(request).await.unwrap()
        };
        let live = ["/live/overview", "/live/wall"];
        let mut streams = Vec::new();
        for path in live.iter().cycle().take(STREAMS_MAX) {
            let stream = open(path).await;
            assert_eq!(stream.status(), StatusCode::OK);
            streams.push(stream);
        }
        for path in live {
            let refused = open(path).await;
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            let text = axum::body::to_bytes(refused.into_body(), 1 << 16).await;
            assert!(String::from_utf8_lossy(&text.unwrap()).contains("too many pages are open"));
        }
        // The page itself is still there, and whoever goes leaves a place, once that is noticed.
        assert_eq!(open("/").await.status(), StatusCode::OK);
        drop(streams.pop());
        while open("/live/wall").await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_form_has_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let (pages, _, _running) = pages(&folder).await;
        let long = |length: usize| {
            let start = "user=admin&password=x&next=";
            format!("{start}{}", "a".repeat(length - start.len()))
        };
        let fits = post_login(&pages, long(FORM_BYTES_MAX)).await;
        assert_eq!(fits.status(), StatusCode::FORBIDDEN);
        let too_long = post_login(&pages, long(FORM_BYTES_MAX + 1)).await;
        assert_eq!(too_long.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn other_sites_cannot_post() {
        for (name, value, allowed) in [
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "same-origin", true),
            ("origin", "https://evil.example", false),
            ("origin", "null", false),
            ("origin", "https://forestage.example", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("forestage.example"));
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(
                refuse_other_sites(&headers).is_ok(),
                allowed,
                "{name}: {value}"
            );
        }
    }
}
