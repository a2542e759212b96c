//! The native engine in each set-up: real programs, roots with traps in them, and creations and
//! supervisors that break half-way.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program says what it skips")]

#[cfg(target_os = "linux")]
mod setups;

#[cfg(target_os = "linux")]
mod real {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::time::Duration;

    use cove_core::{Control, Engine, ErrorKind, ExecSpec, InstanceId, Mount, Root, SandboxId, SandboxState};
    use libtest_mimic::Trial;

    use super::setups::suite::suite;
    use super::setups::{Native, Outcome, Setup, wait};

    pub fn trials(setup: Setup) -> Vec<Trial> {
        let native = match Native::new(setup) {
            Ok(native) => Arc::new(native),
            Err(error) => {
                let told = error.chain().join(": ");
                return vec![Trial::test(format!("{}::engine", setup.name()), move || Err(told.into()))];
            }
        };
        type Body = fn(&Native, Setup) -> Outcome;
        let table: &[(&str, Body)] = &[
            ("probe", probe),
            ("programs", programs),
            ("given-files", given_files),
            ("files-of-the-owner", files_of_the_owner),
            ("layers", layers),
            ("layers-hold", layers_hold),
            ("a-root-with-traps", a_root_with_traps),
            ("a-writable-root", a_writable_root),
            ("refusals", refusals),
            ("a-failed-creation", a_failed_creation),
            ("a-creation-without-descriptors", a_creation_without_descriptors),
            ("a-lost-supervisor", a_lost_supervisor),
        ];
        table
            .iter()
            .map(|(name, body)| {
                let native = Arc::clone(&native);
                Trial::test(format!("{}::{name}", setup.name()), move || body(&native, setup))
            })
            .chain(suite(setup))
            .collect()
    }

    fn said(native: &Native, id: &SandboxId, script: &str) -> Result<String, libtest_mimic::Failed> {
        let collected = native.run(id, ExecSpec::new(["/bin/sh", "-c", script]))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if collected.exit.success() {
            return Ok(text(&collected.stdout));
        }
        Err(format!("{script}: {:?} {} {}", collected.exit, text(&collected.stdout), text(&collected.stderr)).into())
    }

    fn probe(native: &Native, setup: Setup) -> Outcome {
        let limits = [Control::LimitCpu, Control::LimitMemory, Control::LimitPids];
        for control in Control::ALL {
            let why = native.engine.capabilities().why_missing(control).map(str::to_owned);
            let offered = match control {
                Control::IsolationProcess | Control::IsolationGvisor | Control::IsolationVm => false,
                Control::NetworkHost => false,
                Control::Landlock => continue,
                control if setup == Setup::RootlessWithoutGroups => !limits.contains(&control),
                _ => true,
            };
            assert_eq!(why.is_none(), offered, "{control}: {why:?}");
            assert!(why.is_none_or(|why| why.len() > 20), "{control} has no reason worth reading");
        }
        Ok(())
    }

    /// What agents and gates run, as far as this machine has it.
    fn programs(native: &Native, _: Setup) -> Outcome {
        let table = [
            (
                "/usr/bin/node",
                "node -e 'console.log(require(\"os\").userInfo().username, new Set([1,2]).size)'",
                "ralph 2",
            ),
            (
                "/usr/bin/node",
                "node -e 'require(\"child_process\").exec(\"echo in\", (e, o) => process.stdout.write(e || o))'",
                "in",
            ),
            (
                "/usr/bin/python3",
                "/usr/bin/python3 -c 'import subprocess, threading, tempfile, socket, multiprocessing; \
                 t = threading.Thread(target=lambda: None); t.start(); t.join(); \
                 socket.socket(); tempfile.NamedTemporaryFile(); \
                 print(subprocess.check_output([\"echo\", \"out\"]).decode().strip())'",
                "out",
            ),
            (
                "/usr/bin/git",
                "cd /workspace && git init -q r && cd r && echo a > a && git add a && \
                 git -c user.name=r -c user.email=r@r commit -qm first && git clone -q . ../s && git -C ../s log --format=%s",
                "first",
            ),
            (
                "/usr/bin/gcc",
                "cd /tmp && printf '#include <stdio.h>\\nint main(){puts(\"made\");}' > a.c && gcc a.c -o a && ./a",
                "made",
            ),
            ("/usr/bin/make", "cd /tmp && printf 'all:\\n\\t@echo done\\n' > Makefile && make -j4", "done"),
            ("/usr/bin/perl", "perl -e 'print 6*7'", "42"),
            ("/usr/bin/tar", "cd /tmp && mkdir -p t && echo x > t/f && tar czf t.tgz t && tar xzOf t.tgz t/f", "x"),
            ("/bin/sh", "id -u; id -un; pwd; umask", "1000\nralph\n/workspace\n0022"),
            (
                "/bin/sh",
                "echo hi > /dev/null && head -c 4 /dev/urandom | wc -c && test -w /dev/shm && echo ok",
                "4\nok",
            ),
        ];
        let id = native.create(&native.spec())?;
        for (program, script, expected) in table {
            if !Path::new(program).exists() {
                eprintln!("SKIPPED {program}: not on this machine");
                continue;
            }
            assert_eq!(said(native, &id, script)?, expected, "{script}");
        }
        native.remove(&id)
    }

