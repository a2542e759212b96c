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
    let file = behind_shim(&file, path).unwrap_or(file);
    let Ok(real) = file.canonicalize() else { return Ok(None) };
    let environment = environment(&file);
    if environment.is_none() && in_system(&file) && in_system(&real) {
        return Ok(None);
    }
    let mut place = Place { mounts: Vec::new(), path: Vec::new(), program: real.clone() };
    if let Some((environment, program)) = environment {
        // Its Python is a link to the one it was made from, and only by its own name does it find the
        // environment's packages.
        place.mounts.push(environment);
        place.program = program;
        if !in_system(&real) {
            place.mounts.push(prefix(&real, home));
        }
    } else if !in_system(&real) {
        place.mounts.push(package(&real, home));
    }
    if let Some(interpreter) = interpreter(&real, path) {
        let real_interpreter = interpreter.canonicalize().unwrap_or_else(|_| interpreter.clone());
        if let Some((environment, program)) = self::environment(&interpreter) {
            place.mounts.push(environment);
            place.path.extend(program.parent().map(Path::to_owned));
        }
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

/// The program that a shim of a version manager (pyenv, rbenv, nodenv, asdf, mise) stands for, as the
/// manager tells it; `None` for what is no shim. A sandbox has no manager that a shim could ask.
fn behind_shim(file: &Path, path: &str) -> Option<PathBuf> {
    let dir = file.parent().filter(|dir| dir.file_name().is_some_and(|name| name == "shims"))?;
    let name = file.file_name()?;
    let real = file.canonicalize().ok()?;
    let manager = match real.file_name()?.to_str()? {
        "mise" => real,
        _ => shim_manager(&head::<4096>(&real)?)?,
    };
    let asked = std::process::Command::new(manager)
        .arg("which")
        .arg(name)
        .env("PATH", path)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .output();
    let told = asked.ok().filter(|output| output.status.success()).and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        Some(PathBuf::from(text.trim())).filter(|found| found.is_absolute() && is_program(found))
    });
    // Without an answer, the next one in PATH is better than a shim that cannot work.
    told.or_else(|| {
        let others = std::env::split_paths(path).filter(|other| other.is_absolute() && other != dir);
        others.map(|other| other.join(name)).find(|found| is_program(found))
    })
}

/// The manager that a shim starts: `exec "/home/u/.pyenv/libexec/pyenv" exec "$program" "$@"`.
fn shim_manager(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let (manager, _) = line.trim().strip_prefix("exec ")?.split_once(" exec ")?;
        Some(PathBuf::from(manager.trim_matches('"'))).filter(|file| file.is_absolute() && is_program(file))
    })
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

/// The virtual environment that a file in its `bin` belongs to, and the file's own place in it
/// (<https://docs.python.org/3/library/venv.html>, `pyvenv.cfg`).
pub fn environment(file: &Path) -> Option<(PathBuf, PathBuf)> {
    let dir = file.parent()?.canonicalize().ok()?;
    let environment = dir.parent().filter(|above| above.join("pyvenv.cfg").is_file())?;
    Some((environment.to_owned(), dir.join(file.file_name()?)))
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
    if dir.file_name().is_some_and(|name| name == "bin") && has_library(real, dir) {
        return prefix(real, home);
    }
    if shared || too_wide || is_elf(real) { real.to_owned() } else { dir.to_owned() }
}

