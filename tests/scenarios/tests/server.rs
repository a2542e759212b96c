//! The Git server of the scenarios is a real one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cove_scenarios::{GitServer, Repository};

#[test]
fn git_clones_from_it() {
    let Some(server) = GitServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let source = Repository::with(&dir.path().join("source"), &[("a file", "text")]);
    let url = server.publish(&source.path, "source.git");
    let copy = dir.path().join("copy");
    source.git(&["clone", "--quiet", "--", &url, copy.to_str().unwrap()]).expect(0);
    assert_eq!(std::fs::read_to_string(copy.join("a file")).unwrap(), "text");
}
