//! What expressions and templates can see, and the one engine (minijinja) that evaluates both.
//!
//! Names, later ones winning: the sequence's variables, the order's variables, variables set by earlier steps. Facts
//! and `outputs` always win: what was observed cannot be talked over. A name that isn't there is an error, never an empty
//! text: a host name with a hole in it is worse than a stopped run.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value as TemplateValue, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::facts::Facts;

use crate::ports::StepError;

/// The names of facts that expressions can use.
pub const FACT_NAMES: [&str; 11] = [
    "serial",
    "asset_tag",
    "uuid",
    "vendor",
    "product",
    "sku",
    "baseboard",
    "memory_bytes",
    "firmware",
    "secure_boot",
    "tpm",
];
/// The names of facts that the model alone decides.
pub const MODEL_NAMES: [&str; 4] = ["vendor", "product", "sku", "baseboard"];
/// Names the server puts into every order.
pub const ORDER_NAMES: [&str; 3] = ["asset", "class", "site"];
/// The name under which the outputs of earlier steps are found, by step path.
pub const OUTPUTS_NAME: &str = "outputs";
/// The longest label of a DNS name (RFC 1035, 2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 63;
/// An expression that takes more instructions than this loops.
const RECURSION_MAX: usize = 50;

/// What a person can do about an expression that fails.
const HINT: &str =
    "correct it in the sequence, or give the name a value under `variables` or in the deployment";

/// A text with expressions in double braces, such as `{{ site.code }}-{{ serial | last(4) }}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Template(pub String);

/// The values expressions and templates see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    values: BTreeMap<String, Value>,
}

impl Scope {
    /// The scope before a step.
    #[must_use]
    pub fn new(
        facts: &Facts,
        variables: &[&BTreeMap<String, Value>],
        outputs: &BTreeMap<String, Value>,
    ) -> Self {
        let mut values = BTreeMap::new();
        for layer in variables {
            values.extend(
                layer
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
        values.extend(fact_values(facts));
        let outputs = outputs
            .iter()
            .map(|(path, value)| (path.clone(), value.clone()))
            .collect();
        values.insert(OUTPUTS_NAME.to_owned(), Value::Object(outputs));
        Self { values }
    }

    /// A scope with exactly these values.
    #[must_use]
    pub const fn of(values: BTreeMap<String, Value>) -> Self {
        Self { values }
    }

    /// Whether the name has a value.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Renders a template.
    ///
    /// # Errors
    /// It cannot be parsed, or needs a name that isn't there.
    pub fn render(&self, template: &Template) -> Result<String, StepError> {
        let what = || format!("cannot fill in the template `{}`", template.0);
        environment()
            .render_str(&template.0, TemplateValue::from(Serde(&self.values)))
            .map_err(|error| {
                StepError::refused(what())
                    .hint(HINT)
                    .because(Explained::of(&error))
            })
    }

    /// Evaluates a condition.
    ///
    /// # Errors
    /// It cannot be parsed, needs a name that isn't there, or is neither true nor false.
    pub fn is_true(&self, condition: &str) -> Result<bool, StepError> {
        let what = || format!("cannot decide the condition `{condition}`");
        let value = environment()
            .compile_expression(condition)
            .and_then(|expression| expression.eval(TemplateValue::from(Serde(&self.values))))
            .map_err(|error| {
                StepError::refused(what())
                    .hint(HINT)
                    .because(Explained::of(&error))
            })?;
        if value.kind() == ValueKind::Undefined {
            return Err(StepError::refused(what())
                .hint(HINT)
                .because("it asks for a value that isn't there"));
        }
        Ok(value.is_true())
    }
}

/// Checks that a condition can be parsed and returns the names it uses.
///
/// # Errors
/// Says what is wrong with it.
pub fn condition_names(condition: &str) -> Result<Vec<String>, String> {
    let environment = environment();
    let expression = environment
        .compile_expression(condition)
        .map_err(|error| Explained::of(&error).0)?;
    Ok(sorted(expression.undeclared_variables(false)))
}

/// Checks that a template can be parsed and returns the names it uses.
///
/// # Errors
/// Says what is wrong with it.
pub fn template_names(template: &str) -> Result<Vec<String>, String> {
    let environment = environment();
    let parsed = environment
        .template_from_str(template)
        .map_err(|error| Explained::of(&error).0)?;
    Ok(sorted(parsed.undeclared_variables(false)))
}

/// Makes a host name out of any text: Latin letters become ASCII, what a host name can't hold becomes a hyphen or is
/// dropped, at most 63 characters, no hyphen at either end.
#[must_use]
pub fn host_name(text: &str) -> String {
    let mut name = String::new();
    for letter in text.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' => name.push(letter.to_ascii_lowercase()),
            '-' | '_' | ' ' | '.' | '/' if !name.ends_with('-') => name.push('-'),
            _ => name.push_str(transliterate(letter)),
        }
    }
    let name: String = name
        .trim_start_matches('-')
        .chars()
        .take(HOST_NAME_BYTES_MAX)
        .collect();
    name.trim_end_matches('-').to_owned()
}

