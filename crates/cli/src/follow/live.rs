//! The picture of a run on a terminal, as lines. Pure: the same view gives the same lines.

use std::time::Duration;

use cove_core::ledger::GateStatus;
use cove_core::quantity::format_duration;
use cove_core::run::StoryStatus;
use jiff::Timestamp;

use super::plain::gate_paint;
use super::view::{StoryLine, View};
use crate::output::{Paint, Style, fit, width};

/// Draws the run into at most `rows` lines of at most `columns` columns.
pub fn render(view: &View, now: Timestamp, columns: usize, rows: usize, style: &Style) -> Vec<String> {
    let columns = columns.max(20);
    let mut out = vec![head(view, now, columns, style)];
    let mut foot = Vec::new();
    if !view.refused.is_empty() {
        let hosts: Vec<String> = view.refused.iter().map(|(host, count)| format!("{host} ({count})")).collect();
        foot.push(style.paint(Paint::Warn, &fit(&format!("  blocked: {}", hosts.join(", ")), columns)));
    }
    foot.push(style.paint(Paint::Faint, &fit(&format!("  {}", spend(view)), columns)));
    let room = rows.saturating_sub(out.len() + foot.len()).max(1);
    out.extend(stories(view, columns, room, style));
    out.extend(foot);
    out.truncate(rows.max(1));
    out
}

fn head(view: &View, now: Timestamp, columns: usize, style: &Style) -> String {
    let end = view.ended.unwrap_or(now);
    let elapsed = Duration::from_secs(u64::try_from(end.as_second() - view.started.as_second()).unwrap_or(0));
    let phase = view.phase.name().replace('_', " ");
    let how =
        [Some(view.agent.as_str()), view.engine.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" on ");
    let text = format!(
        "{} {phase}, {} of {} passed, {}, {how}",
        view.name,
        view.passed(),
        view.stories.len(),
        format_duration(elapsed)
    );
    style.paint(Paint::Strong, &fit(&text, columns))
}

