//! coracle: a low-level OCI container runtime as a library.
//!
//! A bundle's `config.json` becomes, without privileges and side effects, a plan; the plan is compiled into a program that a
//! child process walks after one `clone3`. The calling process is never changed: no working directory, umask, signal
//! handlers, environment, limits or standard streams of it are touched, and nothing is printed.
//!
//! Tests: beside each module for what is pure, in the `tests` package with real containers for the rest.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[allow(dead_code, reason = "used by the launch code")]
pub mod cgroup;
pub mod error;
pub mod features;
mod id;
#[allow(dead_code, reason = "used by the launch code")]
mod launch;
#[allow(dead_code, reason = "used by the launch code")]
mod process;
pub mod spec;
#[allow(dead_code, unused_imports, reason = "used by the launch code")]
mod state;
#[allow(dead_code, reason = "used by the launch code")]
mod sys;
pub mod validate;

pub use error::{Error, ErrorKind, Phase, Result};
pub use id::ContainerId;
pub use process::ExitStatus;
pub use state::Status;