/// Whether a text can be a host name as it is.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    let holds = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty()
        && text.len() <= HOST_NAME_BYTES_MAX
        && text.bytes().all(holds)
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

fn sorted(names: std::collections::HashSet<String>) -> Vec<String> {
    let own = ["version_compare"];
    let mut names: Vec<String> = names
        .into_iter()
        .filter(|name| !own.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

fn fact_values(facts: &Facts) -> Vec<(String, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let firmware = serde_json::to_value(facts.firmware).unwrap_or(Value::Null);
    let values = [
        text(&facts.serial),
        text(&facts.asset_tag),
        facts
            .uuid
            .map_or(Value::Null, |uuid| Value::String(uuid.to_string())),
        text(&facts.vendor),
        text(&facts.product),
        text(&facts.sku),
        text(&facts.baseboard),
        facts.memory_bytes.into(),
        firmware,
        facts.secure_boot.into(),
        facts.tpm.into(),
    ];
    FACT_NAMES
        .iter()
        .map(|name| (*name).to_owned())
        .zip(values)
        .collect()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("last", |text: &str, count: Option<usize>| {
        take_last(text, count)
    });
    environment.add_filter("first", |text: &str, count: Option<usize>| {
        take_first(text, count)
    });
    environment.add_filter("upper", |text: &str| text.to_uppercase());
    environment.add_filter("lower", |text: &str| text.to_lowercase());
    environment.add_filter("hostname", |text: &str| host_name(text));
    environment.add_function("version_compare", |left: &str, right: &str| {
        version_compare(left, right)
    });
    environment
}

fn take_last(text: &str, count: Option<usize>) -> String {
    let skipped = text.chars().count().saturating_sub(count.unwrap_or(1));
    text.chars().skip(skipped).collect()
}

fn take_first(text: &str, count: Option<usize>) -> String {
    text.chars().take(count.unwrap_or(1)).collect()
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

/// ASCII for the letters of European names. What is not listed is dropped.
fn transliterate(letter: char) -> &'static str {
    match letter {
        'æ' | 'Æ' | 'ä' | 'Ä' => "ae",
        'œ' | 'Œ' => "oe",
        'ø' | 'Ø' | 'ö' | 'Ö' | 'ó' | 'Ó' | 'ò' | 'Ò' | 'ô' | 'Ô' | 'õ' | 'Õ' | 'ő' | 'Ő' => {
            "o"
        }
        'å' | 'Å' | 'á' | 'Á' | 'à' | 'À' | 'â' | 'Â' | 'ã' | 'Ã' | 'ą' | 'Ą' | 'ă' | 'Ă' => {
            "a"
        }
        'é' | 'É' | 'è' | 'È' | 'ê' | 'Ê' | 'ë' | 'Ë' | 'ę' | 'Ę' | 'ě' | 'Ě' => "e",
        'í' | 'Í' | 'ì' | 'Ì' | 'î' | 'Î' | 'ï' | 'Ï' | 'ı' | 'İ' => "i",
        'ú' | 'Ú' | 'ù' | 'Ù' | 'û' | 'Û' | 'ü' | 'Ü' | 'ů' | 'Ů' | 'ű' | 'Ű' => "u",
        'ý' | 'Ý' | 'ÿ' => "y",
        'ç' | 'Ç' | 'ć' | 'Ć' | 'č' | 'Č' => "c",
        'ð' | 'Ð' | 'đ' | 'Đ' | 'ď' | 'Ď' => "d",
        'ñ' | 'Ñ' | 'ń' | 'Ń' | 'ň' | 'Ň' | 'ŋ' | 'Ŋ' => "n",
        'ł' | 'Ł' => "l",
        'ř' | 'Ř' => "r",
        'ś' | 'Ś' | 'š' | 'Š' | 'ş' | 'Ş' | 'ș' | 'Ș' => "s",
        'ß' | 'ẞ' => "ss",
        'ť' | 'Ť' | 'ŧ' | 'Ŧ' | 'ț' | 'Ț' => "t",
        'þ' | 'Þ' => "th",
        'ź' | 'Ź' | 'ż' | 'Ż' | 'ž' | 'Ž' => "z",
        'ğ' | 'Ğ' | 'ǧ' | 'Ǧ' => "g",
        'ǩ' | 'Ǩ' => "k",
        _ => "",
    }
}

/// An error of the expression engine, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Explained(String);

impl Explained {
    fn of(error: &minijinja::Error) -> Self {
        let detail = error.detail().unwrap_or_default();
        Self(match error.kind() {
            ErrorKind::UndefinedError => "it asks for a value that isn't there".to_owned(),
            _ if detail.is_empty() => error.kind().to_string(),
            kind => format!("{kind}: {detail}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;
    use wire::facts::Facts;

    use super::{
        Scope, Template, condition_names, host_name, is_host_name, template_names, version_compare,
    };

    fn scope() -> Scope {
        let facts = Facts {
            serial: "PF0ABC12".into(),
            vendor: "Acme".into(),
            ..Facts::default()
        };
        let variables = BTreeMap::from([
            ("site".to_owned(), json!({"code": "BÆR"})),
            ("vendor".to_owned(), json!("forged")),
        ]);
        let outputs = BTreeMap::from([("apps/java".to_owned(), json!({"exit": 0}))]);
        Scope::new(&facts, &[&variables], &outputs)
    }

    #[test]
    fn templates() {
        let check = |text: &str| {
            scope()
                .render(&Template(text.to_owned()))
                .map_err(|error| error.chain().join(": "))
        };
        assert_eq!(
            check("{{ site.code }}-{{ serial | last(4) }}").unwrap(),
            "BÆR-BC12"
        );
        assert_eq!(
            check("{{ (site.code ~ '-' ~ (serial | first(2))) | hostname }}").unwrap(),
            "baer-pf"
        );
        assert_eq!(
            check("{{ vendor }}").unwrap(),
            "Acme",
            "facts can't be overridden"
        );
        assert_eq!(check("{{ outputs['apps/java'].exit }}").unwrap(), "0");
        assert!(check("{{ nothing }}").unwrap_err().contains("isn't there"));
        assert!(check("{{ site.nothing }}").is_err());
        assert!(check("{{ (").is_err());
    }

    #[test]
    fn conditions() {
        let check = |text: &str| {
            scope()
                .is_true(text)
                .map_err(|error| error.chain().join(": "))
        };
        assert_eq!(check("vendor == 'Acme' and not secure_boot"), Ok(true));
        assert_eq!(check("serial in ['A', 'B']"), Ok(false));
        assert_eq!(check("version_compare('17.0.9', '17.0.10') < 0"), Ok(true));
        assert_eq!(check("klass is defined"), Ok(false));
        assert!(check("klass == '1STA'").is_err());
        assert!(check("vendor ==").is_err());
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
    }

    #[test]
    fn host_names() {
        for (text, name) in [
            ("Åsgård Øst_1", "asgard-ost-1"),
            ("--BÆR--", "baer"),
            ("日本", ""),
            ("a.b", "a-b"),
            ("ŠÞ", "sth"),
        ] {
            assert_eq!(host_name(text), name);
        }
        assert!(is_host_name("baer-1sta-bc12"));
        for wrong in ["", "-a", "a-", "a_b", "æ", "123", &"a".repeat(64)] {
            assert!(!is_host_name(wrong), "{wrong}");
        }
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

    proptest! {
        #[test]
        fn whatever_it_is_made_from_a_host_name_is_one_or_empty_or_a_number(text in ".{0,100}") {
            let name = host_name(&text);
            let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert!(name.is_empty() || is_host_name(&name) || is_number, "{}", name);
        }

        #[test]
        fn garbage_never_panics(text in ".{0,60}") {
            let _ = (condition_names(&text), template_names(&text), scope().is_true(&text));
        }
    }
}
