//! The reduced rules, the lines of version 1 and the program against the rules as they are written.

use super::program::{
    AND32_K, DeviceProgram, EXIT, JA, JEQ32_K, JNE32_K, JSET32_K, LDX_W, MOV32_K, MOV32_X, RSH32_K,
};
use super::*;

fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> DeviceRule {
    let kind = Some(kind.to_owned());
    DeviceRule { allow, kind, major: Some(major), minor: Some(minor), access: Some(access.to_owned()) }
}

fn node(kind: Kind, major: u32, minor: u32) -> Node {
    Node { kind, major, minor }
}

/// The rules as they are written: bit by bit, the last that matches decides.
fn interpret(listed: &[DeviceRule], node: Node, access: Access) -> bool {
    let own = OWN_RULES.map(|(kind, major, minor, access)| DeviceRule {
        allow: true,
        kind: Some(if kind == Kind::Char { "c" } else { "b" }.to_owned()),
        major: major.map(i64::from),
        minor: minor.map(i64::from),
        access: Some(access.to_string()),
    });
    let all: Vec<&DeviceRule> = listed.iter().chain(&own).collect();
    let letter = if node.kind == Kind::Char { "c" } else { "b" };
    let is = |wanted: Option<i64>, number: u32| {
        wanted.is_none_or(|wanted| wanted == -1 || wanted == i64::from(number))
    };
    access.to_string().chars().all(|bit| {
        let last = all.iter().rev().find(|rule| {
            let kind = rule.kind.as_deref().unwrap_or("a");
            (kind == "a" || kind == letter)
                && is(rule.major, node.major)
                && is(rule.minor, node.minor)
                && rule.access.as_deref().unwrap().contains(bit)
        });
        last.is_some_and(|rule| rule.allow)
    })
}

/// Runs a program as the kernel would, for the instructions that are emitted; anything else is a failure.
fn run(program: &DeviceProgram, node: Node, access: Access) -> bool {
    let context = [u32::from(access.bits()) << 16 | node.kind as u32, node.major, node.minor];
    let code = &program.instructions;
    let mut registers: [Option<u32>; 11] = [None; 11];
    let mut at = 0usize;
    while at < code.len() {
        let one = code[at];
        let (dst, imm) = (usize::from(one.dst), one.imm);
        let value = |register: usize| registers[register].expect("a register that was never written is read");
        at += 1;
        let mut jump = |is: bool| {
            if is {
                assert!(one.offset >= 0, "the kernel of 5.10 takes jumps back, we make none");
                at += usize::try_from(one.offset).unwrap();
            }
        };
        match one.op {
            LDX_W => {
                assert_eq!(one.src, 1, "only the context is readable");
                registers[dst] = Some(context[usize::try_from(one.offset).unwrap() / 4]);
            }
            MOV32_K => registers[dst] = Some(imm),
            MOV32_X => registers[dst] = Some(value(usize::from(one.src))),
            AND32_K => registers[dst] = Some(value(dst) & imm),
            RSH32_K => registers[dst] = Some(value(dst) >> imm),
            JA => jump(true),
            JEQ32_K => jump(value(dst) == imm),
            JNE32_K => jump(value(dst) != imm),
            JSET32_K => jump(value(dst) & imm != 0),
            EXIT => return value(0) == 1,
            other => panic!("instruction {other:#x} is not one of ours"),
        }
    }
    panic!("the program does not end");
}

/// What the kernel answers with these lines (security/device_cgroup.c): an allow list needs one entry that has all
/// bits, a deny list one that has any.
fn run_v1(lines: &[(&str, String)], node: Node, access: Access) -> bool {
    assert_eq!(lines[0].1, "a");
    let allow = lines[0].0 == V1_DENY_FILE;
    let letter = if node.kind == Kind::Char { "c" } else { "b" };
    let found = lines[1..].iter().any(|(file, line)| {
        assert_eq!(*file == "devices.allow", allow, "all exceptions go one way");
        let fields: Vec<&str> = line.split([' ', ':']).collect();
        let is = |field: &str, number: u32| field == "*" || field == number.to_string();
        let bits = access.to_string();
        let mut bits = bits.chars();
        let has = |bit: char| fields[3].contains(bit);
        fields[0] == letter
            && is(fields[1], node.major)
            && is(fields[2], node.minor)
            && if allow { bits.all(has) } else { bits.any(has) }
    });
    found == allow
}
const V1_DENY_FILE: &str = "devices.deny";

