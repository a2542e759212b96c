//! How a guest that a container engine starts comes to its channel: it fetches it, with the last
//! restrictions, from the socket that its supervisor listens on.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};

use cove_guest::channel::Channel;
use cove_guest::wire::{CHANNEL_FD, JOIN_SOCKET, Join, Joined, Landlock, PROGRAM_BYTES};

use crate::system;

/// Fetches the channel, puts everything into force, and tells what was found.
pub fn join() -> io::Result<()> {
    system::set_dumpable(false);
    system::set_umask();
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..=2 {
        system::install(null.as_raw_fd(), stream)?;
    }
    drop(null);
    let socket = Channel::new(system::connect_messages(JOIN_SOCKET)?);
    let message = socket.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if message.fds_lost {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let asked: Join = serde_json::from_slice(&message.bytes)?;
    let mut fds = message.fds.into_iter();
    let channel = fds.next().ok_or(io::ErrorKind::InvalidData)?;
    let done = restrict(&asked, fds.next());
    let joined = match &done {
        Ok(()) => Joined { places: asked.look.iter().map(|path| place(path)).collect(), trouble: String::new() },
        Err((step, error)) => Joined { places: Vec::new(), trouble: format!("{step}: {error}") },
    };
    socket.send(&joined, &[])?;
    drop(socket);
    done.map_err(|(_, error)| error)?;
    system::install(channel.as_raw_fd(), CHANNEL_FD)?;
    if channel.as_raw_fd() == CHANNEL_FD {
        // It is where it belongs and stays open.
        let _ = channel.into_raw_fd();
    }
    Ok(())
}

type Step<T> = Result<T, (String, io::Error)>;

fn named<T>(step: &str, result: io::Result<T>) -> Step<T> {
    result.map_err(|error| (step.to_owned(), error))
}

/// Directories, limits, Landlock, filters: in this order, as each takes the right to what came before.
fn restrict(asked: &Join, programs: Option<OwnedFd>) -> Step<()> {
    for path in &asked.directories {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
        named(&format!("making {path}"), made)?;
    }
    for (resource, value) in &asked.limits {
        named(&format!("limiting resource {resource}"), system::lower_limit(*resource, *value))?;
    }
    named("setting no_new_privs", system::no_new_privileges())?;
    if let Some(rules) = &asked.landlock {
        named("restricting by Landlock", landlock(rules))?;
    }
    if asked.filters > 0 {
        let programs = named("reading the filters", programs.ok_or(io::ErrorKind::InvalidData.into()))?;
        let mut bytes = Vec::new();
        named("reading the filters", File::from(programs).take(PROGRAM_BYTES).read_to_end(&mut bytes))?;
        let mut rest = bytes.as_slice();
        for _ in 0..asked.filters {
            let program = named("reading the filters", cut(&mut rest).ok_or(io::ErrorKind::InvalidData.into()))?;
            named("installing a filter", system::filter(program))?;
        }
    }
    Ok(())
}

/// The next program: its number of instructions as 32 bits, then eight bytes each.
fn cut<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(4)?;
    let count = usize::try_from(u32::from_ne_bytes(head.try_into().ok()?)).ok()?;
    let (program, left) = tail.split_at_checked(count.checked_mul(8)?)?;
    *rest = left;
    (1..=4096).contains(&count).then_some(program)
}

fn landlock(rules: &Landlock) -> io::Result<()> {
    let ruleset = system::landlock_ruleset(rules.handled, rules.scoped)?;
    for (path, access) in &rules.paths {
        let text = CString::new(path.as_str())?;
        let Ok(place) = system::open_path(&text) else { continue };
        let directory = fs::metadata(path).is_ok_and(|meta| meta.is_dir());
        let access = if directory { *access } else { *access & rules.of_files };
        if access != 0 {
            system::landlock_allow(&ruleset, &place, access)?;
        }
    }
    system::landlock_restrict(&ruleset)
}

fn place(path: &str) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_cut_within_their_bounds() {
        let mut bytes = 2_u32.to_ne_bytes().to_vec();
        bytes.extend([7; 16]);
        bytes.extend(9_u32.to_ne_bytes());
        let mut rest = bytes.as_slice();
        assert_eq!(cut(&mut rest), Some(&[7; 16][..]));
        assert_eq!(cut(&mut rest), None, "a program that is cut off");
        let mut huge: &[u8] = &u32::MAX.to_ne_bytes();
        assert_eq!(cut(&mut huge), None);
    }
}
