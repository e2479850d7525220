//! An example of every answer of the admin API. Nobody writes them: the test `examples` asks a real server everything, and fails
//! when answers have got another shape than those that are noted here. `UPDATE=1 cargo test -p server --test it examples` notes
//! them anew.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::value::RawValue;

/// By the name of the operation. What isn't JSON is noted as a text.
static NOTED: LazyLock<BTreeMap<&'static str, &'static RawValue>> =
    LazyLock::new(|| serde_json::from_str(include_str!("answers.json")).unwrap_or_default());

/// What this operation answers, as JSON; empty if it isn't noted.
pub(super) fn example(operation: &str) -> &'static str {
    NOTED.get(operation).map_or("", |value| value.get())
}

/// What an operation answers that answers no JSON; empty if it isn't noted.
pub(super) fn text(operation: &str) -> String {
    serde_json::from_str(example(operation)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::{NOTED, example};
    use crate::routes::docs::Content;
    use crate::routes::openapi::{document, is_told};
    use crate::routes::table;

    /// Media types whose answers can be read.
    const TEXTS: [&str; 3] = ["text/csv", "text/csv; charset=utf-8", "application/yaml"];

    #[test]
    fn every_answer_has_an_example_and_every_example_is_of_an_answer() {
        let mut lacking = Vec::new();
        let mut operations = BTreeSet::new();
        for route in table().iter().filter(|route| is_told(route)) {
            let needs = match route.answers {
                Content::Nothing => false,
                Content::Json(_) => true,
                Content::Bytes(media_type) => TEXTS.contains(&media_type),
            };
            if needs {
                let operation = route.operation_id();
                if example(&operation).is_empty() {
                    lacking.push(operation.clone());
                }
                operations.insert(operation);
            }
        }
        assert_eq!(
            lacking,
            Vec::<String>::new(),
            "ask for them in tests/it/examples.rs"
        );
        let strays: Vec<_> = NOTED
            .keys()
            .filter(|noted| !operations.contains(**noted))
            .collect();
        assert!(
            strays.is_empty(),
            "examples of operations that answer nothing: {strays:?}"
        );
    }

    #[test]
    fn every_example_fits_its_schema() {
        let document = document(&table());
        let mut wrong = Vec::new();
        let mut compared = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                for response in operation["responses"].as_object().unwrap().values() {
                    let response = match response.get("$ref") {
                        Some(_) => &document["components"]["responses"]["Problem"],
                        None => response,
                    };
                    for body in response["content"]
                        .as_object()
                        .into_iter()
                        .flat_map(|all| all.values())
                    {
                        if let (Some(schema), Some(value)) =
                            (body.get("schema"), body.get("example"))
                        {
                            compared += 1;
                            if let Err(why) = fits(value, schema, &document) {
                                wrong.push(format!("{method} {path}: {why}"));
                            }
                        }
                    }
                }
            }
        }
        assert!(compared > 100, "{compared}");
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn what_does_not_fit_is_seen() {
        let document = json!({ "components": { "schemas": { "Row": {
            "type": "object",
            "required": ["name"],
            "properties": { "name": { "type": "string" }, "of": { "type": ["integer", "null"] }, "kind": { "enum": ["a"] } },
        } } } });
        let rows = json!({ "type": "array", "items": { "$ref": "#/components/schemas/Row" } });
        let check = |value| fits(&value, &rows, &document);
        assert_eq!(
            check(json!([{ "name": "x", "of": null, "kind": "a" }, { "name": "y", "of": 3 }])),
            Ok(())
        );
        for bad in [
            json!({}),
            json!([{}]),
            json!([{ "name": 1 }]),
            json!([{ "name": "x", "of": "3" }]),
            json!([{ "name": "x", "kind": "b" }]),
            json!([{ "name": "x", "nam": 1 }]),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }

    /// Whether a value is what a schema says, as far as our schemas say anything. A field that no schema knows doesn't fit.
    fn fits(value: &Value, schema: &Value, document: &Value) -> Result<(), String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let known = document.pointer(reference.trim_start_matches('#'));
            return fits(value, known.ok_or("a reference leads nowhere")?, document);
        }
        if let Some(all) = schema["allOf"].as_array() {
            return all.iter().try_for_each(|one| fits(value, one, document));
        }
        for any in ["anyOf", "oneOf"] {
            if let Some(any) = schema[any].as_array() {
                let mut why = String::new();
                for one in any {
                    match fits(value, &with_properties(one, schema), document) {
                        Ok(()) => return Ok(()),
                        Err(other) => why = other,
                    }
                }
                return Err(why);
            }
        }
        if let Some(one) = schema.get("const").filter(|one| *one != value) {
            return Err(format!("{value} isn't {one}"));
        }
        if schema["enum"]
            .as_array()
            .is_some_and(|all| !all.contains(value))
        {
            return Err(format!("{value} is none of {}", schema["enum"]));
        }
        if !is_of(value, &schema["type"]) {
            return Err(format!("{value} isn't of type {}", schema["type"]));
        }
        match value {
            Value::Array(items) if schema.get("items").is_some() => items
                .iter()
                .try_for_each(|item| fits(item, &schema["items"], document)),
            Value::Object(fields) => {
                for name in schema["required"].as_array().into_iter().flatten() {
                    if !fields.contains_key(name.as_str().unwrap_or_default()) {
                        return Err(format!("{name} is missing"));
                    }
                }
                for (name, field) in fields {
                    let known = schema["properties"].get(name);
                    let other = schema
                        .get("additionalProperties")
                        .filter(|other| **other != false);
                    match known.or(other) {
                        Some(Value::Bool(_)) => {}
                        Some(known) => {
                            fits(field, known, document).map_err(|why| format!("{name}: {why}"))?;
                        }
                        None if schema.get("properties").is_none() => {}
                        None => return Err(format!("{name} isn't in the schema")),
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One of several forms, with the fields that all of them have.
    fn with_properties(one: &Value, all: &Value) -> Value {
        let mut one = one.clone();
        if let (Some(shared), Some(own)) = (all["properties"].as_object(), one.as_object_mut()) {
            let fields = own.entry("properties").or_insert_with(|| json!({}));
            if let Some(fields) = fields.as_object_mut() {
                fields.extend(shared.clone());
            }
        }
        one
    }

    fn is_of(value: &Value, types: &Value) -> bool {
        let is = |name: &str| match name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        };
        match types {
            Value::String(name) => is(name),
            Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
            _ => true,
        }
    }
}
