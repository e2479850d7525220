//! The one engine (minijinja) that evaluates conditions and templates, and the few functions it knows.
//!
//! The set is small on purpose: each function is documented in `docs/formats/sequence.md`, and the lint refuses any
//! other word. Nothing here reads a file, a clock or a random number: the same names give the same answer everywhere.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{
    Environment, Error, ErrorKind, Expression, Output, State, UndefinedBehavior, escape_formatter,
    filters, tests,
};

use crate::scope::{Scope, ascii, host_name};

/// What may stand behind `|`.
pub const FILTERS: [&str; 24] = [
    "abs", "ascii", "default", "first", "float", "hostname", "int", "join", "last", "length",
    "lower", "max", "min", "pad", "replace", "round", "sort", "split", "string", "sum", "trim",
    "unique", "upper", "list",
];
/// What may stand behind `is` and `is not`.
pub const TESTS: [&str; 7] = [
    "defined",
    "endingwith",
    "none",
    "number",
    "startingwith",
    "string",
    "undefined",
];
/// What may be called.
pub const FUNCTIONS: [&str; 2] = ["version_at_least", "version_compare"];
/// An expression that takes more instructions than this loops.
const RECURSION_MAX: usize = 50;
/// Numbers in names have a handful of digits; more is a mistake that would fill the memory.
const PAD_MAX: usize = 64;

/// Names and their values, as the engine holds them: cheap to clone.
pub(crate) type Values = BTreeMap<String, Value>;

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(engine);

/// An error of the engine, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Explained(String);

impl Explained {
    fn of(error: &Error) -> Self {
        let detail = error.detail().unwrap_or_default();
        Self(match error.kind() {
            ErrorKind::UndefinedError => "it asks for a value that isn't there".to_owned(),
            _ if detail.is_empty() => error.kind().to_string(),
            kind => format!("{kind}: {detail}"),
        })
    }
}

/// A JSON value as the engine holds it.
pub(crate) fn value(json: &serde_json::Value) -> Value {
    Value::from(Serde(json))
}

/// Fills in a template.
///
/// # Errors
/// It cannot be parsed, or needs a name that isn't there.
pub(crate) fn render(template: &str, values: &Values) -> Result<String, Explained> {
    ENGINE
        .render_str(template, Value::from(values.clone()))
        .map_err(|error| Explained::of(&error))
}

/// Evaluates a condition.
///
/// # Errors
/// It cannot be parsed, or needs a name that isn't there.
pub(crate) fn is_true(condition: &str, values: &Values) -> Result<bool, Explained> {
    let value = ENGINE
        .compile_expression(condition)
        .and_then(|expression| expression.eval(Value::from(values.clone())))
        .map_err(|error| Explained::of(&error))?;
    if value.kind() == ValueKind::Undefined {
        return Err(Explained("it asks for a value that isn't there".to_owned()));
    }
    Ok(value.is_true())
}

/// A condition, parsed once for many evaluations.
pub struct Condition {
    text: String,
    names: Vec<String>,
    expression: Expression<'static, 'static>,
}

/// What is wrong with a condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct Misplaced {
    /// The character, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl Condition {
    /// Reads a condition. `known` are the names that have a value.
    ///
    /// # Errors
    /// It can't be parsed, or uses a name, filter or test that doesn't exist.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, Misplaced> {
        let expression = ENGINE
            .compile_expression_owned(text.to_owned())
            .map_err(|error| Misplaced {
                column: good_letters(text) + 1,
                message: Explained::of(&error).0,
            })?;
        let names = sorted(expression.undeclared_variables(false));
        if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(Misplaced {
                column: column_of(text, name),
                message: format!("nothing is called `{name}`; known are {}", known.join(", ")),
            });
        }
        if let Some(unknown) = unknown_words(text).first() {
            return Err(Misplaced {
                column: column_of(text, &unknown.word),
                message: format!(
                    "there is no {} `{}`; known are {}",
                    unknown.role,
                    unknown.word,
                    unknown.known.join(", ")
                ),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            names,
            expression,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it uses this name.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.names.iter().any(|used| used == name)
    }

    /// Decides it.
    ///
    /// # Errors
    /// It needs a value that isn't there, or compares what can't be compared.
    pub fn is_true(&self, scope: &Scope) -> Result<bool, Explained> {
        let value = self
            .expression
            .eval(Value::from(scope.values().clone()))
            .map_err(|error| Explained::of(&error))?;
        if value.kind() == ValueKind::Undefined {
            return Err(Explained("it asks for a value that isn't there".to_owned()));
        }
        Ok(value.is_true())
    }
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Condition").field(&self.text).finish()
    }
}

