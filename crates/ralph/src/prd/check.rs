//! What makes a PRD unusable though each story reads well.

use std::collections::{BTreeMap, HashMap};

use cove_core::{Error, Result};

use super::{Prd, Story, branch};

/// Longest id: it stands in refs, commit subjects and tables.
const ID_BOUND: usize = 100;
/// Longest title.
const TITLE_BOUND: usize = 500;

/// The first problem as an error, the others (at most 20) in its context.
pub(super) fn report(prd: &Prd, name: &str) -> Result<()> {
    let problems = problems(prd);
    let Some((line, first)) = problems.first() else { return Ok(()) };
    let place = |line: usize| if line == 0 { String::new() } else { format!(" line {line}") };
    let mut error = Error::invalid(format!("{name}{}: {first}", place(*line)));
    if *line > 0 {
        error = error.with("line", line);
    }
    for (line, problem) in problems.iter().skip(1).take(20) {
        error = error.with("also", format!("{name}{}: {problem}", place(*line)));
    }
    Err(error)
}

/// Every problem with the line of its story, in the order of the file.
fn problems(prd: &Prd) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    if let Some(name) = &prd.branch_name
        && let Err(what) = branch::check_branch(name)
    {
        out.push((0, format!("`branchName` \"{}\" cannot be a branch: it {what}", name.escape_debug())));
    }
    let mut first: BTreeMap<&str, &Story> = BTreeMap::new();
    for story in &prd.stories {
        for (field, text, bound) in [("id", &story.id, ID_BOUND), ("title", &story.title, TITLE_BOUND)] {
            if text.trim().is_empty() {
                out.push((story.line, format!("the `{field}` of {} is empty", label(story, field))));
            } else if text.len() > bound {
                out.push((
                    story.line,
                    format!("the `{field}` of {} is longer than {bound} bytes", label(story, field)),
                ));
            } else if text.chars().any(char::is_control) {
                out.push((story.line, format!("the `{field}` of {} holds a control character", label(story, field))));
            }
        }
        if let Some(earlier) = first.get(story.id.as_str()) {
            let place = if earlier.line > 0 { format!(" (first on line {})", earlier.line) } else { String::new() };
            out.push((story.line, format!("the id `{}` is used twice{place}", story.id.escape_debug())));
        } else {
            first.insert(&story.id, story);
        }
    }
    for story in &prd.stories {
        for dependency in &story.depends_on {
            if *dependency == story.id {
                out.push((story.line, format!("story `{}` depends on itself", story.id.escape_debug())));
            } else if !first.contains_key(dependency.as_str()) {
                let (id, other) = (story.id.escape_debug(), dependency.escape_debug());
                out.push((story.line, format!("story `{id}` depends on `{other}`, which does not exist")));
            }
        }
    }
    if let Some(cycle) = cycle(prd) {
        let line = prd.story(&cycle[0]).map_or(0, |story| story.line);
        out.push((line, format!("stories depend on each other in a circle: {}", cycle.join(" → "))));
    }
    out
}

fn label(story: &Story, field: &str) -> String {
    match field {
        "id" => format!("the story \"{}\"", story.title.chars().take(60).collect::<String>().escape_debug()),
        _ => format!("story `{}`", story.id.chars().take(60).collect::<String>().escape_debug()),
    }
}

/// A circle of two stories or more, its first id repeated at the end.
fn cycle(prd: &Prd) -> Option<Vec<String>> {
    let index: HashMap<&str, usize> =
        prd.stories.iter().enumerate().map(|(at, story)| (story.id.as_str(), at)).collect();
    let edges: Vec<Vec<usize>> = prd
        .stories
        .iter()
        .enumerate()
        .map(|(at, story)| {
            story.depends_on.iter().filter_map(|id| index.get(id.as_str()).copied()).filter(|to| *to != at).collect()
        })
        .collect();
    // 0 unseen, 1 on the path, 2 done. Iterative: a chain of a thousand stories is allowed.
    let mut state = vec![0u8; edges.len()];
    for start in 0..edges.len() {
        if state[start] != 0 {
            continue;
        }
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        state[start] = 1;
        while let Some((at, next)) = path.last().copied() {
            let Some(to) = edges[at].get(next).copied() else {
                state[at] = 2;
                path.pop();
                continue;
            };
            if let Some(top) = path.last_mut() {
                top.1 += 1;
            }
            match state[to] {
                0 => {
                    state[to] = 1;
                    path.push((to, 0));
                }
                1 => {
                    let from = path.iter().position(|(node, _)| *node == to).unwrap_or(0);
                    let mut ids: Vec<String> =
                        path[from..].iter().map(|(node, _)| prd.stories[*node].id.clone()).collect();
                    ids.push(prd.stories[to].id.clone());
                    return Some(ids);
                }
                _ => {}
            }
        }
    }
    None
}
