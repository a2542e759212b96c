//! What tokens cost where the agent does not say.

use cove_core::Usage;
use jiff::civil::{Date, date};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Prices of models, the first pattern that matches counts. An estimate by it is never mixed with what
/// an agent reports.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceTable {
    prices: Vec<Price>,
    as_of: Option<Date>,
}

/// Price of the models that a pattern names, in US dollars per million tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// Model name, `*` for any characters; a `provider/` in front of the name is ignored.
    pub model: String,
    /// Fresh input tokens.
    pub input: f64,
    /// Output tokens, reasoning included.
    pub output: f64,
    /// Input tokens read from a cache; as fresh ones when absent.
    #[serde(default)]
    pub cache_read: Option<f64>,
    /// Input tokens written to a cache; as fresh ones when absent.
    #[serde(default)]
    pub cache_write: Option<f64>,
}

/// Day on which the providers' public lists were read.
const AS_OF: Date = date(2026, 11, 20);

/// Pattern, input, output, cache read, cache write.
const BUILT_IN: &[(&str, f64, f64, f64, f64)] = &[
    ("claude-fable-5-1*", 10.0, 50.0, 0.25, 12.5),
    ("claude-fable-5*", 10.0, 50.0, 1.0, 12.5),
    ("claude-opus-5-5-fast*", 8.0, 40.0, 0.4, 10.0),
    ("claude-opus-5-5*", 4.0, 20.0, 0.2, 5.0),
    ("claude-opus-5-fast*", 10.0, 50.0, 1.0, 12.5),
    ("claude-opus-5*", 5.0, 25.0, 0.5, 6.25),
    ("claude-opus-4-8-fast*", 10.0, 50.0, 1.0, 12.5),
    ("claude-opus-4-5*", 5.0, 25.0, 0.5, 6.25),
    ("claude-opus-4-6*", 5.0, 25.0, 0.5, 6.25),
    ("claude-opus-4-7*", 5.0, 25.0, 0.5, 6.25),
    ("claude-opus-4-8*", 5.0, 25.0, 0.5, 6.25),
    ("claude-sonnet-5*", 2.0, 10.0, 0.2, 2.5),
    ("claude-sonnet-4*", 3.0, 15.0, 0.3, 3.75),
    ("claude-haiku-4-5*", 1.0, 5.0, 0.1, 1.25),
    ("gpt-6-astra-fast*", 20.0, 100.0, 2.0, 25.0),
    ("gpt-6-astra*", 10.0, 50.0, 1.0, 12.5),
    ("gpt-6-luna-fast*", 0.2, 1.0, 0.02, 0.25),
    ("gpt-6-luna*", 0.1, 0.5, 0.01, 0.125),
    ("gpt-6-sol-fast*", 4.0, 20.0, 0.4, 5.0),
    ("gpt-6-sol*", 2.0, 10.0, 0.2, 2.5),
    ("gpt-5.6-luna-fast*", 0.4, 2.4, 0.04, 0.5),
    ("gpt-5.6-luna*", 0.2, 1.2, 0.02, 0.25),
    ("gpt-5.6-terra-fast*", 4.0, 24.0, 0.4, 5.0),
    ("gpt-5.6-terra*", 2.0, 12.0, 0.2, 2.5),
    ("gpt-5.6*-fast", 8.0, 40.0, 0.8, 10.0),
    ("gpt-5.6*", 4.0, 20.0, 0.4, 5.0),
    ("gpt-5.5-pro*", 30.0, 180.0, 30.0, 30.0),
    ("gpt-5.5-fast*", 12.5, 75.0, 1.25, 12.5),
    ("gpt-5.5*", 5.0, 30.0, 0.5, 5.0),
    ("gpt-5.4-pro*", 30.0, 180.0, 30.0, 30.0),
    ("gpt-5.4-mini-fast*", 1.5, 9.0, 0.15, 1.5),
    ("gpt-5.4-mini*", 0.75, 4.5, 0.075, 0.75),
    ("gpt-5.4-nano*", 0.2, 1.25, 0.02, 0.2),
    ("gpt-5.4-fast*", 5.0, 30.0, 0.5, 5.0),
    ("gpt-5.4*", 2.5, 15.0, 0.25, 2.5),
    ("gpt-5.3-codex*", 1.75, 14.0, 0.175, 1.75),
    ("gpt-5.2-pro*", 21.0, 168.0, 21.0, 21.0),
    ("gpt-5.2*", 1.75, 14.0, 0.175, 1.75),
    ("gpt-5.1*", 1.25, 10.0, 0.125, 1.25),
    ("gpt-5-mini*", 0.25, 2.0, 0.025, 0.25),
    ("gpt-5-nano*", 0.05, 0.4, 0.005, 0.05),
    ("gpt-5-pro*", 15.0, 120.0, 15.0, 15.0),
    ("gpt-5", 1.25, 10.0, 0.125, 1.25),
    ("gpt-5-2*", 1.25, 10.0, 0.125, 1.25),
    ("gpt-5-codex*", 1.25, 10.0, 0.125, 1.25),
    ("gpt-4.1-mini*", 0.4, 1.6, 0.1, 0.4),
    ("gpt-4.1", 2.0, 8.0, 0.5, 2.0),
    ("gpt-4o-mini*", 0.15, 0.6, 0.075, 0.15),
    ("gpt-4o*", 2.5, 10.0, 1.25, 2.5),
    ("o3-pro*", 20.0, 80.0, 20.0, 20.0),
    ("o3", 2.0, 8.0, 0.5, 2.0),
    ("gemini-3.8-flash*", 0.75, 3.75, 0.075, 0.75),
    ("gemini-3.7-flash*", 0.75, 3.75, 0.075, 0.75),
    ("gemini-3.6-flash*", 0.75, 3.75, 0.075, 0.75),
    ("gemini-flash-latest", 0.75, 3.75, 0.075, 0.75),
    ("gemini-3.5-flash-lite*", 0.3, 2.5, 0.03, 0.3),
    ("gemini-flash-lite-latest", 0.3, 2.5, 0.03, 0.3),
    ("gemini-3.5-flash*", 1.5, 9.0, 0.15, 1.5),
    ("gemini-3.1-flash-lite", 0.25, 1.5, 0.025, 0.25),
    ("gemini-3.1-pro*", 2.0, 12.0, 0.2, 2.0),
    ("gemini-3-pro-preview*", 2.0, 12.0, 0.2, 2.0),
    ("gemini-3-flash*", 0.5, 3.0, 0.05, 0.5),
    ("gemini-2.5-flash-lite*", 0.1, 0.4, 0.01, 0.1),
    ("gemini-2.5-flash", 0.3, 2.5, 0.03, 0.3),
    ("gemini-2.5-pro", 1.25, 10.0, 0.125, 1.25),
];

