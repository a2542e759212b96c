//! The filters as the kernel takes them.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::calls::{ABSENT, LAST_KNOWN, allowed};
use super::rules::{self, Condition, Rule, Test};

/// The filters, in the order of installation.
pub type Filters = [BpfProgram; 3];

type Built<T> = Result<T, seccompiler::BackendError>;

/// Compiles them.
///
/// # Errors
/// `Internal` on an architecture that is not supported.
pub fn filters() -> cove_core::Result<Filters> {
    build().map_err(|error| cove_core::Error::internal("The seccomp filter could not be compiled").because(error))
}

fn condition(condition: &Condition) -> Built<SeccompCondition> {
    let (length, op, value) = match condition.test {
        Test::Is(value) => (Len::Dword, Op::Eq, value),
        Test::Not(value) => (Len::Dword, Op::Ne, value),
        Test::Bits { mask, value } => (Len::Dword, Op::MaskedEq(mask), value),
        Test::Given => (Len::Qword, Op::Ne, 0),
    };
    SeccompCondition::new(condition.argument, length, op, value)
}

fn rule(rule: &Rule) -> Built<SeccompRule> {
    SeccompRule::new(rule.iter().map(condition).collect::<Built<_>>()?)
}

fn table(conditional: &[(super::calls::Call, Vec<Rule>)]) -> Built<BTreeMap<i64, Vec<SeccompRule>>> {
    conditional.iter().map(|(call, rules)| Ok((call.number, rules.iter().map(rule).collect::<Built<_>>()?))).collect()
}

fn build() -> Built<Filters> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut all: BTreeMap<i64, Vec<SeccompRule>> = allowed().map(|call| (call.number, Vec::new())).collect();
    all.extend(table(&rules::conditional())?);
    let allow = SeccompFilter::new(all, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, architecture)?;
    let absent = ABSENT.iter().map(|call| call.number).chain(LAST_KNOWN + 1..LAST_KNOWN + 64);
    let absent = SeccompFilter::new(
        absent.map(|call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        architecture,
    )?;
    let pretended =
        SeccompFilter::new(table(&rules::pretended())?, SeccompAction::Allow, SeccompAction::Errno(0), architecture)?;
    Ok([allow.try_into()?, absent.try_into()?, pretended.try_into()?])
}

/// The programs one after the other as a guest takes them: see [`cove_guest::wire::Join::filters`].
pub fn bytes(filters: &Filters) -> Vec<u8> {
    let mut out = Vec::new();
    for filter in filters {
        out.extend(u32::try_from(filter.len()).unwrap_or(0).to_ne_bytes());
        for instruction in filter {
            out.extend(instruction.code.to_ne_bytes());
            out.extend([instruction.jt, instruction.jf]);
            out.extend(instruction.k.to_ne_bytes());
        }
    }
    out
}