fn spend(view: &View) -> String {
    let usage = view.usage();
    let cost = match (usage.reported_cost_usd, usage.estimated_cost_usd) {
        (Some(cost), _) => format!(", ${cost:.2}"),
        (None, Some(cost)) => format!(", about ${cost:.2}"),
        (None, None) => String::new(),
    };
    let branch = view.branch.as_ref().map(|branch| format!(", branch {branch}")).unwrap_or_default();
    let reason = view.reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
    format!("{} tokens{cost}{branch}{reason}", thousands(usage.tokens()))
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// The stories that fit: those under way always, then those around them.
fn stories(view: &View, columns: usize, room: usize, style: &Style) -> Vec<String> {
    let need = |story: &StoryLine| 1 + usize::from(detail(story).is_some());
    let total: usize = view.stories.iter().map(need).sum();
    // Lines given to each story: none, its own, or one more for what happens at it.
    let mut given: Vec<usize> =
        if total <= room { view.stories.iter().map(need).collect() } else { vec![0; view.stories.len()] };
    let mut hidden = 0;
    if total > room {
        // One line is for what does not fit.
        let mut left = room.saturating_sub(1);
        let rank = |story: &StoryLine| match story.status {
            StoryStatus::Working => 0,
            StoryStatus::GivenUp => 1,
            StoryStatus::Open if story.attempts > 0 => 1,
            StoryStatus::Open => 2,
            StoryStatus::Passed => 3,
        };
        let mut order: Vec<usize> = (0..view.stories.len()).collect();
        order.sort_by_key(|at| (rank(&view.stories[*at]), *at));
        for at in order {
            given[at] = need(&view.stories[at]).min(left);
            left -= given[at];
            hidden += usize::from(given[at] == 0);
        }
    }
    let id_width = view.stories.iter().map(|story| width(&story.id)).max().unwrap_or(0).min(columns / 3);
    let mut out = Vec::new();
    for (story, given) in view.stories.iter().zip(given).filter(|(_, given)| *given > 0) {
        out.push(line(story, id_width, columns, style));
        if let Some(text) = detail(story).filter(|_| given > 1) {
            let text = fit(&format!("{}{text}", " ".repeat(4 + id_width + 1)), columns);
            out.push(style.paint(Paint::Faint, &text));
        }
    }
    if hidden > 0 {
        out.push(style.paint(Paint::Faint, &fit(&format!("  and {hidden} more"), columns)));
    }
    out
}

fn detail(story: &StoryLine) -> Option<&str> {
    match story.status {
        StoryStatus::Working | StoryStatus::Open | StoryStatus::GivenUp => story.activity.as_deref(),
        StoryStatus::Passed => None,
    }
}

fn line(story: &StoryLine, id_width: usize, columns: usize, style: &Style) -> String {
    let (mark, paint) = match story.status {
        StoryStatus::Passed => (style.symbol("✓", "+"), Paint::Good),
        StoryStatus::Working => (style.symbol("▶", ">"), Paint::Active),
        StoryStatus::GivenUp => (style.symbol("✗", "x"), Paint::Bad),
        StoryStatus::Open if story.attempts > 0 => (style.symbol("↻", "~"), Paint::Warn),
        StoryStatus::Open => (style.symbol("·", "-"), Paint::Faint),
    };
    let attempts = if story.attempts > 1 { format!("  attempt {}", story.attempts) } else { String::new() };
    let gates: Vec<(String, Paint)> = story
        .gates
        .iter()
        .map(|gate| {
            let mark = match gate.status {
                GateStatus::Passed => style.symbol("✓", "+"),
                GateStatus::FailedBefore => "!",
                _ => style.symbol("✗", "x"),
            };
            (format!("  {mark} {}", gate.name), gate_paint(gate.status))
        })
        .collect();
    let id = fit(&story.id, id_width);
    let pad = " ".repeat(id_width.saturating_sub(width(&id)));
    let fixed = 4 + id_width + 1;
    let side = width(&attempts) + gates.iter().map(|(text, _)| width(text)).sum::<usize>();
    // The title gives way first, but never to less than ten columns.
    let title = fit(&story.title, columns.saturating_sub(fixed + side).max(10).min(columns.saturating_sub(fixed)));
    let mut out = format!("  {} {id}{pad} {title}", style.paint(paint, mark));
    let mut left = columns.saturating_sub(fixed + width(&title));
    for (text, paint) in [(attempts, Paint::Faint)].into_iter().chain(gates) {
        if width(&text) > left {
            break;
        }
        left -= width(&text);
        if !text.is_empty() {
            out.push_str(&style.paint(paint, &text));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, record, view_after};
    use super::*;

    fn drawn(count: usize, columns: usize, rows: usize, style: &Style) -> String {
        let view = view_after(count);
        let now = "2026-01-01T00:04:10Z".parse().unwrap();
        render(&view, now, columns, rows, style).join("\n")
    }

    const UNICODE: Style = Style { color: false, unicode: true };

    #[test]
    fn a_run_from_its_beginning_to_its_end() {
        assert_eq!(
            drawn(0, 80, 20, &Style::PLAIN),
            "amber queued, 1 of 4 passed, 4m 10s, claude\n  \
             - US-001 Print the total\n  \
             - US-002 Print sums by category\n  \
             + US-003 Begin\n  \
             - US-004 日本語のタイトル\n  \
             0 tokens"
        );
        let middle = facts().len() - 3;
        assert_eq!(
            drawn(middle, 80, 20, &UNICODE),
            "amber running, 2 of 4 passed, 4m 10s, claude on native\n  \
             ✓ US-001 Print the total  ✓ tests\n  \
             ▶ US-002 Print sums by category  attempt 2  ✓ tests\n           \
             2 files changed, gates begin\n  \
             ✓ US-003 Begin\n  \
             · US-004 日本語のタイトル\n  \
             blocked: collector.example (2)\n  \
             12 345 tokens, $0.42, branch ralph/x"
        );
        assert_eq!(
            drawn(facts().len(), 80, 20, &Style::PLAIN).lines().next().unwrap(),
            "amber incomplete, 3 of 4 passed, 2m 0s, claude on native"
        );
    }

    #[test]
    fn it_fits_whatever_the_terminal() {
        for style in [Style::PLAIN, UNICODE, Style { color: true, unicode: true }] {
            for count in 0..=facts().len() {
                for (columns, rows) in [(20, 1), (20, 3), (33, 5), (80, 4), (80, 24), (300, 60)] {
                    let lines = render(&view_after(count), record().created_at, columns, rows, &style);
                    assert!(lines.len() <= rows, "{count} facts, {columns}x{rows}: {lines:#?}");
                    for line in &lines {
                        let shown = crate::output::clean_line(line);
                        assert!(width(&shown) <= columns, "{count} facts, {columns}x{rows}: {shown:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_small_terminal_shows_what_is_worked_on() {
        let text = drawn(facts().len() - 3, 60, 5, &Style::PLAIN);
        assert!(text.contains("> US-002") && text.contains("more"), "{text}");
    }
}