    fn given_files(native: &Native, _: Setup) -> Outcome {
        let work = native.path("given");
        fs::create_dir_all(work.join("deep/deeper"))?;
        fs::write(work.join("deep/file"), "before")?;
        symlink("/etc/passwd", work.join("link"))?;
        fs::set_permissions(&work, fs::Permissions::from_mode(0o700))?;
        let passwd = fs::metadata("/etc/passwd")?;
        for round in 0..2 {
            let mut spec = native.spec();
            spec.mounts =
                vec![Mount { source: work.clone(), target: "/workspace".into(), read_only: false, give: true }];
            let id = native.create(&spec)?;
            let script =
                format!("echo {round} >> deep/file && mkdir -p new/{round} && chmod 700 new/{round} && stat -c %u .");
            assert_eq!(said(native, &id, &script)?, "1000");
            native.remove(&id)?;
        }
        assert_eq!(fs::read_to_string(work.join("deep/file"))?, "before0\n1\n");
        assert_eq!(fs::metadata("/etc/passwd")?.uid(), passwd.uid(), "a link was followed");
        fs::remove_dir_all(&work)?;
        Ok(())
    }

    /// Files that were not given are the sandbox user's to read and, where writable, to write, and
    /// stay their owner's.
    fn files_of_the_owner(native: &Native, _: Setup) -> Outcome {
        let work = native.path("owned");
        fs::create_dir_all(&work)?;
        fs::set_permissions(&work, fs::Permissions::from_mode(0o700))?;
        fs::write(work.join("file"), "private")?;
        let owner = fs::metadata(&work)?.uid();
        let mut spec = native.spec();
        let mount =
            |target: &str, read_only| Mount { source: work.clone(), target: target.into(), read_only, give: false };
        spec.mounts = vec![mount("/mnt/ro", true), mount("/mnt/rw", false)];
        let id = native.create(&spec)?;
        assert_eq!(
            said(native, &id, "cat /mnt/ro/file; ! touch /mnt/ro/new 2>/dev/null; touch /mnt/rw/new")?,
            "private"
        );
        assert_eq!(fs::metadata(work.join("new"))?.uid(), owner);
        native.remove(&id)
    }

    /// A tree for layers, and the directory of changes of one sandbox.
    fn layer(native: &Native, name: &str, changes: &str) -> Result<cove_core::Layer, libtest_mimic::Failed> {
        let (lower, changes) = (native.path(name), native.path(changes));
        if !lower.exists() {
            fs::create_dir_all(lower.join("dir/inner"))?;
            for file in ["dir/one", "dir/two", "dir/inner/three", "top"] {
                fs::write(lower.join(file), file)?;
            }
            symlink("dir/one", lower.join("link"))?;
            fs::set_permissions(lower.join("dir/one"), fs::Permissions::from_mode(0o600))?;
            fs::set_permissions(&lower, fs::Permissions::from_mode(0o700))?;
        }
        for directory in ["upper", "work"] {
            fs::create_dir_all(changes.join(directory))?;
        }
        Ok(cove_core::Layer { lower, changes, target: "/workspace".into() })
    }

