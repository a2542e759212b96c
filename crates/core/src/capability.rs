//! What an engine offers on this host, proven by its probe.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{Isolation, Network, Root, SandboxSpec};

/// One thing a spec may ask for. The names are what errors, reports and `--accept-missing` use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is named after the control itself; see SECURITY.md")]
pub enum Control {
    IsolationProcess,
    IsolationContainer,
    IsolationGvisor,
    IsolationVm,
    RootHost,
    RootDirectory,
    RootArchive,
    RootImage,
    ReadOnlyRoot,
    NoNewPrivileges,
    Seccomp,
    CapabilityDrop,
    NonRoot,
    Landlock,
    MaskedPaths,
    NetworkNone,
    NetworkDoor,
    NetworkHost,
    LimitCpu,
    LimitMemory,
    LimitPids,
    LimitDisk,
    LimitOpenFiles,
    LimitWall,
    Mounts,
    Layers,
    Pty,
    Adopt,
}

impl Control {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 28] = [
        Self::IsolationProcess,
        Self::IsolationContainer,
        Self::IsolationGvisor,
        Self::IsolationVm,
        Self::RootHost,
        Self::RootDirectory,
        Self::RootArchive,
        Self::RootImage,
        Self::ReadOnlyRoot,
        Self::NoNewPrivileges,
        Self::Seccomp,
        Self::CapabilityDrop,
        Self::NonRoot,
        Self::Landlock,
        Self::MaskedPaths,
        Self::NetworkNone,
        Self::NetworkDoor,
        Self::NetworkHost,
        Self::LimitCpu,
        Self::LimitMemory,
        Self::LimitPids,
        Self::LimitDisk,
        Self::LimitOpenFiles,
        Self::LimitWall,
        Self::Mounts,
        Self::Layers,
        Self::Pty,
        Self::Adopt,
    ];

    /// Its kebab-case name.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

impl std::fmt::Display for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// What the probe found about one control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Finding {
    /// Tried on this host and in force.
    Proven,
    /// Not to be had; the reason names what is missing and how to get it.
    Missing {
        /// One sentence.
        reason: String,
    },
}

/// What an engine can do here. A control that is not mentioned is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities(BTreeMap<Control, Finding>);

impl Capabilities {
    /// Records a control as proven.
    #[must_use]
    pub fn proven(mut self, control: Control) -> Self {
        self.0.insert(control, Finding::Proven);
        self
    }

    /// Records a control as missing, with the reason.
    #[must_use]
    pub fn missing(mut self, control: Control, reason: impl Into<String>) -> Self {
        self.0.insert(control, Finding::Missing { reason: reason.into() });
        self
    }

    /// Whether the control is proven.
    pub fn has(&self, control: Control) -> bool {
        self.0.get(&control) == Some(&Finding::Proven)
    }

    /// Why a control is missing; `None` when it is proven.
    pub fn why_missing(&self, control: Control) -> Option<&str> {
        match self.0.get(&control) {
            Some(Finding::Proven) => None,
            Some(Finding::Missing { reason }) => Some(reason),
            None => Some("This engine does not offer it"),
        }
    }

    /// Every control with its finding, in the order of reports.
    pub fn table(&self) -> impl Iterator<Item = (Control, Finding)> + '_ {
        Control::ALL.into_iter().map(|control| {
            let finding = self
                .0
                .get(&control)
                .cloned()
                .unwrap_or_else(|| Finding::Missing { reason: "This engine does not offer it".to_owned() });
            (control, finding)
        })
    }

    /// The controls that `spec` asks for and that are neither proven nor accepted as missing.
    pub fn lacking(&self, spec: &SandboxSpec) -> Vec<(Control, String)> {
        required(spec)
            .into_iter()
            .filter(|control| !(acceptable(*control) && spec.hardening.accept_missing.contains(control)))
            .filter_map(|control| self.why_missing(control).map(|why| (control, why.to_owned())))
            .collect()
    }
}

/// Whether a person may accept to go without this control. Only limits: what separates the sandbox
/// from the host is never optional.
pub fn acceptable(control: Control) -> bool {
    matches!(
        control,
        Control::LimitCpu | Control::LimitMemory | Control::LimitPids | Control::LimitDisk | Control::LimitOpenFiles
    )
}

/// The controls that a spec asks for. Landlock is not among them: it deepens others and its
/// absence is reported by the attestation.
pub fn required(spec: &SandboxSpec) -> Vec<Control> {
    let mut out = vec![match spec.isolation {
        Isolation::Process => Control::IsolationProcess,
        Isolation::Container => Control::IsolationContainer,
        Isolation::Gvisor => Control::IsolationGvisor,
        Isolation::Vm => Control::IsolationVm,
    }];
    out.push(match spec.root {
        Root::Host => Control::RootHost,
        Root::Directory(_) => Control::RootDirectory,
        Root::Archive(_) => Control::RootArchive,
        Root::Image(_) => Control::RootImage,
    });
    out.push(match spec.network {
        Network::None => Control::NetworkNone,
        Network::Door { .. } => Control::NetworkDoor,
        Network::Host => Control::NetworkHost,
    });
    if spec.isolation != Isolation::Process {
        out.extend([Control::CapabilityDrop, Control::MaskedPaths]);
        let hardening = &spec.hardening;
        for (asked, control) in [
            (hardening.read_only_root, Control::ReadOnlyRoot),
            (hardening.no_new_privileges, Control::NoNewPrivileges),
            (hardening.seccomp, Control::Seccomp),
            (hardening.non_root, Control::NonRoot),
        ] {
            if asked {
                out.push(control);
            }
        }
    }
    let limits = &spec.limits;
    for (asked, control) in [
        (limits.cpus.is_some(), Control::LimitCpu),
        (limits.memory_bytes.is_some(), Control::LimitMemory),
        (limits.pids.is_some(), Control::LimitPids),
        (limits.disk_bytes.is_some(), Control::LimitDisk),
        (limits.open_files.is_some(), Control::LimitOpenFiles),
        (limits.wall_seconds.is_some(), Control::LimitWall),
        (!spec.mounts.is_empty(), Control::Mounts),
        (!spec.layers.is_empty(), Control::Layers),
    ] {
        if asked {
            out.push(control);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_may_be_accepted_as_missing_but_separation_may_not() {
        let caps = Capabilities::default().proven(Control::IsolationContainer).proven(Control::RootHost);
        let mut spec = SandboxSpec::new(Root::Host);
        spec.hardening.accept_missing = Control::ALL.into_iter().collect();
        let lacking: Vec<Control> = caps.lacking(&spec).into_iter().map(|(c, _)| c).collect();
        assert!(lacking.contains(&Control::Seccomp));
        assert!(lacking.contains(&Control::NetworkNone));
        assert!(!lacking.contains(&Control::LimitMemory));
    }
}
