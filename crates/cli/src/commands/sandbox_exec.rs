//! `cove sandbox exec` and `shell`: this terminal's streams become the process's.

use std::io::{IsTerminal, Write};

use cove_api::Client;
use cove_core::engine::PtySize;
use cove_core::{Error, ErrorKind, Exec, ExecInput, ExecSpec, ExitReason, Output, Result};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::run_spec::variable;
use crate::args::ExecArgs;
use crate::context::Context;

/// Runs the command and returns its exit code.
///
/// # Errors
/// Those of the server; the command's own failure is an exit code.
pub async fn exec(context: &Context, client: &Client, args: &ExecArgs) -> Result<u8> {
    let both = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let tty = !args.no_tty && (args.tty || both);
    let mut spec = ExecSpec::new(args.argv.iter().cloned());
    for entry in &args.env {
        let (name, value) = variable(context, entry)?;
        spec.env.insert(name, value);
    }
    spec.workdir.clone_from(&args.workdir);
    spec.timeout_ms = args.timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    spec.pty = tty.then(size);
    let Exec { input, mut output } = client.exec(&args.sandbox, &spec).await?;
    let raw = if tty && std::io::stdin().is_terminal() { Some(Raw::new()?) } else { None };
    let (say, heard) = mpsc::channel(16);
    let pump = tokio::spawn(send(input, heard));
    let keys = (!args.no_stdin).then(|| tokio::spawn(read_stdin(say.clone(), raw.is_some())));
    if args.no_stdin {
        let _ = say.send(ToProcess::Close).await;
    }
    let signals = tokio::spawn(forward_signals(say, tty));
    let outcome = receive(&mut *output).await;
    signals.abort();
    pump.abort();
    keys.iter().for_each(tokio::task::JoinHandle::abort);
    drop(raw);
    outcome
}

enum ToProcess {
    Bytes(Vec<u8>),
    Close,
    Resize(PtySize),
    Signal(i32),
}

/// Gives the process what it is told, until it hears no more.
async fn send(mut input: Box<dyn ExecInput>, mut heard: mpsc::Receiver<ToProcess>) {
    while let Some(message) = heard.recv().await {
        let done = match message {
            ToProcess::Bytes(bytes) => input.write(&bytes).await,
            ToProcess::Close => input.close().await,
            ToProcess::Resize(size) => input.resize(size).await,
            ToProcess::Signal(number) => input.signal(number).await,
        };
        // A process that closed its stdin may still be signalled.
        if done.is_err_and(|error| error.kind() != ErrorKind::Interrupted) {
            break;
        }
    }
}

async fn read_stdin(say: mpsc::Sender<ToProcess>, terminal: bool) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0_u8; 16 << 10];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                if !terminal {
                    let _ = say.send(ToProcess::Close).await;
                }
                return;
            }
            Ok(count) => {
                if say.send(ToProcess::Bytes(buffer[..count].to_vec())).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Passes signals on; on a raw terminal, keys do that and only the size is watched.
async fn forward_signals(say: mpsc::Sender<ToProcess>, tty: bool) {
    let on = |kind| signal(kind).ok();
    let (Some(mut interrupt), Some(mut terminate), Some(mut window)) =
        (on(SignalKind::interrupt()), on(SignalKind::terminate()), on(SignalKind::window_change()))
    else {
        return;
    };
    loop {
        let message = tokio::select! {
            _ = interrupt.recv() => ToProcess::Signal(2),
            _ = terminate.recv() => ToProcess::Signal(15),
            _ = window.recv() => {
                if !tty {
                    continue;
                }
                ToProcess::Resize(size())
            }
        };
        if say.send(message).await.is_err() {
            return;
        }
    }
}

async fn receive(output: &mut dyn cove_core::ExecOutput) -> Result<u8> {
    loop {
        match output.next().await? {
            Some(Output::Stdout(bytes)) => write(&mut std::io::stdout().lock(), &bytes)?,
            Some(Output::Stderr(bytes)) => write(&mut std::io::stderr().lock(), &bytes)?,
            Some(Output::Exit(exit)) => {
                return Ok(match exit.reason {
                    ExitReason::Timeout => 124,
                    _ => u8::try_from(exit.code & 0xff).unwrap_or(1),
                });
            }
            None => return Err(Error::new(ErrorKind::Interrupted, "The process ended without an exit code")),
        }
    }
}

fn write(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(crate::output::closed_pipe()),
        Err(e) => Err(Error::internal("The output cannot be written").because(e)),
        Ok(()) => Ok(()),
    }
}

fn size() -> PtySize {
    let (cols, rows) = crossterm::terminal::size().unwrap_or((80, 24));
    PtySize { cols: cols.max(1), rows: rows.max(1) }
}

/// The terminal gives every key as it is, until this is dropped.
struct Raw;

impl Raw {
    fn new() -> Result<Self> {
        crossterm::terminal::enable_raw_mode()
            .map_err(|e| Error::internal("The terminal cannot be taken over").because(e).next("Add --no-tty"))?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = crossterm::terminal::disable_raw_mode();
    }
}
