//! Compares what the guest saw with what was asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cove_core::capability::{acceptable, required};
use cove_core::{Attestation, Control, Deviation, Report, Root, SandboxSpec};
use cove_guest::wire::Probe;

use crate::native::lockdown::capability_set;

/// Paths of `/proc` that say more about the host than a sandbox needs, or do something to it.
pub const MASKED: &[&str] = &[
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/latency_stats",
    "/proc/kallsyms",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/kpagecgroup",
    "/proc/scsi",
    "/proc/acpi",
    "/proc/asound",
];

/// Paths of `/proc` that are shown and cannot be written.
pub const READ_ONLY: &[&str] = &["/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs"];

/// Every kind of namespace that has to be the sandbox's own.
pub const NAMESPACES: &[&str] = &["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// What a host has and no sandbox shows, whatever its root.
const HIDDEN: &[&str] = &[
    "/run/docker.sock",
    "/run/containerd",
    "/run/dbus",
    "/run/podman",
    "/run/systemd",
    "/run/user",
    "/dev/kmsg",
    "/dev/mem",
    "/dev/kvm",
    "/dev/fuse",
    "/dev/net",
];

/// What `Root::Host` leaves out beside.
const HIDDEN_OF_HOST: &[&str] = &[
    "/root",
    "/boot",
    "/srv",
    "/var",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/machine-id",
    "/etc/environment",
];

/// Interfaces that the kernel puts into every network namespace; all but `lo` stay down.
const INTERFACES: &[&str] =
    &["lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"];

/// What the guest shall look at.
pub fn questions(spec: &SandboxSpec, landlock: Option<u32>, witness: &str) -> Probe {
    let of_host: &[&str] = if spec.root == Root::Host { HIDDEN_OF_HOST } else { &[] };
    // A mount may put something there on purpose.
    let asked = |path: &str| {
        let path = Path::new(path);
        let mut targets = spec.mounts.iter().map(|mount| &mount.target).chain(spec.tmpfs.iter().map(|t| &t.target));
        spec.workdir.starts_with(path) || targets.any(|target| target.starts_with(path) || path.starts_with(target))
    };
    Probe {
        masked: MASKED.iter().map(|path| (*path).to_owned()).collect(),
        hidden: HIDDEN.iter().chain(of_host).filter(|path| !asked(path)).map(|path| (*path).to_owned()).collect(),
        landlock: landlock.map(|abi| (abi, witness.to_owned())),
    }
}

/// Those without which nothing is kept apart.
const LEAST: &[&str] = &["ipc", "mnt", "net", "pid", "uts"];

/// The namespaces of this process, of these kinds, which no sandbox may share.
pub fn host_namespaces(kinds: &[&str]) -> BTreeMap<String, u64> {
    let inode = |name: &&str| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
        let number = link.to_str()?.split_once('[')?.1.trim_end_matches(']').parse().ok()?;
        Some(((*name).to_owned(), number))
    };
    kinds.iter().filter_map(inode).collect()
}

/// The judgement. `limits` is what the host reads of the sandbox's groups and takes precedence over
/// what was read inside.
pub fn judge(
    spec: &SandboxSpec,
    report: &Report,
    limits: &BTreeMap<String, f64>,
    host: &BTreeMap<String, u64>,
) -> Attestation {
    let mut report = report.clone();
    let seen_inside = std::mem::take(&mut report.cgroup);
    report.cgroup = limits.clone();
    let mut attestation = Attestation::default();
    for control in required(spec) {
        match check(control, spec, &report, &seen_inside, host) {
            Ok(()) => attestation.proven.push(control),
            Err(_) if acceptable(control) && spec.hardening.accept_missing.contains(&control) => {
                attestation.waived.push(control);
            }
            Err((expected, found)) => attestation.deviations.push(Deviation { control, expected, found }),
        }
    }
    if report.landlock > 0 {
        attestation.proven.push(Control::Landlock);
    }
    attestation.report = report;
    attestation
}

type Checked = Result<(), (String, String)>;

fn expect(holds: bool, expected: impl Into<String>, found: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err((expected.into(), found())) }
}

