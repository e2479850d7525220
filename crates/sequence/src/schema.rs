//! The JSON Schema of a sequence document, and the reference page of the steps; both come from the types.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::steps::{CATALOG, OnRestart};

/// The JSON Schema (draft 2020-12) of a sequence document, for editors.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut properties = common_properties();
    for step_type in CATALOG {
        properties.insert(
            step_type.kind.to_owned(),
            step_type.schema(&mut generator).to_value(),
        );
    }
    let kinds: Vec<Value> = CATALOG
        .iter()
        .map(|step_type| json!({ "required": [step_type.kind] }))
        .collect();
    let mut definitions = generator.take_definitions(true);
    definitions.insert(
        "step".to_owned(),
        json!({
            "type": "object", "required": ["id"], "properties": properties, "additionalProperties": false, "oneOf": kinds,
        }),
    );
    definitions.insert(
        "group".to_owned(),
        json!({
            "type": "object",
            "required": ["id", "steps"],
            "properties": {
                "id": text("The id; part of the path of its steps."),
                "name": text("What it is called on screens."),
                "when": text("A condition for all of its steps."),
                "steps": { "$ref": "#/$defs/steps" },
            },
            "additionalProperties": false,
        }),
    );
    definitions.insert(
        "steps".to_owned(),
        json!({ "type": "array", "items": { "anyOf": [{ "$ref": "#/$defs/step" }, { "$ref": "#/$defs/group" }] } }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Forestage task sequence",
        "type": "object",
        "required": ["sequence", "steps"],
        "properties": {
            "sequence": text("The name of the sequence."),
            "description": text("What it is for."),
            "variables": { "type": "object", "description": "Variables and their values; an order may override them." },
            "steps": { "$ref": "#/$defs/steps" },
        },
        "additionalProperties": false,
        "$defs": definitions,
    })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn common_properties() -> Map<String, Value> {
    let duration = |description: &str| json!({ "type": "string", "pattern": "^[0-9]+ ?[smh]$", "description": description });
    let mut properties = Map::new();
    properties.insert(
        "id".to_owned(),
        text("The id: stable, shown everywhere, unique among its neighbors."),
    );
    properties.insert(
        "name".to_owned(),
        text("What it is called on screens; the path if absent."),
    );
    properties.insert(
        "when".to_owned(),
        text("A condition: the step runs only if it is true."),
    );
    properties.insert(
        "timeout".to_owned(),
        duration("How long one attempt may take; 1h if absent."),
    );
    properties.insert(
        "attempts".to_owned(),
        json!({ "type": "integer", "minimum": 1, "maximum": 100, "description": "How often it is tried; 1 if absent." }),
    );
    properties.insert(
        "wait".to_owned(),
        duration("The wait between attempts; none if absent."),
    );
    let go_on = "Whether the run goes on, with a warning, if the last attempt fails.";
    properties.insert(
        "continue-on-error".to_owned(),
        json!({ "type": "boolean", "description": go_on }),
    );
    let after_cut = "What becomes of it after a power cut: the recorded plan is applied again, it is planned again, or \
                     the run stops and asks a person. The step type's rule if absent.";
    properties.insert(
        "on-restart".to_owned(),
        json!({ "enum": ["redo", "verify", "refuse"], "description": after_cut }),
    );
    properties.insert(
        "runs-in".to_owned(),
        json!({ "enum": ["boot-image", "os"], "description": "Where it must run; refused elsewhere." }),
    );
    properties
}

/// The reference page of all step types, in Markdown: `docs/reference/steps.md`.
#[must_use]
pub fn steps_reference() -> String {
    let mut page = String::from(
        "# Step types\n\nGenerated from the types in `crates/sequence/src/steps/`; edit those. The keys that every step \
         has (`id`, `when`, `timeout`, …)\nand the names templates can use are described in \
         [the sequence format](../formats/sequence.md).\n",
    );
    for step_type in CATALOG {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let schema = step_type.schema(&mut generator).to_value();
        let definitions = generator.take_definitions(true);
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n",
            step_type.kind,
            description(&schema)
        );
        let on_restart = match step_type.on_restart {
            OnRestart::Redo => "the recorded plan is applied again",
            OnRestart::Verify => "looks at what is already true and does the rest",
            OnRestart::Refuse => {
                "the run stops and asks a person, unless the step says it is safe to repeat"
            }
        };
        let _ = writeln!(page, "After a power cut: {on_restart}.");
        if let Some(environment) = step_type.needs {
            let _ = writeln!(
                page,
                "Runs in: {} only.",
                crate::steps::restart::environment_name(environment)
            );
        }
        let _ = write!(page, "\n```yaml\n{}```\n", step_type.example);
        table(&mut page, &schema);
        let mut shown: Vec<(&String, &Value)> = definitions.iter().collect();
        shown.sort_by_key(|(name, _)| *name);
        for (name, definition) in shown {
            if definition.get("properties").is_some() {
                let _ = write!(page, "\n`{name}`: {}\n", description(definition));
                table(&mut page, definition);
            } else {
                let _ = write!(
                    page,
                    "\n`{name}`: {}{}\n",
                    description(definition),
                    choices(definition)
                );
            }
        }
    }
    page
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// The values of an enumeration, in words.
fn choices(schema: &Value) -> String {
    let plain = schema["enum"].as_array().cloned().unwrap_or_default();
    let described = schema["oneOf"].as_array().into_iter().flatten();
    let values: Vec<String> = plain
        .into_iter()
        .chain(described.flat_map(|choice| match &choice["enum"] {
            Value::Array(values) => values.clone(),
            _ => vec![choice["const"].clone()],
        }))
        .filter_map(|value| value.as_str().map(|text| format!("`{text}`")))
        .collect();
    if values.is_empty() {
        String::new()
    } else {
        format!(" One of {}.", values.join(", "))
    }
}

fn table(page: &mut String, schema: &Value) {
    let Some(properties) = schema["properties"]
        .as_object()
        .filter(|properties| !properties.is_empty())
    else {
        return;
    };
    let required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|known| known == name))
    };
    page.push_str("\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for (name, property) in properties {
        let default = match property.get("default") {
            _ if required(name) => "required".to_owned(),
            Some(Value::Null) | None => "none".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let meaning = description(property).replace('\n', " ");
        let _ = writeln!(
            page,
            "| `{name}` | {} | {default} | {meaning} |",
            type_in_words(property)
        );
    }
}

fn type_in_words(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return format!("`{}`", reference.rsplit('/').next().unwrap_or(reference));
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices
            .iter()
            .filter(|choice| choice["type"] != "null")
            .map(type_in_words)
            .collect::<Vec<_>>()
            .join(" or ");
    }
    let name = match &schema["type"] {
        Value::Array(names) => names
            .iter()
            .find_map(|name| name.as_str().filter(|name| *name != "null")),
        name => name.as_str(),
    };
    match name {
        Some("array") => format!("list of {}", type_in_words(&schema["items"])),
        Some("string") => "text".to_owned(),
        Some("object") => "map".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    /// Compares a committed file with what the types say; `UPDATE=1` writes it.
    fn check(path: &str, current: &str) {
        let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, current).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == current,
            "{path} is out of date: run the tests of `sequence` once with UPDATE=1"
        );
    }

    #[test]
    fn the_reference_page_is_up_to_date() {
        check("docs/reference/steps.md", &super::steps_reference());
    }

    #[test]
    fn the_schema_is_up_to_date() {
        let mut text = serde_json::to_string_pretty(&super::schema()).unwrap();
        text.push('\n');
        check("docs/reference/sequence.schema.json", &text);
    }
}
