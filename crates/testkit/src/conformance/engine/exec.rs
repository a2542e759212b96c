//! Programs without a terminal.

use std::time::Duration;

use cove_core::User;
use cove_core::engine::{ExecSpec, Output};
use cove_core::error::ErrorKind;
use cove_core::sandbox::{ExitReason, ExitStatus};

use super::bench::{Bench, DEADLINE, Pulse, rest, sh, until, with_daemon, within};
use super::{Setup, Trial, trial};
use crate::eventually;

pub(super) const TRIALS: &[Trial] = &[
    trial!(exits_are_told),
    trial!(streams_are_kept_apart),
    trial!(stdin_arrives_whole),
    trial!(a_program_that_reads_nothing_ends),
    trial!(arguments_arrive_unchanged),
    trial!(the_environment_is_as_asked),
    trial!(directories_are_entered),
    trial!(a_large_argument_arrives),
    trial!(signals_reach_the_group),
    trial!(a_flood_arrives_whole),
    trial!(output_nobody_takes_slows_the_program, needs: [Mounts]),
    trial!(the_last_words_come_before_the_exit),
    trial!(what_stays_behind_does_not_hold_the_exit),
    trial!(many_run_side_by_side),
    trial!(a_client_that_leaves_ends_its_program, needs: [Mounts]),
    trial!(reading_may_be_cancelled),
    trial!(a_foreign_user_is_refused_or_served),
    trial!(the_empty_command_is_refused),
    trial!(a_program_starts_fresh),
];

async fn exits_are_told(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let signaled = |signal| ExitStatus { code: 128 + signal, reason: ExitReason::Signaled { signal } };
    let exited = ExitStatus::exited;
    let rows = [
        (sh("exit 0"), exited(0), false),
        (sh("exit 7"), exited(7), false),
        (sh("exit 255"), exited(255), false),
        (sh("kill -9 $$"), signaled(9), false),
        (sh("kill -15 $$"), signaled(15), false),
        (ExecSpec::new(["no-such-program"]), exited(127), true),
        (ExecSpec::new(["/no/such/program"]), exited(127), true),
        (ExecSpec::new(["/"]), exited(126), true),
        (ExecSpec::new(["/etc/passwd"]), exited(126), true),
    ];
    for (spec, expected, explained) in rows {
        let said = bench.run(&spec, b"").await;
        assert_eq!(said.exit, expected, "{:?}", spec.argv);
        assert_eq!(!said.stderr.is_empty(), explained, "{:?}: {:?}", spec.argv, String::from_utf8_lossy(&said.stderr));
    }
    bench.remove().await;
}

async fn streams_are_kept_apart(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let said = bench.sh("echo out; echo err >&2; printf more; test -t 0 || printf ' no terminal'").await;
    assert_eq!(String::from_utf8_lossy(&said.stdout), "out\nmore no terminal");
    assert_eq!(String::from_utf8_lossy(&said.stderr), "err\n");
    bench.remove().await;
}

async fn stdin_arrives_whole(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let said = bench.run(&ExecSpec::new(["cat"]), &sent).await;
    assert!(said.stdout == sent, "{} of {} bytes came back", said.stdout.len(), sent.len());
    assert_eq!(bench.run(&ExecSpec::new(["wc", "-c"]), b"").await.stdout, b"0\n", "stdin ends at once");
    bench.remove().await;
}

async fn a_program_that_reads_nothing_ends(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let said = bench.run(&sh("exec <&-; echo deaf; exit 3"), &vec![7; 4 << 20]).await;
    assert_eq!((said.stdout.as_slice(), said.exit), (&b"deaf\n"[..], ExitStatus::exited(3)));
    bench.remove().await;
}

async fn arguments_arrive_unchanged(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let odd = ["", " ", "a b", "'\"", "$HOME", "*", "\n", "ünïcode", "-n", "\\"];
    let spec = ExecSpec::new(["/bin/sh", "-c", "printf '<%s>' \"$@\"", "name"].into_iter().chain(odd));
    let expected: String = odd.iter().map(|argument| format!("<{argument}>")).collect();
    assert_eq!(String::from_utf8_lossy(&bench.run(&spec, b"").await.stdout), expected);
    bench.remove().await;
}

