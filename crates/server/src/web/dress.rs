//! What surrounds the handlers of pages: the headers that every page has, and failures drawn as pages.

use axum::extract::{FromRequestParts as _, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use wire::device_api::ApiError;

use super::visitor::{Look, Visitor};
use super::words::en;
use super::{frame, layout};

/// Nothing from elsewhere, nothing inline, never inside another page's frame.
const POLICY: &str = "default-src 'self'; base-uri 'none'; object-src 'none'; \
    form-action 'self'; frame-ancestors 'none'";

/// Sets the headers that every page, style and stream has.
pub(super) async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    set_headers(response.headers_mut());
    response
}

fn set_headers(headers: &mut HeaderMap) {
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
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages show people's devices: no copy stays behind in a shared browser.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Around everything: whoever asked for a page and gets a failure gets it as a page, in their language.
pub(crate) async fn dress(request: Request, next: Next) -> Response {
    let html = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/html"));
    let wants_page = request.method() == Method::GET
        && request.headers().get(header::ACCEPT).is_some_and(html)
        && !["/api/", "/device/", "/assets/", "/live/"]
            .iter()
            .any(|folder| request.uri().path().starts_with(folder));
    if !wants_page {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let visitor = Visitor::from_request_parts(&mut parts, &()).await.ok();
    let look = Look::from_headers(&parts.headers);
    let response = next.run(Request::from_parts(parts, body)).await;
    let Some(error) = response.extensions().get::<ApiError>() else {
        return response;
    };
    let status = response.status();
    let title = look.words.t(title(status));
    let page = frame::error_page(
        visitor.as_ref(),
        look,
        title,
        &layout::refusal(look.words, error),
    );
    let mut page = (status, page).into_response();
    set_headers(page.headers_mut());
    page
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => en("Not found"),
        StatusCode::FORBIDDEN => en("Not for you"),
        StatusCode::UNAUTHORIZED => en("You are not signed in"),
        status if status.is_server_error() => en("Something went wrong"),
        _ => en("This can't be done"),
    }
}
