//! Two ways to the same answer: what was compiled against the words that it was compiled from.

use coracle::cgroup::devices::{Access, DeviceProgram, DeviceRules, Kind, Node};
use coracle::spec::DeviceRule;
use coracle_seccomp::{
    Action, Arch, Arg, Call, Flags, Op, Policy, Rule, compile, decide, evaluate, lint, name_of,
};
use serde_json::Value;

use crate::take::Take;

/// Names that share numbers, exist on some architectures only, are multiplexers, or do not exist at all.
const NAMES: [&str; 18] = [
    "read",
    "write",
    "open",
    "openat",
    "ioctl",
    "socket",
    "socketcall",
    "clone",
    "clone3",
    "mmap",
    "mmap2",
    "set_tls",
    "execve",
    "prctl",
    "personality",
    "ipc",
    "no_such_call",
    "",
];
const NATIVE: [Arch; 6] = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm, Arch::S390x, Arch::Mips64];

fn action(take: &mut Take<'_>) -> Action {
    match take.byte() % 8 {
        0 | 1 => Action::Allow,
        2 => Action::Errno(u16::from(take.byte())),
        3 => Action::KillProcess,
        4 => Action::Trap,
        5 => Action::Log,
        6 => Action::Notify,
        _ => Action::Trace(u16::from(take.byte())),
    }
}

fn rule(take: &mut Take<'_>) -> Rule<'static> {
    let names = (0..=take.byte() % 3).map(|_| take.one(&NAMES)).collect();
    let action = action(take);
    let args = (0..take.byte() % 4)
        .map(|_| Arg {
            index: u32::from(take.byte() % 6),
            op: take.one(&Op::NAMES).1,
            value: take.interesting(),
            value_two: take.interesting(),
        })
        .collect();
    Rule { names, action, args }
}

/// A policy from the bytes: for calls around everything it names, the program answers what the policy says.
pub fn seccomp(data: &[u8]) {
    let mut take = Take::new(data);
    let native = take.one(&NATIVE);
    let default = action(&mut take);
    let architectures = (0..take.byte() % 4).map(|_| take.one(&Arch::ALL)).collect();
    let rules: Vec<Rule<'_>> = (0..take.byte() % 8).map(|_| rule(&mut take)).collect();
    let policy = Policy { default, architectures, flags: Flags::empty(), rules };
    let _ = lint(&policy, native);
    let filter = match compile(&policy, native) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.pointer().starts_with('/'), "{error}");
            return;
        }
    };
    for arch in Arch::ALL {
        let numbers = NAMES.iter().filter_map(|name| coracle_seccomp::number_of(arch, name));
        for nr in numbers.chain([0, 600, 0x4000_0000, 0x4000_0200, u32::MAX, take.u32()]) {
            same(&policy, native, &filter.insns, Call::new(arch, nr, [0; 6]));
        }
    }
    let near = |take: &mut Take<'_>, arg: &Arg| {
        let base = if take.flag() { arg.value } else { arg.value_two };
        match take.byte() % 6 {
            0 => base,
            1 => base.wrapping_add(1),
            2 => base.wrapping_sub(1),
            3 => base ^ 1 << 32,
            4 => base & 0xffff_ffff,
            _ => take.u64(),
        }
    };
    for rule in &policy.rules {
        for name in &rule.names {
            for arch in [native, Arch::X86_64, Arch::X32, Arch::X86] {
                let mut args = [take.u64(); 6];
                for arg in &rule.args {
                    if let Some(place) = args.get_mut(arg.index as usize) {
                        *place = near(&mut take, arg);
                    }
                }
                if let Some(call) = Call::named(arch, name, args) {
                    assert!(name_of(arch, call.nr).is_some());
                    same(&policy, native, &filter.insns, call);
                }
            }
        }
    }
}

fn same(policy: &Policy<'_>, native: Arch, program: &[coracle_seccomp::Insn], call: Call) {
    let says = decide(policy, native, &call);
    let does = evaluate(program, &call).unwrap_or_else(|e| panic!("the program is broken: {e:?}"));
    assert_eq!(does.action(), says.action, "{call:?} by {:?} of {policy:?}", says.reason);
}