/// xorshift64*: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn rule(&mut self) -> DeviceRule {
        let kind = ["a", "b", "c", "c"][usize::try_from(self.below(4)).unwrap()];
        let access = ["r", "w", "m", "rw", "rm", "wm", "rwm", "rwm"][usize::try_from(self.below(8)).unwrap()];
        let mut number = |numbers: [i64; 4]| numbers[usize::try_from(self.below(4)).unwrap()];
        let (major, minor) = (number([-1, 1, 5, 300]), number([-1, 0, 3, 70_000]));
        rule(self.below(2) == 1, kind, major, minor, access)
    }
}

const ACCESSES: [Access; 5] =
    [Access::MKNOD, Access::READ, Access::WRITE, Access::READ.with(Access::WRITE), Access::ALL];

fn questions() -> impl Iterator<Item = (Node, Access)> {
    let numbers = [0, 1, 3, 5, 10, 136, 200, 300, 70_000];
    let nodes = numbers.into_iter().flat_map(move |major| numbers.map(|minor| (major, minor)));
    let nodes = nodes.flat_map(|(a, b)| [node(Kind::Char, a, b), node(Kind::Block, a, b)]);
    nodes.flat_map(|node| ACCESSES.map(|access| (node, access)))
}

#[test]
fn random_rules_mean_the_same_in_every_form() {
    let mut random = Random(0x5eed_0001);
    let (mut with_lines, mut refused) = (0, 0);
    for round in 0..150 {
        let count = random.below(12);
        let listed: Vec<DeviceRule> = (0..count).map(|_| random.rule()).collect();
        let rules = DeviceRules::new(&listed).unwrap();
        let program = rules.program().unwrap();
        let lines = rules.v1_lines();
        if lines.is_ok() {
            with_lines += 1
        } else {
            refused += 1
        }
        for (node, access) in questions() {
            let expected = interpret(&listed, node, access);
            let at = format!("round {round}: {node:?} {access} by {listed:?}, reduced to {rules}");
            assert_eq!(rules.allows(node, access), expected, "{at}");
            assert_eq!(program.as_ref().is_none_or(|program| run(program, node, access)), expected, "{at}");
            if let Ok(lines) = &lines {
                // Version 1 never sees making and opening in one question.
                if access != Access::ALL {
                    assert_eq!(run_v1(lines, node, access), expected, "{at}: {lines:?}");
                }
            }
        }
    }
    assert!(
        with_lines > 10 && refused > 10,
        "{with_lines} with lines, {refused} refused: the rules are too much alike"
    );
}

#[test]
fn the_kernel_takes_random_programs() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: loading programs needs root");
        return;
    }
    let mut random = Random(0x5eed_0002);
    for _ in 0..300 {
        let count = random.below(12);
        let listed: Vec<DeviceRule> = (0..count).map(|_| random.rule()).collect();
        let Some(program) = DeviceRules::new(&listed).unwrap().program().unwrap() else { continue };
        if let Err(errno) = crate::sys::bpf::load_device_program(&program.to_bytes()) {
            panic!("{errno}: {program:?}");
        }
    }
}

#[test]
fn an_empty_list_is_the_own_list_alone() {
    let rules = DeviceRules::new(&[]).unwrap();
    assert_eq!(
        rules.to_string(),
        "deny all, allow a *:* m, allow c 1:3 rw, allow c 1:8 rw, allow c 1:7 rw, allow c 5:0 rw, \
         allow c 1:5 rw, allow c 1:9 rw, allow c 136:* rw, allow c 5:2 rw, allow c 10:200 rw"
    );
    assert!(rules.allows(node(Kind::Char, 1, 3), Access::ALL));
    assert!(rules.allows(node(Kind::Block, 8, 0), Access::MKNOD));
    assert!(!rules.allows(node(Kind::Block, 8, 0), Access::READ));
    assert!(!rules.allows(node(Kind::Char, 1, 1), Access::READ.with(Access::WRITE)));
    let length = rules.program().unwrap().unwrap().len();
    assert!(length <= 30, "{length} instructions");
}

