//! Asks a container engine for what carries an instance's label.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Label with the instance.
const LABEL: &str = "run.cove.instance";

/// Containers in any state and volumes, as kind and name.
///
/// # Panics
/// When the engine does not answer: what is not known is not clean.
pub(super) fn of(socket: &Path, instance: &str) -> Vec<(&'static str, String)> {
    let filter = format!("%7B%22label%22%3A%5B%22{LABEL}%3D{instance}%22%5D%7D");
    let containers = get(socket, &format!("/containers/json?all=1&filters={filter}"));
    let volumes = get(socket, &format!("/volumes?filters={filter}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let containers = containers.as_array().into_iter().flatten().map(|c| ("container", text(&c["Id"])));
    let volumes = volumes["Volumes"].as_array().into_iter().flatten().map(|v| ("volume", text(&v["Name"])));
    containers.chain(volumes).collect()
}

fn get(socket: &Path, path: &str) -> Value {
    let asked = || -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().unwrap_or_else(|error| panic!("{} does not answer: {error}", socket.display()));
    let text = String::from_utf8_lossy(&answer);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{}: {error}: {text}", socket.display()))
}
