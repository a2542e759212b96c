//! Counting the tests that ran, from what test runners write.

use std::sync::LazyLock;

use regex::Regex;

/// Longest line that is looked at; summaries are short.
const LINE: usize = 2048;

/// Reads a check's output piece by piece. Formats: unittest, pytest, cargo test, nextest, `node --test`
/// (TAP and spec), Jest, Vitest, Mocha, `go test`, RSpec, PHPUnit, Maven, bun.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    line: Vec<u8>,
    ran: u64,
    seen: bool,
    /// The last line was unittest's count; the next verdict tells how many of them were skipped.
    verdict_due: bool,
    /// Packages that `go test` reports without `-v`, and tests with it.
    packages: u64,
    verbose: u64,
}

/// A summary whose first group is a count of tests that ran.
static PLAIN: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"^\s*Summary \[[^\]]*\]\s+(\d+)(?:/\d+)? tests? run:",
        r"^(?:#|ℹ) tests (\d+)$",
        r"^\s*(\d+) (?:passing|failing)\b",
        r"^OK \((\d+) tests?, \d+ assertions?\)$",
        r"^(?:\[\w+\] )?Tests run: (\d+), Failures: \d+, Errors: \d+, Skipped: \d+$",
        r"^Tests: (\d+), Assertions: \d+",
        r"^(\d+) examples?, \d+ failures?",
        r"^\s*(\d+) (?:pass|fail)$",
    ]
    .iter()
    .map(|pattern| Regex::new(pattern).expect("the patterns are constant"))
    .collect()
});
/// What a summary says was left out.
static SKIPPED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"^(?:#|ℹ) (?:skipped|todo) (\d+)$",
        r"^(?:\[\w+\] )?Tests run: \d+, Failures: \d+, Errors: \d+, Skipped: (\d+)$",
        r"^\d+ examples?, \d+ failures?, (\d+) pending",
    ]
    .iter()
    .map(|pattern| Regex::new(pattern).expect("the patterns are constant"))
    .collect()
});
static UNITTEST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^Ran (\d+) tests? in [\d.]+s").expect("the pattern is constant"));
static LEFT_OUT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"skipped=(\d+)").expect("the pattern is constant"));
static PYTEST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:=+ )?((?:\d+ [a-z]+,? ?)+|no tests ran )in [\d.]+s").expect("the pattern is constant")
});
static CARGO: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^test result: \w+\. (\d+) passed; (\d+) failed;").expect("the pattern is constant"));
/// `Tests:  1 failed, 2 passed, 3 total` and `Tests  1 failed | 2 passed (3)`.
static JEST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*Tests:?\s+(.*\d+ (?:passed|failed).*)$").expect("the pattern is constant"));
static COUNTED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(\d+) (passed|failed)\b").expect("the pattern is constant"));
static COLOUR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("\x1b\\[[0-9;]*[A-Za-z]").expect("the pattern is constant"));

impl Tally {
    /// Takes the next piece of output.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    /// Tests that ran, skipped ones left out; none where no runner that we know has spoken.
    pub fn finish(mut self) -> Option<u64> {
        self.end_line();
        let go = if self.verbose > 0 { self.verbose } else { self.packages };
        (self.seen || go > 0).then(|| self.ran.saturating_add(go))
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = COLOUR.replace_all(text.trim_end(), "");
        if !text.is_empty() {
            self.judge(&text);
        }
    }

    fn judge(&mut self, line: &str) {
        let number = |found: Option<regex::Match<'_>>| found.and_then(|m| m.as_str().parse::<u64>().ok()).unwrap_or(0);
        let go = |word: &str| line.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '\t']));
        if let Some(found) = UNITTEST.captures(line) {
            self.add(number(found.get(1)));
            self.verdict_due = true;
        } else if self.verdict_due && (line.starts_with("OK") || line.starts_with("FAILED")) {
            self.verdict_due = false;
            if let Some(found) = LEFT_OUT.captures(line) {
                self.ran = self.ran.saturating_sub(number(found.get(1)));
            }
        } else if let Some(found) = CARGO.captures(line) {
            self.add(number(found.get(1)).saturating_add(number(found.get(2))));
        } else if let Some(found) = PYTEST.captures(line).or_else(|| JEST.captures(line)) {
            let list = found.get(1).map_or("", |m| m.as_str());
            let ran = COUNTED.captures_iter(list).map(|count| number(count.get(1))).fold(0, u64::saturating_add);
            self.add(ran);
        } else if line.starts_with("--- PASS:") || line.starts_with("--- FAIL:") {
            self.verbose += 1;
        } else if (go("ok  ") || go("FAIL")) && line.contains('\t') && !line.contains("[no test") {
            self.packages += 1;
        } else {
            if let Some(found) = PLAIN.iter().find_map(|pattern| pattern.captures(line)) {
                self.add(number(found.get(1)));
            }
            if let Some(found) = SKIPPED.iter().find_map(|pattern| pattern.captures(line)) {
                self.ran = self.ran.saturating_sub(number(found.get(1)));
            }
        }
    }

    fn add(&mut self, count: u64) {
        self.seen = true;
        self.ran = self.ran.saturating_add(count);
    }
}
