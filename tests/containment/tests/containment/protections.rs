//! A trial that passes without the protection it tries is worth nothing: each protection that a
//! specification can leave out is left out, and the trials that try it must notice.

use cove_containment::{Report, Selection, Verdict};
use libtest_mimic::Failed;

use super::attacked;
use super::setups::Setup;

fn broken(report: &Report, prefix: &str) -> usize {
    report.with(Verdict::Broken).filter(|line| line.id.starts_with(prefix)).count()
}

/// Without a protection, the attempts that it holds are reported.
pub fn each_is_missed(setup: Setup) -> Result<(), Failed> {
    let report = attacked(setup, Selection::Inside, |spec| spec.hardening.seccomp = false)?;
    for line in report.with(Verdict::Broken) {
        println!("without seccomp: {} {}", line.id, line.found);
    }
    for (prefix, least) in [("E13-call-", 30), ("E13-family-", 30), ("E13-netlink-", 5), ("E10-", 10), ("E11-", 3)] {
        let found = broken(&report, prefix);
        assert!(found >= least, "without seccomp only {found} of {prefix} are noticed");
    }
    assert!(report.reachable_calls().len() > 15, "{:?}", report.reachable_calls());
    let report = attacked(setup, Selection::Inside, |spec| spec.hardening.read_only_root = false)?;
    for line in report.with(Verdict::Broken) {
        println!("with a writable root: {} {}", line.id, line.found);
    }
    Ok(())
}