#[test]
fn what_engines_send_stays_short() {
    // Docker: deny all, the usual nodes, deny fuse; twice over. Nothing of it is left beside the own list but the console.
    let mut listed = vec![rule(false, "a", -1, -1, "rwm")];
    for (major, minor) in [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)] {
        listed.push(rule(true, "c", major, minor, "rwm"));
    }
    listed.push(rule(false, "c", 10, 229, "rwm"));
    let once = DeviceRules::new(&listed).unwrap();
    listed.extend(listed.clone());
    let twice = DeviceRules::new(&listed).unwrap();
    assert_eq!(once.len(), 11);
    assert_eq!(twice.len(), 11, "{twice}");
    assert!(twice.v1_lines().is_ok());

    let privileged = DeviceRules::new(&[rule(true, "a", -1, -1, "rwm")]).unwrap();
    assert!(privileged.allow_all());
    assert_eq!(privileged.program().unwrap(), None);
    assert_eq!(privileged.v1_lines().unwrap(), [("devices.allow", "a".to_owned())]);
}

#[test]
fn all_but_one_is_said_on_version_1_too() {
    let listed = [rule(true, "a", -1, -1, "rwm"), rule(false, "b", 8, -1, "rw")];
    let rules = DeviceRules::new(&listed).unwrap();
    let lines = rules.v1_lines().unwrap();
    assert_eq!(lines, [("devices.allow", "a".to_owned()), ("devices.deny", "b 8:* rw".to_owned())]);
    assert!(!rules.allows(node(Kind::Block, 8, 1), Access::READ));
    assert!(rules.allows(node(Kind::Block, 8, 1), Access::MKNOD));
}

#[test]
fn an_exception_from_an_exception_is_refused_on_version_1() {
    let listed = [rule(true, "c", -1, -1, "rw"), rule(false, "c", 10, -1, "rw")];
    let rules = DeviceRules::new(&listed).unwrap();
    let refusal = rules.v1_lines().unwrap_err();
    assert_eq!(refusal.pointer, "/linux/resources/devices/1");
    assert!(rules.program().unwrap().is_some(), "version 2 can say it");
}

#[test]
fn rules_that_are_none() {
    let mut silent = rule(true, "c", 1, 1, "r");
    silent.access = None;
    let cases = [
        (rule(true, "p", 1, 1, "r"), "type"),
        (rule(true, "cc", 1, 1, "r"), "type"),
        (rule(true, "c", -2, 1, "r"), "major"),
        (rule(true, "c", 1, 1 << 32, "r"), "minor"),
        (rule(true, "c", 1, 1, ""), "access"),
        (rule(true, "c", 1, 1, "rx"), "access"),
        (silent, "access"),
    ];
    for (wrong, field) in cases {
        let refusal = DeviceRules::new(&[rule(true, "c", 1, 3, "r"), wrong]).unwrap_err();
        assert_eq!(refusal.pointer, format!("/linux/resources/devices/1/{field}"));
    }
}

#[test]
fn thousands_of_rules_are_refused_and_not_cut() {
    let one = |minor: i64| rule(true, "c", 300, minor, if minor % 2 == 0 { "r" } else { "w" });
    let most: Vec<DeviceRule> = (0..4096).map(one).collect();
    assert!(DeviceRules::new(&most[..2000]).unwrap().program().unwrap().unwrap().len() > 2000);
    let more: Vec<DeviceRule> = (0..4097).map(one).collect();
    assert_eq!(DeviceRules::new(&more).unwrap_err().pointer, "/linux/resources/devices");
}