/// How many letters of a condition are fine: the longest beginning that could still become one.
fn good_letters(text: &str) -> usize {
    let could_go_on = |beginning: &str| match ENGINE.compile_expression(beginning) {
        Ok(_) => true,
        Err(error) => error
            .detail()
            .is_some_and(|detail| detail.contains("unexpected end of input")),
    };
    let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let ends: Vec<usize> = ends.collect();
    let good = (0..ends.len())
        .rev()
        .find(|count| could_go_on(&text[..ends[*count]]));
    good.unwrap_or(0)
}

/// Where a word stands outside quotes, from 1.
fn column_of(text: &str, word: &str) -> usize {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let outside: Vec<usize> = crate::tri::outside_quotes(text).map(|(at, _)| at).collect();
    let at = text
        .match_indices(word)
        .map(|(at, _)| at)
        .find(|at| {
            outside.contains(at)
                && !text[..*at].ends_with(is_word)
                && !text[at + word.len()..].starts_with(is_word)
        })
        .unwrap_or(0);
    text[..at].chars().count() + 1
}

/// The value behind `number(WIDTH)` in templates for names.
pub(crate) fn number_function(number: u64) -> Value {
    Value::from_function(move |width: Option<usize>| pad(number.into(), width.unwrap_or(1)))
}

/// Checks that a condition can be parsed and returns the names it uses, sorted.
///
/// # Errors
/// Says what is wrong with it.
pub fn condition_names(condition: &str) -> Result<Vec<String>, Explained> {
    let expression = ENGINE
        .compile_expression(condition)
        .map_err(|error| Explained::of(&error))?;
    Ok(sorted(expression.undeclared_variables(false)))
}

/// Checks that a template can be parsed and returns the names it uses, sorted.
///
/// # Errors
/// Says what is wrong with it.
pub fn template_names(template: &str) -> Result<Vec<String>, Explained> {
    if template.contains("{%") {
        // Loops could go on for ever, and what is written with blocks can't be planned.
        let text = "a template holds texts and expressions in `{{ }}`, no blocks in `{% %}`";
        return Err(Explained(text.to_owned()));
    }
    let parsed = ENGINE
        .template_from_str(template)
        .map_err(|error| Explained::of(&error))?;
    Ok(sorted(parsed.undeclared_variables(false)))
}

fn sorted(names: HashSet<String>) -> Vec<String> {
    let mut names: Vec<String> = names
        .into_iter()
        .filter(|name| !FUNCTIONS.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

/// A word of an expression that the engine doesn't know, and what would be known in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// The word.
    pub word: String,
    /// `filter` or `test`.
    pub role: &'static str,
    /// What is known in this role.
    pub known: &'static [&'static str],
}

/// The filters and tests of an expression that don't exist. The engine itself only finds them when it gets there, and
/// that would be on the device.
#[must_use]
pub fn unknown_words(expression: &str) -> Vec<UnknownWord> {
    let words = words(expression);
    let mut unknown = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let before = |back: usize| index.checked_sub(back).and_then(|at| words.get(at));
        let is_after_is = before(1) == Some(&"is") && *word != "not"
            || before(1) == Some(&"not") && before(2) == Some(&"is");
        let (role, known): (_, &'static [&'static str]) = match before(1) {
            Some(&"|") => ("filter", &FILTERS),
            _ if is_after_is => ("test", &TESTS),
            _ => continue,
        };
        if !known.contains(word) {
            unknown.push(UnknownWord {
                word: (*word).to_owned(),
                role,
                known,
            });
        }
    }
    unknown
}

/// The expressions inside a template.
pub fn expressions(template: &str) -> impl Iterator<Item = &str> {
    template
        .split("{{")
        .skip(1)
        .filter_map(|part| part.split_once("}}").map(|(expression, _)| expression))
}

