//! What a sandbox that is kept apart cannot see or do.

use cove_core::engine::ExecSpec;

use super::bench::{Bench, rest, sh, until};
use super::{Setup, Trial, trial};

pub(super) const TRIALS: &[Trial] = &[
    trial!(the_root_cannot_be_written, needs: [ReadOnlyRoot], apart: true),
    trial!(no_capability_is_held, needs: [CapabilityDrop], apart: true),
    trial!(no_privilege_can_be_gained, needs: [NoNewPrivileges], apart: true),
    trial!(calls_are_filtered, needs: [Seccomp], apart: true),
    trial!(programs_are_not_root, needs: [NonRoot], apart: true),
    trial!(there_is_no_network, needs: [NetworkNone], apart: true),
    trial!(kernel_secrets_are_masked, needs: [MaskedPaths], apart: true),
    trial!(the_hosts_processes_are_invisible, apart: true),
    trial!(sandboxes_do_not_see_each_other, apart: true),
    trial!(killing_everything_kills_nothing_else, apart: true),
    trial!(there_are_no_devices_of_the_host, apart: true),
    trial!(personal_data_are_invisible, needs: [RootHost], apart: true),
    trial!(every_namespace_is_its_own, apart: true),
    trial!(process_one_is_closed_to_programs, apart: true),
];

async fn the_root_cannot_be_written(setup: &Setup) {
    let bench = Bench::new(setup).await;
    for dir in ["/", "/usr", "/etc", "/bin", "/lib", "/var", "/opt", "/sys", "/proc/sys/kernel"] {
        let said = bench.sh(&format!("[ ! -d {dir} ] || touch {dir}/cove-trial 2>/dev/null && [ -d {dir} ]")).await;
        assert_ne!(said.exit.code, 0, "{dir} can be written");
    }
    assert_eq!(bench.text("touch /tmp/here && echo temporary").await, "temporary");
    bench.remove().await;
}

async fn no_capability_is_held(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let held = bench.text("grep ^Cap /proc/self/status").await;
    for line in held.lines() {
        assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{held}");
    }
    assert_eq!(held.lines().count(), 5);
    bench.remove().await;
}

async fn no_privilege_can_be_gained(setup: &Setup) {
    let bench = Bench::new(setup).await;
    assert_eq!(bench.text("grep ^NoNewPrivs /proc/self/status | tr -dc 01").await, "1");
    bench.remove().await;
}

async fn calls_are_filtered(setup: &Setup) {
    let bench = Bench::new(setup).await;
    assert_eq!(bench.text("grep ^Seccomp: /proc/self/status | tr -dc 0-9").await, "2");
    for program in ["unshare -U true", "unshare -m true", "dmesg", "mount -t tmpfs none /tmp", "chroot / true"] {
        assert_ne!(bench.sh(program).await.exit.code, 0, "{program}");
    }
    bench.remove().await;
}

async fn programs_are_not_root(setup: &Setup) {
    let bench = Bench::new(setup).await;
    assert_eq!(bench.text("id -u; id -g").await, "1000\n1000");
    assert_ne!(bench.sh("cat /etc/shadow").await.exit.code, 0);
    bench.remove().await;
}

async fn there_is_no_network(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let interfaces = bench.text("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").await;
    assert_eq!(interfaces, "lo");
    let reach = ExecSpec::new(["bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/80"]);
    assert_ne!(bench.run(&reach, b"").await.exit.code, 0);
    bench.remove().await;
}

async fn kernel_secrets_are_masked(setup: &Setup) {
    let bench = Bench::new(setup).await;
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats"] {
        let said = bench.sh(&format!("head -c 1 {path} 2>/dev/null")).await;
        assert_eq!(said.stdout, b"", "{path} can be read");
    }
    for path in ["/proc/scsi", "/proc/acpi", "/sys/firmware"] {
        let said = bench.sh(&format!("ls -A {path} 2>/dev/null")).await;
        assert_eq!(said.stdout, b"", "{path} can be listed");
    }
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"] {
        let said = bench.sh(&format!("[ -d {path} ] && touch {path}/x || printf x > {path}")).await;
        assert_ne!(said.exit.code, 0, "{path} can be written");
    }
    bench.remove().await;
}

