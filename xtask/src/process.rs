//! Starting programs and speaking to the person who started us.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program's purpose is its output")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Result with a sentence for people.
pub type Outcome<T = ()> = Result<T, String>;

/// Prints to stdout.
pub fn say(text: &str) {
    println!("{}", text.trim_end());
}

/// Prints to stderr.
pub fn complain(text: &str) {
    eprintln!("{}", text.trim_end());
}

/// Prints a heading.
pub fn heading(text: &str) {
    println!("\n== {text}");
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_path_buf()
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs to the end with inherited output.
///
/// # Errors
/// When it cannot be started or does not end with 0.
pub fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("{command:?} could not be started: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}

/// Runs to the end and returns its stdout.
///
/// # Errors
/// When it cannot be started or does not end with 0; with its stderr.
pub fn output(command: &mut Command) -> Outcome<String> {
    let out = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?} could not be started: {e}"))?;
    if !out.status.success() {
        return Err(format!("{command:?} ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Whether a program is in `PATH`.
pub fn exists(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
        || ["/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(program).is_file())
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
