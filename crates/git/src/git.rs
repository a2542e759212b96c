//! The `git` program: found once, checked once, always run the same way.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};

use crate::command::Call;
use crate::name;

/// Configuration that reaches `git`'s own children too (they do not inherit `-c`).
const GLOBAL: &str = "[safe]\n\tdirectory = *\n\tbareRepository = all\n\
[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tattributesFile = /dev/null\n\texcludesFile = /dev/null\n\
\tbigFileThreshold = 48m\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
[pack]\n\twindowMemory = 128m\n[protocol]\n\tallow = never\n[protocol \"ext\"]\n\tallow = never\n";

/// Runs the `git` program. Cheap to clone; every method has a deadline.
#[derive(Clone)]
pub struct Git {
    inner: Arc<Inner>,
}

struct Inner {
    program: PathBuf,
    version: (u32, u32),
    home: tempfile::TempDir,
}

impl std::fmt::Debug for Git {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Git({}, {}.{})", self.inner.program.display(), self.inner.version.0, self.inner.version.1)
    }
}

impl Git {
    /// The oldest release whose options are relied on.
    const OLDEST: (u32, u32) = (2, 30);
    /// `merge-tree --write-tree`.
    pub(crate) const MERGES: (u32, u32) = (2, 38);

    /// Finds `git` in `PATH` and checks its version.
    ///
    /// # Errors
    /// `Unavailable` when there is none or it is older than 2.30.
    pub fn new() -> Result<Self> {
        let missing = || {
            Error::new(ErrorKind::Unavailable, "The program git was not found")
                .next("Install git 2.30 or later and put it in PATH")
        };
        let path = std::env::var_os("PATH").ok_or_else(missing)?;
        let program = std::env::split_paths(&path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join("git"))
            .find(|file| is_program(file))
            .ok_or_else(missing)?;
        let version = version_of(&program)?;
        if version < Self::OLDEST {
            return Err(Error::new(ErrorKind::Unavailable, format!("git {}.{} is too old", version.0, version.1))
                .next("Install git 2.30 or later"));
        }
        let home = tempfile::Builder::new()
            .prefix("cove-git-")
            .tempdir()
            .context(ErrorKind::Internal, "Could not make a private directory for git")?;
        Ok(Self { inner: Arc::new(Inner { program, version, home }) })
    }

    /// Whether the program is at least this release.
    pub(crate) fn at_least(&self, version: (u32, u32)) -> bool {
        self.inner.version >= version
    }

    /// A call inside `repository` (a bare one, or any directory of a user's).
    pub(crate) fn call<S: AsRef<std::ffi::OsStr>>(&self, repository: &Path, args: impl IntoIterator<Item = S>) -> Call {
        Call::new(&self.inner.program, self.home(), repository, args)
    }

    /// The private home: an empty directory, and the configuration beside it. Written again when
    /// something that tidies temporary directories took it away.
    fn home(&self) -> PathBuf {
        let home = self.inner.home.path().to_owned();
        let config = home.join("gitconfig");
        if !config.exists() {
            let _ = std::fs::create_dir_all(home.join("home"));
            // A failure shows as git's refusal to read the file.
            let _ = std::fs::write(home.join("gitconfig.new"), GLOBAL);
            let _ = std::fs::rename(home.join("gitconfig.new"), config);
        }
        home
    }

    /// The full id of the commit that `rev` names in `repo`: a branch, tag, id or any expression of
    /// gitrevisions(7). Reads only; `repo` may be a user's repository or any directory in it.
    ///
    /// # Errors
    /// `NotFound` when it names no commit, `Invalid` when it cannot be a revision.
    pub async fn resolve(&self, repo: &Path, rev: &str) -> Result<String> {
        name::check_revision(rev)?;
        if !repo.is_dir() {
            return Err(Error::not_found(format!("There is no directory {}", repo.display())));
        }
        let wanted = format!("{rev}^{{commit}}");
        let found = self
            .call(repo, ["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted])
            .bound(4096)
            .run()
            .await?;
        let text = String::from_utf8_lossy(&found.stdout);
        match text.lines().last() {
            Some(id) if found.code == 0 && name::is_id(id) => Ok(id.to_owned()),
            _ if found.stderr.contains("not a git repository") => {
                Err(Error::invalid(format!("{} is not a Git repository", repo.display()))
                    .next("Create one: git init && git add -A && git commit"))
            }
            _ => Err(Error::not_found(format!("{rev} names no commit in {}", repo.display()))
                .next(format!("See what exists: git -C {} log --oneline --all", repo.display()))),
        }
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn version_of(program: &Path) -> Result<(u32, u32)> {
    let broken = || Error::new(ErrorKind::Unavailable, format!("{} does not tell its version", program.display()));
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| broken().because(e))?;
    let begun = Instant::now();
    while child.try_wait().map_err(|e| broken().because(e))?.is_none() {
        if begun.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(broken());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().map_err(|e| broken().because(e))?;
    parse_version(&String::from_utf8_lossy(&output.stdout)).ok_or_else(broken)
}

/// `git version 2.47.3`, `git version 2.39.5 (Apple Git-154)`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("git version ")?.split(['.', ' ', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse_version("git version 2.47.3\n"), Some((2, 47)));
        assert_eq!(parse_version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(parse_version("git version 2.51.0-rc1"), Some((2, 51)));
        assert_eq!(parse_version("hub 1"), None);
    }
}
