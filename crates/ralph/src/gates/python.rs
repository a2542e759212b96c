//! Python: pytest where the repository uses it, tox where it has only that, else unittest.

use cove_core::run::GateSpec;

use super::Tree;
use super::detect::gate;

/// Tests, and what decides how they are run.
pub(super) const PROTECTS: [&str; 15] = [
    "test/**",
    "tests/**",
    "**/tests/**",
    "**/test_*.py",
    "**/*_test.py",
    "**/conftest.py",
    "pytest.ini",
    ".pytest.ini",
    "pyproject.toml",
    "setup.cfg",
    "tox.ini",
    "poetry.lock",
    "uv.lock",
    "Pipfile.lock",
    "requirements*.txt",
];

pub(super) fn is_requirements(path: &str) -> bool {
    let name = path.strip_prefix("requirements/").unwrap_or(path);
    !name.contains('/') && path.contains("requirements") && path.ends_with(".txt")
}

pub(super) fn detect(tree: &dyn Tree) -> Vec<GateSpec> {
    let file = |name: &str| tree.text(name).unwrap_or_default();
    let tests = |path: &&String| is_test(path);
    let some_test = tree.files().iter().find(tests);
    let pytest = tree.has("pytest.ini")
        || tree.has(".pytest.ini")
        || tree.files().iter().any(|path| path == "conftest.py" || path.ends_with("/conftest.py"))
        || ["pyproject.toml", "setup.cfg", "setup.py", "Pipfile", "tox.ini"]
            .iter()
            .any(|name| file(name).contains("pytest"))
        || tree
            .files()
            .iter()
            .filter(|path| is_requirements(path))
            .any(|path| file(path).lines().any(|line| line.trim().starts_with("pytest")));
    let source = if tree.files().iter().any(|path| path.starts_with("src/") && path.ends_with(".py")) {
        "PYTHONPATH=src "
    } else {
        ""
    };
    if pytest {
        return vec![gate("pytest", &format!("{source}python3 -m pytest -q"), &PROTECTS)];
    }
    if tree.has("tox.ini") && file("tox.ini").contains("[testenv") {
        return vec![gate("tox", "tox", &PROTECTS)];
    }
    let Some(first) = some_test else { return Vec::new() };
    let directory = ["tests", "test"]
        .into_iter()
        .find(|directory| tree.files().iter().filter(tests).any(|path| path.starts_with(&format!("{directory}/"))));
    let command = match directory {
        // A package of tests is imported from the root, loose files from where they lie.
        Some(directory) if tree.has(&format!("{directory}/__init__.py")) => {
            format!("python3 -m unittest discover -s {directory} -t .")
        }
        Some(directory) => format!("python3 -m unittest discover -s {directory}"),
        None if !first.contains('/') => "python3 -m unittest discover".to_owned(),
        None => return Vec::new(),
    };
    vec![gate("unittest", &format!("{source}{command}"), &PROTECTS)]
}

/// What `unittest discover` takes by default.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with("test") && name.ends_with(".py")
}
