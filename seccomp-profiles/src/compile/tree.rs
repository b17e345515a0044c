//! Ranges of numbers and the binary tree over them.
//!
//! Equal neighbours are one range, so the tree is as deep as the logarithm of the number of *changes*, not of system
//! calls. A single number between two ranges that answer alike costs one comparison instead of two. Only instructions
//! that the kernel's cache of constant answers understands (5.11) stand between the number and an answer.
//! Must not: know what an answer means. Tests: below and `tests/equivalence.rs`.

use super::{CompileError, TOO_LONG};
use crate::MAX_INSNS;
use crate::bpf::{self, Backward, Target};

/// What a range answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// This value.
    Answer(u32),
    /// What the code with this index computes.
    Code(usize),
}

/// Numbers from `start` to the next range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) leaf: Leaf,
}

/// Adds a range behind the others; a start that is there already is replaced, an equal neighbour is joined.
pub(super) fn push(ranges: &mut Vec<Range>, start: u32, leaf: Leaf) {
    while ranges.last().is_some_and(|last| last.start >= start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.leaf != leaf) {
        ranges.push(Range { start, leaf });
    }
}

/// Writes a leaf and says where it is.
type WriteLeaf<'a> = dyn FnMut(&mut Backward, Leaf) -> Result<Target, CompileError> + 'a;

/// Writes the code that goes to the leaf of the range that A is in. The first range starts at 0.
pub(super) fn write(
    code: &mut Backward,
    ranges: &[Range],
    leaf: &mut WriteLeaf<'_>,
) -> Result<Target, CompileError> {
    if code.len() > MAX_INSNS {
        return Err(TOO_LONG);
    }
    match *ranges {
        [] => Err(TOO_LONG),
        [only] => leaf(code, only.leaf),
        [left, right] => {
            let yes = leaf(code, right.leaf)?;
            let no = leaf(code, left.leaf)?;
            Ok(code.branch(bpf::JGE, right.start, yes, no))
        }
        [around, hole, after] if is_hole(around, hole, after) => {
            let no = leaf(code, around.leaf)?;
            let yes = leaf(code, hole.leaf)?;
            Ok(code.branch(bpf::JEQ, hole.start, yes, no))
        }
        [a, hole, b, other, c] if is_hole(a, hole, b) && is_hole(b, other, c) => {
            let no = write(code, &[b, other, c], leaf)?;
            let yes = leaf(code, hole.leaf)?;
            Ok(code.branch(bpf::JEQ, hole.start, yes, no))
        }
        _ => {
            let (left, right) = ranges.split_at(middle(ranges));
            let at = right.first().map_or(0, |range| range.start);
            let yes = write(code, right, leaf)?;
            let no = write(code, left, leaf)?;
            Ok(code.branch(bpf::JGE, at, yes, no))
        }
    }
}

/// Whether `hole` is one number between two ranges that answer alike.
fn is_hole(before: Range, hole: Range, after: Range) -> bool {
    before.leaf == after.leaf && hole.start.checked_add(1) == Some(after.start)
}

/// Where to split: near the middle, beside rather than at a hole.
fn middle(ranges: &[Range]) -> usize {
    let half = ranges.len() / 2;
    let hole = |at: usize| match at.checked_sub(1).and_then(|from| ranges.get(from..at + 2)) {
        Some(&[before, hole, after]) => is_hole(before, hole, after),
        _ => false,
    };
    let clean = |at: &usize| *at > 0 && *at < ranges.len() && !hole(*at) && !hole(at - 1);
    [half, half + 1, half.saturating_sub(1)].into_iter().find(clean).unwrap_or(half)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, evaluate};

    fn run(ranges: &[Range]) -> Vec<crate::Insn> {
        let mut code = Backward::default();
        let top = write(&mut code, ranges, &mut |_, leaf| match leaf {
            Leaf::Answer(value) => Ok(Target::Ret(value)),
            Leaf::Code(_) => unreachable!(),
        });
        code.load(bpf::NR, top.unwrap());
        code.finish()
    }

    #[test]
    fn equal_neighbours_are_one_range() {
        let mut ranges = Vec::new();
        for (start, value) in [(0, 1), (5, 1), (6, 2), (7, 2), (7, 3), (6, 1), (9, 2)] {
            push(&mut ranges, start, Leaf::Answer(value));
        }
        let seen: Vec<_> = ranges.iter().map(|range| (range.start, range.leaf)).collect();
        assert_eq!(seen, [(0, Leaf::Answer(1)), (9, Leaf::Answer(2))]);
    }

    #[test]
    fn a_hole_costs_one_comparison() {
        let mut ranges = Vec::new();
        for (start, value) in [(0, 1), (5, 2), (6, 1)] {
            push(&mut ranges, start, Leaf::Answer(value));
        }
        // Load, compare, two returns.
        assert_eq!(run(&ranges).len(), 4);
    }

    #[test]
    fn every_number_finds_its_range() {
        // All answer patterns of twelve numbers.
        for pattern in 0..1_u32 << 12 {
            let mut ranges = Vec::new();
            for nr in 0..12 {
                push(&mut ranges, nr, Leaf::Answer(pattern >> nr & 1));
            }
            let program = run(&ranges);
            for nr in (0..12).chain([12, u32::MAX]) {
                let call = Call { arch: 0, nr, args: [0; 6], ip: 0 };
                let expect = pattern >> nr.min(11) & 1;
                assert_eq!(evaluate(&program, &call).unwrap().value, expect, "{pattern:b} {nr}");
            }
        }
    }
}
