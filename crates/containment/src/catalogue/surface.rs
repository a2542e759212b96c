//! System calls and sockets that a sandbox has no use for.

use cove_core::Control;

use super::{FILTER, Probe, Proof, UNKNOWN, Variant, other};

/// The 36 calls by which kernel surfaces are compared, each with the attempt `E13-call-…`.
pub const SENSITIVE: [&str; 36] = [
    "unshare",
    "setns",
    "io_uring_setup",
    "keyctl",
    "add_key",
    "request_key",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "kcmp",
    "pidfd_getfd",
    "open_by_handle_at",
    "name_to_handle_at",
    "mount",
    "fsopen",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "pivot_root",
    "umount2",
    "quotactl",
    "modify_ldt",
    "personality",
    "kexec_load",
    "init_module",
    "finit_module",
    "delete_module",
    "swapon",
    "reboot",
    "acct",
    "syslog",
    "iopl",
    "fanotify_init",
];

/// Families of sockets, by number.
pub const FAMILIES: [(u32, &str); 45] = [
    (1, "unix"),
    (2, "inet"),
    (3, "ax25"),
    (4, "ipx"),
    (5, "appletalk"),
    (6, "netrom"),
    (7, "bridge"),
    (8, "atmpvc"),
    (9, "x25"),
    (10, "inet6"),
    (11, "rose"),
    (12, "decnet"),
    (13, "netbeui"),
    (14, "security"),
    (15, "key"),
    (16, "netlink"),
    (17, "packet"),
    (18, "ash"),
    (19, "econet"),
    (20, "atmsvc"),
    (21, "rds"),
    (22, "sna"),
    (23, "irda"),
    (24, "pppox"),
    (25, "wanpipe"),
    (26, "llc"),
    (27, "ib"),
    (28, "mpls"),
    (29, "can"),
    (30, "tipc"),
    (31, "bluetooth"),
    (32, "iucv"),
    (33, "rxrpc"),
    (34, "isdn"),
    (35, "phonet"),
    (36, "ieee802154"),
    (37, "caif"),
    (38, "alg"),
    (39, "nfc"),
    (40, "vsock"),
    (41, "kcm"),
    (42, "qipcrtr"),
    (43, "smc"),
    (44, "xdp"),
    (45, "mctp"),
];

/// The families that a sandbox may use; of netlink only the part that lists interfaces.
pub const FAMILIES_ALLOWED: [&str; 4] = ["unix", "inet", "inet6", "netlink"];

