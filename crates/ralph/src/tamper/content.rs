//! What changed inside a file.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edit, EditKind, Found, shown, verb};
use crate::gates::Tree;
use crate::reason::Reason;

/// Markers that keep a test from running.
const SKIPS: [&str; 28] = [
    "#[ignore",
    ".skip(",
    ".only(",
    ".todo(",
    "xit(",
    "xdescribe(",
    "xtest(",
    "fit(",
    "fdescribe(",
    "skip: true",
    "pytest.mark.skip",
    "pytest.mark.xfail",
    "pytest.skip(",
    "unittest.skip",
    "@skip",
    ".skipTest(",
    "SkipTest(",
    ".SkipTest(",
    "@expectedFailure",
    ".expectedFailure",
    "t.Skip(",
    "t.SkipNow(",
    "b.Skip(",
    "@Disabled",
    "@Ignore",
    "cfg(any())",
    "istanbul ignore",
    "pragma: no cover",
];

/// What begins a test.
const TESTS: [&str; 12] = [
    "#[test]",
    "#[tokio::test",
    "#[rstest",
    "def test_",
    "async def test_",
    "it(",
    "test(",
    "func Test",
    "it.each(",
    "test.each(",
    "@Test",
    "proptest!",
];

/// Ways to end a test program as if all had passed.
const EXITS: [&str; 9] = [
    "process::exit(0)",
    "process.exit(0)",
    "os._exit(0)",
    "sys.exit(0)",
    "os.Exit(0)",
    "pytest.exit(",
    "os.abort(",
    "quit(0)",
    "libc::_exit(0)",
];

/// Whether a file is program text that may hold tests.
pub(super) fn is_source(path: &str) -> bool {
    let ending = path.rsplit('.').next().unwrap_or_default();
    matches!(
        ending,
        "rs" | "js"
            | "mjs"
            | "cjs"
            | "jsx"
            | "ts"
            | "mts"
            | "cts"
            | "tsx"
            | "py"
            | "go"
            | "java"
            | "kt"
            | "rb"
            | "vue"
            | "svelte"
    )
}

