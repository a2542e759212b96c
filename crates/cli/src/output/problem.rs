//! Errors: three lines for people (what, why, what to do next), a problem document (RFC 9457) for
//! machines. What only operators need (engine, operation) is in the document.

use cove_api::Problem;
use cove_core::Error;
use serde_json::Value;

use super::clean::{clean_line, fit};
use super::style::Paint;
use super::{Printer, json, line_to_stderr};
use crate::commands::remedy;

/// Characters of causes that a person reads; a problem document has all of them.
const MOST: usize = 600;

/// Prints what happened, why, and what to do next.
pub fn print_error(printer: &Printer, error: &Error) {
    if printer.is_machine() {
        line_to_stderr(&problem(error).to_string());
        return;
    }
    let style = &printer.error_style;
    let mut told = error.told().into_iter().map(|text| clean_line(&text));
    let what = told.next().unwrap_or_default();
    line_to_stderr(&format!("{} {what}", style.paint(Paint::Bad, "error:")));
    for (_, problem) in error.context().iter().filter(|(key, _)| *key == "also") {
        line_to_stderr(&format!("  {} {}", style.paint(Paint::Faint, "also:"), clean_line(problem)));
    }
    let why: Vec<String> = told.collect();
    if !why.is_empty() {
        line_to_stderr(&format!("  {} {}", style.paint(Paint::Faint, "why:"), fit(&why.join(": "), MOST)));
    }
    let next = error.next_step().unwrap_or_else(|| remedy(error.kind()));
    line_to_stderr(&format!("  {} {}", style.paint(Paint::Faint, "next:"), clean_line(&next.replace('`', ""))));
}

/// The problem document of an error, with the exit code that goes with it.
pub fn problem(error: &Error) -> Value {
    let mut out = json(&Problem::from(error));
    out["next"] = error.next_step().unwrap_or_else(|| remedy(error.kind())).into();
    out["exitCode"] = error.kind().exit_code().into();
    out
}