/// Words and `|` outside quotes, in order.
fn words(expression: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut end) = (None, 0);
    for (offset, letter) in crate::tri::outside_quotes(expression) {
        let is_word = letter.is_alphanumeric() || letter == '_';
        if let Some(begin) = start.filter(|_| !is_word || offset != end) {
            words.push(&expression[begin..end]);
            start = None;
        }
        if is_word && start.is_none() {
            start = Some(offset);
        }
        end = offset + letter.len_utf8();
        if letter == '|' {
            words.push(&expression[offset..end]);
        }
    }
    words.extend(start.map(|begin| &expression[begin..end]));
    words
}

fn engine() -> Environment<'static> {
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_recursion_limit(RECURSION_MAX);
    engine.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    engine.set_formatter(write_value);
    add_text_filters(&mut engine);
    engine.add_filter("abs", filters::abs);
    engine.add_filter("default", filters::default);
    engine.add_filter("float", filters::float);
    engine.add_filter("int", filters::int);
    engine.add_filter("join", filters::join);
    engine.add_filter("length", filters::length);
    engine.add_filter("list", filters::list);
    engine.add_filter("max", filters::max);
    engine.add_filter("min", filters::min);
    engine.add_filter("round", filters::round);
    engine.add_filter("sort", filters::sort);
    engine.add_filter("sum", filters::sum);
    engine.add_filter("unique", filters::unique);
    engine.add_test("defined", tests::is_defined);
    engine.add_test("endingwith", tests::is_endingwith);
    engine.add_test("none", tests::is_none);
    engine.add_test("number", tests::is_number);
    engine.add_test("startingwith", tests::is_startingwith);
    engine.add_test("string", tests::is_string);
    engine.add_test("undefined", tests::is_undefined);
    engine.add_function("version_compare", |left: &str, right: &str| {
        version_compare(left, right)
    });
    engine.add_function("version_at_least", |version: &str, least: &str| {
        version_compare(version, least) >= 0
    });
    engine
}

/// How a value stands in a text. Nothing (`null`) has no text: a name with a hole in it is worse than an error.
fn write_value(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => Err(Error::new(
            ErrorKind::UndefinedError,
            "the value is nothing",
        )),
        // As documents and JSON write it.
        ValueKind::Bool => escape_formatter(output, state, &value.is_true().to_string().into()),
        _ => escape_formatter(output, state, value),
    }
}

fn add_text_filters(engine: &mut Environment<'static>) {
    engine.add_filter("ascii", |text: &str| ascii(text));
    engine.add_filter("first", |value: Value, count: Option<usize>| {
        some_of(value, count, true)
    });
    engine.add_filter("hostname", |text: &str| host_name(text));
    engine.add_filter("last", |value: Value, count: Option<usize>| {
        some_of(value, count, false)
    });
    engine.add_filter("lower", |text: &str| text.to_lowercase());
    engine.add_filter("pad", pad);
    engine.add_filter("replace", |text: &str, from: &str, to: &str| {
        text.replace(from, to)
    });
    engine.add_filter("split", |text: &str, separator: &str| {
        text.split(separator)
            .map(str::to_owned)
            .collect::<Vec<String>>()
    });
    engine.add_filter("string", filters::string);
    engine.add_filter("trim", |text: &str| text.trim().to_owned());
    engine.add_filter("upper", |text: &str| text.to_uppercase());
}

/// The first or last `count` letters of a text (one if not said), or items of a list (the item itself if not said).
fn some_of(value: Value, count: Option<usize>, is_from_start: bool) -> Result<Value, Error> {
    refuse_nothing(&value)?;
    if let Some(text) = value.as_str() {
        let letters = text.chars().count();
        let taken = count.unwrap_or(1).min(letters);
        let skipped = if is_from_start { 0 } else { letters - taken };
        let taken: String = text.chars().skip(skipped).take(taken).collect();
        return Ok(taken.into());
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let taken = count.unwrap_or(1).min(items.len());
    let skipped = if is_from_start {
        0
    } else {
        items.len() - taken
    };
    let mut taken = items.into_iter().skip(skipped).take(taken);
    Ok(match count {
        Some(_) => taken.collect(),
        None => taken.next().unwrap_or_default(),
    })
}

fn refuse_nothing(value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Err(ErrorKind::UndefinedError.into()),
        _ => Ok(()),
    }
}

