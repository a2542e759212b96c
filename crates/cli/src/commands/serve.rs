//! `cove serve`, and a daemon inside this process.

use std::sync::Arc;

use cove_api::Client;
use cove_core::run::RunSpec;
use cove_core::{Error, Result};
use cove_server::{Daemon, Options, Tcp};
use cove_settings::{Policy, clamp, clamp_sandbox};

use super::following::{Following, Left, follow};
use super::run::finish;
use crate::args::ServeArgs;
use crate::context::Context;

pub async fn run(context: &Context, args: &ServeArgs) -> Result<u8> {
    if args.detached {
        nix::unistd::setsid().map_err(|e| Error::internal("A session of its own cannot be made").because(e))?;
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let mut options = options(context)?;
    if let Some(address) = args.listen {
        let token = match context.variables.get("COVE_TOKEN").filter(|token| !token.is_empty()) {
            Some(token) => token.clone(),
            None => cove_server::token(&context.paths.state)?,
        };
        options.tcp = Some(Tcp { address, token, hosts: args.host.clone() });
    }
    let daemon = Daemon::start(options).await?;
    if let (Some(address), false) = (daemon.address(), args.detached) {
        let place = context.paths.state.join("token");
        context.printer.say(&format!("Serving http://{address}; the token is COVE_TOKEN or in {}", place.display()));
        if !address.ip().is_loopback() {
            context.printer.say(
                "Warning: this address can be reached from other machines, and neither the token nor anything else is \
                 encrypted on the way; put a proxy with TLS before it, or listen on 127.0.0.1",
            );
        }
    }
    daemon.run(args.idle_exit).await?;
    Ok(0)
}

/// A daemon's options from paths and settings, with the managed policy over it.
///
/// # Errors
/// `Invalid` for settings or a policy that cannot be read.
pub fn options(context: &Context) -> Result<Options> {
    context.paths.check_socket()?;
    let paths = &context.paths;
    let settings = context.settings()?.settings;
    let mut options = Options::new(&paths.data, &paths.state, &paths.cache);
    options.socket.clone_from(&paths.socket);
    options.max_concurrent_runs = usize::try_from(settings.daemon.max_runs).unwrap_or(4).max(1);
    // A policy that cannot be read now refuses the start; one that is changed later counts from then on.
    Policy::load(paths)?;
    let of_runs = paths.clone();
    options.clamp = Some(Arc::new(move |spec| clamp(&Policy::load(&of_runs)?, spec)));
    let of_sandboxes = paths.clone();
    options.clamp_sandbox = Some(Arc::new(move |wanted| {
        let policy = Policy::load(&of_sandboxes)?;
        clamp_sandbox(&policy, &mut wanted.engine, wanted.accept_no_sandbox, &mut wanted.spec).map(drop)
    }));
    Ok(options)
}

/// Does a whole run with a daemon of this process.
///
/// # Errors
/// `Conflict` when a daemon runs already.
pub async fn in_this_process(context: &Context, spec: &RunSpec, how: Following) -> Result<u8> {
    let daemon = Daemon::start(options(context)?).await?;
    let client = Client::unix(daemon.socket());
    let done = async {
        let record = client.submit(spec, None).await?;
        context.printer.say(&format!("Run {} begins", record.name));
        let left = follow(context, &client, &record, how).await?;
        finish(context, &record, &left, !matches!(left, Left::Over(_)))
    };
    let outcome = done.await;
    daemon.stop().await;
    outcome
}