/// Whether a program is an interpreter that does not start without the library beside its `bin`.
fn has_library(real: &Path, dir: &Path) -> bool {
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    let library = dir.with_file_name("lib");
    (name.starts_with("python") && library.join(&*name).is_dir())
        || (name == "ruby" && library.join("ruby").is_dir())
        || (name.starts_with("perl") && library.join("perl5").is_dir())
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

/// The beginning of a file as text.
fn head<const BOUND: usize>(file: &Path) -> Option<String> {
    let mut head = [0_u8; BOUND];
    let count = std::fs::File::open(file).and_then(|mut f| f.read(&mut head)).ok()?;
    Some(String::from_utf8_lossy(&head[..count]).into_owned())
}

/// The interpreter in a script's first line.
fn interpreter(file: &Path, path: &str) -> Option<PathBuf> {
    let text = head::<256>(file)?;
    let line = text.strip_prefix("#!")?.lines().next()?.trim().to_owned();
    let mut words = line.split_whitespace();
    let first = words.next()?;
    if Path::new(first).file_name().is_some_and(|name| name == "env") {
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        return look_up(name, path).map(|file| behind_shim(&file, path).unwrap_or(file));
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
    fn a_shim_is_followed_to_what_its_manager_names() {
        let (_dir, home) = home();
        let root = home.join(".pyenv");
        let python = root.join("versions/3.11.7/bin/python3.11");
        program(&python, "\x7fELF");
        std::fs::create_dir_all(root.join("versions/3.11.7/lib/python3.11")).unwrap();
        let shim =
            format!("#!/bin/sh\nset -e\nexec \"{}\" exec \"$program\" \"$@\"\n", root.join("libexec/pyenv").display());
        program(&root.join("shims/python3"), &shim);
        program(
            &root.join("libexec/pyenv"),
            &format!("#!/bin/sh\n[ \"$1 $2\" = 'which python3' ] && echo {}\n", python.display()),
        );
        program(&home.join("agent"), "#!/usr/bin/env python3\n");
        let path = format!("{}:/usr/bin:/bin", root.join("shims").display());
        let place = find("python3", &path, Some(&home)).unwrap().unwrap();
        assert_eq!(place.program, python);
        assert_eq!(place.mounts, [root.join("versions/3.11.7")], "an interpreter comes with its library");
        let script = find(home.join("agent").to_str().unwrap(), &path, Some(&home)).unwrap().unwrap();
        assert_eq!(script.mounts, [root.join("versions/3.11.7"), home.join("agent")]);
        // A manager that knows nothing: the system's own.
        program(&root.join("libexec/pyenv"), "#!/bin/sh\nexit 1\n");
        program(&root.join("shims/sh"), &shim);
        assert_eq!(find("sh", &path, Some(&home)).unwrap(), None);
    }

    #[test]
    fn a_virtual_environments_python_keeps_its_name() {
        let (_dir, home) = home();
        let environment = home.join("project/.venv");
        std::fs::create_dir_all(environment.join("bin")).unwrap();
        std::fs::write(environment.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
        std::os::unix::fs::symlink("/bin/sh", environment.join("bin/python3")).unwrap();
        std::os::unix::fs::symlink("python3", environment.join("bin/python")).unwrap();
        let python = environment.join("bin/python");
        let place = find(python.to_str().unwrap(), "", Some(&home)).unwrap().unwrap();
        assert_eq!((place.program, place.mounts), (python.clone(), vec![environment.clone()]));
        // A script elsewhere that names it.
        program(&home.join("tools/agent.py"), &format!("#!{}\n", python.display()));
        let script = find(home.join("tools/agent.py").to_str().unwrap(), "", Some(&home)).unwrap().unwrap();
        assert_eq!(script.program, home.join("tools/agent.py"));
        assert_eq!(script.mounts, [environment.clone(), home.join("tools")]);
        assert_eq!(script.path, [environment.join("bin")]);
        // One made from an interpreter that the system does not have either.
        let base = home.join(".pyenv/versions/3.12.1");
        program(&base.join("bin/python3.12"), "\x7fELF");
        std::fs::create_dir_all(base.join("lib/python3.12")).unwrap();
        std::fs::remove_file(environment.join("bin/python3")).unwrap();
        std::os::unix::fs::symlink(base.join("bin/python3.12"), environment.join("bin/python3")).unwrap();
        let place = find(python.to_str().unwrap(), "", Some(&home)).unwrap().unwrap();
        assert_eq!((place.program, place.mounts), (python, vec![base, environment]));
    }

    #[test]
    fn a_whole_home_is_never_shown() {
        let (_dir, home) = home();
        program(&home.join("bin/agent"), "#!/bin/sh\n");
        std::fs::write(home.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
        let error = find(home.join("bin/agent").to_str().unwrap(), "", Some(&home)).unwrap_err();
        assert_eq!(error.kind(), cove_core::ErrorKind::Refused);
    }

    #[test]
    fn what_the_system_has_needs_nothing() {
        assert_eq!(find("sh", "/usr/bin:/bin", None).unwrap(), None);
        assert_eq!(find("no-such-program-here", "/usr/bin:/bin", None).unwrap(), None);
        assert_eq!(find("sh", "relative/path", None).unwrap(), None);
    }
}
