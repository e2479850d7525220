//! Conditions when only part of what they ask for is known: true, false, or not known yet.
//!
//! `and`, `or` and `not` are decided here, so that `vendor == "Other" and class == "1STA"` is false for an Acme without
//! knowing any class. Everything between them is left to the expression engine, once all its names are known.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::expression;
use crate::scope::Scope;

/// Deeper nesting is left undecided.
const DEPTH_MAX: usize = 32;

/// A truth value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tri {
    True,
    False,
    Unknown,
}

/// Decides a condition as far as `known` allows.
pub(crate) fn decide(condition: &str, known: &BTreeMap<String, Value>) -> Tri {
    decide_in(condition, &Scope::of(known), &|_| false)
}

/// Decides a condition as far as `scope` allows. A part for which `is_open` says so isn't known yet, whatever its names.
pub(crate) fn decide_in(condition: &str, scope: &Scope, is_open: &dyn Fn(&str) -> bool) -> Tri {
    if expression::condition_names(condition).is_err() {
        return Tri::Unknown;
    }
    Decider { scope, is_open }.part(condition, 0)
}

struct Decider<'a> {
    scope: &'a Scope,
    is_open: &'a dyn Fn(&str) -> bool,
}

impl Decider<'_> {
    fn part(&self, part: &str, depth: usize) -> Tri {
        let part = without_parentheses(part.trim());
        let words = top_words(part);
        if depth > DEPTH_MAX || words.iter().any(|(_, word)| *word == "if") {
            return self.leaf(part);
        }
        for (operator, decisive) in [("or", Tri::True), ("and", Tri::False)] {
            let parts = split(part, &words, operator);
            if parts.len() > 1 {
                let values: Vec<Tri> = parts
                    .iter()
                    .map(|part| self.part(part, depth + 1))
                    .collect();
                return combine(&values, decisive);
            }
        }
        match words.first() {
            Some((0, "not")) => match self.part(&part["not".len()..], depth + 1) {
                Tri::True => Tri::False,
                Tri::False => Tri::True,
                Tri::Unknown => Tri::Unknown,
            },
            _ => self.leaf(part),
        }
    }

    fn leaf(&self, part: &str) -> Tri {
        let is_known = !(self.is_open)(part)
            && expression::condition_names(part)
                .is_ok_and(|names| names.iter().all(|name| self.scope.knows(name)));
        match is_known.then(|| self.scope.is_true(part)) {
            Some(Ok(true)) => Tri::True,
            Some(Ok(false)) => Tri::False,
            _ => Tri::Unknown,
        }
    }
}

/// One decisive value decides; otherwise one unknown value leaves all open.
fn combine(values: &[Tri], decisive: Tri) -> Tri {
    if values.contains(&decisive) {
        decisive
    } else if values.contains(&Tri::Unknown) {
        Tri::Unknown
    } else if decisive == Tri::True {
        Tri::False
    } else {
        Tri::True
    }
}

/// Takes off parentheses around the whole.
fn without_parentheses(mut part: &str) -> &str {
    while let Some(inner) = part
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
    {
        let mut depth = 0_usize;
        let closes_early = outside_quotes(inner).any(|(_, letter)| {
            match letter {
                '(' => depth += 1,
                ')' if depth == 0 => return true,
                ')' => depth -= 1,
                _ => {}
            }
            false
        });
        if closes_early {
            break;
        }
        part = inner.trim();
    }
    part
}

/// The words outside quotes and brackets, with their offsets.
fn top_words(part: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let (mut depth, mut start) = (0_usize, None);
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut end = 0;
    for (offset, letter) in outside_quotes(part) {
        if let Some(begin) = start.filter(|_| !is_word(letter) || offset != end) {
            words.push((begin, &part[begin..end]));
            start = None;
        }
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            letter if is_word(letter) && depth == 0 && start.is_none() => start = Some(offset),
            _ => {}
        }
        end = offset + letter.len_utf8();
    }
    words.extend(start.map(|begin| (begin, &part[begin..end])));
    words
}

