//! Keeps secrets out of everything that is written, shown or sent.
//!
//! A [`Masker`] knows exact values, each with the forms that programs commonly print it in, and the
//! shapes of well-known credentials. A [`MaskStream`] applies it to a stream in pieces of any size:
//! what comes out is the same however the pieces were cut, and no byte of a secret leaves before it
//! is decided. Only bytes that may begin a secret are held back.
//!
//! What is covered, per value: as it is; base64 and base64url in each of the three alignments,
//! without padding; hexadecimal in both cases; percent-encoded once and twice, in both cases of the
//! digits, and as a form field; escaped as JSON, as a word of a POSIX shell and as XML; UTF-16 in
//! both byte orders; backwards; and each long line of a value of several lines. What is not: values
//! that were compressed, encrypted, hashed, spelled with separators or wrapped into lines.

mod forms;
mod lines;
mod masker;
mod needles;
mod shapes;
mod stream;

pub use lines::{PATTERN_BYTES, PATTERNS};
pub use masker::{Builder, Masker};
pub use needles::SHORTEST;
pub use stream::MaskStream;

/// What stands in place of a secret.
pub const MASK: &str = "***REDACTED***";
