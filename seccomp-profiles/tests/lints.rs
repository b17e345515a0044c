//! Each lint in a policy that has the fault and in one that has not.

mod common;

use common::{ENGINES, parse};
use coracle_seccomp::{Action, Arch, Arg, Flags, LintKind, Op, Policy, Rule, lint};

const EPERM: Action = Action::Errno(1);

fn rule(name: &'static str, action: Action, args: &[Arg]) -> Rule<'static> {
    Rule { names: vec![name], action, args: args.to_vec() }
}

fn kinds(default: Action, listed: &[Arch], rules: Vec<Rule<'static>>) -> Vec<LintKind> {
    let policy = Policy { default, architectures: listed.to_vec(), flags: Flags::empty(), rules };
    lint(&policy, Arch::X86_64).into_iter().map(|lint| lint.kind).collect()
}

#[test]
fn high_bits() {
    let one = |default, action, arg| kinds(default, &[], vec![rule("socket", action, &[arg])]);
    for op in [Op::Ne, Op::Gt, Op::Ge] {
        assert_eq!(one(EPERM, Action::Allow, Arg::new(0, op, 40)), [LintKind::HighBits]);
        assert_eq!(one(Action::Allow, EPERM, Arg::new(0, op, 40)), []);
    }
    for op in [Op::Eq, Op::Lt, Op::Le] {
        assert_eq!(one(Action::Allow, EPERM, Arg::new(0, op, 40)), [LintKind::HighBits]);
        assert_eq!(one(EPERM, Action::Allow, Arg::new(0, op, 40)), []);
    }
    // The low half only, or an argument that is wide.
    assert_eq!(one(Action::Allow, EPERM, Arg::masked(0, 0xffff_ffff, 40)), []);
    assert_eq!(one(Action::Allow, EPERM, Arg::masked(0, u64::MAX, 40)), [LintKind::HighBits]);
    assert_eq!(kinds(Action::Allow, &[], vec![rule("mmap", EPERM, &[Arg::new(1, Op::Eq, 1)])]), []);
}

#[test]
fn wide_values_on_narrow_architectures() {
    let rules = || vec![rule("mmap", Action::Allow, &[Arg::new(1, Op::Lt, 1 << 32)])];
    assert_eq!(kinds(EPERM, &[Arch::X86], rules()), [LintKind::WideValue]);
    assert_eq!(kinds(EPERM, &[], rules()), []);
}

#[test]
fn order() {
    let condition = [Arg::masked(1, 0xffff_ffff, 7)];
    let (allow, deny) =
        (|args: &[Arg]| rule("chmod", Action::Allow, args), |args: &[Arg]| rule("chmod", EPERM, args));
    assert_eq!(kinds(EPERM, &[], vec![allow(&[]), deny(&condition)]), [LintKind::Shadowed { by: 0 }]);
    assert_eq!(kinds(EPERM, &[], vec![allow(&[]), deny(&[])]), [LintKind::Shadowed { by: 0 }]);
    assert_eq!(kinds(EPERM, &[], vec![deny(&condition), allow(&[])]), [LintKind::LostInLibseccomp { to: 1 }]);
    assert_eq!(kinds(EPERM, &[], vec![allow(&[]), allow(&condition)]), []);
    assert_eq!(kinds(EPERM, &[], vec![deny(&condition)]), []);
}

#[test]
fn bypasses() {
    let socket = || rule("socket", Action::Allow, &[Arg::masked(0, 0xffff_ffff, 1)]);
    let through = LintKind::Bypassed { through: "socketcall" };
    let both = || vec![socket(), rule("socketcall", Action::Allow, &[])];
    assert_eq!(kinds(EPERM, &[Arch::X86], both()), [through]);
    // x86-64 has no socketcall.
    assert_eq!(kinds(EPERM, &[], both()), []);
    assert_eq!(kinds(EPERM, &[Arch::X86], vec![socket()]), []);
    let clone = rule("clone", Action::Allow, &[Arg::masked(0, 0x7e02_0000, 0)]);
    let clone3 = rule("clone3", Action::Allow, &[]);
    assert_eq!(kinds(EPERM, &[], vec![clone, clone3]), [LintKind::Bypassed { through: "clone3" }]);
}

#[test]
fn siblings_of_denied_calls() {
    let mount = || rule("mount", EPERM, &[]);
    assert_eq!(kinds(Action::Allow, &[], vec![mount()]), [LintKind::Sibling { allowed: "fsmount" }]);
    assert_eq!(kinds(EPERM, &[], vec![mount()]), []);
}

/// Docker's recorded profile compares the address family with 64 bits: `1 << 32 | 40` is AF_VSOCK and passes.
#[test]
fn dockers_own_profile() {
    let section = parse(ENGINES[0].1);
    let policy = common::policy(&section);
    let lints = lint(&policy, Arch::X86_64);
    let high: Vec<_> = lints.iter().filter(|lint| lint.kind == LintKind::HighBits).collect();
    assert_eq!(high.len(), 1);
    assert_eq!((high[0].name.as_str(), high[0].arg), ("socket", Some(0)));
}
