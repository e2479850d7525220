//! The reference of the admin API, drawn from the table of routes.

use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use super::visitor::Visitor;
use super::words::{Words, en};
use crate::error::Failure;
use crate::routes::docs::{Content, Route};
use crate::routes::openapi::is_told;

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    text: String,
}

/// `GET /api`
pub(super) async fn show_api(
    visitor: Visitor,
    Query(search): Query<Search>,
) -> Result<Markup, Failure> {
    let table = crate::routes::table();
    let content = api_page(visitor.words, &table, &search.text);
    Ok(visitor.page(visitor.words.t("API"), None, &content))
}

fn api_page(words: Words, table: &[Route], text: &str) -> Markup {
    let wanted = text.to_lowercase();
    let fits = |route: &&Route| {
        is_told(route)
            && [route.path, route.summary, route.detail, route.may.name()]
                .iter()
                .any(|part| part.to_lowercase().contains(&wanted))
    };
    let routes: Vec<&Route> = table.iter().filter(fits).collect();
    let mut folders: Vec<&str> = Vec::new();
    for route in &routes {
        if !folders.contains(&route.folder()) {
            folders.push(route.folder());
        }
    }
    folders.sort_unstable();
    html! {
        div.headline.page-title { h1 { (words.t("API")) } span.muted { (words.number(routes.len() as u64)) } }
        p {
            (words.t("Everything the pages do can be done by programs, with an API token.")) " "
            a href="/tokens" { (words.t("Tokens")) } " · "
            a href="/api/v1/openapi.json" { "OpenAPI 3.1" }
        }
        form.filters method="get" action="/api" role="search" {
            label { (words.t("Text")) " " input type="search" name="text" value=(text); }
            button type="submit" { (words.t("Search")) }
            a href="/api" { (words.t("Show all")) }
        }
        @if routes.is_empty() { div.empty { h2 { (words.t("Nothing that fits")) } } }
        @for folder in folders {
            section {
                h2 { code { (folder) } }
                @for route in routes.iter().filter(|route| route.folder() == folder) { (route_card(words, route)) }
            }
        }
    }
}

fn route_card(words: Words, route: &Route) -> Markup {
    html! {
        details.card {
            summary { code { b { (route.method) } " " (route.path) } " " span lang="en" { (route.summary) } }
            div lang="en" {
                @if !route.detail.is_empty() { p { (route.detail) } }
                dl.facts {
                    dt { (words.t("May")) } dd { code { (route.may.name()) } }
                    @for parameter in &route.query { dt { code { "?" (parameter.name) } } dd { (parameter.about) } }
                    @if route.is_paged() { dt { code { "?limit" } " " code { "?cursor" } } dd { (words.t("page by page, see the header Link")) } }
                    @for refusal in &route.fails {
                        dt id=(refusal.code) { (refusal.status) " " code { (refusal.code) } } dd { (refusal.when) }
                    }
                }
                (body(words, en("Request"), &route.takes))
                (body(words, en("Answer"), &route.answers))
            }
        }
    }
}

fn body(words: Words, title: &'static str, content: &Content) -> Markup {
    html! {
        @match content {
            Content::Nothing => {}
            Content::Bytes(media_type) => { h3 { (words.t(title)) } p { code { (media_type) } } }
            Content::Json(document) => {
                h3 { (words.t(title)) ": " code { ((document.name)()) } }
                @if !document.example.is_empty() { pre tabindex="0" { code { (pretty(document.example)) } } }
            }
        }
    }
}

fn pretty(example: &str) -> String {
    serde_json::from_str::<serde_json::Value>(example)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| example.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Words, api_page};

    #[test]
    fn the_page_has_what_is_looked_for_and_no_more() {
        let table = crate::routes::table();
        let html = |text: &str| api_page(Words::ENGLISH, &table, text).into_string();
        let users = html("/api/v1/users");
        assert!(users.contains("reset-password") && !users.contains("/api/v1/packages"));
        assert!(html("").contains("/api/v1/packages"));
        assert!(!html("").contains("/device/v1/"));
        assert!(!html("<b>").contains("<b><"));
        assert!(html("no such thing").contains("Nothing that fits"));
    }
}
