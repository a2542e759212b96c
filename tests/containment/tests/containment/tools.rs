//! Everyday tools that really do something under the filter. A profile that holds everything and
//! lets nothing work would hold well.

use std::path::PathBuf;
use std::process::Command;

use cove_core::{ExecSpec, Mount};
use libtest_mimic::Failed;

use super::setups::{Native, Setup};

/// Program, and a script that fails unless it does its work.
const TOOLS: &[(&str, &str)] = &[
    (
        "git",
        "git init -q r && cd r && echo a > f && git add f && git -c user.name=a -c user.email=a@b commit -qm one && git log --oneline | grep -q one && git clone -q . ../r2 && cd ../r2 && git gc -q && git fsck",
    ),
    (
        "python3",
        "python3 -c \"import threading,subprocess,multiprocessing,json,sqlite3,asyncio,socket;t=threading.Thread(target=print);t.start();t.join();assert subprocess.check_output(['echo','x'])==b'x\\n';multiprocessing.Pool(2).map(abs,[1,-2]);asyncio.run(asyncio.sleep(0))\"",
    ),
    (
        "node",
        "node -e \"const w=require('worker_threads'),f=require('fs'),c=require('child_process');f.writeFileSync('n','1');if(c.execSync('echo 2').toString().trim()!=='2')process.exit(1);new w.Worker('1+1',{eval:true}).on('exit',c=>process.exit(c))\"",
    ),
    ("npm", "mkdir p && cd p && npm init -y >/dev/null && npm pkg get name | grep -q p"),
    (
        "rustc",
        "echo 'fn main(){std::thread::spawn(||println!(\"hi\")).join().unwrap()}' > m.rs && rustc m.rs && ./m | grep -q hi",
    ),
    (
        "cargo",
        "CARGO_HOME=$PWD/ch cargo init -q --vcs none --name probe c && cd c && CARGO_HOME=$PWD/ch cargo run -q --offline | grep -q Hello",
    ),
    ("apt-get", "apt-get --version | grep -q apt && apt-config dump | grep -q APT"),
    ("apt-cache", "apt-cache --version | grep -q apt"),
    ("dpkg", "dpkg --version | grep -q dpkg && dpkg --compare-versions 1 lt 2"),
    ("gcc", "printf '#include <stdio.h>\\nint main(){puts(\"c\");}' > m.c && gcc -O2 -o mc m.c && ./mc | grep -q c"),
    (
        "g++",
        "printf '#include <thread>\\nint main(){std::thread t([]{});t.join();}' > m.cc && g++ -pthread -o mcc m.cc && ./mcc",
    ),
    ("make", "printf 'all: a b\\na b:\\n\\t@touch $@\\n' > Makefile && make -s -j4 && test -f a -a -f b"),
    ("ld", "ld --version | grep -q ld"),
    (
        "perl",
        "perl -e 'my $p = open(F, \"-|\", \"echo x\"); chomp(my $l=<F>); $l eq \"x\" or die; fork or exit 0; wait'",
    ),
    ("java", "java -version 2>&1 | grep -qi version"),
    ("ruby", "ruby -e 'Thread.new{1}.join; `echo x`.strip==\"x\" or exit 1'"),
    ("tar", "mkdir t && echo a > t/f && tar cf t.tar t && rm -r t && tar xf t.tar && grep -q a t/f"),
    ("gzip", "echo data | gzip | gzip -d | grep -q data"),
    ("bzip2", "echo data | bzip2 | bzip2 -d | grep -q data"),
    ("xz", "echo data | xz -T2 | xz -d | grep -q data"),
    ("zstd", "echo data | zstd -q | zstd -dq | grep -q data"),
    ("sed", "echo a > s && sed -i s/a/b/ s && grep -q b s"),
    ("awk", "echo '1 2' | awk '{exit !($1+$2==3)}'"),
    ("find", "mkdir -p f/g && touch f/g/h && find f -name h -exec test -f {} \\; | wc -l"),
    ("sort", "seq 100000 | sort -rn --parallel=2 -S 1M | head -1 | grep -q 100000"),
    ("diff", "echo a > a1; echo b > b1; diff a1 b1 > d1; test $? = 1"),
    ("patch", "echo a > pf; printf -- '--- pf\\n+++ pf\\n@@ -1 +1 @@\\n-a\\n+b\\n' | patch -s -p0 && grep -q b pf"),
    ("xargs", "seq 20 | xargs -P4 -n1 echo | wc -l | grep -q 20"),
    ("ssh-keygen", "ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -lf key.pub"),
    (
        "openssl",
        "openssl rand -hex 8 && echo a | openssl dgst -sha256 && openssl genpkey -algorithm ED25519 -out k.pem",
    ),
    (
        "sqlite3",
        "sqlite3 d.db 'pragma journal_mode=wal; create table t(a); insert into t values(1); select count(*) from t' | grep -q 1",
    ),
    ("pip3", "pip3 --version | grep -q pip"),
    ("vim", "echo a > v && vim -es -c '%s/a/b/' -c 'wq' v; grep -q b v"),
    (
        "tmux",
        "TMUX_TMPDIR=$PWD tmux -f /dev/null new-session -d -s x 'echo done > tm; sleep 5' && for i in $(seq 200); do test -f tm && break; sleep 0.1; done; test -f tm; R=$?; TMUX_TMPDIR=$PWD tmux kill-server; exit $R",
    ),
    ("jq", "echo '{\"a\":1}' | jq -e '.a==1'"),
    ("rsync", "mkdir rs && echo a > rs/f && rsync -a rs/ rd/ && grep -q a rd/f"),
    (
        "bash",
        "bash -c 'set -o pipefail; shopt -s globstar; diff <(echo a) <(echo a); read -t 1 x <<< y; [[ $x = y ]]; sleep 1 & kill %1; wait; true'",
    ),
    ("timeout", "timeout 5 true; timeout 0.1 sleep 5; test $? = 124"),
    ("ps", "ps ax | grep -q ps"),
    ("flock", "flock lock true"),
    ("nice", "nice -n 5 true"),
    ("setsid", "setsid true"),
    ("script", "script -qec 'echo tty; tty' /dev/null | grep -q tty"),
];

