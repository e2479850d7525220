//! The table of routes. What isn't in here isn't served; who may call what is decided in `auth`.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::limits::JSON_BYTES_MAX;
use crate::state::AppState;
use crate::{
    assets, auth, check_in, collections, content_api, deployments, devices, drift, events,
    packages, plans, prestages, receipts, retry, sequences, stream, variables, web,
};

/// Routes and the list of them.
pub(crate) struct Routes {
    router: Router<AppState>,
    list: Vec<(Method, &'static str)>,
}

/// Routes with everything around them, ready to serve.
pub(crate) struct App(Router);

impl App {
    pub(crate) fn into_router(self) -> Router {
        self.0
    }
}

/// Method and path of every route of both APIs, `{…}` for the parts that vary. The pages' routes are not in it.
#[must_use]
pub fn list() -> Vec<(Method, &'static str)> {
    all().list
}

/// Everything the server answers.
pub(crate) fn app(state: AppState) -> App {
    let router = all()
        .router
        .with_state(state.clone())
        .merge(web::router(state.clone()));
    let router = router
        .fallback(|| async { Failure::not_found("such page or route") })
        .method_not_allowed_fallback(|| async {
            Failure::refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this route has other methods",
            )
        })
        // Each handler reads its body with its own limit, by `read_body` or piece by piece.
        .layer(axum::extract::DefaultBodyLimit::max(JSON_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(
            state,
            auth::require_user,
        ))
        .layer(axum::middleware::map_response(harden));
    App(router)
}

#[rustfmt::skip]
fn all() -> Routes {
    Routes { router: Router::new(), list: Vec::new() }
        .get("/healthz", devices::healthz)
        .post("/device/v1/challenge", check_in::challenge)
        .post("/device/v1/check-in", check_in::check_in)
        .post("/device/v1/runs/{run}/events", events::post)
        .get("/device/v1/content/manifests/{digest}", content_api::manifest)
        .post("/device/v1/content/chunks", content_api::chunks)
        .post("/api/v1/login", devices::login)
        .get("/api/v1/trust", devices::trust)
        .post("/api/v1/content/missing", content_api::missing)
        .post("/api/v1/content/chunks", content_api::upload_chunks)
        .put("/api/v1/content/manifests/{digest}", content_api::upload_manifest)
        .get("/api/v1/content/manifests/{digest}", content_api::manifest)
        .post("/api/v1/content/frames", content_api::chunks)
        .get("/api/v1/packages", packages::list)
        .post("/api/v1/packages", packages::publish)
        .get("/api/v1/sequences", sequences::list)
        .get("/api/v1/sequences/{name}", sequences::text)
        .put("/api/v1/sequences/{name}", sequences::put)
        .post("/api/v1/sequences/lint", sequences::lint)
        .get("/api/v1/prestages", prestages::list)
        .get("/api/v1/prestages/{name}", prestages::get)
        .put("/api/v1/prestages/{name}", prestages::put)
        .get("/api/v1/prestages/{name}/plan", prestages::plan)
        .get("/api/v1/prestages/{name}/drift", drift::drift)
        .get("/api/v1/prestage-diff", drift::diff)
        .post("/api/v1/prestages/{name}/build", prestages::build)
        .get("/api/v1/prestages/{name}/versions/{version}/bundle", prestages::bundle)
        .post("/api/v1/assets/import", assets::import)
        .get("/api/v1/collections", collections::list)
        .put("/api/v1/collections/{name}", collections::put)
        .get("/api/v1/collections/{name}/members", collections::members)
        .post("/api/v1/collections/{name}/members", collections::change_members)
        .get("/api/v1/deployments", deployments::list)
        .put("/api/v1/deployments/{name}", deployments::put)
        .post("/api/v1/deployments/{name}/stop", deployments::stop)
        .post("/api/v1/plans", plans::plan)
        .get("/api/v1/variables", variables::list)
        .post("/api/v1/variables", variables::change)
        .get("/api/v1/devices", devices::list)
        .get("/api/v1/devices/{id}", devices::get)
        .post("/api/v1/devices/{id}/reset-key", devices::reset_key)
        .get("/api/v1/devices/{id}/variables", variables::of_device)
        .get("/api/v1/runs", devices::runs)
        .get("/api/v1/runs/{run}", devices::run)
        .post("/api/v1/runs/{run}/stop", devices::stop_run)
        .post("/api/v1/runs/{run}/retry", retry::retry)
        .post("/api/v1/runs/{run}/rerun", retry::rerun)
        .get("/api/v1/receipts", receipts::list)
        .post("/api/v1/receipts", receipts::post)
        .get("/api/v1/audit", receipts::audit_rows)
        .get("/api/v1/events/stream", stream::stream)
}

impl Routes {
    fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, AppState>) -> Self {
        self.add(Method::GET, MethodFilter::GET, path, handler)
    }

    fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, AppState>) -> Self {
        self.add(Method::POST, MethodFilter::POST, path, handler)
    }

    fn put<T: 'static>(self, path: &'static str, handler: impl Handler<T, AppState>) -> Self {
        self.add(Method::PUT, MethodFilter::PUT, path, handler)
    }

    fn add<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: impl Handler<T, AppState>,
    ) -> Self {
        self.list.push((method, path));
        Self {
            router: self.router.route(path, on(filter, handler)),
            list: self.list,
        }
    }
}

/// Headers that every reply carries.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Reads a whole body, up to its limit.
pub(crate) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, Failure> {
    axum::body::to_bytes(body, bytes_max)
        .await
        .map_err(|error| {
            let too_long = std::error::Error::source(&error)
                .is_some_and(|e| e.is::<http_body_util::LengthLimitError>());
            if too_long {
                let message = format!("the request is longer than {bytes_max} bytes");
                Failure::refused(StatusCode::PAYLOAD_TOO_LARGE, "too-long", message)
            } else {
                Failure::bad_request("cut-off", "the request ended early")
            }
        })
}

/// Reads a JSON body, up to its limit.
pub(crate) async fn read_json<T: DeserializeOwned>(
    body: Body,
    bytes_max: usize,
) -> Result<T, Failure> {
    let bytes = read_body(body, bytes_max).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::bad_request("bad-json", format!("the request can't be read: {error}"))
    })
}

/// Reads a name, an id, a digest from a path or a query.
pub(crate) fn parse<T>(text: &str) -> Result<T, Failure>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| Failure::bad_request("bad-name", error.to_string()))
}
