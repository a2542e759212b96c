//! Errors: three lines for people, a problem document (RFC 9457) for machines.

use cove_core::{Error, ErrorKind};
use serde_json::{Value, json};

use super::clean::clean_line;
use super::style::Paint;
use super::{Printer, line_to_stderr};

/// Prints what happened, why, and what to do next.
pub fn print_error(printer: &Printer, error: &Error) {
    if printer.is_machine() {
        line_to_stderr(&problem(error).to_string());
        return;
    }
    let style = &printer.error_style;
    line_to_stderr(&format!("{} {}", style.paint(Paint::Bad, "error:"), clean_line(&error.to_string())));
    let causes: Vec<String> = error.chain().into_iter().skip(1).map(|cause| clean_line(&cause)).collect();
    if !causes.is_empty() {
        line_to_stderr(&format!("  {} {}", style.paint(Paint::Faint, "why:"), causes.join(": ")));
    }
    if let Some(next) = error.next_step() {
        line_to_stderr(&format!("  {} {}", style.paint(Paint::Faint, "next:"), clean_line(next)));
    }
}

/// The problem document of an error.
pub fn problem(error: &Error) -> Value {
    let kind = error.kind();
    json!({
        "type": format!("urn:cove:problem:{}", kind.code()),
        "title": error.message(),
        "status": status(kind),
        "detail": error.chain().join(": "),
        "code": kind.code(),
        "next": error.next_step(),
        "retryable": kind.retryable(),
        "exitCode": kind.exit_code(),
    })
}

fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Invalid => 400,
        ErrorKind::NotFound => 404,
        ErrorKind::Conflict => 409,
        ErrorKind::Denied => 401,
        ErrorKind::Refused => 403,
        ErrorKind::Unsupported => 422,
        ErrorKind::Unavailable => 503,
        ErrorKind::Timeout => 504,
        ErrorKind::Exhausted => 429,
        ErrorKind::NotStarted | ErrorKind::Interrupted => 502,
        ErrorKind::Internal => 500,
    }
}
