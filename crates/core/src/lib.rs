//! The vocabulary of Cove and the ports its parts meet at.
//!
//! Nothing here does I/O or knows a runtime. Adapters implement the ports
//! ([`Engine`], [`Records`], [`Agent`], [`Door`], [`Clock`]); the rules in
//! `control` and the workloads see the ports alone.

pub mod agent;
pub mod attestation;
pub mod capability;
pub mod clock;
pub mod door;
pub mod engine;
pub mod error;
pub mod id;
pub mod ledger;
pub mod quantity;
pub mod records;
pub mod run;
pub mod sandbox;
pub mod spec;

pub use agent::{Agent, AgentCapability, AgentCommand, AgentEvent, AgentOutcome, StreamParser, Usage};
pub use attestation::{Attestation, Deviation, Report};
pub use capability::{Capabilities, Control};
pub use clock::{Clock, SystemClock};
pub use door::{Door, DoorEvent, DoorHandle, EgressPolicy, HostRule};
pub use engine::{Engine, EngineKind, Exec, ExecInput, ExecOutput, ExecSpec, Output, Swept};
pub use error::{Error, ErrorKind, Result};
pub use id::{AttemptId, ExecId, InstanceId, RunId, SandboxId};
pub use ledger::{Entry, Fact, NewEntry};
pub use records::Records;
pub use run::{Ending, Phase, RunRecord, RunSpec, StoryState};
pub use sandbox::{ExitReason, ExitStatus, SandboxInfo, SandboxState};
pub use spec::{Hardening, Isolation, Layer, Limits, Mount, Network, Root, SandboxSpec, Tmpfs, User};
