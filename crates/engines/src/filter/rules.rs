//! Calls that are allowed for some arguments only.

use super::calls::{Call, FCHMODAT2, call};

/// What must hold of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// What holds of it.
    pub test: Test,
}

/// A comparison; of the lower 32 bits, as the kernel looks at no more of these arguments, except
/// [`Given`](Self::Given).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Equal.
    Is(u64),
    /// Different.
    Not(u64),
    /// Equal in these bits.
    Bits {
        /// The bits.
        mask: u64,
        /// Their value.
        value: u64,
    },
    /// A pointer other than null.
    Given,
}

/// All of its conditions hold.
pub type Rule = Vec<Condition>;

/// `CLONE_NEW*`, without `CLONE_NEWTIME` whose bit means something else to `clone`.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Set-user-id and set-group-id. Refused so that a writable mount can never carry a program that
/// gives its starter on the host somebody's rights.
const SET_ID: u64 = 0o6000;

/// Terminal requests that put characters into someone's input: `TIOCSTI`, `TIOCLINUX`.
const INPUT_FORGERY: [u64; 2] = [0x5412, 0x541c];

fn is(argument: u8, value: u64) -> Condition {
    Condition { argument, test: Test::Is(value) }
}

fn not(argument: u8, value: u64) -> Condition {
    Condition { argument, test: Test::Not(value) }
}

fn bits(argument: u8, mask: u64, value: u64) -> Condition {
    Condition { argument, test: Test::Bits { mask, value } }
}

fn no_bits(argument: u8, mask: u64) -> Condition {
    bits(argument, mask, 0)
}

/// Calls with the rules of which one has to hold.
pub fn conditional() -> Vec<(Call, Vec<Rule>)> {
    let mode_at = |argument| vec![vec![no_bits(argument, SET_ID)]];
    // The mode counts only when something is created.
    let creating = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;
    let open = |flags: u8| vec![vec![no_bits(flags, creating)], vec![no_bits(flags + 1, SET_ID)]];
    // Regular files, FIFOs and sockets; device nodes and set-id bits are not.
    let node = |mode: u8| -> Vec<Rule> {
        let mask = u64::from(libc::S_IFMT) | SET_ID;
        let kinds = [0, libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK];
        kinds.into_iter().map(|kind| vec![bits(mode, mask, u64::from(kind))]).collect()
    };
    vec![
        (call!(SYS_clone), vec![vec![no_bits(0, NAMESPACES)]]),
        // PER_LINUX, PER_LINUX32, and the question what it is.
        (call!(SYS_personality), [0, 8, 0xffff_ffff].map(|persona| vec![is(0, persona)]).to_vec()),
        (call!(SYS_ioctl), vec![INPUT_FORGERY.map(|request| not(1, request)).to_vec()]),
        (call!(SYS_prctl), vec![vec![not(0, libc::PR_SET_MM as u64), not(0, libc::PR_SET_PTRACER as u64)]]),
        (call!(SYS_socket), sockets()),
        (call!(SYS_socketpair), vec![vec![is(0, libc::AF_UNIX as u64)]]),
        // Limits of oneself only: the guest has the same user.
        (call!(SYS_prlimit64), vec![vec![is(0, 0)]]),
        (call!(SYS_fchmod), mode_at(1)),
        (call!(SYS_fchmodat), mode_at(2)),
        (FCHMODAT2, mode_at(2)),
        (call!(SYS_openat), open(2)),
        (call!(SYS_mknodat), node(2)),
        #[cfg(target_arch = "x86_64")]
        (call!(SYS_chmod), mode_at(1)),
        #[cfg(target_arch = "x86_64")]
        (call!(SYS_creat), mode_at(1)),
        #[cfg(target_arch = "x86_64")]
        (call!(SYS_open), open(1)),
        #[cfg(target_arch = "x86_64")]
        (call!(SYS_mknod), node(1)),
    ]
}

/// Local sockets, TCP and UDP, and the netlink family that lists interfaces. No raw, packet,
/// vsock, crypto or Bluetooth sockets, and no other netlink.
fn sockets() -> Vec<Rule> {
    const KIND: u64 = 0xf;
    let mut rules = vec![vec![is(0, libc::AF_UNIX as u64)]];
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocols) in
            [(libc::SOCK_STREAM, [0, libc::IPPROTO_TCP]), (libc::SOCK_DGRAM, [0, libc::IPPROTO_UDP])]
        {
            for protocol in protocols {
                rules.push(vec![is(0, family as u64), bits(1, KIND, kind as u64), is(2, protocol as u64)]);
            }
        }
    }
    rules.push(vec![is(0, libc::AF_NETLINK as u64), is(2, libc::NETLINK_ROUTE as u64)]);
    rules
}

/// Calls that are answered as done without being done: changes of the limit on core dumps.
pub fn pretended() -> Vec<(Call, Vec<Rule>)> {
    let core = libc::RLIMIT_CORE as u64;
    vec![
        (call!(SYS_setrlimit), vec![vec![is(0, core)]]),
        // Without a new limit it is a question.
        (call!(SYS_prlimit64), vec![vec![is(0, 0), is(1, core), Condition { argument: 2, test: Test::Given }]]),
    ]
}
