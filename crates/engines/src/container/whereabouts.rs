//! Where the engines of this machine listen, as their own programs would find them.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cove_core::{EngineKind, Error, ErrorKind, Result};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::client::name;

/// Bytes of a settings file of Docker's.
const SETTINGS_BOUND: u64 = 1 << 20;

/// Looks a variable up; of the environment outside of tests. Empty ones count as absent.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Those of this process.
pub fn environment(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// Docker's socket: of `DOCKER_HOST`, else of the context that is chosen (`DOCKER_CONTEXT`, `config.json`), else
/// the usual places. That it answers is not said.
///
/// # Errors
/// `Unavailable` without a socket, `Denied` when it may not be opened, `Unsupported` for an engine on another
/// machine.
pub fn docker(variables: Variables<'_>) -> Result<PathBuf> {
    if let Some(host) = variables("DOCKER_HOST") {
        let socket = local(EngineKind::Docker, "DOCKER_HOST", &host.to_string_lossy())?;
        return opened(EngineKind::Docker, socket);
    }
    let home = variables("HOME").map(PathBuf::from);
    let settings = variables("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home.map(|home| home.join(".docker")));
    if let Some(settings) = settings {
        let chosen = match variables("DOCKER_CONTEXT") {
            Some(context) => Some(context.to_string_lossy().into_owned()),
            None => document::<Config>(&settings.join("config.json"))?.and_then(|config| config.current_context),
        };
        if let Some(context) = chosen.filter(|context| !matches!(context.as_str(), "" | "default")) {
            let socket = of_context(&settings, &context)?;
            return opened(EngineKind::Docker, socket);
        }
    }
    let usual = PathBuf::from("/var/run/docker.sock");
    // Rootless Docker listens there; the other one, when both are there, is who `docker` speaks to.
    let own = variables("XDG_RUNTIME_DIR").map(|runtime| PathBuf::from(runtime).join("docker.sock"));
    match (opened(EngineKind::Docker, usual), own.filter(|own| own.exists())) {
        (Ok(socket), _) => Ok(socket),
        (Err(_), Some(own)) => opened(EngineKind::Docker, own),
        (Err(error), None) => Err(error),
    }
}

/// Podman's standing socket, when there is one: of `CONTAINER_HOST`, else the usual places. A virtual machine of
/// Podman's is none: what a sandbox is given must be on this machine.
///
/// # Errors
/// `Unavailable` or `Denied` when `CONTAINER_HOST` names one that cannot be opened, `Unsupported` when it names
/// another machine.
pub fn podman(variables: Variables<'_>) -> Result<Option<PathBuf>> {
    if let Some(host) = variables("CONTAINER_HOST") {
        let socket = local(EngineKind::Podman, "CONTAINER_HOST", &host.to_string_lossy())?;
        return opened(EngineKind::Podman, socket).map(Some);
    }
    let own = variables("XDG_RUNTIME_DIR").map(|runtime| PathBuf::from(runtime).join("podman/podman.sock"));
    let usual = [Some(PathBuf::from("/run/podman/podman.sock")), own];
    Ok(usual.into_iter().flatten().find(|socket| UnixStream::connect(socket).is_ok()))
}

/// The program `podman` in `PATH`.
pub fn podman_program(variables: Variables<'_>) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let executable = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&variables("PATH")?).map(|directory| directory.join("podman")).find(executable)
}

/// The path in an engine's address.
fn local(engine: EngineKind, variable: &str, host: &str) -> Result<PathBuf> {
    if let Some(path) = host.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
        return Ok(PathBuf::from(path));
    }
    let kind = host.split_once("://").map_or("", |(kind, _)| kind);
    if matches!(kind, "tcp" | "ssh" | "http" | "https" | "npipe" | "fd") {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{variable} leads to {} by {kind}, and sandboxes need one on this machine", name(engine)),
        )
        .because(Error::invalid("The sandbox's socket cannot come back from another machine"))
        .next(format!("Set {variable} to unix:///path/of/the/socket for Cove, or unset it")));
    }
    Err(Error::invalid(format!("{variable} is {host:?}, which is not the address of a socket"))
        .next(format!("Set {variable} to unix:///path/of/the/socket, or unset it")))
}

/// The socket, when something listens there and we may speak to it.
fn opened(engine: EngineKind, socket: PathBuf) -> Result<PathBuf> {
    let error = match UnixStream::connect(&socket) {
        Ok(_) => return Ok(socket),
        Err(error) => error,
    };
    let (name, at) = (name(engine), socket.display());
    Err(match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::Denied, format!("{name}'s socket {at} may not be opened by this user"))
                .next("Ask for access (it makes you as powerful as root), or use another engine: cove engine list")
        }
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Unavailable, format!("{name} is not there: no socket at {at}"))
                .next(format!("Install {name} and start it, or use another engine: cove engine list"))
        }
        _ => Error::new(ErrorKind::Unavailable, format!("{name} does not listen at {at}"))
            .next(format!("Start {name}, or use another engine: cove engine list")),
    }
    .because(error))
}

#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: String,
}

