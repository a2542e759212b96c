//! Runs the catalogue against one engine.

use std::time::{Duration, Instant};

use cove_core::engine::{Output, PtySize};
use cove_core::{
    Control, Error, ErrorKind, Exec, ExecSpec, Limits, Result, SandboxId, SandboxInfo, SandboxSpec, SandboxState,
};

use crate::catalogue::exhaustion as tight;
use crate::catalogue::{Group, Proof, Scene, Variant, catalogue};
use crate::ground::Ground;
use crate::judge::{Answer, Answers, control_id, judge, read};
use crate::report::{Line, Report};
use crate::stage::{NEIGHBOUR_PORT, READ_ONLY, Stage};
use crate::{control, creation, survival};

/// Longest a whole list may take inside.
const LIST: Duration = Duration::from_secs(300);
/// Longest a short step may take.
const STEP: Duration = Duration::from_secs(60);
/// How long the end of a sandbox may take to be noted.
const ENDING: Duration = Duration::from_secs(3);

/// Which part of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Everything.
    All,
    /// What answers the questions a person has.
    Probes,
    /// What is tried by running programs in a sandbox with defaults.
    Inside,
    /// One group.
    Only(Group),
}

impl Selection {
    fn takes(self, variant: &Variant) -> bool {
        match self {
            Self::All => true,
            Self::Probes => variant.probe.is_some(),
            Self::Inside => matches!(variant.scene, Scene::Plain | Scene::Terminal),
            Self::Only(group) => variant.group == group,
        }
    }
}

/// Tries the selected part on sandboxes made from `base`, which are removed again.
///
/// # Errors
/// When a sandbox that asks for nothing special cannot be made or driven, or the controls cannot be
/// run; that an attempt succeeds is in the report.
pub async fn attack(ground: &dyn Ground, base: &SandboxSpec, selection: Selection) -> Result<Report> {
    let begun = Instant::now();
    let stage = Stage::new()?;
    let all = catalogue();
    let variants: Vec<&Variant> = all.iter().filter(|variant| selection.takes(variant)).collect();
    let mut run = Run {
        ground,
        stage: &stage,
        base,
        variants,
        made: Vec::new(),
        answers: Answers::new(),
        controls: Answers::new(),
        missing: Vec::new(),
    };
    let done = run.all().await;
    let mut failed = None;
    for id in &run.made {
        failed = failed.or(ground.remove(id).await.err());
    }
    done?;
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(run.report(begun))
}

struct Run<'a> {
    ground: &'a dyn Ground,
    stage: &'a Stage,
    base: &'a SandboxSpec,
    variants: Vec<&'a Variant>,
    made: Vec<SandboxId>,
    answers: Answers,
    controls: Answers,
    missing: Vec<Control>,
}

impl<'a> Run<'a> {
    async fn all(&mut self) -> Result<()> {
        self.controls = control::outside(self.stage, &self.variants).await?;
        let plain = self.create(self.base, "plain-work").await?;
        let mut small = self.base.clone();
        let scarce = Limits {
            pids: Some(tight::TIGHT_PIDS),
            memory_bytes: Some(tight::TIGHT_MEMORY),
            disk_bytes: Some(tight::TIGHT_DISK),
            open_files: Some(tight::TIGHT_FILES),
            ..self.base.limits.clone()
        };
        small.limits = scarce;
        let beside = self.create(&small, "tight-work").await?;
        if let Some(attestation) = &plain.attestation {
            self.missing.clone_from(&attestation.waived);
        }
        self.seen();
        let exec = self.settle(&beside.id).await?;
        self.list(&plain.id, "plain", self.of(|scene| *scene == Scene::Plain), false).await?;
        self.list(&plain.id, "terminal", self.of(|scene| *scene == Scene::Terminal), true).await?;
        self.directories(&plain.id).await?;
        drop(exec);
        let last = self.tight(&small, beside.id).await?;
        self.survival(&last).await?;
        self.disk(&small).await?;
        self.creations().await
    }

