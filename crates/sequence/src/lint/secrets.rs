//! Secrets in clear text: a sequence is stored, shown, put into orders and onto every staged disk.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::names::SecretName;

use super::Linter;
use crate::document::ParsedStep;
use crate::problem::{Code, Place};

/// Names that are given to secrets.
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
            if looks_secret(name, value) {
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
    /// Steps that stop the run, because no release of secrets is there yet.
    pub(super) fn secret_releases(&mut self, steps: &[ParsedStep]) {
        for step in steps {
            for name in step.step.iter().flat_map(|step| step.secrets()) {
                let place = step.with.place_of_text(name.as_str()).unwrap_or(step.place);
                let message =
                    format!("this release can't release the secret `{name}` to a machine");
                let hint = "the run stops at this step; leave it out until a release that can";
                self.warning(Code::SecretRelease, place, message, hint);
            }
        }
    }
}

/// Whether a value of this name is one that must not be seen: by its name, or by how it begins.
#[must_use]
pub fn looks_secret(name: &str, value: &Value) -> bool {
    let Some(text) = value.as_str().filter(|text| !text.trim().is_empty()) else {
        return false;
    };
    let name = name.to_lowercase().replace('-', "_");
    let is_filled_in = text.trim().starts_with("{{");
    BEGINNINGS.iter().any(|beginning| text.contains(beginning))
        || !is_filled_in
            && NAMES
                .iter()
                .any(|word| name.split('_').any(|part| part == *word) || name == *word)
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
