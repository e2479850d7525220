//! The table of routes as an OpenAPI 3.1 document.

use axum::Json;
use axum::http::StatusCode;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use wire::problem::Problem;

use crate::error::Failure;
use crate::people::roles::May;
use crate::problem;
use crate::routes::answers;
use crate::routes::docs::{Content, Listing, Route};

/// What every route can answer besides what it does: status and when.
const EVERYWHERE: &[(u16, &str)] = &[
    (400, "The request makes no sense: its code says why."),
    (
        401,
        "Nobody has said who they are, or their token or session has ended.",
    ),
    (
        403,
        "The role, or the scopes of the token, don't allow this.",
    ),
    (
        404,
        "There is no such thing, or it is out of the caller's reach.",
    ),
];

/// `GET /api/v1/openapi.json`
pub(crate) async fn get() -> Json<Value> {
    Json(document(&crate::routes::table()))
}

/// The document of the admin API. The devices' API isn't in it: it is a contract between our own programs.
#[must_use]
pub fn document(table: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in table.iter().filter(|route| is_told(route)) {
        let operation = operation(route, &mut generator);
        let path = paths
            .entry(route.path)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(methods) = path {
            methods.insert(route.method.as_str().to_lowercase(), operation);
        }
    }
    let problem = generator.subschema_for::<Problem>();
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Forestage",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Zero-touch, prestaged deployment of operating systems to fleets of laptops",
            "description": "Fields are only ever added. Times are milliseconds since 1970. A change may carry an \
                `Idempotency-Key`: sent again within a day it is answered again and not done again.",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "A refusal (RFC 9457).",
                    "content": { "application/problem+json": { "schema": problem, "example": refusal() } },
                },
            },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "From `forestage login` or `forestage token create`." },
                "session": { "type": "apiKey", "in": "cookie", "name": "__Host-forestage" },
            },
        },
    })
}

/// A refusal as callers get it.
fn refusal() -> Value {
    let failure = Failure::conflict("name-taken", "there is a deployment autumn already")
        .hint("take another name, or change that one");
    let Failure::Refused { status, error } = failure else {
        return Value::Null;
    };
    serde_json::from_slice(&problem::body(status, &error)).unwrap_or_default()
}

/// Whether a route belongs to the admin API.
pub(crate) fn is_told(route: &Route) -> bool {
    route.path.starts_with("/api/") && route.may != May::BeDevice
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": route.operation_id(),
        "tags": [route.folder()],
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses(route, generator),
        "x-permission": route.may.name(),
    });
    if !route.detail.is_empty() {
        operation["description"] = route.detail.into();
    }
    if route.may == May::Anyone {
        operation["security"] = json!([]);
    }
    if let Some(content) = content(&route.takes, "", generator) {
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let in_path = route.path.split('/').filter_map(|word| {
        let name = word.strip_prefix('{')?.strip_suffix('}')?;
        Some(
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        )
    });
    let query = route.query.iter().map(|parameter| {
        json!({ "name": parameter.name, "in": "query", "description": parameter.about, "schema": { "type": "string" } })
    });
    let mut all: Vec<Value> = in_path.chain(query).collect();
    if route.is_paged() {
        all.push(json!({
            "name": "limit", "in": "query", "description": "How many rows at most.",
            "schema": { "type": "integer", "minimum": 1, "maximum": 5000 },
        }));
        all.push(json!({
            "name": "cursor", "in": "query", "description": "Where to go on: the `next-cursor` of the page before.",
            "schema": { "type": "string" },
        }));
    }
    if is_done_once(route) {
        all.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 200 },
        }));
    }
    all
}

/// Whether an `Idempotency-Key` keeps it from being done again.
fn is_done_once(route: &Route) -> bool {
    !route.method.is_safe() && route.may != May::Anyone
}

/// How such a key is refused.
const ONCE: &[(u16, &str)] = &[
    (
        409,
        "`in-progress`: The first request with this key is still being worked on. `done-already`: It is done, and its answer held a secret.",
    ),
    (422, "`key-reused`: The key was used for another request."),
];

fn responses(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let listing = route.listing.and_then(Listing::in_words);
    let mut good = json!({ "description": listing.unwrap_or_else(|| "Done.".into()) });
    let text = answers::text(&route.operation_id());
    let status = match content(&route.answers, &text, generator) {
        Some(content) => {
            good["content"] = content;
            StatusCode::OK
        }
        None => StatusCode::NO_CONTENT,
    };
    if route.is_paged() {
        good["headers"] = json!({
            "Link": { "description": "The next page, with `rel=\"next\"`, if there is one.", "schema": { "type": "string" } },
            "next-cursor": { "description": "Its cursor.", "schema": { "type": "string" } },
        });
    }
    responses.insert(status.as_str().to_owned(), good);
    let mut refuse = |status: u16, text: String| {
        let entry = responses.entry(status.to_string()).or_insert_with(
            || json!({ "$ref": "#/components/responses/Problem", "description": "" }),
        );
        let before = entry["description"].as_str().unwrap_or_default().to_owned();
        entry["description"] = format!("{before} {text}").trim().into();
    };
    if route.may != May::Anyone {
        for (status, when) in EVERYWHERE {
            refuse(*status, (*when).to_owned());
        }
    }
    if !matches!(route.takes, Content::Nothing) {
        refuse(
            413,
            "`too-long`: The request is longer than the server reads.".into(),
        );
    }
    for (status, when) in ONCE.iter().filter(|_| is_done_once(route)) {
        refuse(*status, (*when).to_owned());
    }
    for refusal in &route.fails {
        refuse(
            refusal.status,
            format!("`{}`: {}", refusal.code, refusal.when),
        );
    }
    Value::Object(responses)
}

