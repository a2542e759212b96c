//! Reading from an engine: questions whose answers are taken as they come.
//!
//! The typed client refuses an answer with a state, a null or a number that its schema does not know, and
//! Podman's versions have many. Here only what is needed is read, everything may be absent, and an
//! answer's size is bounded.

use std::collections::HashMap;
use std::time::Duration;

use cove_core::error::Context;
use cove_core::{EngineKind, Error, ErrorKind, Result};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::client::{Address, line, name, patience};

/// Longest answer that is read.
const ANSWER_BYTES: usize = 16 << 20;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Asks; `None` for 404.
///
/// # Errors
/// `Unavailable` when nobody answers, `Timeout` when nobody does in time, `Internal` for other refusals and
/// answers that are none.
pub async fn get<T: DeserializeOwned>(address: &Address, path: &str) -> Result<Option<T>> {
    get_within(address, path, ANSWER).await
}

/// [`get`] with a limit of its own.
///
/// # Errors
/// As [`get`].
pub async fn get_within<T: DeserializeOwned>(address: &Address, path: &str, limit: Duration) -> Result<Option<T>> {
    let engine = address.engine;
    let answered = tokio::time::timeout(patience(limit), ask(address, path)).await;
    let (status, bytes) = answered.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, format!("{} did not answer in time", name(engine))).with("call", path))
    })?;
    match status {
        200 => serde_json::from_slice(&bytes)
            .map(Some)
            .context(ErrorKind::Internal, format!("{}'s answer is not understood", name(engine))),
        404 => Ok(None),
        _ => Err(Error::internal(format!("{} refused: {}", name(engine), told(&bytes)))
            .with("call", path)
            .with("status", status)),
    }
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

fn told(bytes: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(bytes) {
        Ok(refusal) => line(&refusal.message),
        Err(_) => line(&String::from_utf8_lossy(bytes)),
    }
}

async fn ask(address: &Address, path: &str) -> Result<(u16, Bytes)> {
    let unreachable = |engine: EngineKind| format!("{} cannot be reached", name(engine));
    let lost = || (ErrorKind::Unavailable, unreachable(address.engine));
    let (kind, text) = lost();
    let stream = UnixStream::connect(&address.socket).await.context(kind, text)?;
    let (kind, text) = lost();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context(kind, text)?;
    // Ends with this function, whatever happens.
    let mut carrying = tokio::task::JoinSet::new();
    carrying.spawn(connection);
    let (major, minor) = address.version;
    let request = http::Request::get(format!("/v{major}.{minor}{path}"))
        .header("Host", "localhost")
        .header("Connection", "close")
        .body(Empty::<Bytes>::new())
        .context(ErrorKind::Internal, "The question cannot be asked")?;
    let (kind, text) = lost();
    let response = sender.send_request(request).await.context(kind, text)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| {
        let text = format!("{}'s answer is cut off", name(address.engine));
        Error::new(ErrorKind::Unavailable, text).with("call", path).because(error)
    });
    Ok((status, body?.to_bytes()))
}

/// Where a container stands, by what its engine says. Names differ between engines and versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// Made, never started: `created`, Podman's `configured` and `initialized`.
    Made,
    /// Its first process lives: `running`, `paused`, `restarting`, Podman's `stopping`.
    Running {
        /// In this machine's first process namespace.
        pid: i32,
    },
    /// Its processes are gone: `exited`, Podman's `stopped`.
    Ended {
        /// Of its first process.
        code: i64,
    },
    /// Being removed, or a removal failed half-way: `removing`, `dead`.
    Leaving,
    /// A word that none of us knows.
    Strange(String),
}

/// What is known of one container.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub life: Life,
    /// What its engine says went wrong.
    pub trouble: String,
    /// Whether its engine noted a kill for memory.
    pub out_of_memory: bool,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// The directory that takes what is written to its root, where there is one.
    pub upper: Option<std::path::PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(alias = "ID")]
    id: Option<String>,
    state: Option<State>,
    config: Option<Config>,
    graph_driver: Option<Graph>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: Option<String>,
    pid: Option<i64>,
    exit_code: Option<i64>,
    error: Option<String>,
    #[serde(rename = "OOMKilled")]
    oom_killed: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Graph {
    data: Option<HashMap<String, Option<String>>>,
}

/// A container by id or exact name; `None` when there is none.
///
/// # Errors
/// As [`get`].
pub async fn container(address: &Address, id: &str) -> Result<Option<Seen>> {
    let found: Option<Inspected> = get(address, &format!("/containers/{}/json", part(id)?)).await?;
    Ok(found.map(|found| {
        let state = found.state.unwrap_or_default();
        let upper = found.graph_driver.and_then(|graph| graph.data?.remove("UpperDir")?);
        Seen {
            id: found.id.unwrap_or_else(|| id.to_owned()),
            life: life(&state),
            trouble: line(state.error.as_deref().unwrap_or_default()),
            out_of_memory: state.oom_killed.unwrap_or(false),
            labels: found.config.and_then(|config| config.labels).unwrap_or_default(),
            upper: upper.map(Into::into),
        }
    }))
}

