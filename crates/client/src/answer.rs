//! Bodies: those we send must be as long as they say, those we get must not be longer than they may.

use std::io::{self, Read};

use ureq::Body;
use ureq::http::Response;
use ureq::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use crate::error::ClientError;

/// An error reply is a few lines; more is not ours.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// A first allocation that fits nearly every answer but can't be abused by a wrong `Content-Length`.
const BUFFER_BYTES: usize = 16 << 10;

/// Why an answer makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Nonsense {
    /// Its end can't be told from a broken connection.
    #[error("the answer has neither a length nor chunks, so a cut-off one would look whole")]
    NoEnd,
    /// Longer than it may be.
    #[error("the answer is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: u64,
    },
    /// Not from where we asked.
    #[error("the answer does not begin at byte {from}")]
    WrongRange {
        /// Where it was to begin.
        from: u64,
    },
    /// Not the JSON we expect.
    #[error("the answer is not the JSON that was expected")]
    Json(#[source] serde_json::Error),
}

/// Lets successes pass; everything else, redirects included, becomes an error.
pub(crate) fn success(
    url: &str,
    mut response: Response<Body>,
) -> Result<Response<Body>, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut said = Vec::new();
    // A broken error page is still an error page: the status is what counts.
    let _ = response
        .body_mut()
        .as_reader()
        .take(ERROR_BYTES_MAX)
        .read_to_end(&mut said);
    Err(ClientError::refused(url, status, &said))
}

/// The length the server announced. An answer whose end can't be told from a cut is refused.
pub(crate) fn announced_length(
    url: &str,
    response: &Response<Body>,
) -> Result<Option<u64>, ClientError> {
    let headers = response.headers();
    // The transfer encoding goes before the length (RFC 9112, 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        return Ok(None);
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match (length, response.status().as_u16()) {
        (Some(length), _) => Ok(Some(length)),
        (None, 204) => Ok(Some(0)),
        (None, _) => Err(ClientError::answer(url, Nonsense::NoEnd)),
    }
}

/// Reads a whole body of at most `max` bytes.
pub(crate) fn read_all(
    url: &str,
    response: Response<Body>,
    max: u64,
) -> Result<Vec<u8>, ClientError> {
    let length = announced_length(url, &response)?;
    if length.is_some_and(|length| length > max) {
        return Err(ClientError::answer(url, Nonsense::TooLong { max }));
    }
    let mut bytes = Vec::with_capacity(
        BUFFER_BYTES.min(usize::try_from(length.unwrap_or(0)).unwrap_or(BUFFER_BYTES)),
    );
    let mut reader = stream(response).take(max + 1);
    reader
        .read_to_end(&mut bytes)
        .map_err(|error| ClientError::unreachable(url, error))?;
    if bytes.len() as u64 > max {
        return Err(ClientError::answer(url, Nonsense::TooLong { max }));
    }
    Ok(bytes)
}

/// Parses JSON; no body at all is read as `null`, so that `()` can be asked for.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    url: &str,
    bytes: &[u8],
) -> Result<T, ClientError> {
    let bytes = if bytes.is_empty() { b"null" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| ClientError::answer(url, Nonsense::Json(error)))
}

/// The body as a stream. Ends with an error, not short, if the connection breaks.
pub(crate) fn stream(response: Response<Body>) -> Box<dyn Read + Send> {
    let reader = response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    Box::new(reader)
}

/// A reader that gives exactly as many bytes as were promised to the server: never more, and an error if it has fewer
/// (the HTTP library would wait for ever).
pub(crate) struct Exactly<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl<'a> Exactly<'a> {
    pub(crate) fn new(inner: &'a mut dyn Read, length: u64) -> Self {
        Self {
            inner,
            left: length,
        }
    }
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let got = self.inner.read(&mut buffer[..wanted])?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the body to send ended too early",
            ));
        }
        self.left -= got as u64;
        Ok(got)
    }
}