/// Arguments that the kernel answers otherwise than with `EPERM` wherever it can, and that do
/// nothing even to root: what answers `EPERM` then is the filter.
const CALLS: &[(&str, &[&str])] = &[
    ("unshare", &["0x20000"]),
    ("setns", &["-1", "0"]),
    ("io_uring_setup", &["0", "buf"]),
    ("io_uring_enter", &["-1", "0", "0", "0", "0"]),
    ("io_uring_register", &["-1", "0", "0", "0"]),
    ("keyctl", &["-1", "0", "0", "0", "0"]),
    ("add_key", &["str:user", "str:cove", "buf", "1", "0"]),
    ("request_key", &["str:user", "str:cove-none", "null", "0"]),
    ("bpf", &["-1", "bad", "-1"]),
    ("perf_event_open", &["bad", "0", "-1", "-1", "-1"]),
    ("userfaultfd", &["-1"]),
    ("process_vm_readv", &["-1", "bad", "1", "bad", "1", "-1"]),
    ("process_vm_writev", &["-1", "bad", "1", "bad", "1", "-1"]),
    ("ptrace", &["-1", "-1", "0", "0"]),
    ("kcmp", &["-1", "-1", "0", "0", "0"]),
    ("pidfd_getfd", &["-1", "-1", "-1"]),
    ("open_by_handle_at", &["-1", "bad", "0"]),
    ("name_to_handle_at", &["-100", "bad", "buf", "bad", "-1"]),
    ("mount", &["bad", "bad", "bad", "0", "bad"]),
    ("fsopen", &["bad", "-1"]),
    ("fsconfig", &["-1", "0", "0", "0", "0"]),
    ("fsmount", &["-1", "-1", "-1"]),
    ("fspick", &["-1", "bad", "-1"]),
    ("open_tree", &["-1", "bad", "-1"]),
    ("move_mount", &["-1", "bad", "-1", "bad", "-1"]),
    ("mount_setattr", &["-1", "bad", "-1", "bad", "-1"]),
    ("pivot_root", &["bad", "bad"]),
    ("umount2", &["bad", "-1"]),
    ("chroot", &["bad"]),
    ("quotactl", &["-1", "bad", "0", "0"]),
    ("quotactl_fd", &["-1", "-1", "0", "0"]),
    ("modify_ldt", &["0", "buf", "0"]),
    ("personality", &["0x40000"]),
    ("kexec_load", &["0", "0", "null", "-1"]),
    ("kexec_file_load", &["-1", "-1", "0", "null", "-1"]),
    ("init_module", &["bad", "64", "bad"]),
    ("finit_module", &["-1", "bad", "-1"]),
    ("delete_module", &["bad", "0"]),
    ("swapon", &["bad", "-1"]),
    ("swapoff", &["bad"]),
    ("acct", &["bad"]),
    ("syslog", &["10", "null", "0"]),
    ("iopl", &["4"]),
    ("ioperm", &["-1", "0", "0"]),
    ("fanotify_init", &["0x200", "0"]),
    ("fanotify_mark", &["-1", "-1", "0", "-1", "null"]),
    ("settimeofday", &["bad", "bad"]),
    ("clock_settime", &["-1", "bad"]),
    ("adjtimex", &["bad"]),
    ("clock_adjtime", &["-1", "bad"]),
    ("sethostname", &["bad", "-1"]),
    ("setdomainname", &["bad", "-1"]),
    ("mbind", &["-1", "1", "-1", "bad", "-1", "-1"]),
    ("set_mempolicy", &["-1", "bad", "-1"]),
    ("migrate_pages", &["-1", "-1", "bad", "bad"]),
    ("move_pages", &["-1", "1", "bad", "bad", "bad", "-1"]),
    ("memfd_secret", &["-1"]),
    ("process_madvise", &["-1", "bad", "1", "-1", "-1"]),
    ("process_mrelease", &["-1", "-1"]),
    ("sysfs", &["-1", "0", "0"]),
    ("ustat", &["-1", "bad"]),
];

/// Calls that are only tried with a witness in their way outside: there they would do something
/// (end the machine, hang up terminals), or this kernel no longer has them.
const WITNESSED: &[(&str, &[&str])] = &[
    ("reboot", &["0", "0", "0", "null"]),
    ("vhangup", &[]),
    ("lookup_dcookie", &["0", "bad", "0"]),
    ("nfsservctl", &["-1", "bad", "bad"]),
    ("uselib", &["bad"]),
    ("_sysctl", &["bad"]),
    ("create_module", &["bad", "0"]),
];

/// Answered as absent, because programs then take a call whose arguments can be judged.
const ABSENT: &[(&str, &[&str])] = &[
    ("clone3", &["bad", "0"]),
    ("openat2", &["-1", "bad", "bad", "0"]),
    ("statmount", &["bad", "bad", "0", "-1"]),
    ("listmount", &["bad", "bad", "0", "-1"]),
    ("lsm_set_self_attr", &["-1", "bad", "0", "-1"]),
    ("open_tree_attr", &["-1", "bad", "-1", "bad", "0"]),
];

