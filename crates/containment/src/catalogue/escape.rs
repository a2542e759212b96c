//! Getting out by way of processes, kernel files, control groups, devices and programs.

use cove_core::Control;

use super::{HIDDEN, MASKED, Probe, Proof, SEALED, Scene, Variant, other};

/// What a way through another process answers; some lead to pipes and other things that are no way.
const NO_WAY: &[&str] =
    &["EACCES", "EPERM", "ENOENT", "NOTHING", "ESRCH", "EAGAIN", "ENOTDIR", "EISDIR", "ENXIO", "EINVAL"];

/// The harmless file that is written where an attempt's own target would harm.
fn own_file() -> Proof {
    other(&["write", "{own}"])
}

pub(super) fn variants() -> Vec<Variant> {
    [
        processes(),
        directories(),
        programs(),
        control_groups(),
        kernel_files(),
        devices(),
        rights(),
        terminals(),
        survivors(),
    ]
    .concat()
}

/// E1: what `/proc` offers of other processes.
fn processes() -> Vec<Variant> {
    let mut out = Vec::new();
    let isolated = |id: &str, what: String, words: &[&str]| {
        Variant::new(format!("E1-{id}"), what, Control::IsolationContainer, words).held(MASKED)
    };
    for kind in ["root", "cwd", "fd", "map_files"] {
        for (who, which) in [("init", "1"), ("keeper", "grandparent"), ("any", "all")] {
            let what = format!("read a file of the host through {kind} of {who}");
            let variant =
                isolated(&format!("{kind}-{who}"), what, &["flag-by-process", kind, which, "{flag}", "{token}"]);
            let beside = other(&["flag-by-process", "cwd", "{hostpid}", "{flag}", "{token}"]);
            out.push(variant.held(NO_WAY).proofs([beside]).weight(5).probe(Probe::HostFiles));
        }
    }
    for file in ["environ", "maps", "auxv", "stack", "syscall", "smaps", "pagemap", "personality"] {
        for (who, which) in [("init", "1"), ("keeper", "grandparent")] {
            let variant = isolated(&format!("{file}-of-{who}"), format!("read {file} of {who}"), &["see", which, file]);
            let variant = variant.proofs([other(&["see", "{hostpid}", "environ"])]);
            out.push(if file == "environ" { variant.probe(Probe::Secrets).weight(4) } else { variant });
        }
    }
    for (who, which) in [("init", "1"), ("keeper", "grandparent")] {
        for how in ["read", "write"] {
            let what = format!("{how} the memory of {who}");
            let variant = isolated(&format!("memory-{how}-{who}"), what, &["memory-of", which, how]);
            out.push(variant.proofs([other(&["memory-of", "parent", how])]).weight(5));
        }
    }
    for (id, file) in [("environments", "environ"), ("command-lines", "cmdline")] {
        let what = format!("find a secret of the host in {id}");
        let variant = isolated(id, what, &["find", file, "{secret}"]).weight(5).probe(Probe::Secrets);
        out.push(variant);
    }
    out.push(
        isolated("signal-host-process", "signal a process of the host".into(), &["signal", "{hostpid}"]).weight(4),
    );
    out.push(isolated("visible", "see processes of the host".into(), &["visible", "60"]));
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let words = ["same-namespace", kind, &format!("{{ns:{kind}}}")];
        out.push(isolated(&format!("same-{kind}"), format!("share the host's {kind} namespace"), &words).weight(5));
    }
    for (id, path) in
        [("mnt", "/proc/1/ns/mnt"), ("pid", "/proc/1/ns/pid"), ("net", "/proc/1/ns/net"), ("user", "/proc/1/ns/user")]
    {
        let variant = isolated(
            &format!("join-{id}-of-init"),
            format!("join the {id} namespace of process 1"),
            &["join", path, "0"],
        );
        let reached = path.replace("/1/", "/{hostpid}/");
        out.push(variant.proofs([other(&["reach", &reached])]).weight(4));
    }
    out.push(isolated("host-name", "learn the host's name".into(), &["host-name", "{hostname}"]).weight(1));
    out.push(
        isolated("descriptors", "find a descriptor that was left open".into(), &["descriptors"])
            // The control's own descriptors are its list's reader; a file held open is what is looked for.
            .proofs([other(&["see", "{hostpid}", "environ"])])
            .weight(5),
    );
    out
}

