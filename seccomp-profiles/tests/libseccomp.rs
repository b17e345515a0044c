//! The compiler against libseccomp, used as runc uses it, and the number tables against its tables.
//!
//! Skipped, with a word, where libseccomp is not installed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

mod common;
#[path = "common/scmp.rs"]
mod scmp;

use common::{ENGINES, args, numbers, parse, policy, run};
use coracle_seccomp::{
    Action, Arch, Arg, Call, Flags, Insn, Op, Policy, Reason, Rule, compile, decide, names, number_of,
};
use proptest::prelude::*;
use scmp::Scmp;

/// A native architecture with those that libseccomp 2.5 can put beside it.
const FAMILIES: [(Arch, &[Arch]); 9] = [
    (Arch::X86_64, &[Arch::X86, Arch::X32]),
    (Arch::X86_64, &[Arch::X86]),
    (Arch::Aarch64, &[Arch::Arm]),
    (Arch::Mips64, &[Arch::Mips, Arch::Mips64n32]),
    (Arch::Mipsel64, &[Arch::Mipsel64n32]),
    (Arch::Ppc64le, &[]),
    (Arch::S390x, &[Arch::S390]),
    (Arch::Riscv64, &[]),
    (Arch::Parisc64, &[Arch::Parisc]),
];

/// Calls that libseccomp makes rules for although none was asked for.
const COMPANIONS: [&str; 2] = ["socketcall", "ipc"];

/// Compares both programs for every number of every architecture of the family. What differs by design is taken out:
/// the ENOSYS tail (tests/runc.rs), the companions, names that the library is too old for, and that calls of an unlisted
/// architecture kill the process and not only the thread.
fn assert_same(scmp: &Scmp, policy: &Policy<'_>, native: Arch, tree: bool) {
    let ours = compile(policy, native).unwrap().insns;
    let theirs = scmp.export(policy, native, tree).unwrap();
    if compares_the_wrong_word(&theirs.insns) {
        return;
    }
    let mut asked = 0;
    for arch in Arch::ALL.into_iter().filter(|arch| arch.runs_on(native)) {
        let skipped: Vec<u32> = theirs
            .unknown
            .iter()
            .map(String::as_str)
            .chain(COMPANIONS)
            .chain(policy.rules.iter().flat_map(|rule| rule.names.iter().copied()))
            .filter(|name| scmp.number(arch, name) < 0 || COMPANIONS.contains(name))
            .filter_map(|name| number_of(arch, name))
            .collect();
        for nr in numbers(arch).into_iter().filter(|nr| !skipped.contains(nr)) {
            for args in args(policy, arch, nr) {
                let call = Call::new(arch, nr, args);
                let reason = decide(policy, native, &call).reason;
                let expect = match run(&theirs.insns, &call) {
                    Action::KillThread if reason == Reason::UnlistedArch => Action::KillProcess,
                    other if reason == Reason::NewerThanPolicy => {
                        assert_eq!(other, policy.default);
                        Action::Errno(38)
                    }
                    other => other,
                };
                assert_eq!(run(&ours, &call), expect, "{arch:?} {nr:#x} {args:x?} {reason:?}");
                asked += 1;
            }
        }
    }
    assert!(asked > 300, "{asked}");
}

/// A fault of libseccomp (2.5.4 to 2.6.1), seen in about one of a hundred random policies: the load of the number is
/// missing in front of the first call of an architecture, so that its numbers are compared with the architecture.
fn compares_the_wrong_word(program: &[Insn]) -> bool {
    const LD: u16 = 0x20;
    const JEQ: u16 = 0x15;
    let audits = Arch::ALL.map(Arch::audit);
    let checks = program.iter().filter(|insn| insn.code == JEQ && audits.contains(&insn.k)).count();
    program.iter().filter(|insn| insn.code == LD && insn.k == 0).count() < checks
}

#[test]
fn real_policies() {
    let Some(scmp) = Scmp::load() else { return };
    for (name, text) in ENGINES {
        let section = parse(text);
        let mut policy = policy(&section);
        if name == "podman" {
            // Its socket rules overlap with different actions; see overlapping_rules.
            policy.rules.retain(|rule| !rule.names.contains(&"socket"));
        }
        // Exported for the other endianness, its long returns keep their byte order; short policies are below.
        for (native, beside) in FAMILIES.into_iter().filter(|(native, _)| native.is_little_endian()) {
            policy.architectures = beside.to_vec();
            assert_same(&scmp, &policy, native, true);
        }
    }
}

/// Podman's rules for `socket`: AF_VSOCK is refused by one rule, and allowed by another that allows all but AF_NETLINK.
/// The file says refuse first. What libseccomp makes of it depends on the order of its tree.
#[test]
fn overlapping_rules() {
    let Some(scmp) = Scmp::load() else { return };
    let section = parse(ENGINES[1].1);
    let policy = policy(&section);
    let ours = compile(&policy, Arch::X86_64).unwrap().insns;
    let theirs = scmp.export(&policy, Arch::X86_64, true).unwrap().insns;
    let socket = |family: u64, protocol: u64| {
        Call::named(Arch::X86_64, "socket", [family, 1, protocol, 0, 0, 0]).unwrap()
    };
    // AF_VSOCK; AF_NETLINK with NETLINK_AUDIT; AF_NETLINK else; AF_INET.
    assert_eq!(run(&ours, &socket(40, 0)), Action::Errno(1));
    for (family, protocol, expect) in
        [(16, 9, Action::Errno(22)), (16, 0, Action::Allow), (2, 0, Action::Allow)]
    {
        assert_eq!(run(&ours, &socket(family, protocol)), expect);
        assert_eq!(run(&theirs, &socket(family, protocol)), expect);
    }
    println!("libseccomp {:?} answers {:?} to AF_VSOCK", scmp.version(), run(&theirs, &socket(40, 0)));
}

