//! Bounds, which need their own small values.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Bounds, Source};
use crate::{CommitMessage, Git};

fn plain(at: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=U", "-c", "user.email=u@example.com"];
    let done =
        Command::new("git").args(identity).args(args).current_dir(at).env("GIT_CONFIG_GLOBAL", "/dev/null").output();
    assert!(done.unwrap().status.success(), "{args:?}");
}

#[tokio::test]
async fn what_exceeds_a_bound_is_refused_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (user, bare, work) = (dir.path().join("user"), dir.path().join("bare"), dir.path().join("work"));
    std::fs::create_dir(&user).unwrap();
    plain(&user, &["init", "-q"]);
    std::fs::write(user.join("a"), "a").unwrap();
    plain(&user, &["add", "a"]);
    plain(&user, &["commit", "-q", "-m", "feat: a"]);
    let git = Git::new().unwrap();
    git.clone_source(user.to_str().unwrap(), &bare).await.unwrap();
    let base = git.resolve(&bare, "HEAD").await.unwrap();
    git.checkout(&bare, &base, "b", &work).await.unwrap();
    std::fs::create_dir_all(work.join("one/two/three")).unwrap();
    for name in ["b", "c", "one/two/three/d"] {
        std::fs::write(work.join(name), [7_u8; 100]).unwrap();
    }

    let all = Bounds::default;
    for (what, bounds, words) in [
        ("none", all(), ""),
        ("entries", Bounds { entries: 4, ..all() }, "entries"),
        ("edits", Bounds { edits: 2, ..all() }, "new or changed"),
        ("one file", Bounds { file_bytes: 99, ..all() }, "larger than 99 bytes"),
        ("all files", Bounds { total_bytes: 250, ..all() }, "larger than the bound"),
        ("depth", Bounds { depth: 2, ..all() }, "nested deeper"),
        ("time", Bounds { time: Duration::ZERO, ..all() }, "too long"),
    ] {
        let found = git
            .collect_within(&Source::plain(&work), &bare, &base, "refs/x/y", &CommitMessage::new("x"), &bounds)
            .await;
        let found = found.unwrap().unwrap();
        if words.is_empty() {
            assert_eq!((found.refused, found.changes.len()), (vec![], 3));
            continue;
        }
        assert!(found.refused.len() == 1 && found.refused[0].contains(words), "{what}: {:?}", found.refused);
        assert_eq!((found.commit.as_str(), found.changes.len()), (base.as_str(), 0), "{what}");
    }

    // Commits: too many, or too large, and the files count alone.
    for at in 0..5 {
        plain(&work, &["commit", "-q", "--allow-empty", "-m", &format!("feat: {at}")]);
    }
    for bounds in [Bounds { commits: 4, ..all() }, Bounds { objects: 3, ..all() }, Bounds { total_bytes: 400, ..all() }]
    {
        let found = git
            .collect_within(&Source::plain(&work), &bare, &base, "refs/x/y", &CommitMessage::new("x"), &bounds)
            .await;
        let found = found.unwrap().unwrap();
        assert_eq!((found.refused, found.commits, found.notes.len()), (vec![], 1, 1), "{:?}", found.notes);
    }
}