async fn the_environment_is_as_asked(setup: &Setup) {
    let bench = Bench::with(setup, |spec| {
        spec.env.extend([("FROM_SPEC", "1"), ("BOTH", "spec")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    })
    .await;
    let mut spec = sh("echo $FROM_SPEC $BOTH $FROM_EXEC; env");
    spec.env.extend([("FROM_EXEC", "2"), ("BOTH", "exec")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let said = bench.run(&spec, b"").await;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.starts_with("1 exec 2\n"), "{text}");
    for name in ["PATH", "HOME", "LANG", "TERM", "USER"] {
        assert!(text.contains(&format!("\n{name}=")), "{name} is missing in {text}");
    }
    for (name, _) in std::env::vars() {
        if name.starts_with("CARGO") {
            assert!(!text.contains(&format!("\n{name}=")), "{name} of the host leaks");
        }
    }
    assert_eq!(bench.text("touch \"$HOME/made\" && echo made").await, "made", "the home can be written");
    bench.remove().await;
}

async fn directories_are_entered(setup: &Setup) {
    let bench = Bench::new(setup).await;
    assert_eq!(bench.text("mkdir -p deep/er && touch here && echo ok").await, "ok", "the working directory is ours");
    let mut spec = sh("ls ..");
    spec.workdir = Some(bench.info.spec.workdir.join("deep/er"));
    assert_eq!(bench.run(&spec, b"").await.stdout, b"er\n");
    spec.workdir = Some("/no/such/directory".into());
    let said = bench.run(&spec, b"").await;
    assert_eq!(said.exit, ExitStatus::exited(126));
    assert!(String::from_utf8_lossy(&said.stderr).contains("/no/such/directory"));
    bench.remove().await;
}

async fn a_large_argument_arrives(setup: &Setup) {
    let bench = Bench::new(setup).await;
    // Below the kernel's bound of 128 KiB for one argument, above that of a small message.
    let long = "x".repeat(120_000);
    let mut spec = ExecSpec::new(["/bin/sh", "-c", "printf %s \"$1$LONG\" | wc -c", "name", &long]);
    spec.env.insert("LONG".to_owned(), long);
    assert_eq!(String::from_utf8_lossy(&bench.run(&spec, b"").await.stdout).trim(), "240000");
    let too_long = bench.run(&ExecSpec::new(["echo".to_owned(), "x".repeat(200_000)]), b"").await;
    assert_eq!(too_long.exit, ExitStatus::exited(126));
    bench.remove().await;
}

async fn signals_reach_the_group(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let mut exec = bench.exec(&sh("trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.05; done")).await;
    until(&mut exec, "ready").await;
    exec.input.signal(10).await.unwrap();
    let (said, exit) = rest(&mut exec).await;
    assert_eq!((said.as_str(), exit), ("caught\n", ExitStatus::exited(9)));
    assert_eq!(exec.input.signal(10).await.unwrap_err().kind(), ErrorKind::Interrupted);
    bench.remove().await;
}

async fn a_flood_arrives_whole(setup: &Setup) {
    const FLOOD: usize = 1 << 30;
    let bench = Bench::new(setup).await;
    let mut exec = bench.exec(&sh(&format!("head -c {FLOOD} /dev/zero; echo end >&2"))).await;
    let (mut bytes, mut errors) = (0, Vec::new());
    loop {
        match within("the flood", exec.output.next()).await.unwrap() {
            Some(Output::Stdout(piece)) => bytes += piece.len(),
            Some(Output::Stderr(piece)) => errors.extend(piece),
            Some(Output::Exit(exit)) => break assert_eq!(exit, ExitStatus::exited(0)),
            None => panic!("no exit"),
        }
    }
    assert_eq!((bytes, errors.as_slice()), (FLOOD, &b"end\n"[..]));
    assert_eq!(within("the end", exec.output.next()).await.unwrap(), None);
    bench.remove().await;
}

async fn output_nobody_takes_slows_the_program(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    let mut exec = bench.exec(&sh("touch begun; head -c 16777216 /dev/zero; touch done")).await;
    eventually("the beginning", DEADLINE, async || dir.join("begun").exists()).await;
    // Cannot fail by chance: as long as nobody reads, the program cannot get there.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!dir.join("done").exists(), "16 MiB went into buffers");
    let (said, exit) = rest(&mut exec).await;
    assert_eq!((said.len(), exit), (16 << 20, ExitStatus::exited(0)));
    assert!(dir.join("done").exists());
    bench.remove().await;
}

async fn the_last_words_come_before_the_exit(setup: &Setup) {
    let bench = Bench::new(setup).await;
    for round in 0..20 {
        let said = bench.sh(&format!("head -c 60000 /dev/zero; printf last{round}; exit 5")).await;
        assert!(said.stdout.ends_with(format!("last{round}").as_bytes()), "round {round}");
        assert_eq!((said.stdout.len() > 60_000, said.exit.code), (true, 5));
    }
    bench.remove().await;
}

async fn what_stays_behind_does_not_hold_the_exit(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let said = bench.sh("sleep 100000 & echo mine").await;
    assert_eq!((said.stdout.as_slice(), said.exit), (&b"mine\n"[..], ExitStatus::exited(0)));
    let said = bench.sh("yes & echo mine >&2").await;
    assert_eq!((said.stderr.as_slice(), said.exit), (&b"mine\n"[..], ExitStatus::exited(0)), "a flood neither");
    bench.remove().await;
}

async fn many_run_side_by_side(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let one = async |n: usize| bench.text(&format!("sleep 0.1; echo {n}")).await;
    let said = tokio::join!(one(1), one(2), one(3), one(4), one(5), one(6), one(7), one(8));
    let expected: [String; 8] = std::array::from_fn(|n| (n + 1).to_string());
    assert_eq!(<[String; 8]>::from(said), expected);
    bench.remove().await;
}

async fn a_client_that_leaves_ends_its_program(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    let mut pulse = Pulse::new(&dir, "pulse");
    let exec = bench.exec(&sh(&with_daemon("pulse", "sleep 100000"))).await;
    pulse.begins().await;
    drop(exec);
    pulse.ends().await;
    assert_eq!(bench.text("echo alive").await, "alive", "the sandbox goes on");
    bench.remove().await;
}

async fn reading_may_be_cancelled(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); [ $((i%40)) = 0 ] && sleep 0.01; done";
    let mut exec = bench.exec(&sh(script)).await;
    let mut said = Vec::new();
    let collected = async {
        loop {
            let next = tokio::time::timeout(Duration::from_micros(50), exec.output.next());
            match next.await {
                Err(_) => {}
                Ok(piece) => match piece.unwrap() {
                    Some(Output::Stdout(bytes)) => said.extend(bytes),
                    Some(Output::Exit(exit)) => break exit,
                    other => panic!("{other:?}"),
                },
            }
        }
    };
    assert_eq!(within("the lines", collected).await, ExitStatus::exited(0));
    let expected: String = (0..400).map(|n| format!("line {n}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&said), expected);
    bench.remove().await;
}

async fn a_foreign_user_is_refused_or_served(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let mut spec = sh("id -u");
    spec.user = Some(User { uid: 12_345, gid: 12_345 });
    match within("exec", setup.engine.exec(&bench.id, &spec)).await {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
        Ok(exec) => {
            let said = cove_core::engine::collect(exec, b"", 100).await.unwrap();
            assert_eq!(said.stdout, b"12345\n");
        }
    }
    bench.remove().await;
}

async fn the_empty_command_is_refused(setup: &Setup) {
    let bench = Bench::new(setup).await;
    for argv in [vec![], vec![String::new()], vec!["a\0b".to_owned()]] {
        let error = setup.engine.exec(&bench.id, &ExecSpec { argv, ..ExecSpec::default() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    bench.remove().await;
}

async fn a_program_starts_fresh(setup: &Setup) {
    let bench = Bench::new(setup).await;
    // The fourth is the listing's own.
    assert_eq!(bench.run(&ExecSpec::new(["ls", "/proc/self/fd"]), b"").await.stdout, b"0\n1\n2\n3\n");
    let status = bench.run(&ExecSpec::new(["grep", "^Sig[BI]", "/proc/self/status"]), b"").await;
    let none = "0000000000000000";
    assert_eq!(String::from_utf8_lossy(&status.stdout), format!("SigBlk:\t{none}\nSigIgn:\t{none}\n"));
    assert_eq!(bench.text("umask; ulimit -c >/dev/null && echo ok").await, "0022\nok");
    let script = "set -- $(cat /proc/$$/stat); [ $5 = $$ ] && [ $6 = $$ ] && echo own";
    assert_eq!(bench.text(script).await, "own", "group and session are its own");
    bench.remove().await;
}
