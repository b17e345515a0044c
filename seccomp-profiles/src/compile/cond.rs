//! Comparisons of arguments: what a rule compares, and the code for it.
//!
//! Written here and not taken from seccompiler, because that loads both halves for every comparison, exists only for
//! little-endian machines and cannot share returns; it is an oracle in the tests instead.
//! Must not: reorder rules. Tests: below, `tests/seccompiler.rs`, `tests/equivalence.rs`.

use crate::bpf::{self, Backward, Target};
use crate::{Arch, Arg, Op, Policy, Rule};

/// A comparison without negation, cut to the width it is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    index: u32,
    base: Base,
    value: u64,
    /// Take it when the base comparison does not hold.
    negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Eq,
    Gt,
    Ge,
    Masked(u64),
}

/// When a rule matches a call of one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    Never,
    /// When all tests of any of these hold; none is empty.
    Any(Vec<Vec<Test>>),
}

/// A test that is decided without looking.
enum Known {
    Test(Test),
    Always,
    Never,
}

fn test(arg: &Arg, wide: bool) -> Known {
    let all = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let value = arg.value & all;
    let with = |base, negated| Known::Test(Test { index: arg.index, base, value, negated });
    match arg.op {
        Op::Eq => with(Base::Eq, false),
        Op::Ne => with(Base::Eq, true),
        Op::Ge if value == 0 => Known::Always,
        Op::Lt if value == 0 => Known::Never,
        Op::Ge => with(Base::Ge, false),
        Op::Lt => with(Base::Ge, true),
        Op::Gt if value == all => Known::Never,
        Op::Le if value == all => Known::Always,
        Op::Gt => with(Base::Gt, false),
        Op::Le => with(Base::Gt, true),
        Op::MaskedEq if value == 0 => Known::Always,
        Op::MaskedEq => Known::Test(Test {
            index: arg.index,
            base: Base::Masked(value),
            value: arg.value_two & value,
            negated: false,
        }),
    }
}

impl Condition {
    fn of(rule: &Rule<'_>, wide: bool) -> Self {
        let twice = rule
            .args
            .iter()
            .enumerate()
            .any(|(at, arg)| rule.args.iter().take(at).any(|before| before.index == arg.index));
        // An index that occurs twice makes every comparison a rule of its own (runc: "old behavior").
        let alone = rule.args.len();
        let together = if twice { 1 } else { alone.max(1) };
        let mut any = Vec::new();
        if rule.args.is_empty() {
            return Self::Always;
        }
        for group in rule.args.chunks(together) {
            match Self::all(group, wide) {
                Ok(tests) if tests.is_empty() => return Self::Always,
                Ok(tests) => any.push(tests),
                Err(CannotHold) => {}
            }
        }
        if any.is_empty() { Self::Never } else { Self::Any(any) }
    }

    fn all(args: &[Arg], wide: bool) -> Result<Vec<Test>, CannotHold> {
        let mut tests = Vec::with_capacity(args.len());
        for arg in args {
            match test(arg, wide) {
                Known::Test(test) => tests.push(test),
                Known::Always => {}
                Known::Never => return Err(CannotHold),
            }
        }
        Ok(tests)
    }
}

struct CannotHold;

/// What each rule of a policy compares, at both widths; a width that no covered architecture has stays empty.
pub(super) struct Conditions {
    wide: Vec<Condition>,
    narrow: Vec<Condition>,
}

impl Conditions {
    pub(super) fn of(policy: &Policy<'_>, arches: &[Arch]) -> Self {
        let at = |wide: bool| {
            if arches.iter().any(|arch| arch.compares_64_bits() == wide) {
                policy.rules.iter().map(|rule| Condition::of(rule, wide)).collect()
            } else {
                Vec::new()
            }
        };
        Self { wide: at(true), narrow: at(false) }
    }

    pub(super) fn get(&self, rule: usize, wide: bool) -> Option<&Condition> {
        if wide { self.wide.get(rule) } else { self.narrow.get(rule) }
    }
}

/// How arguments lie in `struct seccomp_data`, and how much of them counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) wide: bool,
    pub(super) little: bool,
}

impl Layout {
    fn low(self, index: u32) -> u32 {
        bpf::ARGS + index * 8 + if self.little { 0 } else { 4 }
    }