/// An unconditional rule and a condition with another action, in both orders, and two unconditional ones.
#[test]
fn unconditional_rules() {
    let Some(scmp) = Scmp::load() else { return };
    let rule = |action, args: &[Arg]| Rule { names: vec!["chmod"], action, args: args.to_vec() };
    let condition = [Arg::new(1, Op::Eq, 0o777)];
    let deny = Action::Errno(13);
    let answers = |rules: Vec<Rule<'static>>| {
        let policy =
            Policy { default: Action::Errno(1), architectures: vec![], flags: Flags::empty(), rules };
        let call = Call::named(Arch::X86_64, "chmod", [0, 0o777, 0, 0, 0, 0]).unwrap();
        let theirs = scmp.export(&policy, Arch::X86_64, false).unwrap().insns;
        (run(&compile(&policy, Arch::X86_64).unwrap().insns, &call), run(&theirs, &call))
    };
    // Agreement: the unconditional rule is first, or both are.
    assert_eq!(
        answers(vec![rule(Action::Allow, &[]), rule(deny, &condition)]),
        (Action::Allow, Action::Allow)
    );
    assert_eq!(answers(vec![rule(deny, &[]), rule(Action::Allow, &condition)]), (deny, deny));
    assert_eq!(answers(vec![rule(deny, &[]), rule(Action::Allow, &[])]), (deny, deny));
    assert_eq!(answers(vec![rule(Action::Allow, &[]), rule(deny, &[])]), (Action::Allow, Action::Allow));
    // The difference: libseccomp loses the condition in front of the unconditional rule.
    assert_eq!(answers(vec![rule(deny, &condition), rule(Action::Allow, &[])]), (deny, Action::Allow));
    assert_eq!(answers(vec![rule(Action::Allow, &condition), rule(deny, &[])]), (Action::Allow, deny));
    // And runc drops what equals the default.
    assert_eq!(
        answers(vec![rule(Action::Errno(1), &[]), rule(Action::Allow, &[])]),
        (Action::Errno(1), Action::Allow)
    );
}

#[test]
fn numbers_are_the_same() {
    let Some(scmp) = Scmp::load() else { return };
    let mut compared = 0;
    for arch in Arch::ALL {
        for (name, nr) in names(arch) {
            let theirs = scmp.number(arch, name);
            // Negative: the library is older than the call.
            if let Ok(theirs) = u32::try_from(theirs) {
                assert_eq!(nr, theirs, "{arch:?} {name}");
                compared += 1;
            }
        }
    }
    // m68k, sh and loongarch64 are younger than 2.5.4; the others have more than 300 each.
    assert!(compared > 300 * 18, "{compared}");
}

fn any_arg() -> impl Strategy<Value = Arg> {
    let value =
        prop_oneof![0..4_u64, Just(u64::from(u32::MAX)), (0..64_u32).prop_map(|bit| 1 << bit), any::<u64>()];
    (0..6_u32, 0..7_usize, value.clone(), value).prop_map(|(index, op, value, value_two)| Arg {
        index,
        op: Op::NAMES[op].1,
        value,
        value_two,
    })
}

const NAMES: [&str; 9] =
    ["read", "write", "open", "openat", "mmap", "clone", "execve", "personality", "rt_sigreturn"];

/// Rules whose order does not matter: one per call. (Several comparisons of one argument of one call make libseccomp
/// 2.5.4 lose some: `< 0` before `< 1 << 32` answers the default to 1. Several equalities it gets right.)
fn any_rules() -> impl Strategy<Value = Vec<Rule<'static>>> {
    let args = prop_oneof![
        Just(vec![]),
        any_arg().prop_map(|arg| vec![arg]),
        (any_arg(), any_arg())
            .prop_filter("one rule", |(a, b)| a.index != b.index)
            .prop_map(|(a, b)| vec![a, b]),
        proptest::collection::vec(any::<u64>(), 1..4)
            .prop_map(|values| values.into_iter().map(|value| Arg::new(2, Op::Eq, value)).collect()),
    ];
    proptest::collection::vec(args, NAMES.len()).prop_map(|all| {
        let action = [Action::Allow, Action::Errno(5), Action::Log, Action::Trap];
        let rule = |(at, args)| Rule { names: vec![NAMES[at]], action: action[at % 4], args };
        all.into_iter().enumerate().map(rule).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn random_policies(rules in any_rules(), family in proptest::sample::select(&FAMILIES[..]), tree: bool) {
        let Some(scmp) = Scmp::load() else { return Ok(()) };
        let (native, beside) = family;
        let policy =
            Policy { default: Action::Errno(1), architectures: beside.to_vec(), flags: Flags::empty(), rules };
        assert_same(&scmp, &policy, native, tree);
    }
}