impl PriceTable {
    /// Providers' public list prices, without discounts, on the day of [`Self::as_of`].
    pub fn built_in() -> Self {
        let prices = BUILT_IN.iter().map(|&(model, input, output, read, write)| Price {
            model: model.to_owned(),
            input,
            output,
            cache_read: Some(read),
            cache_write: Some(write),
        });
        Self { prices: prices.collect(), as_of: Some(AS_OF) }
    }

    /// The same with prices from settings in front. Negative and non-finite ones are left out.
    #[must_use]
    pub fn with(mut self, overrides: &[Price]) -> Self {
        let sound = |p: &&Price| {
            [Some(p.input), Some(p.output), p.cache_read, p.cache_write]
                .into_iter()
                .flatten()
                .all(|dollars| dollars.is_finite() && dollars >= 0.0)
        };
        self.prices.splice(0..0, overrides.iter().filter(sound).cloned());
        self
    }

    /// Day of the built-in prices.
    pub fn as_of(&self) -> Option<Date> {
        self.as_of
    }

    /// Price of a model; `None` for one that no pattern names.
    pub fn price(&self, model: &str) -> Option<&Price> {
        let bare = model.rsplit('/').next().unwrap_or(model);
        self.prices.iter().find(|p| matches(&p.model, model) || matches(&p.model, bare))
    }

    /// US dollars for a usage by its model; `None` where the model is unknown or nothing was used.
    pub fn estimate(&self, usage: &Usage) -> Option<f64> {
        if usage.tokens() == 0 {
            return None;
        }
        let price = self.price(usage.model.as_deref()?)?;
        let of = |tokens: u64, dollars: f64| tokens as f64 * dollars / 1e6;
        Some(
            of(usage.input_tokens, price.input)
                + of(usage.output_tokens, price.output)
                + of(usage.cache_read_tokens, price.cache_read.unwrap_or(price.input))
                + of(usage.cache_write_tokens, price.cache_write.unwrap_or(price.input)),
        )
    }
}

/// Whether a name matches a pattern in which `*` stands for any characters; case does not count.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let rows = [
            ("gpt-5", "gpt-5", true),
            ("gpt-5", "gpt-5.1", false),
            ("claude-opus-4-5*", "Claude-Opus-4-5-20251101", true),
            ("gpt-5.6*-fast", "gpt-5.6-sol-fast", true),
            ("gpt-5.6*-fast", "gpt-5.6-sol", false),
            ("*", "", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c", false),
            ("a*a", "a", false),
        ];
        for (pattern, name, want) in rows {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn kinds_of_tokens_are_priced_apart() {
        let usage = Usage {
            input_tokens: 1_000_000,
            output_tokens: 100_000,
            cache_read_tokens: 2_000_000,
            cache_write_tokens: 200_000,
            model: Some("anthropic/claude-sonnet-4-5-20250929".to_owned()),
            ..Usage::default()
        };
        let estimate = PriceTable::built_in().estimate(&usage).unwrap();
        assert!((estimate - (3.0 + 1.5 + 0.6 + 0.75)).abs() < 1e-9, "{estimate}");
        assert_eq!(PriceTable::built_in().estimate(&Usage { model: Some("qwen3".to_owned()), ..usage.clone() }), None);
        assert_eq!(PriceTable::built_in().estimate(&Usage { model: None, ..usage.clone() }), None);

        let own = Price { model: "claude-*".to_owned(), input: 1.0, output: 0.0, cache_read: None, cache_write: None };
        let broken = Price { input: f64::NAN, model: "*".to_owned(), ..own.clone() };
        let estimate = PriceTable::built_in().with(&[broken, own]).estimate(&usage).unwrap();
        assert!((estimate - 3.2).abs() < 1e-9, "{estimate}");
    }
}
