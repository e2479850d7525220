//! Examples with mistakes in them: whatever a document or an order says, nothing panics and every run ends.
//!
//! The same as the fuzz targets `sequence` and `order`, without a nightly toolchain; `PROPTEST_CASES` says how often.

use proptest::prelude::*;
use proptest::sample::Index;
use sequence::engine::RunEnd;
use serde_json::{Value, json};
use wire::order::Order;

use crate::world::{Bench, STEPS, order, packages};

const EXAMPLES: [&str; 3] = [
    include_str!("../../../../examples/sequences/pupil-laptop.yaml"),
    include_str!("../../../../e2e/sequences/tiny.yaml"),
    include_str!("../../../../e2e/sequences/tiny-failing.yaml"),
];
/// What people and programs put where it doesn't belong.
const ODD: [&str; 24] = [
    "",
    ":",
    "- ",
    "  ",
    "\t",
    "{",
    "}",
    "[",
    "]",
    "'",
    "\"",
    "#",
    "&a ",
    "*a",
    "<<: *a",
    "!!int ",
    "|",
    "{{",
    "}}",
    "{% for a in b %}",
    "null",
    "1e999",
    "\u{202e}",
    "steps:",
];

/// One mistake in a text: a line or some characters are lost, doubled, moved, or something odd is put in.
fn with_mistake(text: &str, what: u8, at: Index, to: Index, odd: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return odd.to_owned();
    }
    let (line, other) = (at.index(lines.len()), to.index(lines.len()));
    match what {
        0 => drop(lines.remove(line)),
        1 => lines.insert(other, lines[line]),
        2 => lines.swap(line, other),
        3 => lines.truncate(line),
        4 => lines.insert(line, odd),
        _ => {
            let cut = at.index(text.len() + 1);
            let cut = text.floor_char_boundary(cut);
            let end = text.floor_char_boundary((cut + to.index(9)).min(text.len()));
            return format!("{}{odd}{}", &text[..cut], &text[end..]);
        }
    }
    lines.join("\n")
}

/// Every value in a document, by the keys and indices that lead there.
fn places(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            places(value, &format!("{here}/{key}"), all);
        }),
        Value::Array(items) => (0..).zip(items).for_each(|(index, value): (usize, _)| {
            places(value, &format!("{here}/{index}"), all);
        }),
        _ => {}
    }
}

/// Something else than what should be there.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        Just(json!(u64::MAX)),
        Just(json!(-1)),
        (0_u64..200).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        proptest::sample::select(&ODD[..]).prop_map(Value::from),
        proptest::sample::select(&["rest", "os", "run-script", "finish", "restart", "disk"][..])
            .prop_map(Value::from),
    ]
}

/// One mistake in a document: a value is replaced, lost, or a copy of another.
fn mistaken(document: &mut Value, what: u8, at: Index, from: Index, odd: Value) {
    let mut all = Vec::new();
    places(document, "", &mut all);
    let place = all[at.index(all.len())].clone();
    let other = document.pointer(&all[from.index(all.len())]).cloned();
    let (parent, key) = place.rsplit_once('/').unwrap_or(("", ""));
    match (what, document.pointer_mut(parent)) {
        (0, Some(Value::Object(fields))) => drop(fields.remove(key)),
        (0, Some(Value::Array(items))) if !items.is_empty() => {
            drop(items.remove(at.index(items.len())))
        }
        (1, Some(Value::Array(items))) => items.extend(other),
        _ => {
            if let Some(value) = document.pointer_mut(&place) {
                *value = if what == 2 { other.unwrap_or(odd) } else { odd };
            }
        }
    }
}

/// Runs whatever it is on a fake machine, a person starting it again now and then; every power-on must come to an end.
fn run(order: Order) -> Result<(), TestCaseError> {
    let mut bench = Bench::new("  - { id: end, finish: { action: stay } }");
    bench.order = order;
    // The fake content tells every byte.
    for package in &mut bench.order.packages {
        package.content_bytes = package.content_bytes.min(9);
    }
    for _ in 0..4 {
        match bench.power_on() {
            Ok(RunEnd::Suspended(into)) => bench.environment = into,
            Ok(RunEnd::Failed) => bench.environment = bench.boot_environment(),
            Ok(RunEnd::Done(_) | RunEnd::Aborted) => break,
            Err(error) => return Err(TestCaseError::fail(format!("no end: {error}"))),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_document_with_mistakes_is_linted_and_never_a_panic(
        example in 0..EXAMPLES.len(),
        mistakes in proptest::collection::vec((0_u8..8, any::<Index>(), any::<Index>(), 0..ODD.len()), 1..5),
    ) {
        let mut text = EXAMPLES[example].to_owned();
        for (what, at, to, odd) in mistakes {
            text = with_mistake(&text, what, at, to, ODD[odd]);
        }
        let packages = packages();
        let around = sequence::lint::Surroundings {
            packages: &packages,
            models: &[],
            secrets: &[],
        };
        let _ = sequence::lint::lint(&text, &around);
        if let Ok(compiled) = sequence::document::compile(&text) {
            let json = serde_json::to_vec(&compiled.sequence).unwrap();
            let read: wire::sequence::CompiledSequence = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(&read, &compiled.sequence);
            run(Order { sequence: read, ..order(STEPS) })?;
        }
    }

    #[test]
    fn an_order_with_mistakes_is_run_or_refused_and_never_a_panic(
        mistakes in proptest::collection::vec((0_u8..5, any::<Index>(), any::<Index>(), odd_value()), 1..5),
    ) {
        let mut document = serde_json::to_value(order(STEPS)).unwrap();
        for (what, at, from, odd) in mistakes {
            mistaken(&mut document, what, at, from, odd);
        }
        if let Ok(order) = serde_json::from_value::<Order>(document) {
            run(order)?;
        }
    }
}
