//! What differs between two commits.

use std::path::Path;

use cove_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::git::Git;
use crate::name;

/// One path that differs between two commits. Renames are a removal and an addition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Path from the root of the repository. Bytes that are not UTF-8 appear as U+FFFD.
    pub path: String,
    /// What happened to it.
    pub status: ChangeStatus,
    /// Mode before, as git writes it (`0o100644`, `0o100755`, `0o120000` link, `0o160000` submodule); 0 when added.
    pub old_mode: u32,
    /// Mode after; 0 when removed.
    pub new_mode: u32,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ChangeStatus {
    /// It is new.
    Added,
    /// Its content or its executable bit differ.
    Modified,
    /// It is gone.
    Removed,
    /// It became another kind of thing (a file became a link).
    TypeChanged,
}

impl Change {
    /// Mode of a symbolic link.
    pub const LINK: u32 = 0o120_000;
    /// Mode of a submodule.
    pub const SUBMODULE: u32 = 0o160_000;
}

/// A change with what only this crate needs.
#[derive(Debug, Clone)]
pub(crate) struct RawChange {
    pub path: Vec<u8>,
    pub status: ChangeStatus,
    pub old_mode: u32,
    pub new_mode: u32,
    pub new_id: String,
}

impl RawChange {
    pub(crate) fn public(&self) -> Change {
        Change {
            path: String::from_utf8_lossy(&self.path).into_owned(),
            status: self.status,
            old_mode: self.old_mode,
            new_mode: self.new_mode,
        }
    }
}

impl Git {
    /// The paths that differ between two commits, in order of path.
    pub async fn changes(&self, bare: &Path, base: &str, commit: &str) -> Result<Vec<Change>> {
        Ok(self.raw_changes(bare, base, commit).await?.iter().map(RawChange::public).collect())
    }

    pub(crate) async fn raw_changes(&self, repo: &Path, base: &str, commit: &str) -> Result<Vec<RawChange>> {
        name::check_id(base)?;
        name::check_id(commit)?;
        let out = self
            .call(repo, ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", base, commit])
            .hostile()
            .ok()
            .await?;
        parse_raw(&out).ok_or_else(|| Error::internal("git diff-tree answered in an unknown form"))
    }

    /// The difference as a unified text for people, at most `bound` bytes and a last line that says
    /// so when it was cut.
    pub async fn diff(&self, bare: &Path, base: &str, commit: &str, bound: usize) -> Result<Vec<u8>> {
        name::check_id(base)?;
        name::check_id(commit)?;
        let args = ["diff", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=none", base, commit];
        let outcome = self.call(bare, args).truncate(bound).run().await?;
        if outcome.truncated {
            let mut text = outcome.stdout;
            let end = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            text.truncate(end);
            text.extend_from_slice(
                format!("# The difference is longer than {bound} bytes; the rest is left out.\n").as_bytes(),
            );
            return Ok(text);
        }
        if outcome.code != 0 {
            return Err(outcome.error(cove_core::ErrorKind::Internal, "git diff failed"));
        }
        Ok(outcome.stdout)
    }
}

/// `:old new oldid newid S\0path\0` …
fn parse_raw(out: &[u8]) -> Option<Vec<RawChange>> {
    let mut fields = out.split(|b| *b == 0);
    let mut all = Vec::new();
    while let Some(head) = fields.next() {
        if head.is_empty() {
            break;
        }
        let head = std::str::from_utf8(head).ok()?.strip_prefix(':')?;
        let parts: Vec<&str> = head.split(' ').collect();
        let [old, new, _, new_id, status] = parts[..] else { return None };
        all.push(RawChange {
            path: fields.next()?.to_vec(),
            old_mode: u32::from_str_radix(old, 8).ok()?,
            new_mode: u32::from_str_radix(new, 8).ok()?,
            new_id: new_id.to_owned(),
            status: match status.as_bytes().first()? {
                b'A' => ChangeStatus::Added,
                b'D' => ChangeStatus::Removed,
                b'T' => ChangeStatus::TypeChanged,
                _ => ChangeStatus::Modified,
            },
        });
    }
    Some(all)
}