fn split<'p>(part: &'p str, words: &[(usize, &str)], operator: &str) -> Vec<&'p str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (offset, _) in words.iter().filter(|(_, word)| *word == operator) {
        parts.push(&part[start..*offset]);
        start = offset + operator.len();
    }
    parts.push(&part[start..]);
    parts
}

/// The letters that aren't inside a text in quotes.
pub(crate) fn outside_quotes(part: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quote, mut is_escaped) = (None, false);
    part.char_indices().filter(move |(_, letter)| match quote {
        Some(open) => {
            if is_escaped {
                is_escaped = false;
            } else if *letter == '\\' {
                is_escaped = true;
            } else if *letter == open {
                quote = None;
            }
            false
        }
        None if matches!(letter, '\'' | '"') => {
            quote = Some(*letter);
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::{Tri, decide};

    fn check(condition: &str) -> Tri {
        let known = BTreeMap::from([
            ("vendor".to_owned(), json!("Acme")),
            ("product".to_owned(), json!("Book 14 and (more")),
            ("yes".to_owned(), json!(true)),
        ]);
        decide(condition, &known)
    }

    #[test]
    fn what_is_known_decides() {
        for (condition, value) in [
            ("vendor == 'Acme'", Tri::True),
            ("vendor == \"Other\" and class == \"1STA\"", Tri::False),
            ("class == \"1STA\" and vendor == \"Other\"", Tri::False),
            ("vendor == 'Acme' and class == '1STA'", Tri::Unknown),
            ("vendor == 'Acme' or class == '1STA'", Tri::True),
            ("not (vendor == 'Acme' or class == '1STA')", Tri::False),
            ("not vendor == 'Acme'", Tri::False),
            ("not class == 'x'", Tri::Unknown),
            (
                "(class == 'a' and vendor == 'x') or (class == 'b' and vendor == 'y')",
                Tri::False,
            ),
            ("(yes) and (yes)", Tri::True),
            ("product == 'Book 14 and (more' and yes", Tri::True),
            ("vendor not in ['Acme', class]", Tri::Unknown),
            ("vendor not in ['Other']", Tri::True),
            ("(class if yes else class) and vendor == 'x'", Tri::False),
            ("class if yes else vendor == 'x' and yes", Tri::Unknown),
            ("vendor ==", Tri::Unknown),
            ("yes and oryx", Tri::Unknown),
        ] {
            assert_eq!(check(condition), value, "{condition}");
        }
    }

    /// Conditions over two known and one unknown name.
    fn conditions() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("a == 1".to_owned()),
            Just("b == 1".to_owned()),
            Just("c == 1".to_owned()),
            Just("c in [0, 2]".to_owned()),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone())
                    .prop_map(|(left, right)| format!("({left}) and ({right})")),
                (inner.clone(), inner.clone())
                    .prop_map(|(left, right)| format!("{left} or {right}")),
                (inner.clone(), inner.clone())
                    .prop_map(|(left, right)| format!("{left} and {right}")),
                inner.prop_map(|inner| format!("not ({inner})")),
            ]
        })
    }

    proptest! {
        /// Whatever is decided without knowing `c` is what every value of `c` gives.
        #[test]
        fn a_decision_always_holds(condition in conditions(), a in 0..2, b in 0..2) {
            let known = BTreeMap::from([("a".to_owned(), json!(a)), ("b".to_owned(), json!(b))]);
            let decision = decide(&condition, &known);
            for c in 0..3 {
                let mut all = known.clone();
                all.insert("c".to_owned(), json!(c));
                let truth = crate::scope::Scope::of(&all).is_true(&condition).unwrap();
                prop_assert!(decision == Tri::Unknown || (decision == Tri::True) == truth, "{} c={}", condition, c);
            }
        }

        #[test]
        fn garbage_never_panics(text in "[a-z0-9 ()'\"\\\\=æ\\[\\]{}]{0,40}") {
            let _ = check(&text);
        }
    }
}
