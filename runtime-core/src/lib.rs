//! coracle: a low-level OCI container runtime as a library.
//!
//! A bundle's `config.json` becomes, without privileges and side effects, a plan; the plan is compiled into a program that a
//! child process walks after one `clone3`. The calling process is never changed: no working directory, umask, signal
//! handlers, environment, limits or standard streams of it are touched, and nothing is printed.
//!
//! Containers and further processes are children of the calling process. Until they execute a program they have no exit signal: neither
//! SIGCHLD nor a `waitpid(-1)` of the caller meets them, and what fails on the way is reaped here. execve(2) gives every process SIGCHLD;
//! when the caller's own reaper is first, or SIGCHLD is ignored, `wait` still knows the status from Linux 6.15 on, and says
//! [`ExitStatus::Unknown`] before. A container that was never started and that another process deletes stays a zombie until
//! [`Container::wait`], [`Container::start`] or [`Container::delete`] is called here.
//!
//! Tests: beside each module for what is pure, in the `tests` package with real containers for the rest.
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod bundle;
pub mod cgroup;
mod container;
pub mod error;
mod events;
mod exe;
mod exec;
pub mod features;
mod host;
mod hotplug;
mod id;
mod launch;
mod observe;
mod plan;
mod process;
mod rdt;
mod runtime;
pub mod spec;
mod state;
mod stdio;
mod sys;
mod update;
pub mod validate;

pub use bundle::Bundle;
pub use container::{Container, Delete, Scope};
pub use error::{Error, ErrorKind, Phase, Result};
pub use events::{Event, Events};
pub use exe::reexec_sealed;
pub use exec::{Exec, ExecProcess};
pub use host::{Facts, SecurityModules};
pub use id::ContainerId;
pub use observe::{Observer, StepEvent};
pub use process::ExitStatus;
pub use runtime::{Cgroups, Create, CreatePlan, Created, Runtime, RuntimeBuilder};
pub use state::Status;
pub use stdio::{Io, Stdio};
pub use sys::memory::ShortLived;
