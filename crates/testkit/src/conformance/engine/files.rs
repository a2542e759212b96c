//! Mounts and the way to the door.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use cove_core::engine::ExecSpec;
use cove_core::error::ErrorKind;
use cove_core::{Isolation, Mount, Network, SandboxId};

use super::bench::{Bench, WORK, shared_dir};
use super::{Setup, Trial, trial};

pub(super) const TRIALS: &[Trial] = &[
    trial!(a_mount_is_the_hosts_directory, needs: [Mounts]),
    trial!(the_home_may_be_a_mount, needs: [Mounts]),
    trial!(a_read_only_mount_is_so_or_refused, needs: [Mounts]),
    trial!(a_missing_source_is_named, needs: [Mounts]),
    trial!(a_link_does_not_lead_out, needs: [Mounts], apart: true),
    trial!(the_door_is_reached, needs: [NetworkDoor]),
    trial!(a_door_that_is_shut_ends_connections, needs: [NetworkDoor]),
];

async fn a_mount_is_the_hosts_directory(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    std::fs::write(dir.join("from-host"), "host").unwrap();
    assert_eq!(bench.text("cat from-host; echo inside > from-inside").await, "host");
    assert_eq!(std::fs::read_to_string(dir.join("from-inside")).unwrap(), "inside\n");
    bench.remove().await;
    assert!(dir.join("from-host").exists());
}

async fn the_home_may_be_a_mount(setup: &Setup) {
    let (home, dir) = ("/home/ralph", shared_dir(setup, "home"));
    std::fs::write(dir.join("before"), "settings").unwrap();
    let bench = Bench::with(setup, |spec| {
        spec.env.insert("HOME".to_owned(), home.to_owned());
        spec.mounts.push(Mount { source: dir.clone(), target: home.into(), read_only: false, give: true });
    })
    .await;
    assert_eq!(bench.text("cat ~/before; echo more > ~/after").await, "settings");
    let mut spec = super::bench::sh("cat after; cat $HOME/after");
    spec.workdir = Some(home.into());
    spec.env.insert("HOME".to_owned(), home.to_owned());
    assert_eq!(bench.run(&spec, b"").await.stdout, b"more\nmore\n");
    bench.remove().await;
    assert_eq!(std::fs::read_to_string(dir.join("after")).unwrap(), "more\n");
}

async fn a_read_only_mount_is_so_or_refused(setup: &Setup) {
    let dir = shared_dir(setup, "read-only");
    std::fs::write(dir.join("file"), "kept").unwrap();
    let mut spec = setup.spec.clone();
    spec.mounts.push(Mount { source: dir.clone(), target: WORK.into(), read_only: true, give: false });
    if spec.isolation == Isolation::Process {
        let error = setup.engine.create(&SandboxId::new(), &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("mounts"), "{error}");
        return;
    }
    let bench = Bench::with(setup, |asked| *asked = spec).await;
    let said =
        bench.sh("cat file; echo x > file || echo y > new || rm file || mv file gone || chmod 777 . || exit 9").await;
    assert_eq!((said.stdout.as_slice(), said.exit.code), (&b"kept"[..], 9));
    assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "kept");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    bench.remove().await;
}

async fn a_missing_source_is_named(setup: &Setup) {
    let mut spec = setup.spec.clone();
    let source = setup.scratch.join("nowhere");
    spec.mounts.push(Mount { source: source.clone(), target: WORK.into(), read_only: false, give: false });
    let id = SandboxId::new();
    let error = setup.engine.create(&id, &spec).await.unwrap_err();
    let text = error.chain().join(": ");
    assert!(text.contains(&source.display().to_string()), "{text}");
    assert_eq!(setup.engine.inspect(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(setup.engine.sweep(&[]).await.unwrap(), [], "a failed start leaves nothing");
}

async fn a_link_does_not_lead_out(setup: &Setup) {
    let secret = setup.scratch.join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let (bench, dir) = Bench::shared(setup).await;
    std::os::unix::fs::symlink(&secret, dir.join("link")).unwrap();
    let said = bench.sh("cat link; cat ../../../../../..$(readlink link)").await;
    assert_eq!(said.stdout, b"", "the link was followed on the host");
    bench.remove().await;
}

async fn the_door_is_reached(setup: &Setup) {
    let path = shared_dir(setup, "door").join("door.sock");
    let door = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let served = std::thread::spawn(move || {
        for stream in door.incoming().take(3) {
            let mut stream = stream.unwrap();
            let mut asked = [0; 5];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&asked).unwrap();
            stream.write_all(b" back").unwrap();
        }
    });
    let bench = Bench::with(setup, |spec| spec.network = Network::Door { socket: path.clone() }).await;
    let script = "for v in HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy; do \
                  [ \"${!v}\" = \"$HTTP_PROXY\" ] || exit 3; done; \
                  a=${HTTP_PROXY#http://127.0.0.1:}; exec 3<>/dev/tcp/127.0.0.1/$a; printf there >&3; cat <&3";
    for _ in 0..3 {
        let said = bench.run(&ExecSpec::new(["bash", "-c", script]), b"").await;
        assert_eq!(String::from_utf8_lossy(&said.stdout), "there back", "{}", String::from_utf8_lossy(&said.stderr));
    }
    served.join().unwrap();
    if bench.info.spec.isolation != Isolation::Process {
        assert_eq!(bench.text("echo $HTTP_PROXY").await, "http://127.0.0.1:3128");
    }
    bench.remove().await;
}

async fn a_door_that_is_shut_ends_connections(setup: &Setup) {
    let path = shared_dir(setup, "door").join("door.sock");
    let door = UnixListener::bind(&path).unwrap();
    let bench = Bench::with(setup, |spec| spec.network = Network::Door { socket: path.clone() }).await;
    drop(door);
    let script = "a=${HTTP_PROXY#http://127.0.0.1:}; exec 3<>/dev/tcp/127.0.0.1/$a && cat <&3; echo over";
    let said = bench.run(&ExecSpec::new(["bash", "-c", script]), b"").await;
    assert_eq!(String::from_utf8_lossy(&said.stdout), "over\n");
    bench.remove().await;
}
