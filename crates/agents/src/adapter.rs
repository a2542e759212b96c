//! One agent as the runner sees it: a definition, and what a template cannot say.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use cove_core::agent::AgentRequest;
use cove_core::{Agent, AgentCapability, AgentCommand, Error, Result, StreamParser};

use crate::definition::{AdapterDefinition, PromptChannel, ProviderEndpoint, ResourceFloor};
use crate::endpoint::Endpoint;
use crate::parse::{ParserOptions, StreamReader};
use crate::prices::PriceTable;
use crate::template::{Values, fill};

/// Key given to programs that refuse to start without one. It opens nothing.
pub(crate) const PLACEHOLDER_KEY: &str = "cove-placeholder-key";

/// Adds to a command what a template cannot say (generated configuration).
pub(crate) type Prepare = fn(&AgentRequest, &mut AgentCommand) -> Result<()>;

/// An agent made from a definition.
#[derive(Debug, Clone)]
pub struct Adapter {
    definition: AdapterDefinition,
    prepare: Option<Prepare>,
    command: Option<Vec<String>>,
    prices: Arc<PriceTable>,
    model: Option<String>,
}

impl Adapter {
    /// An adapter of a checked definition.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn new(definition: AdapterDefinition) -> Result<Self> {
        definition.validate()?;
        let prices = Arc::new(PriceTable::built_in().with(&definition.prices));
        Ok(Self { definition, prepare: None, command: None, prices, model: None })
    }

    pub(crate) fn with_prepare(mut self, prepare: Option<Prepare>) -> Self {
        self.prepare = prepare;
        self
    }

    pub(crate) fn prepare(&self) -> Option<Prepare> {
        self.prepare
    }

    /// Replaces the program and its leading arguments for every request that names none itself.
    #[must_use]
    pub fn with_command(mut self, command: Option<Vec<String>>) -> Self {
        self.command = command.filter(|c| !c.is_empty());
        self
    }

    /// Names the model that usage is of where the program does not say (codex, opencode).
    #[must_use]
    pub fn with_model(mut self, model: Option<String>) -> Self {
        self.model = model.filter(|m| !m.is_empty());
        self
    }

    /// Replaces the prices of estimates.
    #[must_use]
    pub fn with_prices(mut self, prices: Arc<PriceTable>) -> Self {
        self.prices = prices;
        self
    }

    /// What it was made from.
    pub fn definition(&self) -> &AdapterDefinition {
        &self.definition
    }

    /// Resources below which it does not work.
    pub fn floor(&self) -> ResourceFloor {
        self.definition.floor
    }

    /// Directories that it must be able to write to beside the workspace.
    pub fn writable(&self, request: &AgentRequest) -> Vec<PathBuf> {
        let values = self.values(request, None);
        self.definition.writable.iter().filter_map(|t| fill(t, &values)).map(PathBuf::from).collect()
    }

    /// A reader with options of its own (tests fix the clock).
    pub fn reader(&self, options: ParserOptions) -> StreamReader {
        let AdapterDefinition { stream, terminal, .. } = self.definition;
        StreamReader::new(stream, terminal, self.prices.clone(), self.model.clone(), options)
    }

    /// The endpoint variable that is set for an attempt, with its value.
    fn endpoint<'a>(&'a self, request: &'a AgentRequest) -> Option<(&'a ProviderEndpoint, &'a str)> {
        self.definition.endpoints.iter().find_map(|endpoint| {
            let url = request.env.get(&endpoint.base_url)?.trim();
            (!url.is_empty()).then_some((endpoint, url))
        })
    }

    fn values(&self, request: &AgentRequest, base_url: Option<&str>) -> Values {
        let mut values = Values::new();
        let mut put = |name: &'static str, value: Option<String>| {
            if let Some(value) = value {
                values.insert(name, value);
            }
        };
        put("model", request.model.clone().filter(|m| !m.is_empty()));
        put("maxTurns", request.max_turns.filter(|n| *n > 0).map(|n| n.to_string()));
        put("baseUrl", base_url.map(|u| u.trim_end_matches('/').to_owned()));
        let mut keys = self.definition.endpoints.iter().flat_map(|e| &e.keys);
        put("apiKey", keys.find_map(|key| request.env.get(key).cloned()));
        put("home", Some(request.home.to_string_lossy().into_owned()));
        if let PromptChannel::File { path } = &self.definition.prompt {
            put("promptFile", Some(request.home.join(path).to_string_lossy().into_owned()));
        }
        values
    }

    /// Sets a placeholder where the program insists on a key and none is given.
    fn give_keys(&self, request: &AgentRequest, command: &mut AgentCommand) {
        for endpoint in &self.definition.endpoints {
            let wanted = endpoint.always || request.env.contains_key(&endpoint.base_url);
            let given = endpoint.keys.iter().any(|key| request.env.get(key).is_some_and(|v| !v.is_empty()));
            if wanted
                && !given
                && let Some(first) = endpoint.keys.first()
            {
                command.env.insert(first.clone(), PLACEHOLDER_KEY.to_owned());
            }
        }
    }
}

