//! Tries to get out of a sandbox: reads a list of attempts, makes each in a process of its own, and
//! writes one line of JSON about it.
//!
//! ```text
//! cove-attack [--outside] LIST          each line: MODE <tab> ID <tab> VERB [<tab> WORD]…
//! {"id":"E10-unshare-user","outcome":"refused","errno":"EPERM","detail":"unshare"}
//! ```
//!
//! `MODE` is `plain`, or `witness=CALL`: then a filter of our own answers that call with
//! `EHWPOISON`, which shows that the attempt makes it. With `--outside` it runs on the host, where
//! verbs that would change something make themselves a place of their own first, and those that
//! would harm do nothing.

#![cfg_attr(target_os = "linux", allow(unsafe_code, reason = "attempts are system calls"))]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "lines on stdout are what this program is for")]

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod errno;
#[cfg(target_os = "linux")]
mod exhaust;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod linger;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod sockets;
#[cfg(target_os = "linux")]
mod trial;

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ids"] => println!("{}", processes::ids()),
        ["capable", path] => return files::prepare(files::mark_capable(path)),
        ["fifo", path] => return files::prepare(files::make_fifo(path)),
        ["linger", kind, _mark] => linger::linger(kind),
        ["serve", name, port, path, _mark] => sockets::serve(name, port, path),
        ["--outside", list] => return trial::run(list, true),
        [list] => return trial::run(list, false),
        _ => {
            eprintln!("usage: cove-attack [--outside] LIST");
            return std::process::ExitCode::from(2);
        }
    }
    std::process::ExitCode::SUCCESS
}
