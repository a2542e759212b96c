//! What a supervisor that is gone may have left in its engine.

use std::fs;
use std::path::Path;

use cove_core::{InstanceId, Result, SandboxId, Swept};

use super::client::{Address, Client};
use super::launch::Options;
use super::look;
use super::removal::{remove, speaking};
use super::request::{INSTANCE, MANAGED, SANDBOX, container_name};
use crate::supervisor::launch::{Place, Remains};

/// Written into a sandbox's directory when its container is known to be gone.
pub const GONE: &str = "container.gone";

/// Containers, found by their labels.
#[derive(Debug)]
pub struct Left {
    /// Where the engine listens.
    pub address: Address,
}

impl Left {
    fn of(&self, instance: &InstanceId) -> Result<Vec<(String, SandboxId)>> {
        let labels = [(MANAGED, "true"), (INSTANCE, instance.as_str())];
        let found = speaking(&self.address)?.block_on(look::labelled(&self.address, &labels))?;
        let known = |(id, labels): (String, std::collections::HashMap<String, String>)| {
            Some((id, labels.get(SANDBOX)?.parse().ok()?))
        };
        Ok(found.into_iter().filter_map(known).collect())
    }
}

impl Remains for Left {
    fn find(&self, instance: &InstanceId) -> Result<Vec<SandboxId>> {
        let mut ids: Vec<SandboxId> = self.of(instance)?.into_iter().map(|(_, sandbox)| sandbox).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    fn clear(&self, place: &Place) -> Result<Vec<Swept>> {
        if fs::exists(place.dir.join(GONE)).unwrap_or(false) {
            return Ok(Vec::new());
        }
        // It may have been made in an engine that listened elsewhere.
        let options: Option<Options> = serde_json::from_value(place.options.clone()).ok();
        let address = options.map_or_else(|| self.address.clone(), |options| options.address);
        let name = container_name(&place.instance, &place.id);
        let runtime = speaking(&address)?;
        runtime.block_on(async {
            let Some(seen) = look::container(&address, &name).await? else { return Ok(Vec::new()) };
            // By the labels, never by the name: a stranger may have it.
            let ours = [(MANAGED, "true"), (INSTANCE, place.instance.as_str()), (SANDBOX, place.id.as_str())];
            if !ours.iter().all(|(label, value)| seen.labels.get(*label).is_some_and(|found| found == value)) {
                return Ok(Vec::new());
            }
            remove(&Client::to(&address)?, &seen.id).await?;
            Ok(vec![Swept { kind: "container".to_owned(), name }])
        })
    }
}

/// Notes that a sandbox's container is gone.
pub fn note_gone(dir: &Path) {
    // Without the note it is looked for once more.
    let _ = fs::write(dir.join(GONE), b"");
}