/// The address that a context holds; Docker keeps it under the SHA-256 of its name.
fn of_context(settings: &Path, context: &str) -> Result<PathBuf> {
    let place = settings.join("contexts/meta").join(hex::encode(Sha256::digest(context.as_bytes()))).join("meta.json");
    let found: Option<Context> = document(&place)?;
    let endpoint = found.and_then(|found| found.endpoints.docker).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, format!("Docker's context {context:?} is not there"))
            .next("docker context ls shows those that are; docker context use default goes back")
    })?;
    local(EngineKind::Docker, &format!("Docker's context {context:?}"), &endpoint.host)
        .map_err(|error| error.next("docker context use default goes back to this machine's"))
}

/// A JSON file of Docker's, when it is there.
fn document<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Ok(file) = File::open(path) else { return Ok(None) };
    let mut text = Vec::new();
    let unread = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::invalid(format!("{} cannot be read", path.display())).because(error).next("Mend it, or set DOCKER_HOST")
    };
    file.take(SETTINGS_BOUND).read_to_end(&mut text).map_err(|e| unread(e.into()))?;
    serde_json::from_slice(&text).map(Some).map_err(|e| unread(e.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixListener;

    use super::*;

    struct Home {
        dir: tempfile::TempDir,
        socket: PathBuf,
        _listener: UnixListener,
    }

    fn home() -> Home {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        Home { dir, socket, _listener: listener }
    }

    fn with(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn context(home: &Home, name: &str, host: &str) {
        let place = home.dir.path().join(".docker/contexts/meta").join(hex::encode(Sha256::digest(name.as_bytes())));
        std::fs::create_dir_all(&place).unwrap();
        let meta = serde_json::json!({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": false}}});
        std::fs::write(place.join("meta.json"), meta.to_string()).unwrap();
    }

    #[test]
    fn docker_is_where_its_own_program_would_look() {
        let home = home();
        let at = format!("unix://{}", home.socket.display());
        let user = home.dir.path().display().to_string();
        context(&home, "here", &at);
        context(&home, "far", "ssh://somebody@elsewhere");
        let settings = home.dir.path().join(".docker/config.json");
        std::fs::write(&settings, r#"{"auths": {}, "currentContext": "here"}"#).unwrap();
        type Row<'a> = (&'a [(&'a str, &'a str)], std::result::Result<(), ErrorKind>, &'a str);
        let rows: &[Row<'_>] = &[
            (&[("DOCKER_HOST", &at)], Ok(()), ""),
            (&[], Ok(()), ""),
            (&[("DOCKER_CONTEXT", "here")], Ok(()), ""),
            (&[("DOCKER_CONTEXT", "far")], Err(ErrorKind::Unsupported), "another machine"),
            (&[("DOCKER_CONTEXT", "gone")], Err(ErrorKind::Unavailable), "\"gone\""),
            (&[("DOCKER_HOST", "tcp://10.0.0.1:2375")], Err(ErrorKind::Unsupported), "DOCKER_HOST"),
            (
                &[("DOCKER_HOST", "ssh://a@b"), ("DOCKER_CONTEXT", "here")],
                Err(ErrorKind::Unsupported),
                "another machine",
            ),
            (&[("DOCKER_HOST", "unix://relative")], Err(ErrorKind::Invalid), "DOCKER_HOST"),
            (&[("DOCKER_HOST", "nonsense")], Err(ErrorKind::Invalid), "nonsense"),
            (&[("DOCKER_HOST", "unix:///nowhere/docker.sock")], Err(ErrorKind::Unavailable), "/nowhere/docker.sock"),
        ];
        for (pairs, expected, said) in rows {
            let mut all: Vec<(&str, String)> = pairs.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
            all.push(("HOME", user.clone()));
            let variables = with(&all);
            let found = docker(&|name| variables.get(name).map(OsString::from));
            match (&found, expected) {
                (Ok(socket), Ok(())) => assert_eq!(socket, &home.socket, "{pairs:?}"),
                (Err(error), Err(kind)) => {
                    assert_eq!(error.kind(), *kind, "{pairs:?}: {error}");
                    assert!(error.chain().join(" ").contains(said), "{pairs:?}: {:?}", error.chain());
                    assert!(error.next_step().is_some(), "{pairs:?}");
                }
                _ => panic!("{pairs:?}: {found:?}"),
            }
        }
        std::fs::write(&settings, "{").unwrap();
        let variables = with(&[("HOME", user)]);
        let error = docker(&|name| variables.get(name).map(OsString::from)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn podmans_standing_socket_is_found_and_dead_ones_are_none() {
        let home = home();
        let runtime = home.dir.path().join("run");
        std::fs::create_dir_all(runtime.join("podman")).unwrap();
        let own = runtime.join("podman/podman.sock");
        let pairs = with(&[("XDG_RUNTIME_DIR", runtime.display().to_string())]);
        let look = |variables: &BTreeMap<String, String>| podman(&|name| variables.get(name).map(OsString::from));
        // A machine's own service may stand; ours must not be told where nothing listens.
        drop(UnixListener::bind(&own).unwrap());
        assert_ne!(look(&pairs).unwrap(), Some(own.clone()));
        let named = with(&[("CONTAINER_HOST", format!("unix://{}", home.socket.display()))]);
        assert_eq!(look(&named).unwrap(), Some(home.socket.clone()));
        for (host, kind) in [
            ("ssh://core@127.0.0.1:5000/run/podman/podman.sock", ErrorKind::Unsupported),
            ("unix:///nowhere", ErrorKind::Unavailable),
        ] {
            let error = look(&with(&[("CONTAINER_HOST", host.to_owned())])).unwrap_err();
            assert_eq!(error.kind(), kind, "{host}");
        }
    }
}
