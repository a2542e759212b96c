//! Keys by which a repeated request finds its first answer (`Idempotency-Key`).

use cove_core::{Error, ErrorKind, Result, RunId};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use super::Store;
use super::failure::failed;

/// How long a key is remembered.
const KEPT_SECONDS: i64 = 7 * 86_400;

/// What a key's claim found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nobody used the key; this request shall do the work.
    New,
    /// An earlier equal request made this run.
    Made(RunId),
    /// An earlier equal request was cut off by the death of its process: it may have made a run at this
    /// second or later, or not. This request shall find out.
    Unfinished {
        /// Seconds since 1970.
        since: i64,
    },
}

impl Store {
    /// Claims a key for a request with this digest. A new claim lasts until it is
    /// [fulfilled](Self::fulfil_request) or [released](Self::release_request).
    ///
    /// # Errors
    /// `Conflict` when the key was used for another request.
    pub async fn claim_request(&self, key: &str, digest: &str) -> Result<Claim> {
        let (key, digest) = (key.to_owned(), digest.to_owned());
        self.write(move |db| {
            let claiming = |e| failed("Claiming a request key", e);
            let change = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(claiming)?;
            let now = Timestamp::now().as_second();
            change.execute("DELETE FROM requests WHERE at_seconds < ?1", [now - KEPT_SECONDS]).map_err(claiming)?;
            let known: Option<(String, Option<String>, i64)> = change
                .query_row("SELECT digest, run, at_seconds FROM requests WHERE key = ?1", [&key], |r| {
                    Ok((r.get(0)?, r.get(1)?, r.get(2)?))
                })
                .optional()
                .map_err(claiming)?;
            let claim = match known {
                Some((first, ..)) if first != digest => {
                    return Err(Error::new(ErrorKind::Conflict, "The idempotency key was used for another request")
                        .next("Send a new key with a new request"));
                }
                Some((_, Some(run), _)) => Claim::Made(run.parse()?),
                Some((_, None, since)) => Claim::Unfinished { since },
                None => {
                    change
                        .execute(
                            "INSERT INTO requests (key, digest, at_seconds) VALUES (?1, ?2, ?3)",
                            params![key, digest, now],
                        )
                        .map_err(claiming)?;
                    Claim::New
                }
            };
            change.commit().map_err(claiming)?;
            Ok(claim)
        })
        .await
    }

    /// Records which run a claimed request made.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn fulfil_request(&self, key: &str, run: &RunId) -> Result<()> {
        let (key, run) = (key.to_owned(), run.clone());
        self.write(move |db| {
            db.execute("UPDATE requests SET run = ?2 WHERE key = ?1", params![key, run.as_str()])
                .map_err(|e| failed("Fulfilling a request key", e))?;
            Ok(())
        })
        .await
    }

    /// Gives a claimed key back after a request that failed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn release_request(&self, key: &str) -> Result<()> {
        let key = key.to_owned();
        self.write(move |db| super::rows::forget(db, "DELETE FROM requests WHERE key = ?1 AND run IS NULL", &key)).await
    }
}
