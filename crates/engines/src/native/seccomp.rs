//! Which system calls processes in a sandbox may make.
//!
//! Three filters; of several answers that are not "allow" the newest filter's counts. The first is
//! an allow-list: what is not on it fails with `EPERM`. The second answers `ENOSYS` for calls whose
//! absence programs know how to handle (`clone3`, `openat2` and everything the list has never heard
//! of), because an older call that can be checked does the same. The third says "done" without doing
//! it to changes of the limit on core dumps, which programs make to have none: see
//! [`CORE_LIMIT`](super::lockdown::CORE_LIMIT).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::syscalls::{ABSENT, ALLOWED, LAST_KNOWN};

/// `CLONE_NEW*`, without `CLONE_NEWTIME` whose bit means something else to `clone`.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Not in every version of `libc`; the same number on both architectures.
const FCHMODAT2: i64 = 452;

/// Set-user-id and set-group-id. Refused so that a writable mount can never carry a program that
/// gives its starter on the host somebody's rights.
const SET_ID: u64 = 0o6000;

/// Terminal requests that put characters into someone's input: `TIOCSTI`, `TIOCLINUX`.
const INPUT_FORGERY: [u64; 2] = [0x5412, 0x541c];

type Built<T> = Result<T, seccompiler::BackendError>;

fn when(index: u8, op: Op, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(index, Len::Dword, op, value)
}

/// One rule: all of its conditions hold.
fn all(conditions: Vec<SeccompCondition>) -> Built<SeccompRule> {
    SeccompRule::new(conditions)
}

fn no_bits(index: u8, bits: u64) -> Built<SeccompCondition> {
    when(index, Op::MaskedEq(bits), 0)
}

/// Rules of the calls that are allowed for some arguments only; any rule that holds allows.
fn conditional() -> Built<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules = BTreeMap::new();
    rules.insert(libc::SYS_clone, vec![all(vec![no_bits(0, NAMESPACES)?])?]);
    let mut personality = Vec::new();
    // PER_LINUX, PER_LINUX32, and the question what it is.
    for persona in [0, 8, 0xffff_ffff] {
        personality.push(all(vec![when(0, Op::Eq, persona)?])?);
    }
    rules.insert(libc::SYS_personality, personality);
    let mut ioctl = Vec::new();
    for request in INPUT_FORGERY {
        ioctl.push(when(1, Op::Ne, request)?);
    }
    rules.insert(libc::SYS_ioctl, vec![all(ioctl)?]);
    rules.insert(
        libc::SYS_prctl,
        vec![all(vec![when(0, Op::Ne, libc::PR_SET_MM as u64)?, when(0, Op::Ne, libc::PR_SET_PTRACER as u64)?])?],
    );
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_socketpair, vec![all(vec![when(0, Op::Eq, libc::AF_UNIX as u64)?])?]);

    // Limits of oneself only: the guest has the same user.
    rules.insert(libc::SYS_prlimit64, vec![all(vec![when(0, Op::Eq, 0)?])?]);

    let mode_at = |index| -> Built<Vec<SeccompRule>> { Ok(vec![all(vec![no_bits(index, SET_ID)?])?]) };
    // The mode counts only when something is created.
    let creating = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;
    let open = |flags: u8| -> Built<Vec<SeccompRule>> {
        Ok(vec![all(vec![no_bits(flags, creating)?])?, all(vec![no_bits(flags + 1, SET_ID)?])?])
    };
    // Regular files, FIFOs and sockets; device nodes and set-id bits are not.
    let node = |mode: u8| -> Built<Vec<SeccompRule>> {
        let mask = u64::from(libc::S_IFMT) | SET_ID;
        let kinds = [0, libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK];
        kinds.into_iter().map(|kind| all(vec![when(mode, Op::MaskedEq(mask), u64::from(kind))?])).collect()
    };
    rules.insert(libc::SYS_fchmod, mode_at(1)?);
    rules.insert(libc::SYS_fchmodat, mode_at(2)?);
    rules.insert(FCHMODAT2, mode_at(2)?);
    rules.insert(libc::SYS_openat, open(2)?);
    rules.insert(libc::SYS_mknodat, node(2)?);
    #[cfg(target_arch = "x86_64")]
    {
        rules.insert(libc::SYS_chmod, mode_at(1)?);
        rules.insert(libc::SYS_creat, mode_at(1)?);
        rules.insert(libc::SYS_open, open(1)?);
        rules.insert(libc::SYS_mknod, node(1)?);
    }
    Ok(rules)
}

/// Local sockets, TCP and UDP, and the netlink family that lists interfaces. No raw, packet,
/// vsock, crypto or Bluetooth sockets, and no other netlink.
fn sockets() -> Built<Vec<SeccompRule>> {
    const KIND: u64 = 0xf;
    let mut rules = vec![all(vec![when(0, Op::Eq, libc::AF_UNIX as u64)?])?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocols) in
            [(libc::SOCK_STREAM, [0, libc::IPPROTO_TCP]), (libc::SOCK_DGRAM, [0, libc::IPPROTO_UDP])]
        {
            for protocol in protocols {
                rules.push(all(vec![
                    when(0, Op::Eq, family as u64)?,
                    when(1, Op::MaskedEq(KIND), kind as u64)?,
                    when(2, Op::Eq, protocol as u64)?,
                ])?);
            }
        }
    }
    rules.push(all(vec![when(0, Op::Eq, libc::AF_NETLINK as u64)?, when(2, Op::Eq, libc::NETLINK_ROUTE as u64)?])?);
    Ok(rules)
}

/// The filters, in the order of installation.
pub type Filters = [BpfProgram; 3];

/// Compiles them.
pub fn filters() -> cove_core::Result<Filters> {
    build().map_err(|error| cove_core::Error::internal("The seccomp filter could not be compiled").because(error))
}

fn build() -> Built<Filters> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    allowed.extend(conditional()?);
    let allow =
        SeccompFilter::new(allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, architecture)?;
    let absent = ABSENT.iter().copied().chain(LAST_KNOWN + 1..LAST_KNOWN + 64);
    let absent = SeccompFilter::new(
        absent.map(|call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        architecture,
    )?;
    let core = libc::RLIMIT_CORE as u64;
    let pretended = BTreeMap::from([
        (libc::SYS_setrlimit, vec![all(vec![when(0, Op::Eq, core)?])?]),
        (
            libc::SYS_prlimit64,
            vec![all(vec![
                when(0, Op::Eq, 0)?,
                when(1, Op::Eq, core)?,
                // Without a new limit it is a question.
                SeccompCondition::new(2, Len::Qword, Op::Ne, 0)?,
            ])?],
        ),
    ]);
    let pretended = SeccompFilter::new(pretended, SeccompAction::Allow, SeccompAction::Errno(0), architecture)?;
    Ok([allow.try_into()?, absent.try_into()?, pretended.try_into()?])
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
