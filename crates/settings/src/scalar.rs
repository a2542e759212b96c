//! Values that people write in more than one way.

use std::time::Duration;

use cove_core::quantity::{format_size, parse_duration, parse_size};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A size in bytes, written `512m`, `4g` (binary units) or as a bare number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time, written `90s`, `30m`, `6h`, `1h30m`; a bare number counts seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A length of time whose bare number counts milliseconds, as `CONTAINER_TIMEOUT` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub Duration);

/// CPUs' worth of time, written `"2"` or `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Cpus(pub f64);

/// Text or number, as JSON and the environment give them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number or a text")]
enum Written {
    Whole(u64),
    Fraction(f64),
    Text(String),
}

/// Writes a duration with every unit it needs, so that reading it again gives the same.
pub(crate) fn write_span(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let mut out = String::new();
    for (count, unit) in [(seconds / 3600, "h"), (seconds % 3600 / 60, "m"), (seconds % 60, "s")] {
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
        }
    }
    if millis > 0 {
        out.push_str(&format!("{millis}ms"));
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

fn write_size(bytes: u64) -> String {
    for (shift, unit) in [(40, "t"), (30, "g"), (20, "m"), (10, "k")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&format_size(self.0))
    }
}

macro_rules! written {
    ($name:ident, $write:expr, $whole:expr, $fraction:expr, $text:expr, $description:literal, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$write(self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match Written::deserialize(deserializer)? {
                    Written::Whole(number) => $whole(number),
                    Written::Fraction(number) => $fraction(number),
                    Written::Text(text) => $text(&text).map_err(|e| e.message().to_owned()),
                }
                .map(Self)
                .map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $description,
                    "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": $pattern }]
                })
            }
        }
    };
}

fn no_fraction<T>(number: f64) -> Result<T, String> {
    Err(format!("{number} is not a whole number"))
}

fn millis(text: &str) -> cove_core::Result<Duration> {
    match text.trim().parse::<u64>() {
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(_) => parse_duration(text),
    }
}

fn cpus(number: f64) -> Result<f64, String> {
    if (0.01..=4096.0).contains(&number) { Ok(number) } else { Err(format!("{number} lies outside 0.01 to 4096 CPUs")) }
}

written!(
    Size,
    write_size,
    Ok,
    no_fraction,
    parse_size,
    "A size: 512m, 4g (binary units), or a number of bytes",
    r"^\s*[0-9.]+\s*([kmgtKMGT]([iI]?[bB])?|[bB])?\s*$"
);
written!(
    Span,
    write_span,
    |n| Ok(Duration::from_secs(n)),
    no_fraction,
    parse_duration,
    "A length of time: 90s, 30m, 6h, 1h30m; a bare number counts seconds",
    r"^\s*([0-9.]+(ms|s|sec|m|min|h|d)?)+\s*$"
);
written!(
    Millis,
    write_span,
    |n| Ok(Duration::from_millis(n)),
    no_fraction,
    millis,
    "A length of time: 90s, 30m, 6h, 1h30m; a bare number counts milliseconds",
    r"^\s*([0-9.]+(ms|s|sec|m|min|h|d)?)+\s*$"
);
written!(
    Cpus,
    |n: f64| n.to_string(),
    |n: u64| cpus(n as f64),
    cpus,
    |text: &str| text
        .trim()
        .parse::<f64>()
        .map_err(|_| cove_core::Error::invalid(format!("{text:?} is not a number of CPUs")))
        .and_then(|n| cpus(n).map_err(cove_core::Error::invalid)),
    "CPUs' worth of time: 2 or 1.5",
    r"^\s*[0-9.]+\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_the_same() {
        for text in ["30m", "1h30m", "90s", "500ms", "2h1m1s5ms"] {
            let span: Span = serde_json::from_str(&format!("{text:?}")).unwrap();
            let again: Span = serde_json::from_value(serde_json::to_value(span).unwrap()).unwrap();
            assert_eq!(span, again, "{text}");
        }
        for (text, bytes) in [("\"4g\"", 4 << 30), ("1536", 1536), ("\"512m\"", 512 << 20)] {
            let size: Size = serde_json::from_str(text).unwrap();
            assert_eq!(size.0, bytes);
            assert_eq!(serde_json::from_value::<Size>(serde_json::to_value(size).unwrap()).unwrap(), size);
        }
    }

    #[test]
    fn a_bare_number_counts_seconds_or_milliseconds() {
        assert_eq!(serde_json::from_str::<Span>("90").unwrap().0, Duration::from_secs(90));
        assert_eq!(serde_json::from_str::<Millis>("1800000").unwrap().0, Duration::from_secs(1800));
        assert_eq!(serde_json::from_str::<Millis>("\"1800000\"").unwrap().0, Duration::from_secs(1800));
        assert_eq!(serde_json::from_str::<Millis>("\"30m\"").unwrap().0, Duration::from_secs(1800));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["\"4 x\"", "true", "-1", "\"\"", "[]"] {
            assert!(serde_json::from_str::<Size>(text).is_err(), "{text}");
            assert!(serde_json::from_str::<Span>(text).is_err(), "{text}");
            assert!(serde_json::from_str::<Cpus>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Cpus>("0").is_err());
    }
}
