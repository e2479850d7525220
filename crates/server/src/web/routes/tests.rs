//! The routes over a source that is a list in memory.

use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::Method;
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tower::ServiceExt as _;
use wire::admin_api::{
    CollectionRow, Deployment, DeviceRow, DeviceState, PackageRow, PrestageVersion, RunDetail,
    SequenceRow,
};
use wire::device_plan::DevicePlan;
use wire::names::DeviceId;

use super::super::sample;
use super::super::source::{Changes, Touched};
use super::*;

const ONE_TIME: &str = "one-time-password";
const NEW: &str = "a fir is not a spruce";

#[derive(Clone)]
struct Fake {
    rows: Arc<Mutex<Vec<DeviceRow>>>,
    change: watch::Sender<u64>,
}

struct FakeChanges(watch::Receiver<u64>);

impl Changes for FakeChanges {
    async fn next(&mut self) -> Option<Touched> {
        self.0.changed().await.ok().map(|()| Touched::Anything)
    }
}

impl Fake {
    fn new() -> Self {
        Self {
            rows: Arc::new(Mutex::new(sample::devices())),
            change: watch::channel(0).0,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<DeviceRow>)) {
        change(&mut self.rows.lock().unwrap());
        self.change.send_modify(|number| *number += 1);
    }
}

impl Source for Fake {
    type Changes = FakeChanges;

    fn user(&self, _: &Extensions) -> Option<String> {
        Some("Ærlend".into())
    }
    fn changes(&self) -> FakeChanges {
        FakeChanges(self.change.subscribe())
    }
    async fn device_rows(&self) -> Result<Vec<DeviceRow>, SourceError> {
        Ok(self.rows.lock().unwrap().clone())
    }
    async fn device_row(&self, device: DeviceId) -> Result<Option<DeviceRow>, SourceError> {
        Ok(self
            .rows
            .lock()
            .unwrap()
            .iter()
            .find(|row| row.device == device)
            .cloned())
    }
    async fn run_detail(&self, run: RunId) -> Result<Option<RunDetail>, SourceError> {
        let rows = self.rows.lock().unwrap();
        Ok(rows
            .iter()
            .filter_map(|row| row.run.as_ref())
            .find(|row| row.run == run)
            .map(sample::detail))
    }
    async fn device_plan(&self, serial: &str) -> Result<Option<DevicePlan>, SourceError> {
        let plan = sample::plan();
        Ok((plan.serial == serial).then_some(plan))
    }
    async fn collections(&self) -> Result<Vec<CollectionRow>, SourceError> {
        Ok(Vec::new())
    }
    async fn deployments(&self) -> Result<Vec<Deployment>, SourceError> {
        Ok(Vec::new())
    }
    async fn sequences(&self) -> Result<Vec<SequenceRow>, SourceError> {
        Ok(Vec::new())
    }
    async fn packages(&self) -> Result<Vec<PackageRow>, SourceError> {
        Err(SourceError {
            what: "read the packages",
            source: "the secret reason".into(),
        })
    }
    async fn prestages(&self) -> Result<Vec<PrestageVersion>, SourceError> {
        Ok(Vec::new())
    }
    async fn login(
        &self,
        user: &str,
        password: &str,
        new: Option<&str>,
    ) -> Result<HeaderValue, Refusal> {
        match (user, password, new) {
            ("admin", ONE_TIME, None) => Err(Refusal::NewPasswordNeeded),
            ("admin", ONE_TIME, Some(_)) => Ok(HeaderValue::from_static("session=1")),
            _ => Err(Refusal::Told(
                "The user name or the password is wrong.".into(),
            )),
        }
    }
    async fn logout(&self, _: &HeaderMap) -> Result<HeaderValue, SourceError> {
        Ok(HeaderValue::from_static("session="))
    }
}

