//! What a provider's words of refusal mean.
//!
//! Only errors are read here, never what an agent says in its work: it may well write about rate
//! limits.

use std::sync::LazyLock;

use jiff::Timestamp;
use regex::Regex;

use super::reading::one_line;
use super::reset;

/// What stands in the way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Trouble {
    /// The provider refuses for now.
    Limit { resets_at: Option<Timestamp>, reason: String },
    /// Key, sign-in or credit: repeating cannot help.
    Unauthorized(String),
    /// Anything else.
    Other(String),
}

impl Trouble {
    /// The words.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Limit { reason, .. } | Self::Unauthorized(reason) | Self::Other(reason) => reason,
        }
    }

    /// With its words cut to one line, as they are kept.
    pub(crate) fn shortened(mut self) -> Self {
        match &mut self {
            Self::Limit { reason, .. } | Self::Unauthorized(reason) | Self::Other(reason) => *reason = one_line(reason),
        }
        self
    }
}

static UNAUTHORIZED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)invalid (?:x-)?api[ -_]?key|invalid_api_key|incorrect api key|api[ _]key (?:is )?not valid|api_key_invalid",
        r"|missing api key|authentication[ _](?:error|failed)|failed to authenticate|not logged in|please run /login",
        r"|oauth token (?:has )?(?:expired|revoked|been revoked)|login (?:is )?required|invalid authentication",
        r"|credit balance is too low|insufficient[ _]quota|billing[ _](?:error|hard limit)|payment required",
        r"|(?:status|code|http|error|status code)\W{0,4}401\b|\b401\W{1,3}unauthorized",
    ))
});

static LIMITED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)rate[ _-]?limit|too many requests|(?:usage|session|weekly|daily|hourly|5-hour|opus|request) limit",
        r"|limit reached|(?:hit|reached) your (?:\S+ ){0,3}limit|quota (?:exceeded|will reset|exhausted)|exceeded your current quota",
        r"|resource[ _](?:has been )?exhausted|exhausted your (?:\S+ ){0,3}(?:quota|capacity)|overloaded",
        r"|(?:status|code|http|error|rejected)\W{0,4}(?:429|529)\b|\b429\W{1,3}too many",
    ))
});

/// Starts of messages that a program prints as if they were an answer.
static INSTEAD_OF_ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"(?i)^(?:\[?api error(?::| \(| [45]\d\d).*(?:\b[45]\d\d\b|connection|timed? ?out|aborted|overloaded|limit)",
        r"|claude (?:ai )?usage limit reached|you(?:'|\u{2019})?(?:ve| have) (?:hit|reached) your (?:\S+ ){0,3}limit",
        r"|(?:5-hour|weekly|session|usage|opus|rate) limit reached|(?:5-hour|weekly|session|usage) limit (?:hit|exceeded)",
        r"|invalid api key\b|credit balance is too low|not logged in\b|please run /login|oauth token (?:has )?(?:expired|revoked)",
        r"|failed to authenticate|prompt is too long$)",
    ))
});

/// Longest message that can be nothing but a refusal.
const LONGEST_REFUSAL: usize = 600;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a literal")
}

/// Reads an error's words.
pub(crate) fn read(message: &str, now: Timestamp) -> Trouble {
    if UNAUTHORIZED.is_match(message) {
        Trouble::Unauthorized(message.to_owned())
    } else if LIMITED.is_match(message) {
        Trouble::Limit { resets_at: reset::time(message, now), reason: message.to_owned() }
    } else {
        Trouble::Other(message.to_owned())
    }
}

/// Reads an error's words with the HTTP status of the provider's answer.
pub(crate) fn read_with_status(message: &str, status: u64, now: Timestamp) -> Trouble {
    match (read(message, now), status) {
        (Trouble::Other(reason), 429 | 529) => Trouble::Limit { resets_at: reset::time(message, now), reason },
        (Trouble::Other(reason), 401) => Trouble::Unauthorized(reason),
        (trouble, _) => trouble,
    }
}

/// Whether a final message is nothing but a refusal or a provider's error: programs report success of
/// those. A longer text that mentions one is an answer.
pub(crate) fn whole_message(message: &str, now: Timestamp) -> Option<Trouble> {
    let message = message.trim();
    let short = message.len() <= LONGEST_REFUSAL && message.lines().count() <= 2;
    (short && INSTEAD_OF_ANSWER.is_match(message)).then(|| read(message, now))
}

/// An error's words without the JSON that a provider wrapped them in.
pub(crate) fn plain(words: &str) -> String {
    let unwrapped = || {
        let (start, end) = (words.find('{')?, words.rfind('}')?);
        let body: serde_json::Value = serde_json::from_str(words.get(start..=end)?).ok()?;
        let message = body.get("error").unwrap_or(&body).get("message")?.as_str()?;
        let before = words[..start].trim_end().trim_start_matches('[');
        Some(if before.is_empty() { message.to_owned() } else { format!("{before} {message}") })
    };
    unwrapped().unwrap_or_else(|| words.to_owned())
}