/// Occurrences that begin a word: `it(` is not found in `commit(`.
fn count(text: &str, needles: &[&str]) -> usize {
    needles
        .iter()
        .map(|needle| {
            let word = needle.starts_with(|c: char| c.is_alphanumeric());
            text.match_indices(needle)
                .filter(|(at, _)| {
                    !word || !text[..*at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$'))
                })
                .count()
        })
        .sum()
}

/// Fewer tests, more skip markers or more early exits than before.
pub(super) fn weakened(edit: &Edit, before: &dyn Tree, after: &dyn Tree, found: &mut Found) {
    let (old, new) = (before.text(&edit.path).unwrap_or_default(), after.text(&edit.path).unwrap_or_default());
    let path = shown(&edit.path);
    let (had, has) = (count(&old, &TESTS), count(&new, &TESTS));
    if has < had {
        found.flag(format!("tests were removed from `{path}` ({had} before, {has} now)"));
    }
    if count(&new, &SKIPS) > count(&old, &SKIPS) {
        found.flag(format!("tests are skipped in `{path}` that were not before"));
    }
    if had > 0 && count(&new, &EXITS) > count(&old, &EXITS) {
        found.flag(format!("`{path}` holds tests and now ends the program early"));
    }
}

/// What lets one file of tests decide for all others: an early exit with success, and the hooks of test
/// runners.
const TAKEOVERS: [&str; 9] = [
    "load_tests",
    "collect_ignore",
    "pytest_",
    "sys.modules",
    "unittest.main =",
    "globalSetup",
    "setupFiles",
    "process.exitCode = 0",
    "TestMain(",
];

/// A file of tests that is new: skip markers, and whether it could end or steer the tests of others. The
/// second pass is then run without it.
pub(super) fn added(edit: &Edit, after: &dyn Tree, found: &mut Found) {
    let text = after.text(&edit.path).unwrap_or_default();
    let is_test = super::place::of(&edit.path) == super::place::Place::Test;
    if (is_test || count(&text, &TESTS) > 0) && count(&text, &SKIPS) > 0 {
        found.flag(format!("new tests in `{}` are skipped", shown(&edit.path)));
    }
    if is_test && (count(&text, &EXITS) > 0 || TAKEOVERS.iter().any(|hook| text.contains(hook))) {
        found.flag(format!("the new test file `{}` could decide for the others", shown(&edit.path)));
        found.protected.insert(edit.path.clone());
    }
}

/// Whether every line of the old file is still there, in its order.
pub(super) fn only_longer(path: &str, before: &dyn Tree, after: &dyn Tree) -> bool {
    let (Some(old), Some(new)) = (before.read(path), after.read(path)) else { return false };
    let mut new = new.split(|byte| *byte == b'\n');
    old.split(|byte| *byte == b'\n').all(|line| new.any(|other| other == line))
}

/// `.gitmodules`: where code is fetched from is not the agent's to say.
pub(super) fn modules(edit: &Edit, before: &dyn Tree, after: &dyn Tree, found: &mut Found) {
    let settings = |tree: &dyn Tree| -> BTreeSet<String> {
        let text = tree.text(&edit.path).unwrap_or_default();
        // Whatever is not plainly known counts, continuation lines included.
        text.lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
            .collect()
    };
    let (old, new) = (settings(before), settings(after));
    if new.is_subset(&old) && edit.kind != EditKind::TypeChanged && after.read(&edit.path).is_some()
        || edit.kind == EditKind::Deleted
    {
        found.flag(format!("`{}` was {}", shown(&edit.path), verb(edit.kind)));
    } else {
        found.refuse(Reason::Submodule, format!("it changes where submodules come from (`{}`)", shown(&edit.path)));
    }
}

/// `.gitattributes`: drivers run programs on checkout, diff and merge.
pub(super) fn attributes(edit: &Edit, before: &dyn Tree, after: &dyn Tree, found: &mut Found) {
    let drivers = |tree: &dyn Tree| -> BTreeSet<String> {
        let text = tree.text(&edit.path).unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        lines.filter(|line| line.split_whitespace().skip(1).any(is_driver)).map(str::to_owned).collect()
    };
    let unreadable = edit.kind != EditKind::Deleted && after.read(&edit.path).is_none();
    if edit.kind == EditKind::TypeChanged || unreadable || !drivers(after).is_subset(&drivers(before)) {
        found.refuse(Reason::GitTakeover, format!("it sets a filter, diff or merge driver in `{}`", shown(&edit.path)));
    } else {
        found.flag(format!("`{}` was {}", shown(&edit.path), verb(edit.kind)));
    }
}

fn is_driver(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    // Built-in drivers and the switching off of one run nothing.
    let (key, value) = word.split_once('=').unwrap_or((&word, ""));
    match key {
        "filter" => true,
        "merge" => !matches!(value, "" | "text" | "binary" | "union"),
        "diff" => !value.is_empty() && !BUILTIN_DIFF.contains(&value),
        key => key.starts_with("[attr]"),
    }
}

/// Languages that git knows how to show by itself.
const BUILTIN_DIFF: [&str; 26] = [
    "ada", "bash", "bibtex", "cpp", "csharp", "css", "dts", "elixir", "fortran", "fountain", "golang", "html", "java",
    "kotlin", "markdown", "matlab", "objc", "pascal", "perl", "php", "python", "ruby", "rust", "scheme", "tex", "ini",
];

/// A manifest: the part that decides about tests is protected, the dependencies are the story's own.
pub(super) fn manifest(edit: &Edit, before: &dyn Tree, after: &dyn Tree, found: &mut Found) {
    let path = shown(&edit.path);
    if edit.kind == EditKind::Added {
        // A package of the story's own, unless it tells a runner that was there how to run.
        let tests = parts(&edit.path, after).map(|parts| parts.tests).unwrap_or_default();
        let steers = |key: &String| {
            ["tool.pytest", "tool.coverage", "tool.tox", "tool.ruff", "tool.mypy"]
                .iter()
                .any(|tool| key.starts_with(tool))
        };
        if tests.keys().any(steers) {
            found.flag(format!("the new `{path}` configures tests"));
            found.protected.insert(edit.path.clone());
        }
        return;
    }
    if matches!(edit.kind, EditKind::Deleted | EditKind::TypeChanged) {
        found.flag(format!("`{path}` was {}", verb(edit.kind)));
        found.protected.insert(edit.path.clone());
        return;
    }
    let (old, new) = (parts(&edit.path, before), parts(&edit.path, after));
    let (Some(old), Some(new)) = (old, new) else {
        found.flag(format!("`{path}` was changed and cannot be compared"));
        found.protected.insert(edit.path.clone());
        return;
    };
    super::dependencies::inspect(edit, before, after, found);
    if old.dependencies != new.dependencies {
        found.flag(format!("dependencies in `{path}` were changed"));
        found.dependencies_changed.insert(edit.path.clone());
    }
    let changed: Vec<&str> = old
        .tests
        .keys()
        .chain(new.tests.keys())
        .filter(|key| old.tests.get(*key) != new.tests.get(*key))
        .map(String::as_str)
        .collect();
    let changed: BTreeSet<&str> = changed.into_iter().collect();
    if !changed.is_empty() {
        let list = changed.into_iter().take(8).collect::<Vec<_>>().join(", ");
        found.flag(format!("test configuration in `{path}` was changed ({})", shown(&list)));
        found.protected.insert(edit.path.clone());
    }
}

/// A manifest's parts, each as text to compare.
struct Parts {
    tests: BTreeMap<String, String>,
    dependencies: BTreeMap<String, String>,
}

fn parts(path: &str, tree: &dyn Tree) -> Option<Parts> {
    let text = tree.text(path)?;
    let is_json = path.to_ascii_lowercase().ends_with("package.json");
    let json: serde_json::Value = if is_json {
        serde_json::from_str(&text).ok()?
    } else {
        serde_json::to_value(toml::from_str::<toml::Table>(&text).ok()?).ok()?
    };
    let mut parts = Parts { tests: BTreeMap::new(), dependencies: BTreeMap::new() };
    let mut sort = |key: String, value: &serde_json::Value| {
        let last = key.rsplit('.').next().unwrap_or_default();
        let dependencies = last.to_ascii_lowercase().ends_with("dependencies")
            || key == "project.dependencies"
            || key == "dependency-groups"
            || key == "project.optional-dependencies";
        let harmless = [
            "name",
            "version",
            "description",
            "keywords",
            "author",
            "authors",
            "license",
            "readme",
            "repository",
            "homepage",
            "bugs",
            "contributors",
            "private",
            "main",
            "types",
            "bin",
            "project.scripts",
            "files",
            "funding",
        ];
        // A script may have any of these names, and `[[bin]]` says whether its tests are run.
        let decides = key.starts_with("scripts.") || key == "bin" && !is_json;
        let target = if decides {
            &mut parts.tests
        } else if dependencies {
            &mut parts.dependencies
        } else if harmless.contains(&last) || harmless.contains(&key.as_str()) {
            return;
        } else {
            &mut parts.tests
        };
        target.insert(key, value.to_string());
    };
    for (key, value) in json.as_object()? {
        match (key.as_str(), value.as_object()) {
            ("scripts" | "package" | "project" | "workspace" | "tool" | "features" | "profile", Some(inner)) => {
                for (name, value) in inner {
                    let key = format!("{key}.{name}");
                    // Features and starting scripts are the program's; what a check calls is not known here.
                    if !key.starts_with("features.")
                        && !matches!(key.as_str(), "scripts.start" | "scripts.dev" | "scripts.serve")
                    {
                        sort(key, value);
                    }
                }
            }
            _ => sort(key.clone(), value),
        }
    }
    Some(parts)
}