const LIST: &str = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'";

async fn the_hosts_processes_are_invisible(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let count: usize = bench.text("ls -d /proc/[0-9]* | wc -l").await.parse().unwrap();
    assert!(count <= 8, "{count} processes are visible");
    let own = std::env::current_exe().unwrap();
    let name = own.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!bench.text(LIST).await.contains(&name), "the process that makes this trial is visible");
    bench.remove().await;
}

async fn sandboxes_do_not_see_each_other(setup: &Setup) {
    let (one, two) = tokio::join!(Bench::new(setup), Bench::new(setup));
    let mut hidden = one.exec(&sh("echo ready; exec sleep 98765")).await;
    until(&mut hidden, "ready").await;
    crate::eventually("its own processes", super::bench::DEADLINE, async || one.text(LIST).await.contains("98765"))
        .await;
    assert!(!two.text(LIST).await.contains("98765"));
    let left = one.text("echo mine > /tmp/left && echo ok").await;
    assert_eq!((left.as_str(), two.sh("cat /tmp/left").await.exit.success()), ("ok", false));
    drop(hidden);
    tokio::join!(one.remove(), two.remove());
}

async fn killing_everything_kills_nothing_else(setup: &Setup) {
    let (one, two) = tokio::join!(Bench::new(setup), Bench::new(setup));
    let mut other = two.exec(&sh("echo ready; read line; echo $line")).await;
    until(&mut other, "ready").await;
    one.sh("kill -9 1; kill -9 -1; true").await;
    assert_eq!(one.text("echo alive").await, "alive", "process 1 cannot be killed from inside");
    other.input.write(b"alive\n").await.unwrap();
    assert_eq!(rest(&mut other).await.0, "alive\n");
    tokio::join!(one.remove(), two.remove());
}

async fn there_are_no_devices_of_the_host(setup: &Setup) {
    let bench = Bench::new(setup).await;
    assert_eq!(bench.text("find /dev -type b 2>/dev/null | wc -l").await, "0");
    for device in ["/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun"] {
        assert_ne!(bench.sh(&format!("head -c 1 {device}")).await.exit.code, 0, "{device}");
    }
    assert_eq!(
        bench.text("head -c 3 /dev/zero | wc -c; echo x > /dev/null; [ -c /dev/urandom ] && echo ok").await,
        "3\nok"
    );
    assert_ne!(bench.sh("mknod /tmp/disk b 8 0").await.exit.code, 0);
    bench.remove().await;
}

async fn personal_data_are_invisible(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let secret = setup.scratch.join("personal");
    std::fs::write(&secret, "a diary").unwrap();
    assert_ne!(bench.sh(&format!("cat {}", secret.display())).await.exit.code, 0);
    for path in ["/root/.ssh", "/root/.cargo", "/run/docker.sock", "/var/run/docker.sock", "/etc/shadow"] {
        assert_ne!(bench.sh(&format!("[ -d {path} ] && ls -A {path} || cat {path}")).await.exit.code, 0, "{path}");
    }
    bench.remove().await;
}

async fn every_namespace_is_its_own(setup: &Setup) {
    let bench = Bench::new(setup).await;
    for name in ["ipc", "mnt", "net", "pid", "uts"] {
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let inside = bench.text(&format!("readlink /proc/self/ns/{name}")).await;
        assert_ne!(link.to_str().unwrap(), inside, "{name} is the host's");
    }
    bench.remove().await;
}

async fn process_one_is_closed_to_programs(setup: &Setup) {
    let bench = Bench::new(setup).await;
    for way in ["cat /proc/1/environ", "ls /proc/1/fd", "ls /proc/1/cwd/", "head -c 1 /proc/1/mem", "cat /proc/1/maps"]
    {
        let said = bench.sh(way).await;
        assert_eq!((said.stdout.as_slice(), said.exit.success()), (&b""[..], false), "{way}");
    }
    bench.remove().await;
}
