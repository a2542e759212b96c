//! Processes that try to outlive their sandbox.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cove_core::{ExecSpec, Result, SandboxId};

use crate::catalogue::{Scene, Variant};
use crate::ground::Ground;
use crate::judge::{Answer, Answers, control_id};
use crate::stage::{READ_ONLY, Stage};

/// How long a process may take to be seen, and to be gone.
const BOUND: Duration = Duration::from_secs(30);

/// Leaves every kind of process behind in a sandbox, ends the sandbox, and looks for them on the
/// host.
pub async fn try_all(
    ground: &dyn Ground,
    stage: &Stage,
    id: &SandboxId,
    variants: &[&Variant],
) -> Result<(Answers, Answers)> {
    let (mut answers, mut controls) = (Answers::new(), Answers::new());
    let mut marks = BTreeMap::new();
    for variant in variants {
        let Scene::Survival(kind) = variant.scene else { continue };
        let mark = format!("{kind}-{}", stage.token());
        let exec = ExecSpec::new([&format!("{READ_ONLY}/program"), "linger", kind, &mark]);
        let ended = ground.run(id, &exec, BOUND).await?;
        let seen = until(|| living(&mark) > 0).await;
        let outcome = if seen { "effect" } else { "refused" };
        let detail = format!("it was {}seen ({:?})", if seen { "" } else { "not " }, ended.exit);
        let control = control_id(variant, 0);
        controls.insert(control.clone(), Answer::new(&control, outcome, "", detail));
        marks.insert(variant.id.clone(), mark);
    }
    ground.stop(id).await?;
    for (id, mark) in marks {
        let answer = if until(|| living(&mark) == 0).await {
            Answer::new(&id, "refused", "GONE", "nothing was left")
        } else {
            Answer::new(&id, "effect", "", format!("{} processes outlived the sandbox", living(&mark)))
        };
        answers.insert(id, answer);
    }
    Ok((answers, controls))
}

async fn until(holds: impl Fn() -> bool) -> bool {
    let end = Instant::now() + BOUND;
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Processes of the host whose command line has this word.
fn living(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())).count()
}
