//! The daemon's side of a container engine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use cove_core::error::Context;
use cove_core::{Capabilities, EngineKind, Error, ErrorKind, Result, Root, SandboxId, SandboxSpec, Swept};
use serde_json::Value;

use super::client::{Address, Client, name};
use super::dialect::{self, Dialect, Facts};
use super::launch::{Options, refuse_what_is_not_offered};
use super::look::{self, About};
use super::probe::{ARGUMENT, Question};
use super::remains::Left;
use super::{base, cache, image, removal};
use crate::images::Images;
use crate::local::Kind;
use crate::native::{lockdown, probe};
use crate::supervisor::HelperProgram;
use crate::supervisor::launch::Remains;

/// How long proving may take: several containers one after the other.
const PROBE: Duration = Duration::from_secs(180);

/// How old an image that was made here grows without a sandbox on it.
const IMAGES: Duration = Duration::from_secs(14 * 86_400);

/// Docker or Podman.
pub struct Containers {
    dialect: &'static dyn Dialect,
    address: Address,
    facts: Facts,
    capabilities: Capabilities,
    remains: Left,
    images: Images,
}

impl Containers {
    /// Greets the engine at `socket` and proves what it can do, or recalls it from `state`. Blocks: a few
    /// milliseconds when it is recalled, some seconds when it has to be proven. Must not be called from an
    /// asynchronous task.
    ///
    /// # Errors
    /// `Unavailable` with the engine's name when nobody answers in time, `Unsupported` for an engine of
    /// another machine.
    pub fn new(engine: EngineKind, socket: &Path, state: &Path, helper: &HelperProgram) -> Result<Self> {
        let dialect = dialect::of(engine)?;
        let socket = std::fs::canonicalize(socket).map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("{} does not listen at {}", name(engine), socket.display()))
                .next(match engine {
                    EngineKind::Podman => "Start it: systemctl --user start podman.socket, or podman system service",
                    _ => "Start it: systemctl start docker",
                })
                .because(error)
        })?;
        let (address, about) = greet(engine, &socket)?;
        let facts = Facts {
            rootless: about.has("rootless"),
            own_users: about.has("rootless") || about.has("userns"),
            groups_v1: about.cgroup_version.as_deref().is_some_and(|version| version.trim_start_matches('v') == "1"),
        };
        refuse_others_machines(&about, engine)?;
        let key = cache::Key {
            address: address.clone(),
            engine_version: about.server_version,
            facts,
            boot: cache::boot(),
            program: program(),
            user: crate::native::sys::own_ids().0,
        };
        let capabilities = match cache::recall(state, &key) {
            Some(capabilities) => capabilities,
            None => {
                let capabilities = prove(helper, &Question { address: address.clone(), facts })?;
                // A passing trouble is not remembered.
                if capabilities.has(cove_core::Control::IsolationContainer) {
                    cache::remember(state, &key, &capabilities);
                }
                capabilities
            }
        };
        let images = Images::new(state.join("images"));
        Ok(Self { dialect, remains: Left { address: address.clone() }, address, facts, capabilities, images })
    }

    /// Unpacking archives with this cache instead of one in the state directory.
    #[must_use]
    pub fn with_images(mut self, images: Images) -> Self {
        self.images = images;
        self
    }

    /// Where the engine listens and what was agreed on.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether the engine runs as a user other than root.
    pub fn rootless(&self) -> bool {
        self.facts.rootless
    }
}

/// This program's version and the guest it carries.
fn program() -> String {
    format!("{} {}", env!("CARGO_PKG_VERSION"), crate::supervisor::guest::digest())
}

/// On a thread of its own, which may wait whoever calls.
fn greet(engine: EngineKind, socket: &Path) -> Result<(Address, About)> {
    let socket = PathBuf::from(socket);
    let asked = std::thread::spawn(move || {
        removal::runtime()?.block_on(async {
            let client = Client::connect(engine, &socket).await?;
            let about = look::get_within::<About>(&client.address, "/info", Duration::from_secs(10)).await?;
            Ok((client.address, about.unwrap_or_default()))
        })
    });
    asked.join().unwrap_or_else(|_| Err(Error::internal("Asking the engine was cut off")))
}

fn refuse_others_machines(about: &About, engine: EngineKind) -> Result<()> {
    let own = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    if about.kernel_version.is_empty() || own.is_empty() || about.kernel_version == own {
        return Ok(());
    }
    let engine = name(engine);
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "{engine} runs its containers on another kernel ({}) than this machine's ({own})",
            about.kernel_version
        ),
    )
    .next(format!("Use a {engine} of this very machine, or the engine native")))
}

fn prove(helper: &HelperProgram, question: &Question) -> Result<Capabilities> {
    let question = serde_json::to_string(question).context(ErrorKind::Internal, "The question cannot be asked")?;
    let mut command = helper.0.clone();
    command.extend([ARGUMENT.to_owned(), question]);
    probe::ask(&command, PROBE)
}

#[async_trait]
impl Kind for Containers {
    fn kind(&self) -> EngineKind {
        self.dialect.engine()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn check(&self, spec: &SandboxSpec) -> Result<()> {
        lockdown::check(&spec.hardening)?;
        refuse_what_is_not_offered(spec, self.dialect, self.facts)
    }

    async fn prepare(&self, _id: &SandboxId, spec: &SandboxSpec) -> Result<Value> {
        let address = self.address.clone();
        // A service that ended by itself is started again.
        tokio::task::spawn_blocking(move || removal::speaking(&address).map(drop))
            .await
            .context(ErrorKind::Internal, "Waiting for the engine was cut off")??;
        let client = Client::to(&self.address)?;
        let image = match &spec.root {
            Root::Host => base::ensure(&client).await?,
            root => image::ensure(&client, &self.images, root).await?,
        };
        if !image.architecture.is_empty() && image.architecture != base::architecture() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("The image is made for {}, this machine is {}", image.architecture, base::architecture()),
            )
            .next("Choose the image for this machine's architecture"));
        }
        let options = Options { address: self.address.clone(), image, facts: self.facts };
        serde_json::to_value(options).context(ErrorKind::Internal, "What was found out cannot be passed on")
    }

    fn remains(&self) -> &dyn Remains {
        &self.remains
    }

    async fn tidy(&self) -> Result<Vec<Swept>> {
        image::collect(&Client::to(&self.address)?, IMAGES).await
    }
}