/// Puts the filters over this process and all its descendants; also sets `no_new_privs`.
pub fn install(filters: &Filters) -> std::io::Result<()> {
    for filter in filters {
        seccompiler::apply_filter(filter).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            _ => std::io::Error::from_raw_os_error(libc::EINVAL),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel would on one call; covers the instructions seccompiler emits.
    fn verdict(program: &BpfProgram, call: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        let architecture: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        data.extend_from_slice(&(call as u32).to_le_bytes());
        data.extend_from_slice(&architecture.to_le_bytes());
        data.extend_from_slice(&0_u64.to_le_bytes());
        arguments.iter().for_each(|a| data.extend_from_slice(&a.to_le_bytes()));
        let (mut at, mut acc) = (0, 0_u32);
        loop {
            let op = &program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { op.jt } else { op.jf });
            match op.code {
                0x20 => acc = u32::from_le_bytes(data[op.k as usize..op.k as usize + 4].try_into().unwrap()),
                0x54 => acc &= op.k,
                0x05 => at += op.k as usize,
                0x15 => at += jump(acc == op.k),
                0x25 => at += jump(acc > op.k),
                0x35 => at += jump(acc >= op.k),
                0x06 => return op.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[derive(Debug, PartialEq)]
    enum Outcome {
        Allow,
        Errno(i32),
        Other(u32),
    }

    fn outcome(call: i64, arguments: [u64; 6]) -> Outcome {
        let filters = filters().unwrap();
        // The lowest value wins; of equals the newest filter's data. Errno is below allow.
        let newest_first = filters.iter().rev().map(|f| verdict(f, call, arguments));
        let mut worst = 0x7fff_0000_u32;
        for value in newest_first {
            if (value & 0xffff_0000) < (worst & 0xffff_0000) {
                worst = value;
            }
        }
        match worst & 0xffff_0000 {
            0x7fff_0000 => Outcome::Allow,
            0x0005_0000 => Outcome::Errno((worst & 0xffff) as i32),
            _ => Outcome::Other(worst),
        }
    }

    #[test]
    fn verdicts() {
        let args = |list: &[u64]| {
            let mut six = [0; 6];
            six[..list.len()].copy_from_slice(list);
            six
        };
        let refused = Outcome::Errno(libc::EPERM);
        let absent = Outcome::Errno(libc::ENOSYS);
        let (inet, unix, stream) = (libc::AF_INET as u64, libc::AF_UNIX as u64, libc::SOCK_STREAM as u64);
        let creating = libc::O_CREAT as u64;
        let table: &[(&str, i64, &[u64], &Outcome)] = &[
            ("read", libc::SYS_read, &[], &Outcome::Allow),
            ("execve", libc::SYS_execve, &[], &Outcome::Allow),
            ("clone as fork", libc::SYS_clone, &[libc::SIGCHLD as u64], &Outcome::Allow),
            ("clone a thread", libc::SYS_clone, &[0x3d_0f00], &Outcome::Allow),
            ("clone NEWUSER", libc::SYS_clone, &[libc::CLONE_NEWUSER as u64], &refused),
            ("clone NEWNS high bits", libc::SYS_clone, &[(1 << 40) | libc::CLONE_NEWNS as u64], &refused),
            ("clone3", libc::SYS_clone3, &[], &absent),
            ("openat2", libc::SYS_openat2, &[], &absent),
            ("unknown", LAST_KNOWN + 3, &[], &absent),
            ("unshare", libc::SYS_unshare, &[0], &refused),
            ("setns", libc::SYS_setns, &[], &refused),
            ("mount", libc::SYS_mount, &[], &refused),
            ("open_tree", libc::SYS_open_tree, &[], &refused),
            ("ptrace", libc::SYS_ptrace, &[], &refused),
            ("process_vm_writev", libc::SYS_process_vm_writev, &[], &refused),
            ("pidfd_getfd", libc::SYS_pidfd_getfd, &[], &refused),
            ("bpf", libc::SYS_bpf, &[], &refused),
            ("io_uring_setup", libc::SYS_io_uring_setup, &[], &refused),
            ("keyctl", libc::SYS_keyctl, &[], &refused),
            ("kexec_load", libc::SYS_kexec_load, &[], &refused),
            ("open_by_handle_at", libc::SYS_open_by_handle_at, &[], &refused),
            ("unix socket", libc::SYS_socket, &[unix, stream, 0], &Outcome::Allow),
            ("tcp", libc::SYS_socket, &[inet, stream | libc::SOCK_CLOEXEC as u64, 6], &Outcome::Allow),
            ("raw", libc::SYS_socket, &[inet, libc::SOCK_RAW as u64, 1], &refused),
            ("icmp", libc::SYS_socket, &[inet, libc::SOCK_DGRAM as u64, 1], &refused),
            ("packet", libc::SYS_socket, &[libc::AF_PACKET as u64, 3, 0], &refused),
            ("alg", libc::SYS_socket, &[libc::AF_ALG as u64, 5, 0], &refused),
            ("vsock", libc::SYS_socket, &[libc::AF_VSOCK as u64, 1, 0], &refused),
            ("netlink route", libc::SYS_socket, &[libc::AF_NETLINK as u64, 3, 0], &Outcome::Allow),
            ("netlink audit", libc::SYS_socket, &[libc::AF_NETLINK as u64, 3, 9], &refused),
            ("TCGETS", libc::SYS_ioctl, &[0, 0x5401], &Outcome::Allow),
            ("TIOCSTI", libc::SYS_ioctl, &[0, 0x5412], &refused),
            ("TIOCSTI high bits", libc::SYS_ioctl, &[0, (1 << 32) | 0x5412], &refused),
            ("TIOCLINUX", libc::SYS_ioctl, &[0, 0x541c], &refused),
            ("own limits", libc::SYS_prlimit64, &[0, 7, 1], &Outcome::Allow),
            ("init's limits", libc::SYS_prlimit64, &[1, 7, 1], &refused),
            ("init's core limit", libc::SYS_prlimit64, &[1, 4, 1], &refused),
            ("core limit", libc::SYS_prlimit64, &[0, 4, 1 << 40], &Outcome::Errno(0)),
            ("core limit, old call", libc::SYS_setrlimit, &[4, 1], &Outcome::Errno(0)),
            ("core limit, question", libc::SYS_prlimit64, &[0, 4, 0], &Outcome::Allow),
            ("personality query", libc::SYS_personality, &[0xffff_ffff], &Outcome::Allow),
            ("personality odd", libc::SYS_personality, &[0x0040_0000], &refused),
            ("fchmod 755", libc::SYS_fchmod, &[3, 0o755], &Outcome::Allow),
            ("fchmod 4755", libc::SYS_fchmod, &[3, 0o4755], &refused),
            ("openat read, stray mode", libc::SYS_openat, &[0, 0, 0, 0o6755], &Outcome::Allow),
            ("openat create", libc::SYS_openat, &[0, 0, creating, 0o644], &Outcome::Allow),
            ("openat create suid", libc::SYS_openat, &[0, 0, creating, 0o4755], &refused),
            ("mknodat fifo", libc::SYS_mknodat, &[0, 0, 0o010_644], &Outcome::Allow),
            ("mknodat device", libc::SYS_mknodat, &[0, 0, 0o020_644], &refused),
        ];
        for (name, call, arguments, expected) in table {
            assert_eq!(&outcome(*call, args(arguments)), *expected, "{name}");
        }
    }

    #[test]
    fn a_foreign_architecture_is_killed() {
        let filters = filters().unwrap();
        assert!(!filters.iter().any(|f| f.is_empty()));
        // x32 calls carry bit 30 and are on no list.
        if cfg!(target_arch = "x86_64") {
            assert_eq!(outcome(0x4000_0000, [0; 6]), Outcome::Errno(libc::EPERM));
        }
        assert!(!matches!(outcome(libc::SYS_read, [0; 6]), Outcome::Other(_)));
    }
}
