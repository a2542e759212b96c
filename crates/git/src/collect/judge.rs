//! What a changed tree may not hold. Pure, but for reading the contents of links and sizes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use cove_core::Result;

use super::Bounds;
use crate::change::{Change, RawChange};
use crate::git::Git;
use crate::name::shown_bytes;
use crate::object::TreeEntry;

/// Longest link target that Linux follows.
const LINK_BYTES: u64 = 4095;
/// Links followed while resolving one, as the kernel does.
const HOPS: usize = 40;

/// One sentence for each thing that speaks against the change.
pub(super) async fn judge(
    git: &Git,
    repo: &Path,
    base: &[TreeEntry],
    changes: &[RawChange],
    bounds: &Bounds,
) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    for change in changes {
        refused.extend(judge_change(change));
    }
    refused.extend(collisions(base, changes));
    let blobs: Vec<&RawChange> = changes.iter().filter(|c| is_blob(c.new_mode)).collect();
    let ids: Vec<String> = blobs.iter().map(|c| c.new_id.clone()).collect();
    let sizes = git.sizes(repo, &ids).await?;
    let mut long_links = HashSet::new();
    for (change, size) in blobs.iter().zip(sizes) {
        if change.new_mode == Change::LINK && size > LINK_BYTES {
            long_links.insert(change.path.as_slice());
            refused.push(format!("The link {} has a target longer than {LINK_BYTES} bytes", shown_bytes(&change.path)));
        } else if size > bounds.file_bytes {
            refused.push(format!("{} is larger than {} bytes", shown_bytes(&change.path), bounds.file_bytes));
        }
    }
    refused.extend(links(git, repo, base, changes, &long_links).await?);
    Ok(refused)
}

fn is_blob(mode: u32) -> bool {
    mode != 0 && mode != Change::SUBMODULE
}

fn judge_change(change: &RawChange) -> Option<String> {
    if change.new_mode == 0 {
        return None;
    }
    let path = shown_bytes(&change.path);
    let name = change.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    if change.new_mode == Change::SUBMODULE {
        return Some(format!("{path} is a submodule; adding or moving one is left to people"));
    }
    if !matches!(change.new_mode, 0o100_644 | 0o100_755 | Change::LINK) {
        return Some(format!("{path} has the mode {:o}", change.new_mode));
    }
    if std::str::from_utf8(&change.path).is_err() {
        return Some(format!("{path} has a name that is not UTF-8"));
    }
    if change.path.iter().any(|b| b.is_ascii_control()) {
        return Some(format!("{path} has a name with control characters"));
    }
    if change.path.split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..") || means_git(part)) {
        return Some(format!("{path} has a name that some systems take for .git or for another directory"));
    }
    if is_like(name, b".gitmodules") {
        return Some(format!("{path} changes submodules; that is left to people"));
    }
    None
}

/// Whether some file system takes the name for `.git`: other case, trailing dots and spaces, an NTFS
/// stream or short name, or characters that HFS+ ignores.
pub(super) fn means_git(name: &[u8]) -> bool {
    is_like(name, b".git") || name.eq_ignore_ascii_case(b"git~1")
}

fn is_like(name: &[u8], wanted: &[u8]) -> bool {
    let visible: Vec<u8> = match std::str::from_utf8(name) {
        Ok(text) => text
            .chars()
            .filter(|c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'))
            .collect::<String>()
            .into_bytes(),
        Err(_) => name.to_vec(),
    };
    let end = visible.iter().position(|b| matches!(b, b':' | b'\\')).unwrap_or(visible.len());
    let end = visible[..end].iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |at| at + 1);
    visible[..end].eq_ignore_ascii_case(wanted)
}

/// Paths that the change brings and that differ from another path only in case (directories too).
fn collisions(base: &[TreeEntry], changes: &[RawChange]) -> Vec<String> {
    let added: Vec<&[u8]> =
        changes.iter().filter(|c| c.old_mode == 0 && c.new_mode != 0).map(|c| c.path.as_slice()).collect();
    if added.is_empty() {
        return Vec::new();
    }
    let removed: HashSet<&[u8]> = changes.iter().filter(|c| c.new_mode == 0).map(|c| c.path.as_slice()).collect();
    let fold = |path: &[u8]| String::from_utf8_lossy(path).to_lowercase();
    let mut spelled: HashMap<String, Vec<u8>> = HashMap::new();
    for entry in base.iter().filter(|e| !removed.contains(e.path.as_slice())) {
        for prefix in prefixes(&entry.path) {
            spelled.entry(fold(prefix)).or_insert_with(|| prefix.to_vec());
        }
    }
    let mut out = Vec::new();
    for path in added {
        for prefix in prefixes(path) {
            let known = spelled.entry(fold(prefix)).or_insert_with(|| prefix.to_vec());
            if known != prefix {
                out.push(format!("{} and {} differ only in case", shown_bytes(prefix), shown_bytes(known)));
                break;
            }
        }
    }
    out
}

/// The path and every directory above it.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let cuts = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    cuts.chain([path.len()]).map(|at| &path[..at])
}