    fn of(&self, wanted: impl Fn(&Scene) -> bool) -> Vec<&'a Variant> {
        self.variants.iter().copied().filter(|variant| wanted(&variant.scene)).collect()
    }

    async fn create(&mut self, spec: &SandboxSpec, work: &str) -> Result<SandboxInfo> {
        let info = self.ground.create(&self.stage.furnish(spec, work)?).await?;
        self.made.push(info.id.clone());
        Ok(info)
    }

    /// A sandbox without any change was made: the control of those with one.
    fn seen(&mut self) {
        for variant in self.of(|scene| matches!(scene, Scene::Creation(_))) {
            for (number, proof) in variant.proofs.iter().enumerate() {
                if *proof == Proof::Seen {
                    let id = control_id(variant, number);
                    self.controls
                        .insert(id.clone(), Answer::new(&id, "effect", "", "the same without the change was made"));
                }
            }
        }
    }

    async fn list(&mut self, id: &SandboxId, name: &str, mut left: Vec<&'a Variant>, terminal: bool) -> Result<()> {
        while !left.is_empty() {
            let lines: Vec<String> =
                left.iter().map(|v| control::line(self.stage, "plain", &v.id, &v.words, true)).collect();
            let list = self.stage.list(name, &lines)?;
            let mut exec = ExecSpec::new([&format!("{READ_ONLY}/program"), list.as_str()]);
            exec.pty = terminal.then_some(PtySize { cols: 200, rows: 50 });
            let said = self.ground.run(id, &exec, LIST).await?;
            let answers = read(&said.stdout);
            if answers.is_empty() && said.exit.code != 137 {
                let errors = String::from_utf8_lossy(&said.stderr).into_owned();
                return Err(Error::new(ErrorKind::NotStarted, "The attack program does not run in the sandbox")
                    .with("exit", said.exit.code)
                    .because(errors.chars().take(400).collect::<String>()));
            }
            self.answers.extend(answers);
            left.retain(|variant| !self.answers.contains_key(&variant.id));
            // The kernel may choose the program itself when an attempt takes too much. That attempt
            // was held; the others are made in another process.
            if let Some(first) = left.first()
                && said.exit.code == 137
            {
                let answer = Answer::new(&first.id, "refused", "SIGKILL", format!("{:?}", said.exit.reason));
                self.answers.insert(first.id.clone(), answer);
                left.remove(0);
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Tries what takes more than was given, and says in which sandbox the last of it was tried.
    ///
    /// Files in memory outlive the program that was ended for them, so an attempt may leave a sandbox
    /// in which nothing can run, its guest included. That harms nobody but the sandbox: the rest is
    /// tried in another, one by one, and an attempt that ends a new one all alone is what ended it.
    async fn tight(&mut self, small: &SandboxSpec, mut id: SandboxId) -> Result<SandboxId> {
        let mut left = self.of(|scene| *scene == Scene::Tight);
        let (mut alone, mut fresh, mut number) = (false, false, 0);
        while let Some(first) = left.first().copied() {
            let count = if alone { 1 } else { left.len() };
            let tried = self.list(&id, "tight", left[..count].to_vec(), false).await;
            left.retain(|variant| !self.answers.contains_key(&variant.id));
            let answered = self.answers.contains_key(&first.id);
            let done = if alone { answered } else { left.is_empty() };
            if tried.is_ok() && done {
                fresh = false;
                continue;
            }
            let stopped = self.stopped(&id).await?;
            if fresh {
                match (stopped, tried) {
                    (Some(why), _) if !answered => {
                        self.answers.insert(first.id.clone(), Answer::new(&first.id, "refused", "STOPPED", why));
                    }
                    (None, Err(error)) => return Err(error),
                    _ => {}
                }
                left.retain(|variant| variant.id != first.id);
            } else if stopped.is_none() && tried.is_ok() {
                // The sandbox goes on; what gave no answer is reported as that.
                left.retain(|variant| alone && variant.id != first.id);
                continue;
            }
            number += 1;
            id = self.create(small, &format!("tight-work-{number}")).await?.id;
            (alone, fresh) = (true, true);
        }
        if alone && !fresh {
            id = self.create(small, "tight-work-last").await?.id;
        }
        Ok(id)
    }

    /// Why a sandbox ended, if it did or is about to.
    async fn stopped(&self, id: &SandboxId) -> Result<Option<String>> {
        let end = Instant::now() + ENDING;
        loop {
            if let SandboxState::Stopped { exit } = self.ground.inspect(id).await?.state {
                return Ok(Some(format!("the sandbox ended: {:?}", exit.reason)));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes the sandbox beside a place worth looking into, and looks from there.
    async fn settle(&mut self, id: &SandboxId) -> Result<Option<Exec>> {
        let chosen: Vec<&Variant> =
            self.variants.iter().copied().filter(|v| v.proofs.contains(&Proof::Neighbour)).collect();
        if chosen.is_empty() {
            return Ok(None);
        }
        let mark = self.stage.neighbour_mark();
        let program = format!("{READ_ONLY}/program");
        let words = [&program, "serve", &self.stage.neighbour(), NEIGHBOUR_PORT, "-", &mark];
        let mut exec = self.ground.exec(id, &ExecSpec::new(words)).await?;
        let ready = async {
            let mut said = Vec::new();
            while let Some(piece) = exec.output.next().await? {
                match piece {
                    Output::Stdout(bytes) => said.extend(bytes),
                    Output::Stderr(_) => {}
                    Output::Exit(_) => break,
                }
                if said.starts_with(b"READY") {
                    return Ok(());
                }
            }
            Err(Error::new(ErrorKind::NotStarted, "The listener in the sandbox beside does not run")
                .because(String::from_utf8_lossy(&said).into_owned()))
        };
        tokio::time::timeout(STEP, ready)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "The listener in the sandbox beside is not ready"))??;
        let mut lines: Vec<String> = ["/tmp/neighbour", "/dev/shm/neighbour"]
            .map(|path| format!("plain\tput{path}\tput\t{path}\t{mark}"))
            .to_vec();
        for variant in &chosen {
            lines.push(control::line(self.stage, "plain", &control_id(variant, 0), &variant.words, true));
        }
        let list = self.stage.list("neighbour", &lines)?;
        let said = self.ground.run(id, &ExecSpec::new([program.as_str(), list.as_str()]), STEP).await?;
        self.controls.extend(read(&said.stdout));
        Ok(Some(exec))
    }

    async fn directories(&mut self, id: &SandboxId) -> Result<()> {
        for variant in self.of(|scene| matches!(scene, Scene::Directory(_))) {
            let Scene::Directory(path) = &variant.scene else { continue };
            let line = control::line(self.stage, "plain", &variant.id, &variant.words, true);
            let list = self.stage.list("directory", &[line])?;
            let mut exec = ExecSpec::new([&format!("{READ_ONLY}/program"), list.as_str()]);
            exec.workdir = Some(self.stage.fill(path, true).into());
            let answer = match self.ground.run(id, &exec, STEP).await {
                Ok(said) => read(&said.stdout).remove(&variant.id).unwrap_or_else(|| {
                    let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
                    Answer::new(&variant.id, "refused", "NOT-STARTED", why)
                }),
                Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Refused | ErrorKind::NotFound) => {
                    Answer::new(&variant.id, "refused", "NOT-STARTED", error.chain().join(": "))
                }
                Err(error) => return Err(error),
            };
            self.answers.insert(variant.id.clone(), answer);
        }
        Ok(())
    }

    async fn survival(&mut self, id: &SandboxId) -> Result<()> {
        let chosen = self.of(|scene| matches!(scene, Scene::Survival(_)));
        if chosen.is_empty() {
            return Ok(());
        }
        let (answers, controls) = survival::try_all(self.ground, self.stage, id, &chosen).await?;
        self.answers.extend(answers);
        self.controls.extend(controls);
        Ok(())
    }

    /// A sandbox of its own, which the watch over the disk may end.
    async fn disk(&mut self, small: &SandboxSpec) -> Result<()> {
        for variant in self.of(|scene| *scene == Scene::Disk) {
            let info = self.create(small, "disk-work").await?;
            let line = control::line(self.stage, "plain", &variant.id, &variant.words, true);
            let list = self.stage.list("disk", &[line])?;
            let exec = ExecSpec::new([&format!("{READ_ONLY}/program"), list.as_str()]);
            let said = self.ground.run(&info.id, &exec, LIST).await;
            let mut answer = said.ok().and_then(|said| read(&said.stdout).remove(&variant.id));
            if answer.as_ref().is_none_or(|answer| answer.outcome != "refused") {
                let end = Instant::now() + STEP;
                while Instant::now() < end {
                    if let SandboxState::Stopped { exit } = self.ground.inspect(&info.id).await?.state {
                        answer = Some(Answer::new(&variant.id, "refused", "STOPPED", format!("{:?}", exit.reason)));
                        break;
                    }
                    if answer.as_ref().is_some_and(|answer| answer.outcome == "effect") {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            if let Some(answer) = answer {
                self.answers.insert(variant.id.clone(), answer);
            }
        }
        Ok(())
    }

    async fn creations(&mut self) -> Result<()> {
        for variant in self.of(|scene| matches!(scene, Scene::Creation(_))) {
            let answer = creation::attempt(self.ground, self.stage, self.base, variant).await?;
            self.answers.insert(variant.id.clone(), answer);
        }
        Ok(())
    }

    /// Why what holds an attempt is known not to be there.
    fn missing(&self, variant: &Variant) -> Option<String> {
        if self.missing.contains(&variant.control) {
            return Some(format!("{} is missing on this host and its absence was accepted", variant.control));
        }
        // Ids inside belong to nobody outside all the same; see `E17` and `P1` for what that holds.
        let of_host = matches!(self.ground.name().as_str(), "docker" | "podman");
        (of_host && variant.id == "E1-same-user")
            .then(|| "this engine keeps the host's users unless it is set up otherwise".to_owned())
    }

    fn report(&self, begun: Instant) -> Report {
        let lines = self.variants.iter().map(|variant| {
            let missing = self.missing(variant);
            let (verdict, found) = judge(variant, self.answers.get(&variant.id), &self.controls, missing.as_deref());
            Line {
                id: variant.id.clone(),
                group: variant.group,
                what: variant.what.clone(),
                control: variant.control,
                weight: variant.weight,
                probe: variant.probe,
                verdict,
                found,
            }
        });
        Report {
            engine: self.ground.name(),
            lines: lines.collect(),
            changed: self.stage.changes(),
            missing: self.missing.clone(),
            seconds: begun.elapsed().as_secs(),
        }
    }
}
