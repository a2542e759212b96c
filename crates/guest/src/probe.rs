//! Reads what is in force, in a forked child as every program inside is one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cove_guest::channel::Channel;
use cove_guest::wire::{Facts, Probe};

use crate::system::{self, Fork};

/// Seconds after which a probe that hangs is ended.
const LIMIT_SECONDS: u32 = 15;

/// Most entries of any list in the answer.
const ENTRIES: usize = 256;

/// Looks around and tells.
pub fn run(what: &Probe, channel: &Channel) -> io::Result<Box<Facts>> {
    let (reader, mut writer) = io::pipe()?;
    match system::fork()? {
        Fork::Parent(_) => {
            drop(writer);
            let mut bytes = Vec::new();
            reader.take(48 << 10).read_to_end(&mut bytes)?;
            serde_json::from_slice(&bytes).map_err(|_| io::Error::other("the probe ended without an answer"))
        }
        Fork::Child => {
            drop(reader);
            system::default_signals();
            system::alarm(LIMIT_SECONDS);
            if let Ok(null) = File::open("/dev/null") {
                let _ = system::install_over(&null, channel.as_raw_fd());
                system::set_dumpable(true);
            }
            if let Ok(bytes) = serde_json::to_vec(&look(what)) {
                let _ = writer.write_all(&bytes);
            }
            system::exit(0)
        }
    }
}

fn look(what: &Probe) -> Facts {
    let mut facts = Facts {
        pid: std::process::id(),
        seccomp_refuses: system::seccomp_refuses(),
        root_read_only: ["/", "/usr"].into_iter().all(refuses_writing),
        namespaces: namespaces(),
        interfaces: interfaces(),
        unmasked: bounded(&what.masked, has_content),
        visible: bounded(&what.hidden, |path| fs::symlink_metadata(path).is_ok()),
        cgroup: cgroup(),
        visible_processes: visible_processes(),
        landlock: what.landlock.as_ref().map_or(0, |(abi, path)| if landlock_refuses(path) { *abi } else { 0 }),
        ..Facts::default()
    };
    for (name, resource) in
        [("nofile", libc::RLIMIT_NOFILE), ("fsize", libc::RLIMIT_FSIZE), ("core", libc::RLIMIT_CORE)]
    {
        if let Some(value) = system::soft_limit(i64::from(resource)) {
            facts.rlimits.insert(name.to_owned(), value);
        }
    }
    read_status(&fs::read_to_string("/proc/self/status").unwrap_or_default(), &mut facts);
    facts
}

fn read_status(status: &str, facts: &mut Facts) {
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let mut numbers = value.split_ascii_whitespace().map_while(|n| n.parse::<u32>().ok());
        let mut three = || [(); 3].map(|()| numbers.next().unwrap_or(u32::MAX));
        match name {
            "Uid" => facts.uid = three(),
            "Gid" => facts.gid = three(),
            "Groups" => facts.groups = numbers.take(ENTRIES).collect(),
            "NoNewPrivs" => facts.no_new_privileges = value.trim() == "1",
            "Seccomp" => facts.seccomp_mode = value.trim().parse().unwrap_or(0),
            "CapInh" | "CapPrm" | "CapEff" | "CapBnd" | "CapAmb" => {
                // What cannot be read counts as every capability.
                let set = u64::from_str_radix(value.trim(), 16).unwrap_or(u64::MAX);
                facts.capabilities.insert(name.to_owned(), set);
            }
            _ => {}
        }
    }
}

/// An unnamed file leaves nothing behind; file systems without them get a named one.
fn refuses_writing(dir: &str) -> bool {
    let refused = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM));
    let error = match OpenOptions::new().write(true).mode(0o600).custom_flags(libc::O_TMPFILE).open(dir) {
        Ok(_) => return false,
        Err(error) => error,
    };
    if refused(&error) || error.kind() == io::ErrorKind::NotFound {
        return true;
    }
    let path = format!("{}/.cove-probe-{}", dir.trim_end_matches('/'), std::process::id());
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(_) => {
            let _ = fs::remove_file(&path);
            false
        }
        Err(error) => refused(&error),
    }
}

fn landlock_refuses(path: &str) -> bool {
    match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(_) => false,
        Err(error) => error.raw_os_error() == Some(libc::EACCES),
    }
}

/// Whether anything can be read at `path`: a byte of a file or an entry of a directory.
fn has_content(path: &str) -> bool {
    if fs::metadata(path).is_ok_and(|meta| meta.is_dir()) {
        return fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    }
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    opened.is_ok_and(|mut file| file.read(&mut [0]).is_ok_and(|count| count > 0))
}

fn bounded(paths: &[String], holds: impl Fn(&str) -> bool) -> Vec<String> {
    paths.iter().filter(|path| holds(path)).take(ENTRIES).cloned().collect()
}

fn namespaces() -> BTreeMap<String, u64> {
    ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"]
        .into_iter()
        .filter_map(|name| {
            let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
            let inode = link.to_str()?.split_once('[')?.1.trim_end_matches(']').parse().ok()?;
            Some((name.to_owned(), inode))
        })
        .collect()
}

fn interfaces() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).take(ENTRIES).collect()
}

