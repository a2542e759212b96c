//! Requests that carry a key, one at a time for each key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use cove_api::IDEMPOTENCY_KEY;
use cove_core::{Error, ErrorKind, Result};
use http::HeaderMap;

/// Keys whose first request is under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Arc<Mutex<HashSet<String>>>);

/// A key whose request is under way; until dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    keys: Keys,
    pub(crate) key: String,
}

impl Keys {
    /// The turn of a request's key, if it has one.
    ///
    /// # Errors
    /// `Invalid` for a key that is none, `Conflict` while an earlier request with it is under way.
    pub(crate) fn turn(&self, headers: &HeaderMap) -> Result<Option<Turn>> {
        let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let key = value.to_str().ok().filter(|key| (1..=200).contains(&key.len())).ok_or_else(|| {
            Error::invalid("The idempotency key is not 1 to 200 visible characters").next("Send a UUID, for instance")
        })?;
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned()) {
            return Err(Error::new(ErrorKind::Conflict, "A request with this idempotency key is under way")
                .next("Send it again later"));
        }
        Ok(Some(Turn { keys: self.clone(), key: key.to_owned() }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.keys.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
