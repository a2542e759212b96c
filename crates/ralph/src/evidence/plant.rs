//! Tests that must fail, for files that hold tests.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Most files that get such tests.
pub(crate) const FILES: usize = 200;

/// The form of a file of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Python, for unittest and pytest.
    Python,
    /// JavaScript or TypeScript.
    Script,
    /// A Rust crate's root, or an integration test.
    Rust,
    /// Go.
    Go,
}

/// The form of the file at this path, where it is one that tests can be added to.
pub fn language(path: &str) -> Option<Language> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.split('.').next().unwrap_or_default();
    let ending = name.rsplit('.').next().unwrap_or_default();
    let inside = |parts: &[&str]| directory.split('/').any(|part| parts.contains(&part));
    if inside(&["node_modules", "fixtures", "testdata", "target", "vendor"]) {
        return None;
    }
    match ending {
        "py" if stem.starts_with("test") || stem.ends_with("_test") => Some(Language::Python),
        "js" | "mjs" | "cjs" | "ts" | "mts" | "cts" | "jsx" | "tsx" => {
            let marked = name.contains(".test.") || name.contains(".spec.");
            (marked || stem.ends_with("test") || stem.starts_with("test") || inside(&["test", "tests", "__tests__"]))
                .then_some(Language::Script)
        }
        "rs" => {
            let root = matches!(name, "lib.rs" | "main.rs") && directory.rsplit('/').next() == Some("src");
            (root || directory.rsplit('/').next() == Some("tests")).then_some(Language::Rust)
        }
        "go" if name.ends_with("_test.go") => Some(Language::Go),
        _ => None,
    }
}

/// What to add to a file so that its tests fail: through the runner's own assertions, and past them.
/// None where the file's text gives no hold. `mark` is a word of letters and digits that begins with a
/// letter; each test is called after it, the file's `number` and a number of its own.
pub fn plant(language: Language, text: &str, mark: &str, number: usize) -> Option<String> {
    let n = format!("{mark}_{number}");
    Some(match language {
        Language::Python => format!(
            "\n\nimport unittest as _{mark}\n\n\nclass Test{mark}(_{mark}.TestCase):\n\
             \x20   def test_{n}_0(self):\n        raise AssertionError(\"{mark}\")\n\n\
             \x20   def test_{n}_1(self):\n        self.assertEqual(1, 2)\n\n\
             \x20   def test_{n}_2(self):\n        self.assertTrue(False)\n\n\
             \x20   def test_{n}_3(self):\n        assert 1 == 2\n"
        ),
        Language::Rust => format!(
            "\n#[cfg(test)]\nmod {mark} {{\n    #[test]\n    fn t_{n}_0() {{\n        ::core::panic!()\n    }}\n\n\
             \x20   #[test]\n    fn t_{n}_1() {{\n        assert_eq!(1, 2);\n    }}\n}}\n"
        ),
        Language::Go if text.contains("\"testing\"") => {
            format!("\nfunc Test{n}_0(t *testing.T) {{\n\tt.Fatal(1)\n}}\n")
        }
        Language::Go => return None,
        Language::Script if text.contains("node:test") => format!(
            "\n;import('node:test').then((m) => m.test('{n}_0', () => {{ throw new Error('{mark}'); }}));\n\
             ;Promise.all([import('node:test'), import('node:assert')]).then(([m, a]) => {{\n\
             \x20 m.test('{n}_1', () => a.default.equal(1, 2));\n\
             \x20 m.test('{n}_2', () => a.default.strictEqual(1, 2));\n\
             \x20 m.test('{n}_3', () => a.default.deepEqual([1], [2]));\n}});\n"
        ),
        Language::Script => {
            let named = |module: &str| text.contains(&format!("'{module}'")) || text.contains(&format!("\"{module}\""));
            let begin = if let Some(module) = ["vitest", "@jest/globals", "bun:test"].into_iter().find(|m| named(m)) {
                format!("\nimport {{ test as {mark}, expect as {mark}e }} from '{module}';\n")
            } else if text.contains("it(") || text.contains("test(") {
                format!(
                    "\n;var {mark} = globalThis.it || globalThis.test;\nvar {mark}e = globalThis.expect || (() => ({{ toBe() {{ throw new Error('{mark}'); }} }}));\n"
                )
            } else {
                return None;
            };
            format!(
                "{begin}{mark}('{n}_0', () => {{ throw new Error('{mark}'); }});\n{mark}('{n}_1', () => {{ {mark}e(1).toBe(2); }});\n"
            )
        }
    })
}

/// What a run with planted tests showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tripwire {
    /// Whether the check failed, as it must.
    pub tripped: bool,
    /// Planted tests that its output names, by file and number: `tests/test_a.py#0`.
    pub named: BTreeSet<String>,
    /// Planted in these files.
    pub files: BTreeSet<String>,
}

impl Tripwire {
    /// Why the check is not to be believed, by what the same showed on the base; none when it is.
    ///
    /// `ends_early` says that the runner stops at a first failure: it need not name more than one then.
    pub fn objection(&self, base: Option<&Self>, known: bool, ends_early: bool) -> Option<String> {
        // Where the base's check passed with them too, or its output names none and we do not know the
        // command, they are not among what it runs.
        let base_named = base.is_some_and(|base| !base.named.is_empty());
        if base.is_some_and(|base| !base.tripped) || !base_named && !known || self.files.is_empty() {
            return None;
        }
        if !self.tripped {
            return Some(format!("it passed although tests that must fail were put into {}", list(&self.files)));
        }
        let base = base.filter(|base| !base.named.is_empty())?;
        let due: BTreeSet<&String> = base
            .named
            .iter()
            .filter(|name| name.rsplit_once('#').is_some_and(|(file, _)| self.files.contains(file)))
            .collect();
        let missing: BTreeSet<String> = due
            .iter()
            .filter(|name| !self.named.contains(**name))
            .filter_map(|name| Some(name.rsplit_once('#')?.0.to_owned()))
            .collect();
        let silent = if ends_early { !due.is_empty() && self.named.is_empty() } else { !missing.is_empty() };
        silent.then(|| format!("tests that must fail were put into {} and did not fail", list(&missing)))
    }
}

fn list(paths: &BTreeSet<String>) -> String {
    let shown: Vec<String> =
        paths.iter().take(5).map(|path| format!("`{}`", path.escape_debug().to_string().replace('`', "'"))).collect();
    let more = if paths.len() > 5 { format!(" and {} more", paths.len() - 5) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
