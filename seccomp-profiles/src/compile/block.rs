//! The numbers of one `arch` value: which range of them gets which answer.
//!
//! Must not: know how ranges become branches (`tree`). Tests: `tests/equivalence.rs`, `tests/runc.rs`.

use super::cond::{self, Condition, Conditions, Layout};
use super::tree::{self, Leaf, Range};
use super::{CompileError, Named, TOO_LONG, UNLISTED};
use crate::action::ENOSYS;
use crate::bpf::{Backward, Target};
use crate::table::{self, ARM_PRIVATE, X32_BIT};
use crate::{Action, Arch, MAX_INSNS, Policy};

/// A number whose answer depends on arguments.
struct Code {
    layout: Layout,
    /// Rules with conditions, in the order of the file.
    rules: Vec<usize>,
    /// The value when none matches.
    otherwise: u32,
    written: Option<Target>,
}

/// All numbers that a filter sees under one `arch` value.
pub(super) struct Block<'p> {
    policy: &'p Policy<'p>,
    conditions: &'p Conditions,
    ranges: Vec<Range>,
    codes: Vec<Code>,
}

/// What numbers without a rule answer: starts of ranges with their values.
type Background = Vec<(u32, u32)>;

impl<'p> Block<'p> {
    pub(super) fn new(policy: &'p Policy<'p>, conditions: &'p Conditions) -> Self {
        Self { policy, conditions, ranges: Vec::with_capacity(256), codes: Vec::new() }
    }

    /// Fills in the number tables of `arches`, which all have the same `arch` value.
    pub(super) fn fill(&mut self, arches: impl Iterator<Item = Arch>, named: &[Named]) {
        let unlisted = UNLISTED.value();
        let (mut low, mut high) = (None, None);
        for arch in arches {
            if arch == Arch::X32 { high = Some(arch) } else { low = Some(arch) }
        }
        if low.is_none() {
            tree::push(&mut self.ranges, 0, Leaf::Answer(unlisted));
        }
        let mut end = unlisted;
        if let Some(arch) = low {
            let numbers = numbers(arch, named);
            let background = self.background(arch, &numbers);
            end = background.last().map_or(unlisted, |&(_, value)| value);
            self.table(arch, &numbers, &background);
        }
        if let Some(arch) = high {
            let numbers = numbers(arch, named);
            let background = self.background(arch, &numbers);
            self.table(arch, &numbers, &background);
        } else if low == Some(Arch::X86_64) {
            tree::push(&mut self.ranges, X32_BIT, Leaf::Answer(unlisted));
            // -1 is what a tracer writes to skip a call, no x32 call (libseccomp excepts it as well).
            tree::push(&mut self.ranges, u32::MAX, Leaf::Answer(end));
        }
    }

    /// What the numbers of `arch` answer that no rule names. Starts where the table starts.
    fn background(&self, arch: Arch, numbers: &[(u32, usize)]) -> Background {
        let start = if arch == Arch::X32 { X32_BIT } else { 0 };
        let default = self.policy.default.value();
        let newer = Action::Errno(ENOSYS).value();
        let newest = numbers.iter().map(|&(nr, _)| nr).filter(|&nr| in_sequence(arch, nr)).max();
        let Some(newest) = newest.filter(|_| !self.policy.default.is_permissive_default()) else {
            return vec![(start, default)];
        };
        let mut background = Vec::with_capacity(5);
        if matches!(arch, Arch::S390 | Arch::S390x) && newest > 0 {
            // The kernel sets an unknown number that came in a register to 0.
            background.extend([(0, newer), (1, default)]);
        } else {
            background.push((start, default));
        }
        background.push((newest.saturating_add(1), newer));
        if let Some((first, last)) = apart(arch).filter(|&(first, _)| first > newest) {
            background.extend([(first, default), (last + 1, newer)]);
        }
        background
    }

