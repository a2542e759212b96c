//! What a path is, by its name alone.

use super::ControlFiles;

/// The role of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `.gitmodules`.
    Modules,
    /// `.gitattributes`.
    Attributes,
    /// Configuration of a CI system.
    Ci,
    /// What agents read as instructions, or take their tools and permissions from.
    Orders,
    /// A test, or something beside tests.
    Test,
    /// Recorded output that tests compare with.
    Snapshot,
    /// Decides how tests are found, built or run.
    TestConfiguration,
    /// A package's manifest, which holds test configuration among other things.
    Manifest,
    /// A lock file.
    Lock,
    /// `go.mod`.
    GoModule,
    /// Nothing of these.
    Other,
}

const TEST_CONFIGURATION: [&str; 50] = [
    "conftest.py",
    "pytest.ini",
    ".pytest.ini",
    "tox.ini",
    "setup.cfg",
    "noxfile.py",
    ".coveragerc",
    "sitecustomize.py",
    "usercustomize.py",
    "unittest.py",
    "pytest.py",
    "nextest.toml",
    "rust-toolchain",
    "rust-toolchain.toml",
    "clippy.toml",
    ".clippy.toml",
    "build.rs",
    "makefile",
    "gnumakefile",
    "bsdmakefile",
    "justfile",
    ".justfile",
    "taskfile.yml",
    "taskfile.yaml",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pnpmfile.cjs",
    "bunfig.toml",
    "biome.json",
    "biome.jsonc",
    ".eslintignore",
    ".node_repl_history",
    "codecov.yml",
    "pip.conf",
    "pip.ini",
    ".python-version",
    "pyvenv.cfg",
    ".envrc",
    "gradle.properties",
    "gradlew",
    "mvnw",
    "gradle-wrapper.properties",
    "gradle-wrapper.jar",
    "maven-wrapper.properties",
    "settings.xml",
    ".nvmrc",
    "phpunit.xml",
    ".rspec",
    "pnpm-workspace.yaml",
];

const LOCKS: [&str; 13] = [
    "cargo.lock",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    "poetry.lock",
    "uv.lock",
    "pipfile.lock",
    "go.sum",
    "gemfile.lock",
    "composer.lock",
];

/// The role of a path. Compared without regard to case, as some file systems do.
pub(super) fn of(path: &str) -> Place {
    let path = path.to_ascii_lowercase();
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let inside = |part: &str| directory.split('/').any(|piece| piece == part);
    let begins = |prefix: &str| path.starts_with(prefix);
    match name {
        ".gitmodules" => return Place::Modules,
        ".gitattributes" => return Place::Attributes,
        "go.mod" | "go.work" => return Place::GoModule,
        "package.json" | "cargo.toml" | "pyproject.toml" => return Place::Manifest,
        _ => {}
    }
    if begins(".github/workflows/")
        || begins(".github/actions/")
        || begins(".circleci/")
        || begins(".buildkite/")
        || begins(".woodpecker")
        || matches!(
            path.as_str(),
            ".gitlab-ci.yml"
                | ".travis.yml"
                | "azure-pipelines.yml"
                | "bitbucket-pipelines.yml"
                | "jenkinsfile"
                | ".drone.yml"
        )
    {
        return Place::Ci;
    }
    let agents = [".claude", ".codex", ".opencode", ".gemini", ".cursor", ".aider", ".windsurf", ".continue", ".roo"];
    if matches!(
        name,
        "claude.md"
            | "claude.local.md"
            | "agents.md"
            | "agent.md"
            | "gemini.md"
            | "copilot-instructions.md"
            | "opencode.json"
            | "opencode.jsonc"
            | ".mcp.json"
            | ".cursorrules"
            | ".windsurfrules"
            | ".clinerules"
            | ".aider.conf.yml"
    ) || agents.iter().any(|part| inside(part))
    {
        return Place::Orders;
    }
    if LOCKS.contains(&name) {
        return Place::Lock;
    }
    let stem_is =
        |stems: &[&str]| stems.iter().any(|stem| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')));
    if TEST_CONFIGURATION.contains(&name)
        || inside(".cargo")
        || inside("node_modules")
        || path.ends_with(".pth")
        || name.starts_with(".mocharc")
        || name.starts_with(".eslintrc")
        || name.starts_with(".nycrc")
        || (name.starts_with("tsconfig") && name.ends_with(".json"))
        || (name.ends_with(".mk"))
        || stem_is(&[
            "jest.config",
            "jest.setup",
            "vitest.config",
            "vitest.setup",
            "vitest.workspace",
            "playwright.config",
            "cypress.config",
            "karma.conf",
            "ava.config",
            "eslint.config",
            "babel.config",
            "webpack.config",
        ])
    {
        return Place::TestConfiguration;
    }
    if name.ends_with(".snap")
        || inside("__snapshots__")
        || inside("testdata")
        || inside("fixtures")
        || inside("golden")
    {
        return Place::Snapshot;
    }
    let stem = name.split('.').next().unwrap_or_default();
    if ["test", "tests", "__tests__", "__mocks__", "spec", "e2e"].iter().any(|part| inside(part))
        || name.contains(".test.")
        || name.contains(".spec.")
        || name.ends_with("_test.go")
        || (name.ends_with(".py") && (stem.starts_with("test_") || stem.ends_with("_test") || stem == "tests"))
        || (name.ends_with(".rs") && (stem == "tests" || stem.ends_with("_test") || stem.ends_with("_tests")))
        || (name.ends_with("_spec.rb"))
    {
        return Place::Test;
    }
    Place::Other
}

/// Whether git itself would take the path for its own directory (also by the names that other file
/// systems fold onto it).
pub(super) fn is_git_directory(path: &str) -> bool {
    path.split('/').any(|part| {
        let plain: String = part.chars().filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')).collect();
        let plain = plain.trim_end_matches(['.', ' ']).to_ascii_lowercase();
        let plain = plain.split(':').next().unwrap_or_default();
        plain == ".git" || plain == "git~1"
    })
}

/// The runner's own file at this path, named for a sentence: the ones of this run, and those that the
/// script this format comes from keeps at known places.
pub(super) fn control_file(path: &str, control: &ControlFiles) -> Option<&'static str> {
    let is = |file: &Option<String>| file.as_deref().is_some_and(|file| file.trim_start_matches("./") == path);
    if is(&control.prd) {
        return Some("the PRD");
    }
    if is(&control.progress) {
        return Some("the progress file");
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if !matches!(directory, "" | "scripts/ralph" | "tasks" | ".ralph" | "ralph") {
        return None;
    }
    match name {
        "prd.json" => Some("a PRD"),
        "progress.txt" => Some("a progress file"),
        ".last-branch" => Some("the runner's note"),
        _ => None,
    }
}
