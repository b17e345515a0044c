//! Device rules as a program for BPF_PROG_TYPE_CGROUP_DEVICE.
//!
//! Rules are tried from the last to the first. What a rule allows is taken off the wanted bits, and with none left the
//! answer is yes; a rule that denies a wanted bit ends it; the end is no. Where all rules allow, their order does not
//! matter and they are sorted, so that tests on kind and major number are shared.

use serde::{Deserialize, Serialize};

use super::{Access, DeviceRules, Kind, Match, Rule};
use crate::cgroup::error::Refusal;
use crate::cgroup::resources::RESOURCES;

/// Longest program that is made; jumps are 16 bits wide and forward.
const MAX_INSTRUCTIONS: usize = 32_000;

const R0: u8 = 0;
/// The context, `struct bpf_cgroup_dev_ctx`: access << 16 | kind, major, minor.
const R1: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Operation codes, Documentation/bpf/standardization/instruction-set.rst.
pub(super) const LDX_W: u8 = 0x61;
pub(super) const MOV32_K: u8 = 0xb4;
pub(super) const MOV32_X: u8 = 0xbc;
pub(super) const AND32_K: u8 = 0x54;
pub(super) const RSH32_K: u8 = 0x74;
pub(super) const JA: u8 = 0x05;
pub(super) const JEQ32_K: u8 = 0x16;
pub(super) const JNE32_K: u8 = 0x56;
pub(super) const JSET32_K: u8 = 0x46;
pub(super) const EXIT: u8 = 0x95;

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instruction {
    pub(crate) op: u8,
    pub(crate) dst: u8,
    pub(crate) src: u8,
    pub(crate) offset: i16,
    pub(crate) imm: u32,
}

impl Instruction {
    /// `struct bpf_insn` as the host's memory has it.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let registers =
            if cfg!(target_endian = "little") { self.src << 4 | self.dst } else { self.dst << 4 | self.src };
        let [o0, o1] = self.offset.to_ne_bytes();
        let [i0, i1, i2, i3] = self.imm.to_ne_bytes();
        [self.op, registers, o0, o1, i0, i1, i2, i3]
    }
}

/// A program that answers as the rules do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceProgram {
    pub(crate) instructions: Vec<Instruction>,
}

impl DeviceProgram {
    /// Number of instructions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Never: the shortest program says no.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    /// The instructions as the kernel takes them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.instructions.iter().flat_map(|one| one.to_bytes()).collect()
    }
}

/// Where a jump goes, until the length of what lies between is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Allow,
    Deny,
    /// The end of a group, by number.
    Group(usize),
}

#[derive(Default)]
struct Assembler {
    code: Vec<Instruction>,
    jumps: Vec<(usize, Label)>,
    groups: Vec<usize>,
    /// The end of the rules is never reached.
    settled: bool,
}

impl Assembler {
    fn emit(&mut self, op: u8, dst: u8, src: u8, offset: i16, imm: u32) {
        self.code.push(Instruction { op, dst, src, offset, imm });
    }

    fn jump(&mut self, op: u8, register: u8, value: u32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(op, register, 0, 0, value);
    }

    /// Opens a group that is left at once unless `register` is `value`.
    fn group(&mut self, register: u8, value: u32) -> usize {
        let group = self.groups.len();
        self.groups.push(0);
        self.jump(JNE32_K, register, value, Label::Group(group));
        group
    }

    fn end(&mut self, group: usize) {
        let here = self.code.len();
        if let Some(end) = self.groups.get_mut(group) {
            *end = here;
        }
    }

    fn finish(mut self) -> Option<Vec<Instruction>> {
        let deny = self.code.len();
        if !self.settled || self.jumps.iter().any(|(_, to)| *to == Label::Deny) {
            self.emit(MOV32_K, R0, 0, 0, 0);
            self.emit(EXIT, 0, 0, 0, 0);
        }
        let allow = self.code.len();
        if self.jumps.iter().any(|(_, to)| *to == Label::Allow) {
            self.emit(MOV32_K, R0, 0, 0, 1);
            self.emit(EXIT, 0, 0, 0, 0);
        }
        if self.code.len() > MAX_INSTRUCTIONS {
            return None;
        }
        for (at, to) in self.jumps {
            let target = match to {
                Label::Allow => allow,
                Label::Deny => deny,
                Label::Group(group) => *self.groups.get(group)?,
            };
            let offset = i16::try_from(target.checked_sub(at + 1)?).ok()?;
            self.code.get_mut(at)?.offset = offset;
        }
        Some(self.code)
    }
}

