//! OpenCode, tried with 1.18.

use cove_core::agent::AgentRequest;
use cove_core::{AgentCapability as Can, AgentCommand, Error, Result};
use serde_json::{Map, Value, json};

use super::{texts, variables};
use crate::definition::{
    AdapterDefinition, Argument, PromptChannel, ProviderEndpoint, ResourceFloor, StreamFormat, TerminalRule,
};

const OPENAI: &str = "OPENAI_BASE_URL";
const ANTHROPIC: &str = "ANTHROPIC_BASE_URL";

pub(super) fn definition() -> AdapterDefinition {
    let one = |text: &str| Argument::One(text.to_owned());
    let group = |parts: &[&str]| Argument::Group(texts(parts));
    let endpoint = |base_url: &str, key: &str| ProviderEndpoint {
        base_url: base_url.to_owned(),
        keys: texts(&[key]),
        always: false,
    };
    let provider_hosts = [
        ("anthropic", "api.anthropic.com"),
        ("deepseek", "api.deepseek.com"),
        ("google", "generativelanguage.googleapis.com"),
        ("groq", "api.groq.com"),
        ("mistral", "api.mistral.ai"),
        ("openai", "api.openai.com"),
        ("opencode", "opencode.ai"),
        ("openrouter", "openrouter.ai"),
        ("xai", "api.x.ai"),
    ];
    AdapterDefinition {
        name: "opencode".to_owned(),
        program: "opencode".to_owned(),
        arguments: vec![
            one("run"),
            group(&["--format", "json"]),
            // Without a title it asks the model for one.
            group(&["--title", "cove"]),
            // Without it every permission is refused.
            one("--auto"),
        ],
        env: variables(&[
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_DEFAULT_PLUGINS", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
        ]),
        prompt: PromptChannel::Stdin,
        stream: StreamFormat::OpenCode,
        terminal: TerminalRule::Event,
        files: Vec::new(),
        writable: texts(&["{home}", "/tmp"]),
        hosts: Vec::new(),
        provider_hosts: provider_hosts.into_iter().map(|(name, host)| (name.to_owned(), texts(&[host]))).collect(),
        endpoints: vec![endpoint(OPENAI, "OPENAI_API_KEY"), endpoint(ANTHROPIC, "ANTHROPIC_API_KEY")],
        capabilities: [Can::Stream, Can::Tokens, Can::Cost, Can::Model].into(),
        floor: ResourceFloor { memory_bytes: 1 << 30, pids: 64 },
        prices: Vec::new(),
    }
}

pub(super) fn prepare(request: &AgentRequest, command: &mut AgentCommand) -> Result<()> {
    let given = |name: &str| request.env.get(name).map(|v| v.trim().trim_end_matches('/')).filter(|v| !v.is_empty());
    let named = request.model.as_deref().filter(|m| !m.is_empty());
    let mut config = json!({
        "autoupdate": false,
        "share": "disabled",
        "permission": { "*": "allow" },
    });
    let model = match (given(OPENAI), given(ANTHROPIC)) {
        (Some(base), _) => {
            let model = required(named, OPENAI)?;
            let id = model.strip_prefix("openai/").unwrap_or(model);
            // A provider of its own: the built-in one would use a protocol that compatible servers lack.
            let provider = provider("@ai-sdk/openai-compatible", base.to_owned(), "OPENAI_API_KEY", id);
            Some(own(&mut config, "cove", provider, id))
        }
        (None, Some(base)) => {
            let model = required(named, ANTHROPIC)?;
            let id = model.strip_prefix("anthropic/").unwrap_or(model);
            let base = if base.ends_with("/v1") { base.to_owned() } else { format!("{base}/v1") };
            Some(own(&mut config, "anthropic", provider("@ai-sdk/anthropic", base, "ANTHROPIC_API_KEY", id), id))
        }
        (None, None) => named.map(str::to_owned),
    };
    if let Some(model) = model {
        config["model"] = json!(model);
        // Otherwise side tasks go to a small model of the provider, which an endpoint may not have.
        config["small_model"] = json!(model);
        command.argv.extend(["--model".to_owned(), model]);
    }
    command.env.insert("OPENCODE_CONFIG_CONTENT".to_owned(), config.to_string());
    Ok(())
}

fn required<'a>(model: Option<&'a str>, variable: &str) -> Result<&'a str> {
    model.ok_or_else(|| {
        Error::invalid(format!("opencode needs a model name when {variable} is set"))
            .next("Name one that the endpoint serves in agent.model")
    })
}

fn provider(package: &str, base: String, key: &str, model: &str) -> Value {
    let mut models = Map::new();
    models.insert(model.to_owned(), json!({ "name": model, "limit": { "context": 128_000, "output": 16_000 } }));
    // The key is read from the environment, so that it is in no file and no session store.
    json!({ "npm": package, "options": { "baseURL": base, "apiKey": format!("{{env:{key}}}") }, "models": models })
}

fn own(config: &mut Value, name: &str, provider: Value, model: &str) -> String {
    config["enabled_providers"] = json!([name]);
    config["provider"] = json!({ name: provider });
    format!("{name}/{model}")
}
