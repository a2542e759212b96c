//! P: paths, links, mounts, and specifications that ask for too much.

use cove_core::{Control, Isolation};

use super::{Change, HIDDEN, Probe, Proof, SEALED, Scene, Variant, other};

/// Answers to a specification that is not fulfilled.
const DECLINED: &[&str] = &["invalid", "refused", "unsupported", "denied", "not_found"];
/// The same, or made in a way that has no effect.
const DECLINED_OR_HARMLESS: &[&str] = &[
    "invalid",
    "refused",
    "unsupported",
    "denied",
    "not_found",
    "not_started",
    "NOTHING",
    "ENOENT",
    "EACCES",
    "EPERM",
    "EROFS",
];

pub(super) fn variants() -> Vec<Variant> {
    [spellings(), links(), sources(), targets(), roots(), archives(), names(), rights()].concat()
}

fn mounts(id: String, what: String, words: &[&str]) -> Variant {
    Variant::new(id, what, Control::Mounts, words).held(HIDDEN).weight(5)
}

/// P1: the same file outside, spelled in ways that a check could miss.
fn spellings() -> Vec<Variant> {
    let mut out = Vec::new();
    for (id, from) in [
        ("mount", "{work}"),
        ("read-only-mount", "{ro}"),
        ("root", "/"),
        ("tmp", "/tmp"),
        ("parent", "/mnt"),
        ("own-cwd", "/proc/self/cwd"),
        ("own-root", "/proc/self/root"),
        ("thread-root", "/proc/thread-self/root"),
        ("descriptors", "/dev/fd"),
        ("run", "/run"),
        ("home", "/home"),
        ("system", "/usr/lib"),
        ("devices", "/dev/pts"),
        ("groups", "/sys/fs/cgroup"),
    ] {
        let words = ["flag-by-climbing", from, "{flag}", "{token}"];
        let read =
            mounts(format!("P1-climb-{id}"), format!("read a file of the host by climbing out of {from}"), &words);
        let proof = other(&["flag-by-climbing", "{work}", "{flag}", "{token}"]);
        out.push(read.proofs([proof]).probe(Probe::HostFiles));
        let words = ["append-by-climbing", from, "{canary}", "x"];
        let write =
            mounts(format!("P1-write-{id}"), format!("write a file of the host by climbing out of {from}"), &words);
        out.push(write.held(&["ENOENT", "ENOTDIR", "EACCES", "EROFS", "EPERM"]).proofs([other(&[
            "append-by-climbing",
            "{work}",
            "{own}",
            "x",
        ])]));
    }
    for (id, path) in [
        ("plain", "{flag}"),
        ("doubled", "//{flag}"),
        ("dotted", "/./{flag}"),
        ("own-root", "/proc/self/root{flag}"),
        ("init-root", "/proc/1/root{flag}"),
        ("up-and-down", "/usr/..{flag}"),
        ("through-mount", "{work}/../..{flag}"),
        ("through-read-only", "{ro}/../..{flag}"),
    ] {
        let read = mounts(
            format!("P1-read-{id}"),
            format!("read a file of the host, spelled {id}"),
            &["flag", path, "{token}"],
        );
        out.push(read.proofs([other(&["flag", "{flag}", "{token}"])]).probe(Probe::HostFiles));
        let path = path.replace("{flag}", "{canary}");
        let write = mounts(
            format!("P1-append-{id}"),
            format!("write a file of the host, spelled {id}"),
            &["append", &path, "x"],
        );
        out.push(
            write.held(&["ENOENT", "ENOTDIR", "EACCES", "EROFS", "EPERM"]).proofs([other(&["append", "{own}", "x"])]),
        );
    }
    out
}