impl DeviceRules {
    /// The program for version 2; none where everything is allowed, for then none is needed.
    ///
    /// # Errors
    /// There are thousands of rules, more than one program holds.
    pub fn program(&self) -> Result<Option<DeviceProgram>, Refusal> {
        if self.allow_all() {
            return Ok(None);
        }
        let mut rules: Vec<&Rule> = self.rules.iter().rev().collect();
        if rules.iter().all(|rule| rule.allow) {
            rules.sort_by_key(|rule| rule.matches);
        }
        let mut assembler = Assembler::default();
        if !rules.is_empty() {
            load(&mut assembler, &rules);
            let mut open = Access::ALL;
            for run in rules.chunk_by(|a, b| a.matches.kind == b.matches.kind) {
                if by_kind(&mut assembler, run, &mut open) {
                    assembler.settled = true;
                    break;
                }
            }
        }
        let instructions = assembler.finish().ok_or_else(|| {
            Refusal::new(
                format!("{RESOURCES}/devices"),
                format!("{} rules are too many for one program", rules.len()),
            )
        })?;
        Ok(Some(DeviceProgram { instructions }))
    }
}

/// Loads what the rules look at, and nothing else: an unused load still costs on every open.
fn load(out: &mut Assembler, rules: &[&Rule]) {
    out.emit(LDX_W, WANTED, R1, 0, 0);
    if rules.iter().any(|rule| rule.matches.kind.is_some()) {
        out.emit(MOV32_X, KIND, WANTED, 0, 0);
        out.emit(AND32_K, KIND, 0, 0, 0xffff);
    }
    out.emit(RSH32_K, WANTED, 0, 0, 16);
    if rules.iter().any(|rule| rule.matches.major.is_some()) {
        out.emit(LDX_W, MAJOR, R1, 4, 0);
    }
    if rules.iter().any(|rule| rule.matches.minor.is_some()) {
        out.emit(LDX_W, MINOR, R1, 8, 0);
    }
}

/// `open` is what can still be wanted here: bits that a rule about all nodes has taken off are settled, and a rule
/// that allows all the others needs not count. The answer says whether nothing gets past the run.
fn by_kind(out: &mut Assembler, run: &[&Rule], open: &mut Access) -> bool {
    let kind = run.first().and_then(|rule| rule.matches.kind);
    let group = kind.map(|kind| out.group(KIND, kind_number(kind)));
    let mut settled = false;
    for run in run.chunk_by(|a, b| a.matches.major == b.matches.major) {
        if by_major(out, run, open) {
            settled = group.is_none();
            break;
        }
    }
    if let Some(group) = group {
        out.end(group);
    }
    settled
}

fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    }
}

/// Whether nothing gets past it.
fn by_major(out: &mut Assembler, run: &[&Rule], open: &mut Access) -> bool {
    let major = run.first().and_then(|rule| rule.matches.major);
    // A single rule that allows all about one major needs one instruction, no group.
    if let ([only], Some(major)) = (run, major) {
        if only.matches.minor.is_none() && allows_all(only, *open) {
            out.jump(JEQ32_K, MAJOR, major, Label::Allow);
            return false;
        }
    }
    let group = major.map(|major| out.group(MAJOR, major));
    let mut settled = false;
    for rule in run {
        match (rule.matches.minor, allows_all(rule, *open)) {
            (Some(minor), true) => out.jump(JEQ32_K, MINOR, minor, Label::Allow),
            (None, true) => {
                // Rules behind it are never asked; the verifier refuses code that is never reached.
                out.jump(JA, 0, 0, Label::Allow);
                settled = true;
                break;
            }
            (minor, false) => {
                let group = minor.map(|minor| out.group(MINOR, minor));
                take_off(out, rule);
                if let Some(group) = group {
                    out.end(group);
                }
            }
        }
        if rule.matches == Match::ANY {
            *open = open.without(rule.access);
        }
    }
    if let Some(group) = group {
        out.end(group);
    }
    settled && group.is_none()
}

fn allows_all(rule: &Rule, open: Access) -> bool {
    rule.allow && open.without(rule.access).is_empty()
}

fn take_off(out: &mut Assembler, rule: &Rule) {
    let bits = u32::from(rule.access.bits());
    if rule.allow {
        out.emit(AND32_K, WANTED, 0, 0, !bits);
        out.jump(JEQ32_K, WANTED, 0, Label::Allow);
    } else {
        out.jump(JSET32_K, WANTED, bits, Label::Deny);
    }
}
