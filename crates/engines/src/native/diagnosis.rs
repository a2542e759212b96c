//! Why a sandbox could not be built here, and what to do about it, in a person's words.

use std::fs;

use cove_core::Error;

/// Settings of hosts that forbid what the engine needs: file, forbidding value, what it means.
const SETTINGS: &[(&str, &str, &str)] = &[
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are switched off; switch them on with: sysctl -w user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are forbidden for users; allow them with: sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces; give Cove a profile with the rule userns, or allow all with: \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// One sentence with cause and remedy.
pub fn reason(error: &Error) -> String {
    explain(&error.chain().join(": "), |path| fs::read_to_string(path).ok())
}

fn explain(chain: &str, read: impl Fn(&str) -> Option<String>) -> String {
    let refused = ["Operation not permitted", "Permission denied", "No space left on device", "os error 87"]
        .iter()
        .any(|text| chain.contains(text));
    let namespaces =
        ["step=enter namespaces", "step=map the user", "step=part from", "step=enter a cgroup", "step=name the"]
            .iter()
            .any(|step| chain.contains(step));
    let remedy = if refused && namespaces {
        let setting = SETTINGS.iter().find(|(path, value, _)| read(path).is_some_and(|text| text.trim() == *value));
        setting.map_or(
            "namespaces may not be made here; inside a container, start it with --security-opt seccomp=unconfined \
             or --privileged",
            |(_, _, why)| why,
        )
    } else if refused && chain.contains("step=Proc") {
        "a fresh /proc may not be mounted, as parts of this one are covered; start the container with \
         --security-opt systempaths=unconfined"
    } else if chain.contains("(overlay)") {
        "overlay file systems cannot be mounted in a user namespace; needs Linux 5.11 or newer with the module \
         loaded: modprobe overlay"
    } else if chain.contains("Function not implemented") {
        "the kernel lacks a call that is needed; use Linux 5.12 or newer"
    } else if chain.contains("install the seccomp filter") {
        "the kernel has no seccomp filters; use one with CONFIG_SECCOMP_FILTER"
    } else {
        return chain.to_owned();
    };
    format!("{remedy} ({chain})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing_and_how_to_get_it() {
        let none = |_: &str| None;
        type Setting = Option<(&'static str, &'static str)>;
        let table: &[(&str, Setting, &str)] = &[
            (
                "x (step=enter namespaces): No space left on device (os error 28)",
                Some(("/proc/sys/user/max_user_namespaces", "0\n")),
                "user.max_user_namespaces",
            ),
            (
                "x (step=enter namespaces): Operation not permitted (os error 1)",
                Some(("/proc/sys/kernel/unprivileged_userns_clone", "0\n")),
                "kernel.unprivileged_userns_clone=1",
            ),
            (
                "x (step=part from the host's mounts): Permission denied (os error 13)",
                Some(("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")),
                "AppArmor",
            ),
            ("x (step=enter namespaces): Operation not permitted (os error 1)", None, "seccomp=unconfined"),
            ("x (step=Proc): Operation not permitted (os error 1)", None, "systempaths=unconfined"),
            ("x (step=layer the root (overlay)): No such device (os error 19)", None, "modprobe overlay"),
            ("x (step=enter namespaces): Function not implemented (os error 38)", None, "Linux 5.12"),
            ("something else", None, "something else"),
        ];
        for (chain, setting, expected) in table {
            let told = match setting {
                Some((path, value)) => explain(chain, |asked| (asked == *path).then(|| (*value).to_owned())),
                None => explain(chain, none),
            };
            assert!(told.contains(expected) && told.contains(chain), "{told}");
        }
    }
}
