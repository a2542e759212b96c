//! What plain processes can be given.

use cove_core::{Capabilities, Control};

/// All that needs no isolation.
pub fn table() -> Capabilities {
    let mut table = Capabilities::default();
    for control in [
        Control::IsolationProcess,
        Control::RootHost,
        Control::NetworkHost,
        Control::NetworkDoor,
        Control::LimitWall,
        Control::Mounts,
        Control::Pty,
        Control::Adopt,
    ] {
        table = table.proven(control);
    }
    let none = "Plain processes have no isolation; use the engine native, docker or podman";
    for control in Control::ALL {
        if !table.has(control) {
            table = table.missing(control, none);
        }
    }
    table
}
