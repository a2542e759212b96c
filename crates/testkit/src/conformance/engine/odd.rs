//! Odd names, odd paths, odd roots: taken as they are, or refused; never taken for something else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cove_core::engine::ExecSpec;
use cove_core::error::ErrorKind;
use cove_core::{Control, Mount, Root, SandboxId, SandboxSpec};

use super::bench::{Bench, shared_dir, within};
use super::{Setup, Trial, trial};

pub(super) const TRIALS: &[Trial] = &[
    trial!(naughty_names_are_taken_or_refused),
    trial!(naughty_labels_change_nothing),
    trial!(odd_sources_are_shown_or_refused, needs: [Mounts], apart: true),
    trial!(odd_targets_are_made_or_refused, needs: [Mounts], apart: true),
    trial!(a_source_that_is_a_link_is_followed, needs: [Mounts], apart: true),
    trial!(a_source_that_is_swapped_is_not_shown, needs: [Mounts], apart: true),
    trial!(what_is_not_for_sandboxes_is_refused, needs: [Mounts], apart: true),
    trial!(a_root_without_accounts_or_shell, needs: [RootDirectory], apart: true),
    trial!(a_root_that_is_none_is_refused, needs: [RootDirectory, RootArchive], apart: true),
    trial!(an_images_word_about_processes_is_not_law, needs: [RootArchive], apart: true),
];

/// What breaks programs that build command lines, paths, JSON or options out of it.
const NAUGHTY: &[&str] = &[
    "a b",
    "--privileged",
    "x'y",
    "x\"y",
    "x;id",
    "$(id)",
    "`id`",
    "a,b",
    "a:b",
    "a=b",
    "a\\b",
    "{\"a\":1}",
    "%s%n",
    "ünïcödé",
    "\u{202e}txt.exe",
    "🦀",
    "null",
    "new\nline",
    "tab\there",
];

async fn naughty_names_are_taken_or_refused(setup: &Setup) {
    for name in
        ["../../etc/x".to_owned(), "a".repeat(300), "--privileged".to_owned(), "new\nline, \"x\";$(id)".to_owned()]
    {
        let mut spec = setup.spec.clone();
        spec.name.clone_from(&name);
        let id = SandboxId::new();
        match within("create", setup.engine.create(&id, &spec)).await {
            Ok(info) => {
                assert_eq!(info.name, name);
                assert_eq!(setup.engine.inspect(&id).await.unwrap().name, name);
                within("remove", setup.engine.remove(&id)).await.unwrap();
            }
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Refused), "{name:?}: {error}"),
        }
    }
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn naughty_labels_change_nothing(setup: &Setup) {
    let bench = Bench::with(setup, |spec| {
        for (number, value) in NAUGHTY.iter().enumerate() {
            spec.labels.insert(format!("run.cove.odd-{number}"), (*value).to_owned());
        }
        // Whose it is, is not for the specification to say.
        for own in ["run.cove.instance", "run.cove.sandbox-id", "run.cove.managed"] {
            spec.labels.insert(own.to_owned(), "somebody-else".to_owned());
        }
    })
    .await;
    let swept = within("sweep", setup.engine.sweep(std::slice::from_ref(&bench.id))).await.unwrap();
    assert_eq!(swept, [], "it is still known for what it is");
    assert_eq!(bench.text("echo alive").await, "alive");
    bench.remove().await;
    assert_eq!(within("sweep", setup.engine.sweep(&[])).await.unwrap(), [], "nothing of it is left");
}

fn mount(source: &Path, target: &str) -> Mount {
    Mount { source: source.to_owned(), target: target.into(), read_only: false, give: false }
}

/// Creates with these mounts; `None` when it is refused with a reason.
async fn with_mounts(setup: &Setup, mounts: Vec<Mount>) -> Option<(SandboxId, SandboxSpec)> {
    let mut spec = setup.spec.clone();
    spec.mounts = mounts;
    let id = SandboxId::new();
    match within("create", setup.engine.create(&id, &spec)).await {
        Ok(_) => Some((id, spec)),
        Err(error) => {
            let told = error.chain().join(": ");
            let kinds = [
                ErrorKind::Unsupported,
                ErrorKind::Invalid,
                ErrorKind::NotStarted,
                ErrorKind::Refused,
                ErrorKind::NotFound,
            ];
            assert!(kinds.contains(&error.kind()) && told.len() > 20, "{:?}: {told}", error.kind());
            assert_eq!(setup.engine.list().await.unwrap(), []);
            None
        }
    }
}

async fn said(setup: &Setup, id: &SandboxId, argv: &[&str]) -> (i32, String) {
    let exec = within("exec", setup.engine.exec(id, &ExecSpec::new(argv.iter().copied()))).await.unwrap();
    let collected = within("the program", cove_core::engine::collect(exec, b"", 1 << 16)).await.unwrap();
    (collected.exit.code, String::from_utf8_lossy(&collected.stdout).into_owned())
}

