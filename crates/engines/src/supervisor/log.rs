//! The supervisor's log: its stderr, which the engine opened as a file in the sandbox's directory.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use cove_core::error::Error;

/// Most bytes written over a sandbox's life; what starts processes without end must not fill a disk.
const BOUND: u64 = 4 << 20;

static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Writes one line with the time. A log that cannot be written is no reason to fail.
pub fn line(text: &str) {
    let text = text.replace(|c: char| c.is_control(), " ");
    let line = format!("{:.3} {text}\n", jiff::Timestamp::now());
    if WRITTEN.fetch_add(line.len() as u64, Ordering::Relaxed) < BOUND {
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Writes an error with its causes.
pub fn error(error: &Error) {
    line(&error.chain().join(": "));
}
