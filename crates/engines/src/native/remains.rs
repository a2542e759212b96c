//! What a supervisor that is gone may have left: control groups, and processes in them. Mounts go
//! with the sandbox's namespace, and the first process dies with its supervisor.

use std::time::Duration;

use cove_core::{Error, ErrorKind, InstanceId, Result, SandboxId, Swept};

use super::cgroup::{self, Sites};
use super::launch::{group_name, group_prefix};
use crate::supervisor::launch::{Place, Remains};

/// How long a sweep waits for processes to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Finds remains by the names of control groups, which carry instance and sandbox.
#[derive(Debug)]
pub struct Groups;

impl Remains for Groups {
    fn find(&self, instance: &InstanceId) -> Result<Vec<SandboxId>> {
        let prefix = group_prefix(instance);
        let names = cgroup::names(&Sites::discover(), &prefix)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect())
    }

    fn clear(&self, place: &Place) -> Result<Vec<Swept>> {
        let name = group_name(&place.instance, &place.id);
        let mut groups = cgroup::find(&Sites::discover(), &name)?;
        let swept = groups.paths().map(|path| Swept { kind: "cgroup".to_owned(), name: path.display().to_string() });
        let swept: Vec<Swept> = swept.collect();
        if !groups.kill(PATIENCE) {
            return Err(
                Error::new(ErrorKind::Timeout, "Processes of a lost sandbox do not end").with("sandbox", &place.id)
            );
        }
        groups.remove()?;
        Ok(swept)
    }
}
