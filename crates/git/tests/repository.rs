//! The user's repository in, branches and files out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod lab;

use std::path::Path;
use std::time::Instant;

use cove_core::ErrorKind;
use cove_git::{Change, ChangeStatus, CommitMessage, Merged};
use lab::{Lab, write};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn sources_of_every_form_are_copied() {
    let lab = Lab::new();
    let user = lab.user("user");
    let first = lab.plain(&user, ["rev-parse", "HEAD"]);
    write(&user, "second", "2");
    let second = lab.commit(&user, "feat: two");
    lab.plain(&user, ["tag", "v1"]);
    lab.plain(&user, ["branch", "other", &first]);
    lab.plain(&user, ["worktree", "add", "-q", "-b", "tree", text(&lab.path("tree")), &first]);
    lab.plain(lab.dir.path(), ["clone", "-q", "--bare", text(&user), text(&lab.path("mirror"))]);
    lab.plain(
        lab.dir.path(),
        ["clone", "-q", "--depth", "1", &format!("file://{}", text(&user)), text(&lab.path("shallow"))],
    );
    lab.plain(lab.dir.path(), ["clone", "-q", text(&user), text(&lab.path("detached"))]);
    lab.plain(&lab.path("detached"), ["checkout", "-q", "--detach", &first]);
    write(&user, "README.md", "dirty\n");
    write(&user, "untracked", "dirty\n");

    let url = format!("file://{}", text(&user));
    let rows = [
        ("a directory", text(&user).to_owned(), &second),
        ("a subdirectory", text(&user.join("src/deep")).to_owned(), &second),
        ("a file URL", url, &second),
        ("a worktree", text(&lab.path("tree")).to_owned(), &first),
        ("a bare one", text(&lab.path("mirror")).to_owned(), &second),
        ("a shallow one", text(&lab.path("shallow")).to_owned(), &second),
        ("a detached one", text(&lab.path("detached")).to_owned(), &first),
    ];
    for (at, (what, source, head)) in rows.into_iter().enumerate() {
        let (bare, into) = (lab.path(&format!("bare{at}")), lab.path(&format!("into{at}")));
        lab.git.clone_source(&source, &bare).await.unwrap_or_else(|e| panic!("{what}: {:?}", e.chain()));
        assert_eq!(&lab.git.resolve(&bare, "HEAD").await.unwrap(), head, "{what}");
        let config = std::fs::read_to_string(bare.join("config")).unwrap();
        assert!(!config.contains("remote") && !config.contains("url"), "{what}: {config}");
        assert!(!bare.join("hooks").exists() && !bare.join("objects/info/alternates").exists(), "{what}");
        lab.git.checkout(&bare, head, "work", &into).await.unwrap_or_else(|e| panic!("{what}: {:?}", e.chain()));
        assert_eq!(
            std::fs::read_to_string(into.join("README.md")).unwrap(),
            "Read me\n",
            "{what}: committed state only"
        );
        assert!(!into.join("untracked").exists());
        assert_eq!(lab.plain(&into, ["status", "--porcelain"]), "", "{what}");
        // A whole round through it, also for shallow ones.
        write(&into, "new", what);
        let work = lab.collect(&into, &bare, head).await.unwrap();
        assert_eq!((work.refused, work.changes.len()), (vec![], 1), "{what}");
        lab.git.advance(&bare, "ralph/x", None, &work.commit).await.unwrap();
        if what != "a bare one" {
            let target = if what == "a shallow one" { lab.path("shallow") } else { user.clone() };
            let branch = format!("done{at}");
            lab.git.advance(&bare, &branch, None, &work.commit).await.unwrap();
            let done = lab.git.deliver(&bare, &branch, &target, false).await;
            assert_eq!(done.unwrap_or_else(|e| panic!("{what}: {:?}", e.chain())).commit, work.commit, "{what}");
        }
    }
    assert_eq!(lab.git.resolve(&lab.path("bare0"), "v1").await.unwrap(), second);
    assert_eq!(lab.git.resolve(&lab.path("bare0"), "other").await.unwrap(), first);
}