fn check(
    control: Control,
    spec: &SandboxSpec,
    report: &Report,
    inside: &BTreeMap<String, f64>,
    host: &BTreeMap<String, u64>,
) -> Checked {
    let limits = &spec.limits;
    match control {
        Control::IsolationContainer => {
            // Those of this process that count; one of them is there at least.
            let shared =
                |(name, number): &(&String, &u64)| report.namespaces.get(*name).is_none_or(|own| own == *number);
            let mut shared: Vec<&str> = host.iter().filter(shared).map(|(name, _)| name.as_str()).collect();
            if !LEAST.iter().all(|name| host.contains_key(*name)) {
                shared.push("this process's own");
            }
            expect(shared.is_empty(), "its own namespaces", || format!("shared or unknown: {}", shared.join(", ")))
        }
        Control::RootHost | Control::RootDirectory | Control::RootArchive | Control::RootImage => {
            expect(report.visible.is_empty(), "nothing personal of the host", || report.visible.join(", "))
        }
        Control::NetworkNone | Control::NetworkDoor => {
            let mut others = report.interfaces.iter().filter(|name| !INTERFACES.contains(&name.as_str()));
            let loopback = report.interfaces.iter().any(|name| name == "lo");
            expect(loopback && others.next().is_none(), "the loopback interface only", || report.interfaces.join(", "))
        }
        Control::ReadOnlyRoot => expect(report.root_read_only, "a root that cannot be written", || "writable".into()),
        Control::NoNewPrivileges => {
            expect(report.no_new_privileges, "no_new_privs", || "new privileges are possible".into())
        }
        Control::Seccomp => expect(report.seccomp_mode == 2 && report.seccomp_refuses, "a filter that refuses", || {
            format!("mode {}, refuses: {}", report.seccomp_mode, report.seccomp_refuses)
        }),
        Control::CapabilityDrop => {
            let allowed = capability_set(&spec.hardening.capabilities);
            let complete = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
                .iter()
                .all(|set| report.capabilities.get(*set).is_some_and(|bits| bits & !allowed == 0));
            expect(complete, format!("no capability but {allowed:#x}"), || format!("{:x?}", report.capabilities))
        }
        Control::NonRoot => {
            let (uid, gid) = (spec.user.uid, spec.user.gid);
            let right = report.uid == [uid; 3] && report.gid == [gid; 3] && uid != 0;
            expect(right, format!("user {uid}:{gid}"), || format!("{:?} {:?}", report.uid, report.gid))
        }
        Control::MaskedPaths => expect(report.unmasked.is_empty(), "masked paths", || report.unmasked.join(", ")),
        Control::LimitMemory => limit(report, inside, "memory.max", limits.memory_bytes.map(|n| n as f64), 4096.0)
            .and_then(|()| {
                let swap = report.cgroup.get("memory.swap.max").copied().unwrap_or(0.0);
                expect(swap <= 0.0, "no swap", || format!("{swap} bytes"))
            }),
        Control::LimitPids => limit(report, inside, "pids.max", limits.pids.map(|n| n as f64), 0.0),
        // The kernel counts in microseconds of a tenth of a second and not below a millisecond.
        Control::LimitCpu => limit(report, inside, "cpu.max", limits.cpus.map(|cpus| cpus.max(0.01)), 0.001),
        Control::LimitDisk => resource(report, "fsize", limits.disk_bytes),
        Control::LimitOpenFiles => resource(report, "nofile", limits.open_files),
        // The supervisor's own clock and successful mounts; nothing inside shows more of them.
        Control::LimitWall | Control::Mounts => Ok(()),
        other => Err((format!("{other}"), "not offered by this engine".into())),
    }
}

fn limit(report: &Report, inside: &BTreeMap<String, f64>, name: &str, asked: Option<f64>, rounding: f64) -> Checked {
    let Some(asked) = asked else { return Ok(()) };
    let near = |value: f64| {
        value <= asked + 1e-9 + if rounding < 1.0 { rounding } else { 0.0 } && value >= asked - rounding - 1e-9
    };
    for (place, found) in [("of the group", report.cgroup.get(name)), ("seen inside", inside.get(name))] {
        match found {
            Some(value) if near(*value) => {}
            Some(value) => return Err((format!("{name} {asked}"), format!("{value} {place}"))),
            // v1 files have other names inside; the group itself always has to tell.
            None if place == "seen inside" => {}
            None => return Err((format!("{name} {asked}"), "unlimited".into())),
        }
    }
    Ok(())
}

