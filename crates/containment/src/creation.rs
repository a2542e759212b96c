//! Specifications that ask for too much.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_core::error::Context as _;
use cove_core::{ErrorKind, ExecSpec, Isolation, Mount, Network, Result, Root, SandboxSpec, Tmpfs, User};

use crate::catalogue::{Change, Scene, Variant};
use crate::control::line;
use crate::ground::Ground;
use crate::judge::{Answer, read};
use crate::stage::{READ_ONLY, Stage};

/// How long what was made may be tried.
const BOUND: Duration = Duration::from_secs(60);

/// Asks for the sandbox, and when it is made tries the words in it.
///
/// # Errors
/// Only those of the host; that the sandbox is refused is an answer.
pub async fn attempt(ground: &dyn Ground, stage: &Stage, base: &SandboxSpec, variant: &Variant) -> Result<Answer> {
    let Scene::Creation(change) = &variant.scene else {
        return Ok(Answer::new(&variant.id, "absent", "", "it asks for no sandbox"));
    };
    let spec = changed(stage, base, change, &variant.id)?;
    let made = match ground.create(&spec).await {
        Ok(made) => made,
        Err(error) => return Ok(Answer::new(&variant.id, "refused", error.kind().code(), error.chain().join(": "))),
    };
    let answer = inside(ground, stage, &made.id, variant).await;
    ground.remove(&made.id).await?;
    let changes = stage.changes();
    if !changes.is_empty() {
        return Ok(Answer::new(&variant.id, "effect", "", format!("the host changed: {}", changes.join(", "))));
    }
    answer
}

async fn inside(ground: &dyn Ground, stage: &Stage, id: &cove_core::SandboxId, variant: &Variant) -> Result<Answer> {
    if variant.words.is_empty() {
        return Ok(Answer::new(&variant.id, "effect", "", "the sandbox was made as asked for"));
    }
    let list = stage.list("creation", &[line(stage, "plain", &variant.id, &variant.words, true)])?;
    let exec = ExecSpec::new([&format!("{READ_ONLY}/program"), list.as_str()]);
    let said = ground.run(id, &exec, BOUND).await?;
    let answer = read(&said.stdout).remove(&variant.id);
    Ok(answer.unwrap_or_else(|| {
        let errors = String::from_utf8_lossy(&said.stderr);
        Answer::new(&variant.id, "refused", "NOTHING", format!("nothing runs in it: {:?} {}", said.exit, errors.trim()))
    }))
}

fn changed(stage: &Stage, base: &SandboxSpec, change: &Change, id: &str) -> Result<SandboxSpec> {
    let mut spec = stage.furnish(base, "creation-work")?;
    let fill = |text: &str| stage.fill(text, true).replace("\\n", "\n").replace("\\0", "\0");
    let mount = |source: PathBuf, target: &str| Mount { source, target: target.into(), read_only: true, give: false };
    let place = stage.path("scratch").join(id);
    let made =
        |result: io::Result<()>| result.context(ErrorKind::Internal, format!("{} could not be made", place.display()));
    match change {
        Change::Source(path) => spec.mounts.push(mount(fill(path).into(), "/mnt/extra")),
        Change::SourceLink(to) => {
            made(std::os::unix::fs::symlink(to, &place))?;
            spec.mounts.push(mount(place, "/mnt/extra"));
        }
        Change::SourceKind("device") => spec.mounts.push(mount("/dev/zero".into(), "/mnt/extra")),
        Change::SourceKind("socket") => spec.mounts.push(mount(stage.path("outside/socket"), "/mnt/extra")),
        Change::SourceKind(_) => {
            let fifo = std::process::Command::new(stage.path("ro/program")).arg("fifo").arg(&place).status();
            made(fifo.map(|_| ()))?;
            spec.mounts.push(mount(place, "/mnt/extra"));
        }
        Change::Target(path) => spec.mounts.push(mount(stage.path("scratch"), path)),
        Change::TargetTwice => {
            spec.mounts.push(mount(stage.path("scratch"), "/mnt/extra"));
            spec.mounts.push(mount(stage.path("ro"), "/mnt/extra"));
        }
        Change::Memory(path) => spec.tmpfs.push(Tmpfs { target: path.into(), size_bytes: 1 << 20 }),
        Change::Workdir(path) => spec.workdir = path.into(),
        Change::RootLink(name, to) => {
            made(root_with_link(&place, name, &fill(to)))?;
            spec.root = Root::Directory(place);
        }
        Change::Archive(kind) => {
            let file = place.with_extension("tar");
            made(archive(stage, &file, kind))?;
            spec.root = Root::Archive(file);
        }
        Change::Name(text) => spec.name = fill(text),
        Change::Label(name, value) => {
            spec.labels.insert(name.clone(), fill(value));
        }
        Change::Variable(name, value) => {
            spec.env.insert(fill(name), fill(value));
        }
        Change::Root => spec.user = User { uid: 0, gid: 0 },
        Change::Capability(name) => {
            spec.hardening.capabilities.insert((*name).to_owned());
        }
        Change::Isolation(level) => spec.isolation = *level,
        Change::HostNetwork => {
            spec.isolation = Isolation::Container;
            spec.network = Network::Host;
        }
    }
    Ok(spec)
}

