//! Moving and joining branches of our bare repository.

use std::path::Path;

use cove_core::{Error, ErrorKind, Result};

use crate::git::Git;
use crate::message::CommitMessage;
use crate::name;

/// Result of [`Git::merge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// The commit that has both; one of the two itself when it already held the other.
    Commit(String),
    /// Paths that both changed differently.
    Conflict(Vec<String>),
}

impl Git {
    /// Moves a branch from `old` to `new`, or creates it when `old` is `None`, only if nobody moved
    /// it meanwhile.
    ///
    /// # Errors
    /// `Conflict` when the branch is elsewhere than `old`.
    pub async fn advance(&self, bare: &Path, branch: &str, old: Option<&str>, new: &str) -> Result<()> {
        let full = name::branch_ref(branch)?;
        name::check_id(new)?;
        let zero = "0".repeat(new.len());
        let old = old.unwrap_or(&zero);
        name::check_id(old)?;
        let outcome = self.call(bare, ["update-ref", "--no-deref", &full, new, old]).run().await?;
        if outcome.code == 0 {
            return Ok(());
        }
        let moved = ["but expected", "already exists", "unable to resolve reference", "cannot lock ref"];
        let kind = if moved.iter().any(|words| outcome.stderr.contains(words)) {
            ErrorKind::Conflict
        } else {
            ErrorKind::Internal
        };
        Err(outcome.error(kind, format!("The branch {branch} is not where it was")))
    }

    /// Joins `theirs` into `ours` without a work tree.
    ///
    /// # Errors
    /// `Unsupported` with a git older than 2.38, `Conflict` for histories without a common commit.
    pub async fn merge(&self, bare: &Path, ours: &str, theirs: &str, message: &CommitMessage) -> Result<Merged> {
        if self.contains(bare, ours, theirs).await? {
            return Ok(Merged::Commit(ours.to_owned()));
        }
        if self.contains(bare, theirs, ours).await? {
            return Ok(Merged::Commit(theirs.to_owned()));
        }
        if !self.at_least(Self::MERGES) {
            return Err(Error::new(ErrorKind::Unsupported, "This git cannot merge without a work tree")
                .next("Install git 2.38 or later, or run one story at a time"));
        }
        let args = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs];
        let outcome = self.call(bare, args).run().await?;
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let mut fields = text.split('\0').map(str::trim_end).filter(|f| !f.is_empty());
        let tree = fields.next().unwrap_or_default();
        match outcome.code {
            0 if name::is_id(tree) => {
                Ok(Merged::Commit(self.commit_tree(bare, tree, &[ours, theirs], message, None).await?))
            }
            1 if name::is_id(tree) => {
                let mut paths: Vec<String> = fields.map(str::to_owned).collect();
                paths.dedup();
                Ok(Merged::Conflict(paths))
            }
            _ if outcome.stderr.contains("unrelated histories") => {
                Err(outcome.error(ErrorKind::Conflict, "The two commits have no common history"))
            }
            _ => Err(outcome.error(ErrorKind::Internal, "git merge-tree failed")),
        }
    }

    /// Whether `ancestor` is `commit` or in its history.
    pub(crate) async fn contains(&self, repo: &Path, commit: &str, ancestor: &str) -> Result<bool> {
        name::check_id(commit)?;
        name::check_id(ancestor)?;
        let outcome = self.call(repo, ["merge-base", "--is-ancestor", ancestor, commit]).hostile().run().await?;
        match outcome.code {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(outcome.error(ErrorKind::Internal, "git merge-base failed")),
        }
    }

    /// A commit object of a tree; `date` in seconds since 1970, now when absent.
    pub(crate) async fn commit_tree(
        &self,
        repo: &Path,
        tree: &str,
        parents: &[&str],
        message: &CommitMessage,
        date: Option<u64>,
    ) -> Result<String> {
        let (author, mail) = message.identity();
        let mut call = self
            .call(repo, ["commit-tree", tree])
            .env("GIT_AUTHOR_NAME", &author)
            .env("GIT_AUTHOR_EMAIL", &mail)
            .env("GIT_COMMITTER_NAME", &author)
            .env("GIT_COMMITTER_EMAIL", &mail);
        if let Some(date) = date {
            let date = format!("@{date} +0000");
            call = call.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        }
        for parent in parents {
            call = call.arg("-p").arg(parent);
        }
        let out = call.stdin(message.text()).ok().await?;
        let id = String::from_utf8_lossy(&out).trim().to_owned();
        name::check_id(&id).map(|()| id)
    }
}
