//! What `Root::Host` shows of the host: system directories and an allow-list of `/etc`.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories shown whole and read-only. Links at the top (`/bin` to `usr/bin`) are copied.
const SYSTEM: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix/store", "gnu/store"];

/// Of `/etc` only what programs need to run and what everyone may know. An allow-list, because
/// world-readable files with tokens in them (package managers, agents of the host) have any name.
const CONFIGURATION: &[&str] = &[
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "host.conf",
    "inputrc",
    "java",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld-musl-x86_64.path",
    "locale.alias",
    "locale.conf",
    "localtime",
    "lsb-release",
    "magic",
    "magic.mime",
    "mime.types",
    "os-release",
    "perl",
    "pki/ca-trust",
    "pki/java",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "profile",
    "protocols",
    "rpc",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "vim",
    "xattr.conf",
];

/// One piece of the host inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A read-only view at the same path.
    View(PathBuf),
    /// A symbolic link, copied.
    Link {
        /// Where it stands.
        at: PathBuf,
        /// What it says.
        to: PathBuf,
    },
}

/// The pieces that exist on this host below `top` (`/` outside of tests).
pub fn pieces(top: &Path) -> Vec<Piece> {
    let configuration = CONFIGURATION.iter().map(|name| format!("etc/{name}"));
    let toolchains = fs::read_dir(top.join("etc")).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        // `/usr/lib/jvm/java-21/conf` and Python's site configuration are links into these.
        let needed = ["java-", "python"].iter().any(|prefix| name.starts_with(prefix));
        needed.then(|| format!("etc/{name}"))
    });
    let all = SYSTEM.iter().map(|name| (*name).to_owned()).chain(configuration).chain(toolchains);
    all.filter_map(|name| piece(top, &name)).collect()
}

fn piece(top: &Path, name: &str) -> Option<Piece> {
    let (here, inside) = (top.join(name), Path::new("/").join(name));
    let kind = fs::symlink_metadata(&here).ok()?.file_type();
    if kind.is_symlink() {
        // `/etc/localtime` leads to `/usr`; what leads elsewhere dangles inside, which is the point.
        return fs::read_link(&here).ok().map(|to| Piece::Link { at: inside, to });
    }
    (kind.is_dir() || kind.is_file()).then_some(Piece::View(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_systems_files_and_no_secrets() {
        let top = tempfile::tempdir().unwrap();
        for directory in ["usr/bin", "etc/ssl/private", "etc/ssl/certs", "etc/python3", "root", "home/a", "var", "srv"]
        {
            fs::create_dir_all(top.path().join(directory)).unwrap();
        }
        for file in ["etc/shadow", "etc/gshadow", "etc/sudoers", "etc/npmrc", "etc/machine-id", "etc/os-release"] {
            fs::write(top.path().join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", top.path().join("bin")).unwrap();
        let shown = pieces(top.path());
        let at = |path: &str| Piece::View(PathBuf::from(path));
        for expected in ["/usr", "/etc/ssl/certs", "/etc/os-release", "/etc/python3"] {
            assert!(shown.contains(&at(expected)), "{expected}");
        }
        assert!(shown.contains(&Piece::Link { at: "/bin".into(), to: "usr/bin".into() }));
        assert_eq!(shown.len(), 5, "{shown:?}");
    }
}