/// What can be a part of a path: ids, and the names that we give.
fn part(id: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    let good = !id.is_empty() && id.len() <= 255 && id.chars().all(plain) && !id.contains("..");
    good.then_some(id).ok_or_else(|| Error::invalid(format!("{id:?} cannot be the name of a container or an image")))
}

fn life(state: &State) -> Life {
    let status = state.status.as_deref().unwrap_or_default();
    let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
    match status {
        "created" | "configured" | "initialized" => Life::Made,
        "running" | "paused" | "restarting" | "stopping" => match pid {
            Some(pid) => Life::Running { pid },
            None => Life::Strange(format!("{status} without a process")),
        },
        "exited" | "stopped" => Life::Ended { code: state.exit_code.unwrap_or(0) },
        "removing" | "dead" => Life::Leaving,
        other => Life::Strange(line(other)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: Option<String>,
    labels: Option<HashMap<String, String>>,
}

/// Id and labels of every container, in any state, that carries all of these labels.
///
/// # Errors
/// As [`get`].
pub async fn labelled(address: &Address, labels: &[(&str, &str)]) -> Result<Vec<(String, HashMap<String, String>)>> {
    let wanted: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let filters = serde_json::json!({ "label": wanted }).to_string();
    let encoded: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let found: Option<Vec<Listed>> = get(address, &format!("/containers/json?all=true&filters={encoded}")).await?;
    let found = found.unwrap_or_default().into_iter();
    let found = found.filter_map(|listed| Some((listed.id?, listed.labels.unwrap_or_default())));
    // A filter that was not understood must not widen what we touch.
    let ours = |has: &HashMap<String, String>| labels.iter().all(|(n, v)| has.get(*n).is_some_and(|value| value == v));
    Ok(found.filter(|(_, has)| ours(has)).collect())
}

/// What an engine says about itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct About {
    /// The engine's version.
    pub server_version: String,
    /// The kernel that its containers run on.
    pub kernel_version: String,
    /// `1` or `2`.
    pub cgroup_version: Option<String>,
    /// `name=rootless`, `name=userns` and others.
    pub security_options: Option<Vec<String>>,
    /// Podman's own word for the first of these, which older ones do not list.
    pub rootless: bool,
    /// Which runtimes there are.
    pub runtimes: Option<HashMap<String, serde_json::Value>>,
}

impl About {
    /// Whether the engine has this security option.
    pub fn has(&self, option: &str) -> bool {
        let wanted = format!("name={option}");
        (self.rootless && option == "rootless")
            || self.security_options.iter().flatten().any(|known| known.split(',').next() == Some(wanted.as_str()))
    }
}

/// The engine about itself.
///
/// # Errors
/// As [`get`].
pub async fn about(address: &Address) -> Result<About> {
    Ok(get::<About>(address, "/info").await?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageFound {
    id: Option<String>,
}

/// The id of an image by its name; `None` when the engine does not have it.
///
/// # Errors
/// As [`get`].
pub async fn image(address: &Address, reference: &str) -> Result<Option<String>> {
    let found: Option<ImageFound> = get(address, &format!("/images/{}/json", part(reference)?)).await?;
    Ok(found.and_then(|found| found.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engines_words_for_a_state() {
        let ended = Life::Ended { code: 3 };
        let lives = Life::Running { pid: 7 };
        let table = [
            ("created", Life::Made),
            ("configured", Life::Made),
            ("initialized", Life::Made),
            ("running", lives.clone()),
            ("paused", lives.clone()),
            ("stopping", lives),
            ("exited", ended.clone()),
            ("stopped", ended),
            ("removing", Life::Leaving),
            ("dead", Life::Leaving),
            ("", Life::Strange(String::new())),
            ("dancing", Life::Strange("dancing".to_owned())),
        ];
        for (word, expected) in table {
            let state = State { status: Some(word.to_owned()), pid: Some(7), exit_code: Some(3), ..State::default() };
            assert_eq!(life(&state), expected, "{word}");
        }
        let nobody = State { status: Some("running".to_owned()), pid: Some(0), ..State::default() };
        assert!(matches!(life(&nobody), Life::Strange(_)));
    }

    #[test]
    fn paths_are_not_made_of_anything() {
        for good in ["cove-abc", "sha256:0af1", "localhost/cove-base:12ab"] {
            assert!(part(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a?b", "../x", "a\n", "a#b", "%2e"] {
            assert!(part(bad).is_err(), "{bad:?}");
        }
    }
}
