//! The comparators against those of seccompiler, over its three architectures and all operators.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

mod common;

use std::collections::BTreeMap;

use common::run;
use coracle_seccomp::{Action, Arch, Arg, Call, Flags, Insn, Op, Policy, Rule, compile, number_of};
use proptest::prelude::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

const ARCHES: [(Arch, TargetArch); 3] = [
    (Arch::X86_64, TargetArch::x86_64),
    (Arch::Aarch64, TargetArch::aarch64),
    (Arch::Riscv64, TargetArch::riscv64),
];

fn condition(arg: &Arg) -> SeccompCondition {
    let (op, value) = match arg.op {
        Op::Ne => (SeccompCmpOp::Ne, arg.value),
        Op::Lt => (SeccompCmpOp::Lt, arg.value),
        Op::Le => (SeccompCmpOp::Le, arg.value),
        Op::Eq => (SeccompCmpOp::Eq, arg.value),
        Op::Ge => (SeccompCmpOp::Ge, arg.value),
        Op::Gt => (SeccompCmpOp::Gt, arg.value),
        _ => (SeccompCmpOp::MaskedEq(arg.value), arg.value_two),
    };
    let index = u8::try_from(arg.index).unwrap();
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).unwrap()
}

/// seccompiler's program for rules on one call that allow.
fn theirs(rules: &[Vec<Arg>], nr: u32, arch: TargetArch) -> Vec<Insn> {
    let rules =
        rules.iter().map(|args| SeccompRule::new(args.iter().map(condition).collect()).unwrap()).collect();
    let filter = SeccompFilter::new(
        BTreeMap::from([(i64::from(nr), rules)]),
        SeccompAction::Errno(1),
        SeccompAction::Allow,
        arch,
    )
    .unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    program.iter().map(|insn| Insn { code: insn.code, jt: insn.jt, jf: insn.jf, k: insn.k }).collect()
}

fn assert_same(rules: &[Vec<Arg>], native: Arch, target: TargetArch) {
    let policy = Policy {
        default: Action::Errno(1),
        architectures: vec![],
        flags: Flags::empty(),
        rules: rules
            .iter()
            .map(|args| Rule { names: vec!["ioctl"], action: Action::Allow, args: args.clone() })
            .collect(),
    };
    let nr = number_of(native, "ioctl").unwrap();
    let ours = compile(&policy, native).unwrap().insns;
    let theirs = theirs(rules, nr, target);
    for args in common::args(&policy, native, nr) {
        let call = Call::new(native, nr, args);
        assert_eq!(run(&ours, &call), run(&theirs, &call), "{args:x?} {rules:?}");
    }
}

/// Every operator with every kind of value, alone.
#[test]
fn each_operator() {
    let values = [0, 1, 0xffff_fffe, 0xffff_ffff, 1 << 32, (1 << 32) | 1, 1 << 63, u64::MAX - 1, u64::MAX];
    for (native, target) in ARCHES {
        for (_, op) in Op::NAMES {
            for value in values {
                for value_two in [0, value, 1 << 32] {
                    assert_same(&[vec![Arg { index: 1, op, value, value_two }]], native, target);
                }
            }
        }
    }
}

fn any_rule() -> impl Strategy<Value = Vec<Arg>> {
    let value = prop_oneof![0..4_u64, (0..64_u32).prop_map(|bit| 1 << bit), any::<u64>()];
    let arg = (0..7_usize, value.clone(), value);
    proptest::collection::btree_map(0..6_u32, arg, 1..3).prop_map(|args| {
        let arg = |(index, (op, value, value_two)): (u32, (usize, u64, u64))| Arg {
            index,
            op: Op::NAMES[op].1,
            value,
            value_two,
        };
        args.into_iter().map(arg).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn several_rules(rules in proptest::collection::vec(any_rule(), 1..5), arch in 0..3_usize) {
        assert_same(&rules, ARCHES[arch].0, ARCHES[arch].1);
    }
}
