//! Gemini CLI, tried with 0.61.

use cove_core::agent::AgentRequest;
use cove_core::{AgentCapability as Can, AgentCommand, Result};
use serde_json::json;

use super::{texts, variables};
use crate::definition::{
    AdapterDefinition, Argument, PromptChannel, ProviderEndpoint, ResourceFloor, StreamFormat, TerminalRule,
};

pub(super) fn definition() -> AdapterDefinition {
    let one = |text: &str| Argument::One(text.to_owned());
    let group = |parts: &[&str]| Argument::Group(texts(parts));
    AdapterDefinition {
        name: "gemini".to_owned(),
        program: "gemini".to_owned(),
        arguments: vec![
            group(&["--output-format", "stream-json"]),
            group(&["--approval-mode", "yolo"]),
            // Without trust yolo is quietly lowered, edits do not exist, and the run is called a success.
            one("--skip-trust"),
            group(&["--model", "{model}"]),
        ],
        env: variables(&[
            ("GEMINI_CLI_NO_RELAUNCH", "true"),
            ("GEMINI_SANDBOX", "false"),
            ("GEMINI_TELEMETRY_ENABLED", "false"),
            ("NO_BROWSER", "true"),
        ]),
        prompt: PromptChannel::Stdin,
        stream: StreamFormat::Gemini,
        terminal: TerminalRule::Event,
        files: Vec::new(),
        writable: texts(&["{home}", "/tmp"]),
        hosts: texts(&["generativelanguage.googleapis.com"]),
        provider_hosts: Default::default(),
        endpoints: vec![ProviderEndpoint {
            base_url: "GOOGLE_GEMINI_BASE_URL".to_owned(),
            keys: texts(&["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
            always: true,
        }],
        capabilities: [Can::Stream, Can::Tokens, Can::MaxTurns, Can::Model].into(),
        floor: ResourceFloor { memory_bytes: 512 << 20, pids: 64 },
        prices: Vec::new(),
    }
}

pub(super) fn prepare(request: &AgentRequest, command: &mut AgentCommand) -> Result<()> {
    // Without the file it ends with code 41 before the first event.
    let mut settings = json!({
        "general": {
            "disableAutoUpdate": true,
            "disableUpdateNag": true,
            "enableAutoUpdate": false,
            "enableAutoUpdateNotification": false,
        },
        "privacy": { "usageStatisticsEnabled": false },
        "telemetry": { "enabled": false },
        "tools": { "sandbox": false },
        "security": { "auth": { "selectedType": "gemini-api-key" }, "folderTrust": { "enabled": false } },
    });
    if let Some(turns) = request.max_turns.filter(|n| *n > 0) {
        settings["model"] = json!({ "maxSessionTurns": turns });
    }
    command.files.push((".gemini/settings.json".into(), settings.to_string().into_bytes()));
    Ok(())
}