/// Namespaces: name, flag of unshare and clone, kind for setns.
const NAMESPACES: [(&str, &str); 8] = [
    ("user", "0x10000000"),
    ("mnt", "0x20000"),
    ("pid", "0x20000000"),
    ("net", "0x40000000"),
    ("ipc", "0x8000000"),
    ("uts", "0x4000000"),
    ("cgroup", "0x2000000"),
    ("time", "0x80"),
];

pub(super) fn variants() -> Vec<Variant> {
    [calls(), namespaces(), mounts(), sockets(), around()].concat()
}

fn call(id: String, what: String, name: &'static str, arguments: &[&str]) -> Variant {
    let words = [&["call", name], arguments].concat();
    Variant::new(id, what, Control::Seccomp, &words)
        .held(FILTER)
        .proofs([Proof::Beyond, Proof::Witness(name)])
        .probe(Probe::Kernel)
}

fn calls() -> Vec<Variant> {
    let own = |(name, arguments): &(&'static str, &[&str])| {
        let weight = if SENSITIVE.contains(name) { 4 } else { 2 };
        call(format!("E13-call-{name}"), format!("make the call {name}"), name, arguments).weight(weight)
    };
    let mut out: Vec<Variant> = CALLS.iter().map(own).collect();
    out.extend(WITNESSED.iter().map(|row| own(row).proofs([Proof::Witness(row.0)])));
    out.extend(ABSENT.iter().map(|row| own(row).held(UNKNOWN)));
    out
}

fn namespaces() -> Vec<Variant> {
    let mut out = Vec::new();
    for (name, flag) in NAMESPACES {
        let unshare = Variant::new(
            format!("E10-unshare-{name}"),
            format!("make a new {name} namespace"),
            Control::Seccomp,
            &["call", "unshare", flag],
        );
        out.push(unshare.weight(4).or(Proof::Beyond).or(Proof::Witness("unshare")));
        if name != "time" {
            let clone = Variant::new(
                format!("E10-clone-{name}"),
                format!("start a process in a new {name} namespace"),
                Control::Seccomp,
                &["clone", flag],
            );
            out.push(clone.weight(4).or(Proof::Beyond).or(Proof::Witness("clone")));
        }
        let path = format!("/proc/self/ns/{name}");
        let words = ["join", path.as_str(), "0"];
        let join = Variant::new(
            format!("E10-setns-{name}"),
            format!("join a saved {name} namespace"),
            Control::Seccomp,
            &words,
        );
        out.push(join.proofs([Proof::Same, Proof::Beyond, Proof::Witness("setns")]));
    }
    for (id, flag, size) in [("user", "0x10000000", "88"), ("plain", "0", "64"), ("into-cgroup", "0x200000000", "88")] {
        let words = ["clone3", flag, size];
        let what = format!("start a process by clone3 ({id})");
        let clone3 = Variant::new(format!("E10-clone3-{id}"), what, Control::Seccomp, &words).held(UNKNOWN);
        out.push(clone3.proofs([Proof::Same, Proof::Beyond, Proof::Witness("clone3")]));
    }
    for (id, words) in [
        ("thread", &["thread", "call", "unshare", "0x10000000"][..]),
        ("relaxed-filter", &["relaxed", "call", "unshare", "0x10000000"]),
        ("relaxed-clone", &["relaxed", "clone", "0x10000000"]),
        ("all-at-once", &["call", "unshare", "0x7e020000"]),
        ("high-bits", &["clone", "0x110000000"]),
    ] {
        let what = format!("make a user namespace, {}", id.replace('-', " "));
        let proof = if words.contains(&"clone") { Proof::Witness("clone") } else { Proof::Witness("unshare") };
        let variant = Variant::new(format!("E10-{id}"), what, Control::Seccomp, words);
        out.push(variant.weight(5).or(Proof::Beyond).or(proof));
    }
    out
}

