//! What these pages share: choosing a kind of rows, turning pages.

use maud::{Markup, html};

use crate::web::words::{Words, en};

/// Rows of one page: ten thousand are fifty pages, and a browser is quick with each.
pub(super) const ROWS_OF_A_PAGE: usize = 200;

/// One kind of rows: its word in the address, what it is called, how many there are.
pub(super) type Kind = (&'static str, &'static str, u32);

/// Links to the kinds of rows that there are, which the address names by its key; the one that is looked at says so.
pub(super) fn kinds(
    words: Words,
    label: &str,
    (address, key): (&str, &str),
    chosen: &str,
    kinds: &[Kind],
) -> Markup {
    html! {
        nav.kinds aria-label=(label) {
            @for (word, name, number) in kinds.iter().filter(|(word, _, number)| *number > 0 || word.is_empty() || *word == chosen) {
                a href=(with(address, &[(key, word)])) aria-current=[(*word == chosen).then_some("true")] {
                    (words.t(name)) " " b { (words.number((*number).into())) }
                }
            }
        }
    }
}

/// An address with a query; empty values are left out.
pub(super) fn with(address: &str, pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", crate::web::filter::encode(value)))
        .collect();
    match (pairs.is_empty(), address.contains('?')) {
        (true, _) => address.to_owned(),
        (false, true) => format!("{address}&{}", pairs.join("&")),
        (false, false) => format!("{address}?{}", pairs.join("&")),
    }
}

/// Which rows of how many are shown, and the pages before and after.
pub(super) fn turn(words: Words, address: &str, page: usize, total: usize) -> Markup {
    let pages = total.div_ceil(ROWS_OF_A_PAGE).max(1);
    let first = (page - 1) * ROWS_OF_A_PAGE + 1;
    let last = total.min(page * ROWS_OF_A_PAGE);
    html! {
        @if pages > 1 {
            nav.turn aria-label=(words.t("Pages of the table")) {
                @if page > 1 { a href=(with(address, &[("page", &(page - 1).to_string())])) rel="prev" { "← " (words.t("Previous page")) } }
                span.muted { (words.fill(en("{from} to {to} of {n}"), &[("from", &first.min(total)), ("to", &last), ("n", &total)])) }
                @if page < pages { a href=(with(address, &[("page", &(page + 1).to_string())])) rel="next" { (words.t("Next page")) " →" } }
            }
        }
    }
}

/// A notice above a page: something to know before going on.
pub(super) fn notice(content: &Markup) -> Markup {
    html! { div.remark role="note" { (content) } }
}
