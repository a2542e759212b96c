//! Layered workspaces: what the kernel shows is what a checkout is, and what is taken out is what would
//! have been taken out of a checkout, whatever was done in it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod lab;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cove_git::{CollectedWork, CommitMessage, Layered, Prepared};
use lab::{Lab, write};

/// Runs a script where the kernel shows the layers, as an agent in its sandbox would; `None` where this
/// host does not let us mount them.
fn inside(layered: &Layered, script: &str) -> Option<String> {
    let changes = layered.changes();
    let merged = changes.join("merged");
    std::fs::create_dir_all(&merged).unwrap();
    let mount = "mount -t overlay overlay -o \"userxattr,lowerdir=$1,upperdir=$2/upper,workdir=$2/work\" $2/merged";
    let whole = format!("set -e; ({mount}) || exit 77; cd \"$2/merged\"; {script}");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &whole, "sh"]).arg(layered.lower()).arg(changes);
    let out = agent(command).output();
    let out = match out {
        Err(_) => return None,
        Ok(out) => out,
    };
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if matches!(out.status.code(), Some(1 | 77)) && said.contains("unshare") || out.status.code() == Some(77) {
        return None;
    }
    assert!(out.status.success(), "{script}\n{said}");
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn plainly(at: &Path, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("set -e; {script}")]).current_dir(at);
    let out = agent(command).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
}

/// The same words, times and names in both.
fn agent(mut command: Command) -> Command {
    for (name, value) in [
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ("GIT_COMMITTER_DATE", "1700000000 +0000"),
    ] {
        command.env(name, value);
    }
    command
}

struct Ground {
    lab: Lab,
    bare: std::path::PathBuf,
    /// Two commits; the first is prepared.
    commits: [String; 2],
    prepared: Arc<Prepared>,
}

impl Ground {
    async fn new() -> Self {
        let lab = Lab::new();
        let user = lab.user("user");
        for number in 0..12 {
            write(&user, &format!("many/d{}/f{number}.txt", number % 3), format!("line {number}\n").repeat(9));
        }
        write(&user, "gone/a/1", "1");
        write(&user, "gone/a/2", "2");
        write(&user, "kind/file", "file");
        write(&user, "kind/dir/x", "x");
        write(&user, "sub/.gitignore", "*.out\n!keep.out\n");
        write(&user, "sub/keep.out", "kept");
        let first = lab.commit(&user, "feat: more");
        std::fs::remove_dir_all(user.join("gone/a")).unwrap();
        std::fs::remove_file(user.join("kind/file")).unwrap();
        write(&user, "kind/file/inner", "a directory now");
        std::fs::remove_dir_all(user.join("kind/dir")).unwrap();
        std::os::unix::fs::symlink("file/inner", user.join("kind/dir")).unwrap();
        write(&user, "many/d1/f1.txt", "changed");
        write(&user, "new/deep/file", "new");
        std::fs::remove_file(user.join("link")).unwrap();
        write(&user, "run.sh", "#!/bin/sh\ntrue\n");
        let second = lab.commit(&user, "feat: another state");
        let bare = lab.path("bare");
        lab.git.clone_source(user.to_str().unwrap(), &bare).await.unwrap();
        let prepared = lab.git.prepare(&bare, &first, "ralph/work", &lab.path("prepared/one")).await.unwrap();
        Self { lab, bare, commits: [first, second], prepared: Arc::new(prepared) }
    }

    async fn layer(&self, commit: &str, name: &str) -> Layered {
        let at = self.lab.path(name);
        self.lab.git.layer(&self.bare, &self.prepared, commit, "ralph/work", &at).await.unwrap()
    }

    async fn taken(&self, work: Option<CollectedWork>) -> (Option<CollectedWork>, String) {
        let tree = work.as_ref().map(|w| self.lab.plain(&self.bare, ["rev-parse", &format!("{}^{{tree}}", w.commit)]));
        // Times of the last commit differ, nothing else may.
        (work.map(|w| CollectedWork { commit: String::new(), ..w }), tree.unwrap_or_default())
    }
}

