//! What was asked for and what was found inside, control by control, in words.

use cove_core::capability::required;
use cove_core::quantity::format_size;
use cove_core::{Attestation, Control, Report, SandboxInfo, SandboxSpec};
use serde::Serialize;

/// One control of a sandbox. The judgement is the attestation's; the words are read off its report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// The control.
    pub control: Control,
    /// `proven`, `waived`, `deviates`, or `extra` for what was not asked for and holds.
    pub result: &'static str,
    /// What the specification asks.
    pub expected: String,
    /// What was read inside.
    pub found: String,
}

/// Every control that was asked for, and those that hold beside; empty without a proof.
pub fn facts(info: &SandboxInfo) -> Vec<Fact> {
    let Some(attestation) = &info.attestation else { return Vec::new() };
    let asked = required(&info.spec);
    let more = attestation.proven.iter().copied().filter(|control| !asked.contains(control));
    asked.iter().copied().chain(more).map(|control| fact(control, &info.spec, attestation, &asked)).collect()
}

fn fact(control: Control, spec: &SandboxSpec, attestation: &Attestation, asked: &[Control]) -> Fact {
    if let Some(deviation) = attestation.deviations.iter().find(|deviation| deviation.control == control) {
        return Fact {
            control,
            result: "deviates",
            expected: deviation.expected.clone(),
            found: deviation.found.clone(),
        };
    }
    let result = match () {
        () if attestation.waived.contains(&control) => "waived",
        () if !asked.contains(&control) => "extra",
        () => "proven",
    };
    let (expected, found) = words(control, spec, &attestation.report);
    Fact { control, result, expected, found }
}

fn words(control: Control, spec: &SandboxSpec, report: &Report) -> (String, String) {
    let none_of = |items: &[String], all_well: &str| {
        if items.is_empty() { all_well.to_owned() } else { items.join(", ") }
    };
    let group = |name: &str| report.cgroup.get(name).copied();
    let resource = |name: &str| report.rlimits.get(name).copied();
    let bytes = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format_size(value as u64));
    let plain = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let counted = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let limits = &spec.limits;
    let (expected, found) = match control {
        Control::IsolationContainer | Control::IsolationGvisor | Control::IsolationVm => {
            let names: Vec<&str> = report.namespaces.keys().map(String::as_str).collect();
            ("namespaces of its own".to_owned(), names.join(", "))
        }
        Control::IsolationProcess => ("a process".to_owned(), format!("process {}", report.pid)),
        Control::RootHost | Control::RootDirectory | Control::RootArchive | Control::RootImage => {
            ("nothing personal of the host".to_owned(), none_of(&report.visible, "nothing visible"))
        }
        Control::ReadOnlyRoot => {
            let found = if report.root_read_only { "writing to / and /usr failed" } else { "writable" };
            ("a root that cannot be written".to_owned(), found.to_owned())
        }
        Control::NoNewPrivileges => ("no_new_privs 1".to_owned(), format!("{}", u8::from(report.no_new_privileges))),
        Control::Seccomp => {
            let refuses = if report.seccomp_refuses { "a forbidden call was refused" } else { "it went through" };
            ("mode 2, a filter that refuses".to_owned(), format!("mode {}, {refuses}", report.seccomp_mode))
        }
        Control::CapabilityDrop => {
            let kept = &spec.hardening.capabilities;
            let expected =
                if kept.is_empty() { "none".to_owned() } else { kept.iter().cloned().collect::<Vec<_>>().join(", ") };
            let sets: Vec<String> = report
                .capabilities
                .iter()
                .filter(|(_, bits)| **bits != 0)
                .map(|(set, bits)| format!("{set} {bits:#x}"))
                .collect();
            (expected, none_of(&sets, "none in all sets"))
        }
        Control::NonRoot => {
            (format!("user {}:{}", spec.user.uid, spec.user.gid), format!("user {}:{}", report.uid[1], report.gid[1]))
        }
        Control::Landlock => ("where the kernel has it".to_owned(), format!("version {}", report.landlock)),
        Control::MaskedPaths => ("nothing readable".to_owned(), none_of(&report.unmasked, "nothing readable")),
        Control::NetworkNone | Control::NetworkDoor => ("loopback only".to_owned(), report.interfaces.join(", ")),
        Control::NetworkHost => ("the host's network".to_owned(), report.interfaces.join(", ")),
        Control::LimitCpu => (plain(limits.cpus), plain(group("cpu.max"))),
        Control::LimitMemory => (bytes(limits.memory_bytes.map(|n| n as f64)), bytes(group("memory.max"))),
        Control::LimitPids => (counted(limits.pids), plain(group("pids.max"))),
        Control::LimitDisk => {
            let found =
                resource("fsize").map_or_else(|| "-".to_owned(), |value| format!("one file {}", format_size(value)));
            (bytes(limits.disk_bytes.map(|n| n as f64)), found)
        }
        Control::LimitOpenFiles => (format!("at most {}", counted(limits.open_files)), counted(resource("nofile"))),
        Control::LimitWall => (counted(limits.wall_seconds), "the supervisor's clock".to_owned()),
        Control::Mounts => (format!("{} shown", spec.mounts.len()), "mounted".to_owned()),
        Control::Pty | Control::Adopt => ("offered".to_owned(), "offered".to_owned()),
    };
    (expected, found)
}
