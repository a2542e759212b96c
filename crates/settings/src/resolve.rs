//! All layers together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cove_core::{Error, Result};
use serde::Serialize;

use crate::environment;
use crate::json::Document;
use crate::key::{Key, defaults, nearest};
use crate::model::Settings;
use crate::origin::Origin;
use crate::paths::Paths;
use crate::project::{ProjectRule, amount};

/// One key set by one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Dotted path without `ralph.`.
    pub key: String,
    /// As written.
    pub value: serde_json::Value,
    /// By whom.
    pub origin: Origin,
}

/// A flag of the command line that stands for a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    /// The flag with its dashes.
    pub name: &'static str,
    /// Dotted path without `ralph.`.
    pub key: &'static str,
    /// Its value.
    pub value: serde_json::Value,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Where files lie.
    pub paths: Paths,
    /// The process's environment.
    pub variables: BTreeMap<String, String>,
    /// Flags given.
    pub flags: Vec<Flag>,
    /// The repository's own file: its name for messages and its text.
    pub project: Option<(PathBuf, String)>,
}

/// A key's value in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Value {
    /// As the strongest layer wrote it.
    pub value: serde_json::Value,
    /// The strongest layer.
    pub origin: Origin,
    /// What it overrides, strongest first; the default is last.
    pub overrides: Vec<Setting>,
}

/// Settings in force, and how they came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The values, typed.
    pub settings: Settings,
    /// The values by key, with their origins.
    pub values: BTreeMap<String, Value>,
    /// What was ignored or looks wrong, a sentence each.
    pub warnings: Vec<String>,
    /// Keys of the repository's file that were ignored; `--strict` refuses them.
    pub ignored: Vec<String>,
    cluster: Result<(), String>,
}

impl Resolved {
    /// Reads every layer and puts them together.
    ///
    /// # Errors
    /// `Invalid` for a file or value that cannot be read and for unknown keys, with file, line and
    /// the nearest known key.
    pub fn load(sources: &Sources) -> Result<Self> {
        let paths = &sources.paths;
        let mut warnings = Vec::new();
        let mut layers: Vec<Vec<Setting>> = Vec::new();
        if let Some(document) = Document::read(&paths.system_config)? {
            let file = &paths.system_config;
            layers.push(settings_of(&document, file, |line| Origin::System { file: file.clone(), line })?);
        }
        layers.push(openclaw(&paths.openclaw_config, &mut warnings));
        match Document::read(&paths.user_config)? {
            Some(document) => {
                let file = &paths.user_config;
                layers.push(settings_of(&document, file, |line| Origin::User { file: file.clone(), line })?);
            }
            None if paths.user_config_is_named => {
                return Err(Error::not_found(format!(
                    "COVE_CONFIG names {}, which does not exist",
                    paths.user_config.display()
                ))
                .next("Create the file, or unset COVE_CONFIG"));
            }
            None => {}
        }
        let mut ignored = Vec::new();
        if let Some((file, text)) = &sources.project {
            let document = Document::parse(text, file)?;
            let project = settings_of(&document, file, |line| Origin::Project { file: file.clone(), line })?;
            layers.push(restrict(project, &layers, &mut warnings, &mut ignored));
        }
        let (source_variables, more) = environment::sources(&sources.variables)?;
        warnings.extend(more);
        layers.push(source_variables);
        layers.push(environment::own(&sources.variables)?);
        layers.push(flags(&sources.flags)?);
        let mut resolved = merge(layers, warnings, ignored)?;
        resolved.cluster = environment::check_cluster(&sources.variables).map_err(|e| e.message().to_owned());
        resolved.note_what_is_not_in_force();
        Ok(resolved)
    }

    /// Whether a Kubernetes cluster is in sight; matters only when that engine is chosen.
    pub(crate) fn cluster(&self) -> Result<()> {
        self.cluster.clone().map_err(|message| {
            Error::new(cove_core::ErrorKind::Unavailable, message)
                .next("Set KUBECONFIG, or choose another engine with --engine")
        })
    }

