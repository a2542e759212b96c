//! Errors: three lines for people, a problem document (RFC 9457) for machines.

use cove_api::Problem;
use cove_core::Error;
use serde_json::Value;

use super::clean::clean_line;
use super::style::Paint;
use super::{Printer, json, line_to_stderr};

/// Prints what happened, why, and what to do next.
pub fn print_error(printer: &Printer, error: &Error) {
    if printer.is_machine() {
        line_to_stderr(&problem(error).to_string());
        return;
    }
    let style = &printer.error_style;
    let also = error.context().iter().filter(|(key, _)| *key == "also").map(|(_, problem)| problem);
    let what = if also.clone().next().is_some() { error.message().to_owned() } else { error.to_string() };
    line_to_stderr(&format!("{} {}", style.paint(Paint::Bad, "error:"), clean_line(&what)));
    for problem in also {
        line_to_stderr(&format!("  {} {}", style.paint(Paint::Faint, "also:"), clean_line(problem)));
    }
    let causes: Vec<String> = error.chain().into_iter().skip(1).map(|cause| clean_line(&cause)).collect();
    if !causes.is_empty() {
        line_to_stderr(&format!("  {} {}", style.paint(Paint::Faint, "why:"), causes.join(": ")));
    }
    if let Some(next) = error.next_step() {
        line_to_stderr(&format!("  {} {}", style.paint(Paint::Faint, "next:"), clean_line(next)));
    }
}

/// The problem document of an error, with the exit code that goes with it.
pub fn problem(error: &Error) -> Value {
    let mut out = json(&Problem::from(error));
    out["exitCode"] = error.kind().exit_code().into();
    out
}