#[tokio::test]
async fn a_layered_workspace_is_the_checkout() {
    let ground = Ground::new().await;
    for (nth, commit) in ground.commits.iter().enumerate() {
        let layered = ground.layer(commit, &format!("l{nth}")).await;
        let Some(said) = inside(
            &layered,
            "git status --porcelain --ignored; git symbolic-ref HEAD; git rev-parse HEAD; \
             git fsck --strict >&2; find . -path ./.git -prune -o -print | sort; \
             find . -path ./.git -prune -o -type f -print | sort | xargs sha256sum; \
             find . -type l | sort | xargs -n1 readlink; find . -path ./.git -prune -o -type f -perm -100 -print | sort",
        ) else {
            println!("SKIP a_layered_workspace_is_the_checkout: overlays cannot be mounted in a user namespace here");
            return;
        };
        let plain = ground.lab.path(&format!("p{nth}"));
        ground.lab.git.checkout(&ground.bare, commit, "ralph/work", &plain).await.unwrap();
        let out = Command::new("sh")
            .args([
                "-c",
                "git symbolic-ref HEAD; git rev-parse HEAD; find . -path ./.git -prune -o -print | sort; \
                 find . -path ./.git -prune -o -type f -print | sort | xargs sha256sum; \
                 find . -type l | sort | xargs -n1 readlink; find . -path ./.git -prune -o -type f -perm -100 -print | sort",
            ])
            .current_dir(&plain)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        assert_eq!(said, String::from_utf8_lossy(&out.stdout), "{commit}");
        let message = CommitMessage::new("feat: x");
        let work =
            ground.lab.git.collect_layered(&layered, &ground.bare, commit, "refs/cove/x", &message).await.unwrap();
        assert_eq!(work, None, "untouched");
    }
    // The prepared tree is complete, and stays as it was.
    let status = ground.lab.plain(ground.prepared.path(), ["status", "--porcelain", "--ignored"]);
    assert_eq!(status, "");
}

/// A few hundred programs' worth of what agents do, the same for the same number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }
}

const PATHS: &[&str] = &[
    "README.md",
    "src/lib.rs",
    "src/deep/er/x.txt",
    "src/deep/y.txt",
    "run.sh",
    "many/d0/f0.txt",
    "many/d1/f1.txt",
    "many/d1/f4.txt",
    "many/d2/new.txt",
    "gone/a/1",
    "gone/b",
    "kind/file",
    "kind/dir",
    "sub/x.out",
    "sub/keep.out",
    "target/built",
    "a.log",
    "new/deep/file",
    "new/deep/more",
    "readme.md",
    "SRC/lib.rs",
    "link",
    "odd \"name\\ü",
];
const DIRECTORIES: &[&str] =
    &["src", "src/deep", "many", "many/d0", "many/d1", "gone/a", "kind", "sub", "new", "target"];

