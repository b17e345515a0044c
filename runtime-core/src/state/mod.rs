//! What is kept about containers between commands, and what the kernel says about them now.
//!
//! Below the root directory each container has a directory of its own, mode 0700: `record` (what later commands need), `filter`
//! (the compiled system call filter, when there is one) and `gate` (the socket where a created container waits). Everything is
//! reached through open directories; the record is a hint, and the status never comes from it.
//!
//! Must not: read configurations, make or remove anything that is not the state's own. Tests: `tests.rs` and beside the files.

mod later;
mod lock;
mod record;
mod status;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use later::Later;
pub(crate) use lock::{Lock, missing};
pub(crate) use record::{
    ListenerRecord, MemoryPolicyRecord, NamespaceRecord, Progress, Record, RecordedHooks, StepRecord,
};
pub use status::Status;
pub(crate) use status::{Observed, observe, observe_locked};
pub(crate) use store::{ContainerDir, Store};
