//! One system call as a filter sees it.
//!
//! Must not: judge. Tests: `tests/`.

use crate::{Arch, table};

/// What the kernel shows a filter (`struct seccomp_data`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `AUDIT_ARCH_*`; see [`Arch::audit`].
    pub arch: u32,
    /// The number; with bit 30 when the call comes through x32.
    pub nr: u32,
    /// The arguments, 64 bits each.
    pub args: [u64; 6],
    /// The address of the instruction that made the call.
    pub ip: u64,
}

impl Call {
    /// Call `nr` of `arch`; for x32 the number has bit 30.
    pub fn new(arch: Arch, nr: u32, args: [u64; 6]) -> Self {
        Self { arch: arch.audit(), nr, args, ip: 0 }
    }

    /// The call `name` of `arch`, `None` when it does not exist there.
    pub fn named(arch: Arch, name: &str, args: [u64; 6]) -> Option<Self> {
        Some(Self::new(arch, table::number_of(arch, name)?, args))
    }
}
