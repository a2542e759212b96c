//! A user's own prompt with placeholders.

use cove_core::{Error, Result};

use super::{PROMPT_BOUND, PromptContext, sections};

/// Names that a template may use.
pub(super) const NAMES: [&str; 19] = [
    "project",
    "project.description",
    "branch",
    "workspace",
    "attempt",
    "attempts",
    "passed",
    "total",
    "story.id",
    "story.title",
    "story.description",
    "story.acceptance",
    "story.notes",
    "story.priority",
    "progress",
    "feedback",
    "gates",
    "rules",
    "token",
];

/// A piece of a template.
enum Piece<'t> {
    Text(&'t str),
    Name(&'t str),
}

pub(super) fn check(template: &str) -> Result<()> {
    pieces(template).map(|_| ())
}

pub(super) fn fill(template: &str, context: &PromptContext<'_>) -> Result<String> {
    let mut out = String::new();
    for piece in pieces(template)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Name(name) => out.push_str(value(name, context).trim_end()),
        }
    }
    if out.len() > 4 * PROMPT_BOUND {
        return Err(Error::invalid("The prompt made from the template is too long").with("bytes", out.len()));
    }
    Ok(out)
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>> {
    if template.len() > PROMPT_BOUND {
        return Err(Error::invalid(format!("The prompt template is longer than {PROMPT_BOUND} bytes")));
    }
    let mut out = Vec::new();
    let mut rest = template;
    let mut story = false;
    while let Some(at) = rest.find("{{") {
        if rest[..at].ends_with('\\') {
            out.push(Piece::Text(&rest[..at - 1]));
            out.push(Piece::Text("{{"));
            rest = &rest[at + 2..];
            continue;
        }
        out.push(Piece::Text(&rest[..at]));
        let inner = &rest[at + 2..];
        let line = template[..template.len() - rest.len() + at].matches('\n').count() + 1;
        let Some(end) = inner.find("}}").filter(|end| !inner[..*end].contains('\n')) else {
            return Err(Error::invalid(format!(
                "The prompt template line {line} opens a placeholder with {{{{ and does not close it"
            ))
            .next("Write \\{{ for two literal braces"));
        };
        let name = inner[..end].trim();
        let Some(known) = NAMES.iter().find(|known| **known == name) else {
            return Err(Error::invalid(format!(
                "The prompt template line {line} names `{}`, which is no placeholder",
                name.chars().take(60).collect::<String>().escape_debug()
            ))
            .next(format!("Use one of: {}", NAMES.join(", "))));
        };
        story |= known.starts_with("story.");
        out.push(Piece::Name(known));
        rest = &inner[end + 2..];
    }
    out.push(Piece::Text(rest));
    if !story {
        return Err(Error::invalid("The prompt template never names the story")
            .next("Put {{story.id}} and {{story.description}} into it"));
    }
    Ok(out)
}

fn value(name: &str, context: &PromptContext<'_>) -> String {
    let story = context.story;
    let or_none = |text: String| if text.trim().is_empty() { "(none)".to_owned() } else { text };
    match name {
        "project" => sections::line(context.project),
        "project.description" => or_none(sections::description_of_project(context)),
        "branch" => sections::line(context.branch),
        "workspace" => sections::line(context.workspace),
        "attempt" => context.attempt.to_string(),
        "attempts" => {
            if context.attempts == 0 {
                "unlimited".to_owned()
            } else {
                context.attempts.to_string()
            }
        }
        "passed" => context.passed.to_string(),
        "total" => context.total.to_string(),
        "story.id" => sections::line(&story.id),
        "story.title" => sections::line(&story.title),
        "story.description" => sections::description(context),
        "story.acceptance" => or_none(sections::acceptance(context)),
        "story.notes" => or_none(sections::notes(context)),
        "story.priority" => story.priority.to_string(),
        "progress" => or_none(sections::progress(context)),
        "feedback" => or_none(sections::feedback(context)),
        "gates" => or_none(sections::gates(context)),
        "rules" => sections::rules(context),
        "token" => sections::token(context),
        // `pieces` lets only the names above through.
        _ => String::new(),
    }
}