    fn note_what_is_not_in_force(&mut self) {
        let silent: Vec<String> = self
            .values
            .iter()
            .filter(|(path, value)| {
                value.origin != Origin::Default && Key::all().get(*path).is_some_and(|k| !k.in_force)
            })
            .map(|(path, value)| format!("ralph.{path} ({}) is read but has no effect in this version", value.origin))
            .collect();
        self.warnings.extend(silent);
        let sandbox = &mut self.settings.container.sandbox;
        for (off, key) in [
            (!std::mem::replace(&mut sandbox.read_only_root, true), "container.sandbox.readOnlyRoot"),
            (!std::mem::replace(&mut sandbox.no_new_privileges, true), "container.sandbox.noNewPrivileges"),
        ] {
            if off {
                self.warnings.push(format!("ralph.{key} cannot be switched off; it stays on"));
            }
        }
    }
}

/// The settings that one file makes.
pub(crate) fn settings_of(
    document: &Document,
    file: &Path,
    origin: impl Fn(Option<usize>) -> Origin,
) -> Result<Vec<Setting>> {
    let top = document.value.as_object().ok_or_else(|| {
        Error::invalid(format!("{} holds no object", file.display())).next("Begin it with { \"ralph\": {")
    })?;
    let mut out = Vec::new();
    for (name, value) in top {
        match name.as_str() {
            "$schema" => {}
            "schemaVersion" if value.as_u64() == Some(1) => {}
            "schemaVersion" => {
                return Err(Error::invalid(format!(
                    "{} has schemaVersion {value}; this version of Cove reads 1",
                    place(file, document.line(name))
                ))
                .next("Use a newer Cove, or correct the file"));
            }
            "ralph" => collect(document, file, value, "", &origin, &mut out)?,
            other => return Err(unknown(file, document.line(name), other, other)),
        }
    }
    Ok(out)
}

fn collect(
    document: &Document,
    file: &Path,
    value: &serde_json::Value,
    path: &str,
    origin: &impl Fn(Option<usize>) -> Origin,
    out: &mut Vec<Setting>,
) -> Result<()> {
    let line = |path: &str| document.line(&format!("ralph.{path}"));
    let Some(map) = value.as_object() else {
        let name = if path.is_empty() { "ralph".to_owned() } else { format!("ralph.{path}") };
        return Err(Error::invalid(format!("{}: {name} is a group of keys", place(file, line(path))))
            .next(format!("Write an object: \"{}\": {{ … }}", name.rsplit('.').next().unwrap_or(&name))));
    };
    for (name, inner) in map {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if Key::all().contains_key(&path) {
            let origin = origin(line(&path));
            check(&path, inner, &origin)?;
            out.push(Setting { key: path, value: inner.clone(), origin });
        } else if Key::is_group(&path) {
            collect(document, file, inner, &path, origin, out)?;
        } else {
            return Err(unknown(file, line(&path), &format!("ralph.{path}"), &path));
        }
    }
    Ok(())
}

fn place(file: &Path, line: Option<usize>) -> String {
    line.map_or_else(|| file.display().to_string(), |line| format!("{}:{line}", file.display()))
}

fn unknown(file: &Path, line: Option<usize>, shown: &str, path: &str) -> Error {
    let error = Error::invalid(format!("{}: unknown key {shown}", place(file, line)));
    match nearest(path) {
        Some(near) => error.next(format!("Did you mean ralph.{near}?")),
        None => error.next("cove config list shows every key"),
    }
}

/// Checks one value against its key's type.
pub(crate) fn check(key: &str, value: &serde_json::Value, origin: &Origin) -> Result<()> {
    let mut tree = defaults();
    put(&mut tree, key, value.clone());
    let settings: Settings = serde_json::from_value(tree).map_err(|e| {
        Error::invalid(format!("{origin}: ralph.{key} cannot be {value}"))
            .because(e)
            .next(format!("cove config explain {key} shows what it may be"))
    })?;
    settings.check().map_err(|e| {
        let placed = Error::invalid(format!("{origin}: {}", e.message()));
        match e.next_step() {
            Some(step) => placed.next(step),
            None => placed,
        }
    })
}

fn put(tree: &mut serde_json::Value, key: &str, value: serde_json::Value) {
    let mut at = tree;
    let mut words = key.split('.').peekable();
    while let Some(word) = words.next() {
        if words.peek().is_none() {
            at[word] = value;
            return;
        }
        at = &mut at[word];
    }
}

