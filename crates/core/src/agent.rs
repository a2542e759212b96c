//! The port to agent programs: how one is started, and what its output means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::sandbox::ExitStatus;

/// An agent program. Adapters are pure: they describe a command and read a stream; the runner starts
/// the one and feeds the other.
pub trait Agent: Send + Sync {
    /// Its name in settings and records.
    fn name(&self) -> &str;
    /// What it can do.
    fn capabilities(&self) -> &BTreeSet<AgentCapability>;
    /// Hosts it needs to reach its model, as egress rules.
    fn hosts(&self, request: &AgentRequest) -> Vec<String>;
    /// The program's file name, looked up in the sandbox's `PATH` (for `doctor`).
    fn program(&self) -> &str;
    /// The command for one attempt. The prompt never goes into `argv`.
    ///
    /// # Errors
    /// `Invalid` when the request asks for what the agent cannot do.
    fn command(&self, request: &AgentRequest) -> Result<AgentCommand>;
    /// A fresh reader for one attempt's output.
    fn parser(&self) -> Box<dyn StreamParser>;
}

/// What one attempt asks of an agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentRequest {
    /// The whole prompt.
    pub prompt: String,
    /// Model name as the agent understands it; its own default when absent.
    pub model: Option<String>,
    /// Turns allowed, where the agent can count them itself.
    pub max_turns: Option<u32>,
    /// Replaces the program and its leading arguments.
    pub program: Option<Vec<String>>,
    /// Appended to the arguments.
    pub extra_args: Vec<String>,
    /// Variables for the process (model endpoint, placeholder key, …), added last.
    pub env: BTreeMap<String, String>,
    /// Home directory inside, writable, empty.
    pub home: PathBuf,
}

/// How to start an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Bytes for stdin; stdin is closed after them.
    pub stdin: Vec<u8>,
    /// Files written into the sandbox's home first, paths relative to the home.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

/// Something an agent can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AgentCapability {
    /// Says what it does as it goes.
    Stream,
    /// Reports tokens.
    Tokens,
    /// Reports money.
    Cost,
    /// Counts its own turns.
    MaxTurns,
    /// Takes a model name.
    Model,
}

/// Reads one attempt's output. Never fails: noise, unknown events, cut lines and invalid UTF-8 are
/// passed over and counted.
pub trait StreamParser: Send {
    /// Takes the next bytes of stdout.
    fn stdout(&mut self, bytes: &[u8]) -> Vec<AgentEvent>;
    /// Takes the next bytes of stderr.
    fn stderr(&mut self, bytes: &[u8]) -> Vec<AgentEvent>;
    /// The process ended; what does all of it mean?
    fn finish(&mut self, exit: &ExitStatus) -> AgentOutcome;
}

/// A normalised event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum AgentEvent {
    /// The agent says something; not yet its final message.
    Text {
        /// What it says, at most 8 KiB.
        text: String,
    },
    /// A tool is used.
    ToolUse {
        /// Its name.
        tool: String,
        /// One line: command, path or pattern.
        summary: String,
    },
    /// A tool came back.
    ToolResult {
        /// Whether it failed.
        error: bool,
        /// First line.
        summary: String,
    },
    /// What has been used so far, in this attempt; replaces earlier ones.
    Usage {
        /// Totals of the attempt.
        usage: Usage,
    },
    /// The provider refuses for now.
    RateLimit {
        /// When it says it will serve again.
        #[schemars(with = "Option<String>")]
        resets_at: Option<Timestamp>,
        /// Its words.
        message: String,
    },
    /// A tool was denied to the agent by its own permission system.
    PermissionDenied {
        /// Tool and reason.
        message: String,
    },
    /// A new turn of the model began.
    Turn,
    /// The agent's last words.
    Final {
        /// The whole message, at most 256 KiB.
        text: String,
    },
    /// The agent or its provider reports an error.
    Error {
        /// Its words.
        message: String,
    },
}

/// Tokens and money; kinds that an agent does not tell are 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Fresh input tokens (neither read from nor written to a cache).
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Input tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Input tokens written to a cache.
    pub cache_write_tokens: u64,
    /// US dollars as reported by the agent.
    pub reported_cost_usd: Option<f64>,
    /// US dollars by the price table; kept apart from what was reported.
    pub estimated_cost_usd: Option<f64>,
    /// Model turns.
    pub turns: u32,
    /// Model that was named last.
    pub model: Option<String>,
}

impl Usage {
    /// All tokens together.
    pub fn tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens
    }

    /// The reported cost, or the estimate where none was reported.
    pub fn cost_usd(&self) -> Option<f64> {
        self.reported_cost_usd.or(self.estimated_cost_usd)
    }

    /// Adds another attempt's usage.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cache_read_tokens += other.cache_read_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.turns += other.turns;
        for (mine, theirs) in [
            (&mut self.reported_cost_usd, other.reported_cost_usd),
            (&mut self.estimated_cost_usd, other.estimated_cost_usd),
        ] {
            if let Some(cost) = theirs {
                *mine = Some(mine.unwrap_or(0.0) + cost);
            }
        }
        if other.model.is_some() {
            self.model.clone_from(&other.model);
        }
    }
}

/// What an attempt came to, from the exit status and the terminal event together. The diff is judged
/// by the runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum AgentOutcome {
    /// Ended well, with a terminal event where the agent has one.
    Done {
        /// Last words, empty when there were none.
        message: String,
    },
    /// Ended badly, or said so, or the stream was cut before its terminal event.
    Failed {
        /// One sentence.
        reason: String,
    },
    /// The provider refused.
    Limited {
        /// When it says it will serve again.
        #[schemars(with = "Option<String>")]
        resets_at: Option<Timestamp>,
        /// Its words.
        reason: String,
    },
    /// Not signed in, or the key was refused: repeating cannot help.
    Unauthorized {
        /// Its words.
        reason: String,
    },
}
