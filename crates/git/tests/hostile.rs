//! Clones that an attacker prepared. Nothing of them runs on the host, nothing outside is read, and
//! what they bring is either ordinary content or refused by name.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod lab;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cove_git::{CollectedWork, CommitMessage};
use lab::{Lab, changed, write};

struct Trap<'a> {
    lab: &'a Lab,
    /// The workspace.
    at: &'a Path,
    /// A program that leaves a mark when it runs.
    mark: &'a str,
}

impl Trap<'_> {
    fn git(&self, args: &[&str]) -> String {
        self.lab.plain(self.at, args)
    }

    fn program(&self, path: &str) {
        write(self.at, path, format!("#!/bin/sh\n{}\n", self.mark));
        std::fs::set_permissions(self.at.join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// What a row expects.
enum Expect {
    /// Accepted with these changes.
    Work(&'static [&'static str]),
    /// Accepted, history not taken.
    FilesOnly(&'static [&'static str]),
    /// One refusal holds these words.
    Refused(&'static str),
    Nothing,
}
use Expect::{FilesOnly, Nothing, Refused, Work};

type Row = (&'static str, fn(&Trap<'_>), Expect);

fn edit(trap: &Trap<'_>) {
    write(trap.at, "README.md", "edited\n");
}

const EDITED: Expect = Work(&["M README.md"]);

async fn check(rows: Vec<Row>) {
    for (what, prepare, expect) in rows {
        let lab = Lab::new();
        let (bare, base, workspace) = lab.workspace().await;
        let canary = lab.path("canary");
        let outside = lab.path("outside-secret");
        std::fs::write(&outside, "TOP SECRET").unwrap();
        let mark = format!("touch {}", canary.display());
        prepare(&Trap { lab: &lab, at: &workspace, mark: &mark });
        // The preparation itself may have set it off.
        let _ = std::fs::remove_file(&canary);
        let begun = std::time::Instant::now();
        let work = lab.collect(&workspace, &bare, &base).await;
        assert!(begun.elapsed().as_secs() < 200, "{what}: took {:?}", begun.elapsed());
        assert!(!canary.exists(), "{what}: something of the workspace ran");
        match (expect, work) {
            (Nothing, None) => {}
            (Work(changes), Some(work)) => {
                accepted(what, &work, changes);
                assert_eq!(work.notes, Vec::<String>::new(), "{what}");
            }
            (FilesOnly(changes), Some(work)) => {
                accepted(what, &work, changes);
                assert_eq!((work.commits, work.notes.len()), (1, 1), "{what}: {:?}", work.notes);
            }
            (Refused(words), Some(work)) => {
                assert!(work.refused.iter().any(|r| r.contains(words)), "{what}: {:?}", work.refused);
            }
            (_, work) => panic!("{what}: {work:?}"),
        }
        // The bare repository is whole and has nothing of the workspace but the kept reference.
        lab.plain(&bare, ["fsck", "--strict", "--no-dangling"]);
        assert_eq!(std::fs::read_dir(bare.join("quarantine")).map_or(0, Iterator::count), 0, "{what}: quarantine left");
        let all = lab.plain(&bare, ["cat-file", "--batch-check", "--batch-all-objects"]);
        for line in all.lines().filter(|l| l.contains(" blob ")) {
            let id = line.split(' ').next().unwrap();
            assert!(!lab.plain(&bare, ["cat-file", "blob", id]).contains("TOP SECRET"), "{what}: read outside");
        }
    }
}

fn accepted(what: &str, work: &CollectedWork, changes: &[&str]) {
    assert_eq!(work.refused, Vec::<String>::new(), "{what}");
    assert_eq!(changed(work), changes, "{what}");
}