async fn send(source: &Fake, request: Request) -> (StatusCode, HeaderMap, String) {
    let response = router(source.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 16 << 20).await.unwrap();
    (
        parts.status,
        parts.headers,
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

fn request(method: Method, address: &str, body: &str) -> Request {
    Request::builder()
        .method(method)
        .uri(address)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

async fn get_page(address: &str) -> (StatusCode, HeaderMap, String) {
    send(&Fake::new(), request(Method::GET, address, "")).await
}

#[tokio::test]
async fn every_page_is_there_and_hardened() {
    let run = sample::devices()
        .iter()
        .find_map(|row| row.run.as_ref())
        .map(|run| format!("/runs/{}", run.run))
        .unwrap();
    let pages = [
        "/",
        "/devices",
        "/collections",
        "/deployments",
        "/sequences",
        "/prestages",
        "/login",
        "/devices/PF%20A%2F1/plan",
        &run,
    ];
    for address in pages {
        let (status, headers, html) = get_page(address).await;
        assert_eq!(status, StatusCode::OK, "{address}");
        assert_eq!(
            headers[header::CONTENT_SECURITY_POLICY],
            POLICY,
            "{address}"
        );
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert!(
            html.starts_with("<!DOCTYPE html>") && !html.contains("style=\""),
            "{address}"
        );
    }
    let (status, headers, style) = get_page(assets::style_address()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        headers[header::CACHE_CONTROL]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert!(style.contains(".hue-20"));
    for missing in [
        "/assets/nothing.css",
        "/runs/nonsense",
        "/runs/00000000-0000-0000-0000-000000000000",
    ] {
        assert_eq!(
            get_page(missing).await.0,
            StatusCode::NOT_FOUND,
            "{missing}"
        );
    }
}

#[tokio::test]
async fn a_failing_source_is_told_without_its_reason() {
    let (status, _, html) = get_page("/packages").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(html.contains("Something went wrong") && !html.contains("the secret reason"));
}

#[tokio::test]
async fn the_filter_of_the_address_counts() {
    let (_, _, html) = get_page("/?site=KON&state=failed").await;
    assert_eq!(html.matches("<tbody").count(), 1);
    assert!(html.contains("data-live=\"/live/overview?site=KON&amp;state=failed\""));
    assert!(html.contains("1 of 30 devices") && html.contains("Ærlend"));
}

#[tokio::test]
async fn the_first_sign_in_asks_for_a_new_password() {
    let sign_in =
        async |body: &str| send(&Fake::new(), request(Method::POST, "/login", body)).await;
    let (status, headers, html) = sign_in("user=admin&password=wrong").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(html.contains("password is wrong") && !headers.contains_key(header::SET_COOKIE));

    let (status, headers, html) = sign_in(&format!("user=admin&password={ONE_TIME}")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(html.contains("name=\"new_password\"") && !headers.contains_key(header::SET_COOKIE));
    assert!(
        !html.contains(ONE_TIME),
        "a password is never written into a page"
    );

    let both = format!("user=admin&password={ONE_TIME}&new_password={NEW}&next=/devices&repeated=");
    let (status, _, html) = sign_in(&format!("{both}other")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(html.contains("passwords differ") && !html.contains(NEW));

    let (status, headers, _) = sign_in(&format!("{both}{NEW}")).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(
        (&headers[header::LOCATION], &headers[header::SET_COOKIE]),
        (
            &HeaderValue::from_static("/devices"),
            &HeaderValue::from_static("session=1")
        )
    );
}

#[tokio::test]
async fn other_sites_cannot_post() {
    for (name, value, expected) in [
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-origin", StatusCode::SEE_OTHER),
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("origin", "https://forestage.example", StatusCode::SEE_OTHER),
    ] {
        let mut request = request(Method::POST, "/logout", "");
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("forestage.example"));
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        assert_eq!(
            send(&Fake::new(), request).await.0,
            expected,
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn a_form_that_is_too_long_is_refused() {
    let body = format!("user=admin&password={}", "x".repeat(FORM_BYTES_MAX));
    let (status, ..) = send(&Fake::new(), request(Method::POST, "/login", &body)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// An open stream of updates.
struct Live(Body);

impl Live {
    async fn open(source: &Fake, address: &str) -> Self {
        let response = router(source.clone())
            .oneshot(request(Method::GET, address, ""))
            .await
            .unwrap();
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        Self(response.into_body())
    }

    /// The next event: its name and its data.
    async fn next(&mut self) -> Option<(String, serde_json::Value)> {
        let frame = self.0.frame().await?.unwrap().into_data().unwrap();
        let text = String::from_utf8(frame.to_vec()).unwrap();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        Some((
            field("event:"),
            serde_json::from_str(&field("data:")).unwrap(),
        ))
    }
}

#[tokio::test(start_paused = true)]
async fn the_overview_is_followed_row_by_row() {
    let source = Fake::new();
    let mut live = Live::open(&source, "/live/overview").await;
    let (name, all) = live.next().await.unwrap();
    assert_eq!(name, "overview");
    assert_eq!(all["rows"].as_object().unwrap().len(), 30);

    // Many changes at once make one update, of the changed row alone.
    let began = tokio::time::Instant::now();
    for percent in 1..=50 {
        source.change(|rows| rows[0].run.as_mut().unwrap().step_percent = Some(percent));
    }
    let (_, update) = live.next().await.unwrap();
    assert!(
        began.elapsed() >= std::time::Duration::from_millis(500),
        "at most two a second"
    );
    let rows = update["rows"].as_object().unwrap();
    assert_eq!(rows.len(), 1);
    assert!(
        rows.values()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .contains("50 %")
    );
    assert!(update["tiles"].is_null(), "no count has changed");

    // A failure goes to the top and changes the counts; a removed device leaves the order.
    source.change(|rows| {
        rows[0].state = DeviceState::Failed;
        rows.truncate(29);
    });
    let (_, update) = live.next().await.unwrap();
    assert_eq!(update["order"].as_array().unwrap().len(), 29);
    assert!(
        update["tiles"]
            .as_str()
            .unwrap()
            .contains("<span class=\"figure\">2</span>")
    );

    // Silence is broken by a beat, and the stream ends in the end.
    assert_eq!(live.next().await.unwrap().0, "beat");
    while let Some((name, _)) = live.next().await {
        assert_eq!(name, "beat");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_is_followed_part_by_part_and_line_by_line() {
    let source = Fake::new();
    let row = sample::devices()[0].run.clone().unwrap();
    let lines = sample::detail(&row).log.len();
    let mut live = Live::open(
        &source,
        &format!("/live/runs/{}?after={}", row.run, lines - 1),
    )
    .await;
    let (name, first) = live.next().await.unwrap();
    assert_eq!(name, "run");
    assert_eq!(
        first["log"].as_str().unwrap().matches("<li").count(),
        1,
        "only what the page lacks"
    );
    assert!(first["parts"]["run-timeline"].is_string());

    source.change(|rows| rows[0].run.as_mut().unwrap().step_percent = Some(77));
    let (_, update) = live.next().await.unwrap();
    let parts: Vec<_> = update["parts"].as_object().unwrap().keys().collect();
    assert_eq!(parts, ["run-head"]);
    assert!(update["log"].is_null());
}

#[tokio::test]
async fn open_pages_are_limited() {
    let source = Fake::new();
    let app = router(source);
    let open = async || {
        app.clone()
            .oneshot(request(Method::GET, "/live/overview", ""))
            .await
            .unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..STREAMS_MAX {
        held.push(open().await);
    }
    assert_eq!(open().await.status(), StatusCode::SERVICE_UNAVAILABLE);
}
