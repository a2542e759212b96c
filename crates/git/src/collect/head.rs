//! The commit that a hostile clone's HEAD names, by our own reading of three plain formats.

use cove_core::Result;

use super::place::{Place, View};
use crate::name;

const REF_BYTES: u64 = 4096;
const PACKED_BYTES: u64 = 16 << 20;
/// Symbolic references followed.
const HOPS: usize = 5;

/// The commit id, or a sentence that says why there is none.
pub(super) fn read(workspace: &View) -> std::result::Result<String, String> {
    let unreadable = |e: cove_core::Error| format!("The workspace's history cannot be read ({})", e.chain().join(": "));
    let git = Place::root(workspace).and_then(|root| root.dir(b".git")).map_err(unreadable)?;
    let Some(git) = git else { return Err("The workspace's .git is no directory any more".to_owned()) };
    let mut text = git.small(b"HEAD", REF_BYTES).map_err(unreadable)?;
    for _ in 0..HOPS {
        let Some(found) = text else { return Err("The workspace's HEAD names no commit".to_owned()) };
        let found = String::from_utf8_lossy(&found).trim_end().to_owned();
        if name::is_id(&found) {
            return Ok(found);
        }
        let Some(target) = found.strip_prefix("ref:").map(str::trim).filter(|t| name::is_ref(t)) else {
            return Err("The workspace's HEAD is malformed".to_owned());
        };
        text = reference(&git, target).map_err(unreadable)?;
    }
    Err("The workspace's HEAD goes in circles".to_owned())
}

/// Content of a reference: its own file, else its line in `packed-refs`.
fn reference(git: &Place, target: &str) -> Result<Option<Vec<u8>>> {
    if let Some((dir, file)) = target.rsplit_once('/')
        && let Some(place) = git.dir_at(dir.as_bytes())?
        && let Some(text) = place.small(file.as_bytes(), REF_BYTES)?
    {
        return Ok(Some(text));
    }
    let Some(packed) = git.small(b"packed-refs", PACKED_BYTES)? else { return Ok(None) };
    let line = packed.split(|b| *b == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?.trim_end();
        let (id, found) = line.split_once(' ')?;
        (found == target && name::is_id(id)).then(|| id.as_bytes().to_vec())
    });
    Ok(line)
}