    /// Adds the ranges of one table, which begin after those that are there.
    fn table(&mut self, arch: Arch, numbers: &[(u32, usize)], background: &Background) {
        let layout = Layout { wide: arch.compares_64_bits(), little: arch.is_little_endian() };
        let mut rest = background.as_slice();
        let mut answer = 0;
        for group in numbers.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(nr, _)) = group.first() else { continue };
            while let Some((&(start, value), tail)) = rest.split_first() {
                if start > nr {
                    break;
                }
                answer = value;
                rest = tail;
                tree::push(&mut self.ranges, start, Leaf::Answer(value));
            }
            let leaf = self.leaf(group, layout);
            tree::push(&mut self.ranges, nr, leaf);
            let after = nr.saturating_add(1);
            tree::push(&mut self.ranges, after, Leaf::Answer(answer));
        }
        for &(start, value) in rest {
            tree::push(&mut self.ranges, start, Leaf::Answer(value));
        }
    }

    /// The answer of one number, given all rules that name it. Where none matches it is the default: a number that is
    /// named is never newer than the newest.
    fn leaf(&mut self, group: &[(u32, usize)], layout: Layout) -> Leaf {
        let action = |rule: usize| self.policy.rules.get(rule).map_or(UNLISTED, |rule| rule.action).value();
        let mut rules = Vec::new();
        let mut otherwise = self.policy.default.value();
        for &(_, rule) in group {
            match self.conditions.get(rule, layout.wide) {
                None | Some(Condition::Never) => {}
                Some(Condition::Any(_)) => rules.push(rule),
                Some(Condition::Always) => {
                    otherwise = action(rule);
                    break;
                }
            }
        }
        // What the last rules answer is the answer without them: they need no code.
        while rules.last().is_some_and(|&rule| action(rule) == otherwise) {
            rules.pop();
        }
        if rules.is_empty() {
            return Leaf::Answer(otherwise);
        }
        let known = self
            .codes
            .iter()
            .position(|code| code.layout == layout && code.otherwise == otherwise && code.rules == rules);
        Leaf::Code(known.unwrap_or_else(|| {
            self.codes.push(Code { layout, rules, otherwise, written: None });
            self.codes.len() - 1
        }))
    }

    /// Writes the block; it starts with the load of the number.
    pub(super) fn write(mut self, code: &mut Backward) -> Result<Target, CompileError> {
        let ranges = std::mem::take(&mut self.ranges);
        let top = tree::write(code, &ranges, &mut |code, leaf| self.write_leaf(code, leaf))?;
        Ok(code.load(crate::bpf::NR, top))
    }

    fn write_leaf(&mut self, code: &mut Backward, leaf: Leaf) -> Result<Target, CompileError> {
        let at = match leaf {
            Leaf::Answer(value) => return Ok(Target::Ret(value)),
            Leaf::Code(at) => at,
        };
        let entry = self.codes.get_mut(at).ok_or(TOO_LONG)?;
        if let Some(written) = entry.written {
            return Ok(written);
        }
        let mut next = Target::Ret(entry.otherwise);
        for &rule in entry.rules.iter().rev() {
            if code.len() > MAX_INSNS {
                return Err(TOO_LONG);
            }
            let condition = self.conditions.get(rule, entry.layout.wide);
            if let (Some(Condition::Any(any)), Some(rule)) = (condition, self.policy.rules.get(rule)) {
                next = cond::write(code, entry.layout, any, Target::Ret(rule.action.value()), next);
            }
        }
        entry.written = Some(next);
        Ok(next)
    }
}

/// The numbers of the named calls on `arch` with their rules: sorted by number, then in the order of the file.
fn numbers(arch: Arch, named: &[Named]) -> Vec<(u32, usize)> {
    let number = |named: &Named| Some((table::number(arch, named.id)?, named.rule));
    let mut numbers: Vec<(u32, usize)> = named.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Numbers that say nothing about age: x32's own copies of old calls, and ARM's private calls.
fn apart(arch: Arch) -> Option<(u32, u32)> {
    match arch {
        Arch::X32 => Some((X32_BIT + 512, X32_BIT + 547)),
        Arch::Arm => Some((ARM_PRIVATE, ARM_PRIVATE + 0xfff)),
        _ => None,
    }
}

fn in_sequence(arch: Arch, nr: u32) -> bool {
    apart(arch).is_none_or(|(first, last)| !(first..=last).contains(&nr))
}
