//! What pages are made of: heads, facts, tables, empty states. Pure functions; texts arrive translated.

use maud::{Markup, html};

use super::layout;

/// The head of a page: where it stands, its title, and what can be done.
#[must_use]
pub fn head(crumbs: &[(&str, &str)], title: &str, sub: &str, actions: &Markup) -> Markup {
    html! {
        @if !crumbs.is_empty() {
            p.crumbs { @for (address, name) in crumbs { a href=(address) { (name) } " / " } span { (title) } }
        }
        div.headline.page-title {
            h1 { (layout::or_dash(title)) }
            @if !sub.is_empty() { span.muted { (sub) } }
            div.buttons.actions { (actions) }
        }
    }
}

/// Names and values beside each other.
#[must_use]
pub fn facts(pairs: &[(&str, Markup)]) -> Markup {
    html! {
        dl.identity.plain { @for (name, value) in pairs { div { dt { (name) } dd { (value) } } } }
    }
}

/// A part of a page with its title.
#[must_use]
pub fn block(id: &str, title: &str, note: &str, content: &Markup) -> Markup {
    html! {
        section.block aria-labelledby=(id) {
            div.headline { h2 id=(id) { (title) } @if !note.is_empty() { span.muted { (note) } } }
            (content)
        }
    }
}

/// A table whose columns are sorted by pressing their titles; `numbers` are the columns that hold numbers.
#[must_use]
pub fn table(title: &str, columns: &[&str], numbers: &[usize], rows: &[Markup]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label=(title) {
            table.list aria-label=(title) data-sort {
                thead { tr {
                    @for (index, column) in columns.iter().enumerate() {
                        th.number[numbers.contains(&index)] scope="col" { (column) }
                    }
                } }
                tbody { @for row in rows { tr { (row) } } }
            }
        }
    }
}

/// Nothing there yet, and what to do about it.
#[must_use]
pub fn empty(title: &str, what_to_do: &str) -> Markup {
    html! { div.empty { h2 { (title) } @if !what_to_do.is_empty() { p { (layout::prose(what_to_do)) } } } }
}
