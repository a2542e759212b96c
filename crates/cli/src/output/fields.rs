//! `--json=FIELDS`: only these fields, and an error for one that does not exist.

use cove_core::{Error, Result};
use serde_json::{Map, Value};

/// Fields to keep.
#[derive(Debug)]
pub struct Fields<'a> {
    wanted: &'a [String],
}

impl<'a> Fields<'a> {
    /// Checks the wanted fields against the known ones.
    ///
    /// # Errors
    /// `Invalid` with the known ones.
    pub fn new(wanted: &'a [String], known: &[String]) -> Result<Self> {
        for field in wanted {
            let first = field.split('.').next().unwrap_or(field);
            if !known.iter().any(|name| name == first) {
                return Err(Error::invalid(format!("There is no field {field}"))
                    .next(format!("The fields are {}", known.join(", "))));
            }
        }
        Ok(Self { wanted })
    }

    /// Keeps the wanted fields of each item, in the order asked for.
    ///
    /// # Errors
    /// `Invalid` when a field below a known one exists in no item.
    pub fn select(&self, items: &[Value]) -> Result<Vec<Value>> {
        for field in self.wanted.iter().filter(|field| field.contains('.')) {
            if !items.is_empty() && items.iter().all(|item| at(item, field).is_none()) {
                return Err(Error::invalid(format!("There is no field {field}")));
            }
        }
        let pick = |item: &Value| {
            let pairs =
                self.wanted.iter().map(|field| (field.clone(), at(item, field).cloned().unwrap_or(Value::Null)));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        Ok(items.iter().map(pick).collect())
    }
}

fn at<'v>(item: &'v Value, field: &str) -> Option<&'v Value> {
    field.split('.').try_fold(item, |value, name| value.get(name))
}

/// The fields of a type, read off its schema.
pub fn fields_of<T: schemars::JsonSchema>() -> Vec<String> {
    let schema = schemars::schema_for!(T).to_value();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.map(|map| map.keys().cloned().collect()).unwrap_or_default()
}
