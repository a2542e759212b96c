//! From a user's choice to an agent.

use std::sync::Arc;

use cove_core::run::AgentChoice;
use cove_core::{Agent, Error, Result};
use serde_json::{Map, Value};

use crate::adapter::Adapter;
use crate::builtin;
use crate::definition::AdapterDefinition;
use crate::prices::PriceTable;

/// Names of the built-in agents.
pub fn names() -> Vec<&'static str> {
    builtin::ALL.iter().map(|b| b.name).collect()
}

/// The agent that a user chose.
///
/// # Errors
/// `Invalid` for an unknown name (the known ones are listed), a definition that cannot be read, or
/// `command` without a command.
pub fn catalog(choice: &AgentChoice) -> Result<Arc<dyn Agent>> {
    Ok(Arc::new(adapter(choice)?))
}

/// The same with what only an [`Adapter`] tells: its definition, floor and writable directories.
///
/// # Errors
/// As [`catalog`].
pub fn adapter(choice: &AgentChoice) -> Result<Adapter> {
    let adapter = match &choice.definition {
        Some(value) => defined(&choice.name, value)?,
        None => built_in(&choice.name)?,
    };
    if choice.command.as_ref().is_some_and(|c| c.is_empty() || c[0].is_empty()) {
        return Err(Error::invalid("The agent's command is empty")
            .next("Name a program: --agent-command ./my-agent, or agent.command in settings"));
    }
    if choice.definition.is_none() && choice.name == builtin::COMMAND && choice.command.is_none() {
        return Err(Error::invalid("Agent \"command\" needs a command")
            .next("Name a program: --agent-command './my-agent --fast', or agent.command in settings"));
    }
    Ok(adapter.with_command(choice.command.clone()).with_model(choice.model.clone()))
}

/// [`catalog`] with prices from settings.
///
/// # Errors
/// As [`catalog`].
pub fn adapter_with_prices(choice: &AgentChoice, prices: Arc<PriceTable>) -> Result<Adapter> {
    Ok(adapter(choice)?.with_prices(prices))
}

fn built_in(name: &str) -> Result<Adapter> {
    let Some(found) = builtin::ALL.iter().find(|b| b.name == name) else {
        return Err(Error::invalid(format!("There is no agent {name:?}"))
            .next(format!("Choose one of {}, or define it in settings", names().join(", "))));
    };
    Ok(Adapter::new((found.definition)())?.with_prepare(found.prepare))
}

/// An agent of a user's own. `extends` names a built-in one whose fields stand where the definition has
/// none.
fn defined(name: &str, value: &Value) -> Result<Adapter> {
    let bad = |why: &dyn std::fmt::Display| {
        Error::invalid(format!("The definition of agent {name:?} cannot be read: {why}"))
            .next("See docs/agents.md for its fields")
    };
    let Value::Object(own) = value else { return Err(bad(&"it is not an object")) };
    let mut own = own.clone();
    let (mut fields, prepare) = match own.remove("extends") {
        None => (Map::new(), None),
        Some(Value::String(base)) => {
            let adapter = built_in(&base)?;
            match serde_json::to_value(adapter.definition()) {
                Ok(Value::Object(fields)) => (fields, adapter.prepare()),
                _ => return Err(Error::internal(format!("The definition of agent {base:?} cannot be written"))),
            }
        }
        Some(_) => return Err(bad(&"extends is not the name of a built-in agent")),
    };
    fields.insert("name".to_owned(), name.into());
    fields.extend(own);
    let definition: AdapterDefinition = serde_json::from_value(Value::Object(fields)).map_err(|e| bad(&e))?;
    Ok(Adapter::new(definition)?.with_prepare(prepare))
}
