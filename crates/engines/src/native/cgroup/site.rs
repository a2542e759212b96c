//! The groups below which sandboxes' groups can be made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hierarchy::{Controller, Hierarchy, Version, hierarchies};

/// Bounds of a search: levels below the root, and groups of one hierarchy looked into.
const SEARCH_DEPTH: usize = 8;
const SEARCH_GROUPS: usize = 20_000;

/// A group that may get limited children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    pub version: Version,
    /// Its directory.
    pub parent: PathBuf,
}

/// For each controller, a site or the reason why there is none.
#[derive(Debug)]
pub struct Sites {
    found: Vec<(Controller, Result<Site, String>)>,
    hierarchies: Vec<Hierarchy>,
    /// Why the hierarchies could not be read: then nothing is known of what there is.
    unread: Option<i32>,
}

impl Sites {
    /// Looks at this process's own groups. Enables controllers for children where that is allowed.
    pub fn discover() -> Self {
        let hierarchies = match hierarchies() {
            Ok(found) => found,
            Err(error) => {
                let none = Self::none(&format!("/proc cannot be read: {error}"));
                return Self { unread: Some(error.raw_os_error().unwrap_or(libc::EIO)), ..none };
            }
        };
        let mut found: Vec<_> = Controller::ALL.into_iter().map(|c| (c, first_generation(&hierarchies, c))).collect();
        let open: Vec<Controller> = found.iter().filter(|(_, site)| site.is_none()).map(|(c, _)| *c).collect();
        let second = second_generation(&hierarchies, &open);
        let found = found
            .drain(..)
            .map(|(controller, site)| (controller, site.unwrap_or_else(|| second(controller))))
            .collect();
        Self { found, hierarchies, unread: None }
    }

    /// No site at all, for this reason.
    pub fn none(reason: &str) -> Self {
        let found = Controller::ALL.into_iter().map(|c| (c, Err(reason.to_owned()))).collect();
        Self { found, hierarchies: Vec::new(), unread: None }
    }

    /// Where groups for `controller` go, or why they cannot be made.
    pub fn site(&self, controller: Controller) -> Result<&Site, &str> {
        match self.found.iter().find(|(c, _)| *c == controller) {
            Some((_, Ok(site))) => Ok(site),
            Some((_, Err(reason))) => Err(reason),
            None => Err("the controller is unknown"),
        }
    }

    /// Every group of any hierarchy that limits whose name satisfies `wanted`, wherever in the tree:
    /// an earlier daemon may have stood elsewhere. Does not look into what it found.
    ///
    /// # Errors
    /// When a group cannot be looked into for another reason than its end or its owner.
    pub fn search(&self, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Site>> {
        if let Some(number) = self.unread {
            return Err(io::Error::from_raw_os_error(number));
        }
        let limits = |h: &&Hierarchy| {
            h.version == Version::V2
                || h.controllers.iter().any(|name| Controller::ALL.iter().any(|c| c.name() == name))
        };
        let mut out = Vec::new();
        for hierarchy in self.hierarchies.iter().filter(limits) {
            let mut open = vec![(hierarchy.mount.clone(), 0)];
            let mut seen = 0;
            while let Some((path, depth)) = open.pop() {
                seen += 1;
                let entries = match fs::read_dir(&path) {
                    Ok(entries) => entries.flatten(),
                    Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                        continue;
                    }
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                    Err(error) => return Err(error),
                };
                let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                for group in groups {
                    if group.file_name().to_str().is_some_and(&wanted) {
                        out.push(Site { version: hierarchy.version, parent: group.path() });
                    } else if depth < SEARCH_DEPTH && seen + open.len() < SEARCH_GROUPS {
                        open.push((group.path(), depth + 1));
                    }
                }
            }
        }
        Ok(out)
    }
}

