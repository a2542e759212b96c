//! JSON Schema (2020-12) of the files.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::model::Settings;
use crate::policy::Policy;

fn generate<T: schemars::JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true).into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    give_titles(&mut schema);
    schema
}

/// Schema of `config.json`, with a title and a description on every key.
pub fn schema() -> Value {
    let mut ralph = generate::<Settings>();
    if let Some(map) = ralph.as_object_mut() {
        map.remove("$schema");
        map.insert("title".into(), json!("Cove"));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Cove settings",
        "description": "config.json of the system, the user or a repository",
        "type": "object",
        "properties": {
            "$schema": { "title": "Schema", "description": "Address of this schema, for editors", "type": "string" },
            "schemaVersion": {
                "title": "Schema version", "description": "Version of this layout", "type": "integer", "const": 1
            },
            "ralph": ralph,
        },
        "additionalProperties": false,
    })
}

/// Schema of `policy.json`.
pub fn policy_schema() -> Value {
    generate::<Policy>()
}

/// Every described key of the settings, by path.
pub(crate) fn descriptions() -> BTreeMap<String, String> {
    fn walk(schema: &Value, path: &str, out: &mut BTreeMap<String, String>) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        for (name, inner) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if let Some(text) = inner.get("description").and_then(Value::as_str) {
                out.insert(path.clone(), text.replace('\n', " "));
            }
            walk(inner, &path, out);
        }
    }
    let mut out = BTreeMap::new();
    walk(&generate::<Settings>(), "", &mut out);
    out
}

/// Names each property by its key: `maxIdleMinutes` becomes `Max idle minutes`.
fn give_titles(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
                for (name, property) in properties {
                    if let Some(inner) = property.as_object_mut() {
                        inner.insert("title".into(), title(name).into());
                    }
                }
            }
            map.values_mut().for_each(give_titles);
        }
        Value::Array(list) => list.iter_mut().for_each(give_titles),
        _ => {}
    }
}

fn title(key: &str) -> String {
    let mut out = String::new();
    for (at, char) in key.chars().enumerate() {
        match (at, char.is_uppercase()) {
            (0, _) => out.extend(char.to_uppercase()),
            (_, true) => {
                out.push(' ');
                out.extend(char.to_lowercase());
            }
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_has_a_title_and_a_description() {
        fn check(schema: &Value, path: &str) {
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                for (name, inner) in properties {
                    let path = format!("{path}.{name}");
                    for word in ["title", "description"] {
                        assert!(inner.get(word).and_then(Value::as_str).is_some(), "{path} has no {word}");
                    }
                    check(inner, &path);
                }
            }
        }
        check(&schema(), "");
        check(&policy_schema(), "policy");
    }

    #[test]
    fn unknown_keys_are_not_in_the_schema_either() {
        let schema = schema();
        assert_eq!(schema["properties"]["ralph"]["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["ralph"]["properties"]["loop"]["additionalProperties"], json!(false));
    }
}
