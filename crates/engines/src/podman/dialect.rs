//! How Podman says it: through its compatible interface, which turns much of a request into command line
//! options and reads them again.

use std::fs;
use std::path::Path;

use bollard::models::HostConfig;
use cove_core::error::Context;
use cove_core::{EngineKind, Error, ErrorKind, Result, User};
use serde_json::Value;

use crate::container::dialect::{Dialect, Facts};
use crate::native::plan::Memory;
use crate::proof::NAMESPACES;

/// Podman.
#[derive(Debug)]
pub struct Podman;

impl Dialect for Podman {
    fn engine(&self) -> EngineKind {
        EngineKind::Podman
    }

    /// The profile's path: the option is the command line's.
    fn filter(&self, profile: &Value, dir: &Path) -> Result<String> {
        let path = dir.join("seccomp.json");
        fs::write(&path, profile.to_string())
            .context(ErrorKind::Internal, format!("{} cannot be written", path.display()))?;
        Ok(format!("seccomp={}", path.display()))
    }

    /// The interface has no word for it, the security options have. What it protects from writing are the
    /// same paths of `/proc`.
    fn cover(&self, host: &mut HostConfig, masked: Vec<String>, _read_only: Vec<String>) {
        host.security_opt.get_or_insert_default().push(format!("mask={}", masked.join(":")));
    }

    fn memory(&self, memory: &Memory, _user: User) -> String {
        let programs = if memory.programs { "exec" } else { "noexec" };
        // `U` gives it to the container's user.
        format!("rw,nosuid,nodev,{programs},size={},mode={:o},notmpcopyup,U", memory.bytes, memory.mode)
    }

    fn users(&self, facts: Facts, user: User) -> Option<String> {
        facts.rootless.then(|| format!("keep-id:uid={},gid={}", user.uid, user.gid))
    }

    fn sayable(&self, path: &Path) -> Result<()> {
        let plain = |text: &str| !text.chars().any(|c| matches!(c, ',' | ':' | '"' | '\\' | '=') || c.is_control());
        match path.to_str() {
            Some(text) if plain(text) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!("Podman cannot be told the path {:?}: it takes none with , : = \" or \\", path),
            )),
        }
    }

    fn own_memory(&self) -> &'static [&'static str] {
        &["/var/tmp"]
    }

    /// With cgroup v1 its containers are in the engine's cgroup namespace, and its interface has no word for
    /// another. They see the names of groups, of which they can change none.
    fn namespaces(&self, facts: Facts) -> Vec<&'static str> {
        let own = |kind: &&str| match *kind {
            "user" => facts.own_users,
            "cgroup" => !facts.groups_v1,
            _ => true,
        };
        NAMESPACES.iter().copied().filter(own).collect()
    }

    /// Where one is asked for it forgets what its configuration says of the others and raises those to
    /// values that it may lack the right for; rootless it ignores them all.
    fn takes_ulimits(&self) -> bool {
        false
    }

    /// As ambient ones.
    fn keeps_capabilities(&self) -> bool {
        true
    }
}
