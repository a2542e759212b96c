//! A commit with some paths as they were before.

use std::collections::BTreeSet;
use std::path::Path;

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};

use crate::git::Git;
use crate::message::CommitMessage;

impl Git {
    /// A commit on top of `commit` whose tree is that of `commit` with each of `paths` (a file, or a
    /// directory with everything in it) as in `original`, absent where `original` lacks it. The same
    /// arguments give the same id. Nothing refers to it.
    ///
    /// # Errors
    /// `NotFound` when a commit does not exist.
    pub async fn overlay(&self, bare: &Path, commit: &str, original: &str, paths: &[String]) -> Result<String> {
        let message = CommitMessage::new(format!("test: checks as in {}", original.get(..12).unwrap_or(original)));
        self.restore(bare, commit, original, paths, &message).await
    }

    /// As [`overlay`](Self::overlay), with a message of the caller's: for what stays in the history.
    ///
    /// # Errors
    /// `NotFound` when a commit does not exist.
    pub async fn restore(
        &self,
        bare: &Path,
        commit: &str,
        original: &str,
        paths: &[String],
        message: &CommitMessage,
    ) -> Result<String> {
        let (now, before) = (self.tree(bare, commit).await?, self.tree(bare, original).await?);
        let wanted: BTreeSet<&[u8]> = paths.iter().map(|p| p.trim_end_matches('/').as_bytes()).collect();
        let restored: Vec<_> = before.iter().filter(|e| named(&e.path, &wanted)).collect();
        let null = "0".repeat(commit.len());
        let mut lines: Vec<u8> = Vec::new();
        for entry in &now {
            // Also a file where the original has a directory of the same name.
            let in_the_way = restored.iter().any(|r| r.path.len() > entry.path.len() && below(&r.path, &entry.path));
            if named(&entry.path, &wanted) || in_the_way {
                lines.extend_from_slice(format!("0 {null}\t").as_bytes());
                lines.extend_from_slice(&entry.path);
                lines.push(0);
            }
        }
        for entry in &restored {
            lines.extend_from_slice(format!("{:06o} {}\t", entry.mode, entry.id).as_bytes());
            lines.extend_from_slice(&entry.path);
            lines.push(0);
        }
        let scratch = tempfile::tempdir().context(ErrorKind::Internal, "Could not make a temporary directory")?;
        let index = scratch.path().join("index");
        let call = |args: &[&str]| self.call(bare, args).env("GIT_INDEX_FILE", &index);
        call(&["read-tree", commit]).ok().await?;
        call(&["update-index", "-z", "--add", "--replace", "--index-info"]).stdin(lines).ok().await?;
        let tree = String::from_utf8_lossy(&call(&["write-tree"]).ok().await?).trim().to_owned();
        let date = self.call(bare, ["show", "-s", "--format=%ct", commit]).ok().await?;
        let date: u64 = String::from_utf8_lossy(&date)
            .trim()
            .parse()
            .map_err(|e| Error::internal("git show answered in an unknown form").because(e))?;
        self.commit_tree(bare, &tree, &[commit], message, Some(date)).await
    }
}

/// Whether one of `wanted` is the path or a directory above it.
fn named(path: &[u8], wanted: &BTreeSet<&[u8]>) -> bool {
    wanted.contains(path) || path.iter().enumerate().any(|(at, b)| *b == b'/' && wanted.contains(&path[..at]))
}

fn below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}
