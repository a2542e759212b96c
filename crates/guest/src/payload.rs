//! The last steps of a child before it becomes the program asked for.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use cove_guest::wire::Command;

use crate::system;

/// The streams of a process.
pub enum Streams {
    /// stdin, stdout, stderr.
    Pipes([OwnedFd; 3]),
    /// The slave side of a terminal.
    Terminal(OwnedFd),
}

/// A command with everything allocated, so that little can fail later.
pub struct Prepared {
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    paths: Vec<CString>,
}

/// Why a command does not run: the exit code that says so and a line for people.
pub struct Refusal {
    /// 126 or 127.
    pub code: i32,
    /// The line.
    pub message: String,
}

impl Refusal {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Prepared {
    /// Turns a command into what `execve` takes.
    pub fn new(command: &Command) -> Result<Self, Refusal> {
        let text = |what: &str, text: String| {
            CString::new(text).map_err(|_| Refusal::new(126, format!("{what} holds a zero byte")))
        };
        let Some(program) = command.argv.first().filter(|program| !program.is_empty()) else {
            return Err(Refusal::new(127, "no program was named"));
        };
        let paths = if program.contains('/') {
            vec![program.clone()]
        } else {
            let path = command.env.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
            path.split(':').map(|dir| format!("{}/{program}", if dir.is_empty() { "." } else { dir })).collect()
        };
        Ok(Self {
            argv: command.argv.iter().map(|a| text("an argument", a.clone())).collect::<Result<_, _>>()?,
            env: command
                .env
                .iter()
                .map(|(name, value)| text("a variable", format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
            cwd: text("the working directory", command.cwd.clone())?,
            paths: paths.into_iter().map(|p| text("the program", p)).collect::<Result<_, _>>()?,
        })
    }

    /// Becomes the program. Returns only when that failed.
    pub fn run(&self, streams: &Streams) -> Refusal {
        system::new_session();
        if let Err(error) = attach(streams) {
            return Refusal::new(126, format!("the streams cannot be set up: {error}"));
        }
        system::default_signals();
        system::set_umask();
        let cwd = self.cwd.to_string_lossy();
        if let Err(error) = std::env::set_current_dir(&*cwd) {
            return Refusal::new(126, format!("{cwd}: cannot be entered: {error}"));
        }
        // From here on this process may be looked into, as any program may; it holds no descriptor
        // of the guest any more. Under memory pressure it goes before the guest does.
        system::set_dumpable(true);
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
        self.execute()
    }

    fn execute(&self) -> Refusal {
        let argv: Vec<_> = self.argv.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
        let env: Vec<_> = self.env.iter().map(|e| e.as_ptr()).chain([std::ptr::null()]).collect();
        let name = self.argv.first().map(|a| a.to_string_lossy()).unwrap_or_default();
        let mut found: Option<io::Error> = None;
        for path in &self.paths {
            let error = system::execute(path, &argv, &env);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => found = found.or(Some(error)),
                _ => {
                    found = Some(error);
                    break;
                }
            }
        }
        match found {
            Some(error) => Refusal::new(126, format!("{name}: cannot be run: {error}")),
            None => Refusal::new(127, format!("{name}: not found")),
        }
    }
}

fn attach(streams: &Streams) -> io::Result<()> {
    let fds = match streams {
        Streams::Pipes([stdin, stdout, stderr]) => [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
        Streams::Terminal(slave) => {
            system::control_terminal(slave.as_raw_fd())?;
            [slave.as_raw_fd(); 3]
        }
    };
    for (to, from) in (0..).zip(fds) {
        system::install(from, to)?;
    }
    Ok(())
}

/// Opens descriptors 0 to 2 where they are closed, so that nothing else ever gets those numbers.
pub fn reserve_standard_streams() {
    while let Ok(file) = File::options().read(true).write(true).open("/dev/null") {
        if file.as_raw_fd() > 2 {
            return;
        }
        std::mem::forget(file);
    }
}