/// A root that has what a sandbox needs, with one directory as a link.
fn root_with_link(place: &Path, name: &str, to: &str) -> io::Result<()> {
    for directory in ["bin", "dev", "etc", "home", "mnt", "proc", "run", "sys", "tmp", "usr", "workspace"] {
        if directory != name {
            fs::create_dir_all(place.join(directory))?;
        }
    }
    std::os::unix::fs::symlink(to, place.join(name))
}

/// A root as an archive, with an entry that aims outside.
fn archive(stage: &Stage, file: &Path, kind: &str) -> io::Result<()> {
    let mut builder = tar::Builder::new(fs::File::create(file)?);
    directories(&mut builder)?;
    let escaped = stage.path("outside/escaped").to_string_lossy().into_owned();
    let outside = stage.path("outside").to_string_lossy().into_owned();
    let content: &[u8] = b"escaped";
    let mut plain = header(tar::EntryType::Regular, content.len() as u64);
    match kind {
        "climbing" => raw(&mut builder, &mut plain, format!("{}{escaped}", "../".repeat(12)).as_bytes(), content)?,
        "absolute" => raw(&mut builder, &mut plain, escaped.as_bytes(), content)?,
        "link-then-file" => {
            let mut link = header(tar::EntryType::Symlink, 0);
            link.set_link_name_literal(outside.as_bytes())?;
            raw(&mut builder, &mut link, b"way", b"")?;
            raw(&mut builder, &mut plain, b"way/escaped", content)?;
        }
        "hard-link" => {
            let mut link = header(tar::EntryType::Link, 0);
            link.set_link_name_literal(format!("{outside}/flag").as_bytes())?;
            raw(&mut builder, &mut link, b"stolen", b"")?;
        }
        "device" => {
            let mut node = header(tar::EntryType::Char, 0);
            node.set_device_major(1)?;
            node.set_device_minor(1)?;
            raw(&mut builder, &mut node, b"node", b"")?;
        }
        "setuid" => {
            let program = fs::read(stage.path("ro/program"))?;
            let mut header = header(tar::EntryType::Regular, program.len() as u64);
            header.set_mode(0o4755);
            raw(&mut builder, &mut header, b"program", &program)?;
        }
        "duplicate" => {
            let mut link = header(tar::EntryType::Symlink, 0);
            link.set_link_name_literal(escaped.as_bytes())?;
            raw(&mut builder, &mut link, b"twice", b"")?;
            raw(&mut builder, &mut plain, b"twice", content)?;
        }
        "long-name" => raw(&mut builder, &mut plain, format!("tmp/{}", "n".repeat(90)).as_bytes(), content)?,
        "sparse" => {
            // Says that it is larger than any disk, and ends.
            let mut huge = header(tar::EntryType::Regular, 1 << 40);
            raw(&mut builder, &mut huge, b"huge", content)?;
        }
        _ => {
            let mut fifo = header(tar::EntryType::Fifo, 0);
            raw(&mut builder, &mut fifo, b"etc/passwd", b"")?;
        }
    }
    builder.finish()
}

/// A root with nothing but mount points, as an archive in `place`: enough for the attack program,
/// which needs no other.
///
/// # Errors
/// `Internal` when it cannot be written.
pub fn empty_root(place: &Path) -> Result<PathBuf> {
    let file = place.join("empty-root.tar");
    let written = || -> io::Result<()> {
        let mut builder = tar::Builder::new(fs::File::create(&file)?);
        directories(&mut builder)?;
        builder.finish()
    };
    written().context(ErrorKind::Internal, format!("{} cannot be written", file.display()))?;
    Ok(file)
}

fn directories(builder: &mut tar::Builder<fs::File>) -> io::Result<()> {
    for directory in ["mnt", "etc", "tmp", "proc", "dev", "run", "sys", "home", "workspace"] {
        let mut header = header(tar::EntryType::Directory, 0);
        raw(builder, &mut header, directory.as_bytes(), b"")?;
    }
    Ok(())
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_size(size);
    header
}

/// Appends an entry under exactly that name: the library would refuse to write such names.
fn raw(builder: &mut tar::Builder<fs::File>, header: &mut tar::Header, name: &[u8], content: &[u8]) -> io::Result<()> {
    let field = &mut header.as_old_mut().name;
    field.fill(0);
    if name.len() <= field.len() {
        field[..name.len()].copy_from_slice(name);
    } else {
        // The longer half goes where readers put it in front again.
        let cut = name
            .iter()
            .enumerate()
            .filter(|(at, byte)| **byte == b'/' && name.len() - at - 1 <= 100)
            .map(|(at, _)| at)
            .next();
        let cut = cut.ok_or(io::ErrorKind::InvalidInput)?;
        let ustar = header.as_ustar_mut().ok_or(io::ErrorKind::InvalidInput)?;
        if cut > ustar.prefix.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        ustar.prefix.fill(0);
        ustar.prefix[..cut].copy_from_slice(&name[..cut]);
        ustar.name.fill(0);
        ustar.name[..name.len() - cut - 1].copy_from_slice(&name[cut + 1..]);
    }
    header.set_cksum();
    builder.append(header, content)
}
