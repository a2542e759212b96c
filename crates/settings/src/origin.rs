//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where a value came from, strongest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "layer")]
pub enum Origin {
    /// A flag of the command line.
    Flag {
        /// With its dashes.
        name: String,
    },
    /// A variable `COVE__…` or one of the sources' (`CONTAINER_IMAGE`, …).
    Environment {
        /// Its name.
        name: String,
    },
    /// `.cove/config.json` of the repository.
    Project {
        /// The file.
        file: PathBuf,
        /// Line of the key.
        line: Option<usize>,
    },
    /// The user's file.
    User {
        /// The file.
        file: PathBuf,
        /// Line of the key.
        line: Option<usize>,
    },
    /// `openclaw.json`.
    OpenClaw {
        /// The file.
        file: PathBuf,
        /// Line of the key.
        line: Option<usize>,
    },
    /// The system's file.
    System {
        /// The file.
        file: PathBuf,
        /// Line of the key.
        line: Option<usize>,
    },
    /// Built in.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (layer, file, line) = match self {
            Self::Flag { name } => return write!(f, "flag {name}"),
            Self::Environment { name } => return write!(f, "environment {name}"),
            Self::Default => return f.write_str("default"),
            Self::Project { file, line } => ("project", file, line),
            Self::User { file, line } => ("user", file, line),
            Self::OpenClaw { file, line } => ("openclaw", file, line),
            Self::System { file, line } => ("system", file, line),
        };
        write!(f, "{layer} {}", file.display())?;
        match line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}