/// E3: a working directory that is somebody's open directory.
fn directories() -> Vec<Variant> {
    let row = |number: u32| {
        let path = format!("/proc/self/fd/{number}");
        let what = format!("start in what descriptor {number} is of");
        let words = ["flag-by-climbing", ".", "{flag}", "{token}"];
        Variant::new(format!("E3-fd-{number}"), what, Control::IsolationContainer, &words)
            .scene(Scene::Directory(path))
            .held(&["NOT-STARTED", "ENOENT", "NOTHING", "EACCES", "EPERM"])
            .weight(5)
    };
    let mut out: Vec<Variant> = (3..=12).map(row).collect();
    for (id, path) in [("init-cwd", "/proc/1/cwd"), ("init-root", "/proc/1/root"), ("climb", "/../../../..{stage}")] {
        let words = ["flag-by-climbing", ".", "{flag}", "{token}"];
        let variant = Variant::new(format!("E3-{id}"), format!("start in {path}"), Control::IsolationContainer, &words);
        let variant = variant.scene(Scene::Directory(path.to_owned())).weight(5);
        out.push(variant.held(&["NOT-STARTED", "ENOENT", "NOTHING", "EACCES", "EPERM"]));
    }
    out
}

/// E7: changing the programs that the host gave.
fn programs() -> Vec<Variant> {
    let control = Control::ReadOnlyRoot;
    let mut out = Vec::new();
    for (who, which) in [("itself", "self"), ("init", "1"), ("keeper", "grandparent")] {
        let variant = Variant::new(
            format!("E7-program-of-{who}"),
            format!("write the program of {who}"),
            control,
            &["open-exe", which],
        );
        out.push(variant.held(SEALED).proofs([own_file()]).weight(5));
    }
    for (id, path) in
        [("guest", "/run/cove/guest"), ("attack", "{ro}/program"), ("shell", "/bin/sh"), ("env", "/usr/bin/env")]
    {
        let variant = Variant::new(format!("E7-{id}"), format!("change {path}"), control, &["take-over", path]);
        out.push(variant.held(SEALED).proofs([other(&["take-over", "{own}"])]).weight(4));
    }
    let shebang = Variant::new("E7-shebang", "write the program that starts a script", control, &["shebang", "{work}"]);
    out.push(shebang.held(SEALED).proofs([own_file()]).weight(4));
    for (id, path) in [
        ("root", "/cove-made"),
        ("usr", "/usr/cove-made"),
        ("etc", "/etc/cove-made"),
        ("lib", "/usr/lib/cove-made"),
        ("run-cove", "/run/cove/cove-made"),
        ("dev", "/dev/cove-made"),
        ("sys", "/sys/cove-made"),
        ("proc", "/proc/cove-made"),
    ] {
        let variant = Variant::new(format!("E7-make-in-{id}"), format!("make {path}"), control, &["make", path]);
        out.push(variant.held(SEALED).proofs([other(&["make", "{work}/cove-made"])]));
    }
    for path in ["/etc/passwd", "/etc/hosts", "/etc/resolv.conf", "/etc/ld.so.preload"] {
        let id = path.rsplit('/').next().unwrap_or_default();
        let variant = Variant::new(format!("E7-write-{id}"), format!("write {path}"), control, &["write", path]);
        out.push(variant.held(SEALED).proofs([own_file()]));
    }
    out
}

/// E8: control groups as levers.
fn control_groups() -> Vec<Variant> {
    let mut out = Vec::new();
    for name in [
        "release_agent",
        "notify_on_release",
        "cgroup.procs",
        "tasks",
        "memory.limit_in_bytes",
        "memory.max",
        "pids.max",
        "cpu.max",
        "cpu.cfs_quota_us",
        "cgroup.subtree_control",
        "cgroup.kill",
        "cgroup.freeze",
        "freezer.state",
        "devices.allow",
        "cgroup.clone_children",
    ] {
        let variant = Variant::new(
            format!("E8-{name}"),
            format!("write {name} of a control group"),
            Control::ReadOnlyRoot,
            &["write-all", "/sys/fs/cgroup", name],
        );
        out.push(variant.held(&["EROFS", "EACCES", "EPERM", "ABSENT"]).proofs([Proof::Same, own_file()]).weight(5));
    }
    for (id, path) in
        [("memory", "/sys/fs/cgroup/memory/cove"), ("pids", "/sys/fs/cgroup/pids/cove"), ("top", "/sys/fs/cgroup/cove")]
    {
        let variant = Variant::new(
            format!("E8-group-{id}"),
            "make a control group",
            Control::ReadOnlyRoot,
            &["make-directory", path],
        );
        out.push(variant.held(SEALED).proofs([other(&["make-directory", "{work}/made"])]).weight(4));
    }
    out
}

