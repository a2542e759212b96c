//! What was proven of an engine, remembered: proving it takes several containers.

use std::fs;
use std::path::{Path, PathBuf};

use cove_core::Capabilities;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Everything that the proof depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The engine and where it listens.
    pub address: super::client::Address,
    /// What it says of its version.
    pub engine_version: String,
    /// Whether it is rootless, and whether it has users of its own.
    pub facts: super::dialect::Facts,
    /// This boot of the machine: modules, limits and groups change with it.
    pub boot: String,
    /// The program that proved it.
    pub program: String,
    /// As whom.
    pub user: u32,
}

#[derive(Serialize, Deserialize)]
struct Known {
    key: Key,
    capabilities: Capabilities,
}

/// The identity of this boot; empty when it is not told.
pub fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

fn path(state: &Path, key: &Key) -> PathBuf {
    let socket = Sha256::digest(key.address.socket.as_os_str().as_encoded_bytes());
    state.join("engines").join(format!("{}-{}.json", key.address.engine, &hex::encode(socket)[..12]))
}

/// What was proven under the same circumstances.
pub fn recall(state: &Path, key: &Key) -> Option<Capabilities> {
    let bytes = fs::read(path(state, key)).ok()?;
    let known: Known = serde_json::from_slice(&bytes).ok()?;
    (known.key == *key && !key.boot.is_empty()).then_some(known.capabilities)
}

/// Remembers. One that cannot be remembered is proven again.
pub fn remember(state: &Path, key: &Key, capabilities: &Capabilities) {
    let path = path(state, key);
    let write = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(state);
        fs::create_dir_all(dir)?;
        let known = Known { key: key.clone(), capabilities: capabilities.clone() };
        let fresh = tempfile::NamedTempFile::new_in(dir)?;
        fs::write(fresh.path(), serde_json::to_vec(&known)?)?;
        fresh.persist(&path)?;
        Ok(())
    };
    let _ = write();
}

#[cfg(test)]
mod tests {
    use super::*;
    use cove_core::{Control, EngineKind};

    #[test]
    fn recalled_under_the_same_circumstances_only() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key {
            address: super::super::client::Address {
                engine: EngineKind::Docker,
                socket: "/run/x.sock".into(),
                version: (1, 41),
            },
            engine_version: "20".to_owned(),
            facts: Default::default(),
            boot: "b".to_owned(),
            program: "p".to_owned(),
            user: 0,
        };
        assert_eq!(recall(dir.path(), &key), None);
        let known = Capabilities::default().proven(Control::Seccomp);
        remember(dir.path(), &key, &known);
        assert_eq!(recall(dir.path(), &key), Some(known));
        for other in
            [Key { engine_version: "29".to_owned(), ..key.clone() }, Key { boot: "c".to_owned(), ..key.clone() }]
        {
            assert_eq!(recall(dir.path(), &other), None);
        }
        fs::write(path(dir.path(), &key), "damaged").unwrap();
        assert_eq!(recall(dir.path(), &key), None);
    }
}
