//! The controls: the same attempts where they have their effect.

use std::time::Duration;

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};

use crate::catalogue::{Proof, Variant};
use crate::judge::{Answers, control_id, read};
use crate::stage::Stage;

/// Longest all controls together may take.
const BOUND: Duration = Duration::from_secs(240);

/// Runs the controls of `variants` that are made outside.
///
/// # Errors
/// `Internal` when the program cannot be run here, `Timeout`.
pub async fn outside(stage: &Stage, variants: &[&Variant]) -> Result<Answers> {
    let mut lines = Vec::new();
    for variant in variants {
        for (number, proof) in variant.proofs.iter().enumerate() {
            let (mode, words) = match proof {
                Proof::Same | Proof::SameIfThere | Proof::Beyond => ("plain".to_owned(), &variant.words),
                Proof::Other(words) => ("plain".to_owned(), words),
                Proof::Witness(call) => (format!("witness={call}"), &variant.words),
                Proof::Neighbour | Proof::Seen => continue,
            };
            lines.push(line(stage, &mode, &control_id(variant, number), words, false));
        }
    }
    stage.list("outside", &lines)?;
    let mut command = tokio::process::Command::new(stage.path("ro/program"));
    command.arg("--outside").arg(stage.path("ro/lists/outside")).current_dir(stage.path("scratch"));
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(BOUND, command.output())
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, "The controls outside did not end in time"))?
        .context(ErrorKind::Internal, "The attack program cannot be run on this host")?;
    Ok(read(&output.stdout))
}

/// One line of a list.
pub fn line(stage: &Stage, mode: &str, id: &str, words: &[String], inside: bool) -> String {
    let words: Vec<String> = words.iter().map(|word| stage.fill(word, inside)).collect();
    format!("{mode}\t{id}\t{}", words.join("\t"))
}
