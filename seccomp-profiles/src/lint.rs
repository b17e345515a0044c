//! Places where a policy does not do what its author probably meant.
//!
//! A lint changes nothing and is no error. Must not: affect a program. Tests: `tests/lints.rs`.

use std::fmt;

use crate::table::{narrow_args, number_of};
use crate::{Action, Arch, Arg, Op, Policy, Rule};

/// A doubtful place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lint {
    /// Which rule, from 0.
    pub rule: usize,
    /// Which of its arguments, from 0.
    pub arg: Option<usize>,
    /// The call it is about.
    pub name: String,
    /// What is doubtful.
    pub kind: LintKind,
}

/// What is doubtful about a place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LintKind {
    /// The kernel takes 32 bits of the argument and the rule compares 64: other high bits, same call, other answer
    /// (CVE-2019-10063). Masked equality with a 32-bit mask has no such hole.
    HighBits,
    /// The value has more than 32 bits; a listed 32-bit architecture compares its low half only.
    WideValue,
    /// An earlier rule already answers every call of this name, with another action.
    Shadowed {
        /// That rule.
        by: usize,
    },
    /// A later rule answers all calls of this name otherwise. Here this rule wins where it matches; libseccomp ignores it.
    LostInLibseccomp {
        /// That rule.
        to: usize,
    },
    /// The call is filtered by argument, and this one does the same with its arguments behind a pointer.
    Bypassed {
        /// The call that does the same.
        through: &'static str,
    },
    /// The policy denies this call and allows by default, and so allows this newer or older form of it (CVE-2021-41133).
    Sibling {
        /// The other form.
        allowed: &'static str,
    },
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.kind {
            LintKind::HighBits => {
                write!(f, "{name}: the kernel ignores the high half of this argument, the rule does not")
            }
            LintKind::WideValue => {
                write!(f, "{name}: 32-bit architectures compare only the low half of this value")
            }
            LintKind::Shadowed { by } => write!(f, "{name}: rule {by} already decides every call"),
            LintKind::LostInLibseccomp { to } => {
                write!(f, "{name}: runtimes with libseccomp ignore this rule because of rule {to}")
            }
            LintKind::Bypassed { through } => {
                write!(f, "{name}: filtered by argument, but {through} does the same")
            }
            LintKind::Sibling { allowed } => write!(f, "{name}: denied, but {allowed} does the same"),
        }
    }
}

/// Calls that do what another does, where a filter cannot see their arguments.
const MULTIPLEXED: [(&str, &str); 7] = [
    ("socket", "socketcall"),
    ("socketpair", "socketcall"),
    ("setsockopt", "socketcall"),
    ("sendto", "socketcall"),
    ("clone", "clone3"),
    ("shmget", "ipc"),
    ("semget", "ipc"),
];

/// Calls that do one thing in several forms.
const SIBLINGS: [&[&str]; 9] = [
    &["mount", "fsmount", "move_mount", "open_tree", "open_tree_attr"],
    &["clone", "clone3"],
    &["unshare", "setns", "clone", "clone3"],
    &["chmod", "fchmod", "fchmodat", "fchmodat2"],
    &["open", "openat", "openat2", "creat"],
    &["execve", "execveat"],
    &["mkdir", "mkdirat"],
    &["init_module", "finit_module"],
    &["setxattr", "lsetxattr", "fsetxattr", "setxattrat"],
];

/// All doubtful places of `policy` on a kernel of architecture `native`, in the order of the rules.
pub fn lint(policy: &Policy<'_>, native: Arch) -> Vec<Lint> {
    let arches = crate::compile::covered(policy, native);
    let narrow = arches.iter().any(|arch| !arch.compares_64_bits());
    let wide = arches.iter().any(|arch| arch.compares_64_bits());
    let mut lints = Vec::new();
    for (at, rule) in policy.rules.iter().enumerate() {
        for &name in &rule.names {
            let mut found = |arg, kind| lints.push(Lint { rule: at, arg, name: name.to_owned(), kind });
            for (nth, arg) in rule.args.iter().enumerate() {
                if wide && is_cut(name, arg.index) && high_bits_matter(rule.action, arg) {
                    found(Some(nth), LintKind::HighBits);
                }
                let more = arg.value | if arg.op == Op::MaskedEq { arg.value_two } else { 0 };
                if narrow && more > u64::from(u32::MAX) {
                    found(Some(nth), LintKind::WideValue);
                }
            }
            if let Some(by) = decided_by(policy, 0..at, name) {
                found(None, LintKind::Shadowed { by });
                continue;
            }
            if !rule.args.is_empty() {
                if let Some(to) = decided_by(policy, at + 1..policy.rules.len(), name) {
                    found(None, LintKind::LostInLibseccomp { to });
                }
                if let Some(through) = bypass(policy, &arches, name) {
                    found(None, LintKind::Bypassed { through });
                }
            }
            if let Some(allowed) = sibling(policy, native, rule, name) {
                found(None, LintKind::Sibling { allowed });
            }
        }
    }
    // A rule that an earlier one shadows with the same action is harmless.
    lints.retain(|lint| match lint.kind {
        LintKind::Shadowed { by } | LintKind::LostInLibseccomp { to: by } => {
            let action = |rule: usize| policy.rules.get(rule).map(|rule| rule.action);
            action(by) != action(lint.rule)
        }
        _ => true,
    });
    lints
}

fn is_cut(name: &str, index: u32) -> bool {
    index < 6 && narrow_args(name) >> index & 1 != 0
}

/// Whether setting high bits gets a call through that would not get through without: by matching a rule that permits, or
/// by not matching one that denies.
fn high_bits_matter(action: Action, arg: &Arg) -> bool {
    match arg.op {
        Op::Ne | Op::Gt | Op::Ge => action.permits(),
        Op::Eq | Op::Lt | Op::Le => !action.permits(),
        Op::MaskedEq => !action.permits() && arg.value > u64::from(u32::MAX),
    }
}

/// The first of these rules that answers every call of `name`.
fn decided_by(policy: &Policy<'_>, mut rules: std::ops::Range<usize>, name: &str) -> Option<usize> {
    rules.find(|&at| {
        policy.rules.get(at).is_some_and(|rule| rule.args.is_empty() && rule.names.contains(&name))
    })
}

/// What the policy permits without looking at arguments.
fn permits(policy: &Policy<'_>, name: &str) -> bool {
    let rule = policy.rules.iter().find(|rule| rule.args.is_empty() && rule.names.contains(&name));
    rule.map_or(policy.default, |rule| rule.action).permits()
}

fn bypass(policy: &Policy<'_>, arches: &[Arch], name: &str) -> Option<&'static str> {
    let exists = |other: &str| arches.iter().any(|&arch| number_of(arch, other).is_some());
    let others = MULTIPLEXED.iter().filter(|(filtered, _)| *filtered == name).map(|&(_, other)| other);
    others.into_iter().find(|other| exists(other) && permits(policy, other))
}

fn sibling(policy: &Policy<'_>, native: Arch, rule: &Rule<'_>, name: &str) -> Option<&'static str> {
    if !policy.default.permits() || rule.action.permits() || !rule.args.is_empty() {
        return None;
    }
    let named = |other: &str| policy.rules.iter().any(|rule| rule.names.contains(&other));
    let forms = SIBLINGS.iter().filter(|forms| forms.contains(&name)).flat_map(|forms| forms.iter());
    forms.copied().find(|&other| number_of(native, other).is_some() && !named(other))
}
