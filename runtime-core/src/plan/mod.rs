//! Decides everything: from a valid configuration and [`crate::host::Facts`] to a list of small steps.
//!
//! No file system, no environment, no descriptors here. What a step needs is written into the arena while it is planned; the order of
//! the steps, and why it is that order, stands at the head of each file.
//!
//! Tests: golden plans in `tests/plans`, and beside the files.

pub(crate) mod added;
mod arena;
mod cgroup;
pub(crate) mod create;
pub(crate) mod devices;
pub(crate) mod exec;
pub(crate) mod hooks;
pub(crate) mod lsm;
pub(crate) mod memory;
pub(crate) mod mounts;
mod namespaces;
pub(crate) mod process;
pub(crate) mod script;
mod seccomp;
pub(crate) mod show;
pub(crate) mod sources;
