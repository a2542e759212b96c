//! `cove config`.

use std::path::{Path, PathBuf};

use cove_core::Result;
use cove_settings::{Key, Paths, Policy, ProjectRule, Resolved, Setting, policy_schema, schema};
use serde_json::{Value, json};

use crate::args::ConfigCommand;
use crate::context::{Context, read_bounded};
use crate::kinds;
use crate::output::{Kind, clean_line};

pub fn run(context: &Context, command: ConfigCommand) -> Result<u8> {
    match command {
        ConfigCommand::Get { key } => {
            let key = Key::find(&key)?;
            let value = &context.settings()?.values[&key.path].value;
            if context.printer.is_machine() {
                context.printer.write(&format!("{value}\n"))?;
            } else {
                context.printer.write(&format!("{}\n", clean_line(&bare(value))))?;
            }
        }
        ConfigCommand::List { changed } => {
            let resolved = context.settings()?;
            resolved.warnings.iter().for_each(|warning| context.printer.warn(warning));
            let items: Vec<Value> = resolved
                .values
                .iter()
                .filter(|(_, value)| !changed || value.origin != cove_settings::Origin::Default)
                .map(|(key, value)| {
                    json!({
                        "key": key, "value": value.value, "origin": value.origin.to_string(),
                        "overrides": value.overrides.iter().map(overridden).collect::<Vec<_>>(),
                    })
                })
                .collect();
            context.printer.list(&kinds::settings(), &items)?;
        }
        ConfigCommand::Explain { key } => explain(context, Key::find(&key)?)?,
        ConfigCommand::Validate { file } => validate(context, &file)?,
        ConfigCommand::Schema { policy } => {
            let schema = if policy { policy_schema() } else { schema() };
            let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
            context.printer.write(&format!("{text}\n"))?;
        }
        ConfigCommand::Paths => paths(context)?,
    }
    Ok(0)
}

fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn overridden(setting: &Setting) -> Value {
    json!({"value": setting.value, "origin": setting.origin.to_string()})
}

/// Prints what a key means and how its value came to be.
pub fn explain(context: &Context, key: &Key) -> Result<()> {
    let resolved = context.settings()?;
    let value = &resolved.values[&key.path];
    let document = json!({
        "key": format!("ralph.{}", key.path),
        "description": key.description,
        "value": value.value,
        "origin": value.origin.to_string(),
        "overrides": value.overrides.iter().map(overridden).collect::<Vec<_>>(),
        "default": key.default,
        "project": key.project,
        "inForce": key.in_force,
    });
    let fields = ["key", "description", "value", "origin", "overrides", "default", "project", "inForce"];
    let kind = Kind { columns: &[], id: "key", fields: fields.map(str::to_owned).to_vec() };
    context.printer.one(&kind, &document, |_| {
        let mut out = format!("ralph.{}\n  {}\n", key.path, key.description);
        let mut line = |name: &str, text: String| out.push_str(&format!("  {name:<9} {}\n", clean_line(&text)));
        line("value", format!("{} ({})", value.value, value.origin));
        for setting in &value.overrides {
            line("overrides", format!("{} ({})", setting.value, setting.origin));
        }
        line(
            "project",
            match key.project {
                ProjectRule::Set => "a repository may set it",
                ProjectRule::Lower => "a repository may only lower it",
                ProjectRule::Ignored => "a repository may not decide it",
            }
            .to_owned(),
        );
        if !key.in_force {
            line("in force", "no: it is read and checked, and has no effect in this version".to_owned());
        }
        out
    })
}

fn validate(context: &Context, files: &[PathBuf]) -> Result<()> {
    for file in files {
        let file = context.absolute(file);
        let text = read_bounded(&file, 1 << 20)?
            .ok_or_else(|| cove_core::Error::not_found(format!("There is no file {}", file.display())))?;
        // As the only file: the place of a project file is the one that takes any text.
        let alone = Paths {
            user_config: PathBuf::from("/nonexistent/cove/config.json"),
            user_config_is_named: false,
            system_config: PathBuf::from("/nonexistent/cove/system.json"),
            openclaw_config: PathBuf::from("/nonexistent/cove/openclaw.json"),
            ..context.paths.clone()
        };
        Resolved::load(&cove_settings::Sources {
            paths: alone,
            variables: std::collections::BTreeMap::new(),
            flags: Vec::new(),
            project: Some((file.clone(), text)),
        })?;
        context.printer.say(&format!("{} is valid", file.display()));
    }
    if files.is_empty() {
        let resolved = context.settings()?;
        resolved.run_parts()?;
        Policy::load(&context.paths)?;
        resolved.warnings.iter().for_each(|warning| context.printer.warn(warning));
        context.printer.say("All settings are valid");
    }
    Ok(())
}

fn paths(context: &Context) -> Result<()> {
    let paths = &context.paths;
    let project = context.repository().map(|root| Paths::project_config(&root));
    let mut rows: Vec<(&str, &Path)> = vec![
        ("policy", &paths.policy),
        ("project", project.as_deref().unwrap_or(Path::new(""))),
        ("user", &paths.user_config),
        ("openclaw", &paths.openclaw_config),
        ("system", &paths.system_config),
        ("data", &paths.data),
        ("state", &paths.state),
        ("cache", &paths.cache),
        ("socket", &paths.socket),
    ];
    rows.retain(|(_, path)| !path.as_os_str().is_empty());
    let fields: Vec<String> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
    let document: serde_json::Map<String, Value> =
        rows.iter().map(|(name, path)| ((*name).to_owned(), json!(path))).collect();
    let kind = Kind { columns: &[], id: "user", fields };
    context.printer.one(&kind, &Value::Object(document), |_| {
        let there = |path: &Path| if path.exists() { "" } else { "  (absent)" };
        rows.iter().map(|(name, path)| format!("{name:<9} {}{}\n", path.display(), there(path))).collect()
    })
}
