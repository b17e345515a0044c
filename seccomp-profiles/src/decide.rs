//! What a policy says about one call, read from the policy itself.
//!
//! Naive on purpose and shares no code with the compiler: every name of every rule is looked at. It names the rule, for
//! messages ("errno 38 by /linux/seccomp/syscalls/20"), and the tests compare every program with it.
//! Must not: look at a program. Tests: `tests/semantics.rs`, and all that compare with it.

use crate::compile::UNLISTED;
use crate::table::number_of;
use crate::{Action, Arch, Arg, Call, Op, Policy, Rule};

/// What a policy answers to a call, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// What happens.
    pub action: Action,
    /// Because of what.
    pub reason: Reason,
}

/// Why a policy answers as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// This rule, from 0, is the first that matches.
    Rule(usize),
    /// No rule matches.
    Default,
    /// No rule matches, and the number is above every number the policy names.
    NewerThanPolicy,
    /// The policy does not list the architecture.
    UnlistedArch,
}

/// What `policy` answers to `call` on a kernel of architecture `native`.
pub fn decide(policy: &Policy<'_>, native: Arch, call: &Call) -> Decision {
    let Some(arch) = arch_of(policy, native, call) else {
        return Decision { action: UNLISTED, reason: Reason::UnlistedArch };
    };
    for (at, rule) in policy.rules.iter().enumerate() {
        let named = rule.names.iter().any(|name| number_of(arch, name) == Some(call.nr));
        if named && matches(rule, arch, call) {
            return Decision { action: rule.action, reason: Reason::Rule(at) };
        }
    }
    if is_newer(policy, arch, call.nr) {
        return Decision { action: Action::Errno(38), reason: Reason::NewerThanPolicy };
    }
    Decision { action: policy.default, reason: Reason::Default }
}

/// The architecture whose call it is, when the policy covers it.
fn arch_of(policy: &Policy<'_>, native: Arch, call: &Call) -> Option<Arch> {
    let covers =
        |arch: Arch| arch == native || (policy.architectures.contains(&arch) && arch.runs_on(native));
    let high = call.nr >= 0x4000_0000;
    let arch = Arch::ALL.into_iter().find(|arch| arch.audit() == call.arch)?;
    if arch != Arch::X86_64 {
        return Some(arch).filter(|&arch| covers(arch));
    }
    if high && covers(Arch::X32) {
        Some(Arch::X32)
    } else if (!high || call.nr == u32::MAX) && covers(Arch::X86_64) {
        Some(Arch::X86_64)
    } else {
        None
    }
}

fn matches(rule: &Rule<'_>, arch: Arch, call: &Call) -> bool {
    let holds = |arg: &Arg| {
        let value = usize::try_from(arg.index).ok().and_then(|index| call.args.get(index));
        value.is_some_and(|&value| compare(arg, value, arch.compares_64_bits()))
    };
    let uses = |index: u32| rule.args.iter().filter(|arg| arg.index == index).count();
    if rule.args.iter().any(|arg| uses(arg.index) > 1) {
        rule.args.iter().any(holds)
    } else {
        rule.args.iter().all(holds)
    }
}

fn compare(arg: &Arg, value: u64, wide: bool) -> bool {
    let cut = |n: u64| if wide { n } else { n & 0xffff_ffff };
    let (a, b) = (cut(value), cut(arg.value));
    match arg.op {
        Op::Eq => a == b,
        Op::Ne => a != b,
        Op::Lt => a < b,
        Op::Le => a <= b,
        Op::Gt => a > b,
        Op::Ge => a >= b,
        Op::MaskedEq => a & b == cut(arg.value_two) & b,
    }
}

/// Whether the number is above every one the policy names, and the default is one that denies.
fn is_newer(policy: &Policy<'_>, arch: Arch, nr: u32) -> bool {
    if matches!(policy.default, Action::Allow | Action::Log | Action::Trace(_)) {
        return false;
    }
    // Numbers that are no sign of age.
    let apart = |nr: u32| match arch {
        Arch::X32 => (0x4000_0000 + 512..=0x4000_0000 + 547).contains(&nr),
        Arch::Arm => (0x000f_0000..=0x000f_0fff).contains(&nr),
        _ => false,
    };
    let names = policy.rules.iter().flat_map(|rule| &rule.names);
    let newest = names.filter_map(|name| number_of(arch, name)).filter(|&nr| !apart(nr)).max();
    match newest {
        None => false,
        Some(newest) if matches!(arch, Arch::S390 | Arch::S390x) && nr == 0 => newest > 0,
        Some(newest) => nr > newest && !apart(nr),
    }
}