    fn high(self, index: u32) -> u32 {
        bpf::ARGS + index * 8 + if self.little { 4 } else { 0 }
    }
}

/// Writes the code that goes to `yes` when any of `any` holds, else to `no`.
pub(super) fn write(
    code: &mut Backward,
    layout: Layout,
    any: &[Vec<Test>],
    yes: Target,
    no: Target,
) -> Target {
    let mut next = no;
    for all in any.iter().rev() {
        let mut then = yes;
        for test in all.iter().rev() {
            then = write_test(code, layout, *test, then, next);
        }
        next = then;
    }
    next
}

/// The two halves of a value. Truncation is the point.
fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

fn write_test(code: &mut Backward, layout: Layout, test: Test, yes: Target, no: Target) -> Target {
    let (yes, no) = if test.negated { (no, yes) } else { (yes, no) };
    let (high, low) = halves(test.value);
    match test.base {
        Base::Masked(mask) => {
            let (mask_high, mask_low) = halves(mask);
            let mut then = yes;
            if mask_low != 0 {
                then = masked(code, layout.low(test.index), mask_low, low, then, no);
            }
            if layout.wide && mask_high != 0 {
                then = masked(code, layout.high(test.index), mask_high, high, then, no);
            }
            then
        }
        Base::Eq => {
            let mut then = code.branch(bpf::JEQ, low, yes, no);
            then = code.load(layout.low(test.index), then);
            if layout.wide {
                then = code.branch(bpf::JEQ, high, then, no);
                then = code.load(layout.high(test.index), then);
            }
            then
        }
        Base::Gt | Base::Ge => {
            let order = if test.base == Base::Gt { bpf::JGT } else { bpf::JGE };
            let mut then = code.branch(order, low, yes, no);
            // GE 0 of the low half alone always holds, and then there is no branch to load for.
            if matches!(then, Target::At(_)) {
                then = code.load(layout.low(test.index), then);
            }
            if layout.wide {
                // A high half of 0 is equal or above, there is no third way.
                let unequal = if high == 0 { yes } else { code.branch(bpf::JGT, high, yes, no) };
                then = code.branch(bpf::JEQ, high, then, unequal);
                then = code.load(layout.high(test.index), then);
            }
            then
        }
    }
}

fn masked(code: &mut Backward, offset: u32, mask: u32, value: u32, yes: Target, no: Target) -> Target {
    let test = if value == 0 {
        code.branch(bpf::JSET, mask, no, yes)
    } else {
        let compared = code.branch(bpf::JEQ, value, yes, no);
        if mask == u32::MAX { compared } else { code.and(mask, compared) }
    };
    code.load(offset, test)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Action;

    fn rule(args: &[Arg]) -> Rule<'static> {
        Rule { names: vec!["read"], action: Action::Allow, args: args.to_vec() }
    }

    #[test]
    fn what_always_or_never_holds_needs_no_code() {
        let of = |arg, wide| Condition::of(&rule(&[arg]), wide);
        assert_eq!(Condition::of(&rule(&[]), true), Condition::Always);
        assert_eq!(of(Arg::new(0, Op::Ge, 0), true), Condition::Always);
        assert_eq!(of(Arg::new(0, Op::Lt, 0), true), Condition::Never);
        assert_eq!(of(Arg::new(0, Op::Le, u64::MAX), true), Condition::Always);
        assert_eq!(of(Arg::new(0, Op::Gt, u64::MAX), true), Condition::Never);
        assert_eq!(of(Arg::masked(0, 0, 7), true), Condition::Always);
        // The low half alone is compared: 2^32 is 0 there.
        assert_eq!(of(Arg::new(0, Op::Ge, 1 << 32), false), Condition::Always);
        assert!(matches!(of(Arg::new(0, Op::Ge, 1 << 32), true), Condition::Any(_)));
    }

    #[test]
    fn an_index_twice_makes_alternatives() {
        let two = [Arg::new(0, Op::Eq, 1), Arg::new(1, Op::Eq, 2)];
        let Condition::Any(any) = Condition::of(&rule(&two), true) else { panic!() };
        assert_eq!(any.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        let three = [Arg::new(0, Op::Eq, 1), Arg::new(1, Op::Eq, 2), Arg::new(0, Op::Eq, 3)];
        let Condition::Any(any) = Condition::of(&rule(&three), true) else { panic!() };
        assert_eq!(any.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
