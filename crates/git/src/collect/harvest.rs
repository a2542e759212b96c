//! Copying a hostile clone's objects: loose objects and packs, regular files with an object's name,
//! nothing else (no indexes, alternates, commit graphs, promisor or keep marks).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};

use super::Bounds;
use super::place::{Entry, Kind, Place, View};

/// Copies what `bare` lacks into the quarantine and returns the packs that need an index.
pub(super) fn copy(workspace: &View, bare: &Path, quarantine: &Path, bounds: &Bounds) -> Result<Vec<PathBuf>> {
    let mut packs = Vec::new();
    let Some(objects) = Place::root(workspace)?.dir_at(b".git/objects")? else { return Ok(packs) };
    let mut budget = Budget { files: bounds.objects, bytes: bounds.total_bytes };
    for Entry { name: fan, kind, .. } in objects.entries(4096)? {
        if kind != Kind::Directory || fan.len() != 2 || !is_hex(&fan) {
            continue;
        }
        let Some(dir) = objects.dir(&fan)? else { continue };
        let fan = String::from_utf8_lossy(&fan).into_owned();
        for Entry { name, kind, .. } in dir.entries(budget.files)? {
            if kind != Kind::File || !matches!(name.len(), 38 | 62) || !is_hex(&name) {
                continue;
            }
            let at = Path::new("objects").join(&fan).join(String::from_utf8_lossy(&name).as_ref());
            if bare.join(&at).exists() {
                continue;
            }
            fs::create_dir_all(quarantine.join("objects").join(&fan)).map_err(write_failure)?;
            take(&dir, &name, &quarantine.join(at), &mut budget)?;
        }
    }
    if let Some(dir) = objects.dir(b"pack")? {
        for Entry { name, kind, .. } in dir.entries(100_000)? {
            if kind != Kind::File || !is_pack(&name) {
                continue;
            }
            let at = Path::new("objects/pack").join(String::from_utf8_lossy(&name).as_ref());
            // A pack of ours by name: ours counts, whatever the clone's file holds by now.
            if bare.join(&at).exists() {
                continue;
            }
            if take(&dir, &name, &quarantine.join(&at), &mut budget)? {
                packs.push(quarantine.join(at));
            }
        }
    }
    Ok(packs)
}

struct Budget {
    files: usize,
    bytes: u64,
}

fn take(dir: &Place, name: &[u8], to: &Path, budget: &mut Budget) -> Result<bool> {
    let Some(found) = dir.file(name)? else { return Ok(false) };
    budget.files = budget.files.checked_sub(1).ok_or_else(too_much)?;
    let mut target = File::create_new(to).map_err(write_failure)?;
    let copied = io::copy(&mut found.file.take(budget.bytes.saturating_add(1)), &mut target)
        .context(ErrorKind::Refused, "An object of the workspace cannot be copied")?;
    budget.bytes = budget.bytes.checked_sub(copied).ok_or_else(too_much)?;
    Ok(true)
}

fn too_much() -> Error {
    Error::new(ErrorKind::Refused, "The workspace's repository holds more new objects than the bound")
}

fn write_failure(error: io::Error) -> Error {
    Error::internal("Could not write in the quarantine").because(error)
}

fn is_hex(name: &[u8]) -> bool {
    name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_pack(name: &[u8]) -> bool {
    name.strip_prefix(b"pack-")
        .and_then(|rest| rest.strip_suffix(b".pack"))
        .is_some_and(|id| matches!(id.len(), 40 | 64) && is_hex(id))
}