/// E9: files of the kernel that do or tell something.
fn kernel_files() -> Vec<Variant> {
    let mut out = Vec::new();
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/domainname",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/kernel/panic",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/kernel/unprivileged_bpf_disabled",
        "/proc/sys/kernel/dmesg_restrict",
        "/proc/sys/kernel/perf_event_paranoid",
        "/proc/sys/kernel/keys/maxkeys",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/fs/suid_dumpable",
        "/proc/sys/fs/protected_symlinks",
        "/proc/sys/fs/file-max",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/user/max_user_namespaces",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/proc/mtrr",
        "/proc/self/oom_score_adj",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/sys/module/kernel/parameters/panic",
        "/sys/kernel/profiling",
        "/sys/class/net/lo/mtu",
    ] {
        let id = path.trim_start_matches('/').replace(['/', '_'], "-");
        // Anyone may make oneself a likelier victim; the write of a better value is what is refused.
        let words = if path.ends_with("oom_score_adj") { ["put", path, "-1000"].to_vec() } else { vec!["write", path] };
        let variant = Variant::new(format!("E9-{id}"), format!("write {path}"), Control::MaskedPaths, &words);
        out.push(variant.held(SEALED).proofs([Proof::SameIfThere, own_file()]).weight(4));
    }
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/key-users",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/latency_stats",
        "/proc/kmsg",
        "/proc/kallsyms",
        "/proc/kpageflags",
        "/proc/kpagecount",
        "/proc/vmallocinfo",
        "/proc/slabinfo",
        "/sys/kernel/vmcoreinfo",
        "/sys/kernel/notes",
        "/sys/class/dmi/id/product_uuid",
        "/sys/class/net/lo/address",
    ] {
        let id = path.trim_start_matches('/').replace(['/', '_'], "-");
        let variant =
            Variant::new(format!("E9-read-{id}"), format!("read {path}"), Control::MaskedPaths, &["read", path]);
        out.push(variant.held(MASKED).proofs([Proof::SameIfThere, other(&["read", "{own}"])]));
    }
    for path in [
        "/sys/kernel/debug",
        "/sys/firmware",
        "/sys/kernel/security",
        "/sys/fs/bpf",
        "/proc/scsi",
        "/proc/acpi",
        "/sys/bus/pci/devices",
        "/sys/block",
    ] {
        let id = path.trim_start_matches('/').replace(['/', '_'], "-");
        let variant =
            Variant::new(format!("E9-list-{id}"), format!("look into {path}"), Control::MaskedPaths, &["list", path]);
        out.push(variant.held(MASKED).proofs([Proof::SameIfThere, other(&["list", "{stage}"])]).weight(2));
    }
    out
}

/// E16: devices, made and found.
fn devices() -> Vec<Variant> {
    let mut out = Vec::new();
    for (name, kind, major, minor) in [
        ("memory", "character", "1", "1"),
        ("port", "character", "1", "4"),
        ("kernel-log", "character", "1", "11"),
        ("disk", "block", "8", "0"),
        ("virtual-disk", "block", "254", "0"),
        ("loop", "block", "7", "0"),
        ("fuse", "character", "10", "229"),
        ("kvm", "character", "10", "232"),
        ("tunnel", "character", "10", "200"),
        ("null", "character", "1", "3"),
        ("whiteout", "character", "0", "0"),
    ] {
        let words = ["node", "{work}", kind, major, minor];
        let variant =
            Variant::new(format!("E16-make-{name}"), format!("make the device {name}"), Control::Seccomp, &words);
        out.push(variant.proofs([Proof::Same, Proof::Witness("mknod"), Proof::Witness("mknodat")]).weight(5));
    }
    for name in [
        "mem",
        "kmem",
        "port",
        "kmsg",
        "sda",
        "vda",
        "nvme0n1",
        "xvda",
        "loop0",
        "loop-control",
        "fuse",
        "kvm",
        "net/tun",
        "vhost-net",
        "vhost-vsock",
        "userfaultfd",
        "uinput",
        "hpet",
        "rtc0",
        "snapshot",
        "mapper/control",
        "dri/card0",
        "vfio/vfio",
        "cuse",
        "btrfs-control",
        "nvram",
        "cpu/0/msr",
        "sg0",
        "ttyS0",
        "tty1",
        "console",
        "input/event0",
        "vsock",
        "autofs",
        "cpu_dma_latency",
        "watchdog",
    ] {
        let path = format!("/dev/{name}");
        let id = name.replace('/', "-");
        let variant =
            Variant::new(format!("E16-find-{id}"), format!("find {path}"), Control::MaskedPaths, &["device", &path]);
        out.push(variant.held(HIDDEN).proofs([Proof::SameIfThere, other(&["device", "/dev/null"])]).weight(5));
    }
    out
}