/// P2: links in a writable mount.
fn links() -> Vec<Variant> {
    let mut out = Vec::new();
    for (id, to) in [
        ("absolute", "{flag}"),
        ("relative", "../../../../../../../../../..{flag}"),
        ("own-root", "/proc/self/root{flag}"),
        ("init-root", "/proc/1/root{flag}"),
        ("parent-cwd", "/proc/1/cwd{flag}"),
    ] {
        let words = ["flag-by-link", "{work}", to, "{token}"];
        let read = mounts(format!("P2-read-{id}"), format!("read a file of the host through a link ({id})"), &words);
        out.push(read.proofs([other(&["flag-by-link", "{work}", "{flag}", "{token}"])]).probe(Probe::HostFiles));
        let to = to.replace("{flag}", "{canary}");
        let words = ["append-by-link", "{work}", to.as_str(), "x"];
        let write = mounts(format!("P2-write-{id}"), format!("write a file of the host through a link ({id})"), &words);
        out.push(write.held(&["ENOENT", "ENOTDIR", "EACCES", "EROFS", "EPERM"]).proofs([other(&[
            "append-by-link",
            "{work}",
            "{own}",
            "x",
        ])]));
    }
    let hard = mounts(
        "P2-hard-link".into(),
        "link a file of the host into a mount".into(),
        &["flag-by-hard-link", "{work}", "{flag}", "{token}"],
    );
    out.push(hard.held(&["ENOENT", "EXDEV", "EPERM", "EACCES"]));
    let handle = mounts(
        "P2-handle".into(),
        "open a file of the host by its number".into(),
        &["flag-by-handle", "{flag}", "{token}"],
    );
    out.push(handle.held(&["EPERM"]).proofs([Proof::Same, Proof::Witness("name_to_handle_at")]));
    let handle = mounts(
        "P2-handle-of-mount".into(),
        "open by its number what a mount lies in".into(),
        &["flag-by-handle", "{work}", "{token}"],
    );
    out.push(handle.held(&["EPERM"]).proofs([Proof::Witness("name_to_handle_at")]));
    for (id, words) in [
        ("make", &["make", "{ro}/made"][..]),
        ("append", &["append", "{ro}/file", "x"]),
        ("take-over", &["take-over", "{ro}/file"]),
        ("directory", &["make-directory", "{ro}/made"]),
    ] {
        let variant = mounts(format!("P2-read-only-{id}"), format!("change a read-only mount ({id})"), words);
        let same: Vec<String> =
            words.iter().map(|word| word.replace("{ro}/made", "{work}/made").replace("{ro}/file", "{own}")).collect();
        out.push(variant.held(SEALED).proofs([Proof::Other(same)]));
    }
    out
}

fn creation(id: String, what: String, change: Change, words: &[&str]) -> Variant {
    Variant::new(id, what, Control::Mounts, words)
        .scene(Scene::Creation(change))
        .held(DECLINED)
        .proofs([Proof::Seen])
        .weight(4)
}

/// P6 and P8: what a mount shows.
fn sources() -> Vec<Variant> {
    let mut out = Vec::new();
    for path in [
        "/",
        "//",
        "/.",
        "/usr/..",
        "/proc",
        "/sys",
        "/dev",
        "/proc/self/root",
        "/proc/1/root",
        "/proc/sys",
        "/sys/fs/cgroup",
        "/dev/pts",
        "/dev/null",
        "/dev/kmsg",
    ] {
        let id =
            if path == "/" { "root".to_owned() } else { path.replace('/', "-").trim_matches('-').replace('.', "dot") };
        let id = if id.is_empty() { "double".to_owned() } else { id };
        out.push(creation(
            format!("P6-source-{id}"),
            format!("be shown {path}"),
            Change::Source(path.into()),
            &["list", "/mnt/extra"],
        ));
    }
    for path in ["/", "/proc", "/sys", "/dev", "/proc/self/root"] {
        let id = if path == "/" { "root".to_owned() } else { path.replace('/', "-").trim_matches('-').to_owned() };
        let what = format!("be shown a link to {path}");
        out.push(creation(format!("P6-link-to-{id}"), what, Change::SourceLink(path.into()), &["list", "/mnt/extra"]));
    }
    for (id, path) in [
        ("climbing", "/tmp/../../"),
        ("relative", "tmp"),
        ("nothing", "/nowhere/at/all"),
        ("empty", ""),
        ("nul", "/tmp\\0"),
    ] {
        let variant = creation(
            format!("P6-source-{id}"),
            format!("be shown the source {path:?}"),
            Change::Source(path.into()),
            &["list", "/mnt/extra"],
        );
        out.push(variant.weight(2));
    }
    for kind in ["fifo", "socket", "device"] {
        out.push(creation(
            format!("P8-{kind}"),
            format!("be shown a {kind} as if it were a file"),
            Change::SourceKind(kind),
            &["stat", "/mnt/extra"],
        ));
    }
    out
}

