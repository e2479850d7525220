//! Files as answers: whole, or the range that was asked for.

use std::io::{self, SeekFrom};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::error::Failure;

/// A file is read and sent in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// The file, or the range of it that these headers ask for.
pub(crate) async fn answer(mut file: File, asked: &HeaderMap) -> io::Result<Response> {
    let total = file.metadata().await?.len();
    let asked = asked
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let (status, start, end) = match asked.map(|text| range(text, total)) {
        None | Some(Range::Whole) => (StatusCode::OK, 0, total),
        Some(Range::Part(start, end)) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(Range::Unsatisfiable) => {
            let failure = Failure::refused(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "bad-range",
                format!("it has {total} bytes"),
            );
            let mut response = failure.into_response();
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, ascii(&format!("bytes */{total}")));
            return Ok(response);
        }
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut response = (status, stretch(file, end - start)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(
            header::CONTENT_RANGE,
            ascii(&format!("bytes {start}-{}/{total}", end - 1)),
        );
    }
    Ok(response)
}

/// The next `bytes` of a file as a body; a file that ends early ends the transfer with an error.
fn stretch(file: tokio::fs::File, bytes: u64) -> Body {
    let pieces = futures_util::stream::unfold((file, bytes), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut piece = vec![
            0;
            usize::try_from(left)
                .unwrap_or(PIECE_BYTES)
                .min(PIECE_BYTES)
        ];
        match file.read(&mut piece).await {
            Ok(0) => {
                let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                Some((Err(cut), (file, 0)))
            }
            Ok(length) => {
                piece.truncate(length);
                let left = left - u64::try_from(length).unwrap_or(left);
                Some((Ok(Bytes::from(piece)), (file, left)))
            }
            Err(error) => Some((Err(error), (file, 0))),
        }
    });
    Body::from_stream(pieces)
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// What a `Range` header asks for (RFC 9110, section 14), the end exclusive.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part(u64, u64),
    Unsatisfiable,
}

/// One range of bytes; what we don't understand is answered with everything, as the standard allows.
fn range(text: &str, total: u64) -> Range {
    let Some((first, last)) = text
        .trim()
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Range::Whole;
    };
    let (start, end) = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(start), Ok(last)) if start <= last => (start, last.saturating_add(1).min(total)),
        (Ok(start), Err(_)) if last.trim().is_empty() => (start, total),
        (Err(_), Ok(length)) if first.trim().is_empty() => (total.saturating_sub(length), total),
        _ => return Range::Whole,
    };
    if start < end {
        Range::Part(start, end)
    } else {
        Range::Unsatisfiable
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, range};

    #[test]
    fn reads_ranges() {
        let cases = [
            ("bytes=0-9", Range::Part(0, 10)),
            ("bytes=90-200", Range::Part(90, 100)),
            ("bytes=40-", Range::Part(40, 100)),
            ("bytes=-10", Range::Part(90, 100)),
            ("bytes=-500", Range::Part(0, 100)),
            ("bytes=100-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=9-3", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("lines=1-2", Range::Whole),
            ("bytes=0-18446744073709551615", Range::Part(0, 100)),
        ];
        for (text, expected) in cases {
            assert_eq!(range(text, 100), expected, "{text}");
        }
    }
}
