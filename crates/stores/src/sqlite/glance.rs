//! Looks at runs that do not read their whole records.

use cove_core::{Phase, Result, RunId, RunRecord};
use rusqlite::params;

use super::Store;
use super::failure::failed;
use super::rows::{bound, texts};

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

    /// Runs older than `before`, newest first, at most `limit`; all of them without it. The id of a page's
    /// last run is where the next page begins, also when runs were made or removed in between.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn runs_before(&self, before: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>> {
        let before = before.map(|id| id.as_str().to_owned());
        self.read(move |db| {
            texts(
                db,
                "SELECT record FROM runs WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2",
                params![before, bound(limit)],
                "Reading the runs",
            )
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