/// What a body is; `text` is an example of one that isn't JSON.
fn content(content: &Content, text: &str, generator: &mut SchemaGenerator) -> Option<Value> {
    match content {
        Content::Nothing => None,
        Content::Bytes(media_type) => {
            let body = match text {
                "" => json!({}),
                text => json!({ "example": text }),
            };
            Some(json!({ *media_type: body }))
        }
        Content::Json(document) => {
            let mut body = json!({ "schema": (document.schema)(generator) });
            if let Ok(example) = serde_json::from_str::<Value>(document.example) {
                body["example"] = example;
            }
            Some(json!({ "application/json": body }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{document, is_told};
    use crate::people::roles::May;
    use crate::routes::docs::{Content, Route};
    use crate::routes::{documented, table};

    #[test]
    fn every_route_is_told_and_nothing_is_told_that_is_no_route() {
        let (table, strays) = documented();
        assert_eq!(
            strays,
            Vec::<String>::new(),
            "texts of routes that aren't there"
        );
        for route in &table {
            assert!(
                !route.summary.is_empty(),
                "{} {} has no text: add it in routes/texts",
                route.method,
                route.path
            );
            assert!(
                route.summary.ends_with('.'),
                "{}: {}",
                route.path,
                route.summary
            );
        }
    }

    #[test]
    fn examples_are_what_they_are_examples_of() {
        for route in table() {
            for content in [route.takes, route.answers] {
                if let Content::Json(document) = content
                    && !document.example.is_empty()
                {
                    let read = (document.check)(document.example);
                    assert_eq!(read, Ok(()), "{} {}", route.method, route.path);
                }
            }
            let takes_json = matches!(route.takes, Content::Json(d) if d.example.is_empty());
            assert!(
                !takes_json,
                "{} {}: what it takes needs an example",
                route.method, route.path
            );
        }
    }

    /// What is wrong with the told routes, all at once.
    fn complain(check: impl Fn(&Route, &mut Vec<String>)) {
        let mut complaints = Vec::new();
        for route in table().iter().filter(|route| is_told(route)) {
            let mut about = Vec::new();
            check(route, &mut about);
            let name = |what| format!("{} {}: {what}", route.method, route.path);
            complaints.extend(about.into_iter().map(name));
        }
        assert_eq!(complaints, Vec::<String>::new());
    }

    /// The handlers' types say what a route reads; its text has to say the same.
    #[test]
    fn what_a_handler_reads_is_told() {
        complain(|route, complaints| {
            let mut same = |read: bool, told: bool, what: &str| {
                if read != told {
                    complaints.push(format!("{what} is read: {read}, told: {told}"));
                }
            };
            let reads = |what: &str| route.extractors.contains(what);
            let body = reads("::Body") || reads("Bytes") || reads("::Json<");
            same(body, !matches!(route.takes, Content::Nothing), "a body");
            same(reads("PageQuery"), route.is_paged(), "a page");
            let queries = route.extractors.matches("::Query<").count();
            let others = queries > usize::from(route.is_paged());
            same(others, !route.query.is_empty(), "a query");
        });
    }

    #[test]
    fn every_list_says_how_much_of_it_comes_and_every_operation_how_it_fails() {
        let document = document(&table());
        complain(|route, complaints| {
            let path = route.path.replace('/', "~1");
            let method = route.method.as_str().to_lowercase();
            let pointer = format!("/paths/{path}/{method}/responses");
            let answers = document.pointer(&pointer).unwrap();
            let schema = answers.pointer("/200/content/application~1json/schema");
            let is_list = schema.is_some_and(|schema| schema["type"] == "array");
            if (is_list && method == "get") != route.listing.is_some() {
                complaints.push(format!("a list: {is_list}, told: {:?}", route.listing));
            }
            let answers = answers.as_object().unwrap().iter();
            let problems: Vec<_> = answers
                .filter(|(status, _)| status.starts_with('4'))
                .collect();
            for (status, problem) in &problems {
                if problem.get("$ref").is_none() || problem["description"] == "" {
                    complaints.push(format!("{status} is no problem document that says when"));
                }
            }
            if problems.is_empty() && route.may != May::Anyone {
                complaints.push("it never fails".into());
            }
        });
    }

    #[test]
    fn the_document_has_every_route_once_and_every_reference_leads_somewhere() {
        let table = table();
        let told: Vec<_> = table.iter().filter(|route| is_told(route)).collect();
        let ids: BTreeSet<String> = told.iter().map(|route| route.operation_id()).collect();
        assert_eq!(ids.len(), told.len());
        let document = document(&table);
        let operations = document["paths"].as_object().unwrap().values();
        let count: usize = operations.map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(count, told.len());
        let mut references = Vec::new();
        collect(&document, &mut references);
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(
                document.pointer(pointer).is_some(),
                "{reference} leads nowhere"
            );
        }
    }

    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(text)) = object.get("$ref") {
                    into.push(text.clone());
                }
                object.values().for_each(|value| collect(value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
}
