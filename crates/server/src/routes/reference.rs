//! `docs/reference/api.md`: the table of routes as a page to read without a server. `UPDATE=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::docs::{Content, Listing, Route};
use super::openapi::is_told;

/// Where the page lies.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/api.md");

fn page(table: &[Route]) -> String {
    let mut folders: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
    for route in table.iter().filter(|route| is_told(route)) {
        folders.entry(route.folder()).or_default().push(route);
    }
    let mut text = String::from(
        "# The admin API\n\nGenerated from the server's table of routes. A running server has it as a page to search, \
         `/api`, and with all\nschemas at `/api/v1/openapi.json`. What holds for all routes stands in \
         [the format](../formats/admin-api.md).\n",
    );
    for (folder, routes) in folders {
        let _ = write!(text, "\n## {folder}\n");
        for route in routes {
            entry(&mut text, route);
        }
    }
    text
}

fn entry(text: &mut String, route: &Route) {
    let _ = write!(
        text,
        "\n### `{} {}`\n\n{}",
        route.method, route.path, route.summary
    );
    if !route.detail.is_empty() {
        let _ = write!(text, " {}", route.detail);
    }
    let _ = write!(text, "\n\n- May: `{}`\n", route.may.name());
    for parameter in &route.query {
        let _ = writeln!(text, "- `?{}`: {}", parameter.name, parameter.about);
    }
    if route.is_paged() {
        text.push_str("- `?limit`, `?cursor`: page by page, see the header `Link`\n");
    }
    if let Some(words) = route.listing.and_then(Listing::in_words) {
        let _ = writeln!(text, "- {words}");
    }
    for refusal in &route.fails {
        let _ = writeln!(
            text,
            "- {} `{}`: {}",
            refusal.status, refusal.code, refusal.when
        );
    }
    body(text, "Request", &route.takes);
    body(text, "Answer", &route.answers);
}

fn body(text: &mut String, title: &str, content: &Content) {
    let document = match content {
        Content::Nothing => return,
        Content::Bytes(media_type) => {
            let _ = writeln!(text, "- {title}: `{media_type}`");
            return;
        }
        Content::Json(document) => document,
    };
    let _ = writeln!(text, "- {title}: `{}`", (document.name)());
    if document.example.is_empty() {
        return;
    }
    let value: serde_json::Value = serde_json::from_str(document.example).unwrap();
    let pretty = serde_json::to_string_pretty(&value).unwrap();
    text.push_str("\n  ```json\n");
    for line in pretty.lines() {
        let _ = writeln!(text, "  {line}");
    }
    text.push_str("  ```\n\n");
}

#[test]
fn the_reference_says_what_the_table_says() {
    let page = page(&super::table());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let there = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        there == page,
        "docs/reference/api.md is stale: `UPDATE=1 cargo test -p server reference` writes it anew"
    );
}
