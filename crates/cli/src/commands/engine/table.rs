//! The pass table of this host: every control by every engine, what is missing and how to get it, and
//! what was read inside real sandboxes.

use std::collections::BTreeMap;

use cove_core::capability::{Finding, acceptable};
use cove_core::{Control, EngineKind};
use serde_json::{Value, json};

use super::Tested;
use super::live::Live;
use crate::output::{Paint, Style, clean_line, json as to_json, width};

/// A reason, and the remedy that follows it behind a semicolon.
pub fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once("; ") {
        Some((reason, remedy)) => (reason, Some(remedy)),
        None => (text, None),
    }
}

fn finding<'a>(one: &Tested<'a>, control: Control) -> Option<&'a Finding> {
    one.report.controls.iter().find(|c| c.control == control).map(|c| &c.finding)
}

/// One word on a control of an engine.
fn state(one: &Tested<'_>, control: Control) -> &'static str {
    match finding(one, control) {
        Some(Finding::Proven) => "proven",
        _ if one.profile.waived(control) => "waived",
        _ if one.profile.required.contains(&control) => "missing",
        _ => "no",
    }
}

fn mark(state: &str, style: &Style) -> String {
    let (symbol, paint) = match state {
        "proven" | "extra" => (style.symbol("✓", "+"), Paint::Good),
        "missing" | "deviates" => (style.symbol("✗", "x"), Paint::Bad),
        "waived" => ("!", Paint::Warn),
        _ => (style.symbol("·", "-"), Paint::Faint),
    };
    style.paint(paint, &format!("{symbol} {state}"))
}

/// Everything for people. `auto` names the engine that `auto` would take.
pub fn text(tested: &[Tested<'_>], auto: Option<EngineKind>, style: &Style) -> String {
    let mut out = matrix(tested, style);
    out.push_str(&format!(
        "{}\n",
        style.paint(
            Paint::Faint,
            "* a run asks for it with the settings in force; (w) may be left out with --accept-missing"
        )
    ));
    for one in tested {
        out.push_str(&missing(one, style));
    }
    for one in tested {
        out.push_str(&live(one, style));
    }
    out.push('\n');
    for one in tested {
        let taken = if auto == Some(one.report.kind) { ", and is what auto takes" } else { "" };
        let (holds, sentence) = match verdict(one) {
            Ok(()) => (true, format!("The engine {} holds everything a run asks for{taken}", one.report.kind)),
            Err(sentence) => (false, format!("{sentence}{taken}")),
        };
        let (symbol, paint) =
            if holds { (style.symbol("✓", "+"), Paint::Good) } else { (style.symbol("✗", "x"), Paint::Bad) };
        out.push_str(&format!("{} {}\n", style.paint(paint, symbol), clean_line(&sentence)));
    }
    out
}

/// Whether a run could begin with it, in one short sentence.
fn verdict(one: &Tested<'_>) -> Result<(), String> {
    let kind = one.report.kind;
    let lacking = one.profile.lacking();
    match one.failure() {
        None => Ok(()),
        Some(_) if one.report.available && lacking.contains(&Control::IsolationContainer) => {
            Err(format!("The engine {kind} isolates nothing; it is used only with --i-accept-no-sandbox"))
        }
        Some(_) if one.report.available && lacking.len() > 3 => {
            Err(format!("The engine {kind} lacks {} of the controls that a run asks for", lacking.len()))
        }
        Some(error) => Err(error.message().to_owned()),
    }
}

fn matrix(tested: &[Tested<'_>], style: &Style) -> String {
    let engines: Vec<String> = tested.iter().map(|one| one.report.kind.to_string()).collect();
    let first = Control::ALL.iter().map(|control| control.name().len()).max().unwrap_or(0) + 7;
    let column = 11;
    let mut out = style.paint(Paint::Faint, &format!("{:<first$}", "CONTROL"));
    for engine in &engines {
        out.push_str(&style.paint(Paint::Faint, &format!("{:<column$}", engine.to_uppercase())));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    for control in Control::ALL {
        let asked = tested.iter().any(|one| one.profile.required.contains(&control));
        let name = format!(
            "{}{}{}",
            control.name(),
            if asked { " *" } else { "" },
            if acceptable(control) { " (w)" } else { "" }
        );
        let mut line = format!("{name:<first$}");
        for one in tested {
            let cell = mark(state(one, control), style);
            let pad = column.saturating_sub(width(&crate::output::clean_line(&cell)));
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', pad));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Why what a run asks for is missing, each reason once, with its remedy.
fn missing(one: &Tested<'_>, style: &Style) -> String {
    let mut reasons: BTreeMap<String, Vec<Control>> = BTreeMap::new();
    for control in &one.profile.missing {
        let reason = match finding(one, *control) {
            Some(Finding::Missing { reason }) => reason.clone(),
            _ => "This engine does not offer it".to_owned(),
        };
        reasons.entry(reason).or_default().push(*control);
    }
    let mut out = String::new();
    for (reason, controls) in reasons {
        let names: Vec<String> = controls.iter().map(ToString::to_string).collect();
        let (why, remedy) = split(&reason);
        out.push_str(&format!(
            "\n{}: {}\n  {} {}\n",
            style.paint(Paint::Strong, &one.report.kind.to_string()),
            names.join(", "),
            style.paint(Paint::Faint, "why: "),
            clean_line(why)
        ));
        if let Some(remedy) = remedy {
            out.push_str(&format!("  {} {}\n", style.paint(Paint::Faint, "next:"), clean_line(remedy)));
        }
    }
    out
}

fn live(one: &Tested<'_>, style: &Style) -> String {
    let kind = style.paint(Paint::Strong, &one.report.kind.to_string());
    match &one.live {
        Live::Skipped { why } => format!("\n{kind}: no sandbox was made: {}\n", clean_line(why)),
        Live::Failed { error } => {
            let why = error.told().join(": ");
            let mark = style.paint(Paint::Bad, style.symbol("✗", "x"));
            format!("\n{kind}: {mark} no sandbox could be made: {}\n", clean_line(&why))
        }
        Live::Passed { took, facts } => {
            let mut out =
                format!("\n{kind}: a sandbox was made in {} ms, read from inside, and removed\n", took.as_millis());
            let columns = facts.iter().map(|fact| fact.expected.chars().count()).max().unwrap_or(0).max(8);
            let head = format!("  {:<22}{:<12}{:<columns$}  FOUND", "CONTROL", "RESULT", "EXPECTED");
            out.push_str(&format!("{}\n", style.paint(Paint::Faint, &head)));
            for fact in facts {
                let cell = mark(fact.result, style);
                let pad = " ".repeat(12_usize.saturating_sub(width(&clean_line(&cell))));
                out.push_str(&format!(
                    "  {:<22}{cell}{pad}{:<columns$}  {}\n",
                    fact.control.name(),
                    clean_line(&fact.expected),
                    clean_line(&fact.found)
                ));
            }
            out
        }
    }
}

/// The same for machines: one document an engine.
pub fn document(one: &Tested<'_>, decisive: Option<EngineKind>) -> Value {
    let controls: Vec<Value> = Control::ALL
        .iter()
        .map(|control| {
            let (reason, remedy) = match finding(one, *control) {
                Some(Finding::Missing { reason }) => {
                    let (reason, remedy) = split(reason);
                    (Some(reason), remedy)
                }
                _ => (None, None),
            };
            let proven = finding(one, *control) == Some(&Finding::Proven);
            json!({
                "control": control,
                "state": if proven { "proven" } else { "missing" },
                "reason": reason,
                "remedy": remedy,
                "required": one.profile.required.contains(control),
                "waivable": acceptable(*control),
                "waived": !proven && one.profile.waived(*control),
            })
        })
        .collect();
    let live = match &one.live {
        Live::Skipped { why } => json!({"result": "skipped", "reason": why}),
        Live::Failed { error } => json!({"result": "failed", "reason": error.told().join(": ")}),
        Live::Passed { took, facts } => json!({
            "result": "passed",
            "millis": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "controls": to_json(facts),
        }),
    };
    json!({
        "engine": one.report.kind,
        "available": one.report.available,
        "why": one.report.why,
        "isolation": one.report.isolation,
        "decisive": decisive == Some(one.report.kind),
        "holds": one.failure().is_none(),
        "lacking": one.profile.lacking(),
        "controls": controls,
        "live": live,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_reason_and_its_remedy_are_told_apart() {
        assert_eq!(super::split("It is off; turn it on"), ("It is off", Some("turn it on")));
        assert_eq!(super::split("It is off"), ("It is off", None));
    }
}
