//! `Idempotency-Key`: a change that is sent again, because the answer to it got lost, is answered again and not done again.
//!
//! The same key with the same request within a day gets the same answer; with another request it is refused. Answers that hold
//! a secret or tell of pupils are not kept: whoever asks again learns that it was done, or is refused anew.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::db::commit;
use crate::error::{Doing as _, Failure, chain};
use crate::limits::ASSET_FILE_BYTES_MAX;
use crate::people::auth::{DAY_MS, User};
use crate::routes::read_body;
use crate::state::{AppState, now_ms};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// A key is a UUID or something like it.
const KEY_BYTES_MAX: usize = 200;
/// Longer answers aren't kept: they are reports that can be asked for again.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Keys of one user; the oldest make room.
const KEYS_MAX: i64 = 2000;

/// Requests with a key that are being worked on.
#[derive(Debug, Default)]
pub(crate) struct InProgress(Mutex<BTreeSet<(String, String)>>);

/// One of them; it is done with when this is dropped.
struct Place<'s> {
    all: &'s InProgress,
    name: (String, String),
}

impl InProgress {
    fn enter(&self, user: &str, key: &str) -> Option<Place<'_>> {
        let name = (user.to_owned(), key.to_owned());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.clone())
            .then_some(Place { all: self, name })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.name);
    }
}

