//! How attacks on sandboxes look to people.

use cove_containment::catalogue::Probe;
use cove_containment::{Group, Report, Score, Verdict};

use crate::output::{Paint, Style, clean_line, width};

/// One line a question, one column an engine.
pub fn matrix(reports: &[Report], style: &Style) -> String {
    let names: Vec<&str> = reports.iter().map(|report| report.engine.as_str()).collect();
    let mut out = format!("{:<18}", "");
    names.iter().for_each(|name| out.push_str(&cell(&style.paint(Paint::Strong, name), width(name))));
    out = format!("{}\n", out.trim_end());
    for probe in Probe::ALL {
        let mut line = format!("{:<18}", probe.title());
        for report in reports {
            let (text, paint) = verdict(report.probe(probe), style);
            line.push_str(&cell(&style.paint(paint, &text), width(&text)));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for report in reports {
        out.push_str(&failures(report, style));
    }
    if reports.iter().all(Report::holds) {
        out.push_str("Every attempt was held, and each has its effect outside. More: cove doctor --isolation --full\n");
    }
    out
}

/// Pads what is painted by the width of what is seen.
fn cell(painted: &str, seen: usize) -> String {
    format!("{painted}{}", " ".repeat(20_usize.saturating_sub(seen).max(1)))
}

fn verdict(score: Score, style: &Style) -> (String, Paint) {
    let (good, bad) = (style.symbol("✓", "+"), style.symbol("✗", "x"));
    match score {
        Score { broken: 0, unproven: 0, held: 0, .. } => ("not applicable".to_owned(), Paint::Faint),
        Score { broken: 0, unproven: 0, held, .. } => (format!("{good} {held} held"), Paint::Good),
        Score { broken: 0, unproven, .. } => (format!("! {unproven} without control"), Paint::Warn),
        Score { broken, .. } => (format!("{bad} {broken} of {} got out", score.applied()), Paint::Bad),
    }
}

/// Figures a group, then what was not held, then what does not apply.
pub fn full(reports: &[Report], style: &Style) -> String {
    reports.iter().map(|report| one(report, style)).collect::<Vec<_>>().join("\n")
}

fn one(report: &Report, style: &Style) -> String {
    let total = report.score(None);
    let paint = if report.holds() { Paint::Good } else { Paint::Bad };
    let holds = if report.holds() { "holds" } else { "does not hold" };
    let mut out = format!(
        "{} {}: {} of {} attempts held, score {} of 100, {} s\n\n",
        style.paint(Paint::Strong, &report.engine),
        style.paint(paint, holds),
        total.held,
        total.applied(),
        total.percent(),
        report.seconds
    );
    out.push_str(&format!(
        "{:<20} {:>5} {:>9} {:>11} {:>9} {:>6}\n",
        "GROUP", "HELD", "NOT HELD", "NO CONTROL", "NOT HERE", "SCORE"
    ));
    for group in Group::ALL {
        let score = report.score(Some(group));
        out.push_str(&format!(
            "{:<20} {:>5} {:>9} {:>11} {:>9} {:>6}\n",
            group.title(),
            score.held,
            score.broken,
            score.unproven,
            score.not_applicable,
            score.percent()
        ));
    }
    let calls = report.reachable_calls();
    out.push_str(&format!(
        "\nkernel surface: {} of 36 sensitive calls reach the kernel{}; socket families {}\n",
        calls.len(),
        if calls.is_empty() { String::new() } else { format!(" ({})", calls.join(", ")) },
        report.reachable_families().join(", ")
    ));
    out.push_str(&failures(report, style));
    let absent: Vec<_> = report.with(Verdict::NotApplicable).collect();
    if !absent.is_empty() {
        out.push_str("\nnot applicable here:\n");
        for line in absent {
            out.push_str(&format!("  {:<34} {}\n", line.id, style.paint(Paint::Faint, &clean_line(&line.found))));
        }
    }
    out
}

fn failures(report: &Report, style: &Style) -> String {
    let mut out = String::new();
    for (verdict, title, paint) in [
        (Verdict::Broken, "not held", Paint::Bad),
        (Verdict::Unproven, "held, but no control had its effect", Paint::Warn),
    ] {
        let lines: Vec<_> = report.with(verdict).collect();
        if lines.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{} ({}):\n", style.paint(paint, title), report.engine));
        for line in lines {
            let text = format!("{}: {}", line.what, line.found);
            out.push_str(&format!("  {:<34} {}\n", line.id, clean_line(&text)));
            out.push_str(&format!(
                "  {:<34} {}\n",
                "",
                style.paint(Paint::Faint, &format!("held by {}, weight {}", line.control, line.weight))
            ));
        }
    }
    for path in &report.changed {
        out.push_str(&format!("\n{}: {}\n", style.paint(Paint::Bad, "changed outside"), clean_line(path)));
    }
    out
}

#[cfg(test)]
mod tests {
    use cove_containment::Line;
    use cove_core::Control;

    use super::*;

    fn line(id: &str, group: Group, probe: Option<Probe>, verdict: Verdict, found: &str) -> Line {
        let what = "do what is not allowed".to_owned();
        Line { id: id.into(), group, what, control: Control::Seccomp, weight: 4, probe, verdict, found: found.into() }
    }

    fn report(lines: Vec<Line>) -> Report {
        Report { engine: "native".into(), lines, changed: Vec::new(), missing: Vec::new(), seconds: 7 }
    }

    #[test]
    fn what_people_see() {
        let good = report(vec![
            line("E1-a", Group::Escape, Some(Probe::HostFiles), Verdict::Held, "ENOENT"),
            line("E13-call-bpf", Group::Escape, Some(Probe::Kernel), Verdict::Held, "EPERM"),
            line("E16-find-mem", Group::Escape, None, Verdict::NotApplicable, "the host has no /dev/mem"),
            line("R1-forks", Group::Exhaustion, Some(Probe::ForkBomb), Verdict::Held, "EAGAIN"),
        ]);
        let mut bad = report(vec![
            line("E13-call-bpf", Group::Escape, Some(Probe::Kernel), Verdict::Broken, "E2BIG (bpf); expected EPERM"),
            line("P1-a", Group::Paths, Some(Probe::HostFiles), Verdict::Unproven, "ENOENT; no control had its effect"),
        ]);
        bad.engine = "docker".into();
        assert_eq!(matrix(&[good.clone(), bad.clone()], &Style::PLAIN), MATRIX);
        assert_eq!(full(&[good, bad], &Style::PLAIN), FULL);
    }

    const MATRIX: &str = concat!(
        "                  native              docker\n",
        "metadata address  not applicable      not applicable\n",
        "private ranges    not applicable      not applicable\n",
        "another sandbox   not applicable      not applicable\n",
        "host files        + 1 held            ! 1 without control\n",
        "capabilities      not applicable      not applicable\n",
        "kernel calls      + 1 held            x 1 of 1 got out\n",
        "fork bomb         + 1 held            not applicable\n",
        "secrets           not applicable      not applicable\n",
        "\n",
        "not held (docker):\n",
        "  E13-call-bpf                       do what is not allowed: E2BIG (bpf); expected EPERM\n",
        "                                     held by seccomp, weight 4\n",
        "\n",
        "held, but no control had its effect (docker):\n",
        "  P1-a                               do what is not allowed: ENOENT; no control had its effect\n",
        "                                     held by seccomp, weight 4\n",
    );
    const FULL: &str = concat!(
        "native holds: 3 of 3 attempts held, score 100 of 100, 7 s\n",
        "\n",
        "GROUP                 HELD  NOT HELD  NO CONTROL  NOT HERE  SCORE\n",
        "escape                   2         0           0         1    100\n",
        "paths and mounts         0         0           0         0    100\n",
        "exhaustion               1         0           0         0    100\n",
        "\n",
        "kernel surface: 0 of 36 sensitive calls reach the kernel; socket families unix, inet, inet6, netlink\n",
        "\n",
        "not applicable here:\n",
        "  E16-find-mem                       the host has no /dev/mem\n",
        "\n",
        "docker does not hold: 0 of 2 attempts held, score 0 of 100, 7 s\n",
        "\n",
        "GROUP                 HELD  NOT HELD  NO CONTROL  NOT HERE  SCORE\n",
        "escape                   0         1           0         0      0\n",
        "paths and mounts         0         0           1         0      0\n",
        "exhaustion               0         0           0         0    100\n",
        "\n",
        "kernel surface: 1 of 36 sensitive calls reach the kernel (bpf); socket families unix, inet, inet6, netlink\n",
        "\n",
        "not held (docker):\n",
        "  E13-call-bpf                       do what is not allowed: E2BIG (bpf); expected EPERM\n",
        "                                     held by seccomp, weight 4\n",
        "\n",
        "held, but no control had its effect (docker):\n",
        "  P1-a                               do what is not allowed: ENOENT; no control had its effect\n",
        "                                     held by seccomp, weight 4\n",
    );
}
