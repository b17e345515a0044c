//! What the tests share: real policies, interesting calls, and the comparison of a program with its policy.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]

use coracle_seccomp::{
    Action, Arch, Arg, Call, Flags, Insn, Op, Policy, Rule, compile, decide, evaluate, names, number_of,
};
use serde_json::Value;

/// The seccomp sections that engines wrote for a default container on x86-64.
pub const ENGINES: [(&str, &str); 3] = [
    ("docker", include_str!("../data/docker.json")),
    ("podman", include_str!("../data/podman.json")),
    ("containerd", include_str!("../data/containerd.json")),
];

pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn action(value: &Value, action: &str, errno: &str) -> Action {
    let errno = value.get(errno).map(|n| u32::try_from(n.as_u64().unwrap()).unwrap());
    Action::from_name(value[action].as_str().unwrap(), errno).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn arg(value: &Value) -> Arg {
    Arg {
        index: u32::try_from(value["index"].as_u64().unwrap()).unwrap(),
        op: Op::from_name(value["op"].as_str().unwrap()).unwrap(),
        value: value["value"].as_u64().unwrap(),
        value_two: value["valueTwo"].as_u64().unwrap_or(0),
    }
}

fn rule(value: &Value) -> Rule<'_> {
    Rule {
        names: list(&value["names"]).iter().map(|name| name.as_str().unwrap()).collect(),
        action: action(value, "action", "errnoRet"),
        args: list(&value["args"]).iter().map(arg).collect(),
    }
}

/// The policy of a seccomp section.
pub fn policy(section: &Value) -> Policy<'_> {
    Policy {
        default: action(section, "defaultAction", "defaultErrnoRet"),
        architectures: list(&section["architectures"])
            .iter()
            .map(|name| Arch::from_name(name.as_str().unwrap()).unwrap())
            .collect(),
        flags: Flags::empty(),
        rules: list(&section["syscalls"]).iter().map(rule).collect(),
    }
}

/// Values around every boundary that these arguments name, with other high halves, and the extremes.
fn values<'a>(args: impl Iterator<Item = &'a Arg>) -> Vec<u64> {
    let mut values = vec![0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX];
    for arg in args {
        for base in [arg.value, arg.value_two] {
            for value in [base, base.wrapping_sub(1), base.wrapping_add(1)] {
                values.extend([value, value ^ 1 << 32]);
            }
            values.extend([base & 0xffff_ffff, base ^ 1 << 63, !base, base & arg.value]);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Argument lists for the call `nr` of `arch`: one argument at a time and pairs, around what its rules compare with.
pub fn args(policy: &Policy<'_>, arch: Arch, nr: u32) -> Vec<[u64; 6]> {
    let named = |rule: &&Rule<'_>| rule.names.iter().any(|name| number_of(arch, name) == Some(nr));
    let compared: Vec<&Arg> = policy.rules.iter().filter(named).flat_map(|rule| &rule.args).collect();
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    let mut used: Vec<(usize, Vec<u64>)> = Vec::new();
    for index in 0..6 {
        let of_index: Vec<&Arg> =
            compared.iter().copied().filter(|arg| arg.index as usize == index).collect();
        if !of_index.is_empty() {
            used.push((index, values(of_index.into_iter())));
        }
    }
    for (nth, (index, values)) in used.iter().enumerate() {
        for &value in values {
            let mut args = [0; 6];
            args[*index] = value;
            all.push(args);
            for (other, others) in used.iter().skip(nth + 1) {
                for &second in others {
                    args[*other] = second;
                    all.push(args);
                }
                args[*other] = 0;
            }
        }
    }
    all
}

/// Numbers worth asking about on `arch`: all it has, those that follow one, and the borders of the special ranges.
pub fn numbers(arch: Arch) -> Vec<u32> {
    let mut numbers: Vec<u32> = names(arch).flat_map(|(_, nr)| [nr.wrapping_sub(1), nr, nr + 1]).collect();
    let bit = 0x4000_0000;
    numbers.extend([0, 1, 511, 512, 547, 548, 1000, bit - 1, bit, bit + 1, bit + 511, bit + 548, bit + 2000]);
    numbers.extend([0x000e_ffff, 0x000f_0000, 0x000f_0fff, 0x000f_1000, 0x7fff_ffff, 0x8000_0000]);
    numbers.extend([0xffff_fffe, u32::MAX]);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

pub fn run(program: &[Insn], call: &Call) -> Action {
    evaluate(program, call).unwrap().action()
}

/// Compares the program of `policy` with what the policy itself says, for every number of every architecture of the
/// native family and of foreign ones.
pub fn assert_equivalent(policy: &Policy<'_>, native: Arch) {
    let filter = compile(policy, native).unwrap();
    let foreign = [Arch::Sh, Arch::Ppc64le, Arch::X86_64];
    for arch in Arch::ALL.into_iter().filter(|arch| arch.runs_on(native) || foreign.contains(arch)) {
        for nr in numbers(arch) {
            for args in args(policy, arch, nr) {
                let call = Call::new(arch, nr, args);
                let expect = decide(policy, native, &call);
                let got = run(&filter.insns, &call);
                assert_eq!(got, expect.action, "{arch:?} {nr:#x} {args:x?} {:?}", expect.reason);
            }
        }
    }
}
