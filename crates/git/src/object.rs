//! Reading trees and files of commits.

use std::path::Path;

use cove_core::{Error, ErrorKind, Result};

use crate::git::Git;
use crate::name;

/// One file, link or submodule of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeEntry {
    pub path: Vec<u8>,
    pub mode: u32,
    pub id: String,
}

impl Git {
    /// Every file, link and submodule of a commit by path, in git's order.
    pub async fn files(&self, bare: &Path, commit: &str) -> Result<Vec<String>> {
        let tree = self.tree(bare, commit).await?;
        Ok(tree.into_iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect())
    }

    /// The content of a regular file in a commit; `None` when there is none at this path.
    ///
    /// # Errors
    /// `Exhausted` when it is larger than `bound` bytes.
    pub async fn read(&self, bare: &Path, commit: &str, path: &str, bound: usize) -> Result<Option<Vec<u8>>> {
        name::check_id(commit)?;
        if path.is_empty() || path.contains('\0') {
            return Ok(None);
        }
        let out = self.call(bare, ["ls-tree", "-z", "--full-tree", commit, "--", path]).bound(1 << 20).ok().await?;
        let entries = parse_tree(&out)?;
        let Some(entry) = entries.into_iter().find(|e| e.path == path.as_bytes() && e.mode & 0o170_000 == 0o100_000)
        else {
            return Ok(None);
        };
        match self.call(bare, ["cat-file", "blob", &entry.id]).bound(bound).ok().await {
            Err(error) if error.kind() == ErrorKind::Exhausted => {
                Err(Error::new(ErrorKind::Exhausted, format!("{path} is larger than {bound} bytes")))
            }
            other => other.map(Some),
        }
    }

    /// In order of path. At most some 600,000 entries: a few objects can say that they are billions of files.
    pub(crate) async fn tree(&self, repo: &Path, commit: &str) -> Result<Vec<TreeEntry>> {
        name::check_id(commit)?;
        let out =
            self.call(repo, ["ls-tree", "-r", "-z", "--full-tree", commit]).hostile().bound(64 << 20).ok().await?;
        let mut entries = parse_tree(&out)?;
        // Always so, unless somebody made a tree by hand.
        if !entries.is_sorted_by(|a, b| a.path <= b.path) {
            entries.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Ok(entries)
    }

    /// Contents of blobs, in the order asked for; each at most `bound` bytes together.
    pub(crate) async fn blobs(&self, repo: &Path, ids: &[String], bound: usize) -> Result<Vec<Vec<u8>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let out =
            self.call(repo, ["cat-file", "--batch"]).stdin(ids.join("\n") + "\n").bound(bound).hostile().ok().await?;
        let mut rest = out.as_slice();
        let mut all = Vec::with_capacity(ids.len());
        for _ in ids {
            let (content, after) = batch_entry(rest).ok_or_else(|| Error::internal("git cat-file lacks an object"))?;
            all.push(content.to_vec());
            rest = after;
        }
        Ok(all)
    }

    /// Sizes of blobs in bytes, in the order asked for.
    pub(crate) async fn sizes(&self, repo: &Path, ids: &[String]) -> Result<Vec<u64>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let out =
            self.call(repo, ["cat-file", "--batch-check=%(objectsize)"]).stdin(ids.join("\n") + "\n").ok().await?;
        let text = String::from_utf8_lossy(&out);
        let sizes: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if sizes.len() != ids.len() {
            return Err(Error::internal("git cat-file lacks an object"));
        }
        Ok(sizes)
    }
}

/// `<id> blob <size>\n<content>\n`
fn batch_entry(out: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = out.iter().position(|b| *b == b'\n')?;
    let size: usize = std::str::from_utf8(&out[..end]).ok()?.rsplit(' ').next()?.parse().ok()?;
    let content = out.get(end + 1..end + 1 + size)?;
    Some((content, out.get(end + 2 + size..)?))
}

/// `<mode> <type> <id>\t<path>\0` …
pub(crate) fn parse_tree(out: &[u8]) -> Result<Vec<TreeEntry>> {
    let parse = |line: &[u8]| {
        let tab = line.iter().position(|b| *b == b'\t')?;
        let mut head = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
        let mode = u32::from_str_radix(head.next()?, 8).ok()?;
        let id = head.nth(1)?.to_owned();
        Some(TreeEntry { path: line[tab + 1..].to_vec(), mode, id })
    };
    out.split(|b| *b == 0)
        .filter(|line| !line.is_empty())
        .map(|line| parse(line).ok_or_else(|| Error::internal("git ls-tree answered in an unknown form")))
        .collect()
}
