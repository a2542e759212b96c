//! Which layer wins, what a repository may not decide, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use cove_core::ErrorKind;
use cove_settings::{Flag, Key, Origin, Paths, ProjectRule, Resolved, Sources};
use serde_json::{Value, json};

/// A home directory with the files of a case.
struct Machine {
    home: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    flags: Vec<Flag>,
    project: Option<String>,
}

impl Machine {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let variables = BTreeMap::from([("HOME".to_owned(), home.path().to_str().unwrap().to_owned())]);
        Self { home, variables, flags: Vec::new(), project: None }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(self, below_home: &str, text: &str) -> Self {
        let file = self.home.path().join(below_home);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        self
    }

    fn user(self, text: &str) -> Self {
        self.file(".config/cove/config.json", text)
    }

    fn system(self, text: &str) -> Self {
        self.file("system.json", text)
    }

    fn project(mut self, text: &str) -> Self {
        self.project = Some(text.to_owned());
        self
    }

    fn flag(mut self, name: &'static str, key: &'static str, value: Value) -> Self {
        self.flags.push(Flag { name, key, value });
        self
    }

    fn load(&self) -> cove_core::Result<Resolved> {
        let mut paths = Paths::from_variables(&self.variables)?;
        paths.system_config = self.home.path().join("system.json");
        Resolved::load(&Sources {
            paths,
            variables: self.variables.clone(),
            flags: self.flags.clone(),
            project: self.project.clone().map(|text| (PathBuf::from(".cove/config.json"), text)),
        })
    }
}

fn iterations(n: u32) -> String {
    json!({"ralph": {"loop": {"maxIterations": n}}}).to_string()
}

#[test]
fn the_strongest_layer_wins_and_the_rest_is_remembered() {
    let machine = Machine::new()
        .system(&iterations(40))
        .file(".openclaw/openclaw.json", r#"{"other": 1, "ralph": {"loop": {"maxIterations": 39}}}"#)
        .user(&iterations(38))
        .project(&iterations(37))
        .variable("COVE__LOOP__MAX_ITERATIONS", "36")
        .flag("--max-iterations", "loop.maxIterations", json!(35));
    let resolved = machine.load().unwrap();
    assert_eq!(resolved.settings.loops.max_iterations, 35);
    let value = &resolved.values["loop.maxIterations"];
    assert_eq!(value.origin, Origin::Flag { name: "--max-iterations".to_owned() });
    let overridden: Vec<(Value, &str)> = value
        .overrides
        .iter()
        .map(|setting| {
            let layer = match &setting.origin {
                Origin::Flag { .. } => "flag",
                Origin::Environment { .. } => "environment",
                Origin::Project { line: Some(1), .. } => "project",
                Origin::User { line: Some(1), .. } => "user",
                Origin::OpenClaw { line: Some(1), .. } => "openclaw",
                Origin::System { line: Some(1), .. } => "system",
                Origin::Default => "default",
                other => panic!("{other:?} has no line"),
            };
            (setting.value.clone(), layer)
        })
        .collect();
    let expected =
        [(36, "environment"), (37, "project"), (38, "user"), (39, "openclaw"), (40, "system"), (50, "default")]
            .map(|(n, layer)| (json!(n), layer));
    assert_eq!(overridden, expected);
    assert!(resolved.warnings.is_empty(), "{:?}", resolved.warnings);
}

#[test]
fn the_source_example_is_understood() {
    let example = r#"{
      "ralph": {
        "enabled": true,
        "container": {
          "engine": "auto", // auto | docker | podman | apple-container
          "resources": { "cpu": "2", "memory": "4g", "storage": "10g" },
          "gc": { "enabled": true, "maxIdleMinutes": 30, "maxContainersPerUser": 5, "backupBeforeDelete": true },
          "sandbox": { "readOnlyRoot": true, "noNewPrivileges": true, "networkPolicy": "restricted" }
        },
        "git": {
          "defaultProvider": "github", "autoPR": true, "commitStyle": "conventional",
          "providers": { "github": { "enabled": true }, "gitlab": { "enabled": false } }
        },
        "storage": { "default": "local", "backends": { "local": { "type": "local", "path": "~/.openclaw/ralph/storage" } } },
        "backup": {
          "enabled": true, "schedule": "0 */6 * * *",
          "retention": { "hourly": 6, "daily": 7, "weekly": 4 }, "backends": ["local", "s3"]
        },
        "security": { "scanOnStart": true, "blockOnVulnerabilities": true, "allowedHosts": [], "blockedHosts": [] }
      }
    }"#;
    let resolved = Machine::new().user(example).load().unwrap();
    assert_eq!(resolved.run_parts().unwrap().limits.memory_bytes, Some(4 << 30));
    assert!(resolved.warnings.iter().any(|w| w.contains("backup.schedule") && w.contains("no effect")));
}

