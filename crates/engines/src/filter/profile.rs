//! The allow-list as a profile for container engines.
//!
//! It is the outer of two nets: what it cannot express (two conditions on one argument, comparisons of
//! half an argument) it allows, and the programs that the guest installs refuse it. It never refuses
//! what they allow.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::calls::{ABSENT, allowed};
use super::rules::{Condition, Rule, Test, conditional};

/// The profile as Docker and the OCI write it.
pub fn profile() -> Value {
    let plain: Vec<&str> = allowed().map(|call| call.name()).collect();
    let mut groups = vec![json!({ "names": plain, "action": "SCMP_ACT_ALLOW" })];
    for (call, rules) in conditional() {
        if rules.iter().all(expressible) {
            groups.extend(
                rules
                    .iter()
                    .map(|rule| json!({ "names": [call.name()], "action": "SCMP_ACT_ALLOW", "args": arguments(rule) })),
            );
        } else {
            groups.push(json!({ "names": [call.name()], "action": "SCMP_ACT_ALLOW" }));
        }
    }
    let absent: Vec<&str> = ABSENT.iter().map(|call| call.name()).collect();
    groups.push(json!({ "names": absent, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }));
    let architectures: &[&str] = match std::env::consts::ARCH {
        "aarch64" => &["SCMP_ARCH_AARCH64"],
        _ => &["SCMP_ARCH_X86_64"],
    };
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        // The guest's filters say EPERM for what they know and refuse, and theirs is the last word. This
        // one is for calls that the engine's library has not heard of.
        "defaultErrnoRet": libc::ENOSYS,
        "architectures": architectures,
        "syscalls": groups,
    })
}

/// Runtimes take several conditions on one argument for alternatives.
fn expressible(rule: &Rule) -> bool {
    let arguments: BTreeSet<u8> = rule.iter().map(|condition| condition.argument).collect();
    arguments.len() == rule.len()
}

fn arguments(rule: &Rule) -> Vec<Value> {
    let low = u64::from(u32::MAX);
    let one = |condition: &Condition| {
        let index = condition.argument;
        match condition.test {
            Test::Is(value) => masked(index, low, value),
            Test::Bits { mask, value } => masked(index, mask, value),
            Test::Not(value) => json!({ "index": index, "value": value, "op": "SCMP_CMP_NE" }),
            Test::Given => json!({ "index": index, "value": 0, "op": "SCMP_CMP_NE" }),
        }
    };
    rule.iter().map(one).collect()
}

fn masked(index: u8, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_allowed_is_in_it_and_nothing_else() {
        let profile = profile();
        let groups = profile["syscalls"].as_array().unwrap();
        let with = |action: &str| -> BTreeSet<String> {
            let of = groups.iter().filter(|group| group["action"] == action);
            of.flat_map(|group| group["names"].as_array().unwrap().iter())
                .map(|name| name.as_str().unwrap().to_owned())
                .collect()
        };
        let mut expected: BTreeSet<String> = allowed().map(|call| call.name().to_owned()).collect();
        expected.extend(conditional().iter().map(|(call, _)| call.name().to_owned()));
        assert_eq!(with("SCMP_ACT_ALLOW"), expected);
        assert!(with("SCMP_ACT_ERRNO").contains("clone3"));
        for forbidden in ["ptrace", "mount", "unshare", "bpf", "io_uring_setup", "keyctl", "kexec_load", "userfaultfd"]
        {
            assert!(!expected.contains(forbidden), "{forbidden}");
        }
        assert!(expected.iter().all(|name| !name.starts_with("SYS_")));
    }

    #[test]
    fn conditions_stay_where_they_can_be_said() {
        let text = profile().to_string();
        assert!(text.contains(r#""names":["socketpair"]"#) && text.contains("SCMP_CMP_MASKED_EQ"));
        // Two conditions on one argument: left to the programs.
        let profile = profile();
        let ioctl = profile["syscalls"].as_array().unwrap().iter().find(|group| group["names"][0] == "ioctl").unwrap();
        assert!(ioctl.get("args").is_none());
    }
}
