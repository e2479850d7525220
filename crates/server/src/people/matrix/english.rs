//! Whoever reads Norwegian finds no English on any page, but what people wrote, what programs say of themselves, and details that
//! are marked as English.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};

use super::world::{World, text_of};
use super::{ENDLESS, filled};

/// Words that stand in most English sentences and in no Norwegian one.
const ENGLISH: [&str; 16] = [
    "the", "of", "was", "were", "has", "this", "that", "which", "with", "from", "are", "and",
    "isn't", "can't", "doesn't", "there",
];
/// Elements whose content is nobody's language.
const NO_LANGUAGE: [&str; 5] = ["script", "style", "code", "pre", "textarea"];
/// Attributes that are read out or shown.
const SHOWN: [&str; 7] = [
    "aria-label",
    "title",
    "placeholder",
    "alt",
    "data-confirm",
    "data-confirm-yes",
    "data-done",
];
/// Pages that are English on purpose, and why.
const ON_PURPOSE: &[(&str, &str)] = &[
    (
        "/api",
        "it is the reference of the API, for those who write programs",
    ),
    (
        "/audit",
        "what was done stands in its rows as it was written, and their digests are over it",
    ),
];

/// The texts of a page: what stands between its tags, and in attributes that are shown.
fn texts(html: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = html;
    // The elements whose content isn't looked at, outermost first.
    let mut skipped: Vec<String> = Vec::new();
    while let Some((text, after)) = rest.split_once('<') {
        if skipped.is_empty() {
            found.push(text.to_owned());
        }
        let end = tag_end(after);
        let (tag, after) = after.split_at(end);
        rest = after.strip_prefix('>').unwrap_or(after);
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        if tag.starts_with('/') {
            if skipped.last().is_some_and(|last| *last == name) {
                skipped.pop();
            }
        } else if skipped.last().is_some_and(|last| *last == name)
            || skipped.is_empty()
                && (NO_LANGUAGE.contains(&name.as_str())
                    || tag.contains("lang=\"en\"") && name != "html")
        {
            skipped.push(name);
        } else if skipped.is_empty() {
            for attribute in SHOWN {
                let value = tag.split_once(&format!(" {attribute}=\""));
                found.extend(
                    value
                        .and_then(|(_, value)| value.split('"').next())
                        .map(str::to_owned),
                );
            }
        }
    }
    found
}

/// Where a tag ends: at the first `>` outside of its values.
fn tag_end(tag: &str) -> usize {
    let mut is_value = false;
    for (at, letter) in tag.char_indices() {
        match letter {
            '"' => is_value = !is_value,
            '>' if !is_value => return at,
            _ => {}
        }
    }
    tag.len()
}

/// The texts in which there is English.
fn english(html: &str) -> BTreeSet<String> {
    let is_english = |text: &String| {
        let text = text.to_lowercase().replace("&#39;", "'");
        // What has hyphens in it is a name.
        let mut words =
            text.split(|letter: char| !letter.is_alphabetic() && !matches!(letter, '\'' | '-'));
        words.any(|word| ENGLISH.contains(&word))
    };
    texts(html).into_iter().filter(is_english).collect()
}

#[test]
fn english_is_found_where_people_see_it() {
    let page = r#"<html lang="nb"><p>Maskinen er klar</p><p>It has <code>the end</code> gone</p><div lang="en"><div>of the</div>
        this</div><a title="Open the page" data-api="of">Åpne</a><textarea>the</textarea><b>Theodor</b></html>"#;
    let found: Vec<String> = english(page).into_iter().collect();
    assert_eq!(found, ["It has ", "Open the page"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_norwegian_finds_no_english() {
    let world = World::new().await;
    let mut left = Vec::new();
    let mut looked = 0;
    for page in crate::web::pages::list() {
        let is_page = page.method == "GET"
            && !page.path.starts_with("/live/")
            && !page.path.starts_with("/assets/");
        let is_on_purpose = ON_PURPOSE.iter().any(|(path, _)| *path == page.path);
        if !is_page || is_on_purpose || ENDLESS.contains(&page.path) {
            continue;
        }
        let path = filled(page.path, &world.own);
        let request = Request::builder()
            .uri(&path)
            .header(header::AUTHORIZATION, "Bearer good-admin")
            .header(header::ACCEPT, "text/html")
            .header(header::ACCEPT_LANGUAGE, "nb")
            .body(Body::empty())
            .unwrap();
        let html = text_of(world.send(request).await).await;
        left.extend(
            english(&html)
                .into_iter()
                .map(|text| format!("{path}: {}", text.trim())),
        );
        looked += usize::from(html.contains("lang=\"nb\""));
    }
    assert!(looked > 40, "{looked} pages in Norwegian");
    assert!(left.is_empty(), "\n{}", left.join("\n"));
}
