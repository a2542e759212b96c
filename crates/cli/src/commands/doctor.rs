//! `cove doctor`: what this machine has and lacks, each with a remedy.

use std::path::Path;
use std::time::Duration;

use cove_core::capability::Finding;
use cove_core::quantity::format_size;
use cove_core::{Control, Isolation, Result};
use serde_json::{Value, json};

use super::run_spec::CREDENTIALS;
use crate::context::Context;
use crate::output::{Format, Paint, Style, clean_line};
use crate::{agent_program, daemon, kinds};

/// Longest one check may take.
const BOUND: Duration = Duration::from_secs(5);
/// Longest the start of a daemon with its probes may take.
const START: Duration = Duration::from_secs(45);
/// Less free space than this draws a warning.
const ROOM: u64 = 2 << 30;

pub async fn run(context: &Context) -> Result<u8> {
    let mut checks = host();
    checks.push(settings(context));
    checks.push(git().await);
    checks.extend(agents(context));
    checks.push(space(&context.paths.data));
    let (more, usable, landlock) = engines(context).await;
    if let Some(check) = checks.iter_mut().find(|check| landlock && check.name == "landlock") {
        // Where securityfs is not mounted, only a probe knows.
        *check = Check::ok("landlock", "active");
    }
    checks.extend(more);
    let items: Vec<Value> = checks.iter().map(Check::row).collect();
    if context.printer.format == Format::Table {
        context.printer.write(&checks.iter().map(|check| check.text(&context.printer.style)).collect::<String>())?;
    } else {
        context.printer.list(&kinds::checks(), &items)?;
    }
    if !usable {
        return Err(cove_core::Error::new(
            cove_core::ErrorKind::Unavailable,
            "No engine can isolate an agent on this machine",
        )
        .next("Follow the remedies above; cove engine test shows each control"));
    }
    Ok(0)
}

/// What became of one check.
struct Check {
    name: String,
    /// `ok`, `warning`, `missing`, or `absent` for what nobody needs to have.
    result: &'static str,
    found: String,
    fix: String,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), result: "ok", found: found.into(), fix: String::new() }
    }

    fn warning(name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name: name.into(), result: "warning", found: found.into(), fix: fix.into() }
    }

    fn missing(name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name: name.into(), result: "missing", found: found.into(), fix: fix.into() }
    }

    fn absent(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), result: "absent", found: found.into(), fix: String::new() }
    }

    /// One line, and one more with the remedy.
    fn text(&self, style: &Style) -> String {
        let (mark, paint) = match self.result {
            "ok" => (style.symbol("✓", "+"), Paint::Good),
            "missing" => (style.symbol("✗", "x"), Paint::Bad),
            "absent" => (style.symbol("·", "-"), Paint::Faint),
            _ => ("!", Paint::Warn),
        };
        let mut out = format!("{} {:<15} {}\n", style.paint(paint, mark), self.name, clean_line(&self.found));
        if !self.fix.is_empty() {
            out.push_str(&format!("  {:<15} {}\n", "", style.paint(Paint::Faint, &clean_line(&self.fix))));
        }
        out
    }

    fn row(&self) -> Value {
        json!({"check": self.name, "result": self.result, "found": self.found, "fix": self.fix})
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The kernel's side, as files tell it. The engines' probes have the last word.
fn host() -> Vec<Check> {
    let root = nix::unistd::geteuid().is_root();
    let kernel = nix::sys::utsname::uname()
        .map(|name| format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()))
        .unwrap_or_default();
    let mut out = vec![if kernel.starts_with("Linux") {
        Check::ok("kernel", kernel)
    } else {
        Check::warning("kernel", kernel, "The native engine needs Linux; use docker or podman")
    }];
    out.push(namespaces(root));
    out.push(cgroups());
    out.push(match read("/proc/sys/kernel/seccomp/actions_avail") {
        Some(actions) if actions.contains("errno") => Check::ok("seccomp", "filters with errno"),
        _ => Check::missing("seccomp", "no filters", "Use a kernel with CONFIG_SECCOMP_FILTER"),
    });
    let overlay =
        read("/proc/filesystems").is_some_and(|text| text.lines().any(|line| line.trim() == "nodev\toverlay"));
    out.push(if overlay {
        Check::ok("overlay", "file system known")
    } else {
        Check::warning("overlay", "not loaded", "modprobe overlay; images are copied without it")
    });
    let modules = read("/sys/kernel/security/lsm").unwrap_or_default();
    out.push(if modules.split(',').any(|module| module == "landlock") {
        Check::ok("landlock", "active")
    } else {
        Check::warning("landlock", "not active", "Boot with lsm=landlock,… for one more layer; nothing depends on it")
    });
    out
}