/// A v1 hierarchy with this controller: our own group there. `None` when no v1 hierarchy has it.
fn first_generation(hierarchies: &[Hierarchy], controller: Controller) -> Option<Result<Site, String>> {
    let hierarchy = hierarchies
        .iter()
        .find(|h| h.version == Version::V1 && h.controllers.iter().any(|name| name == controller.name()))?;
    Some(if writable(&hierarchy.own) {
        Ok(Site { version: Version::V1, parent: hierarchy.own.clone() })
    } else {
        Err(format!(
            "the cgroup {} (v1) is not writable for this user; run Cove as root, or boot with cgroup v2 and a delegated cgroup",
            hierarchy.own.display()
        ))
    })
}

/// The nearest group from our own upwards whose children get all of `wanted`.
fn second_generation(
    hierarchies: &[Hierarchy],
    wanted: &[Controller],
) -> impl Fn(Controller) -> Result<Site, String> + use<> {
    let hierarchy = hierarchies.iter().find(|h| h.version == Version::V2).cloned();
    let mut parent = None;
    if let (Some(hierarchy), false) = (&hierarchy, wanted.is_empty()) {
        let above = hierarchy.own.ancestors().take_while(|path| path.starts_with(&hierarchy.mount));
        let mut best = 0;
        for path in above.filter(|path| writable(path) && writable(&path.join("cgroup.procs"))) {
            let count = enable(path, wanted, *path == hierarchy.own);
            if count > best {
                best = count;
                parent = Some(path.to_owned());
            }
            if best == wanted.len() {
                break;
            }
        }
    }
    move |controller| {
        let Some(hierarchy) = &hierarchy else {
            return Err(format!("no cgroup hierarchy with the {} controller is mounted", controller.name()));
        };
        match &parent {
            Some(parent) if enabled(parent, controller) => Ok(Site { version: Version::V2, parent: parent.clone() }),
            _ if !offered(&hierarchy.mount, controller) && !offered(&hierarchy.own, controller) => {
                Err(format!("the kernel offers no {} controller in cgroup v2 here", controller.name()))
            }
            _ => Err(format!(
                "no cgroup with the {} controller is delegated to this user; start Cove as a service with Delegate=yes, \
                 for example: systemd-run --user --scope -p Delegate=yes cove serve",
                controller.name()
            )),
        }
    }
}

fn words(path: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(path.join(file)).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn offered(path: &Path, controller: Controller) -> bool {
    words(path, "cgroup.controllers").iter().any(|word| word == controller.name())
}

fn enabled(path: &Path, controller: Controller) -> bool {
    words(path, "cgroup.subtree_control").iter().any(|word| word == controller.name())
}

/// Enables what `path` offers of `wanted` for its children; how many of them are on.
fn enable(path: &Path, wanted: &[Controller], own: bool) -> usize {
    for controller in wanted.iter().filter(|c| offered(path, **c) && !enabled(path, **c)) {
        let write = || fs::write(path.join("cgroup.subtree_control"), format!("+{}", controller.name()));
        let busy = matches!(write(), Err(error) if error.raw_os_error() == Some(libc::EBUSY));
        // A group with processes of its own gets no limited children (cgroup v2, "no internal
        // processes"). If only Cove is in it, as in a container or a service of its own, it steps
        // aside into a child.
        if busy && own && step_aside(path).is_ok() {
            // Whether it worked is asked below.
            let _ = write();
        }
    }
    wanted.iter().filter(|controller| enabled(path, **controller)).count()
}

/// Moves the group's processes into a child group, when all of them are Cove's.
fn step_aside(path: &Path) -> io::Result<()> {
    let ours = fs::read_link("/proc/self/exe")?;
    let processes = words(path, "cgroup.procs");
    let foreign = |pid: &String| fs::read_link(format!("/proc/{pid}/exe")).map_or(true, |exe| exe != ours);
    if processes.iter().any(foreign) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let child = path.join("cove-supervisors");
    match fs::create_dir(&child) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    processes.iter().try_for_each(|pid| fs::write(child.join("cgroup.procs"), pid))
}

fn writable(path: &Path) -> bool {
    use nix::unistd::{AccessFlags, faccessat};
    faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::W_OK, nix::fcntl::AtFlags::AT_EACCESS).is_ok()
}
