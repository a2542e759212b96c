//! The edits as a stream for git-fast-import(1). Contents are counted, paths quoted, so that no
//! byte of the workspace can end a field.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};

use super::place::{Place, View};
use super::survey::Edit;
use super::{Bounds, Quarantine};
use crate::message::CommitMessage;
use crate::name::shown_bytes;

/// Writes the stream to the file `spool` and returns it at its start. The import prints the commit's id.
pub(super) fn stream(
    workspace: &View,
    edits: &[Edit],
    parent: &str,
    message: &CommitMessage,
    spool: &Path,
    bounds: &Bounds,
) -> Result<File> {
    let root = Place::root(workspace)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(spool)
        .context(ErrorKind::Internal, "Could not write in the quarantine")?;
    let mut out = Stream { to: BufWriter::with_capacity(256 << 10, file), left: bounds.total_bytes };
    out.head(parent, message).map_err(write_failure)?;
    let mut place: Option<(Vec<u8>, Option<Place>)> = None;
    for edit in edits {
        let path = match edit {
            Edit::Remove(path) => {
                out.line(b"D ", path).map_err(write_failure)?;
                continue;
            }
            Edit::Write(path) => path,
        };
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path.as_slice()),
        };
        if place.as_ref().is_none_or(|(at, _)| at != dir) {
            place = Some((dir.to_vec(), root.dir_at(dir)?));
        }
        let Some((_, Some(here))) = &place else { continue };
        if let Some(found) = here.file(name)? {
            if found.size > bounds.file_bytes {
                return Err(Error::new(ErrorKind::Refused, format!("{} is too large", shown_bytes(path))));
            }
            let mode: &[u8] = if found.executable { b"M 100755 inline " } else { b"M 100644 inline " };
            out.line(mode, path).map_err(write_failure)?;
            out.content(found.file, found.size, path)?;
        } else if let Some(target) = here.link(name)? {
            out.line(b"M 120000 inline ", path).map_err(write_failure)?;
            out.content(target.as_slice(), target.len() as u64, path)?;
        }
    }
    out.to.write_all(b"\nget-mark :1\ndone\n").map_err(write_failure)?;
    let mut file = out.to.into_inner().map_err(|e| write_failure(e.into_error()))?;
    file.rewind().map_err(write_failure)?;
    Ok(file)
}

struct Stream {
    to: BufWriter<File>,
    left: u64,
}

impl Stream {
    fn head(&mut self, parent: &str, message: &CommitMessage) -> io::Result<()> {
        let (name, mail) = message.identity();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let text = message.text();
        let by = format!("{name} <{mail}> {seconds} +0000");
        write!(
            self.to,
            "commit {}\nmark :1\nauthor {by}\ncommitter {by}\ndata {}\n{text}\nfrom {parent}\n",
            Quarantine::REF,
            text.len()
        )
    }

    fn line(&mut self, command: &[u8], path: &[u8]) -> io::Result<()> {
        let mut line = command.to_vec();
        line.push(b'"');
        for byte in path {
            match byte {
                b'"' | b'\\' => line.extend([b'\\', *byte]),
                0x20..=0x7e => line.push(*byte),
                _ => line.extend(format!("\\{byte:03o}").into_bytes()),
            }
        }
        line.extend(b"\"\n");
        self.to.write_all(&line)
    }

    /// Exactly `size` bytes; refused when the source is shorter by now.
    fn content(&mut self, from: impl io::Read, size: u64, path: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(size).ok_or_else(|| {
            Error::new(ErrorKind::Refused, "The new and changed files together are larger than the bound")
                .next("Name generated files in .gitignore")
        })?;
        writeln!(self.to, "data {size}").map_err(write_failure)?;
        let copied = io::copy(&mut from.take(size), &mut self.to)
            .context(ErrorKind::Refused, format!("{} cannot be read", shown_bytes(path)))?;
        if copied != size {
            return Err(Error::new(ErrorKind::Refused, format!("{} changed while it was read", shown_bytes(path))));
        }
        self.to.write_all(b"\n").map_err(write_failure)
    }
}

fn write_failure(error: io::Error) -> Error {
    Error::internal("Could not write in the quarantine").because(error)
}
