//! Builds the attack program as a static program, to be embedded.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables that a nested build may see; everything else about the outer build (flags, wrappers,
/// the package's own variables) would change what it makes.
const KEPT: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

fn main() {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    for watched in ["../attack/src", "../attack/Cargo.toml", "../../Cargo.toml", "build.rs"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    let embedded = out.join("cove-attack");
    if variable("CARGO_CFG_TARGET_OS") != "linux" {
        std::fs::write(&embedded, b"").expect("the build directory can be written");
        return;
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    let musl = format!("{arch}-unknown-linux-musl");
    let (target, flags) = if installed(&musl) {
        (musl, String::new())
    } else {
        (format!("{arch}-unknown-linux-gnu"), "-C target-feature=+crt-static".to_owned())
    };
    let target_dir = out.join("attack");
    let mut build = Command::new(variable("CARGO"));
    build
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| {
            name.to_str().is_some_and(|name| {
                KEPT.contains(&name)
                    || ["CARGO_NET_", "CARGO_HTTP_", "CARGO_SOURCE_", "CARGO_REGISTR"]
                        .iter()
                        .any(|p| name.starts_with(p))
            })
        }))
        .env("RUSTFLAGS", flags)
        .current_dir(manifest_dir.join("../.."))
        .args(["build", "--quiet", "--package", "cove-attack", "--bin", "cove-attack", "--profile", "guest"])
        .args(["--target", &target, "--target-dir"])
        .arg(&target_dir);
    if variable("HOST").split('-').next() != Some(&arch) {
        // The self-contained target needs no foreign C compiler, only a linker that knows it.
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        build.env(linker, "rust-lld");
    }
    let status = build.status().expect("cargo can be started again");
    assert!(status.success(), "the attack program could not be built for {target}");
    std::fs::copy(target_dir.join(&target).join("guest/cove-attack"), &embedded)
        .expect("the program was built where it was asked for");
}

fn installed(target: &str) -> bool {
    let output = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output();
    let Ok(output) = output else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
