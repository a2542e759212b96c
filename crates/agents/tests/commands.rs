//! How each agent is started.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;

use cove_core::agent::AgentRequest;
use cove_core::run::AgentChoice;
use cove_core::{Agent, AgentCapability, AgentCommand, ErrorKind, Result};
use serde_json::{Value, json};

fn choice(name: &str) -> AgentChoice {
    let command = (name == "command").then(|| vec!["./agent.sh".to_owned(), "--fast".to_owned()]);
    AgentChoice { name: name.to_owned(), command, ..AgentChoice::default() }
}

fn request(env: &[(&str, &str)]) -> AgentRequest {
    AgentRequest {
        prompt: "Do it".to_owned(),
        home: "/home/ralph".into(),
        env: env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>(),
        ..AgentRequest::default()
    }
}

fn command(name: &str, request: &AgentRequest) -> Result<AgentCommand> {
    cove_agents::adapter(&choice(name))?.command(request)
}

fn file(command: &AgentCommand, path: &str) -> String {
    let found = command.files.iter().find(|(p, _)| p.to_str() == Some(path));
    String::from_utf8(found.unwrap_or_else(|| panic!("{path} in {:?}", command.files)).1.clone()).unwrap()
}

#[test]
fn arguments() {
    let rows = [
        ("claude", None, None, "claude --print --verbose --output-format stream-json --dangerously-skip-permissions"),
        (
            "claude",
            Some("opus"),
            Some(7),
            "claude --print --verbose --output-format stream-json --dangerously-skip-permissions --model opus --max-turns 7",
        ),
        ("codex", None, Some(7), "codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox"),
        (
            "codex",
            Some("gpt-5.5"),
            None,
            "codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox --model gpt-5.5",
        ),
        ("opencode", None, None, "opencode run --format json --title cove --auto"),
        ("opencode", Some("xai/grok"), None, "opencode run --format json --title cove --auto --model xai/grok"),
        ("gemini", Some("m"), None, "gemini --output-format stream-json --approval-mode yolo --skip-trust --model m"),
        ("command", Some("m"), None, "./agent.sh --fast"),
    ];
    for (name, model, turns, want) in rows {
        let request = AgentRequest { model: model.map(str::to_owned), max_turns: turns, ..request(&[]) };
        let command = command(name, &request).unwrap();
        assert_eq!(command.argv.join(" "), want, "{name}");
        assert_eq!(command.stdin, b"Do it", "{name}");
        assert_eq!(command.env["HOME"], "/home/ralph");
    }
}

#[test]
fn the_program_can_be_replaced_and_arguments_added() {
    let own = AgentRequest {
        program: Some(vec!["node".to_owned(), "/opt/claude.js".to_owned()]),
        extra_args: vec!["--effort".to_owned(), "high".to_owned()],
        ..request(&[])
    };
    let argv = command("claude", &own).unwrap().argv;
    assert_eq!(
        (&argv[..3], &argv[argv.len() - 2..]),
        (&["node", "/opt/claude.js", "--print"].map(str::to_owned)[..], &["--effort", "high"].map(str::to_owned)[..])
    );

    let chosen = AgentChoice { command: Some(vec!["/opt/bin/claude-next".to_owned()]), ..choice("claude") };
    let adapter = cove_agents::catalog(&chosen).unwrap();
    assert_eq!(adapter.program(), "claude-next");
    assert_eq!(adapter.command(&request(&[])).unwrap().argv[0], "/opt/bin/claude-next");
}

#[test]
fn prompts_never_become_arguments() {
    let secret = "x".repeat(300_000);
    for name in cove_agents::names() {
        let request = AgentRequest { prompt: secret.clone(), ..request(&[]) };
        let command = command(name, &request).unwrap();
        assert!(command.argv.iter().chain(command.env.values()).all(|text| !text.contains("xxxx")), "{name}");
    }
}

