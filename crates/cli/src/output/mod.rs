//! Everything the command prints: data on stdout, all else on stderr.

mod clean;
mod fields;
mod jq;
mod problem;
mod style;
mod table;
mod yaml;

use std::io::{self, Write};

use cove_core::{Error, Result};
use serde_json::Value;

pub use clean::{clean_block, clean_line, fit, width};
pub use fields::{Fields, fields_of};
pub use jq::check as check_jq;
pub use problem::{print_error, problem};
pub use style::{ColorChoice, Paint, Style};
pub use table::{Column, text};

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Ndjson,
    /// YAML.
    Yaml,
    /// Identifiers only.
    Name,
}

/// A kind of thing that can be listed: how it looks in each format.
pub struct Kind {
    /// Its columns in tables.
    pub columns: &'static [Column],
    /// The field that identifies it.
    pub id: &'static str,
    /// Fields that `--json=FIELDS` may name.
    pub fields: Vec<String>,
}

/// Writes data to stdout in the format that was asked for.
#[derive(Debug, Clone)]
pub struct Printer {
    /// The format.
    pub format: Format,
    /// Fields asked for with `--json=`.
    pub fields: Option<Vec<String>>,
    /// Filter of `--jq`, over the JSON document.
    pub jq: Option<String>,
    /// For stdout.
    pub style: Style,
    /// For stderr.
    pub error_style: Style,
    /// Whether only identifiers and errors are wanted.
    pub quiet: bool,
    /// Whether times are shown in UTC.
    pub utc: bool,
}

impl Printer {
    /// Whether errors are problem documents.
    pub fn is_machine(&self) -> bool {
        matches!(self.format, Format::Json | Format::Ndjson | Format::Yaml)
    }

    /// Prints a list.
    pub fn list(&self, kind: &Kind, items: &[Value]) -> Result<()> {
        let items = self.select(kind, items)?;
        match self.format {
            Format::Json => self.document(&Value::Array(items)),
            Format::Ndjson => self.write(&items.iter().map(|item| format!("{item}\n")).collect::<String>()),
            Format::Yaml => self.write(&yaml::write(&Value::Array(items))),
            Format::Name => self.write(&names(kind, &items)),
            Format::Table | Format::Wide => {
                self.write(&table::render(kind.columns, &items, self.format == Format::Wide, &self.style))
            }
        }
    }

    /// Prints one thing; `text` is its form for people.
    pub fn one(&self, kind: &Kind, item: &Value, text: impl FnOnce(&Style) -> String) -> Result<()> {
        let item = self.select(kind, std::slice::from_ref(item))?.remove(0);
        match self.format {
            Format::Json => self.document(&item),
            Format::Ndjson => self.write(&format!("{item}\n")),
            Format::Yaml => self.write(&yaml::write(&item)),
            Format::Name => self.write(&names(kind, &[item])),
            Format::Table | Format::Wide => self.write(&text(&self.style)),
        }
    }

    /// One JSON document, or what `--jq` makes of it.
    fn document(&self, document: &Value) -> Result<()> {
        match &self.jq {
            Some(filter) => self.write(&jq::apply(filter, document)?),
            None => self.write(&format!("{}\n", pretty(document))),
        }
    }

    fn select(&self, kind: &Kind, items: &[Value]) -> Result<Vec<Value>> {
        match &self.fields {
            Some(wanted) => Fields::new(wanted, &kind.fields)?.select(items),
            None => Ok(items.to_vec()),
        }
    }

    /// Writes data as it is. A closed pipe is success: the reader has what it wanted.
    pub fn write(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Writes raw bytes.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(closed_pipe()),
            Err(e) => Err(Error::internal("Standard output cannot be written").because(e)),
            Ok(()) => Ok(()),
        }
    }

    /// Tells the person something on stderr; silent with `-q`.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            line_to_stderr(text);
        }
    }

    /// Asks on stderr, without a line's end.
    pub fn ask(&self, text: &str) {
        let mut out = io::stderr().lock();
        let _ = write!(out, "{text}").and_then(|()| out.flush());
    }

    /// Warns on stderr.
    pub fn warn(&self, text: &str) {
        let label = self.error_style.paint(Paint::Warn, "warning:");
        line_to_stderr(&format!("{label} {}", clean_line(text)));
    }
}

/// Nobody reads stderr any more: nothing is left to tell them.
pub fn line_to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

const CLOSED: &str = "standard output was closed";

/// The reader of stdout went away; see [`is_closed_pipe`].
pub fn closed_pipe() -> Error {
    Error::new(cove_core::ErrorKind::Interrupted, CLOSED)
}

/// Whether an error only says that the reader of stdout went away.
pub fn is_closed_pipe(error: &Error) -> bool {
    error.message() == CLOSED
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

fn names(kind: &Kind, items: &[Value]) -> String {
    items.iter().filter_map(|item| item.get(kind.id)).fold(String::new(), |mut out, id| {
        out.push_str(&clean_line(id.as_str().map_or_else(|| id.to_string(), str::to_owned).as_str()));
        out.push('\n');
        out
    })
}

/// Any value as JSON; what the wire types are made of always is.
pub fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
