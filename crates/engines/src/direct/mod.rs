//! The engine without isolation.
