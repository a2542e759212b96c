//! Shapes of well-known credentials: a prefix that occurs nowhere else and characters after it.
//!
//! Prefixes and lengths are those that the providers document or that their published scanners look
//! for. Shapes without a telling prefix are left to exact values: guessing would mask ordinary text.

use aho_corasick::{AhoCorasick, MatchKind};

/// Which characters a token consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `A-Z a-z 0-9`
    Alphanumeric,
    /// `A-Z 0-9`
    Upper,
    /// `A-Z a-z 0-9 _ -`
    Url,
    /// `A-Z a-z 0-9 _ - . = + /`
    Any,
    /// `0-9 a-f`
    Hex,
    /// `A-Z a-z 0-9 _ - .`
    WebToken,
}

impl Class {
    /// Whether a byte belongs.
    pub fn has(self, byte: u8) -> bool {
        match self {
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Any => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'=' | b'+' | b'/'),
            Self::WebToken => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// At least so many characters of the class after the prefix.
    Token(Class, usize),
    /// The same, and the prefix itself is not masked.
    After(Class, usize),
    /// Three parts of base64url with dots between (RFC 7519).
    WebToken,
    /// `-----BEGIN … PRIVATE KEY-----` to its end (RFC 7468).
    PrivateKey,
    /// The password of `scheme://user:password@host` (RFC 3986).
    UrlPassword,
}

use Class::{Alphanumeric, Any, Hex, Upper, Url};
use Kind::{After, PrivateKey, Token, UrlPassword, WebToken};

const SHAPES: &[(&str, Kind)] = &[
    // Models
    ("sk-", Token(Url, 20)),
    ("AIza", Token(Url, 35)),
    ("gsk_", Token(Alphanumeric, 40)),
    ("xai-", Token(Alphanumeric, 40)),
    ("hf_", Token(Alphanumeric, 30)),
    ("pplx-", Token(Alphanumeric, 40)),
    ("r8_", Token(Alphanumeric, 37)),
    // Forges
    ("ghp_", Token(Alphanumeric, 36)),
    ("gho_", Token(Alphanumeric, 36)),
    ("ghu_", Token(Alphanumeric, 36)),
    ("ghs_", Token(Any, 36)),
    ("ghr_", Token(Alphanumeric, 36)),
    ("github_pat_", Token(Url, 60)),
    ("glpat-", Token(Any, 20)),
    ("gldt-", Token(Url, 20)),
    ("glrt-", Token(Url, 20)),
    ("ATBB", Token(Alphanumeric, 28)),
    ("ATATT3xFf", Token(Any, 40)),
    // Clouds
    ("AKIA", Token(Upper, 16)),
    ("ASIA", Token(Upper, 16)),
    ("ya29.", Token(Url, 20)),
    ("GOCSPX-", Token(Url, 28)),
    ("dop_v1_", Token(Hex, 64)),
    ("hvs.", Token(Url, 24)),
    ("hvb.", Token(Url, 24)),
    ("tskey-", Token(Url, 20)),
    // Packages
    ("npm_", Token(Alphanumeric, 36)),
    ("pypi-AgE", Token(Url, 50)),
    ("rubygems_", Token(Hex, 48)),
    ("dckr_pat_", Token(Url, 27)),
    // Messages and payments
    ("xoxb-", Token(Url, 20)),
    ("xoxp-", Token(Url, 20)),
    ("xoxa-", Token(Url, 20)),
    ("xoxs-", Token(Url, 20)),
    ("xapp-", Token(Url, 20)),
    ("sk_live_", Token(Alphanumeric, 20)),
    ("rk_live_", Token(Alphanumeric, 20)),
    ("sk_test_", Token(Alphanumeric, 20)),
    ("whsec_", Token(Any, 24)),
    ("SG.", Token(Any, 60)),
    ("shpat_", Token(Hex, 32)),
    ("AGE-SECRET-KEY-1", Token(Upper, 58)),
    ("tvly-", Token(Url, 24)),
    ("Bearer ", After(Any, 20)),
    ("eyJ", WebToken),
    ("-----BEGIN ", PrivateKey),
    ("://", UrlPassword),
];

/// Longest web token whose third part must have begun.
const UNDECIDED: usize = 8 << 10;

/// Where a private key ends: this, a label, and five dashes.
const END: &[u8] = b"-----END ";

/// Longest label of a private key.
const LABEL: usize = 48;

/// Longest end of a private key.
pub const KEY_END: usize = END.len() + LABEL + 5;

/// Longest private key; what follows is shown again even without an end.
pub const KEY_BYTES: usize = 64 << 10;

/// What a place turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// It depends on what follows; from this place on.
    Undecided(usize),
    /// A secret from here to there.
    Secret(usize, usize),
    /// A secret from here to the end of the text; characters of the class that follow belong to it.
    Run(usize, Class),
    /// A private key from here; its end has not come yet.
    Key(usize),
}

/// All shapes.
pub struct Shapes {
    prefixes: AhoCorasick,
}

impl Shapes {
    /// The built-in ones.
    pub fn new() -> Self {
        let prefixes = SHAPES.iter().map(|(prefix, _)| prefix);
        // Leftmost-first: longer prefixes stand before the shorter ones that they begin with.
        let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(prefixes);
        Self { prefixes: built.expect("the prefixes are few and short") }
    }

