//! A fresh clone for a sandbox.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};

use crate::git::Git;
use crate::message::COVE;
use crate::name;

/// Files are what the objects hold, byte for byte: no line-end, encoding, keyword or filter
/// conversion, neither here nor in the sandbox's git. What is collected is compared byte for byte too.
pub(crate) const ATTRIBUTES: &str = "* -text !eol -ident !filter !working-tree-encoding\n";

impl Git {
    /// Makes an independent clone of `bare` at `into` (absent or empty) with `commit` checked out
    /// on a local branch `branch`. It shares no inode with `bare`, has no remote, no hooks, no
    /// alternates, and an identity for commits. Submodules are empty directories.
    ///
    /// # Errors
    /// `Conflict` when `into` has content, `NotFound` when the commit does not exist.
    pub async fn checkout(&self, bare: &Path, commit: &str, branch: &str, into: &Path) -> Result<()> {
        self.check_out(bare, commit, branch, into, Packs::Copied).await
    }

    pub(crate) async fn check_out(
        &self,
        bare: &Path,
        commit: &str,
        branch: &str,
        into: &Path,
        packs: Packs,
    ) -> Result<()> {
        name::check_id(commit)?;
        let full = name::branch_ref(branch)?;
        let (from, to, id) = (bare.to_owned(), into.to_owned(), commit.to_owned());
        tokio::task::spawn_blocking(move || lay_out(&from, &to, &id, &full, packs))
            .await
            .context(ErrorKind::Internal, "The checkout was cut off")??;
        let git_dir = into.join(".git");
        let outcome = self
            .call(into, ["read-tree", "-u", "--reset", commit])
            .env("GIT_DIR", &git_dir)
            .env("GIT_WORK_TREE", into)
            .run()
            .await?;
        if outcome.code != 0 {
            let kind = if outcome.stderr.contains("failed to unpack tree object") {
                ErrorKind::NotFound
            } else {
                ErrorKind::Internal
            };
            return Err(outcome.error(kind, format!("The commit {commit} could not be checked out")));
        }
        Ok(())
    }
}

/// How a clone gets the packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packs {
    /// As files of its own, for a clone that is written to.
    Copied,
    /// As further names of the same files where the file system allows it, for one that never is.
    Linked,
}

fn lay_out(bare: &Path, into: &Path, commit: &str, branch: &str, packs: Packs) -> Result<()> {
    let made = || -> io::Result<bool> {
        fs::create_dir_all(into)?;
        if fs::read_dir(into)?.next().is_some() {
            return Ok(false);
        }
        let git = into.join(".git");
        for dir in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "info", "logs"] {
            fs::create_dir_all(git.join(dir))?;
        }
        copy_objects(&bare.join("objects"), &git.join("objects"), packs, &|_| false)?;
        if bare.join("shallow").is_file() {
            fs::copy(bare.join("shallow"), git.join("shallow"))?;
        }
        fs::write(git.join("config"), config(commit.len()))?;
        fs::write(git.join("info/attributes"), ATTRIBUTES)?;
        fs::write(git.join("packed-refs"), format!("{commit} {branch}\n"))?;
        fs::write(git.join("HEAD"), format!("ref: {branch}\n"))?;
        Ok(true)
    };
    match made() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(ErrorKind::Conflict, format!("{} is not empty", into.display()))),
        Err(e) => Err(Error::internal(format!("Could not lay out {}", into.display())).because(e)),
    }
}

fn config(id_length: usize) -> String {
    let (version, extension) = if id_length == 64 { (1, "[extensions]\n\tobjectformat = sha256\n") } else { (0, "") };
    format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
         \tcheckstat = minimal\n\ttrustctime = false\n{extension}[user]\n\tname = {}\n\temail = {}\n[commit]\n\tgpgsign = false\n[gc]\n\tauto = 0\n\
         [maintenance]\n\tauto = false\n",
        COVE.0, COVE.1
    )
}

/// Copies packs (index last, so that a pack is complete when it is seen) and loose objects. Copies,
/// never links, where a sandbox can write to what it gets. What `known` says of a path below `objects`
/// is left out.
pub(crate) fn copy_objects(from: &Path, to: &Path, packs: Packs, known: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    let take = |file: &Path, place: &str| -> io::Result<()> {
        let Some(name) = file.file_name() else { return Ok(()) };
        if known(&Path::new(place).join(name)) {
            return Ok(());
        }
        let target = to.join(place);
        fs::create_dir_all(&target)?;
        if packs == Packs::Linked && fs::hard_link(file, target.join(name)).is_ok() {
            return Ok(());
        }
        fs::copy(file, target.join(name)).map(drop)
    };
    let mut indexes: Vec<PathBuf> = Vec::new();
    for entry in read_dir_if_present(&from.join("pack"))? {
        let path = entry?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("idx") => indexes.push(path),
            Some("pack") => take(&path, "pack")?,
            _ => {}
        }
    }
    for path in indexes {
        // An index whose pack came after the listing would claim what is not there.
        let pack = Path::new("pack").join(path.with_extension("pack").file_name().unwrap_or_default());
        if to.join(&pack).exists() {
            take(&path, "pack")?;
        }
    }
    for entry in read_dir_if_present(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_fan = name.len() == 2 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
        if !is_fan {
            continue;
        }
        let fan = name.to_string_lossy();
        for object in fs::read_dir(entry.path())? {
            let object = object?;
            // `tmp_obj_…` is being written by another process.
            if object.file_name().as_encoded_bytes().iter().all(u8::is_ascii_hexdigit) {
                take(&object.path(), &fan)?;
            }
        }
    }
    Ok(())
}

fn read_dir_if_present(dir: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<fs::DirEntry>>>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(Box::new(entries)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        Err(e) => Err(e),
    }
}
