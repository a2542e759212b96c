//! Where files lie: the XDG base directories, each overridable by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cove_core::{Error, Result};

/// Longest path of a Unix socket on Linux, without its final nul (`unix(7)`).
const SOCKET_BOUND: usize = 107;

/// Where files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `COVE_CONFIG`, or `config.json` under `$XDG_CONFIG_HOME/cove`.
    pub user_config: PathBuf,
    /// Whether `COVE_CONFIG` named it; then its absence is an error.
    pub user_config_is_named: bool,
    /// System-wide settings.
    pub system_config: PathBuf,
    /// `COVE_POLICY_FILE`, or `/etc/cove/policy.json`.
    pub policy: PathBuf,
    /// Whether `COVE_POLICY_FILE` named it; then its absence is an error.
    pub policy_is_named: bool,
    /// `openclaw.json` of the user.
    pub openclaw_config: PathBuf,
    /// Database, run records, logs. `COVE_DATA_DIR`.
    pub data: PathBuf,
    /// Locks, sandboxes, sockets. `COVE_STATE_DIR`.
    pub state: PathBuf,
    /// Images and downloads; may be deleted. `COVE_CACHE_DIR`.
    pub cache: PathBuf,
    /// Mount allowlist. `MOUNT_ALLOWLIST_PATH`.
    pub mount_allowlist: PathBuf,
    /// The daemon's socket: under `$XDG_RUNTIME_DIR/cove`, or in the state directory when that was
    /// chosen or there is no runtime directory.
    pub socket: PathBuf,
}

impl Paths {
    /// Paths from a set of variables.
    ///
    /// # Errors
    /// `Invalid` when neither `HOME` nor every override is set, or one of them is not absolute.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Result<Self> {
        let text = |name: &str| variables.get(name).filter(|value| !value.is_empty());
        let absolute = |name: &str| -> Result<Option<PathBuf>> {
            match text(name).map(PathBuf::from) {
                Some(path) if path.is_absolute() => Ok(Some(path)),
                Some(path) => Err(Error::invalid(format!("{name} is {}, not an absolute path", path.display()))
                    .next(format!("Set {name} to a path that begins with /"))),
                None => Ok(None),
            }
        };
        // Relative XDG variables are to be ignored (XDG Base Directory Specification).
        let xdg = |name: &str| text(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME")?;
        let below_home = |what: &str, below: &str| -> Result<PathBuf> {
            home.as_ref().map(|home| home.join(below)).ok_or_else(|| {
                Error::invalid(format!("HOME is not set and there is no place for {what}"))
                    .next("Set HOME, or COVE_CONFIG, COVE_DATA_DIR, COVE_STATE_DIR and COVE_CACHE_DIR")
            })
        };
        let base = |what: &str, own: &str, xdg_name: &str, below: &str| -> Result<PathBuf> {
            match (absolute(own)?, xdg(xdg_name)) {
                (Some(path), _) => Ok(path),
                (None, Some(root)) => Ok(root.join("cove")),
                (None, None) => Ok(below_home(what, below)?.join("cove")),
            }
        };
        let config = match (xdg("XDG_CONFIG_HOME"), &home) {
            (Some(root), _) => Some(root.join("cove")),
            (None, Some(home)) => Some(home.join(".config/cove")),
            (None, None) => None,
        };
        let named = absolute("COVE_CONFIG")?;
        let user_config_is_named = named.is_some();
        let user_config = match (named, &config) {
            (Some(file), _) => file,
            (None, Some(dir)) => dir.join("config.json"),
            (None, None) => below_home("settings", ".config/cove/config.json")?,
        };
        let policy_named = absolute("COVE_POLICY_FILE")?;
        let state_chosen = text("COVE_STATE_DIR").is_some();
        let state = base("state", "COVE_STATE_DIR", "XDG_STATE_HOME", ".local/state")?;
        let socket = match xdg("XDG_RUNTIME_DIR") {
            Some(runtime) if !state_chosen => runtime.join("cove/cove.sock"),
            _ => state.join("cove.sock"),
        };
        let openclaw = match absolute("OPENCLAW_DATA_DIR")? {
            Some(dir) => dir,
            None => home.clone().unwrap_or_else(|| PathBuf::from("/nonexistent")).join(".openclaw"),
        };
        Ok(Self {
            mount_allowlist: match absolute("MOUNT_ALLOWLIST_PATH")? {
                Some(file) => file,
                None => user_config.with_file_name("mount-allowlist.json"),
            },
            user_config,
            user_config_is_named,
            system_config: PathBuf::from("/etc/cove/config.json"),
            policy_is_named: policy_named.is_some(),
            policy: policy_named.unwrap_or_else(|| PathBuf::from("/etc/cove/policy.json")),
            openclaw_config: openclaw.join("openclaw.json"),
            data: base("data", "COVE_DATA_DIR", "XDG_DATA_HOME", ".local/share")?,
            cache: base("caches", "COVE_CACHE_DIR", "XDG_CACHE_HOME", ".cache")?,
            state,
            socket,
        })
    }

    /// Settings of the repository in `root`.
    pub fn project_config(root: &Path) -> PathBuf {
        root.join(".cove/config.json")
    }

    /// Checks that the socket's path fits into a socket address.
    ///
    /// # Errors
    /// `Invalid` with the variable to change.
    pub fn check_socket(&self) -> Result<()> {
        if self.socket.as_os_str().len() > SOCKET_BOUND {
            return Err(Error::invalid(format!(
                "The socket path {} is longer than {SOCKET_BOUND} bytes",
                self.socket.display()
            ))
            .next("Set COVE_STATE_DIR to a shorter path"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(pairs: &[(&str, &str)]) -> Result<Paths> {
        Paths::from_variables(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn defaults_and_overrides() {
        let plain = paths(&[("HOME", "/h")]).unwrap();
        assert_eq!(plain.user_config, Path::new("/h/.config/cove/config.json"));
        assert_eq!(plain.data, Path::new("/h/.local/share/cove"));
        assert_eq!(plain.socket, Path::new("/h/.local/state/cove/cove.sock"));
        assert_eq!(plain.openclaw_config, Path::new("/h/.openclaw/openclaw.json"));
        let set = [("HOME", "/h"), ("XDG_DATA_HOME", "/x"), ("XDG_STATE_HOME", "rel"), ("XDG_RUNTIME_DIR", "/run/u")];
        let xdg = paths(&set).unwrap();
        assert_eq!((xdg.data.to_str(), xdg.state.to_str()), (Some("/x/cove"), Some("/h/.local/state/cove")));
        assert_eq!(xdg.socket, Path::new("/run/u/cove/cove.sock"));
        let own = paths(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/u"), ("COVE_STATE_DIR", "/s")]).unwrap();
        assert_eq!(own.socket, Path::new("/s/cove.sock"));
    }

    #[test]
    fn what_cannot_serve_is_refused() {
        assert!(paths(&[]).unwrap_err().message().contains("HOME"));
        assert!(paths(&[("HOME", "/h"), ("COVE_DATA_DIR", "x")]).unwrap_err().message().contains("COVE_DATA_DIR"));
        let long = format!("/{}", "x".repeat(120));
        assert!(paths(&[("HOME", &long)]).unwrap().check_socket().is_err());
    }
}
