//! A policy as a configuration states it.
//!
//! The types borrow from the configuration and prove nothing; [`compile`](crate::compile) checks them.
//! Must not: resolve names. Tests: below and in `tests/`.

use std::ops::BitOr;

use crate::{Action, Arch};

/// `linux.seccomp` of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy<'a> {
    /// `defaultAction` with `defaultErrnoRet`.
    pub default: Action,
    /// `architectures`; the native one is always added.
    pub architectures: Vec<Arch>,
    /// `flags`. When the configuration has none at all (absent, not empty) runc uses [`Flags::SPEC_ALLOW`].
    pub flags: Flags,
    /// `syscalls`, in the order of the file, which decides.
    pub rules: Vec<Rule<'a>>,
}

/// One entry of `syscalls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// `names`; at least one.
    pub names: Vec<&'a str>,
    /// `action` with `errnoRet`.
    pub action: Action,
    /// `args`; all must compare, unless an index occurs twice: then any.
    pub args: Vec<Arg>,
}

/// One entry of `args`: a comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// How it is compared.
    pub op: Op,
    /// With what; for [`Op::MaskedEq`] the mask.
    pub value: u64,
    /// For [`Op::MaskedEq`] what the masked argument is compared with; else without meaning.
    pub value_two: u64,
}

/// A comparison (`SCMP_CMP_*`); all are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants are the names of the specification without their prefix")]
pub enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    /// `argument & value == value_two & value`.
    MaskedEq,
}

impl Op {
    /// The names of the specification with their operators, as `features` prints them.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("SCMP_CMP_NE", Self::Ne),
        ("SCMP_CMP_LT", Self::Lt),
        ("SCMP_CMP_LE", Self::Le),
        ("SCMP_CMP_EQ", Self::Eq),
        ("SCMP_CMP_GE", Self::Ge),
        ("SCMP_CMP_GT", Self::Gt),
        ("SCMP_CMP_MASKED_EQ", Self::MaskedEq),
    ];

    /// The operator of a name like `SCMP_CMP_EQ`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, op)| op)
    }
}

impl Arg {
    /// `argument op value`.
    pub const fn new(index: u32, op: Op, value: u64) -> Self {
        Self { index, op, value, value_two: 0 }
    }

    /// `argument & mask == value & mask`.
    pub const fn masked(index: u32, mask: u64, value: u64) -> Self {
        Self { index, op: Op::MaskedEq, value: mask, value_two: value }
    }
}

/// `SECCOMP_FILTER_FLAG_*`, to be handed to seccomp(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Every thread of the process gets the filter (3.17).
    pub const TSYNC: Self = Self(1);
    /// What the filter denies is logged, but for ALLOW (4.14).
    pub const LOG: Self = Self(1 << 1);
    /// No speculation mitigations for the filtered process (4.17).
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    /// A listener is returned (5.0). Set by [`compile`](crate::compile) when an action is NOTIFY; no configuration names it.
    pub const NEW_LISTENER: Self = Self(1 << 3);
    /// With TSYNC: a thread that cannot follow is ESRCH, not its number (5.7).
    pub const TSYNC_ESRCH: Self = Self(1 << 4);
    /// A notified call that the listener has received can only be interrupted by a fatal signal (5.19). Needs NOTIFY.
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);

    /// The names a configuration may use, as `features` prints them.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("SECCOMP_FILTER_FLAG_TSYNC", Self::TSYNC),
        ("SECCOMP_FILTER_FLAG_LOG", Self::LOG),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", Self::SPEC_ALLOW),
        ("SECCOMP_FILTER_FLAG_TSYNC_ESRCH", Self::TSYNC_ESRCH),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", Self::WAIT_KILLABLE_RECV),
    ];

    /// No flag.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// The flag of a name like `SECCOMP_FILTER_FLAG_LOG`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, flag)| flag)
    }

    /// The bits for seccomp(2).
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_the_kernels_bits() {
        // linux/seccomp.h
        let bits: Vec<u32> = Flags::NAMES.into_iter().map(|(_, flag)| flag.bits()).collect();
        assert_eq!(bits, [1, 2, 4, 16, 32]);
        assert_eq!(Flags::from_name("SECCOMP_FILTER_FLAG_NEW_LISTENER"), None);
        let both = Flags::LOG | Flags::TSYNC;
        assert!(both.contains(Flags::LOG) && !both.contains(Flags::LOG | Flags::SPEC_ALLOW));
    }

    #[test]
    fn operators_by_name() {
        assert_eq!(Op::from_name("SCMP_CMP_MASKED_EQ"), Some(Op::MaskedEq));
        assert_eq!(Op::from_name("SCMP_CMP_"), None);
    }
}
