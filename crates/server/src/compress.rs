//! Answers are compressed for those who can read it: pages, styles, scripts, JSON and CSV. What is compressed already
//! (packs, bundles, manifests), what is read in ranges, and what must arrive at once (server-sent events) stays as it is.
//!
//! What another site had asked for is not compressed either: see `docs/decisions/0028-compressed-answers.md`.

use std::io::{self, Write as _};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, header};
use axum::middleware::Next;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, stream};
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::people::auth::is_cross_site;

/// What a shorter answer saves is less than its headers.
const BYTES_MIN: u64 = 1024;
/// So much is compressed before others have a turn: less than a millisecond's work.
const PIECE_BYTES: usize = 64 << 10;
/// Two cores serve 2,500 machines: the fastest levels leave a tenth of a page, and the next ones little less.
const ZSTD_LEVEL: i32 = 1;
const GZIP_LEVEL: u32 = 1;
/// The media types that are compressed.
const KINDS: [&str; 7] = [
    "text/html",
    "text/css",
    "text/javascript",
    "text/csv",
    "application/json",
    "application/problem+json",
    "image/svg+xml",
];

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Zstd,
    Gzip,
}

/// The middleware.
pub(crate) async fn answers(request: Request, next: Next) -> Response<Body> {
    // An answer to anything else may show a new secret beside what was sent.
    let may = request.method() == Method::GET && !is_cross_site(request.headers());
    let encoding = preferred(request.headers()).filter(|_| may);
    let mut response = next.run(request).await;
    if !is_worth_it(&response) {
        return response;
    }
    let headers = response.headers_mut();
    headers.append(
        header::VARY,
        HeaderValue::from_static("accept-encoding, sec-fetch-site"),
    );
    let Some(encoding) = encoding else {
        return response;
    };
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_ENCODING, encoding.name());
    response.map(|body| compressed(body, encoding))
}

impl Encoding {
    const ALL: [Self; 2] = [Self::Zstd, Self::Gzip];

    const fn name(self) -> HeaderValue {
        match self {
            Self::Zstd => HeaderValue::from_static("zstd"),
            Self::Gzip => HeaderValue::from_static("gzip"),
        }
    }
}

/// The best that whoever asks can read (RFC 9110, section 12.5.3). What they would rather have, they have in either.
fn preferred(headers: &HeaderMap) -> Option<Encoding> {
    let accepted = headers.get_all(header::ACCEPT_ENCODING);
    let accepted: Vec<&str> = accepted
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|part| {
            let (name, weight) = part.split_once(';').unwrap_or((part, "q=1"));
            let weight: f32 = weight.trim().strip_prefix("q=")?.parse().ok()?;
            (weight > 0.0).then_some(name.trim())
        })
        .collect();
    Encoding::ALL.into_iter().find(|encoding| {
        let is_it = |name: &&str| {
            name.as_bytes()
                .eq_ignore_ascii_case(encoding.name().as_bytes())
        };
        accepted.iter().any(is_it)
    })
}

fn is_worth_it(response: &Response<Body>) -> bool {
    let headers = response.headers();
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    KINDS.contains(&kind.trim())
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::ACCEPT_RANGES)
        && !headers.contains_key(header::CONTENT_RANGE)
        && response
            .body()
            .size_hint()
            .exact()
            .is_none_or(|bytes| bytes >= BYTES_MIN)
}

