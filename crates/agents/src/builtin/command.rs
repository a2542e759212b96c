//! Any program: the prompt on stdin, the exit code as the verdict, and simple events if it likes.

use cove_core::AgentCapability as Can;

use super::{COMMAND, texts, variables};
use crate::definition::{
    AdapterDefinition, PromptChannel, ProviderEndpoint, ResourceFloor, StreamFormat, TerminalRule,
};

pub(super) fn definition() -> AdapterDefinition {
    let endpoint = |base_url: &str| ProviderEndpoint { base_url: base_url.to_owned(), keys: Vec::new(), always: false };
    AdapterDefinition {
        name: COMMAND.to_owned(),
        // Never used: the catalog asks for a command.
        program: COMMAND.to_owned(),
        arguments: Vec::new(),
        env: variables(&[("COVE_MODEL", "{model}"), ("COVE_MAX_TURNS", "{maxTurns}")]),
        prompt: PromptChannel::Stdin,
        stream: StreamFormat::JsonLines,
        terminal: TerminalRule::ExitCode,
        files: Vec::new(),
        writable: texts(&["{home}", "/tmp"]),
        hosts: Vec::new(),
        provider_hosts: Default::default(),
        endpoints: ["COVE_MODEL_URL", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "OLLAMA_HOST"]
            .into_iter()
            .map(endpoint)
            .collect(),
        capabilities: [Can::Stream, Can::Model].into(),
        floor: ResourceFloor::default(),
        prices: Vec::new(),
    }
}
