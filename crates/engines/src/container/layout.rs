//! What a container's file system shall consist of, decided from the specification.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Network, Result, Root, SandboxSpec};

use super::dialect::Dialect;
use super::image::Image;
use crate::native::host_root::{self, Piece};
use crate::native::plan::{Memory, accounts, existing, memory_backed, scratch, shown_by};
use crate::supervisor::launch::{DOOR, HOME, Place};

/// Where the directory with the guest and its sockets is shown.
pub const OWN: &str = "/run/cove";

/// A tree or file of the host that is shown.
#[derive(Debug)]
pub struct View {
    /// What the engine is told: for a source of the user's a link in our own directory, so that no name
    /// is too odd for an engine.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Device and inode that have to be found at the target; for what could have been swapped since.
    pub is: Option<(u64, u64)>,
    /// Keeps the inode from being given to something else.
    _held: Option<File>,
}

/// All of it.
#[derive(Debug)]
pub struct Layout {
    /// Trees and files.
    pub views: Vec<View>,
    /// Memory-backed directories, `/dev/shm` among them.
    pub memory: Vec<Memory>,
    /// Volumes of the image, covered so that none is made.
    pub volumes: Vec<Memory>,
    /// Directories that the guest makes.
    pub directories: Vec<PathBuf>,
    /// Everything inside that may be written.
    pub writable: Vec<PathBuf>,
}

impl Layout {
    /// Decides it and prepares the sandbox's own directory: the guest, the links, the small files.
    ///
    /// # Errors
    /// `NotFound` or `Refused` with the path, for a source that cannot or must not be shown.
    pub fn new(place: &Place, spec: &SandboxSpec, image: &Image, dialect: &dyn Dialect) -> Result<Self> {
        let own = place.dir.join("inside");
        let mut layout = Self {
            views: Vec::new(),
            memory: memory_backed(spec),
            volumes: Vec::new(),
            directories: Vec::new(),
            writable: ["/tmp", "/run", "/dev", "/proc", HOME].map(PathBuf::from).to_vec(),
        };
        directory(&own, 0o755)?;
        directory(&place.dir.join("sources"), 0o700)?;
        bring_guest(&place.guest, &own.join("guest"))?;
        if spec.root == Root::Host {
            for piece in host_root::pieces(Path::new("/")) {
                if let Piece::View(path) = piece {
                    layout.show(path.clone(), path, true, None);
                }
            }
        }
        for (name, content) in accounts(spec.user) {
            let file = own.join(name);
            fs::write(&file, content)
                .context(ErrorKind::NotStarted, format!("{} cannot be written", file.display()))?;
            mode(&file, 0o644)?;
            layout.show(file, Path::new("/etc").join(name), true, None);
        }
        for (number, mount) in spec.mounts.iter().enumerate() {
            let (real, ..) = shown_by(mount)?;
            let link = place.dir.join("sources").join(number.to_string());
            layout.linked(&real, link, mount.target.clone(), mount.read_only)?;
            if !mount.read_only {
                layout.writable.push(mount.target.clone());
            }
        }
        layout.show(own.clone(), OWN.into(), true, None);
        if let Network::Door { socket } = &spec.network {
            layout.door(place, socket)?;
        }
        layout.workdir(spec);
        for at in dialect.own_memory() {
            let at = PathBuf::from(at);
            if spec.hardening.read_only_root && !layout.covered(&at) {
                layout.memory.push(Memory { at, bytes: scratch(spec), mode: 0o1777, programs: true });
            }
        }
        for volume in &image.volumes {
            // A volume at a place that is ours already needs no cover.
            if volume.is_absolute() && !layout.covered(volume) {
                let cover = Memory { at: volume.clone(), bytes: scratch(spec), mode: 0o1777, programs: true };
                layout.volumes.push(cover);
            }
        }
        layout.writable.extend(layout.memory.iter().chain(&layout.volumes).map(|memory| memory.at.clone()));
        let targets = layout.views.iter().map(|view| &view.target);
        let targets = targets.chain(layout.memory.iter().chain(&layout.volumes).map(|memory| &memory.at));
        for path in targets.chain(layout.views.iter().map(|view| &view.source)) {
            dialect.sayable(path)?;
        }
        Ok(layout)
    }

    fn show(&mut self, source: PathBuf, target: PathBuf, read_only: bool, held: Option<((u64, u64), File)>) {
        let (is, held) = held.unzip();
        self.views.push(View { source, target, read_only, is, _held: held });
    }

    /// A source that others may swap: held open, and known again by device and inode.
    fn linked(&mut self, real: &Path, link: PathBuf, target: PathBuf, read_only: bool) -> Result<()> {
        let unseen = || format!("The mount source {} cannot be opened", real.display());
        let held = File::options().read(true).custom_flags(libc::O_PATH).open(real);
        let held = held.context(ErrorKind::NotFound, unseen())?;
        let meta = held.metadata().context(ErrorKind::NotFound, unseen())?;
        std::os::unix::fs::symlink(real, &link)
            .context(ErrorKind::NotStarted, format!("{} cannot be made", link.display()))?;
        self.show(link, target, read_only, Some(((meta.dev(), meta.ino()), held)));
        Ok(())
    }

    fn door(&mut self, place: &Place, socket: &Path) -> Result<()> {
        let (real, _) = existing(socket, "The egress door's socket")?;
        let meta = fs::metadata(&real).ok().filter(|meta| meta.file_type().is_socket());
        let meta =
            meta.ok_or_else(|| Error::invalid(format!("The egress door {} is not a socket", socket.display())))?;
        // It lies where only its owner can enter; inside, whoever is shown it may use it.
        let permissions = meta.permissions().mode() | 0o666;
        if meta.permissions().mode() != permissions {
            fs::set_permissions(&real, fs::Permissions::from_mode(permissions)).context(
                ErrorKind::NotStarted,
                format!("The door {} cannot be opened to the sandbox", real.display()),
            )?;
        }
        let point = place.dir.join("inside").join("door.sock");
        fs::write(&point, b"").context(ErrorKind::NotStarted, format!("{} cannot be made", point.display()))?;
        self.linked(&real, place.dir.join("sources").join("door"), DOOR.into(), true)
    }

    /// Memory-backed unless something writable is there.
    fn workdir(&mut self, spec: &SandboxSpec) {
        let at = &spec.workdir;
        let mounted = spec.mounts.iter().any(|mount| at.starts_with(&mount.target));
        let memory = self.memory.iter().any(|memory| at.starts_with(&memory.at));
        if *at == Path::new("/") || spec.mounts.iter().any(|mount| mount.target == *at) {
            return;
        }
        if mounted || memory {
            self.directories.push(at.clone());
        } else {
            self.memory.push(Memory { at: at.clone(), bytes: scratch(spec), mode: 0o755, programs: true });
        }
    }

    fn covered(&self, at: &Path) -> bool {
        self.memory.iter().any(|memory| memory.at == at) || self.views.iter().any(|view| view.target == at)
    }
}

fn directory(path: &Path, bits: u32) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).context(ErrorKind::NotStarted, format!("{} cannot be made", path.display()));
        }
        _ => {}
    }
    mode(path, bits)
}

fn mode(path: &Path, bits: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
        .context(ErrorKind::NotStarted, format!("{} cannot be opened to the sandbox", path.display()))
}

/// The same file by another name where that is possible; it is shown read-only.
fn bring_guest(guest: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(guest, to).is_err() {
        fs::copy(guest, to).context(ErrorKind::NotStarted, format!("{} cannot be written", to.display()))?;
        mode(to, 0o755)?;
    }
    Ok(())
}
