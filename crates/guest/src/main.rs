//! The helper inside every sandbox: reaps, starts processes, carries connections to the egress door,
//! and reads what restrictions are in force.
//!
//! It runs under the same restrictions as everything else inside and holds nothing worth stealing:
//! the data of processes flows past it, between them and the supervisor. What it must keep is that
//! nobody inside can speak in its name, so it is not dumpable and hands its channel to no child.

#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
mod join;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod payload;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod system;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    // As the first process of a container its channel is yet to be fetched.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == cove_guest::wire::JOIN)
        && let Err(error) = join::join()
    {
        return std::process::ExitCode::from(u8::try_from(error.raw_os_error().unwrap_or(1)).unwrap_or(1));
    }
    init::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