/// Writes into memory; what has come out is taken away piece by piece.
enum Encoder {
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Zstd => Self::Zstd(ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?),
            Encoding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(GzEncoder::new(Vec::new(), level))
            }
        })
    }

    /// Takes in a piece; what came out, often nothing.
    fn write(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => {
                encoder.write_all(piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Gzip(encoder) => {
                encoder.write_all(piece)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

/// A body on its way through an encoder.
struct Compressing {
    body: BodyDataStream,
    /// Read and not compressed yet.
    piece: Bytes,
    /// Gone when the end is written, or when something went wrong.
    encoder: Option<Encoder>,
}

fn compressed(body: Body, encoding: Encoding) -> Body {
    let encoder = match Encoder::new(encoding) {
        Ok(encoder) => Some(encoder),
        Err(error) => return Body::from_stream(stream::iter([Err::<Bytes, _>(error)])),
    };
    let state = Compressing {
        body: body.into_data_stream(),
        piece: Bytes::new(),
        encoder,
    };
    Body::from_stream(stream::unfold(state, async |mut state| {
        let next = state.next().await.transpose()?;
        if next.is_err() {
            state.encoder = None;
        }
        Some((next, state))
    }))
}

impl Compressing {
    /// The next bytes; `None` after the last ones.
    async fn next(&mut self) -> Result<Option<Bytes>, axum::Error> {
        while let Some(encoder) = &mut self.encoder {
            if self.piece.is_empty() {
                match self.body.next().await {
                    Some(piece) => self.piece = piece?,
                    None => {
                        let end = self.encoder.take().map(Encoder::finish);
                        return end
                            .transpose()
                            .map_err(axum::Error::new)
                            .map(|end| end.map(Bytes::from));
                    }
                }
                continue;
            }
            let piece = self.piece.split_to(self.piece.len().min(PIECE_BYTES));
            let out = encoder.write(&piece).map_err(axum::Error::new)?;
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::Router;
    use axum::body::to_bytes;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use tower::ServiceExt as _;

    use super::*;

    /// Long enough for several pieces, and not the same everywhere.
    fn page() -> String {
        (0..40_000)
            .map(|n| format!("<tr id=\"{n}\"></tr>"))
            .collect()
    }

    fn answer(kind: &'static str, body: impl Into<Body>) -> Response<Body> {
        let mut response = Response::new(body.into());
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn router() -> Router {
        Router::new()
            .route(
                "/page",
                get(async || answer("text/html; charset=utf-8", page())),
            )
            .route(
                "/page",
                post(async || answer("text/html; charset=utf-8", page())),
            )
            .route("/short", get(async || answer("text/html", "<p>short</p>")))
            .route(
                "/pack",
                get(async || answer("application/octet-stream", page())),
            )
            .route("/live", get(async || answer("text/event-stream", page())))
            .route(
                "/part",
                get(async || {
                    let mut response = answer("text/csv", page());
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                    let range = HeaderValue::from_static("bytes 0-9/10");
                    response.headers_mut().insert(header::CONTENT_RANGE, range);
                    response
                }),
            )
            .route(
                "/pieces",
                get(async || {
                    let pieces = page().into_bytes();
                    let pieces: Vec<_> = pieces
                        .chunks(1000)
                        .map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece)))
                        .collect();
                    answer("application/json", Body::from_stream(stream::iter(pieces)))
                }),
            )
            .route(
                "/torn",
                get(async || {
                    let torn = [Ok(Bytes::from(page())), Err(io::Error::other("torn"))];
                    answer("text/html", Body::from_stream(stream::iter(torn)))
                }),
            )
            .layer(axum::middleware::from_fn(answers))
    }

    async fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    fn header_of(response: &Response<Body>, name: header::HeaderName) -> &str {
        response
            .headers()
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    async fn text(response: Response<Body>) -> String {
        let encoding = header_of(&response, header::CONTENT_ENCODING).to_owned();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let mut text = String::new();
        match encoding.as_str() {
            "zstd" => text = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap(),
            "gzip" => {
                flate2::read::GzDecoder::new(&bytes[..])
                    .read_to_string(&mut text)
                    .unwrap();
            }
            _ => text = String::from_utf8(bytes.to_vec()).unwrap(),
        }
        text
    }

    #[tokio::test]
    async fn what_is_accepted_is_sent_and_holds_the_same() {
        for (path, accepted, encoding) in [
            ("/page", "gzip, deflate, br, zstd", "zstd"),
            ("/page", "gzip, deflate, br", "gzip"),
            ("/page", "GZIP;q=0.5", "gzip"),
            ("/page", "zstd;q=0, gzip;q=0.1", "gzip"),
            ("/page", "br", ""),
            ("/page", "*", ""),
            ("/page", "gzip;q=no", ""),
            ("/page", "", ""),
            ("/pieces", "zstd", "zstd"),
            ("/pieces", "gzip", "gzip"),
        ] {
            let response = ask("GET", path, &[("accept-encoding", accepted)]).await;
            assert_eq!(
                header_of(&response, header::CONTENT_ENCODING),
                encoding,
                "{accepted}"
            );
            let vary = header_of(&response, header::VARY);
            assert_eq!(vary, "accept-encoding, sec-fetch-site");
            let is_compressed = !encoding.is_empty();
            if is_compressed {
                assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
                assert_eq!(response.body().size_hint().exact(), None);
            }
            assert!(text(response).await == page(), "{path} {accepted}");
        }
    }

    #[tokio::test]
    async fn a_page_takes_a_fraction() {
        for accepted in ["zstd", "gzip"] {
            let response = ask("GET", "/page", &[("accept-encoding", accepted)]).await;
            let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert!(
                bytes.len() * 4 < page().len(),
                "{accepted}: {}",
                bytes.len()
            );
        }
    }

    #[tokio::test]
    async fn what_is_packed_live_short_or_a_part_stays_as_it_is() {
        for path in ["/short", "/pack", "/live", "/part"] {
            let response = ask("GET", path, &[("accept-encoding", "gzip, zstd")]).await;
            assert_eq!(header_of(&response, header::CONTENT_ENCODING), "", "{path}");
            assert_eq!(header_of(&response, header::VARY), "", "{path}");
        }
    }

    #[tokio::test]
    async fn another_site_never_learns_from_the_length() {
        let zstd = ("accept-encoding", "zstd");
        for (method, from, encoding) in [
            ("GET", "cross-site", ""),
            ("GET", "same-site", ""),
            ("GET", "same-origin", "zstd"),
            ("GET", "none", "zstd"),
            ("POST", "same-origin", ""),
        ] {
            let response = ask(method, "/page", &[zstd, ("sec-fetch-site", from)]).await;
            let sent = header_of(&response, header::CONTENT_ENCODING);
            assert_eq!(sent, encoding, "{method} from {from}");
        }
    }

    #[tokio::test]
    async fn a_body_that_tears_is_no_whole_answer() {
        let response = ask("GET", "/torn", &[("accept-encoding", "zstd")]).await;
        assert_eq!(header_of(&response, header::CONTENT_ENCODING), "zstd");
        to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap_err();
    }
}
