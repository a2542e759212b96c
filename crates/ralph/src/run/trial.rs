//! A commit before its gates: once as it is, and once with the protected files of the original.

use cove_core::ledger::{GateResult, GateStatus, Verdict};
use cove_core::run::GateSpec;
use cove_core::{Fact, Result};
use sha2::{Digest, Sha256};

use super::attempt::{Conclusion, Job};
use super::crew::Crew;
use super::{Site, baseline, checks, feedback};

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

/// Runs the gates on a commit, and once more with the protected files as the original has them.
/// The names of those that really passed on the commit as it is, when all are satisfied.
pub(crate) async fn judged(
    site: &Site,
    crew: &Crew,
    job: &Job,
    trial: &Trial<'_>,
) -> Result<Result<Vec<String>, Conclusion>> {
    let Trial { name, commit, original, protected, gates } = *trial;
    let git = &site.shared.deps.git;
    let mut passes = vec![(name.to_owned(), commit.to_owned(), false)];
    if !protected.is_empty() {
        let restored = git.overlay(&site.place.repo(), commit, original, protected).await?;
        passes.push((format!("{name}-originals"), restored, true));
    }
    let mut green = Vec::new();
    for (name, commit, originals) in passes {
        let mut results = checks::run(site, crew, &name, &commit, gates).await?;
        baseline::judge(&mut results, &site.baseline);
        if !originals {
            let passed = results.iter().filter(|gate| gate.status == GateStatus::Passed);
            green = passed.map(|gate| gate.name.clone()).collect();
        } else {
            // One name a gate and pass, so that a reader can tell them apart.
            results.iter_mut().for_each(|result| result.name.push_str(" (original files)"));
        }
        let facts = results.iter().map(|gate| Fact::GateFinished { attempt: job.attempt.clone(), gate: gate.clone() });
        crew.tell(facts.collect()).await?;
        let failed: Vec<&GateResult> = results.iter().filter(|gate| !gate.status.accepts()).collect();
        if !failed.is_empty() {
            let names: Vec<String> = failed.iter().map(|gate| gate.name.clone()).collect();
            let diff = git.diff(&site.place.repo(), original, &commit, DIFF).await?;
            let print = fingerprint(["gates", &names.join("\0"), &hex(&Sha256::digest(&diff))]);
            let feedback = feedback::gates_failed(&failed, originals.then_some(protected));
            let verdict = Verdict::GatesFailed { gates: names };
            return Ok(Err(Conclusion::Rejected { verdict, feedback, fingerprint: print }));
        }
    }
    Ok(Ok(green))
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
