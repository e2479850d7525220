//! The stylesheet, the script and the icon, inside the program. Their addresses carry a digest of their content, so
//! that a browser may keep them forever and still gets the new ones after an update.

use std::sync::LazyLock;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::databar;

const SCRIPT: &str = include_str!("assets/live.js");
const ICON: &str = include_str!("assets/icon.svg");

static STYLE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\n{}",
        include_str!("assets/style.css"),
        databar::stylesheet()
    )
});

static STYLE_ADDRESS: LazyLock<String> = LazyLock::new(|| address("style", &STYLE, "css"));
static SCRIPT_ADDRESS: LazyLock<String> = LazyLock::new(|| address("live", SCRIPT, "js"));
static ICON_ADDRESS: LazyLock<String> = LazyLock::new(|| address("icon", ICON, "svg"));

fn address(name: &str, content: &str, extension: &str) -> String {
    format!(
        "/assets/{name}-{}.{extension}",
        wire::digest::Digest::of(content.as_bytes()).short()
    )
}

/// The stylesheet, with the databar's colours.
#[must_use]
pub fn style() -> &'static str {
    &STYLE
}

/// The script.
#[must_use]
pub const fn script() -> &'static str {
    SCRIPT
}

/// The icon.
#[must_use]
pub const fn icon() -> &'static str {
    ICON
}

/// Where the stylesheet is.
#[must_use]
pub fn style_address() -> &'static str {
    &STYLE_ADDRESS
}

/// Where the script is.
#[must_use]
pub fn script_address() -> &'static str {
    &SCRIPT_ADDRESS
}

/// Where the icon is.
#[must_use]
pub fn icon_address() -> &'static str {
    &ICON_ADDRESS
}

/// Answers `/assets/{name}`.
pub(super) fn serve(name: &str) -> Response {
    let path = format!("/assets/{name}");
    let (kind, content) = if path == style_address() {
        ("text/css; charset=utf-8", style())
    } else if path == script_address() {
        ("text/javascript; charset=utf-8", SCRIPT)
    } else if path == icon_address() {
        ("image/svg+xml", ICON)
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    response
}
