//! `--jq FILTER`: a filter in the language of jq, by <https://docs.rs/jaq-core>.

use cove_core::{Error, Result};
use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, unwrap_valr};
use jaq_json::{Val, read};
use serde_json::Value;

use super::clean::clean_line;

/// Results that one filter may give.
const MOST: usize = 100_000;

/// Checks a filter.
///
/// # Errors
/// `Invalid` when it cannot be understood.
pub fn check(filter: &str) -> Result<()> {
    compiled(filter).map(drop)
}

fn compiled(filter: &str) -> Result<Filter<JustLut<Val>>> {
    let wrong = || Error::invalid(format!("The filter {filter:?} cannot be understood"));
    let next = "Write it as for jq, such as '.[].name' or '.[] | select(.phase == \"failed\") | .id'";
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let loader = Loader::new(definitions);
    let modules = loader.load(&arena, File { code: filter, path: () }).map_err(|_| wrong().next(next))?;
    Compiler::default().with_funs(functions).compile(modules).map_err(|errors| {
        let names: Vec<String> =
            errors.iter().flat_map(|(_, undefined)| undefined).map(|(name, _)| (*name).to_owned()).collect();
        wrong().because(format!("It names what does not exist: {}", names.join(", "))).next(next)
    })
}

/// What the filter makes of a document: a line a result; texts without quotes, all else as JSON.
///
/// # Errors
/// `Invalid` for a filter that cannot be understood or fails on this document.
pub fn apply(filter: &str, document: &Value) -> Result<String> {
    let compiled = compiled(filter)?;
    let failed = |why: String| {
        Error::invalid(format!("The filter {filter:?} fails on this output"))
            .because(why)
            .next("The same command with --json shows what it is given")
    };
    let input = read::parse_single(document.to_string().as_bytes()).map_err(|e| failed(e.to_string()))?;
    let context = Ctx::<JustLut<Val>>::new(&compiled.lut, Vars::new([]));
    let mut out = String::new();
    for (count, value) in compiled.id.run((context, input)).map(unwrap_valr).enumerate() {
        if count == MOST {
            return Err(failed(format!("It gives more than {MOST} results")));
        }
        let value = value.map_err(|e| failed(e.to_string()))?;
        match &value {
            Val::TStr(text) | Val::BStr(text) => out.push_str(&clean_line(&String::from_utf8_lossy(text))),
            other => out.push_str(&other.to_string()),
        }
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_are_those_of_jq() {
        let runs =
            json!([{"name": "a", "phase": "failed", "n": 1}, {"name": "b\u{1b}[2J", "phase": "running", "n": 2}]);
        for (filter, lines) in [
            (".[].name", "a\nb\n"),
            (".[] | select(.phase == \"failed\") | .n", "1\n"),
            ("map(.n) | add", "3\n"),
            ("length", "2\n"),
            (".[0] | {name, n}", "{\"name\":\"a\",\"n\":1}\n"),
            (".[].absent", "null\nnull\n"),
            ("empty", ""),
        ] {
            assert_eq!(apply(filter, &runs).unwrap(), lines, "{filter}");
        }
    }

    #[test]
    fn what_cannot_be_understood_says_so() {
        for filter in [".[", "nonsense", "|", ".a | absent(1)", "$x"] {
            let error = check(filter).unwrap_err();
            assert_eq!(error.kind(), cove_core::ErrorKind::Invalid, "{filter}");
            assert!(error.next_step().is_some(), "{filter}");
        }
        assert!(apply(".name", &json!([1])).unwrap_err().message().contains("fails on this output"));
        assert!(apply("repeat(1)", &json!(null)).is_err(), "a filter without end is ended");
    }
}
