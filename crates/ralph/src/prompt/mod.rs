//! What the agent is told.

mod fence;
mod sections;
mod template;

use cove_core::Result;
use cove_core::run::{GateSpec, TokenMeaning};

use crate::prd::Story;

pub use fence::fenced;
pub(crate) use fence::head;

/// Longest prompt that is made; every part is bounded so that all of them fit.
pub const PROMPT_BOUND: usize = 256 << 10;

/// All that a prompt is made of.
#[derive(Debug, Clone)]
pub struct PromptContext<'a> {
    /// Project name.
    pub project: &'a str,
    /// The PRD's description, possibly empty.
    pub description: &'a str,
    /// Branch that the work goes to.
    pub branch: &'a str,
    /// The story to do.
    pub story: &'a Story,
    /// 1 for the first try.
    pub attempt: u32,
    /// Tries allowed; 0 for no bound.
    pub attempts: u32,
    /// Stories passed so far.
    pub passed: usize,
    /// Stories of the PRD.
    pub total: usize,
    /// The whole progress file; the prompt repeats a bounded part.
    pub progress: &'a str,
    /// What became of the last attempt: verdict and the end of the gates' output.
    pub feedback: Option<&'a str>,
    /// Checks that will be run.
    pub gates: &'a [GateSpec],
    /// What the completion token claims.
    pub token: TokenMeaning,
    /// Where the repository lies inside the sandbox.
    pub workspace: &'a str,
    /// Paths of the repository that the agent's changes are taken out of (PRD, progress).
    pub control_files: &'a [String],
}

impl<'a> PromptContext<'a> {
    /// A context of the story alone, all else empty, to be filled by struct update.
    pub fn for_story(story: &'a Story) -> Self {
        Self {
            project: "",
            description: "",
            branch: "",
            story,
            attempt: 1,
            attempts: 0,
            passed: 0,
            total: 1,
            progress: "",
            feedback: None,
            gates: &[],
            token: TokenMeaning::Story,
            workspace: "/workspace",
            control_files: &[],
        }
    }
}

/// The prompt: the built-in one, or `template` with its placeholders filled.
///
/// Placeholders are `{{name}}` with the names of [`placeholders`]; `\{{` is a literal `{{`. Values are
/// put in once and not searched again, so that a story's text cannot pull anything else in.
///
/// # Errors
/// `Invalid` for a placeholder that does not exist (naming it and its line) and for a template that
/// never names the story.
pub fn render(template: Option<&str>, context: &PromptContext<'_>) -> Result<String> {
    match template {
        Some(template) => template::fill(template, context),
        None => Ok(sections::builtin(context)),
    }
}

/// Whether a template is usable, without a story at hand.
///
/// # Errors
/// As [`render`].
pub fn check_template(template: &str) -> Result<()> {
    template::check(template)
}

/// The names that a template may use.
pub fn placeholders() -> &'static [&'static str] {
    &template::NAMES
}

#[cfg(test)]
mod tests;
