//! From the user's repository, on disk or at a URL, to a bare one of our own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use url::Url;

use crate::command::Outcome;
use crate::git::Git;
use crate::name;

const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// What a repository of ours says about itself; the only configuration it ever has.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n";
const CONFIG_SHA256: &str =
    "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n";

/// The configuration of a bare repository of ours for ids of this length.
pub(crate) fn bare_config(id_length: usize) -> &'static str {
    if id_length == 64 { CONFIG_SHA256 } else { CONFIG }
}

enum Source {
    Local(PathBuf),
    Remote {
        url: String,
        shown: String,
        header: Option<(String, String)>,
        secrets: Vec<String>,
        protocols: &'static str,
    },
}

impl Git {
    /// Copies the committed state of `source` into a bare repository of our own at `bare`: every
    /// branch and tag, and HEAD. Nothing is shared with the source, which is only read. Uncommitted
    /// changes stay behind, submodules stay references, a shallow source gives a shallow copy.
    ///
    /// `source` is a directory in a repository (also a worktree or a bare one), a URL (`https`,
    /// `http`, `ssh`, `git`, `file`) or `user@host:path`. Credentials in a URL are used and not stored.
    ///
    /// # Errors
    /// `NotFound` for a missing directory or remote repository, `Invalid` for what is no repository
    /// or has no commit, `Denied` when the remote refuses us, `Unavailable` when it cannot be
    /// reached, `Conflict` when `bare` exists.
    pub async fn clone_source(&self, source: &str, bare: &Path) -> Result<()> {
        if bare.exists() {
            return Err(Error::new(ErrorKind::Conflict, format!("{} exists already", bare.display())));
        }
        let source = parse(source)?;
        let parent = bare.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(parent).context(ErrorKind::Internal, format!("Could not make {}", parent.display()))?;
        let partial = tempfile::Builder::new()
            .prefix("clone-")
            .tempdir_in(parent)
            .context(ErrorKind::Internal, format!("Could not write in {}", parent.display()))?;
        let made = partial.path().join("repository");
        let args = ["clone", "--bare", "--quiet", "--no-local", "--no-hardlinks", "--no-recurse-submodules", "--"];
        let mut call = self.call(partial.path(), args).deadline(DEADLINE).bound(1 << 20);
        call = match &source {
            Source::Local(path) => call.arg(path),
            Source::Remote { url, header, secrets, protocols, .. } => {
                let mut call = call.arg(url).protocols(protocols);
                if let Some((name, value)) = header {
                    call = call.config(name, value);
                }
                secrets.iter().fold(call, |call, secret| call.secret(secret))
            }
        };
        let outcome = call.arg(&made).run().await?;
        if outcome.code != 0 {
            return Err(failure(&source, &outcome));
        }
        let head = self.resolve(&made, "HEAD").await.map_err(|e| {
            Error::invalid(format!("{} has no commit to begin from", source.shown()))
                .because(e)
                .next("Make a first commit: git add -A && git commit -m \"chore: begin\"")
        })?;
        debug_assert!(name::is_id(&head));
        std::fs::write(made.join("config"), bare_config(head.len()))
            .and_then(|()| std::fs::rename(&made, bare))
            .context(ErrorKind::Internal, format!("Could not finish {}", bare.display()))
    }
}

impl Source {
    fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Remote { shown, .. } => shown.clone(),
        }
    }
}

fn parse(source: &str) -> Result<Source> {
    if source.is_empty() || source.starts_with('-') || source.chars().any(char::is_control) {
        return Err(Error::invalid("The repository is neither a directory nor a URL")
            .next("Name a directory or a URL, for example https://example.com/team/project.git"));
    }
    if Path::new(source).exists() {
        return local(Path::new(source));
    }
    if let Some((helper, _)) = source.split_once("::") {
        return Err(Error::invalid(format!("The transport {helper}:: is not supported"))
            .next("Use https, http, ssh, git or file"));
    }
    if source.contains("://") {
        return remote(source);
    }
    // `user@host:path`, as ssh and scp write it: a colon before the first slash.
    if let Some((host, path)) = source.split_once(':')
        && !host.contains('/')
        && !host.is_empty()
        && !path.is_empty()
    {
        return Ok(Source::Remote {
            url: source.to_owned(),
            shown: source.to_owned(),
            header: None,
            secrets: Vec::new(),
            protocols: "ssh",
        });
    }
    Err(missing(Path::new(source)))
}

fn missing(path: &Path) -> Error {
    Error::not_found(format!("There is no directory {}", path.display())).next("Check the path, or give a URL")
}

