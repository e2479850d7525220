//! Every text of the pages has one translation, and every translation has a text.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use wire::reasons::RowReason;

use super::*;

/// The English texts in a source: the string literals directly within the parentheses of the calls that translate.
fn texts(source: &str) -> Vec<String> {
    let source = source
        .split_once("#[cfg(test)]\nmod ")
        .map_or(source, |(code, _)| code);
    let mut found = Vec::new();
    for call in [".t(", ".fill(", ".count(", "en("] {
        for (at, _) in source.match_indices(call) {
            let before = source[..at].chars().next_back().unwrap_or(' ');
            if call == "en(" && (before.is_alphanumeric() || before == '_' || before == '.') {
                continue;
            }
            found.extend(literals(&source[at + call.len()..]));
        }
    }
    found
}

/// The string literals up to the parenthesis that closes, leaving out those in inner parentheses.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut depth = 1_u32;
    let mut chars = source.chars();
    while let Some(char) = chars.next() {
        match char {
            '(' => depth += 1,
            ')' if depth == 1 => return found,
            ')' => depth -= 1,
            '"' => {
                let text = literal(&mut chars);
                if depth == 1 {
                    found.push(text);
                }
            }
            _ => {}
        }
    }
    found
}

/// The rest of a string literal whose quote is read already.
fn literal(chars: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => match chars.next() {
                // A line that goes on: the break and the indentation are no part of the text.
                Some('\n') => {
                    let rest = chars.as_str();
                    let skipped = rest.len() - rest.trim_start().len();
                    for _ in rest[..skipped].chars() {
                        chars.next();
                    }
                }
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => break,
            },
            other => text.push(other),
        }
    }
    text
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn every_text_has_one_translation_and_every_translation_a_text() {
    let mut files = Vec::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web");
    sources(Path::new(folder), &mut files);
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    for (path, source) in &files {
        used.extend(texts(source).into_iter().map(|text| (text, path.clone())));
    }
    let said = wire::reasons::ENGLISH.iter();
    used.extend(said.map(|text| ((*text).to_owned(), "wire::reasons".to_owned())));
    let mut known = BTreeMap::new();
    let mut problems = Vec::new();
    for line in BOKMAL.iter().flat_map(|file| file.lines()) {
        if !line.is_empty() && !line.starts_with('#') && !line.contains(" = ") {
            problems.push(format!("no translation: `{line}`"));
        }
    }
    for (english, norwegian) in BOKMAL.iter().flat_map(|file| entries(file)) {
        // Two subjects may need the same word; they must agree on it.
        if let Some(other) = known.insert(english.to_owned(), norwegian)
            && other != norwegian
        {
            problems.push(format!(
                "translated twice: `{english}` = `{other}`, `{norwegian}`"
            ));
        }
        if !used.contains_key(english) {
            problems.push(format!("used nowhere: `{english}`"));
        }
        if places(english) != places(norwegian) {
            problems.push(format!("other places to fill: `{english}` = `{norwegian}`"));
        }
    }
    for (text, path) in &used {
        if !known.contains_key(text) {
            problems.push(format!("not translated: `{text}` in {path}"));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Sentences that are the same in both languages: nothing but what a person wrote.
const SAME: &[&str] = &["{reason} ({who})"];

#[test]
fn whatever_the_server_says_is_said_in_both_languages() {
    for text in wire::reasons::ENGLISH {
        let norwegian = Words::BOKMAL.t(text);
        assert_eq!(norwegian == *text, SAME.contains(text), "{text}");
    }
    let repeated = RowReason::SerialRepeated {
        serial: "PF3".into(),
        line: 7,
    };
    assert_eq!(
        Words::ENGLISH.say(&repeated),
        "the serial number PF3 stands in line 7 already"
    );
    assert_eq!(
        Words::BOKMAL.say_all(&[repeated, RowReason::NoSerial]),
        "serienummeret PF3 står allerede i linje 7; serienummeret mangler"
    );
    // What was stored before sentences had codes stays as it was written.
    let old = RowReason::from("it was {so}".to_owned());
    assert_eq!(Words::BOKMAL.say(&old), "it was {so}");
}

fn places(text: &str) -> BTreeSet<&str> {
    text.split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}'))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn the_texts_of_a_source_are_found() {
    let source = r#"
        words.t("One"); words.fill("{n} of {m}", &[("n", &1), ("m", &2)]);
        w.count(n, "one", "many"); rows.iter().count();
        words.t(if open { "Open" } else { "Shut" }); const A: &str = en("Later"); write("no"); token("no");
        words.t("a \
                 long one");
    "#;
    let found: BTreeSet<_> = texts(source).into_iter().collect();
    let expected = [
        "One",
        "{n} of {m}",
        "one",
        "many",
        "Open",
        "Shut",
        "Later",
        "a long one",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn places_are_filled_once() {
    let words = Words::ENGLISH;
    let hostile = "{m}{n}{";
    assert_eq!(
        words.fill("{n} of {m}, {x} {", &[("n", &hostile), ("m", &7)]),
        "{m}{n}{ of 7, {x} {"
    );
    assert_eq!(words.t("Sequence|of a run"), "Sequence");
}

#[test]
fn the_browser_s_first_language_that_we_speak_counts() {
    for (accept, language) in [
        ("", Language::English),
        ("nb-NO,nb;q=0.9,en;q=0.8", Language::Bokmal),
        ("sv-SE,nn;q=0.9,en;q=0.8", Language::Bokmal),
        ("de,en-US;q=0.7,no;q=0.3", Language::English),
        ("*", Language::English),
    ] {
        assert_eq!(Language::preferred(accept), language, "{accept}");
    }
}

#[test]
fn numbers_and_dates_are_written_as_the_language_writes_them() {
    let at = 1_786_952_529_000;
    assert_eq!(Words::ENGLISH.moment(at), "2026-08-17 07:42");
    assert_eq!(Words::BOKMAL.moment(at), "17.08.2026 07:42");
    assert_eq!(Words::BOKMAL.date(at), "17.08.2026");
    assert_eq!(Words::BOKMAL.bytes(1_234_567), "1,23 MB");
    assert_eq!(Words::BOKMAL.ago(240), "for 4 min siden");
    assert_eq!(Words::ENGLISH.moment(i64::MAX), "—");
    let html = Words::BOKMAL.time(at).into_string();
    assert_eq!(
        html,
        r#"<time datetime="2026-08-17T07:42:09Z">17.08.2026 07:42 UTC</time>"#
    );
}

/// Whether a text can be the code of a refusal.
fn is_code(text: &str) -> bool {
    let mut letters = text.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase())
        && letters
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
}

#[test]
fn every_refusal_has_a_norwegian_sentence_and_every_sentence_a_refusal() {
    let mut files = Vec::new();
    sources(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut files,
    );
    let known: BTreeMap<&str, &str> = entries(REFUSALS).collect();
    let mut problems = Vec::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let mut several = 0;
    for (path, source) in &files {
        let code = source
            .split_once("#[cfg(test)]\nmod tests {")
            .map_or(source.as_str(), |(code, _)| code);
        for call in ["conflict(", "bad_request(", "refused("] {
            for (at, _) in code.match_indices(call) {
                let first = literals(&code[at + call.len()..]).into_iter().next();
                let refused = first.filter(|text| is_code(text));
                if let Some(refused) = refused.filter(|code| !known.contains_key(code.as_str())) {
                    problems.push(format!("not translated: `{refused}` in {path}"));
                }
            }
        }
        // A code that is one of several.
        for (at, start) in code.match_indices("let code = match ") {
            let arms = code[at + start.len()..].split("};").next().unwrap();
            let chosen = arms.split("=> \"").skip(1);
            let chosen = chosen.map(|rest| rest.split('"').next().unwrap());
            for refused in chosen.filter(|code| is_code(code)) {
                several += 1;
                if !known.contains_key(refused) {
                    problems.push(format!("not translated: `{refused}` in {path}"));
                }
            }
        }
        let here = |known: &&&str| code.contains(&format!("\"{known}\""));
        used.extend(known.keys().filter(here));
    }
    problems.extend(
        known
            .keys()
            .filter(|known| !used.contains(*known))
            .map(|code| format!("used nowhere: `{code}`")),
    );
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(known.len() > 100 && several >= 2, "{several}");
    assert_eq!(
        Words::BOKMAL.refusal("name-taken"),
        Some("Navnet er opptatt.")
    );
    assert_eq!(Words::ENGLISH.refusal("name-taken"), None);
}
