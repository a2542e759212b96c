//! The tree's own `.gitignore` files. The clone's `info/exclude` and any host-wide file do not count.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::place::Place;
use cove_core::Result;

const FILE_BYTES: u64 = 1 << 20;
const LINES: usize = 20_000;

/// The patterns in force in one directory: its own before those above.
pub(super) struct Patterns {
    own: Gitignore,
    /// Length of the directory's path with its slash.
    prefix: usize,
    above: Option<Arc<Patterns>>,
}

/// The patterns for a directory, given those above it.
pub(super) fn patterns(dir: &Place, path: &[u8], above: Option<Arc<Patterns>>) -> Result<Option<Arc<Patterns>>> {
    let Some(text) = dir.small(b".gitignore", FILE_BYTES)? else { return Ok(above) };
    let mut builder = GitignoreBuilder::new("");
    let text = String::from_utf8_lossy(&text);
    for line in text.trim_start_matches('\u{feff}').lines().take(LINES) {
        // A line that is no pattern matches nothing, as in git.
        let _ = builder.add_line(None, line);
    }
    let Ok(own) = builder.build() else { return Ok(above) };
    let prefix = if path.is_empty() { 0 } else { path.len() + 1 };
    Ok(Some(Arc::new(Patterns { own, prefix, above })))
}

/// Whether a path (from the root of the tree) is ignored, its directories not being so.
pub(super) fn is_ignored(patterns: Option<&Arc<Patterns>>, path: &[u8], is_dir: bool) -> bool {
    let mut level = patterns;
    while let Some(patterns) = level {
        let below = Path::new(OsStr::from_bytes(&path[patterns.prefix..]));
        match patterns.own.matched(below, is_dir) {
            Match::Ignore(_) => return true,
            Match::Whitelist(_) => return false,
            Match::None => level = patterns.above.as_ref(),
        }
    }
    false
}
