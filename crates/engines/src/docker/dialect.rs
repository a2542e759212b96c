//! How Docker says it.

use std::path::Path;

use bollard::models::HostConfig;
use cove_core::{EngineKind, Error, ErrorKind, Result, User};
use serde_json::Value;

use crate::container::dialect::{Dialect, Facts};
use crate::native::plan::Memory;
use crate::proof::NAMESPACES;

/// Docker Engine.
#[derive(Debug)]
pub struct Docker;

impl Dialect for Docker {
    fn engine(&self) -> EngineKind {
        EngineKind::Docker
    }

    /// The profile itself.
    fn filter(&self, profile: &Value, _dir: &Path) -> Result<String> {
        Ok(format!("seccomp={profile}"))
    }

    fn cover(&self, host: &mut HostConfig, masked: Vec<String>, read_only: Vec<String>) {
        host.masked_paths = Some(masked);
        host.readonly_paths = Some(read_only);
    }

    fn memory(&self, memory: &Memory, user: User) -> String {
        let programs = if memory.programs { "exec" } else { "noexec" };
        let inodes = (memory.bytes / 4096).clamp(1024, 1 << 20);
        format!(
            "rw,nosuid,nodev,{programs},size={},nr_inodes={inodes},mode={:o},uid={},gid={}",
            memory.bytes, memory.mode, user.uid, user.gid
        )
    }

    fn users(&self, _facts: Facts, _user: User) -> Option<String> {
        None
    }

    fn sayable(&self, path: &Path) -> Result<()> {
        match path.to_str() {
            Some(_) => Ok(()),
            None => {
                Err(Error::new(ErrorKind::Unsupported, "Docker takes paths in UTF-8 only").with("path", path.display()))
            }
        }
    }

    fn own_memory(&self) -> &'static [&'static str] {
        &[]
    }

    fn namespaces(&self, facts: Facts) -> Vec<&'static str> {
        NAMESPACES.iter().copied().filter(|kind| facts.own_users || *kind != "user").collect()
    }

    fn takes_ulimits(&self) -> bool {
        true
    }

    /// It drops them when the program of another user starts.
    fn keeps_capabilities(&self) -> bool {
        false
    }
}
