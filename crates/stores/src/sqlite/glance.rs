//! Looks at runs that do not read their whole records.

use cove_core::{Phase, Result, RunId, RunRecord};
use rusqlite::params;

use super::Store;
use super::failure::failed;
use super::rows::texts;

/// What there is to see of a run at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunGlance {
    /// Identifier.
    pub id: RunId,
    /// Name.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
}

impl Store {
    /// All runs at a glance, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn glance(&self) -> Result<Vec<RunGlance>> {
        self.read(|db| {
            let looking = |e| failed("Looking at the runs", e);
            let mut statement =
                db.prepare_cached("SELECT id, name, phase FROM runs ORDER BY id DESC").map_err(looking)?;
            let rows: Vec<(String, String, String)> = statement
                .query_map(params![], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .and_then(Iterator::collect)
                .map_err(looking)?;
            rows.into_iter()
                .map(|(id, name, phase)| {
                    let phase = serde_json::from_value(phase.into()).map_err(|e| {
                        cove_core::Error::internal(format!("The phase of run {id} cannot be understood")).because(e)
                    })?;
                    Ok(RunGlance { id: id.parse()?, name, phase })
                })
                .collect()
        })
        .await
    }

    /// The whole records of the runs that are not over, newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn living_runs(&self) -> Result<Vec<RunRecord>> {
        self.read(|db| {
            texts(db, "SELECT record FROM runs WHERE living = 1 ORDER BY id DESC", params![], "Reading the living runs")
        })
        .await
    }
}