#[test]
fn hosts_follow_the_endpoint() {
    type Row<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let rows: [Row<'_>; 13] = [
        ("claude", None, &[], &["api.anthropic.com"]),
        ("claude", None, &[("ANTHROPIC_BASE_URL", "http://127.0.0.1:4010")], &["127.0.0.1:4010"]),
        ("claude", None, &[("ANTHROPIC_BASE_URL", "https://gw.example.com/anthropic/")], &["gw.example.com:443"]),
        ("claude", None, &[("ANTHROPIC_BASE_URL", "")], &["api.anthropic.com"]),
        ("claude", None, &[("ANTHROPIC_BASE_URL", "nonsense")], &[]),
        ("codex", None, &[], &["api.openai.com"]),
        ("codex", None, &[("OPENAI_BASE_URL", "http://localhost:11434/v1")], &["localhost:11434"]),
        ("opencode", Some("anthropic/claude-sonnet-5"), &[], &["api.anthropic.com"]),
        ("opencode", Some("somebody/else"), &[], &[]),
        ("opencode", Some("m"), &[("OPENAI_BASE_URL", "http://127.0.0.1:8/v1")], &["127.0.0.1:8"]),
        ("gemini", None, &[], &["generativelanguage.googleapis.com"]),
        ("gemini", None, &[("GOOGLE_GEMINI_BASE_URL", "http://[::1]:9")], &["[::1]:9"]),
        ("command", None, &[("OPENAI_BASE_URL", "http://127.0.0.1:8/v1")], &["127.0.0.1:8"]),
    ];
    for (name, model, env, want) in rows {
        let request = AgentRequest { model: model.map(str::to_owned), ..request(env) };
        assert_eq!(cove_agents::catalog(&choice(name)).unwrap().hosts(&request), want, "{name} {env:?}");
    }
}

/// The proxy is the only way out, also to a model on this machine; a sandbox's own servers stay inside.
#[test]
fn the_model_is_reached_through_the_proxy() {
    let rows = [
        (vec![], "localhost,127.0.0.1,::1"),
        (vec![("ANTHROPIC_BASE_URL", "http://127.0.0.1:4010")], "localhost,::1"),
        (vec![("ANTHROPIC_BASE_URL", "http://127.0.0.1:4010"), ("NO_PROXY", "example.com")], "example.com"),
    ];
    for (env, want) in rows {
        assert_eq!(command("claude", &request(&env)).unwrap().env["NO_PROXY"], want, "{env:?}");
    }
}

#[test]
fn keys_are_given_or_stood_in_for() {
    let key = |name: &str, env: &[(&str, &str)], variable: &str| {
        let request = AgentRequest { model: Some("m".to_owned()), ..request(env) };
        command(name, &request).unwrap().env.get(variable).cloned()
    };
    let placeholder = Some("cove-placeholder-key".to_owned());
    assert_eq!(key("claude", &[], "ANTHROPIC_API_KEY"), placeholder);
    assert_eq!(key("claude", &[("ANTHROPIC_API_KEY", "k")], "ANTHROPIC_API_KEY").as_deref(), Some("k"));
    // A second key would take precedence over the token.
    assert_eq!(key("claude", &[("ANTHROPIC_AUTH_TOKEN", "t")], "ANTHROPIC_API_KEY"), None);
    assert_eq!(key("codex", &[], "OPENAI_API_KEY"), placeholder);
    assert_eq!(key("gemini", &[], "GEMINI_API_KEY"), placeholder);
    assert_eq!(key("opencode", &[], "OPENAI_API_KEY"), None);
    assert_eq!(key("opencode", &[("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")], "OPENAI_API_KEY"), placeholder);
    assert_eq!(key("command", &[], "OPENAI_API_KEY"), None);
}

#[test]
fn generated_configuration() {
    let codex = command("codex", &request(&[("OPENAI_BASE_URL", "http://127.0.0.1:4010/v1/"), ("CODEX_API_KEY", "k")]))
        .unwrap();
    let config = file(&codex, ".codex/config.toml");
    assert!(config.contains("base_url = \"http://127.0.0.1:4010/v1\"\nenv_key = \"CODEX_API_KEY\""), "{config}");
    assert_eq!(codex.env["CODEX_HOME"], "/home/ralph/.codex");

    let gemini = command("gemini", &AgentRequest { max_turns: Some(9), ..request(&[]) }).unwrap();
    let settings: Value = serde_json::from_str(&file(&gemini, ".gemini/settings.json")).unwrap();
    assert_eq!(settings["model"]["maxSessionTurns"], 9);
    assert_eq!(settings["security"]["folderTrust"]["enabled"], false);

    let rows = [
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1", "openai/gpt-5", "cove/gpt-5", "http://127.0.0.1:1/v1"),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:1", "anthropic/opus", "anthropic/opus", "http://127.0.0.1:1/v1"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1", "qwen/qwen3", "cove/qwen/qwen3", "http://127.0.0.1:1/v1"),
    ];
    for (variable, url, model, want, base) in rows {
        let request = AgentRequest { model: Some(model.to_owned()), ..request(&[(variable, url)]) };
        let command = command("opencode", &request).unwrap();
        assert_eq!(command.argv[command.argv.len() - 2..], ["--model".to_owned(), want.to_owned()]);
        let config: Value = serde_json::from_str(&command.env["OPENCODE_CONFIG_CONTENT"]).unwrap();
        let (provider, id) = want.split_once('/').unwrap();
        assert_eq!(config["provider"][provider]["options"]["baseURL"], base);
        assert!(config["provider"][provider]["models"][id].is_object(), "{config}");
        assert!(!config.to_string().contains("cove-placeholder-key"));
    }
}

