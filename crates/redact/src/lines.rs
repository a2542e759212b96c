//! Patterns of the user, applied line by line.

use cove_core::error::{Error, Result};
use regex::bytes::{Regex, RegexBuilder};

/// Most patterns.
pub const PATTERNS: usize = 64;

/// Longest pattern in bytes.
pub const PATTERN_BYTES: usize = 1024;

/// Most memory of one compiled pattern.
const COMPILED: usize = 1 << 20;

/// Longest line that is held back until it is complete; of longer ones the last [`OVERLAP`] bytes.
pub const LINE: usize = 16 << 10;

/// What is kept of an overlong line: the longest text a pattern can match across a cut.
pub const OVERLAP: usize = 4 << 10;

/// Compiled patterns.
#[derive(Default)]
pub struct Lines(Vec<Regex>);

impl Lines {
    /// Compiles patterns in the syntax of the `regex` crate, which takes linear time on any text.
    ///
    /// # Errors
    /// `Invalid` with the pattern, when it cannot be read, is too long or matches nothing at all.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut compiled = Vec::new();
        for pattern in patterns {
            let refuse = |why: String| Error::invalid(format!("The redaction pattern {pattern:?} {why}"));
            if pattern.len() > PATTERN_BYTES {
                return Err(refuse(format!("is longer than {PATTERN_BYTES} bytes")).next("Split it into several"));
            }
            if compiled.len() == PATTERNS {
                return Err(refuse(format!("is one too many: {PATTERNS} are possible")));
            }
            let built = RegexBuilder::new(pattern).size_limit(COMPILED).dfa_size_limit(COMPILED).build();
            let regex = built.map_err(|error| refuse("cannot be read".to_owned()).because(error))?;
            if regex.is_match(b"") {
                return Err(refuse("matches the empty text".to_owned()).next("Ask for at least one character"));
            }
            compiled.push(regex);
        }
        Ok(Self(compiled))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `found` with every match within a line.
    pub fn find(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        let mut start = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            for regex in &self.0 {
                for hit in regex.find_iter(line) {
                    found(start + hit.start(), start + hit.end());
                }
            }
            start += line.len();
        }
    }

    /// Where the last, unfinished line begins, or of an overlong one its last part.
    pub fn unfinished(&self, text: &[u8]) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let start = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        match text.len() - start {
            0 => None,
            length if length > LINE => Some(text.len() - OVERLAP),
            _ => Some(start),
        }
    }
}
