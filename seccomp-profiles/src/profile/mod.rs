//! Policies as data.
//!
//! Must not: read files or ask the machine; what a profile depends on is an argument. Tests: `tests/profiles.rs`.

mod docker;
mod strict;

pub use docker::docker_default;
pub use strict::strict;

use crate::{Action, Arg, Policy, Rule};

/// The capabilities a container is given, by their numbers in `linux/capability.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    const DAC_READ_SEARCH: Self = Self(1 << 2);
    const SYS_MODULE: Self = Self(1 << 16);
    const SYS_RAWIO: Self = Self(1 << 17);
    const SYS_CHROOT: Self = Self(1 << 18);
    const SYS_PTRACE: Self = Self(1 << 19);
    const SYS_PACCT: Self = Self(1 << 20);
    const SYS_ADMIN: Self = Self(1 << 21);
    const SYS_BOOT: Self = Self(1 << 22);
    const SYS_NICE: Self = Self(1 << 23);
    const SYS_TIME: Self = Self(1 << 25);
    const SYS_TTY_CONFIG: Self = Self(1 << 26);
    const SYSLOG: Self = Self(1 << 34);
    const PERFMON: Self = Self(1 << 38);
    const BPF: Self = Self(1 << 39);

    /// A set with bit n for capability n, as in `CapEff` of `/proc/PID/status`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// No capability.
    pub const fn empty() -> Self {
        Self(0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The words of a text.
fn words(text: &'static str) -> Vec<&'static str> {
    text.split_ascii_whitespace().collect()
}

fn rule(names: &'static str, action: Action, args: &[Arg]) -> Rule<'static> {
    Rule { names: words(names), action, args: args.to_vec() }
}

fn allow(policy: &mut Policy<'static>, names: &'static str) {
    policy.rules.push(rule(names, Action::Allow, &[]));
}

/// One rule per value: the low half of argument `index` must be one of them. The kernel takes no more of it.
fn allow_values(policy: &mut Policy<'static>, name: &'static str, index: u32, values: &[u32]) {
    for &value in values {
        let arg = Arg::masked(index, u64::from(u32::MAX), u64::from(value));
        policy.rules.push(rule(name, Action::Allow, &[arg]));
    }
}

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`.
const CLONE_NEW: u64 = 0x7e02_0000;

/// Lets `clone` make processes and threads but no namespaces. `clone3`, whose flags lie behind a pointer, does not exist
/// then: C libraries fall back on `clone` for ENOSYS and for nothing else.
fn clone_without_namespaces(policy: &mut Policy<'static>, native: crate::Arch) {
    let swapped = matches!(native, crate::Arch::S390 | crate::Arch::S390x);
    let flags = if swapped { 1 } else { 0 };
    policy.rules.push(rule("clone", Action::Allow, &[Arg::masked(flags, CLONE_NEW, 0)]));
    policy.rules.push(rule("clone3", Action::Errno(crate::action::ENOSYS), &[]));
}
