//! Files: what of the host can be seen, read, written, made.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::report::{Outcome, Refusal, at, check, last};

/// Most entries that a walk looks at.
const ENTRIES: usize = 20_000;

/// Everything about paths; see the arms.
pub fn attempt(verb: &str, words: &[&str]) -> Option<Outcome> {
    Some(match (verb, words) {
        ("flag", [path, token]) => flag(path, token),
        ("flag-by-link", [dir, to, token]) => by_link(dir, to, |link| flag(link, token)),
        ("flag-by-hard-link", [dir, to, token]) => by_hard_link(dir, to, token),
        ("flag-by-climbing", [from, path, token]) => climb(from, path, token),
        ("flag-by-handle", [path, token]) => by_handle(path, token),
        ("flag-by-process", [kind, pid, path, token]) => by_process(kind, pid, path, token),
        ("append", [path, text]) => append(path, text),
        ("append-by-link", [dir, to, text]) => by_link(dir, to, |link| append(link, text)),
        ("append-by-climbing", [from, path, text]) => append(&climbed(from, path), text),
        ("read", [path]) => read(path),
        ("write", [path]) => at("open", OpenOptions::new().write(true).open(path)).map(|_| format!("{path} is open")),
        ("write-all", [root, name]) => write_all(root, name),
        ("put", [path, text]) => put(path, text),
        ("list", [path]) => list(path),
        ("stat", [path]) => at("stat", fs::symlink_metadata(path)).map(|_| format!("{path} is there")),
        ("reach", [path]) => at("reach", fs::metadata(path)).map(|_| format!("{path} can be reached")),
        ("device", [path]) => device(path),
        ("make", [path]) => made(at("create", File::create_new(path).map(drop)), path),
        ("make-directory", [path]) => made(at("mkdir", fs::create_dir(path)), path),
        ("node", [dir, kind, major, minor]) => node(dir, kind, major, minor),
        ("set-mode", [dir, how, mode]) => set_mode(dir, how, mode),
        ("set-capability", [dir]) => set_capability(dir),
        ("gain", [program]) => gain(program),
        ("shebang", [dir]) => shebang(dir),
        ("take-over", [path]) => take_over(path),
        ("sockets-below", [root]) => sockets_below(root),
        _ => return None,
    })
}

/// A mount namespace of this process's own, from which nothing spreads.
pub fn private_mounts() -> Result<(), Refusal> {
    // SAFETY: no memory is passed but two constant texts.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            at("unshare for the control", check(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).into()))?;
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let none = std::ptr::null();
        at("make mounts private", check(libc::mount(none, c"/".as_ptr(), none, private, none.cast()).into()))?;
    }
    Ok(())
}

/// Whether the file at a path is the one outside.
fn flag(path: &str, token: &str) -> Outcome {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut text = String::new();
    at("read", at("open", file)?.take(4096).read_to_string(&mut text))?;
    if text.contains(token) {
        Ok(format!("the flag was read at {path}"))
    } else {
        Err(Refusal::Nothing("another file is there".to_owned()))
    }
}

fn append(path: &str, text: &str) -> Outcome {
    let mut file = at("open", OpenOptions::new().append(true).open(path))?;
    at("write", file.write_all(text.as_bytes())).map(|()| format!("{path} was written"))
}

/// Puts a file anew where one may stand.
fn put(path: &str, text: &str) -> Outcome {
    at("write", fs::write(path, text)).map(|()| format!("{path} was written"))
}

/// A path that no other attempt uses.
fn own(dir: &str, what: &str) -> String {
    format!("{dir}/{what}-{}", std::process::id())
}

fn by_link(dir: &str, to: &str, then: impl FnOnce(&str) -> Outcome) -> Outcome {
    let link = own(dir, "link");
    at("symlink", symlink(to, &link))?;
    let outcome = then(&link);
    let _ = fs::remove_file(link);
    outcome
}

fn by_hard_link(dir: &str, to: &str, token: &str) -> Outcome {
    let link = own(dir, "hard");
    at("link", fs::hard_link(to, &link))?;
    let outcome = flag(&link, token);
    let _ = fs::remove_file(link);
    outcome
}

