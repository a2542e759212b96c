//! Every protection and every limit, asked for in odd ways: it works, or it is refused by name; it is never
//! dropped without a word.

use cove_core::error::ErrorKind;
use cove_core::{Control, SandboxId, SandboxSpec, User};

use super::bench::{Bench, within};
use super::{Setup, Trial, trial};

pub(super) const TRIALS: &[Trial] = &[
    trial!(a_protection_that_is_switched_off_is_not_claimed, apart: true),
    trial!(root_inside_is_served_or_refused, apart: true),
    trial!(kept_capabilities_are_held_or_refused, apart: true),
    trial!(unknown_capabilities_are_refused, apart: true),
    trial!(limits_that_are_none_are_refused),
    trial!(limits_beyond_the_host_are_in_force_or_refused, needs: [LimitCpu, LimitMemory, LimitPids]),
    trial!(small_limits_are_in_force_or_refused, needs: [LimitCpu, LimitPids]),
    trial!(what_is_accepted_as_missing_is_said, apart: true),
];

/// Creates, or passes the refusal on after a look at it.
async fn served<'a>(setup: &'a Setup, what: &str, change: impl FnOnce(&mut SandboxSpec)) -> Option<Bench<'a>> {
    let mut spec = setup.spec.clone();
    change(&mut spec);
    let id = SandboxId::new();
    match within("create", setup.engine.create(&id, &spec)).await {
        Ok(info) => Some(Bench { setup, id, info }),
        Err(error) => {
            let told = error.chain().join(": ");
            let kinds = [ErrorKind::Unsupported, ErrorKind::Invalid, ErrorKind::NotStarted, ErrorKind::Refused];
            assert!(kinds.contains(&error.kind()), "{what}: {:?} {told}", error.kind());
            assert!(told.len() > 20, "{what} is refused without a reason: {told}");
            assert_eq!(setup.engine.list().await.unwrap(), [], "{what}: a refused sandbox is still there");
            None
        }
    }
}

async fn a_protection_that_is_switched_off_is_not_claimed(setup: &Setup) {
    type Change = fn(&mut SandboxSpec);
    let table: [(&str, Control, Change); 3] = [
        ("without a filter", Control::Seccomp, |spec| spec.hardening.seccomp = false),
        ("without Landlock", Control::Landlock, |spec| spec.hardening.landlock = false),
        ("with a writable root", Control::ReadOnlyRoot, |spec| spec.hardening.read_only_root = false),
    ];
    for (what, control, change) in table {
        let Some(bench) = served(setup, what, change).await else { continue };
        let proof = bench.info.attestation.clone().expect("it is attested");
        assert!(!proof.proven.contains(&control), "{what}: {control} is claimed");
        // What was not switched off is there.
        for kept in [Control::CapabilityDrop, Control::NonRoot, Control::NoNewPrivileges] {
            assert!(proof.proven.contains(&kept), "{what}: {kept} went along");
        }
        assert_eq!(bench.text("echo alive").await, "alive");
        bench.remove().await;
    }
}