impl Agent for Adapter {
    fn name(&self) -> &str {
        &self.definition.name
    }

    fn capabilities(&self) -> &BTreeSet<AgentCapability> {
        &self.definition.capabilities
    }

    fn hosts(&self, request: &AgentRequest) -> Vec<String> {
        if let Some((_, url)) = self.endpoint(request) {
            // One that cannot be read opens nothing; `command` says so.
            return Endpoint::parse(url).map(|e| e.rule()).into_iter().collect();
        }
        let provider = request.model.as_deref().and_then(|m| m.split_once('/')).map(|(provider, _)| provider);
        if let Some(provider) = provider
            && let Some(hosts) = self.definition.provider_hosts.get(provider)
        {
            return hosts.clone();
        }
        self.definition.hosts.clone()
    }

    fn program(&self) -> &str {
        let program = self.command.as_ref().map_or(self.definition.program.as_str(), |c| c[0].as_str());
        program.rsplit('/').next().unwrap_or(program)
    }

    fn command(&self, request: &AgentRequest) -> Result<AgentCommand> {
        let definition = &self.definition;
        if request.model.is_some() && !definition.capabilities.contains(&AgentCapability::Model) {
            return Err(Error::invalid(format!("Agent {:?} takes no model name", definition.name))
                .next("Leave the model out, or give the agent's own option with agent.args"));
        }
        let endpoint = self.endpoint(request);
        let parsed = match endpoint {
            Some((variable, url)) => Some(Endpoint::parse(url).ok_or_else(|| {
                Error::invalid(format!("{} is not an http or https address", variable.base_url))
                    .next("Write it such as http://127.0.0.1:8080")
            })?),
            None => None,
        };
        let values = self.values(request, endpoint.map(|(_, url)| url));

        let program = request.program.as_ref().filter(|p| !p.is_empty()).or(self.command.as_ref());
        let mut argv = program.cloned().unwrap_or_else(|| vec![definition.program.clone()]);
        for argument in &definition.arguments {
            let filled: Option<Vec<String>> = argument.parts().iter().map(|part| fill(part, &values)).collect();
            argv.extend(filled.unwrap_or_default());
        }

        let mut command = AgentCommand { argv, ..AgentCommand::default() };
        command.env.insert("HOME".to_owned(), request.home.to_string_lossy().into_owned());
        for (name, template) in &definition.env {
            if let Some(value) = fill(template, &values) {
                command.env.insert(name.clone(), value);
            }
        }
        for file in &definition.files {
            if let Some(content) = fill(&file.content, &values) {
                command.files.push((PathBuf::from(&file.path), content.into_bytes()));
            }
        }
        match &definition.prompt {
            PromptChannel::Stdin => command.stdin = request.prompt.clone().into_bytes(),
            PromptChannel::File { path } => {
                command.files.push((PathBuf::from(path), request.prompt.clone().into_bytes()));
            }
        }
        let no_proxy = parsed.map_or_else(|| "localhost,127.0.0.1,::1".to_owned(), |e| e.no_proxy());
        command.env.insert("NO_PROXY".to_owned(), no_proxy.clone());
        command.env.insert("no_proxy".to_owned(), no_proxy);
        self.give_keys(request, &mut command);
        if let Some(prepare) = self.prepare {
            prepare(request, &mut command)?;
        }
        command.env.extend(request.env.clone());
        command.argv.extend(request.extra_args.iter().cloned());
        if command.argv.iter().any(|a| a.contains('\0')) {
            return Err(Error::invalid("An argument of the agent has a null byte"));
        }
        Ok(command)
    }

    fn parser(&self) -> Box<dyn StreamParser> {
        Box::new(self.reader(ParserOptions::default()))
    }
}