/// Drops what a repository may not decide, and says so.
fn restrict(
    project: Vec<Setting>,
    below: &[Vec<Setting>],
    warnings: &mut Vec<String>,
    ignored: &mut Vec<String>,
) -> Vec<Setting> {
    let under = |key: &str| -> serde_json::Value {
        below
            .iter()
            .rev()
            .flat_map(|layer| layer.iter().rev())
            .find(|setting| setting.key == key)
            .map(|setting| setting.value.clone())
            .unwrap_or_else(|| Key::all()[key].default.clone())
    };
    let allowed_images = under("security.allowedImages");
    project
        .into_iter()
        .filter(|Setting { key, value, origin }| {
            let why = match ProjectRule::of(key) {
                ProjectRule::Ignored => "a repository may not decide it".to_owned(),
                ProjectRule::Lower if amount(key, value) > amount(key, &under(key)) => {
                    format!("{value} is more than the {} that applies without it", show(&under(key)))
                }
                ProjectRule::Set if key == "container.image" && !image_allowed(value, &allowed_images) => {
                    format!("{value} is not among ralph.security.allowedImages")
                }
                _ => return true,
            };
            warnings.push(format!("ralph.{key} ({origin}) is ignored: {why}"));
            ignored.push(format!("ralph.{key}"));
            false
        })
        .collect()
}

fn show(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "no bound".to_owned(),
        other => other.to_string(),
    }
}

fn image_allowed(image: &serde_json::Value, allowed: &serde_json::Value) -> bool {
    let (Some(image), Some(allowed)) = (image.as_str(), allowed.as_array()) else { return true };
    allowed.iter().filter_map(serde_json::Value::as_str).any(|pattern| matches(pattern, image))
}

/// `*` stands for any text, `?` for one character.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    globset::GlobBuilder::new(pattern)
        .literal_separator(false)
        .backslash_escape(false)
        .build()
        .is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

/// The `ralph` key of a file that belongs to another program: what cannot be used there is a warning.
fn openclaw(file: &Path, warnings: &mut Vec<String>) -> Vec<Setting> {
    let read = || -> Result<Vec<Setting>> {
        let Some(document) = Document::read(file)? else { return Ok(Vec::new()) };
        let Some(ralph) = document.value.get("ralph") else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        let origin = |line| Origin::OpenClaw { file: file.to_owned(), line };
        collect(&document, file, ralph, "", &origin, &mut out)?;
        Ok(out)
    };
    read().unwrap_or_else(|error| {
        let next = error.next_step().map(|next| format!("; {next}")).unwrap_or_default();
        warnings.push(format!("{} is ignored: {}{next}", file.display(), error.message()));
        Vec::new()
    })
}

fn flags(flags: &[Flag]) -> Result<Vec<Setting>> {
    flags
        .iter()
        .map(|flag| {
            let origin = Origin::Flag { name: flag.name.to_owned() };
            check(flag.key, &flag.value, &origin)?;
            Ok(Setting { key: flag.key.to_owned(), value: flag.value.clone(), origin })
        })
        .collect()
}

/// Puts layers together, weakest first.
fn merge(layers: Vec<Vec<Setting>>, warnings: Vec<String>, ignored: Vec<String>) -> Result<Resolved> {
    let mut values: BTreeMap<String, Value> = Key::all()
        .iter()
        .map(|(path, key)| {
            let value = Value { value: key.default.clone(), origin: Origin::Default, overrides: Vec::new() };
            (path.clone(), value)
        })
        .collect();
    let mut tree = defaults();
    for Setting { key, value, origin } in layers.into_iter().flatten() {
        put(&mut tree, &key, value.clone());
        let slot = values.get_mut(&key).expect("every setting was checked against the keys");
        let old = Setting { key, value: std::mem::replace(&mut slot.value, value), origin: slot.origin.clone() };
        slot.origin = origin;
        slot.overrides.insert(0, old);
    }
    let settings: Settings = serde_json::from_value(tree)
        .map_err(|e| Error::internal("Settings that are valid one by one are not together").because(e))?;
    Ok(Resolved { settings, values, warnings, ignored, cluster: Ok(()) })
}
