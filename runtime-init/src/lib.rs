//! The child half of coracle: walks a prepared [`program::Program`] between `clone3` and `execve`.
//!
//! Nothing here allocates, locks, logs or panics: the crate is `no_std` without an allocator, so the compiler checks the
//! first, and a linked-binary check in `xtask` the last. Failures travel as fixed-size [`wire::Message`]s; the parent half
//! writes the sentence.
//!
//! Must not: know configurations, host policy or texts. Tests: in the modules for what is pure, and in the `tests` package with
//! real containers for the rest.
#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod program;
pub mod wire;
