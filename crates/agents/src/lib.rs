//! Agent programs: how each is started, and what its output means.
//!
//! An agent is described by an [`AdapterDefinition`], which is plain configuration; those of the
//! known programs are [built in](builtin). [`adapter`] makes an [`Adapter`] of a user's choice, and
//! the adapter answers the port [`cove_core::Agent`]. Nothing here starts a process or opens a file.

mod adapter;
pub mod builtin;
mod catalog;
mod definition;
mod endpoint;
mod parse;
mod prices;
mod template;

pub use adapter::Adapter;
pub use catalog::{adapter, adapter_with_prices, catalog, names};
pub use definition::{
    AdapterDefinition, Argument, HomeFile, PromptChannel, ProviderEndpoint, ResourceFloor, StreamFormat, TerminalRule,
};
pub use parse::{MAX_LINE_BYTES, ParserOptions, StreamCounts, StreamReader};
pub use prices::{Price, PriceTable};
