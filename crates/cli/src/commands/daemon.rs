//! `cove daemon`.

use cove_core::Result;

use crate::args::{DaemonCommand, StatusArgs};
use crate::context::Context;
use crate::daemon;

pub async fn run(context: &Context, command: DaemonCommand) -> Result<u8> {
    match command {
        DaemonCommand::Status => super::status::run(context, &StatusArgs { run: None, exit_status: false }).await,
        DaemonCommand::Start => {
            let text = match daemon::running(context).await? {
                Some((_, status)) => format!("The daemon runs already (process {})", status.pid),
                None => {
                    let status = daemon::start(context).await?.status().await?;
                    format!("The daemon runs (process {})", status.pid)
                }
            };
            context.printer.say(&text);
            Ok(0)
        }
        DaemonCommand::Stop => {
            let ended = daemon::stop(context).await?;
            context.printer.say(if ended { "The daemon has ended" } else { "No daemon runs" });
            Ok(0)
        }
        DaemonCommand::Restart => {
            daemon::stop(context).await?;
            let status = daemon::start(context).await?.status().await?;
            context.printer.say(&format!("The daemon runs (process {})", status.pid));
            Ok(0)
        }
    }
}
