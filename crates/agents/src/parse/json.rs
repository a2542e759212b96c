//! A line to a JSON value, within a bound on memory.

use serde_json::Value;

/// Parts (commas, colons, brackets outside strings) that a line may have. A value takes many times
/// the bytes of its text when the text is all structure: 16 MiB of `[[[[` would be gigabytes.
const MAX_PARTS: usize = 200_000;

/// What a line is.
pub(crate) enum Line {
    Object(Value),
    TooComplex,
    Other,
}

/// Reads a line as a JSON object.
pub(crate) fn object(line: &str) -> Line {
    if !line.starts_with('{') {
        return Line::Other;
    }
    if parts(line.as_bytes()) > MAX_PARTS {
        return Line::TooComplex;
    }
    match serde_json::from_str(line) {
        Ok(value @ Value::Object(_)) => Line::Object(value),
        _ => Line::Other,
    }
}

fn parts(bytes: &[u8]) -> usize {
    let mut count = 0;
    let mut quoted = false;
    let mut escaped = false;
    for &byte in bytes {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => quoted = true,
                b',' | b':' | b'[' | b'{' => count += 1,
                _ => {}
            }
        }
    }
    count
}

/// The text at a path of keys, empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The value at a path of keys, null when there is none.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| value.get(key).unwrap_or(&Value::Null))
}

/// A count at a path of keys: 0 for anything but a number that fits. Providers also write `3.0`.
pub(crate) fn count(value: &Value, path: &[&str]) -> u64 {
    /// More than any attempt can use; keeps sums from overflowing.
    const MOST: u64 = 1 << 48;
    let found = at(value, path);
    let count = found.as_u64().or_else(|| found.as_f64().filter(|f| *f > 0.0).map(|f| f as u64));
    count.unwrap_or(0).min(MOST)
}

/// Dollars at a path of keys: none for what is no sum of money.
pub(crate) fn dollars(value: &Value, path: &[&str]) -> Option<f64> {
    at(value, path).as_f64().filter(|d| d.is_finite() && *d >= 0.0)
}

/// What is put into a list or alone: the value of a JSON array, or the value itself.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
