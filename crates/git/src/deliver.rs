//! Work goes back to the user: into their repository, or into a file.

use std::path::Path;
use std::time::Duration;

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::git::Git;
use crate::name;

const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// What [`Git::deliver`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// The branch in the user's repository.
    pub branch: String,
    /// The commit it is at now.
    pub commit: String,
    /// Where it was before; absent when it is new.
    pub previous: Option<String>,
    /// Whether the work tree shows it now.
    pub switched: bool,
}

impl Git {
    /// Brings a branch of ours into the user's repository under the same name: created, or moved
    /// forward, never forced. The work tree is touched only with `switch`, and then only as
    /// `git switch` and `git merge --ff-only` would, which keep uncommitted changes. Hooks and
    /// filters of the repository do not run.
    ///
    /// # Errors
    /// `Conflict` when the branch there has commits of its own, is checked out (without `switch`),
    /// or uncommitted changes are in the way; `NotFound` and `Invalid` as [`Git::resolve`].
    pub async fn deliver(&self, bare: &Path, branch: &str, user_repository: &Path, switch: bool) -> Result<Delivered> {
        let full = name::branch_ref(branch)?;
        let short = full["refs/heads/".len()..].to_owned();
        let commit = self.resolve(bare, &full).await?;
        // Also says clearly when this is no repository.
        self.call(user_repository_dir(user_repository)?, ["rev-parse", "--git-dir"]).run().await.and_then(
            |o| match o.code {
                0 => Ok(()),
                _ => Err(o.error(ErrorKind::Invalid, format!("{} is not a Git repository", user_repository.display()))),
            },
        )?;
        let previous = self.resolve(user_repository, &full).await.ok();
        let head = self.call(user_repository, ["symbolic-ref", "--quiet", "HEAD"]).bound(4096).run().await?;
        let current = String::from_utf8_lossy(&head.stdout).trim() == full;
        let bare = bare.canonicalize().context(ErrorKind::NotFound, format!("There is no {}", bare.display()))?;
        let mut switched = current;
        if current && previous.as_deref() != Some(commit.as_str()) {
            if !switch {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("The branch {short} is checked out in {}", user_repository.display()),
                )
                .next("Allow the work tree to be changed (--switch), or check out another branch first"));
            }
            let waiting = format!("refs/cove/incoming/{short}");
            self.fetch(&bare, user_repository, &format!("+{full}:{waiting}"), &short).await?;
            let outcome =
                self.in_work_tree(user_repository, &["merge", "--ff-only", "--quiet", "--no-autostash", &commit]).await;
            let _ = self.call(user_repository, ["update-ref", "-d", &waiting]).run().await;
            outcome?;
        } else if !current {
            self.fetch(&bare, user_repository, &format!("{full}:{full}"), &short).await?;
            if switch {
                self.in_work_tree(user_repository, &["switch", "--quiet", "--no-guess", &short]).await?;
                switched = true;
            }
        }
        Ok(Delivered { branch: short, commit, previous, switched })
    }

    /// Writes a branch with its whole history into one file that `git clone` and `git fetch` read.
    /// An existing file is replaced at the end.
    pub async fn bundle(&self, bare: &Path, branch: &str, file: &Path) -> Result<()> {
        let full = name::branch_ref(branch)?;
        self.resolve(bare, &full).await?;
        let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let parent = parent
            .canonicalize()
            .context(ErrorKind::NotFound, format!("There is no directory {}", parent.display()))?;
        let scratch = tempfile::Builder::new()
            .prefix(".bundle-")
            .tempdir_in(&parent)
            .context(ErrorKind::Denied, format!("Could not write in {}", parent.display()))?;
        let made = scratch.path().join("bundle");
        self.call(bare, ["bundle", "create", "--quiet"]).arg(&made).arg(&full).deadline(DEADLINE).ok().await?;
        std::fs::rename(&made, file).context(ErrorKind::Internal, format!("Could not write {}", file.display()))
    }

    async fn fetch(&self, from: &Path, into: &Path, refspec: &str, branch: &str) -> Result<()> {
        // Not `--quiet`: that would keep back the reason of a refusal.
        let args = ["fetch", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc", "--"];
        let outcome = self.call(into, args).arg(from).arg(refspec).deadline(DEADLINE).run().await?;
        if outcome.code == 0 {
            return Ok(());
        }
        if ["non-fast-forward", "[rejected]"].iter().any(|words| outcome.stderr.contains(words)) {
            return Err(outcome
                .error(ErrorKind::Conflict, format!("The branch {branch} in {} has commits of its own", into.display()))
                .next(format!("Rename it first: git -C {} branch -m {branch} {branch}-old", into.display())));
        }
        if outcome.stderr.contains("checked out") {
            return Err(outcome
                .error(
                    ErrorKind::Conflict,
                    format!("The branch {branch} is checked out in a worktree of {}", into.display()),
                )
                .next("Check out another branch there first"));
        }
        Err(outcome
            .error(ErrorKind::Internal, format!("The branch {branch} could not be brought to {}", into.display())))
    }

    /// A command that writes the user's files: their filters do not run.
    async fn in_work_tree(&self, repository: &Path, args: &[&str]) -> Result<()> {
        let listed = self
            .call(repository, ["config", "--includes", "--null", "--name-only", "--get-regexp", r"^filter\..*"])
            .bound(1 << 20)
            .run()
            .await?;
        let mut call = self.call(repository, args).deadline(DEADLINE);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for driver in listed.split('\0').filter_map(|name| name.rsplit_once('.')).map(|(driver, _)| driver) {
            call = call
                .config(format!("{driver}.smudge"), "")
                .config(format!("{driver}.clean"), "")
                .config(format!("{driver}.process"), "")
                .config(format!("{driver}.required"), "false");
        }
        let outcome = call.run().await?;
        match outcome.code {
            0 => Ok(()),
            _ => Err(outcome
                .error(ErrorKind::Conflict, format!("The work tree of {} could not be changed", repository.display()))
                .next("Commit or stash your changes there, then try again")),
        }
    }
}

fn user_repository_dir(path: &Path) -> Result<&Path> {
    if path.is_dir() {
        return Ok(path);
    }
    Err(Error::not_found(format!("There is no directory {}", path.display())))
}
