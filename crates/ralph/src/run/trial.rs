//! A commit before its gates: as it is, with the protected files as the attempt found them, and with
//! those of the run's base where earlier stories changed such files. What passes all of that has to be
//! believed too: as many tests as on the base, and a check that can fail.

use cove_core::ledger::{GateResult, GateStatus, Verdict};
use cove_core::run::GateSpec;
use cove_core::{Fact, Result};
use sha2::{Digest, Sha256};

use super::attempt::{Conclusion, Job};
use super::checks::Pass;
use super::crew::Crew;
use super::{Site, baseline, checks, feedback, taken};
use crate::evidence;
use crate::reason::{Reason, Refusal};

/// Diff read for the fingerprint of a failure.
const DIFF: usize = 8 << 20;

/// A commit before its gates.
pub(crate) struct Trial<'a> {
    /// Tells this trial's logs from others of the attempt.
    pub(crate) name: &'a str,
    pub(crate) commit: &'a str,
    /// Commit whose files count as the originals.
    pub(crate) original: &'a str,
    /// Files that must also pass as they are in `original`.
    pub(crate) protected: &'a [String],
    pub(crate) gates: &'a [GateSpec],
}

/// Whose files a pass has where they are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    Own,
    Original,
    First,
}

impl Files {
    fn suffix(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Original => "-originals",
            Self::First => "-first",
        }
    }

    /// One name a gate and pass, so that a reader can tell them apart.
    fn mark(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Original => " (original files)",
            Self::First => " (files of the run's base)",
        }
    }
}

/// Runs the gates on a commit in every form that it has to pass in. The names of those that really
/// passed on the commit as it is, when all are satisfied.
pub(crate) async fn judged(
    site: &Site,
    crew: &Crew,
    job: &Job,
    trial: &Trial<'_>,
) -> Result<Result<Vec<String>, Conclusion>> {
    let Trial { name, commit, original, protected, gates } = *trial;
    let git = &site.shared.deps.git;
    let trusted = site.spec.trust_test_changes;
    let mut passes = vec![(Files::Own, commit.to_owned(), protected.to_vec())];
    if !protected.is_empty() {
        let restored = git.overlay(&site.place.repo(), commit, original, protected).await?;
        passes.push((Files::Original, restored, protected.to_vec()));
    }
    if !trusted && site.base != original {
        let first = taken::first_files(site, original, commit).await?;
        if !first.is_empty() {
            let restored = git.overlay(&site.place.repo(), commit, &site.base, &first).await?;
            passes.push((Files::First, restored, first));
        }
    }
    let (mut green, mut last) = (Vec::new(), Vec::new());
    for (files, commit, paths) in &passes {
        let name = format!("{name}{}", files.suffix());
        let mut results = checks::run(site, crew, Pass { name: &name, commit, gates }).await?;
        baseline::judge(&mut results, &site.baseline);
        if *files == Files::Own {
            let passed = results.iter().filter(|gate| gate.status == GateStatus::Passed);
            green = passed.map(|gate| gate.name.clone()).collect();
        }
        last.clone_from(&results);
        results.iter_mut().for_each(|result| result.name.push_str(files.mark()));
        let facts = results.iter().map(|gate| Fact::GateFinished { attempt: job.attempt.clone(), gate: gate.clone() });
        crew.tell(facts.collect()).await?;
        let failed: Vec<&GateResult> = results.iter().filter(|gate| !gate.status.accepts()).collect();
        if !failed.is_empty() {
            let names: Vec<String> = failed.iter().map(|gate| gate.name.clone()).collect();
            let diff = git.diff(&site.place.repo(), original, commit, DIFF).await?;
            let print = fingerprint(["gates", &names.join("\0"), &hex(&Sha256::digest(&diff))]);
            let feedback = feedback::gates_failed(&failed, (*files != Files::Own).then_some(paths));
            let refusals = failed.iter().map(|gate| refusal(*files, gate)).collect();
            let verdict = Verdict::GatesFailed { gates: names };
            return Ok(Err(Conclusion::Rejected { verdict, feedback, fingerprint: print, refusals }));
        }
    }
    if trusted {
        return Ok(Ok(green));
    }
    let strictest = passes.last().map_or(commit, |(_, commit, _)| commit.as_str());
    let mut refusals = fewer(&last, &site.baseline);
    if refusals.is_empty() {
        let name = format!("{name}-planted");
        refusals = cannot_fail(site, crew, Pass { name: &name, commit: strictest, gates }, &last).await?;
    }
    match refusals.first() {
        None => Ok(Ok(green)),
        Some(first) => {
            let reason = first.text.clone();
            let print = fingerprint(["evidence", first.reason.code(), &reason]);
            let feedback = feedback::refused(&reason);
            Ok(Err(Conclusion::Rejected {
                verdict: Verdict::Refused { reason },
                feedback,
                fingerprint: print,
                refusals,
            }))
        }
    }
}

/// Why a failed gate speaks against the work.
fn refusal(files: Files, gate: &GateResult) -> Refusal {
    let (reason, how) = match (files, gate.status) {
        (Files::Original, _) => {
            (Reason::OriginalChecksFailed, "does not pass with the tests and configuration from before the work")
        }
        (Files::First, _) => {
            (Reason::FirstChecksFailed, "does not pass with the tests and configuration of the run's base")
        }
        (Files::Own, GateStatus::TimedOut) => (Reason::CheckTimedOut, "ran into its time limit"),
        (Files::Own, GateStatus::Errored) => (Reason::CheckNotRun, "could not be run"),
        (Files::Own, _) => (Reason::CheckFailed, "failed"),
    };
    Refusal::new(reason, format!("The check {} {how}", gate.name))
}

/// Gates that passed with fewer tests than on the base.
fn fewer(results: &[GateResult], baseline: &[GateResult]) -> Vec<Refusal> {
    let passed = results.iter().filter(|gate| gate.status == GateStatus::Passed);
    passed
        .filter_map(|gate| {
            let before = baseline.iter().find(|b| b.name == gate.name && b.command == gate.command)?.tests?;
            let now = gate.tests.unwrap_or(0);
            (now < before).then(|| {
                let text =
                    format!("The check {} ran {now} tests, fewer than the {before} of the run's base", gate.name);
                Refusal::new(Reason::FewerTests, text)
            })
        })
        .collect()
}

/// Gates that pass, or stay silent, when tests that must fail are among theirs.
async fn cannot_fail(site: &Site, crew: &Crew, pass: Pass<'_>, results: &[GateResult]) -> Result<Vec<Refusal>> {
    let which = baseline::tests_gates(results, GateStatus::Passed, &site.wires);
    let wires = checks::planted(site, crew, pass, &which).await?;
    let early = taken::ends_early(site, pass.gates).await?;
    let objections = wires.iter().filter_map(|(at, wire)| {
        let gate = &pass.gates[*at];
        let known = evidence::runs_tests(&gate.command);
        let why = wire.objection(site.wires.get(&gate.name), known, early)?;
        Some(Refusal::new(Reason::CheckCannotFail, format!("The check {} is not to be believed: {why}", gate.name)))
    });
    Ok(objections.collect())
}

/// Tells equal failures from different ones.
pub(crate) fn fingerprint<const N: usize>(parts: [&str; N]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())[..32].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
