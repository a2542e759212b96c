//! Whether a check that passed has really tested anything.
//!
//! Code under test runs in the same process as most test runners, so that it can end it, patch it, or
//! write what it would have written. Two things speak against that. A [`Tally`] counts the tests that a
//! known runner reports, to be compared with the base's. A [`Tripwire`] puts tests that must fail among
//! the others: a check that passes with them, or does not name them, cannot fail.

mod plant;
mod tally;

pub(crate) use plant::FILES;
pub use plant::{Language, Tripwire, language, plant};
pub use tally::Tally;

/// Whether a command line calls a test runner that we know how to make fail.
pub fn runs_tests(command: &str) -> bool {
    let words: Vec<&str> = command
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '{' | '}' | '\'' | '"'))
        .filter(|word| !word.is_empty())
        .collect();
    words.iter().enumerate().any(|(at, word)| {
        let rest = &words[at + 1..];
        match word.rsplit('/').next().unwrap_or_default() {
            "cargo" => matches!(rest.first(), Some(&("test" | "t" | "nextest"))),
            "go" => rest.first() == Some(&"test"),
            "pytest" | "py.test" | "unittest" => true,
            "node" => rest.iter().take_while(|word| word.starts_with('-')).any(|word| *word == "--test"),
            _ => false,
        }
    })
}

/// The command line with which every failing test is reported, not only those of the first program.
pub fn to_the_end(command: &str) -> String {
    if command.contains("cargo test") && !command.contains("--no-fail-fast") {
        return command.replacen("cargo test", "cargo test --no-fail-fast", 1);
    }
    command.to_owned()
}

#[cfg(test)]
mod tests;