#[test]
fn requests_that_cannot_be_met_are_refused() {
    let rows = [
        (choice("cluade"), request(&[]), "There is no agent \"cluade\""),
        (AgentChoice { command: None, ..choice("command") }, request(&[]), "needs a command"),
        (AgentChoice { command: Some(vec![]), ..choice("claude") }, request(&[]), "command is empty"),
        (choice("claude"), request(&[("ANTHROPIC_BASE_URL", "ftp://x")]), "ANTHROPIC_BASE_URL is not an http"),
        (choice("opencode"), request(&[("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]), "needs a model name"),
        (
            AgentChoice { definition: Some(json!({"program": "x", "colour": "red"})), ..choice("mine") },
            request(&[]),
            "colour",
        ),
        (
            AgentChoice { definition: Some(json!({"program": "x", "arguments": ["{prompt}"]})), ..choice("mine") },
            request(&[]),
            "{prompt}",
        ),
        (
            AgentChoice {
                definition: Some(json!({"program": "x", "files": [{"path": "../x", "content": ""}]})),
                ..choice("mine")
            },
            request(&[]),
            "below the home",
        ),
        (
            AgentChoice { definition: Some(json!({"program": "x"})), ..choice("mine") },
            AgentRequest { model: Some("m".to_owned()), ..request(&[]) },
            "takes no model",
        ),
    ];
    for (choice, request, want) in rows {
        let error = cove_agents::adapter(&choice).and_then(|a| a.command(&request)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(want), "{error}");
    }
    let error = cove_agents::adapter(&choice("cluade")).unwrap_err();
    assert!(error.next_step().unwrap().contains("claude, codex, opencode, gemini, command"), "{error:?}");
}

#[test]
fn an_agent_of_ones_own() {
    let definition = json!({
        "program": "goose",
        "arguments": ["run", "--no-session", ["--model", "{model}"], ["--max-turns", "{maxTurns}"], "-i", "{promptFile}"],
        "env": { "GOOSE_MODE": "auto", "OPENAI_HOST": "{baseUrl}" },
        "prompt": { "by": "file", "path": ".config/prompt.md" },
        "stream": "text",
        "files": [{ "path": ".config/goose/config.yaml", "content": "key: \"{{literal}}\"\n" }],
        "hosts": ["api.openai.com"],
        "endpoints": [{ "baseUrl": "OPENAI_BASE_URL", "keys": ["OPENAI_API_KEY"] }],
        "capabilities": ["stream", "model"],
        "floor": { "memoryBytes": 536870912 },
    });
    let chosen = AgentChoice { definition: Some(definition), ..choice("goose") };
    let adapter = cove_agents::adapter(&chosen).unwrap();
    assert_eq!((adapter.name(), adapter.program(), adapter.floor().memory_bytes), ("goose", "goose", 512 << 20));
    assert!(adapter.capabilities().contains(&AgentCapability::Model));

    let request =
        AgentRequest { model: Some("m".to_owned()), ..request(&[("OPENAI_BASE_URL", "http://127.0.0.1:5/")]) };
    let command = adapter.command(&request).unwrap();
    assert_eq!(command.argv.join(" "), "goose run --no-session --model m -i /home/ralph/.config/prompt.md");
    assert_eq!(command.env["OPENAI_HOST"], "http://127.0.0.1:5");
    assert_eq!(command.env["OPENAI_API_KEY"], "cove-placeholder-key");
    assert!(command.stdin.is_empty());
    assert_eq!(file(&command, ".config/prompt.md"), "Do it");
    assert_eq!(file(&command, ".config/goose/config.yaml"), "key: \"{literal}\"\n");

    let extended = json!({
        "extends": "codex",
        "program": "codex-next",
        "prices": [{ "model": "local-*", "input": 0.0, "output": 0.0 }],
    });
    let chosen = AgentChoice { definition: Some(extended), ..choice("nightly") };
    let adapter = cove_agents::adapter(&chosen).unwrap();
    let command = adapter.command(&request).unwrap();
    assert_eq!((adapter.name(), &command.argv[..2]), ("nightly", &["codex-next", "exec"].map(str::to_owned)[..]));
    assert!(file(&command, ".codex/config.toml").contains("127.0.0.1:5"));

    // Built-in definitions are examples: they survive being written and read.
    for definition in cove_agents::builtin::definitions() {
        let text = serde_json::to_string(&definition).unwrap();
        assert_eq!(serde_json::from_str::<cove_agents::AdapterDefinition>(&text).unwrap(), definition);
    }
}