async fn root_inside_is_served_or_refused(setup: &Setup) {
    let change = |spec: &mut SandboxSpec| {
        spec.user = User { uid: 0, gid: 0 };
        spec.hardening.non_root = false;
    };
    let Some(bench) = served(setup, "root inside", change).await else { return };
    assert_eq!(bench.text("id -u").await, "0");
    let held = bench.text("grep ^CapEff /proc/self/status").await;
    assert_eq!(held.split_whitespace().nth(1), Some("0000000000000000"));
    for file in ["/etc/shadow", "/root/.ssh"] {
        assert_ne!(bench.sh(&format!("cat {file} || ls {file}")).await.exit.code, 0, "{file}");
    }
    bench.remove().await;
    // Asked for by mistake it is refused before anything is built.
    let mut spec = setup.spec.clone();
    spec.user = User { uid: 0, gid: 0 };
    let refused = setup.engine.create(&SandboxId::new(), &spec).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

async fn kept_capabilities_are_held_or_refused(setup: &Setup) {
    let change = |spec: &mut SandboxSpec| {
        spec.hardening.capabilities.insert("CAP_NET_BIND_SERVICE".to_owned());
    };
    let Some(bench) = served(setup, "a kept capability", change).await else { return };
    let held = bench.text("grep ^CapEff /proc/self/status").await;
    assert_eq!(held.split_whitespace().nth(1), Some("0000000000000400"));
    bench.remove().await;
}

async fn unknown_capabilities_are_refused(setup: &Setup) {
    for name in ["CAP_EVERYTHING", "NET_ADMIN", "", "cap_chown", "CAP_CHOWN,CAP_SYS_ADMIN", "ALL"] {
        let mut spec = setup.spec.clone();
        spec.hardening.capabilities.insert(name.to_owned());
        let refused = setup.engine.create(&SandboxId::new(), &spec).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Invalid | ErrorKind::Unsupported), "{name:?}: {refused}");
    }
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn limits_that_are_none_are_refused(setup: &Setup) {
    type Change = fn(&mut SandboxSpec);
    let table: [Change; 12] = [
        |spec| spec.limits.cpus = Some(0.0),
        |spec| spec.limits.cpus = Some(-1.0),
        |spec| spec.limits.cpus = Some(f64::NAN),
        |spec| spec.limits.cpus = Some(f64::INFINITY),
        |spec| spec.limits.memory_bytes = Some(0),
        |spec| spec.limits.memory_bytes = Some(1),
        |spec| spec.limits.pids = Some(0),
        |spec| spec.limits.pids = Some(1),
        |spec| spec.limits.disk_bytes = Some(0),
        |spec| spec.limits.open_files = Some(0),
        |spec| spec.limits.open_files = Some(3),
        |spec| spec.limits.wall_seconds = Some(0),
    ];
    for (row, change) in table.into_iter().enumerate() {
        let mut spec = setup.spec.clone();
        change(&mut spec);
        let refused = setup.engine.create(&SandboxId::new(), &spec).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "row {row}: {refused}");
    }
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn limits_beyond_the_host_are_in_force_or_refused(setup: &Setup) {
    type Change = fn(&mut SandboxSpec);
    let table: [(&str, Control, Change); 4] = [
        ("1000 CPUs", Control::LimitCpu, |spec| spec.limits.cpus = Some(1000.0)),
        ("16 TiB of memory", Control::LimitMemory, |spec| spec.limits.memory_bytes = Some(1 << 44)),
        ("four million processes", Control::LimitPids, |spec| spec.limits.pids = Some(4_000_000)),
        ("a billion open files", Control::LimitOpenFiles, |spec| spec.limits.open_files = Some(1 << 30)),
    ];
    for (what, control, change) in table {
        let Some(bench) = served(setup, what, change).await else { continue };
        let proof = bench.info.attestation.clone().expect("it is attested");
        assert!(proof.proven.contains(&control), "{what} is neither in force nor refused");
        bench.remove().await;
    }
}

async fn small_limits_are_in_force_or_refused(setup: &Setup) {
    type Change = fn(&mut SandboxSpec);
    let table: [(&str, Control, Change); 3] = [
        ("a tenth of a CPU", Control::LimitCpu, |spec| spec.limits.cpus = Some(0.1)),
        ("a seventh of a CPU", Control::LimitCpu, |spec| spec.limits.cpus = Some(1.0 / 7.0)),
        ("eight processes", Control::LimitPids, |spec| spec.limits.pids = Some(8)),
    ];
    for (what, control, change) in table {
        let Some(bench) = served(setup, what, change).await else { continue };
        let proof = bench.info.attestation.clone().expect("it is attested");
        assert!(proof.proven.contains(&control), "{what} is neither in force nor refused");
        bench.remove().await;
    }
}

async fn what_is_accepted_as_missing_is_said(setup: &Setup) {
    let limits = [Control::LimitCpu, Control::LimitMemory, Control::LimitPids];
    let change = |spec: &mut SandboxSpec| {
        spec.limits = cove_core::Limits::default();
        spec.hardening.accept_missing = limits.into();
    };
    let bench = Bench::with(setup, change).await;
    let proof = bench.info.attestation.clone().expect("it is attested");
    for control in limits {
        let (proven, waived) = (proof.proven.contains(&control), proof.waived.contains(&control));
        assert!(proven != waived, "{control} is both or neither: proven {proven}, waived {waived}");
        assert_eq!(proven, setup.engine.capabilities().has(control), "{control}");
    }
    bench.remove().await;
}
