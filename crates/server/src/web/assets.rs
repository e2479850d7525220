//! Stylesheet, scripts and icon, inside the program. Their addresses carry a digest of their content, so that a browser
//! may keep them forever and still gets the new ones after an update.

use std::sync::LazyLock;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::databar;

/// One file for browsers.
pub struct Asset {
    /// Its plain name, such as `forms.js`.
    pub name: &'static str,
    kind: &'static str,
    /// What is in it.
    pub content: String,
    /// Where it is.
    pub address: String,
}

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let style = [
        include_str!("assets/style.css"),
        include_str!("assets/hand_out.css"),
        include_str!("assets/imports.css"),
        include_str!("assets/watch.css"),
        include_str!("assets/wall.css"),
        &databar::stylesheet(),
    ]
    .join("\n");
    vec![
        asset("style.css", STYLE, style),
        asset("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
        asset("frame.js", SCRIPT, include_str!("assets/frame.js")),
        asset("forms.js", SCRIPT, include_str!("assets/forms.js")),
        asset("assign.js", SCRIPT, include_str!("assets/assign.js")),
        asset("hand_out.js", SCRIPT, include_str!("assets/hand_out.js")),
        asset("tables.js", SCRIPT, include_str!("assets/tables.js")),
        asset("people.js", SCRIPT, include_str!("assets/people.js")),
        asset("bulk.js", SCRIPT, include_str!("assets/bulk.js")),
        asset("receipts.js", SCRIPT, include_str!("assets/receipts.js")),
        asset("live.js", SCRIPT, include_str!("assets/live.js")),
    ]
});

/// The stylesheet as text, for a file that needs nothing else.
pub(super) fn style() -> &'static str {
    ASSETS
        .iter()
        .find(|asset| asset.name == "style.css")
        .map_or("", |asset| &asset.content)
}

fn asset(name: &'static str, kind: &'static str, content: impl Into<String>) -> Asset {
    let content = content.into();
    let digest = wire::digest::Digest::of(content.as_bytes()).short();
    let address = match name.rsplit_once('.') {
        Some((stem, extension)) => format!("/assets/{stem}-{digest}.{extension}"),
        None => format!("/assets/{name}-{digest}"),
    };
    Asset {
        name,
        kind,
        content,
        address,
    }
}

/// Every file for browsers.
#[must_use]
pub fn all() -> &'static [Asset] {
    &ASSETS
}

/// Where the file with this plain name is.
///
/// # Panics
/// If there is no such file: the names are written in the pages' own code.
#[must_use]
pub fn address(name: &str) -> &'static str {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    &asset.expect("pages name files that are there").address
}

/// Answers `/assets/{name}`.
pub(super) fn serve(name: &str) -> Response {
    let path = format!("/assets/{name}");
    let Some(asset) = ASSETS.iter().find(|asset| asset.address == path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = asset.content.as_str().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=31536000, immutable"),
    );
    response
}