/// P7: where something is shown.
fn targets() -> Vec<Variant> {
    let mut out = Vec::new();
    for path in [
        "/",
        "/proc",
        "/proc/sys",
        "/sys",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/null",
        "/run/cove",
        "/run/cove/guest",
        "/run/cove/door.sock",
        "relative",
        "/mnt/../proc",
        "/mnt/extra/../../dev",
    ] {
        let id =
            if path == "/" { "root".to_owned() } else { path.replace(['/', '.'], "-").trim_matches('-').to_owned() };
        let what = format!("have something shown at {path}");
        out.push(creation(format!("P7-target-{id}"), what, Change::Target(path.into()), &[]));
    }
    out.push(
        creation("P7-target-twice".into(), "have two things at one place".into(), Change::TargetTwice, &[]).weight(1),
    );
    for path in ["relative", "/mnt/../proc"] {
        let id = path.replace(['/', '.'], "-").trim_matches('-').to_owned();
        out.push(creation(
            format!("P7-memory-{id}"),
            format!("have a memory file system at {path}"),
            Change::Memory(path.into()),
            &[],
        ));
    }
    for path in ["/proc", "/run/cove", "/dev", "/sys"] {
        let id = path.replace('/', "-").trim_matches('-').to_owned();
        out.push(creation(
            format!("P7-memory-{id}"),
            format!("have a memory file system over {path}"),
            Change::Memory(path.into()),
            &[],
        ));
    }
    for path in ["relative", "/workspace/../../etc", ""] {
        let id = path.replace(['/', '.'], "-").trim_matches('-').to_owned();
        let id = if id.is_empty() { "empty".to_owned() } else { id };
        out.push(
            creation(format!("P7-workdir-{id}"), format!("work in {path:?}"), Change::Workdir(path.into()), &[])
                .weight(2),
        );
    }
    out
}

/// E6: places of the root that are links.
fn roots() -> Vec<Variant> {
    let mut out = Vec::new();
    for (id, name, to) in [
        ("workdir-absolute", "workspace", "{escaped}"),
        ("workdir-climbing", "workspace", "../../../../../../../..{escaped}"),
        ("workdir-root", "workspace", "/"),
        ("target-absolute", "mnt", "{outside}"),
        ("target-climbing", "mnt", "../../../../../../../..{outside}"),
        ("home", "home", "{outside}"),
        ("etc", "etc", "{outside}"),
        ("dev", "dev", "{outside}"),
        ("proc", "proc", "{outside}"),
        ("run", "run", "{outside}"),
        ("tmp", "tmp", "{outside}"),
    ] {
        let what = format!("have the host follow a link in the root ({id})");
        let words = ["append", "{canary}", "x"];
        let variant = Variant::new(format!("E6-{id}"), what, Control::RootDirectory, &words);
        let variant = variant.scene(Scene::Creation(Change::RootLink(name, to.to_owned()))).held(DECLINED_OR_HARMLESS);
        out.push(variant.proofs([other(&["append", "{own}", "x"])]).weight(5));
    }
    out
}

