//! R: more than one was given. All of it bounded, so that even a sandbox that holds nothing only
//! costs a moment.

use cove_core::Control;

use super::{Probe, Proof, Scene, Variant, other};

/// Limits of the sandbox in which these are tried.
pub(crate) const TIGHT_PIDS: u64 = 48;
/// Bytes of memory; half of it is what a memory-backed directory holds.
pub(crate) const TIGHT_MEMORY: u64 = 64 << 20;
/// Bytes on disk.
pub(crate) const TIGHT_DISK: u64 = 16 << 20;
/// Open files of a process.
pub(crate) const TIGHT_FILES: u64 = 128;

/// `STOPPED`: the attempt ended its own sandbox, and nothing beyond it.
const KILLED: &[&str] = &["SIGKILL", "ENOMEM", "ENOSPC", "SIGBUS", "STOPPED"];

pub(super) fn variants() -> Vec<Variant> {
    let mut out = Vec::new();
    let tight = |id: &str, what: &str, control: Control, words: &[&str], held: &'static [&'static str]| {
        Variant::new(id, what, control, words).scene(Scene::Tight).held(held)
    };
    for (id, what, words) in [
        ("R1-forks", "fork without end", &["processes", "300"][..]),
        ("R1-clones", "start processes without end by another call", &["processes", "clone", "300"]),
        ("R1-zombies", "leave ended processes behind without end", &["processes", "zombie", "300"]),
        ("R1-threads", "start threads without end", &["threads", "300"]),
    ] {
        out.push(tight(id, what, Control::LimitPids, words, &["EAGAIN"]).probe(Probe::ForkBomb).weight(4));
    }
    for (id, what, words) in [
        ("R2-memory", "take memory", &["memory", "160"][..]),
        ("R2-shared-mapping", "take memory by a shared mapping", &["shared-mapping", "160"]),
        ("R2-memory-file", "take memory by a file in memory", &["memory-file", "160"]),
        ("R2-shared-memory", "take memory by shared segments", &["shared-memory", "160"]),
    ] {
        out.push(tight(id, what, Control::LimitMemory, words, KILLED).weight(4));
    }
    for (id, place) in
        [("tmp", "/tmp"), ("shm", "/dev/shm"), ("run", "/run"), ("home", "/home/ralph"), ("workdir", "/workspace")]
    {
        let variant = tight(
            &format!("R2-fill-{id}"),
            "take memory by files",
            Control::LimitMemory,
            &["fill", place, "160"],
            &["ENOSPC", "SIGKILL", "EACCES", "EROFS", "ENOENT", "EDQUOT", "STOPPED"],
        );
        out.push(variant.proofs([other(&["fill", "{work}", "160"])]));
    }
    for (id, what, words) in [
        ("R2-pipes", "take memory by pipes", &["pipes", "300"][..]),
        ("R2-sockets", "take memory by sockets", &["socket-buffers", "300"]),
        ("R6-files", "open files without end", &["open-files", "600"]),
        ("R6-events", "open descriptors without end", &["event-descriptors", "600"]),
        ("R6-terminals", "open terminals without end", &["terminals", "200"]),
    ] {
        let proof = match id {
            "R6-terminals" => other(&["terminals", "2"]),
            _ => Proof::Same,
        };
        out.push(tight(id, what, Control::LimitOpenFiles, words, &["EMFILE", "ENOSPC"]).proofs([proof]).weight(2));
    }
    out.push(
        tight(
            "R2-locked",
            "lock memory",
            Control::LimitMemory,
            &["locked-memory", "48"],
            &["ENOMEM", "EPERM", "EAGAIN", "SIGKILL"],
        )
        .proofs([Proof::Same, other(&["locked-memory", "1"])]),
    );
    for (id, place) in [("tmp", "/tmp"), ("shm", "/dev/shm")] {
        let words = ["files", place, "150000"];
        let variant = tight(
            &format!("R3-files-{id}"),
            "make files without end",
            Control::LimitMemory,
            &words,
            &["ENOSPC", "SIGKILL", "ENOMEM", "EDQUOT", "STOPPED"],
        );
        out.push(variant.proofs([other(&["files", "{work}", "2000"])]));
    }
    out.push(tight(
        "R3-sparse",
        "make a file of great size",
        Control::LimitDisk,
        &["sparse", "{work}", "4096"],
        &["EFBIG", "ENOSPC", "SIGXFSZ"],
    ));
    out.push(
        tight(
            "R3-queues",
            "take memory by message queues",
            Control::LimitMemory,
            &["message-queues", "300"],
            &["EMFILE", "ENOSPC", "ENOMEM", "EPERM", "EACCES"],
        )
        .proofs([other(&["message-queues", "2"])])
        .weight(2),
    );
    let disk = Variant::new("R3-disk", "fill the disk", Control::LimitDisk, &["fill-and-stay", "{work}", "40"]);
    out.push(
        disk.scene(Scene::Disk)
            .held(&["STOPPED", "ENOSPC", "EDQUOT"])
            .proofs([other(&["fill", "{work}", "40"])])
            .weight(4),
    );
    for (id, value) in [
        ("nofile", "1048576"),
        ("nproc", "1000000"),
        ("memlock", "1073741824"),
        ("msgqueue", "1073741824"),
        ("fsize", "1099511627776"),
        ("rtprio", "99"),
        ("nice", "40"),
    ] {
        let control = match id {
            "nofile" => Control::LimitOpenFiles,
            "nproc" => Control::LimitPids,
            "fsize" => Control::LimitDisk,
            _ => Control::LimitMemory,
        };
        let variant =
            tight(&format!("R5-raise-{id}"), "raise a resource limit", control, &["raise", id, value], &["EPERM"]);
        out.push(variant.proofs([Proof::Same, Proof::Witness("prlimit64")]));
    }
    out.push(
        tight(
            "R5-priority",
            "be served before others",
            Control::CapabilityDrop,
            &["priority", "10"],
            &["EACCES", "EPERM"],
        )
        .proofs([Proof::Same, Proof::Witness("setpriority")]),
    );
    out.push(
        tight("R5-real-time", "be scheduled in real time", Control::CapabilityDrop, &["real-time"], &["EPERM"])
            .proofs([Proof::Same, Proof::Witness("sched_setscheduler")]),
    );
    out
}
