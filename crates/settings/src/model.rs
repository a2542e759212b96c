//! Every setting, with its meaning and default. The doc comments are the texts of `config explain`
//! and of the JSON Schema.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cove_core::run::{GateSpec, TokenMeaning};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scalar::{Cpus, Millis, Size, Span};

macro_rules! group {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

group! {
    /// Everything under the key `ralph`.
    Settings {
        /// Whether runs may be started at all.
        enabled: bool = true,
        /// Sandboxes: engine, root, limits.
        container: Container = Container::default(),
        /// The agent program.
        agent: Agent = Agent::default(),
        /// Agents of one's own by name: command, output format, hosts, capabilities.
        agents: BTreeMap<String, serde_json::Value> = BTreeMap::new(),
        /// The PRD and its progress file.
        prd: Prd = Prd::default(),
        /// How a run goes on and when it stops.
        #[serde(rename = "loop")]
        loops: Loop = Loop::default(),
        /// Checks that a commit must pass; taken from the PRD or detected in the repository when absent.
        gates: Option<Vec<GateSpec>> = None,
        /// What may leave a sandbox, and which images may be used.
        security: Security = Security::default(),
        /// The per-user daemon.
        daemon: Daemon = Daemon::default(),
        /// Git hosts.
        git: Git = Git::default(),
        /// Where archives are kept.
        storage: Storage = Storage::default(),
        /// Scheduled backups.
        backup: Backup = Backup::default(),
    }
}

group! {
    /// Sandboxes: engine, root, limits.
    Container {
        /// What makes sandboxes. `auto` takes the first that is proven on this host, never one without isolation.
        engine: EngineName = EngineName::Auto,
        /// Image that agents and gates run in, as a reference into a registry. The host's system directories when absent.
        image: Option<String> = None,
        /// Directory that holds a root file system, instead of an image.
        root_dir: Option<PathBuf> = None,
        /// Archive that holds a root file system (`docker save`, OCI layout or tar), instead of an image.
        root_archive: Option<PathBuf> = None,
        /// Time for one attempt of the agent. A bare number counts milliseconds, as in `CONTAINER_TIMEOUT`.
        timeout: Millis = Millis(Duration::from_secs(1800)),
        /// Limits of each sandbox.
        resources: Resources = Resources::default(),
        /// Hardening of each sandbox.
        sandbox: Sandbox = Sandbox::default(),
        /// Garbage collection.
        gc: Gc = Gc::default(),
    }
}

/// The engines, by every name that settings accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// The first proven one.
    Auto,
    /// Built into Cove.
    #[serde(alias = "embedded")]
    Native,
    /// Docker Engine.
    Docker,
    /// Podman.
    Podman,
    /// Apple's container tool.
    #[serde(alias = "apple")]
    AppleContainer,
    /// A Kubernetes cluster.
    Kubernetes,
    /// Scripted, for tests.
    #[serde(alias = "fake")]
    Mock,
    /// A plain process: no isolation. Needs `--i-accept-no-sandbox` as well.
    #[serde(alias = "direct")]
    None,
}

impl EngineName {
    /// The engine's name in a run's specification.
    pub fn engine(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::AppleContainer => "apple",
            Self::Kubernetes => "kubernetes",
            Self::Mock => "fake",
            Self::None => "direct",
        }
    }
}

group! {
    /// Limits of each sandbox.
    Resources {
        /// CPUs' worth of time.
        cpu: Cpus = Cpus(2.0),
        /// Memory; swap beyond it is always 0.
        memory: Size = Size(4 << 30),
        /// Bytes on disk in all writable places together.
        storage: Size = Size(10 << 30),
        /// Processes and threads together.
        pids: u64 = 512,
        /// Open files per process.
        open_files: u64 = 65_536,
    }
}

group! {
    /// Hardening of each sandbox. It is always on; a file cannot switch it off.
    Sandbox {
        /// The root file system cannot be written. Always on.
        read_only_root: bool = true,
        /// No process can gain privileges. Always on.
        no_new_privileges: bool = true,
        /// `restricted`: no network but the egress door with its list of hosts. The only policy there is.
        network_policy: NetworkPolicy = NetworkPolicy::Restricted,
    }
}

/// The network policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkPolicy {
    /// Listed hosts only, through the egress door.
    Restricted,
}

group! {
    /// Garbage collection.
    Gc {
        /// Whether what is idle is removed by itself.
        enabled: bool = true,
        /// Minutes without use after which a sandbox is removed.
        max_idle_minutes: u32 = 30,
        /// Sandboxes of one user at once.
        max_containers_per_user: u32 = 5,
        /// Sandboxes of one project at once.
        max_containers_per_project: u32 = 3,
        /// Disk used by all sandboxes together.
        max_disk_usage: Size = Size(50 << 30),
        /// Memory used by all sandboxes together.
        max_memory_usage: Size = Size(16 << 30),
        /// How long the remains of a failed run are kept.
        preserve_failed: Span = Span(Duration::from_secs(24 * 3600)),
        /// Whether data is archived before its sandbox is removed.
        backup_before_delete: bool = true,
    }
}

