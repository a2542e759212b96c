//! `cove prd`.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use cove_core::{Error, ErrorKind, Result};
use cove_ralph::prd::{self, Prd, Story};

use crate::args::PrdCommand;
use crate::context::{Context, read_bounded};
use crate::kinds;
use crate::output::{clean_line, json};

pub fn run(context: &Context, command: PrdCommand) -> Result<u8> {
    match command {
        PrdCommand::Init { file, project, force } => {
            let file = context.absolute(&file);
            let name = project.unwrap_or_else(|| {
                context.directory.file_name().map_or_else(|| "project".to_owned(), |n| n.to_string_lossy().into_owned())
            });
            write(&file, &prd::example(&name), force, "cove prd init FILE")?;
            context.printer.say(&format!("Wrote {}; change it, then: cove prd validate", file.display()));
        }
        PrdCommand::Validate { file } => {
            let prd = read(context, &file)?;
            let left = prd.stories.iter().filter(|story| !story.passes).count();
            context.printer.say(&format!(
                "{} is valid ({}): {} stories, {left} to do",
                file.display(),
                prd.format.name(),
                prd.stories.len()
            ));
        }
        PrdCommand::Show { file } => {
            let prd = read(context, &file)?;
            let passed = prd.stories.iter().filter(|story| story.passes);
            let items: Vec<_> = passed.chain(order(&prd)).map(json).collect();
            context.printer.list(&kinds::stories(), &items)?;
        }
        PrdCommand::Import { file, to, force } => {
            let source = context.absolute(&file);
            let text = read_text(&source)?;
            let converted = prd::convert(&text, Some(&source))?;
            if to == Path::new("-") {
                context.printer.write(&converted)?;
            } else {
                let target = context.absolute(&to);
                write(&target, &converted, force, "--to FILE")?;
                context.printer.say(&format!("Wrote {}; check it: cove prd show", target.display()));
            }
        }
    }
    Ok(0)
}

fn read(context: &Context, file: &Path) -> Result<Prd> {
    let file = context.absolute(file);
    Prd::parse(&read_text(&file)?, Some(&file))
}

fn read_text(file: &Path) -> Result<String> {
    read_bounded(file, prd::TEXT_BOUND as u64)?.ok_or_else(|| {
        Error::not_found(format!("There is no PRD at {}", file.display())).next("Write one with cove prd init")
    })
}

fn write(file: &Path, text: &str, force: bool, another: &str) -> Result<()> {
    let failed = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            Error::new(ErrorKind::Conflict, format!("{} exists already", file.display()))
                .next(format!("Choose another name ({another}), or add --force to replace it"))
        } else {
            Error::invalid(format!("{} cannot be written", clean_line(&file.display().to_string()))).because(e)
        }
    };
    if force {
        return std::fs::write(file, text).map_err(failed);
    }
    let mut handle = std::fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
    handle.write_all(text.as_bytes()).map_err(failed)
}

/// The stories to do in the order of work: always the first by priority whose dependencies are done.
pub fn order(prd: &Prd) -> Vec<&Story> {
    let mut done: HashSet<&str> = prd.stories.iter().filter(|s| s.passes).map(|s| s.id.as_str()).collect();
    let mut left: Vec<&Story> = prd.stories.iter().filter(|s| !s.passes).collect();
    left.sort_by_key(|story| story.priority);
    let mut out = Vec::new();
    while let Some(at) = left.iter().position(|s| s.depends_on.iter().all(|id| done.contains(id.as_str()))) {
        let story = left.remove(at);
        done.insert(&story.id);
        out.push(story);
    }
    out
}
