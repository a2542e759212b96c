//! The agents, by what they tamper with.

mod custom;
mod environment;
mod gates;
mod git;
mod node;
mod process;
mod rust;
mod tests;
mod words;

pub use custom::CUSTOM;
pub use environment::ENVIRONMENT;
pub use gates::GATES;
pub use git::GIT;
pub use node::NODE;
pub use process::PROCESS;
pub use rust::RUST;
pub use tests::TESTS;
pub use words::WORDS;

use crate::{Cheat, Fools};

/// A cheat that makes the checks pass in the agent's own tree.
const fn green(
    name: &'static str,
    script: &'static str,
    refused: &'static [&'static str],
    flag: &'static str,
) -> Cheat {
    Cheat { name, script, fools: Fools::Checks, refused, flag }
}

/// A cheat that is made of words.
const fn says(
    name: &'static str,
    script: &'static str,
    words: &'static str,
    refused: &'static [&'static str],
    flag: &'static str,
) -> Cheat {
    Cheat { name, script, fools: Fools::Saying(words), refused, flag }
}