/// Zeros in front, up to so many characters.
fn pad(value: Value, width: usize) -> Result<String, Error> {
    refuse_nothing(&value)?;
    if width > PAD_MAX {
        let text = format!("pad gives at most {PAD_MAX} characters");
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    let text: Cow<'_, str> = match value.as_str() {
        Some(text) => text.into(),
        None => value.to_string().into(),
    };
    let zeros = width.saturating_sub(text.chars().count());
    Ok("0".repeat(zeros) + &text)
}

/// Compares two versions: -1, 0 or 1. Runs of digits compare as numbers, everything else as text; `~` sorts before the
/// end, so that `1.0~rc1` comes before `1.0` (Debian policy 5.6.12).
#[must_use]
pub fn version_compare(left: &str, right: &str) -> i32 {
    let (mut left, mut right) = (left, right);
    while !(left.is_empty() && right.is_empty()) {
        let (left_text, left_rest) = split_at(left, |c| c.is_ascii_digit());
        let (right_text, right_rest) = split_at(right, |c| c.is_ascii_digit());
        let weigh = |text: &str| {
            text.chars()
                .map(letter_weight)
                .chain([0])
                .collect::<Vec<_>>()
        };
        match weigh(left_text).cmp(&weigh(right_text)) {
            std::cmp::Ordering::Equal => {}
            other => return other as i32,
        }
        let (left_digits, left_next) = split_at(left_rest, |c| !c.is_ascii_digit());
        let (right_digits, right_next) = split_at(right_rest, |c| !c.is_ascii_digit());
        let (a, b) = (
            left_digits.trim_start_matches('0'),
            right_digits.trim_start_matches('0'),
        );
        match a.len().cmp(&b.len()).then_with(|| a.cmp(b)) {
            std::cmp::Ordering::Equal => {}
            other => return other as i32,
        }
        (left, right) = (left_next, right_next);
    }
    0
}