fn climbed(from: &str, path: &str) -> String {
    format!("{from}/{}{}", "../".repeat(40), path.trim_start_matches('/'))
}

fn climb(from: &str, path: &str, token: &str) -> Outcome {
    // By the working directory, which is held open, and by the path.
    if from == "." || std::env::set_current_dir(from).is_ok() {
        let relative = climbed(".", path);
        if let Ok(done) = flag(&relative, token) {
            return Ok(done);
        }
    }
    flag(&climbed(from, path), token)
}

/// Opens a file by its number in the file system, which no mount hides.
fn by_handle(path: &str, token: &str) -> Outcome {
    let path = CString::new(path).map_err(|_| Refusal::Absent("a nul in a path".to_owned()))?;
    let mut handle = [0_u32; 40];
    handle[0] = 128;
    let mut mount = 0;
    // SAFETY: the handle has room for its header and 128 bytes; the path is nul-terminated.
    unsafe {
        let (here, place) = (libc::AT_FDCWD, handle.as_mut_ptr());
        let named = libc::syscall(libc::SYS_name_to_handle_at, here, path.as_ptr(), place, &raw mut mount, 0);
        at("name_to_handle_at", check(named))?;
        let root = at("open", check(libc::open(c"/".as_ptr(), libc::O_RDONLY).into()))?;
        let opened = libc::syscall(libc::SYS_open_by_handle_at, root, place, libc::O_RDONLY);
        let fd = at("open_by_handle_at", check(opened))?;
        flag(&format!("/proc/self/fd/{fd}"), token)
    }
}

/// Through what `/proc` offers of a process: `root`, `cwd`, and whatever it has open or mapped.
fn by_process(kind: &str, pid: &str, path: &str, token: &str) -> Outcome {
    let mut refusal = Refusal::Nothing("no process is visible".to_owned());
    for pid in pids(pid)? {
        let base = format!("/proc/{pid}/{kind}");
        let candidates = match kind {
            "root" => vec![format!("{base}{path}")],
            "cwd" => vec![climbed(&base, path)],
            _ => match fs::read_dir(&base) {
                Ok(entries) => entries
                    .flatten()
                    .take(256)
                    .flat_map(|entry| {
                        let entry = entry.path().to_string_lossy().into_owned();
                        [climbed(&entry, path), entry]
                    })
                    .collect(),
                Err(error) => {
                    refusal = error.into();
                    continue;
                }
            },
        };
        for candidate in candidates {
            match flag(&candidate, token) {
                Ok(done) => return Ok(done),
                Err(other) => refusal = other,
            }
        }
    }
    Err(refusal)
}

/// `1`, `parent`, or `all` that are visible.
pub fn pids(which: &str) -> Result<Vec<String>, Refusal> {
    match which {
        // SAFETY: no preconditions.
        "parent" => Ok(vec![unsafe { libc::getppid() }.to_string()]),
        // Of what this program started, its parent is the one that something of ours started.
        "grandparent" => Ok(vec![grandparent()?]),
        "all" => {
            let entries = at("list /proc", fs::read_dir("/proc"))?;
            let own = std::process::id().to_string();
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            Ok(names.filter(|n| n.bytes().all(|b| b.is_ascii_digit()) && *n != own).take(ENTRIES).collect())
        }
        pid => Ok(vec![pid.to_owned()]),
    }
}

fn grandparent() -> Result<String, Refusal> {
    // SAFETY: no preconditions.
    let parent = unsafe { libc::getppid() };
    let status = at("read status", fs::read_to_string(format!("/proc/{parent}/status")))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.map(|pid| pid.trim().to_owned()).ok_or_else(|| Refusal::Absent("no parent's parent".to_owned()))
}

/// Whether a single byte can be had.
fn read(path: &str) -> Outcome {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    match at("read", at("open", file)?.read(&mut [0])) {
        Ok(0) => Err(Refusal::Nothing("it is empty".to_owned())),
        Ok(_) => Ok(format!("{path} can be read")),
        Err(refusal) => Err(refusal),
    }
}

fn list(path: &str) -> Outcome {
    match at("list", fs::read_dir(path))?.flatten().count() {
        0 => Err(Refusal::Nothing("it is empty".to_owned())),
        count => Ok(format!("{path} has {count} entries")),
    }
}

