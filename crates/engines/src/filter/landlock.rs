//! Landlock: reading and running everywhere, writing where the sandbox may; signals and abstract
//! sockets stay inside. What the kernel does not know of it is left out.

use std::path::{Path, PathBuf};

use cove_guest::wire;
use landlock::{ABI, Access, AccessFs, BitFlags, Scope};

/// Newest Landlock interface that the rules were written for.
pub const NEWEST: ABI = ABI::V7;

/// What Landlock does not let anyone write although its permissions would; for the proof.
pub const WITNESS: &str = "/dev/zero";

/// Nodes of `/dev` that may be written.
pub const DEVICES: &[&str] =
    &["/dev/null", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom", "/dev/pts", "/dev/ptmx", "/dev/shm"];

/// What may be done everywhere.
pub fn reading() -> BitFlags<AccessFs> {
    AccessFs::from_read(NEWEST) | AccessFs::IoctlDev
}

/// Every place that may be written: those of the sandbox and the devices among those of `/dev`.
pub fn writable(own: &[PathBuf]) -> impl Iterator<Item = &Path> {
    let own = own.iter().map(PathBuf::as_path).filter(|path| *path != Path::new("/dev"));
    own.chain(DEVICES.iter().map(Path::new))
}

/// The rules in the numbers of a kernel that knows the interface of this version; `None` for 0.
pub fn rules(version: u32, own: &[PathBuf]) -> Option<wire::Landlock> {
    let known = match version {
        0 => return None,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        _ => NEWEST,
    };
    let handled = AccessFs::from_all(known).bits();
    let mut paths = vec![("/".to_owned(), reading().bits() & handled)];
    paths.extend(writable(own).map(|path| (path.to_string_lossy().into_owned(), handled)));
    let of_files = AccessFs::from_file(known).bits() & handled;
    Some(wire::Landlock { handled, scoped: Scope::from_all(known).bits(), of_files, paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_grow_with_the_kernel() {
        assert_eq!(rules(0, &[]), None);
        let mut before = 0;
        for version in 1..=8 {
            let rules = rules(version, &["/work".into(), "/dev".into()]).unwrap();
            assert!(rules.handled >= before && rules.of_files & rules.handled == rules.of_files);
            assert!(rules.paths.iter().all(|(_, access)| access & !rules.handled == 0), "{version}");
            assert!(rules.paths.iter().all(|(path, _)| path != "/dev"));
            assert!(rules.paths[0].1 < rules.handled, "the root is not for writing");
            before = rules.handled;
        }
        assert!(rules(6, &[]).unwrap().scoped > 0 && rules(5, &[]).unwrap().scoped == 0);
    }
}
