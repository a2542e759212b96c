//! Codex CLI, tried with 0.169.
//!
//! It ignores `OPENAI_BASE_URL`, and its own provider looks for several hosts at each start; so it
//! always gets a provider of ours in its configuration file, which needs one host only.

use cove_core::agent::AgentRequest;
use cove_core::{AgentCapability as Can, AgentCommand, Result};

use super::{texts, variables};
use crate::definition::{
    AdapterDefinition, Argument, PromptChannel, ProviderEndpoint, ResourceFloor, StreamFormat, TerminalRule,
};

const BASE_URL: &str = "OPENAI_BASE_URL";
const KEYS: [&str; 2] = ["OPENAI_API_KEY", "CODEX_API_KEY"];

pub(super) fn definition() -> AdapterDefinition {
    let one = |text: &str| Argument::One(text.to_owned());
    AdapterDefinition {
        name: "codex".to_owned(),
        program: "codex".to_owned(),
        arguments: vec![
            one("exec"),
            one("--json"),
            one("--skip-git-repo-check"),
            // Its own sandbox cannot be built inside ours, and ours is the boundary.
            one("--dangerously-bypass-approvals-and-sandbox"),
            Argument::Group(texts(&["--model", "{model}"])),
        ],
        env: variables(&[("CODEX_HOME", "{home}/.codex")]),
        prompt: PromptChannel::Stdin,
        stream: StreamFormat::Codex,
        terminal: TerminalRule::Event,
        files: Vec::new(),
        writable: texts(&["{home}", "/tmp"]),
        hosts: texts(&["api.openai.com"]),
        provider_hosts: Default::default(),
        endpoints: vec![ProviderEndpoint { base_url: BASE_URL.to_owned(), keys: texts(&KEYS), always: true }],
        capabilities: [Can::Stream, Can::Tokens, Can::Model].into(),
        // With too few processes its tools fail and it still exits 0.
        floor: ResourceFloor { memory_bytes: 256 << 20, pids: 256 },
        prices: Vec::new(),
    }
}

pub(super) fn prepare(request: &AgentRequest, command: &mut AgentCommand) -> Result<()> {
    let given = |name: &str| request.env.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let base = given(BASE_URL).unwrap_or("https://api.openai.com/v1").trim().trim_end_matches('/');
    let key = KEYS.into_iter().find(|k| given(k).is_some()).unwrap_or(KEYS[0]);
    let config = format!(
        r#"model_provider = "cove"
check_for_update_on_startup = false

[analytics]
enabled = false

[history]
persistence = "none"

[features]
plugins = false

[model_providers.cove]
name = "cove"
base_url = {base}
env_key = {key}
wire_api = "responses"
"#,
        // A JSON string is a TOML basic string.
        base = serde_json::Value::from(base),
        key = serde_json::Value::from(key),
    );
    command.files.push((".codex/config.toml".into(), config.into_bytes()));
    Ok(())
}
