//! `cove help` and `cove` alone.

use cove_core::{Error, Result};

use crate::context::Context;

/// Exit codes and what they tell.
const EXIT_CODES: [(&str, &str); 17] = [
    ("0", "done; a followed run succeeded"),
    ("1", "a failure without a better code; a followed run failed or was stopped"),
    ("2", "wrong arguments or input"),
    ("3", "partly done: some of several things failed"),
    ("4", "not signed in, or not allowed"),
    ("5", "not found"),
    ("6", "conflict, or stale version"),
    ("7", "refused by a policy"),
    ("8", "still pending (cove status RUN --exit-status)"),
    ("9", "no usable engine or server, or a control that this host cannot give"),
    ("10", "the run ended and work is left: gates failed, stories were given up"),
    ("11", "the run ended by a limit: attempts, time, tokens, cost"),
    ("12", "the run waits for a person or for the provider's reset"),
    ("124", "a timeout passed (--timeout, a deadline); what was asked for may go on"),
    ("125", "the sandbox could not be started; 126 and 127: the command in it could not be run, or found"),
    ("130", "left by Ctrl-C; a run in the background goes on"),
    ("143", "left by SIGTERM; a run in the background goes on"),
];

const ENVIRONMENT: &str = "\
COVE__A__B_C         any setting: COVE__LOOP__MAX_ITERATIONS=10 is ralph.loop.maxIterations
CONTAINER_RUNTIME    engine: auto, native, docker, podman, none (ralph.container.engine)
CONTAINER_IMAGE      image (ralph.container.image)
CONTAINER_TIMEOUT    time for one attempt in milliseconds, or 30m (ralph.container.timeout)
COVE_CONFIG          the user's settings file
COVE_POLICY_FILE     the managed policy
COVE_DATA_DIR        database, runs, logs
COVE_STATE_DIR       locks, sandboxes, the daemon's socket
COVE_CACHE_DIR       images and downloads
COVE_SERVER          another server than this user's daemon, such as http://127.0.0.1:3000
COVE_TOKEN           token for it; COVE_TOKEN_FILE names a file that holds it
OPENCLAW_DATA_DIR    directory of openclaw.json
NO_COLOR             no colour; FORCE_COLOR and CLICOLOR_FORCE force it
CI                   no questions, no live view
RUST_LOG             what the daemon logs, such as debug
";

const FORMATTING: &str = "\
Data goes to stdout, everything else to stderr.

-o table             aligned columns; wide has more of them
-o json              one document; a list is always an array
-o ndjson            one document a line; a followed run gives its facts as they happen
-o yaml              the same as YAML
-o name, -q          names only
--json               the same as -o json; --json=name,phase keeps these fields,
                     --json=spec.agent.name one that lies deeper
--color WHEN         auto, always, never
--utc                times in UTC instead of the local zone

With json, ndjson and yaml, errors are problem documents (RFC 9457) on stderr.
";

/// What an exit code tells.
pub fn exit_code(number: u8) -> Option<&'static str> {
    let number = match number {
        126 | 127 => 125,
        other => other,
    };
    EXIT_CODES.iter().find(|(code, _)| *code == number.to_string()).map(|(_, text)| *text)
}

pub fn run(context: &Context, topic: &[String]) -> Result<u8> {
    let text = match topic.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => crate::definition().render_long_help().to_string(),
        ["exit-codes"] => EXIT_CODES.iter().map(|(code, text)| format!("{code:>4}  {text}\n")).collect(),
        ["environment"] => ENVIRONMENT.to_owned(),
        ["formatting"] => FORMATTING.to_owned(),
        words => {
            let mut command = crate::definition();
            command.build();
            for word in words {
                command = command.find_subcommand(word).cloned().ok_or_else(|| {
                    Error::not_found(format!("There is no command or topic {}", words.join(" ")))
                        .next("cove help lists the commands; the topics are exit-codes, environment, formatting")
                })?;
            }
            command.render_long_help().to_string()
        }
    };
    context.printer.write(&text)?;
    Ok(0)
}

/// What `cove` alone says.
pub fn overview(context: &Context) -> Result<u8> {
    context.printer.write(
        "Cove runs AI agents in hardened, disposable sandboxes and drives them through a PRD to a verified branch.\n\n  \
         cove doctor    check this machine\n  \
         cove demo      see it work: no key, no account\n  \
         cove run       work off the prd.json of this repository\n\n\
         cove help shows all commands.\n",
    )?;
    Ok(0)
}