#[tokio::test]
async fn what_is_no_source_says_what_to_do() {
    let lab = Lab::new();
    let empty = lab.path("empty");
    std::fs::create_dir(&empty).unwrap();
    lab.plain(&empty, ["init", "-q"]);
    let plain = tempfile::tempdir().unwrap();
    for (source, kind) in [
        (text(&empty), ErrorKind::Invalid),
        (text(plain.path()), ErrorKind::Invalid),
        ("/no/such/directory", ErrorKind::NotFound),
        ("file:///no/such/directory", ErrorKind::NotFound),
        ("ext::sh -c true", ErrorKind::Invalid),
        ("--upload-pack=true", ErrorKind::Invalid),
        ("https://user:hunter2@127.0.0.1:1/x.git", ErrorKind::Unavailable),
    ] {
        let error = lab.git.clone_source(source, &lab.path("bare")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{source}: {:?}", error.chain());
        assert!(error.next_step().is_some(), "{source}");
        assert!(!format!("{:?}", error).contains("hunter2"), "{error:?}");
        assert!(!lab.path("bare").exists(), "{source}");
    }
    let user = lab.user("user");
    lab.git.clone_source(text(&user), &lab.path("bare")).await.unwrap();
    assert_eq!(lab.git.clone_source(text(&user), &lab.path("bare")).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(lab.git.resolve(&lab.path("bare"), "nope").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(lab.git.resolve(&lab.path("bare"), "--all").await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_source_full_of_traps_is_only_read() {
    let lab = Lab::new();
    let user = lab.user("user");
    let canary = lab.path("canary");
    let trap = format!("touch {}", text(&canary));
    for (key, value) in [
        ("core.fsmonitor", trap.as_str()),
        ("core.sshCommand", &trap),
        ("core.alternateRefsCommand", &trap),
        ("uploadpack.packObjectsHook", &trap),
        ("filter.x.smudge", &trap),
        ("filter.x.clean", &trap),
        ("credential.helper", &format!("!{trap}")),
        ("core.hooksPath", text(&lab.path("hooks"))),
    ] {
        lab.plain(&user, ["config", key, value]);
    }
    for hook in ["post-checkout", "post-merge", "reference-transaction", "pre-auto-gc", "post-index-change"] {
        for dir in [lab.path("hooks"), user.join(".git/hooks")] {
            write(&dir, hook, format!("#!/bin/sh\n{trap}\n"));
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(dir.join(hook), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let bare = lab.path("bare");
    lab.git.clone_source(text(&user), &bare).await.unwrap();
    let base = lab.git.resolve(&bare, "HEAD").await.unwrap();
    let into = lab.path("into");
    lab.git.checkout(&bare, &base, "b", &into).await.unwrap();
    write(&into, ".gitattributes", "* filter=x\n");
    let work = lab.collect(&into, &bare, &base).await.unwrap();
    lab.git.advance(&bare, "b", None, &work.commit).await.unwrap();
    let done = lab.git.deliver(&bare, "b", &user, true).await.unwrap();
    assert!(done.switched && user.join(".gitattributes").exists());
    assert!(!canary.exists(), "something of the repository ran");
}

#[tokio::test]
async fn checkouts_share_nothing_and_need_an_empty_place() {
    use std::os::unix::fs::MetadataExt as _;
    let lab = Lab::new();
    let (bare, base, workspace) = lab.workspace().await;
    let packs = |at: &Path| -> Vec<u64> {
        std::fs::read_dir(at.join("pack")).unwrap().map(|e| e.unwrap().metadata().unwrap().ino()).collect()
    };
    let ours = packs(&bare.join("objects"));
    assert!(!ours.is_empty());
    assert!(packs(&workspace.join(".git/objects")).iter().all(|inode| !ours.contains(inode)));
    assert_eq!(lab.plain(&workspace, ["branch", "--show-current"]), "ralph/work");
    assert_eq!(lab.plain(&workspace, ["remote"]), "");
    assert_eq!(lab.plain(&workspace, ["status", "--porcelain"]), "");
    assert_eq!(lab.plain(&workspace, ["config", "user.name"]), "Cove");
    let again = lab.git.checkout(&bare, &base, "x", &workspace).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let missing = lab.git.checkout(&bare, &"1".repeat(40), "x", &lab.path("w2")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{:?}", missing.chain());
}

#[tokio::test]
async fn differences_files_and_contents() {
    let lab = Lab::new();
    let (bare, base, workspace) = lab.workspace().await;
    write(&workspace, "src/lib.rs", "pub fn two() -> u32 { 2 }\n");
    write(&workspace, "a \"b\" ü.txt", "x".repeat(1000));
    std::fs::remove_file(workspace.join("link")).unwrap();
    write(&workspace, "link", "a file now\n");
    std::fs::remove_file(workspace.join("run.sh")).unwrap();
    let work = lab.collect(&workspace, &bare, &base).await.unwrap();
    assert_eq!(lab::changed(&work), ["A a \"b\" ü.txt", "T link", "R run.sh", "M src/lib.rs"]);
    assert_eq!(lab.git.changes(&bare, &base, &work.commit).await.unwrap(), work.changes);
    let link = work.changes.iter().find(|c| c.path == "link").unwrap();
    assert_eq!((link.status, link.old_mode, link.new_mode), (ChangeStatus::TypeChanged, Change::LINK, 0o100_644));

    let diff = String::from_utf8(lab.git.diff(&bare, &base, &work.commit, 1 << 20).await.unwrap()).unwrap();
    assert!(diff.contains("+pub fn two() -> u32 { 2 }"), "{diff}");
    let cut = String::from_utf8(lab.git.diff(&bare, &base, &work.commit, 200).await.unwrap()).unwrap();
    assert!(cut.len() < 400 && cut.ends_with("left out.\n"), "{cut}");

    let files = lab.git.files(&bare, &work.commit).await.unwrap();
    assert!(files.contains(&"src/deep/er/x.txt".to_owned()) && files.contains(&"a \"b\" ü.txt".to_owned()));
    for (path, bound, wanted) in [
        ("src/lib.rs", 100, Some(Some("pub fn two() -> u32 { 2 }\n"))),
        ("run.sh", 100, Some(None)),
        ("src", 100, Some(None)),
        ("missing", 100, Some(None)),
        ("", 100, Some(None)),
        ("*", 100, Some(None)),
        ("src/lib.rs", 5, None),
    ] {
        let read = lab.git.read(&bare, &work.commit, path, bound).await;
        match wanted {
            Some(wanted) => assert_eq!(read.unwrap().as_deref(), wanted.map(str::as_bytes), "{path}"),
            None => assert_eq!(read.unwrap_err().kind(), ErrorKind::Exhausted, "{path}"),
        }
    }
    assert_eq!(lab.git.read(&bare, &base, "link", 100).await.unwrap(), None, "links are not followed");
}

#[tokio::test]
async fn overlays_restore_what_is_named() {
    let lab = Lab::new();
    let user = lab.user("user");
    write(&user, "tests/a.rs", "a\n");
    write(&user, "tests/deep/b.rs", "b\n");
    write(&user, "check", "original\n");
    let base = lab.commit(&user, "test: checks");
    std::fs::remove_dir_all(user.join("tests")).unwrap();
    write(&user, "tests", "a file in the way\n");
    write(&user, "check", "weakened\n");
    write(&user, "added.rs", "new\n");
    let tampered = lab.commit(&user, "feat: cheat");
    let bare = lab.path("bare");
    lab.git.clone_source(text(&user), &bare).await.unwrap();
    let paths = ["tests".to_owned(), "check".to_owned(), "added.rs".to_owned(), "nowhere".to_owned()];
    let laid = lab.git.overlay(&bare, &tampered, &base, &paths).await.unwrap();
    assert_eq!(laid, lab.git.overlay(&bare, &tampered, &base, &paths).await.unwrap(), "repeatable");
    assert_eq!(lab.git.changes(&bare, &base, &laid).await.unwrap(), []);
    let one = lab.git.overlay(&bare, &tampered, &base, &["tests/deep/b.rs".to_owned()]).await.unwrap();
    let files = lab.git.files(&bare, &one).await.unwrap();
    assert!(files.contains(&"tests/deep/b.rs".to_owned()) && !files.contains(&"tests/a.rs".to_owned()), "{files:?}");
    assert_eq!(lab.git.read(&bare, &one, "check", 100).await.unwrap().unwrap(), b"weakened\n");
}

#[tokio::test]
async fn branches_move_only_from_where_they_were() {
    let lab = Lab::new();
    let user = lab.user("user");
    let base = lab.plain(&user, ["rev-parse", "HEAD"]);
    let commit = |branch: &str, path: &str, content: &str| {
        lab.plain(&user, ["checkout", "-q", "-B", branch, &base]);
        write(&user, path, content);
        lab.commit(&user, "feat: x")
    };
    let (a, b, c) = (commit("a", "a", "1"), commit("b", "b", "1"), commit("c", "a", "2"));
    lab.plain(&user, ["checkout", "-q", "--orphan", "alone"]);
    let alone = lab.commit(&user, "feat: alone");
    let (bare, git) = (lab.path("bare"), &lab.git);
    git.clone_source(text(&user), &bare).await.unwrap();

    git.advance(&bare, "run", None, &base).await.unwrap();
    git.advance(&bare, "run", Some(&base), &a).await.unwrap();
    for (old, new) in [(None, &a), (Some(&base), &b), (Some(&b), &c)] {
        let error = git.advance(&bare, "run", old.map(String::as_str), new).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{:?}", error.chain());
    }
    assert_eq!(git.resolve(&bare, "refs/heads/run").await.unwrap(), a);
    assert_eq!(git.advance(&bare, "--x", None, &a).await.unwrap_err().kind(), ErrorKind::Invalid);

    let message = CommitMessage::new("feat: both");
    assert_eq!(git.merge(&bare, &base, &a, &message).await.unwrap(), Merged::Commit(a.clone()));
    assert_eq!(git.merge(&bare, &a, &base, &message).await.unwrap(), Merged::Commit(a.clone()));
    let Merged::Commit(both) = git.merge(&bare, &a, &b, &message).await.unwrap() else { panic!("no conflict") };
    assert_eq!(git.read(&bare, &both, "a", 9).await.unwrap().unwrap(), b"1");
    assert_eq!(git.read(&bare, &both, "b", 9).await.unwrap().unwrap(), b"1");
    assert_eq!(git.merge(&bare, &a, &c, &message).await.unwrap(), Merged::Conflict(vec!["a".to_owned()]));
    assert_eq!(git.merge(&bare, &a, &alone, &message).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn delivery_never_forces_and_leaves_the_work_tree_alone() {
    let lab = Lab::new();
    let (bare, base, workspace) = lab.workspace().await;
    let user = lab.path("user");
    write(&workspace, "done", "1\n");
    let work = lab.collect(&workspace, &bare, &base).await.unwrap();
    lab.git.advance(&bare, "ralph/x", None, &work.commit).await.unwrap();
    write(&user, "README.md", "being edited\n");

    let new = lab.git.deliver(&bare, "ralph/x", &user, false).await.unwrap();
    assert_eq!((new.previous, new.switched, new.commit.as_str()), (None, false, work.commit.as_str()));
    assert!(!user.join("done").exists());
    assert_eq!(lab.plain(&user, ["status", "--porcelain"]), "M README.md");
    let again = lab.git.deliver(&bare, "ralph/x", &user, true).await.unwrap();
    assert!(again.switched && user.join("done").exists());
    assert_eq!(std::fs::read_to_string(user.join("README.md")).unwrap(), "being edited\n");

    // More work while the branch is checked out.
    write(&workspace, "done", "2\n");
    let more = lab.collect(&workspace, &bare, &base).await.unwrap();
    let message = CommitMessage::new("feat: more");
    let Merged::Commit(_) = lab.git.merge(&bare, &base, &more.commit, &message).await.unwrap() else { panic!() };
    write(&user, "mine", "mine\n");
    let foreign = lab.commit(&user, "feat: mine");
    lab.git.advance(&bare, "ralph/x", Some(&work.commit), &more.commit).await.unwrap();
    for switch in [false, true] {
        let error = lab.git.deliver(&bare, "ralph/x", &user, switch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{:?}", error.chain());
        assert!(error.next_step().is_some());
    }
    lab.plain(&user, ["checkout", "-q", "main"]);
    let error = lab.git.deliver(&bare, "ralph/x", &user, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(lab.plain(&user, ["rev-parse", "ralph/x"]), foreign, "not forced");

    let file = lab.path("out.bundle");
    lab.git.bundle(&bare, "ralph/x", &file).await.unwrap();
    lab.plain(lab.dir.path(), ["clone", "-q", "-b", "ralph/x", text(&file), text(&lab.path("from-bundle"))]);
    assert_eq!(std::fs::read_to_string(lab.path("from-bundle/done")).unwrap(), "2\n");
    assert_eq!(lab.git.bundle(&bare, "nope", &file).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn many_files_go_through() {
    let lab = Lab::new();
    let count: usize = std::env::var("COVE_GIT_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let user = lab.path("user");
    std::fs::create_dir(&user).unwrap();
    lab.plain(&user, ["init", "-q"]);
    for at in 0..count {
        write(&user, &format!("d{}/e{}/f{at}.txt", at % 20, at % 100), format!("line {at}\n").repeat(50));
    }
    lab.commit(&user, "feat: many");
    let (bare, workspace) = (lab.path("bare"), lab.path("workspace"));
    lab.git.clone_source(text(&user), &bare).await.unwrap();
    let base = lab.git.resolve(&bare, "HEAD").await.unwrap();
    let begun = Instant::now();
    lab.git.checkout(&bare, &base, "x", &workspace).await.unwrap();
    let checked_out = begun.elapsed();
    write(&workspace, "d0/e0/f0.txt", "changed\n");
    write(&workspace, "new/file", "changed\n");
    let begun = Instant::now();
    let work = lab.collect(&workspace, &bare, &base).await.unwrap();
    eprintln!("{count} files: checkout {checked_out:?}, collect {:?}", begun.elapsed());
    assert_eq!(lab::changed(&work), ["M d0/e0/f0.txt", "A new/file"]);
}
