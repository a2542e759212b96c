//! An agent installed outside the system's directories (in a home's `node_modules`, in
//! `~/.local/bin`, in `~/.cargo/bin`): which directories a sandbox must show, read-only, for it to
//! run. Never a whole home.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cove_core::{Error, Result};

/// Directories that a sandbox on the host's root shows anyway.
const SYSTEM: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store"];

/// How to start a program that lies elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The program's real file.
    pub program: PathBuf,
    /// What has to be shown: directories, or single files.
    pub mounts: Vec<PathBuf>,
    /// Directories to put first into `PATH`, for the interpreter.
    pub path: Vec<PathBuf>,
}

/// Finds `program` in `path` (the value of `PATH`), and what it needs; `None` when a sandbox has it
/// anyway or the host does not have it either.
///
/// # Errors
/// `Refused` when showing it would show a whole home directory.
pub fn find(program: &str, path: &str, home: Option<&Path>) -> Result<Option<Place>> {
    let Some(file) = look_up(program, path) else { return Ok(None) };
    let Ok(real) = file.canonicalize() else { return Ok(None) };
    if in_system(&file) && in_system(&real) {
        return Ok(None);
    }
    let mut place = Place { mounts: Vec::new(), path: Vec::new(), program: real.clone() };
    if !in_system(&real) {
        place.mounts.push(package(&real, home));
    }
    if let Some(interpreter) = interpreter(&real, path) {
        let real_interpreter = interpreter.canonicalize().unwrap_or_else(|_| interpreter.clone());
        if !in_system(&real_interpreter) {
            // The interpreter's own prefix holds its libraries: <prefix>/bin/node, <venv>/bin/python.
            place.mounts.push(prefix(&real_interpreter, home));
            if let Some(dir) = real_interpreter.parent() {
                place.path.push(dir.to_owned());
            }
        }
    }
    place.mounts.sort();
    place.mounts.dedup();
    let all = place.mounts.clone();
    place.mounts.retain(|mount| !all.iter().any(|other| other != mount && mount.starts_with(other)));
    for mount in &place.mounts {
        if home.is_some_and(|home| home.starts_with(mount)) {
            return Err(Error::new(
                cove_core::ErrorKind::Refused,
                format!("The program {} would need {} to be shown in the sandbox", file.display(), mount.display()),
            )
            .next("Install it into a directory of its own, or use an image that has it (--image)"));
        }
    }
    Ok(Some(place))
}

/// The file that a program's name means.
pub fn look_up(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|file| file.is_absolute() && is_program(file));
    }
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn in_system(file: &Path) -> bool {
    SYSTEM.iter().any(|dir| file.starts_with(dir))
}

/// The smallest tree that holds everything of a program: its package, or the file alone.
fn package(real: &Path, home: Option<&Path>) -> PathBuf {
    let modules: Vec<&Path> =
        real.ancestors().skip(1).filter(|dir| dir.file_name().is_some_and(|name| name == "node_modules")).collect();
    if let Some(outermost) = modules.last() {
        // Dependencies may lie beside the package, up to the outermost node_modules.
        return (*outermost).to_owned();
    }
    if let Some(environment) = real.ancestors().skip(1).take(3).find(|dir| dir.join("pyvenv.cfg").is_file()) {
        return environment.to_owned();
    }
    let Some(dir) = real.parent() else { return real.to_owned() };
    let shared = dir.file_name().is_some_and(|name| name == "bin" || name == ".bin" || name == "versions");
    let too_wide = home.is_some_and(|home| home.starts_with(dir)) || dir.parent().is_none() || dir == Path::new("/tmp");
    if shared || too_wide || is_elf(real) { real.to_owned() } else { dir.to_owned() }
}

/// The installation that an interpreter belongs to.
fn prefix(interpreter: &Path, home: Option<&Path>) -> PathBuf {
    let dir = interpreter.parent().unwrap_or(interpreter);
    let above = dir.parent().unwrap_or(dir);
    let shared = above.file_name().is_some_and(|name| name == ".local")
        || home.is_some_and(|home| home.starts_with(above))
        || above.parent().is_none();
    if dir.file_name().is_some_and(|name| name == "bin") && !shared { above.to_owned() } else { interpreter.to_owned() }
}

fn is_elf(file: &Path) -> bool {
    let mut magic = [0_u8; 4];
    std::fs::File::open(file).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// The interpreter in a script's first line.
fn interpreter(file: &Path, path: &str) -> Option<PathBuf> {
    let mut head = [0_u8; 256];
    let count = std::fs::File::open(file).and_then(|mut f| f.read(&mut head)).ok()?;
    let text = String::from_utf8_lossy(&head[..count]).into_owned();
    let line = text.strip_prefix("#!")?.lines().next()?.trim().to_owned();
    let mut words = line.split_whitespace();
    let first = words.next()?;
    if Path::new(first).file_name().is_some_and(|name| name == "env") {
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        return look_up(name, path);
    }
    Some(PathBuf::from(first)).filter(|file| is_program(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(file: &Path, text: &str) {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A home that is not below a system directory, with its real path.
    fn home() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("home/u");
        std::fs::create_dir_all(&real).unwrap();
        (dir, real)
    }

    #[test]
    fn a_package_is_shown_with_its_interpreter_and_nothing_else() {
        let (_dir, home) = home();
        let version = home.join(".nvm/versions/node/v20");
        program(&version.join("bin/node"), "\x7fELF");
        program(&version.join("lib/node_modules/@a/claude/cli.js"), "#!/usr/bin/env node\n");
        std::os::unix::fs::symlink("../lib/node_modules/@a/claude/cli.js", version.join("bin/claude")).unwrap();
        let path = version.join("bin");
        let place = find("claude", path.to_str().unwrap(), Some(&home)).unwrap().unwrap();
        assert_eq!(place.mounts, std::slice::from_ref(&version));
        assert_eq!(place.program, version.join("lib/node_modules/@a/claude/cli.js"));
        assert_eq!(place.path, [version.join("bin")]);
    }

    #[test]
    fn a_single_binary_is_shown_alone() {
        let (_dir, home) = home();
        program(&home.join(".local/share/claude/versions/1.0"), "\x7fELF");
        std::fs::create_dir_all(home.join(".local/bin")).unwrap();
        std::os::unix::fs::symlink("../share/claude/versions/1.0", home.join(".local/bin/claude")).unwrap();
        let path = home.join(".local/bin");
        let place = find("claude", path.to_str().unwrap(), Some(&home)).unwrap().unwrap();
        assert_eq!(place.mounts, [home.join(".local/share/claude/versions/1.0")]);
        program(&home.join("agent.sh"), "#!/bin/sh\n");
        let direct = find(home.join("agent.sh").to_str().unwrap(), "", Some(&home)).unwrap().unwrap();
        assert_eq!(direct.mounts, [home.join("agent.sh")], "the home itself must not be shown");
    }

    #[test]
    fn what_the_system_has_needs_nothing() {
        assert_eq!(find("sh", "/usr/bin:/bin", None).unwrap(), None);
        assert_eq!(find("no-such-program-here", "/usr/bin:/bin", None).unwrap(), None);
        assert_eq!(find("sh", "relative/path", None).unwrap(), None);
    }
}
