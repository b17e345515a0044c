//! Calls that no safe wrapper covers: the parent half's only place with unsafe code.
//!
//! Must not: decide anything. Each file wraps calls one to one and returns the kernel's error number.

pub(crate) mod bpf;
pub(crate) mod clone;
#[cfg(target_arch = "x86_64")]
mod early;
pub(crate) mod exe;
pub mod memory;
pub(crate) mod ns;
pub(crate) mod proc;
pub(crate) mod regex;
