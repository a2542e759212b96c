//! Trials side by side.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Trials at a time, where `COVE_CRASH_PARALLEL` does not say another number.
const PARALLEL: usize = 3;

/// A number from the environment.
///
/// # Panics
/// When the variable holds something else.
pub fn number(variable: &str, otherwise: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")),
        Err(_) => otherwise,
    }
}

/// Tries every item, some at a time; what they return, in the order of the items. All are tried even
/// when some fail.
///
/// # Panics
/// After the last one, with the names and words of those that failed.
pub fn each<T: Sync + std::fmt::Debug, R: Send>(items: &[T], trial: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::new());
    let failed: Mutex<Vec<String>> = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..number("COVE_CRASH_PARALLEL", PARALLEL).max(1) {
            threads.spawn(|| {
                while let Some((at, item)) = {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    items.get(at).map(|i| (at, i))
                } {
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trial(item))) {
                        Ok(result) => results.lock().unwrap().push((at, result)),
                        Err(word) => {
                            let word = word.downcast_ref::<String>().cloned();
                            failed.lock().unwrap().push(format!("{item:?}: {}", word.unwrap_or_default()));
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} trials failed:\n{}", failed.len(), items.len(), failed.join("\n"));
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}
