//! Colour and symbols. A state is never told by colour alone.

use std::collections::BTreeMap;

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On terminals.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Something to look at.
    Warn,
    /// Under way.
    Active,
    /// Of less weight.
    Faint,
    /// Of more weight.
    Strong,
}

/// What the stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether ANSI colours are written.
    pub color: bool,
    /// Whether symbols beyond ASCII are written.
    pub unicode: bool,
}

impl Style {
    /// Nothing but ASCII.
    #[cfg(test)]
    pub const PLAIN: Self = Self { color: false, unicode: false };

    /// Decides for one stream. Order: `--color`, `NO_COLOR`, `CLICOLOR_FORCE` and `FORCE_COLOR`, then
    /// whether it is a terminal that is not dumb.
    pub fn decide(choice: ColorChoice, terminal: bool, variables: &BTreeMap<String, String>) -> Self {
        let set = |name: &str| variables.get(name).is_some_and(|value| !value.is_empty());
        let forced = |name: &str| variables.get(name).is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = variables.get("TERM").is_some_and(|term| term == "dumb");
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto if forced("CLICOLOR_FORCE") || forced("FORCE_COLOR") => true,
            ColorChoice::Auto => terminal && !dumb,
        };
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variables.get(*name).filter(|v| !v.is_empty()));
        let unicode = locale.is_some_and(|value| {
            let value = value.to_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        });
        Self { color, unicode }
    }

    /// Colours a text that holds no escape sequences of its own.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Warn => "33",
            Paint::Active => "36",
            Paint::Faint => "2",
            Paint::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A symbol, or its ASCII stand-in.
    pub fn symbol<'a>(&self, symbol: &'a str, ascii: &'a str) -> &'a str {
        if self.unicode { symbol } else { ascii }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_decides_about_colour() {
        type Case = (ColorChoice, bool, &'static [(&'static str, &'static str)], bool);
        let cases: &[Case] = &[
            (ColorChoice::Auto, true, &[], true),
            (ColorChoice::Auto, false, &[], false),
            (ColorChoice::Auto, true, &[("TERM", "dumb")], false),
            (ColorChoice::Auto, true, &[("NO_COLOR", "1")], false),
            (ColorChoice::Auto, true, &[("NO_COLOR", "")], true),
            (ColorChoice::Auto, false, &[("FORCE_COLOR", "1")], true),
            (ColorChoice::Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (ColorChoice::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (ColorChoice::Always, false, &[("NO_COLOR", "1")], true),
            (ColorChoice::Never, true, &[("FORCE_COLOR", "1")], false),
        ];
        for (choice, terminal, pairs, color) in cases {
            let variables = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(Style::decide(*choice, *terminal, &variables).color, *color, "{choice:?} {terminal} {pairs:?}");
        }
    }
}
