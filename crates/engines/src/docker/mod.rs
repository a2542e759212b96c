//! The Docker engine: sandboxes as containers of a `dockerd` on this machine.