fn namespaces(root: bool) -> Check {
    const NAME: &str = "namespaces";
    if root {
        return Check::ok(NAME, "all, as root");
    }
    let off = |path: &str| read(path).is_some_and(|text| text == "0");
    let on = |path: &str| read(path).is_some_and(|text| text == "1");
    if off("/proc/sys/user/max_user_namespaces") {
        Check::missing(NAME, "user namespaces are switched off", "sysctl -w user.max_user_namespaces=15000, as root")
    } else if off("/proc/sys/kernel/unprivileged_userns_clone") {
        Check::missing(
            NAME,
            "user namespaces are for root only",
            "sysctl -w kernel.unprivileged_userns_clone=1, as root",
        )
    } else if on("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
        Check::warning(
            NAME,
            "AppArmor restricts user namespaces",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile for cove",
        )
    } else {
        Check::ok(NAME, "user namespaces")
    }
}

fn cgroups() -> Check {
    const NAME: &str = "cgroups";
    let unified = read("/sys/fs/cgroup/cgroup.controllers");
    let own = read("/proc/self/cgroup").unwrap_or_default();
    match unified {
        Some(controllers) => {
            let missing: Vec<&str> = ["cpu", "memory", "pids"]
                .into_iter()
                .filter(|c| !controllers.split(' ').any(|word| word == *c))
                .collect();
            if missing.is_empty() {
                Check::ok(NAME, "version 2 with cpu, memory, pids")
            } else {
                Check::warning(
                    NAME,
                    format!("version 2 without {}", missing.join(", ")),
                    "Limits of these kinds need --accept-missing",
                )
            }
        }
        None if own.lines().any(|line| line.contains(":memory:") || line.contains("memory")) => {
            Check::ok(NAME, "version 1")
        }
        None => Check::warning(
            NAME,
            "none mounted",
            "Mount cgroup2 at /sys/fs/cgroup; limits need --accept-missing without it",
        ),
    }
}

fn settings(context: &Context) -> Check {
    if let Err(error) = cove_settings::Policy::load(&context.paths) {
        return Check::missing("settings", error.message(), error.next_step().unwrap_or("Correct the managed policy"));
    }
    match context.settings() {
        Ok(resolved) if resolved.warnings.is_empty() => Check::ok("settings", "valid"),
        Ok(resolved) => {
            Check::warning("settings", resolved.warnings.join("; "), "cove config list shows each with its origin")
        }
        Err(error) => Check::missing("settings", error.message(), error.next_step().unwrap_or("cove config validate")),
    }
}

async fn git() -> Check {
    let asked = tokio::task::spawn_blocking(cove_git::Git::new);
    match tokio::time::timeout(BOUND, asked).await {
        Ok(Ok(Ok(_))) => Check::ok("git", "found"),
        Ok(Ok(Err(error))) => Check::missing("git", error.message(), error.next_step().unwrap_or("Install git")),
        _ => Check::missing("git", "did not answer", "Install git 2.30 or later"),
    }
}

