//! What is fuzzed, as plain functions: bytes in, a panic when a promise is broken.
//!
//! `fuzz_targets/` wraps each for libFuzzer, `src/bin/smoke.rs` runs all of them on stable over the seeds and pseudo-random mutations.
//!
//! Must not: reach for the machine, but for `record`, which reads a state directory of its own.
#![forbid(unsafe_code)]

mod compare;
mod documents;
mod formats;
mod seeds;
mod take;

pub use compare::{device_rules, seccomp};
pub use documents::{mount_options, plan, record, spec_load};
pub use formats::{dbus, program, wire};
pub use seeds::seeds;

/// A target: bytes in, a panic when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 9] = [
    ("spec_load", spec_load),
    ("mount_options", mount_options),
    ("seccomp", seccomp),
    ("device_rules", device_rules),
    ("plan", plan),
    ("record", record),
    ("wire", wire),
    ("dbus", dbus),
    ("program", program),
];
