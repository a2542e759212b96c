use super::*;

fn tests(output: &str) -> Option<u64> {
    let mut tally = Tally::default();
    // In pieces of any size.
    for piece in output.as_bytes().chunks(7) {
        tally.take(piece);
    }
    tally.finish()
}

#[test]
fn known_runners_are_counted() {
    for (what, output, want) in [
        ("unittest", "....\n-----\nRan 4 tests in 0.001s\n\nOK\n", Some(4)),
        ("unittest, skipped", "Ran 4 tests in 0.001s\n\nOK (skipped=3)\n", Some(1)),
        ("unittest, red", "Ran 1 test in 0.0s\n\nFAILED (failures=1)", Some(1)),
        ("nothing", "done\nall fine\n", None),
        ("pytest", "..\n2 passed in 0.01s\n", Some(2)),
        ("pytest, all", "==== 1 failed, 2 passed, 3 skipped, 1 xfailed in 1.20s ====\n", Some(3)),
        ("pytest, none", "no tests ran in 0.01s\n", Some(0)),
        (
            "cargo",
            "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored\n",
            Some(4),
        ),
        ("nextest", "     Summary [   0.1s] 12 tests run: 12 passed, 0 skipped\n", Some(12)),
        ("node", "# tests 5\n# suites 0\n# pass 3\n# skipped 1\n# todo 1\n", Some(3)),
        ("node, spec", "ℹ tests 5\nℹ pass 5\nℹ skipped 0\n", Some(5)),
        ("jest", "Tests:       1 failed, 1 skipped, 3 passed, 5 total\n", Some(4)),
        ("vitest", "      Tests  1 failed | 3 passed | 2 skipped (6)\n", Some(4)),
        ("colours", "\x1b[1mTests:\x1b[22m  \x1b[32m3 passed\x1b[39m, 3 total\n", Some(3)),
        ("mocha", "  3 passing (5ms)\n  1 failing\n", Some(4)),
        ("go", "ok  \texample/a\t0.01s\nFAIL\texample/b\t0.01s\n?   \texample/c\t[no test files]\nFAIL\n", Some(2)),
        ("go -v", "--- PASS: TestA (0.0s)\n--- FAIL: TestB (0.0s)\nok  \texample/a\t0.0s\n", Some(2)),
        ("rspec", "5 examples, 0 failures, 2 pending\n", Some(3)),
        ("phpunit", "OK (12 tests, 30 assertions)\n", Some(12)),
        ("maven", "[INFO] Tests run: 5, Failures: 0, Errors: 0, Skipped: 2\n", Some(3)),
        ("bun", " 3 pass\n 0 fail\n", Some(3)),
        ("a word in prose", "We ran tests in March\n", None),
    ] {
        assert_eq!(tests(output), want, "{what}");
    }
    // A line without an end is bounded.
    let mut tally = Tally::default();
    for _ in 0..10_000 {
        tally.take(&[b'x'; 4096]);
    }
    assert_eq!(tally.finish(), None);
}

#[test]
fn commands_that_run_tests_are_known() {
    for (command, want) in [
        ("cargo test --workspace", true),
        ("PATH=/x/bin:$PATH cargo test --offline", true),
        ("cargo clippy", false),
        ("python3 -m unittest discover", true),
        ("/usr/bin/python3 -m pytest -q", true),
        ("node --test", true),
        ("node --enable-source-maps --test test/", true),
        ("node bin/x.js --test", false),
        ("go test ./...", true),
        ("sh check.sh", false),
    ] {
        assert_eq!(runs_tests(command), want, "{command}");
    }
    assert_eq!(to_the_end("cargo test --lib"), "cargo test --no-fail-fast --lib");
    assert_eq!(to_the_end("sh x"), "sh x");
}

#[test]
fn files_of_tests_get_tests_that_fail() {
    for (path, text, holds) in [
        ("tests/test_a.py", "", "class Testx1"),
        ("src/lib.rs", "", "mod x1"),
        ("crates/a/tests/api.rs", "", "fn t_x1_0_1"),
        ("src/inner.rs", "", ""),
        ("a_test.go", "import \"testing\"", "func Testx1_0_0"),
        ("a_test.go", "package a", ""),
        ("test/a.test.js", "require('node:test')", "import('node:test')"),
        ("a.spec.ts", "import { it } from \"vitest\"", "from 'vitest'"),
        ("a.test.js", "it('x')", "globalThis.it"),
        ("test/helper.js", "module.exports = 1", ""),
        ("src/a.py", "", ""),
        ("test/fixtures/a.test.js", "it(", ""),
    ] {
        let made = language(path).and_then(|language| plant(language, text, "x1", 0)).unwrap_or_default();
        assert_eq!(made.is_empty(), holds.is_empty(), "{path}: {made}");
        assert!(made.contains(holds), "{path}: {made}");
    }
}

#[test]
fn a_check_that_cannot_fail_is_found() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let wire = |tripped, named: &[&str], files: &[&str]| Tripwire { tripped, named: set(named), files: set(files) };
    let base = wire(true, &["a#0", "a#1", "b#0"], &["a", "b"]);
    for (what, now, base, known, early, bad) in [
        ("honest", base.clone(), Some(&base), true, false, false),
        ("always green", wire(false, &[], &["a", "b"]), Some(&base), false, false, true),
        ("assertions patched", wire(true, &["a#0", "b#0"], &["a", "b"]), Some(&base), false, false, true),
        ("one program ended", wire(true, &["a#0", "a#1"], &["a", "b"]), Some(&base), false, false, true),
        ("a file is gone", wire(true, &["a#0", "a#1"], &["a"]), Some(&base), false, false, false),
        ("the runner stops at the first", wire(true, &["a#0"], &["a", "b"]), Some(&base), false, true, false),
        ("it stops and names none", wire(true, &[], &["a", "b"]), Some(&base), false, true, true),
        ("a command of the user's", wire(false, &[], &["a"]), None, false, false, false),
        ("not what the check runs", wire(false, &[], &["a"]), Some(&wire(false, &[], &["a"])), true, false, false),
        ("the base did not compile", wire(false, &[], &["a"]), None, true, false, true),
        ("nothing to plant in", wire(false, &[], &[]), None, true, false, false),
    ] {
        assert_eq!(now.objection(base, known, early).is_some(), bad, "{what}");
    }
}
