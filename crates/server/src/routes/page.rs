//! Pages of long lists: `?limit=N&cursor=C`, and in the answer `Link: <…>; rel="next"` and `next-cursor: C` as long as there
//! is more. Without parameters a list is as long as it always was.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;

use crate::error::Failure;

/// Rows of one page: a page of a list that people look at is a tenth of it.
const PAGE_ROWS_MAX: usize = 5000;
/// Where the next page begins, for programs that don't read `Link`.
const NEXT_CURSOR: HeaderName = HeaderName::from_static("next-cursor");

/// Which page is asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PageQuery {
    /// How many rows at most.
    limit: Option<usize>,
    /// Where it begins, as an answer before has told.
    cursor: Option<String>,
}

impl PageQuery {
    /// How many rows at most.
    pub(crate) fn limit_or(&self, usual: usize) -> usize {
        self.limit.unwrap_or(usual).clamp(1, PAGE_ROWS_MAX)
    }

    /// Whether a page is asked for, rather than the list.
    pub(crate) const fn is_asked(&self) -> bool {
        self.limit.is_some()
    }

    /// Where the page begins.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The cursor of a list whose rows have numbers.
    pub(crate) fn cursor_number(&self) -> Result<Option<i64>, Failure> {
        let number = self.cursor.as_deref().map(str::parse).transpose();
        number.map_err(|_| {
            Failure::bad_request("bad-cursor", "the cursor isn't one of this list")
                .hint("take it from the `next-cursor` of the page before")
        })
    }

    /// The page of a list that is whole in memory. The cursor names the row after which it begins; if that row is gone,
    /// the caller has to begin again. Without a limit it is all of them.
    pub(crate) fn cut<T>(
        &self,
        path: &str,
        mut rows: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<(HeaderMap, Vec<T>), Failure> {
        if let Some(cursor) = &self.cursor {
            let at = rows.iter().position(|row| key(row) == *cursor);
            let Some(at) = at else {
                return Err(
                    Failure::bad_request("bad-cursor", "the row of this cursor is gone")
                        .hint("read the list from its beginning"),
                );
            };
            rows.drain(..=at);
        }
        let Some(limit) = self.limit else {
            return Ok((HeaderMap::new(), rows));
        };
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let is_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| is_more).map(key);
        Ok((next_page(path, &[], limit, next), rows))
    }
}

/// The headers that say where the next page begins; none if there is none.
pub(crate) fn next_page(
    path: &str,
    query: &[(&'static str, String)],
    limit: usize,
    next: Option<impl std::fmt::Display>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(next) = next.map(|next| next.to_string()) else {
        return headers;
    };
    let mut link = format!("<{path}?limit={limit}&cursor={}", encode(&next));
    for (name, value) in query {
        link.push_str(&format!("&{name}={}", encode(value)));
    }
    link.push_str(">; rel=\"next\"");
    if let (Ok(link), Ok(next)) = (HeaderValue::from_str(&link), HeaderValue::from_str(&next)) {
        headers.insert(header::LINK, link);
        headers.insert(NEXT_CURSOR, next);
    }
    headers
}

/// Percent-encodes everything but the unreserved characters (RFC 3986, section 2.3).
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Names and values as they stand behind an address; nothing if there are none.
pub(crate) fn query_of(pairs: &[(&'static str, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

#[cfg(test)]
mod tests {
    use super::{PageQuery, next_page};

    /// All rows, read page by page.
    fn check(count: usize, limit: usize) -> Vec<usize> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let query = PageQuery {
                limit: Some(limit),
                cursor,
            };
            let (headers, rows) = query
                .cut("/rows", (0..count).collect(), ToString::to_string)
                .unwrap();
            assert!(rows.len() <= limit);
            all.extend(rows);
            match headers.get("next-cursor") {
                Some(next) => cursor = Some(next.to_str().unwrap().to_owned()),
                None => return all,
            }
        }
    }

    #[test]
    fn pages_together_are_the_list() {
        for (count, limit) in [(0, 3), (1, 3), (3, 3), (4, 3), (10, 1)] {
            assert_eq!(check(count, limit), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn without_parameters_a_list_is_whole_and_a_strange_cursor_is_refused() {
        let cut = |query: &PageQuery| query.cut("/rows", vec![1, 2, 3], ToString::to_string);
        assert_eq!(cut(&PageQuery::default()).unwrap().1, [1, 2, 3]);
        let strange = PageQuery {
            cursor: Some("9".into()),
            ..PageQuery::default()
        };
        assert!(cut(&strange).is_err());
    }

    #[test]
    fn the_link_keeps_the_filter_and_no_text_breaks_out_of_it() {
        let headers = next_page("/a", &[("text", "ø>\r\n&x".into())], 5, Some(7));
        assert_eq!(
            headers["link"],
            "</a?limit=5&cursor=7&text=%C3%B8%3E%0D%0A%26x>; rel=\"next\""
        );
    }
}