/// Links that lead out of the tree, or into a `.git`, and did not before.
async fn links(
    git: &Git,
    repo: &Path,
    base: &[TreeEntry],
    changes: &[RawChange],
    unread: &HashSet<&[u8]>,
) -> Result<Vec<String>> {
    let before: BTreeMap<&[u8], &str> =
        base.iter().filter(|e| e.mode == Change::LINK).map(|e| (e.path.as_slice(), e.id.as_str())).collect();
    let mut after = before.clone();
    for change in changes {
        after.remove(change.path.as_slice());
        if change.new_mode == Change::LINK && !unread.contains(change.path.as_slice()) {
            after.insert(change.path.as_slice(), change.new_id.as_str());
        }
    }
    if after.is_empty() {
        return Ok(Vec::new());
    }
    let mut ids: Vec<String> = before.values().chain(after.values()).map(|id| (*id).to_owned()).collect();
    ids.sort();
    ids.dedup();
    let contents = git.blobs(repo, &ids, 256 << 20).await?;
    let targets: HashMap<&str, &[u8]> =
        ids.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice)).collect();
    let resolved = |links: &BTreeMap<&[u8], &str>| -> Links {
        links.iter().filter_map(|(path, id)| Some((path.to_vec(), targets.get(id)?.to_vec()))).collect()
    };
    let (old, new) = (resolved(&before), resolved(&after));
    let changed: HashSet<&[u8]> = changes.iter().map(|c| c.path.as_slice()).collect();
    Ok(new
        .iter()
        .filter(|(path, _)| changed.contains(path.as_slice()) || leaves(&old, path).is_none())
        .filter_map(|(path, target)| {
            let why = leaves(&new, path)?;
            Some(format!("The link {} -> {} {why}", shown_bytes(path), shown_bytes(target)))
        })
        .collect())
}

type Links = BTreeMap<Vec<u8>, Vec<u8>>;

/// Follows a link through the tree's other links as the kernel would, and says where it leaves it.
/// Names that are not in the tree count as plain directories.
fn leaves(links: &Links, path: &[u8]) -> Option<&'static str> {
    let mut at: Vec<&[u8]> = Vec::new();
    let mut todo: Vec<&[u8]> = path.split(|b| *b == b'/').rev().collect();
    let mut hops = 0;
    while let Some(part) = todo.pop() {
        match part {
            b"" | b"." => continue,
            b".." => {
                if at.pop().is_none() {
                    return Some("leads out of the tree");
                }
                continue;
            }
            _ if means_git(part) => return Some("leads into a Git directory"),
            _ => at.push(part),
        }
        let here = at.join(&b'/');
        let Some(target) = links.get(&here) else { continue };
        hops += 1;
        if hops > HOPS {
            // A circle leads nowhere.
            return None;
        }
        if target.is_empty() || target.contains(&0) {
            return Some("has no target that can be followed");
        }
        if target[0] == b'/' {
            return Some("leads to an absolute path");
        }
        at.pop();
        todo.extend(target.split(|b| *b == b'/').rev());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_git() {
        for bad in [
            ".git",
            ".GIT",
            ".Git",
            ".git.",
            ".git ",
            ".git. .",
            "git~1",
            "GIT~1",
            ".git:x",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".gi\u{202e}t",
            ".git\\x",
        ] {
            assert!(means_git(bad.as_bytes()), "{bad:?}");
        }
        for good in ["git", ".gitignore", ".github", ".gitattributes", "git~2", "a.git", "..git", ".git-keep", "", "."]
        {
            assert!(!means_git(good.as_bytes()), "{good:?}");
        }
    }

    #[test]
    fn links_are_followed_through_links() {
        let links = |all: &[(&str, &str)]| -> Links {
            all.iter().map(|(a, b)| (a.as_bytes().to_vec(), b.as_bytes().to_vec())).collect()
        };
        for (tree, path, leaves_it) in [
            (links(&[("a", "b")]), "a", false),
            (links(&[("a", "missing/x/../y")]), "a", false),
            (links(&[("d/a", "../b")]), "d/a", false),
            (links(&[("a", "..")]), "a", true),
            (links(&[("d/a", "../../b")]), "d/a", true),
            (links(&[("a", "/etc/passwd")]), "a", true),
            (links(&[("a", "/")]), "a", true),
            (links(&[("a", ".")]), "a", false),
            (links(&[("a", "a")]), "a", false),
            (links(&[("a", "b"), ("b", "a")]), "a", false),
            (links(&[("a", "b/x"), ("b", "/")]), "a", true),
            // Lexically d/e/l/.. is d/e; followed, l is the root and `..` leaves it.
            (links(&[("d/e/l", "../.."), ("y", "d/e/l/..")]), "y", true),
            (links(&[("d/e/l", "../.."), ("y", "d/e/l/d")]), "y", false),
            (links(&[("a", ".git/config")]), "a", true),
            (links(&[("a", "x/.GIT/hooks")]), "a", true),
            (links(&[("a", "")]), "a", true),
        ] {
            assert_eq!(leaves(&tree, path.as_bytes()).is_some(), leaves_it, "{tree:?} {path}");
        }
    }

    #[test]
    fn only_new_case_collisions_count() {
        let entry = |p: &str| TreeEntry { path: p.into(), mode: 0o100_644, id: String::new() };
        let change = |p: &str, old, new| RawChange {
            path: p.into(),
            status: crate::ChangeStatus::Added,
            old_mode: old,
            new_mode: new,
            new_id: String::new(),
        };
        let base = [entry("README"), entry("readme"), entry("Src/a")];
        for (changes, count) in [
            (vec![change("x", 0, 0o100_644)], 0),
            (vec![change("readMe", 0, 0o100_644)], 1),
            (vec![change("src/b", 0, 0o100_644)], 1),
            (vec![change("Src/b", 0, 0o100_644)], 0),
            (vec![change("Src/a", 0o100_644, 0), change("src/a", 0, 0o100_644)], 0),
            (vec![change("n", 0, 0o100_644), change("N", 0, 0o100_644)], 1),
        ] {
            assert_eq!(collisions(&base, &changes).len(), count, "{changes:?}");
        }
    }
}
