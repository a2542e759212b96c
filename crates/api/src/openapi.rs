//! The OpenAPI 3.1 document, <https://spec.openapis.org/oas/v3.1.1>.

use schemars::generate::SchemaSettings;
use schemars::{SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::operation::{Answer, Operation};
use crate::problem::Problem;
use crate::wire::{ExecControl, ExecNews};

/// Describes every operation and shape.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = SchemaGenerator::new(settings);
    let problem = generator.subschema_for::<Problem>();
    // Named by the WebSocket's description only.
    let _ = (generator.subschema_for::<ExecControl>(), generator.subschema_for::<ExecNews>());
    let mut paths: Map<String, Value> = Map::new();
    for operation in Operation::ALL {
        let item = paths.entry(operation.path()).or_insert_with(|| json!({}));
        item[operation.method().as_str().to_ascii_lowercase()] = describe(operation, &mut generator);
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Cove",
            "summary": "Runs untrusted agents in hardened, disposable sandboxes and drives them through a PRD",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed over TCP. The Unix socket knows its owner by the kernel's word",
                },
            },
            "responses": {
                "Problem": {
                    "description": "It failed; the document says why and what to do",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    })
}

fn describe(operation: Operation, generator: &mut SchemaGenerator) -> Value {
    let line = operation.line();
    let mut parameters: Vec<Value> = Vec::new();
    if line.path.contains("{id}") {
        parameters.push(json!({
            "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
            "description": "An id, a unique beginning or end of one, or a name",
        }));
    }
    for parameter in line.query {
        parameters.push(json!({
            "name": parameter.name, "in": "query", "schema": { "type": parameter.kind },
            "description": parameter.about,
        }));
    }
    if operation == Operation::SubmitRun {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 200 },
            "description": "A request repeated with its key answers with the run that the first one made",
        }));
    }
    if operation == Operation::FollowEntries {
        parameters.push(json!({
            "name": "Last-Event-ID", "in": "header", "schema": { "type": "integer" },
            "description": "Resumes after this entry; goes before `after`",
        }));
    }
    let mut out = json!({
        "operationId": line.id,
        "summary": line.summary,
        "tags": [tag(line.path)],
        "parameters": parameters,
        "responses": responses(line.answer, generator),
    });
    if operation.open() {
        out["security"] = json!([]);
    }
    if let Some(shape) = line.body {
        let schema = shape(generator);
        if operation.streams() {
            out["x-first-message"] = json!({ "schema": schema });
        } else {
            out["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
    }
    out
}

fn responses(answer: Answer, generator: &mut SchemaGenerator) -> Value {
    let (status, response) = match answer {
        Answer::Json(status, shape) => (
            status,
            json!({ "description": "Done", "content": { "application/json": { "schema": shape(generator) } } }),
        ),
        Answer::Empty => (204, json!({ "description": "Done" })),
        Answer::Text(media) => {
            let schema = json_schema!({ "type": "string" });
            (200, json!({ "description": "Done", "content": { media: { "schema": schema } } }))
        }
        Answer::Events(shape) => {
            let content = json!({
                "schema": { "type": "string" },
                "x-event-data": shape(generator),
            });
            (200, json!({ "description": "A stream of events", "content": { "text/event-stream": content } }))
        }
        Answer::Socket => (101, json!({ "description": "A WebSocket follows" })),
    };
    json!({ status.to_string(): response, "default": { "$ref": "#/components/responses/Problem" } })
}

fn tag(path: &str) -> &str {
    path.strip_prefix("/api/v1/").and_then(|rest| rest.split('/').next()).unwrap_or("server")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references<'a>(value: &'a Value, into: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value.as_str() {
                        Some(text) if key == "$ref" => drop(into.insert(text)),
                        _ => references(value, into),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, into)),
            _ => {}
        }
    }

    #[test]
    fn complete_and_without_dangling_references() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
        }
        let operations: Vec<&Value> =
            document["paths"].as_object().unwrap().values().flat_map(|p| p.as_object().unwrap().values()).collect();
        assert_eq!(operations.len(), Operation::ALL.len());
        let ids: BTreeSet<&str> = operations.iter().map(|o| o["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), Operation::ALL.len(), "operation ids are unique");
        for operation in operations {
            assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()));
            assert!(operation["responses"]["default"].is_object());
        }
    }
}
