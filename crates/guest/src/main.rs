//! The helper inside every sandbox.
fn main() {}