fn cgroup() -> BTreeMap<String, f64> {
    limits(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// The limits that the files below `top` tell, under their names of cgroup v2; what is unlimited or cannot
/// be read is absent.
fn limits(top: &Path, meminfo: &str) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    for name in ["memory.max", "memory.swap.max", "pids.max", "cpu.max"] {
        let Ok(text) = fs::read_to_string(top.join(name)) else { continue };
        let mut numbers = text.split_ascii_whitespace().map(|n| n.parse::<f64>().ok());
        let Some(Some(first)) = numbers.next() else { continue };
        let value = match numbers.next() {
            Some(Some(period)) if period > 0.0 => first / period,
            _ => first,
        };
        out.insert(name.to_owned(), value);
    }
    // v1 has a directory for each controller and writes "unlimited" as a number near the greatest.
    const UNLIMITED: f64 = (1_u64 << 62) as f64;
    let number = |path: &str| fs::read_to_string(top.join(path)).ok()?.trim().parse::<f64>().ok();
    let mut add = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|value| *value >= 0.0 && *value < UNLIMITED) {
            out.entry(name.to_owned()).or_insert(value);
        }
    };
    let memory = number("memory/memory.limit_in_bytes");
    add("memory.max", memory);
    match number("memory/memory.memsw.limit_in_bytes") {
        Some(both) => add("memory.swap.max", memory.map(|memory| (both - memory).max(0.0))),
        // Without the account of swap there is no limit on it, and all the host's may be used.
        None if memory.is_some_and(|memory| memory < UNLIMITED) => add("memory.swap.max", swap_of_host(meminfo)),
        None => {}
    }
    add("pids.max", number("pids/pids.max"));
    for cpu in ["cpu", "cpu,cpuacct"] {
        let quota = number(&format!("{cpu}/cpu.cfs_quota_us")).filter(|quota| *quota > 0.0);
        let period = number(&format!("{cpu}/cpu.cfs_period_us")).filter(|period| *period > 0.0);
        add("cpu.max", quota.zip(period).map(|(quota, period)| quota / period));
    }
    out
}

/// `SwapTotal` in bytes.
fn swap_of_host(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("SwapTotal:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

fn visible_processes() -> u32 {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let number = |name: &std::ffi::OsStr| name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    u32::try_from(entries.flatten().filter(|entry| number(&entry.file_name())).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status() {
        let mut facts = Facts::default();
        let status = "Name:\tx\nUid:\t1000\t1001\t1002\t1000\nGid:\t5\t6\t7\t8\nGroups:\t4 24 \n\
                      CapEff:\t000001ffffffffff\nCapBnd:\tnonsense\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        read_status(status, &mut facts);
        assert_eq!((facts.uid, facts.gid), ([1000, 1001, 1002], [5, 6, 7]));
        assert_eq!(facts.groups, [4, 24]);
        assert_eq!(facts.capabilities["CapEff"], 0x1ff_ffff_ffff);
        assert_eq!(facts.capabilities["CapBnd"], u64::MAX, "what cannot be read is not taken for safe");
        assert!(facts.no_new_privileges && facts.seccomp_mode == 2);
    }

    #[test]
    fn reads_the_limits_of_both_versions() {
        let dir = std::env::temp_dir().join(format!("cove-guest-limits-{}", std::process::id()));
        let read = |files: &[(&str, &str)]| {
            let _ = fs::remove_dir_all(&dir);
            for (path, text) in files {
                let path = dir.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            limits(&dir, "MemTotal: 5 kB\nSwapTotal:    2 kB\n").into_iter().collect::<Vec<_>>()
        };
        let of = |list: &[(&str, f64)]| list.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect::<Vec<_>>();
        let v2 = [
            ("memory.max", "4096\n"),
            ("memory.swap.max", "0\n"),
            ("pids.max", "max\n"),
            ("cpu.max", "50000 100000\n"),
        ];
        assert_eq!(read(&v2), of(&[("cpu.max", 0.5), ("memory.max", 4096.0), ("memory.swap.max", 0.0)]));
        let v1 = [
            ("memory/memory.limit_in_bytes", "4096\n"),
            ("memory/memory.memsw.limit_in_bytes", "8192\n"),
            ("pids/pids.max", "7\n"),
            ("cpu/cpu.cfs_quota_us", "100000\n"),
            ("cpu/cpu.cfs_period_us", "50000\n"),
        ];
        assert_eq!(
            read(&v1),
            of(&[("cpu.max", 2.0), ("memory.max", 4096.0), ("memory.swap.max", 4096.0), ("pids.max", 7.0)])
        );
        let unaccounted = [("memory/memory.limit_in_bytes", "4096\n"), ("cpu/cpu.cfs_quota_us", "-1\n")];
        assert_eq!(read(&unaccounted), of(&[("memory.max", 4096.0), ("memory.swap.max", 2048.0)]));
        assert_eq!(read(&[("memory/memory.limit_in_bytes", "9223372036854771712\n"), ("pids/pids.max", "max")]), []);
        let _ = fs::remove_dir_all(&dir);
    }

    #[test]
    fn content_is_a_byte_or_an_entry() {
        assert!(has_content("/proc/self/status"));
        assert!(has_content("/proc"));
        assert!(!has_content("/dev/null"));
        assert!(!has_content("/nowhere"));
    }
}