/// Agent programs and the names of the keys that are set; never a value.
fn agents(context: &Context) -> Vec<Check> {
    let path = context.variables.get("PATH").cloned().unwrap_or_default();
    let mut out = Vec::new();
    for name in cove_agents::names() {
        let choice = cove_core::run::AgentChoice { name: name.to_owned(), ..Default::default() };
        let Ok(agent) = cove_agents::catalog(&choice) else { continue };
        let check = format!("agent {name}");
        let Some(file) = agent_program::look_up(agent.program(), &path) else {
            out.push(Check::absent(check, "not installed"));
            continue;
        };
        let known = CREDENTIALS.iter().find(|(agent, _)| *agent == name).map_or(&[][..], |(_, names)| *names);
        let set: Vec<&str> =
            known.iter().copied().filter(|key| context.variables.get(*key).is_some_and(|v| !v.is_empty())).collect();
        out.push(match (set.as_slice(), known) {
            ([], [first, ..]) => Check::warning(
                check,
                format!("{}, no key set", file.display()),
                format!("Set {first} and pass it with --agent-env {first}"),
            ),
            ([], []) => Check::ok(check, file.display().to_string()),
            (keys, _) => Check::ok(check, format!("{}, {} set", file.display(), keys.join(", "))),
        });
    }
    out
}

fn space(data: &Path) -> Check {
    let there = data.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(there) {
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let found = format!("{} free in {}", format_size(free), there.display());
            if free >= ROOM {
                Check::ok("space", found)
            } else {
                Check::warning("space", found, "Free some, or choose another place with COVE_DATA_DIR")
            }
        }
        Err(error) => Check::warning("space", error.to_string(), "Check the data directory"),
    }
}

/// The daemon and what its engines proved; whether one of them isolates, and whether Landlock works.
async fn engines(context: &Context) -> (Vec<Check>, bool, bool) {
    let client = match tokio::time::timeout(START, daemon::connect(context)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => {
            let fix = error.next_step().unwrap_or("cove serve shows what happens").to_owned();
            return (vec![Check::missing("daemon", error.chain().join(": "), fix)], false, false);
        }
        Err(_) => {
            return (
                vec![Check::missing("daemon", "not ready in time", "cove serve shows what happens")],
                false,
                false,
            );
        }
    };
    let mut out = Vec::new();
    let status = tokio::time::timeout(BOUND, client.status()).await;
    match status {
        Ok(Ok(status)) if status.version == daemon::VERSION => {
            out.push(Check::ok("daemon", format!("version {}, process {}", status.version, status.pid)));
        }
        Ok(Ok(status)) => {
            out.push(Check::warning("daemon", format!("version {}", status.version), "cove daemon restart"));
        }
        _ => out.push(Check::missing("daemon", "does not answer", "cove daemon restart")),
    }
    let reports = match tokio::time::timeout(START, client.engines()).await {
        Ok(Ok(reports)) => reports,
        _ => {
            out.push(Check::missing("engines", "the daemon does not tell", "cove daemon restart"));
            return (out, false, false);
        }
    };
    let (mut usable, mut landlock) = (false, false);
    for report in reports {
        let name = format!("engine {}", report.kind);
        let isolates = report.isolation.iter().any(|level| *level > Isolation::Process);
        if report.available && isolates {
            usable = true;
            let is_proven = |c: &&cove_api::ControlReport| c.finding == Finding::Proven;
            let proven = report.controls.iter().filter(is_proven).count();
            landlock |= report.controls.iter().filter(is_proven).any(|c| c.control == Control::Landlock);
            let found = format!("{proven} of {} controls proven", report.controls.len());
            let limits: Vec<String> = report
                .controls
                .iter()
                .filter(|c| !is_proven(c) && cove_core::capability::acceptable(c.control))
                .map(|c| c.control.name())
                .collect();
            out.push(if limits.is_empty() {
                Check::ok(name, found)
            } else {
                let limits = limits.join(",");
                Check::warning(
                    name,
                    format!("{found}; without {limits}, which runs ask for"),
                    format!("Go without: --accept-missing {limits}; cove engine test says what would give them"),
                )
            });
        } else if report.available {
            out.push(Check::warning(name, "works, without any isolation", "Only with --i-accept-no-sandbox"));
        } else {
            let why = report.why.unwrap_or_else(|| "not available".to_owned());
            out.push(Check::warning(name, why, "cove engine test shows each control"));
        }
    }
    (out, usable, landlock)
}
