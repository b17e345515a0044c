//! What a policy means, case by case: order, several arguments, architectures, the ENOSYS tail, errors and warnings.
//!
//! Each case is asked of the compiled program and of `decide`.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use common::{ENGINES, parse, run};
use coracle_seccomp::{
    Action, Arch, Arg, Call, CompileErrorKind, Flags, Op, Policy, Reason, Rule, Warning, compile, decide,
    number_of,
};

const EPERM: Action = Action::Errno(1);
const ENOSYS: Action = Action::Errno(38);

fn rule(names: &[&'static str], action: Action, args: &[Arg]) -> Rule<'static> {
    Rule { names: names.to_vec(), action, args: args.to_vec() }
}

fn policy(default: Action, rules: &[Rule<'static>]) -> Policy<'static> {
    Policy { default, architectures: vec![], flags: Flags::empty(), rules: rules.to_vec() }
}

#[track_caller]
fn assert_answer(policy: &Policy<'_>, native: Arch, call: Call, action: Action, reason: Reason) {
    let program = compile(policy, native).unwrap().insns;
    assert_eq!(run(&program, &call), action);
    let decision = decide(policy, native, &call);
    assert_eq!((decision.action, decision.reason), (action, reason));
}

fn call(name: &str, args: [u64; 6]) -> Call {
    Call::named(Arch::X86_64, name, args).unwrap()
}

#[test]
fn the_first_match_decides() {
    let deny = rule(&["chmod"], EPERM, &[Arg::new(1, Op::Eq, 0o4755)]);
    let allow = rule(&["chmod", "read"], Action::Allow, &[]);
    let suid = call("chmod", [0, 0o4755, 0, 0, 0, 0]);
    let plain = call("chmod", [0, 0o755, 0, 0, 0, 0]);
    let x86 = Arch::X86_64;
    // The denying rule has the default action and is not dropped for it.
    let denied_first = policy(EPERM, &[deny.clone(), allow.clone()]);
    assert_answer(&denied_first, x86, suid, EPERM, Reason::Rule(0));
    assert_answer(&denied_first, x86, plain, Action::Allow, Reason::Rule(1));
    let allowed_first = policy(EPERM, &[allow, deny]);
    assert_answer(&allowed_first, x86, suid, Action::Allow, Reason::Rule(0));
}

#[test]
fn an_unconditional_rule_with_the_default_action_shields() {
    let rules = [rule(&["bpf"], EPERM, &[]), rule(&["bpf"], Action::Allow, &[])];
    assert_answer(&policy(EPERM, &rules), Arch::X86_64, call("bpf", [0; 6]), EPERM, Reason::Rule(0));
}

#[test]
fn arguments_are_all_unless_an_index_is_twice() {
    let x86 = Arch::X86_64;
    let both =
        policy(EPERM, &[rule(&["kill"], Action::Allow, &[Arg::new(0, Op::Eq, 1), Arg::new(1, Op::Eq, 9)])]);
    assert_answer(&both, x86, call("kill", [1, 9, 0, 0, 0, 0]), Action::Allow, Reason::Rule(0));
    assert_answer(&both, x86, call("kill", [1, 8, 0, 0, 0, 0]), EPERM, Reason::Default);
    let twice = [Arg::new(0, Op::Eq, 1), Arg::new(1, Op::Eq, 9), Arg::new(0, Op::Eq, 2)];
    let any = policy(EPERM, &[rule(&["kill"], Action::Allow, &twice)]);
    for args in [[1, 0], [2, 0], [7, 9]] {
        let call = call("kill", [args[0], args[1], 0, 0, 0, 0]);
        assert_answer(&any, x86, call, Action::Allow, Reason::Rule(0));
    }
    assert_answer(&any, x86, call("kill", [7, 7, 0, 0, 0, 0]), EPERM, Reason::Default);
}

#[test]
fn masked_equality_takes_the_value_as_mask() {
    let flags = Arg { index: 0, op: Op::MaskedEq, value: 0x7e02_0000, value_two: 0 };
    let clone = policy(EPERM, &[rule(&["clone"], Action::Allow, &[flags])]);
    assert_answer(&clone, Arch::X86_64, call("clone", [0x11; 6]), Action::Allow, Reason::Rule(0));
    assert_answer(&clone, Arch::X86_64, call("clone", [0x1000_0011; 6]), EPERM, Reason::Default);
}

#[test]
fn narrow_architectures_compare_the_low_half() {
    let mut equal = policy(EPERM, &[rule(&["socket"], Action::Allow, &[Arg::new(0, Op::Eq, 2)])]);
    equal.architectures = vec![Arch::X86, Arch::X32];
    let args = [2 | 1 << 32, 0, 0, 0, 0, 0];
    let of = |arch| Call::named(arch, "socket", args).unwrap();
    assert_answer(&equal, Arch::X86_64, of(Arch::X86_64), EPERM, Reason::Default);
    assert_answer(&equal, Arch::X86_64, of(Arch::X86), Action::Allow, Reason::Rule(0));
    assert_answer(&equal, Arch::X86_64, of(Arch::X32), Action::Allow, Reason::Rule(0));
}

#[test]
fn unlisted_architectures_die() {
    let kill = Action::KillProcess;
    for default in [EPERM, Action::Allow] {
        let policy = policy(default, &[rule(&["read"], Action::Allow, &[])]);
        for arch in [Arch::X86, Arch::X32, Arch::Aarch64] {
            let read = Call::named(arch, "read", [0; 6]).unwrap();
            assert_answer(&policy, Arch::X86_64, read, kill, Reason::UnlistedArch);
        }
        // Every number with bit 30 is x32's, whether it has a call there or not; -1 is nobody's.
        for nr in [0x4000_0000, 0x4000_2710, 0x8000_0000, 0xffff_fffe] {
            let call = Call::new(Arch::X86_64, nr, [0; 6]);
            assert_answer(&policy, Arch::X86_64, call, kill, Reason::UnlistedArch);
        }
    }
    let allow = policy(Action::Allow, &[]);
    let skipped = Call::new(Arch::X86_64, u32::MAX, [0; 6]);
    assert_answer(&allow, Arch::X86_64, skipped, Action::Allow, Reason::Default);
}

#[test]
fn listed_architectures_that_cannot_run_need_no_code() {
    let mut policy = policy(EPERM, &[rule(&["read"], Action::Allow, &[])]);
    let alone = compile(&policy, Arch::X86_64).unwrap().insns;
    policy.architectures = vec![Arch::S390x, Arch::Aarch64, Arch::M68k, Arch::X86_64];
    assert_eq!(compile(&policy, Arch::X86_64).unwrap().insns, alone);
}

#[test]
fn numbers_above_the_newest_named_do_not_exist() {
    let newest = [rule(&["read"], Action::Allow, &[]), rule(&["landlock_restrict_self"], EPERM, &[])];
    let at = |nr| Call::new(Arch::X86_64, nr, [0; 6]);
    let x86 = Arch::X86_64;
    for default in [EPERM, Action::Trap, Action::KillThread, Action::KillProcess, Action::Notify] {
        let policy = policy(default, &newest);
        assert_answer(&policy, x86, at(446), EPERM, Reason::Rule(1));
        assert_answer(&policy, x86, at(445), default, Reason::Default);
        assert_answer(&policy, x86, at(447), ENOSYS, Reason::NewerThanPolicy);
        assert_answer(&policy, x86, at(0x3fff_ffff), ENOSYS, Reason::NewerThanPolicy);
    }
    for default in [Action::Allow, Action::Log, Action::Trace(7)] {
        assert_answer(&policy(default, &newest), x86, at(447), default, Reason::Default);
    }
    // Nothing that is named exists here: nothing is known about the age.
    let foreign = policy(EPERM, &[rule(&["riscv_flush_icache"], Action::Allow, &[])]);
    assert_answer(&foreign, x86, at(900), EPERM, Reason::Default);
}

#[test]
fn the_tail_is_per_architecture() {
    let mut policy = policy(EPERM, &[rule(&["close_range", "execve"], Action::Allow, &[])]);
    policy.architectures = vec![Arch::X86, Arch::X32];
    let close_range = number_of(Arch::X86, "close_range").unwrap();
    let newer = Call::new(Arch::X86, close_range + 1, [0; 6]);
    assert_answer(&policy, Arch::X86_64, newer, ENOSYS, Reason::NewerThanPolicy);
    // x32's 512 to 547 are old calls: execve is 520 there, and does not make 437 old.
    let x32 = |nr: u32| Call::new(Arch::X32, 0x4000_0000 + nr, [0; 6]);
    assert_answer(&policy, Arch::X86_64, x32(437), ENOSYS, Reason::NewerThanPolicy);
    assert_answer(&policy, Arch::X86_64, x32(520), Action::Allow, Reason::Rule(0));
    assert_answer(&policy, Arch::X86_64, x32(521), EPERM, Reason::Default);
    assert_answer(&policy, Arch::X86_64, x32(548), ENOSYS, Reason::NewerThanPolicy);
}

#[test]
fn the_tail_spares_private_numbers() {
    let arm = policy(EPERM, &[rule(&["openat2", "set_tls"], Action::Allow, &[])]);
    let at = |nr| Call::new(Arch::Arm, nr, [0; 6]);
    assert_answer(&arm, Arch::Arm, at(438), ENOSYS, Reason::NewerThanPolicy);
    assert_answer(&arm, Arch::Arm, at(0x000f_0005), Action::Allow, Reason::Rule(0));
    assert_answer(&arm, Arch::Arm, at(0x000f_0002), EPERM, Reason::Default);
    // On s390 an unknown number in a register arrives as 0.
    let s390 = policy(EPERM, &[rule(&["read"], Action::Allow, &[])]);
    let zero = Call::new(Arch::S390x, 0, [0; 6]);
    assert_answer(&s390, Arch::S390x, zero, ENOSYS, Reason::NewerThanPolicy);
}

/// A rule for a call decides although the call is the newest.
#[test]
fn docker_answers_enosys_to_clone3_and_to_new_calls() {
    let section = parse(ENGINES[0].1);
    let docker = common::policy(&section);
    let clone3 = Call::named(Arch::X86_64, "clone3", [0; 6]).unwrap();
    let reason = decide(&docker, Arch::X86_64, &clone3).reason;
    assert!(matches!(reason, Reason::Rule(_)), "{reason:?}");
    assert_answer(&docker, Arch::X86_64, clone3, ENOSYS, reason);
    let new = Call::new(Arch::X86_64, 600, [0; 6]);
    assert_answer(&docker, Arch::X86_64, new, ENOSYS, Reason::NewerThanPolicy);
}

#[test]
fn errors_say_where() {
    let good = rule(&["read"], Action::Allow, &[]);
    let error = |rules: &[Rule<'static>]| compile(&policy(EPERM, rules), Arch::X86_64).unwrap_err();
    let none = error(&[good.clone(), rule(&[], Action::Allow, &[])]);
    assert_eq!(
        (none.pointer().as_str(), &none.kind),
        ("/linux/seccomp/syscalls/1", &CompileErrorKind::NoNames)
    );
    let args = [Arg::new(5, Op::Eq, 0), Arg::new(6, Op::Eq, 0)];
    let index = error(&[good.clone(), good.clone(), good.clone(), rule(&["read"], Action::Allow, &args)]);
    assert_eq!(index.pointer(), "/linux/seccomp/syscalls/3/args/1");
    assert_eq!(index.kind, CompileErrorKind::ArgIndex(6));
    assert_eq!(error(&[rule(&["read"], Action::Errno(4096), &[])]).kind, CompileErrorKind::Errno(4096));
    let flags = Policy { flags: Flags::WAIT_KILLABLE_RECV, ..policy(EPERM, &[good]) };
    let flag = compile(&flags, Arch::X86_64).unwrap_err();
    assert_eq!(
        (flag.pointer().as_str(), flag.kind),
        ("/linux/seccomp/flags", CompileErrorKind::FlagNeedsNotify)
    );
}

#[test]
fn notify_asks_for_a_listener() {
    let notify = policy(EPERM, &[rule(&["mount"], Action::Notify, &[])]);
    let filter =
        compile(&Policy { flags: Flags::TSYNC | Flags::WAIT_KILLABLE_RECV, ..notify }, Arch::X86_64).unwrap();
    assert!(filter.notify);
    let expect = Flags::TSYNC | Flags::TSYNC_ESRCH | Flags::NEW_LISTENER | Flags::WAIT_KILLABLE_RECV;
    assert_eq!(filter.flags, expect);
    let filter = compile(&policy(EPERM, &[rule(&["read"], Action::Allow, &[])]), Arch::X86_64).unwrap();
    assert!(!filter.notify);
    assert_eq!(filter.flags, Flags::empty());
}

#[test]
fn unknown_names_are_warnings_and_foreign_names_are_not() {
    let names = policy(
        EPERM,
        &[rule(&["read", "raed"], Action::Allow, &[]), rule(&["s390_runtime_instr"], EPERM, &[])],
    );
    let filter = compile(&names, Arch::X86_64).unwrap();
    assert_eq!(filter.warnings, [Warning::UnknownName { rule: 0, name: 1 }]);
}
