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
Settings
  COVE__A__B_C           any setting: COVE__LOOP__MAX_ITERATIONS=10 is ralph.loop.maxIterations
  CONTAINER_RUNTIME      engine: auto, native, docker, podman, none (ralph.container.engine)
  CONTAINER_IMAGE        image (ralph.container.image)
  CONTAINER_TIMEOUT      time for one attempt in milliseconds, or 30m (ralph.container.timeout)

Places (absolute paths; cove config paths shows them)
  COVE_CONFIG            the user's settings file
  COVE_POLICY_FILE       the managed policy
  COVE_DATA_DIR          database, runs, logs
  COVE_STATE_DIR         locks, sandboxes, the daemon's socket; one daemon a state directory
  COVE_CACHE_DIR         images and downloads; may be deleted
  MOUNT_ALLOWLIST_PATH   list of directories that may be shown to sandboxes
  OPENCLAW_DATA_DIR      directory of openclaw.json
  XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_STATE_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR
                         what the above are made from
  HOME                   where the defaults of these lie
  TMPDIR                 short-lived files of the demonstration and of tests

Servers
  COVE_SERVER            another server than this user's daemon, such as http://127.0.0.1:3000
  COVE_TOKEN             token for it; COVE_TOKEN_FILE names a file that holds it
  DOCKER_HOST            socket of Docker
  CONTAINER_HOST         socket of Podman
  RUST_LOG               what the daemon logs, such as debug

Terminals
  NO_COLOR               no colour; FORCE_COLOR and CLICOLOR_FORCE force it
  TERM=dumb              no colour, no live view
  LC_ALL, LC_CTYPE, LANG symbols beyond ASCII only in a UTF-8 locale
  CI                     no questions, no live view
  TZ                     zone of the times shown

An agent gets none of these, and nothing else either, unless --agent-env NAME passes it on.
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
--jq FILTER          the JSON through a filter in the language of jq; texts are printed without quotes:
                     cove runs list --jq '.[] | select(.phase == \"failed\") | .name'
--color WHEN         auto, always, never
--utc                times in UTC instead of the local zone

Long lists come in pages: --limit N, then --cursor ID with the identifier of the last one shown.
Durations are written 90s, 30m, 6h, 1h30m; sizes 512m, 4g (binary).

With json, ndjson and yaml, errors are problem documents (RFC 9457) on stderr.
";

const LABELS: &str = "\
Everything Cove makes in an engine carries labels, and it looks for its own by these alone.

run.cove.managed      true
run.cove.instance     the control plane that made it; two never collect each other's
run.cove.sandbox-id   the sandbox
run.cove.role         what it is for: agent, gate, shell
run.cove.run-id       the run, where there is one; run.cove.attempt-id its attempt
run.cove.created-at   when it was made, RFC 3339

cove sandbox create --label KEY=VALUE adds others; those above cannot be replaced.
docker ps -a --filter label=run.cove.managed shows what Cove has in Docker.
";

/// Topics beside the commands.
const TOPICS: &str = "exit-codes, environment, formatting, labels, man";

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
        ["labels"] => LABELS.to_owned(),
        ["man", words @ ..] => manual(words)?,
        words => command(words)?.render_long_help().to_string(),
    };
    context.printer.write(&text)?;
    Ok(0)
}

/// The definition of a command, or of all.
fn command(words: &[&str]) -> Result<clap::Command> {
    let mut command = crate::definition();
    command.build();
    for word in words {
        command = command.find_subcommand(word).cloned().ok_or_else(|| {
            Error::not_found(format!("There is no command or topic {}", words.join(" ")))
                .next(format!("cove help lists the commands; the topics are {TOPICS}"))
        })?;
    }
    Ok(command)
}

/// The manual page of a command, for man(1).
fn manual(words: &[&str]) -> Result<String> {
    let page = command(words)?.version(env!("CARGO_PKG_VERSION"));
    let mut roff = Vec::new();
    clap_mangen::Man::new(page)
        .source(concat!("cove ", env!("CARGO_PKG_VERSION")))
        .manual("Cove")
        .render(&mut roff)
        .map_err(|e| Error::internal("The manual page cannot be written").because(e))?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
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
