//! The managed policy: it never adds, it only tightens a finished specification.

use std::path::Path;

use cove_core::run::RunSpec;
use cove_core::{Error, ErrorKind, HostRule, Result, Root, SandboxSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::json::Document;
use crate::paths::Paths;
use crate::resolve::matches;
use crate::scalar::{Cpus, Size, Span};

/// `policy.json`, written by whoever manages the machine. Absent keys do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Address of the schema, for editors.
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Engines that may be used, the preferred first; others are refused.
    pub engines: Option<Vec<String>>,
    /// Agents that may be used; others are refused.
    pub agents: Option<Vec<String>>,
    /// Patterns of images that may be used; other images are refused.
    pub allowed_images: Option<Vec<String>>,
    /// Whether the engine without isolation is refused even with consent. False when absent.
    pub refuse_no_sandbox: Option<bool>,
    /// Hosts that may be opened beside the agent's own; others are taken out.
    pub allowed_hosts: Option<Vec<String>>,
    /// Hosts that are always refused.
    pub blocked_hosts: Vec<String>,
    /// Whether limits that the host cannot give may be left out. True when absent.
    pub accept_missing: Option<bool>,
    /// Whether a run may trust its own changes to tests. True when absent.
    pub trust_test_changes: Option<bool>,
    /// Whether directories of the host may be shown to the agent. True when absent.
    pub agent_mounts: Option<bool>,
    /// Most CPUs of one sandbox.
    pub max_cpu: Option<Cpus>,
    /// Most memory of one sandbox.
    pub max_memory: Option<Size>,
    /// Most disk of one sandbox.
    pub max_storage: Option<Size>,
    /// Most processes of one sandbox.
    pub max_pids: Option<u64>,
    /// Most attempts of a run.
    pub max_iterations: Option<u32>,
    /// Longest run.
    pub max_time: Option<Span>,
    /// Longest attempt.
    pub max_attempt_time: Option<Span>,
    /// Most tokens of a run.
    pub max_tokens: Option<u64>,
    /// Most US dollars of a run.
    pub max_cost_usd: Option<f64>,
    /// Most stories at once.
    pub max_parallel: Option<u32>,
}

impl Policy {
    /// Reads the policy file; no restriction when there is none.
    ///
    /// # Errors
    /// `Invalid` when it cannot be read or holds unknown keys: nothing runs then, for a policy that
    /// is not understood is not in force.
    pub fn load(paths: &Paths) -> Result<Self> {
        match Document::read(&paths.policy)? {
            Some(document) => Self::from_document(&document, &paths.policy),
            None if paths.policy_is_named => {
                Err(Error::invalid(format!("COVE_POLICY_FILE names {}, which does not exist", paths.policy.display()))
                    .next("Create the file, or unset COVE_POLICY_FILE"))
            }
            None => Ok(Self::default()),
        }
    }

    fn from_document(document: &Document, file: &Path) -> Result<Self> {
        serde_json::from_value(document.value.clone()).map_err(|e| {
            Error::invalid(format!("The policy {} is not understood: {e}", file.display()))
                .next("Correct it; nothing runs under a policy that cannot be read")
        })
    }
}

/// Tightens `spec` to `policy` and returns a sentence for each change.
///
/// # Errors
/// `Refused` for what cannot be tightened: engine, agent, image, consent to no isolation.
pub fn clamp(policy: &Policy, spec: &mut RunSpec) -> Result<Vec<String>> {
    refuse(policy, spec)?;
    let mut notes = Vec::new();
    // The preferred engine instead of a choice that the policy might not allow.
    if let Some(preferred) = policy.engines.as_ref().and_then(|engines| engines.first())
        && spec.engine == "auto"
        && preferred != "auto"
    {
        notes.push(format!("The policy makes the engine {preferred} instead of auto"));
        spec.engine.clone_from(preferred);
    }
    let mut note =
        |what: &str, from: String, to: String| notes.push(format!("The policy lowers {what} from {from} to {to}"));
    let limits = &mut spec.limits;
    cap(&mut limits.cpus, policy.max_cpu.map(|c| c.0), "limits.cpus", &mut note);
    cap(&mut limits.memory_bytes, policy.max_memory.map(|s| s.0), "limits.memoryBytes", &mut note);
    cap(&mut limits.disk_bytes, policy.max_storage.map(|s| s.0), "limits.diskBytes", &mut note);
    cap(&mut limits.pids, policy.max_pids, "limits.pids", &mut note);
    let seconds = |span: Option<Span>| span.map(|span| span.0.as_secs().max(1));
    let bounds = &mut spec.bounds;
    cap(&mut bounds.wall_seconds, seconds(policy.max_time), "bounds.wallSeconds", &mut note);
    cap(&mut bounds.tokens, policy.max_tokens, "bounds.tokens", &mut note);
    cap(&mut bounds.cost_usd, policy.max_cost_usd, "bounds.costUsd", &mut note);
    // Here 0 is what `None` is above.
    let mut iterations = Some(bounds.iterations).filter(|n| *n > 0);
    cap(&mut iterations, policy.max_iterations.map(|n| n.max(1)), "bounds.iterations", &mut note);
    bounds.iterations = iterations.unwrap_or(0);
    let mut attempt = Some(bounds.attempt_seconds).filter(|n| *n > 0);
    cap(&mut attempt, seconds(policy.max_attempt_time), "bounds.attemptSeconds", &mut note);
    bounds.attempt_seconds = attempt.unwrap_or(0);
    let mut parallel = Some(spec.parallel);
    cap(&mut parallel, policy.max_parallel.map(|n| n.max(1)), "parallel", &mut note);
    spec.parallel = parallel.unwrap_or(1);
    narrow(policy, spec, &mut notes);
    Ok(notes)
}

