//! One supervisor process per local sandbox: builds it, owns it, outlives the daemon.

pub mod launch;