#[tokio::test]
async fn configuration_hooks_and_filters_never_run() {
    check(vec![
        ("nothing done", |_| {}, Nothing),
        (
            "fsmonitor",
            |t| {
                t.git(&["config", "core.fsmonitor", t.mark]);
                edit(t);
            },
            EDITED,
        ),
        (
            "ssh, pager, editor, gpg, alternate refs",
            |t| {
                for key in [
                    "core.sshCommand",
                    "core.pager",
                    "core.editor",
                    "gpg.program",
                    "core.alternateRefsCommand",
                    "core.askPass",
                    "diff.external",
                ] {
                    t.git(&["config", key, t.mark]);
                }
                t.git(&["config", "commit.gpgSign", "true"]);
                edit(t);
            },
            EDITED,
        ),
        (
            "hooks",
            |t| {
                for hook in [
                    "post-checkout",
                    "pre-commit",
                    "post-index-change",
                    "reference-transaction",
                    "post-commit",
                    "pre-push",
                ] {
                    t.program(&format!(".git/hooks/{hook}"));
                }
                edit(t);
            },
            EDITED,
        ),
        (
            "hooks path",
            |t| {
                t.program("evil/reference-transaction");
                t.git(&["config", "core.hooksPath", "evil"]);
            },
            Work(&["A evil/reference-transaction"]),
        ),
        (
            "filters and attributes",
            |t| {
                for name in ["clean", "smudge", "process"] {
                    t.git(&["config", &format!("filter.x.{name}"), t.mark]);
                }
                t.git(&["config", "diff.x.textconv", t.mark]);
                t.git(&["config", "diff.x.command", t.mark]);
                t.git(&["config", "merge.x.driver", t.mark]);
                write(t.at, ".gitattributes", "* filter=x diff=x merge=x\n");
                write(t.at, ".git/info/attributes", "* filter=x diff=x\n");
                write(t.at, "big.bin", "filtered?\n");
            },
            Work(&["A .gitattributes", "A big.bin"]),
        ),
        (
            "large file storage",
            |t| {
                write(t.at, ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
                write(t.at, "x.bin", "raw");
            },
            Work(&["A .gitattributes", "A x.bin"]),
        ),
        (
            "included configuration",
            |t| {
                write(t.at, "evil.config", format!("[core]\n\tfsmonitor = {}\n", t.mark));
                t.git(&["config", "include.path", "../evil.config"]);
                t.git(&["config", "core.worktree", "/"]);
            },
            Work(&["A evil.config"]),
        ),
        (
            "configuration that is no configuration",
            |t| {
                write(t.at, ".git/config", [0xff_u8; 4096]);
                edit(t);
            },
            EDITED,
        ),
        (
            "a nested repository with fsmonitor",
            |t| {
                let nested = t.at.join("nested");
                std::fs::create_dir(&nested).unwrap();
                t.lab.plain(&nested, ["init", "-q"]);
                write(&nested, "file", "x");
                t.lab.commit(&nested, "feat: nested");
                t.lab.plain(&nested, ["config", "core.fsmonitor", t.mark]);
            },
            FilesOnlyWithNote,
        ),
        (
            "exclude file of the clone does not hide",
            |t| {
                write(t.at, ".git/info/exclude", "*\n");
                write(t.at, "new", "x");
            },
            Work(&["A new"]),
        ),
        (
            "ignored files stay, tracked ones count",
            |t| {
                write(t.at, "target/debug/x", "x");
                write(t.at, "a.log", "x");
                write(t.at, "src/.gitignore", "lib.rs\ngen*\n!gen-kept\n");
                write(t.at, "src/lib.rs", "changed\n");
                write(t.at, "src/generated", "x");
                write(t.at, "src/gen-kept", "x");
            },
            Work(&["A src/.gitignore", "A src/gen-kept", "M src/lib.rs"]),
        ),
    ])
    .await;
}

/// A nested repository's files are taken and a note says that its history is not.
#[allow(non_upper_case_globals, reason = "reads as a variant in the table")]
const FilesOnlyWithNote: Expect = FilesOnly(&["A nested/file"]);

#[tokio::test]
async fn broken_repositories_still_give_their_files() {
    check(vec![
        (
            "no .git",
            |t| {
                std::fs::remove_dir_all(t.at.join(".git")).unwrap();
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            ".git is a link",
            |t| {
                std::fs::rename(t.at.join(".git"), t.lab.path("elsewhere")).unwrap();
                symlink(t.lab.path("elsewhere"), t.at.join(".git")).unwrap();
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            ".git is a pointer file",
            |t| {
                std::fs::rename(t.at.join(".git"), t.lab.path("elsewhere")).unwrap();
                write(t.at, ".git", format!("gitdir: {}\n", t.lab.path("elsewhere").display()));
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "HEAD is a FIFO",
            |t| {
                std::fs::remove_file(t.at.join(".git/HEAD")).unwrap();
                nix::unistd::mkfifo(&t.at.join(".git/HEAD"), nix::sys::stat::Mode::S_IRWXU).unwrap();
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "HEAD is a link out",
            |t| {
                std::fs::remove_file(t.at.join(".git/HEAD")).unwrap();
                symlink(t.lab.path("outside-secret"), t.at.join(".git/HEAD")).unwrap();
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "HEAD is huge",
            |t| {
                write(t.at, ".git/HEAD", vec![b'a'; 1 << 20]);
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "HEAD traverses",
            |t| {
                write(t.at, ".git/HEAD", "ref: refs/heads/../../../outside-secret\n");
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "HEAD goes in circles",
            |t| {
                write(t.at, ".git/HEAD", "ref: refs/heads/a\n");
                write(t.at, ".git/refs/heads/a", "ref: refs/heads/a\n");
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "HEAD names what is not there",
            |t| {
                write(t.at, ".git/HEAD", "1".repeat(40));
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "HEAD names a tree",
            |t| {
                let tree = t.git(&["rev-parse", "HEAD^{tree}"]);
                write(t.at, ".git/HEAD", tree);
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "the reference directory is a link",
            |t| {
                std::fs::remove_dir_all(t.at.join(".git/refs")).unwrap();
                std::fs::remove_file(t.at.join(".git/packed-refs")).unwrap();
                symlink("/", t.at.join(".git/refs")).unwrap();
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "objects are elsewhere",
            |t| {
                edit(t);
                t.lab.commit(t.at, "feat: x");
                std::fs::rename(t.at.join(".git/objects"), t.lab.path("objects")).unwrap();
                symlink(t.lab.path("objects"), t.at.join(".git/objects")).unwrap();
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "alternates lead to objects elsewhere",
            |t| {
                edit(t);
                t.lab.commit(t.at, "feat: x");
                std::fs::rename(t.at.join(".git/objects"), t.lab.path("objects")).unwrap();
                write(t.at, ".git/objects/info/alternates", format!("{}\n", t.lab.path("objects").display()));
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "a garbage loose object as HEAD",
            |t| {
                let id = "ab".to_owned() + &"c".repeat(38);
                write(t.at, &format!(".git/objects/ab/{}", "c".repeat(38)), "garbage");
                write(t.at, ".git/HEAD", id);
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "an object under a wrong name",
            |t| {
                edit(t);
                let head = t.lab.commit(t.at, "feat: x");
                let tree = t.git(&["rev-parse", "HEAD^{tree}"]);
                let object = |id: &str| t.at.join(".git/objects").join(&id[..2]).join(&id[2..]);
                std::fs::remove_file(object(&tree)).unwrap();
                std::fs::copy(object(&head), object(&tree)).unwrap();
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "a garbage pack",
            |t| {
                edit(t);
                t.lab.commit(t.at, "feat: x");
                write(t.at, &format!(".git/objects/pack/pack-{}.pack", "1".repeat(40)), "PACK garbage");
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "a replaced pack of ours",
            |t| {
                for entry in std::fs::read_dir(t.at.join(".git/objects/pack")).unwrap() {
                    let path = entry.unwrap().path();
                    std::fs::remove_file(&path).unwrap();
                    std::fs::write(path, "garbage").unwrap();
                }
                edit(t);
            },
            EDITED,
        ),
        (
            "an index of lies",
            |t| {
                edit(t);
                t.git(&["update-index", "--assume-unchanged", "README.md"]);
                t.git(&["update-index", "--skip-worktree", "src/lib.rs"]);
                write(t.at, "src/lib.rs", "changed\n");
            },
            Work(&["M README.md", "M src/lib.rs"]),
        ),
        (
            "an index of garbage",
            |t| {
                write(t.at, ".git/index", [0xfe; 100_000]);
                edit(t);
            },
            EDITED,
        ),
    ])
    .await;
}

#[tokio::test]
async fn histories_are_taken_or_flagged() {
    check(vec![
        (
            "commits and the rest",
            |t| {
                edit(t);
                t.lab.commit(t.at, "feat: x");
                write(t.at, "more", "x");
            },
            Work(&["M README.md", "A more"]),
        ),
        (
            "a branch of its own",
            |t| {
                t.git(&["checkout", "-q", "-b", "mine"]);
                edit(t);
                t.lab.commit(t.at, "feat: x");
            },
            EDITED,
        ),
        (
            "a detached head",
            |t| {
                t.git(&["checkout", "-q", "--detach"]);
                edit(t);
                t.lab.commit(t.at, "feat: x");
            },
            EDITED,
        ),
        (
            "packed anew",
            |t| {
                edit(t);
                t.lab.commit(t.at, "feat: x");
                t.git(&["gc", "-q", "--prune=now"]);
            },
            EDITED,
        ),
        (
            "added and reverted",
            |t| {
                edit(t);
                t.lab.commit(t.at, "feat: x");
                t.git(&["revert", "--no-edit", "HEAD"]);
            },
            Nothing,
        ),
        (
            "empty commits",
            |t| {
                t.lab.commit(t.at, "feat: nothing");
            },
            Nothing,
        ),
        (
            "history rewritten",
            |t| {
                edit(t);
                t.git(&["commit", "-q", "-a", "--amend", "-m", "feat: other"]);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "another root",
            |t| {
                t.git(&["checkout", "-q", "--orphan", "x"]);
                edit(t);
                t.lab.commit(t.at, "feat: x");
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "a graft and a replacement pretend descent",
            |t| {
                let base = t.git(&["rev-parse", "HEAD"]);
                t.git(&["checkout", "-q", "--orphan", "x"]);
                edit(t);
                let other = t.lab.commit(t.at, "feat: x");
                t.git(&["replace", "--graft", &other, &base]);
                write(t.at, ".git/info/grafts", format!("{other} {base}\n"));
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "shallow and promisor",
            |t| {
                edit(t);
                let head = t.lab.commit(t.at, "feat: x");
                write(t.at, ".git/shallow", format!("{head}\n"));
                t.git(&["config", "remote.o.promisor", "true"]);
                t.git(&["config", "remote.o.url", &format!("ext::sh -c {}", t.mark.replace(' ', "% "))]);
                t.git(&["config", "extensions.partialClone", "o"]);
            },
            EDITED,
        ),
        (
            "tree entries named .git",
            |t| {
                let blob = t.git(&["hash-object", "-w", "README.md"]);
                let raw = |mode: &str, name: &str, id: &str| {
                    let bytes: Vec<u8> =
                        (0..id.len()).step_by(2).map(|i| u8::from_str_radix(&id[i..i + 2], 16).unwrap()).collect();
                    [format!("{mode} {name}\0").into_bytes(), bytes].concat()
                };
                std::fs::write(t.lab.path("raw"), raw("100644", "config", &blob)).unwrap();
                let inner =
                    t.git(&["hash-object", "-w", "--literally", "-t", "tree", t.lab.path("raw").to_str().unwrap()]);
                std::fs::write(t.lab.path("raw"), raw("40000", ".git", &inner)).unwrap();
                let tree =
                    t.git(&["hash-object", "-w", "--literally", "-t", "tree", t.lab.path("raw").to_str().unwrap()]);
                let commit = t.git(&["commit-tree", &tree, "-p", "HEAD", "-m", "feat: x"]);
                write(t.at, ".git/HEAD", commit);
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "a tree of 10^10 files in eleven objects",
            |t| {
                let mut id = t.git(&["hash-object", "-w", "README.md"]);
                for depth in 0..10 {
                    let kind = if depth == 0 { "100644 blob" } else { "040000 tree" };
                    let text: String = (0..10).map(|n| format!("{kind} {id}\tf{n}\n")).collect();
                    write(t.at, ".git/bomb", text);
                    id = t.git(&["-c", "alias.m=!git mktree <.git/bomb", "m"]);
                }
                let commit = t.git(&["commit-tree", &id, "-p", "HEAD", "-m", "feat: x"]);
                write(t.at, ".git/HEAD", commit);
                edit(t);
            },
            FilesOnly(&["M README.md"]),
        ),
        (
            "a submodule in a commit",
            |t| {
                let head = t.git(&["rev-parse", "HEAD"]);
                write(t.at, ".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = ext::sh\n");
                t.git(&["add", ".gitmodules"]);
                t.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},s")]);
                t.git(&["commit", "-q", "-m", "feat: s"]);
                std::fs::create_dir(t.at.join("s")).unwrap();
            },
            Refused("s is a submodule"),
        ),
        (
            "submodule addresses",
            |t| write(t.at, ".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = https://evil.example/x\n"),
            Refused("changes submodules"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn trees_that_reach_out_are_refused() {
    check(vec![
        ("an absolute link", |t| symlink(t.lab.path("outside-secret"), t.at.join("l")).unwrap(), Refused("absolute")),
        ("a link above", |t| symlink("../outside-secret", t.at.join("l")).unwrap(), Refused("out of the tree")),
        ("a link into .git", |t| symlink(".git/config", t.at.join("l")).unwrap(), Refused("Git directory")),
        (
            "a link through a link",
            |t| {
                symlink("../..", t.at.join("src/deep/up")).unwrap();
                symlink("src/deep/up/..", t.at.join("l")).unwrap();
            },
            Refused("l -> "),
        ),
        (
            "an escaping link in a commit",
            |t| {
                symlink("/etc/passwd", t.at.join("l")).unwrap();
                t.lab.commit(t.at, "feat: l");
            },
            Refused("absolute"),
        ),
        (
            "a tracked link turned around",
            |t| {
                std::fs::remove_file(t.at.join("link")).unwrap();
                symlink("/etc/shadow", t.at.join("link")).unwrap();
            },
            Refused("link -> /etc/shadow"),
        ),
        ("a harmless link", |t| symlink("../README.md", t.at.join("src/l")).unwrap(), Work(&["A src/l"])),
        (
            "a file replaced by a link",
            |t| {
                std::fs::remove_file(t.at.join("README.md")).unwrap();
                symlink(t.lab.path("outside-secret"), t.at.join("README.md")).unwrap();
            },
            Refused("README.md -> "),
        ),
        (
            "a directory replaced by a link",
            |t| {
                std::fs::remove_dir_all(t.at.join("src")).unwrap();
                symlink(t.lab.dir.path(), t.at.join("src")).unwrap();
            },
            Refused("src -> "),
        ),
        (
            "ignore file that is a link",
            |t| {
                std::fs::remove_file(t.at.join(".gitignore")).unwrap();
                symlink("/etc/passwd", t.at.join(".gitignore")).unwrap();
            },
            Refused(".gitignore -> "),
        ),
        ("case collision", |t| write(t.at, "readme.MD", "x"), Refused("differ only in case")),
        ("case collision of directories", |t| write(t.at, "SRC/x", "x"), Refused("differ only in case")),
        (".GIT as a directory", |t| write(t.at, "sub/.GIT/config", "x"), Refused("take for .git")),
        ("git~1", |t| write(t.at, "git~1", "x"), Refused("take for .git")),
        (".git with an invisible character", |t| write(t.at, ".g\u{200c}it/config", "x"), Refused("take for .git")),
        (".gitmodules in disguise", |t| write(t.at, ".GitModules", "x"), Refused("changes submodules")),
        ("a newline in a name", |t| write(t.at, "a\nM 100644 inline evil", "x"), Refused("control characters")),
        (
            "a name that is not UTF-8",
            |t| std::fs::write(t.at.join(OsStr::from_bytes(b"a\xff")), "x").unwrap(),
            Refused("not UTF-8"),
        ),
        (
            "odd but fine names",
            |t| {
                for n in ["\"q\"", "-rf", " x ", "a\\b", "ü", "*", "$(id)"] {
                    write(t.at, n, "x");
                }
            },
            Work(&["A  x ", "A \"q\"", "A $(id)", "A *", "A -rf", "A a\\b", "A ü"]),
        ),
        (
            "FIFOs and sockets are no files",
            |t| {
                nix::unistd::mkfifo(&t.at.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
                std::mem::forget(std::os::unix::net::UnixListener::bind(t.at.join("sock")).unwrap());
                std::fs::remove_file(t.at.join("run.sh")).unwrap();
                nix::unistd::mkfifo(&t.at.join("run.sh"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            Work(&["R run.sh"]),
        ),
        (
            "a sparse giant",
            |t| std::fs::File::create(t.at.join("big")).unwrap().set_len(1 << 40).unwrap(),
            Refused("larger than"),
        ),
        (
            "odd modes",
            |t| {
                std::fs::set_permissions(t.at.join("README.md"), std::fs::Permissions::from_mode(0o6777)).unwrap();
            },
            EDITED,
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_tree_that_changes_meanwhile_never_leads_outside() {
    let lab = Lab::new();
    let (bare, base, workspace) = lab.workspace().await;
    let outside = lab.path("outside");
    for at in 0..20 {
        write(&outside, &format!("f{at}"), "TOP SECRET");
        write(&workspace, &format!("flip/f{at}"), "mine");
    }
    // Exchanged, so that at every moment one of the two is there.
    let pairs = [("flip", "outside"), ("flip/f0", "outside/f0"), (".git/objects", "outside")].map(|(name, to)| {
        let link = lab.path(&format!("link-{}", name.replace('/', "-")));
        symlink(lab.path(to), &link).unwrap();
        (workspace.join(name), link)
    });
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let flipper = std::thread::spawn({
        let (stop, rounds) = (stop.clone(), rounds.clone());
        move || {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            while !stop.load(Ordering::Relaxed) {
                for (here, link) in &pairs {
                    // What lies below a directory that is a link now would be changed outside.
                    if here.ends_with("f0") && here.parent().is_some_and(|dir| dir.is_symlink()) {
                        continue;
                    }
                    let _ = renameat2(AT_FDCWD, here, AT_FDCWD, link, RenameFlags::RENAME_EXCHANGE);
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let (mut at, mut taken) = (0, 0);
    while at < 15 || rounds.load(Ordering::Relaxed) < 10_000 {
        let name = format!("refs/cove/race/{at}");
        let done = lab.git.collect(&workspace, &bare, &base, &name, &CommitMessage::new("x")).await;
        taken += usize::from(done.is_ok_and(|work| work.is_some_and(|work| !work.changes.is_empty())));
        at += 1;
    }
    stop.store(true, Ordering::Relaxed);
    flipper.join().unwrap();
    assert!(taken > 0, "the control: nothing was ever collected");
    let all = lab.plain(&bare, ["cat-file", "--batch", "--batch-all-objects"]);
    assert!(!all.contains("TOP SECRET"));
    lab.plain(&bare, ["fsck", "--strict", "--no-dangling"]);
}

#[tokio::test]
async fn the_commit_carries_message_identity_and_modes() {
    let lab = Lab::new();
    let (bare, base, workspace) = lab.workspace().await;
    write(&workspace, "tool", "#!/bin/sh\n");
    std::fs::set_permissions(workspace.join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(workspace.join("run.sh"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let message = CommitMessage {
        subject: "feat(x): do it".to_owned(),
        body: "Because.".to_owned(),
        trailers: vec![("Run-Id".to_owned(), "run_1".to_owned()), ("Agent".to_owned(), "claude".to_owned())],
        author: Some(("Agent".to_owned(), "agent@example.com".to_owned())),
    };
    let work = lab.git.collect(&workspace, &bare, &base, "refs/cove/taken/1", &message).await.unwrap().unwrap();
    let shown = lab.plain(&bare, ["log", "-1", "--format=%an <%ae>|%cn|%P|%B", "refs/cove/taken/1"]);
    assert_eq!(
        shown,
        format!("Agent <agent@example.com>|Agent|{base}|feat(x): do it\n\nBecause.\n\nRun-Id: run_1\nAgent: claude")
    );
    assert_eq!(lab.plain(&bare, ["rev-parse", "refs/cove/taken/1"]), work.commit);
    let modes: Vec<_> = work.changes.iter().map(|c| (c.path.as_str(), c.new_mode)).collect();
    assert_eq!(modes, [("run.sh", 0o100_644), ("tool", 0o100_755)]);
    // Taking it again replaces what was kept.
    write(&workspace, "tool", "2");
    let again = lab.git.collect(&workspace, &bare, &base, "refs/cove/taken/1", &message).await.unwrap().unwrap();
    assert_eq!(lab.plain(&bare, ["rev-parse", "refs/cove/taken/1"]), again.commit);
}
