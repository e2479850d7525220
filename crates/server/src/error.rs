//! What can go wrong inside the server, and how it is told to callers.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use camino::Utf8PathBuf;
use wire::device_api::ApiError;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The caller is told no, and why.
    #[error("{}", error.message)]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What the caller is told.
        error: ApiError,
    },
    /// The database did not do it.
    #[error("cannot {what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
    /// The database could not be brought to this release's form.
    #[error("cannot migrate the database")]
    Migration {
        /// Why not.
        source: sqlx::migrate::MigrateError,
    },
    /// The content library did not do it.
    #[error("cannot {what}")]
    Content {
        /// What was tried.
        what: String,
        /// Why not.
        source: content::ContentError,
    },
    /// A file did not do it.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: Utf8PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A stored document can't be read.
    #[error("cannot read the stored {what}")]
    Stored {
        /// What it should be.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something that must work did not, such as the system's randomness.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure {
    /// The caller is told no.
    pub(crate) fn refused(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self::Refused {
            status,
            error: ApiError {
                code: code.into(),
                message: message.into(),
                hint: None,
            },
        }
    }

    /// The caller said something that makes no sense.
    pub(crate) fn bad_request(code: &str, message: impl Into<String>) -> Self {
        Self::refused(StatusCode::BAD_REQUEST, code, message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::refused(
            StatusCode::NOT_FOUND,
            "not-found",
            format!("there is no {what}"),
        )
    }

    /// It can't be done as things are.
    pub(crate) fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::refused(StatusCode::CONFLICT, code, message)
    }

    /// Nobody has said who they are.
    pub(crate) fn unauthorized() -> Self {
        Self::refused(StatusCode::UNAUTHORIZED, "unauthorized", "sign in first")
            .hint("send `Authorization: Bearer <token>`; `forestage login` gets one")
    }

    /// Adds what the caller can do.
    #[must_use]
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Refused { error, .. } = &mut self {
            error.hint = Some(text.into());
        }
        self
    }

    /// What a caller is told.
    pub(crate) fn api_error(&self) -> (StatusCode, ApiError) {
        match self {
            Self::Refused { status, error } => (*status, error.clone()),
            _ => {
                let error = ApiError {
                    code: "internal".into(),
                    message: "the server could not do it".into(),
                    hint: Some("look into the server's log; trying again is safe".into()),
                };
                (StatusCode::INTERNAL_SERVER_ERROR, error)
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error) = self.api_error();
        let id = crate::problem::request_id();
        if matches!(self, Self::Refused { .. }) {
            tracing::debug!(request.id = %id, status = status.as_u16(), code = %error.code, "request {id} was refused");
        } else {
            tracing::error!(request.id = %id, error = %chain(&self), "request {id} failed");
        }
        // Whoever asked for a page gets it drawn from this; see `web::dress`.
        let mut response = crate::problem::response(status, &error);
        response.extensions_mut().insert(error);
        response
    }
}

/// The whole error chain in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// Says what was tried when the database did not do it.
pub(crate) trait Doing<T> {
    /// `what` completes "cannot …".
    fn doing(self, what: &'static str) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(|source| Failure::Database { what, source })
    }
}

/// Reads a stored JSON document.
pub(crate) fn stored<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|source| Failure::Stored {
        what,
        source: source.into(),
    })
}

/// Reads a sentence as it is stored: with its code, or, by earlier releases and people, as a text.
pub(crate) fn said<S: serde::de::DeserializeOwned + From<String>>(text: &str) -> S {
    serde_json::from_str(text).unwrap_or_else(|_| S::from(text.to_owned()))
}

/// Reads a stored list of sentences; earlier releases stored texts.
pub(crate) fn all_said<S: serde::de::DeserializeOwned + From<String>>(
    what: &'static str,
    list: &str,
) -> Result<Vec<S>, Failure> {
    let list: Vec<serde_json::Value> = stored(what, list)?;
    list.into_iter()
        .map(|one| match one {
            serde_json::Value::String(text) => Ok(S::from(text)),
            coded => stored_value(what, coded),
        })
        .collect()
}

/// Reads a stored document that was taken apart already.
pub(crate) fn stored_value<T: serde::de::DeserializeOwned>(
    what: &'static str,
    value: serde_json::Value,
) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|source| Failure::Stored {
        what,
        source: source.into(),
    })
}

/// Reads a stored id or name.
pub(crate) fn stored_text<T>(what: &'static str, text: &str) -> Result<T, Failure>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|source: T::Err| Failure::Stored {
        what,
        source: source.into(),
    })
}

/// Writes a document for storing.
pub(crate) fn to_json<T: serde::Serialize>(
    what: &'static str,
    value: &T,
) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|source| Failure::System {
        what,
        source: source.into(),
    })
}
