//! What goes wrong between us and the server.

use std::error::Error as StdError;

use ureq::http::StatusCode;
use wire::device_api::ApiError;

/// What went wrong between us and the server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server was not reached, or the connection broke: no route, refused, timed out, wrong certificate, cut off
    /// in the middle of the answer.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was called.
        url: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The server said no.
    #[error("{url} answered {status}: {}", error.message)]
    Refused {
        /// What was called.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the server said.
        error: ApiError,
    },
    /// The answer made no sense.
    #[error("cannot read the answer of {url}")]
    Answer {
        /// What was called.
        url: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl ClientError {
    /// Whether the same call may go well later although nobody changes anything: the server was not reached, is
    /// overloaded or broken. A refusal and an answer that makes no sense are not temporary.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Answer { .. } => false,
        }
    }

    /// Whether nobody was there who could have said yes or no: the server was not reached, or what stands before it says that
    /// it is away.
    #[must_use]
    pub fn is_unreached(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 502..=504),
            Self::Answer { .. } => false,
        }
    }

    /// The HTTP status, if the server said no.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable { .. } | Self::Answer { .. } => None,
        }
    }

    /// The server's own word for why it said no. Whatever stands before it has none.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => Some(&error.code),
            Self::Unreachable { .. } | Self::Answer { .. } => None,
        }
    }

    pub(crate) fn unreachable(
        url: &str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Unreachable {
            url: url.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn answer(url: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Answer {
            url: url.to_owned(),
            source: source.into(),
        }
    }

    /// Sorts an error of the HTTP library: what came back was no HTTP, or nothing came back.
    pub(crate) fn from_call(url: &str, error: ureq::Error) -> Self {
        match error {
            ureq::Error::Io(error) => match NotOurs::among(&error) {
                Some(not_ours) => Self::unreachable(url, not_ours),
                None => Self::unreachable(url, error),
            },
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                Self::answer(url, error)
            }
            other => Self::unreachable(url, other),
        }
    }

    /// An answer that isn't a success. `body` is the start of what the server said.
    pub(crate) fn refused(url: &str, status: StatusCode, body: &[u8]) -> Self {
        let error = serde_json::from_slice(body).unwrap_or_else(|_| foreign_error(status, body));
        Self::Refused {
            url: url.to_owned(),
            status: status.as_u16(),
            error,
        }
    }
}

/// Whoever answers isn't the server that is trusted here, or somebody between us and it changes what is sent.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct NotOurs {
    what: &'static str,
    source: rustls::Error,
}

impl NotOurs {
    /// What TLS found, in words for whoever stands in front of the machine.
    fn among(error: &std::io::Error) -> Option<Self> {
        use rustls::{CertificateError, Error};
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        let what = match error {
            Error::InvalidCertificate(error) => match error {
                // One that only bears the name of ours is another, too.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "whoever answers isn't our server: its certificate is from an authority that isn't trusted here"
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    "whoever answers isn't our server: its certificate is for another name"
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "the server's certificate has expired, or the clock here is wrong"
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "the server's certificate isn't valid yet, or the clock here is wrong"
                }
                _ => "whoever answers isn't our server: its certificate isn't one of a server",
            },
            Error::InvalidMessage(_) => "whoever answers doesn't speak TLS",
            Error::PeerIncompatible(_) => "whoever answers speaks another TLS than we do",
            Error::PeerMisbehaved(_) | Error::DecryptError | Error::PeerSentOversizedRecord => {
                "what comes from there was changed on its way"
            }
            _ => return None,
        };
        Some(Self {
            what,
            source: error.clone(),
        })
    }
}

/// A line of a foreign error page that is still worth showing.
const FOREIGN_CHARS_MAX: usize = 200;

/// Something between us and the server answered (a proxy, a captive portal), or a server that is not ours.
fn foreign_error(status: StatusCode, body: &[u8]) -> ApiError {
    let text = String::from_utf8_lossy(body);
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('<'))
        .unwrap_or_default();
    let said: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(FOREIGN_CHARS_MAX)
        .collect();
    let reason = status
        .canonical_reason()
        .unwrap_or("no known reason")
        .to_lowercase();
    let message = if status.is_redirection() {
        format!("{reason}: it sends us elsewhere, and we don't go there")
    } else if said.is_empty() {
        reason
    } else {
        said
    };
    ApiError {
        code: format!("http-{}", status.as_u16()),
        message,
        hint: Some("check the address: this does not look like a Forestage server".to_owned()),
    }
}
