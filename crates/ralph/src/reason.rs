//! Why work is not accepted: one code a reason, stable, for the ledger and for those who read it by program.

use cove_core::{AttemptId, Fact};

/// A reason. Its [`code`](Self::code) never changes once released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing differs from where the attempt began, the runner's own files left out.
    NoChange,
    /// The agent's program said that it failed, or ended with an error.
    AgentFailed,
    /// The agent was ended at the bound of an attempt's time.
    AgentTimedOut,
    /// The agent was ended after a long silence.
    AgentIdle,
    /// The agent was ended at the bound of turns.
    AgentTurns,
    /// The agent was ended because of what it wrote to its output.
    AgentFlood,
    /// A check failed on the work as it is.
    CheckFailed,
    /// A check ran into its time limit.
    CheckTimedOut,
    /// A check's program is not there or cannot be run.
    CheckNotRun,
    /// The checks pass with the files that the work changed, and not with the ones before it.
    OriginalChecksFailed,
    /// The checks pass with files that earlier stories changed, and not with those of the run's base.
    FirstChecksFailed,
    /// Fewer tests ran than on the run's base.
    FewerTests,
    /// A test that must fail was planted, and the check passed or did not report it.
    CheckCannotFail,
    /// The workspace holds what cannot be taken: links that lead out, too much, names that mean `.git`.
    NotTakeable,
    /// It writes where git keeps its own, or sets programs that git runs.
    GitTakeover,
    /// It adds or moves a submodule, or changes where one comes from.
    Submodule,
    /// A new module takes the name of one that checks import from elsewhere.
    ModuleShadowed,
    /// A dependency that was there comes from another place now.
    DependencyRedirected,
    /// A lock file names another source for a package that it had.
    LockRedirected,
    /// Stories accepted meanwhile changed the same places.
    Conflict,
}

impl Reason {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 20] = [
        Self::NoChange,
        Self::AgentFailed,
        Self::AgentTimedOut,
        Self::AgentIdle,
        Self::AgentTurns,
        Self::AgentFlood,
        Self::CheckFailed,
        Self::CheckTimedOut,
        Self::CheckNotRun,
        Self::OriginalChecksFailed,
        Self::FirstChecksFailed,
        Self::FewerTests,
        Self::CheckCannotFail,
        Self::NotTakeable,
        Self::GitTakeover,
        Self::Submodule,
        Self::ModuleShadowed,
        Self::DependencyRedirected,
        Self::LockRedirected,
        Self::Conflict,
    ];

    /// The code in the ledger.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoChange => "no-change",
            Self::AgentFailed => "agent-failed",
            Self::AgentTimedOut => "agent-timed-out",
            Self::AgentIdle => "agent-idle",
            Self::AgentTurns => "agent-turns",
            Self::AgentFlood => "agent-flood",
            Self::CheckFailed => "check-failed",
            Self::CheckTimedOut => "check-timed-out",
            Self::CheckNotRun => "check-not-run",
            Self::OriginalChecksFailed => "original-checks-failed",
            Self::FirstChecksFailed => "first-checks-failed",
            Self::FewerTests => "fewer-tests",
            Self::CheckCannotFail => "check-cannot-fail",
            Self::NotTakeable => "not-takeable",
            Self::GitTakeover => "git-takeover",
            Self::Submodule => "submodule",
            Self::ModuleShadowed => "module-shadowed",
            Self::DependencyRedirected => "dependency-redirected",
            Self::LockRedirected => "lock-redirected",
            Self::Conflict => "conflict",
        }
    }
}

/// A reason with its sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub reason: Reason,
    /// One sentence for a person.
    pub text: String,
}

impl Refusal {
    /// A reason in words.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    pub(crate) fn fact(&self, attempt: &AttemptId) -> Fact {
        Fact::Refusal { attempt: attempt.clone(), code: self.reason.code().to_owned(), text: self.text.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_there_once_and_explained() {
        let codes: std::collections::BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        let page = include_str!("../../../docs/gates.md");
        for code in codes {
            assert!(page.contains(&format!("| `{code}` |")), "docs/gates.md does not explain {code}");
        }
    }
}
