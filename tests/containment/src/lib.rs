//! What both test programs share: how a report is told and judged.

#![allow(clippy::print_stdout, reason = "a test program says what it skips")]

use cove_containment::{Report, Verdict};

/// Prints the figures, and by name what does not apply.
pub fn tell(setup: &str, report: &Report) {
    let score = report.score(None);
    println!(
        "{setup}: {} held, {} broken, {} unproven, {} not applicable, {}% of the weight, {} s",
        score.held,
        score.broken,
        score.unproven,
        score.not_applicable,
        score.percent(),
        report.seconds
    );
    for line in report.with(Verdict::NotApplicable) {
        println!("SKIP {setup} {}: {}", line.id, line.found);
    }
}

/// Everything is held, every control has its effect, nothing outside changed, enough of it applies,
/// and the kernel's surface is as small as promised.
///
/// # Errors
/// With every attempt that fared otherwise.
pub fn holds(report: &Report) -> Result<(), String> {
    let mut wrong: Vec<String> = report
        .lines
        .iter()
        .filter(|line| matches!(line.verdict, Verdict::Broken | Verdict::Unproven))
        .map(|line| format!("{:?} {}: {} -> {}", line.verdict, line.id, line.what, line.found))
        .collect();
    wrong.extend(report.changed.iter().map(|path| format!("changed: {path}")));
    let applied = report.score(None).applied();
    if applied < 200 {
        wrong.push(format!("only {applied} attempts apply"));
    }
    if report.reachable_calls().len() > 4 {
        wrong.push(format!("sensitive calls reach the kernel: {:?}", report.reachable_calls()));
    }
    if report.reachable_families() != ["unix", "inet", "inet6", "netlink"] {
        wrong.push(format!("families of sockets: {:?}", report.reachable_families()));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{} of {}:\n{}", wrong.len(), report.lines.len(), wrong.join("\n")))
    }
}
