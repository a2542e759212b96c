//! The request for a container.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountTmpfsOptions, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use cove_core::{InstanceId, Result, SandboxId, SandboxSpec};
use cove_guest::wire::JOIN;
use nix::sys::resource::{Resource, getrlimit};

use super::dialect::{Dialect, Facts};
use super::image::Image;
use super::layout::{Layout, OWN};
use crate::filter::limits::resources;
use crate::filter::profile::profile;
use crate::proof::{MASKED, READ_ONLY};
use crate::supervisor::launch::Place;

/// Label of everything that Cove makes.
pub const MANAGED: &str = "run.cove.managed";
/// Label: whose it is.
pub const INSTANCE: &str = "run.cove.instance";
/// Label: which sandbox.
pub const SANDBOX: &str = "run.cove.sandbox-id";

/// Parts of `/sys` that say more about the host than a sandbox needs. What remains are the control groups.
const MASKED_SYS: &[&str] = &[
    "/sys/block",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/devices",
    "/sys/firmware",
    "/sys/hypervisor",
    "/sys/kernel",
    "/sys/module",
    "/sys/power",
];

/// Microseconds of the period that CPU quotas refer to.
const PERIOD_US: i64 = 100_000;

/// The name of a sandbox's container.
pub fn container_name(instance: &InstanceId, id: &SandboxId) -> String {
    format!("cove-{}-{id}", instance.short())
}

/// Labels: the spec's own, and over them those that say whose it is.
fn labels(place: &Place, spec: &SandboxSpec) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = spec.labels.clone().into_iter().collect();
    let ours = [
        (MANAGED, "true".to_owned()),
        (INSTANCE, place.instance.to_string()),
        (SANDBOX, place.id.to_string()),
        ("run.cove.schema", "1".to_owned()),
        ("run.cove.created-at", jiff::Timestamp::now().to_string()),
    ];
    labels.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    labels.entry("run.cove.role".to_owned()).or_insert_with(|| "agent".to_owned());
    labels
}

/// The request.
///
/// # Errors
/// `Internal` when a file that belongs to it cannot be written.
pub fn body(
    place: &Place,
    spec: &SandboxSpec,
    image: &Image,
    layout: &Layout,
    facts: Facts,
    dialect: &dyn Dialect,
) -> Result<ContainerCreateBody> {
    let none = || Some(false);
    Ok(ContainerCreateBody {
        hostname: Some("cove".to_owned()),
        user: Some(format!("{}:{}", spec.user.uid, spec.user.gid)),
        attach_stdin: none(),
        attach_stdout: none(),
        attach_stderr: none(),
        tty: none(),
        open_stdin: none(),
        env: Some(Vec::new()),
        cmd: Some(Vec::new()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        image: Some(image.id.clone()),
        working_dir: Some("/".to_owned()),
        entrypoint: Some(vec![format!("{OWN}/guest"), JOIN.to_owned()]),
        labels: Some(labels(place, spec)),
        host_config: Some(host(place, spec, layout, facts, dialect)?),
        ..ContainerCreateBody::default()
    })
}

fn host(place: &Place, spec: &SandboxSpec, layout: &Layout, facts: Facts, dialect: &dyn Dialect) -> Result<HostConfig> {
    let limits = &spec.limits;
    let memory = limits.memory_bytes.map(signed);
    let mut security = vec!["no-new-privileges".to_owned()];
    if spec.hardening.seccomp {
        security.push(dialect.filter(&profile(), &place.dir)?);
    } else {
        security.push("seccomp=unconfined".to_owned());
    }
    let shared = layout.memory.iter().find(|memory| memory.at == Path::new("/dev/shm"));
    let mut host = HostConfig {
        readonly_rootfs: Some(spec.hardening.read_only_root),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(spec.hardening.capabilities.iter().cloned().collect()),
        security_opt: Some(security),
        privileged: Some(false),
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        userns_mode: dialect.users(facts, spec.user),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        init: Some(false),
        auto_remove: Some(false),
        publish_all_ports: Some(false),
        memory,
        memory_swap: memory,
        pids_limit: limits.pids.map(signed),
        // Not in billionths of a CPU: that is refused beyond what the host has.
        cpu_period: limits.cpus.map(|_| PERIOD_US),
        cpu_quota: limits.cpus.map(|cpus| ((cpus * PERIOD_US as f64).round() as i64).max(1000)),
        ulimits: dialect.takes_ulimits().then(|| ulimits(spec)),
        shm_size: shared.map(|memory| signed(memory.bytes)),
        mounts: Some(mounts(layout)),
        tmpfs: Some(tmpfs(spec, layout, dialect)),
        ..HostConfig::default()
    };
    let text = |path: &&str| (*path).to_owned();
    dialect.cover(&mut host, MASKED.iter().chain(MASKED_SYS).map(text).collect(), READ_ONLY.iter().map(text).collect());
    Ok(host)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What is asked for, never above what this process may have itself. The guest lowers the rest: an engine
/// that lacks the right to raise limits fails on values that lie above its own.
fn ulimits(spec: &SandboxSpec) -> Vec<ResourcesUlimits> {
    let one = |(resource, value): (Resource, u64)| {
        let name = match resource {
            Resource::RLIMIT_CORE => "core",
            Resource::RLIMIT_RTPRIO => "rtprio",
            Resource::RLIMIT_NOFILE => "nofile",
            Resource::RLIMIT_FSIZE => "fsize",
            _ => return None,
        };
        let hard = getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
        let value = value.min(hard);
        let value = if value == libc::RLIM_INFINITY { -1 } else { signed(value) };
        Some(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) })
    };
    resources(&spec.limits, false).into_iter().filter_map(one).collect()
}

fn mounts(layout: &Layout) -> Vec<Mount> {
    let text = |path: &Path| Some(path.to_string_lossy().into_owned());
    let mut mounts: Vec<Mount> = layout
        .views
        .iter()
        .map(|view| Mount {
            typ: Some(MountType::BIND),
            source: text(&view.source),
            target: text(&view.target),
            read_only: Some(view.read_only),
            ..Mount::default()
        })
        .collect();
    // Only as a mount of this kind do they keep a volume from being made.
    mounts.extend(layout.volumes.iter().map(|memory| Mount {
        typ: Some(MountType::TMPFS),
        target: text(&memory.at),
        tmpfs_options: Some(MountTmpfsOptions {
            size_bytes: Some(signed(memory.bytes)),
            mode: Some(i64::from(memory.mode)),
            ..MountTmpfsOptions::default()
        }),
        ..Mount::default()
    }));
    mounts
}

fn tmpfs(spec: &SandboxSpec, layout: &Layout, dialect: &dyn Dialect) -> HashMap<String, String> {
    let others = layout.memory.iter().filter(|memory| memory.at != Path::new("/dev/shm"));
    others.map(|memory| (memory.at.to_string_lossy().into_owned(), dialect.memory(memory, spec.user))).collect()
}