/// The middleware: inside the one that finds out who is calling.
pub(crate) async fn once(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let is_change = !request.method().is_safe() && request.uri().path().starts_with("/api/");
    let user = request
        .extensions()
        .get::<User>()
        .map(|user| user.name.clone());
    let key = request.headers().get(KEY).cloned();
    let (true, Some(user), Some(key)) = (is_change, user, key) else {
        return next.run(request).await;
    };
    match answer(&state, &user, &key, request, next).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn answer(
    state: &AppState,
    user: &str,
    key: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let key = key
        .to_str()
        .ok()
        .filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX)
        .ok_or_else(|| {
            Failure::bad_request(
                "bad-key",
                "an idempotency key has 1 to 200 plain characters",
            )
        })?;
    let (parts, body) = request.into_parts();
    let body = read_body(body, ASSET_FILE_BYTES_MAX).await?;
    let path = parts.uri.path().to_owned();
    let uri = parts.uri.to_string();
    let asked = fingerprint(
        state.vault().fingerprints(),
        parts.method.as_str(),
        &uri,
        &body,
    );
    let Some(_place) = state.in_progress().enter(user, key) else {
        return Err(Failure::conflict(
            "in-progress",
            "the first request with this key is still being worked on",
        )
        .hint("ask again in a moment"));
    };
    if let Some((before, kept)) = earlier(state, user, key).await? {
        if before != asked {
            return Err(Failure::refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "key-reused",
                "this idempotency key was used for another request",
            )
            .hint("use a new key for a new request"));
        }
        return Ok(kept);
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    // What the server couldn't do may go well the next time; and a refusal may say who has a device.
    let status = response.status();
    if status.is_server_error() || (!status.is_success() && holds_secret(&path)) {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let is_short = |length: &HeaderValue| {
        let length = length
            .to_str()
            .ok()
            .and_then(|text| text.parse::<usize>().ok());
        length.is_some_and(|length| length <= ANSWER_BYTES_MAX)
    };
    let is_empty = http_body_util::BodyExt::boxed_unsync(body);
    let size = hyper::body::Body::size_hint(&is_empty).upper();
    let keeps = size.is_some_and(|size| size <= ANSWER_BYTES_MAX as u64)
        || parts
            .headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(is_short);
    if !keeps {
        return Ok(Response::from_parts(parts, Body::new(is_empty)));
    }
    let bytes = to_bytes(Body::new(is_empty), ANSWER_BYTES_MAX)
        .await
        .map_err(|source| Failure::System {
            what: "read our own answer",
            source: source.into(),
        })?;
    let content_type = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let kept = match holds_secret(&path) {
        true => Kept::done_already(),
        false => Kept {
            status: parts.status,
            content_type,
            body: bytes.clone(),
        },
    };
    if let Err(error) = keep(state, user, key, &asked, &kept).await {
        // It was done; not to answer now would be worse than not to be able to answer again.
        tracing::error!(error = %chain(&error), "cannot keep an answer");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

struct Kept {
    status: StatusCode,
    content_type: String,
    body: Bytes,
}

impl Kept {
    fn done_already() -> Self {
        let failure = Failure::conflict(
            "done-already",
            "this was done already; its answer isn't kept, because it held a secret or personal data",
        )
        .hint("look at what there is now; a lost secret is revoked or reset");
        let (status, error) = failure.api_error();
        Self {
            status,
            content_type: crate::problem::MEDIA_TYPE.into(),
            body: crate::problem::body(status, &error).into(),
        }
    }
}

/// Answers of these routes hold a token, a password or pupils, or tell of a request that holds a secret.
fn holds_secret(path: &str) -> bool {
    let path = path.strip_prefix("/api/v1/").unwrap_or(path);
    [
        "tokens",
        "users",
        "webhooks",
        "secrets",
        "pupils",
        "assignments",
    ]
    .iter()
    .any(|folder| path.starts_with(folder))
}

/// By a key that isn't in the database: a request may hold a password, and nobody is to try guesses on what is kept of it.
fn fingerprint(key: &[u8; 32], method: &str, uri: &str, body: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in [method.as_bytes(), uri.as_bytes(), body] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// What was asked with this key, and the answer to it.
async fn earlier(
    state: &AppState,
    user: &str,
    key: &str,
) -> Result<Option<(String, Response)>, Failure> {
    let found: Option<(String, i64, String, Vec<u8>)> = sqlx::query_as(
        "SELECT request, status, content_type, body FROM idempotency \
         WHERE user_name = $1 AND request_key = $2 AND created_at_ms > $3",
    )
    .bind(user)
    .bind(key)
    .bind(now_ms() - DAY_MS)
    .fetch_optional(state.db().read())
    .await
    .doing("look up an idempotency key")?;
    let Some((request, status, content_type, body)) = found else {
        return Ok(None);
    };
    let status = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if let Ok(value) = HeaderValue::from_str(&content_type)
        && !content_type.is_empty()
    {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(Some((request, response)))
}

async fn keep(
    state: &AppState,
    user: &str,
    key: &str,
    request: &str,
    kept: &Kept,
) -> Result<(), Failure> {
    let mut db = state.db().write().await?;
    sqlx::query("DELETE FROM idempotency WHERE created_at_ms <= $1")
        .bind(now_ms() - DAY_MS)
        .execute(&mut *db)
        .await
        .doing("forget old idempotency keys")?;
    let there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM idempotency WHERE user_name = $1")
        .bind(user)
        .fetch_one(&mut *db)
        .await
        .doing("count idempotency keys")?;
    if there >= KEYS_MAX {
        sqlx::query(
            "DELETE FROM idempotency WHERE user_name = $1 AND request_key IN (SELECT oldest.request_key FROM \
             (SELECT request_key FROM idempotency WHERE user_name = $1 ORDER BY created_at_ms LIMIT $2) oldest)",
        )
        .bind(user)
        .bind(there - KEYS_MAX + 1)
        .execute(&mut *db)
        .await
        .doing("make room for an idempotency key")?;
    }
    sqlx::query(
        "INSERT INTO idempotency (user_name, request_key, request, status, content_type, body, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (user_name, request_key) DO UPDATE SET \
         request = excluded.request, status = excluded.status, content_type = excluded.content_type, \
         body = excluded.body, created_at_ms = excluded.created_at_ms",
    )
    .bind(user)
    .bind(key)
    .bind(request)
    .bind(i64::from(kept.status.as_u16()))
    .bind(&kept.content_type)
    .bind(kept.body.to_vec())
    .bind(now_ms())
    .execute(&mut *db)
    .await
    .doing("keep an answer")?;
    commit(db).await
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_fingerprint_is_of_all_of_a_request_and_of_one_server() {
        let of = |key, uri, body: &[u8]| fingerprint(&[key; 32], "PUT", uri, body);
        let one = of(1, "/a", b"password");
        assert_eq!(one, of(1, "/a", b"password"));
        assert_ne!(one, of(1, "/ap", b"assword"));
        // Whoever has the database alone can't find out by trying.
        assert_ne!(one, of(2, "/a", b"password"));
    }
}
