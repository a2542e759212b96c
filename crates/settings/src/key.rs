//! The keys there are, read off the model.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::model::Settings;
use crate::project::ProjectRule;
use crate::schema::descriptions;

/// One key, without the leading `ralph.`.
#[derive(Debug, Clone)]
pub struct Key {
    /// Dotted path, such as `container.gc.maxIdleMinutes`.
    pub path: String,
    /// What it means.
    pub description: String,
    /// Built-in value; null for none.
    pub default: Value,
    /// What a repository's own file may do with it.
    pub project: ProjectRule,
    /// Whether this version acts on it. Keys of the sources that have no effect yet are read and
    /// checked, and draw a warning.
    pub in_force: bool,
}

/// Groups of keys that nothing acts on yet.
const NOT_IN_FORCE: [&str; 6] =
    ["git", "storage", "backup", "container.gc", "security.scanOnStart", "security.blockOnVulnerabilities"];

impl Key {
    /// Every key, sorted by path.
    pub fn all() -> &'static BTreeMap<String, Self> {
        static KEYS: OnceLock<BTreeMap<String, Key>> = OnceLock::new();
        KEYS.get_or_init(|| {
            let texts = descriptions();
            let mut out = BTreeMap::new();
            leaves(&defaults(), &mut Vec::new(), &mut |path, value| {
                let key = Self {
                    path: path.to_owned(),
                    description: texts.get(path).cloned().unwrap_or_default(),
                    default: value.clone(),
                    project: ProjectRule::of(path),
                    in_force: !NOT_IN_FORCE.iter().any(|group| below(path, group)),
                };
                out.insert(path.to_owned(), key);
            });
            out
        })
    }

    /// The key that `text` names, with or without `ralph.`.
    ///
    /// # Errors
    /// `NotFound` with the nearest key.
    pub fn find(text: &str) -> cove_core::Result<&'static Self> {
        let path = text.strip_prefix("ralph.").unwrap_or(text);
        Self::all().get(path).ok_or_else(|| {
            let inside: Vec<&str> = Self::all().keys().filter(|key| below(key, path)).map(String::as_str).collect();
            let error = cove_core::Error::not_found(format!("There is no setting {text}"));
            match (inside.is_empty(), nearest(path)) {
                (false, _) => error.next(format!("It is a group; its keys are {}", inside.join(", "))),
                (true, Some(near)) => error.next(format!("Did you mean {near}?")),
                (true, None) => error.next("cove config list shows all"),
            }
        })
    }

    /// Whether `path` is a group of keys.
    pub(crate) fn is_group(path: &str) -> bool {
        Self::all().keys().any(|key| key != path && below(key, path))
    }
}

/// Whether `path` is `group` or lies in it.
pub(crate) fn below(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The defaults as JSON.
pub(crate) fn defaults() -> Value {
    serde_json::to_value(Settings::default()).expect("settings are plain data")
}

/// Calls `visit` with every leaf: anything but a non-empty object.
fn leaves(value: &Value, path: &mut Vec<String>, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, inner) in map {
                path.push(name.clone());
                leaves(inner, path, visit);
                path.pop();
            }
        }
        _ => visit(&path.join("."), value),
    }
}

/// The known key that is nearest to a mistyped one; `None` when none is near.
pub fn nearest(path: &str) -> Option<String> {
    let lower = path.to_lowercase();
    let last = |text: &str| text.rsplit('.').next().unwrap_or(text).to_lowercase();
    let near = |wanted: &str, bound: usize, measure: &dyn Fn(&str) -> String| {
        Key::all()
            .keys()
            .map(|key| (distance(wanted, &measure(key)), key))
            .filter(|(far, _)| *far <= bound)
            .min()
            .map(|(_, key)| key.clone())
    };
    let bound = (lower.len() / 4).clamp(1, 4);
    // The whole path first; then its last word anywhere, for a key put into the wrong group.
    near(&lower, bound, &|key| key.to_lowercase()).or_else(|| near(&last(path), last(path).len() / 4, &last))
}

/// Edit distance (Levenshtein) of two short texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let change = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_says_what_it_means() {
        let silent: Vec<&String> =
            Key::all().iter().filter(|(_, key)| key.description.is_empty()).map(|(path, _)| path).collect();
        assert!(silent.is_empty(), "{silent:?}");
        assert!(Key::all().contains_key("container.gc.maxIdleMinutes"));
        assert!(Key::all().contains_key("loop.maxIterations"));
        assert!(Key::all().contains_key("agents"));
    }

    #[test]
    fn typos_find_their_key() {
        for (typo, key) in [
            ("container.gc.maxIdelMinutes", Some("container.gc.maxIdleMinutes")),
            ("container.maxIdleMinutes", Some("container.gc.maxIdleMinutes")),
            ("loop.maxiterations", Some("loop.maxIterations")),
            ("contaner.engine", Some("container.engine")),
            ("memory", Some("container.resources.memory")),
            ("zzzzzz", None),
        ] {
            assert_eq!(nearest(typo).as_deref(), key, "{typo}");
        }
    }
}