#[test]
fn a_repository_may_choose_and_tighten_but_never_widen() {
    let cases: &[(&str, Value, bool)] = &[
        ("agent.name", json!("codex"), true),
        ("agent.model", json!("m"), true),
        ("container.image", json!("ghcr.io/team/dev:1"), true),
        ("container.image", json!("elsewhere.example/dev:1"), false),
        ("container.resources.memory", json!("1g"), true),
        ("container.resources.memory", json!("64g"), false),
        ("container.resources.cpu", json!(1), true),
        ("container.resources.cpu", json!("8"), false),
        ("container.timeout", json!(600_000), true),
        ("container.timeout", json!("2h"), false),
        ("container.timeout", json!(0), false),
        ("loop.maxIterations", json!(10), true),
        ("loop.maxIterations", json!(51), false),
        ("loop.maxIterations", json!(0), false),
        ("loop.maxCostUsd", json!(3.5), true),
        ("loop.maxCostUsd", json!(6), false),
        ("loop.maxTime", json!("1h"), true),
        ("loop.parallel", json!(2), false),
        ("prd.path", json!("docs/prd.json"), true),
        ("gates", json!([{"name": "unit", "command": "make test"}]), true),
        ("agent.command", json!(["sh"]), false),
        ("agent.env", json!(["HOME"]), false),
        ("agent.mounts", json!(["/etc"]), false),
        ("agents", json!({"x": {}}), false),
        ("security.allowedHosts", json!(["evil.example"]), false),
        ("security.gateHosts", json!(["evil.example"]), false),
        ("security.acceptMissing", json!(["limit-memory"]), false),
        ("container.engine", json!("none"), false),
        ("container.rootDir", json!("/"), false),
        ("container.sandbox.readOnlyRoot", json!(false), false),
        ("storage.default", json!("s3"), false),
        ("loop.trustTestChanges", json!(true), false),
        ("loop.allowEmpty", json!(true), false),
        ("loop.waitForProvider", json!(false), false),
    ];
    for (key, value, taken) in cases {
        let mut tree = value.clone();
        for word in key.split('.').rev() {
            tree = json!({ word: tree });
        }
        let resolved = Machine::new()
            .user(r#"{"ralph": {"loop": {"maxCostUsd": 5}, "security": {"allowedImages": ["ghcr.io/team/*"]}}}"#)
            .project(&json!({ "ralph": tree }).to_string())
            .load()
            .unwrap_or_else(|e| panic!("{key} {value}: {:?}", e.chain()));
        let from_project = matches!(resolved.values[*key].origin, Origin::Project { .. });
        assert_eq!(from_project, *taken, "{key} {value}");
        assert_eq!(resolved.ignored.is_empty(), *taken, "{key} {value}");
        let named = resolved.warnings.iter().any(|w| w.contains(&format!("ralph.{key}")) && w.contains("ignored"));
        assert_eq!(named, !taken, "{key} {value}: {:?}", resolved.warnings);
    }
}

#[test]
fn mistakes_in_files_are_named_with_place_and_remedy() {
    for (text, message, next) in [
        (
            "{\n\"ralph\": {\"container\": {\"gc\": {\n\"maxIdelMinutes\": 3}}}}",
            ":3: unknown key ralph.container.gc.maxIdelMinutes",
            "maxIdleMinutes",
        ),
        ("{\"container\": {}}", ":1: unknown key container", ""),
        ("{\n\n\"ralph\": {\"loop\": 3}}", ":3: ralph.loop is a group", "object"),
        ("{\"ralph\": {\"loop\": {\"parallel\": 99}}}", "ralph.loop.parallel lies outside 1 to 16", ""),
        (
            "{\"ralph\": {\"loop\": {\"parallel\": \"x\"}}}",
            "ralph.loop.parallel cannot be \"x\"",
            "config explain loop.parallel",
        ),
        (
            "{\"ralph\": {\"container\": {\"engine\": \"dokcer\"}}}",
            "ralph.container.engine cannot be \"dokcer\"",
            "explain",
        ),
        (
            "{\"ralph\": {\"container\": {\"resources\": {\"memory\": \"lots\"}}}}",
            "ralph.container.resources.memory cannot be",
            "",
        ),
        ("{\"ralph\": {\"security\": {\"acceptMissing\": [\"seccomp\"]}}}", "separates the sandbox", "limit-memory"),
        ("{\"ralph\": {},}}", "is not valid JSON", "Correct"),
        ("{\"schemaVersion\": 2}", "schemaVersion", "newer"),
        ("[]", "holds no object", "ralph"),
        ("{\"ralph\": {\"enabled\": true, \"enabled\": true}}", "a second time", "Remove"),
    ] {
        let error = Machine::new().user(text).load().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(error.message().contains(message), "{text}: {}", error.message());
        assert!(error.message().contains("config.json"), "{text}: {}", error.message());
        assert!(error.next_step().unwrap_or_default().contains(next), "{text}: {:?}", error.next_step());
    }
}

#[test]
fn variables_are_read_as_their_key_is_typed() {
    for (name, text, key, value) in [
        ("COVE__CONTAINER__GC__MAX_IDLE_MINUTES", "7", "container.gc.maxIdleMinutes", json!(7)),
        ("COVE__CONTAINER__IMAGE", "42", "container.image", json!("42")),
        (
            "COVE__SECURITY__ALLOWED_HOSTS",
            "a.example, *.b.example",
            "security.allowedHosts",
            json!(["a.example", "*.b.example"]),
        ),
        ("COVE__SECURITY__ALLOWED_HOSTS", "[\"a.example\"]", "security.allowedHosts", json!(["a.example"])),
        ("COVE__GIT__AUTO_PR", "false", "git.autoPR", json!(false)),
        ("COVE__RALPH__LOOP__MAX_TIME", "6h", "loop.maxTime", json!("6h")),
        ("COVE__CONTAINER__RESOURCES__CPU", "1.5", "container.resources.cpu", json!(1.5)),
        ("CONTAINER_IMAGE", "img:1", "container.image", json!("img:1")),
        ("CONTAINER_RUNTIME", "embedded", "container.engine", json!("embedded")),
        ("CONTAINER_TIMEOUT", "600000", "container.timeout", json!(600_000)),
        ("CONTAINER_TIMEOUT", "30m", "container.timeout", json!("30m")),
        ("CONTAINER_K8S_ENABLED", "true", "container.engine", json!("kubernetes")),
    ] {
        let resolved = Machine::new().variable(name, text).load().unwrap_or_else(|e| panic!("{name}: {:?}", e.chain()));
        assert_eq!(resolved.values[key].value, value, "{name}={text}");
        assert_eq!(resolved.values[key].origin, Origin::Environment { name: name.to_owned() });
    }
    for (name, text, says) in [
        ("COVE__CONTAINER__GC__MAX_IDEL_MINUTES", "7", "COVE__CONTAINER__GC__MAX_IDLE_MINUTES"),
        ("COVE__LOOP__PARALLEL", "many", "config explain"),
        ("CONTAINER_RUNTIME", "lxc", "config explain"),
    ] {
        let error = Machine::new().variable(name, text).load().expect_err(name);
        assert!(error.message().contains(name), "{}", error.message());
        assert!(error.next_step().unwrap_or_default().contains(says), "{:?}", error.next_step());
    }
}

#[test]
fn timeouts_keep_the_meaning_of_the_source() {
    let bounds = |machine: Machine| machine.load().unwrap().run_parts().unwrap().bounds;
    assert_eq!(bounds(Machine::new()).attempt_seconds, 1800);
    assert_eq!(bounds(Machine::new().variable("CONTAINER_TIMEOUT", "600000")).attempt_seconds, 600);
    // A fraction of a second must not become 0, which would be no bound.
    let short = Machine::new().variable("CONTAINER_TIMEOUT", "30");
    let warnings = short.load().unwrap().warnings;
    assert!(warnings.iter().any(|w| w.contains("CONTAINER_TIMEOUT=30 counts milliseconds")), "{warnings:?}");
    assert_eq!(bounds(short).attempt_seconds, 1);
}

#[test]
fn kubernetes_without_a_cluster_is_unavailable() {
    let without = Machine::new().variable("CONTAINER_RUNTIME", "kubernetes").load().unwrap();
    assert_eq!(without.run_parts().unwrap_err().kind().exit_code(), 9);
    let with = Machine::new().variable("CONTAINER_RUNTIME", "kubernetes").variable("KUBECONFIG", "/k").load().unwrap();
    assert_eq!(with.run_parts().unwrap().engine, "kubernetes");
}

#[test]
fn no_file_can_switch_hardening_off_or_consent_to_no_sandbox() {
    let resolved = Machine::new()
        .user(r#"{"ralph": {"container": {"engine": "none", "sandbox": {"readOnlyRoot": false}}}}"#)
        .load()
        .unwrap();
    assert!(resolved.settings.container.sandbox.read_only_root);
    assert!(resolved.warnings.iter().any(|w| w.contains("cannot be switched off")));
    // The engine is named, but consent is a field that settings cannot reach.
    assert_eq!(resolved.run_parts().unwrap().engine, "direct");
    assert!(Key::all().keys().all(|key| !key.to_lowercase().contains("acceptnosandbox")));
}

#[test]
fn another_programs_file_never_stops_us() {
    for text in ["{ralph: 1}", r#"{"ralph": {"nonsense": 1}}"#, r#"{"ralph": {"loop": {"parallel": "x"}}}"#] {
        let resolved = Machine::new().file(".openclaw/openclaw.json", text).load().unwrap();
        assert_eq!(resolved.warnings.len(), 1, "{text}");
        assert!(resolved.warnings[0].contains("openclaw.json"), "{:?}", resolved.warnings);
    }
    let named = Machine::new().variable("COVE_CONFIG", "/nonexistent/c.json").load().unwrap_err();
    assert_eq!(named.kind(), ErrorKind::NotFound);
}

#[test]
fn only_one_root_at_a_time() {
    let both = Machine::new().user(r#"{"ralph": {"container": {"image": "i", "rootDir": "/r"}}}"#).load().unwrap();
    assert!(both.run_parts().unwrap_err().message().contains("More than one"));
}

/// The table of keys in the documentation is generated; `COVE_UPDATE_DOCS=1` writes it anew.
#[test]
fn the_page_on_configuration_lists_every_key() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = std::fs::read_to_string(file).unwrap();
    let (begin, end) = ("<!-- keys -->\n", "<!-- /keys -->");
    let (head, rest) = page.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let mut table = String::from("| Key | Default | Project | Meaning |\n|---|---|---|---|\n");
    for key in Key::all().values() {
        let mark = if key.in_force { "" } else { " †" };
        let rule = match key.project {
            ProjectRule::Set => "set",
            ProjectRule::Lower => "lower",
            ProjectRule::Ignored => "–",
        };
        let default = if key.default.is_null() { "–".to_owned() } else { format!("`{}`", key.default) };
        table += &format!("| `{}`{mark} | {default} | {rule} | {} |\n", key.path, key.description);
    }
    let expected = format!("{head}{begin}{table}{end}{tail}");
    if std::env::var_os("COVE_UPDATE_DOCS").is_some() {
        std::fs::write(file, &expected).unwrap();
    }
    assert!(page == expected || std::env::var_os("COVE_UPDATE_DOCS").is_some(), "run with COVE_UPDATE_DOCS=1");
}
