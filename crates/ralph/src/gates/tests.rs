use super::*;
use crate::prd::Prd;

/// Name, files with contents, command lines expected.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

fn tree(files: &[(&str, &str)]) -> Snapshot {
    files.iter().copied().collect()
}

#[test]
fn a_repositorys_own_checks_are_found() {
    let rows: &[Row<'_>] = &[
        ("nothing", &[("README.md", "")], &[]),
        ("rust", &[("Cargo.toml", "[package]\nname='x'")], &["cargo test"]),
        ("rust, broken manifest", &[("Cargo.toml", "[[[")], &["cargo test"]),
        (
            "workspace with lints",
            &[("Cargo.toml", "[workspace]\n[workspace.lints.clippy]\nall='warn'")],
            &["cargo test --workspace", "cargo clippy --workspace --all-targets"],
        ),
        ("clippy.toml", &[("Cargo.toml", ""), ("clippy.toml", "")], &["cargo test", "cargo clippy --all-targets"]),
        ("npm init", &[("package.json", r#"{"scripts":{"test":"echo \"Error: no test specified\" && exit 1"}}"#)], &[]),
        (
            "npm",
            &[("package.json", r#"{"scripts":{"test":"node --test","lint":"x","build":"y","start":"z"}}"#)],
            &["npm run test", "npm run lint", "npm run build"],
        ),
        (
            "npm with dependencies",
            &[
                ("package.json", r#"{"scripts":{"test":"jest"},"devDependencies":{"jest":"1"}}"#),
                ("package-lock.json", "{}"),
            ],
            &["[ -d node_modules ] || npm ci --prefer-offline --no-audit --no-fund", "npm run test"],
        ),
        (
            "pnpm",
            &[("package.json", r#"{"scripts":{"test":"x","type-check":"tsc"}}"#), ("pnpm-lock.yaml", "")],
            &["pnpm run test", "pnpm run type-check"],
        ),
        ("yarn", &[("package.json", r#"{"scripts":{"test":"x"}}"#), ("yarn.lock", "")], &["yarn run test"]),
        (
            "bun by name",
            &[("package.json", r#"{"packageManager":"bun@1.1","scripts":{"test":"x"}}"#), ("yarn.lock", "")],
            &["bun run test"],
        ),
        ("package.json is no object", &[("package.json", "[1]")], &[]),
        ("package.json is no JSON", &[("package.json", "{")], &[]),
        (
            "pytest",
            &[("pyproject.toml", "[tool.pytest.ini_options]"), ("src/x/__init__.py", "")],
            &["PYTHONPATH=src python3 -m pytest -q"],
        ),
        (
            "pytest by requirement",
            &[("requirements-dev.txt", "pytest==8"), ("tests/test_x.py", "")],
            &["python3 -m pytest -q"],
        ),
        ("pytest by conftest", &[("tests/conftest.py", "")], &["python3 -m pytest -q"]),
        ("unittest", &[("tests/test_x.py", "")], &["python3 -m unittest discover -s tests"]),
        (
            "unittest package",
            &[("tests/test_x.py", ""), ("tests/__init__.py", "")],
            &["python3 -m unittest discover -s tests -t ."],
        ),
        ("unittest in the root", &[("test_x.py", ""), ("x.py", "")], &["python3 -m unittest discover"]),
        ("tox", &[("tox.ini", "[testenv]\ncommands=x"), ("tests/test_x.py", "")], &["tox"]),
        ("go", &[("go.mod", "module x")], &["go test ./..."]),
        ("make", &[("Makefile", "CC := cc\ntest: build\n\tx\n")], &["make test"]),
        ("make check", &[("Makefile", ".PHONY: check\nall check: x\n\ny test:\n")], &["make check"]),
        ("make assignment", &[("Makefile", "test := 1\ncheck ::= 2\n")], &[]),
        ("make beside rust", &[("Makefile", "test:\n"), ("Cargo.toml", "")], &["cargo test"]),
        ("just", &[("justfile", "test *args:\n  x\n")], &["just test"]),
        ("just assignment", &[("justfile", "test := 'x'\n")], &[]),
    ];
    for (name, files, want) in rows {
        let gates = detect(&tree(files));
        let commands: Vec<&str> = gates.iter().map(|gate| gate.command.as_str()).collect();
        assert_eq!(&commands, want, "{name}");
        for glob in gates.iter().flat_map(|gate| &gate.protects) {
            globset::Glob::new(glob).unwrap();
        }
        // Only what `wanted` names may be needed.
        let full = tree(files);
        let names = wanted(&full.files);
        let small = Snapshot {
            files: full.files.clone(),
            contents: full.contents.into_iter().filter(|(path, _)| names.contains(path)).collect(),
        };
        assert_eq!(detect(&small), gates, "{name}");
    }
}

#[test]
fn a_gate_gets_what_was_installed_and_nothing_else() {
    let gate = |name: &str, command: &str, after: &[&str]| GateSpec {
        name: name.into(),
        command: command.into(),
        timeout_seconds: 1,
        protects: vec![],
        after: after.iter().map(|name| (*name).to_owned()).collect(),
    };
    let prd = Prd::parse("- [ ] x\n", None).unwrap();
    let all = [gate("i", "npm ci", &[]), gate("lint", "npm run lint", &[]), gate("test", "npm test", &["lint"])];
    let gates = resolve(Some(&all), &prd, &tree(&[])).unwrap();
    let after: Vec<&[String]> = gates.iter().map(|gate| gate.after.as_slice()).collect();
    assert_eq!(after, [&[][..], &["i".to_owned()], &["lint".to_owned()]]);
    let error = resolve(Some(&[gate("a", "x", &["b"]), gate("b", "y", &[])]), &prd, &tree(&[])).unwrap_err();
    assert!(error.message().contains("not a gate before it"), "{error}");
    let unlocked = tree(&[("package.json", r#"{"dependencies":{"a":"1"},"scripts":{}}"#)]);
    assert!(detect(&unlocked).is_empty(), "installing alone is no check");
}

#[test]
fn what_a_command_line_runs_is_protected() {
    for (command, has, not) in [
        ("./check.sh --all", "check.sh", "--all"),
        ("sh scripts/test.sh && echo ok", "scripts/test.sh", "echo"),
        ("python3 -m unittest", "tests/**", "unittest"),
        ("cargo test", "Cargo.toml", "cargo"),
        ("bash -c './bin/run'", "bin/run", "-c"),
        ("/usr/bin/make test", "GNUmakefile", "/usr/bin/make"),
        ("sh ../outside.sh; cat *.sh", "", "../outside.sh"),
    ] {
        let globs = scripts_of(command);
        assert!(has.is_empty() || globs.iter().any(|glob| glob == has), "{command}: {globs:?}");
        assert!(!globs.iter().any(|glob| glob == not), "{command}: {globs:?}");
    }
}

#[test]
fn what_a_check_calls_by_way_of_others_is_protected() {
    let files = tree(&[
        ("Makefile", "include x.mk\nverify: build\n\tsh scripts/check.sh\n\tnode bin/tool.js\n"),
        ("scripts/check.sh", "./verify_all.sh && python3 -m pytest\n"),
        ("verify_all.sh", "cmp a b\n"),
        ("bin/tool.js", "1"),
    ]);
    let names = wanted(&files.files);
    assert!(names.contains(&"scripts/check.sh".to_owned()) && !names.contains(&"bin/tool.js".to_owned()), "{names:?}");
    let prd = Prd::parse("- [ ] x\n", None).unwrap();
    let gate = GateSpec {
        name: "v".into(),
        command: "make verify".into(),
        timeout_seconds: 1,
        protects: vec![],
        after: vec![],
    };
    let protects = &resolve(Some(&[gate]), &prd, &files).unwrap()[0].protects;
    for path in ["Makefile", "scripts/check.sh", "verify_all.sh", "**/test_*.py"] {
        assert!(protects.iter().any(|glob| glob == path), "{path}: {protects:?}");
    }
    assert!(!protects.iter().any(|glob| glob == "bin/tool.js"), "{protects:?}");
}

#[test]
fn a_storys_own_program_is_not_its_check() {
    for (command, want) in [
        ("./accept.sh US-001", "accept.sh"),
        ("sh scripts/us-002.sh", "scripts/us-002.sh"),
        ("node bin/tool.js --depth 1 | grep x", ""),
        ("python3 app.py && ./verify_output.py", "verify_output.py"),
        ("cargo test --test api", ""),
    ] {
        assert_eq!(checks_of(command).join(" "), want, "{command}");
    }
}

#[test]
fn the_nearest_word_on_checks_wins_and_none_is_an_error() {
    let gate = |name: &str| GateSpec {
        name: name.into(),
        command: format!("./{name}.sh"),
        timeout_seconds: 1,
        protects: vec![],
        after: vec![],
    };
    let mut prd = Prd::parse("- [ ] x\n", None).unwrap();
    let empty = tree(&[]);
    let error = resolve(None, &prd, &empty).unwrap_err();
    assert!(error.next_step().unwrap().contains("--gate"));
    assert!(resolve(Some(&[]), &prd, &empty).is_err());
    let rust = tree(&[("Cargo.toml", "")]);
    assert_eq!(resolve(None, &prd, &rust).unwrap()[0].name, "cargo test");
    prd.gates = vec![gate("of-prd")];
    assert_eq!(resolve(None, &prd, &rust).unwrap()[0].name, "of-prd");
    let chosen = resolve(Some(&[gate("mine")]), &prd, &rust).unwrap();
    assert_eq!((chosen[0].name.as_str(), chosen[0].protects[0].as_str()), ("mine", "mine.sh"));
    assert!(resolve(Some(&[gate("a"), gate("a")]), &prd, &rust).unwrap_err().message().contains("Two gates"));
    assert!(resolve(Some(&[GateSpec { command: " ".into(), ..gate("a") }]), &prd, &rust).is_err());
    assert!(resolve(Some(&[GateSpec { protects: vec!["[".into()], ..gate("a") }]), &prd, &rust).is_err());
}
