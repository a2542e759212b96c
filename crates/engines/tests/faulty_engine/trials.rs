//! The trials. Each engine has one proxy and one set of trials in a row: proving it costs most.

use std::collections::HashMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bollard::query_parameters::ListContainersOptionsBuilder;
use cove_core::engine::collect;
use cove_core::{Engine, EngineKind, Error, ErrorKind, ExecSpec, InstanceId, Limits, Root, SandboxId, SandboxSpec};
use cove_engines::container::Containers;
use cove_engines::container::client::{Client, PATIENCE, name};
use cove_engines::container::image::ensure;
use cove_engines::images::Images;
use cove_engines::{HelperProgram, LocalEngine};
use libtest_mimic::{Arguments, Trial};

use crate::proxy::{Fault, Proxy};

/// What the waits for an engine are lowered to, here and in supervisors. Long enough for a real one on a
/// slow machine, short enough for one that hangs.
const SHORT: &str = "15000";

/// Nothing may take longer, on any machine.
const BOUND: Duration = Duration::from_secs(120);

pub fn main() -> ! {
    if std::env::var_os(PATIENCE).is_none() {
        // Read once by whoever waits, so it has to be there from the start.
        let error = Command::new(std::env::current_exe().unwrap())
            .args(std::env::args_os().skip(1))
            .env(PATIENCE, SHORT)
            .exec();
        panic!("{error}");
    }
    let mut trials = Vec::new();
    for (kind, variable) in [(EngineKind::Docker, "COVE_TEST_DOCKER"), (EngineKind::Podman, "COVE_TEST_PODMAN")] {
        let socket = std::env::var_os(variable).map(PathBuf::from);
        if socket.is_none() {
            eprintln!("SKIP {kind}: no test bed ({variable})");
        }
        for (title, test) in [
            ("vanishes_at_any_call_of_a_sandboxs_life", vanishes as fn(&Bench)),
            ("answers_are_lost_at_any_call_of_a_sandboxs_life", unanswered as fn(&Bench)),
            ("does_not_answer_as_an_engine", odd_answers as fn(&Bench)),
        ] {
            let socket = socket.clone();
            let skipped = socket.is_none();
            let test = Trial::test(format!("{kind}::{title}"), move || {
                test(&Bench::new(kind, &socket.unwrap_or_default()));
                Ok(())
            });
            trials.push(test.with_ignored_flag(skipped));
        }
    }
    trials.push(Trial::test("greeting::faults_are_named", || {
        greetings();
        Ok(())
    }));
    trials.push(Trial::test("pull::an_error_below_200_is_one", || {
        pulls();
        Ok(())
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

struct Bench {
    kind: EngineKind,
    engine: LocalEngine<Containers>,
    instance: InstanceId,
    proxy: Proxy,
    real: PathBuf,
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(kind: EngineKind, real: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let proxy = Proxy::start(dir.path(), real);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let helper = HelperProgram::current().unwrap();
        let containers = Containers::new(kind, proxy.socket(), &state, &helper).unwrap();
        let instance = InstanceId::new();
        let engine = LocalEngine::new(containers, &state, instance.clone(), helper).unwrap();
        Self { kind, engine, instance, proxy, real: real.to_owned(), dir, runtime }
    }

    /// A sandbox's whole life; whether it could be led.
    fn life(&self) -> cove_core::Result<()> {
        let mut spec = SandboxSpec::new(Root::Host);
        spec.limits = Limits::NONE;
        let id = SandboxId::new();
        self.in_time(async {
            self.engine.create(&id, &spec).await?;
            let exec = self.engine.exec(&id, &ExecSpec::new(["/bin/echo", "here"])).await?;
            assert_eq!(collect(exec, b"", 100).await?.stdout, b"here\n");
            self.engine.remove(&id).await
        })
    }

    fn in_time<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(BOUND, work).await.expect("it ends in time") })
    }

    /// Heals the engine and looks for anything that stayed behind a sweep.
    fn nothing_stays(&self, after: &str) {
        self.proxy.set(Fault::None);
        self.in_time(async {
            cove_testkit::eventually("a clean sweep", BOUND, async || {
                self.engine.sweep(&[]).await.is_ok_and(|swept| swept.is_empty())
            })
            .await;
            assert!(self.engine.list().await.unwrap().is_empty(), "{after}");
            let client = Client::connect(self.kind, &self.real).await.unwrap();
            let ours = format!("run.cove.instance={}", self.instance);
            let filter = HashMap::from([("label".to_owned(), vec![ours])]);
            let options = ListContainersOptionsBuilder::new().all(true).filters(&filter).build();
            let left = client.docker.list_containers(Some(options)).await.unwrap();
            assert!(left.is_empty(), "{after}: {left:?}");
        });
        let kept: Vec<_> = std::fs::read_dir(self.dir.path().join("state/sandboxes")).unwrap().flatten().collect();
        assert!(kept.is_empty(), "{after}: {kept:?}");
        let supervisors = || {
            let place = self.dir.path().display().to_string();
            std::fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
                .any(|line| String::from_utf8_lossy(&line).contains(&place))
        };
        self.in_time(cove_testkit::eventually("the end of all supervisors", BOUND, async || !supervisors()));
    }

    /// The error has a class that fits, and names the engine.
    fn named(&self, error: &Error, when: &str) {
        named(self.kind, error, when);
    }
}

fn named(kind: EngineKind, error: &Error, when: &str) {
    let told = error.chain().join(": ");
    assert!(told.contains(name(kind)), "{when}: {told}");
    assert!(error.kind() != ErrorKind::Invalid && error.kind() != ErrorKind::NotFound, "{when}: {told}");
}

/// Breaks the n-th call for every n until a life goes by unbroken.
fn at_every_call(bench: &Bench, fault: fn(usize) -> Fault) {
    bench.life().unwrap();
    let mut failed = 0;
    for number in 1..100 {
        bench.proxy.set(fault(number));
        let led = bench.life();
        let calls = bench.proxy.calls();
        let when = format!("call {number}: {}", calls.get(number - 1).map_or("none", String::as_str));
        if calls.len() < number {
            assert!(led.is_ok(), "{when}: {led:?}");
            assert!(failed >= 3, "only {failed} calls could fail: {calls:?}");
            return;
        }
        if let Err(error) = &led {
            failed += 1;
            bench.named(error, &when);
        }
        bench.nothing_stays(&when);
    }
    panic!("a life has no end of calls");
}

fn vanishes(bench: &Bench) {
    at_every_call(bench, Fault::LostFrom);
}

fn unanswered(bench: &Bench) {
    at_every_call(bench, Fault::UnansweredFrom);
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// Answers that no engine should give, by name.
fn answers() -> Vec<(&'static str, Fault)> {
    vec![
        ("hangs", Fault::Hang),
        ("is gone", Fault::Gone),
        ("garbage", Fault::Answer(b"\x00\xff%%% not at all HTTP\r\n\r\n{}".to_vec())),
        ("half an answer", Fault::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{\"Id\": \"sha".to_vec())),
        ("half a head", Fault::Answer(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec())),
        ("nothing but errors", Fault::Answer(http("500 Internal Server Error", r#"{"message":"boom"}"#))),
        ("an error that is no JSON", Fault::Answer(http("500 Internal Server Error", "<html>boom"))),
        ("an error below 200", Fault::Answer(http("200 OK", r#"{"message":"boom","error":"boom"}"#))),
        ("a list for an object", Fault::Answer(http("200 OK", "[]"))),
        ("a number too deep", Fault::Answer(http("200 OK", &"[".repeat(100_000)))),
        (
            "the wrong version",
            Fault::Answer(http("400 Bad Request", r#"{"message":"client version 1.99 is too new"}"#)),
        ),
        ("a redirection", Fault::Answer(http("301 Moved Permanently\r\nLocation: http://example.com/", "{}"))),
    ]
}

/// An engine that goes wrong when its first sandbox is asked for.
fn odd_answers(bench: &Bench) {
    bench.life().unwrap();
    for (title, fault) in answers() {
        // One that hangs is tried by the other trials' engine too; once is enough of waiting.
        if title == "hangs" && bench.kind == EngineKind::Podman {
            continue;
        }
        bench.proxy.set(fault.clone());
        let error = bench.life().expect_err(title);
        bench.named(&error, title);
        if !matches!(fault, Fault::Gone) {
            assert!(!bench.proxy.calls().is_empty(), "{title}: nobody asked");
        }
        bench.nothing_stays(title);
    }
    // One call that is refused for no reason, or answered without saying what was made.
    for (title, fault) in [
        ("create refused", Fault::AnswerTo("/containers/create", http("409 Conflict", r#"{"message":"boom"}"#))),
        ("create without an id", Fault::AnswerTo("/containers/create", http("201 Created", "{}"))),
        (
            "create with another's id",
            Fault::AnswerTo("/containers/create", http("201 Created", r#"{"Id":"../../x","Warnings":[]}"#)),
        ),
        ("start refused", Fault::AnswerTo("/start", http("500 Internal Server Error", r#"{"message":"boom"}"#))),
        ("start that did nothing", Fault::AnswerTo("/start", http("204 No Content", ""))),
    ] {
        // What only claims to have started is waited for as long as a guest may take.
        if title == "start that did nothing" && bench.kind == EngineKind::Podman {
            continue;
        }
        bench.proxy.set(fault);
        let error = bench.life().expect_err(title);
        bench.named(&error, title);
        bench.nothing_stays(title);
    }
    bench.life().unwrap();
}

/// An engine that is wrong from the start.
fn greetings() {
    for kind in [EngineKind::Docker, EngineKind::Podman] {
        for (title, fault) in answers() {
            let dir = tempfile::tempdir().unwrap();
            let proxy = Proxy::start(dir.path(), Path::new("/nowhere"));
            proxy.set(fault);
            let helper = HelperProgram::current().unwrap();
            match Containers::new(kind, proxy.socket(), &dir.path().join("state"), &helper) {
                Err(error) => named(kind, &error, title),
                // It greeted and could prove nothing.
                Ok(found) => {
                    let has = cove_engines::local::Kind::capabilities(&found);
                    assert!(!has.has(cove_core::Control::IsolationContainer), "{kind} {title}");
                }
            }
        }
    }
}

/// Fetching an image that fails below a status of 200, as engines do.
fn pulls() {
    let stream = "{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"no such manifest\"},\"error\":\"no such manifest\"}\r\n";
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (title, answer, said) in [
        ("an error in the stream", http("200 OK", stream), "no such manifest"),
        ("a stream that says nothing", http("200 OK", "{\"status\":\"done\"}\r\n"), "does not have it"),
        ("a stream that is none", http("200 OK", "<html>"), "docker.io/library/absent"),
        (
            "a stream that ends early",
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"sta".to_vec(),
            "docker.io/library/absent",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let proxy = Proxy::start(dir.path(), Path::new("/nowhere"));
        let error = runtime.block_on(async {
            let address = cove_engines::container::client::Address {
                engine: EngineKind::Docker,
                socket: proxy.socket().to_owned(),
                version: (1, 41),
            };
            let client = Client::to(&address).unwrap();
            proxy.set(Fault::PullOnly(answer));
            let images = Images::new(dir.path().join("cache"));
            let wanted = Root::Image("docker.io/library/absent:x".to_owned());
            tokio::time::timeout(BOUND, ensure(&client, &images, &wanted)).await.unwrap().unwrap_err()
        });
        let told = error.chain().join(": ");
        assert!(told.contains(said), "{title}: {told}");
        assert!(told.contains("Docker") || told.contains("absent"), "{title}: {told}");
    }
}