/// Tightens a sandbox that is asked for by itself.
///
/// # Errors
/// `Refused` for engine, image, consent to no isolation.
pub fn clamp_sandbox(
    policy: &Policy,
    engine: &mut String,
    accept_no_sandbox: bool,
    spec: &mut SandboxSpec,
) -> Result<Vec<String>> {
    let mut run = empty_run(engine, accept_no_sandbox, spec);
    run.accept_missing = spec.hardening.accept_missing.iter().copied().collect();
    let agents = Policy { agents: None, ..policy.clone() };
    let notes = clamp(&agents, &mut run)?;
    *engine = run.engine;
    spec.limits = run.limits;
    spec.hardening.accept_missing = run.accept_missing.into_iter().collect();
    Ok(notes)
}

/// A run with a sandbox's engine, root and limits, so that both meet the same rules.
fn empty_run(engine: &str, accept_no_sandbox: bool, spec: &SandboxSpec) -> RunSpec {
    RunSpec {
        engine: engine.to_owned(),
        accept_no_sandbox,
        root: spec.root.clone(),
        limits: spec.limits.clone(),
        ..RunSpec::new("", cove_core::run::PrdSource::default())
    }
}

fn cap<T: PartialOrd + Copy + std::fmt::Display>(
    value: &mut Option<T>,
    most: Option<T>,
    what: &str,
    note: &mut impl FnMut(&str, String, String),
) {
    let Some(most) = most else { return };
    if value.is_none_or(|value| value > most) {
        note(what, value.map_or_else(|| "no bound".to_owned(), |v| v.to_string()), most.to_string());
        *value = Some(most);
    }
}

fn refuse(policy: &Policy, spec: &RunSpec) -> Result<()> {
    let refused = |what: String, allowed: &[String]| {
        let next =
            if allowed.is_empty() { "It allows none".to_owned() } else { format!("It allows {}", allowed.join(", ")) };
        Err(Error::new(ErrorKind::Refused, format!("The policy of this machine refuses {what}")).next(next))
    };
    if let Some(engines) = &policy.engines
        && !engines.contains(&spec.engine)
        && (spec.engine != "auto" || engines.is_empty())
    {
        return refused(format!("the engine {}", spec.engine), engines);
    }
    if let Some(agents) = &policy.agents
        && !agents.contains(&spec.agent.name)
    {
        return refused(format!("the agent {}", spec.agent.name), agents);
    }
    if let (Some(patterns), Root::Image(image)) = (&policy.allowed_images, &spec.root)
        && !patterns.iter().any(|pattern| matches(pattern, image))
    {
        return refused(format!("the image {image}"), patterns);
    }
    if policy.refuse_no_sandbox == Some(true) && (spec.accept_no_sandbox || spec.engine == "direct") {
        return refused("an engine without isolation".to_owned(), &[]);
    }
    Ok(())
}

/// Takes out what the policy does not allow, and adds what it blocks.
fn narrow(policy: &Policy, spec: &mut RunSpec, notes: &mut Vec<String>) {
    if let Some(allowed) = &policy.allowed_hosts {
        for hosts in [&mut spec.allow_hosts, &mut spec.gate_hosts] {
            hosts.retain(|rule| {
                let stays = allowed.iter().any(|pattern| covers(pattern, &rule.0));
                if !stays {
                    notes.push(format!("The policy takes out the host {}", rule.0));
                }
                stays
            });
        }
    }
    for host in &policy.blocked_hosts {
        if !spec.block_hosts.iter().any(|rule| rule.0 == *host) {
            spec.block_hosts.push(HostRule(host.clone()));
        }
    }
    if policy.accept_missing == Some(false) && !spec.accept_missing.is_empty() {
        notes.push("The policy does not let limits be left out".to_owned());
        spec.accept_missing.clear();
    }
    if policy.trust_test_changes == Some(false) && spec.trust_test_changes {
        notes.push("The policy does not let a run trust its own changes to tests".to_owned());
        spec.trust_test_changes = false;
    }
    if policy.agent_mounts == Some(false) && !spec.agent.mounts.is_empty() {
        notes.push("The policy does not let directories of the host be shown to the agent".to_owned());
        spec.agent.mounts.clear();
    }
}

/// Whether every host that `rule` opens is opened by `allowed` too. Ports must be equal.
fn covers(allowed: &str, rule: &str) -> bool {
    let split = |text: &str| -> (String, Option<String>) {
        match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.is_empty() && !port.is_empty() => {
                (host.to_lowercase(), Some(port.to_owned()))
            }
            _ => (text.to_lowercase(), None),
        }
    };
    let ((allowed, allowed_port), (rule, rule_port)) = (split(allowed), split(rule));
    if allowed_port != rule_port {
        return false;
    }
    match (allowed.strip_prefix('*'), rule.strip_prefix('*')) {
        // `*.b` covers every name and every pattern that lies below `.b`.
        (Some(domain), Some(below)) => below.ends_with(domain),
        (Some(domain), None) => rule.len() > domain.len() && rule.ends_with(domain),
        (None, _) => allowed == rule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_covered_only_when_all_of_it_is() {
        for (allowed, rule, covered) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "*.example.com", false),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "*.a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", "*.com", false),
            ("example.com", "example.com:8443", false),
            ("example.com:8443", "example.com:8443", true),
        ] {
            assert_eq!(covers(allowed, rule), covered, "{allowed} over {rule}");
        }
    }
}