fn local(path: &Path) -> Result<Source> {
    let path = path.canonicalize().map_err(|e| missing(path).because(e))?;
    path.ancestors().find(|p| is_repository(p)).map(|p| Source::Local(p.to_owned())).ok_or_else(|| {
        Error::invalid(format!("{} is not in a Git repository", path.display()))
            .next("Create one there: git init && git add -A && git commit -m \"chore: begin\"")
    })
}

fn is_repository(path: &Path) -> bool {
    path.join(".git").exists()
        || (path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir())
}

fn remote(source: &str) -> Result<Source> {
    // The text may hold a password: it is not repeated in the error.
    let mut url = Url::parse(source).map_err(|_| Error::invalid("The repository's URL cannot be read"))?;
    let protocols = match url.scheme() {
        "https" => "https",
        "http" => "http:https",
        "ssh" => "ssh",
        "git" => "git",
        "file" => {
            let path = url.to_file_path().map_err(|()| Error::invalid("The file URL has no path of this host"))?;
            if !path.exists() {
                return Err(missing(&path));
            }
            return local(&path);
        }
        other => {
            return Err(Error::invalid(format!("The URL scheme {other} is not supported"))
                .next("Use https, http, ssh, git or file"));
        }
    };
    if url.host_str().is_none_or(|host| host.is_empty() || host.starts_with('-')) {
        return Err(Error::invalid("The repository's URL has no host"));
    }
    let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
    let mut secrets = vec![password.clone(), url.password().unwrap_or_default().to_owned()];
    let _ = url.set_password(None);
    let mut header = None;
    if protocols.starts_with("http") {
        let _ = url.set_username("");
        if !user.is_empty() || !password.is_empty() {
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            // Many hosts take a token as user name alone.
            secrets.extend([basic.clone(), if password.is_empty() { user } else { String::new() }]);
            let at = url.origin().ascii_serialization();
            header = Some((format!("http.{at}/.extraHeader"), format!("Authorization: Basic {basic}")));
        }
    }
    let shown = url.to_string();
    Ok(Source::Remote { url: shown.clone(), shown, header, secrets, protocols })
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let mut ahead = bytes.clone();
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn failure(source: &Source, outcome: &Outcome) -> Error {
    let said = outcome.stderr.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| said.contains(w));
    let shown = source.shown();
    if let Source::Local(_) = source {
        // One of the programs on this host was ended: the repository is not to blame.
        if any(&["early eof", "hung up unexpectedly", "died of signal"]) {
            return outcome.error(ErrorKind::Interrupted, format!("Copying {shown} was cut off"));
        }
        return outcome
            .error(ErrorKind::Invalid, format!("{shown} could not be copied"))
            .next(format!("Check it: git -C {shown} fsck"));
    }
    if any(&["authentication failed", "could not read username", "could not read password", "permission denied", "403"])
    {
        return outcome
            .error(ErrorKind::Denied, format!("{shown} refused the sign-in"))
            .next("Give credentials in the URL, or for ssh load a key into the agent");
    }
    if any(&["not found", "does not exist", "does not appear to be a git repository"]) {
        return outcome.error(ErrorKind::NotFound, format!("There is no repository at {shown}"));
    }
    outcome
        .error(ErrorKind::Unavailable, format!("{shown} could not be fetched"))
        .next("Check the address and the network, then try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let Source::Remote { url, shown, header, secrets, .. } = remote("https://me:p%40ss@h.example/x.git").unwrap()
        else {
            panic!("a remote")
        };
        assert_eq!((url.as_str(), shown.as_str()), ("https://h.example/x.git", "https://h.example/x.git"));
        let header = header.unwrap();
        assert_eq!(header.0, "http.https://h.example/.extraHeader");
        assert_eq!(header.1, "Authorization: Basic bWU6cEBzcw==");
        assert!(secrets.contains(&"p@ss".to_owned()) && secrets.contains(&"p%40ss".to_owned()));
        let Source::Remote { url, .. } = remote("ssh://git:pw@h.example/x").unwrap() else { panic!("a remote") };
        assert_eq!(url, "ssh://git@h.example/x");
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for bad in [
            "",
            "-x",
            "--upload-pack=touch x",
            "ext::sh -c id",
            "fd::3",
            "gopher://h/x",
            "a\nb",
            "https://",
            "/no/such/dir",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(matches!(parse("git@h.example:team/x.git"), Ok(Source::Remote { protocols: "ssh", .. })));
    }
}
