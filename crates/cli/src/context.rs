//! What every command needs: paths, variables, the repository around, the printer.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use cove_core::{Error, Result};
use cove_settings::{Flag, Paths, Resolved, Sources};

use crate::args::Globals;
use crate::output::{Format, Printer, Style};

/// What every command needs.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where files lie.
    pub paths: Paths,
    /// The environment; names or values that are not UTF-8 are left out.
    pub variables: BTreeMap<String, String>,
    /// Directory that commands work in.
    pub directory: PathBuf,
    /// Output.
    pub printer: Printer,
    /// Whether a person sits at the terminal: no prompt and no live view otherwise.
    pub interactive: bool,
}

impl Context {
    /// Reads the environment.
    ///
    /// # Errors
    /// `Invalid` when paths cannot be found.
    pub fn new(globals: &Globals) -> Result<Self> {
        // Before anything is done: a filter that cannot print must not hide that something was.
        if let Some(filter) = &globals.jq {
            crate::output::check_jq(filter)?;
        }
        let variables = variables();
        let directory = match &globals.directory {
            Some(directory) => directory.canonicalize().map_err(|e| {
                Error::not_found(format!("There is no directory {}", directory.display()))
                    .because(e)
                    .next("Name one that exists with -C")
            })?,
            None => std::env::current_dir().map_err(|e| {
                Error::invalid("The current directory cannot be read").because(e).next("Change to another directory")
            })?,
        };
        let terminal = std::io::stdout().is_terminal();
        let set = |name: &str| variables.get(name).is_some_and(|value| !value.is_empty());
        let dumb = variables.get("TERM").is_some_and(|term| term == "dumb");
        Ok(Self {
            paths: Paths::from_variables(&variables)?,
            interactive: terminal && !dumb && !set("CI"),
            printer: printer(globals, &variables),
            variables,
            directory,
        })
    }

    /// The repository around the working directory.
    pub fn repository(&self) -> Option<PathBuf> {
        repository_around(&self.directory)
    }

    /// Settings with the project file of the work tree, for commands that show settings.
    pub fn settings(&self) -> Result<Resolved> {
        let project = self.repository().map(|root| Paths::project_config(&root));
        let project = match project {
            Some(file) => read_bounded(&file, 1 << 20)?.map(|text| (file, text)),
            None => None,
        };
        self.resolve(Vec::new(), project)
    }

    /// Settings from all layers.
    pub fn resolve(&self, flags: Vec<Flag>, project: Option<(PathBuf, String)>) -> Result<Resolved> {
        Resolved::load(&Sources { paths: self.paths.clone(), variables: self.variables.clone(), flags, project })
    }

    /// A path of the command line, seen from the working directory.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// Whether a person agrees. Without one, only `yes` does.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<bool> {
        if yes {
            return Ok(true);
        }
        if !self.interactive || !std::io::stdin().is_terminal() {
            return Err(Error::invalid("This has to be confirmed, and nobody can be asked here")
                .because(question.to_owned())
                .next("Add --yes"));
        }
        self.printer.ask(&format!("{question} [y/N] "));
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|e| Error::invalid("The answer cannot be read").because(e).next("Add --yes"))?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

fn variables() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

fn printer(globals: &Globals, variables: &BTreeMap<String, String>) -> Printer {
    let style = |terminal| Style::decide(globals.color, terminal, variables);
    let format = match globals.output {
        Some(format) => format,
        None if globals.json.is_some() || globals.jq.is_some() => Format::Json,
        None if globals.quiet => Format::Name,
        None => Format::Table,
    };
    let fields: Vec<String> =
        globals.json.iter().flatten().map(|field| field.trim().to_owned()).filter(|field| !field.is_empty()).collect();
    Printer {
        format,
        jq: globals.jq.clone(),
        fields: Some(fields).filter(|fields| !fields.is_empty()),
        style: style(std::io::stdout().is_terminal()),
        error_style: style(std::io::stderr().is_terminal()),
        quiet: globals.quiet,
        utc: globals.utc,
    }
}

/// A printer for errors that come before the context.
pub fn bare_printer(globals: &Globals) -> Printer {
    printer(globals, &variables())
}

/// The directory at or above `start` that holds a repository: a work tree or a bare one.
pub fn repository_around(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|dir| dir.join(".git").exists() || (dir.join("HEAD").is_file() && dir.join("objects").is_dir()))
        .map(Path::to_owned)
}

/// A text file of at most `bound` bytes; `None` when there is none.
///
/// # Errors
/// `Invalid` when it is larger or cannot be read as text.
pub fn read_bounded(file: &Path, bound: u64) -> Result<Option<String>> {
    use std::io::Read;
    let handle = match std::fs::File::open(file) {
        Ok(handle) => handle,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(Error::invalid(format!("The file {} cannot be read", file.display())).because(e)),
    };
    let mut text = String::new();
    handle
        .take(bound + 1)
        .read_to_string(&mut text)
        .map_err(|e| Error::invalid(format!("The file {} cannot be read as text", file.display())).because(e))?;
    if text.len() as u64 > bound {
        return Err(Error::invalid(format!("The file {} is larger than {bound} bytes", file.display())));
    }
    Ok(Some(text))
}