/// Tools that have to be there for the trial to mean anything.
const LEAST: usize = 30;

/// Where the compiler that runs this test is shown.
const TOOLCHAIN: &str = "/mnt/toolchain";

/// Each of them works, in a sandbox with every protection on.
pub fn work(setup: Setup) -> Result<(), Failed> {
    let native = Native::new(setup).map_err(|error| error.chain().join(": "))?;
    let mut spec = native.spec();
    let toolchain = toolchain();
    if let Some(source) = &toolchain {
        spec.mounts.push(Mount { source: source.clone(), target: TOOLCHAIN.into(), read_only: true, give: false });
    }
    let id = native.create(&spec)?;
    let (mut worked, mut failed) = (0, Vec::new());
    for (tool, script) in TOOLS {
        let path = format!("{TOOLCHAIN}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        let script = format!(
            "command -v {tool} >/dev/null || {{ echo MISSING; exit 0; }}; mkdir -p /tmp/tool-{tool} && cd /tmp/tool-{tool} && {script}"
        );
        let mut exec = ExecSpec::new(["/bin/sh", "-c", script.as_str()]);
        exec.env.insert("PATH".to_owned(), path);
        exec.timeout_ms = Some(100_000);
        let said = native.run(&id, exec)?;
        let (out, errors) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        if out.trim() == "MISSING" {
            println!("SKIP tool {tool}: not installed on this host");
        } else if said.exit.success() {
            worked += 1;
        } else {
            failed.push(format!("{tool}: {:?} {} {}", said.exit, out.trim(), errors.trim()));
        }
    }
    native.remove(&id)?;
    println!("{worked} of {} tools work under the filter", TOOLS.len());
    if !failed.is_empty() {
        return Err(failed.join("\n").into());
    }
    if worked < LEAST {
        println!("SKIP at least {LEAST} tools: only {worked} are installed on this host");
    }
    Ok(())
}

/// The directory of the compiler in use, wherever it is installed.
fn toolchain() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    path.join("bin/rustc").is_file().then_some(path)
}