/// A device of the host; a plain file of that name is none.
fn device(path: &str) -> Outcome {
    let meta = at("stat", fs::metadata(path))?;
    if meta.file_type().is_char_device() || meta.file_type().is_block_device() {
        Ok(format!("{path} is device {}", meta.rdev()))
    } else {
        Err(Refusal::Nothing("no device".to_owned()))
    }
}

/// Everything of that name below a directory, opened for writing.
fn write_all(root: &str, name: &str) -> Outcome {
    let mut refusal = Refusal::Absent(format!("there is no {name} below {root}"));
    let mut found = None;
    walk(Path::new(root), &mut |path, kind| {
        if found.is_none() && path.file_name().is_some_and(|n| n == name) && !kind.is_symlink() {
            match OpenOptions::new().write(true).open(path) {
                Ok(_) => found = Some(path.display().to_string()),
                Err(error) => refusal = error.into(),
            }
        }
    });
    found.map(|path| format!("{path} is open")).ok_or(refusal)
}

fn sockets_below(root: &str) -> Outcome {
    let mut found = Vec::new();
    walk(Path::new(root), &mut |path, kind| {
        if kind.is_socket() {
            found.push(path.display().to_string());
        }
    });
    if found.is_empty() { Err(Refusal::Nothing("no socket".to_owned())) } else { Ok(found.join(" ")) }
}

fn walk(root: &Path, see: &mut dyn FnMut(&Path, fs::FileType)) {
    let mut left = ENTRIES;
    let mut directories = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            left = left.saturating_sub(1);
            let Ok(kind) = entry.file_type() else { continue };
            if left == 0 {
                return;
            }
            see(&entry.path(), kind);
            if kind.is_dir() && depth < 6 {
                directories.push((entry.path(), depth + 1));
            }
        }
    }
}

/// Tells that something was made, and removes it.
fn made(result: Result<(), Refusal>, path: &str) -> Outcome {
    result?;
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
    Ok(format!("{path} could be made"))
}

fn node(dir: &str, kind: &str, major: &str, minor: &str) -> Outcome {
    let number = |text: &str| text.parse::<u32>().map_err(|_| Refusal::Absent("no number".to_owned()));
    let path = own(dir, "node");
    let name = CString::new(path.as_str()).map_err(|_| Refusal::Absent("a nul in a path".to_owned()))?;
    let mode = if kind == "block" { libc::S_IFBLK } else { libc::S_IFCHR } | 0o600;
    // SAFETY: a nul-terminated path.
    let result = unsafe { libc::mknod(name.as_ptr(), mode, libc::makedev(number(major)?, number(minor)?)) };
    made(at("mknod", check(result.into()).map(drop)), &path)
}

/// Makes a file with mode bits by one of the calls that can.
fn set_mode(dir: &str, how: &str, mode: &str) -> Outcome {
    let mode = u32::from_str_radix(mode, 8).map_err(|_| Refusal::Absent("no mode".to_owned()))?;
    let path = own(dir, "program");
    let name = CString::new(path.as_str()).map_err(|_| Refusal::Absent("a nul in a path".to_owned()))?;
    if !matches!(how, "open" | "creat") {
        at("create", File::create(&path))?;
    }
    // SAFETY: nul-terminated paths and descriptors of our own.
    let result = unsafe {
        libc::umask(0);
        match how {
            "chmod" => libc::chmod(name.as_ptr(), mode).into(),
            "fchmod" => {
                let fd = libc::open(name.as_ptr(), libc::O_RDONLY);
                libc::fchmod(fd, mode).into()
            }
            "fchmodat" => libc::syscall(libc::SYS_fchmodat, libc::AT_FDCWD, name.as_ptr(), mode),
            "fchmodat2" => libc::syscall(452, libc::AT_FDCWD, name.as_ptr(), mode, 0),
            "open" => libc::open(name.as_ptr(), libc::O_CREAT | libc::O_WRONLY, mode).into(),
            "creat" => libc::creat(name.as_ptr(), mode).into(),
            "mknod" => {
                libc::mknod(CString::new(own(dir, "made")).unwrap_or_default().as_ptr(), libc::S_IFREG | mode, 0).into()
            }
            _ => return Err(Refusal::Absent(format!("no way {how}"))),
        }
    };
    let path = if how == "mknod" { own(dir, "made") } else { path };
    let outcome = at(how, check(result)).and_then(|_| {
        // The kernel may have dropped the bits without a word.
        let found = at("stat", fs::symlink_metadata(&path))?.permissions().mode() & 0o6000;
        if found == 0 {
            Err(Refusal::Nothing("the bits were dropped".to_owned()))
        } else {
            Ok("the bits are set".to_owned())
        }
    });
    let _ = fs::remove_file(path);
    outcome
}

