//! YAML of JSON values: block style; a text that could be read as something else is quoted.

use serde_json::Value;

pub fn write(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                out.push_str(&format!("{indent}{}:", scalar(&Value::String(key.clone()))));
                nested(inner, depth + 1, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for inner in list {
                match inner {
                    Value::Object(map) if !map.is_empty() => {
                        let mut text = String::new();
                        block(inner, depth + 1, &mut text);
                        out.push_str(&format!("{indent}- {}", &text[indent.len() + 2..]));
                    }
                    _ => {
                        out.push_str(&format!("{indent}-"));
                        nested(inner, depth + 1, out);
                    }
                }
            }
        }
        other => out.push_str(&format!("{indent}{}\n", scalar(other))),
    }
}

fn nested(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(value, depth, out);
        }
        other => out.push_str(&format!(" {}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Only texts that no YAML version reads as anything but a text.
fn is_plain(text: &str) -> bool {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !words.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn values_are_written_so_that_they_read_back_the_same() {
        let value = json!({
            "id": "run_1", "n": 3, "no": "no", "empty": [], "none": null, "text": "a: b\nc",
            "list": [1, {"a": true, "b": [{"c": "x"}]}, [2]],
        });
        let expected = "id: run_1\n\"n\": 3\n\"no\": \"no\"\nempty: []\nnone: null\ntext: \"a: b\\nc\"\nlist:\n  - 1\n  - a: true\n    b:\n      - c: x\n  -\n    - 2\n";
        assert_eq!(super::write(&value), expected);
    }
}