async fn odd_sources_are_shown_or_refused(setup: &Setup) {
    let mut mounts = Vec::new();
    for (number, name) in NAUGHTY.iter().enumerate() {
        let dir = shared_dir(setup, name);
        fs::write(dir.join("which"), number.to_string()).unwrap();
        mounts.push(mount(&dir, &format!("/mnt/source-{number}")));
    }
    // All at once: an engine that takes each takes them together.
    let Some((id, _)) = with_mounts(setup, mounts).await else { return };
    for number in 0..NAUGHTY.len() {
        let path = format!("/mnt/source-{number}/which");
        assert_eq!(said(setup, &id, &["/bin/cat", &path]).await, (0, number.to_string()), "{:?}", NAUGHTY[number]);
    }
    within("remove", setup.engine.remove(&id)).await.unwrap();
}

async fn odd_targets_are_made_or_refused(setup: &Setup) {
    let dir = shared_dir(setup, "target");
    fs::write(dir.join("which"), "this").unwrap();
    let hard = |name: &&str| name.contains([',', ':', '"', '\\', '=', '\n', '\t']);
    let odd: Vec<&str> = NAUGHTY.iter().copied().filter(hard).collect();
    let plain: Vec<&str> = NAUGHTY.iter().copied().filter(|name| !hard(name)).collect();
    for names in [plain, odd] {
        let mounts = names.iter().map(|name| mount(&dir, &format!("/mnt/{name}"))).collect();
        let Some((id, _)) = with_mounts(setup, mounts).await else { continue };
        for name in names {
            let path = format!("/mnt/{name}/which");
            assert_eq!(said(setup, &id, &["/bin/cat", &path]).await, (0, "this".to_owned()), "{name:?}");
        }
        within("remove", setup.engine.remove(&id)).await.unwrap();
    }
}

async fn a_source_that_is_a_link_is_followed(setup: &Setup) {
    let dir = shared_dir(setup, "behind");
    fs::write(dir.join("which"), "behind the link").unwrap();
    let link = setup.scratch.join("link");
    symlink(&dir, &link).unwrap();
    let (id, _) = with_mounts(setup, vec![mount(&link, "/mnt/link")]).await.expect("it leads to a directory");
    // Where the link leads from now on is nobody's concern any more.
    fs::remove_file(&link).unwrap();
    symlink("/", &link).unwrap();
    assert_eq!(said(setup, &id, &["/bin/cat", "/mnt/link/which"]).await, (0, "behind the link".to_owned()));
    within("remove", setup.engine.remove(&id)).await.unwrap();
}

