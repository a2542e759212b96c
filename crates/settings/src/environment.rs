//! Values from environment variables.

use std::collections::BTreeMap;

use cove_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::key::{Key, nearest};
use crate::origin::Origin;
use crate::resolve::{Setting, check};

/// `COVE__A__B_C` variables: `COVE__CONTAINER__GC__MAX_IDLE_MINUTES` is `container.gc.maxIdleMinutes`.
pub(crate) fn own(variables: &BTreeMap<String, String>) -> Result<Vec<Setting>> {
    let mut out = Vec::new();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix("COVE__") else { continue };
        let rest = rest.strip_prefix("RALPH__").unwrap_or(rest);
        // Compared without case and underscores, so that autoPR needs no rule of its own.
        let wanted: String = rest.split("__").map(fold).collect::<Vec<_>>().join(".");
        let key = Key::all().values().find(|key| fold(&key.path) == wanted).ok_or_else(|| {
            let camel = rest.split("__").map(camel).collect::<Vec<_>>().join(".");
            let error = Error::invalid(format!("The variable {name} names no setting"));
            match nearest(&camel) {
                Some(near) => error.next(format!("Did you mean {}?", variable(&near))),
                None => error.next("cove config list shows the settings"),
            }
        })?;
        let origin = Origin::Environment { name: name.clone() };
        out.push(Setting { key: key.path.clone(), value: interpret(&key.path, text, &origin)?, origin });
    }
    Ok(out)
}

/// The variable of a key.
pub(crate) fn variable(key: &str) -> String {
    let mut out = String::from("COVE__");
    let mut previous_lower = false;
    for char in key.chars() {
        if char == '.' {
            out.push_str("__");
        } else {
            if char.is_uppercase() && previous_lower {
                out.push('_');
            }
            out.extend(char.to_uppercase());
        }
        previous_lower = char.is_lowercase();
    }
    out
}

/// The sources' variables that have a key, with their warnings.
pub(crate) fn sources(variables: &BTreeMap<String, String>) -> Result<(Vec<Setting>, Vec<String>)> {
    let (mut out, mut warnings) = (Vec::new(), Vec::new());
    for (name, key) in [
        ("CONTAINER_RUNTIME", "container.engine"),
        ("CONTAINER_IMAGE", "container.image"),
        ("CONTAINER_TIMEOUT", "container.timeout"),
    ] {
        let Some(text) = variables.get(name).filter(|text| !text.trim().is_empty()) else { continue };
        let origin = Origin::Environment { name: name.to_owned() };
        if name == "CONTAINER_TIMEOUT" && text.trim().parse::<u64>().is_ok_and(|number| number < 1000) {
            warnings.push(format!(
                "CONTAINER_TIMEOUT={} counts milliseconds: less than a second; write 30m for minutes",
                text.trim()
            ));
        }
        out.push(Setting { key: key.to_owned(), value: interpret(key, text.trim(), &origin)?, origin });
    }
    let on = |name: &str| {
        variables.get(name).is_some_and(|v| matches!(v.trim().to_lowercase().as_str(), "1" | "true" | "yes" | "on"))
    };
    let named = out.iter().any(|setting| setting.key == "container.engine");
    if on("CONTAINER_K8S_ENABLED") && !named {
        let origin = Origin::Environment { name: "CONTAINER_K8S_ENABLED".to_owned() };
        out.push(Setting { key: "container.engine".to_owned(), value: "kubernetes".into(), origin });
    }
    Ok((out, warnings))
}

/// `kubernetes` needs a cluster to be in sight.
pub(crate) fn check_cluster(variables: &BTreeMap<String, String>) -> Result<()> {
    let set = |name: &str| variables.get(name).is_some_and(|value| !value.is_empty());
    if set("KUBECONFIG") || set("KUBERNETES_SERVICE_HOST") {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unavailable,
        "The engine is kubernetes and there is no cluster: neither KUBECONFIG nor KUBERNETES_SERVICE_HOST is set",
    )
    .next("Set KUBECONFIG, or choose another engine with --engine"))
}

/// Reads a variable's text as the key's type: as JSON, as text, or as a list separated by commas.
fn interpret(key: &str, text: &str, origin: &Origin) -> Result<Value> {
    let as_text = Value::String(text.to_owned());
    let parsed = serde_json::from_str::<Value>(text).ok();
    let list =
        Value::Array(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| item.into()).collect());
    for candidate in parsed.iter().chain([&as_text, &list]) {
        if check(key, candidate, origin).is_ok() {
            return Ok(candidate.clone());
        }
    }
    check(key, parsed.as_ref().unwrap_or(&as_text), origin).map(|()| as_text)
}

fn fold(text: &str) -> String {
    text.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

fn camel(text: &str) -> String {
    let mut words = text.split('_').map(str::to_lowercase);
    let first = words.next().unwrap_or_default();
    words.fold(first, |out, word| {
        let mut chars = word.chars();
        let head: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
        out + &head + chars.as_str()
    })
}