/// P5: roots from archives.
fn archives() -> Vec<Variant> {
    [
        "climbing",
        "absolute",
        "link-then-file",
        "hard-link",
        "device",
        "setuid",
        "duplicate",
        "long-name",
        "sparse",
        "fifo",
    ]
    .into_iter()
    .map(|kind| {
        let what = format!("unpack an archive with a {} entry", kind.replace('-', " "));
        let words: &[&str] = match kind {
            "hard-link" => &["flag", "/stolen", "{token}"],
            "device" => &["device", "/node"],
            "setuid" => &["gain", "/program"],
            "sparse" => &["stat", "/mnt/nothing"],
            _ => &["append", "{canary}", "x"],
        };
        let variant = Variant::new(format!("P5-{kind}"), what, Control::RootArchive, words);
        let variant = variant.scene(Scene::Creation(Change::Archive(kind))).held(DECLINED_OR_HARMLESS);
        variant.proofs([other(&["append", "{own}", "x"])]).weight(4)
    })
    .collect()
}

/// P10: texts that mean something to somebody.
fn names() -> Vec<Variant> {
    let mut out = Vec::new();
    for (id, text) in [
        ("command", "$(touch {escaped})"),
        ("backticks", "`touch {escaped}`"),
        ("semicolon", "a;touch {escaped}"),
        ("climbing", "../../../../../../..{escaped}"),
        ("option", "--privileged"),
        ("line-end", "a\\nb"),
        ("escape", "\u{1b}[2Ja"),
        ("direction", "\u{202e}txt.exe"),
        ("wide", "\u{ff0e}\u{ff0e}\u{ff0f}etc"),
        ("template", "{{7*7}}${IFS}"),
        ("percent", "%s%s%n%2e%2e%2f"),
    ] {
        let words = ["append", "{canary}", "x"];
        let label = creation(
            format!("P10-label-{id}"),
            format!("bear a label with a {id}"),
            Change::Label("run.cove.test".into(), text.into()),
            &words,
        );
        out.push(label.held(DECLINED_OR_HARMLESS).proofs([other(&["append", "{own}", "x"])]).weight(2));
        let name =
            creation(format!("P10-name-{id}"), format!("be named with a {id}"), Change::Name(text.into()), &words);
        out.push(name.held(DECLINED_OR_HARMLESS).proofs([other(&["append", "{own}", "x"])]).weight(2));
    }
    for (id, name, value) in [
        ("name-with-sign", "A=B", "x"),
        ("empty-name", "", "x"),
        ("nul-value", "A", "x\\0y"),
        ("nul-name", "A\\0B", "x"),
    ] {
        let variant = creation(
            format!("P10-variable-{id}"),
            format!("have a variable with a {id}"),
            Change::Variable(name.into(), value.into()),
            &[],
        );
        out.push(variant.weight(1));
    }
    for (id, name, value) in [
        ("preload", "LD_PRELOAD", "{outside}/flag"),
        ("path", "PATH", "{outside}"),
        ("audit", "LD_AUDIT", "{outside}/flag"),
    ] {
        let words = ["flag", "{flag}", "{token}"];
        let variant = creation(
            format!("P10-variable-{id}"),
            format!("have {name} lead outside"),
            Change::Variable(name.into(), value.into()),
            &words,
        );
        out.push(variant.held(DECLINED_OR_HARMLESS).proofs([other(&["flag", "{flag}", "{token}"])]));
    }
    out
}

/// E17, E26, E28: more rights by the specification itself.
fn rights() -> Vec<Variant> {
    let row = |id: &str, what: &str, change: Change| {
        Variant::new(format!("E28-{id}"), what, Control::IsolationContainer, &[])
            .scene(Scene::Creation(change))
            .held(DECLINED)
            .proofs([Proof::Seen])
            .weight(4)
    };
    vec![
        row("root-user", "be root while non-root is asked for", Change::Root),
        row("unknown-capability", "keep a capability that does not exist", Change::Capability("CAP_EVERYTHING")),
        row("small-capability", "keep a capability by another spelling", Change::Capability("cap_sys_admin")),
        row("machine", "be given less than the machine that was asked for", Change::Isolation(Isolation::Vm)),
        row(
            "gvisor",
            "be given less than the kernel of its own that was asked for",
            Change::Isolation(Isolation::Gvisor),
        ),
        row("host-network", "be given the host's network", Change::HostNetwork),
    ]
}