/// The source is a link that somebody turns between a directory and the host's root, as fast as possible.
async fn a_source_that_is_swapped_is_not_shown(setup: &Setup) {
    const ATTEMPTS: u32 = 8;
    const TURNS: u64 = 100;
    let good = shared_dir(setup, "good");
    fs::write(good.join("which"), "good").unwrap();
    let link = setup.scratch.join("turning");
    symlink(&good, &link).unwrap();
    let (over, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let turning = {
        let (over, turns) = (Arc::clone(&over), Arc::clone(&turns));
        let (link, next) = (link.clone(), setup.scratch.join("next"));
        std::thread::spawn(move || {
            let mut targets = [PathBuf::from("/"), good].into_iter().cycle();
            while !over.load(Ordering::Relaxed) {
                let target = targets.next().expect("it goes round");
                let _ = fs::remove_file(&next);
                if symlink(target, &next).is_ok() && fs::rename(&next, &link).is_ok() {
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let mut attempts = 0;
    // Until there was an attack worth the name.
    while attempts < ATTEMPTS || turns.load(Ordering::Relaxed) < TURNS {
        attempts += 1;
        assert!(attempts < 1000, "nobody turns the link");
        let Some((id, _)) = with_mounts(setup, vec![mount(&link, "/mnt/turning")]).await else { continue };
        let shown = said(setup, &id, &["/bin/cat", "/mnt/turning/which"]).await;
        assert_eq!(shown, (0, "good".to_owned()), "something else than the good directory is shown");
        let (code, _) = said(setup, &id, &["/bin/ls", "/mnt/turning/proc/1"]).await;
        assert_ne!(code, 0, "the host's root is shown");
        within("remove", setup.engine.remove(&id)).await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    turning.join().unwrap();
}

async fn what_is_not_for_sandboxes_is_refused(setup: &Setup) {
    for source in ["/", "/proc", "/proc/self", "/sys", "/dev", "/dev/null", "/nowhere/at/all"] {
        let mut spec = setup.spec.clone();
        spec.mounts = vec![mount(Path::new(source), "/mnt/system")];
        let refused = setup.engine.create(&SandboxId::new(), &spec).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Refused | ErrorKind::NotFound), "{source}: {refused}");
    }
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

/// A program with what it needs of this machine, at another place than usual: a root that has nothing else.
fn bare_root(setup: &Setup, name: &str) -> PathBuf {
    let root = setup.scratch.join(name);
    for program in ["/bin/cat", "/bin/id"] {
        let libraries = Command::new("ldd").arg(program).output().unwrap();
        let text = String::from_utf8_lossy(&libraries.stdout).into_owned();
        let needed = text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned);
        for path in needed.chain([program.to_owned()]) {
            let inside = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(inside.parent().unwrap()).unwrap();
            if !inside.exists() {
                fs::copy(fs::canonicalize(&path).unwrap(), inside).unwrap();
            }
        }
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    root
}

async fn a_root_without_accounts_or_shell(setup: &Setup) {
    let root = bare_root(setup, "bare");
    assert!(!root.join("etc").exists() && !root.join("bin/sh").exists());
    let bench = Bench::with(setup, |spec| spec.root = Root::Directory(root.clone())).await;
    assert_eq!(said(setup, &bench.id, &["/bin/id", "-u"]).await, (0, "1000\n".to_owned()));
    assert_eq!(said(setup, &bench.id, &["/bin/sh", "-c", "true"]).await.0, 127);
    let (_, accounts) = said(setup, &bench.id, &["/bin/cat", "/etc/passwd"]).await;
    assert!(accounts.contains(":1000:"), "{accounts}");
    bench.remove().await;
}

async fn a_root_that_is_none_is_refused(setup: &Setup) {
    let garbage = setup.scratch.join("garbage.tar");
    fs::write(&garbage, vec![0x5a; 4096]).unwrap();
    for root in [
        Root::Directory("/nowhere/at/all".into()),
        Root::Directory(garbage.clone()),
        Root::Directory("/".into()),
        Root::Archive("/nowhere/at/all.tar".into()),
        Root::Archive(garbage),
    ] {
        let mut spec = setup.spec.clone();
        spec.root = root.clone();
        match setup.engine.create(&SandboxId::new(), &spec).await {
            Ok(_) => panic!("{root:?} is no root"),
            Err(error) => assert!(error.chain().join(": ").len() > 20, "{root:?}: {error}"),
        }
    }
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

/// As `docker save` writes it, with a configuration that wants everything.
fn hostile_image(setup: &Setup) -> PathBuf {
    let place = setup.scratch.join("image");
    fs::create_dir_all(&place).unwrap();
    let root = bare_root(setup, "image-root");
    fs::create_dir_all(root.join("data")).unwrap();
    let tar = |arguments: &[&str]| assert!(Command::new("tar").args(arguments).status().unwrap().success());
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (root, layer) = (text(&root), text(&place.join("layer.tar")));
    tar(&["--owner=0", "--group=0", "-cf", layer.as_str(), "-C", root.as_str(), "."]);
    let sum = Command::new("sha256sum").arg(&layer).output().unwrap();
    let digest = String::from_utf8_lossy(&sum.stdout).split_whitespace().next().unwrap().to_owned();
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": "0:0",
            "Entrypoint": ["/bin/false"],
            "Cmd": ["--evil"],
            "WorkingDir": "/nowhere/../proc/1/cwd",
            "Env": ["PATH=/bin", "FROM_IMAGE=yes", "HOME=/evil", "USER=evil", "LD_PRELOAD=/evil.so"],
            "Volumes": { "/data": {}, "/var/lib/other": {} },
            "ExposedPorts": { "22/tcp": {} },
            "Healthcheck": { "Test": ["CMD", "/bin/false"], "Interval": 1_000_000_000 },
            "StopSignal": "SIGSTOP",
            "Labels": { "run.cove.instance": "evil", "run.cove.managed": "false" },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        "history": [{ "created_by": "evil" }],
    });
    fs::write(place.join("config.json"), config.to_string()).unwrap();
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"] }]);
    fs::write(place.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = setup.scratch.join("image.tar");
    let (written, from) = (text(&archive), text(&place));
    tar(&["-cf", written.as_str(), "-C", from.as_str(), "manifest.json", "config.json", "layer.tar"]);
    archive
}

async fn an_images_word_about_processes_is_not_law(setup: &Setup) {
    let archive = hostile_image(setup);
    let bench = Bench::with(setup, |spec| spec.root = Root::Archive(archive.clone())).await;
    assert_eq!(said(setup, &bench.id, &["/bin/id", "-u"]).await, (0, "1000\n".to_owned()), "its user is not ours");
    let (_, environment) = said(setup, &bench.id, &["/bin/cat", "/proc/self/environ"]).await;
    assert!(environment.contains("FROM_IMAGE=yes"), "what it says of variables holds: {environment}");
    assert!(!environment.contains("HOME=/evil") && !environment.contains("USER=evil"), "{environment}");
    let proof = bench.info.attestation.clone().expect("it is attested");
    assert!(proof.deviations.is_empty() && proof.proven.contains(&Control::NonRoot));
    bench.remove().await;
    assert_eq!(within("sweep", setup.engine.sweep(&[])).await.unwrap(), [], "no volume or container is left");
}
