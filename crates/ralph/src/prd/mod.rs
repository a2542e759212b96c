//! PRDs: every dialect read into one shape, and marked in place without touching another byte.

mod branch;
mod canonical;
mod check;
mod checklist;
mod dialect;
mod mark;
mod spanned;
mod story;

use std::path::Path;

use cove_core::run::GateSpec;
use cove_core::{Error, Result};
use serde::{Deserialize, Serialize};

pub use branch::{check_branch, slug};
pub use canonical::{convert, example};
pub use mark::mark;

/// Longest PRD text that is read.
pub const TEXT_BOUND: usize = 4 << 20;
/// Most stories of a PRD.
pub const STORIES_BOUND: usize = 1000;

/// A PRD, whatever its dialect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prd {
    /// Name to show; from the file's name where the text has none.
    pub project: String,
    /// Branch that the PRD asks for, already checked; see [`Prd::branch`].
    pub branch_name: Option<String>,
    /// What it is about, possibly empty.
    pub description: String,
    /// The stories in the order of the file.
    pub stories: Vec<Story>,
    /// Checks named by the PRD.
    pub gates: Vec<GateSpec>,
    /// Dialect it was read from.
    pub format: Format,
}

/// A unit of work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Identifier, unique in the PRD; a number in the file becomes its digits, a markdown item without
    /// an id gets a slug of its text.
    pub id: String,
    /// Title on one line.
    pub title: String,
    /// Longer text, possibly empty.
    pub description: String,
    /// Statements that must hold.
    pub acceptance: Vec<String>,
    /// Lower is worked on first; the position in the file where the dialect has none.
    pub priority: i64,
    /// Whether the file says that it is done.
    pub passes: bool,
    /// Free text.
    pub notes: String,
    /// Ids that must have passed first.
    pub depends_on: Vec<String>,
    /// Commands that check this story alone.
    pub commands: Vec<String>,
    /// Line of the file where it begins, from 1; 0 when it was not read from a file.
    #[serde(default)]
    pub line: usize,
}

/// A dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `prd.json` with `userStories` and `passes`: the canonical one.
    Snarktank,
    /// The superset with `name`, `labels`, `metadata`.
    RalphTui,
    /// JSON with `stories` and `status`.
    Iannuttall,
    /// JSON or JSONC with `tasks` and `status`.
    Queue,
    /// Markdown plan with `### Task N:` sections.
    Ralphex,
    /// `fix_plan.md`: checkboxes under headings of priority.
    FixPlan,
    /// Any markdown with checkboxes.
    Checklist,
}

impl Format {
    /// Whether the text is JSON (otherwise it is markdown).
    pub fn is_json(self) -> bool {
        matches!(self, Self::Snarktank | Self::RalphTui | Self::Iannuttall | Self::Queue)
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snarktank => "prd.json",
            Self::RalphTui => "ralph-tui prd.json",
            Self::Iannuttall => "stories JSON",
            Self::Queue => "task queue JSON",
            Self::Ralphex => "ralphex plan",
            Self::FixPlan => "fix_plan checklist",
            Self::Checklist => "markdown checklist",
        }
    }
}

impl Prd {
    /// Reads a PRD of any dialect and checks it as [`Prd::validate`] does. `file_name` helps to tell
    /// the dialect, names the file in errors and gives the project a name where the text has none.
    ///
    /// # Errors
    /// `Invalid`, naming line and field; other problems of the same file are in the context.
    /// A text over [`TEXT_BOUND`] is `Invalid` too.
    pub fn parse(text: &str, file_name: Option<&Path>) -> Result<Self> {
        let name = display_name(file_name);
        if text.len() > TEXT_BOUND {
            return Err(Error::invalid(format!("{name} is longer than {TEXT_BOUND} bytes"))
                .with("bytes", text.len())
                .next("Split it into several PRDs"));
        }
        let prd = if looks_like_json(text, file_name) {
            dialect::parse(text, &name, file_name)?
        } else {
            checklist::parse(text, &name, file_name)?
        };
        check::report(&prd, &name)?;
        Ok(prd)
    }

    /// Checks what a reader of one story cannot see: duplicate ids, unknown or cyclic dependencies,
    /// empty fields, an unusable branch name.
    ///
    /// # Errors
    /// `Invalid` with the first problem; the others are in its context.
    pub fn validate(&self) -> Result<()> {
        check::report(self, "The PRD")
    }

    /// The branch it asks for, or `ralph/<slug of the project>`.
    pub fn branch(&self) -> String {
        self.branch_name.clone().unwrap_or_else(|| {
            let slug = slug(&self.project, 50);
            format!("ralph/{}", if slug.is_empty() { "work" } else { &slug })
        })
    }

    /// The story of that id.
    pub fn story(&self, id: &str) -> Option<&Story> {
        self.stories.iter().find(|story| story.id == id)
    }
}

fn display_name(file_name: Option<&Path>) -> String {
    file_name.and_then(Path::file_name).map_or_else(|| "The PRD".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Text without the byte order mark, and the mark's length.
fn without_bom(text: &str) -> (&str, usize) {
    text.strip_prefix('\u{feff}').map_or((text, 0), |rest| (rest, '\u{feff}'.len_utf8()))
}

fn looks_like_json(text: &str, file_name: Option<&Path>) -> bool {
    match file_name.and_then(Path::extension).and_then(|extension| extension.to_str()) {
        Some("json" | "jsonc" | "json5") => return true,
        Some("md" | "markdown" | "mdown") => return false,
        _ => {}
    }
    let text = without_bom(text).0.trim_start();
    text.starts_with('{') || text.starts_with("//") || (text.starts_with('[') && !text.starts_with("[ ]"))
}

/// Line, from 1, of a byte offset.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
