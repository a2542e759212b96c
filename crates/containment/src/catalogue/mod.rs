//! The attempts, as data: groups E (escape), P (paths and mounts) and R (exhaustion).

mod escape;
pub(crate) mod exhaustion;
mod paths;
mod reach;
mod surface;

use cove_core::Control;
use serde::{Deserialize, Serialize};

pub use surface::{FAMILIES, FAMILIES_ALLOWED, SENSITIVE};

/// What an attempt aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Group {
    /// Getting out.
    #[serde(rename = "E")]
    Escape,
    /// Paths, mounts, and what the host does with files of a sandbox.
    #[serde(rename = "P")]
    Paths,
    /// Taking more than one was given.
    #[serde(rename = "R")]
    Exhaustion,
}

impl Group {
    /// In the order of reports.
    pub const ALL: [Self; 3] = [Self::Escape, Self::Paths, Self::Exhaustion];

    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Escape => "escape",
            Self::Paths => "paths and mounts",
            Self::Exhaustion => "exhaustion",
        }
    }
}

/// Questions that a person has, each answered by several attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// The addresses at which clouds tell secrets.
    Metadata,
    /// The machine's own and its network's addresses.
    PrivateNetwork,
    /// A sandbox beside it.
    OtherSandbox,
    /// Files of the host.
    HostFiles,
    /// Becoming root, or having a right of root's.
    Capabilities,
    /// Calls that reach deep into the kernel.
    Kernel,
    /// More processes than allowed.
    ForkBomb,
    /// Secrets of other processes.
    Secrets,
}

impl Probe {
    /// In the order of the matrix.
    pub const ALL: [Self; 8] = [
        Self::Metadata,
        Self::PrivateNetwork,
        Self::OtherSandbox,
        Self::HostFiles,
        Self::Capabilities,
        Self::Kernel,
        Self::ForkBomb,
        Self::Secrets,
    ];

    /// In words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Metadata => "metadata address",
            Self::PrivateNetwork => "private ranges",
            Self::OtherSandbox => "another sandbox",
            Self::HostFiles => "host files",
            Self::Capabilities => "capabilities",
            Self::Kernel => "kernel calls",
            Self::ForkBomb => "fork bomb",
            Self::Secrets => "secrets",
        }
    }
}

/// Where an attempt is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scene {
    /// In a sandbox with defaults.
    Plain,
    /// There, on a terminal.
    Terminal,
    /// In a sandbox with small limits.
    Tight,
    /// In one whose disk limit may end it.
    Disk,
    /// With this working directory for the process.
    Directory(String),
    /// By a process that tries to outlive its sandbox; the way it hides.
    Survival(&'static str),
    /// By asking for a sandbox with this change; the words are then tried inside it.
    Creation(Change),
}