    /// Calls `found` for every place where a prefix is, in order. `before` is the byte before `text`.
    pub fn find(&self, text: &[u8], before: Option<u8>, mut found: impl FnMut(Found)) {
        let mut from = 0;
        while let Some(hit) = self.prefixes.find(aho_corasick::Input::new(text).span(from..text.len())) {
            let (start, after) = (hit.start(), hit.end());
            from = start + 1;
            let (_, kind) = SHAPES[hit.pattern().as_usize()];
            let left = start.checked_sub(1).map_or(before, |at| text.get(at).copied());
            let inside_a_word = left.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if inside_a_word && !matches!(kind, PrivateKey | UrlPassword) {
                continue;
            }
            let what = match kind {
                Token(class, least) => token(text, start, after, start, (class, least)),
                After(class, least) => token(text, start, after, after, (class, least)),
                WebToken => web_token(text, start),
                PrivateKey => private_key(text, start, after),
                UrlPassword => url_password(text, start, after),
            };
            if what != Found::Nothing {
                found(what);
            }
        }
    }

    /// The first place from which the rest of `text` may be the beginning of a prefix.
    pub fn unfinished(text: &[u8]) -> Option<usize> {
        let longest = SHAPES.iter().map(|(prefix, _)| prefix.len()).max().unwrap_or(1);
        let first = text.len().saturating_sub(longest - 1);
        (first..text.len()).find(|at| {
            let rest = &text[*at..];
            SHAPES.iter().any(|(prefix, _)| prefix.len() > rest.len() && prefix.as_bytes().starts_with(rest))
        })
    }
}

fn token(text: &[u8], start: usize, after: usize, shown: usize, (class, least): (Class, usize)) -> Found {
    let length = text[after..].iter().take_while(|byte| class.has(**byte)).count();
    let to_the_end = after + length == text.len();
    match (length >= least, to_the_end) {
        (true, true) => Found::Run(shown, class),
        (true, false) => Found::Secret(shown, after + length),
        (false, true) => Found::Undecided(start),
        (false, false) => Found::Nothing,
    }
}

fn web_token(text: &[u8], start: usize) -> Found {
    const PART: usize = 8;
    let length = text[start..].iter().take_while(|byte| Class::WebToken.has(**byte)).count();
    let looked_at = &text[start..start + length.min(UNDECIDED)];
    let mut parts = looked_at.splitn(3, |byte| *byte == b'.').map(<[u8]>::len);
    let complete = [(); 3].map(|()| parts.next().unwrap_or(0) >= PART) == [true; 3];
    let to_the_end = start + length == text.len();
    match (complete, to_the_end) {
        (true, true) => Found::Run(start, Class::WebToken),
        (true, false) => Found::Secret(start, start + length),
        (false, true) if length < UNDECIDED => Found::Undecided(start),
        (false, _) => Found::Nothing,
    }
}

fn private_key(text: &[u8], start: usize, after: usize) -> Found {
    const CLOSE: [&[u8]; 2] = [b"PRIVATE KEY-----", b"PRIVATE KEY BLOCK-----"];
    let label = &text[after..(after + LABEL).min(text.len())];
    let readable = |label: &[u8]| {
        let words = label.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b' ').count();
        b"-----".starts_with(&label[words..])
    };
    let close = CLOSE.iter().find_map(|close| find(label, close).map(|at| (at, at + close.len())));
    let from = match close {
        Some((at, end)) if readable(&label[..at]) => after + end,
        None if label.len() < LABEL && readable(label) => return Found::Undecided(start),
        _ => return Found::Nothing,
    };
    let most = start + KEY_BYTES;
    // The dashes of one line may be those of the next.
    match end_of_key(&text[..most.min(text.len())], from - 5) {
        Some(end) => Found::Secret(start, end),
        None if most <= text.len() => Found::Secret(start, most),
        None => Found::Key(start),
    }
}

/// Where the private key that `text` is in ends, from `at` on.
pub fn end_of_key(text: &[u8], mut at: usize) -> Option<usize> {
    while let Some(found) = find(text.get(at..)?, END) {
        let label = at + found + END.len();
        let rest = &text[label..(label + LABEL + 5).min(text.len())];
        if let Some(close) = find(rest, b"-----") {
            return Some(label + close + 5);
        }
        at = label;
    }
    None
}

fn url_password(text: &[u8], start: usize, after: usize) -> Found {
    const AUTHORITY: usize = 512;
    let rest = &text[after..(after + AUTHORITY).min(text.len())];
    let outside = |byte: &u8| matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'\\') || *byte <= b' ';
    let authority = rest.iter().position(outside).unwrap_or(rest.len());
    let complete = authority < rest.len();
    let authority = &rest[..authority];
    let colon = authority.iter().position(|byte| *byte == b':');
    let at = authority.iter().rposition(|byte| *byte == b'@');
    match (colon, at) {
        // The last `@` may still come.
        _ if !complete && rest.len() < AUTHORITY => Found::Undecided(start),
        (Some(colon), Some(at)) if colon + 1 < at => Found::Secret(after + colon + 1, after + at),
        _ => Found::Nothing,
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_prefixes_stand_before_shorter_ones_that_they_begin_with() {
        for (index, (prefix, _)) in SHAPES.iter().enumerate() {
            let hidden = SHAPES[..index].iter().any(|(earlier, _)| prefix.starts_with(earlier));
            assert!(!hidden, "{prefix}");
        }
    }
}
