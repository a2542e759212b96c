//! The last steps before the guest's program: nothing here can be undone by what follows.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use cove_core::{Hardening, Limits};
use landlock::{
    Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::root::{Failure, at};
use super::sys;
use crate::filter::landlock::{NEWEST, reading, writable as places};
use crate::filter::limits::resources;
use crate::filter::program as seccomp;

/// `SECBIT_*`: ids give no capabilities, and all of it is locked.
const SECURE_BITS: u64 = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x80;

/// `SECBIT_NO_CAP_AMBIENT_RAISE`; its lock is among the others.
const NO_AMBIENT: u64 = 0x40;

/// Everything in force on the guest and all its descendants.
pub struct Lockdown {
    limits: Vec<(Resource, u64)>,
    capabilities: u64,
    landlock: bool,
    writable: Vec<PathBuf>,
    filters: Option<seccomp::Filters>,
}

impl Lockdown {
    /// Compiles what the specification asks for.
    ///
    /// # Errors
    /// `Invalid` for an unknown capability.
    pub fn new(hardening: &Hardening, limits: &Limits, writable: &[PathBuf]) -> cove_core::Result<Self> {
        Ok(Self {
            limits: resources(limits, sys::counts_processes_by_namespace()),
            capabilities: kept(&hardening.capabilities)?,
            landlock: hardening.landlock,
            writable: writable.to_vec(),
            filters: hardening.seccomp.then(seccomp::filters).transpose()?,
        })
    }

    /// Applies all of it to this process, which has entered its root.
    pub fn apply(&self) -> Result<(), Failure> {
        for (resource, value) in &self.limits {
            at(|| format!("limit {resource:?}"), lower(*resource, *value))?;
        }
        at(|| "leave the keyring".to_owned(), sys::new_session_keyring())?;
        at(|| "drop capabilities".to_owned(), self.drop_capabilities())?;
        at(|| "set no_new_privs".to_owned(), sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(|_| ()))?;
        if self.landlock {
            at(|| "restrict by Landlock".to_owned(), restrict(&self.writable))?;
        }
        // Nothing is left over from here on, so this comes last of what needs an id or a capability.
        at(
            || "die with the supervisor".to_owned(),
            sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).map(|_| ()),
        )?;
        match &self.filters {
            Some(filters) => at(|| "install the seccomp filter".to_owned(), seccomp::install(filters)),
            None => Ok(()),
        }
    }

    /// Bounding set, secure bits, sets, ambient set.
    fn drop_capabilities(&self) -> io::Result<()> {
        let keep = |capability: u64| self.capabilities & (1 << capability) != 0;
        for capability in 0..64 {
            // The first number that the kernel does not know ends the list.
            match sys::prctl(libc::PR_CAPBSET_READ, capability, 0) {
                Ok(_) if keep(capability) => {}
                Ok(_) => drop(sys::prctl(libc::PR_CAPBSET_DROP, capability, 0)?),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                Err(error) => return Err(error),
            }
        }
        let none = self.capabilities == 0;
        let bits = if none { SECURE_BITS | NO_AMBIENT } else { SECURE_BITS };
        sys::prctl(libc::PR_SET_SECUREBITS, bits, 0)?;
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
        sys::set_capabilities(self.capabilities, self.capabilities, self.capabilities)?;
        for capability in (0..64).filter(|capability| keep(*capability)) {
            sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability)?;
        }
        Ok(())
    }
}

/// Soft and hard limit at most `value`; never raises a hard limit, which needs privileges.
fn lower(resource: Resource, value: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let value = value.min(hard);
    Ok(setrlimit(resource, value, value)?)
}

/// The set of the capabilities to keep.
fn kept(names: &BTreeSet<String>) -> cove_core::Result<u64> {
    let bit = |name: &String| {
        let number = CAPABILITIES.iter().position(|known| Some(*known) == name.strip_prefix("CAP_"));
        number.map(|n| 1 << n).ok_or_else(|| cove_core::Error::invalid(format!("{name} is not a capability's name")))
    };
    names.iter().try_fold(0, |set, name| Ok(set | bit(name)?))
}

/// Refuses capabilities that do not exist.
///
/// # Errors
/// `Invalid` with the name.
pub fn check(hardening: &Hardening) -> cove_core::Result<()> {
    kept(&hardening.capabilities).map(|_| ())
}

/// Numbers of capabilities(7) in order.
#[rustfmt::skip]
const CAPABILITIES: &[&str] = &[
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// The set of capabilities of a specification, for the comparison with a proof; unknown names are
/// not in it.
pub fn capability_set(names: &BTreeSet<String>) -> u64 {
    kept(names).unwrap_or(0)
}

/// Landlock's interface version in this kernel as far as the rules use it; 0 without Landlock.
pub fn landlock_abi() -> u32 {
    sys::landlock_abi().min(NEWEST as u32)
}

/// Reading and running everywhere, writing where the sandbox may; signals and abstract sockets
/// stay inside. What the kernel does not know of it is left out.
fn restrict(writable: &[PathBuf]) -> io::Result<()> {
    let build = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let everything = AccessFs::from_all(NEWEST);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(everything)?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rule(PathBeneath::new(PathFd::new("/")?, reading()))?;
        for path in places(writable) {
            let Ok(place) = PathFd::new(path) else { continue };
            let directory = std::fs::metadata(path).is_ok_and(|meta| meta.is_dir());
            let access = if directory { everything } else { AccessFs::from_file(NEWEST) };
            ruleset = ruleset.add_rule(PathBeneath::new(place, access))?;
        }
        ruleset.restrict_self()?;
        Ok(())
    };
    build().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_by_name() {
        let set = |names: &[&str]| kept(&names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(set(&[]).unwrap(), 0);
        assert_eq!(
            set(&["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_CHECKPOINT_RESTORE"]).unwrap(),
            1 | 1 << 10 | 1 << 40
        );
        assert!(set(&["CHOWN"]).is_err());
        assert!(set(&["CAP_EVERYTHING"]).is_err());
    }
}