fn resource(report: &Report, name: &str, asked: Option<u64>) -> Checked {
    let Some(asked) = asked else { return Ok(()) };
    let found = report.rlimits.get(name).copied().unwrap_or(u64::MAX);
    expect(found <= asked, format!("{name} at most {asked}"), || found.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> BTreeMap<String, u64> {
        NAMESPACES.iter().map(|name| ((*name).to_owned(), 1)).collect()
    }

    fn limits() -> BTreeMap<String, f64> {
        [("memory.max", f64::from(2 << 20) * 1024.0), ("pids.max", 512.0), ("cpu.max", 2.0)]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn good() -> Report {
        Report {
            uid: [1000; 3],
            gid: [1000; 3],
            capabilities: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|n| (n.to_owned(), 0)).into(),
            no_new_privileges: true,
            seccomp_mode: 2,
            seccomp_refuses: true,
            root_read_only: true,
            namespaces: NAMESPACES.iter().map(|name| ((*name).to_owned(), 2)).collect(),
            interfaces: vec!["lo".to_owned()],
            rlimits: [("nofile", 65_536), ("fsize", 1 << 20)].map(|(n, v)| (n.to_owned(), v)).into(),
            ..Report::default()
        }
    }

    #[test]
    fn a_good_report_has_no_deviation() {
        let found = judge(&SandboxSpec::new(Root::Host), &good(), &limits(), &host());
        assert_eq!(found.deviations, []);
        assert!(found.proven.contains(&Control::LimitMemory) && found.waived.is_empty());
    }

    #[test]
    fn every_difference_is_found() {
        type Change = fn(&mut Report);
        let table: &[(Control, Change)] = &[
            (Control::NonRoot, |r| r.uid[1] = 0),
            (Control::CapabilityDrop, |r| {
                r.capabilities.insert("CapBnd".into(), 1);
            }),
            (Control::CapabilityDrop, |r| {
                r.capabilities.remove("CapAmb");
            }),
            (Control::NoNewPrivileges, |r| r.no_new_privileges = false),
            (Control::Seccomp, |r| r.seccomp_mode = 0),
            (Control::Seccomp, |r| r.seccomp_refuses = false),
            (Control::ReadOnlyRoot, |r| r.root_read_only = false),
            (Control::IsolationContainer, |r| {
                r.namespaces.insert("net".into(), 1);
            }),
            (Control::IsolationContainer, |r| {
                r.namespaces.remove("user");
            }),
            (Control::NetworkNone, |r| r.interfaces.push("eth0".into())),
            (Control::NetworkNone, |r| r.interfaces.clear()),
            (Control::MaskedPaths, |r| r.unmasked.push("/proc/kcore".into())),
            (Control::RootHost, |r| r.visible.push("/root".into())),
            (Control::LimitOpenFiles, |r| {
                r.rlimits.insert("nofile".into(), 1 << 30);
            }),
            (Control::LimitDisk, |r| {
                r.rlimits.remove("fsize");
            }),
            (Control::LimitPids, |r| {
                r.cgroup.insert("pids.max".into(), 99_999.0);
            }),
        ];
        for (control, change) in table {
            let mut report = good();
            change(&mut report);
            let found = judge(&SandboxSpec::new(Root::Host), &report, &limits(), &host());
            let deviating: Vec<Control> = found.deviations.iter().map(|d| d.control).collect();
            assert_eq!(deviating, [*control]);
        }
    }

    #[test]
    fn limits_are_waived_only_when_accepted() {
        let mut spec = SandboxSpec::new(Root::Host);
        let judged = judge(&spec, &good(), &BTreeMap::new(), &host());
        assert_eq!(judged.deviations.len(), 3);
        spec.hardening.accept_missing = [Control::LimitCpu, Control::LimitMemory, Control::LimitPids].into();
        let judged = judge(&spec, &good(), &BTreeMap::new(), &host());
        assert_eq!((judged.deviations.len(), judged.waived.len()), (0, 3));
    }
}