    /// What is below is everybody's to read, changes are one sandbox's, and the host finds them.
    fn layers(native: &Native, _: Setup) -> Outcome {
        let layers = [layer(native, "shared", "first")?, layer(native, "shared", "second")?];
        let before = listing(&layers[0].lower);
        let ids: Vec<SandboxId> = layers
            .iter()
            .map(|layer| {
                let mut spec = native.spec();
                spec.layers = vec![layer.clone()];
                native.create(&spec)
            })
            .collect::<Result<_, _>>()?;
        let script = "cat dir/one && echo changed > dir/one && rm dir/two top && chmod +x dir/inner/three && \
                      rm -r dir/inner && mkdir dir/inner && echo new > dir/inner/new && touch -h link && \
                      mv link moved && stat -c %u dir/one moved .";
        assert_eq!(said(native, &ids[0], script)?, "dir/one1000\n1000\n1000");
        // The other sees nothing of it.
        let found = said(native, &ids[1], "cat dir/one dir/two dir/inner/three top link; ls -A dir/inner")?;
        assert_eq!(found, "dir/onedir/twodir/inner/threetopdir/onethree");
        for id in &ids {
            native.remove(id)?;
        }
        let upper = layers[0].changes.join("upper");
        assert_eq!(fs::read_to_string(upper.join("dir/one"))?, "changed\n");
        let gone = fs::symlink_metadata(upper.join("top"))?;
        assert!(gone.mode() & 0o170_000 == 0o020_000 && gone.rdev() == 0, "a removed file leaves a whiteout");
        assert_eq!(listing(&layers[1].changes.join("upper")), BTreeSet::new());
        assert_eq!(listing(&layers[0].lower), before);
        assert_eq!(fs::read_to_string(layers[0].lower.join("dir/one"))?, "dir/one");

        // What is there already is shown; what is missing is refused with nothing left behind.
        let mut spec = native.spec();
        spec.layers = vec![layers[0].clone()];
        let again = native.create(&spec)?;
        assert_eq!(said(native, &again, "cat dir/one; ls")?, "changed\ndir\nmoved");
        native.remove(&again)?;
        let third = layer(native, "shared", "third")?;
        fs::remove_dir(third.changes.join("upper"))?;
        symlink("/etc", third.changes.join("upper"))?;
        spec.layers = vec![third];
        assert!(native.create(&spec).is_err());
        Ok(())
    }

    /// Nothing inside reaches the shared tree for writing, or forges what only the kernel writes.
    fn layers_hold(native: &Native, _: Setup) -> Outcome {
        let layer = layer(native, "held", "changes")?;
        let mut spec = native.spec();
        spec.layers = vec![layer.clone()];
        let id = native.create(&spec)?;
        let table = [
            ("mknod dir/node c 0 0 && echo forged", "a whiteout"),
            ("mount -o remount,rw /workspace && echo mounted", "a remount"),
            ("umount /workspace && echo bare", "what lies below the mount"),
            ("mount -t overlay x -o lowerdir=/workspace,upperdir=/tmp,workdir=/run /mnt && echo mounted", "an overlay"),
            ("ls -d /tmp/layer-* /tmp/lower /tmp/upper && echo shown", "the stage"),
            ("ls -d ../*/upper ../*/work && echo shown", "the changes themselves"),
        ];
        for (script, what) in table {
            assert_eq!(said(native, &id, &format!("({script}) 2>/dev/null || true"))?, "", "{what}");
        }
        // Attributes that steer overlays are stored as ordinary ones or not at all.
        let python = "import os\nfor n, v in [('opaque', b'y'), ('redirect', b'/etc'), ('metacopy', b'')]:\n\
                      \ttry: os.setxattr('dir', 'user.overlay.' + n, v)\n\texcept OSError: pass";
        if Path::new("/usr/bin/python3").exists() {
            said(native, &id, &format!("/usr/bin/python3 -c \"{python}\""))?;
        }
        assert_eq!(said(native, &id, "cat dir/two; ls dir/inner")?, "dir/twothree");
        native.remove(&id)?;
        let again = native.create(&spec)?;
        assert_eq!(said(native, &again, "cat dir/two; ls dir/inner")?, "dir/twothree", "after another mount");
        native.remove(&again)?;
        assert_eq!(fs::read_to_string(layer.lower.join("dir/two"))?, "dir/two");
        Ok(())
    }

