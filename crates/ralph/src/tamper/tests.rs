use super::*;
use crate::gates::{Snapshot, scripts_of};
use crate::reason::Reason;

/// Path, text before, text after.
type File<'a> = (&'a str, Option<&'a str>, Option<&'a str>);
/// A diff told as (path, before, after).
type Files<'a> = &'a [File<'a>];

/// What it is, the diff, the gates' commands, a flag, the protected paths.
type Row<'a> = (&'a str, Files<'a>, &'a [&'a str], &'a str, &'a [&'a str]);

fn look(files: Files<'_>, gates: &[&str]) -> Tamper {
    let side = |pick: fn(&File<'_>) -> Option<String>| -> Snapshot {
        files.iter().filter_map(|file| pick(file).map(|text| (file.0.to_owned(), text))).collect()
    };
    let (before, after) = (side(|f| f.1.map(str::to_owned)), side(|f| f.2.map(str::to_owned)));
    let edits: Vec<Edit> = files
        .iter()
        .map(|(path, before, after)| Edit {
            path: (*path).to_owned(),
            kind: match (before, after) {
                (None, _) => EditKind::Added,
                (_, None) => EditKind::Deleted,
                _ => EditKind::Modified,
            },
        })
        .collect();
    let keep = wanted(&edits);
    let cut = |tree: Snapshot| Snapshot {
        contents: tree.contents.into_iter().filter(|(path, _)| keep.contains(path)).collect(),
        files: tree.files,
    };
    let gates: Vec<GateSpec> = gates
        .iter()
        .map(|command| GateSpec {
            name: (*command).into(),
            command: (*command).into(),
            timeout_seconds: 1,
            protects: scripts_of(command),
            after: vec![],
        })
        .collect();
    let control = ControlFiles { prd: Some("docs/plan.md".into()), progress: None };
    inspect(&edits, &gates, &control, &cut(before), &cut(after)).unwrap()
}

