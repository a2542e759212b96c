//! Following a run: facts in, a picture or plain lines out.

mod live;
mod plain;
mod screen;
mod view;

pub use live::render;
pub use plain::{Lines, status as gate_status};
pub use screen::Screen;
pub use view::View;

#[cfg(test)]
mod tests;
