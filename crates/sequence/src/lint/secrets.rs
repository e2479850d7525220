//! Secrets in clear text: a sequence is stored, shown, put into orders and onto every staged disk.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::names::SecretName;

use super::Linter;
use crate::document::ParsedStep;
use crate::problem::{Code, Place, did_you_mean};

/// Names that are given to secrets; an `s` behind them makes them several.
const NAMES: [&str; 9] = [
    "password",
    "passord",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "psk",
];
/// How secrets begin that are recognised wherever they stand.
const BEGINNINGS: [&str; 5] = [
    "-----BEGIN OPENSSH PRIVATE KEY",
    "-----BEGIN PRIVATE KEY",
    "-----BEGIN RSA PRIVATE KEY",
    "-----BEGIN EC PRIVATE KEY",
    "$argon2",
];
/// What stands in the place of a secret inside a value.
const NOT_SHOWN: &str = "•••";
const HINT: &str = "take it out of the document, and change it: whoever has seen the document knows it. \
                    Name a secret under `secrets` instead";

impl Linter {
    /// Variables with a name like `password`, and those that hold a key.
    pub(super) fn secret_variables(
        &mut self,
        variables: &BTreeMap<String, Value>,
        places: &BTreeMap<String, Place>,
    ) {
        for (name, value) in variables {
            if shown(name, value).as_ref() != Some(value) {
                let place = places.get(name).copied().unwrap_or_default();
                let message = format!("the variable `{name}` holds a secret in clear text");
                self.error(Code::Secret, place, message, Some(HINT.to_owned()));
            }
        }
    }

    /// The same among the arguments of steps.
    pub(super) fn secret_arguments(&mut self, steps: &[ParsedStep]) {
        for step in steps {
            let named: Vec<SecretName> = step.step.iter().flat_map(|step| step.secrets()).collect();
            for (name, value) in texts("", &step.compiled.with) {
                // The names of secrets are meant to be seen.
                let is_by_name = named.iter().any(|secret| secret.as_str() == value);
                let last = name.rsplit('.').next().unwrap_or_default();
                if !is_by_name && looks_secret(last, &Value::from(value)) {
                    let place = step.with.place_of_text(value).unwrap_or(step.place);
                    let message = format!(
                        "`{last}` of the step `{}` holds a secret in clear text",
                        step.compiled.path
                    );
                    self.error(Code::Secret, place, message, Some(HINT.to_owned()));
                }
            }
        }
    }
}

impl Linter {
    /// Secrets that a machine would ask for in vain.
    pub(super) fn unset_secrets(&mut self, steps: &[ParsedStep], set: &[SecretName]) {
        for step in steps {
            let wanted = step.step.iter().flat_map(|step| step.secrets());
            for name in wanted.filter(|name| !set.contains(name)) {
                let place = step.with.place_of_text(name.as_str()).unwrap_or(step.place);
                let message = format!("the secret {name} is not set");
                let hint = did_you_mean(name.as_str(), set.iter().map(SecretName::as_str))
                    .or_else(|| Some(format!("set it first: `forestage secret set {name}`")));
                self.error(Code::UnknownSecret, place, message, hint);
            }
        }
    }
}

/// Whether a value of this name is one that must not be seen: by its name, or by how it begins.
fn looks_secret(name: &str, value: &Value) -> bool {
    let Some(text) = value.as_str().filter(|text| !text.trim().is_empty()) else {
        return false;
    };
    let is_filled_in = text.trim().starts_with("{{");
    BEGINNINGS.iter().any(|beginning| text.contains(beginning))
        || !is_filled_in && is_secret_name(name)
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase().replace('-', "_");
    let is_one = |part: &str| NAMES.contains(&part.strip_suffix('s').unwrap_or(part));
    is_one(&name) || name.split('_').any(is_one)
}

/// What may be shown of a value of this name: nothing if it is a secret as a whole; secrets inside it are left out.
#[must_use]
pub fn shown(name: &str, value: &Value) -> Option<Value> {
    match value {
        Value::Array(items) => Some(
            items
                .iter()
                .map(|item| without_secrets(name, item))
                .collect(),
        ),
        Value::Object(entries) => Some(
            entries
                .iter()
                .map(|(key, value)| {
                    // What stands inside a thing with a secret's name is one, whatever its own name is.
                    let is_secret = is_secret_name(name);
                    let value = without_secrets(if is_secret { name } else { key }, value);
                    (key.clone(), value)
                })
                .collect(),
        ),
        // A PIN is a number.
        Value::Number(number) => {
            let text = Value::from(number.to_string());
            (!looks_secret(name, &text)).then(|| value.clone())
        }
        Value::String(_) | Value::Bool(_) | Value::Null => {
            (!looks_secret(name, value)).then(|| value.clone())
        }
    }
}

/// The same with a mark in the place of what is a secret as a whole.
#[must_use]
pub fn without_secrets(name: &str, value: &Value) -> Value {
    shown(name, value).unwrap_or_else(|| NOT_SHOWN.into())
}

/// Every text in a value, with the keys that lead to it.
fn texts<'v>(name: &str, value: &'v Value) -> Vec<(String, &'v str)> {
    match value {
        Value::String(text) => vec![(name.to_owned(), text)],
        Value::Array(items) => items.iter().flat_map(|item| texts(name, item)).collect(),
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| texts(&format!("{name}.{key}"), value))
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::shown;

    #[test]
    fn secrets_are_left_out_wherever_they_stand() {
        let cases = [
            ("locale", json!("nb_NO"), Some(json!("nb_NO"))),
            ("admin_password", json!("hunter2"), None),
            ("admin-token", json!(4711), None),
            ("wifi_passwords", json!("hunter2 hunter3"), None),
            ("API-keys", json!("k1,k2"), None),
            ("tokens", json!(["t"]), Some(json!(["•••"]))),
            (
                "secrets",
                json!({ "kari": "s" }),
                Some(json!({ "kari": "•••" })),
            ),
            ("tokenservice", json!("a.example"), Some(json!("a.example"))),
            ("count", json!(3), Some(json!(3))),
            ("use_password", json!(true), Some(json!(true))),
            ("password", json!("{{ other }}"), Some(json!("{{ other }}"))),
            (
                "wifi",
                json!({ "ssid": "skole", "psk": "hunter2", "more": [{ "api-key": "k", "n": 1 }] }),
                Some(
                    json!({ "ssid": "skole", "psk": "•••", "more": [{ "api-key": "•••", "n": 1 }] }),
                ),
            ),
            (
                "password",
                json!({ "kari": ["hunter2"] }),
                Some(json!({ "kari": ["•••"] })),
            ),
            (
                "files",
                json!(["a", "-----BEGIN PRIVATE KEY-----\nx"]),
                Some(json!(["a", "•••"])),
            ),
            ("none", Value::Null, Some(Value::Null)),
        ];
        for (name, value, expected) in cases {
            assert_eq!(shown(name, &value), expected, "{name}");
        }
    }
}