/// What a hostile specification asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A mount of this source at `/mnt/extra`.
    Source(String),
    /// A mount of a link that leads to this.
    SourceLink(String),
    /// A mount of something that is neither file nor directory: `fifo`, `socket`, `device`.
    SourceKind(&'static str),
    /// A mount of a harmless directory at this target.
    Target(String),
    /// Two of them at the same target.
    TargetTwice,
    /// A memory-backed directory here.
    Memory(String),
    /// This working directory.
    Workdir(String),
    /// A root whose directory of that name is a link to this, and a mount or working directory there.
    RootLink(&'static str, String),
    /// A root from an archive that has this entry.
    Archive(&'static str),
    /// This name.
    Name(String),
    /// This label.
    Label(String, String),
    /// This variable.
    Variable(String, String),
    /// User 0 while non-root is asked for.
    Root,
    /// This capability.
    Capability(&'static str),
    /// A stronger isolation than there is.
    Isolation(cove_core::Isolation),
    /// The host's network.
    HostNetwork,
}

/// Why an attempt that had no effect would have had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The same words outside have their effect.
    Same,
    /// As `Same`; when even that finds nothing there, the attempt does not apply to this host.
    SameIfThere,
    /// Other, harmless words outside have theirs.
    Other(Vec<String>),
    /// Outside the same words meet another answer than inside: they get further.
    Beyond,
    /// With a witness in the way of that call, it is the witness who answers.
    Witness(&'static str),
    /// In the sandbox beside, which it aims at, it has its effect.
    Neighbour,
    /// It was seen, or the same without the change was made.
    Seen,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Row of the catalogue and what sets it apart: `E10-unshare-user`.
    pub id: String,
    /// Its group.
    pub group: Group,
    /// What is attempted, in a few words.
    pub what: String,
    /// Where.
    pub scene: Scene,
    /// For the attack program; `{…}` stands for what is known later.
    pub words: Vec<String>,
    /// Answers that mean it was held: errnos, signals, `NOTHING`, `ABSENT`, kinds of errors.
    pub held: &'static [&'static str],
    /// Controls; one that holds is enough, the first is the best.
    pub proofs: Vec<Proof>,
    /// How bad an effect would be, 1 to 5.
    pub weight: u8,
    /// What holds it.
    pub control: Control,
    /// The question that it helps to answer.
    pub probe: Option<Probe>,
}

/// What the filter answers.
pub(crate) const FILTER: &[&str] = &["EPERM"];
/// What the filter answers where programs know another way.
pub(crate) const UNKNOWN: &[&str] = &["ENOSYS"];
/// What a path outside is: not there.
pub(crate) const HIDDEN: &[&str] = &["ENOENT", "ENOTDIR", "EACCES", "NOTHING"];
/// What something that may be seen and not changed answers.
pub(crate) const SEALED: &[&str] = &["EROFS", "EACCES", "EPERM", "ENOENT", "ETXTBSY"];
/// What something that may not be read answers.
pub(crate) const MASKED: &[&str] = &["EACCES", "EPERM", "ENOENT", "NOTHING", "ESRCH"];

impl Variant {
    pub(crate) fn new(id: impl Into<String>, what: impl Into<String>, control: Control, words: &[&str]) -> Self {
        let id = id.into();
        let group = match id.as_bytes().first() {
            Some(b'P') => Group::Paths,
            Some(b'R') => Group::Exhaustion,
            _ => Group::Escape,
        };
        Self {
            group,
            what: what.into(),
            scene: Scene::Plain,
            words: owned(words),
            held: FILTER,
            proofs: vec![Proof::Same],
            weight: 3,
            control,
            probe: None,
            id,
        }
    }

    pub(crate) fn held(mut self, held: &'static [&'static str]) -> Self {
        self.held = held;
        self
    }

    pub(crate) fn proofs(mut self, proofs: impl Into<Vec<Proof>>) -> Self {
        self.proofs = proofs.into();
        self
    }

    /// One more control, after the others.
    pub(crate) fn or(mut self, proof: Proof) -> Self {
        self.proofs.push(proof);
        self
    }

    pub(crate) fn weight(mut self, weight: u8) -> Self {
        self.weight = weight;
        self
    }

    pub(crate) fn probe(mut self, probe: Probe) -> Self {
        self.probe = Some(probe);
        self
    }

    pub(crate) fn scene(mut self, scene: Scene) -> Self {
        self.scene = scene;
        self
    }

    /// The catalogue's row: what stands before the first dash.
    pub fn row(&self) -> &str {
        self.id.split('-').next().unwrap_or(&self.id)
    }
}

pub(crate) fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn other(words: &[&str]) -> Proof {
    Proof::Other(owned(words))
}

/// All of them, in the order of reports.
pub fn catalogue() -> Vec<Variant> {
    [escape::variants(), surface::variants(), reach::variants(), paths::variants(), exhaustion::variants()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_every_attempt_has_a_control() {
        let all = catalogue();
        let ids: BTreeSet<&str> = all.iter().map(|variant| variant.id.as_str()).collect();
        assert_eq!(ids.len(), all.len());
        for variant in &all {
            assert!(!variant.proofs.is_empty(), "{}", variant.id);
            assert!(!variant.held.is_empty(), "{}", variant.id);
            assert!((1..=5).contains(&variant.weight), "{}", variant.id);
            let unfit = |word: &String| word.contains(['\t', '\n']);
            assert!(!variant.words.iter().any(unfit), "{}", variant.id);
        }
    }

    #[test]
    fn there_are_enough_of_each_kind() {
        let all = catalogue();
        let count = |group| all.iter().filter(|variant| variant.group == group).count();
        assert!(all.len() >= 300, "{}", all.len());
        assert!(count(Group::Escape) >= 200 && count(Group::Paths) >= 80 && count(Group::Exhaustion) >= 25);
        for probe in Probe::ALL {
            assert!(all.iter().filter(|variant| variant.probe == Some(probe)).count() >= 2, "{probe:?}");
        }
        assert_eq!(SENSITIVE.len(), 36);
        for name in SENSITIVE {
            assert!(all.iter().any(|variant| variant.id == format!("E13-call-{name}")), "{name}");
        }
    }
}