fn mounts() -> Vec<Variant> {
    let rows: [(&str, &str, &'static str, &[&str]); 22] = [
        ("tmpfs", "mount a memory file system", "mount", &["str:none", "str:{work}", "str:tmpfs", "0", "null"]),
        ("bind", "mount a directory elsewhere", "mount", &["str:/usr", "str:{work}", "null", "0x1000", "null"]),
        ("remount-root", "make the root writable", "mount", &["str:none", "str:/", "null", "0x1020", "null"]),
        ("remount-sys", "make /proc writable", "mount", &["str:none", "str:/proc", "null", "0x1020", "null"]),
        ("proc", "mount a fresh /proc", "mount", &["str:proc", "str:{work}", "str:proc", "0", "null"]),
        ("sysfs", "mount a fresh /sys", "mount", &["str:sysfs", "str:{work}", "str:sysfs", "0", "null"]),
        ("cgroup", "mount control groups", "mount", &["str:none", "str:{work}", "str:cgroup2", "0", "null"]),
        ("devpts", "mount terminals", "mount", &["str:none", "str:{work}", "str:devpts", "0", "str:newinstance"]),
        ("mqueue", "mount message queues", "mount", &["str:none", "str:{work}", "str:mqueue", "0", "null"]),
        ("shared", "have mounts spread to the host", "mount", &["str:none", "str:/", "null", "0x104000", "null"]),
        ("move", "move a mount", "mount", &["str:/proc", "str:{work}", "null", "0x2000", "null"]),
        ("umount-proc", "take /proc away", "umount2", &["str:/proc", "2"]),
        ("umount-mask", "take a mask of /proc away", "umount2", &["str:/proc/kcore", "2"]),
        ("umount-sys", "take the seal of /proc/sys away", "umount2", &["str:/proc/sys", "2"]),
        ("umount-work", "take a mount away", "umount2", &["str:{work}", "2"]),
        ("fsopen-tmpfs", "prepare a file system", "fsopen", &["str:tmpfs", "0"]),
        ("fsopen-proc", "prepare a fresh /proc", "fsopen", &["str:proc", "0"]),
        ("open-tree", "copy a mount", "open_tree", &["-100", "str:/", "1"]),
        ("open-tree-path", "hold a mount", "open_tree", &["-100", "str:/", "0"]),
        ("setattr", "change a mount's attributes", "mount_setattr", &["-100", "str:/", "0", "buf", "32"]),
        ("pivot", "change the root", "pivot_root", &["str:.", "str:."]),
        ("chroot", "change the root of the process", "chroot", &["str:/tmp"]),
    ];
    rows.into_iter()
        .map(|(id, what, name, arguments)| {
            let words = [&["private", "call", name], arguments].concat();
            let variant = Variant::new(format!("E11-{id}"), what, Control::Seccomp, &words).weight(4);
            variant.or(Proof::Beyond).or(Proof::Witness(name)).probe(Probe::Kernel)
        })
        .collect()
}

fn sockets() -> Vec<Variant> {
    let mut out = Vec::new();
    let socket = |id: String, what: String, family: u32, kind: u32, protocol: u32| {
        let numbers = [family, kind, protocol].map(|number| number.to_string());
        let words = ["socket", &numbers[0], &numbers[1], &numbers[2]];
        Variant::new(id, what, Control::Seccomp, &words).proofs([Proof::Beyond, Proof::Witness("socket")])
    };
    for (family, name) in FAMILIES {
        if !FAMILIES_ALLOWED.contains(&name) {
            // A sequence of packets for those that know no stream; what the filter sees is the family.
            let kind = if name == "alg" {
                5
            } else if matches!(name, "packet" | "xdp" | "key") {
                3
            } else {
                1
            };
            let weight = if matches!(name, "alg" | "vsock" | "packet" | "xdp") { 5 } else { 2 };
            let what = format!("open a socket of the family {name}");
            out.push(socket(format!("E13-family-{name}"), what, family, kind, 0).weight(weight));
        }
    }
    for (name, family, kind, protocol) in [
        ("raw", 2, 3, 1),
        ("raw-tcp", 2, 3, 6),
        ("raw-any", 2, 3, 255),
        ("raw6", 10, 3, 58),
        ("ping", 2, 2, 1),
        ("ping6", 10, 2, 58),
        ("sctp", 2, 1, 132),
        ("udplite", 2, 2, 136),
        ("dccp", 2, 6, 33),
        ("mptcp", 2, 1, 262),
        ("packet-ring", 17, 3, 768),
    ] {
        let what = format!("open a socket of the kind {name}");
        out.push(socket(format!("E13-socket-{name}"), what, family, kind, protocol));
    }
    for (name, protocol) in [
        ("usersock", 2),
        ("sock-diag", 4),
        ("nflog", 5),
        ("xfrm", 6),
        ("selinux", 7),
        ("iscsi", 8),
        ("audit", 9),
        ("fib", 10),
        ("connector", 11),
        ("netfilter", 12),
        ("dnrt", 14),
        ("uevent", 15),
        ("generic", 16),
        ("scsi", 18),
        ("rdma", 20),
        ("crypto", 21),
    ] {
        let what = format!("talk to the kernel's {name} by netlink");
        out.push(socket(format!("E13-netlink-{name}"), what, 16, 3, protocol).weight(4));
    }
    let pair = Variant::new(
        "E13-socketpair-inet",
        "make a pair of sockets of another family",
        Control::Seccomp,
        &["socketpair", "30", "1", "0"],
    );
    out.push(pair.proofs([Proof::Beyond]).weight(2));
    out
}

/// Ways around a filter that looks at numbers.
fn around() -> Vec<Variant> {
    let mut out = Vec::new();
    for (name, number) in [("mount", "21"), ("unshare", "310"), ("ptrace", "26"), ("setns", "346"), ("bpf", "357")] {
        let what = format!("make the call {name} through the 32-bit gate");
        let variant = Variant::new(format!("E13-gate32-{name}"), what, Control::Seccomp, &["call32", number]);
        // A kernel without the gate answers with a fault; the control then says that it has none.
        out.push(variant.held(&["SIGSYS", "SIGSEGV"]).proofs([other(&["call32", "20"])]).weight(5));
    }
    for name in ["mount", "unshare", "ptrace", "bpf", "keyctl"] {
        let what = format!("make the call {name} by its x32 number");
        let variant = Variant::new(format!("E13-x32-{name}"), what, Control::Seccomp, &["callx32", name]);
        out.push(variant.proofs([Proof::Same, Proof::Beyond]).weight(5));
    }
    for (id, what, words, name) in [
        (
            "personality-32",
            "pretend to be 32-bit with odd flags",
            &["call", "personality", "0x400008"][..],
            "personality",
        ),
        ("memory-map", "change what /proc says of this process", &["control", "35", "1", "0"], "prctl"),
        ("tracer", "let another process trace this one", &["control", "1499557217", "1", "0"], "prctl"),
        ("limits-of-init", "change the limits of process 1", &["limits-of", "1"], "prlimit64"),
        ("trace-init", "trace process 1", &["trace", "1"], "ptrace"),
        ("trace-keeper", "trace the process that keeps this one", &["trace", "grandparent"], "ptrace"),
        ("trace-child", "trace an own child", &["trace-child"], "ptrace"),
        ("memory-of-init", "read the memory of process 1 by a call", &["memory-call", "1"], "process_vm_readv"),
    ] {
        let variant = Variant::new(format!("E13-{id}"), what, Control::Seccomp, words).weight(4);
        let proofs = if id == "limits-of-init" {
            // On the host it would change something.
            vec![Proof::Witness(name)]
        } else if matches!(id, "trace-init" | "trace-keeper" | "memory-of-init") {
            vec![Proof::Witness(name)]
        } else {
            vec![Proof::Same, Proof::Beyond, Proof::Witness(name)]
        };
        out.push(variant.proofs(proofs));
    }
    out
}
