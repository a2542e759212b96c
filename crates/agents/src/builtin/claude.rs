//! Claude Code, tried with 2.1.

use cove_core::AgentCapability as Can;

use super::{texts, variables};
use crate::definition::{
    AdapterDefinition, Argument, PromptChannel, ProviderEndpoint, ResourceFloor, StreamFormat, TerminalRule,
};

pub(super) fn definition() -> AdapterDefinition {
    let one = |text: &str| Argument::One(text.to_owned());
    let group = |parts: &[&str]| Argument::Group(texts(parts));
    AdapterDefinition {
        name: "claude".to_owned(),
        program: "claude".to_owned(),
        arguments: vec![
            one("--print"),
            // Without it stream-json is refused.
            one("--verbose"),
            group(&["--output-format", "stream-json"]),
            // Cove's sandbox is the boundary; asking would only deny.
            one("--dangerously-skip-permissions"),
            group(&["--model", "{model}"]),
            group(&["--max-turns", "{maxTurns}"]),
        ],
        env: variables(&[
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("DISABLE_TELEMETRY", "1"),
            ("DISABLE_ERROR_REPORTING", "1"),
            // It refuses to skip permissions as root otherwise, and some images run as root of a user namespace.
            ("IS_SANDBOX", "1"),
        ]),
        prompt: PromptChannel::Stdin,
        stream: StreamFormat::Claude,
        terminal: TerminalRule::Event,
        files: Vec::new(),
        writable: texts(&["{home}", "/tmp"]),
        hosts: texts(&["api.anthropic.com"]),
        provider_hosts: Default::default(),
        endpoints: vec![ProviderEndpoint {
            base_url: "ANTHROPIC_BASE_URL".to_owned(),
            keys: texts(&["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"]),
            always: true,
        }],
        capabilities: [Can::Stream, Can::Tokens, Can::Cost, Can::MaxTurns, Can::Model].into(),
        floor: ResourceFloor { memory_bytes: 256 << 20, pids: 64 },
        prices: Vec::new(),
    }
}
