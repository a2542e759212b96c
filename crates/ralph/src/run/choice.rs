//! Which story is next.

use cove_core::run::{RunRecord, StoryState, StoryStatus};

use crate::prd::Prd;

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// These stories, independent of each other, by position in the PRD.
    Work(Vec<usize>),
    /// Every story has passed.
    Done,
    /// Stories remain that cannot be worked on.
    Blocked {
        /// One sentence.
        reason: String,
    },
}

/// At most `most` open stories whose dependencies have passed, by priority, then by place.
pub(crate) fn choose(record: &RunRecord, prd: &Prd, most: usize) -> Choice {
    let stories = &record.stories;
    if stories.iter().all(|story| story.status == StoryStatus::Passed) {
        return Choice::Done;
    }
    let passed = |id: &String| stories.iter().any(|s| s.id == *id && s.status == StoryStatus::Passed);
    let mut ready: Vec<usize> = (0..stories.len())
        .filter(|at| stories[*at].status == StoryStatus::Open && stories[*at].depends_on.iter().all(passed))
        .collect();
    // Stable: equal priorities keep the order of the PRD.
    ready.sort_by_key(|at| prd.story(&stories[*at].id).map_or(i64::MAX, |story| story.priority));
    ready.truncate(most.max(1));
    if ready.is_empty() { Choice::Blocked { reason: blocked(stories) } } else { Choice::Work(ready) }
}

fn blocked(stories: &[StoryState]) -> String {
    let ids = |status: StoryStatus| -> Vec<&str> {
        stories.iter().filter(|s| s.status == status).map(|s| s.id.as_str()).collect()
    };
    let (given_up, open) = (ids(StoryStatus::GivenUp), ids(StoryStatus::Open));
    let mut reason = format!("Given up: {}", list(&given_up));
    if !open.is_empty() {
        reason.push_str(&format!("; waiting for them: {}", list(&open)));
    }
    reason
}

/// Ten ids at most.
fn list(ids: &[&str]) -> String {
    let shown = ids.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    match ids.len() {
        0 => "none".to_owned(),
        1..=10 => shown,
        more => format!("{shown} and {} more", more - 10),
    }
}