/// Every step may fail without harm: what it would have changed is then as it was, in both worlds.
fn script(dice: &mut Dice) -> String {
    let mut script = String::new();
    for _ in 0..3 + dice.roll(10) {
        let (a, b, d, e) = (dice.pick(PATHS), dice.pick(PATHS), dice.pick(DIRECTORIES), dice.pick(DIRECTORIES));
        let (a, b) = (format!("'{a}'"), format!("'{b}'"));
        let number = dice.roll(1000);
        let step = match dice.roll(26) {
            0..=3 => format!("mkdir -p \"$(dirname {a})\" && echo {number} > {a}"),
            4 => format!("echo {number} >> {a}"),
            5 | 6 => format!("rm -f {a}"),
            7 => format!("rm -rf {d}"),
            8 => format!("rm -rf {d}; mkdir -p {d}; echo {number} > {d}/again"),
            9 => format!("chmod +x {a}"),
            10 => format!("chmod -x {a}"),
            11 => format!("mkdir -p \"$(dirname {b})\" && mv -f {a} {b}"),
            12 => format!("mv {d} {e}/moved-{number}"),
            13 => format!("ln -sfn lib.rs {a}"),
            14 => format!("rm -rf {a}; mkdir -p {a}; echo {number} > {a}/inner"),
            15 => format!("rm -rf {d}; echo {number} > {d}"),
            16 => format!("ln {a} many/hard-{number}"),
            17 => format!("touch -h {a}; touch {d}"),
            18 => format!("git init -q {d}/nested-{number} && echo x > {d}/nested-{number}/f"),
            19 => format!("echo 'd0/' >> many/.gitignore; echo '*.txt' > {d}/.gitignore"),
            20 | 21 => "git add -A; git commit -q -m 'feat: step'".to_owned(),
            22 => format!("git rm -q --cached {a}; git commit -q -m 'chore: out'"),
            23 => format!("git update-index --add --cacheinfo 100644,$(git hash-object -w {a}),index-{number}"),
            24 => format!(
                "git {}",
                dice.pick(&["gc -q", "reset -q --hard", "stash -q -u", "checkout -q --detach", "repack -adq"])
            ),
            _ => format!("mkfifo many/fifo-{number}; rm -rf {d}/er"),
        };
        let _ = writeln!(script, "( {step} ) >/dev/null 2>&1 || true");
    }
    script
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_out_is_the_same() {
    let ground = Ground::new().await;
    let mut dice = Dice(20_251);
    let (mut works, mut empty, mut refused, mut histories) = (0, 0, 0, 0);
    for round in 0..36 {
        let script = script(&mut dice);
        let base = &ground.commits[round % 2];
        let layered = ground.layer(base, &format!("layered-{round}")).await;
        if inside(&layered, &script).is_none() {
            println!("SKIP what_is_taken_out_is_the_same: overlays cannot be mounted in a user namespace here");
            return;
        }
        let plain = ground.lab.path(&format!("plain-{round}"));
        ground.lab.git.checkout(&ground.bare, base, "ralph/work", &plain).await.unwrap();
        plainly(&plain, &script);
        let message = CommitMessage::new("feat: x");
        let (git, bare) = (&ground.lab.git, &ground.bare);
        let one = git.collect(&plain, bare, base, "refs/cove/plain", &message).await.unwrap();
        let two = git.collect_layered(&layered, bare, base, "refs/cove/layered", &message).await.unwrap();
        match &one {
            None => empty += 1,
            Some(work) => {
                works += 1;
                refused += usize::from(!work.refused.is_empty());
                histories += usize::from(work.commits > 1);
            }
        }
        let (one, two) = (ground.taken(one).await, ground.taken(two).await);
        assert_eq!(two, one, "round {round} from {base}\n{script}");
    }
    println!("{works} works, {empty} without, {refused} refused, {histories} with commits");
    assert!(works > 20 && refused > 1 && histories > 4, "the dice have to show all kinds");
}

#[tokio::test]
async fn what_cannot_be_laid_over_says_so() {
    let ground = Ground::new().await;
    let Ground { lab, bare, commits, prepared } = &ground;
    let user = lab.path("user");
    for number in 0..600 {
        write(&user, &format!("far/{number}"), "x");
    }
    let far = lab.commit(&user, "feat: far away");
    lab.plain(bare, ["fetch", "-q", user.to_str().unwrap(), "main"]);
    let layer = async |commit: &str, at: &str| lab.git.layer(bare, prepared, commit, "b", &lab.path(at)).await;
    assert_eq!(layer(&far, "far").await.unwrap_err().kind(), cove_core::ErrorKind::Exhausted);
    assert!(!lab.path("far").exists());
    layer(&commits[0], "used").await.unwrap();
    assert_eq!(layer(&commits[0], "used").await.unwrap_err().kind(), cove_core::ErrorKind::Conflict);
    let again = lab.git.prepare(bare, &commits[0], "b", prepared.path()).await;
    assert_eq!(again.unwrap_err().kind(), cove_core::ErrorKind::Conflict);
    // What was cut off has another name and is no prepared tree.
    let names: Vec<_> = std::fs::read_dir(lab.path("prepared")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["one"]);
}
