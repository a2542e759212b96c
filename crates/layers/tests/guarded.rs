//! The layers around an engine that only writes down what it was asked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cove_core::engine::PtySize;
use cove_core::{
    Capabilities, Control, Engine, EngineKind, Error, ErrorKind, Exec, ExecSpec, Limits, Network, Result, Root,
    SandboxId, SandboxInfo, SandboxSpec, Swept,
};
use cove_layers::{Deadlines, guarded, guarded_within};

/// Fails every operation, or never ends one, and remembers which were asked for.
struct Stub {
    capabilities: Capabilities,
    hangs: bool,
    asked: Mutex<Vec<&'static str>>,
}

impl Stub {
    fn new(capabilities: Capabilities, hangs: bool) -> Arc<Self> {
        Arc::new(Self { capabilities, hangs, asked: Mutex::default() })
    }

    async fn ask<T>(&self, op: &'static str) -> Result<T> {
        self.asked.lock().unwrap().push(op);
        if self.hangs && op != "remove" {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::Conflict, "The stub fails").with("own", 1))
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Engine for Stub {
    fn kind(&self) -> EngineKind {
        EngineKind::Fake
    }
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn create(&self, _: &SandboxId, _: &SandboxSpec) -> Result<SandboxInfo> {
        self.ask("create").await
    }
    async fn exec(&self, _: &SandboxId, _: &ExecSpec) -> Result<Exec> {
        self.ask("exec").await
    }
    async fn stop(&self, _: &SandboxId, _: Duration) -> Result<()> {
        self.ask("stop").await
    }
    async fn remove(&self, _: &SandboxId) -> Result<()> {
        self.ask("remove").await
    }
    async fn inspect(&self, _: &SandboxId) -> Result<SandboxInfo> {
        self.ask("inspect").await
    }
    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        self.ask("list").await
    }
    async fn sweep(&self, _: &[SandboxId]) -> Result<Vec<Swept>> {
        self.ask("sweep").await
    }
}

fn all() -> Capabilities {
    Control::ALL.into_iter().fold(Capabilities::default(), Capabilities::proven)
}

fn value<'a>(error: &'a Error, name: &str) -> Option<&'a str> {
    error.context().iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn what_is_not_proven_is_refused_before_the_engine_is_asked() {
    let spec = |change: fn(&mut SandboxSpec)| {
        let mut spec = SandboxSpec::new(Root::Host);
        change(&mut spec);
        spec
    };
    let id = SandboxId::new();
    for (control, spec, word) in [
        (Control::Seccomp, spec(|_| {}), "cove engine test"),
        (Control::NetworkNone, spec(|_| {}), "cove engine test"),
        (Control::NetworkDoor, spec(|s| s.network = Network::Door { socket: "/s".into() }), "cove engine test"),
        (Control::NetworkHost, spec(|s| s.network = Network::Host), "door"),
        (Control::RootImage, spec(|s| s.root = Root::Image("x".into())), "cove engine test"),
        (
            Control::LimitDisk,
            spec(|s| s.limits = Limits { disk_bytes: Some(1 << 20), ..Limits::default() }),
            "--accept-missing limit-disk",
        ),
    ] {
        let stub = Stub::new(all().missing(control, "The kernel lacks it."), false);
        let error = guarded(stub.clone()).create(&id, &spec).await.unwrap_err();
        assert_eq!((error.kind(), stub.asked().len()), (ErrorKind::Unsupported, 0), "{control}");
        assert_eq!(value(&error, "control"), Some(control.name().as_str()));
        assert_eq!((value(&error, "op"), value(&error, "engine")), (Some("create"), Some("fake")));
        assert_eq!(error.message(), format!("The engine fake cannot give {control}"));
        assert_eq!(error.told()[1], "The kernel lacks it");
        assert!(error.next_step().unwrap().contains(word), "{control}: {:?}", error.next_step());
    }

    // Everything proven, or accepted as missing by name: the engine decides.
    let stub = Stub::new(all(), false);
    assert_eq!(guarded(stub.clone()).create(&id, &spec(|_| {})).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(stub.asked(), ["create"]);
    let stub = Stub::new(all().missing(Control::LimitDisk, "x"), false);
    let accepted = spec(|s| s.hardening.accept_missing = [Control::LimitDisk].into_iter().collect());
    assert_eq!(guarded(stub.clone()).create(&id, &accepted).await.unwrap_err().kind(), ErrorKind::Conflict);

    // Malformed ones do not reach it either.
    let stub = Stub::new(all().missing(Control::Pty, "No terminals."), false);
    let engine = guarded(stub.clone());
    let relative = spec(|s| s.workdir = "relative".into());
    assert_eq!(engine.create(&id, &relative).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut terminal = ExecSpec::new(["sh"]);
    terminal.pty = Some(PtySize { cols: 80, rows: 24 });
    for (exec, kind) in [
        (ExecSpec::new::<String>([]), ErrorKind::Invalid),
        (ExecSpec::new([""]), ErrorKind::Invalid),
        (ExecSpec::new(["a", "b\0c"]), ErrorKind::Invalid),
        (terminal, ErrorKind::Unsupported),
    ] {
        assert_eq!(engine.exec(&id, &exec).await.unwrap_err().kind(), kind, "{exec:?}");
    }
    assert_eq!(stub.asked(), Vec::<&str>::new());
}

/// Every operation through the layers, with its error.
async fn every(engine: &dyn Engine, id: &SandboxId) -> Vec<(&'static str, Error)> {
    let spec = SandboxSpec::new(Root::Host);
    vec![
        ("create", engine.create(id, &spec).await.unwrap_err()),
        ("exec", engine.exec(id, &ExecSpec::new(["true"])).await.unwrap_err()),
        ("stop", engine.stop(id, Duration::ZERO).await.unwrap_err()),
        ("inspect", engine.inspect(id).await.unwrap_err()),
        ("list", engine.list().await.unwrap_err()),
        ("sweep", engine.sweep(&[]).await.unwrap_err()),
    ]
}

#[tokio::test]
async fn errors_say_where_they_come_from() {
    let stub = Stub::new(all(), false);
    let id = SandboxId::new();
    for (op, error) in every(&*guarded(stub.clone()), &id).await {
        assert_eq!(
            (error.kind(), value(&error, "op"), value(&error, "own")),
            (ErrorKind::Conflict, Some(op), Some("1"))
        );
        let sandbox = (!matches!(op, "list" | "sweep")).then_some(id.as_str());
        assert_eq!((value(&error, "engine"), value(&error, "sandbox")), (Some("fake"), sandbox));
        assert_eq!(error.message(), "The stub fails");
    }
    let twice = guarded(guarded(stub)).inspect(&id).await.unwrap_err();
    assert_eq!(twice.context().iter().filter(|(name, _)| *name == "op").count(), 1, "named once");
}

#[tokio::test]
async fn nothing_takes_forever_and_half_built_sandboxes_are_removed() {
    let stub = Stub::new(all(), true);
    let short = Duration::from_millis(20);
    let deadlines = Deadlines { create: short, exec: short, stop: short, remove: short, look: short, sweep: short };
    let id = SandboxId::new();
    for (op, error) in every(&*guarded_within(stub.clone(), deadlines), &id).await {
        assert_eq!((error.kind(), value(&error, "op")), (ErrorKind::Timeout, Some(op)));
        assert!(error.next_step().is_some());
    }
    assert_eq!(stub.asked(), ["create", "remove", "exec", "stop", "inspect", "list", "sweep"]);
}