group! {
    /// The agent program.
    Agent {
        /// `claude`, `codex`, `opencode`, `gemini`, `command`, or a name under `ralph.agents`.
        name: String = "claude".to_owned(),
        /// Model name as the agent understands it; the agent's own default when absent.
        model: Option<String> = None,
        /// Program and leading arguments instead of the agent's own; required for `command`.
        command: Option<Vec<String>> = None,
        /// Appended to the agent's arguments.
        args: Vec<String> = Vec::new(),
        /// Variables given to the agent: `NAME` takes the value from Cove's environment, `NAME=VALUE` sets it.
        env: Vec<String> = Vec::new(),
        /// Host directories shown read-only at the same path to the agent and to checks, for what is installed outside the system's directories.
        mounts: Vec<PathBuf> = Vec::new(),
    }
}

group! {
    /// The PRD and its progress file.
    Prd {
        /// PRD file, relative to the repository.
        path: PathBuf = PathBuf::from("prd.json"),
        /// Progress file, relative to the repository.
        progress: PathBuf = PathBuf::from("progress.txt"),
    }
}

group! {
    /// How a run goes on and when it stops. 0 means no bound where nothing else is said.
    Loop {
        /// Attempts of the whole run.
        max_iterations: u32 = 50,
        /// Attempts at one story before it is given up.
        max_attempts: u32 = 5,
        /// Wall clock of the whole run, pauses not counted; unbounded when absent.
        max_time: Option<Span> = None,
        /// Tokens of the whole run; unbounded when absent.
        max_tokens: Option<u64> = None,
        /// US dollars of the whole run; unbounded when absent.
        max_cost_usd: Option<f64> = None,
        /// Model turns of one attempt, where the agent can count them.
        max_turns: Option<u32> = None,
        /// Time without any output after which an attempt is ended.
        idle_timeout: Span = Span(Duration::from_secs(600)),
        /// Independent stories worked on at once, 1 to 16.
        parallel: u32 = 1,
        /// Identical failures in a row before a story counts as stuck.
        stuck_after: u32 = 3,
        /// Consecutive failures of the infrastructure before the run fails.
        infrastructure_failures: u32 = 3,
        /// Whether a provider's limit pauses the run until its reset; otherwise the run ends there.
        wait_for_provider: bool = true,
        /// Whether a story may pass without any change when its gates pass.
        allow_empty: bool = false,
        /// Whether a diff that edits tests or gates is judged by its own version of them alone.
        trust_test_changes: bool = false,
        /// What a completion token in the agent's final message claims: `story` or `prd`. Never more than a claim.
        token_means: TokenMeaning = TokenMeaning::Story,
        /// File with a prompt template, relative to the repository; the built-in one when absent.
        prompt: Option<PathBuf> = None,
        /// Bytes of an agent's output kept per attempt.
        output_limit: Size = Size(64 << 20),
    }
}

group! {
    /// What may leave a sandbox, and which images may be used.
    Security {
        /// Hosts that the agent may reach beside those of its own model: `example.com`, `*.example.com`, `host:port`.
        allowed_hosts: Vec<String> = Vec::new(),
        /// Hosts refused even where allowed.
        blocked_hosts: Vec<String> = Vec::new(),
        /// Hosts that gates may reach; none by default.
        gate_hosts: Vec<String> = Vec::new(),
        /// Patterns (`*` and `?`) of images that a repository's own settings may choose; any when absent.
        allowed_images: Option<Vec<String>> = None,
        /// Limits to go without where the host cannot give them, by control name such as `limit-memory`.
        accept_missing: Vec<String> = Vec::new(),
        /// Whether a repository is scanned before a run.
        scan_on_start: bool = true,
        /// Whether findings stop a run.
        block_on_vulnerabilities: bool = true,
    }
}

group! {
    /// The per-user daemon.
    Daemon {
        /// Runs worked on at once; more wait in the queue.
        max_runs: u32 = 4,
        /// Time without work after which the daemon ends itself.
        idle_timeout: Span = Span(Duration::from_secs(1800)),
    }
}

group! {
    /// Git hosts.
    Git {
        /// Host that pull requests go to.
        default_provider: String = "github".to_owned(),
        /// Whether a finished run opens a pull request.
        #[serde(rename = "autoPR")]
        auto_pr: bool = true,
        /// Style of commit subjects.
        commit_style: String = "conventional".to_owned(),
        /// Settings of each host by name.
        providers: BTreeMap<String, serde_json::Value> = BTreeMap::new(),
    }
}

group! {
    /// Where archives are kept.
    Storage {
        /// Name of the backend used first.
        default: String = "local".to_owned(),
        /// Backends by name.
        backends: BTreeMap<String, serde_json::Value> = BTreeMap::new(),
    }
}

group! {
    /// Scheduled backups.
    Backup {
        /// Whether backups are made.
        enabled: bool = true,
        /// Cron expression.
        schedule: String = "0 */6 * * *".to_owned(),
        /// How many are kept.
        retention: Retention = Retention::default(),
        /// Names of the backends that take them.
        backends: Vec<String> = vec!["local".to_owned()],
        /// `gzip`, `zstd` or `none`.
        compression: String = "zstd".to_owned(),
    }
}

group! {
    /// How many backups are kept.
    Retention {
        /// Hourly ones.
        hourly: u32 = 6,
        /// Daily ones.
        daily: u32 = 7,
        /// Weekly ones.
        weekly: u32 = 4,
    }
}
