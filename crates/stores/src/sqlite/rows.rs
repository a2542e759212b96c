//! The statements behind [`cove_core::Records`].

use cove_core::{Entry, Error, ErrorKind, NewEntry, Result, RunId, RunRecord, SandboxInfo};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::{from_str, to_string};

use super::failure::{failed, is_constraint};

pub(super) fn commit(db: &mut Connection, record: &RunRecord, facts: Vec<NewEntry>) -> Result<Vec<Entry>> {
    let storing = || format!("Storing run {}", record.id);
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| failed(storing(), e))?;
    let stored: Option<(i64, i64)> = change
        .prepare_cached("SELECT version, last_seq FROM runs WHERE id = ?1")
        .and_then(|mut s| s.query_row([record.id.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(|e| failed(storing(), e))?;
    let version = number(record.version);
    let expected = version - 1;
    let last = match stored {
        None if expected == 0 => 0,
        None => return Err(missing(&record.id)),
        Some((stored, last)) if stored == expected => last,
        Some((stored, _)) => {
            return Err(Error::new(ErrorKind::Conflict, format!("Run {} changed meanwhile", record.id))
                .with("stored", stored)
                .with("expected", expected));
        }
    };
    let at = Timestamp::now();
    let entries: Vec<Entry> = facts
        .into_iter()
        .zip(last.unsigned_abs() + 1..)
        .map(|(fact, seq)| Entry { seq, run: record.id.clone(), at, fact })
        .collect();
    let text = encode(record, &storing)?;
    let last = last + entries.len() as i64;
    change
        .prepare_cached(
            "INSERT INTO runs (id, name, phase, living, version, last_seq, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, phase = excluded.phase, living = excluded.living,
               version = excluded.version, last_seq = excluded.last_seq, record = excluded.record",
        )
        .and_then(|mut s| {
            s.execute(params![
                record.id.as_str(),
                record.name,
                record.phase.name(),
                !record.phase.is_final(),
                version,
                last,
                text
            ])
        })
        .map_err(|e| if is_constraint(&e) { name_taken(&record.name) } else { failed(storing(), e) })?;
    for entry in &entries {
        let text = encode(entry, &storing)?;
        change
            .prepare_cached("INSERT INTO entries (run, seq, entry) VALUES (?1, ?2, ?3)")
            .and_then(|mut s| s.execute(params![record.id.as_str(), number(entry.seq), text]))
            .map_err(|e| failed(storing(), e))?;
    }
    change.commit().map_err(|e| failed(storing(), e))?;
    Ok(entries)
}

pub(super) fn run(db: &mut Connection, id: &RunId) -> Result<RunRecord> {
    let reading = || format!("Reading run {id}");
    let text: Option<String> = db
        .prepare_cached("SELECT record FROM runs WHERE id = ?1")
        .and_then(|mut s| s.query_row([id.as_str()], |row| row.get(0)).optional())
        .map_err(|e| failed(reading(), e))?;
    decode(&text.ok_or_else(|| missing(id))?, &reading)
}

pub(super) fn runs(db: &mut Connection, limit: usize) -> Result<Vec<RunRecord>> {
    texts(db, "SELECT record FROM runs ORDER BY id DESC LIMIT ?1", params![bound(limit)], "Reading the runs")
}

pub(super) fn entries(db: &mut Connection, id: &RunId, after: u64, limit: usize) -> Result<Vec<Entry>> {
    texts(
        db,
        "SELECT entry FROM entries WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        params![id.as_str(), number(after), bound(limit)],
        "Reading the ledger",
    )
}

pub(super) fn put_sandbox(db: &mut Connection, info: &SandboxInfo) -> Result<()> {
    let storing = || format!("Storing sandbox {}", info.id);
    let text = encode(info, &storing)?;
    db.prepare_cached(
        "INSERT INTO sandboxes (id, info) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET info = excluded.info",
    )
    .and_then(|mut s| s.execute(params![info.id.as_str(), text]))
    .map_err(|e| failed(storing(), e))?;
    Ok(())
}

pub(super) fn sandboxes(db: &mut Connection) -> Result<Vec<SandboxInfo>> {
    texts(db, "SELECT info FROM sandboxes ORDER BY id DESC", params![], "Reading the sandboxes")
}

/// Runs a deletion by key.
pub(super) fn forget(db: &mut Connection, statement: &str, key: &str) -> Result<()> {
    db.prepare_cached(statement)
        .and_then(|mut s| s.execute([key]))
        .map_err(|e| failed(format!("Forgetting {key}"), e))?;
    Ok(())
}

pub(super) fn texts<T: serde::de::DeserializeOwned>(
    db: &Connection,
    statement: &str,
    parameters: &[&dyn rusqlite::ToSql],
    doing: &str,
) -> Result<Vec<T>> {
    let texts: Vec<String> = db
        .prepare_cached(statement)
        .and_then(|mut s| s.query_map(parameters, |row| row.get(0))?.collect())
        .map_err(|e| failed(doing, e))?;
    texts.iter().map(|text| decode(text, &|| doing.to_owned())).collect()
}

/// SQLite's integers are signed; nothing counted here comes near the difference.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn encode(value: &impl serde::Serialize, doing: &dyn Fn() -> String) -> Result<String> {
    to_string(value)
        .map_err(|e| Error::internal(format!("{} failed: it cannot be written as JSON", doing())).because(e))
}

fn decode<T: serde::de::DeserializeOwned>(text: &str, doing: &dyn Fn() -> String) -> Result<T> {
    from_str(text).map_err(|e| {
        Error::internal(format!("{} failed: a record cannot be understood", doing()))
            .because(e)
            .next("Use the version of Cove that wrote it")
    })
}

fn missing(id: &RunId) -> Error {
    Error::not_found(format!("There is no run {id}")).next("`cove runs list` shows those there are")
}

fn name_taken(name: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("A living run has the name {name:?} already"))
        .next("Choose another name, or stop that run")
}
