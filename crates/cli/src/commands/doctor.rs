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
    let Engines { checks: more, usable, native } = engines(context).await;
    if let Some(native) = native.filter(|report| report.available) {
        correct(&mut checks, &native);
        let landlock = native.controls.iter().any(|c| c.control == Control::Landlock && c.finding == Finding::Proven);
        if let Some(check) = checks.iter_mut().find(|check| landlock && check.name == "landlock") {
            // Where securityfs is not mounted, only a probe knows.
            *check = Check::ok("landlock", "active");
        }
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
    const REMEDY: &str = "Run Cove as root, or in a delegated cgroup (v2): systemd-run --user --scope -p Delegate=yes";
    let own = read("/proc/self/cgroup").unwrap_or_default();
    // A line is `hierarchy:controllers:path`; version 2 has no controllers.
    let path_of = |controller: &str| {
        own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|one| one == controller).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let writable = |dir: &Path| nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok();
    if let Some(controllers) = read("/sys/fs/cgroup/cgroup.controllers") {
        let missing: Vec<&str> =
            ["cpu", "memory", "pids"].into_iter().filter(|c| !controllers.split(' ').any(|word| word == *c)).collect();
        let group = Path::new("/sys/fs/cgroup").join(path_of("").unwrap_or_default());
        return if !missing.is_empty() {
            let found = format!("version 2 without {}", missing.join(", "));
            Check::warning(NAME, found, "Limits of these kinds need --accept-missing")
        } else if writable(&group) {
            Check::ok(NAME, "version 2 with cpu, memory, pids, writable")
        } else {
            Check::warning(NAME, format!("version 2, {} is not writable for this user", group.display()), REMEDY)
        };
    }
    let Some(memory) = path_of("memory") else {
        return Check::warning(
            NAME,
            "none mounted",
            "Mount cgroup2 at /sys/fs/cgroup; limits need --accept-missing without it",
        );
    };
    // Inside a container the path may be that of the host; then the hierarchy's top is this one's.
    let top = Path::new("/sys/fs/cgroup/memory");
    let group = Some(top.join(memory)).filter(|dir| dir.is_dir()).unwrap_or_else(|| top.to_owned());
    if writable(&group) {
        Check::ok(NAME, "version 1, writable")
    } else {
        Check::warning(NAME, format!("version 1, {} is not writable for this user", group.display()), REMEDY)
    }
}

/// What the native engine's probe found goes before what files tell.
fn correct(checks: &mut [Check], native: &cove_api::EngineReport) {
    let why = |control: Control| {
        native.controls.iter().find(|c| c.control == control).and_then(|c| match &c.finding {
            Finding::Missing { reason } => Some(reason.as_str()),
            Finding::Proven => None,
        })
    };
    let Some(reason) = [Control::LimitMemory, Control::LimitPids, Control::LimitCpu].into_iter().find_map(why) else {
        return;
    };
    if let Some(check) = checks.iter_mut().find(|check| check.name == "cgroups" && check.result == "ok") {
        let (found, fix) = reason.split_once("; ").unwrap_or((reason, "cove engine test shows each control"));
        *check = Check::warning("cgroups", found, fix);
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

/// The daemon and what its engines proved.
struct Engines {
    checks: Vec<Check>,
    /// Whether one of them isolates.
    usable: bool,
    /// What the native engine's probe found.
    native: Option<cove_api::EngineReport>,
}

impl Engines {
    fn none(checks: Vec<Check>) -> Self {
        Self { checks, usable: false, native: None }
    }
}

async fn engines(context: &Context) -> Engines {
    let client = match tokio::time::timeout(START, daemon::connect(context)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => {
            let fix = error.next_step().unwrap_or("cove serve shows what happens").to_owned();
            return Engines::none(vec![Check::missing("daemon", error.told().join(": "), fix)]);
        }
        Err(_) => {
            let late = Check::missing("daemon", "not ready in time", "cove serve shows what happens");
            return Engines::none(vec![late]);
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
            return Engines::none(out);
        }
    };
    let (mut usable, mut native) = (false, None);
    for report in reports {
        if report.kind == cove_core::EngineKind::Native {
            native = Some(report.clone());
        }
        let name = format!("engine {}", report.kind);
        let isolates = report.isolation.iter().any(|level| *level > Isolation::Process);
        if report.available && isolates {
            usable = true;
            let is_proven = |c: &&cove_api::ControlReport| c.finding == Finding::Proven;
            let proven = report.controls.iter().filter(is_proven).count();
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
            // Nobody needs all of them.
            let other = matches!(report.kind, cove_core::EngineKind::Docker | cove_core::EngineKind::Podman);
            out.push(if other && usable {
                Check::absent(name, why)
            } else {
                Check::warning(name, why, "cove engine test shows each control")
            });
        }
    }
    Engines { checks: out, usable, native }
}

#[cfg(test)]
mod tests {
    use cove_api::{ControlReport, EngineReport};

    use super::*;

    #[test]
    fn what_the_probe_found_goes_before_what_files_tell() {
        let report = |finding: Finding| EngineReport {
            kind: cove_core::EngineKind::Native,
            available: true,
            why: None,
            isolation: vec![Isolation::Container],
            controls: vec![ControlReport { control: Control::LimitMemory, finding }],
        };
        let mut checks = vec![Check::ok("cgroups", "version 1, writable")];
        correct(&mut checks, &report(Finding::Proven));
        assert_eq!(checks[0].result, "ok");
        correct(&mut checks, &report(Finding::Missing { reason: "It is not writable; run as root".to_owned() }));
        let found = (checks[0].result, checks[0].found.as_str(), checks[0].fix.as_str());
        assert_eq!(found, ("warning", "It is not writable", "run as root"));
    }
}
