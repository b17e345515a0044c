//! A compiled program answers what the policy says: real policies on every native architecture, policies of every
//! awkward shape, and random ones.

#![allow(clippy::indexing_slicing, reason = "a panic fails the test")]

mod common;

use common::{ENGINES, assert_equivalent, parse, policy};
use coracle_seccomp::{
    Action, Arch, Arg, CompileErrorKind, Flags, MAX_INSNS, Op, Policy, Rule, compile, names, profile,
};
use proptest::prelude::*;

#[test]
fn real_policies_on_every_architecture() {
    for (name, text) in ENGINES {
        let section = parse(text);
        let mut policy = policy(&section);
        assert!(compile(&policy, Arch::X86_64).unwrap().warnings.is_empty(), "{name}");
        policy.architectures = Arch::ALL.to_vec();
        // The number tables differ by architecture, the engines' policies hardly: one of them goes everywhere.
        let natives = if name == "docker" { &NATIVE[..] } else { &[Arch::X86_64, Arch::S390x] };
        for &native in natives {
            assert_equivalent(&policy, native);
        }
    }
}

/// One of each family, width and endianness.
const NATIVE: [Arch; 9] = [
    Arch::X86_64,
    Arch::X32,
    Arch::Aarch64,
    Arch::Mips64,
    Arch::Mipsel,
    Arch::Ppc64le,
    Arch::S390x,
    Arch::Riscv64,
    Arch::Parisc,
];

#[test]
fn architectures_as_listed() {
    let section = parse(ENGINES[0].1);
    let all = policy(&section);
    for listed in [vec![], vec![Arch::X86], vec![Arch::X32], vec![Arch::X86, Arch::X32], vec![Arch::Aarch64]]
    {
        for native in [Arch::X86_64, Arch::X86, Arch::X32] {
            assert_equivalent(&Policy { architectures: listed.clone(), ..all.clone() }, native);
        }
    }
}

#[test]
fn every_default_action() {
    let section = parse(ENGINES[0].1);
    let all = policy(&section);
    for name in Action::NAMES {
        let default = Action::from_name(name, None).unwrap();
        assert_equivalent(&Policy { default, ..all.clone() }, Arch::X86_64);
        assert_equivalent(&Policy { default, ..all.clone() }, Arch::S390x);
    }
}

fn rule<'a>(name: &'a str, action: Action, args: &[Arg]) -> Rule<'a> {
    Rule { names: vec![name], action, args: args.to_vec() }
}

fn with_rules(rules: Vec<Rule<'_>>) -> Policy<'_> {
    Policy { default: Action::Errno(1), architectures: Arch::ALL.to_vec(), flags: Flags::empty(), rules }
}

/// Every call has a comparison of its own, so nothing joins, and jumps are far.
#[test]
fn every_call_with_its_own_arguments() {
    for (native, listed) in [(Arch::X86_64, vec![]), (Arch::Arm, vec![]), (Arch::X86, vec![])] {
        let calls: Vec<(&str, u32)> = names(native).collect();
        let rules = calls
            .iter()
            .enumerate()
            .map(|(at, (name, nr))| {
                let op = Op::NAMES[at % 4].1;
                rule(name, Action::Allow, &[Arg::new(nr % 6, op, u64::from(*nr) << 20)])
            })
            .collect();
        let policy = Policy { architectures: listed, ..with_rules(rules) };
        let filter = compile(&policy, native).unwrap();
        assert!(filter.insns.len() > 1000 && filter.insns.len() <= MAX_INSNS, "{}", filter.insns.len());
        common::assert_equivalent(&policy, native);
    }
}

/// One call has so many comparisons that they alone are far longer than a jump.
#[test]
fn one_call_with_many_rules() {
    let rules = (0..400_u64)
        .map(|at| {
            rule("ioctl", Action::Errno((at % 3) as u16 + 7), &[Arg::new(1, Op::Eq, (at << 31) | (at * 7))])
        })
        .collect();
    let policy = Policy { architectures: vec![], ..with_rules(rules) };
    assert!(compile(&policy, Arch::X86_64).unwrap().insns.len() > 1500);
    common::assert_equivalent(&policy, Arch::X86_64);
}

#[test]
fn too_long_is_an_error() {
    let rules: Vec<Rule<'_>> =
        (0..100_000_u64).map(|at| rule("ioctl", Action::Allow, &[Arg::new(1, Op::Eq, at)])).collect();
    let error = compile(&with_rules(rules), Arch::X86_64).unwrap_err();
    assert_eq!(error.kind, CompileErrorKind::TooLong);
}

/// Docker's default is small and its common calls are answered quickly.
#[test]
fn docker_is_small() {
    let section = parse(ENGINES[0].1);
    let policy = policy(&section);
    let filter = compile(&policy, Arch::X86_64).unwrap();
    assert!(filter.insns.len() < 330, "{}", filter.insns.len());
    for name in ["openat", "read", "statx", "futex", "clone"] {
        let call = coracle_seccomp::Call::named(Arch::X86_64, name, [0; 6]).unwrap();
        let verdict = coracle_seccomp::evaluate(&filter.insns, &call).unwrap();
        assert!(verdict.permits() && verdict.steps <= 14, "{name} {}", verdict.steps);
    }
}

#[test]
fn profiles() {
    for native in [Arch::X86_64, Arch::Aarch64, Arch::S390x] {
        for bits in [0, u64::MAX, 1 << 21, 1 << 19] {
            assert_equivalent(
                &profile::docker_default(profile::Capabilities::from_bits(bits), native),
                native,
            );
        }
        assert_equivalent(&profile::strict(native), native);
    }
}

fn any_arg() -> impl Strategy<Value = Arg> {
    let value = prop_oneof![
        0..4_u64,
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        (0..64_u32).prop_map(|bit| 1 << bit),
        (0..64_u32).prop_map(|bit| (1 << bit) - 1),
        any::<u64>(),
    ];
    (0..6_u32, 0..7_usize, value.clone(), value).prop_map(|(index, op, value, value_two)| Arg {
        index,
        op: Op::NAMES[op].1,
        value,
        value_two,
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Log),
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        Just(Action::Notify),
        (0..4_u16).prop_map(Action::Errno),
        (0..2_u16).prop_map(Action::Trace),
    ]
}

/// Few names, so that rules meet.
const NAMES: [&str; 14] = [
    "read",
    "write",
    "open",
    "openat",
    "ioctl",
    "socket",
    "clone",
    "clone3",
    "mmap",
    "rseq_slice_yield",
    "set_tls",
    "execve",
    "no_such_call",
    "personality",
];

fn any_rule() -> impl Strategy<Value = Rule<'static>> {
    let names = proptest::collection::vec(proptest::sample::select(&NAMES[..]), 1..4);
    let args = prop_oneof![Just(vec![]), proptest::collection::vec(any_arg(), 1..4)];
    (names, any_action(), args).prop_map(|(names, action, args)| Rule { names, action, args })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn random_policies(
        default in any_action(),
        architectures in proptest::collection::vec(proptest::sample::select(&Arch::ALL[..]), 0..4),
        rules in proptest::collection::vec(any_rule(), 0..6),
        native in proptest::sample::select(vec![Arch::X86_64, Arch::Aarch64, Arch::S390x, Arch::X86, Arch::Mips64]),
    ) {
        assert_equivalent(&Policy { default, architectures, flags: Flags::empty(), rules }, native);
    }
}
