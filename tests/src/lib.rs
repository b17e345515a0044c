//! What the suites share: bundles, containers that clean up after themselves, requirements, and the harness.
//!
//! The suites start the runtime as a program, as an engine does, and look at what the kernel says afterwards. They
//! must not use the library under test. They change nothing on the machine but what they made: a temporary
//! directory, one cgroup parent per run, and mounts in a mount namespace of their own.
//!
//! `RUNTIME=/path` picks the program under test (runc and crun work too), see [`runtime::Runtime::locate`].

// The crate is test code outside `cfg(test)`: a broken expectation ends the case, and that is the point.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "test code"
)]
#![forbid(unsafe_code)]

pub mod agent;
pub mod bundle;
pub mod cgroup;
pub mod container;
pub mod dirs;
pub mod harness;
pub mod host;
pub mod need;
pub mod network;
pub mod runtime;
pub mod terminal;

pub use bundle::Bundle;
pub use container::{Container, answers, has_options, is_error, is_missing, mount_at, report};
pub use harness::{Case, T};
pub use need::Need;
pub use runtime::{Call, Done, Kind, Runtime};
pub use serde_json::{Value, json};