/// Device rules from the bytes: the program and the lines of version 1 answer what the rules say, and the rules what was written.
pub fn device_rules(data: &[u8]) {
    let mut take = Take::new(data);
    let number = |take: &mut Take<'_>| match take.byte() % 4 {
        0 => None,
        1 => Some(-1),
        2 => Some(i64::from(take.byte() % 4)),
        _ => Some(i64::from(take.u32()) - 1),
    };
    let mut listed = Vec::new();
    for _ in 0..take.byte() % 12 {
        let allow = take.flag();
        let kind =
            take.one(&[None, Some("a"), Some("b"), Some("c"), Some("c"), Some("x")]).map(str::to_owned);
        let (major, minor) = (number(&mut take), number(&mut take));
        let access = take
            .one(&[None, Some("rwm"), Some("r"), Some("w"), Some("m"), Some("rw"), Some("q")])
            .map(str::to_owned);
        let mut rule = DeviceRule::default();
        (rule.allow, rule.kind, rule.major, rule.minor, rule.access) = (allow, kind, major, minor, access);
        listed.push(rule);
    }
    let Ok(rules) = DeviceRules::new(&listed) else { return };
    let own = DeviceRules::new(&[]).expect("no rules are good rules");
    let program = rules.program();
    let lines = rules.v1_lines();
    let mut numbers: Vec<u32> = vec![0, 1, 5, 136, 10, 200, u32::MAX, take.u32()];
    numbers.extend(
        listed.iter().flat_map(|r| [r.major, r.minor]).flatten().filter_map(|n| u32::try_from(n).ok()),
    );
    numbers.sort_unstable();
    numbers.dedup();
    for kind in [Kind::Block, Kind::Char] {
        for &major in &numbers {
            for &minor in &numbers {
                let node = Node { kind, major, minor };
                // What the kernel asks: open(2) for reading, writing or both, mknod(2) alone.
                for access in [Access::READ, Access::WRITE, Access::READ.with(Access::WRITE), Access::MKNOD] {
                    let wanted = rules.allows(node, access);
                    assert_eq!(
                        wanted,
                        written(&listed, &own, node, access),
                        "{node:?} {access} of {listed:?}"
                    );
                    if let Ok(program) = &program {
                        let does = program.as_ref().is_none_or(|program| run(program, node, access));
                        assert_eq!(does, wanted, "{node:?} {access} of {listed:?}");
                    }
                    if let Ok(lines) = &lines {
                        assert_eq!(
                            in_v1(lines, node, access),
                            wanted,
                            "{node:?} {access} of {listed:?}: {lines:?}"
                        );
                    }
                }
            }
        }
    }
}

/// The rules as they are written: for each bit the last one that matches decides, and the runtime's own come after all.
fn written(listed: &[DeviceRule], own: &DeviceRules, node: Node, access: Access) -> bool {
    let letter = if node.kind == Kind::Char { "c" } else { "b" };
    let is = |wanted: Option<i64>, number: u32| wanted.is_none_or(|n| n == -1 || n == i64::from(number));
    [(Access::READ, 'r'), (Access::WRITE, 'w'), (Access::MKNOD, 'm')]
        .into_iter()
        .filter(|(bit, _)| access.bits() & bit.bits() != 0)
        .all(|(bit, name)| {
            let last = listed.iter().rev().find(|rule| {
                let kind = rule.kind.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("a");
                (kind == "a" || kind == letter)
                    && is(rule.major, node.major)
                    && is(rule.minor, node.minor)
                    && rule.access.as_deref().is_none_or(|text| text.contains(name))
            });
            own.allows(node, bit) || last.is_some_and(|rule| rule.allow)
        })
}

/// Runs the few instructions that device programs are made of, from their written-down form.
fn run(program: &DeviceProgram, node: Node, access: Access) -> bool {
    let kind = if node.kind == Kind::Char { 2 } else { 1 };
    let context = [u32::from(access.bits()) << 16 | kind, node.major, node.minor];
    let code = serde_json::to_value(program).expect("a program can be written down");
    let code = code["instructions"].as_array().expect("a list").clone();
    let field = |one: &Value, name: &str| one[name].as_i64().expect("a number");
    let mut registers = [None::<u32>; 11];
    let mut at = 0_usize;
    while let Some(one) = code.get(at) {
        at += 1;
        let dst = usize::try_from(field(one, "dst")).expect("a register");
        let src = usize::try_from(field(one, "src")).expect("a register");
        let imm = u32::try_from(field(one, "imm")).expect("32 bits");
        let offset = usize::try_from(field(one, "offset")).expect("jumps go forward");
        let value = |n: usize| registers[n].expect("a register that was written");
        let jump = match field(one, "op") {
            0x61 => {
                registers[dst] = Some(context[offset / 4]);
                false
            }
            0xb4 => {
                registers[dst] = Some(imm);
                false
            }
            0xbc => {
                registers[dst] = Some(value(src));
                false
            }
            0x54 => {
                registers[dst] = Some(value(dst) & imm);
                false
            }
            0x74 => {
                registers[dst] = Some(value(dst) >> imm);
                false
            }
            0x05 => true,
            0x16 => value(dst) == imm,
            0x56 => value(dst) != imm,
            0x46 => value(dst) & imm != 0,
            0x95 => return value(0) == 1,
            other => panic!("instruction {other:#x} is not one of ours"),
        };
        if jump {
            at += offset;
        }
    }
    panic!("the program does not end");
}

/// What the kernel answers with these lines (security/device_cgroup.c): an allow list needs one entry with all bits, a deny list has
/// one with any.
fn in_v1(lines: &[(&'static str, String)], node: Node, access: Access) -> bool {
    let letter = if node.kind == Kind::Char { "c" } else { "b" };
    // The first line says what is left when none matches.
    let Some(((first, all), rest)) = lines.split_first() else { return true };
    assert_eq!(all, "a");
    let denied_first = *first == "devices.deny";
    let found = rest.iter().any(|(file, line)| {
        assert_eq!(*file == "devices.allow", denied_first, "all exceptions go one way");
        let fields: Vec<&str> = line.split([' ', ':']).collect();
        let is = |field: &str, number: u32| field == "*" || field == number.to_string();
        let has = |bit: char| fields[3].contains(bit);
        let bits = access.to_string();
        fields[0] == letter
            && is(fields[1], node.major)
            && is(fields[2], node.minor)
            && if denied_first { bits.chars().all(has) } else { bits.chars().any(has) }
    });
    found == denied_first
}