    /// A root of links: nothing is made or shown outside of it.
    fn a_root_with_traps(native: &Native, _: Setup) -> Outcome {
        let (root, outside) = (native.path("traps"), native.path("outside"));
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&outside)?;
        static_shell(&root)?;
        symlink(&outside, root.join("workspace"))?;
        symlink("../../../../../../tmp", root.join("home"))?;
        symlink("/proc/self/root", root.join("mnt"))?;
        fs::create_dir_all(root.join("etc"))?;
        symlink(outside.join("resolv.conf"), root.join("etc/resolv.conf"))?;
        symlink("/", root.join("run"))?;
        let mut spec = native.spec();
        spec.root = Root::Directory(root.clone());
        let before = listing(&root);
        match native.create(&spec) {
            // Either the links lead nowhere inside and the root is refused, …
            Err(error) => assert!(error.contains("step="), "{error}"),
            // … or they were resolved inside.
            Ok(id) => {
                assert_eq!(said(native, &id, "touch /x 2>/dev/null || echo refused")?, "refused");
                native.remove(&id)?;
            }
        }
        assert_eq!(listing(&outside), BTreeSet::new(), "something was made outside");
        assert_eq!(listing(&root), before, "the root was changed");
        Ok(())
    }

    fn a_writable_root(native: &Native, _: Setup) -> Outcome {
        let root = native.path("writable");
        fs::create_dir_all(root.join("etc"))?;
        static_shell(&root)?;
        let before = listing(&root);
        let mut spec = native.spec();
        spec.root = Root::Directory(root.clone());
        spec.hardening.read_only_root = false;
        spec.workdir = "/deep/work".into();
        let id = native.create(&spec)?;
        assert_eq!(
            said(native, &id, "echo a > /new && echo b > /etc/x && echo c > /deep/work/y && cat /new /etc/x && pwd")?,
            "a\nb\n/deep/work"
        );
        native.remove(&id)?;
        assert_eq!(listing(&root), before, "the root was changed");
        Ok(())
    }

    /// A root of one program: this machine's busybox or shell with its libraries.
    fn static_shell(root: &Path) -> std::io::Result<()> {
        fs::create_dir_all(root.join("bin"))?;
        for program in ["/bin/sh", "/bin/touch", "/bin/cat"] {
            let libraries = std::process::Command::new("ldd").arg(program).output()?;
            let text = String::from_utf8_lossy(&libraries.stdout).into_owned();
            let needed = text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned);
            for path in needed.chain([program.to_owned()]) {
                let inside = root.join(path.trim_start_matches('/'));
                fs::create_dir_all(inside.parent().unwrap_or(root))?;
                fs::copy(fs::canonicalize(&path)?, inside)?;
            }
        }
        Ok(())
    }

    fn listing(dir: &Path) -> BTreeSet<PathBuf> {
        let mut out = BTreeSet::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                out.extend(listing(&entry.path()));
            }
            out.insert(entry.path());
        }
        out
    }

    fn refusals(native: &Native, _: Setup) -> Outcome {
        let create = |change: &dyn Fn(&mut cove_core::SandboxSpec)| {
            let mut spec = native.spec();
            change(&mut spec);
            let id = SandboxId::new();
            let made = native.runtime.block_on(native.engine.create(&id, &spec));
            let kind = made.err().map(|error| error.kind());
            (kind, native.runtime.block_on(native.engine.inspect(&id)).is_err())
        };
        let mount = |source: &str, target: &str| Mount {
            source: source.into(),
            target: target.into(),
            read_only: true,
            give: false,
        };
        type Change = Box<dyn Fn(&mut cove_core::SandboxSpec)>;
        let table: Vec<(&str, Change, ErrorKind)> = vec![
            ("the host's root as a mount", Box::new(move |s| s.mounts.push(mount("/", "/host"))), ErrorKind::Refused),
            ("a kernel file system", Box::new(move |s| s.mounts.push(mount("/proc/1", "/host"))), ErrorKind::Refused),
            ("a missing source", Box::new(move |s| s.mounts.push(mount("/no/such", "/x"))), ErrorKind::NotFound),
            ("a missing root", Box::new(|s| s.root = Root::Directory("/no/such".into())), ErrorKind::NotFound),
            ("the host's network", Box::new(|s| s.network = cove_core::Network::Host), ErrorKind::Unsupported),
            (
                "an unknown capability",
                Box::new(|s| s.hardening.capabilities = ["CAP_ALL".to_owned()].into()),
                ErrorKind::Invalid,
            ),
        ];
        for (name, change, expected) in table {
            assert_eq!(create(&*change), (Some(expected), true), "{name}");
        }
        Ok(())
    }

    /// Creations that fail in the middle leave no control group.
    fn a_failed_creation(_: &Native, setup: Setup) -> Outcome {
        let dir = tempfile::tempdir()?;
        let instance = InstanceId::new();
        let native = Native::with(setup, dir.path(), &instance)?;
        let mut spec = native.spec();
        let state = native.path("state");
        spec.mounts.push(Mount { source: state, target: "/x".into(), read_only: true, give: false });
        let error = native.create(&spec).expect_err("the state directory is not shown");
        assert!(error.contains("own sockets"), "{error}");
        fs::create_dir(dir.path().join("shown"))?;
        for target in ["/usr/nowhere/to/mount", "/etc/passwd/below"] {
            let mut spec = native.spec();
            let source = dir.path().join("shown");
            spec.mounts.push(Mount { source, target: target.into(), read_only: true, give: false });
            let error = native.create(&spec).expect_err("there is no place to mount");
            assert!(error.contains("step="), "{error}");
        }
        let mut left = groups();
        left.retain(|group| group.to_string_lossy().contains(instance.short()));
        assert!(left.is_empty(), "{left:?}");
        Ok(())
    }

    /// Whatever number of descriptors building runs out at, nothing is left of it.
    fn a_creation_without_descriptors(native: &Native, setup: Setup) -> Outcome {
        let dir = tempfile::tempdir()?;
        let instance = InstanceId::new();
        let program = std::env::current_exe()?.to_string_lossy().into_owned();
        let (mut failed, mut made) = (0, 0);
        for most in (4..160).step_by(6) {
            let script = format!("ulimit -n {most}; exec '{program}' __supervise \"$0\"");
            let helper = cove_engines::HelperProgram(vec!["/bin/sh".to_owned(), "-c".to_owned(), script]);
            let engine = setup.engine_with(&dir.path().join("state"), &instance, helper)?;
            let id = SandboxId::new();
            match native.runtime.block_on(engine.create(&id, &native.spec())) {
                Ok(_) => {
                    made += 1;
                    native.runtime.block_on(engine.remove(&id))?;
                }
                Err(_) => failed += 1,
            }
            let mut left = groups();
            left.retain(|group| group.to_string_lossy().contains(instance.short()));
            assert!(left.is_empty(), "with {most} descriptors: {left:?}");
        }
        assert!(failed > 0 && made > 0, "{failed} failed, {made} made");
        Ok(())
    }

    /// Control groups of sandboxes, anywhere.
    fn groups() -> Vec<PathBuf> {
        fn below(dir: &Path, depth: usize, out: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if entry.file_name().to_string_lossy().starts_with("cove-") {
                        out.push(entry.path());
                    }
                    below(&entry.path(), depth - 1, out);
                }
            }
        }
        let mut out = Vec::new();
        below(Path::new("/sys/fs/cgroup"), 5, &mut out);
        out
    }

    /// With its supervisor killed, a sandbox ends; a sweep removes its control groups.
    fn a_lost_supervisor(_: &Native, setup: Setup) -> Outcome {
        // A directory and instance of its own, as it sweeps.
        let dir = tempfile::tempdir()?;
        let instance = InstanceId::new();
        let native = Native::with(setup, dir.path(), &instance)?;
        let id = native.create(&native.spec())?;
        let named = |group: &PathBuf| group.to_string_lossy().contains(id.as_str());
        let made = groups().iter().filter(|group| named(group)).count();
        assert_eq!(made > 0, native.has(Control::LimitPids), "groups as the capabilities say");
        let directory = cove_engines::supervisor::plan::Directory(dir.path().join("state/sandboxes").join(id.as_str()));
        let supervisor = directory.supervisor().ok_or("there is no supervisor")?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor as i32), nix::sys::signal::Signal::SIGKILL)?;
        let state = || native.runtime.block_on(native.engine.inspect(&id)).map(|info| info.state);
        assert!(wait(|| !matches!(state(), Ok(SandboxState::Running))), "{:?}", state());
        let emptied = || {
            groups()
                .iter()
                .filter(|group| named(group))
                .all(|group| fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|text| text.trim().is_empty()))
        };
        assert!(wait(emptied), "processes outlived their supervisor");
        native.runtime.block_on(native.engine.sweep(&[]))?;
        assert_eq!(groups().iter().filter(|group| named(group)).count(), 0);
        native.runtime.block_on(async { native.engine.stop(&id, Duration::ZERO).await })?;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn main() {
    cove_engines::helper_main();
    setups::main(real::trials)
}

#[cfg(not(target_os = "linux"))]
fn main() {}