/// E17 and E13: rights that a process could gain.
fn rights() -> Vec<Variant> {
    let mut out = Vec::new();
    for how in ["chmod", "fchmod", "fchmodat", "fchmodat2", "open", "creat", "mknod"] {
        for (bits, mode) in [("setuid", "4755"), ("setgid", "2755")] {
            let what = format!("make a {bits} program by {how}");
            let words = ["set-mode", "{work}", how, mode];
            let variant = Variant::new(format!("E17-{bits}-{how}"), what, Control::Seccomp, &words);
            let proofs = if how == "fchmodat2" {
                vec![Proof::Same, Proof::Beyond, Proof::Witness("fchmodat2")]
            } else {
                vec![Proof::Same]
            };
            out.push(variant.proofs(proofs).weight(4));
        }
    }
    let capability = Variant::new(
        "E17-capability",
        "make a program with a capability",
        Control::CapabilityDrop,
        &["set-capability", "{work}"],
    );
    out.push(capability.or(Proof::Witness("setxattr")).weight(4));
    for kind in ["setuid", "setgid", "capable"] {
        let words = ["as-nobody", "gain", &format!("{{ro}}/{kind}")];
        let variant = Variant::new(
            format!("E17-run-{kind}"),
            format!("run a {kind} program that lies in a mount"),
            Control::NoNewPrivileges,
            &words,
        );
        out.push(
            variant
                .held(&["NOTHING", "EPERM", "EACCES"])
                .proofs([Proof::SameIfThere])
                .weight(5)
                .probe(Probe::Capabilities),
        );
    }
    for (who, call) in
        [("root", "setresuid"), ("root-group", "setresgid"), ("somebody", "setresuid"), ("more-groups", "setgroups")]
    {
        let variant =
            Variant::new(format!("E17-become-{who}"), format!("become {who}"), Control::NonRoot, &["become", who]);
        let variant = variant.held(&["EPERM", "EINVAL"]).proofs([Proof::Same, Proof::Witness(call)]);
        out.push(variant.weight(4).probe(Probe::Capabilities));
    }
    let all = Variant::new("E17-capset", "take every capability", Control::CapabilityDrop, &["capabilities"]);
    out.push(all.or(Proof::Witness("capset")).weight(5).probe(Probe::Capabilities));
    for (id, what, option, two, three) in [
        ("secure-bits", "unlock the secure bits", "28", "0", "0"),
        ("ambient", "raise an ambient capability", "47", "2", "1"),
        ("bounding", "change the bounding set", "24", "1", "0"),
    ] {
        let variant =
            Variant::new(format!("E17-{id}"), what, Control::CapabilityDrop, &["control", option, two, three]);
        out.push(variant.or(Proof::Witness("prctl")).probe(Probe::Capabilities));
    }
    let new = Variant::new(
        "E17-new-privileges",
        "gain rights by running programs",
        Control::NoNewPrivileges,
        &["new-privileges"],
    );
    out.push(new.held(&["NOTHING"]).weight(4).probe(Probe::Capabilities));
    out
}

/// E21: typing for the person at the terminal.
fn terminals() -> Vec<Variant> {
    let mut out = Vec::new();
    for (id, request) in [("type", "21522"), ("type-console", "21532"), ("type-high-bits", "4294988818")] {
        for (where_to, how, scene) in [("own", "new", Scene::Plain), ("given", "stdin", Scene::Terminal)] {
            let what = format!("put characters into the input of the terminal that is {where_to} ({id})");
            let variant = Variant::new(format!("E21-{id}-{where_to}"), what, Control::Seccomp, &["type", how, request]);
            let proof = other(&["type", "new", request]);
            out.push(variant.scene(scene).proofs([proof, Proof::Beyond, Proof::Witness("ioctl")]).weight(4));
        }
    }
    out
}

/// E23: processes that want to stay, and the end of process 1.
fn survivors() -> Vec<Variant> {
    let mut out = Vec::new();
    for (signal, number) in
        [("KILL", "9"), ("TERM", "15"), ("STOP", "19"), ("SEGV", "11"), ("HUP", "1"), ("TSTP", "20")]
    {
        let what = format!("end or halt process 1 with SIG{signal}");
        let variant =
            Variant::new(format!("E23-init-{signal}"), what, Control::IsolationContainer, &["end", "1", number]);
        out.push(variant.held(&["NOTHING", "EPERM"]).proofs([other(&["end-child", number])]));
    }
    for kind in
        ["same-session", "new-session", "forked-twice", "deep", "deaf", "stopped", "storm", "threads", "vfork-like"]
    {
        let what = format!("outlive the sandbox ({})", kind.replace('-', " "));
        let variant = Variant::new(format!("E23-outlive-{kind}"), what, Control::IsolationContainer, &[]);
        out.push(variant.scene(Scene::Survival(kind)).held(&["GONE"]).proofs([Proof::Seen]).weight(4));
    }
    out
}