fn split_at(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// `~` before the end, the end before letters, letters before everything else.
fn letter_weight(letter: char) -> i64 {
    match letter {
        '~' => -1,
        letter if letter.is_ascii_alphabetic() => i64::from(u32::from(letter)),
        letter => i64::from(u32::from(letter)) + 256,
    }
}

#[cfg(test)]
mod tests_of_engine {
    use std::collections::BTreeMap;

    use serde_json::json;

    use crate::scope::Scope;

    use super::{
        Condition, FILTERS, TESTS, condition_names, expressions, render, template_names,
        unknown_words, value, version_compare,
    };

    fn check(template: &str) -> String {
        let values = BTreeMap::from([
            ("serial".to_owned(), json!("PF0ABC12")),
            ("site".to_owned(), json!("Bjørnsletta")),
            ("disks".to_owned(), json!([{"size": 3}, {"size": 5}])),
            ("numbers".to_owned(), json!([3, 1, 3])),
        ]);
        let values = values
            .iter()
            .map(|(name, json)| (name.clone(), value(json)));
        render(template, &values.collect()).unwrap_or_else(|error| format!("error: {error}"))
    }

    #[test]
    fn functions() {
        for (template, text) in [
            ("{{ serial | last(4) }}-{{ serial | first }}", "BC12-P"),
            (
                "{{ site | ascii }} {{ site | hostname }}",
                "Bjornsletta bjornsletta",
            ),
            ("{{ site | upper | replace('Ø', 'O') }}", "BJORNSLETTA"),
            ("{{ 7 | pad(3) }} {{ '1234' | pad(3) }}", "007 1234"),
            ("{{ numbers | unique | sort | join('+') }}", "1+3"),
            (
                "{{ numbers | sum }} {{ numbers | max }} {{ numbers | length }}",
                "7 3 3",
            ),
            (
                "{{ numbers | last }} {{ numbers | first(2) | join(',') }}",
                "3 3,1",
            ),
            ("{{ (disks | last).size }}", "5"),
            ("{{ 'a;b' | split(';') | last }}", "b"),
            (
                "{{ ' x ' | trim }}{{ '12' | int + 1 }}{{ 2.6 | round | int }}",
                "x133",
            ),
            ("{{ missing | default('none') }}", "none"),
            ("{{ version_at_least('17.0.10', '17.0.9') }}", "true"),
            (
                "{{ site is startingwith('Bj') and site is not endingwith('x') }}",
                "true",
            ),
        ] {
            assert_eq!(check(template), text, "{template}");
        }
        assert!(check("{{ 7 | pad(1000000) }}").starts_with("error: "));
        for hole in ["missing | last(4)", "missing | pad(4)", "missing"] {
            let said = check(&format!("{{{{ {hole} }}}}"));
            assert_eq!(said, "error: it asks for a value that isn't there");
        }
        assert!(check("{{ none }}").starts_with("error: "));
    }

    #[test]
    fn every_word_is_known_to_the_engine_and_documented() {
        let page = include_str!("../../../docs/formats/sequence.md");
        for word in FILTERS {
            assert!(
                super::ENGINE
                    .compile_expression(&format!("x | {word}"))
                    .is_ok()
            );
            let said = check(&format!("{{{{ serial | {word} }}}}"));
            assert!(!said.contains("unknown filter"), "{word}");
            assert!(
                page.contains(&format!("`{word}")),
                "{word} is not documented"
            );
        }
        for word in TESTS {
            let said = check(&format!("{{{{ serial is {word}('x') }}}}"));
            assert!(!said.contains("unknown test"), "{word}");
            assert!(
                page.contains(&format!("`{word}")),
                "{word} is not documented"
            );
        }
    }

    #[test]
    fn words_nobody_knows() {
        let check = |text: &str| -> Vec<String> {
            let words = unknown_words(text);
            words.into_iter().map(|word| word.word).collect()
        };
        assert!(check("a | last(4) == 'x | y' and b is not defined").is_empty());
        assert_eq!(
            check("a | lst(4) and b is dfined or c is not odd"),
            ["lst", "dfined", "odd"]
        );
        let parts: Vec<&str> = expressions("{{ a }}-{{ b | c }} {{ open").collect();
        assert_eq!(parts, [" a ", " b | c "]);
    }

    #[test]
    fn a_condition_says_where_it_is_wrong() {
        let known = ["site", "class", "fields"];
        let check = |text: &str| {
            Condition::parse(text, &known)
                .map(|_| ())
                .map_err(|error| error.column)
        };
        assert_eq!(
            check("site.code == 'BJØ' and class is startingwith('1')"),
            Ok(())
        );
        for (text, column) in [
            ("site.code = 'BJØ'", 11),
            ("site.code == 'BJØ' adn class", 20),
            ("site.code ==", 13),
            ("(site.code", 11),
            ("class == 'x' and clas == 'y'", 18),
            ("'clas' == class | lowr", 19),
            ("", 1),
        ] {
            assert_eq!(check(text), Err(column), "{text}");
        }
        let rule = Condition::parse("fields.order == 'x'", &known).unwrap();
        let scope = |fields| Scope::of(&BTreeMap::from([("fields".to_owned(), fields)]));
        assert_eq!(rule.is_true(&scope(json!({"order": "x"}))), Ok(true));
        assert_eq!(rule.is_true(&scope(json!({"order": "y"}))), Ok(false));
        assert!(rule.is_true(&scope(json!({}))).is_err());
    }

    #[test]
    fn names_used() {
        assert_eq!(
            condition_names("a == 1 and version_compare(b.c, '1') > 0").unwrap(),
            ["a", "b"]
        );
        assert_eq!(
            template_names("{{ x | last(4) }}{{ y['z'] }}").unwrap(),
            ["x", "y"]
        );
        assert!(template_names("{{ x").is_err());
        assert!(template_names("{% for x in y %}{% endfor %}").is_err());
    }

    #[test]
    fn versions() {
        for (left, right, order) in [
            ("1.0", "1.0", 0),
            ("1.9", "1.10", -1),
            ("1.0~rc1", "1.0", -1),
            ("2", "1.9", 1),
            ("1.0a", "1.0", 1),
            ("01", "1", 0),
        ] {
            assert_eq!(version_compare(left, right), order, "{left} {right}");
            assert_eq!(version_compare(right, left), -order, "{right} {left}");
        }
    }
}