/// Gives a file the capability to override permissions.
fn set_capability(dir: &str) -> Outcome {
    let path = own(dir, "capable");
    at("create", File::create(&path))?;
    let outcome = mark_capable(&path);
    let _ = fs::remove_file(path);
    outcome
}

/// The same, for a file that is there and stays.
pub fn mark_capable(path: &str) -> Outcome {
    let name = c_path(path)?;
    // Version 2, effective, CAP_DAC_OVERRIDE permitted.
    let value: [u32; 5] = [0x0200_0001, 1 << 1, 0, 0, 0];
    // SAFETY: nul-terminated texts and a value of the size told.
    let result =
        unsafe { libc::setxattr(name.as_ptr(), c"security.capability".as_ptr(), value.as_ptr().cast(), 20, 0) };
    at("setxattr", check(result.into())).map(|_| "the capability is set".to_owned())
}

/// A named pipe, for the stage of the attempts.
pub fn make_fifo(path: &str) -> Outcome {
    let name = c_path(path)?;
    // SAFETY: a nul-terminated path.
    at("mkfifo", check(unsafe { libc::mkfifo(name.as_ptr(), 0o644) }.into())).map(|_| path.to_owned())
}

/// The exit code of something that prepares the stage.
pub fn prepare(outcome: Outcome) -> std::process::ExitCode {
    if outcome.is_ok() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

fn c_path(path: &str) -> Result<CString, Refusal> {
    CString::new(path).map_err(|_| Refusal::Absent("a nul in a path".to_owned()))
}

/// Runs a program that somebody marked as another user's or as capable, and compares.
fn gain(program: &str) -> Outcome {
    if fs::symlink_metadata(program).is_err() {
        return Err(Refusal::Absent("such a program could not be made here".to_owned()));
    }
    let before = crate::processes::ids();
    let output = at("run", Command::new(program).arg("ids").output())?;
    let after = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if after.is_empty() || after == before {
        return Err(Refusal::Nothing(format!("still {before}")));
    }
    Ok(format!("{before} became {after}"))
}

/// Has the program that starts scripts opened by one of them, to write to it.
fn shebang(dir: &str) -> Outcome {
    let path = own(dir, "script");
    at("write", fs::write(&path, "#!/proc/self/exe\n"))?;
    at("chmod", fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))?;
    let child = Command::new(&path).spawn();
    let _ = fs::remove_file(&path);
    let mut child = at("run", child)?;
    let opened = OpenOptions::new().write(true).open(format!("/proc/{}/exe", child.id()));
    let _ = child.kill();
    let _ = child.wait();
    at("open", opened).map(|_| "the program can be written".to_owned())
}

/// Every way to change a file that is there: open, truncate, rename over, remove, change its mode.
fn take_over(path: &str) -> Outcome {
    let mut refusal = last();
    let ways: [(&str, &dyn Fn() -> io::Result<()>); 4] = [
        ("write", &|| OpenOptions::new().write(true).open(path).map(drop)),
        ("truncate", &|| OpenOptions::new().write(true).truncate(true).open(path).map(drop)),
        ("rename", &|| fs::rename(path, format!("{path}.old"))),
        ("chmod", &|| fs::set_permissions(path, fs::Permissions::from_mode(0o777))),
    ];
    for (name, way) in ways {
        match way() {
            Ok(()) => return Ok(format!("{name} worked on {path}")),
            Err(error) => refusal = error.into(),
        }
    }
    Err(refusal)
}
