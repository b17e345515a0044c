//! The child half of coracle: walks a prepared [`program::Program`] between `clone3` and `execve`.
//!
//! Nothing here allocates, locks, logs or panics: the crate is `no_std` without an allocator, so the compiler checks the
//! first, and a linked-binary check (`link/`) the last. Failures travel as fixed-size [`wire::Message`]s; the
//! parent half writes the sentence.
//!
//! Must not: know configurations, host policy or texts. Tests: in the modules for what is pure, in `tests/` for the walker on
//! the running kernel, and in the `tests` package with real containers.
#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![deny(clippy::arithmetic_side_effects, clippy::as_conversions)]

#[cfg(test)]
extern crate std;

mod buf;
mod network;
mod path;
pub mod program;
mod report;
pub mod step;
#[allow(unsafe_code, reason = "the only place of this crate that talks to the kernel without a wrapper")]
mod sys;
pub mod walk;
pub mod wire;

pub use network::Network;
pub use step::{map_tree_ids, raise_loopback};
pub use sys::{SchedAttr, set_io_priority, set_scheduler};
pub use walk::{Memory, walk};