#[test]
fn each_trick_is_seen() {
    let some = Some;
    // (what, diff, gates, a flag holds, protected)
    let rows: &[Row<'_>] = &[
        (
            "ordinary work",
            &[("src/lib.rs", some("a"), some("b")), ("README.md", None, some("x"))],
            &["cargo test"],
            "",
            &[],
        ),
        ("a new test", &[("tests/new.rs", None, some("#[test] fn x() {}"))], &["cargo test"], "", &[]),
        ("a new source file with tests", &[("src/new.rs", None, some("#[test] fn x() {}"))], &["cargo test"], "", &[]),
        (
            "a test is deleted",
            &[("tests/a.rs", some("#[test]"), None)],
            &["cargo test"],
            "was deleted",
            &["tests/a.rs"],
        ),
        (
            "a test is changed",
            &[("tests/a.py", some("assert 1 == 2\n"), some("assert True\n"))],
            &[],
            "was changed",
            &["tests/a.py"],
        ),
        ("a test is longer", &[("tests/a.py", some("a\nb\n"), some("a\nx\nb\n"))], &[], "only added", &["tests/a.py"]),
        (
            "a check script is changed",
            &[("check.sh", some("run"), some("exit 0"))],
            &["sh check.sh"],
            "own file",
            &["check.sh"],
        ),
        (
            "a check script is added over a fallback",
            &[("check.sh", None, some("exit 0"))],
            &["./check.sh || make test"],
            "own file",
            &["check.sh"],
        ),
        ("another script", &[("deploy.sh", some("run"), some("exit 0"))], &["sh check.sh"], "", &[]),
        (
            "conftest appears",
            &[("conftest.py", None, some("collect_ignore"))],
            &[],
            "test configuration",
            &["conftest.py"],
        ),
        (
            "GNUmakefile appears",
            &[("GNUmakefile", None, some("test:\n\ttrue"))],
            &["make test"],
            "test configuration",
            &["GNUmakefile"],
        ),
        (
            "cargo runner",
            &[(".cargo/config.toml", None, some("[target]"))],
            &["cargo test"],
            "test configuration",
            &[".cargo/config.toml"],
        ),
        (
            "a fixture with the tests that need it",
            &[("tests/conftest.py", None, some("")), ("tests/test_b.py", None, some("def test_b(x): ..."))],
            &["pytest"],
            "test configuration",
            &["tests/conftest.py", "tests/test_b.py"],
        ),
        ("jest config", &[("jest.config.js", some("a"), some("b"))], &[], "test configuration", &["jest.config.js"]),
        (
            "snapshot rewritten",
            &[("src/__snapshots__/a.snap", some("a"), some("b"))],
            &[],
            "recorded test output",
            &["src/__snapshots__/a.snap"],
        ),
        (
            "test script",
            &[("package.json", some(r#"{"scripts":{"test":"jest"}}"#), some(r#"{"scripts":{"test":"true"}}"#))],
            &["npm test"],
            "scripts.test",
            &["package.json"],
        ),
        (
            "jest in package.json",
            &[("package.json", some("{}"), some(r#"{"jest":{"testPathIgnorePatterns":["x"]}}"#))],
            &[],
            "jest",
            &["package.json"],
        ),
        (
            "version only",
            &[("package.json", some(r#"{"version":"1"}"#), some(r#"{"version":"2"}"#))],
            &["npm test"],
            "",
            &[],
        ),
        (
            "a dependency with its lock",
            &[
                ("package.json", some("{}"), some(r#"{"dependencies":{"a":"1"}}"#)),
                ("package-lock.json", some("{}"), some("{ }")),
            ],
            &["npm test"],
            "dependencies in",
            &[],
        ),
        (
            "a lock alone",
            &[("package-lock.json", some("{}"), some("{ }"))],
            &["npm test"],
            "lock file",
            &["package-lock.json"],
        ),
        (
            "cargo test = false",
            &[("Cargo.toml", some("[lib]\n"), some("[lib]\ntest = false\n"))],
            &["cargo test"],
            "test configuration",
            &["Cargo.toml"],
        ),
        (
            "cargo dependency",
            &[("Cargo.toml", some("[dependencies]\n"), some("[dependencies]\na='1'\n"))],
            &["cargo test"],
            "dependencies in",
            &[],
        ),
        (
            "pytest options",
            &[("pyproject.toml", some("[tool.pytest]\n"), some("[tool.pytest]\naddopts='--co'\n"))],
            &[],
            "tool.pytest",
            &["pyproject.toml"],
        ),
        (
            "pytest by a new file",
            &[("pyproject.toml", None, some("[tool.pytest.ini_options]\naddopts='--co'\n"))],
            &["pytest"],
            "configures tests",
            &["pyproject.toml"],
        ),
        (
            "a new package",
            &[("pkg/pyproject.toml", None, some("[project]\nname='x'\n[tool.poetry]\nname='x'\n"))],
            &["pytest"],
            "",
            &[],
        ),
        (
            "a program's tests are switched off",
            &[("Cargo.toml", some("[[bin]]\nname='x'\n"), some("[[bin]]\nname='x'\ntest=false\n"))],
            &["cargo test"],
            "(bin)",
            &["Cargo.toml"],
        ),
        (
            "a script with a harmless name",
            &[("package.json", some(r#"{"scripts":{"types":"tsc"}}"#), some(r#"{"scripts":{"types":"true"}}"#))],
            &["npm test"],
            "scripts.types",
            &["package.json"],
        ),
        ("manifest broken", &[("Cargo.toml", some(""), some("[["))], &[], "cannot be compared", &["Cargo.toml"]),
        (
            "ignored",
            &[("src/a.rs", some("#[test] fn a(){}"), some("#[test] #[ignore] fn a(){}"))],
            &[],
            "are skipped",
            &[],
        ),
        (
            "tests gone from source",
            &[("src/a.rs", some("#[test] #[test]"), some("#[test]"))],
            &[],
            "removed from `src/a.rs` (2 before, 1 now)",
            &[],
        ),
        ("only one", &[("a.test.js", some("it(1)"), some("it.only(1)"))], &[], "are skipped", &["a.test.js"]),
        (
            "exits early",
            &[("src/a.rs", some("#[test]"), some("#[test] std::process::exit(0)"))],
            &[],
            "ends the program early",
            &[],
        ),
        ("a new test is skipped", &[("tests/b.py", None, some("@unittest.skip\ndef test_x"))], &[], "new tests", &[]),
        (
            "a new test ends all",
            &[("tests/test_a.py", None, some("import os\nos._exit(0)\n"))],
            &[],
            "could decide",
            &["tests/test_a.py"],
        ),
        (
            "a new package of tests steers",
            &[("tests/__init__.py", None, some("def load_tests(*a): ..."))],
            &[],
            "could decide",
            &["tests/__init__.py"],
        ),
        (
            "orders to agents",
            &[("CLAUDE.md", None, some("skip tests")), (".claude/settings.json", None, some("{}"))],
            &[],
            "instructions to agents in `CLAUDE.md` were added",
            &[],
        ),
        ("CI", &[(".github/workflows/ci.yml", some("a"), some("b"))], &[], "CI file", &[]),
        (
            "attributes without a driver",
            &[(".gitattributes", None, some("* text=auto\n*.md diff=markdown\n*.lock -diff\n"))],
            &[],
            "`.gitattributes` was added",
            &[],
        ),
        ("modules removed", &[(".gitmodules", some("[submodule \"a\"]\nurl = x\n"), None)], &[], "was deleted", &[]),
    ];
    for (name, files, gates, flag, protected) in rows {
        let found = look(files, gates);
        assert_eq!(found.protected, *protected, "{name}: {found:?}");
        assert!(found.refused.is_empty(), "{name}: {found:?}");
        assert!(found.dropped.is_empty(), "{name}");
        match *flag {
            "" => assert!(found.flags.is_empty(), "{name}: {found:?}"),
            flag => assert!(found.flags.iter().any(|text| text.contains(flag)), "{name}: {found:?}"),
        }
    }
}

#[test]
fn the_runners_files_are_dropped_and_nothing_else() {
    for (path, dropped) in [
        ("prd.json", true),
        ("progress.txt", true),
        ("scripts/ralph/prd.json", true),
        ("docs/plan.md", true),
        ("docs/prd.json", false),
        ("src/progress.txt", false),
    ] {
        let found = look(&[(path, Some("a"), Some("b"))], &[]);
        assert_eq!(found.dropped.len(), usize::from(dropped), "{path}");
        assert_eq!(found.flags.len(), usize::from(dropped), "{path}");
        assert!(found.refused.is_empty(), "{path}");
    }
}

#[test]
fn a_takeover_of_git_is_refused() {
    let rows: &[Files<'_>] = &[
        &[(".gitmodules", None, Some("[submodule \"a\"]\n\tpath = a\n\turl = https://evil.example\n"))],
        &[(".gitmodules", Some("[submodule \"a\"]\nurl = x\n"), Some("[submodule \"a\"]\nurl = y\n"))],
        &[(".gitattributes", None, Some("* filter=x\n"))],
        &[("sub/.gitattributes", Some("a text\n"), Some("a text\nb merge=own\n"))],
        &[(".gitattributes", None, Some("[attr]x filter=y\n"))],
        &[(".gitattributes", None, Some("* diff=mine\n"))],
        &[(".git/hooks/pre-commit", None, Some("x"))],
        &[("a/.GIT/config", None, Some("x"))],
        &[("git~1/config", None, Some("x"))],
        &[(".git\u{200c}/config", None, Some("x"))],
        &[(".git./config", None, Some("x"))],
    ];
    for files in rows {
        assert!(look(files, &[]).refused.len() == 1, "{files:?}");
    }
    assert!(look(&[(".gitignore", None, Some("x")), (".github/x.md", None, Some("y"))], &[]).refused.is_empty());
}

/// What it is, the diff, the reason it is refused for.
type Verdict<'a> = (&'a str, Files<'a>, Option<Reason>);

#[test]
fn what_takes_the_place_of_something_else_is_refused_and_its_honest_twin_is_not() {
    let (shadowed, dependency, lock) =
        (Some(Reason::ModuleShadowed), Some(Reason::DependencyRedirected), Some(Reason::LockRedirected));
    let some = Some;
    let npm = some(r#"{"devDependencies":{"jest":"^29"},"dependencies":{"left":"1"}}"#);
    let cargo = some("[dependencies]\nserde = \"1\"\n");
    let lock_before = some(
        r#"{"packages":{"":{},"node_modules/jest":{"version":"29.0.0","resolved":"https://r.example/jest.tgz","integrity":"sha512-a"}}}"#,
    );
    let rows: &[Verdict<'_>] = &[
        ("the runner", &[("unittest.py", None, some(""))], shadowed),
        ("the runner as a package", &[("unittest/__init__.py", None, some(""))], shadowed),
        ("what the runner imports", &[("argparse.py", None, some(""))], shadowed),
        ("in the source root", &[("src/traceback.py", None, some(""))], shadowed),
        (
            "beside loose tests",
            &[("tests/test_a.py", some(""), some("")), ("tests/signal.py", None, some(""))],
            shadowed,
        ),
        ("compiled", &[("random.so", None, some(""))], shadowed),
        ("at every start", &[("sitecustomize.py", None, some(""))], shadowed),
        ("a module of one's own", &[("calc.py", None, some(""))], None),
        ("inside a package", &[("app/__init__.py", some(""), some("x")), ("app/types.py", None, some(""))], None),
        ("a folder of that name", &[("email/template.html", None, some(""))], None),
        ("one that was there", &[("queue.py", some("a"), some("b"))], None),
        (
            "a package moves to a directory",
            &[("package.json", npm, some(r#"{"devDependencies":{"jest":"file:./j"},"dependencies":{"left":"1"}}"#))],
            dependency,
        ),
        (
            "to an alias",
            &[("package.json", npm, some(r#"{"devDependencies":{"jest":"npm:other@1"},"dependencies":{"left":"1"}}"#))],
            dependency,
        ),
        (
            "to a forge",
            &[("package.json", npm, some(r#"{"devDependencies":{"jest":"who/jest"},"dependencies":{"left":"1"}}"#))],
            dependency,
        ),
        (
            "from one section to another",
            &[("package.json", npm, some(r#"{"dependencies":{"jest":"file:./j","left":"1"}}"#))],
            dependency,
        ),
        (
            "a package that brings the runner's program",
            &[
                (
                    "package.json",
                    npm,
                    some(r#"{"devDependencies":{"jest":"^29","x":"file:x"},"dependencies":{"left":"1"}}"#),
                ),
                ("x/package.json", None, some(r#"{"name":"x","bin":{"jest":"./x.js"}}"#)),
            ],
            dependency,
        ),
        (
            "a package of the repository's own",
            &[
                (
                    "package.json",
                    npm,
                    some(r#"{"devDependencies":{"jest":"^29"},"dependencies":{"left":"1","own":"file:own"}}"#),
                ),
                ("own/package.json", None, some(r#"{"name":"own"}"#)),
            ],
            None,
        ),
        (
            "a newer version",
            &[("package.json", npm, some(r#"{"devDependencies":{"jest":"^30"},"dependencies":{"left":"1"}}"#))],
            None,
        ),
        (
            "a new development dependency",
            &[(
                "package.json",
                npm,
                some(r#"{"devDependencies":{"jest":"^29","@types/node":"20"},"dependencies":{"left":"1"}}"#),
            )],
            None,
        ),
        (
            "a crate moves to a directory",
            &[("Cargo.toml", cargo, some("[dependencies]\nserde = { path = \"s\" }\n"))],
            dependency,
        ),
        (
            "a crate by another name",
            &[("Cargo.toml", cargo, some("[dependencies]\nserde = { package = \"evil\", version = \"1\" }\n"))],
            dependency,
        ),
        (
            "a crate of the workspace",
            &[("Cargo.toml", cargo, some("[dependencies]\nserde = \"1\"\nown = { path = \"own\" }\n"))],
            None,
        ),
        (
            "a crate with features",
            &[("Cargo.toml", cargo, some("[dependencies]\nserde = { version = \"1\", features = [\"derive\"] }\n"))],
            None,
        ),
        (
            "a requirement by address",
            &[(
                "pyproject.toml",
                some("[project]\ndependencies = [\"a>=1\"]\n"),
                some("[project]\ndependencies = [\"a @ file:///x\"]\n"),
            )],
            dependency,
        ),
        (
            "a requirement more",
            &[(
                "pyproject.toml",
                some("[project]\ndependencies = [\"a>=1\"]\n"),
                some("[project]\ndependencies = [\"a>=2\", \"b\"]\n"),
            )],
            None,
        ),
        ("go replace", &[("go.mod", some("module x\n"), some("module x\nreplace a => ./a\n"))], dependency),
        (
            "go replace in a block",
            &[("go.mod", some("module x\n"), some("module x\nreplace (\n\ta => ./a\n)\n"))],
            dependency,
        ),
        ("go require", &[("go.mod", some("module x\n"), some("module x\nrequire a v1.0.0\n"))], None),
        (
            "another digest",
            &[(
                "package-lock.json",
                lock_before,
                some(
                    r#"{"packages":{"node_modules/jest":{"version":"29.0.0","resolved":"https://r.example/jest.tgz","integrity":"sha512-b"}}}"#,
                ),
            )],
            lock,
        ),
        (
            "another host",
            &[(
                "package-lock.json",
                lock_before,
                some(
                    r#"{"packages":{"node_modules/jest":{"version":"29.0.1","resolved":"https://evil.example/jest.tgz","integrity":"sha512-b"}}}"#,
                ),
            )],
            lock,
        ),
        (
            "a link",
            &[(
                "package-lock.json",
                lock_before,
                some(r#"{"packages":{"node_modules/jest":{"resolved":"j","link":true}}}"#),
            )],
            lock,
        ),
        (
            "a newer package",
            &[(
                "package-lock.json",
                lock_before,
                some(
                    r#"{"packages":{"node_modules/jest":{"version":"29.1.0","resolved":"https://r.example/jest2.tgz","integrity":"sha512-c"},"node_modules/new":{"version":"1.0.0","resolved":"https://r.example/n.tgz","integrity":"sha512-d"}}}"#,
                ),
            )],
            None,
        ),
        (
            "a crate's digest",
            &[(
                "Cargo.lock",
                some("[[package]]\nname='a'\nversion='1'\nsource='registry+x'\nchecksum='1'\n"),
                some("[[package]]\nname='a'\nversion='1'\nsource='registry+x'\nchecksum='2'\n"),
            )],
            lock,
        ),
        (
            "a crate without one",
            &[(
                "Cargo.lock",
                some("[[package]]\nname='a'\nversion='1'\nsource='registry+x'\nchecksum='1'\n"),
                some("[[package]]\nname='a'\nversion='1'\n"),
            )],
            lock,
        ),
        (
            "a crate more",
            &[(
                "Cargo.lock",
                some("[[package]]\nname='a'\nversion='1'\n"),
                some(
                    "[[package]]\nname='a'\nversion='1'\n[[package]]\nname='b'\nversion='1'\nsource='registry+x'\nchecksum='2'\n",
                ),
            )],
            None,
        ),
        (
            "yarn, another address",
            &[(
                "yarn.lock",
                some("a@1:\n  version \"1\"\n  resolved \"https://r.example/a.tgz#1\"\n"),
                some("a@1:\n  version \"1\"\n  resolved \"https://r.example/b.tgz#2\"\n"),
            )],
            lock,
        ),
        ("go.sum, another digest", &[("go.sum", some("a v1 h1:x=\n"), some("a v1 h1:y=\n"))], lock),
        ("go.sum, a module more", &[("go.sum", some("a v1 h1:x=\n"), some("a v1 h1:x=\nb v1 h1:y=\n"))], None),
    ];
    for (name, files, want) in rows {
        let found = look(files, &["python3 -m unittest discover -s tests", "npm test"]);
        assert_eq!(found.refused.first().map(|refusal| refusal.reason), *want, "{name}: {found:?}");
    }
}

#[test]
fn a_submodule_is_refused() {
    let change = |old_mode, new_mode, status| Change { path: "vendor/x".into(), status, old_mode, new_mode };
    for (change, refused) in [
        (change(0, Change::SUBMODULE, ChangeStatus::Added), true),
        (change(Change::SUBMODULE, Change::SUBMODULE, ChangeStatus::Modified), true),
        (change(0o100_644, Change::SUBMODULE, ChangeStatus::TypeChanged), true),
        (change(Change::SUBMODULE, 0, ChangeStatus::Removed), false),
        (change(0, 0o100_644, ChangeStatus::Added), false),
    ] {
        let none = Snapshot::default();
        let found = inspect(&[Edit::from(&change)], &[], &ControlFiles::default(), &none, &none).unwrap();
        assert_eq!(!found.refused.is_empty(), refused, "{change:?}");
    }
}

#[test]
fn a_flood_of_changes_stays_bounded() {
    let paths: Vec<String> = (0..500).map(|number| format!("tests/{number}\u{1b}.py")).collect();
    let files: Vec<_> = paths.iter().map(|path| (path.as_str(), Some("a"), None)).collect();
    let found = look(&files, &[]);
    assert_eq!((found.flags.len(), found.protected.len()), (FLAGS_BOUND, 500));
    assert!(found.flags.iter().all(|flag| !flag.chars().any(char::is_control)));
}

proptest::proptest! {
    #[test]
    fn any_diff_is_judged(path in "(\\.git|modules|attributes|/|tests|a\\.py|package\\.json|é|~1){0,6}", old in ".{0,80}", new in ".{0,80}") {
        let _ = look(&[(path.as_str(), Some(old.as_str()), Some(new.as_str()))], &["cargo test"]);
    }
}
