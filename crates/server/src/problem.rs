//! Refusals as RFC 9457 `application/problem+json`. `code`, `message` and `hint` stay where older programs read them.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use wire::device_api::ApiError;
use wire::problem::Problem;

use crate::error::Failure;
use crate::secret;
use crate::web::visitor::Look;
use crate::web::words::Words;

/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
/// By which a request is found in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// Why the framework refuses something is one sentence.
const REASON_BYTES_MAX: usize = 4096;
/// Digits of a request's id: enough for a day's log.
const ID_DIGITS: usize = 16;

/// What is known of the request being answered, wherever it is answered.
struct Asked {
    id: String,
    words: Words,
}

tokio::task_local! {
    static ASKED: Asked;
}

/// The id of the request being answered; empty outside of one.
pub(crate) fn request_id() -> String {
    ASKED.try_with(|asked| asked.id.clone()).unwrap_or_default()
}

/// The language of whoever asks; English outside of a request.
fn words() -> Words {
    ASKED.try_with(|asked| asked.words).unwrap_or_default()
}

/// The middleware that gives each request an id, and hears which language its sender speaks.
pub(crate) async fn with_id(request: Request, next: Next) -> Response {
    // Without randomness nothing secret works either; a request without an id still gets its answer.
    let mut id = secret::random_hex().unwrap_or_default();
    id.truncate(ID_DIGITS);
    let asked = Asked {
        id: id.clone(),
        words: Look::from_headers(request.headers()).words,
    };
    let mut response = ASKED.scope(asked, next.run(request)).await;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A refusal as bytes.
pub(crate) fn body(status: StatusCode, error: &ApiError) -> Vec<u8> {
    let problem = Problem {
        kind: format!("urn:forestage:problem:{}", error.code),
        title: status.canonical_reason().unwrap_or("Refused").to_owned(),
        status: status.as_u16(),
        detail: error.message.clone(),
        instance: match request_id().as_str() {
            "" => String::new(),
            id => format!("urn:forestage:request:{id}"),
        },
        code: error.code.clone(),
        message: error.message.clone(),
        hint: error.hint.clone(),
        said: words().refusal(&error.code).map(str::to_owned),
    };
    // Only texts and a number: writing them can't fail.
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// A refusal as an answer.
pub(crate) fn response(status: StatusCode, error: &ApiError) -> Response {
    let media_type = HeaderValue::from_static(MEDIA_TYPE);
    (
        status,
        [(header::CONTENT_TYPE, media_type)],
        body(status, error),
    )
        .into_response()
}

/// The middleware that tells what the framework refuses (a query or a path that can't be read) like every other refusal.
pub(crate) async fn told(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(is_text && response.status().is_client_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, REASON_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut letters = text.chars();
    let first = letters.next().unwrap_or_default().to_ascii_lowercase();
    let message = format!("{first}{}", letters.as_str());
    Failure::refused(parts.status, "bad-request", message).into_response()
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_a_problem_document_and_reads_as_an_api_error() {
        let asked = Asked {
            id: "0123456789abcdef".to_owned(),
            words: Words::BOKMAL,
        };
        let response = ASKED
            .scope(asked, async {
                Failure::not_found("device x")
                    .hint("look again")
                    .into_response()
            })
            .await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        let bytes = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let expected = serde_json::json!({
            "type": "urn:forestage:problem:not-found",
            "title": "Not Found",
            "status": 404,
            "detail": "there is no device x",
            "instance": "urn:forestage:request:0123456789abcdef",
            "code": "not-found",
            "message": "there is no device x",
            "hint": "look again",
            "said": "Det finnes ikke, eller det er utenfor det du ser.",
        });
        assert_eq!(value, expected);
        let read: ApiError = serde_json::from_value(value).unwrap();
        assert_eq!(read.message, "there is no device x");
    }
}
