//! The managed policy only tightens.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use cove_core::ErrorKind;
use cove_core::run::RunSpec;
use cove_settings::{Paths, Policy, clamp};
use serde_json::{Value, json};

fn spec(over: Value) -> RunSpec {
    let mut tree = json!({
        "repository": "/r", "prd": {"text": ""}, "agent": {"name": "claude"}, "engine": "native",
        "allowHosts": ["a.example", "b.example"], "acceptMissing": ["limit-disk"], "trustTestChanges": true,
    });
    for (key, value) in over.as_object().unwrap() {
        tree[key] = value.clone();
    }
    serde_json::from_value(tree).unwrap()
}

fn policy(tree: Value) -> Policy {
    serde_json::from_value(tree).unwrap()
}

#[test]
fn an_empty_policy_changes_nothing() {
    let mut subject = spec(json!({}));
    assert_eq!(clamp(&Policy::default(), &mut subject).unwrap(), Vec::<String>::new());
    assert_eq!(subject, spec(json!({})));
}

#[test]
fn what_is_above_is_lowered_and_what_is_below_stays() {
    let strict = policy(json!({
        "maxCpu": 1, "maxMemory": "1g", "maxStorage": "1t", "maxPids": 100, "maxIterations": 10, "maxTime": "1h",
        "maxAttemptTime": "10m", "maxTokens": 1000, "maxCostUsd": 2, "maxParallel": 2,
        "allowedHosts": ["a.example"], "blockedHosts": ["c.example"], "acceptMissing": false, "trustTestChanges": false,
    }));
    let mut subject = spec(json!({"parallel": 4, "bounds": {"iterations": 0, "tokens": 500}}));
    let notes = clamp(&strict, &mut subject).unwrap();
    assert_eq!(subject.limits.cpus, Some(1.0));
    assert_eq!(subject.limits.memory_bytes, Some(1 << 30));
    assert_eq!(subject.limits.disk_bytes, Some(10 << 30), "the policy allows more and must not widen");
    assert_eq!(subject.limits.pids, Some(100));
    assert_eq!((subject.bounds.iterations, subject.bounds.wall_seconds), (10, Some(3600)));
    assert_eq!((subject.bounds.attempt_seconds, subject.bounds.tokens), (600, Some(500)));
    assert_eq!((subject.bounds.cost_usd, subject.parallel), (Some(2.0), 2));
    assert_eq!(subject.allow_hosts.len(), 1);
    assert_eq!(subject.block_hosts[0].0, "c.example");
    assert!(subject.accept_missing.is_empty() && !subject.trust_test_changes);
    assert!(notes.iter().any(|n| n.contains("bounds.iterations from no bound to 10")), "{notes:?}");
    let again = clamp(&strict, &mut subject).unwrap();
    assert!(again.is_empty(), "clamping twice changes nothing more: {again:?}");
}

#[test]
fn what_cannot_be_tightened_is_refused() {
    for (rules, over) in [
        (json!({"engines": ["docker"]}), json!({})),
        (json!({"engines": []}), json!({"engine": "auto"})),
        (json!({"agents": ["codex"]}), json!({})),
        (json!({"allowedImages": ["ghcr.io/team/*"]}), json!({"root": {"kind": "image", "at": "x/y"}})),
        (json!({"refuseNoSandbox": true}), json!({"engine": "direct", "acceptNoSandbox": true})),
    ] {
        let error = clamp(&policy(rules.clone()), &mut spec(over)).expect_err(&rules.to_string());
        assert_eq!(error.kind(), ErrorKind::Refused, "{rules}");
    }
    let mut subject = spec(json!({"engine": "auto"}));
    clamp(&policy(json!({"engines": ["podman", "native"]})), &mut subject).unwrap();
    assert_eq!(subject.engine, "podman");
}

#[test]
fn a_policy_that_is_not_understood_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("policy.json");
    let variables = BTreeMap::from([
        ("HOME".to_owned(), home.path().to_str().unwrap().to_owned()),
        ("COVE_POLICY_FILE".to_owned(), file.to_str().unwrap().to_owned()),
    ]);
    let paths = Paths::from_variables(&variables).unwrap();
    assert!(Policy::load(&paths).is_err(), "a named policy must exist");
    for text in ["{\"maxMemroy\": 1}", "{", "{\"maxMemory\": \"x\"}"] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(Policy::load(&paths).expect_err(text).kind(), ErrorKind::Invalid);
    }
    std::fs::write(&file, "{ \"maxMemory\": \"1g\", // comment\n }").unwrap();
    assert!(Policy::load(&paths).unwrap().max_memory.is_some());
}
